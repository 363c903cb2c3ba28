/** The face of a child process: each method is one system call of its. */
import type { PosixDirent, PosixLock, PosixProcess, PosixStat, PosixStatfs, PosixTime } from '../posix.ts';
import type { CallingProcess } from './child-process.ts';
import type { HostProcessError } from './errors.ts';

export class HostProcess implements PosixProcess {
  readonly #child: CallingProcess;
  readonly #timeoutMs: number;
  readonly #onHang: (() => void) | undefined;

  constructor(child: CallingProcess, limits: { timeoutMs: number; onHang: (() => void) | undefined }) {
    this.#child = child;
    this.#timeoutMs = limits.timeoutMs;
    this.#onHang = limits.onHang;
  }

  async #call<Value>(call: string, ...args: readonly unknown[]): Promise<Value> {
    try {
      return await this.#child.call<Value>(call, args, this.#timeoutMs);
    } catch (error) {
      if ((error as HostProcessError).code === 'ERR_FUSEWIRE_CALL_HUNG') this.#onHang?.();
      throw error;
    }
  }

  open(path: string, flags: number, mode = 0o666): Promise<number> {
    return this.#call('open', path, flags, mode);
  }
  close(fd: number): Promise<void> {
    return this.#call('close', fd);
  }
  read(fd: number, length: number, position?: number): Promise<Uint8Array> {
    return this.#call('read', fd, length, position);
  }
  write(fd: number, data: Uint8Array, position?: number): Promise<number> {
    return this.#call('write', fd, data, position);
  }
  lseek(fd: number, offset: number, whence: number): Promise<number> {
    return this.#call('lseek', fd, offset, whence);
  }
  fsync(fd: number): Promise<void> {
    return this.#call('fsync', fd);
  }
  fdatasync(fd: number): Promise<void> {
    return this.#call('fdatasync', fd);
  }
  ftruncate(fd: number, length: number): Promise<void> {
    return this.#call('ftruncate', fd, length);
  }
  truncate(path: string, length: number): Promise<void> {
    return this.#call('truncate', path, length);
  }
  fallocate(fd: number, mode: number, offset: number, length: number): Promise<void> {
    return this.#call('fallocate', fd, mode, offset, length);
  }
  copyFileRange(fromFd: number, from: number, toFd: number, to: number, length: number): Promise<number> {
    return this.#call('copyFileRange', fromFd, from, toFd, to, length);
  }
  dup(fd: number): Promise<number> {
    return this.#call('dup', fd);
  }

  stat(path: string): Promise<PosixStat> {
    return this.#call('stat', path);
  }
  lstat(path: string): Promise<PosixStat> {
    return this.#call('lstat', path);
  }
  fstat(fd: number): Promise<PosixStat> {
    return this.#call('fstat', fd);
  }
  statfs(path: string): Promise<PosixStatfs> {
    return this.#call('statfs', path);
  }
  access(path: string, mode: number): Promise<void> {
    return this.#call('access', path, mode);
  }
  chmod(path: string, mode: number): Promise<void> {
    return this.#call('chmod', path, mode);
  }
  fchmod(fd: number, mode: number): Promise<void> {
    return this.#call('fchmod', fd, mode);
  }
  chown(path: string, uid: number, gid: number): Promise<void> {
    return this.#call('chown', path, uid, gid);
  }
  lchown(path: string, uid: number, gid: number): Promise<void> {
    return this.#call('lchown', path, uid, gid);
  }
  fchown(fd: number, uid: number, gid: number): Promise<void> {
    return this.#call('fchown', fd, uid, gid);
  }
  utimens(path: string, atime: PosixTime, mtime: PosixTime, nofollow = false): Promise<void> {
    return this.#call('utimens', path, atime, mtime, nofollow);
  }
  futimens(fd: number, atime: PosixTime, mtime: PosixTime): Promise<void> {
    return this.#call('futimens', fd, atime, mtime);
  }
  umask(mask: number): Promise<number> {
    return this.#call('umask', mask);
  }

  mkdir(path: string, mode = 0o777): Promise<void> {
    return this.#call('mkdir', path, mode);
  }
  rmdir(path: string): Promise<void> {
    return this.#call('rmdir', path);
  }
  mknod(path: string, mode: number, major = 0, minor = 0): Promise<void> {
    return this.#call('mknod', path, mode, major, minor);
  }
  unlink(path: string): Promise<void> {
    return this.#call('unlink', path);
  }
  link(from: string, to: string): Promise<void> {
    return this.#call('link', from, to);
  }
  linkFd(fd: number, to: string): Promise<void> {
    return this.#call('linkFd', fd, to);
  }
  symlink(target: string, path: string): Promise<void> {
    return this.#call('symlink', target, path);
  }
  readlink(path: string): Promise<string> {
    return this.#call('readlink', path);
  }
  rename(from: string, to: string): Promise<void> {
    return this.#call('rename', from, to);
  }
  renameat2(from: string, to: string, flags: number): Promise<void> {
    return this.#call('renameat2', from, to, flags);
  }

  getdents(fd: number): Promise<PosixDirent[]> {
    return this.#call('getdents', fd);
  }
  getdentsSome(fd: number, bytes: number): Promise<PosixDirent[]> {
    return this.#call('getdentsSome', fd, bytes);
  }
  seekdir(fd: number, offset: bigint): Promise<void> {
    return this.#call('seekdir', fd, offset);
  }

  setxattr(path: string, name: string, value: Uint8Array, flags = 0): Promise<void> {
    return this.#call('setxattr', path, name, value, flags);
  }
  getxattr(path: string, name: string, room?: number): Promise<Uint8Array> {
    return this.#call('getxattr', path, name, room);
  }
  listxattr(path: string): Promise<string[]> {
    return this.#call('listxattr', path);
  }
  removexattr(path: string, name: string): Promise<void> {
    return this.#call('removexattr', path, name);
  }

  setlk(fd: number, lock: PosixLock, wait = false): Promise<void> {
    return this.#call('setlk', fd, lock, wait);
  }
  getlk(fd: number, lock: PosixLock): Promise<PosixLock | undefined> {
    return this.#call('getlk', fd, lock);
  }
  flock(fd: number, operation: number): Promise<void> {
    return this.#call('flock', fd, operation);
  }

  /** Kills it, wherever it is: the kernel closes what it had open. */
  async exit(): Promise<void> {
    this.#child.kill();
    await this.#child.gone;
  }
}
