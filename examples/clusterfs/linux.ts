/** Numbers of the Linux system call interface that the other files use, under their kernel names. */
import { constants } from 'node:fs';
import { ERRNO, FuseError } from 'fusewire';

export const {
  O_ACCMODE = 3,
  O_EXCL,
  O_NOATIME,
  O_TRUNC,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} = constants as Record<string, number>;

// <sys/stat.h>
export const PERMISSION_BITS = 0o7777;

// <linux/fs.h>, <linux/falloc.h>, <unistd.h>, <linux/fuse.h>
export const RENAME_EXCHANGE = 2;
export const RENAME_FLAGS = 7;
export const FALLOC_FL_KEEP_SIZE = 0x01;
export const FALLOC_FL_PUNCH_HOLE = 0x02;
export const FALLOC_FL_ZERO_RANGE = 0x10;
export const SEEK_DATA = 3;
export const FATTR_CTIME = 1 << 10;

/** Throws the error that the caller of the system call receives. Shared and without a stack, so that it costs little. */
export function fail(code: string): never {
  throw FuseError.of(ERRNO[code]);
}
