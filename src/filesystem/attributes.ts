/** A point in time, exact to the nanosecond. Seconds count from 1970 and may be negative; nanoseconds are 0 to 999,999,999. */
export interface Timespec {
  seconds: number;
  nanoseconds: number;
}

/** A time as an author may give it: exact, a Date (milliseconds), or a bigint of nanoseconds since 1970. */
export type TimeInit = Timespec | Date | bigint;

/**
 * What stat(2) shows of a file. Only `mode` is required, with its type bits (S_IFREG and so on): the rest has sensible
 * defaults. Inode numbers are exact to 64 bits when given as bigint.
 */
export interface AttributesInit {
  /** Type and permission bits, as st_mode. The type must never change for a node id and generation. */
  mode: number;
  /** st_ino. Default: the node id. */
  ino?: number | bigint;
  /** Bytes, up to 2^53-1. Default 0. */
  size?: number;
  /** Units of 512 bytes. Default: enough for `size`. */
  blocks?: number;
  /** Default: 1970. */
  atime?: TimeInit;
  mtime?: TimeInit;
  ctime?: TimeInit;
  /** Only seen through statx(2). */
  btime?: TimeInit;
  /** Default 1. */
  nlink?: number;
  /** Default 0. */
  uid?: number;
  gid?: number;
  /** Device number of a device file, in the kernel's encoding; see {@link makeDevice}. */
  rdev?: number;
  /** Preferred size of reads and writes. Default 4096. */
  blksize?: number;
}

/** What statfs(2) shows. Units of `frsize` bytes for blocks. */
export interface StatfsInit {
  blocks?: number;
  bfree?: number;
  bavail?: number;
  files?: number;
  ffree?: number;
  /** Default 4096. */
  bsize?: number;
  /** Default: bsize. */
  frsize?: number;
  /** Longest name, bytes. Default 255. */
  namelen?: number;
}

/** The kernel's 32-bit encoding of a device number (new_encode_dev). */
export function makeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

/** The parts of a device number in the kernel's encoding. */
export function splitDevice(rdev: number): { major: number; minor: number } {
  return { major: (rdev & 0xfff00) >>> 8, minor: ((rdev & 0xff) | ((rdev >>> 12) & 0xfff00)) >>> 0 };
}
