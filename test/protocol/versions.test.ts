import { describe, expect, test } from 'vitest';
import * as protocol from '../../src/protocol/index.ts';
import {
  decodeInitFlags,
  encodeInitFlags,
  INIT_FLAGS,
  type InitFlag,
  initFlagRow,
  MINOR_OF,
  opcodeNamed,
  PROTOCOL_MINOR,
  requestStructBytes,
  structBytesOnWire,
  structOf,
} from '../../src/protocol/index.ts';
import { readFacts } from './support.ts';

const exported = protocol as unknown as Record<string, (minor: number) => boolean>;

describe('version predicates', () => {
  test.each(Object.entries(MINOR_OF))('%s from 7.%i on', (name, since) => {
    const predicate = exported[name]!;
    for (let minor = 0; minor <= PROTOCOL_MINOR + 1; minor++) expect(predicate(minor), `7.${minor}`).toBe(minor >= since);
  });

  test('agree with the sizes that travel', () => {
    const wire = (name: protocol.StructName, minor: number) => structBytesOnWire(structOf(name), minor, false);
    for (let minor = 1; minor <= PROTOCOL_MINOR; minor++) {
      expect(protocol.attrHasBlksize(minor)).toBe(wire('fuse_attr', minor) === 88);
      expect(protocol.statfsHasFragmentSize(minor)).toBe(wire('fuse_kstatfs', minor) === 80);
      expect(protocol.readWriteHaveLockOwner(minor)).toBe(requestStructBytes(opcodeNamed('WRITE'), minor) === 40);
      expect(protocol.createHasUmask(minor)).toBe(requestStructBytes(opcodeNamed('CREATE'), minor) === 16);
    }
  });

  test('the history of the protocol mentions each change at its minor', () => {
    const { minor_versions: history } = readFacts<{ minor_versions: { minor: number; change: string }[] }>();
    const said = (minor: number) => history.find((entry) => entry.minor === minor)!.change;
    const WORDS: Partial<Record<keyof typeof MINOR_OF, RegExp>> = {
      statfsHasFragmentSize: /fragment size/,
      initOutHasLimits: /max_write/,
      initInHasFlags: /max_readahead, flags/,
      flushHasLockOwner: /FLUSH/,
      interruptsExist: /INTERRUPT/,
      releaseHasLockOwner: /RELEASE request/,
      attrHasBlksize: /blksize/,
      getattrHasBody: /GETATTR/,
      lockHasFlags: /lk_flags/,
      setattrHasNowBits: /"now" bits/,
      notificationsExist: /notification/,
      createHasUmask: /umask/,
      maxBackgroundIsHonoured: /max_background/,
      batchForgetExists: /BATCH_FORGET/,
      ioctlIovecIsFixed: /fixed 64-bit/,
      flockHasOwnFlag: /flock/,
      ioctlOnDirectoriesExists: /ioctl on directories/,
      readdirplusExists: /READDIRPLUS/,
      pollHasEvents: /wanted events/,
      initOutIsLong: /24 -> 64/,
      setattrHasCtime: /ctime/,
      rename2Exists: /RENAME2/,
      maxPagesIsNegotiable: /max_pages/,
      attrHasFlags: /padding becomes flags/,
      setxattrMayBeLong: /SETXATTR_EXT/,
      initInHasSecondFlags: /second 32-bit flag word/,
      headerHasExtensionLength: /total length in the request header/,
      statxExists: /STATX/,
      passthroughExists: /Passthrough/,
      resendExists: /resend/,
      ringExists: /io_uring/,
      requestTimeoutIsNegotiable: /request timeout/,
      copyFileRange64Exists: /COPY_FILE_RANGE/,
      pruneExists: /prune/,
      readWriteHaveLockOwner: /READ\/WRITE requests gain lock owner/,
    };
    expect(Object.keys(WORDS).sort()).toEqual(Object.keys(MINOR_OF).sort());
    for (const [name, words] of Object.entries(WORDS)) expect(said(MINOR_OF[name as keyof typeof MINOR_OF]), name).toMatch(words);
  });
});

describe('INIT flags', () => {
  test('what Linux 6.18 offers', () => {
    const offered = decodeInitFlags(0x73fffffb, 0x7fd);
    const missing = INIT_FLAGS.filter(({ name }) => !offered.has(name)).map(({ name }) => name);
    expect(missing).toEqual([
      'FUSE_FILE_OPS',
      'FUSE_MAP_ALIGNMENT',
      'FUSE_SUBMOUNTS',
      'FUSE_INIT_RESERVED',
      'FUSE_HAS_INODE_DAX',
    ]);
    expect(encodeInitFlags(offered)).toEqual({ flags: 0x73fffffb, flags2: 0x7fd });
  });

  test('the second word counts with FUSE_INIT_EXT only', () => {
    expect(decodeInitFlags(1, 0xffff_ffff)).toEqual(new Set(['FUSE_ASYNC_READ']));
    expect(decodeInitFlags(0x4000_0000, 0x20)).toEqual(new Set(['FUSE_INIT_EXT', 'FUSE_PASSTHROUGH']));
  });

  test('every flag alone', () => {
    for (const { name, bit } of INIT_FLAGS) {
      const { flags, flags2 } = encodeInitFlags([name]);
      expect([flags, flags2]).toEqual(bit < 32 ? [2 ** bit, 0] : [2 ** 30, 2 ** (bit - 32)]);
      const expected: InitFlag[] = bit < 32 ? [name] : ['FUSE_INIT_EXT', name];
      expect(decodeInitFlags(flags, flags2)).toEqual(new Set(expected));
      expect(initFlagRow(name).bit).toBe(bit);
    }
  });

  test('bits that nobody knows are left out', () =>
    expect(decodeInitFlags(0x4000_0000, 0x8000_0000)).toEqual(new Set(['FUSE_INIT_EXT'])));
});
