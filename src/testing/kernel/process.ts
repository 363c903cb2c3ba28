import {
  decodeIoctlOut,
  decodePollOut,
  decodeStatfsOut,
  FUSE_IOCTL_DIR,
  FUSE_IOCTL_RETRY,
  IOCTL_OUT_SIZE,
  newIoctlOut,
  newPollOut,
  newStatfsOut,
} from '../../protocol/index.ts';
import type { PosixDirent, PosixIdentity, PosixLock, PosixProcess, PosixStat, PosixStatfs, PosixTime } from '../posix.ts';
import * as attributes from './attributes.ts';
import { canWrite, isRegular, isSymlink, MAY_WRITE, O_PATH, SEEK_SET } from './constants.ts';
import { Call, type Caller, type Core } from './core.ts';
import type { Dentry } from './dentries.ts';
import type { DirectOptions } from './direct-io.ts';
import * as directories from './directories.ts';
import { ERRNO, Errno, fail, SyscallError } from './errors.ts';
import { closeDescriptor, fsync, type OpenFile } from './files.ts';
import { readFile, writeFile } from './io.ts';
import * as locks from './locks.ts';
import * as namespace from './namespace.ts';
import { openPath } from './opening.ts';
import { permit } from './permissions.ts';
import * as ranges from './ranges.ts';
import { readlink, walk } from './walk.ts';
import * as xattrs from './xattrs.ts';

const { EBADF, EINVAL, ENOSYS, ENOTTY, EIO, ENOTDIR, ESPIPE, ESTALE } = ERRNO;

/** Bytes that the C library gives getdents64. */
const GETDENTS_BYTES = 32_768;
const FIRST_FD = 3;

/** What asynchronous I/O (io_submit) gives: the submission returns first, the event comes later. */
export interface Aio<T> {
  /** Resolves when io_submit(2) would return. */
  readonly submitted: Promise<void>;
  /** The event. */
  readonly done: Promise<T>;
}

export interface AioOptions {
  /** Byte within its page where the buffer starts. Default 0. */
  readonly bufferOffset?: number;
}

/** What a process needs of its kernel. */
export interface ProcessHost {
  readonly core: Core;
  /** Whether stat asks for the birth time, which makes it a STATX. */
  readonly asksForBirth: boolean;
  onExit(process: SimulatedProcess): void;
}

let filesIds = 1;

/** A process of the simulated kernel. Several of its calls may be under way at a time, as of several threads. */
export class SimulatedProcess implements PosixProcess {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly pid: number;
  readonly #host: ProcessHost;
  readonly #core: Core;
  readonly #filesId = filesIds++;
  readonly #files = new Map<number, OpenFile>();
  readonly #calls = new Set<Call>();
  #umask: number;
  #hasExited = false;

  constructor(host: ProcessHost, pid: number, identity: PosixIdentity) {
    this.#host = host;
    this.#core = host.core;
    this.pid = pid;
    this.uid = identity.uid ?? 0;
    this.gid = identity.gid ?? 0;
    this.groups = identity.groups ?? [];
    this.#umask = identity.umask ?? 0o022;
  }

  /** A signal with a handler: INTERRUPT goes out for each request that a call of this process waits for. */
  interrupt(): void {
    for (const call of this.#calls) {
      this.#core.wire.interrupt(call);
      call.onInterrupt?.();
    }
  }

  /** Descriptors that are open. */
  get descriptors(): readonly number[] {
    return [...this.#files.keys()];
  }

  // --- the frame of a call ---------------------------------------------------------------------------------------------------

  async #call<T>(syscall: string, path: string | undefined, action: (call: Call) => Promise<T>): Promise<T> {
    const caller: Caller = {
      uid: this.uid,
      gid: this.gid,
      groups: this.groups,
      umask: this.#umask,
      pid: this.pid,
      filesId: this.#filesId,
    };
    const call = new Call(caller);
    this.#calls.add(call);
    try {
      try {
        return await action(call);
      } catch (error) {
        // What walks a path does it once more, past the caches (retry_estale).
        if (path === undefined || !(error instanceof Errno) || error.errno !== ESTALE) throw error;
        call.revalidates = true;
        return await action(call);
      }
    } catch (error) {
      throw error instanceof Errno ? new SyscallError(error.errno, syscall, path) : error;
    } finally {
      this.#calls.delete(call);
      call.end(this.#core);
    }
  }

  #file(fd: number): OpenFile {
    return this.#files.get(fd) ?? fail(EBADF);
  }

  /** A file that may be used, not one opened with O_PATH. */
  #usable(fd: number): OpenFile {
    const file = this.#file(fd);
    if ((file.flags & O_PATH) !== 0) fail(EBADF);
    return file;
  }

  #onFile<T>(syscall: string, fd: number, action: (call: Call, file: OpenFile) => Promise<T>): Promise<T> {
    return this.#call(syscall, undefined, async (call) => {
      const file = this.#usable(fd);
      call.hold(file.inode);
      return action(call, file);
    });
  }

  #onPath<T>(syscall: string, path: string, action: (call: Call, found: Dentry) => Promise<T>, follow = true): Promise<T> {
    return this.#call(syscall, path, async (call) => action(call, await walk(this.#core, call, path, { follow })));
  }

  #install(file: OpenFile): number {
    let fd = FIRST_FD;
    while (this.#files.has(fd)) fd++;
    this.#files.set(fd, file);
    return fd;
  }

  // --- files -------------------------------------------------------------------------------------------------------------------

  open(path: string, flags: number, mode = 0o666): Promise<number> {
    return this.#call('open', path, async (call) => this.#install(await openPath(this.#core, call, path, flags, mode)));
  }

  close(fd: number): Promise<void> {
    return this.#call('close', undefined, async (call) => {
      const file = this.#file(fd);
      this.#files.delete(fd);
      await closeDescriptor(this.#core, call, file);
    });
  }

  async dup(fd: number): Promise<number> {
    return this.#call('dup', undefined, async () => {
      const file = this.#file(fd);
      file.descriptors++;
      return this.#install(file);
    });
  }

  read(fd: number, length: number, position?: number): Promise<Uint8Array> {
    return this.#onFile(position === undefined ? 'read' : 'pread', fd, async (call, file) => {
      const { fifo } = file.inode;
      if (position !== undefined && (!file.isSeekable || fifo !== undefined)) fail(ESPIPE);
      if (fifo !== undefined) return fifo.read(call, file, length);
      const bytes = await readFile(this.#core, call, file, position ?? file.position, length);
      if (position === undefined && file.isSeekable) file.position += bytes.length;
      return bytes;
    });
  }

  write(fd: number, data: Uint8Array, position?: number): Promise<number> {
    return this.#onFile(position === undefined ? 'write' : 'pwrite', fd, async (call, file) => {
      const { fifo } = file.inode;
      if (position !== undefined && (!file.isSeekable || fifo !== undefined)) fail(ESPIPE);
      if (fifo !== undefined) return fifo.write(call, file, data);
      // The caller may reuse its memory once the call has returned, the daemon may still look at it.
      const written = await writeFile(this.#core, call, file, position ?? file.position, data.slice());
      if (position === undefined && file.isSeekable) file.position = file.appends ? file.inode.size : file.position + written;
      return written;
    });
  }

  /** io_submit of a read; on a file that is not direct it is an ordinary read. */
  submitRead(fd: number, length: number, position: number, options: AioOptions = {}): Aio<Uint8Array> {
    return this.#aio('io_submit', fd, options, (call, file, direct) =>
      readFile(this.#core, call, file, position, length, direct),
    );
  }

  /** io_submit of a write. */
  submitWrite(fd: number, data: Uint8Array, position: number, options: AioOptions = {}): Aio<number> {
    const copy = data.slice();
    return this.#aio('io_submit', fd, options, (call, file, direct) => writeFile(this.#core, call, file, position, copy, direct));
  }

  #aio<T>(
    syscall: string,
    fd: number,
    options: AioOptions,
    action: (call: Call, file: OpenFile, direct: DirectOptions) => Promise<T>,
  ): Aio<T> {
    let onSubmitted!: () => void;
    const submitted = new Promise<void>((resolve) => {
      onSubmitted = resolve;
    });
    const done = this.#onFile(syscall, fd, (call, file) => action(call, file, { ...options, onSubmitted }));
    done.then(onSubmitted, onSubmitted);
    return { submitted, done };
  }

  lseek(fd: number, offset: number, whence: number): Promise<number> {
    return this.#onFile('lseek', fd, async (call, file) => {
      if (!file.isDirectory) return ranges.lseek(this.#core, call, file, offset, whence);
      if (whence !== SEEK_SET) fail(EINVAL);
      file.cookie = BigInt(offset);
      return offset;
    });
  }

  fsync(fd: number): Promise<void> {
    return this.#onFile('fsync', fd, (call, file) => fsync(this.#core, call, file, false));
  }

  fdatasync(fd: number): Promise<void> {
    return this.#onFile('fdatasync', fd, (call, file) => fsync(this.#core, call, file, true));
  }

  ftruncate(fd: number, length: number): Promise<void> {
    return this.#onFile('ftruncate', fd, async (call, file) => {
      if (!canWrite(file.flags) || file.isDirectory) fail(EINVAL);
      await attributes.truncate(this.#core, call, file.inode, length, file);
    });
  }

  truncate(path: string, length: number): Promise<void> {
    return this.#onPath('truncate', path, async (call, { inode }) => {
      if (length < 0) fail(EINVAL);
      if (inode!.isDirectory) fail(ERRNO.EISDIR);
      if (!isRegular(inode!.mode)) fail(EINVAL);
      await permit(this.#core, call, inode!, MAY_WRITE);
      await attributes.truncate(this.#core, call, inode!, length);
    });
  }

  fallocate(fd: number, mode: number, offset: number, length: number): Promise<void> {
    return this.#onFile('fallocate', fd, (call, file) => ranges.fallocate(this.#core, call, file, mode, offset, length));
  }

  copyFileRange(fromFd: number, fromOffset: number, toFd: number, toOffset: number, length: number): Promise<number> {
    return this.#onFile('copy_file_range', fromFd, (call, from) => {
      const to = this.#usable(toFd);
      call.hold(to.inode);
      return ranges.copyFileRange(this.#core, call, { from, fromOffset, to, toOffset, length });
    });
  }

  // --- attributes --------------------------------------------------------------------------------------------------------------

  stat(path: string): Promise<PosixStat> {
    return this.#onPath('stat', path, (call, { inode }) => this.#stat(call, inode!));
  }

  lstat(path: string): Promise<PosixStat> {
    return this.#onPath('lstat', path, (call, { inode }) => this.#stat(call, inode!), false);
  }

  fstat(fd: number): Promise<PosixStat> {
    return this.#call('fstat', undefined, async (call) => {
      const file = this.#file(fd);
      return this.#stat(call, call.hold(file.inode), file.isSilent ? undefined : file);
    });
  }

  #stat(call: Call, inode: NonNullable<Dentry['inode']>, file?: OpenFile): Promise<PosixStat> {
    return attributes.stat(this.#core, call, inode, { file, withBirth: this.#host.asksForBirth });
  }

  statfs(path: string): Promise<PosixStatfs> {
    return this.#onPath('statfs', path, async (call, { inode }) => {
      const reply = await this.#core.wire.call({ op: 'STATFS', nodeid: inode!.nodeid, caller: call });
      const out = newStatfsOut();
      decodeStatfsOut(reply.words, 0, out);
      return { ...out.st };
    });
  }

  access(path: string, mode: number): Promise<void> {
    return this.#onPath('access', path, (call, { inode }) => permit(this.#core, call, inode!, mode & 7, { isAccess: true }));
  }

  chmod(path: string, mode: number): Promise<void> {
    return this.#onPath('chmod', path, (call, { inode }) => attributes.chmod(this.#core, call, inode!, mode));
  }

  fchmod(fd: number, mode: number): Promise<void> {
    return this.#onFile('fchmod', fd, (call, { inode }) => attributes.chmod(this.#core, call, inode, mode));
  }

  chown(path: string, uid: number, gid: number): Promise<void> {
    return this.#onPath('chown', path, (call, { inode }) => attributes.chown(this.#core, call, inode!, uid, gid));
  }

  lchown(path: string, uid: number, gid: number): Promise<void> {
    return this.#onPath('lchown', path, (call, { inode }) => attributes.chown(this.#core, call, inode!, uid, gid), false);
  }

  fchown(fd: number, uid: number, gid: number): Promise<void> {
    return this.#onFile('fchown', fd, (call, { inode }) => attributes.chown(this.#core, call, inode, uid, gid));
  }

  async utimens(path: string, atime: PosixTime, mtime: PosixTime, nofollow = false): Promise<void> {
    // Nothing to do: Linux does not even look at the path.
    if (atime === 'omit' && mtime === 'omit') return;
    const set = (call: Call, { inode }: Dentry) => attributes.utimens(this.#core, call, inode!, atime, mtime);
    return this.#onPath('utimensat', path, set, !nofollow);
  }

  async futimens(fd: number, atime: PosixTime, mtime: PosixTime): Promise<void> {
    if (atime === 'omit' && mtime === 'omit') return;
    return this.#onFile('futimens', fd, (call, { inode }) => attributes.utimens(this.#core, call, inode, atime, mtime));
  }

  async umask(mask: number): Promise<number> {
    const before = this.#umask;
    this.#umask = mask & 0o777;
    return before;
  }

  // --- names -------------------------------------------------------------------------------------------------------------------

  mkdir(path: string, mode = 0o777): Promise<void> {
    return this.#call('mkdir', path, (call) => namespace.mkdir(this.#core, call, path, mode));
  }

  rmdir(path: string): Promise<void> {
    return this.#call('rmdir', path, (call) => namespace.rmdir(this.#core, call, path));
  }

  mknod(path: string, mode: number, major = 0, minor = 0): Promise<void> {
    return this.#call('mknod', path, (call) => namespace.mknod(this.#core, call, path, mode, major, minor));
  }

  unlink(path: string): Promise<void> {
    return this.#call('unlink', path, (call) => namespace.unlink(this.#core, call, path));
  }

  link(from: string, to: string): Promise<void> {
    return this.#onPath('link', from, (call, { inode }) => namespace.link(this.#core, call, inode!, to), false);
  }

  linkFd(fd: number, to: string): Promise<void> {
    return this.#onFile('linkat', fd, (call, { inode }) => namespace.link(this.#core, call, inode, to));
  }

  symlink(target: string, path: string): Promise<void> {
    return this.#call('symlink', path, (call) => namespace.symlink(this.#core, call, target, path));
  }

  readlink(path: string): Promise<string> {
    return this.#onPath(
      'readlink',
      path,
      async (call, { inode }) => (isSymlink(inode!.mode) ? readlink(this.#core, call, inode!) : fail(EINVAL)),
      false,
    );
  }

  rename(from: string, to: string): Promise<void> {
    return this.renameat2(from, to, 0);
  }

  renameat2(from: string, to: string, flags: number): Promise<void> {
    return this.#call('rename', from, (call) => namespace.rename(this.#core, call, from, to, flags));
  }

  // --- directories -------------------------------------------------------------------------------------------------------------

  async getdents(fd: number): Promise<PosixDirent[]> {
    const all: PosixDirent[] = [];
    for (;;) {
      const some = await this.getdentsSome(fd, GETDENTS_BYTES);
      if (some.length === 0) return all;
      all.push(...some);
    }
  }

  getdentsSome(fd: number, bytes: number): Promise<PosixDirent[]> {
    return this.#onFile('getdents64', fd, (call, file) => directories.getdents(this.#core, call, file, bytes));
  }

  seekdir(fd: number, offset: bigint): Promise<void> {
    return this.#onFile('lseek', fd, async (_call, file) => {
      if (!file.isDirectory) fail(ENOTDIR);
      file.cookie = offset;
    });
  }

  // --- extended attributes -----------------------------------------------------------------------------------------------------

  setxattr(path: string, name: string, value: Uint8Array, flags = 0): Promise<void> {
    return this.#onPath('setxattr', path, (call, { inode }) => xattrs.setxattr(this.#core, call, inode!, name, value, flags));
  }

  getxattr(path: string, name: string, room?: number): Promise<Uint8Array> {
    return this.#onPath('getxattr', path, (call, { inode }) => xattrs.getxattr(this.#core, call, inode!, name, room));
  }

  listxattr(path: string): Promise<string[]> {
    return this.#onPath('listxattr', path, (call, { inode }) => xattrs.listxattr(this.#core, call, inode!));
  }

  removexattr(path: string, name: string): Promise<void> {
    return this.#onPath('removexattr', path, (call, { inode }) => xattrs.removexattr(this.#core, call, inode!, name));
  }

  // --- locks -------------------------------------------------------------------------------------------------------------------

  setlk(fd: number, lock: PosixLock, wait = false): Promise<void> {
    return this.#onFile('fcntl', fd, (call, file) => locks.setPosixLock(this.#core, call, file, lock, wait));
  }

  getlk(fd: number, lock: PosixLock): Promise<PosixLock | undefined> {
    return this.#onFile('fcntl', fd, (call, file) => locks.getPosixLock(this.#core, call, file, lock));
  }

  flock(fd: number, operation: number): Promise<void> {
    return this.#onFile('flock', fd, (call, file) => locks.flock(this.#core, call, file, operation));
  }

  // --- devices -----------------------------------------------------------------------------------------------------------------

  /**
   * ioctl(2) with `data` as what the caller's memory holds and room for `outSize` bytes. Answers the result and the bytes that
   * came back.
   */
  ioctl(fd: number, command: number, data = new Uint8Array(0), outSize = 0): Promise<{ result: number; data: Uint8Array }> {
    return this.#onFile('ioctl', fd, async (call, file) => {
      const flags = file.isDirectory ? FUSE_IOCTL_DIR : 0;
      const args = { fh: file.handle, flags, cmd: command, in_size: data.length, out_size: outSize };
      const reply = await this.#core.wire.request({ op: 'IOCTL', nodeid: file.inode.nodeid, args, data, caller: call });
      if (reply.errno === ENOSYS) fail(ENOTTY);
      if (reply.errno !== 0) fail(reply.errno);
      const out = newIoctlOut();
      decodeIoctlOut(reply.words, 0, out);
      // Only CUSE may ask for other memory.
      if ((out.flags & FUSE_IOCTL_RETRY) !== 0) fail(EIO);
      const result = out.result | 0;
      if (result < 0) fail(-result);
      return { result, data: reply.bytes.slice(IOCTL_OUT_SIZE) };
    });
  }

  /** poll(2) without waiting: the events that are ready. */
  poll(fd: number, events: number): Promise<number> {
    return this.#onFile('poll', fd, async (call, file) => {
      const core = this.#core;
      const always = 0x145;
      if (core.missing.has('POLL')) return always & events;
      const args = { fh: file.handle, kh_lo: file.id, events };
      const reply = await core.wire.request({ op: 'POLL', nodeid: file.inode.nodeid, args, caller: call });
      if (reply.errno === ENOSYS) {
        core.missing.add('POLL');
        return always & events;
      }
      if (reply.errno !== 0) return 0x8;
      const out = newPollOut();
      decodePollOut(reply.words, 0, out);
      return out.revents;
    });
  }

  // --- the end -----------------------------------------------------------------------------------------------------------------

  async exit(): Promise<void> {
    if (this.#hasExited) return;
    this.#hasExited = true;
    this.interrupt();
    // What close answers is lost, as when a process ends.
    for (const fd of [...this.#files.keys()]) {
      await this.close(fd).catch((error: unknown) => {
        if (!(error instanceof SyscallError)) throw error;
      });
    }
    this.#host.onExit(this);
  }
}
