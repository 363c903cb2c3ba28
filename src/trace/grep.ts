/** Finding messages: requests with their answers, by what they ask, of what, by whom, and what came of it. */
import { followTrace, type Messages, type ReplyEvent, type RequestEvent, type TraceEvent } from './follow.ts';
import type { TraceMessage } from './message.ts';
import { type Names, TraceNames, utf8Text } from './names.ts';

/** All that is given must hold. */
export interface GrepQuery {
  /** Opcodes, or notifications as `NOTIFY_INVAL_INODE`; one of them. */
  readonly opcodes?: readonly string[];
  /** Positive errnos of the answer; one of them. `any`: whatever failed. */
  readonly errnos?: readonly number[] | 'any';
  /** Matches the path of the node, or of a name in the message. */
  readonly path?: RegExp;
  readonly nodeid?: bigint;
  readonly pid?: number;
  readonly uid?: number;
  /** Microseconds that the answer took at least. Requests that are never answered took for ever. */
  readonly durationMin?: number;
}

/** The places in the trace of the messages that match: requests with their answers, and notifications. */
export async function grepTrace(messages: Messages, query: GrepQuery): Promise<Set<number>> {
  const found = new Set<number>();
  const names = new TraceNames();
  /** Requests that match as far as they go. */
  const open = new Map<number, RequestEvent>();
  for await (const event of followTrace(messages)) {
    const own = names.of(event);
    if (event.kind === 'request' && matchesRequest(event, query, own)) {
      if (event.wantsReply) open.set(event.index, event);
      else if (!asksOutcome(query)) found.add(event.index);
    } else if (event.kind === 'notification' && matchesNotification(event, query, own)) found.add(event.index);
    own.learn(event);
    if (event.kind !== 'reply' || !open.delete(event.request.index)) continue;
    if (!matchesOutcome(event, query)) continue;
    found.add(event.request.index);
    found.add(event.index);
  }
  if (query.errnos === undefined) for (const index of open.keys()) found.add(index);
  return found;
}

/**
 * The messages that match together with what is needed to decode them: INIT, its answer, and clones. A reader of the result
 * sees the same sizes. Reads the trace twice: give it a function that opens it.
 */
export async function* grepMessages(open: () => Messages, query: GrepQuery): AsyncGenerator<TraceMessage> {
  const found = await grepTrace(open(), query);
  for await (const event of followTrace(open())) if (found.has(event.index) || isNeeded(event)) yield event.trace;
}

function isNeeded(event: TraceEvent): boolean {
  if (event.kind === 'ioctl') return true;
  const opcode = event.kind === 'request' || event.kind === 'reply' ? event.message.opcode : undefined;
  return opcode === 'INIT' || opcode === 'CUSE_INIT';
}

function asksOutcome({ errnos, durationMin }: GrepQuery): boolean {
  return errnos !== undefined || durationMin !== undefined;
}

function matchesRequest(event: RequestEvent, query: GrepQuery, names: Names): boolean {
  const { message } = event;
  const { header } = message;
  if (query.opcodes !== undefined && !query.opcodes.includes(message.opcode)) return false;
  if (query.pid !== undefined && header.pid !== query.pid) return false;
  if (query.uid !== undefined && header.uid !== query.uid) return false;
  if (query.nodeid !== undefined && !nodesOf(event).includes(query.nodeid)) return false;
  const { path } = query;
  if (path === undefined) return true;
  const nodeid = header.nodeid as bigint;
  if (nodeid !== 0n && matches(path, names.pathOf(nodeid))) return true;
  return message.names.some((name) => matches(path, name) || (nodeid !== 0n && matches(path, names.join(nodeid, name))));
}

/** Every node that a request is about. */
function nodesOf({ message }: RequestEvent): bigint[] {
  const value = message.structs[0]?.value ?? {};
  const others = ['newdir', 'oldnodeid', 'nodeid_out'].flatMap((field) =>
    typeof value[field] === 'bigint' ? [value[field]] : [],
  );
  const forgotten = (message.records ?? []).flatMap(({ nodeid }) => (typeof nodeid === 'bigint' ? [nodeid] : []));
  return [message.header.nodeid as bigint, ...others, ...forgotten];
}

function matchesOutcome({ message, duration }: ReplyEvent, { errnos, durationMin }: GrepQuery): boolean {
  const errno = -(message.header.error as number) || 0;
  if (durationMin !== undefined && duration < durationMin) return false;
  if (errnos === undefined) return true;
  return errnos === 'any' ? errno !== 0 : errnos.includes(errno);
}

function matchesNotification(event: Extract<TraceEvent, { kind: 'notification' }>, query: GrepQuery, names: Names): boolean {
  const { message } = event;
  if (asksOutcome(query) || query.pid !== undefined || query.uid !== undefined) return false;
  if (query.opcodes !== undefined && !query.opcodes.includes(`NOTIFY_${message.notification}`)) return false;
  const value = message.structs[0]?.value ?? {};
  const fields = ['nodeid', 'ino', 'parent', 'child'].flatMap((field) =>
    typeof value[field] === 'bigint' ? [value[field]] : [],
  );
  const nodes = [...fields, ...(message.nodeids ?? [])];
  if (query.nodeid !== undefined && !nodes.includes(query.nodeid)) return false;
  const { path } = query;
  if (path === undefined) return true;
  return nodes.some((nodeid) => matches(path, names.pathOf(nodeid))) || message.names.some((name) => matches(path, name));
}

function matches(pattern: RegExp, binary: string): boolean {
  pattern.lastIndex = 0;
  return pattern.test(utf8Text(binary) ?? binary);
}
