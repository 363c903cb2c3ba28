/**
 * Numbers of Linux on x86-64 that messages carry and fuse.h does not name, by their names. They do not depend on the machine
 * that reads the trace; only four of the O_* differ on other processors, see {@link openFlagTable}.
 */

/** Bits of a word with their names; a row may have several bits, the widest first. */
export type FlagTable = readonly (readonly [name: string, bits: number])[];

export const ERRNO_NAMES: Readonly<Record<number, string>> = Object.fromEntries(
  // biome-ignore format: a table
  ('1 EPERM 2 ENOENT 3 ESRCH 4 EINTR 5 EIO 6 ENXIO 7 E2BIG 8 ENOEXEC 9 EBADF 10 ECHILD 11 EAGAIN 12 ENOMEM 13 EACCES 14 EFAULT ' +
    '15 ENOTBLK 16 EBUSY 17 EEXIST 18 EXDEV 19 ENODEV 20 ENOTDIR 21 EISDIR 22 EINVAL 23 ENFILE 24 EMFILE 25 ENOTTY 26 ETXTBSY ' +
    '27 EFBIG 28 ENOSPC 29 ESPIPE 30 EROFS 31 EMLINK 32 EPIPE 33 EDOM 34 ERANGE 35 EDEADLK 36 ENAMETOOLONG 37 ENOLCK 38 ENOSYS ' +
    '39 ENOTEMPTY 40 ELOOP 42 ENOMSG 43 EIDRM 44 ECHRNG 45 EL2NSYNC 46 EL3HLT 47 EL3RST 48 ELNRNG 49 EUNATCH 50 ENOCSI 51 EL2HLT ' +
    '52 EBADE 53 EBADR 54 EXFULL 55 ENOANO 56 EBADRQC 57 EBADSLT 59 EBFONT 60 ENOSTR 61 ENODATA 62 ETIME 63 ENOSR 64 ENONET ' +
    '65 ENOPKG 66 EREMOTE 67 ENOLINK 68 EADV 69 ESRMNT 70 ECOMM 71 EPROTO 72 EMULTIHOP 73 EDOTDOT 74 EBADMSG 75 EOVERFLOW ' +
    '76 ENOTUNIQ 77 EBADFD 78 EREMCHG 79 ELIBACC 80 ELIBBAD 81 ELIBSCN 82 ELIBMAX 83 ELIBEXEC 84 EILSEQ 85 ERESTART 86 ESTRPIPE ' +
    '87 EUSERS 88 ENOTSOCK 89 EDESTADDRREQ 90 EMSGSIZE 91 EPROTOTYPE 92 ENOPROTOOPT 93 EPROTONOSUPPORT 94 ESOCKTNOSUPPORT ' +
    '95 EOPNOTSUPP 96 EPFNOSUPPORT 97 EAFNOSUPPORT 98 EADDRINUSE 99 EADDRNOTAVAIL 100 ENETDOWN 101 ENETUNREACH 102 ENETRESET ' +
    '103 ECONNABORTED 104 ECONNRESET 105 ENOBUFS 106 EISCONN 107 ENOTCONN 108 ESHUTDOWN 109 ETOOMANYREFS 110 ETIMEDOUT ' +
    '111 ECONNREFUSED 112 EHOSTDOWN 113 EHOSTUNREACH 114 EALREADY 115 EINPROGRESS 116 ESTALE 117 EUCLEAN 118 ENOTNAM 119 ENAVAIL ' +
    '120 EISNAM 121 EREMOTEIO 122 EDQUOT 123 ENOMEDIUM 124 EMEDIUMTYPE 125 ECANCELED 126 ENOKEY 127 EKEYEXPIRED 128 EKEYREVOKED ' +
    '129 EKEYREJECTED 130 EOWNERDEAD 131 ENOTRECOVERABLE 132 ERFKILL 133 EHWPOISON')
    .split(' ')
    .flatMap((word, index, words) => (index % 2 === 0 ? [[Number(word), words[index + 1]!]] : [])),
);

/** `ENOENT` for 2 and for -2; the number where it has no name. */
export function errnoName(error: number): string {
  return ERRNO_NAMES[Math.abs(error)] ?? `errno ${Math.abs(error)}`;
}

/** Errno of a name, upper or lower case, or of a number as text; undefined when there is none. */
export function errnoNumber(text: string): number | undefined {
  if (/^\d{1,4}$/.test(text)) return Number(text);
  const wanted = text.toUpperCase();
  const aliases: Readonly<Record<string, string>> = { EWOULDBLOCK: 'EAGAIN', ENOTSUP: 'EOPNOTSUPP', EDEADLOCK: 'EDEADLK' };
  const found = Object.entries(ERRNO_NAMES).find(([, name]) => name === (aliases[wanted] ?? wanted));
  return found === undefined ? undefined : Number(found[0]);
}

const OPEN_COMMON: FlagTable = [
  ['O_CREAT', 0o100],
  ['O_EXCL', 0o200],
  ['O_NOCTTY', 0o400],
  ['O_TRUNC', 0o1000],
  ['O_APPEND', 0o2000],
  ['O_NONBLOCK', 0o4000],
  ['O_SYNC', 0o4010000],
  ['O_DSYNC', 0o10000],
  ['O_ASYNC', 0o20000],
  ['O_NOATIME', 0o1000000],
  ['O_CLOEXEC', 0o2000000],
  ['O_PATH', 0o10000000],
  // In the kernel, not in fcntl.h: the open is of a program to run.
  ['FMODE_EXEC', 0x20],
];
const X64: FlagTable = [
  ['O_TMPFILE', 0o20200000],
  ['O_DIRECT', 0o40000],
  ['O_LARGEFILE', 0o100000],
  ['O_DIRECTORY', 0o200000],
  ['O_NOFOLLOW', 0o400000],
];
const ARM: FlagTable = [
  ['O_TMPFILE', 0o20040000],
  ['O_DIRECTORY', 0o40000],
  ['O_NOFOLLOW', 0o100000],
  ['O_DIRECT', 0o200000],
  ['O_LARGEFILE', 0o400000],
];

/** Processors whose O_* we know apart; `arm` is 32 and 64 bits. */
export type Machine = 'x64' | 'arm';

/** O_* of open(2) but the access mode. */
export function openFlagTable(machine: Machine): FlagTable {
  return [...(machine === 'arm' ? ARM : X64), ...OPEN_COMMON];
}

export const ACCESS_MODES = ['O_RDONLY', 'O_WRONLY', 'O_RDWR', 'O_ACCMODE'] as const;

/** S_IFMT of a mode, shifted right by 12. */
const FILE_TYPES: Readonly<Record<number, string>> = {
  1: 'S_IFIFO',
  2: 'S_IFCHR',
  4: 'S_IFDIR',
  6: 'S_IFBLK',
  8: 'S_IFREG',
  10: 'S_IFLNK',
  12: 'S_IFSOCK',
};

export const DIRENT_TYPES: Readonly<Record<number, string>> = {
  0: 'DT_UNKNOWN',
  1: 'DT_FIFO',
  2: 'DT_CHR',
  4: 'DT_DIR',
  6: 'DT_BLK',
  8: 'DT_REG',
  10: 'DT_LNK',
  12: 'DT_SOCK',
  14: 'DT_WHT',
};

export const LOCK_TYPES: Readonly<Record<number, string>> = { 0: 'F_RDLCK', 1: 'F_WRLCK', 2: 'F_UNLCK' };
export const WHENCE: Readonly<Record<number, string>> = {
  0: 'SEEK_SET',
  1: 'SEEK_CUR',
  2: 'SEEK_END',
  3: 'SEEK_DATA',
  4: 'SEEK_HOLE',
};

export const RENAME_FLAGS: FlagTable = [
  ['RENAME_NOREPLACE', 1],
  ['RENAME_EXCHANGE', 2],
  ['RENAME_WHITEOUT', 4],
];
export const XATTR_FLAGS: FlagTable = [
  ['XATTR_CREATE', 1],
  ['XATTR_REPLACE', 2],
];
export const ACCESS_MASK: FlagTable = [
  ['R_OK', 4],
  ['W_OK', 2],
  ['X_OK', 1],
];
export const FALLOCATE_MODES: FlagTable = [
  ['FALLOC_FL_KEEP_SIZE', 0x1],
  ['FALLOC_FL_PUNCH_HOLE', 0x2],
  ['FALLOC_FL_NO_HIDE_STALE', 0x4],
  ['FALLOC_FL_COLLAPSE_RANGE', 0x8],
  ['FALLOC_FL_ZERO_RANGE', 0x10],
  ['FALLOC_FL_INSERT_RANGE', 0x20],
  ['FALLOC_FL_UNSHARE_RANGE', 0x40],
];
export const POLL_EVENTS: FlagTable = [
  ['POLLIN', 0x1],
  ['POLLPRI', 0x2],
  ['POLLOUT', 0x4],
  ['POLLERR', 0x8],
  ['POLLHUP', 0x10],
  ['POLLNVAL', 0x20],
  ['POLLRDNORM', 0x40],
  ['POLLRDBAND', 0x80],
  ['POLLWRNORM', 0x100],
  ['POLLWRBAND', 0x200],
  ['POLLMSG', 0x400],
  ['POLLRDHUP', 0x2000],
];
export const STATX_MASK: FlagTable = [
  ['STATX_BASIC_STATS', 0x7ff],
  ['STATX_TYPE', 0x1],
  ['STATX_MODE', 0x2],
  ['STATX_NLINK', 0x4],
  ['STATX_UID', 0x8],
  ['STATX_GID', 0x10],
  ['STATX_ATIME', 0x20],
  ['STATX_MTIME', 0x40],
  ['STATX_CTIME', 0x80],
  ['STATX_INO', 0x100],
  ['STATX_SIZE', 0x200],
  ['STATX_BLOCKS', 0x400],
  ['STATX_BTIME', 0x800],
  ['STATX_MNT_ID', 0x1000],
  ['STATX_DIOALIGN', 0x2000],
  ['STATX_MNT_ID_UNIQUE', 0x4000],
  ['STATX_SUBVOL', 0x8000],
  ['STATX_WRITE_ATOMIC', 0x10000],
  ['STATX_DIO_READ_ALIGN', 0x20000],
];
export const STATX_FLAGS: FlagTable = [
  ['AT_STATX_FORCE_SYNC', 0x2000],
  ['AT_STATX_DONT_SYNC', 0x4000],
];
export const STATX_ATTRIBUTES: FlagTable = [
  ['STATX_ATTR_COMPRESSED', 0x4],
  ['STATX_ATTR_IMMUTABLE', 0x10],
  ['STATX_ATTR_APPEND', 0x20],
  ['STATX_ATTR_NODUMP', 0x40],
  ['STATX_ATTR_ENCRYPTED', 0x800],
  ['STATX_ATTR_AUTOMOUNT', 0x1000],
  ['STATX_ATTR_MOUNT_ROOT', 0x2000],
  ['STATX_ATTR_VERITY', 0x100000],
  ['STATX_ATTR_DAX', 0x200000],
  ['STATX_ATTR_WRITE_ATOMIC', 0x400000],
];

/** ioctls of files that programs make without knowing that they are on a FUSE mount. */
const FILE_IOCTLS: ReadonlyMap<number, string> = new Map([
  [0x80086601, 'FS_IOC_GETFLAGS'],
  [0x40086602, 'FS_IOC_SETFLAGS'],
  [0x80046601, 'FS_IOC32_GETFLAGS'],
  [0x40046602, 'FS_IOC32_SETFLAGS'],
  [0x80087601, 'FS_IOC_GETVERSION'],
  [0x801c581f, 'FS_IOC_FSGETXATTR'],
  [0x401c5820, 'FS_IOC_FSSETXATTR'],
  [0xc020660b, 'FS_IOC_FIEMAP'],
  [0x40046686, 'FS_IOC_MEASURE_VERITY'],
  [0x0000541b, 'FIONREAD'],
  [0x00005421, 'FIONBIO'],
  [0x00005401, 'TCGETS'],
  [0x00005402, 'TCSETS'],
  [0x00005413, 'TIOCGWINSZ'],
  [0x00000001, 'FIBMAP'],
  [0x00000002, 'FIGETBSZ'],
  [0x40049409, 'FICLONE'],
  [0x4020940d, 'FICLONERANGE'],
]);

/** Names of the bits that are set, joined by `|`; bits without a name in hex at the end; `zero` when none is set. */
export function flagNames(value: bigint | number, table: FlagTable, zero = '0'): string {
  let left = BigInt(value);
  const names: string[] = [];
  for (const [name, number] of table) {
    const bits = BigInt(number);
    if (bits === 0n || (left & bits) !== bits) continue;
    names.push(name);
    left &= ~bits;
  }
  if (left !== 0n) names.push(`0x${left.toString(16)}`);
  return names.length === 0 ? zero : names.join('|');
}

/** `O_RDWR|O_CREAT`, as open(2) has it. */
export function openFlags(flags: number, machine: Machine = 'x64'): string {
  const rest = flagNames(flags & ~3, openFlagTable(machine), '');
  const access = ACCESS_MODES[flags & 3]!;
  return rest === '' ? access : `${access}|${rest}`;
}

/** `S_IFREG|0644`; without a type the octal number alone. */
export function modeName(mode: number): string {
  const type = mode & 0o170000;
  const bits = `0${(mode & ~0o170000).toString(8).padStart(3, '0')}`;
  return type === 0 ? bits : `${FILE_TYPES[type >>> 12] ?? `0${type.toString(8)}`}|${bits}`;
}

/** An ioctl number by name, or taken apart as `_IOR('x', 1, 4)`. */
export function ioctlName(command: number): string {
  const number = command >>> 0;
  const known = FILE_IOCTLS.get(number);
  if (known !== undefined) return known;
  const direction = ['_IO', '_IOW', '_IOR', '_IOWR'][number >>> 30]!;
  const size = (number >>> 16) & 0x3fff;
  const type = (number >>> 8) & 0xff;
  const letter = type >= 0x21 && type < 0x7f ? `'${String.fromCharCode(type)}'` : `0x${type.toString(16)}`;
  const parts = [letter, String(number & 0xff), ...(direction === '_IO' ? [] : [String(size)])];
  return `${direction}(${parts.join(', ')})`;
}
