import { type Addon, pinBuffer } from '../native/index.ts';
import type { MessageBuffer } from './channel.ts';
import { BufferNotLentError } from './errors.ts';

/** The part of the addon that memory needs. */
export type BufferRegistry = Pick<Addon, 'registerBuffer' | 'unregisterBuffer' | 'bytesToBoundary'>;

/**
 * Byte of a request at which a WRITE's payload stands (fuse_in_header and fuse_write_in), and of a reply at which a
 * READ's does (fuse_out_header). These bytes get addresses that O_DIRECT accepts.
 */
export const REQUEST_PAYLOAD_AT = 80;
export const REPLY_PAYLOAD_AT = 16;

/** Memory for a message, and what the pools know about it. */
export class PooledBuffer implements MessageBuffer {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly words: Uint32Array<ArrayBuffer>;
  readonly id: number;
  /** Which pool of a {@link SizedPool} it belongs to, or -1 for none. */
  readonly sizeClass: number;
  /** Whether somebody outside the pool has it. */
  lent = true;

  constructor(registry: BufferRegistry | undefined, length: number, alignedAt: number, sizeClass: number) {
    this.sizeClass = sizeClass;
    if (registry) {
      const pinned = pinBuffer(registry, length, alignedAt);
      this.bytes = pinned.bytes;
      this.words = pinned.words;
      this.id = pinned.id;
    } else {
      const memory = new ArrayBuffer(Math.ceil(length / 8) * 8);
      this.bytes = new Uint8Array(memory);
      this.words = new Uint32Array(memory);
      this.id = -1;
    }
  }
}

/** The pool's own view of a buffer that comes back. */
export function takeBack(buffer: MessageBuffer): PooledBuffer {
  if (!(buffer instanceof PooledBuffer) || !buffer.lent) throw new BufferNotLentError();
  buffer.lent = false;
  return buffer;
}

const KIB = 1024;

/** Payloads of 4, 64 and 256 KiB with their header; the last class is the largest message. */
const SIZE_CLASSES = [8 * KIB, 68 * KIB, 260 * KIB];

export interface SizedPoolOptions {
  /** Where the memory is made known to native code; undefined for memory that it never sees. */
  readonly registry: BufferRegistry | undefined;
  /** The byte of a message that should have an address good for O_DIRECT. */
  readonly alignedAt: number;
  readonly messageBytesMax: number;
  /** Bytes of idle buffers kept for reuse. */
  readonly cacheBytesMax: number;
}

/** Buffers in four sizes. Lending one that was given back costs no allocation. */
export class SizedPool {
  readonly #registry: BufferRegistry | undefined;
  readonly #alignedAt: number;
  readonly #lengths: readonly number[];
  readonly #idle: PooledBuffer[][];
  readonly #cacheBytesMax: number;
  #cacheBytes = 0;
  #isClosed = false;

  constructor(options: SizedPoolOptions) {
    const { messageBytesMax } = options;
    this.#registry = options.registry;
    this.#alignedAt = options.alignedAt;
    this.#lengths = [...SIZE_CLASSES.filter((length) => length < messageBytesMax), messageBytesMax];
    this.#idle = this.#lengths.map(() => []);
    this.#cacheBytesMax = options.cacheBytesMax;
  }

  /** A buffer of at least `length` bytes. Above the largest class it is made to measure, and not cached afterwards. */
  acquire(length: number): PooledBuffer {
    const lengths = this.#lengths;
    for (let sizeClass = 0; sizeClass < lengths.length; sizeClass++) {
      const bytes = lengths[sizeClass]!;
      if (length > bytes) continue;
      const buffer = this.#idle[sizeClass]!.pop();
      if (buffer === undefined) return new PooledBuffer(this.#registry, bytes, this.#alignedAt, sizeClass);
      this.#cacheBytes -= bytes;
      buffer.lent = true;
      return buffer;
    }
    return new PooledBuffer(this.#registry, length, this.#alignedAt, -1);
  }

  /** Puts back a buffer after {@link takeBack}. */
  put(buffer: PooledBuffer): void {
    const bytes = buffer.bytes.length;
    if (buffer.sizeClass < 0 || this.#isClosed || this.#cacheBytes + bytes > this.#cacheBytesMax) {
      this.#free(buffer);
      return;
    }
    this.#cacheBytes += bytes;
    this.#idle[buffer.sizeClass]!.push(buffer);
  }

  #free(buffer: PooledBuffer): void {
    if (buffer.id >= 0) this.#registry?.unregisterBuffer(buffer.id);
  }

  /** Frees what is idle now, and what comes back as it comes. */
  close(): void {
    this.#isClosed = true;
    for (const idle of this.#idle) {
      for (const buffer of idle) this.#free(buffer);
      idle.length = 0;
    }
    this.#cacheBytes = 0;
  }
}

/**
 * Buffers for requests, all of one size. One is current: the next message goes there. A kept one is replaced, up to a
 * limit; then {@link isExhausted} tells the channel to stop receiving until one comes back.
 */
export class RequestPool {
  readonly #registry: BufferRegistry | undefined;
  readonly #buffersMax: number;
  readonly #idle: PooledBuffer[] = [];
  #bytes: number;
  #keptCount = 0;
  #current: PooledBuffer | undefined;
  #isClosed = false;

  constructor(registry: BufferRegistry | undefined, bytes: number, buffersMax: number) {
    this.#registry = registry;
    this.#bytes = bytes;
    this.#buffersMax = buffersMax;
  }

  get isExhausted(): boolean {
    return this.#keptCount >= this.#buffersMax;
  }

  /** Where the next message goes. Beyond the limit too: whether to receive at all is for the channel to ask before. */
  get current(): PooledBuffer {
    return this.#current ?? this.take();
  }

  /** Makes an idle or a new buffer the current one. */
  take(): PooledBuffer {
    const buffer = this.#idle.pop() ?? new PooledBuffer(this.#registry, this.#bytes, REQUEST_PAYLOAD_AT, -1);
    buffer.lent = false;
    this.#current = buffer;
    return buffer;
  }

  keep(buffer: MessageBuffer): void {
    if (buffer !== this.#current) throw new BufferNotLentError();
    this.#current.lent = true;
    this.#current = undefined;
    this.#keptCount++;
  }

  release(buffer: MessageBuffer): void {
    const own = takeBack(buffer);
    this.#keptCount--;
    // A buffer from before the messages grew is of no more use.
    if (this.#isClosed || own.bytes.length < this.#bytes) this.#free(own);
    else this.#idle.push(own);
  }

  /** From now on buffers have `bytes` bytes. */
  grow(bytes: number): void {
    this.#bytes = bytes;
    this.#freeIdle();
  }

  #free(buffer: PooledBuffer): void {
    if (buffer.id >= 0) this.#registry?.unregisterBuffer(buffer.id);
  }

  #freeIdle(): void {
    for (const buffer of this.#idle) this.#free(buffer);
    this.#idle.length = 0;
    if (this.#current) this.#free(this.#current);
    this.#current = undefined;
  }

  /** Frees what is here now, and kept buffers as they come back. */
  close(): void {
    this.#isClosed = true;
    this.#freeIdle();
  }
}
