/** Captured traffic in users' own tests, whatever runs them: what differs is thrown as an AssertionError of node:assert. */
import { AssertionError } from 'node:assert';
import type { Filesystem } from '../filesystem/index.ts';
import type { Message, RequestMessage } from '../protocol/index.ts';
import { followTrace, type Messages, type ReplyEvent, type RequestEvent } from './follow.ts';
import type { TraceMessage } from './message.ts';
import { readTrace } from './read.ts';
import { type ReplayOptions, replayTrace } from './replay.ts';
import { type CompareOptions, meaningDifferences } from './replay-compare.ts';
import { type ReplayReport, summarise } from './replay-report.ts';
import type { SessionFactory } from './replay-wire.ts';

/** All messages of a trace file, in order. For tests; larger traces are better read one by one with {@link readTrace}. */
export async function messagesOf(path: string): Promise<TraceMessage[]> {
  const messages: TraceMessage[] = [];
  for await (const message of readTrace(path)) messages.push({ ...message, bytes: message.bytes.slice() });
  return messages;
}

/** A path or the messages themselves. */
export type TraceSource = string | Messages;

const source = (trace: TraceSource): Messages => (typeof trace === 'string' ? readTrace(trace) : trace);

export interface ExpectTraceOptions extends ReplayOptions {
  /** Differences that are known and right: a text, or a pattern, that the difference's own text contains. Default: none. */
  readonly allowed?: readonly (string | RegExp)[];
}

/**
 * Replays a trace against a filesystem and throws an AssertionError that lists what it answers otherwise. Requests that had to be
 * skipped because they are about a file that is not there are a consequence of a difference, and not listed by themselves.
 */
export async function expectTrace(
  trace: TraceSource,
  target: Filesystem | SessionFactory,
  options: ExpectTraceOptions = {},
): Promise<ReplayReport> {
  const report = await replayTrace(source(trace), target, options);
  const { allowed = [] } = options;
  const isAllowed = (text: string) => allowed.some((one) => (typeof one === 'string' ? text.includes(one) : one.test(text)));
  const unexpected = report.differences.filter(({ text }) => !isAllowed(text));
  if (report.different > report.differences.length || unexpected.length > 0) {
    throw failed(
      `The filesystem does not answer as in the trace: ${summarise(report)}.`,
      unexpected.map(({ text }) => text),
    );
  }
  return report;
}

/**
 * Throws an AssertionError unless two traces tell the same: the same requests in the same order, and answers that mean the same.
 * What numbers anew in each session (ids, nodes, handles, positions in listings) is not compared; nor is time.
 */
export async function assertSameTrace(actual: TraceSource, expected: TraceSource, options: CompareOptions = {}): Promise<void> {
  const [one, other] = await Promise.all([exchanges(actual), exchanges(expected)]);
  const found: string[] = [];
  for (let index = 0; index < Math.max(one.length, other.length); index++) {
    const have = one[index];
    const want = other[index];
    if (have === undefined || want === undefined || question(have.request) !== question(want.request)) {
      found.push(
        `request ${index}: ${want ? question(want.request) : 'none'} expected, ${have ? question(have.request) : 'none'} found`,
      );
      break;
    }
    if ((have.reply === undefined) !== (want.reply === undefined)) {
      found.push(`request ${index}, ${question(want.request)}: ${want.reply ? 'answered' : 'not answered'} expected`);
    } else if (have.reply !== undefined && want.reply !== undefined) {
      const differences = meaningDifferences(want.reply.message, have.reply.message, options);
      if (differences.length > 0) found.push(`request ${index}, ${question(want.request)}: ${differences.join('; ')}`);
    }
  }
  if (found.length > 0) throw failed('The traces do not tell the same.', found);
}

interface Exchange {
  readonly request: RequestMessage;
  readonly reply: ReplyEvent | undefined;
}

async function exchanges(trace: TraceSource): Promise<Exchange[]> {
  const requests: RequestEvent[] = [];
  const replies = new Map<RequestEvent, ReplyEvent>();
  for await (const event of followTrace(source(trace))) {
    if (event.kind === 'request') requests.push(event);
    else if (event.kind === 'reply') replies.set(event.request, event);
  }
  return requests.map((request) => ({ request: request.message, reply: replies.get(request) }));
}

/** What a request asks, without what each session numbers anew. */
function question({ opcode, names, structs, data }: RequestMessage & Message): string {
  // What is offered depends on the kernel, and in a replay on the trace.
  if (opcode === 'INIT') return opcode;
  const value = structs[0]?.value ?? {};
  const asked = ['offset', 'size', 'length', 'mode', 'flags', 'whence', 'valid'].flatMap((field) =>
    value[field] === undefined || (field === 'offset' && opcode.startsWith('READDIR'))
      ? []
      : [`${field} ${String(value[field])}`],
  );
  const quoted = names.map((name) => JSON.stringify(name));
  return [opcode, ...quoted, ...asked, ...(data === undefined ? [] : [`${data.length} bytes`])].join(' ');
}

const SHOWN = 20;

function failed(what: string, differences: readonly string[]): AssertionError {
  const more = differences.length > SHOWN ? [`… and ${differences.length - SHOWN} more`] : [];
  const message = [what, ...differences.slice(0, SHOWN), ...more].join('\n  ');
  return new AssertionError({ message, actual: differences, expected: [], operator: 'expectTrace', stackStartFn: expectTrace });
}
