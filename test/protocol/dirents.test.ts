import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type DirentRecord,
  direntBytes,
  direntplusBytes,
  encodeBinary,
  encodeEntryOut,
  newEntryOut,
  padDirent,
  putDirent,
  readDirentplus,
  readDirents,
} from '../../src/protocol/index.ts';
import { fromHex, toHex } from './support.ts';

const recordArbitrary = fc.record<DirentRecord>({
  ino_lo: fc.nat(),
  ino_hi: fc.nat(),
  off_lo: fc.nat(),
  off_hi: fc.nat(),
  type: fc.nat(15),
  name: fc.string({
    unit: fc
      .integer({ min: 1, max: 255 })
      .filter((code) => code !== 0x2f)
      .map((code) => String.fromCharCode(code)),
    minLength: 1,
    maxLength: 40,
  }),
});

/** Lays records out as a session does. */
function build(records: readonly DirentRecord[], nodeid?: number): Uint8Array {
  const head = nodeid === undefined ? 0 : 128;
  const total = records.reduce((sum, { name }) => sum + (head ? direntplusBytes(name.length) : direntBytes(name.length)), 0);
  const words = new Uint32Array(total / 4).fill(0xffff_ffff);
  const bytes = new Uint8Array(words.buffer);
  let at = 0;
  for (const record of records) {
    if (nodeid !== undefined) encodeEntryOut(words, at / 4, { ...newEntryOut(), nodeid });
    putDirent(words, at + head, record.ino_lo, record.ino_hi, record.off_lo, record.off_hi, record.type, record.name.length);
    encodeBinary(bytes, at + head + 24, record.name);
    padDirent(bytes, at + head + 24 + record.name.length);
    at += head ? direntplusBytes(record.name.length) : direntBytes(record.name.length);
  }
  return bytes;
}

/** All records, and what ended the listing. */
function readAll<Value>(listing: Generator<Value, unknown, undefined>): { records: Value[]; end: unknown } {
  const records: Value[] = [];
  for (;;) {
    const step = listing.next();
    if (step.done === true) return { records, end: step.value };
    records.push(step.value);
  }
}

test('known bytes', () => {
  const record = { ino_lo: 2, ino_hi: 1, off_lo: 3, off_hi: 0x8000_0000, type: 8, name: 'abc' };
  const rows = ['0200000001000000', '0300000000000080', '03000000', '08000000', '6162630000000000'];
  expect(toHex(build([record]))).toBe(rows.join(''));
  expect(readAll(readDirents(fromHex(rows.join('')), 0, 32)).records).toEqual([record]);
});

describe('round trips', () => {
  test('READDIR', () => {
    fc.assert(
      fc.property(fc.array(recordArbitrary, { maxLength: 12 }), (records) => {
        const bytes = build(records);
        expect(readAll(readDirents(bytes, 0, bytes.length))).toEqual({ records, end: undefined });
      }),
    );
  });

  test('READDIRPLUS', () => {
    fc.assert(
      fc.property(fc.array(recordArbitrary, { maxLength: 8 }), fc.nat(), (records, nodeid) => {
        const bytes = build(records, nodeid);
        const entry = { ...newEntryOut(), nodeid };
        expect(readAll(readDirentplus(bytes, 0, bytes.length))).toEqual({
          records: records.map((record) => ({ ...record, entry })),
          end: undefined,
        });
      }),
    );
  });
});

test('a record that is cut off ends the listing, wherever it is cut', () => {
  const records = [
    { ino_lo: 1, ino_hi: 0, off_lo: 1, off_hi: 0, type: 4, name: 'one' },
    { ino_lo: 2, ino_hi: 0, off_lo: 2, off_hi: 0, type: 8, name: 'a longer name' },
  ];
  const bytes = build(records);
  for (let length = 0; length < bytes.length; length++) {
    // A stranger's bytes follow; they must not be read.
    const more = new Uint8Array(bytes.length + 64).fill(0x41);
    more.set(bytes.subarray(0, length));
    expect(readAll(readDirents(more, 0, length))).toEqual({ records: length < 32 ? [] : records.slice(0, 1), end: undefined });
  }
});

test.each([
  ['an empty name', 0, 'a'],
  ['a name that is too long', 4096, 'a'],
  ['a slash', 3, 'a/b'],
])('%s is refused as the kernel does', (_, nameBytes, name) => {
  const bytes = build([{ ino_lo: 1, ino_hi: 0, off_lo: 1, off_hi: 0, type: 4, name }]);
  new DataView(bytes.buffer).setUint32(16, nameBytes, true);
  expect(readAll(readDirents(bytes, 0, bytes.length)).end).toMatchObject({ kind: 'failure', code: 'BAD_RECORD' });
});

test('random bytes never throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.nat(8), (bytes, from) => {
      readAll(readDirents(bytes, from, bytes.length + 8));
      readAll(readDirentplus(bytes, from, bytes.length + 8));
    }),
    { numRuns: 1000 },
  );
});
