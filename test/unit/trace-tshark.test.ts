/**
 * Wireshark's view of a trace is ours: tshark opens the export of every captured trace, and each field that the exact decoder finds
 * is in the dissection under its name, with its value.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type Agreement,
  Connection,
  decodeIoctl,
  decodeNotification,
  decodeReply,
  decodeRequest,
  encodeInitFlags,
  encodeMessage,
  FUSE_IOCTL_RETRY,
  INIT_FLAGS,
  type Message,
  NOTIFICATIONS,
  OPCODES,
  opcodeNamed,
  type PlacedStruct,
  STRUCTS,
  type StructName,
  type StructValue,
  structOf,
} from '../../src/protocol/index.ts';
import { filterName, flagBits, wiresharkDissector } from '../../src/trace/dissector.ts';
import type { TraceMessage } from '../../src/trace/message.ts';
import { exportPcapng, pcapngFrame } from '../../src/trace/pcapng.ts';
import { fromHex, readTrace, TRACES } from '../protocol/support.ts';

const COMMITTED = fileURLToPath(new URL('../../wireshark/fusewire.lua', import.meta.url));
const hasTshark = spawnSync('tshark', ['--version'], { stdio: 'ignore' }).status === 0;
if (!hasTshark) console.warn('tshark is not installed: the dissector is NOT tested (Debian: apt-get install tshark)');

test('the committed dissector is the generated one', () => {
  expect(
    readFileSync(COMMITTED, 'utf8') === wiresharkDissector(),
    'run `fusewire trace dissector > wireshark/fusewire.lua`',
  ).toBe(true);
});

// --- what must be there ---------------------------------------------------------------------------------------------------

/** A field and its value: numbers in decimal, bytes in hex. */
type Field = readonly [name: string, value: string];

function structFields(struct: PlacedStruct, value: StructValue, bytes: number): Field[] {
  return struct.fields.flatMap((field): Field[] => {
    const given = value[field.name];
    if (given === undefined || field.offset >= bytes) return [];
    const name = filterName(struct.name, field.name);
    if (field.role === 'struct')
      return [[name, ''], ...structFields(structOf(field.type as StructName), given as StructValue, bytes - field.offset)];
    if (given instanceof Uint8Array) return [[name, hex(given)]];
    const bits = flagBits(struct.name, field).map(({ name: bit, mask }): Field => {
      return [`${name}.${bit}`, (BigInt(given as number | bigint) & BigInt(mask)) === 0n ? '0' : '1'];
    });
    return [[name, String(given)], ...bits];
  });
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const named = (struct: StructName, value: StructValue, bytes = structOf(struct).bytes): Field[] => [
  [filterName(struct), ''],
  ...structFields(structOf(struct), value, bytes),
];
const text = (name: string, value: string): Field => [`fuse.${name}`, hex(Buffer.from(value, 'latin1'))];

/** Every field of a message as the exact decoder has it, in the order of the bytes. */
function fieldsOf(message: Message, length: number): Field[] {
  const fields: Field[] = [];
  if (message.kind === 'request') fields.push(...named('fuse_in_header', message.header));
  else if (message.kind !== 'ioctl') fields.push(...named('fuse_out_header', { ...message.header, len: length }));
  if (message.kind === 'ioctl' && message.word !== undefined) fields.push(['fuse.word', String(message.word)]);
  for (const part of message.structs) fields.push(...named(part.name, part.value, part.bytes));
  for (const name of message.names) fields.push(text('name', name));
  for (const record of message.records ?? [])
    fields.push(...named(opcodeNamed((message as { opcode: 'BATCH_FORGET' }).opcode).request.record!, record));
  for (const nodeid of message.nodeids ?? []) fields.push(['fuse.nodeid', String(nodeid)]);
  for (const { entry, dirent, name } of message.entries ?? []) {
    if (entry !== undefined) fields.push(...named('fuse_entry_out', entry));
    fields.push(...named('fuse_dirent', dirent), text('dirent.name', name));
  }
  if (message.data !== undefined && message.data.length > 0) fields.push(...dataFields(message, message.data));
  for (const extension of message.extensions ?? []) fields.push(...extensionFields(extension));
  return fields;
}

/** The ranges that an ioctl asks for are structs to the dissector, bytes to the decoder. */
function dataFields(message: Message, data: Uint8Array): Field[] {
  if (message.kind !== 'reply' || message.opcode !== 'IOCTL') return [['fuse.data', hex(data)]];
  if (((message.structs[0].value.flags as number) & FUSE_IOCTL_RETRY) === 0) return [['fuse.data', hex(data)]];
  const view = Buffer.from(data);
  return Array.from({ length: data.length / 16 }, (_, index) =>
    named('fuse_ioctl_iovec', { base: view.readBigUInt64LE(index * 16), len: view.readBigUInt64LE(index * 16 + 8) }),
  ).flat();
}

function extensionFields(extension: NonNullable<Message['extensions']>[number]): Field[] {
  const { size } = extension;
  if (extension.kind === 'contexts') {
    return [
      ...named('fuse_secctx_header', { size, nr_secctx: extension.contexts.length }),
      ...extension.contexts.flatMap(({ name, value }) => [
        ...named('fuse_secctx', { size: value.length }),
        text('secctx.name', name),
        ...(value.length > 0 ? [['fuse.secctx.value', hex(value)] as const] : []),
      ]),
    ];
  }
  if (extension.kind === 'groups') {
    return [
      ...named('fuse_ext_header', { size, type: 32 }),
      ...named('fuse_supp_groups', { nr_groups: extension.groups.length }),
      ...extension.groups.map((group): Field => ['fuse.supp_groups.groups', String(group)]),
    ];
  }
  return [...named('fuse_ext_header', { size, type: extension.type }), ['fuse.ext.data', hex(extension.data)]];
}

/** The fields of each message of a trace; undefined for a reply that the kernel refused because its body is wrong. */
function expectedFields(messages: readonly TraceMessage[]): (Field[] | undefined)[] {
  const connection = new Connection();
  return messages.map(({ dir, bytes, errno, command }) => {
    const message =
      dir === 'in'
        ? connection.incoming(bytes)
        : dir === 'out'
          ? connection.outgoing(bytes, errno !== undefined)
          : connection.ioctl(command!, bytes);
    if (message.kind === 'failure') throw new Error(message.message);
    if (message.kind === 'reply' && message.malformed !== undefined) return undefined;
    return fieldsOf(message, bytes.length);
  });
}

// --- what is there ----------------------------------------------------------------------------------------------------------

/** What the dissector adds of its own, and trees that only group. */
const OWN =
  /^fuse\.(pseudo(\..*)?|opcode_name|path|target|xattr_name|notification|ioctl|request_in|response_in|time|record|padding|refused)$/;

/** Marks of something wrong. */
const COMPLAINT = /^_ws\.|^fuse\.(malformed|unknown|undecoded)$/;

/** Shown as text or bytes: what counts is the bytes. */
const RAW = new Set(['fuse.name', 'fuse.data', 'fuse.dirent.name', 'fuse.secctx.name', 'fuse.secctx.value', 'fuse.ext.data']);
for (const struct of STRUCTS)
  for (const field of struct.fields) if (field.role === 'area') RAW.add(filterName(struct.name, field.name));

interface Dissection {
  readonly fields: Field[];
  readonly complaints: string[];
  readonly refused: boolean;
}

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fusewire-tshark-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Dissects a file with tshark; also answers what it printed besides. */
function dissect(path: string): { frames: Dissection[]; stderr: string } {
  const { stdout, stderr, status } = spawnSync('tshark', ['-X', `lua_script:${COMMITTED}`, '-r', path, '-T', 'pdml'], {
    encoding: 'latin1',
    maxBuffer: 1 << 30,
    timeout: 120_000,
    env: { PATH: process.env.PATH, HOME: folder, LC_ALL: 'C.UTF-8' },
  });
  expect(status).toBe(0);
  const frames = stdout
    .split('<packet>')
    .slice(1)
    .map((packet) => {
      const fields: Field[] = [];
      const complaints: string[] = [];
      for (const [, name, show, value] of packet.matchAll(
        /<(?:field|proto) name="(fuse\.[^"]*|_ws\.(?:malformed|lua\.text|expert\.message))"[^>]*?(?: show="([^"]*)")?(?: value="([^"]*)")?(?: unmaskedvalue="[^"]*")?\/?>/g,
      )) {
        if (COMPLAINT.test(name) && !/refused this message/.test(show)) complaints.push(`${name} ${show}`);
        if (OWN.test(name) || COMPLAINT.test(name)) continue;
        fields.push([name, RAW.has(name) ? value : show.startsWith('0x') ? String(BigInt(show)) : show]);
      }
      return { fields, complaints, refused: packet.includes('name="fuse.refused"') };
    });
  return { frames, stderr: stderr.replace(/^Running as user.*\n?/m, '') };
}

async function exported(name: string, messages: readonly TraceMessage[]): Promise<string> {
  const path = join(folder, `${name}.pcapng`);
  const fd = openSync(path, 'w');
  await exportPcapng(messages, (chunk) => void writeSync(fd, chunk));
  closeSync(fd);
  return path;
}

const seen = new Set<string>();
const note = (fields: readonly Field[]): void => {
  for (const [name] of fields) seen.add(name);
};

/** An empty name has no bytes to show: tshark shows its NUL instead. */
const same = (fields: readonly Field[]): Field[] =>
  fields.map(([name, value]) => [name, RAW.has(name) && value === '00' ? '' : value]);

async function compare(name: string, messages: readonly TraceMessage[], expected: (Field[] | undefined)[]): Promise<void> {
  const { frames, stderr } = dissect(await exported(name, messages));
  expect(stderr).toBe('');
  expect(frames.length).toBe(messages.length);
  frames.forEach(({ fields, complaints }, index) => {
    const wanted = expected[index];
    if (wanted === undefined) return;
    note(fields);
    expect(complaints, `frame ${index + 1}`).toEqual([]);
    // One comparison of text is quick; the whole one is for the message of a failure.
    if (JSON.stringify(same(fields)) !== JSON.stringify(same(wanted)))
      expect(same(fields), `frame ${index + 1}`).toEqual(same(wanted));
  });
}

const messagesOf = (trace: string): TraceMessage[] =>
  readTrace(trace).map(({ dir, t, hex: digits, err, cmd }) => ({
    dir,
    t,
    bytes: fromHex(digits),
    ...(err === undefined ? {} : { errno: -err }),
    ...(cmd === undefined ? {} : { command: cmd }),
  }));

describe.runIf(hasTshark)('tshark', () => {
  test.each(TRACES)(
    '%s',
    async (trace) => {
      const messages = messagesOf(trace);
      await compare(trace, messages, expectedFields(messages));
    },
    180_000,
  );

  test.each([1, 4, 8, 9, 12, 23, 33, 35, 38, 45])(
    'every message that can be, at minor 7.%i',
    async (minor) => {
      const messages = synthesised(minor);
      await compare(`minor-${minor}`, messages, expectedFields(messages));
    },
    60_000,
  );

  test('every struct alone, also those of the ring', () => {
    const path = join(folder, 'structs.pcapng');
    const frames = STRUCTS.map((struct, index) => pcapngFrame({ direction: 4, command: index }, filled(struct.bytes)));
    writeFileSync(path, rawFile(frames));
    const { frames: found, stderr } = dissect(path);
    expect(stderr).toBe('');
    STRUCTS.forEach((struct, index) => {
      const wanted = named(struct.name, structValue(struct, filled(struct.bytes)));
      expect(found[index].complaints).toEqual([]);
      expect(found[index].fields, struct.name).toEqual(wanted);
      note(found[index].fields);
    });
  });

  test('every field of every struct, and every flag of every field, was named', () => {
    const all = STRUCTS.flatMap((struct) =>
      struct.fields
        .filter(({ role }) => role !== 'padding')
        .flatMap((field) => {
          const name = filterName(struct.name, field.name);
          return [name, ...flagBits(struct.name, field).map((bit) => `${name}.${bit.name}`)];
        }),
    );
    expect(all.filter((name) => !seen.has(name))).toEqual([]);
    expect(all.length).toBeGreaterThan(300);
  });

  test('a request and its answer find each other, also in a second pass; names become paths', async () => {
    const path = await exported('matching', messagesOf('libfuse-3.19-hello_ll.jsonl.gz'));
    const out = execFileSync(
      'tshark',
      ['-2', '-X', `lua_script:${COMMITTED}`, '-r', path, '-T', 'fields', '-Y', 'fuse.opcode_name == "LOOKUP"'].concat(
        ['frame.number', 'fuse.request_in', 'fuse.response_in', 'fuse.time', 'fuse.path'].flatMap((name) => ['-e', name]),
      ),
      { encoding: 'utf8', stdio: 'pipe', env: { PATH: process.env.PATH, HOME: folder } },
    );
    const rows = out
      .trimEnd()
      .split('\n')
      .map((line) => line.split('\t'));
    expect(rows[0]).toEqual(['17', '', '18', '', '/no-such-name']);
    expect(rows[1].slice(0, 3)).toEqual(['18', '17', '']);
    expect(Number(rows[1][3])).toBeCloseTo(0.000029, 8);
  });

  test('what the kernel refused is said, and what is broken', async () => {
    const messages = messagesOf('libfuse-3.19-hello_ll.jsonl.gz');
    const refused = messages.filter(({ errno }) => errno !== undefined).length;
    expect(refused).toBeGreaterThan(0);
    const broken = messages.map((message, index) => (index === 16 ? { ...message, bytes: message.bytes.slice(0, 50) } : message));
    const { frames, stderr } = dissect(await exported('broken', broken));
    expect(stderr).toBe('');
    expect(frames[16].complaints.join()).toContain('fuse.malformed');
    expect(frames.filter(({ refused: said }) => said).length).toBe(refused);
  });

  test('bytes cut anywhere give no Lua error', async () => {
    const messages = messagesOf('libfuse-3.19-passthrough_ll-never.jsonl.gz').slice(0, 400);
    const cut = messages.map((message, index) => ({
      ...message,
      bytes: message.bytes.slice(0, (index * 7) % (message.bytes.length + 1)),
    }));
    const { frames, stderr } = dissect(await exported('cut', cut));
    expect(stderr).toBe('');
    const texts = frames.map(({ complaints }) => complaints.join());
    expect(texts.filter((said) => said.includes('Lua'))).toEqual([]);
    // A message that the dissector itself calls malformed is one that it did not read beyond.
    expect(texts.filter((said) => said.includes('_ws.malformed') && !said.includes('fuse.malformed'))).toEqual([]);
  });
});

// --- messages from the table ------------------------------------------------------------------------------------------------

/** Bytes of which each field has a value of its own. */
function filled(count: number): Uint8Array {
  return Uint8Array.from({ length: count }, (_, index) => (index * 37 + 11) & 0xff);
}

/** The fields of a struct in those bytes. Padding stays in: the dissector must not mind. */
function structValue(struct: PlacedStruct, bytes: Uint8Array): StructValue {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const value: StructValue = {};
  for (const { name, type, role, offset, bytes: size } of struct.fields) {
    if (role === 'padding' || role === 'flexible') continue;
    if (role === 'struct') value[name] = structValue(structOf(type as StructName), bytes.subarray(offset));
    else if (role === 'area') value[name] = bytes.slice(offset, offset + size);
    else if (size === 8) value[name] = role === 'signed' ? view.getBigInt64(offset, true) : view.getBigUint64(offset, true);
    else if (size === 2) value[name] = view.getUint16(offset, true);
    else value[name] = role === 'signed' ? view.getInt32(offset, true) : view.getUint32(offset, true);
  }
  return value;
}

/** Every request, reply and notification of the table in one connection of that minor. Where a struct did not exist, its opcode is left out. */
function synthesised(minor: number): TraceMessage[] {
  const flags = new Set(INIT_FLAGS.filter((row) => row.since <= minor).map(({ name }) => name));
  flags.delete('FUSE_INIT_RESERVED');
  const words = encodeInitFlags(flags);
  const agreed: Agreement = { minor, flags };
  const messages: TraceMessage[] = [];
  const put = (dir: TraceMessage['dir'], bytes: Uint8Array): void =>
    void messages.push({ dir, t: messages.length * 10, bytes, channel: messages.length % 3 });
  let unique = 2n;
  const request = (
    opcode: (typeof OPCODES)[number],
    body: Uint8Array,
    extensions: Uint8Array = new Uint8Array(0),
  ): Uint8Array => {
    const bytes = new Uint8Array(40 + body.length + extensions.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, bytes.length, true);
    view.setUint32(4, opcode.value, true);
    view.setBigUint64(8, unique, true);
    view.setBigUint64(16, 77n, true);
    view.setUint16(36, extensions.length / 8, true);
    bytes.set(body, 40);
    bytes.set(extensions, 40 + body.length);
    return bytes;
  };
  const reply = (body: Uint8Array): Uint8Array => {
    const bytes = new Uint8Array(16 + body.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, bytes.length, true);
    view.setBigUint64(8, unique, true);
    bytes.set(body, 16);
    return bytes;
  };
  const init = opcodeNamed('INIT');
  const offer = new Uint32Array([7, 45, 131072, words.flags, words.flags2, ...Array(11).fill(0)]);
  put('in', request(init, new Uint8Array(offer.buffer)));
  const answer = new Uint32Array([7, minor, 131072, words.flags, 0x0030_0040, 4096, 1, 0, words.flags2, ...Array(7).fill(0)]);
  put('out', reply(new Uint8Array(answer.buffer, 0, minor < 5 ? 8 : minor < 23 ? 24 : 64)));
  // CUSE_INIT would begin another connection.
  const rows = [...OPCODES].sort((one, other) => Number(one.name === 'CUSE_INIT') - Number(other.name === 'CUSE_INIT'));
  for (const row of rows) {
    if (row.name === 'INIT' || row.since > minor) continue;
    for (const variant of variantsOf(row, agreed)) {
      unique += 2n;
      const bytes = request(row, variant.body, row.request.extensions && minor >= 38 ? EXTENSIONS : undefined);
      const decoded = decodeRequest(bytes, agreed);
      if (decoded.kind === 'failure') throw new Error(`${row.name} at 7.${minor}: ${decoded.message}`);
      put('in', bytes);
      if (!row.hasReply) continue;
      const facts = { opcode: row.name, size: variant.size };
      const answered = reply(variant.reply);
      const decodedReply = decodeReply(answered, agreed, facts);
      if (decodedReply.kind === 'failure') throw new Error(`reply to ${row.name} at 7.${minor}: ${decodedReply.message}`);
      put('out', answered);
    }
  }
  for (const row of NOTIFICATIONS) if (row.since <= minor) put('out', notification(row));
  if (minor >= 40) {
    for (const [command, bytes] of [
      [0x8004e500, 4],
      [0x4010e501, 16],
      [0x4004e502, 4],
    ]) {
      expect(decodeIoctl(command, filled(bytes)).kind).toBe('ioctl');
      messages.push({ dir: 'ioctl', t: messages.length * 10, bytes: filled(bytes), command, result: 5 });
    }
  }
  return messages;
}

/** A security context and supplementary groups, each padded to 8 bytes. */
const EXTENSIONS = ((): Uint8Array => {
  const context = Buffer.alloc(40);
  context.writeUInt32LE(40, 0);
  context.writeUInt32LE(1, 4);
  context.writeUInt32LE(5, 8);
  context.write('security.xyz\0value', 16, 'latin1');
  const groups = Buffer.alloc(24);
  groups.writeUInt32LE(20, 0);
  groups.writeUInt32LE(32, 4);
  groups.writeUInt32LE(2, 8);
  groups.writeUInt32LE(1000, 12);
  groups.writeUInt32LE(0xffff_fffe, 16);
  return new Uint8Array(Buffer.concat([context, groups]));
})();

interface Variant {
  readonly body: Uint8Array;
  readonly reply: Uint8Array;
  readonly size: number | undefined;
}

/** Bodies of a request and its reply: with a size of 0 too, where that has a meaning. */
function variantsOf(row: (typeof OPCODES)[number], agreed: Agreement): Variant[] {
  const limited = row.reply.limitedBy !== undefined;
  const sizes = row.reply.whenSizeZero === undefined ? [limited ? 4096 : undefined] : [4096, 0];
  const variants = sizes.map((size) => variantOf(row, agreed, size, false));
  return row.name === 'IOCTL' && agreed.minor >= 16 ? [...variants, variantOf(row, agreed, 4096, true)] : variants;
}

function variantOf(row: (typeof OPCODES)[number], agreed: Agreement, size: number | undefined, retry: boolean): Variant {
  const { request, reply } = row;
  const part = (name: StructName, patch: Readonly<Record<string, number | bigint>>): Uint8Array => {
    const layout = { ...agreed, minor: Math.max(row.since, agreed.minor) };
    const bytes = wireBytes(name, layout);
    const value = { ...structValue(structOf(name), filled(structOf(name).bytes)), ...patch };
    return encodeMessage({
      kind: 'ioctl',
      ioctl: 'FUSE_DEV_IOC_BACKING_OPEN',
      structs: [{ name, bytes, value }],
      names: [],
      padding: [],
    });
  };
  const tail = filled(24);
  const count = request.tail === 'records' ? 2 : tail.length;
  const patch = {
    ...(request.counted === undefined ? {} : { [request.counted]: count }),
    ...(reply.limitedBy === undefined ? {} : { [reply.limitedBy]: size ?? 0 }),
  };
  const names = Buffer.from(['first\0', 's\u00e9cond\0'].slice(0, request.names).join(''), 'utf8');
  const record = request.record === undefined ? [] : [part(request.record, {}), part(request.record, {})];
  const body = [request.struct === undefined ? new Uint8Array(0) : part(request.struct, patch), names, ...record];
  if (request.tail === 'data') body.push(tail);
  if (reply.whenSizeZero !== undefined && size === 0) return { body: concat(body), reply: part(reply.whenSizeZero, {}), size };
  const fixed: Readonly<Record<string, Readonly<Record<string, number>>>> = {
    fuse_ioctl_out: { flags: retry ? 4 : 0, in_iovs: 1, out_iovs: 1 },
    cuse_init_out: { major: 7, minor: agreed.minor },
  };
  const head = reply.structs.map((name) => part(name, fixed[name] ?? {}));
  if (reply.tail === 'data') head.push(retry ? filled(32) : row.name === 'LISTXATTR' ? Buffer.from('user.a\0user.b\0') : tail);
  else if (reply.tail !== undefined) head.push(listing(reply.tail === 'direntplus'));
  return { body: concat(body), reply: concat(head), size };
}

const concat = (parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

function listing(plus: boolean): Uint8Array {
  const records = ['.', 'caf\u00e9', 'a-longer-name'].map((text_, index) => {
    const name = Buffer.from(text_, 'utf8');
    const dirent = Buffer.alloc((24 + name.length + 7) & ~7);
    dirent.writeBigUInt64LE(BigInt(index + 10), 0);
    dirent.writeBigUInt64LE((1n << 60n) + BigInt(index), 8);
    dirent.writeUInt32LE(name.length, 16);
    dirent.writeUInt32LE(4, 20);
    name.copy(dirent, 24);
    return plus ? Buffer.concat([filled(128), dirent]) : dirent;
  });
  return new Uint8Array(Buffer.concat(records));
}

function wireBytes(name: StructName, agreed: Agreement): number {
  const struct = structOf(name);
  const growth = struct.row.growth;
  if (growth === undefined || growth.by === 'length') return struct.bytes;
  if (growth.by === 'flag') return agreed.flags.has('FUSE_SETXATTR_EXT') ? struct.bytes : growth.steps[0][1];
  let bytes = growth.steps[0][1];
  for (const [from, size] of growth.steps) if (agreed.minor >= from) bytes = size;
  return growth.by === 'kernel' && agreed.minor >= growth.steps.at(-1)![0] ? struct.bytes : bytes;
}

function notification(row: (typeof NOTIFICATIONS)[number]): Uint8Array {
  const value = row.struct === undefined ? {} : structValue(structOf(row.struct), filled(structOf(row.struct).bytes));
  const bytes = encodeMessage({
    kind: 'notification',
    notification: row.name,
    header: {},
    structs:
      row.struct === undefined
        ? []
        : [
            {
              name: row.struct,
              bytes: structOf(row.struct).bytes,
              value: {
                ...value,
                ...(row.names === 1 ? { namelen: 5 } : {}),
                ...(row.counted === undefined ? {} : { [row.counted]: row.tail === 'nodeids' ? 2 : 24 }),
              },
            },
          ],
    names: row.names === 1 ? ['child'] : [],
    ...(row.tail === 'data' ? { data: filled(24) } : {}),
    ...(row.tail === 'nodeids' ? { nodeids: [5n, 2n ** 63n + 1n] } : {}),
    padding: [],
  });
  expect(decodeNotification(bytes).kind).toBe('notification');
  return bytes;
}

/** A pcapng file of frames that no trace has. */
function rawFile(frames: readonly Uint8Array[]): Uint8Array {
  const block = (type: number, body: Buffer): Buffer => {
    const edge = Buffer.alloc(4);
    edge.writeUInt32LE(body.length + 12, 0);
    const kind = Buffer.alloc(4);
    kind.writeUInt32LE(type, 0);
    return Buffer.concat([kind, edge, body, edge]);
  };
  const packets = frames.map((frame) => {
    const padded = (frame.length + 3) & ~3;
    const body = Buffer.alloc(20 + padded);
    body.writeUInt32LE(frame.length, 12);
    body.writeUInt32LE(frame.length, 16);
    body.set(frame, 20);
    return block(6, body);
  });
  return Buffer.concat([
    block(0x0a0d0d0a, Buffer.from('4d3c2b1a01000000ffffffffffffffff', 'hex')),
    block(1, Buffer.from('fc00000000000000', 'hex')),
    ...packets,
  ]);
}
