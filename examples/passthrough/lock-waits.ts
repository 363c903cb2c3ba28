/**
 * Who waits for POSIX locks, in memory that all workers share: where processes wait for each other in a circle, the one that
 * would close it gets EDEADLK, as it does natively. The host cannot tell, since to it all locks are this daemon's.
 */
import type { LockOwner, LockRequest, NodeId } from 'fusewire';
import { Mutex } from './mutex.ts';

/** A lock that is held or wanted: a range of a file, both ends included. */
export interface Range {
  readonly type: 'read' | 'write';
  readonly start: number;
  readonly end: number;
}

/** A lock that somebody waits for. */
export interface Wait extends Range {
  readonly node: NodeId;
  readonly owner: LockOwner;
  /** The process that waits. */
  readonly pid: number;
}

/** Waits that are watched at a time. Beyond that, locks are waited for all the same. */
const WAITS_MAX = 1024;

const MUTEX = 0;
const COUNT = 1;
const HEADER_WORDS = 8;

// A wait, in words; the range follows as two doubles. No node: the place is free.
const NODE = 0;
const OWNER_LOW = 1;
const OWNER_HIGH = 2;
const IS_WRITE = 3;
const PID = 4;
const START_DOUBLE = 3;
const END_DOUBLE = 4;
const WAIT_WORDS = 10;

export class LockWaits {
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #mutex: Mutex;

  static reserve(): SharedArrayBuffer {
    return new SharedArrayBuffer((HEADER_WORDS + WAITS_MAX * WAIT_WORDS) * 4);
  }

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
    this.#doubles = new Float64Array(memory);
    this.#mutex = new Mutex(this.#words, MUTEX);
  }

  /** Takes a wait down; answers what {@link leave} takes. */
  enter(node: NodeId, { owner, type, start, end, lockPid }: LockRequest): number {
    const words = this.#words;
    this.#mutex.lock();
    let place = 0;
    while (place < WAITS_MAX && words[this.#at(place) + NODE] !== 0) place++;
    if (place < WAITS_MAX) {
      const at = this.#at(place);
      words[at + NODE] = node;
      words[at + OWNER_LOW] = owner.low;
      words[at + OWNER_HIGH] = owner.high;
      words[at + IS_WRITE] = type === 'write' ? 1 : 0;
      words[at + PID] = lockPid;
      this.#doubles[at / 2 + START_DOUBLE] = start;
      this.#doubles[at / 2 + END_DOUBLE] = end;
      words[COUNT]++;
    }
    this.#mutex.unlock();
    return place;
  }

  leave(place: number): void {
    if (place === WAITS_MAX) return;
    this.#mutex.lock();
    this.#words[this.#at(place) + NODE] = 0;
    this.#words[COUNT]--;
    this.#mutex.unlock();
  }

  /** What everybody waits for at this moment. */
  all(): Wait[] {
    const words = this.#words;
    const found: Wait[] = [];
    this.#mutex.lock();
    for (let place = 0; found.length < words[COUNT]; place++) {
      const at = this.#at(place);
      if (words[at + NODE] === 0) continue;
      found.push({
        node: words[at + NODE] as NodeId,
        owner: { low: words[at + OWNER_LOW], high: words[at + OWNER_HIGH] },
        pid: words[at + PID],
        type: words[at + IS_WRITE] === 1 ? 'write' : 'read',
        start: this.#doubles[at / 2 + START_DOUBLE],
        end: this.#doubles[at / 2 + END_DOUBLE],
      });
    }
    this.#mutex.unlock();
    return found;
  }

  #at(place: number): number {
    return HEADER_WORDS + place * WAIT_WORDS;
  }
}

/** A lock that stands in the way of a wait, and whose it is. */
export interface Holder extends Range {
  readonly owner: LockOwner;
  readonly pid: number;
}

/**
 * Whether somebody who begins to wait would wait for themselves in the end: for one who waits for one who … waits for them.
 * `waits` is all that is waited for, theirs included; `holdersOn` tells who holds locks on a node.
 *
 * Only processes that wait for one lock count, and only for locks of other processes. Where several threads of a process wait, or
 * it has owners of different kinds (open-file-description locks, for which the host looks for no circles either), one of them
 * may still let go.
 */
export function closesCircle(owner: LockOwner, waits: readonly Wait[], holdersOn: (node: NodeId) => readonly Holder[]): boolean {
  if (waits.every((wait) => isSame(wait.owner, owner))) return false;
  const reached: LockOwner[] = [owner];
  for (const waiter of reached) {
    const wait = waits.find((candidate) => isSame(candidate.owner, waiter));
    if (wait === undefined || waits.some((other) => other !== wait && other.pid === wait.pid)) continue;
    for (const holder of holdersOn(wait.node)) {
      if (holder.pid === wait.pid || !conflicts(wait, holder)) continue;
      if (isSame(holder.owner, owner)) return true;
      if (!reached.some((other) => isSame(other, holder.owner))) reached.push(holder.owner);
    }
  }
  return false;
}

function isSame(a: LockOwner, b: LockOwner): boolean {
  return (a.low | 0) === (b.low | 0) && (a.high | 0) === (b.high | 0);
}

function conflicts(a: Range, b: Range): boolean {
  return a.start <= b.end && b.start <= a.end && (a.type === 'write' || b.type === 'write');
}
