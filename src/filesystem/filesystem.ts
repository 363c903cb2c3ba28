/**
 * The inode-level interface that authors write against: one optional method per operation of the protocol.
 *
 * A method that is missing is answered so that the kernel does the sensible thing (see each method), and the capabilities
 * offered to the kernel follow from the methods that exist. A method returns its answer, or a promise of it; a plain value
 * costs no promise. It fails by throwing an error with an `errno` or a Node-style `code` (see {@link FuseError}).
 *
 * Identities. The kernel knows a file by a {@link NodeId} that you issue in {@link Entry}; the root is always 1. Each
 * answered {@link Entry} adds one to the node's lookup count, and {@link Filesystem.forget} says how many to take off
 * again. A node may be asked for until its count is 0, also after its last name was removed.
 */

import type { InitFlag } from '../protocol/index.ts';
import type { Negotiated } from '../session/negotiate.ts';
import type { Kernel } from '../session/notify.ts';
import type { AttributesInit, StatfsInit } from './attributes.ts';
import type { NodeId } from './identity.ts';
import type { Listed } from './listing.ts';
import type {
  AccessRequest,
  BmapRequest,
  CopyFileRangeRequest,
  CreateRequest,
  DirectoryReply,
  FallocateRequest,
  FlushRequest,
  FsyncRequest,
  GetattrRequest,
  IoctlRequest,
  LinkRequest,
  LockRequest,
  LseekRequest,
  MkdirRequest,
  MknodRequest,
  OpenRequest,
  PollRequest,
  ReaddirRequest,
  ReadRequest,
  ReleaseRequest,
  RenameRequest,
  Request,
  SetattrRequest,
  SetxattrRequest,
  StatxRequest,
  TmpfileRequest,
  WriteRequest,
  XattrRequest,
} from './requests.ts';

/** An answer now, or a promise of it. */
export type Answer<T> = T | PromiseLike<T>;

/** A name that was found or made: what the kernel will remember, and for how long. */
export interface Entry {
  /** Your identity of the file, 1 to 2^53-1; never 0 (see {@link NegativeEntry}). It comes back as a {@link NodeId}. */
  node: number;
  /** Tells apart two files that use the same node id one after the other; (node, generation) must never repeat. Default 0. */
  generation?: number;
  attributes: AttributesInit;
  /** Seconds for which the kernel may resolve the name without asking. Fractions count to the nanosecond. Default: the mount's `entryTtl`. */
  entryTtl?: number;
  /** Seconds for which the kernel may use the attributes without asking. Default: the mount's `attributeTtl`. */
  attributeTtl?: number;
}

/** "There is no such name", with a lifetime: the kernel caches the absence for `entryTtl` seconds. ENOENT is never cached. */
export interface NegativeEntry {
  node: 0;
  entryTtl?: number;
}

export interface AttributesReply {
  attributes: AttributesInit;
  /** Seconds; default: the mount's `attributeTtl`. */
  attributeTtl?: number;
}

/** The answer to open, opendir and create. Every field is optional; `{}` opens with handle 0. */
export interface OpenReply {
  /** Your identity of this opening, 0 to 2^53-1; comes back with every operation on it. Default 0. */
  handle?: number;
  /** Reads and writes go past the page cache to this filesystem (FOPEN_DIRECT_IO). */
  directIo?: boolean;
  /** Do not drop what the page cache holds of this file (FOPEN_KEEP_CACHE). */
  keepCache?: boolean;
  /** The file cannot seek (FOPEN_NONSEEKABLE). */
  nonSeekable?: boolean;
  /** A stream: no file position (FOPEN_STREAM). */
  stream?: boolean;
  /** opendir: the kernel may cache the listing (FOPEN_CACHE_DIR). */
  cacheDirectory?: boolean;
  /** Do not send FLUSH when a descriptor is closed (FOPEN_NOFLUSH). */
  noFlush?: boolean;
  /** With directIo: writes of several callers at a time (FOPEN_PARALLEL_DIRECT_WRITES). */
  parallelDirectWrites?: boolean;
  /**
   * A descriptor of yours for the regular file behind this one: the kernel reads, writes and maps that file itself, without asking
   * you (FOPEN_PASSTHROUGH). Needs FUSE_PASSTHROUGH among `settings.capabilities`. It is only an offer: where the kernel cannot
   * take it (no privileges, other opens of this node that have none, a file that cannot back), `read` and `write` are called as
   * ever. The kernel opens the file again with the caller's flags, so that a descriptor opened with O_PATH is best: of any other it
   * keeps the open file, with its locks, until the last open of the node ended. You may close it after your answer. Every open of a node must offer the same file. `directIo` and `keepCache` count
   * where it is served without. See docs/guide/backing-files.md.
   */
  backing?: number;
  /** A raw backing id, sent as it is: for replaying traces. Offer `backing` instead. */
  backingId?: number;
}

export interface CreateReply {
  entry: Entry;
  open: OpenReply;
}

/** A range of an open file of this process: the library reads it straight into the reply. */
export interface FileRange {
  fd: number;
  position: number;
  length: number;
}

/**
 * What read answers: bytes, several pieces in order, the count of bytes filled into {@link ReadRequest.payload}, or a
 * range of a descriptor. Fewer bytes than asked mean end of file.
 */
export type ReadReply = Uint8Array | readonly Uint8Array[] | number | FileRange;

/** What an author can know when the mount comes up. */
export type { Kernel, Negotiated };

/**
 * How far the kernel may trust what it was told; each is a set of defaults that single answers override.
 *
 * - `none`: it asks every time; names and attributes live 0 seconds.
 * - `shared` (default): others may change the files too; names and attributes live 1 second.
 * - `exclusive`: everything that changes does so through this mount or is notified; they live an hour, and the page cache and
 *   listings survive a close.
 * - `immutable`: nothing ever changes; they live for ever, and symbolic links are remembered too.
 */
export type CachePreset = 'none' | 'shared' | 'exclusive' | 'immutable';

export interface FilesystemSettings {
  /**
   * How names arrive and are given: `utf8` (default; a name that is not valid UTF-8 is refused with EILSEQ before it
   * reaches a method), or `binary`, one character a byte, so that any Linux name passes unchanged.
   */
  nameEncoding?: 'utf8' | 'binary';
  /** Defaults of lifetimes and of what survives a close. Default `shared`. */
  cache?: CachePreset;
  /** Default of {@link Entry.entryTtl}, seconds. Default: of the preset. */
  entryTtl?: number;
  /** Default of {@link Entry.attributeTtl}, seconds. Default: of the preset. */
  attributeTtl?: number;
  /**
   * INIT flags beyond those that follow from the methods, because this filesystem does its part of them. Among them:
   * `FUSE_ATOMIC_O_TRUNC` (open honours O_TRUNC), `FUSE_HANDLE_KILLPRIV_V2` (set-id bits are taken away when asked),
   * `FUSE_DONT_MASK`, `FUSE_CACHE_SYMLINKS`, `FUSE_POSIX_ACL`, `FUSE_EXPORT_SUPPORT`. Each is only in force where the kernel offers
   * it: `negotiated.flags` tells. docs/CAPABILITIES.md has them all, with what each asks of a filesystem. Default: none.
   */
  capabilities?: readonly InitFlag[];
}

export interface Filesystem {
  readonly settings?: FilesystemSettings;

  /** Before the first request, once per worker. `kernel` is there to notify: keep it for when something changes. */
  init?(negotiated: Negotiated, kernel: Kernel): Answer<void>;
  /** After the last request, once per worker: FORGETs that the kernel still owed never come. */
  destroy?(): Answer<void>;

  /**
   * Finds `name` in directory `parent`. Adds one to the lookup count. Missing method: ENOSYS for every name.
   * With FUSE_EXPORT_SUPPORT also `.` of any node that was ever named, also a file, and also when its count is 0 (throw ESTALE when
   * it is gone), and `..` of a directory.
   */
  lookup?(parent: NodeId, name: string, request: Request): Answer<Entry | NegativeEntry>;
  /** Takes `count` off the lookup count of `node`. No answer. Batches arrive one node at a time. */
  forget?(node: NodeId, count: number): void;
  /** Attributes of a node; `request.handle` when the caller has it open. Missing: ENOSYS. */
  getattr?(node: NodeId, request: GetattrRequest): Answer<AttributesReply>;
  /** Changes the attributes that are present in `request`, answers all of them. Missing: ENOSYS. */
  setattr?(node: NodeId, request: SetattrRequest): Answer<AttributesReply>;
  /** Attributes with birth time. Missing: the kernel uses getattr. */
  statx?(node: NodeId, request: StatxRequest): Answer<AttributesReply>;
  /** Missing: EINVAL semantics of the caller, as ENOSYS. */
  readlink?(node: NodeId, request: Request): Answer<string | Uint8Array>;
  mknod?(parent: NodeId, name: string, request: MknodRequest): Answer<Entry>;
  mkdir?(parent: NodeId, name: string, request: MkdirRequest): Answer<Entry>;
  unlink?(parent: NodeId, name: string, request: Request): Answer<void>;
  rmdir?(parent: NodeId, name: string, request: Request): Answer<void>;
  symlink?(parent: NodeId, name: string, target: string, request: Request): Answer<Entry>;
  /** RENAME and RENAME2. A filesystem without support for `request.flags` other than 0 throws EINVAL. */
  rename?(parent: NodeId, name: string, request: RenameRequest): Answer<void>;
  link?(node: NodeId, request: LinkRequest): Answer<Entry>;

  /** Missing: the kernel opens without asking (handle 0), from the first ENOSYS on (FUSE_NO_OPEN_SUPPORT). */
  open?(node: NodeId, request: OpenRequest): Answer<OpenReply | void>;
  read?(node: NodeId, request: ReadRequest): Answer<ReadReply>;
  /** `data` is lent until the answer. Answers the bytes taken; nothing means all. */
  write?(node: NodeId, data: Uint8Array, request: WriteRequest): Answer<number | void>;
  /** Once per close(2) of a descriptor. Missing: close succeeds, from the first ENOSYS on. */
  flush?(node: NodeId, request: FlushRequest): Answer<void>;
  /** Once per successful open, after the last close. Errors go nowhere. */
  release?(node: NodeId, request: ReleaseRequest): Answer<void>;
  fsync?(node: NodeId, request: FsyncRequest): Answer<void>;
  /** Missing: the kernel uses mknod and open. */
  create?(parent: NodeId, name: string, request: CreateRequest): Answer<CreateReply>;
  tmpfile?(parent: NodeId, request: TmpfileRequest): Answer<CreateReply>;

  /** Missing: every directory opens, with handle 0; with FUSE_NO_OPENDIR_SUPPORT without asking, and listings stay cached. */
  opendir?(node: NodeId, request: OpenRequest): Answer<OpenReply | void>;
  /**
   * Lists a directory, in one of two ways. Either answer all its entries (an array, an iterable, or an async iterable): the
   * library sorts them by a hash of their names, which gives each a position that stays although others come and go.
   * Or fill `reply` yourself from the entry after cookie `request.offset`, stop when `add` answers false, and answer nothing.
   * "." and ".." are listed only when you list them.
   */
  readdir?(node: NodeId, request: ReaddirRequest, reply: DirectoryReply): Answer<Listed | void>;
  /** The same with attributes: each entry that has a node counts as a lookup of it, except "." and "..". */
  readdirplus?(node: NodeId, request: ReaddirRequest, reply: DirectoryReply): Answer<Listed | void>;
  releasedir?(node: NodeId, request: ReleaseRequest): Answer<void>;
  fsyncdir?(node: NodeId, request: FsyncRequest): Answer<void>;

  statfs?(node: NodeId, request: Request): Answer<StatfsInit>;
  access?(node: NodeId, request: AccessRequest): Answer<void>;
  setxattr?(node: NodeId, name: string, value: Uint8Array, request: SetxattrRequest): Answer<void>;
  /** The value. `request.size` 0 asks for the size: answer the value or its length. Longer than `request.size`: ERANGE is sent for you. */
  getxattr?(node: NodeId, name: string, request: XattrRequest): Answer<Uint8Array | number>;
  /** The names, each ended by NUL, or a list of names, or for `request.size` 0 the length. */
  listxattr?(node: NodeId, request: XattrRequest): Answer<readonly string[] | Uint8Array | number>;
  removexattr?(node: NodeId, name: string, request: Request): Answer<void>;

  /** The lock that stands in the way, or nothing. */
  getlk?(node: NodeId, request: LockRequest): Answer<FileLock | void>;
  /** Sets or clears a lock; `request.wait` says whether to wait for it, `request.flock` which kind it is. */
  setlk?(node: NodeId, request: LockRequest): Answer<void>;

  fallocate?(node: NodeId, request: FallocateRequest): Answer<void>;
  /** SEEK_DATA and SEEK_HOLE. */
  lseek?(node: NodeId, request: LseekRequest): Answer<number>;
  copyFileRange?(node: NodeId, request: CopyFileRangeRequest): Answer<number>;
  ioctl?(node: NodeId, request: IoctlRequest): Answer<IoctlReply>;
  poll?(node: NodeId, request: PollRequest): Answer<number>;
  bmap?(node: NodeId, request: BmapRequest): Answer<number>;
  syncfs?(node: NodeId, request: Request): Answer<void>;
}

/** A byte-range lock. `end` is inclusive; Infinity means to the end of the file however far it grows. */
export interface FileLock {
  start: number;
  end: number;
  type: 'read' | 'write' | 'unlock';
  pid: number;
}

export interface IoctlReply {
  /** What ioctl(2) returns to the caller. Default 0. */
  result?: number;
  data?: Uint8Array;
}
