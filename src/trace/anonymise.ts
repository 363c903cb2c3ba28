/**
 * A trace without what is private in it: names, targets of links, extended attributes, data, users and processes are replaced,
 * the same one by the same one; lengths, structure, numbers, times and errors stay. The result decodes as the original did.
 */
import { randomBytes } from 'node:crypto';
import {
  type DirectoryRecord,
  decodeBinary,
  encodeBinary,
  encodeMessage,
  FUSE_IOCTL_RETRY,
  type Message,
  type MessageBody,
  type StructPart,
  type StructValue,
  structOf,
} from '../protocol/index.ts';
import { followTrace, type Messages, type ReplyEvent, type RequestEvent, type TraceEvent } from './follow.ts';
import { ioctlName } from './linux.ts';
import type { TraceMessage } from './message.ts';

export interface AnonymiseOptions {
  /** The same seed makes the same replacements. Default: random, so that nobody can try names against the result. */
  readonly seed?: number;
  /** Called for each message that was left out because it cannot be decoded: what is in it is not known. */
  readonly onDropped?: (index: number) => void;
}

/** Namespaces of extended attributes, which stay. */
const XATTR_PREFIX = /^(?:user|trusted|security|system|btrfs|os2|osx)\./;
/** Attributes that the kernel and common programs know by name. */
const XATTR_KNOWN = new Set([
  'security.capability',
  'security.selinux',
  'security.ima',
  'security.evm',
  'security.apparmor',
  'security.SMACK64',
  'system.posix_acl_access',
  'system.posix_acl_default',
]);
const ACL_NAME = /^system\.posix_acl_/;
const ACL_HEAD_BYTES = 4;
const ACL_ENTRY_BYTES = 8;
/** Ids that mean something of their own: root, nobody, none. */
const KEPT_IDS = new Set([0, 65_534, 0xffff_ffff]);
const USERS_FROM = 200_000;
const PROCESSES_FROM = 300_000;
const LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789';
/** A prime, so that the filler does not repeat by page. */
const FILLER_BYTES = 65_521;
/** ioctls whose argument is numbers that a reader of the trace wants, and no text. */
const PLAIN_IOCTL = /^(?:FS_IOC|FIGETBSZ|FIONREAD|FIBMAP|FICLONE)/;

/** The messages of a trace, made anonymous. */
export async function* anonymiseTrace(messages: Messages, options: AnonymiseOptions = {}): AsyncGenerator<TraceMessage> {
  const mask = new Mask(options.seed ?? randomBytes(4).readUInt32LE());
  for await (const event of followTrace(messages)) {
    const bytes = maskedBytes(event, mask);
    if (bytes === undefined) options.onDropped?.(event.index);
    else yield { ...event.trace, bytes: bytes.subarray(0, event.trace.bytes.length) };
  }
}

function maskedBytes(event: TraceEvent, mask: Mask): Uint8Array | undefined {
  if (event.kind === 'broken') return undefined;
  if (event.kind === 'opaque') {
    // Headers of replies hold numbers alone; of anything else nothing is known.
    const kept = event.why === 'unasked' ? 16 : event.trace.dir === 'out' ? 8 : 0;
    const bytes = new Uint8Array(event.bytes.length);
    bytes.set(event.bytes.subarray(0, kept));
    return bytes;
  }
  // Padding is what a daemon's memory held: it may be anything.
  return encodeMessage(maskedMessage(event, mask), { padding: 'zero' });
}

type Meaningful = Exclude<TraceEvent, { kind: 'broken' | 'opaque' }>;

function maskedMessage(event: Meaningful, mask: Mask): Message {
  const structs = event.message.structs.map((part) => mask.part(part));
  switch (event.kind) {
    case 'ioctl':
      return { ...event.message, structs };
    case 'notification': {
      const { message } = event;
      const names = message.names.map((name) => mask.name(name));
      const value = message.structs[0]?.value;
      return { ...message, structs, names, ...withData(message, (data) => mask.data(data, offsetOf(value))) };
    }
    case 'request':
      return maskedRequest(event, structs, mask);
    case 'reply':
      return maskedReply(event, structs, mask);
  }
}

function maskedRequest({ message }: RequestEvent, structs: StructPart[], mask: Mask): Message {
  const { opcode } = message;
  const isXattr = opcode.endsWith('XATTR');
  const names = message.names.map((name, index) => {
    if (isXattr) return mask.xattrName(name);
    return opcode === 'SYMLINK' && index === 1 ? mask.path(name) : mask.name(name);
  });
  const extensions = message.extensions?.map((record) => {
    if (record.kind === 'groups') return { ...record, groups: record.groups.map((group) => mask.user(group)) };
    if (record.kind === 'unknown') return { ...record, data: mask.data(record.data, 0) };
    const contexts = record.contexts.map(({ name, value }) => ({ name: mask.xattrName(name), value: mask.data(value, 0) }));
    return { ...record, contexts };
  });
  const value = message.structs[0]?.value;
  const changed = withData(message, (data) => {
    if (isXattr) return mask.xattrValue(message.names[0] ?? '', data);
    if (opcode === 'IOCTL') return mask.ioctlData(value, data);
    return mask.data(data, offsetOf(value));
  });
  const header = mask.fields(message.header);
  return { ...message, header, structs, names, ...changed, ...(extensions === undefined ? {} : { extensions }) };
}

function maskedReply({ message, request }: ReplyEvent, structs: StructPart[], mask: Mask): Message {
  const { opcode, malformed } = message;
  const asked = request.message;
  const value = asked.structs[0]?.value;
  const entries = message.entries?.map((record) => mask.entry(record));
  const changed = withData(message, (data) => {
    if (malformed !== undefined) return new Uint8Array(data.length);
    if (entries !== undefined) return restOfListing(data, opcode === 'READDIRPLUS');
    if (opcode === 'READLINK') return binary(mask.path(text(data)));
    if (opcode === 'LISTXATTR')
      return binary(
        text(data)
          .split('\0')
          .map((name) => mask.xattrName(name))
          .join('\0'),
      );
    if (opcode === 'GETXATTR') return mask.xattrValue(asked.names[0] ?? '', data);
    if (opcode === 'CUSE_INIT') return binary(text(data).replace(/=([^\0]*)/g, (_, name: string) => `=${mask.name(name)}`));
    if (opcode === 'IOCTL') {
      const retries = ((message.structs[0]?.value.flags as number) & FUSE_IOCTL_RETRY) !== 0;
      return retries ? data : mask.ioctlData(value, data);
    }
    return mask.data(data, offsetOf(value));
  });
  return { ...message, structs, ...changed, ...(entries === undefined ? {} : { entries }) };
}

/** The incomplete record that may end a listing: its numbers stay, for they decide how it is read; the name goes. */
function restOfListing(data: Uint8Array, plus: boolean): Uint8Array {
  const entryBytes = plus ? structOf('fuse_entry_out').bytes : 0;
  const nameAt = entryBytes + structOf('fuse_dirent').bytes;
  const rest = new Uint8Array(data.length);
  if (data.length >= nameAt) rest.set(data.subarray(entryBytes, nameAt), entryBytes);
  return rest;
}

function withData(body: MessageBody, change: (data: Uint8Array) => Uint8Array): { data?: Uint8Array } {
  return body.data === undefined ? {} : { data: change(body.data) };
}

function offsetOf(value: StructValue | undefined): number {
  return typeof value?.offset === 'bigint' ? Number(BigInt.asUintN(53, value.offset)) : 0;
}

const text = (bytes: Uint8Array): string => decodeBinary(bytes, 0, bytes.length);

function binary(characters: string): Uint8Array {
  const bytes = new Uint8Array(characters.length);
  encodeBinary(bytes, 0, characters);
  return bytes;
}

/** What stands for what. It grows with the names, users and processes that the trace has. */
class Mask {
  readonly #names = new Map<string, string>();
  readonly #taken = new Set<string>();
  readonly #users = new Map<number, number>();
  readonly #processes = new Map<number, number>();
  readonly #filler: Uint8Array;
  #state: number;

  constructor(seed: number) {
    this.#state = (seed ^ 0x9e3779b9) >>> 0 || 1;
    this.#filler = Uint8Array.from({ length: FILLER_BYTES }, () => LETTERS.charCodeAt(this.#random(LETTERS.length)));
  }

  /** xorshift: quick, and not meant to keep a secret from one who knows the seed. */
  #random(below: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state = (this.#state ^ (this.#state << 5)) >>> 0;
    return this.#state % below;
  }

  /** A name of as many bytes; `.`, `..` and `/` stand for themselves. */
  name(name: string): string {
    if (name === '' || name === '.' || name === '..' || name === '/') return name;
    const known = this.#names.get(name);
    if (known !== undefined) return known;
    const fresh = this.#fresh(name);
    this.#names.set(name, fresh);
    this.#taken.add(fresh);
    return fresh;
  }

  #letters(count: number): string {
    return Array.from({ length: count }, () => LETTERS[this.#random(LETTERS.length)]!).join('');
  }

  #fresh(name: string): string {
    for (let attempt = 0; attempt < 100; attempt++) {
      const candidate = this.#letters(name.length);
      if (candidate !== name && !this.#taken.has(candidate)) return candidate;
    }
    // Names of one or two bytes run out of letters: any other byte, then.
    for (let byte = 255; byte > 0; byte--) {
      const candidate = String.fromCharCode(byte) + this.#letters(name.length - 1);
      if (byte !== 0x2f && byte !== 0x2e && !this.#taken.has(candidate)) return candidate;
    }
    return name;
  }

  /** A path, component by component. */
  path(path: string): string {
    return path
      .split('/')
      .map((name) => this.name(name))
      .join('/');
  }

  xattrName(name: string): string {
    if (XATTR_KNOWN.has(name)) return name;
    const prefix = XATTR_PREFIX.exec(name)?.[0] ?? '';
    return prefix + this.name(name.slice(prefix.length));
  }

  /** Access control lists stay valid, with other users in them. */
  xattrValue(name: string, value: Uint8Array): Uint8Array {
    if (!ACL_NAME.test(name) || (value.length - ACL_HEAD_BYTES) % ACL_ENTRY_BYTES !== 0) return this.data(value, 0);
    const changed = value.slice();
    const view = new DataView(changed.buffer);
    for (let at = ACL_HEAD_BYTES; at < changed.length; at += ACL_ENTRY_BYTES)
      view.setUint32(at + 4, this.user(view.getUint32(at + 4, true)), true);
    return changed;
  }

  ioctlData(value: StructValue | undefined, data: Uint8Array): Uint8Array {
    return PLAIN_IOCTL.test(ioctlName(Number(value?.cmd ?? 0))) ? data : this.data(data, 0);
  }

  /**
   * Data by its place in the file, so that what was written is what is read. Zero bytes stay, so that holes do.
   */
  data(data: Uint8Array, offset: number): Uint8Array {
    const changed = new Uint8Array(data.length);
    for (let at = 0; at < data.length; at++) if (data[at] !== 0) changed[at] = this.#filler[(offset + at) % FILLER_BYTES]!;
    return changed;
  }

  entry(record: DirectoryRecord): DirectoryRecord {
    const entry = record.entry === undefined ? {} : { entry: this.fields(record.entry) };
    return { ...record, ...entry, name: this.name(record.name) };
  }

  part(part: StructPart): StructPart {
    return { ...part, value: this.fields(part.value) };
  }

  /** Users, groups and processes in a struct. */
  fields(value: StructValue): StructValue {
    const changed: StructValue = {};
    for (const [name, own] of Object.entries(value)) {
      if ((name === 'uid' || name === 'gid') && typeof own === 'number') changed[name] = this.user(own);
      else if (name === 'pid' && typeof own === 'number') changed[name] = this.#process(own);
      else changed[name] = typeof own === 'object' && !(own instanceof Uint8Array) ? this.fields(own) : own;
    }
    return changed;
  }

  user(id: number): number {
    if (KEPT_IDS.has(id)) return id;
    return replacement(this.#users, id, USERS_FROM);
  }

  #process(id: number): number {
    return id === 0 ? 0 : replacement(this.#processes, id, PROCESSES_FROM);
  }
}

function replacement(map: Map<number, number>, id: number, from: number): number {
  const known = map.get(id);
  if (known !== undefined) return known;
  const fresh = from + map.size;
  map.set(id, fresh);
  return fresh;
}
