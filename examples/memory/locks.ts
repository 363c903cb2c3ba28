/** POSIX locks (fcntl) and flock. Who has to wait gets a promise, which ends when the caller is interrupted. */
import type { FileHandle, FileLock, LockOwner, LockRequest } from 'fusewire';
import { fail } from './linux.ts';

interface Lock extends FileLock {
  readonly owner: string;
  /** The opening by which it was had, which it never outlives. */
  readonly handle: FileHandle;
}

interface Waiter {
  readonly owner: string;
  /** Tries again. */
  readonly attempt: () => void;
  /** Whose lock stands in the way. */
  blockedBy: string;
}

function ownerKey({ low, high }: LockOwner): string {
  return `${high >>> 0}:${low >>> 0}`;
}

/** Everybody who waits for a POSIX lock on any file: what deadlocks are found in. */
export class Waiters {
  readonly #all = new Set<Waiter>();

  add(waiter: Waiter): void {
    this.#all.add(waiter);
  }

  delete(waiter: Waiter): void {
    this.#all.delete(waiter);
  }

  /** Whether `holder` waits, over any number of others, for `owner`. */
  leadsTo(holder: string, owner: string, seen = new Set<string>()): boolean {
    if (holder === owner) return true;
    if (seen.has(holder)) return false;
    seen.add(holder);
    for (const waiter of this.#all) {
      if (waiter.owner === holder && this.leadsTo(waiter.blockedBy, owner, seen)) return true;
    }
    return false;
  }
}

/** The locks of one file. The two kinds do not see each other. */
export class FileLocks {
  readonly #posix = new RangeLocks();
  readonly #flock = new RangeLocks();
  readonly #waiters: Waiters;

  constructor(waiters: Waiters) {
    this.#waiters = waiters;
  }

  get idle(): boolean {
    return this.#posix.idle && this.#flock.idle;
  }

  /** The lock that stands in the way. */
  get(request: LockRequest): FileLock | undefined {
    return this.#posix.conflict(ownerKey(request.owner), request);
  }

  set(request: LockRequest): void | Promise<void> {
    const { type, flock, lockPid: pid, handle } = request;
    const owner = ownerKey(request.owner);
    if (flock) return this.#flock.set({ owner, handle, type, pid, start: 0, end: Number.POSITIVE_INFINITY }, request);
    return this.#posix.set({ owner, handle, type, pid, start: request.start, end: request.end }, request, this.#waiters);
  }

  /** close(2) of any descriptor of a file ends all POSIX locks of the process on it. */
  closed(owner: LockOwner): void {
    const key = ownerKey(owner);
    this.#posix.drop((lock) => lock.owner === key);
  }

  /** The end of an opening ends its flock and its open file description locks (F_OFD_SETLK), which have no owner of their own. */
  released(handle: FileHandle): void {
    this.#posix.drop((lock) => lock.handle === handle);
    this.#flock.drop((lock) => lock.handle === handle);
  }
}

class RangeLocks {
  #held: Lock[] = [];
  readonly #queue = new Set<Waiter>();

  get idle(): boolean {
    return this.#held.length === 0 && this.#queue.size === 0;
  }

  conflict(owner: string, wanted: Pick<FileLock, 'start' | 'end' | 'type'>): Lock | undefined {
    if (wanted.type === 'unlock') return undefined;
    return this.#held.find(
      (lock) =>
        lock.owner !== owner &&
        lock.start <= wanted.end &&
        wanted.start <= lock.end &&
        (lock.type === 'write' || wanted.type === 'write'),
    );
  }

  /** Throws EAGAIN for a lock that cannot be had now, EDEADLK for one that would never come; or answers a promise. */
  set(wanted: Lock, request: LockRequest, waiters?: Waiters): void | Promise<void> {
    const { owner } = wanted;
    const blocking = this.conflict(owner, wanted);
    if (blocking === undefined) return this.#take(wanted);
    // flock gives up what it holds before it asks for the other kind (flock(2): the conversion is not atomic).
    if (request.flock) this.drop((lock) => lock.owner === owner);
    if (!request.wait) fail('EAGAIN');
    if (waiters?.leadsTo(blocking.owner, owner)) fail('EDEADLK');
    return this.#wait(wanted, request.signal, blocking.owner, waiters);
  }

  drop(which: (lock: Lock) => boolean): void {
    const held = this.#held.length;
    this.#held = this.#held.filter((lock) => !which(lock));
    if (this.#held.length !== held) this.#wake();
  }

  #wait(wanted: Lock, signal: AbortSignal, blockedBy: string, waiters?: Waiters): Promise<void> {
    const { owner } = wanted;
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#queue.delete(waiter);
        waiters?.delete(waiter);
        signal.removeEventListener('abort', onAbort);
      };
      const onAbort = (): void => {
        leave();
        reject(signal.reason);
      };
      const attempt = (): void => {
        const blocking = this.conflict(owner, wanted);
        if (blocking !== undefined) {
          waiter.blockedBy = blocking.owner;
          return;
        }
        leave();
        this.#take(wanted);
        resolve();
      };
      const waiter: Waiter = { owner, attempt, blockedBy };
      if (signal.aborted) return onAbort();
      signal.addEventListener('abort', onAbort, { once: true });
      this.#queue.add(waiter);
      waiters?.add(waiter);
    });
  }

  #take(wanted: Lock): void {
    this.#replace(wanted);
    // A write lock that became a read lock, or nothing, may let others in.
    if (wanted.type !== 'write') this.#wake();
  }

  /** In the order in which they came. */
  #wake(): void {
    for (const waiter of [...this.#queue]) if (this.#queue.has(waiter)) waiter.attempt();
  }

  /** What the owner holds in the range becomes the new lock, or nothing; locks of one kind that touch become one. */
  #replace(wanted: Lock): void {
    const { owner } = wanted;
    let { start, end } = wanted;
    const held: Lock[] = [];
    for (const lock of this.#held) {
      const touches = lock.start <= end + 1 && start <= lock.end + 1;
      if (lock.owner !== owner || !touches) {
        held.push(lock);
      } else if (lock.type === wanted.type) {
        start = Math.min(start, lock.start);
        end = Math.max(end, lock.end);
      } else {
        if (lock.start < start) held.push({ ...lock, end: Math.min(lock.end, start - 1) });
        if (lock.end > end) held.push({ ...lock, start: Math.max(lock.start, end + 1) });
      }
    }
    if (wanted.type !== 'unlock') held.push({ ...wanted, start, end });
    this.#held = held.sort((one, other) => one.start - other.start);
  }
}
