/**
 * Reading a trace with understanding: every message is decoded by what INIT agreed on, and every reply finds its request.
 * What `show`, `stat`, `check`, `grep` and `anonymise` have in common.
 */
import {
  type Agreement,
  Connection,
  type DecodeFailure,
  decodeReply,
  type IoctlMessage,
  type Message,
  type NotificationMessage,
  type ReplyMessage,
  type RequestMessage,
} from '../protocol/index.ts';
import { causally } from './causal.ts';
import { type TraceMessage, wholeMessage } from './message.ts';

/** Messages from a file, or an array in a test. */
export type Messages = Iterable<TraceMessage> | AsyncIterable<TraceMessage>;

/**
 * Why a message stands as bytes though nothing is wrong with it. `unasked`: a reply to a request that the trace does not
 * hold, or that was answered before. `refused`: the kernel refused it, and it is no message of the protocol. `foreign`: an
 * ioctl that is not one of FUSE. `empty`: the recorder kept no bytes.
 */
export type Opaque = 'unasked' | 'refused' | 'foreign' | 'empty';

interface EventBase {
  /** Place in the trace, from 0. */
  readonly index: number;
  readonly trace: TraceMessage;
  /** Which connection of the trace, from 0: each INIT begins one. */
  readonly connection: number;
  /** What was agreed on when it crossed the device. */
  readonly agreed: Agreement;
  /** The whole message: where the recorder cut the payload, zeros stand in its place. */
  readonly bytes: Uint8Array;
}

export interface RequestEvent extends EventBase {
  readonly kind: 'request';
  readonly message: RequestMessage;
  readonly unique: bigint;
  /** Whether the kernel waits for an answer; INTERRUPT may have one and need not. */
  readonly wantsReply: boolean;
  /** Of INTERRUPT: the request that is meant, when it still waits. */
  readonly interrupts?: RequestEvent;
}

export interface ReplyEvent extends EventBase {
  readonly kind: 'reply';
  readonly message: ReplyMessage;
  readonly unique: bigint;
  readonly request: RequestEvent;
  /** Microseconds from the request to the reply, as the recorder saw them. */
  readonly duration: number;
}

export interface NotificationEvent extends EventBase {
  readonly kind: 'notification';
  readonly message: NotificationMessage;
}

export interface IoctlEvent extends EventBase {
  readonly kind: 'ioctl';
  readonly message: IoctlMessage;
}

export interface OpaqueEvent extends EventBase {
  readonly kind: 'opaque';
  readonly why: Opaque;
  /** Of a reply. */
  readonly unique?: bigint;
  /** Of a reply: 0 or a negative errno. */
  readonly error?: number;
}

/** A message that is not of the protocol, or that contradicts it. */
export interface BrokenEvent extends EventBase {
  readonly kind: 'broken';
  readonly failure: DecodeFailure;
}

export type TraceEvent = RequestEvent | ReplyEvent | NotificationEvent | IoctlEvent | OpaqueEvent | BrokenEvent;

const INIT = 26;
const CUSE_INIT = 4096;
const REPLY_HEADER_BYTES = 16;

/** One connection of a trace. */
class Line {
  readonly number: number;
  readonly channel: number | undefined;
  readonly connection = new Connection();
  readonly waiting = new Map<bigint, RequestEvent>();

  constructor(number: number, channel: number | undefined) {
    this.number = number;
    this.channel = channel;
  }
}

/** Feed it every message of a trace in order; {@link followTrace} does. */
export class Follower {
  #lines: Line[] = [];
  #count = 0;

  feed(trace: TraceMessage, index: number): TraceEvent {
    if (trace.dir === 'in') return this.#request(trace, index);
    if (trace.dir === 'out') return this.#answer(trace, index);
    return this.#ioctl(trace, index);
  }

  /** Requests that wait for an answer, oldest first. */
  unanswered(): RequestEvent[] {
    return this.#lines
      .flatMap((line) => [...line.waiting.values()].filter(({ wantsReply }) => wantsReply))
      .sort((one, other) => one.index - other.index);
  }

  /** The connection of a channel: its own, or the one that began last (the channel is a clone then). */
  #line(channel: number | undefined): Line {
    const found = this.#lines.findLast((line) => line.channel === channel) ?? this.#lines.at(-1);
    return found ?? this.#open(channel);
  }

  #open(channel: number | undefined): Line {
    // A new INIT on a channel ends what the channel carried before.
    this.#lines = this.#lines.filter((line) => line.channel !== channel);
    const line = new Line(this.#count++, channel);
    this.#lines.push(line);
    return line;
  }

  #request(trace: TraceMessage, index: number): TraceEvent {
    const { channel } = trace;
    const bytes = wholeMessage(trace);
    const opens = bytes.length >= 16 && isInit(bytes);
    const line = opens ? this.#open(channel) : this.#line(channel);
    const base = { index, trace, bytes, connection: line.number };
    if (bytes.length === 0) return { ...base, agreed: line.connection.agreed, kind: 'opaque', why: 'empty' };
    const fit = fitRingLength(bytes, trace.via);
    const decoded = line.connection.incoming(fit.bytes);
    const { agreed } = line.connection;
    if (decoded.kind === 'failure') return { ...base, agreed, kind: 'broken', failure: decoded };
    const message = fit.restore(decoded);
    const unique = message.header.unique as bigint;
    const pending = line.connection.pending(unique) !== undefined;
    const wantsReply = pending && message.opcode !== 'INTERRUPT';
    const meant = message.opcode === 'INTERRUPT' ? line.waiting.get(message.structs[0]!.value.unique as bigint) : undefined;
    const interrupts = meant === undefined ? {} : { interrupts: meant };
    const event: RequestEvent = { ...base, agreed, kind: 'request', message, unique, wantsReply, ...interrupts };
    if (pending) this.#wait(line, event);
    return event;
  }

  #wait(line: Line, event: RequestEvent): void {
    line.waiting.set(event.unique, event);
    if (line.waiting.size <= line.connection.pendingCount) return;
    // The connection gave up some: a resent request took the place of the first, or its limit was reached.
    for (const unique of line.waiting.keys()) {
      if (line.connection.pending(unique) === undefined) line.waiting.delete(unique);
      if (line.waiting.size <= line.connection.pendingCount) return;
    }
  }

  #answer(trace: TraceMessage, index: number): TraceEvent {
    const { channel } = trace;
    const bytes = wholeMessage(trace);
    const refused = trace.errno !== undefined && trace.errno !== 0;
    const unique = bytes.length >= REPLY_HEADER_BYTES ? viewOf(bytes).getBigUint64(8, true) : undefined;
    const line = this.#lineOf(channel, unique);
    const { connection } = line;
    const base = { index, trace, bytes, connection: line.number, agreed: connection.agreed };
    if (bytes.length === 0) return { ...base, kind: 'opaque', why: 'empty' };
    const request = unique === undefined ? undefined : line.waiting.get(unique);
    const fit = fitRingLength(bytes, trace.via);
    const decoded = connection.outgoing(fit.bytes, refused);
    if (unique !== undefined && connection.pending(unique) === undefined) line.waiting.delete(unique);
    if (decoded.kind === 'failure') return this.#unanswerable({ ...base, agreed: connection.agreed }, decoded, refused, request);
    const message = fit.restore(decoded);
    const agreed = connection.agreed;
    if (message.kind === 'notification') return { ...base, agreed, kind: 'notification', message };
    const duration = trace.t - request!.trace.t;
    return { ...base, agreed, kind: 'reply', message, unique: unique!, request: request!, duration };
  }

  /** Replies go back on the channel that brought the request, or on a clone of it; the id says which connection it is. */
  #lineOf(channel: number | undefined, unique: bigint | undefined): Line {
    const own = this.#line(channel);
    if (unique === undefined || unique === 0n || own.waiting.has(unique)) return own;
    return this.#lines.find((line) => line.waiting.has(unique)) ?? own;
  }

  #unanswerable(base: EventBase, failure: DecodeFailure, refused: boolean, request: RequestEvent | undefined): TraceEvent {
    const { bytes } = base;
    if (failure.code === 'UNKNOWN_UNIQUE') {
      const view = viewOf(bytes);
      const error = view.getInt32(4, true);
      const whole = view.getUint32(0, true) === bytes.length && error <= 0 && error > -512;
      if (whole) return { ...base, kind: 'opaque', why: 'unasked', unique: view.getBigUint64(8, true), error };
    }
    if (failure.code === 'BAD_MAJOR' && request !== undefined) {
      // The kernel takes it, and then gives the connection up.
      const message = decodeReply(bytes, base.agreed, { opcode: request.message.opcode, size: undefined });
      const duration = base.trace.t - request.trace.t;
      if (message.kind === 'reply') return { ...base, kind: 'reply', message, unique: request.unique, request, duration };
    }
    return refused ? { ...base, kind: 'opaque', why: 'refused' } : { ...base, kind: 'broken', failure };
  }

  #ioctl(trace: TraceMessage, index: number): TraceEvent {
    const line = this.#line(trace.channel);
    const base = { index, trace, bytes: trace.bytes, connection: line.number, agreed: line.connection.agreed };
    if (trace.command === undefined) return { ...base, kind: 'opaque', why: 'foreign' };
    const message = line.connection.ioctl(trace.command, trace.bytes);
    if (message.kind === 'ioctl') return { ...base, kind: 'ioctl', message };
    if (message.code === 'UNKNOWN_IOCTL') return { ...base, kind: 'opaque', why: 'foreign' };
    if (trace.bytes.length === 0) return { ...base, kind: 'opaque', why: 'empty' };
    const failed = (trace.result ?? 0) < 0 || (trace.errno ?? 0) !== 0;
    return failed ? { ...base, kind: 'opaque', why: 'refused' } : { ...base, kind: 'broken', failure: message };
  }
}

/**
 * Every message of a trace with its meaning. Messages come in the order of the trace, except where threads put an answer
 * before its question: then the question comes first.
 */
export async function* followTrace(messages: Messages, follower = new Follower()): AsyncGenerator<TraceEvent> {
  for await (const { index, message } of causally(messages)) yield follower.feed(message, index);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function isInit(bytes: Uint8Array): boolean {
  const view = viewOf(bytes);
  const opcode = view.getUint32(4, true);
  const isResent = (view.getUint32(12, true) & 0x8000_0000) !== 0;
  return (opcode === INIT || opcode === CUSE_INIT) && !isResent;
}

/**
 * On io_uring the kernel does not read the length in a reply's header (fuse_uring_out_header_has_err), so that daemons may
 * leave anything there. It then counts as padding.
 */
function fitRingLength(
  bytes: Uint8Array,
  via: string | undefined,
): {
  readonly bytes: Uint8Array;
  restore<Decoded extends Message>(message: Decoded): Decoded;
} {
  const wrong = bytes.length >= REPLY_HEADER_BYTES && viewOf(bytes).getUint32(0, true) !== bytes.length;
  if (!wrong || via === undefined || !/uring/i.test(via)) return { bytes, restore: (message) => message };
  const patched = bytes.slice();
  viewOf(patched).setUint32(0, bytes.length, true);
  const said = { at: 0, bytes: bytes.slice(0, 4) };
  return { bytes: patched, restore: (message) => ({ ...message, padding: [...message.padding, said] }) };
}
