/** The names of a directory. */
import type { Inode } from './inode.ts';

/** One name. `cookie` is the position after it in listings; `removed` ones wait to be swept out of the order. */
export interface Name {
  readonly name: string;
  readonly cookie: number;
  inode: Inode;
  removed: boolean;
}

/** Positions after "." and ".."; names come behind them. */
export const DOT = 1;
export const DOT_DOT = 2;

/**
 * Names by name, and in the order of their cookies. A cookie belongs to one name for ever and counts upwards, so a listing
 * that goes on from a cookie sees each name that was there all the time exactly once, whatever came and went meanwhile.
 */
export class Directory {
  /** Where ".." leads. */
  parent: Inode;
  readonly #names = new Map<string, Name>();
  #order: Name[] = [];
  #cookie = DOT_DOT;

  constructor(parent: Inode) {
    this.parent = parent;
  }

  get size(): number {
    return this.#names.size;
  }

  get(name: string): Name | undefined {
    return this.#names.get(name);
  }

  /** The name must not be there. */
  add(name: string, inode: Inode): void {
    const entry = { name, inode, cookie: ++this.#cookie, removed: false };
    this.#names.set(name, entry);
    this.#order.push(entry);
  }

  remove(entry: Name): void {
    entry.removed = true;
    this.#names.delete(entry.name);
    if (this.#order.length > 2 * this.#names.size + 16) this.#order = this.#order.filter(({ removed }) => !removed);
  }

  /** Names after a cookie, in order. */
  *after(cookie: number): Generator<Name> {
    const order = this.#order;
    let low = 0;
    for (let high = order.length; low < high; ) {
      const middle = (low + high) >>> 1;
      if (order[middle].cookie > cookie) high = middle;
      else low = middle + 1;
    }
    for (; low < order.length; low++) if (!order[low].removed) yield order[low];
  }
}
