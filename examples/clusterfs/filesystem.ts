/**
 * clusterfs as the kernel sees it: one mount of one volume.
 *
 * The rules that everything here follows:
 * - The servers have the truth about names, attributes and locks: each operation is one call of a function there.
 * - What a program writes lies here until fsync, close, a lock given back, or a second have passed; then it is published.
 * - The kernel may believe for long what it was told, because this mount is told of every change that others make, and tells the
 *   kernel. While it hears nothing, the kernel is told to believe nothing.
 * - An answer that may be older than a change that was heard meanwhile is good for this once only.
 * - Who may do what is checked by the kernel (`default_permissions`).
 */
import type {
  AttributesReply,
  CreateReply,
  CreateRequest,
  DirectoryReply,
  Entry,
  FallocateRequest,
  FileLock,
  Filesystem,
  FilesystemSettings,
  FlushRequest,
  FsyncRequest,
  GetattrRequest,
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
  Timespec,
  TmpfileRequest,
  WriteRequest,
  XattrRequest,
} from 'fusewire';
import { Collector } from './collector.ts';
import type { Content } from './data/content.ts';
import { Listing } from './directory.ts';
import { ClusterfsError } from './errors.ts';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  FATTR_CTIME,
  fail,
  O_EXCL,
  O_NOATIME,
  O_TRUNC,
  PERMISSION_BITS,
  RENAME_EXCHANGE,
  RENAME_FLAGS,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  SEEK_DATA,
} from './linux.ts';
import { Locks } from './locks.ts';
import { attributesOf, decodeInode, encodeTime, type Inode } from './meta/attributes.ts';
import { type Change, Events } from './meta/events.ts';
import { type Meta, Refusal } from './meta/meta.ts';
import { Session } from './meta/session.ts';
import { type Node, Nodes } from './nodes.ts';
import { completeOptions, type Limits, type MountOptions } from './options.ts';
import type { Argument, Reply } from './redis/connection.ts';
import type { S3Options } from './store/s3.ts';
import { type Stores, storesOf } from './stores.ts';
import { now } from './time.ts';
import { type Volume, volumeStatus } from './volume.ts';

export interface ClusterFilesystemOptions extends MountOptions {
  /** For volumes whose blocks are kept by an S3-compatible service. */
  readonly s3?: S3Options;
  /** What `clusterfs status` shows of this mount, beside host and process. */
  readonly info?: Readonly<Record<string, unknown>>;
  /** Told of everything that went wrong without a caller who hears of it. `error.code` is stable. Default: nobody. */
  readonly onFault?: (error: Error) => void;
}

const NAMESPACES = ['user.', 'trusted.', 'security.'];
const ACLS = ['system.posix_acl_access', 'system.posix_acl_default'];
const STATFS_MS = 1000;
/** What statfs shows where nothing limits the cluster's memory. */
const UNLIMITED_BYTES = 2 ** 50;
const INODES_MAX = 2 ** 48;
const DAY_SECONDS = 86_400;

export class ClusterFilesystem implements Filesystem {
  readonly settings: FilesystemSettings = {
    // Names are bytes to Linux, so they pass as bytes: one character each.
    nameEncoding: 'binary',
    cache: 'shared',
    capabilities: [
      'FUSE_ATOMIC_O_TRUNC',
      'FUSE_HANDLE_KILLPRIV_V2',
      'FUSE_CACHE_SYMLINKS',
      'FUSE_POSIX_ACL',
      'FUSE_DONT_MASK',
      'FUSE_EXPLICIT_INVAL_DATA',
    ],
  };
  readonly #volume: Volume;
  readonly #meta: Meta;
  readonly #limits: Limits;
  readonly #options: ClusterFilesystemOptions;
  readonly #stores: Stores;
  readonly #nodes: Nodes;
  readonly #locks: Locks;
  readonly #listings = new Map<number, Listing>();
  readonly #handles = new Set<number>();
  #lastHandle = 0;
  #session: Session | undefined;
  #events: Events | undefined;
  #collector: Collector | undefined;
  #kernel: Kernel | undefined;
  #epochs = false;
  /** Counts what others changed, and what this mount did. */
  #foreign = 0;
  #own = 0;
  readonly #read = new Set<Node>();
  #closing: Node[] = [];
  /** Settles when those in {@link #closing} have been told of. */
  #closingDone: Promise<void> | undefined;
  #closed: Promise<void> = Promise.resolve();
  #resting: NodeJS.Timeout | undefined;
  #statfs: { at: number; answer: Promise<StatfsInit> } | undefined;

  private constructor(volume: Volume, options: ClusterFilesystemOptions) {
    const { s3: _s3, info: _info, onFault: _onFault, ...limits } = options;
    this.#volume = volume;
    this.#meta = volume.meta;
    this.#options = options;
    this.#limits = completeOptions(limits);
    this.#stores = storesOf(volume, this.#limits, options.s3, (blocks) => {
      for (const { owner } of blocks) {
        const error = new ClusterfsError('ERR_CLUSTERFS_LOST', `a block of file ${owner}`);
        this.#nodes.find(owner)?.content?.fail(error);
        this.#fault(error);
      }
    });
    this.#nodes = new Nodes(this.#stores.context);
    this.#locks = new Locks(this.#meta);
  }

  /** Begins a session. The volume is the filesystem's from now on: its cluster is closed with it. */
  static async open(volume: Volume, options: ClusterFilesystemOptions = {}): Promise<ClusterFilesystem> {
    const filesystem = new ClusterFilesystem(volume, options);
    try {
      await filesystem.#begin();
    } catch (error) {
      await filesystem.destroy();
      throw error;
    }
    return filesystem;
  }

  async #begin(): Promise<void> {
    const { leaseMs, restMs, collectMs, graceMs } = this.#limits;
    this.#session = await Session.begin(this.#meta, {
      leaseMs,
      ...(this.#options.info === undefined ? {} : { info: this.#options.info }),
      onRenewed: () => this.#renewed(),
      onFault: (error) => this.#fault(error),
    });
    this.#events = await Events.begin(this.#meta, {
      onChanges: (changes) => this.#heard(changes),
      onSilence: () => this.#doubt(),
      onRestored: () => this.#doubt(),
    });
    if (collectMs > 0) {
      this.#collector = new Collector(this.#meta, this.#stores.store, {
        graceMs,
        everyMs: collectMs,
        onFault: (error) => this.#fault(error),
      });
    }
    this.#resting = setInterval(() => void this.#publishRested(), restMs);
    this.#resting.unref();
  }

  init(negotiated: Negotiated, kernel: Kernel): void {
    this.#kernel = kernel;
    this.#epochs = negotiated.minor >= 44;
  }

  /** Publishes what is left and ends the session. */
  async destroy(): Promise<void> {
    clearInterval(this.#resting);
    this.#kernel = undefined;
    this.#events?.end();
    // A cluster that is gone costs its time limit once, and not for each thing that is to be done.
    const reached = await this.#meta.read('volume', []).then(
      () => true,
      (error) => this.#fault(error),
    );
    if (reached) await this.#finish();
    else this.#session?.abandon();
    const left = [...this.#nodes].filter((node) => node.content?.dirty);
    for (const { ino } of left)
      this.#fault(new ClusterfsError('ERR_CLUSTERFS_LOST', `what was written to file ${ino} is not published`));
    this.#stores.store.close();
    this.#volume.cluster.close();
  }

  async #finish(): Promise<void> {
    await this.#closed;
    await this.#sendAccessed();
    const dirty = [...this.#nodes].filter((node) => node.content?.dirty);
    await Promise.all(dirty.map((node) => node.content?.publish().catch((error) => this.#fault(error))));
    await this.#collector?.end();
    await this.#session?.end().catch((error) => this.#fault(error));
  }

  // --- names -----------------------------------------------------------------------------------------------------------

  async lookup(parent: NodeId, name: string, request: Request): Promise<Entry | NegativeEntry> {
    const since = this.#foreign;
    this.#assertThere(parent);
    try {
      const [inode] = await this.#meta.read('lookup', [String(parent), bytes(name)], request.signal);
      return this.#entry(decodeInode(inode), since);
    } catch (error) {
      if ((error as { code?: string }).code !== 'ENOENT') throw error;
      return { node: 0, entryTtl: this.#ttl(since) };
    }
  }

  forget(ino: NodeId, count: number): void {
    const node = this.#nodes.find(ino);
    if (node === undefined) return;
    node.lookups -= count;
    this.#nodes.settle(node);
  }

  async mknod(parent: NodeId, name: string, request: MknodRequest): Promise<Entry> {
    return (await this.#make(parent, name, request.mode, request, { rdev: request.rdev })).entry;
  }

  async mkdir(parent: NodeId, name: string, request: MkdirRequest): Promise<Entry> {
    return (await this.#make(parent, name, S_IFDIR | (request.mode & PERMISSION_BITS), request)).entry;
  }

  async symlink(parent: NodeId, name: string, target: string, request: Request): Promise<Entry> {
    return (await this.#make(parent, name, S_IFLNK | 0o777, request, { target })).entry;
  }

  async readlink(node: NodeId, request: Request): Promise<string> {
    const [target] = await this.#meta.read('readlink', [String(node)], request.signal);
    return (target as Buffer).toString('latin1');
  }

  async link(node: NodeId, request: LinkRequest): Promise<Entry> {
    const { newParent, newName } = request;
    this.#assertThere(newParent);
    const since = this.#foreign;
    const mark = this.#nodes.find(newParent)?.stamp;
    const [inode, folder] = await this.#meta.change('link', [String(node), String(newParent), bytes(newName), stamp()]);
    this.#namesChanged(decodeInode(folder), mark, newName);
    return this.#entry(decodeInode(inode), since);
  }

  async unlink(parent: NodeId, name: string, _request: Request): Promise<void> {
    await this.#remove('unlink', parent, name);
  }

  async rmdir(parent: NodeId, name: string, _request: Request): Promise<void> {
    await this.#remove('rmdir', parent, name);
  }

  async rename(parent: NodeId, name: string, request: RenameRequest): Promise<void> {
    const { newParent, newName, flags, uid, gid } = request;
    if ((flags & ~RENAME_FLAGS) !== 0 || ((flags & RENAME_EXCHANGE) !== 0 && flags !== RENAME_EXCHANGE)) fail('EINVAL');
    this.#assertThere(parent);
    this.#assertThere(newParent);
    const words: Argument[] = [String(parent), bytes(name), String(newParent), bytes(newName), String(flags), stamp()];
    const marks = [parent, newParent].map((directory) => this.#nodes.find(directory)?.stamp);
    const reply = await this.#meta.change('rename', [...words, String(uid), String(gid)]);
    const [inode, victim, gone, from, to] = reply;
    this.#namesChanged(decodeInode(from), marks[0], name);
    this.#namesChanged(decodeInode(to), marks[1], newName);
    if (flags === RENAME_EXCHANGE) this.#nodesDoubted();
    this.#learn(decodeInode(inode));
    if (victim !== null) this.#unlinked(decodeInode(victim), gone);
  }

  // --- attributes ------------------------------------------------------------------------------------------------------

  async getattr(ino: NodeId, request: GetattrRequest): Promise<AttributesReply> {
    const since = this.#foreign;
    return this.#attributes(await this.#fresh(this.#nodes.get(ino), request.signal), since);
  }

  statx(ino: NodeId, request: StatxRequest): Promise<AttributesReply> {
    return this.getattr(ino, request);
  }

  async setattr(ino: NodeId, request: SetattrRequest): Promise<AttributesReply> {
    const { mode, newUid, newGid, size, atime, mtime, ctime, killSuidGid, valid, handle, signal } = request;
    const node = this.#nodes.get(ino);
    this.#assertLocks(node);
    const others = [mode, newUid, newGid, atime, mtime].some((part) => part !== undefined);
    // What was written before has its own time and place; what is cut off anyway need not be published.
    if (size === 0) await node.content?.discard();
    else if (node.content?.dirty) await node.content.publish();
    const inode = await this.#fresh(node, signal);
    const directory = (inode.mode & S_IFMT) === S_IFDIR;
    // truncate(2) to the size that a file has changes nothing, ftruncate(2) its times.
    const resized = size !== undefined && (size !== inode.size || handle !== undefined);
    const kill = killSuidGid || ((valid & ~FATTR_CTIME) === 0 && !directory);
    const touched = resized ? 'm' : size === undefined || others ? 'c' : '';
    const when = now();
    const words: Argument[] = [String(ino), encodeTime(when), kill ? '1' : '0', touched];
    const put = (field: string, value: string | number | undefined) => {
      if (value !== undefined) words.push(field, String(value));
    };
    put('size', size);
    put('uid', newUid);
    put('gid', newGid);
    put('mode', mode);
    if (atime !== undefined) put('atime', encodeTime(atime === 'now' ? when : atime));
    if (mtime !== undefined) put('mtime', encodeTime(mtime === 'now' ? when : mtime));
    if (ctime !== undefined) put('ctime', encodeTime(ctime));
    const since = this.#foreign;
    if (node.ghost) return this.#attributes(inode, since);
    // What was read before is older than what is set now.
    if (atime !== undefined) node.atime = undefined;
    if (atime !== undefined) this.#read.delete(node);
    const mark = node.stamp;
    const [after] = await this.#meta.change('setattr', words);
    const changed = decodeInode(after);
    if (size !== undefined) node.content?.changedByKernel(changed);
    this.#learn(changed, mark);
    return this.#attributes(changed, since);
  }

  statfs(_node: NodeId, _request: Request): Promise<StatfsInit> {
    const at = performance.now();
    if (this.#statfs === undefined || at - this.#statfs.at > STATFS_MS) this.#statfs = { at, answer: this.#space() };
    return this.#statfs.answer;
  }

  async #space(): Promise<StatfsInit> {
    const [status, space] = await Promise.all([volumeStatus(this.#volume), this.#stores.store.space()]);
    const bsize = 4096;
    const total = space?.total ?? UNLIMITED_BYTES;
    const free = space?.free ?? total - status.bytes;
    const inodes = INODES_MAX;
    return {
      bsize,
      blocks: Math.floor(total / bsize),
      bfree: Math.floor(free / bsize),
      files: inodes,
      ffree: inodes - status.inodes,
    };
  }

  // --- open files ------------------------------------------------------------------------------------------------------

  async open(ino: NodeId, request: OpenRequest): Promise<OpenReply> {
    const node = this.#nodes.get(ino);
    const truncate = (request.flags & O_TRUNC) !== 0;
    if (truncate) await node.content?.discard();
    node.opens++;
    try {
      // Whoever has it open already is told of every change: nothing has to be asked.
      if (truncate || node.opens === 1 || node.inode === undefined || !this.#events?.live) {
        await node.closing;
        const mark = node.stamp;
        const words = [String(ino), truncate ? '1' : '0', request.killSuidGid ? '1' : '0', stamp()];
        const [inode] = await this.#meta.change('open', words);
        const opened = decodeInode(inode);
        if (truncate) this.#nodes.content(node).changedByKernel(opened);
        this.#learn(opened, mark);
        return this.#opened(node, opened);
      }
      return this.#opened(node, node.inode);
    } catch (error) {
      node.opens--;
      this.#nodes.settle(node);
      throw error;
    }
  }

  async create(parent: NodeId, name: string, request: CreateRequest): Promise<CreateReply> {
    const since = this.#foreign;
    try {
      const mode = S_IFREG | (request.mode & PERMISSION_BITS);
      const { entry, node, inode } = await this.#make(parent, name, mode, request, { open: true });
      node.opens++;
      return { entry, open: this.#opened(node, inode) };
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'EEXIST' || (request.flags & O_EXCL) !== 0) throw error;
      // Another mount was first.
      const [reply] = await this.#meta.read('lookup', [String(parent), bytes(name)]);
      const inode = decodeInode(reply);
      if ((inode.mode & S_IFMT) !== S_IFREG) fail((inode.mode & S_IFMT) === S_IFDIR ? 'EISDIR' : 'ESTALE');
      const open = await this.open(inode.ino as NodeId, request);
      const opened = this.#nodes.find(inode.ino)?.inode ?? inode;
      return { entry: this.#entry(opened, since), open };
    }
  }

  async tmpfile(parent: NodeId, request: TmpfileRequest): Promise<CreateReply> {
    const since = this.#foreign;
    const mode = S_IFREG | (request.mode & PERMISSION_BITS);
    const [reply] = await this.#meta.change('tmpfile', [String(parent), ...asked(mode, request)]);
    const inode = decodeInode(reply);
    const entry = this.#entry(inode, since);
    const node = this.#nodes.get(inode.ino);
    node.opens++;
    return { entry, open: this.#opened(node, inode) };
  }

  async flush(ino: NodeId, request: FlushRequest): Promise<void> {
    const { lockOwner } = request;
    const node = this.#nodes.get(ino);
    try {
      this.#assertLocks(node);
      await this.#publish(node);
    } finally {
      await this.#locks.closed(node, lockOwner);
    }
  }

  async fsync(ino: NodeId, _request: FsyncRequest): Promise<void> {
    const node = this.#nodes.get(ino);
    this.#assertLocks(node);
    await this.#told(this.#nodes.content(node).publish({ durable: true }));
  }

  /** What was done in a directory is in the server's memory already; this waits until replicas have it too. */
  async fsyncdir(ino: NodeId, _request: FsyncRequest): Promise<void> {
    const { replicas, waitMs } = this.#limits;
    if (this.#nodes.find(ino)?.ghost) return;
    await this.#told(this.#meta.change('sync', [String(ino), '0'], { durability: { replicas, waitMs } }));
  }

  async release(ino: NodeId, request: ReleaseRequest): Promise<void> {
    const { handle } = request;
    const node = this.#nodes.get(ino);
    if (!this.#handles.delete(handle)) fail('EBADF');
    try {
      await this.#locks.released(node, handle);
    } finally {
      if (--node.opens === 0) this.#letGo(node);
    }
  }

  async read(ino: NodeId, request: ReadRequest): Promise<readonly Uint8Array[]> {
    const { offset, size, flags, signal } = request;
    const node = this.#nodes.get(ino);
    this.#assertLocks(node);
    const pieces = await this.#told(this.#nodes.content(node).read(offset, size, signal));
    if ((flags & O_NOATIME) === 0) this.#accessed(node);
    return pieces;
  }

  write(ino: NodeId, data: Uint8Array, request: WriteRequest): number | Promise<number> {
    const node = this.#nodes.get(ino);
    this.#assertLocks(node);
    const content = this.#nodes.content(node);
    content.write(request.offset, data, now(), request.killSuidGid);
    this.#own++;
    const { dirtyBytes, publishBytes } = this.#limits;
    if (this.#stores.gate.dirtyBytes > dirtyBytes) return this.#writeThrough(content, data.byteLength);
    if (content.pending > publishBytes && !content.publishing) content.publishFull().catch((error) => this.#fault(error));
    return data.byteLength;
  }

  async #writeThrough(content: Content, length: number): Promise<number> {
    await this.#told(content.publish());
    return length;
  }

  async fallocate(ino: NodeId, request: FallocateRequest): Promise<void> {
    const { offset, length, mode } = request;
    const node = this.#nodes.get(ino);
    const content = this.#nodes.content(node);
    const keepSize = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
    const kind = mode & ~FALLOC_FL_KEEP_SIZE;
    if (![0, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE].includes(kind)) fail('EOPNOTSUPP');
    if (kind === FALLOC_FL_PUNCH_HOLE && !keepSize) fail('EOPNOTSUPP');
    const before = content.seen(await this.#fresh(node, request.signal));
    const end = offset + length;
    const when = now();
    if (kind !== 0) content.punch(offset, Math.min(end, Math.max(before.size, 0)), when);
    await this.#told(content.publish());
    // Space cannot be set aside in a cluster: there is only the size to keep.
    const grows = !keepSize && end > before.size;
    const words: Argument[] = [String(ino), encodeTime(when), '0', 'm', ...(grows ? ['size', String(end)] : [])];
    const mark = node.stamp;
    const [inode] = await this.#meta.change('setattr', words);
    content.changedByKernel(decodeInode(inode));
    this.#learn(decodeInode(inode), mark);
  }

  async lseek(ino: NodeId, request: LseekRequest): Promise<number> {
    const { offset, whence } = request;
    const node = this.#nodes.get(ino);
    await this.#publish(node);
    const extents = await this.#nodes.content(node).extents();
    const { size } = await this.#fresh(node, request.signal);
    if (offset >= size) fail('ENXIO');
    if (whence === SEEK_DATA) {
      const next = extents.find(([, end]) => end > offset);
      if (next === undefined || next[0] >= size) fail('ENXIO');
      return Math.max(offset, next[0]);
    }
    let at = offset;
    for (const [start, end] of extents) if (start <= at && at < end) at = end;
    return Math.min(at, size);
  }

  // --- locks -----------------------------------------------------------------------------------------------------------

  async getlk(ino: NodeId, request: LockRequest): Promise<FileLock | undefined> {
    return await this.#locks.find(this.#nodes.get(ino), request);
  }

  async setlk(ino: NodeId, request: LockRequest): Promise<void> {
    const node = this.#nodes.get(ino);
    if (request.type === 'unlock') {
      // Whoever has the lock next reads what was written under it.
      if (node.content?.dirty) await this.#publish(node);
      await this.#locks.release(node, request);
      return;
    }
    this.#assertLocks(node);
    const known = node.content?.rev ?? node.inode?.rev ?? -1;
    const mark = node.stamp;
    const inode = await this.#locks.take(node, request);
    if (inode.rev > known && mark === node.stamp && node.inode?.rev !== inode.rev) {
      // The lock was faster than the news of what was written under it.
      node.changed();
      node.told = this.#kernel?.changed(ino).catch(() => {});
    }
    await node.told;
  }

  // --- directories -----------------------------------------------------------------------------------------------------

  opendir(node: NodeId, _request: OpenRequest): OpenReply {
    const handle = this.#handle();
    this.#listings.set(handle, new Listing(this.#meta, node));
    return { handle };
  }

  async readdir(ino: NodeId, request: ReaddirRequest, reply: DirectoryReply): Promise<void> {
    await this.#list(ino, request, reply);
  }

  async readdirplus(ino: NodeId, request: ReaddirRequest, reply: DirectoryReply): Promise<void> {
    const since = this.#foreign;
    await this.#list(ino, request, reply, (inode) => this.#entry(inode, since));
  }

  async #list(ino: NodeId, request: ReaddirRequest, reply: DirectoryReply, entry?: (inode: Inode) => Entry): Promise<void> {
    const listing = this.#listings.get(request.handle) ?? fail('EBADF');
    const node = this.#nodes.get(ino);
    if (node.ghost) return;
    await listing.fill(node, request, reply, () => this.#foreign + this.#own, entry);
    this.#accessed(node);
  }

  releasedir(_node: NodeId, request: ReleaseRequest): void {
    this.#listings.delete(request.handle);
    if (!this.#handles.delete(request.handle)) fail('EBADF');
  }

  // --- extended attributes ---------------------------------------------------------------------------------------------

  async setxattr(ino: NodeId, name: string, value: Uint8Array, request: SetxattrRequest): Promise<void> {
    assertNamespace(name);
    const copy = Buffer.from(value);
    const words: Argument[] = [String(ino), bytes(name), copy, String(request.flags), request.aclKillSgid ? '1' : '0'];
    const mark = this.#nodes.get(ino).stamp;
    const [inode] = await this.#meta.change('setxattr', [...words, String(this.#limits.xattrBytes), stamp()]);
    this.#learn(decodeInode(inode), mark);
  }

  async getxattr(ino: NodeId, name: string, request: XattrRequest): Promise<Uint8Array> {
    assertNamespace(name);
    if (this.#nodes.find(ino)?.ghost) fail('ENODATA');
    const [value] = await this.#meta.read('getxattr', [String(ino), bytes(name)], request.signal);
    return value as Buffer;
  }

  /** Attributes of the trusted namespace are not even mentioned to others than root. */
  async listxattr(ino: NodeId, request: XattrRequest): Promise<readonly string[]> {
    const { uid } = request;
    if (this.#nodes.find(ino)?.ghost) return [];
    const [names] = await this.#meta.read('listxattr', [String(ino)], request.signal);
    const all = (names as readonly Buffer[]).map((name) => name.toString('latin1'));
    return all.filter((name) => uid === 0 || !name.startsWith('trusted.'));
  }

  async removexattr(ino: NodeId, name: string, _request: Request): Promise<void> {
    assertNamespace(name);
    const mark = this.#nodes.get(ino).stamp;
    const [inode] = await this.#meta.change('removexattr', [String(ino), bytes(name), stamp()]);
    this.#learn(decodeInode(inode), mark);
  }

  // --- what tests ask --------------------------------------------------------------------------------------------------

  /** How often the kernel was told of each node and has not forgotten it: the simulated kernel compares it with its own books. */
  *lookupCounts(): Generator<readonly [node: number, count: number]> {
    for (const { ino, lookups } of this.#nodes) if (ino !== 1) yield [ino, lookups];
  }

  /** Handles of all openings that were not released. */
  openHandles(): Iterable<number> {
    return this.#handles.values();
  }

  // --- what the handlers share -----------------------------------------------------------------------------------------

  #fault(error: Error): void {
    this.#options.onFault?.(error);
  }

  /** A failure of the storage reaches its caller as an errno alone, so it is told here what it was. */
  async #told<T>(operation: Promise<T>): Promise<T> {
    try {
      return await operation;
    } catch (error) {
      if (error instanceof ClusterfsError) this.#fault(error);
      throw error;
    }
  }

  /** Seconds for which an answer may be believed that was asked for when so many changes had been heard. */
  #ttl(since: number): number {
    return this.#events?.live && this.#epochs && since === this.#foreign ? this.#limits.ttlSeconds : 0;
  }

  /** The answer that makes the kernel know a node: counted until it is forgotten. */
  #entry(inode: Inode, since: number): Entry {
    const node = this.#nodes.learn(inode, since === this.#foreign ? undefined : -1);
    node.lookups++;
    const ttl = this.#ttl(since);
    return { node: inode.ino, attributes: this.#shown(node, inode), entryTtl: ttl, attributeTtl: ttl };
  }

  #attributes(inode: Inode, since: number): AttributesReply {
    const node = this.#nodes.get(inode.ino);
    return { attributes: this.#shown(node, inode), attributeTtl: this.#ttl(since) };
  }

  #shown(node: Node, inode: Inode) {
    const seen = node.content?.seen(inode) ?? inode;
    return attributesOf(node.atime === undefined ? seen : { ...seen, atime: node.atime });
  }

  /** As with relatime, the time of a read counts when the last one is older than the last change, or than a day. */
  #accessed(node: Node): void {
    const { inode } = node;
    if (inode === undefined || node.ghost || node.atime !== undefined) return;
    const when = now();
    const { atime, mtime, ctime } = node.content?.seen(inode) ?? inode;
    if (isLater(atime, mtime) && isLater(atime, ctime) && when.seconds - atime.seconds < DAY_SECONDS) return;
    node.atime = when;
    this.#read.add(node);
  }

  /** Tells the server of reads, many at once. */
  async #sendAccessed(): Promise<void> {
    const nodes = [...this.#read];
    this.#read.clear();
    if (nodes.length === 0) return;
    const times = nodes.map(({ atime }) => atime);
    try {
      await this.#meta.change(
        'accessed',
        nodes.flatMap(({ ino, atime }) => [String(ino), encodeTime(atime as Timespec)]),
      );
    } catch (error) {
      this.#fault(error as Error);
    }
    for (const [nth, node] of nodes.entries()) {
      if (node.inode !== undefined && node.atime !== undefined) node.inode = { ...node.inode, atime: node.atime };
      if (node.atime === times[nth]) node.atime = undefined;
      this.#nodes.settle(node);
    }
  }

  /** What a file is now: as remembered, while every change is heard of; else as the server says. */
  async #fresh(node: Node, signal?: AbortSignal): Promise<Inode> {
    if (node.inode !== undefined && (this.#events?.live || node.ghost)) return node.inode;
    for (;;) {
      const mark = node.stamp;
      const [reply] = await this.#meta.read('getattr', [String(node.ino)], signal);
      const inode = decodeInode(reply);
      this.#nodes.learn(inode, mark);
      if (mark === node.stamp) return node.inode ?? inode;
    }
  }

  #learn(inode: Inode, mark?: number): void {
    this.#own++;
    this.#nodes.learn(inode, mark);
  }

  #opened(node: Node, inode: Inode): OpenReply {
    return { handle: this.#handle(), keepCache: this.#nodes.content(node).kernelKeeps(inode.rev) };
  }

  #handle(): number {
    this.#handles.add(++this.#lastHandle);
    return this.#lastHandle;
  }

  /** The server hears soon, with others, that this session has a file open no more. */
  #letGo(node: Node): void {
    node.locksLost = false;
    this.#closing.push(node);
    this.#closingDone ??= new Promise((resolve) => setImmediate(resolve)).then(() => this.#sendClosing());
    node.closing = this.#closingDone;
    this.#closed = this.#closingDone;
  }

  async #sendClosing(): Promise<void> {
    this.#closingDone = undefined;
    const nodes = this.#closing.splice(0);
    // One that was opened again meanwhile waits for this, and then says so.
    try {
      for (const node of nodes) {
        if (node.content?.dirty && node.opens === 0) await node.content.publish().catch((error) => this.#fault(error));
      }
      await this.#meta.change(
        'close',
        nodes.map(({ ino }) => String(ino)),
      );
    } catch (error) {
      this.#fault(error as Error);
    } finally {
      for (const node of nodes) {
        node.closing = undefined;
        this.#nodes.settle(node);
      }
    }
  }

  async #make(
    parent: NodeId,
    name: string,
    mode: number,
    request: MakeRequest,
    more: { rdev?: number; target?: string; open?: boolean } = {},
  ): Promise<{ entry: Entry; node: Node; inode: Inode }> {
    this.#assertThere(parent);
    const since = this.#foreign;
    const words = [String(parent), bytes(name), ...asked(mode, request, more.rdev, more.target), more.open ? 'open' : ''];
    for (const { name: label, value } of request.securityContexts()) words.push(label, Buffer.from(value));
    const mark = this.#nodes.find(parent)?.stamp;
    const [reply, folder] = await this.#meta.change('make', words);
    const inode = decodeInode(reply);
    this.#namesChanged(decodeInode(folder), mark, name);
    const entry = this.#entry(inode, since);
    return { entry, node: this.#nodes.get(inode.ino), inode };
  }

  async #remove(operation: 'unlink' | 'rmdir', parent: NodeId, name: string): Promise<void> {
    this.#assertThere(parent);
    const mark = this.#nodes.find(parent)?.stamp;
    const [folder, inode, gone] = await this.#meta.change(operation, [String(parent), bytes(name), stamp()]);
    this.#namesChanged(decodeInode(folder), mark, name);
    if (inode !== null) this.#unlinked(decodeInode(inode), gone);
  }

  /** A name of a file went, and the file with it if `gone` says so; the kernel may still ask for it. */
  #unlinked(inode: Inode, gone: Reply): void {
    const node = this.#nodes.find(inode.ino);
    if (node === undefined) return;
    this.#learn(inode);
    if (String(gone) === '1') {
      void node.content?.discard();
      node.inode = { ...inode, nlink: 0 };
      node.ghost = true;
    }
  }

  /** This mount changed a name in a directory, which is now so; `mark` is the node's stamp from before. */
  #namesChanged(folder: Inode, mark: number | undefined, name: string): void {
    this.#own++;
    const node = this.#nodes.find(folder.ino);
    if (node === undefined) return;
    if (mark === node.stamp && !node.ghost) node.inode = folder;
    for (const listing of this.#listings.values()) if (listing.ino === folder.ino) listing.distrust(name);
  }

  /** What an exchange moved is not all in its answer. */
  #nodesDoubted(): void {
    for (const node of this.#nodes) if (!node.ghost) node.inode = undefined;
  }

  /** A removed directory takes no names and has none. */
  #assertThere(directory: number): void {
    if (this.#nodes.find(directory)?.ghost) fail('ENOENT');
  }

  #assertLocks(node: Node): void {
    if (node.locksLost) fail('EIO');
  }

  async #publish(node: Node): Promise<void> {
    if (node.content?.dirty) await this.#told(node.content.publish());
  }

  async #publishRested(): Promise<void> {
    void this.#sendAccessed();
    for (const node of [...this.#nodes]) {
      if (!node.content?.dirty || node.content.publishing) continue;
      node.content
        .publish()
        .catch((error) => this.#fault(error))
        .finally(() => this.#nodes.settle(node));
    }
  }

  // --- what others do --------------------------------------------------------------------------------------------------

  #heard(changes: readonly Change[]): void {
    this.#foreign++;
    const kernel = this.#kernel;
    for (const change of changes) {
      if (change.kind === 'lock') {
        this.#locks.freed(change.ino);
      } else if (change.kind === 'name') {
        const node = this.#nodes.find(change.parent);
        if (node === undefined) continue;
        node.namesStamp++;
        node.changed();
        kernel?.added(change.parent, change.name).catch(() => {});
      } else {
        const node = this.#nodes.find(change.ino);
        if (node === undefined) continue;
        node.changed();
        const told = change.kind === 'contents' ? kernel?.changed(change.ino) : kernel?.invalidateAttributes(change.ino);
        node.told = told?.catch(() => {});
      }
    }
  }

  /** Something may have been missed: nothing that is remembered counts any more, here or in the kernel. */
  #doubt(): void {
    this.#foreign++;
    this.#kernel?.expireAll().catch(() => {});
    for (const node of this.#nodes) {
      if (node.ghost) continue;
      node.namesStamp++;
      node.changed();
      this.#locks.freed(node.ino);
      this.#kernel?.changed(node.ino).catch(() => {});
    }
  }

  /** Another session took the place of one that was lost: what is open is opened again, locks cannot be had back. */
  async #renewed(): Promise<void> {
    this.#fault(new ClusterfsError('ERR_CLUSTERFS_SESSION_LOST'));
    const open = [...this.#nodes].filter((node) => node.opens > 0 && !node.ghost);
    for (const node of this.#nodes) {
      if (node.locks === undefined) continue;
      node.locks = undefined;
      node.locksLost = node.opens > 0;
    }
    this.#doubt();
    await Promise.all(
      open.map((node) => this.#meta.change('open', [String(node.ino), '0', '0', stamp()]).catch((error) => this.#fault(error))),
    );
  }
}

/** What making a file needs to know; a symbolic link has no umask. */
type MakeRequest = Request & { readonly umask?: number };

function isLater(one: Timespec, other: Timespec): boolean {
  return one.seconds > other.seconds || (one.seconds === other.seconds && one.nanoseconds > other.nanoseconds);
}

function bytes(name: string): Buffer {
  return Buffer.from(name, 'latin1');
}

function stamp(): string {
  return encodeTime(now());
}

const S_ISGID = 0o2000;

/** mode, uid, gid, groups, umask, rdev, now, target. */
function asked(mode: number, request: MakeRequest, rdev = 0, target = ''): Argument[] {
  const { uid, gid } = request;
  // Only asked for where it matters: it may have to be looked up.
  const groups = (mode & S_ISGID) !== 0 ? request.groups().join(' ') : '';
  return [String(mode), String(uid), String(gid), groups, String(request.umask ?? 0), String(rdev), stamp(), bytes(target)];
}

function assertNamespace(name: string): void {
  if (ACLS.includes(name)) return;
  if (!NAMESPACES.some((prefix) => name.startsWith(prefix) && name.length > prefix.length)) fail('EOPNOTSUPP');
}
