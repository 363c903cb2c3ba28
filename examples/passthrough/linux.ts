/** Numbers of the Linux system call interface that the other files use, under their kernel names. */
import { constants as files } from 'node:fs';
import { constants as system } from 'node:os';

export const {
  EACCES,
  EBADF,
  EEXIST,
  EINVAL,
  EIO,
  ELOOP,
  ENFILE,
  EMFILE,
  ENOENT,
  ENODATA,
  ENOLCK,
  ENOSYS,
  ENOTDIR,
  ENOTTY,
  ENXIO,
  EDEADLK,
  EINTR,
  EAGAIN,
  EOPNOTSUPP,
  EPERM,
  ENOTSUP,
} = system.errno;
/** Not in node:os on every platform; 116 on every Linux architecture that Node runs on. */
export const ESTALE = system.errno.ESTALE;

// <fcntl.h>. Some values differ between architectures, which is why most come from Node.
export const {
  O_RDONLY,
  O_WRONLY,
  O_RDWR,
  O_CREAT,
  O_EXCL,
  O_TRUNC,
  O_APPEND,
  O_SYNC,
  O_DSYNC,
  O_DIRECT,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_NOATIME,
  O_NONBLOCK,
} = files;
export const O_ACCMODE = 3;
export const O_PATH = 0x200000;
export const O_TMPFILE = 0x400000 | O_DIRECTORY;
export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_NO_AUTOMOUNT = 0x800;
export const AT_EMPTY_PATH = 0x1000;
export const UTIME_NOW = 0x3fffffff;
export const UTIME_OMIT = 0x3ffffffe;
export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;
export const F_OFD_GETLK = 36;
export const F_OFD_SETLK = 37;
export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
export const LOCK_UN = 8;

// <sys/stat.h> and <linux/stat.h>
export const { S_IFMT, S_IFDIR, S_IFREG } = files;
export const S_ISUID = 0o4000;
export const S_IXGRP = 0o010;
export const S_ISGID = 0o2000;
export const PERMISSION_BITS = 0o7777;
export const STATX_MODE = 0x2;
export const STATX_BASIC_STATS = 0x7ff;
export const STATX_BTIME = 0x800;

// <linux/fs.h>
export const RENAME_WHITEOUT = 4;
