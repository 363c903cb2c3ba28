/** The inode cache: identity, cached attributes and their lifetimes, lookup counts, FORGET. */
import { type Attr, batchForgetExists, type EntryOut, newAttr, type Statx } from '../../protocol/index.ts';
import {
  isDirectory,
  isRegular,
  S_IFDIR,
  S_IFMT,
  S_ISVTX,
  STATX_BASIC_STATS,
  STATX_CTIME,
  STATX_MTIME,
  STATX_SIZE,
} from './constants.ts';
import { type Core, has } from './core.ts';
import type { Dentry } from './dentries.ts';
import { ERRNO, fail } from './errors.ts';
import type { Fifo } from './fifo.ts';
import type { OpenFile } from './files.ts';
import { PageCache } from './page-cache.ts';
import { RwLock } from './rwlock.ts';

const ROOT = 1;
/** Every group of attributes. */
const ALL = 0xffff;

/** A listing kept by FOPEN_CACHE_DIR. */
export interface CachedListing {
  readonly entries: { readonly name: string; readonly ino: bigint; readonly type: number; readonly offset: bigint }[];
  isComplete: boolean;
}

let ranks = 0;

export class Inode {
  readonly nodeid: number;
  readonly generation: string;
  /** Orders locks of two inodes. */
  readonly rank = ranks++;
  readonly lock = new RwLock();
  readonly attr: Attr = newAttr();
  /** References that FORGET has to take back; 0 for the root. */
  lookups = 0;
  /** When the attributes expire, milliseconds of the virtual clock. */
  validUntil = 0;
  /** Groups of attributes (STATX_*) that are stale whatever the clock says. */
  invalid = ALL;
  attrVersion = 0;
  /** A size change is under way: sizes in replies are not believed (FUSE_I_SIZE_UNSTABLE). */
  isSizeUnstable = false;
  /** Turned into another file behind the kernel's back: everything on it fails with EIO. */
  isBad = false;
  /** A removed directory. */
  isDead = false;
  /** Made by O_TMPFILE and may still be linked. */
  isLinkable = false;
  /** Known to have no set-id bits or file capabilities (S_NOSEC). */
  hasNoSecurity = false;
  advisesReaddirplus = false;
  cameByReaddirplus = false;
  /** Names in the cache, open files and calls that hold it. */
  readonly names = new Set<Dentry>();
  pins = 0;
  readonly pages = new PageCache();
  /** Open files that can write: one of them is the guessed handle of write-back. */
  readonly writers = new Set<OpenFile>();
  /** The kernel's times differ from the daemon's (write-back). */
  areTimesDirty = false;
  /** Errno of a failed write-back, told once. */
  writeError = 0;
  /** Open files that use the page cache, and direct writes under way that do not hold the lock alone. */
  cachedOpens = 0;
  parallelWrites = 0;
  readonly parallelWaiters: (() => void)[] = [];
  symlinkTarget: string | undefined;
  /** Of a named pipe that was opened. */
  fifo: Fifo | undefined;
  listing: CachedListing | undefined;

  constructor(nodeid: number, generation: string) {
    this.nodeid = nodeid;
    this.generation = generation;
  }

  get mode(): number {
    return this.attr.mode;
  }

  get size(): number {
    return this.attr.size;
  }

  get isDirectory(): boolean {
    return isDirectory(this.attr.mode);
  }

  invalidate(groups: number = STATX_BASIC_STATS): void {
    this.invalid |= groups;
  }
}

const generationOf = (entry: EntryOut): string => `${entry.generation_hi}:${entry.generation_lo}`;

/** fuse_invalid_attr: a type that exists, and a size that a signed 64-bit number holds. */
export function isInvalidAttr(attr: Attr): boolean {
  const type = (attr.mode & S_IFMT) >>> 12;
  const isType = type === 1 || type === 2 || type === 4 || type === 6 || type === 8 || type === 10 || type === 12;
  return !isType || attr.size >= 2 ** 63;
}

export class InodeTable {
  readonly #core: Core;
  readonly #inodes = new Map<number, Inode>();
  readonly root: Inode;
  #forgets: { nodeid: number; nlookup: number }[] = [];
  #isForgetting = false;

  constructor(core: Core) {
    this.#core = core;
    this.root = new Inode(ROOT, '0:0');
    this.root.attr.mode = S_IFDIR;
    this.root.attr.nlink = 1;
    this.root.attr.ino_lo = 1;
    this.root.pins = 1;
    this.#inodes.set(ROOT, this.root);
  }

  get count(): number {
    return this.#inodes.size;
  }

  get(nodeid: number): Inode | undefined {
    return this.#inodes.get(nodeid);
  }

  all(): readonly Inode[] {
    return [...this.#inodes.values()];
  }

  /** fuse_stale_inode: the node is used for another file now. */
  isStale(inode: Inode, entry: EntryOut): boolean {
    return inode.generation !== generationOf(entry) || (inode.mode & S_IFMT) !== (entry.attr.mode & S_IFMT);
  }

  /** fuse_iget: the inode of an entry, made when it is new. The entry counts once. */
  take(entry: EntryOut, version: number): Inode {
    let inode = this.#inodes.get(entry.nodeid);
    if (inode !== undefined && entry.nodeid !== ROOT && this.isStale(inode, entry)) {
      this.makeBad(inode);
      this.#forgetAll(inode);
      inode = undefined;
    }
    if (inode === undefined) {
      inode = new Inode(entry.nodeid, generationOf(entry));
      inode.attr.mode = entry.attr.mode & S_IFMT;
      this.#inodes.set(entry.nodeid, inode);
    }
    if (entry.nodeid !== ROOT) inode.lookups++;
    this.update(inode, entry.attr, this.#core.clock.deadline(entry.attr_valid, entry.attr_valid_nsec), version);
    return inode;
  }

  makeBad(inode: Inode): void {
    inode.isBad = true;
    inode.pages.drop();
  }

  /** One more reference to a node that is known. */
  count1(inode: Inode): void {
    if (inode.nodeid !== ROOT) inode.lookups++;
  }

  /** Groups that the kernel owns: it believes itself and not the daemon (fuse_get_cache_mask). */
  ownGroups(inode: Inode): number {
    return has(this.#core, 'FUSE_WRITEBACK_CACHE') && isRegular(inode.mode) ? STATX_MTIME | STATX_CTIME | STATX_SIZE : 0;
  }

  /** fuse_change_attributes: believes a reply, unless the inode changed after the request was sent. */
  update(inode: Inode, attr: Attr, validUntil: number, version: number): void {
    if ((version !== 0 && inode.attrVersion > version) || inode.isSizeUnstable) {
      // Stale: neither believed nor cached.
      inode.invalidate();
      return;
    }
    const own = this.ownGroups(inode);
    const isKnown = inode.attrVersion !== 0;
    const { size: oldSize, mtime, mtimensec } = inode.attr;
    this.replace(inode, attr, validUntil, own);
    if (own !== 0 || !isRegular(inode.mode) || !isKnown) return;
    const isMtimeNew = mtime !== attr.mtime || mtimensec !== attr.mtimensec;
    const core = this.#core;
    if (oldSize !== attr.size) {
      inode.pages.truncate(attr.size);
      if (!has(core, 'FUSE_EXPLICIT_INVAL_DATA')) inode.pages.dropClean();
    } else if (has(core, 'FUSE_AUTO_INVAL_DATA') && isMtimeNew) inode.pages.dropClean();
  }

  /** fuse_change_attributes_common. */
  replace(inode: Inode, attr: Attr, validUntil: number, own: number): void {
    const { size, mtime, mtimensec, ctime, ctimensec } = inode.attr;
    Object.assign(inode.attr, attr);
    if (own !== 0 && inode.attrVersion !== 0) {
      if ((own & STATX_SIZE) !== 0) inode.attr.size = size;
      Object.assign(inode.attr, { mtime, mtimensec, ctime, ctimensec });
    }
    inode.attrVersion = ++this.#core.attrVersion;
    inode.validUntil = validUntil;
    inode.invalid = 0;
  }

  /** The mode by which the kernel itself decides: the sticky bit counts only where it checks permissions. */
  effectiveMode(inode: Inode): number {
    return this.#core.mount.defaultPermissions || has(this.#core, 'FUSE_POSIX_ACL') ? inode.mode : inode.mode & ~S_ISVTX;
  }

  // --- FORGET ------------------------------------------------------------------------------------------------------------

  /** Takes back `count` references when the kernel next has the opportunity. */
  forget(nodeid: number, count: number): void {
    if (nodeid === ROOT || count === 0) return;
    this.#forgets.push({ nodeid, nlookup: count });
  }

  #forgetAll(inode: Inode): void {
    this.#inodes.delete(inode.nodeid);
    this.forget(inode.nodeid, inode.lookups);
    inode.lookups = 0;
  }

  /** Drops an inode that has no name in the cache, is not open and not in use. */
  evictUnused(inode: Inode): void {
    if (inode.pins > 0 || inode.names.size > 0) return;
    if (this.#inodes.get(inode.nodeid) === inode) this.#forgetAll(inode);
    inode.pages.drop();
  }

  /** FORGETs leave when the present call has run on, several together. */
  sendForgetsSoon(): void {
    if (this.#forgets.length === 0 || this.#isForgetting) return;
    this.#isForgetting = true;
    queueMicrotask(() => {
      this.#isForgetting = false;
      this.sendForgets();
    });
  }

  sendForgets(): void {
    const { wire } = this.#core;
    while (this.#forgets.length > 0) {
      const batch = this.#forgets.splice(0, BATCH_MAX);
      if (batch.length > 1 && batchForgetExists(wire.agreed.minor)) {
        wire.post({ op: 'BATCH_FORGET', nodeid: 0, args: { count: batch.length }, forgets: batch });
        continue;
      }
      for (const { nodeid, nlookup } of batch) wire.post({ op: 'FORGET', nodeid, args: { nlookup } });
    }
  }
}

/** Records in one BATCH_FORGET: what a read buffer of 64 KiB holds. */
const BATCH_MAX = 4000;

/** Attributes of STATX in the layout of the others. */
export function attrOfStatx(stat: Statx): Attr {
  return {
    ino_lo: stat.ino_lo,
    ino_hi: stat.ino_hi,
    size: stat.size,
    blocks: stat.blocks,
    atime: stat.atime.tv_sec,
    mtime: stat.mtime.tv_sec,
    ctime: stat.ctime.tv_sec,
    atimensec: stat.atime.tv_nsec,
    mtimensec: stat.mtime.tv_nsec,
    ctimensec: stat.ctime.tv_nsec,
    mode: stat.mode,
    nlink: stat.nlink,
    uid: stat.uid,
    gid: stat.gid,
    rdev: ((stat.rdev_minor & 0xff) | (stat.rdev_major << 8) | ((stat.rdev_minor & ~0xff) << 12)) >>> 0,
    blksize: stat.blksize,
    flags: 0,
  };
}

/** Fails with EIO on an inode that went bad. */
export function assertGood(inode: Inode): void {
  if (inode.isBad) fail(ERRNO.EIO);
}
