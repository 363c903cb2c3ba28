/** What a cache of bytes by key has to offer: `LRUCache` of the package lru-cache has this shape, with `maxSize` and `sizeCalculation`. */
export interface ByteMap {
  get(key: string): Uint8Array | undefined;
  set(key: string, bytes: Uint8Array): unknown;
  delete(key: string): unknown;
}

/** Least recently used first out, bounded by bytes. */
export class ByteLru<V> {
  readonly #bytesMax: number;
  readonly #sizeOf: (value: V) => number;
  readonly #onEvict: ((key: string, value: V) => void) | undefined;
  /** In the order of use: a Map keeps the order of insertion. */
  readonly #entries = new Map<string, V>();
  #bytes = 0;

  constructor(bytesMax: number, sizeOf: (value: V) => number, onEvict?: (key: string, value: V) => void) {
    this.#bytesMax = bytesMax;
    this.#sizeOf = sizeOf;
    this.#onEvict = onEvict;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): V | undefined {
    const value = this.#entries.get(key);
    if (value === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, value);
    return value;
  }

  /** A value larger than the whole cache is not kept. */
  set(key: string, value: V): void {
    this.delete(key);
    const size = this.#sizeOf(value);
    if (size > this.#bytesMax) {
      this.#onEvict?.(key, value);
      return;
    }
    this.#entries.set(key, value);
    this.#bytes += size;
    while (this.#bytes > this.#bytesMax) {
      for (const [oldest, old] of this.#entries) {
        this.delete(oldest);
        this.#onEvict?.(oldest, old);
        break;
      }
    }
  }

  delete(key: string): boolean {
    const value = this.#entries.get(key);
    if (value === undefined) return false;
    this.#bytes -= this.#sizeOf(value);
    return this.#entries.delete(key);
  }
}
