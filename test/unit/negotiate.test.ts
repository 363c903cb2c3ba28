/** INIT: what is accepted, what is refused and why. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { encodeInitFlags, INIT_FLAGS, type InitFlag, newInitIn } from '../../src/protocol/index.ts';
import {
  assertSensible,
  CAPABILITIES,
  type Capabilities,
  initReply,
  MINOR_FLOOR,
  NegotiationError,
  negotiate,
  type SessionSettings,
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

  test('the first version of taking set-id bits away is for kernels without the second', () => {
    const both = can(['setattr'], ['FUSE_HANDLE_KILLPRIV', 'FUSE_HANDLE_KILLPRIV_V2']);
    const newer = negotiate(init(45), both, {});
    expect([newer.flags.has('FUSE_HANDLE_KILLPRIV'), newer.flags.has('FUSE_HANDLE_KILLPRIV_V2')]).toEqual([false, true]);
    const older = negotiate(init(31, ['FUSE_HANDLE_KILLPRIV']), both, {});
    expect([...older.flags]).toEqual(['FUSE_HANDLE_KILLPRIV']);
    const refusing = negotiate(init(45), both, { refuseFlags: ['FUSE_HANDLE_KILLPRIV_V2'] });
    expect([refusing.flags.has('FUSE_HANDLE_KILLPRIV'), refusing.flags.has('FUSE_HANDLE_KILLPRIV_V2')]).toEqual([true, false]);
    const first = negotiate(init(45), can(['setattr'], ['FUSE_HANDLE_KILLPRIV']), {});
    expect([first.flags.has('FUSE_HANDLE_KILLPRIV'), first.flags.has('FUSE_HANDLE_KILLPRIV_V2')]).toEqual([true, false]);
  });

  test('a flag that the settings refuse is as if it were not offered', () => {
    const refused = negotiate(init(45), can([]), { refuseFlags: ['FUSE_MAX_PAGES', 'FUSE_ASYNC_READ'] });
    expect(refused.flags.has('FUSE_ASYNC_READ')).toBe(false);
    expect(refused.refused.get('FUSE_ASYNC_READ')).toBe('the settings refuse it');
    expect(refused.maxPages).toBe(32);
    const short = negotiate(init(45), can([]), { refuseFlags: ['FUSE_INIT_EXT'] });
    const { flags, flags2 } = initReply(short, 1);
    expect(flags2).toBe(0);
    expect(flags & (1 << 30)).toBe(0);
    expect(short.refused.get('FUSE_CREATE_SUPP_GROUP')).toBe('FUSE_INIT_EXT is refused');
  });

  test.each(['always', 'auto', 'never'] as const)('readdirplus %s', (readdirplus) => {
    const { flags } = negotiate(init(45), can(['readdirplus']), { readdirplus });
    expect(flags.has('FUSE_DO_READDIRPLUS')).toBe(readdirplus !== 'never');
    expect(flags.has('FUSE_READDIRPLUS_AUTO')).toBe(readdirplus === 'auto');
    const without = negotiate(init(45), can([]), { readdirplus });
    expect(without.flags.has('FUSE_READDIRPLUS_AUTO')).toBe(false);
  });

  test('asynchronous direct I/O is on unless switched off', () => {
    expect(negotiate(init(45), can([]), {}).flags.has('FUSE_ASYNC_DIO')).toBe(true);
    expect(negotiate(init(45), can([]), { asyncDio: false }).flags.has('FUSE_ASYNC_DIO')).toBe(false);
  });
});

describe('backing files', () => {
  const asks = can(['open'], ['FUSE_PASSTHROUGH']);
  const reply = (settings: SessionSettings, capabilities = asks) => {
    const result = negotiate(init(45), capabilities, settings);
    return { depth: initReply(result, 1).max_stack_depth, why: result.refused.get('FUSE_PASSTHROUGH') };
  };

  test('in force where the filesystem asks, and nothing stands against it', () => {
    expect(reply({})).toEqual({ depth: 1, why: undefined });
    expect(reply({ backing: true, maxStackDepth: 2 })).toEqual({ depth: 2, why: undefined });
    expect(reply({}, can(['open']))).toEqual({ depth: 0, why: 'the filesystem did not ask for it' });
    expect(reply({ backing: false }).why).toContain('switched off');
    expect(reply({ mayRegisterBackingFiles: false, backing: true }).why).toContain('CAP_SYS_ADMIN');
    expect(negotiate(init(45, ['FUSE_ASYNC_READ']), asks, {}).maxStackDepth).toBe(0);
  });

  test('not together with the write-back cache', () => {
    const asksAll = can(['open', 'setattr'], ['FUSE_PASSTHROUGH']);
    expect(reply({ writeback: true }, asksAll)).toEqual({ depth: 0, why: expect.stringContaining('exclude each other') });
    expect(() => assertSensible(asksAll, { writeback: true, backing: true })).toThrow('exclude each other');
    expect(code(() => assertSensible(can(['open']), { backing: true }))).toBe('ERR_FUSEWIRE_CAPABILITY');
    expect(code(() => assertSensible(asks, { maxStackDepth: 3 }))).toBe('ERR_FUSEWIRE_SETTING');
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

  const acl = ['getxattr', 'setxattr', 'removexattr'];

  test.each<[what: string, methods: string[], requested: InitFlag[], settings: SessionSettings, reason: RegExp]>([
    ['write-back without setattr', [], [], { writeback: true }, /setattr/],
    ['idmap without default_permissions', [], ['FUSE_ALLOW_IDMAP'], {}, /default_permissions/],
    ['O_TRUNC without open', ['setattr'], ['FUSE_ATOMIC_O_TRUNC'], {}, /open method/],
    ['export without lookup', [], ['FUSE_EXPORT_SUPPORT'], {}, /lookup/],
    ['export and no export', ['lookup'], ['FUSE_EXPORT_SUPPORT', 'FUSE_NO_EXPORT_SUPPORT'], {}, /contradicts/],
    ['lists without extended attributes', ['setxattr'], ['FUSE_POSIX_ACL', 'FUSE_DONT_MASK'], {}, /getxattr/],
    ['lists with the umask of the kernel', acl, ['FUSE_POSIX_ACL'], {}, /FUSE_DONT_MASK/],
    ['no opendir with opendir', ['opendir'], ['FUSE_NO_OPENDIR_SUPPORT'], {}, /never be called/],
    ['both ways of dropping data', [], ['FUSE_AUTO_INVAL_DATA', 'FUSE_EXPLICIT_INVAL_DATA'], {}, /contradict/],
    ['set-id bits without setattr', [], ['FUSE_HANDLE_KILLPRIV_V2'], {}, /setattr/],
    ['the same on older kernels', [], ['FUSE_HANDLE_KILLPRIV'], {}, /setattr/],
    ['what only virtiofs has', [], ['FUSE_SUBMOUNTS'], {}, /virtiofs/],
    ['a flag of methods without them', ['getlk'], ['FUSE_POSIX_LOCKS'], {}, /no getlk and setlk/],
    ['a flag of a setting', ['setattr'], ['FUSE_WRITEBACK_CACHE'], {}, /the setting writeback/],
    ['a flag that there is not', [], ['FUSE_NO_SUCH' as InitFlag], {}, /no INIT flag/],
    ['to refuse one that there is not', [], [], { refuseFlags: ['FUSE_NO_SUCH' as InitFlag] }, /no INIT flag/],
  ])('%s', (_, methods, requested, settings, reason) => {
    const start = () => assertSensible(can(methods, requested), settings);
    expect(code(start)).toBe('ERR_FUSEWIRE_CAPABILITY');
    expect(start).toThrow(reason);
    // Nothing is agreed on either, should it come to that.
    expect(() => negotiate(init(45), can(methods, requested), settings)).toThrow(reason);
  });

  test('the same with what it takes', () => {
    const methods = ['lookup', 'setattr', 'open', 'readdirplus', ...acl];
    const asked: InitFlag[] = [
      'FUSE_ALLOW_IDMAP',
      'FUSE_ATOMIC_O_TRUNC',
      'FUSE_EXPORT_SUPPORT',
      'FUSE_POSIX_ACL',
      'FUSE_DONT_MASK',
    ];
    asked.push('FUSE_NO_OPENDIR_SUPPORT', 'FUSE_EXPLICIT_INVAL_DATA', 'FUSE_HANDLE_KILLPRIV_V2', 'FUSE_HANDLE_KILLPRIV');
    // Harmless: they are taken anyway.
    asked.push('FUSE_ASYNC_READ', 'FUSE_DO_READDIRPLUS', 'FUSE_SETXATTR_EXT');
    assertSensible(can(methods, asked), { writeback: true });
    assertSensible(can([], ['FUSE_ALLOW_IDMAP']), { defaultPermissions: true });
    assertSensible(can([], ['FUSE_AUTO_INVAL_DATA']), {});
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

describe('docs/CAPABILITIES.md', () => {
  const page = readFileSync(new URL('../../docs/CAPABILITIES.md', import.meta.url), 'utf8');
  const rows = [...page.matchAll(/^\| `(FUSE_\w+)` \| 7\.(\d+) \| (\w+)(?: `(\w+)`)? \| (.+) \|$/gm)];

  test('has each flag once, with who decides and since when', () => {
    const said = rows.map(([, flag, since, kind]) => [flag, Number(since), kind]);
    const known = INIT_FLAGS.map(({ name, since }) => [name, since, CAPABILITIES[name].kind]);
    expect(said.slice().sort()).toEqual(known.slice().sort());
  });

  test('names the setting of each flag of a setting, and no other', () => {
    const bySetting = rows.filter(([, , , kind]) => kind === 'setting').map(([, flag, , , setting]) => [flag, setting]);
    for (const [flag, setting] of bySetting) {
      expect(() => assertSensible(can(['setattr'], [flag as InitFlag]), {})).toThrow(`the setting ${setting} of the mount`);
    }
    expect(rows.filter(([, , , kind, setting]) => (kind === 'setting') !== (setting !== undefined))).toEqual([]);
  });

  test('gives the reason of each that is refused', () => {
    for (const [, flag, , kind, text] of rows.map((row) => [row[0], row[1], row[2], row[3], row[5]])) {
      if (kind !== 'refused' || text === 'The same.') continue;
      const reason = negotiate(init(45), can([]), {}).refused.get(flag as InitFlag)!;
      // The page may say more, and begins with a capital.
      const plain = (words: string) => words.toLowerCase().replace(/[.;:]/g, '').split(' ').slice(0, 3).join(' ');
      expect(plain(text), flag).toBe(plain(reason));
    }
  });

  test('every combination that is refused has its row', () => {
    const table = page.slice(page.indexOf('## What does not go together'));
    for (const flag of ['FUSE_ALLOW_IDMAP', 'FUSE_ATOMIC_O_TRUNC', 'FUSE_EXPORT_SUPPORT', 'FUSE_POSIX_ACL'])
      expect(table).toContain(flag);
    const asking = INIT_FLAGS.map(({ name }) => name).filter((name) => CAPABILITIES[name].kind === 'request');
    // Asked for by a filesystem without a method, and with all of them.
    for (const name of asking) {
      const bare = code(() => assertSensible(can([], [name]), {}));
      if (bare !== 'nothing was thrown') expect(table, name).toContain(`\`${name}\``);
    }
  });
});
