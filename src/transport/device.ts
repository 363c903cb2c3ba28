import { constants } from 'node:os';
import { type Addon, loadAddon } from '../native/index.ts';
import type { Channel, ChannelHandler, ChannelMode, CloseReason, MessageBuffer, RecordedBlock } from './channel.ts';
import { ChannelUsedError } from './errors.ts';
import { rethrow, STATE_ENDED, STATE_ENDING, STATE_NEW, STATE_OPEN, WayBack } from './life.ts';
import { type PooledBuffer, REPLY_PAYLOAD_AT, RequestPool, SizedPool, takeBack } from './pool.ts';

const { EAGAIN, ECONNABORTED, EINTR, EINVAL, ENODEV, ENOENT } = constants.errno;

const POLLIN = 1;
/** UIO_MAXIOV of Linux, less the head. */
const PARTS_MAX = 1023;
/** Room for a 64 KiB extended attribute with its name, and for two names of 4,095 bytes. */
const RECEIVE_BYTES_LEAST = 69_632;
const HEADER_ROOM_BYTES = 4096;
const MIB = 1024 * 1024;

const DEFAULT_RECEIVE_BYTES = MIB + HEADER_ROOM_BYTES;
const DEFAULT_RECEIVE_BYTES_LIMIT = 64 * MIB;
const DEFAULT_BUFFERS_MAX = 64;
const DEFAULT_PENDING_MAX = 65_536;
const DEFAULT_BATCH_MAX = 64;
const DEFAULT_REPLY_CACHE_BYTES = 32 * MIB;

export interface DeviceChannelOptions {
  /** An open /dev/fuse that is attached to a mount, or a clone of one. The channel owns it: it closes it at the end. */
  readonly fd: number;
  /** How the channel waits. Default 'event'. */
  readonly mode?: ChannelMode;
  /** Default: the addon of this thread. */
  readonly addon?: Addon;
  /** Bytes of a receive buffer; see {@link receiveBytesFor}. Default 1 MiB + 4,096. Memory is touched only as messages need it. */
  readonly receiveBytes?: number;
  /** To what the receive buffers may grow when the kernel finds them too small for what was negotiated. Default 64 MiB. */
  readonly receiveBytesLimit?: number;
  /** How many messages handlers may keep at a time. Then nothing is received until one is released. Default 64. */
  readonly buffersMax?: number;
  /** How many answers may be pending at a time. Then nothing is received until one has left. Default 65,536. */
  readonly pendingMax?: number;
  /** How many messages are received before the event loop gets a turn, while the channel waits on it. Default 64. */
  readonly batchMax?: number;
  /**
   * For how many microseconds the channel asks again, when nothing is left to receive, before it goes back to the event
   * loop. It saves the wake-up at the price of a busy core. Default 0.
   */
  readonly spinMicros?: number;
  /** Bytes of idle reply buffers that are kept for reuse. Default 32 MiB. */
  readonly replyCacheBytes?: number;
  /** Told what a handler threw. By default it is thrown from a microtask, so that it becomes an 'uncaughtException'. */
  readonly onFault?: (error: unknown) => void;
}

/** The limits of a device channel that the one who mounts may set. */
export type ChannelLimits = Pick<
  DeviceChannelOptions,
  'buffersMax' | 'pendingMax' | 'batchMax' | 'spinMicros' | 'replyCacheBytes'
>;

/**
 * Bytes of a receive buffer that hold every message of a connection which negotiated these limits. The kernel refuses to
 * read into less than max_write + 80 (fuse_dev_do_read), and fails a request that is larger than the buffer with EIO.
 *
 * @param limits.maxWriteBytes max_write of the INIT reply
 * @param limits.maxPages max_pages of the INIT reply, in pages of 4,096 bytes
 */
export function receiveBytesFor(limits: { maxWriteBytes: number; maxPages: number }): number {
  return Math.max(Math.max(limits.maxWriteBytes, limits.maxPages * 4096) + HEADER_ROOM_BYTES, RECEIVE_BYTES_LEAST);
}

/**
 * The channel over /dev/fuse.
 *
 * The last reply of a handler is staged and leaves together with the next receive, in one call. A reply that is sent
 * outside of a handler leaves at once.
 */
export class DeviceChannel implements Channel {
  readonly kind = 'device';
  readonly mode: ChannelMode;
  readonly #fd: number;
  readonly #addon: Addon;
  readonly #replyStatus: Int32Array;
  readonly #requests: RequestPool;
  readonly #replies: SizedPool;
  readonly #receiveBytesLimit: number;
  readonly #pendingMax: number;
  readonly #batchMax: number;
  readonly #spinMs: number;
  readonly #onFault: (error: unknown) => void;
  #handler!: ChannelHandler;
  #receiveBytes: number;
  #state = STATE_NEW;
  #closeReason: CloseReason = 'closed';
  #closeErrno = 0;
  #staged: PooledBuffer | undefined;
  #stagedBytes = 0;
  /** Whether the receive loop is on the stack: then sends are staged, and an end waits for the loop. */
  #isReceiving = false;
  #isPaused = false;
  #isNonBlocking = false;
  readonly #wayBack = new WayBack(() => this.#serveInKernel());
  #pendingCount = 0;
  /** What came by {@link inject} and waits until the handler may have it. */
  readonly #injected: Uint8Array[] = [];
  /** 0 while there is none. */
  #watchId = 0;
  #tapeId = 0;

  constructor(options: DeviceChannelOptions) {
    this.mode = options.mode ?? 'event';
    this.#fd = options.fd;
    this.#addon = options.addon ?? loadAddon();
    this.#replyStatus = this.#addon.replyStatus;
    this.#receiveBytes = options.receiveBytes ?? DEFAULT_RECEIVE_BYTES;
    this.#receiveBytesLimit = Math.max(options.receiveBytesLimit ?? DEFAULT_RECEIVE_BYTES_LIMIT, this.#receiveBytes);
    this.#requests = new RequestPool(this.#addon, this.#receiveBytes, options.buffersMax ?? DEFAULT_BUFFERS_MAX);
    this.#replies = new SizedPool({
      registry: this.#addon,
      alignedAt: REPLY_PAYLOAD_AT,
      messageBytesMax: this.#receiveBytes,
      cacheBytesMax: options.replyCacheBytes ?? DEFAULT_REPLY_CACHE_BYTES,
    });
    this.#pendingMax = options.pendingMax ?? DEFAULT_PENDING_MAX;
    this.#batchMax = options.batchMax ?? DEFAULT_BATCH_MAX;
    this.#spinMs = (options.spinMicros ?? 0) / 1000;
    this.#onFault = options.onFault ?? rethrow;
  }

  /** Whether handlers hold as many messages or owe as many answers as they may. */
  get #isFull(): boolean {
    return this.#requests.isExhausted || this.#pendingCount >= this.#pendingMax;
  }

  get receiveBytesMax(): number {
    return this.#receiveBytes;
  }

  // --- the channel's owner ---------------------------------------------------------------------------------------------

  open(handler: ChannelHandler): void {
    if (this.#state !== STATE_NEW) throw new ChannelUsedError();
    this.#handler = handler;
    this.#state = STATE_OPEN;
    if (this.mode === 'blocking') this.#serveInKernel();
    else this.#serveOnLoop();
  }

  acquire(length: number): MessageBuffer {
    return this.#replies.acquire(length);
  }

  discard(buffer: MessageBuffer): void {
    this.#replies.put(takeBack(buffer));
  }

  send(buffer: MessageBuffer, length: number): number {
    const own = takeBack(buffer);
    if (this.#isReceiving) {
      if (this.#staged !== undefined) this.#flush();
      this.#staged = own;
      this.#stagedBytes = length;
      return 0;
    }
    const status = this.#state === STATE_OPEN ? this.#addon.reply(this.#fd, own.id, 0, length) : -ENODEV;
    this.#replies.put(own);
    return Math.min(status, 0);
  }

  sendParts(buffer: MessageBuffer, length: number, parts: readonly Uint8Array[]): number {
    if (parts.length > PARTS_MAX) return this.#sendGathered(buffer, length, parts);
    // What was sent before it leaves before it.
    this.#flush();
    const own = takeBack(buffer);
    const isUp = this.#state === STATE_OPEN || this.#state === STATE_ENDING;
    const status = isUp ? this.#addon.replyParts(this.#fd, own.id, 0, length, parts) : -ENODEV;
    this.#replies.put(own);
    return Math.min(status, 0);
  }

  /** More parts than the kernel gathers in one call are gathered here. */
  #sendGathered(buffer: MessageBuffer, length: number, parts: readonly Uint8Array[]): number {
    let total = length;
    for (const part of parts) total += part.length;
    const whole = this.acquire(total);
    whole.bytes.set(buffer.bytes.subarray(0, length));
    let at = length;
    for (const part of parts) {
      whole.bytes.set(part, at);
      at += part.length;
    }
    this.discard(buffer);
    return this.sendParts(whole, total, []);
  }

  keep(buffer: MessageBuffer): void {
    this.#requests.keep(buffer);
  }

  release(buffer: MessageBuffer): void {
    this.#requests.release(buffer);
    if (this.#isPaused && !this.#isReceiving && this.#state === STATE_OPEN) this.#unpause();
  }

  setPending(count: number): void {
    this.#pendingCount = count;
    if (this.#isPaused && !this.#isReceiving && this.#state === STATE_OPEN) this.#unpause();
    if (count === 0 && this.mode === 'blocking' && this.#state === STATE_OPEN && !this.#isReceiving) this.#wayBack.after(1);
  }

  recordTo({ memory, dataBytes, indexBytes }: RecordedBlock, startedAt: number): boolean {
    const id = this.#addon.registerBuffer(memory);
    const recorded = this.#addon.tapeBegin(this.#fd, id, 0, dataBytes, indexBytes, Math.floor(startedAt)) === 0;
    if (recorded) this.#tapeId = id;
    else this.#addon.unregisterBuffer(id);
    return recorded;
  }

  inject(message: Uint8Array): void {
    this.#injected.push(message);
    if (!this.#isReceiving) this.#deliverInjected();
  }

  close(): void {
    if (this.#state === STATE_NEW) {
      this.#state = STATE_ENDED;
      this.#free();
    } else if (this.#state === STATE_OPEN) {
      this.#end('closed', 0);
      if (!this.#isReceiving) this.#finish();
    }
  }

  // --- receiving -------------------------------------------------------------------------------------------------------

  /** Sends the staged reply, if there is one, and receives. The result is that of read(2), or -errno. */
  #receive(): number {
    const buffer = this.#requests.current;
    const staged = this.#staged;
    if (staged === undefined) return this.#addon.receive(this.#fd, buffer.id, 0, this.#receiveBytes);
    this.#staged = undefined;
    const got = this.#addon.replyReceive(this.#fd, staged.id, 0, this.#stagedBytes, buffer.id, 0, this.#receiveBytes);
    const status = this.#replyStatus[0];
    if (status < 0) this.#refuse(staged, -status);
    this.#replies.put(staged);
    return got;
  }

  #deliver(length: number): void {
    try {
      this.#handler.onMessage(this.#requests.current, length);
    } catch (error) {
      this.#onFault(error);
    }
  }

  #deliverInjected(): void {
    while (this.#injected.length > 0 && this.#state === STATE_OPEN && !this.#isFull) {
      const message = this.#injected.shift()!;
      this.#requests.current.bytes.set(message);
      this.#isReceiving = true;
      this.#deliver(message.byteLength);
      this.#leaveLoop();
    }
    if (this.#state === STATE_OPEN && this.#watchId !== 0 && this.#isFull) this.#pause();
  }

  #refuse(reply: PooledBuffer, errno: number): void {
    try {
      this.#handler.onRefused(reply.words, errno);
    } catch (error) {
      this.#onFault(error);
    }
  }

  /** Sends the staged reply by itself. */
  #flush(): void {
    const staged = this.#staged;
    if (staged === undefined) return;
    this.#staged = undefined;
    const status = this.#addon.reply(this.#fd, staged.id, 0, this.#stagedBytes);
    if (status < 0) this.#refuse(staged, -status);
    this.#replies.put(staged);
  }

  /** What a receive without a message means: true to ask again, false when the channel ends. */
  #survives(got: number): boolean {
    switch (-got) {
      // The request was interrupted while it was being copied; the next one waits.
      case ENOENT:
        return true;
      case EINVAL:
        return this.#grow() || this.#end('failed', EINVAL);
      case 0:
      case ENODEV:
        return this.#end('unmounted', ENODEV);
      case ECONNABORTED:
        return this.#end('aborted', ECONNABORTED);
      default:
        return this.#end('failed', -got);
    }
  }

  /** The kernel finds the buffer too small: INIT may have raised max_write after it was made. */
  #grow(): boolean {
    const bytes = Math.min(this.#receiveBytes * 2, this.#receiveBytesLimit);
    if (bytes === this.#receiveBytes) return false;
    this.#receiveBytes = bytes;
    this.#requests.grow(bytes);
    return true;
  }

  /** After the receive loop: nothing stays staged, and an end that came during the loop takes place. */
  #leaveLoop(): void {
    while (this.#staged !== undefined) this.#flush();
    this.#isReceiving = false;
    if (this.#state === STATE_ENDING) this.#finish();
  }

  // --- on the event loop -----------------------------------------------------------------------------------------------

  readonly #onReadable = (revents: number): void => {
    if (this.#state !== STATE_OPEN) return;
    // While paused only an error is of interest, and asking is how one learns which.
    if (this.#isFull && (revents & ~POLLIN) === 0) return;
    this.#setNonBlocking(true);
    this.#drain();
    if (this.#state === STATE_OPEN) this.#afterDrain();
  };

  /** Receives until nothing is left, the batch is full, or the handlers hold as many messages as they may. */
  #drain(): void {
    let left = this.#batchMax;
    this.#isReceiving = true;
    do {
      let got = this.#receive();
      if (got === -EAGAIN && this.#spinMs > 0) got = this.#spin();
      if (got > 0) this.#deliver(got);
      else if (got === -EAGAIN || got === -EINTR || !this.#survives(got)) break;
      left--;
    } while (left > 0 && this.#state === STATE_OPEN && !this.#isFull);
    this.#leaveLoop();
  }

  #spin(): number {
    const end = performance.now() + this.#spinMs;
    const { id } = this.#requests.current;
    let got: number;
    do got = this.#addon.receive(this.#fd, id, 0, this.#receiveBytes);
    while (got === -EAGAIN && performance.now() < end);
    return got;
  }

  #afterDrain(): void {
    if (this.#isFull) this.#pause();
    else if (this.mode === 'blocking' && this.#pendingCount === 0) this.#wayBack.after(1);
  }

  /** Waits on the event loop, as event mode does always and blocking mode while answers are pending. */
  #serveOnLoop(): void {
    this.#setNonBlocking(true);
    if (this.#watchId === 0) {
      const id = this.#addon.watch(this.#fd, this.#onReadable);
      if (id < 0) {
        this.#end('failed', -id);
        this.#finish();
        return;
      }
      this.#watchId = id;
    }
    if (this.#isFull) this.#pause();
  }

  #pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#addon.watchFor(this.#watchId, 0);
  }

  #unpause(): void {
    if (this.#injected.length > 0) this.#deliverInjected();
    if (this.#isFull || this.#state !== STATE_OPEN) return;
    this.#isPaused = false;
    this.#addon.watchFor(this.#watchId, POLLIN);
    if (this.mode === 'blocking' && this.#pendingCount === 0) this.#wayBack.after(1);
  }

  #setNonBlocking(isNonBlocking: boolean): void {
    if (this.#isNonBlocking === isNonBlocking) return;
    this.#isNonBlocking = isNonBlocking;
    this.#addon.setNonBlocking(this.#fd, isNonBlocking);
  }

  // --- in the kernel ---------------------------------------------------------------------------------------------------

  /**
   * Sleeps in the kernel from message to message, until answers are pending, the handlers hold as many messages as they
   * may, the channel ends, or another thread wakes this one.
   */
  #serveInKernel(): void {
    if (this.#state !== STATE_OPEN) return;
    if (this.#pendingCount > 0 || this.#isFull) {
      this.#serveOnLoop();
      return;
    }
    this.#addon.setNonBlocking(this.#fd, false);
    this.#isNonBlocking = false;
    let isWoken = false;
    this.#isReceiving = true;
    do {
      let got = this.#receive();
      // Somebody who shares the open file made it non-blocking.
      if (got === -EAGAIN) got = Math.min(this.#addon.poll(this.#fd, POLLIN, -1), 0) || -ENOENT;
      if (got > 0) this.#deliver(got);
      else if (got === -EINTR) isWoken = true;
      else if (!this.#survives(got)) break;
    } while (!isWoken && this.#state === STATE_OPEN && this.#pendingCount === 0 && !this.#isFull);
    this.#leaveLoop();
    if (this.#state !== STATE_OPEN) return;
    if (isWoken) this.#wayBack.after(2);
    else this.#serveOnLoop();
  }

  // --- the end ---------------------------------------------------------------------------------------------------------

  /** Notes the end, which {@link #finish} completes. Always false, for {@link #survives}. */
  #end(reason: CloseReason, errno: number): false {
    if (this.#state !== STATE_OPEN) return false;
    this.#state = STATE_ENDING;
    this.#closeReason = reason;
    this.#closeErrno = errno;
    return false;
  }

  #free(): void {
    if (this.#watchId !== 0) this.#addon.unwatch(this.#watchId);
    this.#watchId = 0;
    if (this.#tapeId !== 0) {
      this.#addon.tapeEnd(this.#fd);
      this.#addon.unregisterBuffer(this.#tapeId);
    }
    this.#addon.close(this.#fd);
    this.#requests.close();
    this.#replies.close();
  }

  #finish(): void {
    this.#state = STATE_ENDED;
    this.#free();
    try {
      this.#handler.onClosed(this.#closeReason, this.#closeErrno);
    } catch (error) {
      this.#onFault(error);
    }
  }
}
