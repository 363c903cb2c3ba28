/** The table against the layout facts, which were found by compiling the kernel's headers. */
import { describe, expect, test } from 'vitest';
import * as protocol from '../../src/protocol/index.ts';
import {
  alignRecord,
  CONSTANT_GROUPS,
  DEVICE_IOCTLS,
  INIT_FLAGS,
  NOTIFICATIONS,
  OPCODES,
  opcodeNamed,
  PROTOCOL_MINOR,
  requestStructBytes,
  STRUCTS,
  type StructName,
  structBytes,
  structBytesOnWire,
  structOf,
} from '../../src/protocol/index.ts';
import { scalarBytes } from '../../src/protocol/layout.ts';
import { fastCodec, readFacts } from './support.ts';

interface FieldFact {
  name: string;
  offset: number;
  size: number;
  signed: boolean;
  type: string;
  array: { elem_size: number; count: number } | null;
}
interface OpcodeFact {
  name: string;
  value: number;
  since_minor: number;
  request: string[];
  reply: string[] | null;
  has_reply: boolean;
  uring_op_in_bytes: number | number[];
  never_on_plain_fuse_6_18: boolean;
}
interface Facts {
  structs: Record<string, { size: number; align: number; fields: FieldFact[] }>;
  constants: Record<string, Record<string, { value: number | string; hex: string; bit?: number }>>;
  opcodes: OpcodeFact[];
  struct_size_history: Record<string, unknown> & { unchanged_since_introduction: Record<string, number> };
  enosys_cached_by_kernel_6_18: Record<string, { cached: boolean }>;
  uring: { fuse_uring_req_header: Record<string, number> };
}

const facts = readFacts<Facts>();
const MINORS = Array.from({ length: PROTOCOL_MINOR }, (_, index) => index + 1);
const exported = protocol as unknown as Record<string, unknown>;

describe('structs', () => {
  test('are exactly those of the header', () => {
    expect(STRUCTS.map(({ name }) => name).sort()).toEqual(Object.keys(facts.structs).sort());
  });

  test.each(Object.entries(facts.structs))('%s has its size and every field its place', (name, fact) => {
    const struct = structOf(name as StructName);
    expect({ bytes: struct.bytes, align: struct.align }).toEqual({ bytes: fact.size, align: fact.align });
    expect(fastCodec(struct.name).size).toBe(fact.size);
    const fields = struct.fields.map((field) => ({
      name: field.name,
      offset: field.offset,
      size: field.bytes,
      type: scalarBytes(field.type) === undefined ? 'struct' : field.type,
      count: field.role === 'flexible' || field.count > 1 || field.name === '__spare0' ? field.count : null,
    }));
    expect(fields).toEqual(
      fact.fields.map((field) => ({
        name: field.name,
        offset: field.offset,
        size: field.size,
        type: field.type,
        count: field.array?.count ?? null,
      })),
    );
    for (const field of fact.fields)
      expect(field.signed, field.name).toBe(/^i/.test(struct.fields.find(({ name: own }) => own === field.name)!.type));
  });

  const history = new Map(
    Object.entries(facts.struct_size_history).filter(([, steps]) => Array.isArray(steps)) as [string, [number, number][]][],
  );

  test('those with a history are those that grew', () => {
    const grown = STRUCTS.filter(({ row }) => row.growth !== undefined).map(({ name }) => name as string);
    const expected = [...history.keys()].map((name) => (name === 'CREATE request header' ? 'fuse_create_in' : name));
    // The size of fuse_kstatfs is told in minor_versions; fuse_statfs_out holds it and nothing else.
    expect(grown.sort()).toEqual([...expected, 'fuse_kstatfs'].sort());
  });

  test.each(STRUCTS.map(({ name }) => name))('%s has the right size at every minor', (name) => {
    const steps = history.get(
      name === 'fuse_create_in' ? 'CREATE request header' : name === 'fuse_kstatfs' ? 'fuse_statfs_out' : name,
    );
    const struct = structOf(name);
    for (const minor of MINORS) {
      const expected =
        steps === undefined
          ? minor >= struct.row.since
            ? facts.structs[name]!.size
            : 0
          : (steps.filter(([from]) => from <= minor).at(-1)?.[1] ?? 0);
      expect(structBytes(name, minor), `7.${minor}`).toBe(expected);
    }
    const unchanged = facts.struct_size_history.unchanged_since_introduction[name];
    if (unchanged !== undefined) expect(struct.bytes).toBe(unchanged);
  });

  test.each(STRUCTS.map(({ name }) => name))('%s is cut between fields, never inside one', (name) => {
    const struct = structOf(name);
    for (const [, bytes] of struct.row.growth?.steps ?? []) {
      const cut = (of: protocol.PlacedStruct, at: number): boolean =>
        at === of.bytes ||
        of.fields.some(
          (field) =>
            field.offset === at ||
            (field.role === 'struct' &&
              at > field.offset &&
              at < field.offset + field.bytes &&
              cut(structOf(field.type as StructName), at - field.offset)),
        );
      // The unused words of fuse_init_in and fuse_init_out hold several elements.
      expect(cut(struct, bytes) || struct.row.growth?.by === 'length', `${bytes} bytes`).toBe(true);
    }
    for (const minor of MINORS) {
      for (const field of struct.fields) {
        const since = field.since ?? struct.row.since;
        if (field.role === 'padding') continue;
        if (minor >= since && structBytes(name, minor) > 0)
          expect(field.offset, `${field.name} at 7.${minor}`).toBeLessThanOrEqual(structBytes(name, minor));
      }
    }
  });
});

describe('sizes that a present-day kernel uses after an older minor was agreed on', () => {
  const wire = (name: StructName, minor: number) => structBytesOnWire(structOf(name), minor, false);

  test.each(MINORS)('7.%i', (minor) => {
    expect(wire('fuse_statfs_out', minor)).toBe(minor < 4 ? 48 : 80);
    expect(wire('fuse_entry_out', minor)).toBe(minor < 9 ? 120 : 128);
    expect(wire('fuse_attr_out', minor)).toBe(minor < 9 ? 96 : 104);
    const request = (name: protocol.OpcodeName) => requestStructBytes(opcodeNamed(name), minor, false);
    expect(request('WRITE')).toBe(minor < 9 ? 24 : 40);
    expect(request('CREATE')).toBe(minor < 12 ? 8 : 16);
    expect(request('MKNOD')).toBe(minor < 12 ? 8 : 16);
    expect(request('TMPFILE')).toBe(16);
    expect(request('SETXATTR')).toBe(8);
    expect(requestStructBytes(opcodeNamed('SETXATTR'), minor, true)).toBe(16);
    expect([
      request('GETATTR'),
      request('READ'),
      request('READDIR'),
      request('RELEASE'),
      request('FLUSH'),
      request('GETLK'),
      request('SETATTR'),
    ]).toEqual([16, 40, 40, 24, 24, 48, 88]);
  });
});

describe('constants', () => {
  const groupNames = Object.keys(facts.constants).filter(
    (name) => !['init_flags', 'enum_fuse_opcode', 'enum_fuse_notify_code'].includes(name),
  );

  test.each(groupNames)('%s', (group) => {
    for (const [name, fact] of Object.entries(facts.constants[group]!))
      expect(BigInt(exported[name] as number), name).toBe(BigInt(fact.hex));
  });

  test('none is missing and none is invented', () => {
    const expected = groupNames.flatMap((group) => Object.keys(facts.constants[group]!));
    const ours = [
      ...CONSTANT_GROUPS.flatMap(({ rows }) => rows.map(({ name }) => name)),
      ...DEVICE_IOCTLS.map(({ name }) => name),
    ];
    const reserved = ['CUSE_INIT_BSWAP_RESERVED', 'FUSE_INIT_BSWAP_RESERVED'];
    expect(ours.filter((name) => name !== 'FUSE_UNIQUE_RESEND_HI').sort()).toEqual([...expected, ...reserved].sort());
    expect(protocol.FUSE_UNIQUE_RESEND_HI).toBe(2 ** 31);
  });

  test('INIT flags', () => {
    const ours = Object.fromEntries(
      INIT_FLAGS.flatMap((row) => [row.name, ...(row.aliases ?? [])].map((name) => [name, row.bit])),
    );
    expect(ours).toEqual(Object.fromEntries(Object.entries(facts.constants.init_flags!).map(([name, fact]) => [name, fact.bit])));
    expect(INIT_FLAGS.map(({ bit }) => bit)).toEqual(INIT_FLAGS.map((_, index) => index));
  });

  test('opcodes and notification codes as constants', () => {
    for (const [name, fact] of Object.entries(facts.constants.enum_fuse_opcode!)) expect(exported[name], name).toBe(fact.value);
    for (const [name, fact] of Object.entries(facts.constants.enum_fuse_notify_code!))
      expect(exported[name], name).toBe(fact.value);
    expect(NOTIFICATIONS.map(({ name }) => `FUSE_NOTIFY_${name}`)).toEqual(Object.keys(facts.constants.enum_fuse_notify_code!));
  });

  test('flags of one word are single bits, told apart', () => {
    for (const group of CONSTANT_GROUPS.filter(({ kind }) => kind === 'flags')) {
      for (const row of group.rows) expect(Math.log2(row.value) % 1, row.name).toBe(0);
    }
  });
});

describe('opcodes', () => {
  const ownName = (name: string) => (name.startsWith('CUSE_') ? name : name.replace(/^FUSE_/, ''));

  test('are exactly those of the header', () => {
    const expected = facts.opcodes.map(({ name }) => ownName(name));
    // The facts list CUSE_INIT with the constants only.
    expect(OPCODES.map(({ name }) => name as string)).toEqual([...expected, 'CUSE_INIT']);
  });

  test.each(facts.opcodes)('$name', (fact) => {
    const row = opcodeNamed(ownName(fact.name) as protocol.OpcodeName);
    expect({ value: row.value, since: row.since, hasReply: row.hasReply, onPlainMounts: row.onPlainMounts }).toEqual({
      value: fact.value,
      since: fact.since_minor,
      hasReply: fact.has_reply,
      onPlainMounts: !fact.never_on_plain_fuse_6_18,
    });
    const struct = fact.request.find((part) => /^c?fuse_\w+_in/.test(part))?.match(/^\w+/)?.[0];
    expect(row.request.struct).toBe(struct);
    expect(row.request.names).toBe(fact.request.filter((part) => /(?:name|target)\\0/.test(part)).length);
    expect(row.request.extensions).toBe(fact.request.includes('[ext]'));
    const counted = fact.request.map((part) => part.match(/^([\w ]+)\[(\w+)\]$/)).find((match) => match !== null);
    expect(row.request.counted).toBe(counted?.[2]);
    expect(row.request.record).toBe(counted?.[1]?.startsWith('fuse_') ? counted[1] : undefined);
    const replyStructs = (fact.reply ?? []).filter((part) => /^c?fuse_\w+_out/.test(part)).map((part) => part.match(/^\w+/)![0]);
    expect(row.reply.structs).toEqual(replyStructs);
    const ours = row.structInRingPayload
      ? [0]
      : [...new Set([requestStructBytes(row, 45, false), requestStructBytes(row, 45, true)])];
    expect(row.name === 'INIT' ? [structBytes('fuse_init_in', 45)] : ours).toEqual([fact.uring_op_in_bytes].flat());
  });

  test('what ENOSYS means', () => {
    const table = facts.enosys_cached_by_kernel_6_18;
    for (const row of OPCODES) {
      if (row.name === 'INIT') continue;
      expect(row.enosys.cached, row.name).toBe(table[`FUSE_${row.name}`]?.cached ?? false);
      expect(row.enosys.effect.length).toBeGreaterThan(0);
    }
    const cached = Object.entries(table)
      .filter(([, fact]) => fact.cached)
      .map(([name]) => name.replace('FUSE_', ''));
    expect(
      OPCODES.filter((row) => row.enosys.cached && row.name !== 'INIT')
        .map(({ name }) => name as string)
        .sort(),
    ).toEqual(cached.sort());
  });

  test('are found by number', () => {
    for (const row of OPCODES) expect(protocol.opcodeRow(row.value)).toBe(row);
    for (const value of [0, 7, 19, 54, 63, 64, 4095, 4097, 2 ** 32 - 1, -1]) expect(protocol.opcodeRow(value)).toBeUndefined();
  });

  test('every struct belongs to something', () => {
    const used = new Set<string>(['fuse_in_header', 'fuse_out_header', 'fuse_dirent', 'fuse_direntplus']);
    for (const row of OPCODES)
      for (const name of [row.request.struct, row.request.record, ...row.reply.structs, row.reply.whenSizeZero])
        if (name !== undefined) used.add(name);
    for (const row of NOTIFICATIONS) if (row.struct !== undefined) used.add(row.struct);
    for (const row of DEVICE_IOCTLS) if (row.argument !== undefined) used.add(row.argument);
    for (const struct of STRUCTS)
      for (const field of struct.fields) if (field.role === 'struct' && used.has(struct.name)) used.add(field.type);
    const apart = STRUCTS.map(({ name }) => name as string).filter(
      (name) =>
        !used.has(name) && !/^fuse_(?:uring|secctx|ext_header|supp_groups|attr$|sx_time|kstatfs|file_lock|statx$)/.test(name),
    );
    // Retry vectors stand in the data of an IOCTL reply.
    expect(apart).toEqual(['fuse_ioctl_iovec']);
  });
});

test('the ring header has its parts where the recipe says', () => {
  const { in_out, op_in, ring_ent_in_out } = protocol.URING_REQ_HEADER_OFFSETS;
  const fact = facts.uring.fuse_uring_req_header;
  expect([in_out, op_in, ring_ent_in_out]).toEqual([fact.in_out_offset, fact.op_in_offset, fact.ring_ent_in_out_offset]);
  expect(ring_ent_in_out + protocol.URING_ENT_IN_OUT_OFFSETS.commit_id).toBe(fact.commit_id_offset);
  expect(ring_ent_in_out + protocol.URING_ENT_IN_OUT_OFFSETS.payload_sz).toBe(fact.payload_sz_offset);
});

test('records are padded to 8 bytes', () => {
  for (let bytes = 1; bytes < 300; bytes++) {
    expect(protocol.direntBytes(bytes)).toBe(alignRecord(24 + bytes));
    expect(protocol.direntplusBytes(bytes)).toBe(alignRecord(152 + bytes));
  }
});
