/** A trace as lines: a request and its answer on one, or one a message in order; or as JSON, one object a message. */
import { type DirectoryRecord, decodeBinary, type Message, type StructValue } from '../protocol/index.ts';
import { type ExplainOptions, type Explanation, explain } from './explain.ts';
import { Follower, followTrace, type Messages, type RequestEvent, type TraceEvent } from './follow.ts';
import { errnoName } from './linux.ts';
import { type Names, TraceNames, utf8Text } from './names.ts';

export interface ShowOptions extends Omit<ExplainOptions, 'names'> {
  /** An answer stands on the line of its request when it comes soon. Default true. */
  readonly pairs?: boolean;
  /** Messages that may come between a request and an answer on its line. Default 256. */
  readonly near?: number;
  /** Microseconds of the trace: earlier and later messages are not shown, though names are learned from them. */
  readonly from?: number;
  readonly to?: number;
  /** Lines at most. */
  readonly limit?: number;
  /** Which messages are shown, by their place in the trace. Default all. */
  readonly only?: (index: number) => boolean;
  /** Escape sequences of colour. Default false. */
  readonly colour?: boolean;
}

/** A line of {@link showTrace}. */
interface Row {
  readonly event: TraceEvent;
  readonly text: (outcome: string | undefined) => string;
  outcome?: string;
  done: boolean;
}

const NEAR = 256;

const PAINT = { dim: '\u001b[2m', red: '\u001b[31m', yellow: '\u001b[33m', cyan: '\u001b[36m', off: '\u001b[0m' } as const;

/** The lines of a trace. */
export async function* showTrace(messages: Messages, options: ShowOptions = {}): AsyncGenerator<string> {
  const shower = new Shower(options);
  const { limit = Number.POSITIVE_INFINITY } = options;
  if (limit <= 0) return;
  let shown = 0;
  const follower = new Follower();
  for await (const event of followTrace(messages, follower)) {
    for (const line of shower.feed(event)) {
      yield line;
      if (++shown >= limit) return;
    }
    if (shower.isPast(event)) break;
  }
  for (const line of shower.end(follower)) {
    yield line;
    if (++shown >= limit) return;
  }
}

class Shower {
  readonly #options: ShowOptions;
  readonly #names = new TraceNames();
  readonly #queue: Row[] = [];
  /** Rows that wait for their answers. */
  readonly #open = new Map<number, Row>();
  #past = 0;

  constructor(options: ShowOptions) {
    this.#options = options;
  }

  /** Whether nothing that follows is shown any more. */
  isPast({ trace }: TraceEvent): boolean {
    const { to = Number.POSITIVE_INFINITY, near = NEAR } = this.#options;
    if (trace.t <= to) return false;
    this.#past += 1;
    return this.#queue.length === 0 || this.#past > near;
  }

  *feed(event: TraceEvent): Generator<string> {
    const names = this.#names.of(event);
    // The paths of a request are those before it; a reply is shown with what it brought.
    const explained = event.kind === 'reply' ? undefined : explain(event, { ...this.#options, names });
    names.learn(event);
    const { pairs = true, near = NEAR } = this.#options;
    if (event.kind === 'reply') {
      const row = pairs ? this.#open.get(event.request.index) : undefined;
      if (row !== undefined) {
        this.#open.delete(event.request.index);
        row.outcome = this.#outcome(explain(event, { ...this.#options, names }), event.duration);
        row.done = true;
      } else if (this.#isWanted(event)) this.#queue.push(this.#replyRow(event, names));
    } else if (this.#isWanted(event)) this.#queue.push(this.#row(event, explained!, pairs));
    while (this.#queue.length > 0) {
      const [row] = this.#queue as [Row];
      if (!row.done && event.index - row.event.index < near) return;
      yield this.#shift(row);
    }
  }

  /** What is left at the end of the trace. */
  *end(follower: Follower): Generator<string> {
    const unanswered = new Set(follower.unanswered().map(({ index }) => index));
    for (const row of [...this.#queue]) {
      if (!row.done && unanswered.has(row.event.index))
        row.outcome = this.#paint('yellow', '<unanswered at the end of the trace>');
      yield this.#shift(row);
    }
  }

  #shift(row: Row): string {
    this.#queue.shift();
    this.#open.delete(row.event.index);
    return row.text(row.done || row.outcome !== undefined ? row.outcome : this.#paint('dim', '<answered below, if at all>'));
  }

  #isWanted({ trace, index }: TraceEvent): boolean {
    const { from = Number.NEGATIVE_INFINITY, to = Number.POSITIVE_INFINITY, only } = this.#options;
    return trace.t >= from && trace.t <= to && (only === undefined || only(index));
  }

  #row(event: TraceEvent, explained: Explanation, pairs: boolean): Row {
    const waits = pairs && event.kind === 'request' && event.wantsReply;
    const head = `${this.#head(event)} ${this.#call(explained)}`;
    const own = explained.result === undefined ? undefined : this.#outcome(explained);
    const text = (outcome: string | undefined) => {
      const end = outcome ?? own;
      return `${head}${end === undefined ? '' : ` ${end}`}${own === undefined ? this.#notes(explained) : ''}`;
    };
    const row: Row = { event, text, done: !waits };
    if (waits) this.#open.set(event.index, row);
    return row;
  }

  #replyRow(event: Extract<TraceEvent, { kind: 'reply' }>, names: Names): Row {
    const explained = explain(event, { ...this.#options, names });
    const outcome = this.#outcome(explained, event.duration);
    const head = `${this.#head(event)} ${this.#paint('dim', `<... ${explained.name} of ${seconds(event.request.trace.t)}>`)}`;
    return { event, text: () => `${head} ${outcome}`, done: true };
  }

  /** Time and caller: pid and uid of a request, `-` where nobody is known. */
  #head(event: TraceEvent): string {
    const header =
      event.kind === 'request' ? event.message.header : event.kind === 'reply' ? event.request.message.header : undefined;
    const who = header === undefined ? '-' : `${String(header.pid)}/${uid(header.uid as number)}`;
    return `${this.#paint('dim', seconds(event.trace.t).padStart(12))} ${who.padEnd(10)}`;
  }

  #call({ name, arguments: args }: Explanation): string {
    return args === undefined ? this.#paint('cyan', name) : `${this.#paint('cyan', name)}(${args})`;
  }

  #outcome(explained: Explanation, duration?: number): string {
    const { result, failed } = explained;
    const text = result === undefined ? '' : `= ${failed ? this.#paint('red', result) : result}`;
    const time = duration === undefined ? '' : ` ${this.#paint('dim', `<${seconds(duration)}>`)}`;
    return `${text}${this.#notes(explained)}${time}`;
  }

  #notes({ notes }: Explanation): string {
    return notes.map((note) => ` ${this.#paint('yellow', `[${note}]`)}`).join('');
  }

  #paint(colour: keyof typeof PAINT, text: string): string {
    return this.#options.colour === true ? `${PAINT[colour]}${text}${PAINT.off}` : text;
  }
}

/** Microseconds as seconds. */
function seconds(micros: number): string {
  return (micros / 1e6).toFixed(6);
}

function uid(value: number): string {
  return value === 0xffff_ffff ? '-' : String(value);
}

// --- JSON -----------------------------------------------------------------------------------------------------------------

/** Names and data may be any bytes: text where they are UTF-8, else `{ hex }`. */
type JsonText = string | { readonly hex: string };
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [name: string]: JsonValue };

/** A trace as JSON: one object a message, in order, complete. 64-bit numbers are strings. */
export async function* showTraceJson(
  messages: Messages,
  options: Pick<ShowOptions, 'from' | 'to' | 'limit' | 'only'> = {},
): AsyncGenerator<JsonValue> {
  const { from = Number.NEGATIVE_INFINITY, to = Number.POSITIVE_INFINITY, limit = Number.POSITIVE_INFINITY, only } = options;
  const names = new TraceNames();
  let shown = 0;
  for await (const event of followTrace(messages)) {
    const { t } = event.trace;
    if (t > to || shown >= limit) return;
    const own = names.of(event);
    const isWanted = t >= from && (only === undefined || only(event.index));
    const before = isWanted && event.kind === 'request' ? eventJson(event, own) : undefined;
    own.learn(event);
    if (!isWanted) continue;
    yield before ?? eventJson(event, own);
    shown += 1;
  }
}

/** An event as JSON. Field names are stable. */
export function eventJson(event: TraceEvent, names?: Names): JsonValue {
  const { trace, index, connection } = event;
  return {
    index,
    t: trace.t,
    dir: trace.dir,
    kind: event.kind,
    connection,
    ...(trace.channel === undefined ? {} : { channel: trace.channel }),
    ...(trace.via === undefined ? {} : { via: trace.via }),
    ...(trace.errno === undefined || trace.errno === 0 ? {} : { refused: errnoName(trace.errno) }),
    ...(trace.wholeBytes === undefined ? {} : { cut: true }),
    ...ownJson(event, names),
  };
}

function ownJson(event: TraceEvent, names: Names | undefined): { [name: string]: JsonValue } {
  switch (event.kind) {
    case 'request':
      return { ...requestJson(event, names), ...bodyJson(event.message), wantsReply: event.wantsReply };
    case 'reply': {
      const error = event.message.header.error as number;
      const { malformed } = event.message;
      return {
        ...requestJson(event.request, names),
        request: event.request.index,
        duration: event.duration,
        error: error === 0 ? null : errnoName(error),
        errno: -error || 0,
        ...(malformed === undefined ? {} : { malformed: { code: malformed.code, reason: malformed.message } }),
        ...bodyJson(event.message),
      };
    }
    case 'notification':
      return { notification: event.message.notification, ...bodyJson(event.message) };
    case 'ioctl': {
      const { word, ioctl } = event.message;
      return { ioctl, ...(word === undefined ? {} : { word }), result: event.trace.result ?? null, ...bodyJson(event.message) };
    }
    case 'opaque':
      return {
        why: event.why,
        ...(event.unique === undefined ? {} : { unique: String(event.unique) }),
        ...(event.error === undefined
          ? {}
          : { error: event.error === 0 ? null : errnoName(event.error), errno: -event.error || 0 }),
        hex: hexOf(event.bytes),
      };
    case 'broken': {
      const { code, at, message } = event.failure;
      return { failure: { code, at, reason: message }, hex: hexOf(event.bytes) };
    }
  }
}

function requestJson({ message, unique }: RequestEvent, names: Names | undefined): { [name: string]: JsonValue } {
  const { header, opcode } = message;
  return {
    opcode,
    unique: String(unique),
    nodeid: String(header.nodeid),
    ...(names === undefined || header.nodeid === 0n ? {} : { path: textJson(names.pathOf(header.nodeid as bigint)) }),
    uid: header.uid as number,
    gid: header.gid as number,
    pid: header.pid as number,
  };
}

function bodyJson(message: Message): { [name: string]: JsonValue } {
  const { structs, names, records, nodeids, entries, data, extensions, padding } = message;
  return {
    structs: Object.fromEntries(structs.map((part) => [part.name, structJson(part.value)])),
    ...(names.length === 0 ? {} : { names: names.map(textJson) }),
    ...(records === undefined ? {} : { records: records.map(structJson) }),
    ...(nodeids === undefined ? {} : { nodeids: nodeids.map(String) }),
    ...(entries === undefined ? {} : { entries: entries.map(entryJson) }),
    ...(data === undefined ? {} : { data: { bytes: data.length, hex: hexOf(data) } }),
    ...(extensions === undefined ? {} : { extensions: extensions.map(extensionJson) }),
    ...(padding.length === 0 ? {} : { padding: padding.map(({ at, bytes }) => ({ at, hex: hexOf(bytes) })) }),
  };
}

function structJson(value: StructValue): JsonValue {
  const fields = Object.entries(value).map(([name, own]): [string, JsonValue] => {
    if (typeof own === 'bigint') return [name, String(own)];
    if (typeof own === 'number') return [name, own];
    return [name, own instanceof Uint8Array ? hexOf(own) : structJson(own)];
  });
  return Object.fromEntries(fields);
}

function entryJson({ entry, dirent, name }: DirectoryRecord): JsonValue {
  return { name: textJson(name), dirent: structJson(dirent), ...(entry === undefined ? {} : { entry: structJson(entry) }) };
}

function extensionJson(record: NonNullable<Message['extensions']>[number]): JsonValue {
  if (record.kind === 'groups') return { kind: 'groups', groups: record.groups };
  if (record.kind === 'unknown') return { kind: 'unknown', type: record.type, hex: hexOf(record.data) };
  const contexts = record.contexts.map(({ name, value }) => ({
    name: textJson(name),
    value: textJson(decodeBinary(value, 0, value.length)),
  }));
  return { kind: 'contexts', contexts };
}

function textJson(binary: string): JsonText {
  return utf8Text(binary) ?? { hex: [...binary].map((char) => char.charCodeAt(0).toString(16).padStart(2, '0')).join('') };
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}
