/**
 * Recording what crosses a channel. Each thread fills blocks of its own and appends them whole to one file (O_APPEND), so
 * that threads need no lock and a crash loses no more than what they had not written yet.
 *
 * A block is written with one write(2) on the thread that filled it. That bounds memory and the loss: a thread that records
 * faster than the file takes it in becomes slower, it does not collect.
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import type { Channel, ChannelHandler, CloseReason, MessageBuffer } from './channel.ts';
import { TraceError } from './record-errors.ts';
import {
  BlockBuilder,
  decodeBlock,
  ENTRY_IN,
  ENTRY_OUT,
  ERRNO_MAX,
  fileHead,
  HELD,
  KEEP,
  parseBlockHead,
  TOOK,
} from './record-format.ts';
import { traceLine } from './record-line.ts';
import type { TraceMessage } from './record-message.ts';

/** What to record, and how. Plain data. */
export interface TraceSettings {
  /** The file: plain lines of JSON when its name ends with `.jsonl`, else the compact format. An existing file is replaced. */
  path: string;
  /**
   * Bytes of payload that are kept of each READ reply, WRITE request, STORE and RETRIEVE; of longer ones the rest is left out
   * and the message marked as cut. Everything else of a message is always kept. Default: all of it.
   */
  dataMax?: number;
  /**
   * Bytes of READ replies that each thread keeps in a second, once a burst of as much is used up; of what is beyond, the
   * first 16 bytes of the payload are kept and the message is marked as cut. Default 8 MiB: recording then costs little
   * however fast a file is read, and does not fill the disk with what is in the file anyway. Infinity: all of it. What is
   * written is never cut by this.
   */
  readRateMax?: number;
  /** How long a message may wait in memory before it is written, milliseconds, 10 to 60,000. Default 100. */
  flushMs?: number;
  /** Bytes of a block, 16 KiB to 16 MiB; what a thread holds in memory at most, besides longer messages. Default 256 KiB. */
  blockBytes?: number;
}

const DEFAULT_FLUSH_MS = 100;
const DEFAULT_BLOCK_BYTES = 256 << 10;
const DEFAULT_READ_RATE = 8 << 20;
/** How often the budget of READ replies is looked at, microseconds. */
const BUDGET_MICROS = 1000;
/** Bytes of payload that are kept of a reply beyond the rate. */
const BEYOND_RATE_BYTES = 16;

/** An open trace, as every thread of the process may write to it. Plain data. */
export interface TraceFile {
  readonly path: string;
  /** O_APPEND. Its owner closes it when every recorder of it is closed. */
  readonly fd: number;
  readonly isText: boolean;
  /** process.hrtime of t = 0: the same clock on every thread. */
  readonly startedAt: bigint;
  /** Infinity: payloads are kept whole. */
  readonly dataMax: number;
  readonly readRateMax: number;
  readonly flushMs: number;
  readonly blockBytes: number;
}

function within(
  name: string,
  value: number | undefined,
  [least, most]: readonly [number, number],
  otherwise: number,
  path: string,
) {
  if (value === undefined) return otherwise;
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  const detail = `${name} must be a whole number from ${least} to ${most}, not ${value}`;
  throw new TraceError('ERR_FUSEWIRE_TRACE_SETTING', path, { detail });
}

/**
 * Creates a trace.
 *
 * @throws {TraceError} when the settings are wrong or the file cannot be made.
 */
export function openTrace(settings: TraceSettings | string): TraceFile {
  const { path, dataMax, readRateMax, flushMs, blockBytes } =
    typeof settings === 'string' ? ({ path: settings } as TraceSettings) : settings;
  if (typeof path !== 'string' || path === '')
    throw new TraceError('ERR_FUSEWIRE_TRACE_SETTING', '', { detail: 'it needs a name' });
  if (path.endsWith('.gz')) {
    throw new TraceError('ERR_FUSEWIRE_TRACE_SETTING', path, { detail: 'it is recorded unpacked; run gzip on it afterwards' });
  }
  const common = {
    path,
    isText: path.endsWith('.jsonl'),
    dataMax: within('dataMax', dataMax, [0, 2 ** 31], Number.POSITIVE_INFINITY, path),
    readRateMax:
      readRateMax === Number.POSITIVE_INFINITY
        ? readRateMax
        : within('readRateMax', readRateMax, [0, Number.MAX_SAFE_INTEGER], DEFAULT_READ_RATE, path),
    flushMs: within('flushMs', flushMs, [10, 60_000], DEFAULT_FLUSH_MS, path),
    blockBytes: within('blockBytes', blockBytes, [16 << 10, 16 << 20], DEFAULT_BLOCK_BYTES, path),
  };
  let fd = -1;
  try {
    // What programs read and wrote is in it, so it is nobody else's business.
    fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_APPEND, 0o600);
    if (!common.isText) writeSync(fd, fileHead(Date.now() * 1000));
  } catch (error) {
    if (fd >= 0) closeSync(fd);
    throw new TraceError('ERR_FUSEWIRE_TRACE_WRITE', path, { detail: (error as { code: string }).code, cause: error });
  }
  return { ...common, fd, startedAt: process.hrtime.bigint() };
}

/** Closes a trace, after all of its recorders: its descriptor may be somebody else's afterwards. */
export function closeTrace(file: TraceFile): void {
  closeSync(file.fd);
}

const OPCODE_READ = 15;
const OPCODE_WRITE = 16;
const OPCODE_NOTIFY_REPLY = 41;
const NOTIFY_STORE = 4;
/** Bytes before the payload: of WRITE and NOTIFY_REPLY, of a reply, and of STORE. */
const REQUEST_PAYLOAD_AT = 80;
const REPLY_PAYLOAD_AT = 16;
const STORE_PAYLOAD_AT = 40;
/** READs in flight whose replies may have to be cut are remembered in a table of this size, by their ids. */
const READS = 1 << 16;
/** Up to this many bytes a loop over words copies faster than a call into the engine. */
const LOOP_BYTES_MAX = 256;

/** Recorders of this thread that have something to lose. */
const open = new Set<Recorder>();
function flushAll(): void {
  for (const recorder of open) recorder.flush();
}

export interface RecorderOptions {
  readonly file: TraceFile;
  /** Number of this thread's channel in the trace. */
  readonly channel: number;
  /**
   * A word that tells another thread whether something waits here: odd while it does; another number with each flush. For
   * threads that sleep in the kernel, where no timer of theirs runs. Default: this thread has a timer.
   */
  readonly state?: Int32Array;
  /** Told once, when the file takes no more; nothing is recorded afterwards. */
  readonly onError?: (error: TraceError) => void;
}

/** Records what one thread sends and receives. Its methods never throw. */
export class Recorder {
  readonly #file: TraceFile;
  readonly #channel: number;
  readonly #state: Int32Array;
  readonly #onError: ((error: TraceError) => void) | undefined;
  /** Whether anything may be cut; only then READs are told from the rest. */
  readonly #isCutting: boolean;
  readonly #dataMax: number;
  /** Bytes a microsecond that the budget of READ replies grows by, and what it grows to. */
  readonly #readRate: number;
  readonly #readBurst: number;
  /** The low word of a READ's id at the place that follows from it; 0 for none. */
  readonly #reads: Uint32Array | undefined;
  readonly #timer: NodeJS.Timeout | undefined;
  /** Milliseconds to add to performance.now() for the time of the trace. */
  readonly #clockOffset: number;
  readonly #startedAtMicros: number;
  /** The block that is filled: nearly always the main one, which native code may fill too. */
  #block: BlockBuilder;
  readonly #main: BlockBuilder;
  /** The words that native code reads and writes, see KEEP, HELD and TOOK. */
  readonly #shared: Int32Array;
  #isTaped = false;
  /**
   * The message that was sent last has its bytes in the block and no entry yet, because the kernel may still refuse it. Bytes that are
   * kept of it (-1: there is none), bytes that it had, its errno, and its time.
   */
  #openKept = -1;
  #openWhole = 0;
  #openErrno = 0;
  #openTime = 0;
  /** A field that begins as a number stays one; it would be allocated anew with each change otherwise. */
  #readBudget = 0;
  #budgetedAt = 0;
  #sequence = 0;
  #isClosed = false;

  constructor({ file, channel, state, onError }: RecorderOptions) {
    this.#file = file;
    this.#channel = channel;
    this.#state = state ?? new Int32Array(1);
    this.#onError = onError;
    this.#dataMax = file.dataMax;
    this.#readRate = file.readRateMax / 1e6;
    this.#readBurst = file.readRateMax;
    this.#readBudget = this.#readBurst;
    this.#isCutting = file.dataMax !== Number.POSITIVE_INFINITY || file.readRateMax !== Number.POSITIVE_INFINITY;
    this.#reads = this.#isCutting ? new Uint32Array(READS) : undefined;
    this.#main = new BlockBuilder(file.blockBytes);
    this.#block = this.#main;
    this.#shared = this.#main.shared;
    this.#startedAtMicros = Number(file.startedAt) / 1000;
    this.#clockOffset = Number(process.hrtime.bigint() - file.startedAt) / 1e6 - performance.now();
    if (state === undefined) this.#timer = setInterval(() => this.flush(), file.flushMs).unref();
    if (open.size === 0) process.on('exit', flushAll);
    open.add(this);
  }

  /** Lets the channel's native code record what it can. What that is, JavaScript says message by message. */
  useTape(channel: Channel): void {
    // Requests are cut by what they mean, which native code does not know.
    if (this.#dataMax !== Number.POSITIVE_INFINITY || this.#isClosed) return;
    this.#isTaped = channel.recordTo?.(this.#main, this.#startedAtMicros) ?? false;
  }

  /** Microseconds since the recording began; never less than before on this thread. */
  now(): number {
    const t = Math.floor((performance.now() + this.#clockOffset) * 1000);
    return Math.max(t, this.#block.last);
  }

  /** A message that was received just now. */
  received(buffer: MessageBuffer, length: number): void {
    const kept = this.#isCutting ? this.#keptOfRequest(buffer.words, length) : length;
    if (this.#shared[TOOK] === 1) {
      this.#shared[TOOK] = 0;
      this.#remind();
      return;
    }
    if (this.#openKept >= 0) this.#settle();
    const t = this.now();
    if (this.#put(buffer, kept)) this.#block.enter(ENTRY_IN, t, kept, length, 0);
  }

  /** Leaves a message that is about to be sent to native code. False where it must be {@link sent} afterwards. */
  sends(buffer: MessageBuffer, length: number): boolean {
    const shared = this.#shared;
    // One at a time: another one may be waiting for the next receive.
    if (!this.#isTaped || shared[HELD] !== 0 || shared[KEEP] >= 0) return false;
    // Where it has no room it is recorded here, so that its READ is not forgotten twice.
    if (!this.#block.hasRoom(length)) return false;
    shared[KEEP] = this.#isCutting ? this.#keptOf(buffer.words, length, this.#block.last) : length;
    this.#remind();
    return true;
  }

  /** Takes a message back that was left to native code and failed. False where native code has seen and recorded that. */
  unsent(): boolean {
    const isWaiting = this.#shared[KEEP] >= 0;
    this.#shared[KEEP] = -1;
    return isWaiting;
  }

  #remind(): void {
    if ((this.#state[0] & 1) === 0) this.#state[0] |= 1;
  }

  /**
   * A message that was sent; `t` is {@link now} from before, `status` is negative where it failed: -errno. The kernel may still
   * refuse it.
   */
  sent(t: number, buffer: MessageBuffer, length: number, status: number): void {
    if (this.#openKept >= 0) this.#settle();
    const kept = this.#isCutting ? this.#keptOf(buffer.words, length, t) : length;
    if (this.#put(buffer, kept)) this.#leaveOpen(t, kept, length, status);
  }

  /** A message in parts that was sent and is settled. */
  sentParts(t: number, buffer: MessageBuffer, length: number, parts: readonly Uint8Array[], status: number): void {
    if (this.#isClosed) return;
    if (this.#openKept >= 0) this.#settle();
    let total = length;
    for (const part of parts) total += part.length;
    const kept = this.#isCutting ? this.#keptOf(buffer.words, total, t) : total;
    this.#makeRoom(kept, 0);
    const block = this.#block;
    gather(block.bytes, block.reserve(kept), kept, buffer.bytes.subarray(0, length), parts);
    this.#leaveOpen(t, kept, total, status);
    this.#settle();
  }

  /** The kernel refused the last message that was {@link sent}. */
  refused(errno: number): void {
    this.#openErrno = Math.min(errno, ERRNO_MAX);
  }

  #leaveOpen(t: number, kept: number, length: number, status: number): void {
    this.#state[0] |= 1;
    this.#openTime = t;
    this.#openKept = kept;
    this.#openWhole = length;
    this.#openErrno = status < 0 ? -status : 0;
    this.#hold();
  }

  /** Native code must not write between the bytes of a message and its entry, nor to a block that is not the one filled. */
  #hold(): void {
    this.#shared[HELD] = this.#openKept >= 0 || this.#block !== this.#main || this.#isClosed ? 1 : 0;
  }

  /** Nothing more will be heard of the last message that was sent. */
  #settle(): void {
    const kept = this.#openKept;
    if (kept < 0) return;
    // Another message may have come between, which was recorded first and has a later time.
    const t = Math.max(this.#openTime, this.#block.last);
    this.#openKept = -1;
    this.#hold();
    this.#block.enter(ENTRY_OUT, t, kept, this.#openWhole, this.#openErrno);
  }

  /** A call on the device: its request code, its argument and what it returned (0 or more, or the negative errno). */
  ioctl(command: number, argument: Uint8Array, result: number): void {
    this.add({ dir: 'ioctl', t: this.now(), bytes: argument, command, result, via: 'ioctl' });
  }

  /** Any message whose outcome is known. */
  add(message: TraceMessage): void {
    if (this.#isClosed) return;
    this.#settle();
    const via = message.via === undefined ? undefined : Buffer.from(message.via);
    this.#makeRoom(message.bytes.length, via?.length ?? 0);
    const t = Math.max(message.t, this.#block.last);
    this.#block.add({ ...message, t }, via, undefined);
    this.#state[0] |= 1;
  }

  /** Writes what is in memory. */
  flush(): void {
    this.#settle();
    this.#write();
    if (this.#block !== this.#main) this.#turnTo(this.#main);
  }

  /** Writes what is in memory; nothing is recorded afterwards. Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.flush();
    this.#end();
  }

  #end(): void {
    this.#isClosed = true;
    this.#hold();
    clearInterval(this.#timer);
    open.delete(this);
    if (open.size === 0) process.off('exit', flushAll);
  }

  /** How many bytes of a request are kept; remembers which are READs. */
  #keptOfRequest(words: Uint32Array, length: number): number {
    const opcode = words[1];
    if (opcode === OPCODE_READ) this.#reads![(words[2] >>> 1) % READS] = words[2];
    const isData = opcode === OPCODE_WRITE || opcode === OPCODE_NOTIFY_REPLY;
    return isData ? Math.min(length, REQUEST_PAYLOAD_AT + this.#dataMax) : length;
  }

  /** How many bytes of a reply or a notification are kept. */
  #keptOf(words: Uint32Array, length: number, t: number): number {
    if (words[1] === NOTIFY_STORE && words[2] === 0 && words[3] === 0) return Math.min(length, STORE_PAYLOAD_AT + this.#dataMax);
    const reads = this.#reads!;
    const place = (words[2] >>> 1) % READS;
    if (reads[place] !== words[2]) return length;
    reads[place] = 0;
    const kept = Math.min(length, REPLY_PAYLOAD_AT + this.#dataMax);
    if (kept <= REPLY_PAYLOAD_AT + BEYOND_RATE_BYTES || this.#readRate === Number.POSITIVE_INFINITY) return kept;
    if (this.#readBudget < kept) {
      const passed = t - this.#budgetedAt;
      if (passed < BUDGET_MICROS) return REPLY_PAYLOAD_AT + BEYOND_RATE_BYTES;
      this.#budgetedAt = t;
      this.#readBudget = Math.min(this.#readBudget + passed * this.#readRate, this.#readBurst);
      if (this.#readBudget < kept) return REPLY_PAYLOAD_AT + BEYOND_RATE_BYTES;
    }
    this.#readBudget -= kept;
    return kept;
  }

  /** Copies the first `kept` bytes of a message to the block; false when nothing is recorded any more. */
  #put(buffer: MessageBuffer, kept: number): boolean {
    if (this.#isClosed) return false;
    if (!this.#block.hasRoom(kept)) this.#makeRoom(kept, 0);
    const block = this.#block;
    if (block.count === 0) this.#state[0] |= 1;
    const at = block.reserve(kept);
    if (kept > LOOP_BYTES_MAX) {
      block.bytes.set(kept === buffer.bytes.length ? buffer.bytes : buffer.bytes.subarray(0, kept), at);
      return true;
    }
    const { words } = buffer;
    const target = block.words;
    let to = at >> 2;
    const whole = kept >> 2;
    for (let word = 0; word < whole; word++) target[to++] = words[word];
    for (let byte = kept & ~3; byte < kept; byte++) block.bytes[at + byte] = buffer.bytes[byte];
    return true;
  }

  /** Begins another block where the message does not fit into this one. */
  #makeRoom(length: number, viaBytes: number): void {
    if (this.#block.hasRoom(length, viaBytes)) return;
    this.#write();
    // Messages of one channel that different blocks hold never have the same time: so their order is that of the file.
    this.#block.last++;
    if (this.#block !== this.#main) this.#turnTo(this.#main);
    if (this.#block.hasRoom(length, viaBytes)) return;
    this.#turnTo(new BlockBuilder(BlockBuilder.bytesFor(length, viaBytes)));
  }

  #turnTo(block: BlockBuilder): void {
    block.last = this.#block.last;
    this.#block = block;
    this.#hold();
  }

  #write(): void {
    const block = this.#block;
    if (block.count === 0 || this.#isClosed) return;
    const sealed = block.seal(this.#channel, this.#sequence++, false);
    try {
      writeWhole(this.#file.fd, this.#file.isText ? linesOf(sealed) : sealed);
    } catch (error) {
      this.#end();
      const { code } = error as { code?: string };
      const details = { cause: error, ...(code === undefined ? {} : { detail: code }) };
      this.#onError?.(new TraceError('ERR_FUSEWIRE_TRACE_WRITE', this.#file.path, details));
    }
    block.clear();
    this.#state[0] = (this.#state[0] + 2) & ~1;
  }
}

function linesOf(sealed: Uint8Array): Uint8Array {
  const messages = decodeBlock(sealed, parseBlockHead(sealed)!);
  // It was made here a moment ago.
  if (typeof messages === 'string') throw new Error(messages);
  let text = '';
  for (const message of messages) text += `${traceLine(message)}\n`;
  return Buffer.from(text, 'latin1');
}

/** Copies the first `length` bytes of `head` and `parts` to `at`. */
function gather(target: Uint8Array, at: number, length: number, head: Uint8Array, parts: readonly Uint8Array[]): void {
  target.set(head, at);
  let left = length - head.length;
  let to = at + head.length;
  for (const part of parts) {
    if (left <= 0) return;
    target.set(part.length <= left ? part : part.subarray(0, left), to);
    to += part.length;
    left -= part.length;
  }
}

/** One write, and more only where the file system takes less at a time than it was given. */
function writeWhole(fd: number, bytes: Uint8Array): void {
  let at = 0;
  while (at < bytes.length) at += writeSync(fd, bytes, at);
}

/** The channel, with all that crosses it recorded. The recorder is closed when the channel is. */
export function recorded(channel: Channel, recorder: Recorder): Channel {
  return new RecordedChannel(channel, recorder);
}

class RecordedChannel implements Channel {
  readonly kind: Channel['kind'];
  readonly #inner: Channel;
  readonly #recorder: Recorder;

  constructor(inner: Channel, recorder: Recorder) {
    this.#inner = inner;
    this.kind = inner.kind;
    this.#recorder = recorder;
    recorder.useTape(inner);
  }

  get receiveBytesMax(): number {
    return this.#inner.receiveBytesMax;
  }

  open(handler: ChannelHandler): void {
    this.#inner.open(new RecordedHandler(handler, this.#recorder));
  }

  acquire(length: number): MessageBuffer {
    return this.#inner.acquire(length);
  }

  discard(buffer: MessageBuffer): void {
    this.#inner.discard(buffer);
  }

  /**
   * Recorded by native code when it leaves, or else here afterwards, with the time from before. Afterwards, because sending may first
   * bring the refusal of the message before; nobody else has had the buffer meanwhile.
   */
  send(buffer: MessageBuffer, length: number): number {
    const recorder = this.#recorder;
    if (recorder.sends(buffer, length)) {
      const status = this.#inner.send(buffer, length);
      if (status < 0 && recorder.unsent()) recorder.sent(recorder.now(), buffer, length, status);
      return status;
    }
    const t = recorder.now();
    const status = this.#inner.send(buffer, length);
    recorder.sent(t, buffer, length, status);
    return status;
  }

  sendParts(buffer: MessageBuffer, length: number, parts: readonly Uint8Array[]): number {
    const t = this.#recorder.now();
    const status = this.#inner.sendParts(buffer, length, parts);
    this.#recorder.sentParts(t, buffer, length, parts, status);
    return status;
  }

  keep(buffer: MessageBuffer): void {
    this.#inner.keep(buffer);
  }

  release(buffer: MessageBuffer): void {
    this.#inner.release(buffer);
  }

  setPending(count: number): void {
    this.#inner.setPending(count);
  }

  inject(message: Uint8Array): void {
    this.#inner.inject?.(message);
  }

  close(): void {
    this.#inner.close();
  }
}

class RecordedHandler implements ChannelHandler {
  readonly #inner: ChannelHandler;
  readonly #recorder: Recorder;

  constructor(inner: ChannelHandler, recorder: Recorder) {
    this.#inner = inner;
    this.#recorder = recorder;
  }

  onMessage(buffer: MessageBuffer, length: number): void {
    this.#recorder.received(buffer, length);
    this.#inner.onMessage(buffer, length);
  }

  onRefused(words: Uint32Array, errno: number): void {
    this.#recorder.refused(errno);
    this.#inner.onRefused(words, errno);
  }

  onClosed(reason: CloseReason, errno: number): void {
    this.#recorder.close();
    this.#inner.onClosed(reason, errno);
  }
}
