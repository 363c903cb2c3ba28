/** The fast codecs: known bytes, labelled row by row, and agreement with the exact layer on every struct at every size. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Cursor, Writer } from '../../src/protocol/cursor.ts';
import {
  decodeAttr,
  decodeEntryOut,
  decodeInHeader,
  decodeInitOut,
  decodeLkIn,
  decodeReadIn,
  decodeSetattrIn,
  encodeAttr,
  encodeEntryOut,
  encodeInHeader,
  encodeInitOut,
  encodeLkIn,
  encodeOutHeader,
  encodeReadIn,
  encodeSetattrIn,
  FATTR_ATIME,
  FATTR_SIZE,
  newAttr,
  newEntryOut,
  newInHeader,
  newInitOut,
  newLkIn,
  newOutHeader,
  newReadIn,
  newSetattrIn,
  type PlacedStruct,
  STRUCTS,
  type StructName,
  structOf,
} from '../../src/protocol/index.ts';
import { aligned, fastCodec, fastValue, fromHex, toHex } from './support.ts';

type Row = readonly [label: string, hex: string];
const hexOf = (rows: readonly Row[]): string =>
  rows
    .map(([, hex]) => hex)
    .join('')
    .replaceAll(' ', '');

describe('known bytes', () => {
  const check = <Value>(
    rows: readonly Row[],
    value: Value,
    empty: Value,
    decode: (words: Uint32Array, at: number, out: Value, size?: number) => void,
    encode: (words: Uint32Array, at: number, value: Value, size?: number) => void,
  ): void => {
    const bytes = fromHex(hexOf(rows));
    const padded = new Uint8Array(bytes.length + 8);
    padded.set(bytes, 8);
    decode(aligned(padded).words, 2, empty, bytes.length);
    expect(empty).toEqual(value);
    const words = new Uint32Array(padded.length / 4).fill(0xa5a5a5a5);
    encode(words, 2, value, bytes.length);
    expect(toHex(new Uint8Array(words.buffer, 8, bytes.length))).toBe(hexOf(rows));
    expect([words[0], words[1]]).toEqual([0xa5a5a5a5, 0xa5a5a5a5]);
  };

  test('a request header with a resent unique and extensions', () => {
    check(
      [
        ['len 80', '50000000'],
        ['opcode 15', '0f000000'],
        ['unique 0x8000000000000102', '02010000 00000080'],
        ['nodeid 2^32 + 7', '07000000 01000000'],
        ['uid 1000', 'e8030000'],
        ['gid not sent', 'ffffffff'],
        ['pid 4242', '92100000'],
        ['total_extlen 3', '0300'],
        ['padding', '0000'],
      ],
      {
        len: 80,
        opcode: 15,
        unique_lo: 0x102,
        unique_hi: 0x8000_0000,
        nodeid: 2 ** 32 + 7,
        uid: 1000,
        gid: 0xffff_ffff,
        pid: 4242,
        total_extlen: 3,
      },
      newInHeader(),
      decodeInHeader,
      encodeInHeader,
    );
  });

  test('a reply header with an error', () => {
    const words = new Uint32Array(4);
    encodeOutHeader(words, 0, { ...newOutHeader(), len: 16, error: -2, unique_lo: 6, unique_hi: 0 });
    expect(toHex(new Uint8Array(words.buffer))).toBe(
      hexOf([
        ['len', '10000000'],
        ['error -ENOENT', 'feffffff'],
        ['unique', '0600000000000000'],
      ]),
    );
  });

  test('READ, today and before 7.9', () => {
    const head: readonly Row[] = [
      ['fh 5', '05000000 00000000'],
      ['offset 5 GiB', '00000040 01000000'],
      ['size 128 KiB', '00000200'],
      ['read_flags FUSE_READ_LOCKOWNER', '02000000'],
    ];
    const rest: readonly Row[] = [
      ['lock_owner', 'efbeadde 78563412'],
      ['flags O_LARGEFILE', '00800000'],
      ['padding', '00000000'],
    ];
    const value = {
      fh: 5,
      offset: 5 * 2 ** 30,
      size: 131_072,
      read_flags: 2,
      lock_owner_lo: 0xdeadbeef,
      lock_owner_hi: 0x12345678,
      flags: 0x8000,
    };
    check([...head, ...rest], value, newReadIn(), decodeReadIn, encodeReadIn);
    check(head, { ...value, lock_owner_lo: 0, lock_owner_hi: 0, flags: 0 }, newReadIn(), decodeReadIn, encodeReadIn);
  });

  test('an entry with times before 1970, today and before 7.9', () => {
    const rows: readonly Row[] = [
      ['nodeid 3', '03000000 00000000'],
      ['generation', '01000000 02000000'],
      ['entry_valid 1 s', '01000000 00000000'],
      ['attr_valid 0 s', '00000000 00000000'],
      ['entry_valid_nsec', '00000000'],
      ['attr_valid_nsec 500 ms', '0065cd1d'],
      ['ino 2^64 - 1', 'ffffffff ffffffff'],
      ['size 4097', '01100000 00000000'],
      ['blocks 16', '10000000 00000000'],
      ['atime -1', 'ffffffff ffffffff'],
      ['mtime -2^31 - 1', 'ffffff7f ffffffff'],
      ['ctime 2^32', '00000000 01000000'],
      ['atimensec', 'ffc99a3b'],
      ['mtimensec', '00000000'],
      ['ctimensec', '01000000'],
      ['mode S_IFREG 0644', 'a4810000'],
      ['nlink 1', '01000000'],
      ['uid', 'e8030000'],
      ['gid', 'e8030000'],
      ['rdev', '00000000'],
    ];
    const newer: readonly Row[] = [
      ['blksize 4096', '00100000'],
      ['flags FUSE_ATTR_DAX', '02000000'],
    ];
    const attr = {
      ino_lo: 0xffff_ffff,
      ino_hi: 0xffff_ffff,
      size: 4097,
      blocks: 16,
      atime: -1,
      mtime: -(2 ** 31) - 1,
      ctime: 2 ** 32,
      atimensec: 999_999_999,
      mtimensec: 0,
      ctimensec: 1,
      mode: 0o100644,
      nlink: 1,
      uid: 1000,
      gid: 1000,
      rdev: 0,
      blksize: 4096,
      flags: 2,
    };
    const value = {
      nodeid: 3,
      generation_lo: 1,
      generation_hi: 2,
      entry_valid: 1,
      attr_valid: 0,
      entry_valid_nsec: 0,
      attr_valid_nsec: 500_000_000,
      attr,
    };
    check([...rows, ...newer], value, newEntryOut(), decodeEntryOut, encodeEntryOut);
    check(rows, { ...value, attr: { ...attr, blksize: 0, flags: 0 } }, newEntryOut(), decodeEntryOut, encodeEntryOut);
    check([...rows.slice(6), ...newer], attr, newAttr(), decodeAttr, encodeAttr);
  });

  test('SETATTR that truncates', () => {
    check(
      [
        ['valid', '18000000'],
        ['padding', '00000000'],
        ['fh', '00000000 00000000'],
        ['size 2^40', '00000000 00010000'],
        ['lock_owner', '01000000 00000000'],
        ['atime -5', 'fbffffff ffffffff'],
        ['mtime', '00000000 00000000'],
        ['ctime', '00000000 00000000'],
        ['nanoseconds', '01000000 02000000 03000000'],
        ['mode', 'ff010000'],
        ['unused4', '00000000'],
        ['uid, gid', 'ffffffff feffffff'],
        ['unused5', '00000000'],
      ],
      {
        valid: FATTR_SIZE | FATTR_ATIME,
        fh: 0,
        size: 2 ** 40,
        lock_owner_lo: 1,
        lock_owner_hi: 0,
        atime: -5,
        mtime: 0,
        ctime: 0,
        atimensec: 1,
        mtimensec: 2,
        ctimensec: 3,
        mode: 0o777,
        uid: 0xffff_ffff,
        gid: 0xffff_fffe,
      },
      newSetattrIn(),
      decodeSetattrIn,
      encodeSetattrIn,
    );
  });

  test('a lock to the end of the file is Infinity', () => {
    const rows: readonly Row[] = [
      ['fh', '09000000 00000000'],
      ['owner', '01000080 020000f0'],
      ['start 100', '64000000 00000000'],
      ['end 2^63 - 1', 'ffffffff ffffff7f'],
      ['type F_WRLCK', '01000000'],
      ['pid', '05000000'],
      ['lk_flags', '01000000'],
      ['padding', '00000000'],
    ];
    const lk = { start: 100, end: Number.POSITIVE_INFINITY, type: 1, pid: 5 };
    const value = { fh: 9, owner_lo: 0x8000_0001, owner_hi: 0xf000_0002, lk, lk_flags: 1 };
    check(rows, value, newLkIn(), decodeLkIn, encodeLkIn);
    const finite = rows.with(3, ['end 2^32 + 1', '01000000 01000000']);
    check(finite, { ...value, lk: { ...lk, end: 2 ** 32 + 1 } }, newLkIn(), decodeLkIn, encodeLkIn);
  });

  test('the INIT reply in its three lengths', () => {
    const rows: readonly Row[] = [
      ['major 7', '07000000'],
      ['minor 45', '2d000000'],
      ['max_readahead', '00000200'],
      ['flags', '01000040'],
      ['max_background 256', '0001'],
      ['congestion_threshold 192', 'c000'],
      ['max_write 1 MiB', '00001000'],
      ['time_gran 1', '01000000'],
      ['max_pages 256', '0001'],
      ['map_alignment', '0c00'],
      ['flags2', '00020000'],
      ['max_stack_depth', '01000000'],
      ['request_timeout', '3c00'],
      ['unused', '00'.repeat(22)],
    ];
    const value = {
      major: 7,
      minor: 45,
      max_readahead: 131_072,
      flags: 0x4000_0001,
      max_background: 256,
      congestion_threshold: 192,
      max_write: 1_048_576,
      time_gran: 1,
      max_pages: 256,
      map_alignment: 12,
      flags2: 512,
      max_stack_depth: 1,
      request_timeout: 60,
    };
    const none = { time_gran: 0, max_pages: 0, map_alignment: 0, flags2: 0, max_stack_depth: 0, request_timeout: 0 };
    check(rows, value, newInitOut(), decodeInitOut, encodeInitOut);
    check(rows.slice(0, 7), { ...value, ...none }, newInitOut(), decodeInitOut, encodeInitOut);
    check(rows.slice(0, 2), { ...newInitOut(), major: 7, minor: 45 }, newInitOut(), decodeInitOut, encodeInitOut);
  });
});

/** Random bytes of a struct whose number fields stay below 2^53, with clean padding. */
function structBytesArbitrary(name: StructName, size: number): fc.Arbitrary<Uint8Array> {
  return fc.uint8Array({ minLength: size, maxLength: size, max: 255 }).map((bytes) => {
    tame(structOf(name), bytes, 0);
    return bytes;
  });
}

function tame(struct: PlacedStruct, bytes: Uint8Array, at: number): void {
  for (const field of struct.fields) {
    const from = at + field.offset;
    const to = Math.min(from + field.bytes, bytes.length);
    if (field.role === 'struct') tame(structOf(field.type as StructName), bytes, from);
    else if (field.role === 'padding' || field.role === 'area') bytes.fill(0, from, to);
    else if (field.bytes === 8 && field.role !== 'words' && to === from + 8) {
      // Signed fields keep their sign; all lose the bits that a double cannot hold.
      const negative = field.role === 'signed' && (bytes[from + 7]! & 0x80) !== 0;
      bytes[from + 6] = negative ? bytes[from + 6]! | 0xf0 : bytes[from + 6]! & 0x0f;
      bytes[from + 7] = negative ? 0xff : 0;
    }
  }
}

const sizesOf = ({ row, bytes }: PlacedStruct): number[] =>
  [...new Set([...(row.growth?.steps ?? []).map(([, size]) => size), bytes])].filter((size) => size > 0);

describe.each(STRUCTS.flatMap((struct) => sizesOf(struct).map((size) => ({ name: struct.name, size }))))(
  '$name of $size bytes',
  ({ name, size }) => {
    const struct = structOf(name);
    const codec = fastCodec(name);

    test('fast and exact codec agree in both directions', () => {
      fc.assert(
        fc.property(structBytesArbitrary(name, size), (bytes) => {
          const cursor = new Cursor(bytes);
          const exact = cursor.struct(name, size);
          expect(cursor.failure).toBeUndefined();
          expect(cursor.at).toBe(size);
          const out = codec.create();
          codec.decode(aligned(bytes).words, 0, out, size);
          expect(out).toEqual(fastValue(struct, exact));
          const words = new Uint32Array(Math.ceil(codec.size / 4) + 2).fill(name === 'fuse_uring_req_header' ? 0 : 0xa5a5a5a5);
          codec.encode(words, 0, out, size);
          expect(toHex(new Uint8Array(words.buffer, 0, size))).toBe(toHex(bytes));
          // Nothing is written beyond the size.
          const beyond = words.subarray(size / 4);
          expect(beyond.every((word) => word === (name === 'fuse_uring_req_header' ? 0 : 0xa5a5a5a5))).toBe(true);
          const writer = new Writer();
          writer.struct(name, size, exact);
          expect(toHex(writer.finish())).toBe(toHex(bytes));
        }),
        { numRuns: 40 },
      );
    });

    test('an empty value has every field 0 and only numbers', () => {
      const zero = codec.create();
      expect(zero).toEqual(fastValue(struct, {}));
      codec.decode(new Uint32Array(codec.size), 0, zero, size);
      expect(zero).toEqual(fastValue(struct, {}));
    });
  },
);
