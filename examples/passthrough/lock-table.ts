/**
 * Who holds POSIX locks: for each (node, lock owner) one descriptor of the host, in memory that all workers share.
 *
 * A POSIX lock belongs to a process and a file. This daemon is one process that stands for many, so it cannot pass their
 * locks on as POSIX locks of its own. Open-file-description locks belong to an open file instead: one descriptor for each
 * owner makes different owners exclude each other, and programs that use the host's files directly as well, while two
 * locks of one owner merge as they should.
 */
import { type FileHandle, FuseError, type LockOwner, type NodeId } from 'fusewire';
import type { InodeTable } from './inode-table.ts';
import { ENOLCK } from './linux.ts';
import { Mutex } from './mutex.ts';

const MUTEX = 0;
const FREE_HEAD = 1;
const USED = 2;
const HEADER_WORDS = 8;

// An entry, in words. The entries of a node are a list that starts in the node's slot; free ones are a list of their own.
const FD = 0;
const OWNER_LOW = 1;
const OWNER_HIGH = 2;
const NEXT = 3;
/** Operations at work on the descriptor now, waiting ones included. */
const USERS = 4;
/** Process that set the last lock, as fcntl(F_GETLK) shows it. */
const PID = 5;
/** The opening through which the entry was made. */
const HANDLE = 6;
const ENTRY_WORDS = 7;

export class LockTable {
  readonly #words: Int32Array;
  readonly #mutex: Mutex;
  readonly #inodes: InodeTable;
  readonly #entriesMax: number;

  /** Memory for up to `entriesMax` pairs of a file and an owner that holds locks on it. */
  static reserve(entriesMax: number): SharedArrayBuffer {
    return new SharedArrayBuffer((HEADER_WORDS + (entriesMax + 1) * ENTRY_WORDS) * 4);
  }

  constructor(memory: SharedArrayBuffer, entriesMax: number, inodes: InodeTable) {
    this.#words = new Int32Array(memory);
    this.#mutex = new Mutex(this.#words, MUTEX);
    this.#inodes = inodes;
    this.#entriesMax = entriesMax;
  }

  /** Whether anybody may hold locks on the node: the common answer, no, costs one load. */
  hasOwners(node: NodeId): boolean {
    return this.#inodes.lockOwners(node) !== 0;
  }

  /** The entry of an owner, held by one more user until {@link release}; 0 when it has none. */
  find(node: NodeId, owner: LockOwner): number {
    this.#mutex.lock();
    const entry = this.#search(node, owner);
    if (entry !== 0) this.#words[this.#at(entry) + USERS]++;
    this.#mutex.unlock();
    return entry;
  }

  /**
   * Makes an entry with the descriptor `fd`, held by one user. When another worker was faster, answers that one's entry
   * and leaves `fd` with the caller; {@link fd} tells. Throws ENOLCK when the table is full.
   */
  insert(node: NodeId, owner: LockOwner, handle: FileHandle, fd: number): number {
    const words = this.#words;
    this.#mutex.lock();
    let entry = this.#search(node, owner);
    if (entry === 0) {
      entry = this.#allocate();
      if (entry === 0) {
        this.#mutex.unlock();
        throw FuseError.of(ENOLCK);
      }
      const at = this.#at(entry);
      words[at + FD] = fd;
      words[at + OWNER_LOW] = owner.low;
      words[at + OWNER_HIGH] = owner.high;
      words[at + USERS] = 0;
      words[at + PID] = 0;
      words[at + HANDLE] = handle;
      words[at + NEXT] = this.#inodes.lockOwners(node);
      this.#inodes.setLockOwners(node, entry);
    }
    words[this.#at(entry) + USERS]++;
    this.#mutex.unlock();
    return entry;
  }

  release(entry: number): void {
    Atomics.sub(this.#words, this.#at(entry) + USERS, 1);
  }

  fd(entry: number): number {
    return this.#words[this.#at(entry) + FD];
  }

  setPid(entry: number, pid: number): void {
    this.#words[this.#at(entry) + PID] = pid;
  }

  pid(entry: number): number {
    return this.#words[this.#at(entry) + PID];
  }

  owner(entry: number): LockOwner {
    const at = this.#at(entry);
    return { low: this.#words[at + OWNER_LOW], high: this.#words[at + OWNER_HIGH] };
  }

  /**
   * Takes an owner's entry away; answers its descriptor to be closed, which ends its locks. While another request of the
   * owner is at work on the descriptor, closing it would also end a lock that is only about to be granted, so then the
   * entry stays: answers -1 and holds it in {@link kept}, for the caller to unlock and {@link release}.
   */
  remove(node: NodeId, owner: LockOwner): number {
    const words = this.#words;
    this.kept = 0;
    this.#mutex.lock();
    const entry = this.#search(node, owner);
    let fd = -1;
    if (entry !== 0 && words[this.#at(entry) + USERS] === 0) {
      fd = words[this.#at(entry) + FD];
      this.#unchain(node, entry);
      this.#free(entry);
    } else if (entry !== 0) {
      words[this.#at(entry) + USERS]++;
      this.kept = entry;
    }
    this.#mutex.unlock();
    return fd;
  }

  kept = 0;

  /**
   * The same for what was made through an opening that has ended: its descriptors, to be closed. A process lost its locks
   * when it closed the file (FLUSH names it as the owner), so what is left then has the opening itself as the owner:
   * open-file-description locks of the mount's own users, of which the kernel says no word.
   */
  removeOf(node: NodeId, handle: FileHandle): number[] {
    const words = this.#words;
    const fds: number[] = [];
    this.#mutex.lock();
    for (let entry = this.#inodes.lockOwners(node); entry !== 0; ) {
      const at = this.#at(entry);
      const next = words[at + NEXT];
      if (words[at + HANDLE] === handle && words[at + USERS] === 0) {
        fds.push(words[at + FD]);
        this.#unchain(node, entry);
        this.#free(entry);
      }
      entry = next;
    }
    this.#mutex.unlock();
    return fds;
  }

  /** The descriptors of the owners of a node that was freed, whose list began with `head`. The entries are free afterwards. */
  removeAll(head: number): number[] {
    const fds: number[] = [];
    this.#mutex.lock();
    for (let entry = head; entry !== 0; ) {
      const next = this.#words[this.#at(entry) + NEXT];
      fds.push(this.#words[this.#at(entry) + FD]);
      this.#free(entry);
      entry = next;
    }
    this.#mutex.unlock();
    return fds;
  }

  /** All entries of a node, each held by one more user until it is released. */
  holdAll(node: NodeId): number[] {
    const entries: number[] = [];
    this.#mutex.lock();
    for (let entry = this.#inodes.lockOwners(node); entry !== 0; entry = this.#words[this.#at(entry) + NEXT]) {
      this.#words[this.#at(entry) + USERS]++;
      entries.push(entry);
    }
    this.#mutex.unlock();
    return entries;
  }

  /** The descriptors of all entries. For the end, when no worker is left: takes no lock. */
  *descriptors(): Generator<number> {
    for (let entry = 1; entry <= this.#words[USED]; entry++) {
      const fd = this.#words[this.#at(entry) + FD];
      if (fd >= 0) yield fd;
    }
  }

  #at(entry: number): number {
    return HEADER_WORDS + entry * ENTRY_WORDS;
  }

  #search(node: NodeId, owner: LockOwner): number {
    const words = this.#words;
    let entry = this.#inodes.lockOwners(node);
    while (entry !== 0) {
      const at = this.#at(entry);
      if (words[at + OWNER_LOW] === (owner.low | 0) && words[at + OWNER_HIGH] === (owner.high | 0)) return entry;
      entry = words[at + NEXT];
    }
    return 0;
  }

  #allocate(): number {
    const words = this.#words;
    const free = words[FREE_HEAD];
    if (free !== 0) {
      words[FREE_HEAD] = words[this.#at(free) + NEXT];
      return free;
    }
    return words[USED] === this.#entriesMax ? 0 : ++words[USED];
  }

  #free(entry: number): void {
    this.#words[this.#at(entry) + FD] = -1;
    this.#words[this.#at(entry) + NEXT] = this.#words[FREE_HEAD];
    this.#words[FREE_HEAD] = entry;
  }

  #unchain(node: NodeId, entry: number): void {
    const words = this.#words;
    const next = words[this.#at(entry) + NEXT];
    let before = this.#inodes.lockOwners(node);
    if (before === entry) {
      this.#inodes.setLockOwners(node, next);
      return;
    }
    while (words[this.#at(before) + NEXT] !== entry) before = words[this.#at(before) + NEXT];
    words[this.#at(before) + NEXT] = next;
  }
}
