/**
 * Whole messages, exactly: any request, reply, notification or device ioctl argument becomes a plain object, and the
 * object becomes the same bytes again. For traces, tests and tools; a session uses the fast codecs of generated/.
 */
import { Cursor, type PaddingRun, type StructValue, Writer } from './cursor.ts';
import { alignRecord, direntBytes, direntplusBytes } from './dirents.ts';
import { type DecodeFailure, EncodeError, failure } from './failure.ts';
import { FUSE_EXT_GROUPS, FUSE_IOCTL_RETRY, FUSE_MAX_NR_SECCTX } from './generated/constants.ts';
import type { RequestShape } from './layout.ts';
import { deviceIoctlRow, layoutMinor, notificationRow, opcodeNamed, opcodeRow, structBytesOnWire } from './opcodes.ts';
import {
  DEVICE_IOCTLS,
  type DeviceIoctlName,
  type InitFlag,
  NOTIFICATIONS,
  type NotificationName,
  type OpcodeName,
  type StructName,
  structOf,
} from './schema.ts';

const IN_HEADER_BYTES = structOf('fuse_in_header').bytes;
const OUT_HEADER_BYTES = structOf('fuse_out_header').bytes;
/** Errors that a reply may carry, as negative numbers from here to 0 (fs/fuse/dev.c refuses others). */
const ERROR_MIN = -511;
const NAME_BYTES_MAX = 4095;

/** What was agreed on: decides sizes. */
export interface Agreement {
  readonly minor: number;
  readonly flags: ReadonlySet<InitFlag>;
}

/** What a reply's shape depends on. */
export interface RequestFacts {
  readonly opcode: OpcodeName;
  /** Bytes that the tail of the reply may have: `size` of the request; undefined when it says nothing. */
  readonly size: number | undefined;
}

/** A struct as it travelled. */
export interface StructPart {
  readonly name: StructName;
  /** Bytes of it that travel. */
  readonly bytes: number;
  readonly value: StructValue;
}

/** A record of READDIR or READDIRPLUS. Names have one character a byte. */
export interface DirectoryRecord {
  /** Only in READDIRPLUS. */
  readonly entry?: StructValue;
  readonly dirent: StructValue;
  readonly name: string;
}

/** A record of the extension area. `size` is what its head says. */
export type ExtensionRecord =
  | {
      readonly kind: 'contexts';
      readonly size: number;
      readonly contexts: readonly { readonly name: string; readonly value: Uint8Array }[];
    }
  | { readonly kind: 'groups'; readonly size: number; readonly groups: readonly number[] }
  | { readonly kind: 'unknown'; readonly size: number; readonly type: number; readonly data: Uint8Array };

/** The parts of a message, in the order in which they travel. Names have one character a byte. */
export interface MessageBody {
  readonly structs: readonly StructPart[];
  readonly names: readonly string[];
  /** BATCH_FORGET, REMOVEMAPPING. */
  readonly records?: readonly StructValue[];
  /** PRUNE. */
  readonly nodeids?: readonly bigint[];
  /** READDIR, READDIRPLUS. */
  readonly entries?: readonly DirectoryRecord[];
  /** Bytes at the end: WRITE, SETXATTR, READ's reply, and the incomplete record that may end a listing. A view of the message. */
  readonly data?: Uint8Array;
  readonly extensions?: readonly ExtensionRecord[];
  /** Padding that was not zero. */
  readonly padding: readonly PaddingRun[];
}

export interface RequestMessage extends MessageBody {
  readonly kind: 'request';
  readonly opcode: OpcodeName;
  /** `fuse_in_header`; `len` and `opcode` are worked out when encoding. */
  readonly header: StructValue;
}

export interface ReplyMessage extends MessageBody {
  readonly kind: 'reply';
  readonly opcode: OpcodeName;
  /** `fuse_out_header`; `len` is worked out when encoding. */
  readonly header: StructValue;
  /** Set when the body is not as the protocol wants it: it stands in `data` as it came, and this says why. */
  readonly malformed?: DecodeFailure;
}

export interface NotificationMessage extends MessageBody {
  readonly kind: 'notification';
  readonly notification: NotificationName;
  /** `fuse_out_header`; `len` and `error` are worked out when encoding. `unique` is 0 in every notification. */
  readonly header: StructValue;
}

export interface IoctlMessage extends MessageBody {
  readonly kind: 'ioctl';
  readonly ioctl: DeviceIoctlName;
  /** The argument, where it is a 32-bit word. */
  readonly word?: number;
}

export type Message = RequestMessage | ReplyMessage | NotificationMessage | IoctlMessage;

type Draft = { -readonly [Key in keyof MessageBody]: MessageBody[Key] };

// --- decoding -------------------------------------------------------------------------------------------------------------

/** Decodes a request: what the daemon read. */
export function decodeRequest(bytes: Uint8Array, agreed: Agreement): RequestMessage | DecodeFailure {
  const cursor = new Cursor(bytes);
  const header = cursor.struct('fuse_in_header', IN_HEADER_BYTES);
  checkLength(cursor, header);
  if (cursor.failure !== undefined) return cursor.failure;
  const row = opcodeRow(header.opcode as number);
  if (row === undefined) return failure('UNKNOWN_OPCODE', 4, `The table has no opcode ${header.opcode as number}.`);
  const body: Draft = { structs: [], names: [], padding: cursor.padding };
  const extensionBytes = (header.total_extlen as number) * 8;
  if (extensionBytes > cursor.left)
    cursor.fail('BAD_EXTENSION', `The header announces ${extensionBytes} bytes of extensions.`, 36);
  else cursor.end -= extensionBytes;
  requestBody(cursor, row.request, { ...agreed, minor: layoutMinor(row, agreed.minor) }, body);
  const extensionsAt = cursor.at;
  if (cursor.failure === undefined) cursor.end = bytes.length;
  // Kernels of 7.36 and 7.37 append the security context without saying so in the header.
  const unannounced = row.request.extensions && extensionBytes === 0 && agreed.flags.has('FUSE_SECURITY_CTX');
  if (extensionBytes > 0 || (unannounced && cursor.left > 0)) {
    if (extensionBytes > 0 && cursor.left !== extensionBytes)
      cursor.fail('TRAILING_BYTES', 'Bytes stand between the body and the extensions.', extensionsAt);
    body.extensions = extensionRecords(cursor);
  }
  finish(cursor);
  return cursor.failure ?? { kind: 'request', opcode: row.name, header, ...body };
}

function requestBody(cursor: Cursor, shape: RequestShape<StructName>, agreed: Agreement, body: Draft): void {
  let counted = 0;
  if (shape.struct !== undefined) {
    const part = structPart(cursor, shape.struct, agreed, shape.names === 0 && shape.tail === undefined);
    body.structs = [part];
    if (shape.counted !== undefined) counted = Number(part.value[shape.counted] ?? 0);
  }
  if (shape.names > 0) body.names = Array.from({ length: shape.names }, (_, index) => cursor.name(`Name ${index + 1}`));
  if (shape.tail === 'data') {
    if (counted !== cursor.left)
      cursor.fail('COUNT_MISMATCH', `${shape.struct}.${shape.counted} is ${counted}, ${cursor.left} bytes follow.`);
    body.data = cursor.take(counted, 'The data');
  } else if (shape.tail === 'records') {
    body.records = records(cursor, shape.record!, counted);
  }
}

function records(cursor: Cursor, name: StructName, count: number): StructValue[] {
  const { bytes } = structOf(name);
  if (count * bytes !== cursor.left) {
    cursor.fail('COUNT_MISMATCH', `${count} records of ${bytes} bytes are announced, ${cursor.left} bytes follow.`);
    return [];
  }
  return Array.from({ length: count }, () => cursor.struct(name, bytes));
}

/** Decodes a reply to a request of which `facts` are known. */
export function decodeReply(bytes: Uint8Array, agreed: Agreement, facts: RequestFacts): ReplyMessage | DecodeFailure {
  const cursor = new Cursor(bytes);
  const header = cursor.struct('fuse_out_header', OUT_HEADER_BYTES);
  checkLength(cursor, header);
  if (cursor.failure !== undefined) return cursor.failure;
  const error = header.error as number;
  if (error > 0 || error < ERROR_MIN) return failure('BAD_ERROR', 4, `The error ${error} is outside ${ERROR_MIN}..0.`);
  const body: Draft = { structs: [], names: [], padding: cursor.padding };
  if (error === 0) replyBody(cursor, agreed, facts, body);
  finish(cursor);
  return cursor.failure ?? { kind: 'reply', opcode: facts.opcode, header, ...body };
}

/** A reply whose body the kernel refused, or will: the body as it came. Only the header must be right. */
export function decodeMalformedReply(
  bytes: Uint8Array,
  facts: RequestFacts,
  malformed: DecodeFailure,
): ReplyMessage | DecodeFailure {
  const cursor = new Cursor(bytes);
  const header = cursor.struct('fuse_out_header', OUT_HEADER_BYTES);
  checkLength(cursor, header);
  const data = cursor.take(cursor.left, 'The body');
  return (
    cursor.failure ?? {
      kind: 'reply',
      opcode: facts.opcode,
      header,
      structs: [],
      names: [],
      data,
      padding: cursor.padding,
      malformed,
    }
  );
}

function replyBody(cursor: Cursor, agreed: Agreement, facts: RequestFacts, body: Draft): void {
  const row = opcodeNamed(facts.opcode);
  const shape = row.reply;
  const layout = { ...agreed, minor: layoutMinor(row, agreed.minor) };
  if (shape.whenSizeZero !== undefined && facts.size === 0) {
    body.structs = [structPart(cursor, shape.whenSizeZero, layout, true)];
    return;
  }
  body.structs = shape.structs.map((name) =>
    structPart(cursor, name, layout, shape.structs.length === 1 && shape.tail === undefined),
  );
  if (shape.tail === undefined) return;
  const retries = facts.opcode === 'IOCTL' && ((body.structs[0]?.value.flags as number) & FUSE_IOCTL_RETRY) !== 0;
  if (facts.size !== undefined && !retries && cursor.left > facts.size) {
    cursor.fail('TRAILING_BYTES', `The request takes ${facts.size} bytes, the reply brings ${cursor.left}.`);
  }
  if (shape.tail === 'data') body.data = cursor.take(cursor.left, 'The data');
  else directoryRecords(cursor, shape.tail === 'direntplus', body);
}

function directoryRecords(cursor: Cursor, plus: boolean, body: Draft): void {
  const entries: DirectoryRecord[] = [];
  const entryBytes = plus ? structOf('fuse_entry_out').bytes : 0;
  const fixedBytes = entryBytes + structOf('fuse_dirent').bytes;
  const lengthAt = entryBytes + 16;
  while (cursor.left >= fixedBytes) {
    const nameBytes = new DataView(cursor.bytes.buffer, cursor.bytes.byteOffset + cursor.at + lengthAt, 4).getUint32(0, true);
    if (nameBytes === 0 || nameBytes > NAME_BYTES_MAX) {
      cursor.fail('BAD_RECORD', `A directory record has a name of ${nameBytes} bytes.`);
      break;
    }
    const recordBytes = plus ? direntplusBytes(nameBytes) : direntBytes(nameBytes);
    if (recordBytes > cursor.left) break;
    const recordEnd = cursor.at + recordBytes;
    const entry = plus ? { entry: cursor.struct('fuse_entry_out', entryBytes) } : {};
    const dirent = cursor.struct('fuse_dirent', fixedBytes - entryBytes);
    const name = String.fromCharCode(...cursor.take(nameBytes, 'A name'));
    entries.push({ ...entry, dirent, name });
    cursor.skip(recordEnd - cursor.at, 'A directory record');
  }
  body.entries = entries;
  if (cursor.left > 0) body.data = cursor.take(cursor.left, 'The rest');
}

/** Decodes a notification: what the daemon wrote with unique 0. */
export function decodeNotification(bytes: Uint8Array): NotificationMessage | DecodeFailure {
  const cursor = new Cursor(bytes);
  const header = cursor.struct('fuse_out_header', OUT_HEADER_BYTES);
  checkLength(cursor, header);
  if (cursor.failure !== undefined) return cursor.failure;
  const code = header.error as number;
  const row = notificationRow(code);
  if (row === undefined) return failure('UNKNOWN_NOTIFICATION', 4, `The table has no notification ${code}.`);
  const body: Draft = { structs: [], names: [], padding: cursor.padding };
  let value: StructValue = {};
  if (row.struct !== undefined) {
    const { bytes: size } = structOf(row.struct);
    value = cursor.struct(row.struct, size);
    body.structs = [{ name: row.struct, bytes: size, value }];
  }
  if (row.names === 1) {
    const nameAt = cursor.at;
    const name = cursor.name('The name');
    if (Number(value.namelen) !== name.length)
      cursor.fail('COUNT_MISMATCH', `namelen is ${String(value.namelen)}, the name has ${name.length} bytes.`, nameAt);
    body.names = [name];
  }
  const counted = row.counted === undefined ? 0 : Number(value[row.counted] ?? 0);
  if (row.tail === 'data') {
    if (counted !== cursor.left) cursor.fail('COUNT_MISMATCH', `${row.counted} is ${counted}, ${cursor.left} bytes follow.`);
    body.data = cursor.take(counted, 'The data');
  } else if (row.tail === 'nodeids') {
    if (counted * 8 !== cursor.left) cursor.fail('COUNT_MISMATCH', `${row.counted} is ${counted}, ${cursor.left} bytes follow.`);
    else body.nodeids = Array.from({ length: counted }, () => cursor.u64('A node id'));
  }
  finish(cursor);
  return cursor.failure ?? { kind: 'notification', notification: row.name, header, ...body };
}

/** Decodes the argument of an ioctl(2) on the device; `request` is its number, signed or not. */
export function decodeIoctl(request: number, argument: Uint8Array): IoctlMessage | DecodeFailure {
  const row = deviceIoctlRow(request);
  if (row === undefined) return failure('UNKNOWN_IOCTL', 0, `The table has no device ioctl 0x${(request >>> 0).toString(16)}.`);
  const cursor = new Cursor(argument);
  const body: Draft = { structs: [], names: [], padding: cursor.padding };
  let word: { word?: number } = {};
  if (row.argument === 'u32') word = { word: cursor.u32('The argument') };
  else if (row.argument !== undefined) {
    const { bytes } = structOf(row.argument);
    body.structs = [{ name: row.argument, bytes, value: cursor.struct(row.argument, bytes) }];
  }
  finish(cursor);
  return cursor.failure ?? { kind: 'ioctl', ioctl: row.name, ...word, ...body };
}

function checkLength(cursor: Cursor, header: StructValue): void {
  if (cursor.failure === undefined && header.len !== cursor.bytes.length) {
    cursor.fail('LENGTH_MISMATCH', `The header says ${header.len as number} bytes, the message has ${cursor.bytes.length}.`, 0);
  }
}

function finish(cursor: Cursor): void {
  if (cursor.left > 0) cursor.fail('TRAILING_BYTES', `${cursor.left} bytes are left over.`);
}

/** Reads a struct in the size with which it travels. `alone`: nothing follows it, so that the message's length can decide. */
function structPart(cursor: Cursor, name: StructName, agreed: Agreement, alone: boolean): StructPart {
  const struct = structOf(name);
  const growth = struct.row.growth;
  let bytes = structBytesOnWire(struct, agreed.minor, agreed.flags.has('FUSE_SETXATTR_EXT'));
  if (growth?.by === 'length') bytes = Math.min(Math.max(bytes, cursor.left), struct.bytes);
  // A kernel older than the last step sends less; a newer one sends all of it, whatever was agreed.
  if (growth?.by === 'kernel' && alone && agreed.minor < growth.steps.at(-1)![0]) {
    for (const [, size] of growth.steps) if (size <= cursor.left) bytes = size;
  }
  return { name, bytes, value: cursor.struct(name, bytes) };
}

function extensionRecords(cursor: Cursor): ExtensionRecord[] {
  const found: ExtensionRecord[] = [];
  const areaEnd = cursor.end;
  while (cursor.left > 0) {
    const at = cursor.at;
    const size = cursor.u32('A record of the extension area');
    const type = cursor.u32('A record of the extension area');
    if (size < 8 || size > areaEnd - at)
      cursor.fail('BAD_EXTENSION', `A record of the extension area says it has ${size} bytes.`, at);
    if (cursor.failure !== undefined) break;
    cursor.end = at + size;
    if (type <= FUSE_MAX_NR_SECCTX) found.push({ kind: 'contexts', size, contexts: securityContexts(cursor, type) });
    else if (type === FUSE_EXT_GROUPS) found.push({ kind: 'groups', size, groups: supplementaryGroups(cursor) });
    else found.push({ kind: 'unknown', size, type, data: cursor.take(cursor.left, 'A record') });
    if (cursor.failure !== undefined) break;
    cursor.end = Math.min(areaEnd, at + alignRecord(size));
    cursor.skip(cursor.left, 'A record');
    cursor.end = areaEnd;
  }
  return found;
}

function securityContexts(cursor: Cursor, count: number): { name: string; value: Uint8Array }[] {
  return Array.from({ length: count }, () => {
    const at = cursor.at;
    const size = cursor.u32('A security context');
    cursor.skip(4, 'A security context');
    const name = cursor.name('The name of a security context');
    const value = cursor.take(size, 'A security context');
    cursor.skip(Math.min(cursor.left, at + alignRecord(cursor.at - at) - cursor.at), 'A security context');
    return { name, value };
  });
}

function supplementaryGroups(cursor: Cursor): number[] {
  const count = cursor.u32('The supplementary groups');
  if (count * 4 > cursor.left) {
    cursor.fail('BAD_EXTENSION', `${count} supplementary groups are announced.`);
    return [];
  }
  return Array.from({ length: count }, () => cursor.u32('A supplementary group'));
}

// --- encoding -------------------------------------------------------------------------------------------------------------

export interface EncodeOptions {
  /** `keep` (default) puts back the padding that the message retains, `zero` leaves it out. */
  readonly padding?: 'keep' | 'zero';
}

/** The bytes of a message. Throws {@link EncodeError} when a value does not fit its field. */
export function encodeMessage(message: Message, options: EncodeOptions = {}): Uint8Array {
  const writer = new Writer();
  if (message.kind === 'request') writer.struct('fuse_in_header', IN_HEADER_BYTES, requestHeader(message));
  else if (message.kind === 'reply') writer.struct('fuse_out_header', OUT_HEADER_BYTES, { ...message.header, len: 0 });
  else if (message.kind === 'notification') {
    const row = NOTIFICATIONS.find(({ name }) => name === message.notification)!;
    writer.struct('fuse_out_header', OUT_HEADER_BYTES, { ...message.header, len: 0, error: row.value });
  } else if (DEVICE_IOCTLS.find(({ name }) => name === message.ioctl)!.argument === 'u32') {
    if (message.word === undefined) throw new EncodeError('MISSING_PART', `${message.ioctl} takes a word`);
    writer.u32(message.word);
  }
  writeBody(writer, message);
  if (message.kind !== 'ioctl') writer.patch(0, writer.at);
  if (options.padding !== 'zero') writer.restore(message.padding);
  return writer.finish();
}

function requestHeader(message: RequestMessage): StructValue {
  return { ...message.header, len: 0, opcode: opcodeNamed(message.opcode).value };
}

function writeBody(writer: Writer, body: MessageBody & { readonly kind: Message['kind']; readonly opcode?: OpcodeName }): void {
  for (const part of body.structs) writer.struct(part.name, part.bytes, part.value);
  for (const name of body.names) {
    writer.text(name);
    writer.zeros(1);
  }
  for (const record of body.records ?? []) {
    const name = opcodeNamed(body.opcode!).request.record!;
    writer.struct(name, structOf(name).bytes, record);
  }
  for (const nodeid of body.nodeids ?? []) writer.u64(nodeid);
  for (const entry of body.entries ?? []) writeDirectoryRecord(writer, entry);
  if (body.data !== undefined) writer.bytes(body.data);
  for (const extension of body.extensions ?? []) writeExtension(writer, extension);
}

function writeDirectoryRecord(writer: Writer, record: DirectoryRecord): void {
  const at = writer.at;
  if (record.entry !== undefined) writer.struct('fuse_entry_out', structOf('fuse_entry_out').bytes, record.entry);
  writer.struct('fuse_dirent', structOf('fuse_dirent').bytes, { ...record.dirent, namelen: record.name.length });
  writer.text(record.name);
  writer.zeros(at + alignRecord(writer.at - at) - writer.at);
}

function writeExtension(writer: Writer, record: ExtensionRecord): void {
  const at = writer.at;
  writer.u32(record.size);
  if (record.kind === 'contexts') {
    writer.u32(record.contexts.length);
    for (const { name, value } of record.contexts) {
      const contextAt = writer.at;
      writer.u32(value.length);
      writer.u32(0);
      writer.text(name);
      writer.zeros(1);
      writer.bytes(value);
      writer.zeros(Math.max(0, Math.min(at + record.size, contextAt + alignRecord(writer.at - contextAt)) - writer.at));
    }
  } else if (record.kind === 'groups') {
    writer.u32(FUSE_EXT_GROUPS);
    writer.u32(record.groups.length);
    for (const group of record.groups) writer.u32(group);
  } else {
    writer.u32(record.type);
    writer.bytes(record.data);
  }
  const end = at + alignRecord(record.size);
  if (writer.at > at + record.size)
    throw new EncodeError('VALUE_OUT_OF_RANGE', `an extension record of ${record.size} bytes is too short for what it holds`);
  writer.zeros(end - writer.at);
}

/** `identical`, or `padding` when they differ in nothing that is read, or `different`. */
export type Comparison = 'identical' | 'padding' | 'different';

/** Compares a message with the bytes from which it was decoded, when it is encoded again with clean padding. */
export function checkMessage(bytes: Uint8Array, message: Message): Comparison {
  if (sameBytes(bytes, encodeMessage(message, { padding: 'zero' }))) return 'identical';
  return sameBytes(bytes, encodeMessage(message)) ? 'padding' : 'different';
}

/** Compares two messages. */
export function compareMessages(one: Message, other: Message): Comparison {
  if (!sameBytes(encodeMessage(one, { padding: 'zero' }), encodeMessage(other, { padding: 'zero' }))) return 'different';
  return sameBytes(encodeMessage(one), encodeMessage(other)) ? 'identical' : 'padding';
}

function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  if (one.length !== other.length) return false;
  for (let at = 0; at < one.length; at++) if (one[at] !== other[at]) return false;
  return true;
}
