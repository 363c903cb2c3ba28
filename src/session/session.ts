/**
 * One session serves one channel on one thread: it decodes headers, hands each request to the operation of its opcode,
 * keeps track of those that wait for a promise, carries interrupts to them, and sees to it that every request is answered
 * exactly once, whatever the filesystem does.
 */
import {
  decodeInHeader,
  decodeInitIn,
  encodeInitOut,
  FUSE_KERNEL_VERSION,
  INIT_OUT_SIZE,
  type InHeader,
  NOTIFY_RETRIEVE_IN_SIZE,
  newInHeader,
  newInitIn,
  OPCODES,
  type OpcodeRow,
  opcodeRow,
  requestStructBytes,
} from '../protocol/index.ts';
import type { Channel, ChannelHandler, CloseReason, MessageBuffer } from '../transport/index.ts';
import { type Fault, reportFault } from './diagnostics.ts';
import { ERRNO, ERRNO_MAX, errnoName } from './errors.ts';
import {
  BODY_WORD,
  EXCHANGE_ANSWERED,
  EXCHANGE_DELIVERED,
  EXCHANGE_FREE,
  EXCHANGE_PENDING,
  Exchange,
  IN_HEADER_BYTES,
  OUT_HEADER_BYTES,
  REPLY_WORD,
} from './exchange.ts';
import type { MountLimits } from './limits.ts';
import { type Capabilities, initReply, type Negotiated, negotiate, type SessionSettings } from './negotiate.ts';
import { type Kernel, Notifier, type NotifyWriter } from './notify.ts';

/** What a request does: answers through the exchange, or makes it pend. */
export type Operation = (exchange: Exchange) => void;

/** What stands behind a session: an operation per opcode, made by the layer above. */
export interface Operations {
  readonly capabilities: Capabilities;
  /** By opcode. A hole is answered ENOSYS. */
  readonly table: readonly (Operation | undefined)[];
  /** How names become bytes in notifications. */
  encodeName(name: string): Uint8Array;
  /** Before the first request. */
  start(negotiated: Negotiated, kernel: Kernel): void | PromiseLike<void>;
  /** The kernel no longer wanted an answer (ENOENT): take back what it granted. `words` is the reply, header first. */
  refused(opcode: number, nodeid: number, words: Uint32Array): void;
  /** After the last request. */
  end(): void | PromiseLike<void>;
}

export interface SessionOptions {
  /** For sessions that see INIT themselves (in-memory channels). */
  settings?: SessionSettings;
  /** What INIT agreed on, when it happened elsewhere: one connection, many sessions. */
  negotiated?: Negotiated;
  /** Whether a thread id belongs to this process. Such requests are answered EDEADLK. Default: never. */
  isOwnThread?: (threadId: number) => boolean;
  /** An interrupt for a request that is not here: another session of the connection may have it. */
  onForeignInterrupt?: (uniqueLow: number, uniqueHigh: number) => void;
  /** Writes notifications from another thread. Default: through the channel, which only an in-memory one can bear. */
  notify?: NotifyWriter;
  /** Which thread of the connection this is, for the answers to RETRIEVE. Default 0. */
  source?: number;
  /** The answer to a RETRIEVE of another thread. The bytes are valid during the call. */
  onForeignRetrieved?: (source: number, id: number, data: Uint8Array) => void;
  /** Of what waits: slow requests, early interrupts, notifications. */
  limits?: MountLimits;
}

/** Counts since the session began. */
export interface SessionCounters {
  requests: number;
  answers: number;
  errors: number;
  interrupts: number;
  refused: number;
  pending: number;
  pendingMax: number;
  /** Opens of files that the kernel reads and writes itself (FUSE_PASSTHROUGH). */
  backedOpens: number;
}

/** Counts of nothing yet. */
export function newCounters(): SessionCounters {
  return { requests: 0, answers: 0, errors: 0, interrupts: 0, refused: 0, pending: 0, pendingMax: 0, backedOpens: 0 };
}

export interface SessionEnd {
  reason: CloseReason;
  /** Positive errno for `failed`, else 0. */
  errno: number;
}

const ENOSYS = ERRNO.ENOSYS;
const EIO = ERRNO.EIO;
const EINTR = ERRNO.EINTR;
const EDEADLK = ERRNO.EDEADLK;
const ENOENT = ERRNO.ENOENT;

const OPCODE_INIT = codeOf('INIT');
const OPCODE_INTERRUPT = codeOf('INTERRUPT');
const OPCODE_NOTIFY_REPLY = codeOf('NOTIFY_REPLY');
const LOCKING = new Set(['SETLK', 'SETLKW'].map(codeOf));
/** The caller's close must not fail because the caller is this process: these are served whoever asks. */
const SERVED_TO_OURSELVES = new Set(
  ['FLUSH', 'RELEASE', 'RELEASEDIR', 'FORGET', 'BATCH_FORGET', 'DESTROY', 'INTERRUPT'].map(codeOf),
);

function codeOf(name: string): number {
  const row = OPCODES.find((candidate) => candidate.name === name);
  if (row === undefined) throw new Error(`no opcode ${name}`);
  return row.value;
}

/** A request's identity as a Map key: bit 63 (a resent request) is left out, the rest counts up from 2 by 2. */
function keyOf(uniqueLow: number, uniqueHigh: number): number {
  return (uniqueHigh & 0x1fffff) * 0x1_0000_0000 + uniqueLow;
}

export class Session implements ChannelHandler {
  readonly channel: Channel;
  readonly counters: SessionCounters = newCounters();
  /** Settles when the channel ended and the filesystem was told. */
  readonly ended: Promise<SessionEnd>;
  /** What the filesystem may tell the kernel. */
  readonly kernel: Notifier;
  #resolveEnded!: (end: SessionEnd) => void;
  /** Most bytes that a request can ask for: its pages, of the largest size that Linux has. */
  tailBytesMax = 0;
  readonly #operations: Operations;
  readonly #options: SessionOptions;
  readonly #header: InHeader = newInHeader();
  /** By opcode: the least bytes of a whole message, or 0 for opcodes that do not exist. */
  #leastBytes: number[] = [];
  #negotiated: Negotiated | undefined;
  readonly #idle: Exchange[] = [];
  readonly #pending = new Map<number, Exchange>();
  /** Those whose number another request bears too: one that the kernel sent again. */
  readonly #doubles = new Set<Exchange>();
  readonly #early = new Set<number>();
  #lastForeignPid = 0;
  // What the reply that the channel holds back granted, in case the kernel refuses it.
  #stagedOpcode = 0;
  #stagedNodeid = 0;
  #drained: (() => void) | undefined;
  #slowTimer: NodeJS.Timeout | undefined;
  /** From the interrupts of {@link drain} on. */
  #isEnding = false;

  constructor(channel: Channel, operations: Operations, options: SessionOptions = {}) {
    this.channel = channel;
    this.#operations = operations;
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    this.kernel = new Notifier(options.notify ?? ((message) => this.#notifyThroughChannel(message)), {
      source: options.source ?? 0,
      limits: options.limits ?? {},
      encodeName: (name) => operations.encodeName(name),
      requestsWait: () => this.counters.pending > 0,
    });
    if (options.negotiated !== undefined) this.#agree(options.negotiated);
  }

  /** Tells the filesystem what was agreed on, where that happened elsewhere. Rejects with what its init rejects with. */
  async prepare(): Promise<void> {
    if (this.#negotiated !== undefined) await this.#operations.start(this.#negotiated, this.kernel);
  }

  /** Begins to serve. With a blocking channel it comes back when promises are pending or the channel ended. */
  open(): void {
    this.channel.open(this);
  }

  get negotiated(): Negotiated {
    if (this.#negotiated === undefined) throw new Error('INIT has not happened yet');
    return this.#negotiated;
  }

  // --- from the channel ------------------------------------------------------------------------------------------------

  onMessage(buffer: MessageBuffer, length: number): void {
    const header = this.#header;
    this.counters.requests++;
    if (length < IN_HEADER_BYTES) {
      this.#malformed(buffer, length, 'shorter than its header');
      return;
    }
    decodeInHeader(buffer.words, 0, header);
    const { opcode } = header;
    if (opcode === OPCODE_INTERRUPT) {
      this.#interrupt(buffer, length);
      return;
    }
    if (opcode === OPCODE_NOTIFY_REPLY) {
      this.#retrieved(buffer, length, header);
      return;
    }
    const exchange = this.#take(buffer, length, header);
    const least = this.#leastBytes[opcode] ?? 0;
    if (least === 0) this.#unusual(exchange);
    else if (header.len !== length || length - exchange.extensionBytes < least) this.#undecodable(exchange);
    else if (header.pid !== 0 && header.pid !== this.#lastForeignPid && this.#isOwnRequest(exchange))
      this.answerError(exchange, EDEADLK);
    else this.#run(exchange, opcode);
    if (exchange.state !== EXCHANGE_PENDING) this.#recycle(exchange);
  }

  onRefused(words: Uint32Array, errno: number): void {
    this.#refusal(this.#stagedOpcode, this.#stagedNodeid, words, errno);
  }

  onClosed(reason: CloseReason, errno: number): void {
    for (const exchange of this.#waiting()) {
      exchange.controller?.abort();
      exchange.state = EXCHANGE_ANSWERED;
      this.#recycle(exchange);
    }
    this.#pending.clear();
    this.#doubles.clear();
    this.#countPending();
    this.kernel.end();
    clearInterval(this.#slowTimer);
    Promise.resolve()
      .then(() => this.#operations.end())
      .catch((error) => this.fault('handler-error', undefined, 'destroy failed', error))
      .then(() => this.#resolveEnded({ reason, errno: Math.abs(errno) }));
  }

  // --- answers -----------------------------------------------------------------------------------------------------------

  /** Sends a reply whose body of `bodyBytes` stands in `buffer` behind the header. */
  answer(exchange: Exchange, buffer: MessageBuffer, bodyBytes: number): void {
    if (!this.#claim(exchange)) {
      this.channel.discard(buffer);
      return;
    }
    const length = OUT_HEADER_BYTES + bodyBytes;
    putHeader(buffer.words, length, 0, exchange);
    this.#send(exchange, buffer, length);
  }

  answerParts(exchange: Exchange, parts: readonly Uint8Array[]): void {
    if (!this.#claim(exchange)) return;
    let length = OUT_HEADER_BYTES;
    for (const part of parts) length += part.byteLength;
    const buffer = this.channel.acquire(OUT_HEADER_BYTES);
    putHeader(buffer.words, length, 0, exchange);
    this.counters.answers++;
    const result = this.channel.sendParts(buffer, OUT_HEADER_BYTES, parts);
    if (result < 0) this.#refusal(exchange.opcode, exchange.nodeid, buffer.words, -result);
  }

  answerError(exchange: Exchange, errno: number): void {
    if (!this.#claim(exchange)) return;
    let positive = errno >= 1 && errno <= ERRNO_MAX ? errno : EIO;
    // The kernel makes ERESTARTSYS of it (fuse_setlk), which reaches a caller as errno 512 when no signal of its own is there.
    if (positive === EINTR && this.#isEnding && LOCKING.has(exchange.opcode)) positive = EIO;
    const buffer = this.channel.acquire(OUT_HEADER_BYTES);
    putHeader(buffer.words, OUT_HEADER_BYTES, -positive, exchange);
    this.counters.errors++;
    this.#send(exchange, buffer, OUT_HEADER_BYTES);
  }

  /** For requests that take no answer (FORGET): done without one. */
  finishSilently(exchange: Exchange): void {
    exchange.state = EXCHANGE_ANSWERED;
  }

  // --- requests that wait --------------------------------------------------------------------------------------------------

  pend(exchange: Exchange): void {
    exchange.state = EXCHANGE_PENDING;
    exchange.waitingSince = Date.now();
    this.#watchForSlow();
    const key = keyOf(exchange.uniqueLow, exchange.uniqueHigh);
    const before = this.#pending.get(key);
    if (before !== undefined) this.#doubles.add(before);
    this.#pending.set(key, exchange);
    this.#countPending();
    if (this.#early.size > 0 && this.takeEarlyInterrupt(exchange)) exchange.controller?.abort();
  }

  /** One timer for all requests, from the first that waits on. */
  #watchForSlow(): void {
    const slowMs = this.#options.limits?.slowMs ?? 30_000;
    if (this.#slowTimer !== undefined || slowMs <= 0) return;
    this.#slowTimer = setInterval(() => this.#reportSlow(slowMs), Math.max(slowMs / 4, 10));
    this.#slowTimer.unref();
  }

  #reportSlow(slowMs: number): void {
    const before = Date.now() - slowMs;
    for (const exchange of this.#pending.values()) {
      if (exchange.waitingSince === 0 || exchange.waitingSince > before) continue;
      exchange.waitingSince = 0;
      this.fault(
        'slow-request',
        exchange,
        `a request has waited for its answer for more than ${slowMs} ms; its caller waits too`,
      );
    }
  }

  /** After a pending request was answered. */
  settled(exchange: Exchange): void {
    const key = keyOf(exchange.uniqueLow, exchange.uniqueHigh);
    if (this.#pending.get(key) === exchange) this.#pending.delete(key);
    else this.#doubles.delete(exchange);
    this.#recycle(exchange);
    this.#countPending();
  }

  /** Whether an interrupt for this request had come before it. */
  takeEarlyInterrupt(exchange: Exchange): boolean {
    return this.#early.delete(keyOf(exchange.uniqueLow, exchange.uniqueHigh));
  }

  /** An interrupt that another session of the connection received. */
  interrupt(uniqueLow: number, uniqueHigh: number): boolean {
    const key = keyOf(uniqueLow, uniqueHigh);
    const exchange = this.#pending.get(key);
    if (exchange !== undefined) {
      // Without a controller nobody looked at the signal; it is made aborted if somebody does.
      if (exchange.controller !== undefined) exchange.controller.abort();
      else this.#remember(key);
      return true;
    }
    this.#remember(key);
    return false;
  }

  /**
   * Waits until nothing is pending, at most `timeoutMs`; then interrupts what is left, gives it a turn of the event loop, and
   * answers the rest EIO.
   */
  async drain(timeoutMs: number): Promise<void> {
    if (this.counters.pending > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs);
        this.#drained = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#drained = undefined;
    }
    this.#isEnding = true;
    for (const exchange of this.#waiting()) exchange.controller?.abort();
    if (this.counters.pending > 0) await new Promise((resolve) => setImmediate(resolve));
    for (const exchange of this.#waiting()) {
      this.fault('unanswered', exchange, 'the session ended before the request was answered; the caller got EIO');
      this.answerError(exchange, EIO);
      this.settled(exchange);
    }
  }

  fault(kind: Fault['kind'], exchange: Exchange | undefined, message: string, error?: unknown): void {
    reportFault({
      kind,
      operation: exchange === undefined ? '' : (opcodeRow(exchange.opcode)?.name ?? `opcode ${exchange.opcode}`),
      nodeid: exchange?.nodeid ?? 0,
      pid: exchange?.pid ?? 0,
      message,
      error,
    });
  }

  // --- inside --------------------------------------------------------------------------------------------------------------

  #agree(negotiated: Negotiated): void {
    this.#negotiated = negotiated;
    this.kernel.agree(negotiated.minor);
    this.tailBytesMax = negotiated.maxPages * PAGE_BYTES_MAX;
    const withExtendedSetxattr = negotiated.flags.has('FUSE_SETXATTR_EXT');
    const least: number[] = [];
    for (const row of OPCODES) {
      least[row.value] = leastBytes(row, negotiated.minor, withExtendedSetxattr);
    }
    for (let opcode = 0; opcode < least.length; opcode++) least[opcode] ??= 0;
    least[OPCODE_INIT] = 0;
    this.#leastBytes = least;
  }

  #take(buffer: MessageBuffer, length: number, header: InHeader): Exchange {
    const exchange = this.#idle.pop() ?? new Exchange(this, buffer);
    exchange.state = EXCHANGE_DELIVERED;
    exchange.opcode = header.opcode;
    exchange.uniqueLow = header.unique_lo;
    exchange.uniqueHigh = header.unique_hi;
    exchange.nodeid = header.nodeid;
    exchange.uid = header.uid;
    exchange.gid = header.gid;
    exchange.pid = header.pid;
    exchange.extensionBytes = header.total_extlen * 8;
    exchange.buffer = buffer;
    exchange.length = length;
    return exchange;
  }

  #recycle(exchange: Exchange): void {
    if (exchange.state === EXCHANGE_FREE) return;
    exchange.state = EXCHANGE_FREE;
    exchange.serial++;
    exchange.controller = undefined;
    if (exchange.kept) {
      exchange.kept = false;
      this.channel.release(exchange.buffer);
    }
    const { draft, passenger } = exchange;
    if (draft !== undefined) {
      exchange.draft = undefined;
      this.channel.discard(draft);
    }
    if (passenger !== undefined) {
      exchange.passenger = undefined;
      passenger.release();
    }
    if (this.#idle.length < IDLE_EXCHANGES_MAX) this.#idle.push(exchange);
  }

  #run(exchange: Exchange, opcode: number): void {
    const operation = this.#operations.table[opcode];
    if (operation === undefined) {
      this.answerError(exchange, ENOSYS);
      return;
    }
    try {
      operation(exchange);
    } catch (error) {
      if (exchange.state === EXCHANGE_DELIVERED && opcodeRow(opcode)?.hasReply !== false) exchange.fail(error);
      else this.fault('handler-error', exchange, 'an operation failed after its answer', error);
    }
    if (exchange.state !== EXCHANGE_DELIVERED) return;
    if (opcodeRow(opcode)?.hasReply === false) return;
    this.fault('unanswered', exchange, 'an operation ended without an answer; the caller got EIO');
    this.answerError(exchange, EIO);
  }

  /** INIT, requests before it, and opcodes that do not exist. */
  #unusual(exchange: Exchange): void {
    if (exchange.opcode === OPCODE_INIT && this.#negotiated === undefined) this.#initialize(exchange);
    else if (opcodeRow(exchange.opcode)?.hasReply === false) this.finishSilently(exchange);
    else if (this.#negotiated === undefined || exchange.opcode === OPCODE_INIT) this.answerError(exchange, EIO);
    else this.answerError(exchange, ENOSYS);
  }

  #initialize(exchange: Exchange): void {
    const init = newInitIn();
    decodeInitIn(exchange.buffer.words, BODY_WORD, init, exchange.length - IN_HEADER_BYTES);
    if (init.major > FUSE_KERNEL_VERSION) {
      // The kernel shall ask again in our major version; it reads no more than that word.
      const buffer = exchange.acquire(INIT_OUT_SIZE);
      buffer.words.fill(0, REPLY_WORD, REPLY_WORD + INIT_OUT_SIZE / 4);
      buffer.words[REPLY_WORD] = FUSE_KERNEL_VERSION;
      exchange.send(buffer, INIT_OUT_SIZE);
      return;
    }
    if (init.major < FUSE_KERNEL_VERSION) {
      this.answerError(exchange, ERRNO.EPROTO);
      return;
    }
    try {
      const negotiated = negotiate(init, this.#operations.capabilities, this.#options.settings ?? {});
      this.#agree(negotiated);
      const started = this.#operations.start(negotiated, this.kernel);
      if (typeof started?.then !== 'function') this.#replyInit(exchange);
      else exchange.pend(started, (ready) => this.#replyInit(ready), false);
    } catch (error) {
      this.fault('handler-error', exchange, 'the session could not be negotiated', error);
      this.answerError(exchange, ERRNO.EPROTO);
    }
  }

  #replyInit(exchange: Exchange): void {
    const buffer = exchange.acquire(INIT_OUT_SIZE);
    encodeInitOut(buffer.words, REPLY_WORD, initReply(this.negotiated, this.negotiated.maxPages));
    exchange.send(buffer, INIT_OUT_SIZE);
  }

  #interrupt(buffer: MessageBuffer, length: number): void {
    this.counters.interrupts++;
    if (length < IN_HEADER_BYTES + 8) return;
    const uniqueLow = buffer.words[BODY_WORD];
    const uniqueHigh = buffer.words[BODY_WORD + 1];
    if (!this.interrupt(uniqueLow, uniqueHigh)) this.#options.onForeignInterrupt?.(uniqueLow, uniqueHigh);
  }

  /** The pages that a RETRIEVE asked for; takes no answer. */
  #retrieved(buffer: MessageBuffer, length: number, header: InHeader): void {
    const at = IN_HEADER_BYTES + NOTIFY_RETRIEVE_IN_SIZE;
    if (length < at) return;
    const data = buffer.bytes.subarray(at, length);
    if (header.unique_hi === (this.#options.source ?? 0)) this.kernel.retrieved(header.unique_lo, data.slice());
    else this.#options.onForeignRetrieved?.(header.unique_hi, header.unique_lo, data);
  }

  /** Writes a notification through the channel. */
  #notifyThroughChannel(message: Uint8Array): Promise<number> {
    const buffer = this.channel.acquire(message.byteLength);
    buffer.bytes.set(message);
    return Promise.resolve(this.channel.send(buffer, message.byteLength));
  }

  #remember(key: number): void {
    this.#early.add(key);
    if (this.#early.size <= (this.#options.limits?.earlyInterruptsMax ?? 1024)) return;
    for (const oldest of this.#early) {
      this.#early.delete(oldest);
      break;
    }
  }

  #isOwnRequest(exchange: Exchange): boolean {
    const { isOwnThread } = this.#options;
    if (isOwnThread === undefined || !isOwnThread(exchange.pid)) {
      this.#lastForeignPid = exchange.pid;
      return false;
    }
    if (SERVED_TO_OURSELVES.has(exchange.opcode)) return false;
    this.fault(
      'own-request',
      exchange,
      'the daemon used its own mount; the request was answered EDEADLK instead of waiting for itself',
    );
    return true;
  }

  #claim(exchange: Exchange): boolean {
    if (exchange.state === EXCHANGE_DELIVERED || exchange.state === EXCHANGE_PENDING) {
      exchange.state = EXCHANGE_ANSWERED;
      return true;
    }
    this.fault('double-answer', exchange, 'a request was answered twice; the second answer was ignored');
    return false;
  }

  #send(exchange: Exchange, buffer: MessageBuffer, length: number): void {
    const { opcode, nodeid } = exchange;
    this.counters.answers++;
    const result = this.channel.send(buffer, length);
    // Only now: the channel may just have learnt that the reply before this one was refused.
    this.#stagedOpcode = opcode;
    this.#stagedNodeid = nodeid;
    if (result < 0) this.#refusal(opcode, nodeid, buffer.words, -result);
  }

  #refusal(opcode: number, nodeid: number, words: Uint32Array, errno: number): void {
    const positive = Math.abs(errno);
    this.counters.refused++;
    // An error reply granted nothing, and ENOENT means that nobody waits any more.
    if (words[1] === 0) this.#takeBack(opcode, nodeid, words);
    if (positive === ENOENT) return;
    const name = opcodeRow(opcode)?.name ?? String(opcode);
    reportFault({
      kind: 'reply-refused',
      operation: name,
      nodeid,
      pid: 0,
      message: `the kernel refused a reply: ${errnoName(positive)}`,
    });
  }

  #takeBack(opcode: number, nodeid: number, words: Uint32Array): void {
    try {
      this.#operations.refused(opcode, nodeid, words);
    } catch (error) {
      this.fault('handler-error', undefined, 'the filesystem failed to take back what a refused answer had granted', error);
    }
  }

  #undecodable(exchange: Exchange): void {
    this.fault('malformed-message', exchange, `${exchange.length} bytes are no message of its opcode; the caller got EIO`);
    if (opcodeRow(exchange.opcode)?.hasReply === false) this.finishSilently(exchange);
    else this.answerError(exchange, EIO);
  }

  #malformed(buffer: MessageBuffer, length: number, what: string): void {
    reportFault({
      kind: 'malformed-message',
      operation: '',
      nodeid: 0,
      pid: 0,
      message: `a message of ${length} bytes is ${what}`,
    });
    if (length < 16) return;
    const exchange = this.#take(buffer, length, newInHeader());
    exchange.uniqueLow = buffer.words[2];
    exchange.uniqueHigh = buffer.words[3];
    this.answerError(exchange, EIO);
    this.#recycle(exchange);
  }

  #waiting(): Exchange[] {
    return [...this.#pending.values(), ...this.#doubles];
  }

  #countPending(): void {
    const count = this.#pending.size + this.#doubles.size;
    this.counters.pending = count;
    if (count > this.counters.pendingMax) this.counters.pendingMax = count;
    this.channel.setPending(count);
    if (count === 0) this.#drained?.();
  }
}

const PAGE_BYTES_MAX = 65_536;

/** Exchanges kept for reuse; more are left to the garbage collector. */
const IDLE_EXCHANGES_MAX = 1024;

function putHeader(words: Uint32Array, length: number, error: number, exchange: Exchange): void {
  words[0] = length;
  words[1] = error;
  words[2] = exchange.uniqueLow;
  words[3] = exchange.uniqueHigh;
}

function leastBytes(row: OpcodeRow, minor: number, extendedSetxattr: boolean): number {
  return IN_HEADER_BYTES + requestStructBytes(row, minor, extendedSetxattr) + 2 * row.request.names;
}
