/** The dentry cache: names that are known to exist or not, their lifetimes, and how they are looked up and revalidated. */
import { decodeEntryOut, type EntryOut, newEntryOut } from '../../protocol/index.ts';
import { type Call, type Core, has } from './core.ts';
import { ERRNO, fail } from './errors.ts';
import { type Inode, isInvalidAttr } from './inodes.ts';
import type { Reply } from './wire.ts';

const { ENOENT, EIO, EINTR, ENOMEM, ENAMETOOLONG, ELOOP, ESTALE } = ERRNO;

export class Dentry {
  name: string;
  parent: Dentry | undefined;
  /** Undefined: known not to exist. */
  inode: Inode | undefined;
  readonly children = new Map<string, Dentry>();
  /** Lookups of names that are under way. */
  readonly lookups = new Map<string, Promise<Dentry>>();
  /** Milliseconds of the virtual clock; 0 is over. */
  validUntil = 0;
  epoch = 0;
  pins = 0;
  isHashed = true;

  constructor(name: string, parent: Dentry | undefined, inode: Inode | undefined) {
    this.name = name;
    this.parent = parent;
    this.inode = inode;
  }
}

/** Why a name is looked up, where it matters: then what is cached is asked for again. */
export type LookupFlag = 'exclusive' | 'rename-target' | undefined;

export class DentryCache {
  readonly root: Dentry;
  /** INC_EPOCH makes every name of an older epoch stale. */
  epoch = 0;
  readonly #core: Core;

  constructor(core: Core, root: Inode) {
    this.#core = core;
    this.root = new Dentry('', undefined, root);
    this.root.pins = 1;
    root.names.add(this.root);
  }

  /** Longest name that is sent, bytes (fc->name_max). */
  get nameMax(): number {
    return this.#core.wire.agreed.maxPages > 1 && has(this.#core, 'FUSE_MAX_PAGES') ? 4095 : 1024;
  }

  // --- looking up ------------------------------------------------------------------------------------------------------

  /**
   * The dentry of a name, positive or negative. `isLocked`: the caller holds the directory's lock. Otherwise it is taken
   * where the daemon has to be asked.
   */
  async lookup(call: Call, parent: Dentry, name: string, flag?: LookupFlag, isLocked = false): Promise<Dentry> {
    if (name.length > this.nameMax) fail(ENAMETOOLONG);
    const known = parent.children.get(name);
    if (known !== undefined) {
      if (await this.#isValid(call, known, flag)) return call.holdDentry(known);
      if (parent.children.get(name) === known) this.invalidate(known);
    }
    // Who holds the directory alone is the only one to look up in it.
    if (isLocked) return call.holdDentry(await this.#send(call, parent, name));
    const isAlone = !has(this.#core, 'FUSE_PARALLEL_DIROPS');
    return parent.inode!.lock.hold(isAlone, async () => {
      const made = parent.children.get(name);
      return call.holdDentry(made ?? (await this.#sendOnce(call, parent, name)));
    });
  }

  /** Two lookups of one name at a time are one (d_alloc_parallel). */
  #sendOnce(call: Call, parent: Dentry, name: string): Promise<Dentry> {
    const underWay = parent.lookups.get(name);
    if (underWay !== undefined) return underWay;
    const lookup = this.#send(call, parent, name).finally(() => parent.lookups.delete(name));
    parent.lookups.set(name, lookup);
    return lookup;
  }

  /** fuse_lookup. */
  async #send(call: Call, parent: Dentry, name: string): Promise<Dentry> {
    const core = this.#core;
    const directory = parent.inode!;
    if (directory.isDead) fail(ENOENT);
    if (directory.isBad) fail(EIO);
    const version = core.attrVersion;
    const epoch = this.epoch;
    const reply = await core.wire.request({ op: 'LOOKUP', nodeid: directory.nodeid, names: [name], caller: call });
    if (reply.errno !== 0 && reply.errno !== ENOENT) fail(reply.errno);
    const entry = reply.errno === 0 ? decodeEntry(reply) : undefined;
    if (entry === undefined || entry.nodeid === 0) {
      const deadline = entry === undefined ? 0 : core.clock.deadline(entry.entry_valid, entry.entry_valid_nsec);
      return this.add(parent, name, undefined, deadline, epoch);
    }
    // The reference is not given back then: the kernel leaks it.
    if (isInvalidAttr(entry.attr)) fail(EIO);
    if (entry.nodeid === 1) fail(EIO);
    const inode = core.inodes.take(entry, version);
    call.hold(inode);
    return this.add(parent, name, inode, core.clock.deadline(entry.entry_valid, entry.entry_valid_nsec), epoch);
  }

  /** The name stays while it is being asked for, and no longer: what turns out stale is forgotten before the next question. */
  async #isValid(call: Call, dentry: Dentry, flag: LookupFlag): Promise<boolean> {
    const { inode } = dentry;
    dentry.pins++;
    if (inode !== undefined) inode.pins++;
    try {
      return await this.#revalidate(call, dentry, flag);
    } finally {
      dentry.pins--;
      if (inode !== undefined) inode.pins--;
    }
  }

  /** fuse_dentry_revalidate: whether a cached name may still be used. */
  async #revalidate(call: Call, dentry: Dentry, flag: LookupFlag): Promise<boolean> {
    const core = this.#core;
    const { inode } = dentry;
    if (inode?.isBad) return false;
    const isOver = dentry.epoch < this.epoch || core.clock.isOver(dentry.validUntil) || flag !== undefined || call.revalidates;
    if (!isOver) {
      if (inode?.cameByReaddirplus) {
        inode.cameByReaddirplus = false;
        if (dentry.parent?.inode !== undefined) dentry.parent.inode.advisesReaddirplus = true;
      }
      return true;
    }
    if (inode === undefined) return false;
    const version = core.attrVersion;
    const parent = dentry.parent!.inode!;
    call.hold(parent);
    const reply = await core.wire.request({ op: 'LOOKUP', nodeid: parent.nodeid, names: [dentry.name], caller: call });
    if (reply.errno === ENOMEM || reply.errno === EINTR) fail(reply.errno);
    if (reply.errno !== 0) return false;
    const entry = decodeEntry(reply);
    if (entry.nodeid === 0) return false;
    if (entry.nodeid !== inode.nodeid) {
      core.inodes.forget(entry.nodeid, 1);
      return false;
    }
    core.inodes.count1(inode);
    if (isInvalidAttr(entry.attr) || core.inodes.isStale(inode, entry)) return false;
    core.inodes.update(inode, entry.attr, core.clock.deadline(entry.attr_valid, entry.attr_valid_nsec), version);
    dentry.validUntil = core.clock.deadline(entry.entry_valid, entry.entry_valid_nsec);
    dentry.epoch = this.epoch;
    return true;
  }

  // --- the tree --------------------------------------------------------------------------------------------------------

  /**
   * Puts a name into the cache (d_splice_alias). A directory has one name only: one that turns up elsewhere has been moved,
   * and its dentry moves with it.
   */
  add(parent: Dentry, name: string, inode: Inode | undefined, validUntil: number, epoch = this.epoch): Dentry {
    const old = parent.children.get(name);
    if (old !== undefined) {
      if (old.inode === inode) return this.#renew(old, validUntil, epoch);
      this.invalidate(old);
    }
    const alias = inode?.isDirectory ? [...inode.names].find((other) => other.isHashed) : undefined;
    if (alias !== undefined) {
      for (let up: Dentry | undefined = parent; up !== undefined; up = up.parent) if (up === alias) fail(ELOOP);
      if (alias === this.root) fail(ESTALE);
      this.move(alias, parent, name);
      return this.#renew(alias, validUntil, epoch);
    }
    const dentry = new Dentry(name, parent, inode);
    parent.children.set(name, dentry);
    inode?.names.add(dentry);
    return this.#renew(dentry, validUntil, epoch);
  }

  #renew(dentry: Dentry, validUntil: number, epoch: number): Dentry {
    dentry.validUntil = validUntil;
    dentry.epoch = epoch;
    return dentry;
  }

  move(dentry: Dentry, parent: Dentry, name: string): void {
    dentry.parent!.children.delete(dentry.name);
    const replaced = parent.children.get(name);
    if (replaced !== undefined && replaced !== dentry) this.invalidate(replaced);
    dentry.name = name;
    dentry.parent = parent;
    parent.children.set(name, dentry);
  }

  exchange(one: Dentry, other: Dentry): void {
    const { parent, name } = one;
    one.parent = other.parent;
    one.name = other.name;
    other.parent = parent;
    other.name = name;
    one.parent!.children.set(one.name, one);
    other.parent!.children.set(other.name, other);
  }

  /** Takes a name and everything below it out of the cache (d_invalidate). What is open stays open. */
  invalidate(dentry: Dentry): void {
    for (const child of [...dentry.children.values()]) this.invalidate(child);
    if (dentry === this.root) return;
    if (dentry.parent?.children.get(dentry.name) === dentry) dentry.parent.children.delete(dentry.name);
    dentry.isHashed = false;
    const { inode } = dentry;
    if (inode === undefined) return;
    inode.names.delete(dentry);
    this.#core.inodes.evictUnused(inode);
  }

  /** Drops what nobody uses, leaves first (the shrinker). */
  prune(dentry: Dentry = this.root): void {
    for (const child of [...dentry.children.values()]) this.prune(child);
    if (dentry.pins === 0 && dentry.children.size === 0) this.invalidate(dentry);
  }

  /** Names in the cache, for messages and tests. */
  get count(): number {
    const below = (dentry: Dentry): number => {
      let count = 1;
      for (const child of dentry.children.values()) count += below(child);
      return count;
    };
    return below(this.root) - 1;
  }
}

export function decodeEntry(reply: Reply): EntryOut {
  const entry = newEntryOut();
  decodeEntryOut(reply.words, 0, entry);
  return entry;
}
