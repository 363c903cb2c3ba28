/**
 * Decompressed content in blocks, within a limit of bytes.
 *
 * A compressed entry can only be read from its start. So each open entry has at most one decompression under way, which stays
 * where the last read left it: reading on costs nothing twice, reading backwards starts anew unless the cache has the block.
 */
import type { FileEntry } from '@zip.js/zip.js';

/** Large enough that the cost of a block is its bytes. */
const BLOCK_BYTES = 256 << 10;

/** Blocks by key, the least recently used first; all of them together are at most so many bytes. */
export class BlockCache {
  readonly #blocks = new Map<string, Uint8Array>();
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get(key: string): Uint8Array | undefined {
    const block = this.#blocks.get(key);
    if (block !== undefined) {
      this.#blocks.delete(key);
      this.#blocks.set(key, block);
    }
    return block;
  }

  set(key: string, block: Uint8Array): void {
    // Made again on the way to a later one, it takes the place of the old one.
    this.#bytes -= this.#blocks.get(key)?.length ?? 0;
    this.#blocks.delete(key);
    this.#blocks.set(key, block);
    this.#bytes += block.length;
    for (const [oldest, { length }] of this.#blocks) {
      if (this.#bytes <= this.#bytesMax) return;
      this.#blocks.delete(oldest);
      this.#bytes -= length;
    }
  }
}

/** The content of one compressed entry. */
export class Content {
  readonly #entry: FileEntry;
  readonly #cache: BlockCache;
  #inflation: AsyncGenerator<Uint8Array, void> | undefined;
  /** The block that #inflation yields next. */
  #nextBlock = 0;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(entry: FileEntry, cache: BlockCache) {
    this.#entry = entry;
    this.#cache = cache;
  }

  /** The bytes from `offset` to `end`, which lie within the entry. */
  async read(offset: number, end: number, signal: AbortSignal): Promise<Uint8Array[]> {
    const pieces: Uint8Array[] = [];
    for (let at = offset; at < end; ) {
      const index = Math.floor(at / BLOCK_BYTES);
      const block = this.#cache.get(this.#key(index)) ?? (await this.#make(index, signal));
      const from = at - index * BLOCK_BYTES;
      const piece = block.subarray(from, from + end - at);
      if (piece.length === 0) throw new Error('the entry is shorter than the archive says');
      pieces.push(piece);
      at += piece.length;
    }
    return pieces;
  }

  /** Nobody has it open: ends the decompression. */
  async close(): Promise<void> {
    await this.#inTurn(() => this.#stop());
  }

  /** One reader at a time moves the decompression. A reader that went away neither waits nor has others wait for it. */
  #make(index: number, signal: AbortSignal): Promise<Uint8Array> {
    return orAborted(
      this.#inTurn(() => this.#advance(index, signal)),
      signal,
    );
  }

  async #advance(index: number, signal: AbortSignal): Promise<Uint8Array> {
    const made = this.#cache.get(this.#key(index));
    if (made !== undefined) return made;
    if (this.#nextBlock > index) await this.#stop();
    this.#inflation ??= inflate(this.#entry);
    for (;;) {
      signal.throwIfAborted();
      const { value: block, done } = await this.#inflation.next().catch((error) => this.#failed(error));
      if (done) throw await this.#failed(new Error('the entry is shorter than the archive says'));
      const at = this.#nextBlock++;
      this.#cache.set(this.#key(at), block);
      if (at === index) return block;
    }
  }

  /** After a failure the next reader begins anew. */
  async #failed(error: unknown): Promise<never> {
    await this.#stop();
    throw error;
  }

  async #stop(): Promise<void> {
    const inflation = this.#inflation;
    this.#inflation = undefined;
    this.#nextBlock = 0;
    await inflation?.return();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {});
    return result;
  }

  #key(index: number): string {
    return `${this.#entry.offset} ${index}`;
  }
}

/** An entry from its start, in blocks; no further than they are asked for. The last one comes when its checksum is right. */
async function* inflate(entry: FileEntry): AsyncGenerator<Uint8Array, void> {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const stop = new AbortController();
  const finished = entry.getData(writable, { signal: stop.signal, checkSignature: true });
  // What it fails with is met where the stream is read.
  finished.catch(() => {});
  try {
    let block = new Uint8Array(Math.min(BLOCK_BYTES, entry.uncompressedSize));
    let [filled, total] = [0, 0];
    for await (const chunk of readable) {
      for (let at = 0; at < chunk.length; ) {
        // A block leaves when there are bytes after it, so that the last one waits for the check below.
        if (filled === block.length) {
          yield block;
          block = new Uint8Array(Math.min(BLOCK_BYTES, entry.uncompressedSize - total));
          filled = 0;
          if (block.length === 0) throw new Error('the entry is longer than the archive says');
        }
        const piece = chunk.subarray(at, at + block.length - filled);
        block.set(piece, filled);
        at += piece.length;
        filled += piece.length;
        total += piece.length;
      }
    }
    await finished;
    if (filled > 0) yield block.subarray(0, filled);
  } finally {
    stop.abort();
  }
}

/** The promise, unless the signal comes first. */
function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
