/** SETUPMAPPING and REMOVEMAPPING, which only virtiofs sends: bytes as <linux/fuse.h> lays them out, both ways. */
import { describe, expect, test } from 'vitest';
import { decodeReply, decodeRequest, encodeMessage, PROTOCOL_MINOR } from '../../src/protocol/index.ts';
import { decoded, fromHex, toHex } from './support.ts';

const AGREED = { minor: PROTOCOL_MINOR, flags: new Set<never>() };

/** A header: length, opcode, unique 18, node 5, and nothing of a caller, as virtiofsd sees it. */
const header = (length: string, opcode: string) => `
  ${length} ${opcode} 1200000000000000 0500000000000000
  00000000 00000000 00000000 00000000`;

const SETUP = fromHex(`
  ${header('50000000', '30000000')}
  0700000000000000 0000200000000000 0000100000000000 0300000000000000 0000008000000000`);

const REMOVE = fromHex(`
  ${header('4c000000', '31000000')}
  02000000
  0000008000000000 0000100000000000
  0000308000000000 0010000000000000`);

describe('mappings of virtiofs', () => {
  test('SETUPMAPPING: a range of a file and its place in the window', () => {
    const message = decoded(decodeRequest(SETUP, AGREED));
    expect(message.structs[0]).toMatchObject({
      name: 'fuse_setupmapping_in',
      value: { fh: 7n, foffset: 0x20_0000n, len: 0x10_0000n, flags: 3n, moffset: 0x8000_0000n },
    });
    expect(toHex(encodeMessage(message))).toBe(toHex(SETUP));
  });

  test('REMOVEMAPPING: as many places as its count says', () => {
    const message = decoded(decodeRequest(REMOVE, AGREED));
    expect(message.structs).toMatchObject([{ name: 'fuse_removemapping_in', value: { count: 2 } }]);
    expect(message.records).toEqual([
      { moffset: 0x8000_0000n, len: 0x10_0000n },
      { moffset: 0x8030_0000n, len: 0x1000n },
    ]);
    expect(toHex(encodeMessage(message))).toBe(toHex(REMOVE));
    // One byte less, and a record too few for the count.
    expect(decodeRequest(REMOVE.slice(0, -1), AGREED)).toMatchObject({ kind: 'failure' });
    const short = REMOVE.slice(0, -16);
    short[0] = short.length;
    expect(decodeRequest(short, AGREED)).toMatchObject({ kind: 'failure', code: 'COUNT_MISMATCH' });
  });

  test.each(['SETUPMAPPING', 'REMOVEMAPPING'] as const)('the answer to %s is empty', (name) => {
    const bytes = fromHex('10000000 00000000 1200000000000000');
    expect(decodeReply(bytes, AGREED, { opcode: name, size: undefined })).toMatchObject({ kind: 'reply', structs: [] });
  });
});
