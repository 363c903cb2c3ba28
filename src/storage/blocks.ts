/** A cache of immutable blocks: in memory, below it on disk, and one fetch for all who ask at a time. */
import type { Answer } from '../filesystem/index.ts';
import { DiskBlocks, type DiskBlocksOptions } from './disk-blocks.ts';
import { Flights } from './flights.ts';
import { ByteLru, type ByteMap } from './lru.ts';
import { StorageError } from './options.ts';

export interface BlockCacheOptions {
  /**
   * Bytes that are kept in memory, least recently used out first; or a map of yours, such as an `LRUCache` of the package lru-cache.
   * 0 keeps none. Default 64 MiB.
   */
  memory?: number | ByteMap;
  /** Keeps blocks on disk too. Default: not. */
  disk?: DiskBlocksOptions;
}

export interface BlockCacheCounters {
  /** Blocks that were asked for. */
  requests: number;
  memoryHits: number;
  diskHits: number;
  /** Fetches that were made, and the bytes they brought. */
  fetches: number;
  fetchedBytes: number;
  /** Who waited for the fetch of another. */
  joined: number;
  failures: number;
}

/**
 * Blocks by key. A key stands for the same bytes for ever: put the version of the contents into it, or their hash. What it answers
 * is shared by all who asked: never change it.
 */
export class BlockCache {
  readonly counters: BlockCacheCounters = {
    requests: 0,
    memoryHits: 0,
    diskHits: 0,
    fetches: 0,
    fetchedBytes: 0,
    joined: 0,
    failures: 0,
  };
  readonly #memory: ByteMap;
  readonly #disk: Promise<DiskBlocks> | undefined;
  readonly #flights = new Flights<Uint8Array>();

  constructor(options: BlockCacheOptions = {}) {
    const { memory = 64 << 20, disk } = options;
    if (typeof memory === 'number' && !(Number.isSafeInteger(memory) && memory >= 0))
      throw new StorageError(`memory is a count of bytes or a map, not ${memory}`);
    if (disk !== undefined && !(Number.isSafeInteger(disk.bytes) && disk.bytes > 0))
      throw new StorageError(`disk.bytes is a count of bytes from 1, not ${disk.bytes}`);
    this.#memory = typeof memory === 'number' ? new ByteLru<Uint8Array>(memory, ({ byteLength }) => byteLength) : memory;
    this.#disk = disk && DiskBlocks.open(disk);
    // Whoever asks first hears of a folder that cannot be used; until then it is nobody's unhandled rejection.
    this.#disk?.catch(() => {});
  }

  /** Rejects when the folder on disk cannot be used. Waiting for it is optional. */
  async ready(): Promise<void> {
    await this.#disk;
  }

  /** The block in memory, without waiting and without a fetch. */
  peek(key: string): Uint8Array | undefined {
    return this.#memory.get(key);
  }

  /**
   * The block of `key`: from memory, from disk, or by `fetch`, which is called once for all who ask meanwhile. `fetch`'s signal aborts
   * when the last of them was interrupted. A fetch that fails is not remembered.
   */
  get(key: string, fetch: (signal: AbortSignal) => Answer<Uint8Array>, signal?: AbortSignal): Promise<Uint8Array> {
    const { counters } = this;
    counters.requests++;
    const known = this.#memory.get(key);
    if (known !== undefined) {
      counters.memoryHits++;
      return Promise.resolve(known);
    }
    if (this.#flights.has(key)) counters.joined++;
    return this.#flights.run(key, (flight) => this.#fill(key, fetch, flight), signal);
  }

  async #fill(key: string, fetch: (signal: AbortSignal) => Answer<Uint8Array>, signal: AbortSignal): Promise<Uint8Array> {
    const { counters } = this;
    const disk = await this.#disk;
    const kept = await disk?.get(key);
    if (kept !== undefined) {
      counters.diskHits++;
      this.#memory.set(key, kept);
      return kept;
    }
    try {
      counters.fetches++;
      const bytes = await fetch(signal);
      counters.fetchedBytes += bytes.byteLength;
      this.#memory.set(key, bytes);
      void disk?.set(key, bytes);
      return bytes;
    } catch (error) {
      counters.failures++;
      throw error;
    }
  }

  /** Keeps a block that is known already, such as one just written. */
  put(key: string, bytes: Uint8Array): void {
    this.#memory.set(key, bytes);
    this.#disk?.then((disk) => disk.set(key, bytes)).catch(() => {});
  }

  /** Forgets a block. One that is being fetched may come back. */
  delete(key: string): void {
    this.#memory.delete(key);
    this.#disk?.then((disk) => disk.delete(key)).catch(() => {});
  }
}
