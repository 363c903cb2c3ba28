/** Every captured message decodes, and encodes to the same bytes. */
import { afterAll, describe, expect, test } from 'vitest';
import {
  type Agreement,
  Connection,
  checkMessage,
  compareMessages,
  type DecodeFailure,
  decodeNotification,
  decodeReply,
  decodeRequest,
  direntBytes,
  direntplusBytes,
  encodeMessage,
  type Message,
  opcodeNamed,
  type PlacedStruct,
  type RequestFacts,
  type StructName,
  type StructValue,
  structOf,
} from '../../src/protocol/index.ts';
import { aligned, decoded, fastCodec, fastValue, fromHex, isFailure, readTrace, TRACES, toHex } from './support.ts';

interface Sample {
  readonly bytes: Uint8Array;
  readonly message: Message;
  decode(bytes: Uint8Array): Message | DecodeFailure;
}

/** Replays a trace through a connection and keeps what each message needs to be decoded alone. */
function samplesOf(trace: string): Sample[] {
  const connection = new Connection();
  return readTrace(trace).map((line) => {
    const bytes = fromHex(line.hex);
    const agreed: Agreement = connection.agreed;
    if (line.dir === 'in')
      return { bytes, message: decoded(connection.incoming(bytes)), decode: (cut) => decodeRequest(cut, agreed) };
    const unique = new DataView(bytes.buffer).getBigUint64(8, true);
    if (unique === 0n) return { bytes, message: decoded(connection.outgoing(bytes)), decode: decodeNotification };
    const facts: RequestFacts = { ...connection.pending(unique)! };
    const message = decoded(connection.outgoing(bytes, line.err !== undefined));
    return { bytes, message, decode: (cut) => decodeReply(cut, agreed, facts) };
  });
}

const totals = { messages: 0, identical: 0, padding: 0, malformed: 0, structs: 0, truncations: 0 };
const seenStructs = new Set<string>();
const beyond = new Set<string>();

describe.each(TRACES)('%s', (trace) => {
  const samples = samplesOf(trace);

  test('every message encodes to the same bytes', () => {
    const count = { identical: 0, padding: 0, different: 0 };
    for (const { bytes, message } of samples) {
      count[checkMessage(bytes, message)] += 1;
      expect(toHex(encodeMessage(message))).toBe(toHex(bytes));
      if (message.kind === 'reply' && message.malformed !== undefined) totals.malformed += 1;
    }
    // The STATX replies of libfuse 3.19 leave rubbish in the spare words; nothing else here does.
    expect(count).toEqual({
      identical: samples.length - count.padding,
      padding: trace.includes('3.19-passthrough') ? 4 : 0,
      different: 0,
    });
    totals.messages += samples.length;
    totals.identical += count.identical;
    totals.padding += count.padding;
  });

  test('the fast codecs agree with the exact ones on every struct', () => {
    for (const { message } of samples) {
      const clean = aligned(encodeMessage(message, { padding: 'zero' }));
      for (const { name, at, size, value } of structsIn(message)) {
        const codec = fastCodec(name);
        const out = codec.create();
        codec.decode(clean.words, at / 4, out, size);
        expect(out, name).toEqual(fastValue(structOf(name), value));
        totals.structs += 1;
        seenStructs.add(name);
        // Beyond 2^53 the fast codec rounds; such fields are opaque or wrong, and counted below.
        const rounded = beyondExact(structOf(name), value);
        for (const field of rounded) beyond.add(field);
        if (rounded.length > 0) continue;
        const again = new Uint32Array(codec.size / 4);
        codec.encode(again, 0, out, size);
        expect(toHex(new Uint8Array(again.buffer, 0, size)), name).toBe(toHex(clean.bytes.subarray(at, at + size)));
        expect(again.subarray(size / 4).every((word) => word === 0)).toBe(true);
      }
    }
  });

  test('a message cut anywhere is a typed failure', () => {
    const shapes = new Set<string>();
    for (const { bytes, message, decode } of samples) {
      const shape = `${message.kind} ${message.kind === 'request' ? message.opcode : ''} ${bytes.length}`;
      if (message.kind === 'ioctl' || shapes.has(shape) || bytes.length > 5000) continue;
      shapes.add(shape);
      for (const length of cutsOf(bytes.length)) {
        // The rest of the message stays behind the cut, so that reading past it would be noticed.
        const cut = bytes.slice().subarray(0, length);
        if (decode(cut).kind !== 'failure') throw new Error(`${shape} cut to ${length} decodes though its header says otherwise`);
        if (length < 4) continue;
        new DataView(cut.buffer).setUint32(0, length, true);
        const patched = decode(cut);
        if (isFailure(patched)) {
          if (patched.message.length === 0 || patched.at > length)
            throw new Error(`${shape} cut to ${length}: ${patched.code} at ${patched.at}`);
        } else if (compareMessages(patched, message) !== 'different' || toHex(encodeMessage(patched)) !== toHex(cut)) {
          // Bytes that were only data or whole records can go without harm; then what is left must be itself.
          throw new Error(`${shape} cut to ${length} decodes to something else`);
        }
        totals.truncations += 1;
      }
    }
  });
});

/** Every length for ordinary messages; for long ones, whose end is data or records, the head and a sample. */
function* cutsOf(length: number): Generator<number> {
  for (let cut = 0; cut < length; cut += length <= 700 || cut < 300 ? 1 : 101) yield cut;
}

/** Where each struct lies in a message. */
function* structsIn(message: Message): Generator<{ name: StructName; at: number; size: number; value: StructValue }> {
  let at = 0;
  if (message.kind === 'request') {
    yield { name: 'fuse_in_header', at, size: 40, value: { ...message.header, len: encodeMessage(message).length } };
    at = 40;
  } else if (message.kind !== 'ioctl') {
    yield { name: 'fuse_out_header', at, size: 16, value: message.header };
    at = 16;
  }
  for (const part of message.structs) {
    yield { name: part.name, at, size: part.bytes, value: part.value };
    at += part.bytes;
  }
  for (const record of message.records ?? []) {
    const name = opcodeNamed((message as { opcode: 'BATCH_FORGET' }).opcode).request.record!;
    yield { name, at, size: structOf(name).bytes, value: record };
    at += structOf(name).bytes;
  }
  for (const { entry, dirent, name } of message.entries ?? []) {
    if (entry !== undefined) yield { name: 'fuse_direntplus', at, size: 152, value: { entry_out: entry, dirent } };
    else yield { name: 'fuse_dirent', at, size: 24, value: dirent };
    at += entry === undefined ? direntBytes(name.length) : direntplusBytes(name.length);
  }
}

/** Number fields whose value a double cannot hold. */
function beyondExact(struct: PlacedStruct, value: StructValue): string[] {
  return struct.fields.flatMap((field) => {
    const own = value[field.name];
    if (field.role === 'struct') return beyondExact(structOf(field.type as StructName), (own ?? {}) as StructValue);
    if (field.role !== 'number' && field.role !== 'signed') return [];
    return typeof own === 'bigint' && !Number.isSafeInteger(Number(own)) ? [`${struct.name}.${field.name}`] : [];
  });
}

afterAll(() => {
  console.log(`captured traffic: ${JSON.stringify(totals)}, structs seen: ${seenStructs.size}`);
});

test('the traces bring every opcode that plain mounts see often', () => {
  const seen = new Set(
    TRACES.flatMap((trace) => samplesOf(trace)).flatMap(({ message }) => (message.kind === 'request' ? [message.opcode] : [])),
  );
  for (const name of [
    'LOOKUP',
    'READ',
    'WRITE',
    'CREATE',
    'RENAME2',
    'READDIRPLUS',
    'SETLK',
    'BATCH_FORGET',
    'NOTIFY_REPLY',
    'STATX',
    'TMPFILE',
    'IOCTL',
    'POLL',
  ] as const) {
    expect([...seen]).toContain(name);
  }
});

test('numbers beyond 2^53 are directory cookies, and identities that other daemons issued', () => {
  const identities = [
    'fuse_entry_out.nodeid',
    'fuse_in_header.nodeid',
    'fuse_open_out.fh',
    'fuse_flush_in.fh',
    'fuse_poll_in.fh',
    'fuse_release_in.fh',
  ];
  expect([...beyond].sort()).toEqual([...identities, 'fuse_read_in.offset'].sort());
});

test('only the replies that the kernel refused are malformed', () => {
  const malformed = TRACES.flatMap((trace) =>
    samplesOf(trace).flatMap(({ message }) =>
      message.kind === 'reply' && message.malformed !== undefined ? [`${trace} ${message.opcode} ${message.malformed.code}`] : [],
    ),
  );
  expect(malformed).toEqual(Array.from({ length: 2 }, () => 'libfuse-3.19-hello_ll.jsonl.gz GETXATTR TRAILING_BYTES'));
});
