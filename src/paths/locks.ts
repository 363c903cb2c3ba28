/**
 * Who may use a path at the same time as whom.
 *
 * - An operation that uses a path holds every node on the way to it: none of them can be renamed or removed meanwhile.
 * - A change in a directory holds its names alone; looking up and listing hold them together.
 * - Renaming or removing a node waits until nobody uses a path through it.
 *
 * An operation gets all that it needs at once or waits with nothing, in the order of arrival, and whoever comes later and
 * would disturb one that waits, waits behind it. So there is no deadlock and nobody starves. What an operation needs is
 * worked out anew at each attempt, because the tree may have changed while it waited.
 */
import { ERRNO, FuseError, type Request } from '../filesystem/index.ts';
import type { PathNode } from './node.ts';

const WANT_PATH = 1;
const WANT_ALONE = 2;
const WANT_READ = 4;
const WANT_WRITE = 8;

/** What one operation needs, and then holds. */
export class Lease {
  readonly paths: PathNode[] = [];
  readonly alone: PathNode[] = [];
  readonly reading: PathNode[] = [];
  readonly writing: PathNode[] = [];

  /** The path to `node`. Throws ENOENT when it has none. */
  path(node: PathNode): void {
    for (let at = node; ; at = at.parent!) {
      if (!this.paths.includes(at)) this.paths.push(at);
      if (at.isRoot) return;
      if (at.parent === undefined) throw FuseError.of(ERRNO.ENOENT);
    }
  }

  /** The names in a directory, which stay as they are. */
  read(directory: PathNode): void {
    this.reading.push(directory);
  }

  /** The names in a directory, to change them. */
  write(directory: PathNode): void {
    if (!this.writing.includes(directory)) this.writing.push(directory);
  }

  /** A node that is to be renamed or removed: nobody uses a path through it. */
  only(node: PathNode): void {
    if (!this.alone.includes(node)) this.alone.push(node);
  }
}

interface Waiter {
  plan: (lease: Lease) => void;
  grant(lease: Lease): void;
  fail(error: unknown): void;
}

export class TreeLocks {
  #waiting: Waiter[] = [];
  #scan = 0;
  readonly #waitingMax: number;

  constructor(waitingMax: number) {
    this.#waitingMax = waitingMax;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Gives what `plan` asks for, now or when it can be had. Throws what `plan` throws, EINTR when the caller gave up, EAGAIN at the limit. */
  acquire(request: { readonly signal: AbortSignal }, plan: (lease: Lease) => void): Lease | Promise<Lease> {
    if (this.#waiting.length === 0) {
      const lease = new Lease();
      plan(lease);
      if (isFree(lease)) return take(lease);
    }
    if (this.#waiting.length >= this.#waitingMax) throw FuseError.of(ERRNO.EAGAIN);
    return this.#wait(request, plan);
  }

  release(lease: Lease): void {
    for (const node of lease.paths) node.users--;
    for (const node of lease.alone) node.alone = false;
    for (const node of lease.reading) node.readers--;
    for (const node of lease.writing) node.writing = false;
    if (this.#waiting.length > 0) this.#serve();
  }

  #wait(request: { readonly signal: AbortSignal }, plan: (lease: Lease) => void): Promise<Lease> {
    return new Promise((resolve, reject) => {
      // The request object serves another request once this one is answered; its signal does not.
      const { signal } = request;
      const waiter: Waiter = {
        plan,
        grant: (lease) => {
          signal.removeEventListener('abort', giveUp);
          resolve(lease);
        },
        fail: (error) => {
          signal.removeEventListener('abort', giveUp);
          reject(error);
        },
      };
      const giveUp = (): void => {
        const index = this.#waiting.indexOf(waiter);
        if (index < 0) return;
        this.#waiting.splice(index, 1);
        reject(FuseError.of(ERRNO.EINTR));
        this.#serve();
      };
      if (signal.aborted) {
        reject(FuseError.of(ERRNO.EINTR));
        return;
      }
      signal.addEventListener('abort', giveUp);
      this.#waiting.push(waiter);
      this.#serve();
    });
  }

  /** Grants, in order of arrival, whatever disturbs neither the holders nor an earlier waiter. */
  #serve(): void {
    const scan = ++this.#scan;
    const still: Waiter[] = [];
    for (const waiter of this.#waiting) {
      const lease = new Lease();
      try {
        waiter.plan(lease);
      } catch (error) {
        waiter.fail(error);
        continue;
      }
      if (isFree(lease) && !disturbs(lease, scan)) {
        waiter.grant(take(lease));
      } else {
        mark(lease, scan);
        still.push(waiter);
      }
    }
    this.#waiting = still;
  }
}

function isFree(lease: Lease): boolean {
  for (const node of lease.paths) if (node.alone) return false;
  for (const node of lease.alone) if (node.alone || node.users > 0) return false;
  for (const node of lease.reading) if (node.writing) return false;
  for (const node of lease.writing) if (node.writing || node.readers > 0) return false;
  return true;
}

function take(lease: Lease): Lease {
  for (const node of lease.paths) node.users++;
  for (const node of lease.alone) node.alone = true;
  for (const node of lease.reading) node.readers++;
  for (const node of lease.writing) node.writing = true;
  return lease;
}

function wanted(node: PathNode, scan: number): number {
  return node.wantedIn === scan ? node.wanted : 0;
}

function want(node: PathNode, scan: number, what: number): void {
  node.wanted = wanted(node, scan) | what;
  node.wantedIn = scan;
}

function disturbs(lease: Lease, scan: number): boolean {
  for (const node of lease.paths) if ((wanted(node, scan) & WANT_ALONE) !== 0) return true;
  for (const node of lease.alone) if ((wanted(node, scan) & (WANT_ALONE | WANT_PATH)) !== 0) return true;
  for (const node of lease.reading) if ((wanted(node, scan) & WANT_WRITE) !== 0) return true;
  for (const node of lease.writing) if ((wanted(node, scan) & (WANT_WRITE | WANT_READ)) !== 0) return true;
  return false;
}

function mark(lease: Lease, scan: number): void {
  for (const node of lease.paths) want(node, scan, WANT_PATH);
  for (const node of lease.alone) want(node, scan, WANT_ALONE);
  for (const node of lease.reading) want(node, scan, WANT_READ);
  for (const node of lease.writing) want(node, scan, WANT_WRITE);
}

/** A request of nobody: what the filesystem does for itself. */
export const NOBODY: Pick<Request, 'uid' | 'gid' | 'pid' | 'signal' | 'groups'> = {
  uid: 0,
  gid: 0,
  pid: 0,
  signal: new AbortController().signal,
  groups: () => [],
};
