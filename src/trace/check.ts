/** Whether every message of a trace decodes, and encodes to the same bytes. */
import { type Comparison, checkMessage } from '../protocol/index.ts';
import { followTrace, type Messages, type Opaque, type TraceEvent } from './follow.ts';

export type Verdict = Comparison | 'opaque' | 'undecodable';

/** A message that is different, or that cannot be decoded. */
export interface CheckFinding {
  readonly index: number;
  /** Microseconds since the recording began. */
  readonly t: number;
  readonly dir: 'in' | 'out' | 'ioctl';
  readonly verdict: 'different' | 'undecodable';
  /** Stable: a {@link DecodeFailure} code, or DIFFERENT. */
  readonly code: string;
  /** One sentence. */
  readonly reason: string;
}

export interface CheckReport {
  readonly messages: number;
  /** Of these: the ones that differ in padding alone, and the ones that were kept as they came. */
  readonly identical: number;
  readonly different: number;
  readonly undecodable: number;
  /** Identical but for bytes that nobody reads. */
  readonly padding: number;
  /** Messages without a meaning to check, by the reason; their headers are whole, and their bytes stand for themselves. */
  readonly opaque: Readonly<Record<Opaque, number>>;
  /** The first bad messages, as many as were asked for. */
  readonly findings: readonly CheckFinding[];
}

export interface CheckOptions {
  /** Bad messages that are kept in the report. Default 1000. */
  readonly findingsMax?: number;
  /** Called for each bad message. */
  readonly onFinding?: (finding: CheckFinding) => void;
}

/** What {@link checkTrace} makes of one message. */
export function verdictOf(event: TraceEvent): Verdict {
  if (event.kind === 'broken') return 'undecodable';
  if (event.kind === 'opaque') return 'opaque';
  return checkMessage(event.bytes, event.message);
}

/** Decodes and encodes every message of a trace. A good trace has 0 different and 0 undecodable. */
export async function checkTrace(messages: Messages, options: CheckOptions = {}): Promise<CheckReport> {
  const { findingsMax = 1000, onFinding } = options;
  const counts = { messages: 0, identical: 0, different: 0, undecodable: 0, padding: 0 };
  const opaque: Record<Opaque, number> = { unasked: 0, refused: 0, foreign: 0, empty: 0 };
  const findings: CheckFinding[] = [];
  for await (const event of followTrace(messages)) {
    const verdict = verdictOf(event);
    counts.messages += 1;
    if (verdict === 'identical' || verdict === 'padding' || verdict === 'opaque') {
      counts.identical += 1;
      if (verdict === 'padding') counts.padding += 1;
      if (event.kind === 'opaque') opaque[event.why] += 1;
      continue;
    }
    counts[verdict] += 1;
    const finding = findingOf(event, verdict);
    if (findings.length < findingsMax) findings.push(finding);
    onFinding?.(finding);
  }
  return { ...counts, opaque, findings };
}

function findingOf(event: TraceEvent, verdict: 'different' | 'undecodable'): CheckFinding {
  const { index, trace } = event;
  const place = { index, t: trace.t, dir: trace.dir, verdict };
  if (event.kind === 'broken') {
    const { code, at, message } = event.failure;
    return { ...place, code, reason: `${message} (byte ${at} of ${event.bytes.length})` };
  }
  const name = event.kind === 'request' || event.kind === 'reply' ? event.message.opcode : event.kind;
  return { ...place, code: 'DIFFERENT', reason: `The ${name} ${event.kind} does not encode to the bytes that it came from.` };
}
