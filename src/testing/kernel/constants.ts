/** Numbers of Linux on x86-64 that system calls and requests carry. They do not depend on the machine that runs the simulation. */

export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
export const S_ISVTX = 0o1000;
export const S_IXGRP = 0o010;
export const S_IXUGO = 0o111;

export const O_WRONLY = 0o1;
export const O_RDWR = 0o2;
export const O_ACCMODE = 0o3;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_NOCTTY = 0o400;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_NONBLOCK = 0o4000;
export const O_DSYNC = 0o10000;
export const O_DIRECT = 0o40000;
/** Set on every file that a 64-bit process opens. */
export const O_LARGEFILE = 0o100000;
export const O_DIRECTORY = 0o200000;
export const O_NOFOLLOW = 0o400000;
export const O_NOATIME = 0o1000000;
export const O_CLOEXEC = 0o2000000;
export const O_PATH = 0o10000000;
/** Without the O_DIRECTORY that travels with it. */
export const __O_TMPFILE = 0o20000000;

export const MAY_EXEC = 1;
export const MAY_WRITE = 2;
export const MAY_READ = 4;

export const SEEK_SET = 0;
export const SEEK_CUR = 1;
export const SEEK_END = 2;
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;

export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;
export const FALLOC_FL_ZERO_RANGE = 16;

/** Groups of attributes, as in statx(2): what is stale, and what a caller needs. */
export const STATX_MODE = 0x2;
export const STATX_UID = 0x8;
export const STATX_GID = 0x10;
export const STATX_ATIME = 0x20;
export const STATX_MTIME = 0x40;
export const STATX_CTIME = 0x80;
export const STATX_SIZE = 0x200;
export const STATX_BLOCKS = 0x400;
export const STATX_BASIC_STATS = 0x7ff;
export const STATX_BTIME = 0x800;
/** FUSE_STATX_MODIFY and FUSE_STATX_MODSIZE of fs/fuse/fuse_i.h. */
export const STATX_MODIFY = STATX_MTIME | STATX_CTIME | STATX_BLOCKS;
export const STATX_MODSIZE = STATX_MODIFY | STATX_SIZE;

export const PAGE_BYTES = 4096;
export const PATH_MAX = 4096;
export const SYMLINKS_MAX = 40;
export const XATTR_NAME_MAX = 255;
export const XATTR_SIZE_MAX = 65_536;
/** Most bytes that one read(2) or write(2) moves. */
export const RW_BYTES_MAX = 0x7ffff000;

export const isDirectory = (mode: number): boolean => (mode & S_IFMT) === S_IFDIR;
export const isRegular = (mode: number): boolean => (mode & S_IFMT) === S_IFREG;
export const isFifo = (mode: number): boolean => (mode & S_IFMT) === S_IFIFO;
export const isSymlink = (mode: number): boolean => (mode & S_IFMT) === S_IFLNK;
export const canRead = (flags: number): boolean => (flags & O_ACCMODE) !== O_WRONLY;
export const canWrite = (flags: number): boolean => (flags & O_ACCMODE) !== 0;
