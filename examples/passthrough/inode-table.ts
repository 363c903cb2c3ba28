/**
 * The inode table: which file of the host each node of the protocol is. It lies in memory that all workers share, because
 * the kernel may send a LOOKUP to one worker and the FORGET for the same node to another.
 *
 * A node is a slot with a descriptor opened O_PATH. The descriptor is the file, whatever happens to its names, and as long
 * as it is open the host cannot give the inode number to another file: (device, inode number) therefore names at most one
 * file among the live slots, and the table can find a file again by it.
 *
 * Layout: a header, 4 bytes for each hash bucket, 40 bytes for each slot. The memory is reserved whole and touched as
 * slots come into use, so the limit costs address space, not memory.
 */

import { FuseError, type NodeId, ROOT_NODE } from 'fusewire';
import { ESTALE } from './linux.ts';
import { Mutex } from './mutex.ts';

// The header, in words.
const MUTEX = 0;
const FREE_HEAD = 1;
const USED = 2;
const LIVE = 3;
const GENERATION_LOW = 4;
const GENERATION_HIGH = 5;
/** 1 while a worker has the kernel asked to forget nodes, see relief.ts; and the slot where the next asking goes on. */
const RELIEF = 6;
const RELIEF_HAND = 7;
const HEADER_WORDS = 16;

// A slot, in words. `FD` is the descriptor + 1, so that memory full of zeros is a table of free slots.
const FD = 0;
const INO_LOW = 1;
const INO_HIGH = 2;
const DEVICE = 3;
const NEXT = 4;
const SLOT_GENERATION_LOW = 5;
const SLOT_GENERATION_HIGH = 6;
const LOCK_OWNERS = 7;
/** A double: lookups of one hot file pass 2^32 within hours. */
const COUNT = 8;
const SLOT_WORDS = 10;

/** What a file is known by: what stat shows, in words. */
export interface FileIdentity {
  readonly device: number;
  readonly inoLow: number;
  readonly inoHigh: number;
}

export class InodeTable {
  readonly #words: Int32Array;
  readonly #counts: Float64Array;
  readonly #mutex: Mutex;
  readonly #buckets: number;
  readonly #bucketMask: number;
  readonly #nodesMax: number;
  readonly #slotsAt: number;

  /** Whether the last {@link enter} took the descriptor over; if not, the file was known and the caller closes it. */
  adopted = false;
  /** What the last {@link forget} that freed a node left: its descriptor, to be closed, and its list of lock owners. */
  freedFd = -1;
  freedLockOwners = 0;

  /** Memory for a table of up to `nodesMax` nodes. */
  static reserve(nodesMax: number): SharedArrayBuffer {
    const words = HEADER_WORDS + bucketsFor(nodesMax) + (nodesMax + 1) * SLOT_WORDS;
    return new SharedArrayBuffer(words * 4);
  }

  /** The table in `memory`, which {@link reserve} made for the same `nodesMax`. */
  constructor(memory: SharedArrayBuffer, nodesMax: number) {
    this.#words = new Int32Array(memory);
    this.#counts = new Float64Array(memory);
    this.#mutex = new Mutex(this.#words, MUTEX);
    this.#nodesMax = nodesMax;
    this.#buckets = HEADER_WORDS;
    this.#bucketMask = bucketsFor(nodesMax) - 1;
    // Slot 0 does not exist: node ids are slot numbers, and 0 is no node id. The root, entered first, gets slot 1.
    this.#slotsAt = HEADER_WORDS + bucketsFor(nodesMax);
  }

  /** Nodes in use now. */
  get live(): number {
    return Atomics.load(this.#words, LIVE);
  }

  /**
   * The descriptor of a node. Takes no lock: the kernel forgets a node only after the last request for it was answered.
   * Throws ESTALE for a node that is none, which no kernel sends.
   */
  fd(node: NodeId): number {
    const fd = node >= 1 && node <= this.#nodesMax ? Atomics.load(this.#words, this.#slot(node) + FD) - 1 : -1;
    if (fd < 0) throw FuseError.of(ESTALE);
    return fd;
  }

  /** Counts up with each node that is made, and never repeats: (node, generation) is unique. */
  generation(node: NodeId): number {
    const at = this.#slot(node);
    return (this.#words[at + SLOT_GENERATION_HIGH] >>> 0) * 0x1_0000_0000 + (this.#words[at + SLOT_GENERATION_LOW] >>> 0);
  }

  /** A point in time to hand to {@link find}: how many nodes were ever made, modulo 2^32. */
  now(): number {
    return Atomics.load(this.#words, GENERATION_LOW);
  }

  /**
   * Finds a file whose identity was read from its name after the moment `since`, and counts a lookup. Answers 0 when it is
   * unknown, or became known only since then: in between, its inode number may have passed from one file to another, and
   * then the node would be a different file than the name.
   */
  find(file: FileIdentity, since: number): NodeId | 0 {
    this.#mutex.lock();
    const node = this.#search(file);
    const found = node !== 0 && ((this.#words[this.#slot(node) + SLOT_GENERATION_LOW] - since) | 0) <= 0;
    if (found) this.#counts[(this.#slot(node) + COUNT) >> 1]++;
    this.#mutex.unlock();
    return found ? (node as NodeId) : 0;
  }

  /**
   * The node of the file that `fd` is open on: the known one, or a new one that takes `fd` over (see {@link adopted}).
   * Counts a lookup either way. Two workers that look the same file up at once get the same node; one keeps its
   * descriptor, the other is told to close its own. Answers 0 when the table is full.
   */
  enter(fd: number, file: FileIdentity): NodeId | 0 {
    this.#mutex.lock();
    let node = this.#search(file);
    this.adopted = false;
    if (node === 0) {
      node = this.#allocate();
      if (node !== 0) this.#fill(node, fd, file);
    }
    if (node !== 0) this.#counts[(this.#slot(node) + COUNT) >> 1]++;
    this.#mutex.unlock();
    return node as NodeId | 0;
  }

  /** Counts one more lookup of a node that somebody holds (LINK answers the node it was given). */
  count(node: NodeId): void {
    this.#mutex.lock();
    this.#counts[(this.#slot(node) + COUNT) >> 1]++;
    this.#mutex.unlock();
  }

  /**
   * Takes `count` off the lookups of a node; true when that freed it (see {@link freedFd}). Finding and counting, and
   * uncounting and freeing, are one step each under the same mutex: a lookup either comes first, and the node stays, or
   * finds it gone and makes a new one. The root stays for ever.
   */
  forget(node: NodeId, count: number): boolean {
    if (node === ROOT_NODE || node < 1 || node > this.#nodesMax) return false;
    const words = this.#words;
    const at = this.#slot(node);
    this.#mutex.lock();
    this.#counts[(at + COUNT) >> 1] -= count;
    if (words[at + FD] === 0 || this.#counts[(at + COUNT) >> 1] > 0) {
      this.#mutex.unlock();
      return false;
    }
    this.#unchain(node);
    this.freedFd = words[at + FD] - 1;
    this.freedLockOwners = words[at + LOCK_OWNERS];
    words[at + LOCK_OWNERS] = 0;
    Atomics.store(words, at + FD, 0);
    words[at + NEXT] = words[FREE_HEAD];
    words[FREE_HEAD] = node;
    words[LIVE]--;
    this.#mutex.unlock();
    return true;
  }

  /** Head of the node's list of lock owners, which lock-table.ts keeps; 0 is none. Guarded by that table's mutex. */
  lockOwners(node: NodeId): number {
    return Atomics.load(this.#words, this.#slot(node) + LOCK_OWNERS);
  }

  setLockOwners(node: NodeId, head: number): void {
    Atomics.store(this.#words, this.#slot(node) + LOCK_OWNERS, head);
  }

  /** Whether lookups should wait: what is left, a sixteenth, is for files that are made. */
  get isTight(): boolean {
    return this.live >= this.#nodesMax - (this.#nodesMax >>> 4);
  }

  /** True for the one worker that may ask the kernel to forget nodes now. */
  beginRelief(): boolean {
    return Atomics.compareExchange(this.#words, RELIEF, 0, 1) === 0;
  }

  endRelief(): void {
    Atomics.store(this.#words, RELIEF, 0);
  }

  /**
   * Up to `count` nodes in use, going round the table from where the last call stopped: so the oldest come first, roughly.
   * Only between {@link beginRelief} and {@link endRelief}.
   */
  nextInUse(count: number): NodeId[] {
    const words = this.#words;
    const used = words[USED];
    const nodes: NodeId[] = [];
    let node = words[RELIEF_HAND];
    for (let seen = 0; seen < used && nodes.length < count; seen++) {
      node = node >= used ? 1 : node + 1;
      if (node !== ROOT_NODE && Atomics.load(words, this.#slot(node) + FD) !== 0) nodes.push(node as NodeId);
    }
    words[RELIEF_HAND] = node;
    return nodes;
  }

  /** The lookup count, for tests. */
  lookups(node: NodeId): number {
    return this.#counts[(this.#slot(node) + COUNT) >> 1];
  }

  /** The descriptors of all live nodes. For the end, when no worker is left: takes no lock. */
  *descriptors(): Generator<number> {
    for (let node = 1; node <= this.#words[USED]; node++) {
      const fd = this.#words[this.#slot(node) + FD] - 1;
      if (fd >= 0) yield fd;
    }
  }

  #slot(node: number): number {
    return this.#slotsAt + node * SLOT_WORDS;
  }

  #bucket(device: number, inoLow: number, inoHigh: number): number {
    let hash = Math.imul(inoLow, 0x9e3779b1) ^ Math.imul(inoHigh ^ device, 0x85ebca6b);
    hash ^= hash >>> 15;
    return this.#buckets + (hash & this.#bucketMask);
  }

  #search(file: FileIdentity): number {
    const words = this.#words;
    const inoLow = file.inoLow | 0;
    const inoHigh = file.inoHigh | 0;
    const device = file.device | 0;
    let node = words[this.#bucket(device, inoLow, inoHigh)];
    while (node !== 0) {
      const at = this.#slot(node);
      if (words[at + INO_LOW] === inoLow && words[at + INO_HIGH] === inoHigh && words[at + DEVICE] === device) return node;
      node = words[at + NEXT];
    }
    return 0;
  }

  #allocate(): number {
    const words = this.#words;
    const free = words[FREE_HEAD];
    if (free !== 0) {
      words[FREE_HEAD] = words[this.#slot(free) + NEXT];
      return free;
    }
    if (words[USED] === this.#nodesMax) return 0;
    return ++words[USED];
  }

  #fill(node: number, fd: number, file: FileIdentity): void {
    const words = this.#words;
    const at = this.#slot(node);
    words[at + INO_LOW] = file.inoLow;
    words[at + INO_HIGH] = file.inoHigh;
    words[at + DEVICE] = file.device;
    words[at + LOCK_OWNERS] = 0;
    const low = (words[GENERATION_LOW] + 1) | 0;
    if (low === 0) words[GENERATION_HIGH]++;
    Atomics.store(words, GENERATION_LOW, low);
    words[at + SLOT_GENERATION_LOW] = low;
    words[at + SLOT_GENERATION_HIGH] = words[GENERATION_HIGH];
    this.#counts[(at + COUNT) >> 1] = 0;
    const bucket = this.#bucket(words[at + DEVICE], words[at + INO_LOW], words[at + INO_HIGH]);
    words[at + NEXT] = words[bucket];
    words[bucket] = node;
    words[LIVE]++;
    Atomics.store(words, at + FD, fd + 1);
    this.adopted = true;
  }

  #unchain(node: number): void {
    const words = this.#words;
    const at = this.#slot(node);
    let link = this.#bucket(words[at + DEVICE], words[at + INO_LOW], words[at + INO_HIGH]);
    while (words[link] !== node) link = this.#slot(words[link]) + NEXT;
    words[link] = words[at + NEXT];
  }
}

/** As many buckets as nodes, rounded up to a power of two: chains of one or two. */
function bucketsFor(nodesMax: number): number {
  let buckets = 16;
  while (buckets < nodesMax) buckets *= 2;
  return buckets;
}
