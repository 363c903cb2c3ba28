/**
 * POSIX locks (fcntl) and flock, across all mounts of a volume: they are kept by the server. Who waits asks again when it hears
 * that something was freed, and when the lease of whoever is in the way has run out.
 */
import { EventEmitter } from 'node:events';
import type { FileLock, LockOwner, LockRequest } from 'fusewire';
import { fail } from './linux.ts';
import { decodeInode, type Inode } from './meta/attributes.ts';
import { type Meta, Refusal } from './meta/meta.ts';
import type { Node } from './nodes.ts';
import type { Argument } from './redis/connection.ts';

/** Who waits asks again after so long, whatever it heard. */
const WAIT_MS = 1000;
const KINDS = { read: 'r', write: 'w', unlock: 'u' } as const;

function ownerKey({ low, high }: LockOwner): string {
  return `${(high >>> 0).toString(16)}:${(low >>> 0).toString(16)}`;
}

function encodeEnd(end: number): string {
  return end === Number.POSITIVE_INFINITY ? '-1' : String(end);
}

export class Locks {
  readonly #meta: Meta;
  readonly #freed = new EventEmitter().setMaxListeners(0);

  constructor(meta: Meta) {
    this.#meta = meta;
  }

  /** Something was unlocked, here or elsewhere. */
  freed(ino: number): void {
    this.#freed.emit(String(ino));
  }

  /** The lock that stands in the way. */
  async find(node: Node, request: LockRequest): Promise<FileLock | undefined> {
    const { owner, start, end, type } = request;
    const words = [this.#meta.session, String(node.ino), ownerKey(owner), String(start), encodeEnd(end), KINDS[type]];
    const [lock] = await this.#meta.read('getlk', words, request.signal);
    if (lock === null) return undefined;
    const [first, last, kind, pid, session] = (lock as readonly Buffer[]).map(String);
    return {
      start: Number(first),
      end: last === '-1' ? Number.POSITIVE_INFINITY : Number(last),
      type: kind === 'r' ? 'read' : 'write',
      // A process of another machine has no number here.
      pid: session === this.#meta.session ? Number(pid) : 0,
    };
  }

  /** Takes a lock; answers what the file is now. Rejects with EAGAIN, EDEADLK, or the signal's reason. */
  async take(node: Node, request: LockRequest): Promise<Inode> {
    const { signal, wait, handle } = request;
    const family = request.flock ? 'f' : 'p';
    const owner = ownerKey(request.owner);
    const [start, end] = request.flock ? [0, Number.POSITIVE_INFINITY] : [request.start, request.end];
    const words: Argument[] = [String(node.ino), family, owner, String(start), encodeEnd(end), KINDS[request.type]];
    words.push(String(request.lockPid), wait ? 'wait' : '');
    note(node, `${family} ${owner}`, handle);
    for (let waiting = false; ; waiting = true) {
      const freed = this.#whenFreed(node.ino, signal);
      try {
        if (signal.aborted) throw signal.reason;
        const [inode] = await this.#meta.change('lock', words);
        if (!signal.aborted) return decodeInode(inode);
        // Nobody waits for it any more, so nobody would ever give it back.
        await this.#unlock(node, [family, owner, start, end]);
        throw signal.reason;
      } catch (error) {
        if (!(error instanceof Refusal) || error.code !== 'EAGAIN' || !wait) {
          if (waiting) await this.#meta.change('unwait', [String(node.ino), owner]).catch(() => {});
          throw error instanceof Refusal ? fail(error.code) : error;
        }
        await freed.within(Math.min(WAIT_MS, Number(error.answer[0] as Buffer) + 1));
      } finally {
        freed.cancel();
      }
    }
  }

  async release(node: Node, request: LockRequest): Promise<void> {
    const range = request.flock ? ([0, Number.POSITIVE_INFINITY] as const) : ([request.start, request.end] as const);
    if (node.locks === undefined) return;
    await this.#unlock(node, [request.flock ? 'f' : 'p', ownerKey(request.owner), ...range]);
  }

  /** close(2) of any descriptor of a file ends all POSIX locks of the process on it. */
  async closed(node: Node, owner: LockOwner): Promise<void> {
    const key = `p ${ownerKey(owner)}`;
    if (node.locks?.has(key)) await this.#dropAll(node, [key]);
  }

  /** The end of an opening ends its flock and its open file description locks, which have no owner of their own. */
  async released(node: Node, handle: number): Promise<void> {
    const ended: string[] = [];
    for (const [key, handles] of node.locks ?? []) {
      handles.delete(handle);
      if (handles.size === 0) ended.push(key);
    }
    if (ended.length > 0) await this.#dropAll(node, ended);
  }

  async #dropAll(node: Node, keys: readonly string[]): Promise<void> {
    for (const key of keys) node.locks?.delete(key);
    if (node.locks?.size === 0) node.locks = undefined;
    const ranges = keys.flatMap((key) => [key.slice(0, 1), key.slice(2), 0, Number.POSITIVE_INFINITY] as const);
    await this.#unlock(node, ranges);
  }

  /** Families, owners, starts and ends. */
  async #unlock(node: Node, ranges: readonly (string | number)[]): Promise<void> {
    const words = ranges.map((word) => (word === Number.POSITIVE_INFINITY ? '-1' : String(word)));
    try {
      await this.#meta.change('unlock', [String(node.ino), ...words]);
    } finally {
      this.freed(node.ino);
    }
  }

  /** Listens before the server is asked, so that nothing is missed in between. */
  #whenFreed(ino: number, signal: AbortSignal): { within(ms: number): Promise<void>; cancel(): void } {
    let wake: () => void = () => {};
    const heard = new Promise<void>((resolve) => {
      wake = resolve;
    });
    let timer: NodeJS.Timeout | undefined;
    this.#freed.on(String(ino), wake);
    signal.addEventListener('abort', wake);
    return {
      within: (ms) => {
        timer = setTimeout(wake, ms);
        return heard;
      },
      cancel: () => {
        clearTimeout(timer);
        this.#freed.off(String(ino), wake);
        signal.removeEventListener('abort', wake);
      },
    };
  }
}

function note(node: Node, key: string, handle: number): void {
  node.locks ??= new Map();
  const handles = node.locks.get(key);
  if (handles === undefined) node.locks.set(key, new Set([handle]));
  else handles.add(handle);
}
