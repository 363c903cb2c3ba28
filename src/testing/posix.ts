/**
 * System calls as a test sees them, on whatever serves them: the host's own filesystem, a real mount, or the simulated kernel.
 * The conformance map is written against this and nothing else.
 *
 * A call that fails rejects with an error whose `code` names the errno (`ENOENT`) and whose `errno` is its negative number, as in
 * errors of node:fs. Paths are absolute inside the tree under test: `/` is its root. Names travel as binary strings where they are not
 * ASCII (one character a byte).
 */

/** A tree under test: a fresh, empty root directory. */
export interface PosixTree {
  /** What it is, for titles: `tmpfs`, `memory on the simulated kernel`. */
  readonly name: string;
  /** What it cannot do: names of {@link PosixFeature}. Tests that need one are skipped, with the reason. */
  readonly unsupported: ReadonlyMap<PosixFeature, string>;
  /** Another process that uses the tree. */
  process(identity?: PosixIdentity): Promise<PosixProcess>;
  /** Ends all processes, removes the tree; rejects when something leaked. */
  end(): Promise<void>;
}

/** Abilities that filesystems may lack without being wrong. Tests name those that they need. */
export type PosixFeature =
  | 'hardlinks'
  | 'symlinks'
  | 'devices'
  | 'fifos'
  | 'xattrs'
  | 'acls'
  | 'posix-locks'
  | 'flock'
  | 'ownership'
  | 'permissions'
  | 'other-users'
  | 'rename-flags'
  | 'tmpfile'
  | 'fallocate'
  | 'punch-hole'
  | 'seek-hole'
  | 'copy-file-range'
  | 'mmap'
  | 'direct-io'
  | 'nanoseconds'
  | 'birth-time'
  | 'set-id-bits'
  | 'unlinked-open'
  | 'stable-inodes'
  | 'nlink-directories'
  | 'long-names'
  | 'binary-names'
  | 'statfs'
  | 'seekdir'
  | 'times'
  | 'atime'
  | 'sparse'
  | 'large-files'
  | 'inotify'
  | 'append'
  | 'truncate'
  | 'writing'
  | 'sticky';

export interface PosixIdentity {
  /** Default 0. */
  uid?: number;
  gid?: number;
  groups?: readonly number[];
  /** Default 0o022. */
  umask?: number;
}

/** Times are exact nanoseconds since 1970. */
export interface PosixStat {
  readonly dev: number;
  readonly ino: bigint;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly size: number;
  readonly blksize: number;
  readonly blocks: number;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  /** Undefined where the filesystem has none. */
  readonly btimeNs: bigint | undefined;
}

export interface PosixStatfs {
  readonly bsize: number;
  readonly frsize: number;
  readonly blocks: number;
  readonly bfree: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
  readonly namelen: number;
}

export interface PosixDirent {
  readonly name: string;
  readonly ino: bigint;
  /** DT_* of <dirent.h>; 0 is unknown. */
  readonly type: number;
  /** Position after this entry, for seekdir. */
  readonly offset: bigint;
}

/** `'now'` and `'omit'` as in utimensat(2). */
export type PosixTime = bigint | 'now' | 'omit';

export interface PosixLock {
  readonly type: 'read' | 'write' | 'unlock';
  readonly start: number;
  /** 0 means to the end. */
  readonly length: number;
}

/** One process: its own descriptors, identity, umask and locks. Every method is one system call (flags and modes as of Linux). */
export interface PosixProcess {
  open(path: string, flags: number, mode?: number): Promise<number>;
  close(fd: number): Promise<void>;
  /** `position` undefined: at the file position, as read(2). Fewer bytes than asked: end of file. */
  read(fd: number, length: number, position?: number): Promise<Uint8Array>;
  write(fd: number, data: Uint8Array, position?: number): Promise<number>;
  lseek(fd: number, offset: number, whence: number): Promise<number>;
  fsync(fd: number): Promise<void>;
  fdatasync(fd: number): Promise<void>;
  ftruncate(fd: number, length: number): Promise<void>;
  truncate(path: string, length: number): Promise<void>;
  fallocate(fd: number, mode: number, offset: number, length: number): Promise<void>;
  copyFileRange(fromFd: number, from: number, toFd: number, to: number, length: number): Promise<number>;
  /** Another descriptor of the same open file. */
  dup(fd: number): Promise<number>;

  stat(path: string): Promise<PosixStat>;
  lstat(path: string): Promise<PosixStat>;
  fstat(fd: number): Promise<PosixStat>;
  statfs(path: string): Promise<PosixStatfs>;
  access(path: string, mode: number): Promise<void>;
  chmod(path: string, mode: number): Promise<void>;
  fchmod(fd: number, mode: number): Promise<void>;
  /** -1 leaves an id alone. */
  chown(path: string, uid: number, gid: number): Promise<void>;
  lchown(path: string, uid: number, gid: number): Promise<void>;
  fchown(fd: number, uid: number, gid: number): Promise<void>;
  /** Follows symbolic links unless `nofollow`. */
  utimens(path: string, atime: PosixTime, mtime: PosixTime, nofollow?: boolean): Promise<void>;
  futimens(fd: number, atime: PosixTime, mtime: PosixTime): Promise<void>;
  umask(mask: number): Promise<number>;

  mkdir(path: string, mode?: number): Promise<void>;
  rmdir(path: string): Promise<void>;
  mknod(path: string, mode: number, major?: number, minor?: number): Promise<void>;
  unlink(path: string): Promise<void>;
  link(from: string, to: string): Promise<void>;
  /** linkat of an open file (O_TMPFILE), by /proc/self/fd. */
  linkFd(fd: number, to: string): Promise<void>;
  symlink(target: string, path: string): Promise<void>;
  readlink(path: string): Promise<string>;
  rename(from: string, to: string): Promise<void>;
  /** RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4. */
  renameat2(from: string, to: string, flags: number): Promise<void>;

  /** All entries of an open directory from its position on, "." and ".." included. */
  getdents(fd: number): Promise<PosixDirent[]>;
  /** At most so many entries: as much as one buffer of `bytes` holds. Empty at the end. */
  getdentsSome(fd: number, bytes: number): Promise<PosixDirent[]>;
  /** Sets the position of an open directory to the `offset` of an entry, or 0n. */
  seekdir(fd: number, offset: bigint): Promise<void>;

  setxattr(path: string, name: string, value: Uint8Array, flags?: number): Promise<void>;
  /** `room` is the size of the caller's buffer (ERANGE when the value is longer; 0 asks for nothing); default: as much as it takes. */
  getxattr(path: string, name: string, room?: number): Promise<Uint8Array>;
  listxattr(path: string): Promise<string[]>;
  removexattr(path: string, name: string): Promise<void>;

  /** fcntl(F_SETLK), or F_SETLKW with `wait`. */
  setlk(fd: number, lock: PosixLock, wait?: boolean): Promise<void>;
  /** fcntl(F_GETLK): the lock in the way, or undefined. */
  getlk(fd: number, lock: PosixLock): Promise<PosixLock | undefined>;
  /** flock(2): LOCK_SH 1, LOCK_EX 2, LOCK_NB 4, LOCK_UN 8. */
  flock(fd: number, operation: number): Promise<void>;

  /** Ends the process: its descriptors are closed, its locks dropped. */
  exit(): Promise<void>;
}
