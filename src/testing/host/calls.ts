/**
 * The system calls themselves, as the child makes them: synchronously, by the addon where Node lacks them or would hide
 * something, else by node:fs. A negative result of the addon is thrown as {@link Errno}.
 */
import { accessSync, constants, readSync, writeSync } from 'node:fs';
import { type Addon, type PinnedBuffer, pinBuffer } from '../../native/index.ts';
import type { PosixDirent, PosixLock, PosixStat, PosixStatfs, PosixTime } from '../posix.ts';

const EPERM = -1;
const ENOENT = -2;
const EBADF = -9;
const EISDIR = -21;
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_REMOVEDIR = 0x200;
const AT_SYMLINK_FOLLOW = 0x400;
const AT_EMPTY_PATH = 0x1000;
const O_PATH = 0x20_0000;
const STATX_ALL = 0xfff;
const STATX_BTIME = 0x800;
const F_GETLK = 5;
const F_SETLK = 6;
const F_SETLKW = 7;
const LOCK_TYPES = ['read', 'write', 'unlock'] as const;
const UTIME_NOW = 0x3fff_ffff;
const UTIME_OMIT = 0x3fff_fffe;
const SECOND_NS = 1_000_000_000n;

/** Bytes that one pread or pwrite moves through the aligned area; longer ones take memory of their own. */
const AREA_BYTES = 1024 * 1024;

/** An errno, negative, on its way to the test. */
export class Errno extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super(`errno ${-errno}`);
    this.errno = errno;
  }
}

/** The calls by name; see PosixProcess for what they mean. */
export class HostCalls {
  readonly #addon: Addon;
  readonly #area: PinnedBuffer;
  readonly #view: DataView;
  readonly #scratch: DataView;
  /** Descriptors that the test opened and has not closed. */
  readonly #open = new Set<number>();

  constructor(addon: Addon) {
    this.#addon = addon;
    this.#area = pinBuffer(addon, AREA_BYTES, 0);
    this.#view = new DataView(this.#area.bytes.buffer, this.#area.bytes.byteOffset, AREA_BYTES);
    this.#scratch = new DataView(addon.scratch);
  }

  #checked(result: number): number {
    if (result < 0) throw new Errno(result);
    return result;
  }

  /** Paths are relative to the working directory, which is the root of the tree. */
  #path(path: string): string {
    if (!path.startsWith('/')) return path;
    return path.replace(/^\/+/, '') || '.';
  }

  // --- the process ---------------------------------------------------------------------------------------------------

  /** Takes on an identity for good: real, effective and saved ids, as a login does. */
  become(uid: number, gid: number, groups: number[]): void {
    process.setgroups!(groups);
    process.setgid!(gid);
    process.setuid!(uid);
  }

  /** Enters a tree: from here on `/` is `root`. */
  enter(root: string, mask: number): void {
    this.#addon.umask(mask);
    process.chdir(root);
  }

  /** Lets go of everything, so that the process can serve another test. Closing drops locks as exit does. */
  leave(): void {
    for (const fd of this.#open) this.#addon.close(fd);
    this.#open.clear();
    process.chdir('/');
  }

  /** Makes a directory for a tree below `parent` and answers its path. */
  makeRoot(parent: string, name: string): string {
    const path = `${parent.replace(/\/+$/, '')}/${name}`;
    this.#addon.umask(0o022);
    this.#checked(this.#addon.mkdirat(AT_FDCWD, path, 0o755));
    return path;
  }

  /** Removes a directory with everything in it. */
  removeRoot(path: string): void {
    this.#remove(AT_FDCWD, path);
  }

  #remove(dirfd: number, name: string): void {
    // A user who is not root may have to regain access to his own directory.
    this.#addon.fchmodat(dirfd, name, 0o700);
    const fd = this.#checked(this.#addon.openat(dirfd, name, constants.O_DIRECTORY | constants.O_NOFOLLOW, 0));
    try {
      for (let rounds = 0; ; rounds++) {
        this.#checked(this.#addon.lseekWords(fd, 0, 0));
        const entries = this.#entries(fd).filter((entry) => entry.name !== '.' && entry.name !== '..');
        if (entries.length === 0) break;
        if (rounds > 100) throw new Error(`the directory ${name} does not become empty`);
        for (const entry of entries) {
          const status = this.#addon.unlinkat(fd, entry.name, 0);
          if (status === EISDIR || status === EPERM) this.#remove(fd, entry.name);
          else if (status !== ENOENT) this.#checked(status);
        }
      }
    } finally {
      this.#addon.close(fd);
    }
    this.#checked(this.#addon.unlinkat(dirfd, name, AT_REMOVEDIR));
  }

  umask(mask: number): number {
    return this.#addon.umask(mask);
  }

  // --- open files ----------------------------------------------------------------------------------------------------

  open(path: string, flags: number, mode: number): number {
    const fd = this.#checked(this.#addon.openat(AT_FDCWD, this.#path(path), flags, mode));
    this.#open.add(fd);
    return fd;
  }

  close(fd: number): void {
    // Linux frees the descriptor even when close reports an error. A number that is not the test's may be Node's.
    if (!this.#open.delete(fd)) throw new Errno(EBADF);
    this.#checked(this.#addon.close(fd));
  }

  dup(fd: number): number {
    const copy = this.#checked(this.#addon.dup(fd));
    this.#open.add(copy);
    return copy;
  }

  read(fd: number, length: number, position: number | undefined): Uint8Array {
    if (position !== undefined && length <= AREA_BYTES) {
      const got = this.#checked(this.#addon.pread(fd, this.#area.id, 0, length, position));
      return this.#area.bytes.slice(0, got);
    }
    const buffer = new Uint8Array(length);
    return buffer.subarray(0, readSync(fd, buffer, 0, length, position ?? null));
  }

  write(fd: number, data: Uint8Array, position: number | undefined): number {
    if (position !== undefined && data.length <= AREA_BYTES) {
      this.#area.bytes.set(data);
      return this.#checked(this.#addon.pwrite(fd, this.#area.id, 0, data.length, position));
    }
    return writeSync(fd, data, 0, data.length, position ?? null);
  }

  lseek(fd: number, offset: number, whence: number): number {
    return this.#checked(this.#addon.lseek(fd, offset, whence));
  }

  fsync(fd: number): void {
    this.#checked(this.#addon.fsync(fd));
  }

  fdatasync(fd: number): void {
    this.#checked(this.#addon.fdatasync(fd));
  }

  ftruncate(fd: number, length: number): void {
    this.#checked(this.#addon.ftruncate(fd, length));
  }

  truncate(path: string, length: number): void {
    this.#checked(this.#addon.truncate(this.#path(path), length));
  }

  fallocate(fd: number, mode: number, offset: number, length: number): void {
    this.#checked(this.#addon.fallocate(fd, mode, offset, length));
  }

  copyFileRange(fromFd: number, from: number, toFd: number, to: number, length: number): number {
    return this.#checked(this.#addon.copyFileRange(fromFd, from, toFd, to, length, 0));
  }

  // --- attributes ----------------------------------------------------------------------------------------------------

  stat(path: string): PosixStat {
    return this.#statx(AT_FDCWD, this.#path(path), 0);
  }

  lstat(path: string): PosixStat {
    return this.#statx(AT_FDCWD, this.#path(path), AT_SYMLINK_NOFOLLOW);
  }

  fstat(fd: number): PosixStat {
    return this.#statx(fd, '', AT_EMPTY_PATH);
  }

  /** Offsets are those of struct statx in <linux/stat.h>. */
  #statx(dirfd: number, path: string, flags: number): PosixStat {
    this.#checked(this.#addon.statx(dirfd, path, flags, STATX_ALL, this.#area.id, 0));
    const view = this.#view;
    const u32 = (at: number) => view.getUint32(at, true);
    const u64 = (at: number) => Number(view.getBigUint64(at, true));
    const time = (at: number) => view.getBigInt64(at, true) * SECOND_NS + BigInt(u32(at + 8));
    const device = (at: number) => u32(at) * 2 ** 20 + u32(at + 4);
    return {
      blksize: u32(4),
      nlink: u32(16),
      uid: u32(20),
      gid: u32(24),
      mode: view.getUint16(28, true),
      ino: view.getBigUint64(32, true),
      size: u64(40),
      blocks: u64(48),
      atimeNs: time(64),
      btimeNs: u32(0) & STATX_BTIME ? time(80) : undefined,
      ctimeNs: time(96),
      mtimeNs: time(112),
      rdev: device(128),
      dev: device(136),
    };
  }

  statfs(path: string): PosixStatfs {
    const fd = this.#checked(this.#addon.openat(AT_FDCWD, this.#path(path), O_PATH, 0));
    try {
      this.#checked(this.#addon.fstatfs(fd, this.#area.id, 0));
    } finally {
      this.#addon.close(fd);
    }
    const field = (index: number) => Number(this.#view.getBigUint64(index * 8, true));
    return {
      bsize: field(1),
      blocks: field(2),
      bfree: field(3),
      bavail: field(4),
      files: field(5),
      ffree: field(6),
      namelen: field(8),
      frsize: field(9),
    };
  }

  access(path: string, mode: number): void {
    accessSync(Buffer.from(this.#path(path), 'latin1'), mode);
  }

  chmod(path: string, mode: number): void {
    this.#checked(this.#addon.fchmodat(AT_FDCWD, this.#path(path), mode));
  }

  fchmod(fd: number, mode: number): void {
    this.#checked(this.#addon.fchmod(fd, mode));
  }

  chown(path: string, uid: number, gid: number): void {
    this.#checked(this.#addon.fchownat(AT_FDCWD, this.#path(path), uid, gid, 0));
  }

  lchown(path: string, uid: number, gid: number): void {
    this.#checked(this.#addon.fchownat(AT_FDCWD, this.#path(path), uid, gid, AT_SYMLINK_NOFOLLOW));
  }

  fchown(fd: number, uid: number, gid: number): void {
    this.#checked(this.#addon.fchownat(fd, '', uid, gid, AT_EMPTY_PATH));
  }

  utimens(path: string, atime: PosixTime, mtime: PosixTime, nofollow: boolean): void {
    const times = [...timespec(atime), ...timespec(mtime)] as const;
    this.#checked(this.#addon.utimensat(AT_FDCWD, this.#path(path), ...times, nofollow ? AT_SYMLINK_NOFOLLOW : 0));
  }

  futimens(fd: number, atime: PosixTime, mtime: PosixTime): void {
    this.#checked(this.#addon.utimensat(fd, '', ...timespec(atime), ...timespec(mtime), AT_EMPTY_PATH));
  }

  // --- names ---------------------------------------------------------------------------------------------------------

  mkdir(path: string, mode: number): void {
    this.#checked(this.#addon.mkdirat(AT_FDCWD, this.#path(path), mode));
  }

  rmdir(path: string): void {
    this.#checked(this.#addon.unlinkat(AT_FDCWD, this.#path(path), AT_REMOVEDIR));
  }

  mknod(path: string, mode: number, major: number, minor: number): void {
    this.#checked(this.#addon.mknodat(AT_FDCWD, this.#path(path), mode, major, minor));
  }

  unlink(path: string): void {
    this.#checked(this.#addon.unlinkat(AT_FDCWD, this.#path(path), 0));
  }

  link(from: string, to: string): void {
    this.#checked(this.#addon.linkat(AT_FDCWD, this.#path(from), AT_FDCWD, this.#path(to), 0));
  }

  linkFd(fd: number, to: string): void {
    this.#checked(this.#addon.linkat(AT_FDCWD, `/proc/self/fd/${fd}`, AT_FDCWD, this.#path(to), AT_SYMLINK_FOLLOW));
  }

  symlink(target: string, path: string): void {
    this.#checked(this.#addon.symlinkat(target, AT_FDCWD, this.#path(path)));
  }

  readlink(path: string): string {
    const length = this.#checked(this.#addon.readlinkat(AT_FDCWD, this.#path(path), this.#area.id, 0, 65_536));
    return Buffer.from(this.#area.bytes.subarray(0, length)).toString('latin1');
  }

  rename(from: string, to: string): void {
    this.renameat2(from, to, 0);
  }

  renameat2(from: string, to: string, flags: number): void {
    this.#checked(this.#addon.renameat2(AT_FDCWD, this.#path(from), AT_FDCWD, this.#path(to), flags));
  }

  // --- directories ---------------------------------------------------------------------------------------------------

  getdents(fd: number): PosixDirent[] {
    return this.#entries(fd);
  }

  getdentsSome(fd: number, bytes: number): PosixDirent[] {
    return this.#records(this.#checked(this.#addon.getdents64(fd, this.#area.id, 0, bytes)));
  }

  #entries(fd: number): PosixDirent[] {
    const all: PosixDirent[] = [];
    for (;;) {
      const some = this.getdentsSome(fd, 32_768);
      if (some.length === 0) return all;
      all.push(...some);
    }
  }

  /** Records of struct linux_dirent64: ino, offset, record length, type, name. */
  #records(length: number): PosixDirent[] {
    const entries: PosixDirent[] = [];
    for (let at = 0; at < length; ) {
      const recordBytes = this.#view.getUint16(at + 16, true);
      const end = this.#area.bytes.indexOf(0, at + 19);
      entries.push({
        ino: this.#view.getBigUint64(at, true),
        offset: this.#view.getBigInt64(at + 8, true),
        type: this.#area.bytes[at + 18],
        name: Buffer.from(this.#area.bytes.subarray(at + 19, end)).toString('latin1'),
      });
      at += recordBytes;
    }
    return entries;
  }

  seekdir(fd: number, offset: bigint): void {
    const word = (value: bigint) => Number(BigInt.asUintN(32, value));
    this.#checked(this.#addon.lseekWords(fd, word(offset), word(offset >> 32n)));
  }

  // --- extended attributes -------------------------------------------------------------------------------------------

  setxattr(path: string, name: string, value: Uint8Array, flags: number): void {
    this.#area.bytes.set(value);
    this.#checked(this.#addon.setxattr(this.#path(path), name, this.#area.id, 0, value.length, flags));
  }

  getxattr(path: string, name: string, room: number | undefined): Uint8Array {
    const length = room ?? this.#checked(this.#addon.getxattr(this.#path(path), name, this.#area.id, 0, 0));
    if (length === 0) return new Uint8Array(0);
    const got = this.#checked(this.#addon.getxattr(this.#path(path), name, this.#area.id, 0, length));
    return this.#area.bytes.slice(0, got);
  }

  listxattr(path: string): string[] {
    const got = this.#checked(this.#addon.listxattr(this.#path(path), this.#area.id, 0, 65_536));
    const text = Buffer.from(this.#area.bytes.subarray(0, got)).toString('latin1');
    return text === '' ? [] : text.slice(0, -1).split('\0');
  }

  removexattr(path: string, name: string): void {
    this.#checked(this.#addon.removexattr(this.#path(path), name));
  }

  // --- locks ---------------------------------------------------------------------------------------------------------

  setlk(fd: number, lock: PosixLock, wait: boolean): void {
    const type = LOCK_TYPES.indexOf(lock.type);
    this.#checked(this.#addon.recordLock(fd, wait ? F_SETLKW : F_SETLK, type, lock.start, lock.length));
  }

  getlk(fd: number, lock: PosixLock): PosixLock | undefined {
    this.#checked(this.#addon.recordLock(fd, F_GETLK, LOCK_TYPES.indexOf(lock.type), lock.start, lock.length));
    const type = LOCK_TYPES[this.#scratch.getUint32(0, true)];
    if (type === 'unlock') return undefined;
    const wide = (at: number) => Number(this.#scratch.getBigUint64(at, true));
    return { type, start: wide(8), length: wide(16) };
  }

  flock(fd: number, operation: number): void {
    this.#checked(this.#addon.flock(fd, operation));
  }
}

/** Seconds and nanoseconds, the latter never negative. */
function timespec(time: PosixTime): [seconds: number, nanoseconds: number] {
  if (time === 'now') return [0, UTIME_NOW];
  if (time === 'omit') return [0, UTIME_OMIT];
  const nanoseconds = ((time % SECOND_NS) + SECOND_NS) % SECOND_NS;
  return [Number((time - nanoseconds) / SECOND_NS), Number(nanoseconds)];
}
