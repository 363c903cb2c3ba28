/**
 * Replay without a filesystem: the recorded replies are decoded, said by an author's methods, and encoded again by the session. What
 * then differs from the recording is a fault of the codecs, the operations or the session, or one of the {@link ScriptedRule}s.
 */
import type { DirectoryReply, Filesystem } from '../filesystem/index.ts';
import { capabilitiesOf, operationsOf } from '../filesystem/index.ts';
import {
  type Agreement,
  compareMessages,
  decodeInitFlags,
  decodeInitIn,
  decodeReply,
  encodeMessage,
  INIT_FLAGS,
  type InitFlag,
  newInitIn,
  OPCODES,
  opcodeNamed,
  type ReplyMessage,
  type RequestFacts,
  type StructValue,
} from '../protocol/index.ts';
import { CAPABILITIES, type Kernel, MINOR_FLOOR, negotiate, Session, type SessionSettings } from '../session/index.ts';
import {
  followTrace,
  type Messages,
  type NotificationEvent,
  type ReplyEvent,
  type RequestEvent,
  type TraceEvent,
} from './follow.ts';
import { type ReplayLimits, type ReplayReport, ReplayTally } from './replay-report.ts';
import { initRequest, modernised, ReplayWire, replayAgreement } from './replay-wire.ts';
import { answerOf } from './scripted-answers.ts';
import { describeRequest, fieldDifferences, ruleOf, type ScriptedRule } from './scripted-rules.ts';

/** A reply of the trace, on its way through a method. */
interface Cue {
  readonly reply: ReplyMessage | undefined;
  /** The reply is the next message of the trace: the method answers at once. Otherwise with a promise. */
  readonly isNext: boolean;
  /** Answers; set by a method that made a promise. */
  settle: (() => void) | undefined;
}

/** A filesystem whose methods say what a trace says. */
export class ScriptedFilesystem {
  readonly filesystem: Filesystem;
  kernel: Kernel | undefined;
  /** What the next call of a method answers. */
  cue: Cue | undefined;

  constructor(settings: NonNullable<Filesystem['settings']>, absent: ReadonlySet<string>) {
    const methods = new Set(OPCODES.flatMap(({ method }) => (method === undefined ? [] : [method])));
    const filesystem: Record<string, unknown> = {
      settings: { nameEncoding: 'binary', cache: 'none', ...settings },
      init: (_negotiated: unknown, kernel: Kernel) => {
        this.kernel = kernel;
      },
    };
    for (const method of methods) if (!absent.has(method)) filesystem[method] = (...given: unknown[]) => this.#call(given);
    filesystem.forget = () => {};
    this.filesystem = filesystem as Filesystem;
  }

  #call(given: readonly unknown[]): unknown {
    const { cue } = this;
    this.cue = undefined;
    // What the library takes back of its own accord (a refused opening) is in no trace.
    if (cue === undefined) return undefined;
    const room = given[2] as DirectoryReply | undefined;
    const { reply } = cue;
    if (reply !== undefined && cue.isNext) return answerOf(reply, room);
    return new Promise((resolve, reject) => {
      if (reply === undefined) return;
      cue.settle = () => {
        try {
          resolve(answerOf(reply, room));
        } catch (error) {
          reject(error);
        }
      };
    });
  }
}

/** How a scripted replay went: {@link ReplayReport}, and how many answers were equal in which way. */
export interface ScriptedReport extends ReplayReport {
  /** Answers equal to the last byte, among {@link ReplayReport.same}. */
  readonly identical: number;
  /** Answers that differ only in padding, which ours leaves zero, among {@link ReplayReport.same}. */
  readonly padding: number;
  /** Replays of sessions older than the library speaks: their messages were compared in today's layout. */
  readonly modernised: number;
  /** Differences that no rule explains. */
  readonly unexplained: number;
  /** Differences by the rule that explains them. */
  readonly rules: ReadonlyMap<ScriptedRule, number>;
  /** Notifications written again through {@link Kernel} to the same bytes. */
  readonly notificationsSame: number;
}

/** Replays a trace through this library, with an author who says what the recorded daemon said. */
export async function replayScripted(messages: Messages, limits: ReplayLimits = {}): Promise<ScriptedReport> {
  const byConnection = new Map<number, TraceEvent[]>();
  for await (const event of followTrace(messages)) {
    const events = byConnection.get(event.connection) ?? [];
    events.push(event);
    byConnection.set(event.connection, events);
  }
  const run = new ScriptedTally(limits);
  for (const events of byConnection.values()) await new ScriptedConnection(events, run, limits).run();
  const { identical, padding, modernised: old, unexplained, rules, notificationsSame } = run;
  return { ...run.report(), identical, padding, modernised: old, unexplained, rules, notificationsSame };
}

class ScriptedTally extends ReplayTally {
  identical = 0;
  padding = 0;
  modernised = 0;
  unexplained = 0;
  notificationsSame = 0;
  readonly rules = new Map<ScriptedRule, number>();
}

/** INIT flags that follow from a method, so that they are in force exactly when it exists. */
const FLAG_BY_METHOD: readonly (readonly [method: 'open' | 'opendir', flag: InitFlag])[] = [
  ['open', 'FUSE_NO_OPEN_SUPPORT'],
  ['opendir', 'FUSE_NO_OPENDIR_SUPPORT'],
];

class ScriptedConnection {
  readonly #events: readonly TraceEvent[];
  readonly #tally: ScriptedTally;
  readonly #answerMs: number;
  readonly #replies = new Map<RequestEvent, ReplyEvent>();
  readonly #cues = new Map<RequestEvent, Cue>();
  readonly #verdicts = new Map<bigint, number>();
  readonly #agreed: Agreement;
  readonly #isOld: boolean;
  #wire!: ReplayWire;
  #script!: ScriptedFilesystem;

  constructor(events: readonly TraceEvent[], tally: ScriptedTally, limits: ReplayLimits) {
    this.#events = events;
    this.#tally = tally;
    this.#answerMs = limits.answerMs ?? 5000;
    for (const event of events) if (event.kind === 'reply') this.#replies.set(event.request, event);
    const recorded = this.#events.at(-1)?.agreed ?? { minor: MINOR_FLOOR, flags: new Set<InitFlag>() };
    this.#agreed = replayAgreement(recorded, MINOR_FLOOR);
    this.#isOld = this.#agreed !== recorded;
  }

  async run(): Promise<void> {
    const first = this.#events[0];
    const init = first?.kind === 'request' && first.message.opcode === 'INIT' ? first : undefined;
    await this.#begin(init);
    for (const [index, event] of this.#events.entries()) {
      if (event.kind === 'request' && event !== init) this.#ask(event, index);
      else if (event.kind === 'reply' && event.request !== init) await this.#answered(event);
      else if (event.kind === 'notification') await this.#notified(event);
    }
    await this.#wire.close();
  }

  // --- INIT ------------------------------------------------------------------------------------------------------------

  async #begin(init: RequestEvent | undefined): Promise<void> {
    const reply = init && this.#replies.get(init)?.message;
    const value = reply?.structs[0]?.value ?? {};
    const offered = flagsOf(init?.message.structs[0]?.value ?? {});
    const taken = this.#agreed.flags;
    const absent = new Set(
      FLAG_BY_METHOD.filter(([method, flag]) => this.#isAbsent(method, taken.has(flag))).map(([method]) => method),
    );
    const capabilities = requestable(taken, absent);
    this.#script = new ScriptedFilesystem({ capabilities }, absent);
    const settings = settingsOf(value, offered, taken);
    const largest = Math.max(...this.#events.map(({ trace }) => trace.bytes.length));
    const verdict = (unique: bigint) => this.#verdicts.get(unique) ?? 0;
    this.#wire = new ReplayWire(
      (channel) => new Session(channel, operationsOf(this.#script.filesystem), { settings, limits: { slowMs: 0 } }),
      { messageBytesMax: largest, answerMs: this.#answerMs, verdict },
    );
    await this.#wire.open();
    const asRecorded = init !== undefined && reply !== undefined && this.#agreesAsRecorded(init, settings);
    const unique = init?.unique ?? 1n;
    if (asRecorded) this.#wire.send(init.trace.bytes);
    else this.#wire.send(initRequest(unique, this.#agreed, 131_072));
    const answer = await this.#wire.answer(unique);
    if (init === undefined) return;
    this.#tally.requests++;
    if (reply === undefined || answer === undefined) this.#tally.skip('never answered in the trace');
    else this.#compare(init, this.#replies.get(init)!, answer, asRecorded);
  }

  /** Whether a method is missing in the recorded daemon: its first answer would be ENOSYS. */
  #isAbsent(method: 'open' | 'opendir', flagTaken: boolean): boolean {
    const opcode = method === 'open' ? 'OPEN' : 'OPENDIR';
    for (const [request, { message }] of this.#replies)
      if (request.message.opcode === opcode && (message.header.error as number) === 0) return false;
    return flagTaken;
  }

  /** Whether our own answer to the recorded INIT agrees on what decides the layout of messages. */
  #agreesAsRecorded(init: RequestEvent, settings: SessionSettings): boolean {
    if (this.#isOld) return false;
    const words = new Uint32Array(new Uint8Array(Math.ceil(init.trace.bytes.length / 4) * 4).buffer);
    new Uint8Array(words.buffer).set(init.trace.bytes);
    const wire = newInitIn();
    decodeInitIn(words, 10, wire, init.trace.bytes.length - 40);
    try {
      const { minor, flags } = negotiate(wire, capabilitiesOf(this.#script.filesystem), settings);
      const layout = ['FUSE_SETXATTR_EXT', 'FUSE_SECURITY_CTX'] as const;
      return minor === this.#agreed.minor && layout.every((flag) => flags.has(flag) === this.#agreed.flags.has(flag));
    } catch {
      return false;
    }
  }

  // --- requests ----------------------------------------------------------------------------------------------------------

  #ask(event: RequestEvent, index: number): void {
    const reply = this.#replies.get(event);
    this.#tally.requests++;
    const refused = reply?.trace.errno;
    if (refused !== undefined) this.#verdicts.set(event.unique, -refused);
    const next = this.#events[index + 1];
    const cue: Cue = { reply: reply?.message, isNext: next !== undefined && next === reply, settle: undefined };
    this.#cues.set(event, cue);
    this.#script.cue = cue;
    const bytes = this.#isOld ? encodeMessage(modernised(event.message, this.#agreed)) : event.trace.bytes;
    this.#wire.send(bytes);
    this.#script.cue = undefined;
    if (reply === undefined) this.#unanswered(event);
  }

  #unanswered(event: RequestEvent): void {
    if (!opcodeNamed(event.message.opcode).hasReply) this.#tally.skip('without an answer by nature');
    else this.#tally.skip('never answered in the trace');
  }

  async #answered(event: ReplyEvent): Promise<void> {
    const { request, message } = event;
    if (message.malformed !== undefined) return this.#tally.skip('malformed in the trace, and refused by the kernel');
    if (request.message.opcode === 'INTERRUPT') {
      return this.#differ(request, 'interrupt', 'the daemon answered it, the library never does');
    }
    this.#cues.get(request)?.settle?.();
    this.#cues.delete(request);
    const answer = await this.#wire.answer(request.unique);
    if (answer === undefined) return this.#differ(request, undefined, `no answer within ${this.#answerMs} ms`);
    this.#compare(request, event, answer, true);
  }

  #compare(request: RequestEvent, recorded: ReplyEvent, answer: Uint8Array, byBytes: boolean): void {
    const tally = this.#tally;
    if (byBytes && !this.#isOld && Buffer.compare(answer, recorded.trace.bytes) === 0) {
      tally.identical++;
      tally.same++;
      return;
    }
    const facts: RequestFacts = { opcode: request.message.opcode, size: undefined };
    const limited = opcodeNamed(facts.opcode).reply.limitedBy;
    const size = limited === undefined ? undefined : (request.message.structs[0]?.value[limited] as number);
    const now = decodeReply(answer, this.#agreed, { ...facts, size });
    if (now.kind === 'failure') {
      this.#differ(request, undefined, `the answer does not decode: ${now.message}`);
      return;
    }
    const before = this.#isOld ? modernised(recorded.message, this.#agreed) : recorded.message;
    const comparison = compareMessages(before, now);
    if (comparison === 'different') {
      const differences = fieldDifferences(before, now);
      const text = differences.map(({ field, recorded: was, now: is }) => `${field} recorded ${was}, now ${is}`).join('; ');
      this.#differ(request, ruleOf(request.message, before, now, differences), text);
      return;
    }
    tally.same++;
    if (this.#isOld) tally.modernised++;
    else if (comparison === 'padding') tally.padding++;
    else tally.identical++;
  }

  #differ(request: RequestEvent, rule: ScriptedRule | undefined, what: string): void {
    const { index, message } = request;
    const text = `${describeRequest(message)}: ${what}`;
    this.#tally.differ({ index, opcode: message.opcode, text, ...(rule === undefined ? {} : { rule }) });
    if (rule === undefined) this.#tally.unexplained++;
    else this.#tally.rules.set(rule, (this.#tally.rules.get(rule) ?? 0) + 1);
  }

  // --- notifications -----------------------------------------------------------------------------------------------------

  async #notified(event: NotificationEvent): Promise<void> {
    const { kernel } = this.#script;
    this.#tally.notifications++;
    if (kernel === undefined) return;
    const count = this.#wire.notifications.length;
    this.#wire.notificationVerdict = -(event.trace.errno ?? 0);
    const told = notify(kernel, event);
    // The answer to RETRIEVE is a request of its own, which the trace brings later.
    if (event.message.notification === 'RETRIEVE') void told.catch(() => {});
    else await told.catch(() => {});
    this.#wire.notificationVerdict = 0;
    const written = this.#wire.notifications[count];
    const wanted = event.trace.bytes.slice();
    // The session numbers its own questions.
    if (event.message.notification === 'RETRIEVE' && written !== undefined) wanted.set(written.subarray(16, 24), 16);
    if (written !== undefined && Buffer.compare(written, wanted) === 0) this.#tally.notificationsSame++;
  }
}

function flagsOf(value: StructValue): Set<InitFlag> {
  return decodeInitFlags(Number(value.flags ?? 0), Number(value.flags2 ?? 0));
}

/** Those of the flags that a filesystem can ask for. */
function requestable(taken: ReadonlySet<InitFlag>, absent: ReadonlySet<string>): InitFlag[] {
  const wanted = [...taken].filter((flag) => CAPABILITIES[flag].kind === 'request');
  return wanted.filter(
    (flag) =>
      (flag !== 'FUSE_NO_OPENDIR_SUPPORT' || absent.has('opendir')) &&
      (flag !== 'FUSE_ATOMIC_O_TRUNC' || !absent.has('open')) &&
      // Each needs what the other brings; a daemon that took one alone is answered as one that took neither.
      (flag !== 'FUSE_POSIX_ACL' || taken.has('FUSE_DONT_MASK')) &&
      (flag !== 'FUSE_EXPORT_SUPPORT' || !taken.has('FUSE_NO_EXPORT_SUPPORT')),
  );
}

/** Settings with which a session answers INIT as the recorded daemon did. */
function settingsOf(value: StructValue, offered: ReadonlySet<InitFlag>, taken: ReadonlySet<InitFlag>): SessionSettings {
  const number = (field: string): number => Number((value[field] as number | undefined) ?? 0);
  const some = <Name extends string>(name: Name, given: number, least: number) =>
    given >= least ? ({ [name]: given } as { [Key in Name]: number }) : {};
  return {
    ...some('maxWrite', number('max_write'), 4096),
    ...some('maxPages', number('max_pages'), 1),
    ...some('maxBackground', number('max_background'), 1),
    ...some('congestionThreshold', number('congestion_threshold'), 1),
    ...(value.max_readahead === undefined ? {} : { maxReadahead: number('max_readahead') }),
    ...some('timeGranularityNs', number('time_gran'), 1),
    ...(taken.has('FUSE_REQUEST_TIMEOUT') ? some('requestTimeoutSeconds', number('request_timeout'), 1) : {}),
    readdirplus: taken.has('FUSE_READDIRPLUS_AUTO') ? 'auto' : taken.has('FUSE_DO_READDIRPLUS') ? 'always' : 'never',
    writeback: taken.has('FUSE_WRITEBACK_CACHE'),
    asyncDio: taken.has('FUSE_ASYNC_DIO'),
    defaultPermissions: true,
    refuseFlags: INIT_FLAGS.map(({ name }) => name).filter((flag) => offered.has(flag) && !taken.has(flag)),
  };
}

/** Says a notification through the interface that authors have. */
function notify(kernel: Kernel, { message }: NotificationEvent): Promise<unknown> {
  const value = message.structs[0]?.value ?? {};
  const number = (field: string): number => Number((value[field] as number | bigint | undefined) ?? 0);
  const name = message.names[0] ?? '';
  switch (message.notification) {
    case 'POLL': {
      const kh = (value.kh ?? 0n) as bigint;
      return kernel.wakePoll(Number(kh & 0xffff_ffffn), Number(kh >> 32n));
    }
    case 'INVAL_INODE':
      return kernel.invalidateData(number('ino'), number('off'), number('len'));
    case 'INVAL_ENTRY':
      return kernel.invalidateEntry(number('parent'), name, number('flags') !== 0);
    case 'STORE':
      return kernel.store(number('nodeid'), number('offset'), message.data ?? new Uint8Array(0));
    case 'RETRIEVE':
      return kernel.retrieve(number('nodeid'), number('offset'), number('size'));
    case 'DELETE':
      return kernel.removed(number('parent'), name, number('child'));
    case 'RESEND':
      return kernel.resend();
    case 'INC_EPOCH':
      return kernel.expireAll();
    case 'PRUNE':
      return kernel.prune((message.nodeids ?? []).map(Number));
  }
}
