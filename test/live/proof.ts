/**
 * Proofs for docs/MATRIX.md: a live test says which row of the protocol's table it showed at work, after its assertions. They
 * travel with the test's result to test/live/proof-reporter.ts, which counts them only when the test passed.
 *
 * A claim is checked against what went over the device of the mounts of this process while the test ran: an opcode must have come
 * from the kernel and been answered without an error, a notification must have been written and acted upon, a flag must have
 * been agreed on. A mount whose daemon is another thread or process is out of sight: there a flag needs the words `how`.
 */
import { expect, TestRunner } from 'vitest';
import {
  INIT_FLAGS,
  type InitFlag,
  NOTIFICATIONS,
  type NotificationName,
  OPCODES,
  type OpcodeName,
  opcodeNamed,
  opcodeRow,
} from '../../src/protocol/index.ts';
import { Notifier } from '../../src/session/notify.ts';
import { Session } from '../../src/session/session.ts';

export type ProofKind = 'opcode' | 'notification' | 'flag';

/** One claim of one test. */
export interface Proof {
  readonly kind: ProofKind;
  readonly name: string;
  /** How the test saw it, when that does not follow from its name. */
  readonly how?: string;
  /** Which try of the test made it: one of a try that failed counts for nothing. */
  readonly attempt: number;
  /** The newest protocol minor that this kernel speaks; 0 where no mount of this process told. */
  readonly kernelMinor: number;
}

declare module 'vitest' {
  interface TaskMeta {
    proofs?: Proof[];
  }
}

const NAMES: Readonly<Record<ProofKind, ReadonlySet<string>>> = {
  opcode: new Set<string>(OPCODES.map(({ name }) => name)),
  notification: new Set<string>(NOTIFICATIONS.map(({ name }) => name)),
  flag: new Set<string>(INIT_FLAGS.map(({ name }) => name)),
};

// --- what went over the device --------------------------------------------------------------------------------------

/** Of the test that runs now. */
const seen: Record<ProofKind, Set<string>> = { opcode: new Set(), notification: new Set(), flag: new Set() };
let watchedTest = '';
let kernelMinor = 0;

function attemptOf(test: NonNullable<ReturnType<typeof TestRunner.getCurrentTest>>): number {
  return test.result?.retryCount ?? 0;
}

function note(kind: ProofKind, name: string): void {
  const test = TestRunner.getCurrentTest();
  const key = test === undefined ? '' : `${test.id} ${attemptOf(test)} ${test.result?.repeatCount ?? 0}`;
  if (key !== watchedTest) {
    for (const set of Object.values(seen)) set.clear();
    watchedTest = key;
  }
  seen[kind].add(name);
}

/** Those behind which there is a kernel; the simulated one proves nothing. */
const LIVE_CHANNELS = new Set(['DeviceChannel', 'RingChannel', 'RecordedChannel']);

function noteConnection(session: Session): boolean {
  if (!LIVE_CHANNELS.has(session.channel.constructor.name)) return false;
  for (const flag of session.negotiated.flags) note('flag', flag);
  kernelMinor = session.negotiated.kernelMinor;
  note('opcode', 'INIT');
  return true;
}

const { onMessage, answer, answerParts } = Session.prototype;

Session.prototype.onMessage = function (buffer, length) {
  const row = opcodeRow(buffer.words[1]);
  // What takes no answer is done when it has come.
  if (noteConnection(this) && row?.hasReply === false) note('opcode', row.name);
  onMessage.call(this, buffer, length);
};
Session.prototype.answer = function (exchange, buffer, bodyBytes) {
  const { opcode } = exchange;
  answer.call(this, exchange, buffer, bodyBytes);
  if (noteConnection(this)) note('opcode', opcodeRow(opcode)!.name);
};
Session.prototype.answerParts = function (exchange, parts) {
  const { opcode } = exchange;
  answerParts.call(this, exchange, parts);
  if (noteConnection(this)) note('opcode', opcodeRow(opcode)!.name);
};

type Telling = (...args: never[]) => Promise<unknown>;

function watchNotification(
  method: keyof Notifier,
  name: NotificationName,
  counts: (args: readonly unknown[]) => boolean = () => true,
): void {
  const prototype = Notifier.prototype as unknown as Record<string, Telling>;
  const tell = prototype[method];
  prototype[method] = async function (this: Notifier, ...args: never[]) {
    const result = await tell.apply(this, args);
    if (counts(args)) note('notification', name);
    return result;
  };
}

watchNotification('wakePoll', 'POLL');
watchNotification('invalidateData', 'INVAL_INODE');
watchNotification('invalidateEntry', 'INVAL_ENTRY');
watchNotification('store', 'STORE');
watchNotification('retrieve', 'RETRIEVE');
watchNotification('removed', 'DELETE', ([, , node]) => node !== undefined);
watchNotification('resend', 'RESEND');
watchNotification('expireAll', 'INC_EPOCH');
watchNotification('prune', 'PRUNE');

// --- claims ---------------------------------------------------------------------------------------------------------

export function prove(kind: 'opcode', name: OpcodeName, how?: string): void;
export function prove(kind: 'notification', name: NotificationName, how?: string): void;
export function prove(kind: 'flag', name: InitFlag, how?: string): void;
/**
 * Says, after the assertions of a live test, that the kernel sent this opcode, or acted on this notification or flag. Throws when
 * nothing of the kind went over the device during the test.
 */
export function prove(kind: ProofKind, name: string, how?: string): void {
  const test = TestRunner.getCurrentTest();
  if (test === undefined) throw new Error(`prove(${kind}, ${name}) belongs into a test`);
  if (!NAMES[kind].has(name)) throw new Error(`the table has no ${kind} ${name}`);
  expect(expect.getState().testPath, 'only a live test proves anything').toContain('/test/live/');
  const outOfSight = kind === 'flag' && how !== undefined;
  if (!outOfSight && !seen[kind].has(name)) {
    const value = kind === 'opcode' ? ` ${opcodeNamed(name as OpcodeName).value}` : '';
    throw new Error(`no ${kind} ${name}${value} went over the device during this test, or it was answered with an error`);
  }
  test.meta.proofs ??= [];
  test.meta.proofs.push({ kind, name, ...(how === undefined ? {} : { how }), attempt: attemptOf(test), kernelMinor });
}

/** The same for several rows. */
export function proveOpcodes(...names: readonly OpcodeName[]): void {
  for (const name of names) prove('opcode', name);
}
