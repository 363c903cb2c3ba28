/**
 * A complete POSIX filesystem in memory: what tmpfs is, in TypeScript.
 *
 *     fusewire mount dist/examples/memory/filesystem.js /mnt -o allow_other,default_permissions -- size=1g inodes=100000
 *
 * The rules that everything here follows:
 * - The files are JavaScript objects, so one thread serves them: a mount with more workers is refused. When that thread
 *   ends the files are gone.
 * - Who may do what is checked by the kernel (`default_permissions`); handlers only decide what a new file belongs to.
 * - Nobody but the kernel changes anything, so it may believe for ever what it was told, and keep the contents it has read.
 * - Handlers are synchronous. Only who waits for a lock gets a promise.
 * - An opening has no state of its own: its handle only tells which locks end with it.
 *
 * Left out: inode flags (chattr), quotas, and the access times of reads that the kernel answers from its cache.
 */
import {
  type AttributesReply,
  type CopyFileRangeRequest,
  type CreateReply,
  type CreateRequest,
  type DirectoryReply,
  type Entry,
  type FallocateRequest,
  type FileLock,
  type Filesystem,
  type FilesystemSettings,
  type FlushRequest,
  type GetattrRequest,
  type LinkRequest,
  type LockRequest,
  type LseekRequest,
  type MkdirRequest,
  type MknodRequest,
  type NegativeEntry,
  type Negotiated,
  type NodeId,
  type OpenReply,
  type OpenRequest,
  type ReaddirRequest,
  type ReadRequest,
  type ReleaseRequest,
  type RenameRequest,
  type Request,
  ROOT_NODE,
  type SetattrRequest,
  type SetxattrRequest,
  type StatfsInit,
  type StatxRequest,
  type TmpfileRequest,
  type WorkerContext,
  type WriteRequest,
  type XattrRequest,
} from 'fusewire';
import * as acl from './acl.ts';
import { Directory, DOT, DOT_DOT, type Name } from './directory.ts';
import { Inode } from './inode.ts';
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
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_ISGID,
  S_IXGRP,
  SEEK_DATA,
} from './linux.ts';
import { FileLocks, Waiters } from './locks.ts';
import { completeOptions, type Limits, MemoryError, type MemoryOptions } from './options.ts';
import { FileData, PAGE_BYTES, PageStore } from './pages.ts';
import { getXattr, listXattrs, removeXattr, setXattr } from './xattrs.ts';

export { MemoryError, type MemoryOptions } from './options.ts';

/** How many workers a mount of this module starts when nobody says. */
export const workers = 1;

/**
 * Runs once for a mount: counts the node numbers that were given out. A thread that takes over after a crash has none of the
 * files, and what the kernel still asks for by number must not be another file.
 */
export function shared(): SharedArrayBuffer {
  return new SharedArrayBuffer(Float64Array.BYTES_PER_ELEMENT);
}

type Context = Pick<WorkerContext<MemoryOptions, SharedArrayBuffer>, 'workers' | 'options' | 'shared'>;

export default function memory(context: Context): Filesystem {
  if (context.workers > 1) {
    throw new MemoryError(
      'ERR_FUSEWIRE_WORKERS',
      `the memory filesystem lives in one thread and cannot be shared by ${context.workers} workers; mount it with --workers 1`,
    );
  }
  return new MemoryFilesystem(context.options, new Float64Array(context.shared));
}

/** Long enough to be for ever: a day. */
const TTL_SECONDS = 86_400;

export class MemoryFilesystem implements Filesystem {
  readonly settings: FilesystemSettings = {
    // Names are bytes to Linux, so they pass as bytes: one character each.
    nameEncoding: 'binary',
    entryTtl: TTL_SECONDS,
    attributeTtl: TTL_SECONDS,
    capabilities: [
      'FUSE_ATOMIC_O_TRUNC',
      'FUSE_HANDLE_KILLPRIV_V2',
      'FUSE_CACHE_SYMLINKS',
      // The modification times that the kernel sees move are its own doing: no reason to drop what it has cached.
      'FUSE_EXPLICIT_INVAL_DATA',
      'FUSE_POSIX_ACL',
      // A directory's default ACL replaces the umask, so the umask is applied here, where that is known.
      'FUSE_DONT_MASK',
    ],
  };
  readonly #limits: Limits;
  readonly #store: PageStore;
  readonly #inodes = new Map<number, Inode>();
  readonly #waiters = new Waiters();
  /** One element: the last node number given out. None is ever used twice. */
  readonly #lastNode: Float64Array;
  readonly #handles = new Set<number>();
  #lastHandle = 0;
  #writeback = false;

  constructor(options: MemoryOptions = {}, lastNode: Float64Array = new Float64Array(1)) {
    this.#limits = completeOptions(options);
    this.#lastNode = lastNode;
    this.#store = new PageStore(this.#limits.size);
    const root = new Inode(ROOT_NODE, S_IFDIR | this.#limits.mode, this.#limits.uid, this.#limits.gid);
    root.directory = new Directory(root);
    root.nlink = 2;
    this.#inodes.set(ROOT_NODE, root);
    lastNode[0] = Math.max(lastNode[0], ROOT_NODE);
  }

  init(negotiated: Negotiated): void {
    this.#writeback = negotiated.flags.has('FUSE_WRITEBACK_CACHE');
  }

  // --- names -----------------------------------------------------------------------------------------------------------

  lookup(parent: NodeId, name: string, _request: Request): Entry | NegativeEntry {
    const entry = this.#directory(parent).get(name);
    return entry === undefined ? { node: 0 } : this.#entry(entry.inode);
  }

  forget(node: NodeId, count: number): void {
    const inode = this.#inodes.get(node);
    if (inode === undefined) return;
    inode.lookups = Math.max(0, inode.lookups - count);
    this.#freeUnused(inode);
  }

  mknod(parent: NodeId, name: string, request: MknodRequest): Entry {
    return this.#entry(this.#make(parent, name, request.mode, request, request.rdev));
  }

  mkdir(parent: NodeId, name: string, request: MkdirRequest): Entry {
    return this.#entry(this.#make(parent, name, S_IFDIR | (request.mode & PERMISSION_BITS), request));
  }

  symlink(parent: NodeId, name: string, target: string, request: Request): Entry {
    const inode = this.#make(parent, name, S_IFLNK | 0o777, request);
    inode.target = target;
    return this.#entry(inode);
  }

  readlink(node: NodeId, _request: Request): string {
    const inode = this.#inode(node);
    inode.accessed();
    return inode.target ?? fail('EINVAL');
  }

  link(node: NodeId, request: LinkRequest): Entry {
    const inode = this.#inode(node);
    const directory = this.#directory(request.newParent);
    if (inode.isDirectory) fail('EPERM');
    if (directory.get(request.newName) !== undefined) fail('EEXIST');
    directory.add(request.newName, inode);
    inode.nlink++;
    inode.changed();
    this.#inode(request.newParent).modified();
    return this.#entry(inode);
  }

  unlink(parent: NodeId, name: string, _request: Request): void {
    const entry = this.#named(parent, name);
    if (entry.inode.isDirectory) fail('EISDIR');
    this.#removeName(parent, entry);
  }

  rmdir(parent: NodeId, name: string, _request: Request): void {
    const entry = this.#named(parent, name);
    if (!entry.inode.isDirectory) fail('ENOTDIR');
    if (entry.inode.directory!.size > 0) fail('ENOTEMPTY');
    this.#removeName(parent, entry);
  }

  rename(parent: NodeId, name: string, request: RenameRequest): void {
    const { newParent, newName, flags } = request;
    if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) !== 0) fail('EINVAL');
    if ((flags & RENAME_EXCHANGE) !== 0 && flags !== RENAME_EXCHANGE) fail('EINVAL');
    const from = this.#named(parent, name);
    const to = this.#directory(newParent).get(newName);
    if (from.inode.isDirectory) this.#assertOutside(from.inode, newParent);
    if ((flags & RENAME_EXCHANGE) !== 0) {
      if (to === undefined) fail('ENOENT');
      if (to.inode.isDirectory) this.#assertOutside(to.inode, parent);
      this.#exchange(parent, from, newParent, to);
    } else {
      if (to !== undefined && (flags & RENAME_NOREPLACE) !== 0) fail('EEXIST');
      // Two names of one file: nothing happens (rename(2)).
      if (to?.inode === from.inode) return;
      if (to !== undefined) this.#assertReplaceable(from.inode, to.inode);
      this.#move(parent, from, newParent, newName, (flags & RENAME_WHITEOUT) !== 0 ? request : undefined);
    }
    this.#inode(parent).modified();
    this.#inode(newParent).modified();
  }

  // --- attributes ------------------------------------------------------------------------------------------------------

  getattr(node: NodeId, _request: GetattrRequest): AttributesReply {
    return { attributes: this.#inode(node) };
  }

  statx(node: NodeId, request: StatxRequest): AttributesReply {
    return this.getattr(node, request);
  }

  setattr(node: NodeId, request: SetattrRequest): AttributesReply {
    const inode = this.#inode(node);
    const { mode, newUid, newGid, size, atime, mtime, ctime, killSuidGid, valid, handle } = request;
    // truncate(2) to the size that a file has changes nothing, ftruncate(2) its times.
    const resized = size !== undefined && (size !== inode.size || handle !== undefined);
    const others = [mode, newUid, newGid, atime, mtime].some((part) => part !== undefined);
    if (size !== undefined) this.#data(inode).truncate(size);
    if (newUid !== undefined) inode.uid = newUid;
    if (newGid !== undefined) inode.gid = newGid;
    // A request for nothing is chown(file, -1, -1), or a write that the kernel announces: both take set-id bits away.
    if (killSuidGid || ((valid & ~FATTR_CTIME) === 0 && !inode.isDirectory)) inode.dropPrivileges();
    if (mode !== undefined) this.#chmod(inode, mode);
    if (resized) inode.modified();
    else if (size === undefined || others) inode.changed();
    if (atime !== undefined) inode.atime = atime === 'now' ? inode.ctime : atime;
    if (mtime !== undefined) inode.mtime = mtime === 'now' ? inode.ctime : mtime;
    // With the write-back cache the kernel knows better when a file changed.
    if (ctime !== undefined) inode.ctime = ctime;
    return { attributes: inode };
  }

  statfs(_node: NodeId, _request: Request): StatfsInit {
    const { pagesMax, pagesFree } = this.#store;
    const { inodes } = this.#limits;
    return { bsize: PAGE_BYTES, blocks: pagesMax, bfree: pagesFree, files: inodes, ffree: inodes - this.#inodes.size };
  }

  // --- open files ------------------------------------------------------------------------------------------------------

  open(node: NodeId, request: OpenRequest): OpenReply {
    const inode = this.#inode(node);
    if ((request.flags & O_TRUNC) !== 0) {
      this.#data(inode).truncate(0);
      if (request.killSuidGid) inode.dropPrivileges();
      inode.modified();
    }
    return this.#opened(inode);
  }

  create(parent: NodeId, name: string, request: CreateRequest): CreateReply {
    const existing = this.#directory(parent).get(name)?.inode;
    if (existing === undefined) {
      const inode = this.#make(parent, name, S_IFREG | (request.mode & PERMISSION_BITS), request);
      return { entry: this.#entry(inode), open: this.#opened(inode) };
    }
    // The kernel looks a name up before it asks to make it, so this is somebody else's filesystem call, not the kernel's.
    if ((request.flags & O_EXCL) !== 0) fail('EEXIST');
    if (!existing.isRegular) fail(existing.isDirectory ? 'EISDIR' : 'ESTALE');
    const open = this.open(existing.ino as NodeId, request);
    return { entry: this.#entry(existing), open };
  }

  tmpfile(parent: NodeId, request: TmpfileRequest): CreateReply {
    const inode = this.#makeChild(this.#inode(parent), S_IFREG | (request.mode & PERMISSION_BITS), request);
    inode.nlink = 0;
    return { entry: this.#entry(inode), open: this.#opened(inode) };
  }

  release(node: NodeId, request: ReleaseRequest): void {
    const inode = this.#inode(node);
    inode.locks?.released(request.handle);
    if (inode.locks?.idle) inode.locks = undefined;
    this.#closed(inode, request.handle);
  }

  flush(node: NodeId, request: FlushRequest): void {
    const inode = this.#inode(node);
    inode.locks?.closed(request.lockOwner);
  }

  read(node: NodeId, request: ReadRequest): number {
    const inode = this.#inode(node);
    if ((request.flags & O_NOATIME) === 0) inode.accessed();
    return this.#data(inode).read(request.payload(), request.offset);
  }

  /**
   * The position of an append is the kernel's: it holds the file's lock and is the only writer. To append once more here
   * would tear direct writes apart, whose pieces come in any order.
   */
  write(node: NodeId, data: Uint8Array, request: WriteRequest): number {
    const inode = this.#inode(node);
    const written = this.#data(inode).write(data, request.offset);
    if (request.killSuidGid) inode.dropPrivileges();
    if (written > 0 && !(this.#writeback && request.writeback)) inode.modified();
    return written;
  }

  fallocate(node: NodeId, request: FallocateRequest): void {
    const inode = this.#inode(node);
    const data = this.#data(inode);
    const { offset, length, mode } = request;
    const end = offset + length;
    const keepSize = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
    switch (mode & ~FALLOC_FL_KEEP_SIZE) {
      case 0:
        data.allocate(offset, end);
        break;
      case FALLOC_FL_PUNCH_HOLE:
        if (!keepSize) fail('EOPNOTSUPP');
        data.punch(offset, end);
        break;
      case FALLOC_FL_ZERO_RANGE:
        data.punch(offset, end);
        data.allocate(offset, end);
        break;
      default:
        fail('EOPNOTSUPP');
    }
    if (!keepSize) data.size = Math.max(data.size, end);
    inode.modified();
  }

  lseek(node: NodeId, request: LseekRequest): number {
    // With the write-back cache the kernel asks before it has written, and fresh data would pass for a hole. Told ENOSYS, it
    // calls the whole file data.
    if (this.#writeback) fail('ENOSYS');
    const data = this.#data(this.#inode(node));
    return request.whence === SEEK_DATA ? data.seekData(request.offset) : data.seekHole(request.offset);
  }

  copyFileRange(node: NodeId, request: CopyFileRangeRequest): number {
    const source = this.#inode(node);
    const target = this.#inode(request.toNode);
    const from = this.#data(source);
    const to = this.#data(target);
    const length = Math.min(request.length, this.#limits.copy, Math.max(0, from.size - request.offset));
    const overlap = from === to && Math.abs(request.offset - request.toOffset) < length;
    if (overlap) fail('EINVAL');
    const buffer = new Uint8Array(Math.min(length, COPY_BYTES));
    let done = 0;
    while (done < length) {
      const count = from.read(buffer.subarray(0, Math.min(COPY_BYTES, length - done)), request.offset + done);
      if (done > 0 && this.#store.pagesFree * PAGE_BYTES < count) break;
      const written = to.write(buffer.subarray(0, count), request.toOffset + done);
      done += written;
      if (written < count) break;
    }
    source.accessed();
    if (done > 0) target.modified();
    return done;
  }

  getlk(node: NodeId, request: LockRequest): FileLock | undefined {
    return this.#inode(node).locks?.get(request);
  }

  setlk(node: NodeId, request: LockRequest): void | Promise<void> {
    const inode = this.#inode(node);
    if (inode.locks === undefined) {
      if (request.type === 'unlock') return;
      inode.locks = new FileLocks(this.#waiters);
    }
    return inode.locks.set(request);
  }

  // --- directories -----------------------------------------------------------------------------------------------------

  opendir(node: NodeId, _request: OpenRequest): OpenReply {
    return { ...this.#opened(this.#inode(node)), cacheDirectory: true };
  }

  readdir(node: NodeId, request: ReaddirRequest, reply: DirectoryReply): void {
    this.#list(node, request, (name, inode, offset) => reply.add({ name, ino: inode.ino, mode: inode.mode, offset }));
  }

  readdirplus(node: NodeId, request: ReaddirRequest, reply: DirectoryReply): void {
    this.#list(node, request, (name, inode, offset) => {
      // Asked first: an entry that does not fit must not be counted as looked up.
      if (!reply.fits(name.length)) return false;
      const found = offset <= DOT_DOT ? undefined : this.#entry(inode);
      return reply.addPlus({ name, ino: inode.ino, mode: inode.mode, offset }, found);
    });
  }

  releasedir(node: NodeId, request: ReleaseRequest): void {
    this.#closed(this.#inode(node), request.handle);
  }

  // --- extended attributes ---------------------------------------------------------------------------------------------

  setxattr(node: NodeId, name: string, value: Uint8Array, request: SetxattrRequest): void {
    const inode = this.#inode(node);
    setXattr(inode, name, value, request, this.#limits.xattrs);
    inode.changed();
  }

  getxattr(node: NodeId, name: string, _request: XattrRequest): Uint8Array {
    return getXattr(this.#inode(node), name);
  }

  listxattr(node: NodeId, request: XattrRequest): readonly string[] {
    return listXattrs(this.#inode(node), request);
  }

  removexattr(node: NodeId, name: string, _request: Request): void {
    const inode = this.#inode(node);
    removeXattr(inode, name);
    inode.changed();
  }

  // --- what tests ask --------------------------------------------------------------------------------------------------

  /** How often the kernel was told of each node and has not forgotten it: the simulated kernel compares it with its own books. */
  *lookupCounts(): Generator<readonly [node: number, count: number]> {
    for (const { ino, lookups } of this.#inodes.values()) yield [ino, lookups];
  }

  /** Handles of all openings that were not released. */
  openHandles(): Iterable<number> {
    return this.#handles.values();
  }

  // --- what the handlers share -----------------------------------------------------------------------------------------

  #inode(node: NodeId): Inode {
    return this.#inodes.get(node) ?? fail('ESTALE');
  }

  #directory(node: NodeId): Directory {
    return this.#inode(node).directory ?? fail('ENOTDIR');
  }

  #data(inode: Inode): FileData {
    return inode.data ?? fail(inode.isDirectory ? 'EISDIR' : 'EINVAL');
  }

  #named(parent: NodeId, name: string): Name {
    return this.#directory(parent).get(name) ?? fail('ENOENT');
  }

  /** The answer that makes the kernel know a node: counted until it is forgotten. */
  #entry(inode: Inode): Entry {
    inode.lookups++;
    return { node: inode.ino, attributes: inode };
  }

  /** What the kernel has cached stays: nobody else changes it. */
  #opened(inode: Inode): OpenReply {
    inode.opens++;
    this.#handles.add(++this.#lastHandle);
    return { handle: this.#lastHandle, keepCache: true };
  }

  #closed(inode: Inode, handle: number): void {
    if (!this.#handles.delete(handle)) fail('EBADF');
    inode.opens--;
    this.#freeUnused(inode);
  }

  #makeInode(mode: number, uid: number, gid: number, rdev = 0): Inode {
    if (this.#inodes.size >= this.#limits.inodes) fail('ENOSPC');
    const inode = new Inode(++this.#lastNode[0], mode, uid, gid, rdev);
    this.#inodes.set(inode.ino, inode);
    if (inode.isRegular) inode.data = new FileData(this.#store);
    return inode;
  }

  /** A file that nobody needs any more is gone, with its contents: no name, unknown to the kernel, not open. */
  #freeUnused(inode: Inode): void {
    if (inode.nlink > 0 || inode.lookups > 0 || inode.opens > 0 || inode.ino === ROOT_NODE) return;
    inode.data?.truncate(0);
    this.#inodes.delete(inode.ino);
  }

  /** Makes a file and gives it a name. */
  #make(parent: NodeId, name: string, mode: number, request: MakeRequest, rdev = 0): Inode {
    const folder = this.#inode(parent);
    const directory = this.#directory(parent);
    if (directory.get(name) !== undefined) fail('EEXIST');
    // A removed directory takes no names.
    if (folder.nlink === 0) fail('ENOENT');
    const inode = this.#makeChild(folder, mode, request, rdev);
    directory.add(name, inode);
    if (inode.isDirectory) {
      inode.directory = new Directory(folder);
      inode.nlink = 2;
      folder.nlink++;
    }
    folder.modified();
    return inode;
  }

  /** A new file as its directory wants it: with its group when that has the set-group-id bit, and its default ACL. */
  #makeChild(folder: Inode, mode: number, request: MakeRequest, rdev = 0): Inode {
    const setgid = (folder.mode & S_ISGID) !== 0;
    const gid = setgid ? folder.gid : request.gid;
    const isDirectory = (mode & S_IFMT) === S_IFDIR;
    let granted = mode;
    if (setgid && isDirectory) granted |= S_ISGID;
    // A program that runs as the directory's group is not for those outside of it to make.
    const foreign = setgid && !isDirectory && (mode & S_ISGID) !== 0 && (mode & S_IXGRP) !== 0;
    if (foreign && request.uid !== 0 && request.gid !== gid && !request.groups().includes(gid)) granted &= ~S_ISGID;
    const inherited = (mode & S_IFMT) === S_IFLNK ? undefined : folder.xattrs?.get(acl.DEFAULT);
    if (inherited === undefined) return this.#makeInode(granted & ~(request.umask ?? 0), request.uid, gid, rdev);
    const { mode: allowed, access } = acl.inherit(inherited, granted);
    const inode = this.#makeInode(allowed, request.uid, gid, rdev);
    inode.xattrs = new Map();
    if (access !== undefined) inode.xattrs.set(acl.ACCESS, access);
    if (isDirectory) inode.xattrs.set(acl.DEFAULT, inherited);
    return inode;
  }

  #removeName(parent: NodeId, entry: Name): void {
    const folder = this.#inode(parent);
    folder.directory!.remove(entry);
    if (entry.inode.isDirectory) folder.nlink--;
    folder.modified();
    this.#unlinked(entry.inode);
  }

  /** A name of a file went; a directory has but one. */
  #unlinked(inode: Inode): void {
    inode.nlink = inode.isDirectory ? 0 : inode.nlink - 1;
    inode.changed();
    this.#freeUnused(inode);
  }

  /** EINVAL for moving a directory below itself: it would be lost. The kernel sees to that too. */
  #assertOutside(directory: Inode, below: NodeId): void {
    for (let at = this.#inode(below); at.ino !== ROOT_NODE; at = at.directory!.parent) if (at === directory) fail('EINVAL');
  }

  #assertReplaceable(inode: Inode, victim: Inode): void {
    if (inode.isDirectory && !victim.isDirectory) fail('ENOTDIR');
    if (!inode.isDirectory && victim.isDirectory) fail('EISDIR');
    if (victim.isDirectory && victim.directory!.size > 0) fail('ENOTEMPTY');
  }

  /** `whiteout`: who asked for a whiteout in the old place (a character device 0:0, by which overlays hide a name). */
  #move(parent: NodeId, from: Name, newParent: NodeId, newName: string, whiteout: Request | undefined): void {
    const { inode } = from;
    const directory = this.#directory(newParent);
    const mask = whiteout && this.#makeInode(S_IFCHR, whiteout.uid, whiteout.gid);
    const to = directory.get(newName);
    const victim = to?.inode;
    // A name that stays keeps its place in listings.
    if (to === undefined) directory.add(newName, inode);
    else to.inode = inode;
    if (mask === undefined) this.#directory(parent).remove(from);
    else from.inode = mask;
    if (inode.isDirectory) this.#adopt(inode, parent, newParent);
    if (victim?.isDirectory) this.#inode(newParent).nlink--;
    if (victim !== undefined) this.#unlinked(victim);
    inode.changed();
  }

  #exchange(parent: NodeId, from: Name, newParent: NodeId, to: Name): void {
    const { inode } = from;
    from.inode = to.inode;
    to.inode = inode;
    if (to.inode.isDirectory) this.#adopt(to.inode, parent, newParent);
    if (from.inode.isDirectory) this.#adopt(from.inode, newParent, parent);
    from.inode.changed();
    to.inode.changed();
  }

  /** A directory moved: ".." leads elsewhere, and counts as a link there. */
  #adopt(inode: Inode, from: NodeId, to: NodeId): void {
    this.#inode(from).nlink--;
    this.#inode(to).nlink++;
    inode.directory!.parent = this.#inode(to);
  }

  #chmod(inode: Inode, mode: number): void {
    inode.mode = (inode.mode & S_IFMT) | (mode & PERMISSION_BITS);
    const access = inode.xattrs?.get(acl.ACCESS);
    if (access !== undefined) inode.xattrs!.set(acl.ACCESS, acl.withPermissions(access, mode));
  }

  /** Entries after the request's cookie, until `add` has no room. */
  #list(node: NodeId, request: ReaddirRequest, add: (name: string, inode: Inode, cookie: number) => boolean): void {
    const inode = this.#inode(node);
    const directory = this.#directory(node);
    const { offset } = request;
    inode.accessed();
    if (offset < DOT && !add('.', inode, DOT)) return;
    if (offset < DOT_DOT && !add('..', directory.parent, DOT_DOT)) return;
    for (const entry of directory.after(offset)) if (!add(entry.name, entry.inode, entry.cookie)) return;
  }
}

/** What making a file needs to know; a symbolic link has no umask. */
type MakeRequest = Request & { readonly umask?: number };

/** copy_file_range goes through a buffer of this size. */
const COPY_BYTES = 256 << 10;
