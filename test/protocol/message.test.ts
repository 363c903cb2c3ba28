/** The exact layer: every kind of message in both directions, and what it says of malformed ones. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Agreement,
  Connection,
  checkMessage,
  compareMessages,
  type DecodeCode,
  decodeIoctl,
  decodeNotification,
  decodeReply,
  decodeRequest,
  type ExtensionRecord,
  encodeInitFlags,
  encodeMessage,
  type Message,
  NOTIFICATIONS,
  OPCODES,
  type OpcodeName,
  type OpcodeRow,
  opcodeNamed,
  type ReplyMessage,
  type RequestMessage,
  requestStructBytes,
  STRUCTS,
  type StructName,
  type StructValue,
  structBytesOnWire,
  structOf,
} from '../../src/protocol/index.ts';
import { decoded, fromHex, isFailure, toHex } from './support.ts';

const NOW: Agreement = { minor: 45, flags: new Set() };
const MINORS = [1, 3, 4, 7, 8, 9, 11, 12, 22, 28, 33, 38, 45];

const failureCode = (value: { kind: string }): DecodeCode | undefined => (isFailure(value) ? value.code : undefined);

/** A struct filled with a different number in every field. */
function filled(name: StructName, seed = 1): StructValue {
  const value: StructValue = {};
  structOf(name).fields.forEach((field, index) => {
    if (field.role === 'struct') value[field.name] = filled(field.type as StructName, seed + 31);
    else if (field.role === 'number' || field.role === 'signed' || field.role === 'words' || field.role === 'lockEnd') {
      const small = seed + index;
      value[field.name] = field.bytes === 8 ? BigInt(small) + (field.role === 'signed' ? -(1n << 62n) : 1n << 63n) : small;
    }
  });
  return value;
}

/** The fields that travel in `bytes` bytes. */
function cut(name: StructName, value: StructValue, bytes: number): StructValue {
  const kept: StructValue = {};
  for (const field of structOf(name).fields) {
    const own = value[field.name];
    if (own === undefined || field.offset >= bytes) continue;
    kept[field.name] = field.role === 'struct' ? cut(field.type as StructName, own as StructValue, bytes - field.offset) : own;
  }
  return kept;
}

const header = (opcode: number, extensionUnits = 0): StructValue => ({
  len: 0,
  opcode,
  unique: 0x8000_0000_0000_0102n,
  nodeid: 77n,
  uid: 1,
  gid: 0xffff_ffff,
  pid: 3,
  total_extlen: extensionUnits,
});

const EXTENSIONS: readonly ExtensionRecord[] = [
  { kind: 'contexts', size: 32, contexts: [{ name: 'a.b', value: new Uint8Array([1, 2, 3]) }] },
  { kind: 'groups', size: 16, groups: [1001] },
  { kind: 'unknown', size: 12, type: 40, data: new Uint8Array([9, 9, 9, 9]) },
];

function requestOf(row: OpcodeRow, agreed: Agreement): RequestMessage {
  const { request } = row;
  const bytes = requestStructBytes(row, agreed.minor, agreed.flags.has('FUSE_SETXATTR_EXT'));
  const value = request.struct === undefined ? undefined : cut(request.struct, filled(request.struct), bytes);
  if (value !== undefined && request.counted !== undefined) value[request.counted] = request.tail === 'data' ? 5 : 2;
  return {
    kind: 'request',
    opcode: row.name,
    header: header(row.value, request.extensions ? 8 : 0),
    structs: request.struct === undefined ? [] : [{ name: request.struct, bytes, value: value! }],
    names: ['na\xefve', 'other'].slice(0, request.names),
    ...(request.tail === 'data' ? { data: new Uint8Array([1, 2, 3, 4, 5]) } : {}),
    ...(request.tail === 'records' ? { records: [filled(request.record!), filled(request.record!, 9)] } : {}),
    ...(request.extensions ? { extensions: EXTENSIONS } : {}),
    padding: [],
  };
}

function replyOf(row: OpcodeRow, agreed: Agreement, size: number): ReplyMessage {
  const shape = row.reply;
  const names = shape.whenSizeZero !== undefined && size === 0 ? [shape.whenSizeZero] : shape.structs;
  const minor = Math.max(agreed.minor, row.since);
  const structs = names.map((name) => {
    const { row: struct, bytes: full } = structOf(name);
    const bytes = struct.growth?.by === 'length' ? full : structBytesOnWire(structOf(name), minor, false);
    return { name, bytes, value: cut(name, filled(name), bytes) };
  });
  const tailed = shape.tail !== undefined && size > 0;
  const entries = ['a', 'seventeen letters'].map((name) => ({
    ...(shape.tail === 'direntplus' ? { entry: filled('fuse_entry_out') } : {}),
    dirent: { ...filled('fuse_dirent'), namelen: name.length },
    name,
  }));
  return {
    kind: 'reply',
    opcode: row.name,
    header: { len: 0, error: 0, unique: 6n },
    structs,
    names: [],
    ...(tailed && shape.tail === 'data' ? { data: new Uint8Array([7, 8, 9]) } : {}),
    ...(tailed && shape.tail !== 'data' ? { entries } : {}),
    padding: [],
  };
}

/** The message without what encoding works out. */
function essence(message: Message): unknown {
  if (message.kind === 'ioctl') return message;
  const { len, ...rest } = message.header;
  expect(typeof len).toBe('number');
  return { ...message, header: rest };
}

describe.each(MINORS)('at 7.%i', (minor) => {
  const agreed: Agreement = { minor, flags: new Set() };

  test.each(OPCODES)('request $name', (row) => {
    const message = requestOf(row, agreed);
    const bytes = encodeMessage(message);
    const again = decoded(decodeRequest(bytes, agreed));
    expect(essence(again)).toEqual(essence(message));
    expect(checkMessage(bytes, again)).toBe('identical');
  });

  test.each(OPCODES)('reply to $name', (row) => {
    for (const size of [0, 4096]) {
      const message = replyOf(row, agreed, size);
      const bytes = encodeMessage(message);
      const again = decoded(
        decodeReply(bytes, agreed, { opcode: row.name, size: row.reply.limitedBy === undefined ? undefined : size }),
      );
      const withTail =
        row.reply.tail === 'data' && size === 0 && again.structs.every(({ name }) => name !== row.reply.whenSizeZero);
      expect(essence(withTail ? { ...again, data: new Uint8Array(0) } : again)).toEqual(
        essence(
          withTail
            ? { ...message, data: new Uint8Array(0) }
            : row.reply.tail?.startsWith('dirent')
              ? { ...message, entries: message.entries ?? [] }
              : message,
        ),
      );
      expect(toHex(encodeMessage(again))).toBe(toHex(bytes));
    }
  });

  test('SETXATTR with FUSE_SETXATTR_EXT', () => {
    const long: Agreement = { minor, flags: new Set(['FUSE_SETXATTR_EXT']) };
    const message = requestOf(opcodeNamed('SETXATTR'), long);
    expect(message.structs[0]!.bytes).toBe(16);
    expect(essence(decoded(decodeRequest(encodeMessage(message), long)))).toEqual(essence(message));
  });
});

describe('replies', () => {
  test.each(OPCODES)('an error to $name is a header alone', (row) => {
    const bytes = fromHex('10000000 daffffff 0600000000000000');
    const message = decoded(decodeReply(bytes, NOW, { opcode: row.name, size: 10 }));
    expect(message).toMatchObject({ header: { error: -38 }, structs: [] });
    expect(toHex(encodeMessage(message))).toBe(toHex(bytes));
    expect(failureCode(decodeReply(fromHex('11000000 daffffff 0600000000000000 00'), NOW, { opcode: row.name, size: 10 }))).toBe(
      'TRAILING_BYTES',
    );
  });

  test.each([1, 512, -512, 2 ** 31 - 1])('the error %i is refused', (error) => {
    const bytes = fromHex('10000000 00000000 0600000000000000');
    new DataView(bytes.buffer).setInt32(4, error, true);
    expect(failureCode(decodeReply(bytes, NOW, { opcode: 'GETATTR', size: undefined }))).toBe('BAD_ERROR');
  });

  test('longer than the request takes', () => {
    const bytes = fromHex('13000000 00000000 0600000000000000 616263');
    expect(decodeReply(bytes, NOW, { opcode: 'READ', size: 3 })).toMatchObject({ data: fromHex('616263') });
    expect(failureCode(decodeReply(bytes, NOW, { opcode: 'READ', size: 2 }))).toBe('TRAILING_BYTES');
  });

  test('an ioctl that retries may bring more than the output', () => {
    const retry = fromHex(
      '30000000 00000000 0600000000000000 00000000 04000000 01000000 00000000 00100000000000000400000000000000',
    );
    expect(decodeReply(retry, NOW, { opcode: 'IOCTL', size: 0 })).toMatchObject({
      kind: 'reply',
      structs: [{ value: { flags: 4, in_iovs: 1 } }],
    });
    const plain = retry.slice();
    plain[20] = 0;
    expect(failureCode(decodeReply(plain, NOW, { opcode: 'IOCTL', size: 0 }))).toBe('TRAILING_BYTES');
  });

  test('an incomplete directory record at the end is kept as it came', () => {
    const bytes = fromHex(
      '34000000 00000000 0600000000000000 0100000000000000 0200000000000000 01000000 04000000 6100000000000000 01020304',
    );
    const message = decoded(decodeReply(bytes, NOW, { opcode: 'READDIR', size: 4096 }));
    expect(message.entries?.map(({ name }) => name)).toEqual(['a']);
    expect(message.data).toEqual(fromHex('01020304'));
    expect(toHex(encodeMessage(message))).toBe(toHex(bytes));
  });

  test('a directory record with an empty name', () => {
    const bytes = fromHex('28000000 00000000 0600000000000000 0100000000000000 0200000000000000 00000000 04000000');
    expect(failureCode(decodeReply(bytes, NOW, { opcode: 'READDIR', size: 4096 }))).toBe('BAD_RECORD');
  });

  test('INIT of any length', () => {
    for (const length of [8, 12, 16, 18, 20, 24, 28, 30, 36, 40, 42, 64]) {
      const bytes = new Uint8Array(16 + length).fill(1);
      bytes.fill(0, 4, 16);
      if (length > 42) bytes.fill(0, 58);
      new DataView(bytes.buffer).setUint32(0, bytes.length, true);
      const message = decoded(decodeReply(bytes, NOW, { opcode: 'INIT', size: undefined }));
      expect(message.structs[0]!.bytes).toBe(length);
      expect(toHex(encodeMessage(message))).toBe(toHex(bytes));
    }
    const cutInside = fromHex('21000000 00000000 0200000000000000 0700000009000000 0000000000000000 00');
    expect(failureCode(decodeReply(cutInside, NOW, { opcode: 'INIT', size: undefined }))).toBe('TRUNCATED');
    const tooLong = new Uint8Array(16 + 72);
    tooLong[0] = 88;
    expect(failureCode(decodeReply(tooLong, NOW, { opcode: 'INIT', size: undefined }))).toBe('TRAILING_BYTES');
  });
});

describe('notifications', () => {
  const HEAD = (length: string, code: string) => `${length}000000${code}0000000000000000000000`;
  const KNOWN: Record<string, readonly [hex: string, expected: object]> = {
    POLL: [`${HEAD('18', '01')}0807060504030201`, { structs: [{ value: { kh: 0x0102030405060708n } }] }],
    INVAL_INODE: [
      `${HEAD('28', '02')}0300000000000000ffffffffffffffff0000000000000000`,
      { structs: [{ value: { ino: 3n, off: -1n, len: 0n } }] },
    ],
    INVAL_ENTRY: [
      `${HEAD('23', '03')}01000000000000000200000001000000666f00`,
      { structs: [{ value: { parent: 1n, namelen: 2, flags: 1 } }], names: ['fo'] },
    ],
    STORE: [
      `${HEAD('2a', '04')}02000000000000000010000000000000 02000000 000000006869`,
      { structs: [{ value: { nodeid: 2n, offset: 4096n, size: 2 } }], data: fromHex('6869') },
    ],
    RETRIEVE: [
      `${HEAD('30', '05')}0100000000000080020000000000000000000000000000000010000000000000`,
      { structs: [{ value: { notify_unique: 0x8000000000000001n, size: 4096 } }] },
    ],
    DELETE: [
      `${HEAD('2b', '06')}01000000000000000500000000000000 0200000000000000 666f00`,
      { structs: [{ value: { parent: 1n, child: 5n } }], names: ['fo'] },
    ],
    RESEND: [HEAD('10', '07'), { structs: [] }],
    INC_EPOCH: [HEAD('10', '08'), { structs: [] }],
    PRUNE: [`${HEAD('30', '09')}02000000000000000000000000000000 0700000000000000 0800000000000000`, { nodeids: [7n, 8n] }],
  };

  test('each has known bytes', () => expect(Object.keys(KNOWN)).toEqual(NOTIFICATIONS.map(({ name }) => name)));

  test.each(NOTIFICATIONS)('$name', ({ name }) => {
    const [hex, expected] = KNOWN[name]!;
    const bytes = fromHex(hex);
    const message = decoded(decodeNotification(bytes));
    expect(message).toMatchObject({ kind: 'notification', notification: name, ...expected });
    expect(checkMessage(bytes, message)).toBe('identical');
    for (let length = 0; length < bytes.length; length++) {
      const shorter = bytes.slice(0, length);
      if (length >= 4) new DataView(shorter.buffer).setUint32(0, length, true);
      expect(decodeNotification(shorter).kind).toBe('failure');
    }
    const longer = new Uint8Array(bytes.length + 1);
    longer.set(bytes);
    longer[0] = longer.length;
    expect(['TRAILING_BYTES', 'COUNT_MISMATCH']).toContain(failureCode(decodeNotification(longer)));
  });

  test('unknown codes and wrong counts', () => {
    expect(failureCode(decodeNotification(fromHex(HEAD('10', '00'))))).toBe('UNKNOWN_NOTIFICATION');
    expect(failureCode(decodeNotification(fromHex(HEAD('10', '0a'))))).toBe('UNKNOWN_NOTIFICATION');
    const wrong = fromHex(KNOWN.INVAL_ENTRY![0]);
    wrong[24] = 1;
    expect(failureCode(decodeNotification(wrong))).toBe('COUNT_MISMATCH');
    wrong.set([2, 0x66, 0x6f, 0x6f], 24);
    wrong[34] = 0x61;
    expect(failureCode(decodeNotification(wrong))).toBe('UNTERMINATED_NAME');
  });
});

describe('device ioctls', () => {
  test.each([
    ['FUSE_DEV_IOC_CLONE', 0x8004e500, '09000000', { word: 9 }],
    [
      'FUSE_DEV_IOC_BACKING_OPEN',
      0x4010e501,
      'ffffffff 00000000 0000000000000000',
      { structs: [{ value: { fd: -1, flags: 0 } }] },
    ],
    ['FUSE_DEV_IOC_BACKING_CLOSE', 0x4004e502, '02000000', { word: 2 }],
    ['FUSE_DEV_IOC_SYNC_INIT', 0xe503, '', { structs: [] }],
  ])('%s', (name, request, hex, expected) => {
    const bytes = fromHex(hex);
    // The number may come signed, as ioctl(2) takes an int on some systems.
    for (const number of [request, request | 0]) {
      const message = decoded(decodeIoctl(number, bytes));
      expect(message).toMatchObject({ kind: 'ioctl', ioctl: name, ...expected });
      expect(checkMessage(bytes, message)).toBe('identical');
    }
    expect(decodeIoctl(request, bytes.slice(0, -1)).kind).toBe(bytes.length === 0 ? 'ioctl' : 'failure');
    expect(failureCode(decodeIoctl(request, new Uint8Array(bytes.length + 1)))).toBe('TRAILING_BYTES');
  });

  test('an unknown one', () => expect(failureCode(decodeIoctl(0x5401, new Uint8Array(0)))).toBe('UNKNOWN_IOCTL'));
});

describe('malformed requests', () => {
  const lookup = fromHex('2c000000 01000000 0400000000000000 0100000000000000 00000000 00000000 00000000 0000 0000 61626300');
  const change = (...edits: readonly (readonly [at: number, value: number])[]): Uint8Array => {
    const bytes = lookup.slice();
    for (const [at, value] of edits) bytes[at] = value;
    return bytes;
  };

  test('the original', () => expect(decodeRequest(lookup, NOW)).toMatchObject({ opcode: 'LOOKUP', names: ['abc'] }));

  test.each<[DecodeCode, number, Uint8Array]>([
    ['TRUNCATED', 0, new Uint8Array(0)],
    ['TRUNCATED', 0, lookup.slice(0, 39)],
    ['LENGTH_MISMATCH', 0, lookup.slice(0, 43)],
    ['LENGTH_MISMATCH', 0, change([0, 45])],
    ['UNKNOWN_OPCODE', 4, change([4, 7])],
    ['UNKNOWN_OPCODE', 4, change([7, 255])],
    ['UNTERMINATED_NAME', 40, change([43, 0x64])],
    ['TRAILING_BYTES', 42, change([41, 0])],
    ['BAD_EXTENSION', 36, change([36, 1])],
    ['BAD_EXTENSION', 36, change([36, 255], [37, 255])],
    ['TRUNCATED', 40, change([4, 2])],
    ['TRAILING_BYTES', 40, change([4, 5])],
  ])('%s at %i', (code, at, bytes) => expect(decodeRequest(bytes, NOW)).toMatchObject({ kind: 'failure', code, at }));

  test('counts that do not fit', () => {
    for (const name of ['WRITE', 'SETXATTR', 'IOCTL', 'NOTIFY_REPLY', 'BATCH_FORGET', 'REMOVEMAPPING'] as const) {
      const row = opcodeNamed(name);
      for (const count of [0, 1, 3, 6, 0xffff_ffff]) {
        const message = requestOf(row, NOW);
        message.structs[0]!.value[row.request.counted!] = count;
        expect(failureCode(decodeRequest(encodeMessage(message), NOW)), name).toBe('COUNT_MISMATCH');
      }
    }
  });

  test('READ of the length before 7.9 is taken from an old kernel only', () => {
    const old = requestOf(opcodeNamed('READ'), NOW);
    const short: RequestMessage = { ...old, structs: [{ name: 'fuse_read_in', bytes: 24, value: old.structs[0]!.value }] };
    expect(decodeRequest(encodeMessage(short), { minor: 8, flags: new Set() })).toMatchObject({ structs: [{ bytes: 24 }] });
    expect(decodeRequest(encodeMessage(old), { minor: 8, flags: new Set() })).toMatchObject({ structs: [{ bytes: 40 }] });
    expect(failureCode(decodeRequest(encodeMessage(short), NOW))).toBe('TRUNCATED');
  });

  test('a security context that the header does not announce, as 7.36 sent it', () => {
    const base = requestOf(opcodeNamed('MKDIR'), NOW);
    const silent: RequestMessage = { ...base, header: header(9, 0), extensions: EXTENSIONS.slice(0, 1) };
    const bytes = encodeMessage(silent);
    expect(decodeRequest(bytes, { minor: 36, flags: new Set(['FUSE_SECURITY_CTX']) })).toMatchObject({
      extensions: EXTENSIONS.slice(0, 1),
    });
    expect(failureCode(decodeRequest(bytes, NOW))).toBe('TRAILING_BYTES');
  });
});

describe('any bytes', () => {
  const opcodes = OPCODES.map(({ value }) => value);
  const anything = fc.tuple(
    fc.constantFrom(...opcodes),
    fc.uint8Array({ maxLength: 300 }),
    fc.constantFrom(...MINORS),
    fc.boolean(),
  );

  test('a request never throws, and what decodes encodes to itself', () => {
    fc.assert(
      fc.property(anything, ([opcode, body, minor, flagged]) => {
        const bytes = new Uint8Array(40 + body.length);
        bytes.set(body, 40);
        const view = new DataView(bytes.buffer);
        view.setUint32(0, bytes.length, true);
        view.setUint32(4, opcode, true);
        if (flagged) view.setUint16(36, body.length % 7, true);
        const message = decodeRequest(bytes, {
          minor,
          flags: new Set(flagged ? ['FUSE_SETXATTR_EXT', 'FUSE_SECURITY_CTX'] : []),
        });
        if (!isFailure(message)) expect(toHex(encodeMessage(message))).toBe(toHex(bytes));
      }),
      { numRuns: 5000 },
    );
  });

  test('a reply never throws, and what decodes encodes to itself', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...OPCODES),
        fc.uint8Array({ maxLength: 400, max: 60 }),
        fc.constantFrom(...MINORS),
        fc.constantFrom(0, 300),
        (row, body, minor, size) => {
          const bytes = new Uint8Array(16 + body.length);
          bytes.set(body, 16);
          new DataView(bytes.buffer).setUint32(0, bytes.length, true);
          const message = decodeReply(bytes, { minor, flags: new Set() }, { opcode: row.name, size });
          if (!isFailure(message)) expect(toHex(encodeMessage(message))).toBe(toHex(bytes));
        },
      ),
      { numRuns: 5000 },
    );
  });

  test('a notification never throws, and what decodes encodes to itself', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 10 }), fc.uint8Array({ maxLength: 100, max: 12 }), (code, body) => {
        const bytes = new Uint8Array(16 + body.length);
        bytes.set(body, 16);
        bytes[0] = bytes.length;
        bytes[4] = code;
        const message = decodeNotification(bytes);
        if (!isFailure(message)) expect(toHex(encodeMessage(message))).toBe(toHex(bytes));
      }),
      { numRuns: 3000 },
    );
  });
});

describe('padding', () => {
  const clean = fromHex('18000000 00000000 0600000000000000 05000000 00000000');
  const dirty = clean.slice();
  dirty[20] = 0xaa;

  test('is kept, and told apart', () => {
    const facts = { opcode: 'WRITE', size: undefined } as const;
    const one = decoded(decodeReply(clean, NOW, facts));
    const other = decoded(decodeReply(dirty, NOW, facts));
    expect([checkMessage(clean, one), checkMessage(dirty, other), checkMessage(dirty, one)]).toEqual([
      'identical',
      'padding',
      'different',
    ]);
    expect(other.padding).toEqual([{ at: 20, bytes: fromHex('aa000000') }]);
    expect([compareMessages(one, one), compareMessages(one, other)]).toEqual(['identical', 'padding']);
    expect(toHex(encodeMessage(other, { padding: 'zero' }))).toBe(toHex(clean));
    expect(compareMessages(one, { ...one, structs: [{ ...one.structs[0]!, value: { size: 6 } }] })).toBe('different');
  });
});

describe('encoding refuses', () => {
  const read = requestOf(opcodeNamed('READ'), NOW);
  const withField = (field: string, value: number | bigint): RequestMessage => ({
    ...read,
    structs: [{ ...read.structs[0]!, value: { ...read.structs[0]!.value, [field]: value } }],
  });

  test.each([
    ['size', -1],
    ['size', 2 ** 32],
    ['size', 1.5],
    ['size', Number.NaN],
    ['fh', -1n],
    ['fh', 1n << 64n],
    ['fh', 2 ** 53],
  ])('%s of %s', (field, value) => {
    expect(() => encodeMessage(withField(field, value))).toThrow(expect.objectContaining({ code: 'VALUE_OUT_OF_RANGE' }));
  });

  test('a name that is not bytes', () => {
    const lookup: RequestMessage = { ...requestOf(opcodeNamed('LOOKUP'), NOW), names: ['\u20ac'] };
    expect(() => encodeMessage(lookup)).toThrow(expect.objectContaining({ code: 'BAD_NAME' }));
  });

  test('numbers are taken where they are exact', () => {
    expect(toHex(encodeMessage(withField('fh', 7)))).toBe(toHex(encodeMessage(withField('fh', 7n))));
  });
});

describe('Connection', () => {
  const request = (name: OpcodeName, unique: bigint, value: StructValue = {}): Uint8Array => {
    const message = requestOf(opcodeNamed(name), NOW);
    const structs = message.structs.map((part) => ({ ...part, value: { ...part.value, ...value } }));
    return encodeMessage({ ...message, header: { ...message.header, unique }, structs });
  };
  const reply = (unique: bigint, error: number, ...body: number[]): Uint8Array => {
    const bytes = new Uint8Array(16 + body.length * 4);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, bytes.length, true);
    view.setInt32(4, error, true);
    view.setBigUint64(8, unique, true);
    for (const [index, word] of body.entries()) view.setUint32(16 + index * 4, word, true);
    return bytes;
  };

  test('learns minor and flags from the INIT reply', () => {
    const connection = new Connection();
    connection.incoming(request('INIT', 2n, { major: 7, minor: 45 }));
    const { flags, flags2 } = encodeInitFlags(['FUSE_ASYNC_DIO', 'FUSE_PASSTHROUGH']);
    decoded(connection.outgoing(reply(2n, 0, 7, 31, 0, flags, 0, 4096, 1, 0, flags2)));
    expect(connection.kernelMinor).toBe(45);
    expect(connection.agreed).toEqual({ minor: 31, flags: new Set(['FUSE_ASYNC_DIO', 'FUSE_PASSTHROUGH', 'FUSE_INIT_EXT']) });
    expect(connection.pendingCount).toBe(0);
  });

  test('a refused INIT reply, and another major, agree on nothing', () => {
    const connection = new Connection();
    connection.incoming(request('INIT', 2n));
    decoded(connection.outgoing(reply(2n, 0, 7, 8), true));
    expect(connection.agreed.minor).toBe(45);
    connection.incoming(request('INIT', 2n));
    expect(failureCode(connection.outgoing(reply(2n, 0, 8, 0)))).toBe('BAD_MAJOR');
    expect(connection.agreed.minor).toBe(45);
  });

  test('a reply needs its request, once', () => {
    const connection = new Connection();
    connection.incoming(request('ACCESS', 4n));
    expect(connection.pending(4n)).toMatchObject({ opcode: 'ACCESS', nodeid: 77n });
    expect(connection.outgoing(reply(4n, 0))).toMatchObject({ kind: 'reply', opcode: 'ACCESS' });
    expect(failureCode(connection.outgoing(reply(4n, 0)))).toBe('UNKNOWN_UNIQUE');
    expect(failureCode(connection.outgoing(reply(4n, 0).slice(0, 15)))).toBe('TRUNCATED');
  });

  test('the size of the request decides', () => {
    const connection = new Connection();
    connection.incoming(request('GETXATTR', 4n, { size: 0 }));
    expect(connection.outgoing(reply(4n, 0, 9, 0))).toMatchObject({
      structs: [{ name: 'fuse_getxattr_out', value: { size: 9 } }],
    });
    connection.incoming(request('GETXATTR', 6n, { size: 8 }));
    expect(connection.outgoing(reply(6n, 0, 9, 0))).toMatchObject({ structs: [], data: fromHex('0900000000000000') });
  });

  test('a header that the kernel cannot read leaves the request waiting; any other reply ends it', () => {
    const connection = new Connection();
    connection.incoming(request('ACCESS', 4n));
    expect(connection.outgoing(reply(4n, 5), true)).toMatchObject({ kind: 'reply', malformed: { code: 'BAD_ERROR' } });
    expect(connection.pending(4n)).toBeDefined();
    expect(connection.outgoing(reply(4n, 0, 1, 2), true)).toMatchObject({ kind: 'reply', malformed: { code: 'TRAILING_BYTES' } });
    expect(connection.pending(4n)).toBeUndefined();
  });

  test('a resent request takes the place of the first', () => {
    const connection = new Connection();
    connection.incoming(request('ACCESS', 4n));
    connection.incoming(request('ACCESS', 4n | (1n << 63n)));
    expect(connection.pending(4n)).toBeUndefined();
    expect(connection.outgoing(reply(4n | (1n << 63n), 0)).kind).toBe('reply');
  });

  test('an interrupt may be answered, a forget may not', () => {
    const connection = new Connection();
    connection.incoming(request('INTERRUPT', 5n));
    expect(connection.outgoing(reply(5n, -11))).toMatchObject({ opcode: 'INTERRUPT' });
    connection.incoming(request('FORGET', 8n));
    expect(failureCode(connection.outgoing(reply(8n, 0)))).toBe('UNKNOWN_UNIQUE');
  });

  test('forgets the oldest beyond its limit', () => {
    const connection = new Connection({ pendingMax: 2 });
    for (const unique of [2n, 4n, 6n]) connection.incoming(request('ACCESS', unique));
    expect([connection.pendingCount, connection.pending(2n), connection.pending(6n)?.unique]).toEqual([2, undefined, 6n]);
  });
});

test('every struct of the table can be encoded and decoded exactly', () => {
  for (const { name, bytes } of STRUCTS)
    expect(Object.keys(cut(name, filled(name), bytes)).length).toBe(Object.keys(filled(name)).length);
});
