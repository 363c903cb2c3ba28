/**
 * What arrives with an operation. A request object is valid until its answer; the library reuses it afterwards. Keep
 * what you need of it, never the object.
 */
import type { AttributesInit, Timespec } from './attributes.ts';
import type { Entry, Kernel } from './filesystem.ts';
import type { FileHandle, NodeId } from './identity.ts';

/** Who asks, and how to notice that nobody waits any more. */
export interface Request {
  /** fsuid of the caller, in the mount's user namespace. 0 for requests of the kernel itself. */
  readonly uid: number;
  /** fsgid of the caller. */
  readonly gid: number;
  /** Thread id of the caller in the mounter's pid namespace; 0 when it has none there. */
  readonly pid: number;
  /** The name of the operation: `LOOKUP`, `READ`, and so on. */
  readonly operation: string;
  /**
   * Aborted when the caller was interrupted (FUSE_INTERRUPT) or the mount ends. Made when first asked for. A request that
   * rejects with the signal's reason is answered EINTR. Reads that fill the page cache are background requests of the kernel's,
   * which it does not interrupt; with direct I/O they belong to their caller.
   */
  readonly signal: AbortSignal;
  /** Supplementary groups of the caller that count for this request: from the message where the kernel sent them, else from /proc. */
  groups(): readonly number[];
  /**
   * Security labels that a new file shall be born with, from the machine's security module (FUSE_SECURITY_CTX): extended attributes
   * to set together with making it. Only creating operations bring them; none where the machine has no such module.
   */
  securityContexts(): readonly SecurityContext[];
  /**
   * Whether the kernel sent it again after {@link Kernel.resend}: it may have been executed already, by a daemon that died before
   * its answer left.
   */
  readonly resent: boolean;
}

/** An extended attribute for a new file. */
export interface SecurityContext {
  /** Such as `security.selinux`. */
  readonly name: string;
  readonly value: Uint8Array;
}

export interface HandleRequest extends Request {
  /** The handle that open answered. */
  readonly handle: FileHandle;
}

export interface GetattrRequest extends Request {
  /** The handle, when the caller has the file open and asks through it. */
  readonly handle: FileHandle | undefined;
}

export interface StatxRequest extends GetattrRequest {
  /** STATX_* bits that are wanted. */
  readonly mask: number;
  readonly flags: number;
}

/** Only what shall change is present. Never follow symbolic links. */
export interface SetattrRequest extends Request {
  readonly handle: FileHandle | undefined;
  readonly mode: number | undefined;
  readonly newUid: number | undefined;
  readonly newGid: number | undefined;
  readonly size: number | undefined;
  readonly atime: Timespec | 'now' | undefined;
  readonly mtime: Timespec | 'now' | undefined;
  /** Only with the write-back cache, where the kernel owns the times. */
  readonly ctime: Timespec | undefined;
  /** FATTR_KILL_SUIDGID: take away set-user-id, set-group-id and security.capability. */
  readonly killSuidGid: boolean;
  /** The FATTR_* word as it came. */
  readonly valid: number;
}

export interface MkdirRequest extends Request {
  /** Permission bits; the caller's umask is already taken off unless FUSE_DONT_MASK was negotiated. */
  readonly mode: number;
  readonly umask: number;
}

export interface MknodRequest extends MkdirRequest {
  /** The kernel's encoding of the device number, see splitDevice. */
  readonly rdev: number;
}

export interface RenameRequest extends Request {
  readonly newParent: NodeId;
  readonly newName: string;
  /** RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4. */
  readonly flags: number;
}

export interface LinkRequest extends Request {
  readonly newParent: NodeId;
  readonly newName: string;
}

export interface OpenRequest extends Request {
  /** O_* of this machine. O_CREAT, O_EXCL and O_NOCTTY never come; O_TRUNC does. */
  readonly flags: number;
  /** FUSE_OPEN_KILL_SUIDGID: an O_TRUNC that must take away set-id bits. */
  readonly killSuidGid: boolean;
}

export interface CreateRequest extends OpenRequest {
  readonly mode: number;
  readonly umask: number;
}

export type TmpfileRequest = CreateRequest;

export interface ReadRequest extends HandleRequest {
  /** Bytes from the start of the file. */
  readonly offset: number;
  /** Bytes wanted, at most max_write or max_pages pages. */
  readonly size: number;
  /** O_* flags of the open file. */
  readonly flags: number;
  /** The reply's own memory, `size` bytes, undefined contents: fill it and answer the count. */
  payload(): Uint8Array;
}

export interface WriteRequest extends HandleRequest {
  readonly offset: number;
  readonly size: number;
  readonly flags: number;
  /** FUSE_WRITE_CACHE: written back by the kernel; uid, gid and pid say nothing. */
  readonly writeback: boolean;
  /** FUSE_WRITE_KILL_SUIDGID: take away set-id bits. */
  readonly killSuidGid: boolean;
  /**
   * Writes the payload to a descriptor at `position` with one pwrite(2) on this thread, without a copy in JavaScript.
   * Returns the bytes written or a negative errno. Only while {@link Filesystem.write} runs or its promise is pending.
   */
  writeTo(fd: number, position: number): number;
  /** The FUSE_WRITE_* word as it came. */
  readonly writeFlags: number;
}

export interface FlushRequest extends HandleRequest {
  /** Opaque owner of POSIX locks, two words: all its locks on the node end now. */
  readonly lockOwner: LockOwner;
}

/** Opaque: compare both words. */
export interface LockOwner {
  readonly low: number;
  readonly high: number;
}

export interface ReleaseRequest extends HandleRequest {
  readonly flags: number;
  /** FUSE_RELEASE_FLOCK_UNLOCK: the flock of this handle ends now. */
  readonly flockUnlock: boolean;
  readonly lockOwner: LockOwner;
}

export interface FsyncRequest extends HandleRequest {
  /** Only the data, and what is needed to read it back. */
  readonly dataOnly: boolean;
}

/** A directory position: opaque to the kernel, the position after an entry. Exact to 64 bits by its words. */
export interface ReaddirRequest extends HandleRequest {
  /** The cookie after which to go on, 0 for the start. */
  readonly offset: number;
  readonly offsetLow: number;
  readonly offsetHigh: number;
  /** Bytes of reply that the kernel takes. */
  readonly size: number;
}

export interface DirectoryEntry {
  name: string;
  /** st_ino of the entry. */
  ino: number | bigint;
  /** Type bits as in st_mode (S_IFDIR and so on). Default: unknown. */
  mode?: number;
  /** Cookie of the position after this entry; never 0. */
  offset: number | bigint;
}

/** An entry of a listing that is answered whole: the library gives it its position. */
export interface ListedEntry {
  name: string;
  /** st_ino of the entry. Default: of `entry`, else unknown. */
  ino?: number | bigint;
  /** Type bits as in st_mode. Default: of `entry`, else unknown. */
  mode?: number;
  /** readdirplus: the node with its attributes; counts as a lookup of it. */
  entry?: Entry;
}

/** Takes entries while there is room. */
export interface DirectoryReply {
  /** Adds an entry; false when it no longer fits (then it was not added, and counts as no lookup). */
  add(entry: DirectoryEntry): boolean;
  /** readdirplus: adds an entry with its node and attributes. `node` 0 or absent attributes: a plain entry. */
  addPlus(entry: DirectoryEntry, found: Entry | undefined): boolean;
  /** Whether an entry with a name of that many bytes would fit. */
  fits(nameBytes: number): boolean;
}

export interface AccessRequest extends Request {
  /** R_OK 4, W_OK 2, X_OK 1, F_OK 0. */
  readonly mask: number;
}

export interface SetxattrRequest extends Request {
  /** XATTR_CREATE 1, XATTR_REPLACE 2. */
  readonly flags: number;
  /** FUSE_SETXATTR_ACL_KILL_SGID. */
  readonly aclKillSgid: boolean;
}

export interface XattrRequest extends Request {
  /** Bytes that the caller takes; 0 asks for the size. */
  readonly size: number;
}

export interface LockRequest extends HandleRequest {
  readonly owner: LockOwner;
  readonly start: number;
  /** Inclusive; Infinity for "to the end". */
  readonly end: number;
  readonly type: 'read' | 'write' | 'unlock';
  readonly lockPid: number;
  /** flock(2) rather than fcntl(2). */
  readonly flock: boolean;
  /** Wait until the lock can be had; watch the signal. */
  readonly wait: boolean;
}

export interface FallocateRequest extends HandleRequest {
  readonly offset: number;
  readonly length: number;
  /** FALLOC_FL_* bits. */
  readonly mode: number;
}

export interface LseekRequest extends HandleRequest {
  readonly offset: number;
  /** SEEK_DATA 3 or SEEK_HOLE 4. */
  readonly whence: number;
}

export interface CopyFileRangeRequest extends HandleRequest {
  readonly offset: number;
  readonly toNode: NodeId;
  readonly toHandle: FileHandle;
  readonly toOffset: number;
  readonly length: number;
  readonly flags: number;
}

export interface IoctlRequest extends HandleRequest {
  readonly command: number;
  /** The argument itself (often a pointer of the caller), two words. */
  readonly argumentLow: number;
  readonly argumentHigh: number;
  readonly flags: number;
  readonly data: Uint8Array;
  /** Bytes of data the answer may carry. */
  readonly outSize: number;
  readonly directory: boolean;
}

export interface PollRequest extends HandleRequest {
  /** Poll handle for the wake-up, opaque, two words. */
  readonly pollHandleLow: number;
  readonly pollHandleHigh: number;
  readonly events: number;
  /** Whether a wake-up is wanted. */
  readonly notify: boolean;
}

export interface BmapRequest extends Request {
  readonly block: number;
  readonly blocksize: number;
}

export type { AttributesInit };
