import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decodeExtensions,
  EncodeError,
  encodeExtensions,
  extensionsBytes,
  type SecurityContext,
} from '../../src/protocol/index.ts';
import { fromHex, toHex } from './support.ts';

const CONTEXT = [
  ['size 48, head included', '30000000'],
  ['one context', '01000000'],
  ['value of 5 bytes', '05000000'],
  ['padding', '00000000'],
  ['security.selinux', `${Buffer.from('security.selinux').toString('hex')}00`],
  ['u:r:x', Buffer.from('u:r:x').toString('hex')],
  ['padding', '0000'],
  ['padding to 8', '00000000 00000000'],
] as const;
// 8 + align8(8 + 17 + 5) = 40 bytes.
const context = `28000000${CONTEXT.slice(1, 7)
  .map(([, hex]) => hex)
  .join('')}`;
const groups = ['10000000', '20000000', '01000000', 'e9030000'].join('');
const selinux: SecurityContext = { name: 'security.selinux', value: fromHex('753a723a78') };

describe('known bytes', () => {
  test('a security context and a group', () => {
    const bytes = fromHex(context + groups);
    expect(decodeExtensions(bytes, 0, bytes.length)).toEqual({ groups: [1001], securityContexts: [selinux] });
    expect(toHex(encodeExtensions({ securityContexts: [selinux], groups: [1001] }))).toBe(context + groups);
  });

  test('the head alone, which the kernel sends without a label', () => {
    expect(toHex(encodeExtensions({ securityContexts: [] }))).toBe('0800000000000000');
    expect(decodeExtensions(fromHex('0800000000000000'), 0, 8)).toEqual({ groups: [], securityContexts: [] });
  });

  test('unknown records are passed over', () => {
    const bytes = fromHex(`0c00000021000000aaaaaaaa00000000${groups}`);
    expect(decodeExtensions(bytes, 0, bytes.length)).toEqual({ groups: [1001], securityContexts: [] });
  });

  test('an empty area', () => expect(decodeExtensions(new Uint8Array(8), 8, 8)).toEqual({ groups: [], securityContexts: [] }));
});

test('round trips', () => {
  const name = fc.string({
    unit: fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code)),
    minLength: 1,
    maxLength: 30,
  });
  fc.assert(
    fc.property(
      fc.array(fc.record({ name, value: fc.uint8Array({ maxLength: 40 }) }), { maxLength: 31 }),
      fc.array(fc.nat(2 ** 32 - 1), { maxLength: 20 }),
      fc.nat(16),
      (securityContexts, ids, from) => {
        const area = encodeExtensions({ securityContexts, groups: ids });
        expect(area.length).toBe(extensionsBytes({ securityContexts, groups: ids }));
        expect(area.length % 8).toBe(0);
        const bytes = new Uint8Array(from + area.length + 8).fill(0xff);
        bytes.set(area, from);
        expect(decodeExtensions(bytes, from, from + area.length)).toEqual({ groups: ids, securityContexts });
      },
    ),
  );
});

describe('malformed areas are a failure', () => {
  test.each([
    ['a cut head', '0800000000'],
    ['a size of 0', '0000000020000000'],
    ['a size beyond the area', '1800000020000000'],
    ['more groups than bytes', '1000000020000000ffffffff00000000'],
    ['no room for the count of groups', '0800000020000000'],
    ['a context without bytes', '0800000001000000'],
    ['a context whose name has no NUL', '1800000001000000000000000000000061616161616161 61'],
    ['a context whose value is longer than the record', '180000000100000000ffffff000000006100000000000000'],
  ])('%s', (_, hex) => {
    const bytes = fromHex(hex);
    expect(decodeExtensions(bytes, 0, bytes.length)).toMatchObject({ kind: 'failure', code: 'BAD_EXTENSION' });
  });

  test('any bytes: never throws', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120, max: 40 }), (bytes) => void decodeExtensions(bytes, 0, bytes.length + 8)),
      { numRuns: 3000 },
    );
  });
});

test('what cannot be encoded throws with a code', () => {
  const many = Array.from({ length: 32 }, () => selinux);
  expect(() => encodeExtensions({ securityContexts: many })).toThrow(EncodeError);
  expect(() => encodeExtensions({ securityContexts: [{ name: 'a\0b', value: selinux.value }] })).toThrow(
    expect.objectContaining({ code: 'BAD_NAME' }),
  );
});
