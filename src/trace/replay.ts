/**
 * Replay against a filesystem: the recorded requests are sent to a session of it, and its answers are compared by what they mean.
 * What the two sides number as they like (nodes, handles, positions in listings, ids of requests) is translated.
 */
import { type Filesystem, operationsOf } from '../filesystem/index.ts';
import {
  type Agreement,
  decodeReply,
  encodeMessage,
  FATTR_FH,
  FUSE_GETATTR_FH,
  type InitFlag,
  type OpcodeName,
  opcodeNamed,
  type ReplyMessage,
  type RequestMessage,
  type StructValue,
} from '../protocol/index.ts';
import { ERRNO, MINOR_FLOOR, NegotiationError, Session, type SessionSettings } from '../session/index.ts';
import { followTrace, type Messages, type ReplyEvent, type RequestEvent, type TraceEvent } from './follow.ts';
import type { TraceMessage } from './message.ts';
import { Names } from './names.ts';
import { type CompareOptions, meaningDifferences, setDifferences } from './replay-compare.ts';
import { Identities, ReplayListing, ROOT } from './replay-identities.ts';
import { type ReplayLimits, type ReplayReport, ReplayTally } from './replay-report.ts';
import { initRequest, modernised, ReplayWire, replayAgreement, type SessionFactory } from './replay-wire.ts';

export interface ReplayOptions extends ReplayLimits, CompareOptions {
  /** `fast` (default): each request as soon as its time in the order has come. `kept`: not before its time in the trace. */
  readonly timing?: 'fast' | 'kept';
  /** With `kept`: how many times faster than it was recorded. Default 1. */
  readonly speed?: number;
  /**
   * `recorded` (default): a request is sent when the answers that preceded it in the trace are there, so that as many are in flight
   * as were then. `serial`: one after the other. Then a request that waits for a later one (SETLKW) runs into its time limit.
   */
  readonly concurrency?: 'recorded' | 'serial';
  /** Settings of the session. Default: those of the trace's own INIT where they matter. */
  readonly settings?: SessionSettings;
  /** Told of everything that crosses the channel of the replay: a trace of the filesystem that it is replayed against. */
  readonly onMessage?: (message: TraceMessage) => void;
  /** Told of each request that was compared or skipped: for progress. */
  readonly onRequest?: (done: number) => void;
}

/** Replays a trace against a filesystem, or against any session. Never hangs: see {@link ReplayLimits.answerMs}. */
export async function replayTrace(
  messages: Messages,
  target: Filesystem | SessionFactory,
  options: ReplayOptions = {},
): Promise<ReplayReport> {
  const byConnection = new Map<number, TraceEvent[]>();
  for await (const event of followTrace(messages)) {
    const events = byConnection.get(event.connection) ?? [];
    events.push(event);
    byConnection.set(event.connection, events);
  }
  const tally = new ReplayTally(options);
  for (const events of byConnection.values()) await new Replay(events, target, tally, options).run();
  return tally.report();
}

const DEFAULT_ANSWER_MS = 5000;
const DEFAULT_READAHEAD = 131_072;
const LISTING_BYTES = 65_536;
/** Pages that are read to see the end of a listing. */
const LISTING_PAGES_MAX = 100_000;
const O_RDWR = 2;

/** What a request that was sent waits for. */
interface Sent {
  readonly unique: bigint;
  readonly listing?: ReplayListing;
  /** READDIR in place of READDIRPLUS. */
  readonly opcode: OpcodeName;
}

/** Requests that a replay leaves out, and why. */
const LEFT_OUT: { readonly [Name in OpcodeName]?: string } = {
  NOTIFY_REPLY: 'answers to notifications',
  DESTROY: 'about the connection',
  CUSE_INIT: 'about the connection',
  SETUPMAPPING: 'of virtiofs alone',
  REMOVEMAPPING: 'of virtiofs alone',
};

class Replay {
  readonly #events: readonly TraceEvent[];
  readonly #target: Filesystem | SessionFactory;
  readonly #tally: ReplayTally;
  readonly #options: ReplayOptions;
  readonly #names = new Names();
  readonly #replies = new Map<RequestEvent, ReplyEvent>();
  readonly #sent = new Map<RequestEvent, Sent>();
  readonly #listings = new Map<string, ReplayListing>();
  readonly #refused = new Set<bigint>();
  /** With `serial`: replies of the trace that were compared before their turn. */
  readonly #compared = new Set<ReplyEvent>();
  readonly #recorded: Agreement;
  readonly #identities: Identities;
  #agreed: Agreement;
  #wire!: ReplayWire;
  #unique = 2n;
  #done = 0;

  constructor(events: readonly TraceEvent[], target: Filesystem | SessionFactory, tally: ReplayTally, options: ReplayOptions) {
    this.#events = events;
    this.#target = target;
    this.#tally = tally;
    this.#options = options;
    for (const event of events) if (event.kind === 'reply') this.#replies.set(event.request, event);
    this.#recorded = events.at(-1)?.agreed ?? { minor: MINOR_FLOOR, flags: new Set<InitFlag>() };
    this.#agreed = replayAgreement(this.#recorded, MINOR_FLOOR);
    this.#identities = new Identities((actual, count) => this.#forget(actual, count));
  }

  async run(): Promise<void> {
    await this.#begin();
    const began = performance.now();
    const first = this.#events[0]?.trace.t ?? 0;
    const { timing = 'fast', speed = 1 } = this.#options;
    try {
      for (const event of this.#events) {
        if (event.kind === 'request') {
          if (timing === 'kept') await sleepUntil(began + (event.trace.t - first) / 1000 / speed);
          await this.#ask(event);
        } else if (event.kind === 'reply') await this.#answered(event);
        else if (event.kind === 'notification') this.#tally.notifications++;
        this.#names.learn(event);
      }
    } finally {
      await this.#wire.close();
    }
  }

  async #begin(): Promise<void> {
    const { answerMs = DEFAULT_ANSWER_MS } = this.#options;
    const largest = Math.max(LISTING_BYTES, ...this.#events.map(({ trace }) => trace.bytes.length));
    const settings: SessionSettings = {
      readdirplus: this.#recorded.flags.has('FUSE_READDIRPLUS_AUTO') ? 'auto' : 'always',
      writeback: this.#recorded.flags.has('FUSE_WRITEBACK_CACHE'),
      defaultPermissions: true,
      ...this.#options.settings,
    };
    const target = this.#target;
    const factory: SessionFactory =
      typeof target === 'function'
        ? target
        : (channel) => new Session(channel, operationsOf(target), { settings, limits: { slowMs: 0 } });
    const verdict = (unique: bigint) => (this.#refused.delete(unique) ? -2 : 0);
    this.#wire = new ReplayWire(factory, { messageBytesMax: largest, answerMs, verdict, tap: this.#options.onMessage });
    await this.#wire.open();
    const offered: Agreement = {
      minor: this.#agreed.minor,
      flags: new Set<InitFlag>([...this.#recorded.flags, 'FUSE_INIT_EXT', 'FUSE_MAX_PAGES', 'FUSE_BIG_WRITES']),
    };
    this.#wire.send(initRequest(1n, offered, DEFAULT_READAHEAD));
    const answer = await this.#wire.answer(1n);
    const error = answer === undefined ? 0 : new DataView(answer.buffer).getInt32(4, true);
    if (answer === undefined || error !== 0) {
      await this.#wire.close();
      const why = answer === undefined ? `no answer within ${answerMs} ms` : `it answered ${error}`;
      throw new NegotiationError('ERR_FUSEWIRE_INIT', `the session did not accept INIT with what the trace agreed on: ${why}`);
    }
    const { minor, flags } = this.#wire.session.negotiated;
    this.#agreed = { minor, flags };
  }

  // --- asking ------------------------------------------------------------------------------------------------------------

  async #ask(event: RequestEvent): Promise<void> {
    const { message } = event;
    this.#tally.requests++;
    this.#options.onRequest?.(++this.#done);
    if (message.opcode === 'INIT') return this.#tally.skip('negotiated anew');
    const leftOut = LEFT_OUT[message.opcode];
    if (leftOut !== undefined) return this.#tally.skip(leftOut);
    if (message.opcode === 'FORGET' || message.opcode === 'BATCH_FORGET') return this.#forgotten(message);
    if (message.opcode === 'INTERRUPT') return this.#interrupt(message);
    const translated = await this.#translate(event);
    if (typeof translated === 'string') return this.#tally.skip(translated);
    const { unique, request, listing } = translated;
    const reply = this.#replies.get(event);
    if ((reply?.trace.errno ?? 0) !== 0) this.#refused.add(unique);
    this.#wire.send(this.#encode(request, unique));
    if (reply === undefined) return this.#tally.skip('never answered in the trace');
    this.#sent.set(event, { unique, opcode: request.opcode, ...(listing === undefined ? {} : { listing }) });
    if (this.#options.concurrency !== 'serial') return;
    await this.#answered(reply);
    this.#compared.add(reply);
  }

  #encode(request: RequestMessage, unique: bigint): Uint8Array {
    // Callers of then are nobody here: their groups must not be looked up in /proc.
    const header = { ...request.header, unique, pid: 0 };
    return encodeMessage(modernised({ ...request, header }, this.#agreed));
  }

  #forgotten(message: RequestMessage): void {
    const one = [{ nodeid: message.header.nodeid, nlookup: message.structs[0]?.value.nlookup }] as StructValue[];
    for (const { nodeid, nlookup } of message.records ?? one) this.#identities.forget(nodeid as bigint, Number(nlookup));
    this.#tally.skip('without an answer by nature');
  }

  #interrupt(message: RequestMessage): void {
    const meant = message.structs[0]?.value.unique as bigint;
    for (const [{ unique }, sent] of this.#sent) {
      if (unique !== meant) continue;
      const structs = [{ ...message.structs[0]!, value: { unique: sent.unique } }];
      this.#wire.send(this.#encode({ ...message, structs, header: { ...message.header, nodeid: 0n } }, this.#nextUnique() + 1n));
      break;
    }
    this.#tally.skip('without an answer by nature');
  }

  /** The request as the filesystem knows its nodes and openings; or why that cannot be. */
  async #translate(event: RequestEvent): Promise<{ unique: bigint; request: RequestMessage; listing?: ReplayListing } | string> {
    const { message } = event;
    const recordedNode = message.header.nodeid as bigint;
    const nodeid = await this.#node(recordedNode);
    if (nodeid === undefined) return 'about a file that the replay does not have';
    const value: StructValue = { ...message.structs[0]?.value };
    for (const field of ['oldnodeid', 'newdir', 'nodeid_out'] as const) {
      if (value[field] === undefined) continue;
      const other = await this.#node(value[field] as bigint);
      if (other === undefined) return 'about a file that the replay does not have';
      if (field === 'nodeid_out' && !(await this.#mapHandle(value, 'fh_out', value[field] as bigint, other, false)))
        return 'on an opening that the replay does not have';
      value[field] = other;
    }
    const isDirectory = DIRECTORY_HANDLES.has(message.opcode);
    for (const field of ['fh', 'fh_in'] as const) {
      if (value[field] === undefined || !usesHandle(message.opcode, value)) continue;
      if (!(await this.#mapHandle(value, field, recordedNode, nodeid, isDirectory)))
        return 'on an opening that the replay does not have';
    }
    this.#applyUmask(message.opcode, value);
    const structs = message.structs.length === 0 ? [] : [{ ...message.structs[0]!, value }];
    const request: RequestMessage = { ...message, header: { ...message.header, nodeid }, structs };
    const unique = this.#nextUnique();
    return isListing(message.opcode) ? { unique, ...this.#translateListing(event, request, value) } : { unique, request };
  }

  #translateListing(event: RequestEvent, request: RequestMessage, value: StructValue) {
    const key = listingKey(event.message);
    const cookie = value.offset as bigint;
    let listing = this.#listings.get(key);
    if (listing === undefined || cookie === 0n) {
      if (listing !== undefined) this.#dropListing(listing);
      listing = new ReplayListing();
      this.#listings.set(key, listing);
    }
    value.offset = listing.cookie(cookie);
    const plus = request.opcode === 'READDIRPLUS' && this.#agreed.flags.has('FUSE_DO_READDIRPLUS');
    const opcode: OpcodeName = plus ? 'READDIRPLUS' : 'READDIR';
    return { request: { ...request, opcode }, listing };
  }

  /** The kernel of the trace left the umask to its daemon; where this filesystem does not want it, we apply it. */
  #applyUmask(opcode: OpcodeName, value: StructValue): void {
    if (!this.#recorded.flags.has('FUSE_DONT_MASK') || this.#agreed.flags.has('FUSE_DONT_MASK')) return;
    if (!opcodeNamed(opcode).countsLookup || typeof value.mode !== 'number') return;
    value.mode = (value.mode & ~Number(value.umask ?? 0)) >>> 0;
  }

  async #node(recorded: bigint): Promise<bigint | undefined> {
    return this.#identities.node(recorded) ?? (await this.#find(recorded));
  }

  /** Looks up a node by where the trace has it: listed there, or in another order than here. */
  async #find(recorded: bigint): Promise<bigint | undefined> {
    const place = this.#identities.placeOf(recorded);
    if (place === undefined) return undefined;
    const parent = await this.#node(place.parent);
    if (parent === undefined) return undefined;
    const reply = await this.#extra('LOOKUP', parent, [], [place.name]);
    const found = reply?.header.error === 0 ? (reply.structs[0]!.value.nodeid as bigint) : 0n;
    if (found === 0n) return undefined;
    // The recorded daemon's reference was counted when it was granted.
    this.#identities.granted(recorded, found, 1);
    return found;
  }

  /** Puts the filesystem's handle in place of the trace's; opens the file first where the trace did without OPEN. */
  async #mapHandle(
    value: StructValue,
    field: string,
    recordedNode: bigint,
    node: bigint,
    isDirectory: boolean,
  ): Promise<boolean> {
    const recorded = value[field] as bigint;
    if (this.#identities.hasFailed(recordedNode, recorded)) return false;
    let actual = this.#identities.handle(recordedNode, recorded);
    if (actual === undefined) {
      actual = await this.#openAnew(node, isDirectory);
      if (actual === undefined) return false;
      this.#identities.open(recordedNode, recorded, actual);
    }
    value[field] = actual;
    return true;
  }

  async #openAnew(node: bigint, isDirectory: boolean): Promise<bigint | undefined> {
    const opcode = isDirectory ? 'OPENDIR' : 'OPEN';
    for (const flags of isDirectory ? [0] : [O_RDWR, 0]) {
      const reply = await this.#extra(opcode, node, [{ name: 'fuse_open_in', bytes: 8, value: { flags, open_flags: 0 } }]);
      if (reply?.header.error === 0) return reply.structs[0]!.value.fh as bigint;
    }
    return undefined;
  }

  // --- answers -------------------------------------------------------------------------------------------------------------

  async #answered(event: ReplyEvent): Promise<void> {
    const { request, message: recorded } = event;
    // One after the other: it was waited for when its request was sent.
    if (this.#compared.delete(event)) return;
    const sent = this.#sent.get(request);
    if (sent === undefined) return this.#lost(event);
    this.#sent.delete(request);
    const refused = (event.trace.errno ?? 0) !== 0;
    const answer = await this.#wire.answer(sent.unique);
    if (answer === undefined) {
      const { answerMs = DEFAULT_ANSWER_MS } = this.#options;
      this.#differ(request, [`no answer within ${answerMs} ms`]);
      return;
    }
    const size = Number(request.message.structs[0]?.value.size ?? request.message.structs[0]?.value.out_size ?? 0);
    const limited = opcodeNamed(sent.opcode).reply.limitedBy !== undefined;
    const now = decodeReply(answer, this.#agreed, {
      opcode: sent.opcode,
      size: limited && sent.opcode !== 'IOCTL' ? size : undefined,
    });
    if (now.kind === 'failure') return this.#differ(request, [`the answer does not decode: ${now.message}`]);
    if (refused || recorded.malformed !== undefined) return this.#tally.skip('refused by the kernel in the trace');
    const differences = meaningDifferences(recorded, now, this.#options);
    this.#learn(request.message, recorded, now);
    if (sent.listing !== undefined && differences.length === 0)
      differences.push(...(await this.#listed(request.message, sent, recorded, now)));
    this.#differ(request, differences);
  }

  /** A request that was not sent was answered: what it made then is missing here. */
  #lost({ request, message }: ReplyEvent): void {
    if (request.message.opcode !== 'INIT') this.#learn(request.message, message, undefined);
  }

  #differ(request: RequestEvent, differences: readonly string[]): void {
    if (differences.length === 0) {
      this.#tally.same++;
      return;
    }
    const { index, message } = request;
    const { opcode, names } = message;
    const nodeid = message.header.nodeid as bigint;
    const isEntry = names[0] !== undefined && !opcode.includes('XATTR') && opcode !== 'TMPFILE';
    const path = isEntry ? this.#names.join(nodeid, names[0]!) : this.#names.pathOf(nodeid);
    const shown = Buffer.from(path, 'latin1').toString('utf8');
    const attribute = opcode.includes('XATTR') && names[0] !== undefined ? ` ${names[0]}` : '';
    this.#tally.differ({ index, opcode, text: `${opcode} ${shown}${attribute}: ${differences.join('; ')}` });
  }

  /** What both sides made: which node and which handle stands for which. */
  #learn(request: RequestMessage, recorded: ReplyMessage, now: ReplyMessage | undefined): void {
    const { opcode } = request;
    const parent = request.header.nodeid as bigint;
    const then = recorded.header.error === 0 ? recorded.structs : [];
    const here = now?.header.error === 0 ? now.structs : [];
    // An opening that the trace does not know is released before its node is forgotten, as the kernel does.
    const at = opcode === 'CREATE' || opcode === 'TMPFILE' ? 1 : opcode === 'OPEN' || opcode === 'OPENDIR' ? 0 : undefined;
    if (at !== undefined) {
      // The kernel of the trace went on with handle 0.
      const withoutOpen = at === 0 && recorded.header.error === -ERRNO.ENOSYS;
      this.#opened(request, then[0]?.value, then[at]?.value, here[0]?.value, here[at]?.value, withoutOpen);
    }
    if (opcodeNamed(opcode).countsLookup && opcode !== 'READDIRPLUS') {
      const recordedNode = (then[0]?.value.nodeid ?? 0n) as bigint;
      const actual = (here[0]?.value.nodeid ?? 0n) as bigint;
      if (recordedNode !== 0n && request.names[0] !== undefined && opcode !== 'TMPFILE')
        this.#identities.place(recordedNode, { parent, name: request.names[0] });
      if (recordedNode !== 0n && actual !== 0n) this.#identities.bind(recordedNode, actual);
      else if (actual !== 0n && actual !== ROOT) this.#forget(actual, 1);
    }
    if (recorded.header.error !== 0) return;
    if (opcode === 'RENAME' || opcode === 'RENAME2') this.#moved(request);
    if (opcode === 'RELEASE' || opcode === 'RELEASEDIR') this.#closed(request);
  }

  #opened(
    request: RequestMessage,
    entryThen: StructValue | undefined,
    then: StructValue | undefined,
    entryNow: StructValue | undefined,
    now: StructValue | undefined,
    withoutOpen: boolean,
  ): void {
    const own = request.header.nodeid as bigint;
    const recordedNode = (entryThen?.nodeid ?? own) as bigint;
    if (then !== undefined) this.#identities.open(recordedNode, then.fh as bigint, now?.fh as bigint | undefined);
    else if (now !== undefined && withoutOpen) this.#identities.open(recordedNode, 0n, now.fh as bigint);
    else if (now !== undefined) {
      const actual = (entryNow?.nodeid ?? this.#identities.node(own)) as bigint | undefined;
      if (actual !== undefined) this.#release(actual, now.fh as bigint, request.opcode === 'OPENDIR');
    }
  }

  #moved(request: RequestMessage): void {
    const parent = request.header.nodeid as bigint;
    const value = request.structs[0]!.value;
    const newParent = value.newdir as bigint;
    const [from, to] = request.names as [string, string];
    const moved = this.#names.nodeOf(parent, from);
    const other = this.#names.nodeOf(newParent, to);
    if (moved !== undefined) this.#identities.place(moved, { parent: newParent, name: to });
    if (other !== undefined && (Number(value.flags ?? 0) & RENAME_EXCHANGE) !== 0)
      this.#identities.place(other, { parent, name: from });
  }

  #closed(request: RequestMessage): void {
    this.#identities.close(request.header.nodeid as bigint, request.structs[0]!.value.fh as bigint);
    if (request.opcode !== 'RELEASEDIR') return;
    const key = listingKey(request);
    const listing = this.#listings.get(key);
    if (listing !== undefined) this.#dropListing(listing);
    this.#listings.delete(key);
  }

  // --- listings ------------------------------------------------------------------------------------------------------------

  async #listed(request: RequestMessage, sent: Sent, recorded: ReplyMessage, now: ReplyMessage): Promise<string[]> {
    const listing = sent.listing!;
    if (recorded.header.error !== 0) return [];
    for (const { entry, name } of recorded.entries ?? []) {
      const nodeid = (entry?.nodeid ?? 0n) as bigint;
      listing.add('recorded', name, nodeid);
      if (nodeid !== 0n) this.#identities.place(nodeid, { parent: request.header.nodeid as bigint, name });
    }
    this.#gave(listing, now);
    listing.pageEnded(lastCookie(recorded), lastCookie(now));
    if ((recorded.entries ?? []).length > 0) return [];
    // The trace has seen the end: so must we, before the two can be compared.
    if ((now.entries ?? []).length > 0) await this.#listRest(request, sent, listing);
    const differences = setDifferences('name', listing.recorded, listing.now, !this.#options.strict);
    this.#dropListing(listing);
    this.#listings.delete(listingKey(request));
    return differences;
  }

  #gave(listing: ReplayListing, reply: ReplyMessage): void {
    for (const { entry, name } of reply.entries ?? []) listing.add('now', name, (entry?.nodeid ?? 0n) as bigint);
    for (const { recorded, actual } of listing.matched()) this.#identities.bind(recorded, actual);
  }

  async #listRest(request: RequestMessage, sent: Sent, listing: ReplayListing): Promise<void> {
    const recordedNode = request.header.nodeid as bigint;
    const node = this.#identities.node(recordedNode);
    const value = request.structs[0]!.value;
    const fh = this.#identities.handle(recordedNode, value.fh as bigint) ?? (value.fh as bigint);
    if (node === undefined) return;
    for (let page = 0; page < LISTING_PAGES_MAX; page++) {
      const part = { ...request.structs[0]!, value: { ...value, fh, offset: listing.last, size: LISTING_BYTES } };
      const reply = await this.#extra(sent.opcode, node, [part]);
      if (reply === undefined || reply.header.error !== 0 || (reply.entries ?? []).length === 0) return;
      this.#gave(listing, reply);
      listing.pageEnded(undefined, lastCookie(reply));
    }
  }

  #dropListing(listing: ReplayListing): void {
    for (const actual of listing.leftover()) this.#forget(actual, 1);
  }

  // --- requests of our own ---------------------------------------------------------------------------------------------------

  #nextUnique(): bigint {
    this.#unique += 2n;
    return this.#unique;
  }

  #own(opcode: OpcodeName, nodeid: bigint, structs: RequestMessage['structs'], names: readonly string[] = []): bigint {
    const unique = this.#nextUnique();
    const header = { nodeid, uid: 0, gid: 0, total_extlen: 0 };
    this.#tally.extra++;
    this.#wire.send(this.#encode({ kind: 'request', opcode, header, structs, names, padding: [] }, unique));
    return unique;
  }

  async #extra(
    opcode: OpcodeName,
    nodeid: bigint,
    structs: RequestMessage['structs'],
    names: readonly string[] = [],
  ): Promise<ReplyMessage | undefined> {
    const answer = await this.#wire.answer(this.#own(opcode, nodeid, structs, names));
    const reply = answer && decodeReply(answer, this.#agreed, { opcode, size: undefined });
    return reply?.kind === 'reply' ? reply : undefined;
  }

  #forget(actual: bigint, count: number): void {
    this.#own('FORGET', actual, [{ name: 'fuse_forget_in', bytes: 8, value: { nlookup: BigInt(count) } }]);
  }

  #release(node: bigint, fh: bigint, isDirectory: boolean): void {
    const value = { fh, flags: 0, release_flags: 0, lock_owner: 0n };
    const unique = this.#own(isDirectory ? 'RELEASEDIR' : 'RELEASE', node, [{ name: 'fuse_release_in', bytes: 24, value }]);
    // Nobody is waiting for it; but it must not stay in the wire's memory.
    void this.#wire.answer(unique);
  }
}

const RENAME_EXCHANGE = 2;
const DIRECTORY_HANDLES: ReadonlySet<OpcodeName> = new Set<OpcodeName>(['READDIR', 'READDIRPLUS', 'RELEASEDIR', 'FSYNCDIR']);

const isListing = (opcode: OpcodeName): boolean => opcode === 'READDIR' || opcode === 'READDIRPLUS';

/** GETATTR, STATX and SETATTR say whether their handle counts. */
function usesHandle(opcode: OpcodeName, value: StructValue): boolean {
  if (opcode === 'GETATTR' || opcode === 'STATX') return (Number(value.getattr_flags) & FUSE_GETATTR_FH) !== 0;
  return opcode !== 'SETATTR' || (Number(value.valid) & FATTR_FH) !== 0;
}

/** A listing may go on by READDIR where READDIRPLUS began it (FUSE_READDIRPLUS_AUTO). */
function listingKey(request: RequestMessage): string {
  return `${String(request.header.nodeid)}:${String(request.structs[0]?.value.fh)}`;
}

function lastCookie(reply: ReplyMessage): bigint | undefined {
  return reply.entries?.at(-1)?.dirent.off as bigint | undefined;
}

async function sleepUntil(at: number): Promise<void> {
  const left = at - performance.now();
  if (left > 0) await new Promise((resolve) => setTimeout(resolve, left));
}
