/**
 * What an author of a path-level filesystem writes: methods in the manner of node:fs/promises, each optional, each answering
 * a value or a promise of it. Paths are absolute inside the filesystem: `/` is its root, and no component is ever empty,
 * `.` or `..`. The caller's context comes last.
 */
import type { Answer, OpenReply, Request, StatfsInit, TimeInit } from '../filesystem/index.ts';

/**
 * Who asks, and a signal that is aborted when nobody waits any more. Valid until the method's answer: keep what you need
 * of it, never the object. Work that the filesystem does for itself comes with uid 0, gid 0 and pid 0.
 */
export type PathContext = Pick<Request, 'uid' | 'gid' | 'pid' | 'signal' | 'groups'>;

export type PathType = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'character' | 'block';

/** The questions that Stats and Dirent of node:fs answer. */
export interface TypeQuestions {
  isFile?(): boolean;
  isDirectory?(): boolean;
  isSymbolicLink?(): boolean;
  isFIFO?(): boolean;
  isSocket?(): boolean;
  isCharacterDevice?(): boolean;
  isBlockDevice?(): boolean;
}

/**
 * Attributes of a file: Stats or BigIntStats of node:fs, or a plain object. The type comes from `mode`, else from `type`,
 * else from the questions; everything else has a default. Times are looked for as nanoseconds, then as a time, then as
 * milliseconds.
 */
export interface PathStats extends TypeQuestions {
  type?: PathType;
  /** Type and permission bits, or the latter alone. Default permissions: 0755 for directories, 0777 for links, else 0644. */
  mode?: number | bigint;
  size?: number | bigint;
  /** 0 or absent: the filesystem has none, and the library gives its own. */
  ino?: number | bigint;
  dev?: number | bigint;
  /** Default 1, and 2 for directories. */
  nlink?: number | bigint;
  uid?: number | bigint;
  gid?: number | bigint;
  rdev?: number | bigint;
  blksize?: number | bigint;
  blocks?: number | bigint;
  atimeNs?: bigint;
  mtimeNs?: bigint;
  ctimeNs?: bigint;
  birthtimeNs?: bigint;
  atime?: TimeInit;
  mtime?: TimeInit;
  ctime?: TimeInit;
  birthtime?: TimeInit;
  atimeMs?: number | bigint;
  mtimeMs?: number | bigint;
  ctimeMs?: number | bigint;
  birthtimeMs?: number | bigint;
}

/** An entry of a listing: a Dirent of node:fs, or a plain object. With `stats` a listing needs no further question. */
export interface PathEntry extends TypeQuestions {
  name: string;
  type?: PathType;
  stats?: PathStats;
}

/** Names, entries, or both mixed, at once or one after the other. `.` and `..` are left out or ignored. */
export type PathListing = Iterable<string | PathEntry> | AsyncIterable<string | PathEntry>;

/** How the kernel treats one opening; see {@link OpenReply}. */
export type PathOpenReply = Omit<OpenReply, 'handle' | 'backingId'>;

/**
 * An open file: a FileHandle of node:fs, or an object with some of its methods. It has to serve until {@link close}, also
 * after its name was removed, unless the option `unlinkOpen: 'hide'` is set. Calls come many at a time.
 */
export interface PathHandle {
  /** How the kernel treats this opening. */
  readonly openReply?: PathOpenReply;
  /** Fills `buffer` from `offset` with up to `length` bytes of the file from `position`. 0 means end of file; less than asked is asked for again. */
  read?(buffer: Uint8Array, offset: number, length: number, position: number): Answer<number | { bytesRead: number }>;
  /** Writes up to `length` bytes; the rest comes again. A handle opened with O_APPEND writes at the end, whatever `position` says. */
  write?(buffer: Uint8Array, offset: number, length: number, position: number): Answer<number | { bytesWritten: number } | void>;
  truncate?(length: number): Answer<void>;
  /** `options` is for FileHandles of node:fs. */
  stat?(options: { bigint: true }): Answer<PathStats>;
  chmod?(mode: number): Answer<void>;
  chown?(uid: number, gid: number): Answer<void>;
  /** Seconds since 1970, with fractions. */
  utimes?(atime: number, mtime: number): Answer<void>;
  /** Nanoseconds since 1970, exact; undefined leaves a time alone. */
  utimesNs?(atime: bigint | undefined, mtime: bigint | undefined): Answer<void>;
  sync?(): Answer<void>;
  datasync?(): Answer<void>;
  close?(): Answer<void>;
}

/**
 * A filesystem by paths. Methods fail by throwing an error with a `code` or `errno`, as node:fs does. What is missing is
 * answered as Linux answers for filesystems without it: EROFS where nothing can be changed, EPERM for links and devices,
 * EOPNOTSUPP for extended attributes.
 */
export interface PathSource {
  /** Attributes, of a symbolic link itself. Needed, or {@link stat}. */
  lstat?(path: string, context: PathContext): Answer<PathStats>;
  /** Used where there is no {@link lstat}. */
  stat?(path: string, context: PathContext): Answer<PathStats>;
  readdir?(path: string, context: PathContext): Answer<PathListing>;
  readlink?(path: string, context: PathContext): Answer<string | Uint8Array>;

  /**
   * `flags` are O_RDONLY, O_WRONLY or O_RDWR with O_APPEND, O_TRUNC, O_CREAT, O_EXCL, O_SYNC and O_DSYNC; `mode` counts
   * with O_CREAT. Never called for a symbolic link.
   */
  open?(path: string, flags: number, mode: number, context: PathContext): Answer<PathHandle>;
  /** Without {@link open}: whole files, kept in memory while they are open. */
  readFile?(path: string, context: PathContext): Answer<Uint8Array | string>;
  /** Without {@link open}: makes or replaces a whole file; called when it is closed, synced or truncated. */
  writeFile?(path: string, data: Uint8Array, context: PathContext): Answer<void>;
  /** A descriptor of `handle` was closed with close(2), which gets the error. May come several times for one opening. */
  flush?(handle: PathHandle, context: PathContext): Answer<void>;

  mkdir?(path: string, mode: number, context: PathContext): Answer<unknown>;
  /** Fails with ENOTEMPTY when the directory is not empty. */
  rmdir?(path: string, context: PathContext): Answer<void>;
  unlink?(path: string, context: PathContext): Answer<void>;
  /** Replaces what is at `to`. Directories take all that is below them along. */
  rename?(from: string, to: string, context: PathContext): Answer<void>;
  /** Swaps two names: renameat2(2) with RENAME_EXCHANGE. Missing: EINVAL. */
  exchange?(one: string, other: string, context: PathContext): Answer<void>;
  link?(existing: string, path: string, context: PathContext): Answer<void>;
  symlink?(target: string, path: string, context: PathContext): Answer<void>;
  /** Device nodes, FIFOs and sockets. `rdev` is the kernel's encoding, see splitDevice. Regular files are made by {@link open}. */
  mknod?(path: string, mode: number, rdev: number, context: PathContext): Answer<void>;

  chmod?(path: string, mode: number, context: PathContext): Answer<void>;
  lchmod?(path: string, mode: number, context: PathContext): Answer<void>;
  chown?(path: string, uid: number, gid: number, context: PathContext): Answer<void>;
  lchown?(path: string, uid: number, gid: number, context: PathContext): Answer<void>;
  /** Seconds since 1970, with fractions: exact to about 240 ns. */
  utimes?(path: string, atime: number, mtime: number, context: PathContext): Answer<void>;
  lutimes?(path: string, atime: number, mtime: number, context: PathContext): Answer<void>;
  /** Nanoseconds since 1970, exact; undefined leaves a time alone. Never follows a symbolic link. Preferred. */
  utimesNs?(path: string, atime: bigint | undefined, mtime: bigint | undefined, context: PathContext): Answer<void>;
  truncate?(path: string, length: number, context: PathContext): Answer<void>;

  statfs?(path: string, context: PathContext): Answer<StatfsInit>;
  /** R_OK 4, W_OK 2, X_OK 1. Asked for access(2) and chdir(2) unless the mount has default_permissions. */
  access?(path: string, mode: number, context: PathContext): Answer<void>;

  /** XATTR_CREATE 1, XATTR_REPLACE 2. */
  setxattr?(path: string, name: string, value: Uint8Array, flags: number, context: PathContext): Answer<void>;
  /** Undefined: there is none (ENODATA). */
  getxattr?(path: string, name: string, context: PathContext): Answer<Uint8Array | undefined>;
  listxattr?(path: string, context: PathContext): Answer<readonly string[]>;
  removexattr?(path: string, name: string, context: PathContext): Answer<void>;
}
