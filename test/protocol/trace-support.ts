/** Traces made by hand, and those that were captured. */
import {
  encodeMessage,
  type Message,
  type OpcodeName,
  opcodeNamed,
  type StructValue,
  structOf,
} from '../../src/protocol/index.ts';
import type { TraceMessage } from '../../src/trace/message.ts';
import { fromHex, readTrace } from './support.ts';

/** A captured trace of fixtures/. */
export function fixture(name: string): TraceMessage[] {
  return readTrace(name).map(({ dir, t, hex, err, cmd }) => ({
    dir,
    t,
    bytes: fromHex(hex),
    ...(err === undefined ? {} : { errno: -err }),
    ...(cmd === undefined ? {} : { command: cmd >>> 0, result: 0 }),
  }));
}

interface RequestParts {
  readonly unique: bigint;
  readonly nodeid?: bigint;
  readonly value?: StructValue;
  readonly names?: readonly string[];
  readonly records?: readonly StructValue[];
  readonly data?: Uint8Array;
  readonly extensions?: NonNullable<Message['extensions']>;
  /** Bytes of the struct, where it is shorter. */
  readonly size?: number;
  readonly uid?: number;
  readonly pid?: number;
  readonly t?: number;
}

/** Writes traces, a millisecond a message. */
export class Script {
  readonly messages: TraceMessage[] = [];
  #t = 0;

  #put(dir: 'in' | 'out', bytes: Uint8Array, more: Partial<TraceMessage> = {}): this {
    this.#t += 1000;
    this.messages.push({ dir, t: this.#t, bytes, ...more });
    return this;
  }

  raw(message: Partial<TraceMessage> & Pick<TraceMessage, 'dir' | 'bytes'>): this {
    this.#t += 1000;
    this.messages.push({ t: this.#t, ...message });
    return this;
  }

  request(opcode: OpcodeName, parts: RequestParts, more: Partial<TraceMessage> = {}): this {
    return this.#put('in', requestBytes(opcode, parts), more);
  }

  reply(
    unique: bigint,
    ...structs: (readonly [name: Parameters<typeof structOf>[0], value: StructValue, size?: number])[]
  ): this {
    return this.#put('out', replyBytes(unique, structs));
  }

  data(unique: bigint, data: Uint8Array | string): this {
    return this.#put('out', dataBytes(unique, data));
  }

  error(unique: bigint, errno: number, more: Partial<TraceMessage> = {}): this {
    return this.#put('out', errorBytes(unique, errno), more);
  }

  init(minor = 45, flags = 0): this {
    this.request('INIT', {
      unique: 2n,
      nodeid: 0n,
      value: { major: 7, minor: 45, max_readahead: 131_072, flags: 0xffff_ffff, flags2: 0 },
    });
    return this.reply(2n, ['fuse_init_out', { major: 7, minor, max_write: 4096, flags }, minor < 5 ? 8 : minor < 23 ? 24 : 64]);
  }

  /** A name that is found. */
  lookup(unique: bigint, parent: bigint, name: string, nodeid: bigint, more: StructValue = {}): this {
    this.request('LOOKUP', { unique, nodeid: parent, names: [name] });
    return this.reply(unique, ['fuse_entry_out', { nodeid, attr: { ino: nodeid, mode: 0o100644, nlink: 1 }, ...more }]);
  }
}

export function requestBytes(opcode: OpcodeName, parts: RequestParts): Uint8Array {
  const { struct, counted } = opcodeNamed(opcode).request;
  const { unique, nodeid = 1n, value = {}, names = [], size, uid = 1000, pid = 77 } = parts;
  const count = parts.data?.length ?? parts.records?.length;
  const full = counted === undefined || count === undefined ? value : { ...value, [counted]: count };
  const extensionBytes = (parts.extensions ?? []).reduce((sum, record) => sum + Math.ceil(record.size / 8), 0);
  return encodeMessage({
    kind: 'request',
    opcode,
    header: { unique, nodeid, uid, gid: uid, pid, total_extlen: extensionBytes },
    structs: struct === undefined ? [] : [{ name: struct, bytes: size ?? structOf(struct).bytes, value: full }],
    names,
    ...(parts.records === undefined ? {} : { records: parts.records }),
    ...(parts.data === undefined ? {} : { data: parts.data }),
    ...(parts.extensions === undefined ? {} : { extensions: parts.extensions }),
    padding: [],
  });
}

export function replyBytes(
  unique: bigint,
  structs: readonly (readonly [name: Parameters<typeof structOf>[0], value: StructValue, size?: number])[],
  data?: Uint8Array,
): Uint8Array {
  return encodeMessage({
    kind: 'reply',
    opcode: 'LOOKUP',
    header: { error: 0, unique },
    structs: structs.map(([name, value, size]) => ({ name, bytes: size ?? structOf(name).bytes, value })),
    names: [],
    ...(data === undefined ? {} : { data }),
    padding: [],
  });
}

export function dataBytes(unique: bigint, data: Uint8Array | string): Uint8Array {
  return replyBytes(unique, [], typeof data === 'string' ? new TextEncoder().encode(data) : data);
}

export function errorBytes(unique: bigint, errno: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 16, true);
  view.setInt32(4, -errno, true);
  view.setBigUint64(8, unique, true);
  return bytes;
}

export async function all<Value>(values: AsyncIterable<Value>): Promise<Value[]> {
  const list: Value[] = [];
  for await (const value of values) list.push(value);
  return list;
}
