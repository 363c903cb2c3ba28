/**
 * The contents of one file on one mount: what is known of its map of blocks, what was written and is not published, and how
 * that is published: blocks first, under new ids, then all of the map in one call.
 */
import type { Timespec } from 'fusewire';
import type { BlockCache } from 'fusewire/storage';
import { ClusterfsError } from '../errors.ts';
import { decodeInode, encodeTime, type Inode } from '../meta/attributes.ts';
import { Conflict, type Durability, type Meta, SessionLost } from '../meta/meta.ts';
import type { Argument, Reply } from '../redis/connection.ts';
import type { BlockStore } from '../store/store.ts';
import { DirtyBlock } from './dirty.ts';
import type { Gate } from './gate.ts';

/** What a mount knows of a file, shared by all who speak about it. */
export interface FileState {
  readonly ino: number;
  /** What the server said last, while nobody else has changed it. */
  inode: Inode | undefined;
  /** Counts what others changed: an answer that was asked for before such a change may be older than it. */
  stamp: number;
}

/** What the contents of all files of a mount share. */
export interface ContentContext {
  readonly meta: Meta;
  readonly store: BlockStore;
  readonly cache: BlockCache;
  readonly gate: Gate;
  readonly blockBytes: number;
  readonly durability: Durability;
  /** Blocks that are fetched before anybody asks when a file is read in order. */
  readonly aheadBlocks: number;
  readonly newBlockId: () => string;
}

/** Where a block is and how much of it counts: `id:length`; empty for a hole. */
type MapEntry = string;

interface Publication {
  readonly blocks: Map<number, DirtyBlock>;
  readonly end: number;
  readonly mtime: Timespec;
  readonly kill: boolean;
}

/** Entries that are asked for beyond those needed, since reading goes on. */
const MAP_AHEAD = 64;
/** How often a block that is not there is looked for under another name. */
const READ_ATTEMPTS = 5;

export class Content {
  readonly #state: FileState;
  readonly #context: ContentContext;
  #map = new Map<number, MapEntry>();
  #dirty = new Map<number, DirtyBlock>();
  #sending: Publication | undefined;
  #end = 0;
  #mtime: Timespec | undefined;
  #kill = false;
  #publishing: Promise<unknown> = Promise.resolve();
  /** A failure that nobody has been told: of a publication in the background, or of blocks that turned out to be lost. */
  #failure: Error | undefined;
  #knownRev = -1;
  /** The revision that the kernel's page cache shows. */
  #kernelRev = -1;
  #pending = 0;
  #nextOffset = -1;

  constructor(state: FileState, context: ContentContext) {
    this.#state = state;
    this.#context = context;
  }

  get ino(): number {
    return this.#state.ino;
  }

  /** The revision of the contents that this mount knows, or -1. */
  get rev(): number {
    return this.#knownRev;
  }

  /** Whether a publication is under way. */
  get publishing(): boolean {
    return this.#sending !== undefined;
  }

  /** Bytes that are written and not on their way. */
  get pending(): number {
    return this.#pending;
  }

  /** Whether something was written that others do not see yet. */
  get dirty(): boolean {
    return this.#dirty.size > 0 || this.#sending !== undefined || this.#kill;
  }

  /** Somebody else changed it. */
  invalidate(): void {
    this.#map.clear();
  }

  /** Attributes as this mount's programs see them: with what they have written themselves. */
  seen(inode: Inode): Inode {
    if (!this.dirty) return inode;
    const end = Math.max(this.#end, this.#sending?.end ?? 0);
    const mtime = this.#mtime ?? this.#sending?.mtime ?? inode.mtime;
    const kill = this.#kill || this.#sending?.kill === true;
    let alloc = inode.alloc;
    for (const block of this.#dirty.values()) alloc += block.memory;
    return {
      ...inode,
      size: Math.max(inode.size, end),
      mtime,
      ctime: mtime,
      mode: kill ? withoutPrivileges(inode.mode) : inode.mode,
      alloc,
    };
  }

  // --- reading ---------------------------------------------------------------------------------------------------------

  async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array[]> {
    const { blockBytes } = this.#context;
    const first = Math.floor(offset / blockBytes);
    const inOrder = offset === this.#nextOffset;
    this.#nextOffset = offset + length;
    await this.#ensureMap(first, Math.floor((offset + length - 1) / blockBytes), signal);
    const end = Math.min(offset + length, this.#size());
    if (end <= offset) return [];
    const last = Math.floor((end - 1) / blockBytes);
    if (inOrder) this.#readAhead(last + 1);
    const wanted: Promise<Uint8Array | undefined>[] = [];
    for (let index = first; index <= last; index++) wanted.push(this.#block(index, signal));
    const blocks = await Promise.all(wanted);
    const pieces: Uint8Array[] = [];
    for (const [nth, block] of blocks.entries()) {
      const start = (first + nth) * blockBytes;
      const from = Math.max(offset, start) - start;
      const to = Math.min(end, start + blockBytes) - start;
      const there = block?.subarray(from, to) ?? new Uint8Array(0);
      if (there.byteLength > 0) pieces.push(there);
      if (there.byteLength < to - from) pieces.push(new Uint8Array(to - from - there.byteLength));
    }
    return pieces;
  }

  #size(): number {
    return Math.max(this.#state.inode?.size ?? 0, this.#end, this.#sending?.end ?? 0);
  }

  /** A block as this mount sees it: what was published, under what is being published, under what is not. */
  async #block(index: number, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    // Taken before the base is waited for: what is published meanwhile is in the base or here, never in neither.
    const layers = [this.#sending?.blocks.get(index), this.#dirty.get(index)].filter((layer) => layer !== undefined);
    if (layers.length === 0) return await this.#published(index, signal);
    let base = layers.some((layer) => layer.whole) ? undefined : await this.#published(index, signal);
    for (const layer of layers) base = layer.whole ? layer.over(undefined) : layer.over(base);
    return base;
  }

  /** The published block, without the bytes that do not count any more. */
  async #published(index: number, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    return (await this.#base(index, signal)).data;
  }

  /** The same with the entry that it was found by. */
  async #base(index: number, signal?: AbortSignal): Promise<{ entry: MapEntry; data: Uint8Array | undefined }> {
    for (let attempt = 1; ; attempt++) {
      await this.#ensureMap(index, index, signal);
      const entry = this.#map.get(index) ?? '';
      if (entry === '') return { entry, data: undefined };
      const [id, length] = split(entry);
      try {
        return { entry, data: (await this.#fetch(id, signal)).subarray(0, length) };
      } catch (error) {
        if (!(error instanceof ClusterfsError) || error.code !== 'ERR_CLUSTERFS_BLOCK_MISSING') throw error;
        // Somebody else may have written it anew, and the old one is collected.
        this.#map.delete(index);
        await this.#ensureMap(index, index, signal);
        if (this.#map.get(index) === entry || attempt >= READ_ATTEMPTS) throw error;
      }
    }
  }

  #fetch(id: string, signal?: AbortSignal): Promise<Uint8Array> {
    const { store, cache, gate } = this.#context;
    return cache.get(
      id,
      (flight) =>
        gate.run(async () => {
          const block = await store.get(id, flight);
          if (block === undefined) throw new ClusterfsError('ERR_CLUSTERFS_BLOCK_MISSING', `${id} of file ${this.ino}`);
          return block;
        }),
      signal,
    );
  }

  #readAhead(index: number): void {
    const { aheadBlocks, cache } = this.#context;
    for (let at = index; at < index + aheadBlocks; at++) {
      const entry = this.#map.get(at);
      if (entry === undefined || entry === '') continue;
      const [id] = split(entry);
      if (cache.peek(id) === undefined) this.#fetch(id).catch(() => {});
    }
  }

  /** Makes sure that the attributes and the entries of these blocks are known. */
  async #ensureMap(first: number, last: number, signal?: AbortSignal): Promise<void> {
    const missing: number[] = [];
    for (let index = first; index <= last; index++) if (!this.#map.has(index)) missing.push(index);
    if (missing.length === 0 && this.#state.inode !== undefined) return;
    // Blocks behind the end are holes without asking.
    const known = this.#state.inode;
    if (known !== undefined) {
      const blocks = Math.ceil(known.size / this.#context.blockBytes);
      if (missing[0] >= blocks) {
        for (const index of missing) this.#map.set(index, '');
        return;
      }
    }
    if (missing.length > 0) for (let at = last + 1; at <= last + MAP_AHEAD; at++) if (!this.#map.has(at)) missing.push(at);
    for (let stamp = -1; stamp !== this.#state.stamp; ) {
      stamp = this.#state.stamp;
      const [inode, entries] = await this.#context.meta.read('map', [String(this.ino), ...missing.map(String)], signal);
      this.#learn(decodeInode(inode));
      for (const [nth, entry] of (entries as readonly (Buffer | null)[]).entries()) {
        this.#map.set(missing[nth], entry === null ? '' : String(entry));
      }
    }
  }

  /** All blocks that hold something, in order, for SEEK_DATA and SEEK_HOLE: start and end in bytes. */
  async extents(): Promise<readonly (readonly [start: number, end: number])[]> {
    const { blockBytes, meta } = this.#context;
    const [inode, entries] = await meta.read('whole_map', [String(this.ino)]);
    this.#learn(decodeInode(inode));
    const found: [number, number][] = [];
    const words = (entries as readonly Buffer[]).map(String);
    for (let at = 0; at < words.length; at += 2) {
      const start = Number(words[at]) * blockBytes;
      found.push([start, start + split(words[at + 1])[1]]);
    }
    return found.sort(([one], [other]) => one - other);
  }

  /** Takes over what the server said. A revision that is not the known one means that the map is another. */
  #learn(inode: Inode, ownChanges = 0): void {
    if (this.#knownRev + ownChanges !== inode.rev) this.#map.clear();
    this.#knownRev = inode.rev;
    this.#state.inode = inode;
  }

  /** The server said so elsewhere: after open, or after a change of attributes. */
  learn(inode: Inode): void {
    if (inode.rev < this.#knownRev) return;
    if (inode.rev !== this.#knownRev) this.#map.clear();
    this.#knownRev = inode.rev;
    this.#state.inode = inode;
  }

  // --- writing -----------------------------------------------------------------------------------------------------------

  /** Takes the bytes over. They are seen by this mount at once, by others after they are published. */
  write(offset: number, data: Uint8Array, when: Timespec, kill: boolean): void {
    const { blockBytes } = this.#context;
    for (let done = 0; done < data.byteLength; ) {
      const index = Math.floor((offset + done) / blockBytes);
      const at = offset + done - index * blockBytes;
      const part = data.subarray(done, done + Math.min(blockBytes - at, data.byteLength - done));
      const block = this.#dirtyBlock(index);
      const before = block.memory;
      block.write(at, part, blockBytes);
      this.#grew(block.memory - before);
      done += part.byteLength;
    }
    this.#end = Math.max(this.#end, offset + data.byteLength);
    this.#mtime = when;
    this.#kill ||= kill;
  }

  /** Zeros from `start` to `end`, and no blocks where whole ones are free of anything else. */
  punch(start: number, end: number, when: Timespec): void {
    const { blockBytes } = this.#context;
    for (let at = start; at < end; ) {
      const index = Math.floor(at / blockBytes);
      const next = Math.min(end, (index + 1) * blockBytes);
      const block = this.#dirtyBlock(index);
      const before = block.memory;
      if (next - at === blockBytes) block.clear();
      else block.write(at - index * blockBytes, new Uint8Array(next - at), blockBytes);
      this.#grew(block.memory - before);
      at = next;
    }
    this.#mtime = when;
  }

  /** Drops what was written: the file becomes empty. Waits for what is under way. */
  async discard(): Promise<void> {
    this.#dropDirty();
    await this.#publishing.catch(() => {});
    this.#dropDirty();
  }

  #grew(bytes: number): void {
    this.#pending += bytes;
    this.#context.gate.dirtied(bytes);
  }

  #dropDirty(): void {
    this.#grew(-this.#pending);
    this.#dirty.clear();
    this.#end = 0;
    this.#mtime = undefined;
    this.#kill = false;
    this.#failure = undefined;
  }

  #dirtyBlock(index: number): DirtyBlock {
    let block = this.#dirty.get(index);
    if (block === undefined) {
      block = new DirtyBlock();
      this.#dirty.set(index, block);
    }
    return block;
  }

  // --- publishing --------------------------------------------------------------------------------------------------------

  /**
   * Publishes what was written before this call. With `durable` it also waits until replicas have confirmed it, and all that
   * was published before. Rejects with the failure of an earlier publication that nobody was told, once.
   */
  async publish(options: { durable?: boolean } = {}): Promise<void> {
    const run = this.#publishing
      .catch(() => {})
      .then(() => this.#publish({ durable: options.durable === true, fullOnly: false }));
    this.#publishing = run;
    await run;
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }

  /** Publishes whole blocks without anybody waiting for it; what is only begun stays. */
  publishFull(): Promise<void> {
    const run = this.#publishing.catch(() => {}).then(() => this.#publish({ durable: false, fullOnly: true }));
    this.#publishing = run;
    return run;
  }

  /** A block of it is lost for good: the next fsync tells. */
  fail(error: Error): void {
    this.#failure ??= error;
  }

  async #publish({ durable, fullOnly }: { durable: boolean; fullOnly: boolean }): Promise<void> {
    const taken = this.#take(fullOnly);
    if (taken === undefined) {
      if (durable) await this.#confirm();
      return;
    }
    this.#sending = taken;
    let memory = 0;
    for (const block of taken.blocks.values()) memory += block.memory;
    this.#pending -= memory;
    try {
      await this.#send(taken, durable);
      this.#context.gate.dirtied(-memory);
      this.#sending = undefined;
    } catch (error) {
      this.#context.gate.dirtied(-memory);
      // A file that is gone takes nothing any more; everything else is tried again.
      if ((error as { code?: string }).code === 'ESTALE') this.#sending = undefined;
      else this.#putBack(taken);
      throw error;
    }
  }

  #take(fullOnly: boolean): Publication | undefined {
    const { blockBytes } = this.#context;
    let blocks = this.#dirty;
    if (fullOnly) {
      blocks = new Map([...this.#dirty].filter(([, block]) => !block.whole && block.covers(blockBytes)));
      if (blocks.size === 0) return undefined;
    } else if (blocks.size === 0 && !this.#kill) {
      return undefined;
    }
    const end = fullOnly ? Math.min(this.#end, (Math.max(...blocks.keys()) + 1) * blockBytes) : this.#end;
    const taken = { blocks, end, mtime: this.#mtime ?? { seconds: 0, nanoseconds: 0 }, kill: this.#kill };
    if (fullOnly) {
      for (const index of blocks.keys()) this.#dirty.delete(index);
    } else {
      this.#dirty = new Map();
    }
    if (this.#dirty.size === 0) {
      this.#end = 0;
      this.#mtime = undefined;
    }
    this.#kill = false;
    return taken;
  }

  /** It could not be published: it lies beneath what was written since, and is tried again with that. */
  #putBack(taken: Publication): void {
    this.#sending = undefined;
    for (const [index, block] of taken.blocks) {
      const newer = this.#dirty.get(index);
      if (newer !== undefined) {
        this.#grew(-newer.memory);
        block.merge(newer, this.#context.blockBytes);
      }
      this.#grew(block.memory);
      this.#dirty.set(index, block);
    }
    this.#end = Math.max(this.#end, taken.end);
    this.#mtime ??= taken.mtime;
    this.#kill ||= taken.kill;
  }

  async #send(taken: Publication, durable: boolean): Promise<void> {
    const { meta } = this.#context;
    let ready = new Map<number, Prepared>();
    let wanted = [...taken.blocks.keys()];
    for (;;) {
      for (const [index, prepared] of await this.#prepare(taken, wanted)) ready.set(index, prepared);
      if (durable) await this.#confirmBlocks(ready);
      const words: Argument[] = [String(this.ino), encodeTime(taken.mtime), String(taken.end), taken.kill ? '1' : '0'];
      for (const [index, { base, entry }] of ready) words.push(String(index), base, entry);
      try {
        const options = { sameSession: true, ...(durable ? { durability: this.#context.durability } : {}) };
        const stamp = this.#state.stamp;
        const [inode] = await meta.change('publish', words, options);
        this.#tookEffect(decodeInode(inode), ready, stamp);
        return;
      } catch (error) {
        if (error instanceof SessionLost) {
          // Blocks of a session that is gone may be collected: they are written once more.
          ready = new Map();
          wanted = [...taken.blocks.keys()];
        } else if (error instanceof Conflict) {
          wanted = this.#rebase(error, ready);
        } else {
          // Whether it was executed is not known when the cluster went silent, so the blocks stay: gc finds them.
          throw error;
        }
      }
    }
  }

  /** Uploads blocks as they will be, each under a new id. */
  async #prepare(taken: Publication, wanted: readonly number[]): Promise<(readonly [number, Prepared])[]> {
    const { store, gate, newBlockId } = this.#context;
    for (const index of wanted) await this.#ensureMap(index, index);
    return await Promise.all(
      wanted.map(async (index) => {
        const block = taken.blocks.get(index) as DirtyBlock;
        let base = this.#map.get(index) ?? '';
        let data = block.over(undefined);
        if (base !== '' && !block.covers(split(base)[1])) {
          // What it is made from is named as it was found: should it change meanwhile, the server refuses.
          const found = await this.#base(index);
          base = found.entry;
          data = block.over(found.data);
        }
        if (data.byteLength === 0) return [index, { base, entry: '', data }] as const;
        const id = newBlockId();
        await gate.run(() => store.put(id, data, this.ino));
        return [index, { base, entry: `${id}:${data.byteLength}`, data }] as const;
      }),
    );
  }

  /** Somebody else published in between: what they wrote becomes the base of what we write. */
  #rebase(conflict: Conflict, ready: Map<number, Prepared>): number[] {
    const [inode, entries] = conflict.answer as readonly [Reply, readonly Buffer[]];
    this.#learn(decodeInode(inode));
    const again: number[] = [];
    const words = entries.map(String);
    for (let at = 0; at < words.length; at += 2) {
      const index = Number(words[at]);
      this.#map.set(index, words[at + 1]);
      const wasted = ready.get(index)?.entry;
      if (wasted) void this.#context.store.delete([split(wasted)[0]]).catch(() => {});
      ready.delete(index);
      again.push(index);
    }
    // The others are still as they were found.
    for (const [index, { base }] of ready) this.#map.set(index, base);
    return again;
  }

  #tookEffect(inode: Inode, ready: ReadonlyMap<number, Prepared>, stamp: number): void {
    const alone = this.#knownRev + 1 === inode.rev;
    this.#learn(inode, 1);
    if (alone && this.#kernelRev === inode.rev - 1) this.#kernelRev = inode.rev;
    for (const [index, { entry, data }] of ready) {
      this.#map.set(index, entry);
      if (entry !== '') this.#context.cache.put(split(entry)[0], data);
    }
    // Others were heard of while the answer was on its way: which came first is not known.
    if (stamp !== this.#state.stamp) {
      this.#state.inode = undefined;
      this.#map.clear();
    }
  }

  /**
   * A program opens it: whether what the kernel has cached of it is what it would read now. What this mount publishes itself went
   * through that cache.
   */
  kernelKeeps(rev: number): boolean {
    const keeps = this.#kernelRev === rev;
    this.#kernelRev = rev;
    return keeps;
  }

  /** A change of its own that the kernel made to its cache too, such as a truncation. */
  changedByKernel(inode: Inode): void {
    if (this.#kernelRev === inode.rev - 1) this.#kernelRev = inode.rev;
  }

  /** Everything that this mount has put into the store is on replicas before anything names it for good. */
  async #confirmBlocks(ready: ReadonlyMap<number, Prepared>): Promise<void> {
    const { store } = this.#context;
    const ours = new Map(
      [...ready.values()].filter(({ entry }) => entry !== '').map(({ entry, data }) => [split(entry)[0], data]),
    );
    for (;;) {
      const lost = await store.sync();
      if (lost.length === 0) return;
      const others = lost.filter(({ id }) => !ours.has(id));
      if (others.length > 0) this.#context.gate.onLost(others);
      const again = lost.filter(({ id }) => ours.has(id));
      await Promise.all(again.map(({ id }) => store.put(id, ours.get(id) as Buffer, this.ino)));
      if (again.length === 0) return;
    }
  }

  /** Nothing is left to publish; what was published before may still be on one server alone. */
  async #confirm(): Promise<void> {
    const { meta, durability } = this.#context;
    await this.#confirmBlocks(new Map());
    try {
      await meta.change('sync', [String(this.ino), String(Math.max(0, this.#knownRev))], { durability });
    } catch (error) {
      if (error instanceof ClusterfsError && error.message.includes('ELOST')) {
        throw new ClusterfsError('ERR_CLUSTERFS_LOST', `file ${this.ino}`);
      }
      throw error;
    }
  }
}

interface Prepared {
  /** The entry that it was made from. */
  readonly base: MapEntry;
  readonly entry: MapEntry;
  readonly data: Buffer;
}

function split(entry: MapEntry): [id: string, length: number] {
  const colon = entry.lastIndexOf(':');
  return [entry.slice(0, colon), Number(entry.slice(colon + 1))];
}

const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o0010;

/** The set-group-id bit without the group's execute bit means mandatory locking and stays (setattr_should_drop_suidgid). */
export function withoutPrivileges(mode: number): number {
  const kept = mode & ~S_ISUID;
  return (mode & S_IXGRP) !== 0 ? kept & ~S_ISGID : kept;
}
