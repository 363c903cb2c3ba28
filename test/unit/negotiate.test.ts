/** INIT: what is accepted, what is refused and why. */
import { describe, expect, test } from 'vitest';
import { encodeInitFlags, INIT_FLAGS, type InitFlag, newInitIn } from '../../src/protocol/index.ts';
import {
  assertSensible,
  type Capabilities,
  initReply,
  MINOR_FLOOR,
  NegotiationError,
  negotiate,
} from '../../src/session/index.ts';

const everything = INIT_FLAGS.map((row) => row.name);

function init(minor: number, offered: readonly InitFlag[] = everything) {
  const { flags, flags2 } = encodeInitFlags(new Set(offered));
  return { ...newInitIn(), major: 7, minor, max_readahead: 131072, flags, flags2 };
}

const can = (methods: string[], requested: InitFlag[] = []): Capabilities => ({ methods, requested });

function code(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(NegotiationError);
    return (error as NegotiationError).code;
  }
  return 'nothing was thrown';
}

describe('flags', () => {
  test('every offered flag is either in force or refused with a reason', () => {
    const result = negotiate(init(45), can(['lookup']), {});
    for (const flag of everything) {
      expect(result.flags.has(flag) !== result.refused.has(flag), flag).toBe(true);
      if (result.refused.has(flag)) expect(result.refused.get(flag)).toMatch(/\w{3}/);
    }
  });

  test('nothing is accepted that the kernel did not offer', () => {
    const result = negotiate(init(45, ['FUSE_ASYNC_READ']), can(['setlk', 'getlk', 'readdirplus', 'ioctl', 'setxattr']), {});
    expect([...result.flags]).toEqual(['FUSE_ASYNC_READ']);
    expect(result.maxPages).toBe(32);
    expect(result.maxWrite).toBe(131072);
  });

  test.each<[InitFlag, string[]]>([
    ['FUSE_POSIX_LOCKS', ['getlk', 'setlk']],
    ['FUSE_FLOCK_LOCKS', ['setlk']],
    ['FUSE_DO_READDIRPLUS', ['readdirplus']],
    ['FUSE_HAS_IOCTL_DIR', ['ioctl']],
    ['FUSE_SETXATTR_EXT', ['setxattr']],
  ])('%s needs %j', (flag, methods) => {
    expect(negotiate(init(45), can(methods), {}).flags.has(flag)).toBe(true);
    expect(negotiate(init(45), can([]), {}).flags.has(flag)).toBe(false);
  });

  test('opening without a method is offered where the method is missing', () => {
    expect(negotiate(init(45), can([]), {}).flags.has('FUSE_NO_OPEN_SUPPORT')).toBe(true);
    expect(negotiate(init(45), can(['open']), {}).flags.has('FUSE_NO_OPEN_SUPPORT')).toBe(false);
  });

  test('O_TRUNC in open, set-id bits and the umask are the filesystem only when it says so', () => {
    const asked: InitFlag[] = ['FUSE_ATOMIC_O_TRUNC', 'FUSE_HANDLE_KILLPRIV_V2', 'FUSE_DONT_MASK'];
    for (const flag of asked) {
      expect(negotiate(init(45), can(['open', 'setattr']), {}).flags.has(flag), flag).toBe(false);
      expect(negotiate(init(45), can(['open', 'setattr'], [flag]), {}).flags.has(flag), flag).toBe(true);
    }
  });

  test('asynchronous direct I/O is on unless switched off', () => {
    expect(negotiate(init(45), can([]), {}).flags.has('FUSE_ASYNC_DIO')).toBe(true);
    expect(negotiate(init(45), can([]), { asyncDio: false }).flags.has('FUSE_ASYNC_DIO')).toBe(false);
  });
});

describe('limits', () => {
  test('the lower minor is in force', () => {
    expect(negotiate(init(99), can([]), {}).minor).toBe(45);
    expect(negotiate(init(31), can([]), {}).minor).toBe(31);
  });

  test('pages are limited by the system and the write size follows', () => {
    const result = negotiate(init(45), can([]), { maxPages: 1024, maxWrite: 4 << 20 }, 256);
    expect(result).toMatchObject({ maxPages: 256, maxWrite: 1 << 20 });
    expect(negotiate(init(45), can([]), { maxPages: 1024, maxWrite: 4 << 20 }, 1024)).toMatchObject({
      maxPages: 1024,
      maxWrite: 4 << 20,
    });
  });

  test('the congestion threshold is three quarters of the background limit', () => {
    const result = negotiate(init(45), can([]), { maxBackground: 64 });
    expect(initReply(result, 32)).toMatchObject({
      max_background: 64,
      congestion_threshold: 48,
      max_pages: 32,
      minor: 45,
      major: 7,
    });
  });
});

test('a time limit of requests is agreed on only where one is wanted and offered', () => {
  expect(negotiate(init(45), can([]), {}).flags.has('FUSE_REQUEST_TIMEOUT')).toBe(false);
  const limited = negotiate(init(45), can([]), { requestTimeoutSeconds: 60 });
  expect(limited.flags.has('FUSE_REQUEST_TIMEOUT')).toBe(true);
  expect(initReply(limited, 1).request_timeout).toBe(60);
  expect(initReply(negotiate(init(45, []), can([]), { requestTimeoutSeconds: 60 }), 1).request_timeout).toBe(0);
});

describe('refusals', () => {
  test('a kernel before the floor', () => {
    expect(code(() => negotiate(init(MINOR_FLOOR - 1), can([]), {}))).toBe('ERR_FUSEWIRE_KERNEL_TOO_OLD');
    expect(negotiate(init(MINOR_FLOOR), can([]), {}).minor).toBe(MINOR_FLOOR);
  });

  test('combinations that break', () => {
    expect(code(() => assertSensible(can([]), { writeback: true }))).toBe('ERR_FUSEWIRE_CAPABILITY');
    expect(code(() => assertSensible(can([], ['FUSE_ALLOW_IDMAP']), {}))).toBe('ERR_FUSEWIRE_CAPABILITY');
    expect(code(() => assertSensible(can([], ['FUSE_SUBMOUNTS']), {}))).toBe('ERR_FUSEWIRE_CAPABILITY');
    expect(code(() => assertSensible(can([], ['FUSE_NO_SUCH' as InitFlag]), {}))).toBe('ERR_FUSEWIRE_CAPABILITY');
    assertSensible(can(['setattr'], ['FUSE_ALLOW_IDMAP']), { writeback: true, defaultPermissions: true });
  });

  test.each([
    [{ maxWrite: 4095 }],
    [{ maxWrite: 4096.5 }],
    [{ maxPages: 0 }],
    [{ maxBackground: 65536 }],
    [{ congestionThreshold: 0 }],
    [{ timeGranularityNs: 0 }],
  ])('a setting out of range: %j', (settings) => {
    expect(code(() => assertSensible(can([]), settings))).toBe('ERR_FUSEWIRE_SETTING');
  });
});
