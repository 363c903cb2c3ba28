import { constants } from 'node:os';
import type { Channel, ChannelHandler, CloseReason, MessageBuffer } from './channel.ts';
import { BufferNotLentError, ChannelUsedError } from './errors.ts';
import { type BufferRegistry, type PooledBuffer, REPLY_PAYLOAD_AT, REQUEST_PAYLOAD_AT, SizedPool, takeBack } from './pool.ts';

const { EAGAIN, EIO, ENODEV } = constants.errno;
const MIB = 1024 * 1024;
const DEFAULT_MESSAGE_BYTES_MAX = MIB + 4096;
const DEFAULT_BUFFERS_MAX = 64;
const DEFAULT_QUEUE_MAX = 65_536;
const DEFAULT_CACHE_BYTES = 32 * MIB;

export interface MemoryPairOptions {
  /** Largest message either way. Default 1 MiB + 4,096. */
  readonly messageBytesMax?: number;
  /** How many messages handlers may keep at a time; then requests wait. Default 64. */
  readonly buffersMax?: number;
  /** How many requests may wait for the daemon. Default 65,536. */
  readonly queueMax?: number;
  /** Bytes of idle buffers kept for reuse, for each direction. Default 32 MiB. */
  readonly cacheBytes?: number;
  /** With the addon, messages lie in registered memory, so that native code can fill them. By default `id` is -1. */
  readonly registry?: BufferRegistry;
  /** Told what a handler threw. By default it is thrown from a microtask, so that it becomes an 'uncaughtException'. */
  readonly onFault?: (error: unknown) => void;
}

/** The kernel's half of a pair: what it is told. */
export interface KernelHandler {
  /**
   * One whole message that the daemon wrote: a reply, or a notification when its `unique` is 0. The bytes are valid during
   * the call. The result is what the daemon's write gives: 0, or -errno such as -ENOENT for an unknown `unique`.
   * A request that is submitted from here is delivered after the daemon's call has returned.
   */
  onReply(buffer: MessageBuffer, length: number): number;
  /** The daemon closed its end, or an end by {@link KernelEnd.close} has reached it. */
  onClosed?(): void;
}

/** The kernel's half of a pair: what it does. */
export interface KernelEnd {
  /** Memory for a request of `length` bytes. Its contents are undefined. */
  acquire(length: number): MessageBuffer;
  /**
   * Sends the first `length` bytes of an acquired buffer to the daemon and takes the buffer. The daemon's handler runs
   * before this returns, unless the daemon is busy, not open yet, or keeps as many messages as it may.
   *
   * @returns 0, -ENODEV once the daemon is gone, -EIO when the message is larger than the daemon receives (as the
   * kernel fails such a request), -EAGAIN when too many wait.
   */
  submit(buffer: MessageBuffer, length: number): number;
  /** Ends the connection, as an unmount (the default) or an abort does. Requests that wait are dropped. */
  close(reason?: CloseReason): void;
  /** Requests that were submitted and not delivered. */
  readonly queuedCount: number;
}

export interface MemoryPair {
  readonly daemon: Channel;
  readonly kernel: KernelEnd;
}

const CLOSE_ERRNO: Record<CloseReason, number> = {
  unmounted: constants.errno.ENODEV,
  aborted: constants.errno.ECONNABORTED,
  closed: 0,
  failed: constants.errno.EIO,
};

/** Messages in order of arrival. Once grown it allocates nothing. */
class MessageQueue {
  #buffers: (PooledBuffer | undefined)[] = new Array(64).fill(undefined);
  #lengths: number[] = new Array(64).fill(0);
  #head = 0;
  count = 0;

  push(buffer: PooledBuffer, length: number): void {
    if (this.count === this.#buffers.length) this.#grow();
    const at = (this.#head + this.count) & (this.#buffers.length - 1);
    this.#buffers[at] = buffer;
    this.#lengths[at] = length;
    this.count++;
  }

  headLength(): number {
    return this.#lengths[this.#head]!;
  }

  shift(): PooledBuffer {
    const buffer = this.#buffers[this.#head]!;
    this.#buffers[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#buffers.length - 1);
    this.count--;
    return buffer;
  }

  #grow(): void {
    const tail = this.#buffers.length;
    this.#buffers = [
      ...this.#buffers.slice(this.#head),
      ...this.#buffers.slice(0, this.#head),
      ...new Array(tail).fill(undefined),
    ];
    this.#lengths = [...this.#lengths.slice(this.#head), ...this.#lengths.slice(0, this.#head), ...new Array(tail).fill(0)];
    this.#head = 0;
  }
}

function rethrow(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

class MemoryChannel implements Channel {
  readonly kind = 'memory';
  readonly receiveBytesMax: number;
  readonly #kernelHandler: KernelHandler;
  readonly #requests: SizedPool;
  readonly #replies: SizedPool;
  readonly #queue = new MessageQueue();
  readonly #buffersMax: number;
  readonly #queueMax: number;
  readonly #onFault: (error: unknown) => void;
  #handler: ChannelHandler | undefined;
  #current: PooledBuffer | undefined;
  #keptCount = 0;
  /** Whether a handler of either side is on the stack. */
  #isBusy = false;
  #isDraining = false;
  #endReason: CloseReason | undefined;
  #isEnded = false;

  constructor(kernelHandler: KernelHandler, options: MemoryPairOptions) {
    this.receiveBytesMax = options.messageBytesMax ?? DEFAULT_MESSAGE_BYTES_MAX;
    this.#kernelHandler = kernelHandler;
    const pool = {
      registry: options.registry,
      messageBytesMax: this.receiveBytesMax,
      cacheBytesMax: options.cacheBytes ?? DEFAULT_CACHE_BYTES,
    };
    this.#requests = new SizedPool({ ...pool, alignedAt: REQUEST_PAYLOAD_AT });
    this.#replies = new SizedPool({ ...pool, alignedAt: REPLY_PAYLOAD_AT });
    this.#buffersMax = options.buffersMax ?? DEFAULT_BUFFERS_MAX;
    this.#queueMax = options.queueMax ?? DEFAULT_QUEUE_MAX;
    this.#onFault = options.onFault ?? rethrow;
  }

  // --- the daemon's end ------------------------------------------------------------------------------------------------

  open(handler: ChannelHandler): void {
    if (this.#handler !== undefined || this.#endReason === 'closed') throw new ChannelUsedError();
    this.#handler = handler;
    this.#drain();
  }

  acquire(length: number): MessageBuffer {
    return this.#replies.acquire(length);
  }

  discard(buffer: MessageBuffer): void {
    this.#replies.put(takeBack(buffer));
  }

  send(buffer: MessageBuffer, length: number): number {
    const own = takeBack(buffer);
    const status = this.#toKernel(own, length);
    this.#replies.put(own);
    return status;
  }

  /** Memory has no gathering write, so the parts are copied behind the head. */
  sendParts(buffer: MessageBuffer, length: number, parts: readonly Uint8Array[]): number {
    let total = length;
    for (const part of parts) total += part.length;
    const whole = this.#replies.acquire(total);
    whole.bytes.set(buffer.bytes.subarray(0, length));
    let at = length;
    for (const part of parts) {
      whole.bytes.set(part, at);
      at += part.length;
    }
    this.discard(buffer);
    return this.send(whole, total);
  }

  keep(buffer: MessageBuffer): void {
    if (this.#current === undefined || buffer !== this.#current) throw new BufferNotLentError();
    this.#current.lent = true;
    this.#current = undefined;
    this.#keptCount++;
  }

  release(buffer: MessageBuffer): void {
    this.#requests.put(takeBack(buffer));
    this.#keptCount--;
    if (this.#queue.count > 0) this.#drainSoon();
  }

  setPending(_count: number): void {
    // A memory channel never sleeps.
  }

  close(): void {
    this.end('closed');
  }

  #toKernel(buffer: PooledBuffer, length: number): number {
    if (this.#isEnded) return -ENODEV;
    const wasBusy = this.#isBusy;
    this.#isBusy = true;
    let status = -EIO;
    try {
      status = this.#kernelHandler.onReply(buffer, length);
    } catch (error) {
      this.#onFault(error);
    }
    this.#isBusy = wasBusy;
    // The daemon is in the middle of its call: what came up meanwhile must not run inside it.
    if (!wasBusy && (this.#queue.count > 0 || this.#endReason !== undefined)) this.#drainSoon();
    return status;
  }

  // --- the kernel's end ------------------------------------------------------------------------------------------------

  get queuedCount(): number {
    return this.#queue.count;
  }

  acquireRequest(length: number): MessageBuffer {
    return this.#requests.acquire(length);
  }

  submit(buffer: MessageBuffer, length: number): number {
    const own = takeBack(buffer);
    let refusal = 0;
    if (this.#endReason !== undefined) refusal = -ENODEV;
    else if (length > this.receiveBytesMax) refusal = -EIO;
    else if (this.#queue.count >= this.#queueMax) refusal = -EAGAIN;
    if (refusal !== 0) {
      this.#requests.put(own);
      return refusal;
    }
    if (this.#canDeliver() && this.#queue.count === 0) this.#deliver(own, length);
    else this.#queue.push(own, length);
    if (!this.#isBusy) this.#drain();
    return 0;
  }

  // --- delivery --------------------------------------------------------------------------------------------------------

  #canDeliver(): boolean {
    return !this.#isBusy && this.#handler !== undefined && this.#endReason === undefined && this.#keptCount < this.#buffersMax;
  }

  #deliver(buffer: PooledBuffer, length: number): void {
    this.#isBusy = true;
    this.#current = buffer;
    try {
      this.#handler!.onMessage(buffer, length);
    } catch (error) {
      this.#onFault(error);
    }
    this.#isBusy = false;
    if (this.#current === undefined) return;
    this.#current = undefined;
    this.#requests.put(buffer);
  }

  /** Delivers what waits, then completes an end that came meanwhile. */
  #drain(): void {
    while (this.#queue.count > 0 && this.#canDeliver()) {
      const length = this.#queue.headLength();
      this.#deliver(this.#queue.shift(), length);
    }
    if (this.#endReason !== undefined && !this.#isBusy) this.#finish(this.#endReason);
  }

  #drainSoon(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    queueMicrotask(this.#onDrain);
  }

  readonly #onDrain = (): void => {
    this.#isDraining = false;
    if (!this.#isBusy) this.#drain();
  };

  end(reason: CloseReason): void {
    this.#endReason ??= reason;
    // A daemon that is not open yet hears of the end when it opens, unless it made the end itself.
    if (!this.#isBusy && (this.#handler !== undefined || reason === 'closed')) this.#finish(this.#endReason);
  }

  #finish(reason: CloseReason): void {
    if (this.#isEnded || (this.#handler === undefined && reason !== 'closed')) return;
    this.#isEnded = true;
    while (this.#queue.count > 0) this.#requests.put(this.#queue.shift());
    this.#requests.close();
    this.#replies.close();
    try {
      this.#handler?.onClosed(reason, CLOSE_ERRNO[reason]);
      this.#kernelHandler.onClosed?.();
    } catch (error) {
      this.#onFault(error);
    }
  }
}

/** The other face of a {@link MemoryChannel}: both have an `acquire` and a `close` of their own. */
class MemoryKernelEnd implements KernelEnd {
  readonly #channel: MemoryChannel;

  constructor(channel: MemoryChannel) {
    this.#channel = channel;
  }

  get queuedCount(): number {
    return this.#channel.queuedCount;
  }

  acquire(length: number): MessageBuffer {
    return this.#channel.acquireRequest(length);
  }

  submit(buffer: MessageBuffer, length: number): number {
    return this.#channel.submit(buffer, length);
  }

  close(reason: CloseReason = 'unmounted'): void {
    this.#channel.end(reason);
  }
}

/**
 * A channel whose kernel is in the same thread: for unit tests, the simulated kernel and measurements. Delivery is
 * synchronous and never nested: a request that is submitted while a handler runs waits until it has returned.
 */
export function memoryPair(kernelHandler: KernelHandler, options: MemoryPairOptions = {}): MemoryPair {
  const channel = new MemoryChannel(kernelHandler, options);
  return { daemon: channel, kernel: new MemoryKernelEnd(channel) };
}
