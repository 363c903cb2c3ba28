import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { type Addon, loadAddon, type Ring } from '../native/index.ts';
import { opcodeRow } from '../protocol/index.ts';
import type { Channel, ChannelHandler, ChannelMode, CloseReason, MessageBuffer } from './channel.ts';
import { ChannelUsedError, RingError } from './errors.ts';
import { rethrow, STATE_ENDED, STATE_ENDING, STATE_NEW, STATE_OPEN, WayBack } from './life.ts';
import { REPLY_PAYLOAD_AT, RequestPool, SizedPool, takeBack } from './pool.ts';

const { EAGAIN, ECONNABORTED, EINTR, ENODEV, ENOENT } = constants.errno;

/** As native code lays out an entry: a page of headers, where short messages lie too, then the payload. */
const HEADER_PAGE_BYTES = 4096;
const PLAIN_AT = 1024;
const PLAIN_BYTES = 1024;
const IN_HEADER_BYTES = 40;
const OUT_HEADER_BYTES = 16;
const PAYLOAD_BYTES_LEAST = 8192;

const NEWS_WORDS = 3;
const NEWS_DEVICE = -1;

const DEFAULT_ROUNDS_MAX = 8;
const DEFAULT_BUFFERS_MAX = 64;
const DEFAULT_REPLY_CACHE_BYTES = 32 << 20;

/** The limits of a ring that the one who mounts may set. */
export interface RingLimits {
  /** Entries on each queue, 1 to 1024: how many requests of one processor's callers a thread may have at a time. Default 256 over all workers. */
  readonly ringDepth?: number;
  /** How many times the ring is looked at before the event loop gets a turn. Default 8. */
  readonly ringRoundsMax?: number;
}

/** Where in a connection a ring belongs. Plain data. */
export interface RingPlace {
  /** Queues of the connection, see {@link ringQueues}. */
  readonly queues: number;
  /** Entries on each of them. */
  readonly depth: number;
  /** Which place of the connection this is, see {@link Addon.ringKeys}: its next thread takes over from one that died. */
  readonly key: number;
  /** Which of the connection's threads this is, where there are several, and the shared word by which they take turns. */
  readonly turns?: RingTurns;
}

/** Plain data; `word` lies in shared memory and begins at 0. */
export interface RingTurns {
  readonly word: Int32Array<SharedArrayBuffer>;
  readonly index: number;
  readonly of: number;
}

export interface RingChannelOptions extends RingPlace {
  /** An open /dev/fuse that is attached to a mount whose INIT was answered, or a clone of one. The channel closes it at the end. */
  readonly fd: number;
  /** Bytes of the largest payload: max_write, or max_pages of 4,096 bytes, whichever is more. */
  readonly payloadBytes: number;
  readonly mode?: ChannelMode;
  readonly addon?: Addon;
  /** How many times the ring is looked at before the event loop gets a turn. Default 8. */
  readonly ringRoundsMax?: number;
  /** How many messages of the device handlers may keep. Default 64. */
  readonly buffersMax?: number;
  /** Bytes of idle reply buffers that are kept for reuse. Default 32 MiB. */
  readonly replyCacheBytes?: number;
  /** Told what a handler threw. By default it is thrown from a microtask, so that it becomes an 'uncaughtException'. */
  readonly onFault?: (error: unknown) => void;
}

/** How many queues the kernel makes for a connection: one for each processor that could ever be there. */
export function ringQueues(): number {
  const list = readFileSync('/sys/devices/system/cpu/possible', 'latin1').trim();
  return Number(list.split(/[,-]/).at(-1)) + 1;
}

/**
 * Tells the kernel that no ring will come, so that it sends requests to the device instead of holding them back. For a thread that
 * could make no ring although INIT announced it; rings of other threads are not affected.
 */
export function refuseRing(addon: Addon, fd: number): void {
  const ring = addon.ringOpen(fd, 1, 1, PAYLOAD_BYTES_LEAST, addon.ringKeys(1));
  if (typeof ring === 'number') return;
  addon.ringRefuse(ring.id);
  addon.ringClose(ring.id);
}

/** Whether this process may make rings: 0, or the positive errno. What the kernel's FUSE thinks of them shows at INIT. */
export function ringObstacle(addon: Addon, fd: number): number {
  const ring = addon.ringOpen(fd, 1, 1, PAYLOAD_BYTES_LEAST, addon.ringKeys(1));
  if (typeof ring === 'number') return -ring;
  addon.ringClose(ring.id);
  return 0;
}

/** Memory of an entry, seen from where a message begins. */
class RingView implements MessageBuffer {
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  readonly id: number;
  readonly entry: Entry;
  lent = false;

  constructor(addon: Addon, arena: ArrayBuffer, at: number, length: number, entry: Entry) {
    this.bytes = new Uint8Array(arena, at, length);
    this.words = new Uint32Array(arena, at, length >> 2);
    this.id = addon.registerBuffer(arena, at, length);
    this.entry = entry;
  }
}

/** One request at a time, from its delivery to its answer. */
interface Entry {
  readonly index: number;
  /** Key of the request that is here; -1 when its answer has been put. */
  key: number;
  plain: RingView | undefined;
  /** By bytes of the first argument, eighths. */
  readonly withPayload: (RingView | undefined)[];
  reply: RingView | undefined;
}

/** A request's identity as a Map key; see the session's. */
function keyOf(low: number, high: number): number {
  return (high & 0x1fffff) * 0x1_0000_0000 + low;
}

/** How many entries of each queue are added by turns, and how long a thread waits for its turn: then the others are gone, or slow. */
const ROUNDS_BY_TURNS = 16;
const TURN_WAIT_MS = 200;

/** Waits until it is this thread's turn; answers the turn's number. */
function takeTurn({ word, index, of }: RingTurns, round: number): number {
  const turn = round * of + index;
  const limit = performance.now() + TURN_WAIT_MS;
  for (;;) {
    const now = Atomics.load(word, 0);
    const left = limit - performance.now();
    if (now >= turn || left <= 0) return turn;
    Atomics.wait(word, 0, now, left);
  }
}

function passTurn({ word }: RingTurns, turn: number): void {
  if (Atomics.load(word, 0) <= turn) Atomics.store(word, 0, turn + 1);
  Atomics.notify(word, 0);
}

/**
 * The channel over a ring, and over the device for what never leaves it: requests from before the ring was ready, FORGET
 * and INTERRUPT. Every thread has entries on every queue, so that the pieces of one caller, which all lie in the queue of its
 * processor, spread over the threads.
 *
 * The payload of a request is read, and the payload of a reply filled, where the kernel copies from and to. Answers of one
 * batch leave in one system call, which is also the one that waits for the next.
 */
export class RingChannel implements Channel {
  readonly kind = 'uring';
  readonly mode: ChannelMode;
  readonly receiveBytesMax: number;
  readonly #fd: number;
  readonly #addon: Addon;
  readonly #ring: Ring;
  readonly #share: number;
  readonly #payloadBytes: number;
  readonly #entries: Entry[] = [];
  readonly #held = new Map<number, Entry>();
  readonly #requests: RequestPool;
  readonly #replies: SizedPool;
  readonly #roundsMax: number;
  readonly #onFault: (error: unknown) => void;
  #handler!: ChannelHandler;
  #state = STATE_NEW;
  #closeReason: CloseReason = 'closed';
  #closeErrno = 0;
  /** The entry whose message is being delivered. */
  #current: Entry | undefined;
  #commits = 0;
  #isReceiving = false;
  #isFlushing = false;
  readonly #wayBack = new WayBack(() => this.#serveInKernel());
  #pendingCount = 0;
  #watchId = 0;

  /** Throws {@link RingError} where there can be no ring; the descriptor is still the caller's then. */
  constructor(options: RingChannelOptions) {
    this.mode = options.mode ?? 'event';
    this.#fd = options.fd;
    this.#addon = options.addon ?? loadAddon();
    this.#payloadBytes = Math.max(options.payloadBytes, PAYLOAD_BYTES_LEAST);
    this.#share = HEADER_PAGE_BYTES + Math.ceil(this.#payloadBytes / 4096) * 4096;
    this.receiveBytesMax = HEADER_PAGE_BYTES + this.#payloadBytes;
    this.#roundsMax = options.ringRoundsMax ?? DEFAULT_ROUNDS_MAX;
    this.#onFault = options.onFault ?? rethrow;
    const ring = this.#addon.ringOpen(this.#fd, options.queues, options.depth, this.#payloadBytes, options.key);
    if (typeof ring === 'number') throw new RingError(-ring);
    this.#ring = ring;
    const count = ring.arena.byteLength / this.#share;
    for (let index = 0; index < count; index++) {
      this.#entries.push({ index, key: -1, plain: undefined, withPayload: [], reply: undefined });
    }
    this.#requests = new RequestPool(this.#addon, this.receiveBytesMax, options.buffersMax ?? DEFAULT_BUFFERS_MAX);
    this.#replies = new SizedPool({
      registry: this.#addon,
      alignedAt: REPLY_PAYLOAD_AT,
      messageBytesMax: this.receiveBytesMax,
      cacheBytesMax: options.replyCacheBytes ?? DEFAULT_REPLY_CACHE_BYTES,
    });
    this.#addon.setNonBlocking(this.#fd, true);
    const started = this.#register(options);
    if (started >= 0) return;
    this.#addon.ringClose(ring.id);
    throw new RingError(-started);
  }

  /**
   * The kernel hands a request to the entry that was added last (fuse_uring_ent_avail). If each thread added all of its own at once, one
   * would get every burst. So the last rounds are added by turns.
   */
  #register({ queues, depth, turns }: RingPlace): number {
    const byTurns = turns === undefined ? 0 : Math.min(depth, ROUNDS_BY_TURNS);
    let status = this.#addon.ringStart(this.#ring.id, 0, (depth - byTurns) * queues);
    for (let round = 0; round < byTurns && status >= 0; round++) {
      const turn = takeTurn(turns!, round);
      status = this.#addon.ringStart(this.#ring.id, (depth - byTurns + round) * queues, queues);
      passTurn(turns!, turn);
    }
    return status;
  }

  // --- the channel's owner ---------------------------------------------------------------------------------------------

  open(handler: ChannelHandler): void {
    if (this.#state !== STATE_NEW) throw new ChannelUsedError();
    this.#handler = handler;
    this.#state = STATE_OPEN;
    if (this.mode === 'blocking') this.#serveInKernel();
    else this.#serveOnLoop();
  }

  /** While a request without a payload is delivered, its reply can be made in place. */
  acquire(length: number): MessageBuffer {
    const entry = this.#current;
    if (entry === undefined || length > this.#payloadBytes + OUT_HEADER_BYTES) return this.#replies.acquire(length);
    const reply = this.#replyOf(entry);
    if (reply.lent) return this.#replies.acquire(length);
    reply.lent = true;
    return reply;
  }

  discard(buffer: MessageBuffer): void {
    if (buffer instanceof RingView) buffer.lent = false;
    else this.#replies.put(takeBack(buffer));
  }

  send(buffer: MessageBuffer, length: number): number {
    const entry = this.#entryFor(buffer.words);
    if (entry === undefined) return this.#sendToDevice(buffer, length);
    if (buffer !== entry.reply) copy(buffer, length, this.#replyOf(entry));
    this.discard(buffer);
    this.#commit(entry, length);
    return 0;
  }

  sendParts(buffer: MessageBuffer, length: number, parts: readonly Uint8Array[]): number {
    const entry = this.#entryFor(buffer.words);
    if (entry === undefined) {
      const status = this.#state === STATE_OPEN ? this.#addon.replyParts(this.#fd, buffer.id, 0, length, parts) : -ENODEV;
      this.discard(buffer);
      return Math.min(status, 0);
    }
    const reply = this.#replyOf(entry);
    if (buffer !== reply) copy(buffer, length, reply);
    this.discard(buffer);
    let at = length;
    for (const part of parts) {
      reply.bytes.set(part, at);
      at += part.byteLength;
    }
    this.#commit(entry, at);
    return 0;
  }

  /** A message of the ring stays until its answer by itself. */
  keep(buffer: MessageBuffer): void {
    if (!(buffer instanceof RingView)) this.#requests.keep(buffer);
  }

  release(buffer: MessageBuffer): void {
    if (!(buffer instanceof RingView)) this.#requests.release(buffer);
  }

  setPending(count: number): void {
    this.#pendingCount = count;
    if (count === 0 && this.mode === 'blocking' && this.#state === STATE_OPEN && !this.#isReceiving) this.#wayBack.after(1);
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

  // --- answers -----------------------------------------------------------------------------------------------------------

  #replyOf(entry: Entry): RingView {
    entry.reply ??= this.#view(entry, HEADER_PAGE_BYTES - OUT_HEADER_BYTES, OUT_HEADER_BYTES + this.#payloadBytes);
    return entry.reply;
  }

  /** Takes the entry whose request a reply answers; undefined when the request came by the device. */
  #entryFor(words: Uint32Array): Entry | undefined {
    const key = keyOf(words[2], words[3]);
    const current = this.#current;
    if (current !== undefined && current.key === key) {
      current.key = -1;
      return current;
    }
    const entry = this.#held.get(key);
    if (entry === undefined) return undefined;
    this.#held.delete(key);
    entry.key = -1;
    return entry;
  }

  #commit(entry: Entry, length: number): void {
    const { commits } = this.#ring;
    const row = this.#commits * 2;
    commits[row] = entry.index;
    commits[row + 1] = length;
    this.#commits++;
    if (this.#isReceiving || this.#isFlushing) return;
    this.#isFlushing = true;
    queueMicrotask(this.#onFlush);
  }

  /** What promises answered in this turn of the event loop leaves together. */
  readonly #onFlush = (): void => {
    this.#isFlushing = false;
    if (this.#state === STATE_OPEN && !this.#isReceiving && this.#commits > 0) this.#drain(1);
  };

  #sendToDevice(buffer: MessageBuffer, length: number): number {
    const isUp = this.#state === STATE_OPEN || this.#state === STATE_ENDING;
    const status = isUp ? this.#addon.reply(this.#fd, buffer.id, 0, length) : -ENODEV;
    this.discard(buffer);
    return Math.min(status, 0);
  }

  // --- messages ----------------------------------------------------------------------------------------------------------

  #view(entry: Entry, at: number, length: number): RingView {
    return new RingView(this.#addon, this.#ring.arena, entry.index * this.#share + at, length, entry);
  }

  /** The message of a row of news. */
  #messageOf(entry: Entry, argumentBytes: number): RingView {
    if (argumentBytes < 0) {
      entry.plain ??= this.#view(entry, PLAIN_AT, PLAIN_BYTES);
      return entry.plain;
    }
    const head = IN_HEADER_BYTES + argumentBytes;
    entry.withPayload[argumentBytes >> 3] ??= this.#view(entry, HEADER_PAGE_BYTES - head, head + this.#payloadBytes);
    return entry.withPayload[argumentBytes >> 3]!;
  }

  #take(row: number): void {
    const { news } = this.#ring;
    const at = row * NEWS_WORDS;
    const index = news[at];
    if (index < 0) {
      // An entry that failed says less than the device does about how the connection ended.
      if (this.#receiveFromDevice() || index === NEWS_DEVICE) return;
      this.#end('failed', -news[at + 1]);
      return;
    }
    const entry = this.#entries[index];
    const message = this.#messageOf(entry, news[at + 2]);
    entry.key = keyOf(message.words[2], message.words[3]);
    this.#current = entry;
    // The memory of a request with a payload is the same as that of its reply, which must not be written before its time.
    const reply = this.#replyOf(entry);
    reply.lent = news[at + 2] >= 0;
    const opcode = message.words[1];
    try {
      this.#handler.onMessage(message, news[at + 1]);
    } catch (error) {
      this.#onFault(error);
    }
    this.#current = undefined;
    if (entry.key === -1) return;
    if (opcodeRow(opcode)?.hasReply === false) this.#commitNothing(entry, message);
    else this.#held.set(entry.key, entry);
  }

  /** A message that takes no answer leaves its entry only by one. */
  #commitNothing(entry: Entry, message: RingView): void {
    const { words } = this.#replyOf(entry);
    const low = message.words[2];
    const high = message.words[3];
    words[0] = OUT_HEADER_BYTES;
    words[1] = 0;
    words[2] = low;
    words[3] = high;
    entry.key = -1;
    this.#commit(entry, OUT_HEADER_BYTES);
  }

  /** Takes what the device has. True when that ended the channel. */
  #receiveFromDevice(): boolean {
    while (this.#state === STATE_OPEN) {
      const buffer = this.#requests.current;
      const got = this.#addon.receive(this.#fd, buffer.id, 0, this.receiveBytesMax);
      if (got > 0) this.#deliver(buffer, got);
      else if (got === -EAGAIN || got === -EINTR) return false;
      else if (got !== -ENOENT) return this.#endOfDevice(got);
    }
    return true;
  }

  #deliver(buffer: MessageBuffer, length: number): void {
    try {
      this.#handler.onMessage(buffer, length);
    } catch (error) {
      this.#onFault(error);
    }
  }

  #endOfDevice(got: number): true {
    if (got === 0 || got === -ENODEV) this.#end('unmounted', ENODEV);
    else if (got === -ECONNABORTED) this.#end('aborted', ECONNABORTED);
    else this.#end('failed', -got);
    return true;
  }

  // --- turns -------------------------------------------------------------------------------------------------------------

  /** Hands in what was answered and takes what came: rows of news, or -errno. */
  #turn(wait: boolean): number {
    const commits = this.#commits;
    this.#commits = 0;
    return this.#addon.ringTurn(this.#ring.id, commits, wait);
  }

  /** Takes rows; their answers leave together with the next turn. */
  #takeAll(rows: number): void {
    for (let row = 0; row < rows && this.#state === STATE_OPEN; row++) this.#take(row);
  }

  #survives(status: number): boolean {
    if (status >= 0 || status === -EINTR) return true;
    this.#end('failed', -status);
    return false;
  }

  #drain(rounds: number): void {
    this.#isReceiving = true;
    let left = rounds;
    let rows: number;
    do {
      rows = this.#turn(false);
      if (!this.#survives(rows)) break;
      this.#takeAll(rows);
      left--;
    } while ((rows > 0 || this.#commits > 0) && left > 0 && this.#state === STATE_OPEN);
    this.#leaveLoop();
  }

  /** After a loop: no answer stays behind, and an end that came during the loop takes place. */
  #leaveLoop(): void {
    while (this.#commits > 0 && this.#state === STATE_OPEN) {
      const rows = this.#turn(false);
      if (this.#survives(rows)) this.#takeAll(rows);
    }
    this.#isReceiving = false;
    if (this.#state === STATE_ENDING) this.#finish();
  }

  readonly #onReadable = (): void => {
    if (this.#state !== STATE_OPEN) return;
    this.#drain(this.#roundsMax);
    if (this.#state === STATE_OPEN && this.mode === 'blocking' && this.#pendingCount === 0) this.#wayBack.after(1);
  };

  #serveOnLoop(): void {
    if (this.#watchId !== 0) return;
    const bell = this.#addon.ringBell(this.#ring.id, true);
    const id = bell < 0 ? bell : this.#addon.watch(bell, this.#onReadable);
    if (id >= 0) {
      this.#watchId = id;
      // What came before the bell was there has not rung it.
      this.#drain(this.#roundsMax);
      return;
    }
    this.#end('failed', -id);
    this.#finish();
  }

  /** The loop stays alive through the watch; without its bell it is silent. */
  #silence(): void {
    if (this.#watchId === 0) return;
    this.#addon.unwatch(this.#watchId);
    this.#addon.ringBell(this.#ring.id, false);
    this.#watchId = 0;
  }

  /** Sleeps in the kernel from batch to batch, until answers are pending, the channel ends, or another thread wakes this one. */
  #serveInKernel(): void {
    if (this.#state !== STATE_OPEN) return;
    if (this.#pendingCount > 0) {
      this.#serveOnLoop();
      return;
    }
    this.#silence();
    let isWoken = false;
    this.#isReceiving = true;
    do {
      const rows = this.#turn(true);
      if (rows === -EINTR) isWoken = true;
      else if (this.#survives(rows)) this.#takeAll(rows);
    } while (!isWoken && this.#state === STATE_OPEN && this.#pendingCount === 0);
    this.#leaveLoop();
    if (this.#state !== STATE_OPEN) return;
    if (isWoken) this.#wayBack.after(2);
    else this.#serveOnLoop();
  }

  // --- the end -----------------------------------------------------------------------------------------------------------

  #end(reason: CloseReason, errno: number): void {
    if (this.#state !== STATE_OPEN) return;
    this.#state = STATE_ENDING;
    this.#closeReason = reason;
    this.#closeErrno = errno;
  }

  #free(): void {
    this.#silence();
    for (const entry of this.#entries) {
      for (const view of [entry.plain, entry.reply, ...entry.withPayload]) {
        if (view !== undefined) this.#addon.unregisterBuffer(view.id);
      }
    }
    this.#addon.ringClose(this.#ring.id);
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

/** Short messages are copied by words, which takes no view. */
const COPY_WORDS_MAX_BYTES = 512;

function copy(from: MessageBuffer, length: number, to: MessageBuffer): void {
  if (length > COPY_WORDS_MAX_BYTES) {
    to.bytes.set(from.bytes.subarray(0, length));
    return;
  }
  const words = (length + 3) >> 2;
  for (let at = 0; at < words; at++) to.words[at] = from.words[at];
}
