/**
 * The kernel's end of one connection: builds requests, checks and hands out replies by the rules of fs/fuse/dev.c, carries
 * interrupts, and bounds background requests. It knows nothing of files.
 */
import {
  FUSE_UNIQUE_RESEND_HI,
  headerHasExtensionLength,
  type InitFlag,
  initInHasSecondFlags,
  layoutMinor,
  type OpcodeName,
  type OpcodeRow,
  opcodeNamed,
  readDirentplus,
  requestStructBytes,
  structBytesOnWire,
  structOf,
} from '../../protocol/index.ts';
import type { KernelEnd, MessageBuffer } from '../../transport/index.ts';
import type { Audit } from './audit.ts';
import type { Clock } from './clock.ts';
import { ERRNO, fail } from './errors.ts';
import { type FaultAction, type Faults, malform } from './faults.ts';
import { type Arguments, describeRequest, REQUEST_STRUCTS, type SentRequest, type StructuredOpcode } from './requests.ts';
import type { Schedule } from './schedule.ts';

const IN_HEADER_BYTES = 40;
const OUT_HEADER_BYTES = 16;
const WORD = 0x1_0000_0000;
const { EINVAL, ENOENT, EIO, ENOSYS, EAGAIN, ECONNABORTED, ECONNREFUSED, ENOTCONN, ENODEV, EINTR } = ERRNO;

/** Who a request is from. */
export interface Credentials {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
}

/** Requests of the kernel itself carry no caller. */
export const NOBODY: Credentials = { uid: 0, gid: 0, pid: 0 };

/** A system call that waits: what an interrupt reaches. */
export interface Waiting {
  readonly credentials: Credentials;
  readonly requests: Set<Pending>;
  isInterrupted: boolean;
}

/** An answer: the body without its header, at the start of memory of its own. */
export interface Reply {
  /** 0, or positive. */
  readonly errno: number;
  readonly words: Uint32Array;
  readonly bytes: Uint8Array;
}

export interface Outgoing<Op extends OpcodeName> {
  readonly op: Op;
  readonly nodeid: number;
  readonly args?: Arguments<Op>;
  readonly names?: readonly string[];
  readonly data?: Uint8Array;
  readonly extensions?: Uint8Array;
  /** The call that waits for it. Without one the request is the kernel's own. */
  readonly caller?: Waiting | undefined;
  /** Sent without credentials although a call waits for it. */
  readonly isAnonymous?: boolean;
  /** Cannot be interrupted: FLUSH and RELEASE. */
  readonly isForced?: boolean;
  /** READDIR cookies use all 64 bits, more than the number in `args` holds. */
  readonly offsetWords?: readonly [number, number];
  readonly forgets?: readonly { readonly nodeid: number; readonly nlookup: number }[];
}

/** A request in flight. */
export interface Pending {
  readonly unique: number;
  readonly row: OpcodeRow;
  readonly sent: SentRequest;
  readonly message: Uint8Array;
  readonly waiting: Waiting | undefined;
  readonly isForced: boolean;
  readonly tailMax: number;
  readonly fault: FaultAction | undefined;
  readonly finish: (reply: Reply) => void;
  isDelivered: boolean;
  isResent: boolean;
  /** The answer arrived and is on its way to the caller. */
  isAnswered: boolean;
}

/** What INIT agreed on. */
export interface Agreed {
  readonly minor: number;
  readonly flags: ReadonlySet<InitFlag>;
  readonly maxWrite: number;
  readonly maxPages: number;
  readonly maxReadahead: number;
  readonly maxBackground: number;
  readonly congestionThreshold: number;
}

/** Answered requests that are remembered. */
const ANSWERED_MAX = 1000;

const EMPTY_WORDS = new Uint32Array(0);
const EMPTY_BYTES = new Uint8Array(0);
const errorReply = (errno: number): Reply => ({ errno, words: EMPTY_WORDS, bytes: EMPTY_BYTES });

interface ReplySize {
  readonly least: number;
  readonly hasTail: boolean;
}

export interface WireOptions {
  readonly clock: Clock;
  readonly schedule: Schedule;
  readonly faults: Faults;
  readonly audit: Audit;
  /** Requests kept in the log; the oldest are dropped. */
  readonly logMax: number;
  /** Sees every message that crosses. */
  readonly tap?: ((direction: 'in' | 'out', message: Uint8Array) => void) | undefined;
}

export class Wire {
  readonly requests: SentRequest[] = [];
  agreed: Agreed = {
    minor: 45,
    flags: new Set(),
    maxWrite: 4096,
    maxPages: 32,
    maxReadahead: 131072,
    maxBackground: 12,
    congestionThreshold: 9,
  };
  /** Errno of every further request: ECONNREFUSED after a failed INIT, ENOTCONN after the end. */
  refusal = 0;
  /** Told of notifications; answers what the daemon's write gives. */
  onNotification: (code: number, body: Uint8Array) => number = () => -EINVAL;
  /** Called before each request: FORGETs that wait leave first, as a reader of the device would see them. */
  beforeRequest: () => void = () => {};
  readonly #options: WireOptions;
  readonly #pending = new Map<number, Pending>();
  /** The requests answered last, to tell a second answer from an unknown one. */
  readonly #answered = new Map<number, SentRequest>();
  readonly #replySizes = new Map<string, ReplySize>();
  #end: KernelEnd | undefined;
  #unique = 0;
  #index = 0;
  #noInterrupt = false;
  // Background requests: how many exist, how many the daemon has, those that wait for either.
  #backgroundCount = 0;
  #activeCount = 0;
  readonly #backgroundQueue: (() => void)[] = [];
  readonly #blocked: (() => void)[] = [];
  #idle: (() => void)[] = [];

  constructor(options: WireOptions) {
    this.#options = options;
  }

  attach(end: KernelEnd): void {
    this.#end = end;
  }

  has(flag: InitFlag): boolean {
    return this.agreed.flags.has(flag);
  }

  /** Requests that wait for their answer. */
  get pending(): readonly SentRequest[] {
    return [...this.#pending.values()].map(({ sent }) => sent);
  }

  get backgroundCount(): number {
    return this.#backgroundCount;
  }

  // --- sending ---------------------------------------------------------------------------------------------------------

  /** Sends and waits. Fails with the errno of the answer. */
  async call<Op extends OpcodeName>(outgoing: Outgoing<Op>): Promise<Reply> {
    const reply = await this.request(outgoing);
    if (reply.errno !== 0) fail(reply.errno);
    return reply;
  }

  /** Sends and waits; the answer says whether it failed. */
  request<Op extends OpcodeName>(outgoing: Outgoing<Op>): Promise<Reply> {
    return new Promise((resolve) => {
      this.#submit(outgoing, (reply) => this.#options.schedule.post(() => resolve(reply)));
    });
  }

  /**
   * Sends a background request: when fewer than max_background exist it is made at once, otherwise the caller waits for
   * that. `onAnswer` runs when the answer arrives, in the order of answers.
   */
  async background<Op extends OpcodeName>(outgoing: Outgoing<Op>, onAnswer: (reply: Reply) => void): Promise<void> {
    while (this.refusal === 0 && this.#backgroundCount >= this.agreed.maxBackground) {
      await new Promise<void>((resume) => this.#blocked.push(resume));
    }
    this.#queueBackground(outgoing, onAnswer);
  }

  /** A background request that does not wait for its turn to exist: RELEASE and write-back. */
  backgroundForced<Op extends OpcodeName>(outgoing: Outgoing<Op>): Promise<Reply> {
    return new Promise((resolve) => {
      this.#queueBackground(outgoing, (reply) => this.#options.schedule.post(() => resolve(reply)));
    });
  }

  #queueBackground<Op extends OpcodeName>(outgoing: Outgoing<Op>, onAnswer: (reply: Reply) => void): void {
    this.#backgroundCount++;
    this.#backgroundQueue.push(() => {
      this.#activeCount++;
      this.#submit(outgoing, (reply) => {
        this.#backgroundCount--;
        this.#activeCount--;
        onAnswer(reply);
        this.#blocked.shift()?.();
        this.#flushBackground();
      });
    });
    this.#flushBackground();
  }

  #flushBackground(): void {
    while (this.#backgroundQueue.length > 0 && (this.#activeCount < this.agreed.maxBackground || this.refusal !== 0))
      this.#backgroundQueue.shift()!();
  }

  /** Sends what takes no answer: FORGET, BATCH_FORGET, NOTIFY_REPLY. */
  post<Op extends OpcodeName>(outgoing: Outgoing<Op>, unique?: number): void {
    if (this.refusal !== 0) return;
    const sent = this.#record(outgoing, unique ?? this.#nextUnique());
    const message = this.#encode(outgoing, sent);
    this.#options.schedule.post(() => this.#deliver(message));
  }

  #submit<Op extends OpcodeName>(outgoing: Outgoing<Op>, finish: (reply: Reply) => void): void {
    this.beforeRequest();
    if (this.refusal !== 0) {
      finish(errorReply(this.refusal));
      return;
    }
    const row = opcodeNamed(outgoing.op);
    const sent = this.#record(outgoing, this.#nextUnique());
    const fault = this.#options.faults.take(outgoing.op);
    const pending: Pending = {
      unique: sent.unique,
      row,
      sent,
      message: this.#encode(outgoing, sent),
      waiting: outgoing.caller,
      isForced: outgoing.isForced ?? false,
      tailMax: tailMax(row, outgoing.args as Record<string, number> | undefined),
      fault,
      finish,
      isDelivered: false,
      isResent: false,
      isAnswered: false,
    };
    this.#pending.set(sent.unique, pending);
    outgoing.caller?.requests.add(pending);
    if (fault?.kind === 'errno') {
      this.#settle(pending, errorReply(fault.errno));
      return;
    }
    if (fault?.kind === 'drop-request') return;
    this.#options.schedule.post(() => this.#deliverPending(pending));
    if (pending.waiting?.isInterrupted && !pending.isForced) this.#interrupt(pending);
  }

  #deliverPending(pending: Pending): void {
    if (this.refusal !== 0 || !this.#pending.has(pending.unique)) return;
    pending.isDelivered = true;
    const status = this.#deliver(pending.message);
    if (status !== 0) this.#settle(pending, errorReply(status === -ENODEV ? ENOTCONN : EIO));
  }

  #deliver(message: Uint8Array): number {
    const end = this.#end;
    if (end === undefined) return -ENODEV;
    this.#options.tap?.('in', message.slice());
    const buffer = end.acquire(message.length);
    buffer.bytes.set(message);
    return end.submit(buffer, message.length);
  }

  #nextUnique(): number {
    this.#unique += 2;
    return this.#unique;
  }

  #record<Op extends OpcodeName>(outgoing: Outgoing<Op>, unique: number): SentRequest {
    const credentials = outgoing.isAnonymous || outgoing.caller === undefined ? NOBODY : outgoing.caller.credentials;
    const struct = REQUEST_STRUCTS[outgoing.op as StructuredOpcode];
    const args = struct === undefined ? undefined : Object.assign(struct.make(), outgoing.args);
    const sent: SentRequest = {
      index: this.#index++,
      operation: outgoing.op,
      nodeid: outgoing.nodeid,
      unique,
      ...credentials,
      args: args as Record<string, unknown> | undefined,
      names: outgoing.names ?? [],
      dataBytes: outgoing.data?.length ?? 0,
      forgets: outgoing.forgets,
      errno: undefined,
    };
    this.#bookEnds(sent);
    this.requests.push(sent);
    if (this.requests.length > this.#options.logMax * 2) this.requests.splice(0, this.requests.length - this.#options.logMax);
    return sent;
  }

  #encode<Op extends OpcodeName>(outgoing: Outgoing<Op>, sent: SentRequest): Uint8Array {
    const row = opcodeNamed(outgoing.op);
    const structBytes =
      sent.operation === 'INIT'
        ? initBytes((sent.args as { minor: number }).minor)
        : requestStructBytes(row, this.agreed.minor, this.has('FUSE_SETXATTR_EXT'));
    let length = IN_HEADER_BYTES + structBytes;
    for (const name of sent.names) length += name.length + 1;
    length += sent.dataBytes + (outgoing.forgets?.length ?? 0) * 16 + (outgoing.extensions?.length ?? 0);
    const bytes = new Uint8Array((length + 7) & ~7);
    const words = new Uint32Array(bytes.buffer);
    const uniqueHigh = Math.floor(sent.unique / WORD);
    words.set([length, row.value, sent.unique % WORD, uniqueHigh, sent.nodeid % WORD, Math.floor(sent.nodeid / WORD)]);
    // Kernels of 7.36 and 7.37 append labels without saying so.
    const announced = headerHasExtensionLength(this.agreed.minor) ? (outgoing.extensions?.length ?? 0) / 8 : 0;
    words.set([sent.uid, sent.gid, sent.pid, announced], 6);
    if (sent.args !== undefined) {
      const { encode } = REQUEST_STRUCTS[outgoing.op as StructuredOpcode] as { encode: EncodeAny };
      encode(words, IN_HEADER_BYTES / 4, sent.args, structBytes === 0 ? undefined : structBytes);
      if (outgoing.offsetWords !== undefined) words.set(outgoing.offsetWords, IN_HEADER_BYTES / 4 + 2);
    }
    let at = IN_HEADER_BYTES + structBytes;
    for (const name of sent.names) {
      putName(bytes, at, name);
      at += name.length + 1;
    }
    for (const { nodeid, nlookup } of outgoing.forgets ?? []) {
      words.set([nodeid % WORD, Math.floor(nodeid / WORD), nlookup % WORD, Math.floor(nlookup / WORD)], at / 4);
      at += 16;
    }
    for (const part of [outgoing.data, outgoing.extensions]) {
      if (part === undefined) continue;
      bytes.set(part, at);
      at += part.length;
    }
    return bytes.subarray(0, length);
  }

  // --- interrupts ------------------------------------------------------------------------------------------------------

  /** A signal for the caller: INTERRUPT goes out for everything that it waits for. */
  interrupt(waiting: Waiting): void {
    waiting.isInterrupted = true;
    for (const pending of waiting.requests) if (!pending.isForced) this.#interrupt(pending);
  }

  #interrupt(pending: Pending): void {
    if (this.#noInterrupt || pending.isAnswered || pending.fault?.kind === 'drop-request') return;
    const { unique } = pending;
    const low = unique % WORD;
    const high = Math.floor(unique / WORD);
    this.post({ op: 'INTERRUPT', nodeid: 0, args: { unique_lo: low, unique_hi: high } }, unique + 1);
  }

  // --- replies ---------------------------------------------------------------------------------------------------------

  /** What the daemon wrote; the result is what its write(2) gives. */
  onReply(buffer: MessageBuffer, length: number): number {
    const message = buffer.bytes.slice(0, length);
    this.#options.tap?.('out', message);
    return this.receive(message);
  }

  receive(message: Uint8Array): number {
    const { length } = message;
    if (length < OUT_HEADER_BYTES) return this.#invalid('a reply is shorter than its header', '');
    const [len, error, low, high] = new Uint32Array(message.buffer, message.byteOffset, 4);
    if (low === 0 && high === 0) return len === length ? this.onNotification(error!, message.subarray(16)) : -EINVAL;
    const unique = (high! & ~FUSE_UNIQUE_RESEND_HI) * WORD + low!;
    if ((low! & 1) === 1) return this.#interruptReply(unique - 1, error! | 0, length);
    const pending = this.#pending.get(unique);
    // A resent request answers to its new number alone.
    const isResent = (high! & FUSE_UNIQUE_RESEND_HI) !== 0;
    if (pending === undefined || pending.isAnswered || pending.isResent !== isResent) return this.#unknown(unique, pending);
    return this.#faulty(pending, message);
  }

  #faulty(pending: Pending, message: Uint8Array): number {
    switch (pending.fault?.kind) {
      case 'drop-reply':
        return 0;
      case 'alter-reply':
        return this.#take(pending, pending.fault.alter(message));
      case 'malformed-reply':
        return this.#take(pending, malform(message));
      case 'refuse-reply':
        this.#settle(pending, errorReply(EINTR));
        return -pending.fault.errno;
      case 'duplicate-reply': {
        const status = this.#take(pending, message);
        const again = this.#unknown(pending.unique, undefined, true);
        if (again !== -ENOENT) this.#options.audit.report('daemon', 'a duplicate reply was taken', describeRequest(pending.sent));
        return status;
      }
      default:
        return this.#take(pending, message);
    }
  }

  /** The checks of fuse_dev_do_write and fuse_copy_out_args. */
  #take(pending: Pending, message: Uint8Array): number {
    const what = describeRequest(pending.sent);
    const copy = new Uint8Array((message.length + 7) & ~7);
    copy.set(message);
    const words = new Uint32Array(copy.buffer);
    const error = words[1]! | 0;
    if (words[0] !== message.length)
      return this.#invalid(`the header says ${words[0]} bytes, the reply has ${message.length}`, what, pending);
    if (error > 0 || error <= -512) return this.#invalid(`the error ${error} is outside -511..0`, what, pending);
    const bodyBytes = message.length - OUT_HEADER_BYTES;
    if (error !== 0) {
      if (bodyBytes > 0) return this.#refuse(pending, 'an error has a body');
      this.#settle(pending, errorReply(-error));
      return 0;
    }
    const expected = this.#replySize(pending);
    if (bodyBytes < expected.least || bodyBytes > expected.least + (expected.hasTail ? pending.tailMax : 0))
      return this.#refuse(
        pending,
        `the body has ${bodyBytes} bytes, the request takes ${expected.least}${expected.hasTail ? ` to ${expected.least + pending.tailMax}` : ''}`,
      );
    const body = copy.subarray(OUT_HEADER_BYTES, message.length);
    const reply = { errno: 0, words: words.subarray(OUT_HEADER_BYTES / 4), bytes: body };
    this.#keepBooks(pending, reply);
    this.#settle(pending, reply);
    return 0;
  }

  #replySize(pending: Pending): ReplySize {
    const { row, sent } = pending;
    if (row.name === 'INIT') return { least: 0, hasTail: true };
    const { reply } = row;
    if (reply.whenSizeZero !== undefined && (sent.args as { size: number }).size === 0)
      return { least: structOf(reply.whenSizeZero).bytes, hasTail: false };
    let size = this.#replySizes.get(row.name);
    if (size !== undefined) return size;
    let least = 0;
    for (const name of reply.structs)
      least += structBytesOnWire(structOf(name), layoutMinor(row, this.agreed.minor), this.has('FUSE_SETXATTR_EXT'));
    size = { least, hasTail: reply.tail !== undefined };
    this.#replySizes.set(row.name, size);
    return size;
  }

  /** The reply is refused and the caller gets EIO: the request is consumed. */
  #refuse(pending: Pending, message: string): number {
    this.#invalid(message, describeRequest(pending.sent), pending);
    this.#settle(pending, errorReply(EIO));
    return -EINVAL;
  }

  #invalid(message: string, operation: string, pending?: Pending): number {
    if (pending?.fault === undefined) this.#options.audit.report('invalid-reply', message, operation);
    return -EINVAL;
  }

  #unknown(unique: number, pending: Pending | undefined, isExpected = false): number {
    const sent = pending?.sent ?? this.#answered.get(unique);
    const operation = sent && describeRequest(sent);
    if (!isExpected && this.refusal === 0)
      this.#options.audit.report(
        'answered-twice',
        operation === undefined ? `an answer came for ${unique}, which was never sent` : 'a request was answered twice',
        operation,
      );
    return -ENOENT;
  }

  #interruptReply(unique: number, error: number, length: number): number {
    if (length !== OUT_HEADER_BYTES) return -EINVAL;
    if (error === -ENOSYS) this.#noInterrupt = true;
    const pending = this.#pending.get(unique);
    if (pending === undefined) return -ENOENT;
    if (error === -EAGAIN) this.#interrupt(pending);
    return 0;
  }

  #settle(pending: Pending, reply: Reply): void {
    pending.isAnswered = true;
    this.#pending.delete(pending.unique);
    this.#answered.set(pending.unique, pending.sent);
    if (this.#answered.size > ANSWERED_MAX) this.#answered.delete(this.#answered.keys().next().value!);
    pending.sent.errno = reply.errno;
    pending.waiting?.requests.delete(pending);
    if (pending.fault?.kind === 'delay-reply') this.#options.clock.after(pending.fault.ms, () => pending.finish(reply));
    else pending.finish(reply);
    if (this.#pending.size === 0) {
      for (const resume of this.#idle) resume();
      this.#idle = [];
    }
  }

  /** What the message alone says about lookup counts and openings. */
  #keepBooks(pending: Pending, reply: Reply): void {
    const { row, sent } = pending;
    const { audit } = this.#options;
    if (row.name === 'READDIRPLUS') {
      for (const record of readDirentplus(reply.bytes, 0, reply.bytes.length))
        if (record.name !== '.' && record.name !== '..') audit.granted(record.entry.nodeid, describeRequest(sent));
      return;
    }
    const nodeid = reply.words[0]! + (reply.words[1] ?? 0) * WORD;
    if (row.countsLookup) audit.granted(nodeid, describeRequest(sent));
    const openAt = row.name === 'CREATE' || row.name === 'TMPFILE' ? 32 : row.name === 'OPEN' || row.name === 'OPENDIR' ? 0 : -1;
    if (openAt < 0) return;
    const handle = reply.words[openAt]! + reply.words[openAt + 1]! * WORD;
    audit.opened(row.name, openAt === 0 ? sent.nodeid : nodeid, handle, describeRequest(sent));
  }

  #bookEnds(sent: SentRequest): void {
    const { audit } = this.#options;
    const { operation, nodeid } = sent;
    if (operation === 'FORGET') audit.forgotten(nodeid, sent.args!.nlookup as number);
    else if (operation === 'BATCH_FORGET') for (const one of sent.forgets!) audit.forgotten(one.nodeid, one.nlookup);
    else if (operation === 'RELEASE' || operation === 'RELEASEDIR')
      audit.released(operation === 'RELEASEDIR', nodeid, sent.args!.fh as number);
  }

  // --- the end ---------------------------------------------------------------------------------------------------------

  /** Resolves when no request waits. */
  async whenIdle(timeoutMs: number): Promise<boolean> {
    if (this.#pending.size === 0) return true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), timeoutMs);
    });
    const idle = new Promise<boolean>((resolve) => this.#idle.push(() => resolve(true)));
    const result = await Promise.race([late, idle]);
    clearTimeout(timer);
    return result;
  }

  /** Requests in flight fail with ECONNABORTED, further ones with `refusal`. */
  disconnect(refusal: number = ENOTCONN): void {
    this.refusal = refusal;
    const inFlight = [...this.#pending.values()];
    for (const pending of inFlight) this.#settle(pending, errorReply(refusal === ECONNREFUSED ? ECONNREFUSED : ECONNABORTED));
    while (this.#blocked.length > 0) this.#blocked.shift()!();
    this.#flushBackground();
  }

  /** RESEND: what was read and not answered comes again, oldest first, with bit 63 in its number. */
  resend(): void {
    for (const pending of this.#pending.values()) {
      if (!pending.isDelivered) continue;
      pending.isResent = true;
      const message = pending.message.slice();
      new DataView(message.buffer).setUint32(12, (Math.floor(pending.unique / WORD) | FUSE_UNIQUE_RESEND_HI) >>> 0, true);
      this.#options.schedule.post(() => this.#deliver(message));
    }
  }
}

type EncodeAny = (words: Uint32Array, at: number, value: unknown, size: number | undefined) => void;

/** Bytes of INIT's struct as a kernel of that minor sends it. */
const initBytes = (minor: number): number => (initInHasSecondFlags(minor) ? 64 : 16);

/** Most bytes behind the fixed part of a reply. */
function tailMax(row: OpcodeRow, args: Record<string, number> | undefined): number {
  if (row.name === 'INIT') return 64;
  if (row.name === 'READLINK') return 4095;
  const field = row.reply.limitedBy;
  return field === undefined ? 0 : (args?.[field] ?? 0);
}

/** Names have one character a byte. */
function putName(bytes: Uint8Array, at: number, name: string): void {
  for (let i = 0; i < name.length; i++) bytes[at + i] = name.charCodeAt(i);
}
