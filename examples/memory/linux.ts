/** Numbers of the Linux system call interface that the other files use, under their kernel names. */
import { constants } from 'node:fs';
import { ERRNO, FuseError } from 'fusewire';

export const {
  O_ACCMODE = 3,
  O_EXCL,
  O_NOATIME,
  O_TRUNC,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} = constants as Record<string, number>;

// <sys/stat.h>
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
export const S_IXGRP = 0o0010;
export const PERMISSION_BITS = 0o7777;

// <linux/fs.h>, <linux/falloc.h>, <linux/xattr.h>, <unistd.h>, <linux/fuse.h>
export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;
export const FALLOC_FL_KEEP_SIZE = 0x01;
export const FALLOC_FL_PUNCH_HOLE = 0x02;
export const FALLOC_FL_ZERO_RANGE = 0x10;
export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;
export const SEEK_DATA = 3;
export const FATTR_CTIME = 1 << 10;

/** Throws the error that the caller of the system call receives. Shared and without a stack, so that it costs little. */
export function fail(code: string): never {
  throw FuseError.of(ERRNO[code]);
}
