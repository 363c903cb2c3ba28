/** What all parts of the simulated kernel share. */
import type { InitFlag } from '../../protocol/index.ts';
import type { Clock } from './clock.ts';
import { STATX_ATIME } from './constants.ts';
import type { Dentry, DentryCache } from './dentries.ts';
import type { Inode, InodeTable } from './inodes.ts';
import type { LocalLocks } from './locks.ts';
import type { RwLock } from './rwlock.ts';
import type { Pending, Waiting, Wire } from './wire.ts';

/** Options of the mount, and limits. */
export interface MountOptions {
  readonly defaultPermissions: boolean;
  readonly allowOther: boolean;
  readonly userId: number;
  readonly groupId: number;
  readonly maxRead: number;
  readonly readOnly: boolean;
  readonly device: number;
}

/** Opcodes that were answered ENOSYS and are not sent again; the kernel's no_open, no_flush and so on. */
export type Missing =
  | 'OPEN'
  | 'OPENDIR'
  | 'FLUSH'
  | 'FSYNC'
  | 'FSYNCDIR'
  | 'ACCESS'
  | 'CREATE'
  | 'TMPFILE'
  | 'SETXATTR'
  | 'GETXATTR'
  | 'LISTXATTR'
  | 'REMOVEXATTR'
  | 'RENAME2'
  | 'LINK'
  | 'FALLOCATE'
  | 'LSEEK'
  | 'COPY_FILE_RANGE_64'
  | 'COPY_FILE_RANGE'
  | 'STATX'
  | 'POLL';

export interface Core {
  readonly mount: MountOptions;
  readonly clock: Clock;
  readonly wire: Wire;
  readonly inodes: InodeTable;
  readonly dentries: DentryCache;
  readonly locks: LocalLocks;
  readonly missing: Set<Missing>;
  /** One rename between two directories at a time, so that the tree stands still while they are locked (s_vfs_rename_mutex). */
  readonly renaming: RwLock;
  /** fc->attr_version: orders replies with attributes against changes. */
  attrVersion: number;
}

export const has = (core: Core, flag: InitFlag): boolean => core.wire.agreed.flags.has(flag);

/** fuse_invalidate_atime: a READ, READLINK or READDIR may have moved the time of access. */
export function accessed(core: Core, inode: Inode): void {
  if (!core.mount.readOnly) inode.invalidate(STATX_ATIME);
}

/** Bytes of one READ or WRITE by its pages. */
export const requestBytesMax = (core: Core): number => core.wire.agreed.maxPages * 4096;

/** Who makes a system call. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly umask: number;
  readonly pid: number;
  /** Identifies the process as owner of POSIX locks. */
  readonly filesId: number;
}

/** One system call under way: who, what it waits for, and the objects that must not be evicted meanwhile. */
export class Call implements Waiting {
  readonly caller: Caller;
  readonly credentials: { readonly uid: number; readonly gid: number; readonly pid: number };
  readonly requests = new Set<Pending>();
  isInterrupted = false;
  /** Cached names are asked for again (LOOKUP_REVAL). */
  revalidates = false;
  /** Wakes a wait that is not a request (a lock of the kernel's own). */
  onInterrupt: (() => void) | undefined;
  readonly #inodes = new Set<Inode>();
  readonly #dentries = new Set<Dentry>();

  constructor(caller: Caller) {
    this.caller = caller;
    this.credentials = { uid: caller.uid, gid: caller.gid, pid: caller.pid };
  }

  hold<T extends Inode>(inode: T): T {
    if (!this.#inodes.has(inode)) {
      this.#inodes.add(inode);
      inode.pins++;
    }
    return inode;
  }

  holdDentry<T extends Dentry>(dentry: T): T {
    if (!this.#dentries.has(dentry)) {
      this.#dentries.add(dentry);
      dentry.pins++;
    }
    if (dentry.inode !== undefined) this.hold(dentry.inode);
    return dentry;
  }

  /** The call is over: what only it held may go. */
  end(core: Core): void {
    for (const dentry of this.#dentries) dentry.pins--;
    for (const inode of this.#inodes) {
      inode.pins--;
      core.inodes.evictUnused(inode);
    }
    core.inodes.sendForgetsSoon();
  }
}

/** Root may do everything that a capability allows. */
export const isPrivileged = (caller: Caller): boolean => caller.uid === 0;

/** Scrambles a small identity into the opaque owner that locks carry. */
export function lockOwner(id: number): { readonly low: number; readonly high: number } {
  return { low: Math.imul(id + 0x51ed, 0x9e3779b1) >>> 0, high: Math.imul(id + 0x2f0b, 0x85ebca6b) >>> 0 };
}
