/** One message as one line, like the best of strace: who asked what of which file, and what came of it. */
import { type DirectoryRecord, decodeBinary, type Message, type OpcodeName, type StructPart } from '../protocol/index.ts';
import { type FieldContext, showFields } from './fields.ts';
import type { OpaqueEvent, ReplyEvent, RequestEvent, TraceEvent } from './follow.ts';
import { errnoName, type Machine } from './linux.ts';
import { displayText, type Names } from './names.ts';

export interface ExplainOptions {
  /** For the paths of nodes; without it a node is `#12`. */
  readonly names?: Names;
  /** Every field of every struct, also zeros and times. Default false. */
  readonly all?: boolean;
  /** Characters of data that are shown. Default 32. */
  readonly dataMax?: number;
  /** Whose O_* the trace has, x64 by default: those of ARM differ. */
  readonly machine?: Machine;
}

/** The parts of a line. */
export interface Explanation {
  /** The opcode; `NOTIFY_` and the notification; the ioctl. */
  readonly name: string;
  /** What stands in the brackets; undefined for a reply. */
  readonly arguments?: string;
  /** What came of it, without the `=`; undefined for a request. */
  readonly result?: string;
  /** Whether the result is an error. */
  readonly failed: boolean;
  /** What else is to be said: padding, a kernel that refused it, a body that is not as it should be. */
  readonly notes: readonly string[];
}

/** Entries, nodes or records of a list that are shown. */
const LIST_MAX = 8;

/** Requests whose first name stands in the directory of the header. */
const NAMES_IN_DIRECTORY = new Set<OpcodeName>([
  'LOOKUP',
  'SYMLINK',
  'MKNOD',
  'MKDIR',
  'UNLINK',
  'RMDIR',
  'RENAME',
  'LINK',
  'CREATE',
  'RENAME2',
]);
/** Requests that are about no node. */
const WITHOUT_NODE = new Set<OpcodeName>(['INIT', 'DESTROY', 'INTERRUPT', 'BATCH_FORGET', 'CUSE_INIT']);
/** The one field that a reply is about. */
const RESULT_FIELD: Readonly<Partial<Record<OpcodeName, string>>> = {
  WRITE: 'size',
  COPY_FILE_RANGE: 'size',
  COPY_FILE_RANGE_64: 'bytes_copied',
  LSEEK: 'offset',
  BMAP: 'block',
  GETXATTR: 'size',
  LISTXATTR: 'size',
};

/** An event of {@link followTrace} in words. Ask before the names learn from it when it is a request, after when a reply. */
export function explain(event: TraceEvent, options: ExplainOptions = {}): Explanation {
  if (event.kind === 'broken') {
    const { code, message } = event.failure;
    return { name: '???', arguments: preview(event.bytes, options), failed: true, notes: [`${code}: ${message}`] };
  }
  if (event.kind === 'opaque') return explainOpaque(event, options);
  const explained = explainMessage(event.message, options, event.kind === 'reply' ? event.request : undefined);
  const notes = [...explained.notes, ...refusal(event)];
  if (event.kind === 'request') {
    if (event.interrupts !== undefined) notes.push(`interrupts ${event.interrupts.message.opcode}`);
    if ((event.unique & (1n << 63n)) !== 0n) notes.push('sent again');
  }
  if (event.kind !== 'ioctl') return { ...explained, notes };
  const { result } = event.trace;
  const failed = (result ?? 0) < 0;
  return { ...explained, failed, notes, ...(result === undefined ? {} : { result: String(result) }) };
}

/** A decoded message in words: for tests and tools that have no trace. `request`: what a reply answers. */
export function explainMessage(message: Message, options: ExplainOptions = {}, request?: RequestEvent): Explanation {
  const context: FieldContext = { names: options.names, all: options.all === true, machine: options.machine ?? 'x64' };
  const notes = paddingNotes(message);
  if (message.kind === 'request') {
    const args = requestArguments(message, context, options);
    return { name: message.opcode, arguments: args.join(', '), failed: false, notes };
  }
  if (message.kind === 'notification') {
    const args = notificationArguments(message, context, options);
    return { name: `NOTIFY_${message.notification}`, arguments: args.join(', '), failed: false, notes };
  }
  if (message.kind === 'ioctl') {
    const word = message.word === undefined ? [] : [String(message.word)];
    const args = [...word, ...message.structs.flatMap((part) => showFields(part.name, part.value, context))];
    return { name: message.ioctl, arguments: args.join(', '), failed: false, notes };
  }
  const error = message.header.error as number;
  if (message.malformed !== undefined) notes.push(`not as the protocol wants it: ${message.malformed.message}`);
  const failed = error !== 0;
  const result = failed ? errnoName(error) : replyResult(message, context, options, request);
  return { name: message.opcode, result, failed, notes };
}

/** The line without time and caller: `LOOKUP("/a") = #2 …`. */
export function explainLine(explanation: Explanation): string {
  const { name, arguments: args, result, notes } = explanation;
  const call = args === undefined ? name : `${name}(${args})`;
  const outcome = result === undefined ? '' : ` = ${result}`;
  return `${call}${outcome}${notes.map((note) => ` [${note}]`).join('')}`;
}

function explainOpaque(event: OpaqueEvent, options: ExplainOptions): Explanation {
  const notes = refusal(event);
  switch (event.why) {
    case 'unasked': {
      const error = event.error ?? 0;
      const body = event.bytes.length > 16 ? preview(event.bytes.subarray(16), options) : '0';
      return {
        name: 'reply',
        result: error === 0 ? body : errnoName(error),
        failed: error !== 0,
        notes: [`to ${event.unique}, which nobody asks here`, ...notes],
      };
    }
    case 'foreign': {
      const { command = 0, result } = event.trace;
      const name = `ioctl 0x${(command >>> 0).toString(16)}`;
      return { name, arguments: preview(event.bytes, options), result: String(result ?? '?'), failed: (result ?? 0) < 0, notes };
    }
    case 'refused':
      return { name: '???', arguments: preview(event.bytes, options), failed: true, notes };
    case 'empty':
      return { name: event.trace.dir, arguments: '', failed: false, notes: ['the recorder kept no bytes', ...notes] };
  }
}

function refusal({ trace }: TraceEvent): string[] {
  const { errno = 0 } = trace;
  if (errno === 0) return [];
  const because = errno === 2 && trace.dir === 'out' ? ': nobody waits for it any more' : '';
  return [`the kernel refused it with ${errnoName(errno)}${because}`];
}

function paddingNotes({ padding }: Message): string[] {
  return padding.length === 0 ? [] : [`padding is not zero at byte ${padding.map(({ at }) => at).join(', ')}`];
}

function requestArguments(message: RequestEvent['message'], context: FieldContext, options: ExplainOptions): string[] {
  const { opcode, names, structs, header } = message;
  const { names: paths } = context;
  const pathOf = (nodeid: bigint): string => displayText(paths?.pathOf(nodeid) ?? `#${nodeid}`);
  const join = (nodeid: bigint, name: string): string => displayText(paths?.join(nodeid, name) ?? `#${nodeid}/${name}`);
  const nodeid = header.nodeid as bigint;
  const value = structs[0]?.value;
  const args: string[] = [];
  let rest = names;
  if (opcode === 'LINK') {
    args.push(pathOf(value!.oldnodeid as bigint), join(nodeid, names[0]!));
    return args;
  }
  if (NAMES_IN_DIRECTORY.has(opcode)) {
    args.push(join(nodeid, names[0]!));
    rest = names.slice(1);
  } else if (!WITHOUT_NODE.has(opcode)) args.push(pathOf(nodeid));
  if (opcode === 'RENAME' || opcode === 'RENAME2') {
    args.push(join(value!.newdir as bigint, names[1]!));
    rest = [];
  }
  if (opcode === 'TMPFILE') rest = [];
  args.push(...rest.map(displayText));
  const silent = opcode.startsWith('RENAME') ? ['newdir'] : message.data === undefined ? [] : ['size', 'in_size'];
  for (const part of structs) args.push(...showFields(part.name, part.value, context, silent));
  if (message.data !== undefined && (message.data.length > 0 || opcode !== 'IOCTL')) args.push(preview(message.data, options));
  if (message.records !== undefined) args.push(...recordsOf(message, pathOf));
  for (const extension of message.extensions ?? []) {
    if (extension.kind === 'groups') args.push(`groups=[${extension.groups.join(', ')}]`);
    else if (extension.kind === 'contexts')
      args.push(...extension.contexts.map(({ name, value: label }) => `${name}=${preview(label, options)}`));
    else args.push(`extension ${extension.type}`);
  }
  return args;
}

function recordsOf({ opcode, records = [] }: RequestEvent['message'], pathOf: (nodeid: bigint) => string): string[] {
  const shown = records
    .slice(0, LIST_MAX)
    .map((record) =>
      opcode === 'BATCH_FORGET'
        ? `${pathOf(record.nodeid as bigint)} nlookup=${String(record.nlookup)}`
        : `{moffset=${String(record.moffset)}, len=${String(record.len)}}`,
    );
  return records.length > LIST_MAX ? [...shown, `and ${records.length - LIST_MAX} more`] : shown;
}

function notificationArguments(
  message: Extract<Message, { kind: 'notification' }>,
  context: FieldContext,
  options: ExplainOptions,
): string[] {
  const args: string[] = [];
  const value = message.structs[0]?.value;
  const [name] = message.names;
  if (name !== undefined) {
    const parent = value!.parent as bigint;
    args.push(displayText(context.names?.join(parent, name) ?? `#${parent}/${name}`));
  }
  const silent = [...(name === undefined ? [] : ['parent', 'namelen']), ...(message.data === undefined ? [] : ['size'])];
  for (const part of message.structs) args.push(...showFields(part.name, part.value, context, silent));
  if (message.data !== undefined) args.push(preview(message.data, options));
  if (message.nodeids !== undefined) {
    const nodes = message.nodeids.slice(0, LIST_MAX).map((nodeid) => displayText(context.names?.pathOf(nodeid) ?? `#${nodeid}`));
    args.push(...nodes, ...(message.nodeids.length > LIST_MAX ? [`and ${message.nodeids.length - LIST_MAX} more`] : []));
  }
  return args;
}

function replyResult(
  message: ReplyEvent['message'],
  context: FieldContext,
  options: ExplainOptions,
  request: RequestEvent | undefined,
): string {
  const { opcode, structs, data, entries } = message;
  const single = RESULT_FIELD[opcode];
  if (single !== undefined && structs.length === 1) return String(structs[0]!.value[single]);
  if (entries !== undefined) return listing(entries);
  if (opcode === 'IOCTL' && structs.length === 1) {
    const { result, flags } = structs[0]!.value;
    const retry = Number(flags) === 0 ? [] : [`{${partText(structs[0]!, context)}}`];
    return [String(result), ...retry, ...(data === undefined || data.length === 0 ? [] : [preview(data, options)])].join(' ');
  }
  if (structs.length > 0) return structs.map((part) => resultPart(part, context)).join(' ');
  if (data === undefined) return '0';
  if (opcode === 'READLINK') return displayText(decodeBinary(data, 0, data.length));
  if (opcode === 'LISTXATTR') return `${data.length} ${nameList(data)}`;
  const limit = request?.message.structs[0]?.value.size;
  const short = opcode === 'READ' && data.length === 0 && limit !== 0 ? ' (end of file)' : '';
  return data.length === 0 ? `0${short}` : `${data.length} ${preview(data, options)}`;
}

function resultPart(part: StructPart, context: FieldContext): string {
  if (part.name !== 'fuse_entry_out') return `{${partText(part, context)}}`;
  const nodeid = part.value.nodeid as bigint;
  const rest = showFields(part.name, part.value, context, ['nodeid']).join(', ');
  return nodeid === 0n ? `no such name${rest === '' ? '' : ` {${rest}}`}` : `#${nodeid}${rest === '' ? '' : ` {${rest}}`}`;
}

function partText(part: StructPart, context: FieldContext): string {
  return showFields(part.name, part.value, context).join(', ');
}

function listing(entries: readonly DirectoryRecord[]): string {
  const shown = entries.slice(0, LIST_MAX).map(({ name, entry }) => {
    const nodeid = (entry?.nodeid ?? 0n) as bigint;
    return nodeid === 0n ? displayText(name) : `${displayText(name)} #${nodeid}`;
  });
  const more = entries.length > LIST_MAX ? [`and ${entries.length - LIST_MAX} more`] : [];
  return `${entries.length} ${entries.length === 1 ? 'entry' : 'entries'} [${[...shown, ...more].join(', ')}]`;
}

function nameList(data: Uint8Array): string {
  const names = decodeBinary(data, 0, data.length).replace(/\0$/, '');
  return data.length === 0 ? '[]' : `[${names.split('\0').map(displayText).join(', ')}]`;
}

/** The beginning of data in quotes. */
function preview(data: Uint8Array, { dataMax = 32 }: ExplainOptions): string {
  if (data.length === 0) return '""';
  const text = displayText(decodeBinary(data, 0, Math.min(dataMax, data.length)));
  return data.length > dataMax ? `${text}...` : text;
}
