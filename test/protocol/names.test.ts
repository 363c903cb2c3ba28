import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeBinary, decodeUtf8, encodeBinary, encodeUtf8, findNul, utf8Bytes } from '../../src/protocol/index.ts';

const ascii = (text: string) => new Uint8Array([...text].map((letter) => letter.charCodeAt(0)));

describe('findNul', () => {
  test('finds the first NUL in the range', () => {
    const bytes = ascii('ab\0cd\0');
    expect(findNul(bytes, 0, 6)).toBe(2);
    expect(findNul(bytes, 3, 6)).toBe(5);
    expect(findNul(bytes, 3, 5)).toBe(-1);
    expect(findNul(bytes, 6, 6)).toBe(-1);
  });

  test('does not look past the bytes', () => expect(findNul(ascii('abc'), 0, 100)).toBe(-1));
});

describe('UTF-8', () => {
  test('every string without half surrogates round trips and equals the encoder of the platform', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), fc.nat(9), (text, at) => {
        const expected = new TextEncoder().encode(text);
        expect(utf8Bytes(text)).toBe(expected.length);
        const bytes = new Uint8Array(at + expected.length + 3).fill(0xee);
        expect(encodeUtf8(bytes, at, text)).toBe(expected.length);
        expect([...bytes.subarray(at, at + expected.length)]).toEqual([...expected]);
        expect([...bytes.subarray(0, at), ...bytes.subarray(at + expected.length)].every((byte) => byte === 0xee)).toBe(true);
        expect(decodeUtf8(bytes, at, at + expected.length)).toBe(text);
      }),
    );
  });

  test('every sequence of bytes is either refused or comes back', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        const text = decodeUtf8(bytes, 0, bytes.length);
        if (text === undefined) return;
        const again = new Uint8Array(utf8Bytes(text));
        encodeUtf8(again, 0, text);
        expect([...again]).toEqual([...bytes]);
      }),
      { numRuns: 2000 },
    );
  });

  test.each([
    ['a lone continuation byte', [0x80]],
    ['a cut sequence', [0x61, 0xe2, 0x82]],
    ['an overlong slash', [0xc0, 0xaf]],
    ['half a surrogate pair', [0xed, 0xa0, 0x80]],
    ['beyond U+10FFFF', [0xf4, 0x90, 0x80, 0x80]],
    ['0xff in a long name', [...Array.from({ length: 200 }, () => 0x61), 0xff]],
  ])('refuses %s', (_, bytes) => expect(decodeUtf8(new Uint8Array(bytes), 0, bytes.length)).toBeUndefined());

  test('keeps a byte order mark and a replacement character', () => {
    const bytes = new Uint8Array([0xef, 0xbb, 0xbf, 0xef, 0xbf, 0xbd]);
    expect(decodeUtf8(bytes, 0, 6)).toBe('\ufeff\ufffd');
  });

  test.each(['\ud800', 'a\udc00', '\ud800\ud800', '\udc00\ud800'])('half a surrogate pair cannot be written', (text) => {
    expect(utf8Bytes(text)).toBe(-1);
    expect(encodeUtf8(new Uint8Array(20), 0, text)).toBe(-1);
  });

  test('does not write what does not fit', () => {
    const bytes = new Uint8Array(4);
    expect(encodeUtf8(bytes, 2, 'abc')).toBe(-1);
    expect([...bytes]).toEqual([0, 0, 0, 0]);
  });
});

describe('binary', () => {
  test('every sequence of bytes round trips', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const text = decodeBinary(bytes, 0, bytes.length);
        expect(text.length).toBe(bytes.length);
        const again = new Uint8Array(bytes.length);
        expect(encodeBinary(again, 0, text)).toBe(bytes.length);
        expect([...again]).toEqual([...bytes]);
      }),
    );
  });

  test('refuses what is no byte, and what does not fit', () => {
    expect(encodeBinary(new Uint8Array(9), 0, 'a\u0100')).toBe(-1);
    expect(encodeBinary(new Uint8Array(2), 0, 'abc')).toBe(-1);
  });
});
