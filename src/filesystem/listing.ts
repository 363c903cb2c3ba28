/**
 * Listings that an author answers as plain entries: the library gives each name a position of its own, so that a listing goes
 * on where it stopped although entries came and went in between, on whichever worker the next page is asked for.
 */

import type { Answer, Entry } from './filesystem.ts';
import type { DirectoryReply, ListedEntry } from './requests.ts';
import { isPromise } from './settle.ts';

/** What a listing method may answer: entries, or names alone. Nothing: it filled the reply itself. */
export type Listed = Iterable<ListedEntry | string> | AsyncIterable<ListedEntry | string>;

interface PlacedEntry {
  readonly name: string;
  readonly ino: number | bigint;
  readonly mode: number;
  readonly entry: Entry | undefined;
  readonly low: number;
  readonly high: number;
}

/** FUSE_UNKNOWN_INO of libfuse: an entry must have some inode number, and 0 means deleted to old programs. */
const UNKNOWN_INO = 0xffffffff;

/**
 * The position of a name: 63 bits of two hashes. Entries are listed in the order of their positions, as ext4 does with its
 * directory hashes, so a position says by itself what comes after it.
 * Among a million names the chance that any two share a position is below one in ten million.
 */
function place(name: string): { low: number; high: number } {
  // FNV-1a, and a second hash with another prime and a final mix, so that the two do not agree on what collides.
  let low = 0x811c9dc5;
  let high = 0x9747b28c;
  for (let i = 0; i < name.length; i++) {
    const unit = name.charCodeAt(i);
    low = Math.imul(low ^ unit, 0x01000193);
    high = Math.imul(high ^ unit, 0x5bd1e995);
    high ^= high >>> 13;
  }
  high = Math.imul(high ^ (high >>> 15), 0x2c1b3c6d) >>> 1;
  low >>>= 0;
  // 0 is the start of a directory and never the position after an entry.
  return low === 0 && high === 0 ? { low: 1, high } : { low, high };
}

function compare(a: PlacedEntry, b: PlacedEntry): number {
  return a.high - b.high || a.low - b.low;
}

async function collectAsync(listed: AsyncIterable<ListedEntry | string>): Promise<PlacedEntry[]> {
  const entries: PlacedEntry[] = [];
  for await (const entry of listed) entries.push(placed(entry));
  return entries.sort(compare);
}

function collect(listed: Iterable<ListedEntry | string>): PlacedEntry[] {
  return Array.from(listed, placed).sort(compare);
}

function placed(given: ListedEntry | string): PlacedEntry {
  const entry: ListedEntry = typeof given === 'string' ? { name: given } : given;
  const {
    name,
    ino = entry.entry?.attributes.ino ?? entry.entry?.node ?? UNKNOWN_INO,
    mode = entry.entry?.attributes.mode ?? 0,
  } = entry;
  return { name, ino, mode, entry: entry.entry, ...place(name) };
}

/** A page that the kernel asks for. */
interface Page {
  /** Names the listing: node, handle and operation. */
  readonly key: string;
  /** Position after which to go on; both words 0 for the start. */
  readonly low: number;
  readonly high: number;
  readonly reply: DirectoryReply;
}

/** Listings that are under way on this thread. */
export class Listings {
  /** By node and handle; in order of use. */
  readonly #open = new Map<string, readonly PlacedEntry[]>();
  readonly #max: number;

  /** `max`: listings whose entries are held between two pages; the method is asked again for those that were let go. */
  constructor(max = 256) {
    this.#max = max;
  }

  /** One page: from a listing that is under way, else from what `ask` answers. */
  list(page: Page, ask: () => Answer<Listed | void>): void | Promise<void> {
    const isStart = page.low === 0 && page.high === 0;
    const known = isStart ? undefined : this.#open.get(page.key);
    if (known !== undefined) return this.#fill(page, known);
    const listed = ask();
    return isPromise(listed)
      ? Promise.resolve(listed).then((settled) => this.#accept(page, settled))
      : this.#accept(page, listed);
  }

  #accept(page: Page, listed: Listed | void): void | Promise<void> {
    if (listed === undefined) return undefined;
    if (Symbol.asyncIterator in listed) return collectAsync(listed).then((entries) => this.#fill(page, entries));
    return this.#fill(page, collect(listed));
  }

  /** Adds what comes after the page's position and fits; remembers the listing until its end was seen. */
  #fill(page: Page, entries: readonly PlacedEntry[]): void {
    const { key, low, high, reply } = page;
    const first = low === 0 && high === 0 ? 0 : firstAfter(entries, low, high);
    let index = first;
    for (; index < entries.length; index++) {
      const { name, ino, mode, entry, low: placeLow, high: placeHigh } = entries[index];
      const offset = (BigInt(placeHigh) << 32n) | BigInt(placeLow);
      if (!reply.addPlus({ name, ino, mode, offset }, entry)) break;
    }
    this.#open.delete(key);
    // The kernel asks once more after the last entry, and an empty page tells it.
    if (first === entries.length) return;
    this.#open.set(key, entries);
    if (this.#open.size <= this.#max) return;
    for (const oldest of this.#open.keys()) {
      this.#open.delete(oldest);
      break;
    }
  }
}

/** Index of the first entry whose position is greater. */
function firstAfter(entries: readonly PlacedEntry[], low: number, high: number): number {
  let from = 0;
  let to = entries.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    const entry = entries[middle];
    if (entry.high < high || (entry.high === high && entry.low <= low)) from = middle + 1;
    else to = middle;
  }
  return from;
}
