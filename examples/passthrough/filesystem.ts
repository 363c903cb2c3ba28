/**
 * A folder of the host, shown through a mount: every operation is handed on to the host's own filesystem.
 *
 * The rules that everything here follows:
 * - A file is a descriptor, never a path. Names are single components, opened relative to their directory's descriptor and
 *   without following symbolic links; so no rename and no symbolic link, however timed, leads out of the folder.
 * - What the kernel knows stands in memory that all workers share (inode-table.ts, lock-table.ts, open-files.ts). A worker
 *   keeps nothing between two requests, so any of them can answer any request.
 * - Handlers are synchronous. Only who waits for a lock gets a promise.
 * - New files are made as the caller, and so belong to it.
 */
import type {
  AttributesReply,
  CopyFileRangeRequest,
  CreateReply,
  CreateRequest,
  DirectoryReply,
  Entry,
  FallocateRequest,
  FileLock,
  FileRange,
  Filesystem,
  FilesystemSettings,
  FlushRequest,
  FsyncRequest,
  GetattrRequest,
  IoctlReply,
  IoctlRequest,
  Kernel,
  LinkRequest,
  LockRequest,
  LseekRequest,
  MkdirRequest,
  MknodRequest,
  NegativeEntry,
  Negotiated,
  NodeId,
  OpenReply,
  OpenRequest,
  ReaddirRequest,
  ReadRequest,
  ReleaseRequest,
  RenameRequest,
  Request,
  SetattrRequest,
  SetxattrRequest,
  StatfsInit,
  StatxRequest,
  TmpfileRequest,
  WorkerContext,
  WriteRequest,
  XattrRequest,
} from 'fusewire';
import { FuseError, splitDevice } from 'fusewire';
import { loadAddon } from 'fusewire/native';
import { pruneExists } from 'fusewire/protocol';
import { setAttributes } from './attributes.ts';
import { Callers } from './callers.ts';
import { Directory } from './directory.ts';
import { check, Host } from './host.ts';
import { InodeTable } from './inode-table.ts';
import { changesFlags, Ioctls } from './ioctls.ts';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_REMOVEDIR,
  AT_SYMLINK_FOLLOW,
  ELOOP,
  ENFILE,
  ENOSYS,
  ENXIO,
  EPERM,
  ESTALE,
  O_CREAT,
  O_DIRECT,
  O_DIRECTORY,
  O_EXCL,
  O_NOATIME,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  O_TMPFILE,
  O_TRUNC,
  RENAME_WHITEOUT,
  S_IFMT,
  S_IFREG,
  STATX_BASIC_STATS,
  STATX_BTIME,
} from './linux.ts';
import { LockTable } from './lock-table.ts';
import { LockWaits } from './lock-waits.ts';
import { Locks } from './locks.ts';
import { assertName, Nodes } from './nodes.ts';
import { OpenFiles } from './open-files.ts';
import { creationMode, hostFlags } from './opening.ts';
import { type CachePolicy, type PassthroughOptions, type PassthroughShared, settingsFor } from './options.ts';
import { Relief } from './relief.ts';
import { Stat } from './stat.ts';
import { Xattrs } from './xattrs.ts';

export { type CachePolicy, PassthroughError, type PassthroughOptions } from './options.ts';
export { shared, sharedEnd } from './shared.ts';

export default function passthrough(context: WorkerContext<PassthroughOptions, PassthroughShared>): Filesystem {
  return new Passthrough(context.shared);
}

/** COPY_FILE_RANGE answers at most so much at a time, so that one large copy does not keep a worker from other callers. */
const COPY_BYTES_MAX = 64 << 20;

const AT_STATX_SYNC_TYPE = 0x6000;

class Passthrough implements Filesystem {
  readonly settings: FilesystemSettings;
  readonly #addon = loadAddon();
  readonly #host: Host;
  readonly #files: OpenFiles;
  readonly #relief: Relief;
  readonly #nodes: Nodes;
  readonly #stat: Stat;
  readonly #callers: Callers;
  readonly #locks: Locks;
  readonly #directory: Directory;
  readonly #xattrs: Xattrs;
  readonly #ioctls: Ioctls;
  readonly #cache: CachePolicy;
  readonly #absent: NegativeEntry;
  readonly #statfsWords: Uint32Array;
  readonly #noAccessTimes: boolean;
  #kernel: Kernel | undefined;
  #writeback = false;
  /** Whether requests say that set-id bits go (FUSE_HANDLE_KILLPRIV_V2). */
  #toldOfKills = true;
  #backing = false;

  constructor(shared: PassthroughShared) {
    const addon = this.#addon;
    const inodes = new InodeTable(shared.inodes, shared.maxNodes);
    const locks = new LockTable(shared.locks, shared.maxLockOwners, inodes);
    this.settings = settingsFor(shared.cache, shared.backing);
    this.#cache = shared.cache;
    this.#noAccessTimes = shared.noAccessTimes;
    this.#host = new Host(addon, shared.links);
    this.#files = new OpenFiles(shared.openFiles);
    this.#stat = new Stat(addon);
    this.#relief = new Relief(inodes, shared.maxNodes);
    this.#nodes = new Nodes(this.#host, inodes, locks, this.#stat, this.#relief);
    this.#callers = new Callers(addon);
    this.#locks = new Locks(this.#host, locks, new LockWaits(shared.lockWaits), this.#files);
    this.#directory = new Directory(this.#host, this.#nodes);
    this.#xattrs = new Xattrs(this.#host, this.#nodes, this.#callers);
    this.#ioctls = new Ioctls(this.#host, this.#callers);
    // Absence is answered rather than thrown: compilers ask for many files that are not there. It is remembered only
    // where nothing else changes the folder.
    this.#absent = { node: 0, entryTtl: shared.cache === 'always' ? (this.settings.entryTtl ?? 0) : 0 };
    this.#statfsWords = new Uint32Array(addon.scratch, 0, 22);
  }

  init(negotiated: Negotiated, kernel: Kernel): void {
    if (pruneExists(negotiated.minor)) this.#relief.start(kernel);
    this.#kernel = kernel;
    this.#writeback = negotiated.flags.has('FUSE_WRITEBACK_CACHE');
    this.#toldOfKills = negotiated.flags.has('FUSE_HANDLE_KILLPRIV_V2');
    this.#backing = negotiated.flags.has('FUSE_PASSTHROUGH');
  }

  destroy(): void {
    this.#directory.close();
  }

  // --- names and nodes -------------------------------------------------------------------------------------------------

  lookup(parent: NodeId, name: string, request: Request): Entry | NegativeEntry | Promise<Entry | NegativeEntry> {
    assertName(name);
    try {
      return this.#nodes.lookup(this.#nodes.fd(parent), name) ?? this.#absent;
    } catch (error) {
      if (error !== FuseError.of(ENFILE)) throw error;
      return this.#lookupWithRoom(parent, name, request.signal);
    }
  }

  /** The table is full: waits for the kernel to forget what nobody uses. */
  async #lookupWithRoom(parent: NodeId, name: string, signal: AbortSignal): Promise<Entry | NegativeEntry> {
    if (!(await this.#relief.room(signal))) throw FuseError.of(ENFILE);
    // The entry is one object that is filled anew for each answer; this answer leaves later, so it takes a copy.
    return structuredClone(this.#nodes.lookup(this.#nodes.fd(parent), name) ?? this.#absent);
  }

  forget(node: NodeId, count: number): void {
    this.#nodes.forget(node, count);
  }

  getattr(node: NodeId, _request: GetattrRequest): AttributesReply {
    check(this.#stat.ask(this.#nodes.fd(node), '', AT_EMPTY_PATH));
    return { attributes: this.#stat.attributes() };
  }

  statx(node: NodeId, request: StatxRequest): AttributesReply {
    const flags = AT_EMPTY_PATH | (request.flags & AT_STATX_SYNC_TYPE);
    check(this.#stat.ask(this.#nodes.fd(node), '', flags, STATX_BASIC_STATS | STATX_BTIME));
    return { attributes: this.#stat.attributesWithBirth() };
  }

  setattr(node: NodeId, request: SetattrRequest): AttributesReply {
    const open = request.handle === undefined ? undefined : this.#files.fd(request.handle);
    setAttributes(this.#host, this.#callers, this.#nodes.fd(node), open, request);
    return this.getattr(node, request);
  }

  readlink(node: NodeId, _request: Request): Uint8Array {
    const length = check(this.#addon.readlinkat(this.#nodes.fd(node), '', 0, 0, 4096));
    return new Uint8Array(this.#addon.scratch, 0, length);
  }

  mknod(parent: NodeId, name: string, request: MknodRequest): Entry {
    const { major, minor } = splitDevice(request.rdev);
    return this.#make(parent, name, request, (fd) => {
      const mode = creationMode(this.#host, fd, request) | (request.mode & S_IFMT);
      return this.#addon.mknodat(fd, name, mode, major, minor);
    });
  }

  mkdir(parent: NodeId, name: string, request: MkdirRequest): Entry {
    return this.#make(parent, name, request, (fd) => this.#addon.mkdirat(fd, name, creationMode(this.#host, fd, request)));
  }

  symlink(parent: NodeId, name: string, target: string, request: Request): Entry {
    return this.#make(parent, name, request, (fd) => this.#addon.symlinkat(target, fd, name));
  }

  link(node: NodeId, request: LinkRequest): Entry {
    assertName(request.newName);
    const from = this.#host.path(this.#nodes.fd(node));
    check(this.#addon.linkat(AT_FDCWD, from, this.#nodes.fd(request.newParent), request.newName, AT_SYMLINK_FOLLOW));
    return this.#nodes.again(node);
  }

  unlink(parent: NodeId, name: string, _request: Request): void {
    assertName(name);
    check(this.#addon.unlinkat(this.#nodes.fd(parent), name, 0));
  }

  rmdir(parent: NodeId, name: string, _request: Request): void {
    assertName(name);
    check(this.#addon.unlinkat(this.#nodes.fd(parent), name, AT_REMOVEDIR));
  }

  rename(parent: NodeId, name: string, request: RenameRequest): void {
    assertName(name);
    assertName(request.newName);
    const from = this.#nodes.fd(parent);
    const to = this.#nodes.fd(request.newParent);
    const rename = () => this.#addon.renameat2(from, name, to, request.newName, request.flags);
    // A whiteout is a new file and belongs to the caller.
    check((request.flags & RENAME_WHITEOUT) === 0 ? rename() : this.#callers.run(request, rename));
  }

  // --- open files ------------------------------------------------------------------------------------------------------

  open(node: NodeId, request: OpenRequest): OpenReply {
    const nodeFd = this.#nodes.fd(node);
    // Truncation is what takes set-id bits away; it happens apart, as the caller, where there are any.
    // A kernel that does not say so (before 5.12) leaves it to whoever truncates.
    const kills = request.killSuidGid || !this.#toldOfKills;
    const apart = kills && (request.flags & O_TRUNC) !== 0 && this.#callers.hasSetId(nodeFd);
    const flags = hostFlags(apart ? request.flags & ~O_TRUNC : request.flags, this.#writeback);
    const fd = check(this.#quietly(flags, (quiet) => this.#host.reopen(nodeFd, quiet)));
    return this.#guard(fd, () => {
      if (apart) check(this.#callers.run(request, () => this.#addon.ftruncate(fd, 0)));
      return this.#offer(this.#opened(fd, request), nodeFd);
    });
  }

  create(parent: NodeId, name: string, request: CreateRequest): CreateReply {
    assertName(name);
    const parentFd = this.#nodes.fd(parent);
    const mode = creationMode(this.#host, parentFd, request);
    const flags = hostFlags(request.flags, this.#writeback) | (request.flags & O_EXCL) | O_CREAT | O_NOFOLLOW;
    const open = () => this.#quietly(flags, (quiet) => this.#addon.openat(parentFd, name, quiet, mode));
    const fd = this.#callers.run(request, open);
    // Something else got the name just now: a symbolic link, a socket. The kernel has to look again and decide.
    if (fd === -ELOOP || fd === -ENXIO) throw FuseError.of(ESTALE);
    return this.#created(check(fd), request);
  }

  tmpfile(parent: NodeId, request: TmpfileRequest): CreateReply {
    const parentFd = this.#nodes.fd(parent);
    const mode = creationMode(this.#host, parentFd, request);
    const flags = hostFlags(request.flags, this.#writeback) | (request.flags & O_EXCL) | O_TMPFILE;
    return this.#created(check(this.#callers.run(request, () => this.#addon.openat(parentFd, '.', flags, mode))), request);
  }

  read(_node: NodeId, request: ReadRequest): FileRange {
    return { fd: this.#files.fd(request.handle), position: request.offset, length: request.size };
  }

  write(_node: NodeId, _data: Uint8Array, request: WriteRequest): number {
    const fd = this.#files.fd(request.handle);
    if (!request.killSuidGid) return check(request.writeTo(fd, request.offset));
    return check(this.#callers.runWithoutSetId(request, fd, () => request.writeTo(fd, request.offset)));
  }

  flush(node: NodeId, request: FlushRequest): void {
    this.#locks.drop(node, request.lockOwner);
    // Closing a duplicate makes the host report what it reports at close(2): writes that failed late, as on NFS.
    const duplicate = this.#addon.dup(this.#files.fd(request.handle));
    if (duplicate >= 0) check(this.#addon.close(duplicate));
  }

  release(node: NodeId, request: ReleaseRequest): void {
    this.#locks.dropOf(node, request.handle);
    this.#addon.close(this.#files.remove(request.handle));
  }

  fsync(_node: NodeId, request: FsyncRequest): void {
    const fd = this.#files.fd(request.handle);
    check(request.dataOnly ? this.#addon.fdatasync(fd) : this.#addon.fsync(fd));
  }

  fallocate(_node: NodeId, request: FallocateRequest): void {
    const fd = this.#files.fd(request.handle);
    const allocate = () => this.#addon.fallocate(fd, request.mode, request.offset, request.length);
    check(request.uid === 0 ? allocate() : this.#callers.runWithoutSetId(request, fd, allocate));
  }

  lseek(_node: NodeId, request: LseekRequest): number {
    // With the write-back cache the host does not know yet what is data, and the kernel asks without writing it back:
    // copying programs would take fresh data for a hole. Told ENOSYS, the kernel calls the whole file data.
    if (this.#writeback) throw FuseError.of(ENOSYS);
    // The host's own position moves, which nobody else looks at: reads and writes carry theirs.
    return check(this.#addon.lseek(this.#files.fd(request.handle), request.offset, request.whence));
  }

  copyFileRange(_node: NodeId, request: CopyFileRangeRequest): number {
    const from = this.#files.fd(request.handle);
    const to = this.#files.fd(request.toHandle);
    const length = Math.min(request.length, COPY_BYTES_MAX);
    const copy = () => this.#addon.copyFileRange(from, request.offset, to, request.toOffset, length, request.flags);
    return check(request.uid === 0 ? copy() : this.#callers.runWithoutSetId(request, to, copy));
  }

  ioctl(node: NodeId, request: IoctlRequest): IoctlReply | Promise<IoctlReply> {
    const reply = this.#ioctls.run(this.#files.fd(request.handle), request);
    if (!changesFlags(request.command) || this.#kernel === undefined) return reply;
    // The host's change time moved, which the kernel does not expect of an ioctl. Telling it about attributes alone waits for
    // no other request, so it may be done before the answer; the caller then sees the new time.
    const kept = { ...reply, data: reply.data?.slice() ?? new Uint8Array() };
    const answer = () => kept;
    return this.#kernel.invalidateAttributes(node).then(answer, answer);
  }

  getlk(node: NodeId, request: LockRequest): FileLock | undefined {
    return this.#locks.get(node, this.#nodes.fd(node), request);
  }

  setlk(node: NodeId, request: LockRequest): void | Promise<void> {
    return this.#locks.set(node, this.#nodes.fd(node), request);
  }

  // --- directories -----------------------------------------------------------------------------------------------------

  opendir(node: NodeId, _request: OpenRequest): OpenReply {
    const nodeFd = this.#nodes.fd(node);
    const fd = check(this.#quietly(O_RDONLY | O_DIRECTORY, (quiet) => this.#host.reopen(nodeFd, quiet)));
    const keep = this.#cache === 'always';
    return this.#guard(fd, () => ({ handle: this.#files.add(fd), keepCache: keep, cacheDirectory: keep }));
  }

  readdir(_node: NodeId, request: ReaddirRequest, reply: DirectoryReply): void {
    this.#directory.list(this.#files.fd(request.handle), undefined, request, reply);
  }

  readdirplus(node: NodeId, request: ReaddirRequest, reply: DirectoryReply): void {
    this.#directory.list(this.#files.fd(request.handle), this.#nodes.fd(node), request, reply);
  }

  releasedir(node: NodeId, request: ReleaseRequest): void {
    this.release(node, request);
  }

  fsyncdir(node: NodeId, request: FsyncRequest): void {
    this.fsync(node, request);
  }

  // --- the rest --------------------------------------------------------------------------------------------------------

  statfs(node: NodeId, _request: Request): StatfsInit {
    check(this.#addon.fstatfs(this.#nodes.fd(node), 0, 0));
    const word = (index: number) => this.#statfsWords[index * 2] + this.#statfsWords[index * 2 + 1] * 0x1_0000_0000;
    return {
      bsize: word(1),
      blocks: word(2),
      bfree: word(3),
      bavail: word(4),
      files: word(5),
      ffree: word(6),
      namelen: word(8),
      frsize: word(9),
    };
  }

  getxattr(node: NodeId, name: string, request: XattrRequest): Uint8Array | number {
    return this.#xattrs.get(node, name, request);
  }

  listxattr(node: NodeId, request: XattrRequest): Uint8Array {
    return this.#xattrs.list(node, request);
  }

  setxattr(node: NodeId, name: string, value: Uint8Array, request: SetxattrRequest): void {
    this.#xattrs.set(node, name, value, request);
  }

  removexattr(node: NodeId, name: string, request: Request): void {
    this.#xattrs.remove(node, name, request);
  }

  // There is no access method: the mount option default_permissions, which FUSE_POSIX_ACL implies, lets the kernel check.

  // --- inside ----------------------------------------------------------------------------------------------------------

  #make(parent: NodeId, name: string, request: Request, call: (parentFd: number) => number): Entry {
    assertName(name);
    const parentFd = this.#nodes.fd(parent);
    check(this.#callers.run(request, () => call(parentFd)));
    return this.#nodes.made(parentFd, name);
  }

  /** The answer to create and tmpfile for a descriptor that was just opened; closes it when there is none. */
  #created(fd: number, request: CreateRequest): CreateReply {
    return this.#guard(fd, () => {
      const open = this.#opened(fd, request);
      // By its link, not by its name, which may be another file's by now.
      const entry = this.#nodes.adopt(check(this.#host.reopen(fd, O_PATH)));
      const isFile = (entry.attributes.mode & S_IFMT) === S_IFREG;
      if (isFile) return { entry, open: this.#offer(open, this.#nodes.fd(entry.node as NodeId)) };
      this.#nodes.forget(entry.node as NodeId, 1);
      throw FuseError.of(ESTALE);
    });
  }

  #opened(fd: number, request: OpenRequest): OpenReply {
    const handle = this.#files.add(fd);
    // Past the page cache, each read asks the host. A caller with O_DIRECT goes past it anyway, and without
    // FOPEN_DIRECT_IO its large reads and writes come as many requests at a time rather than one after the other.
    const directIo = this.#cache === 'none' && (request.flags & O_DIRECT) === 0;
    return { handle, directIo, parallelDirectWrites: directIo || this.#backing, keepCache: this.#cache === 'always' };
  }

  /**
   * Lets the kernel read and write the file itself. By the node's descriptor, which is no more than a path: of an open file the
   * kernel's reference would keep flock locks and the access for writing, however many others have closed it.
   */
  #offer(open: OpenReply, nodeFd: number): OpenReply {
    if (this.#backing) open.backing = nodeFd;
    return open;
  }

  /** Opens without touching access times, where that was asked for. The host lets only root and the file's owner do so. */
  #quietly(flags: number, open: (flags: number) => number): number {
    if (!this.#noAccessTimes) return open(flags);
    const fd = open(flags | O_NOATIME);
    return fd === -EPERM ? open(flags) : fd;
  }

  /** Makes an answer with a descriptor that was just opened; without an answer, it is closed again. */
  #guard<T>(fd: number, call: () => T): T {
    try {
      return call();
    } catch (error) {
      this.#files.drop(fd);
      this.#addon.close(fd);
      throw error;
    }
  }
}
