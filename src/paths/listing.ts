/** Listings of open directories: cookies are positions in what this opening has seen so far, so no change moves them. */
import { ERRNO, FuseError } from '../filesystem/index.ts';
import type { PathNode } from './node.ts';
import type { PathEntry, PathListing } from './source.ts';
import { type Facts, factsOf, typeOf } from './stats.ts';

/** An entry as seen once. */
export interface Listed {
  readonly name: string;
  /** S_IFMT bits, 0 when the source does not tell. */
  readonly type: number;
  /** Until the entry was given to the kernel: attributes that came with it, or were asked for. */
  facts: Facts | undefined;
}

/** Entries before those of the source: "." and "..". */
export const DOTS = 2;

export class OpenDirectory {
  readonly node: PathNode;
  readonly #entriesMax: number;
  #entries: Listed[] = [];
  #iterator: Iterator<string | PathEntry> | AsyncIterator<string | PathEntry> | undefined;
  #done = false;
  #started = false;
  /** The directory's count of changes when the listing began: attributes that came with it hold until the next one. */
  changes = 0;
  #tail: Promise<unknown> = Promise.resolve();

  constructor(node: PathNode, entriesMax: number) {
    this.node = node;
    this.#entriesMax = entriesMax;
  }

  get isStarted(): boolean {
    return this.#started;
  }

  /** From the beginning, as after rewinddir(3). */
  start(listing: PathListing): void {
    this.#stop();
    this.#entries = [];
    this.#done = false;
    this.#started = true;
    this.changes = this.node.changes;
    this.#iterator =
      Symbol.asyncIterator in listing
        ? (listing as AsyncIterable<string | PathEntry>)[Symbol.asyncIterator]()
        : (listing as Iterable<string | PathEntry>)[Symbol.iterator]();
  }

  /** One at a time: two requests on one opening share its state. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#tail.then(work, work);
    this.#tail = turn;
    return turn;
  }

  /** Entry number `index` of the source's, pulled from it when it has not been seen; undefined at the end. */
  async at(index: number): Promise<Listed | undefined> {
    while (index >= this.#entries.length && !this.#done) {
      const next = this.#iterator!.next();
      const { done, value } = next instanceof Promise ? await next : await (next as IteratorResult<string | PathEntry>);
      if (done) {
        this.#done = true;
        this.#iterator = undefined;
        break;
      }
      if (this.#entries.length >= this.#entriesMax) throw FuseError.of(ERRNO.EOVERFLOW);
      const entry = listed(value);
      if (entry.name !== '.' && entry.name !== '..') this.#entries.push(entry);
    }
    return this.#entries[index];
  }

  close(): void {
    this.#stop();
    this.#entries = [];
  }

  /** Lets a generator run its finally blocks. What they throw goes nowhere. */
  #stop(): void {
    const iterator = this.#iterator;
    this.#iterator = undefined;
    try {
      const ended = iterator?.return?.();
      if (ended instanceof Promise) ended.catch(() => {});
    } catch {
      // The listing is over either way.
    }
  }
}

function listed(value: string | PathEntry): Listed {
  if (typeof value === 'string') return { name: value, type: 0, facts: undefined };
  const facts = value.stats === undefined ? undefined : factsOf(value.stats);
  return { name: value.name, type: facts?.type ?? typeOf(value), facts };
}
