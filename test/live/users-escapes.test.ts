/**
 * Attempts to leave the folder that a passthrough shows: by symbolic links, `..`, names that change meanwhile, folders that are moved
 * away, and by requests that no kernel would send. Nothing outside is reached, made or changed.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import passthrough, { shared, sharedEnd } from '../../examples/passthrough/filesystem.ts';
import { OPCODES, type OpcodeName } from '../../src/protocol/index.ts';
import { body, TestKernel, word } from '../unit/wire.ts';
import {
  daemon,
  mountPoint,
  NO_MOUNTS,
  program,
  ROOT,
  run,
  runWell,
  skipLoudly,
  temporaryFolder,
  useLiveMounts,
} from './harness.ts';

const PYTHON =
  program('python3') && execFileSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' }).trim();
const LIMIT_MS = 120_000;

/** Everything about a folder that somebody could have changed from within the mount. */
function picture(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => {
      const path = join(folder, name);
      const at = lstatSync(path, { bigint: true });
      const contents = at.isFile() ? readFileSync(path, 'latin1') : '';
      return `${name} ${at.mode} ${at.uid} ${at.size} ${at.nlink} ${at.ctimeNs} ${contents}`;
    })
    .sort();
}

/** A folder to be shown, and one beside it that must stay as it is. */
function makeWorld(): { world: string; source: string; outside: string } {
  const world = temporaryFolder('world');
  const source = join(world, 'source');
  const outside = join(world, 'outside');
  for (const folder of [source, outside, join(source, 'x'), join(outside, 'folder')]) mkdirSync(folder);
  writeFileSync(join(source, 'x/f'), 'inside');
  for (const name of ['f', 'only-outside', 'folder/f']) writeFileSync(join(outside, name), 'SECRET');
  symlinkSync('../outside', join(source, 'y'));
  return { world, source, outside };
}

const skip = skipLoudly('escapes from a passthrough', NO_MOUNTS ?? (PYTHON === undefined ? 'there is no python3' : undefined));

describe.skipIf(skip)('paths on a mount', { timeout: 200_000 }, () => {
  useLiveMounts();

  async function mounted(source: string, workers = '3'): Promise<string> {
    const path = mountPoint();
    await daemon(['passthrough', source, path, '-o', 'allow_other,default_permissions', '--workers', workers], path);
    return path;
  }

  it('a folder and a symbolic link that are exchanged all the time lead nobody out', async () => {
    const { source, outside } = makeWorld();
    const path = await mounted(source);
    const before = picture(outside);
    const argv = [PYTHON!, join(ROOT, 'test/clients/users/race.py'), path, source, '6'];
    const [exchanges, served, found] = (await runWell(argv, { timeoutMs: LIMIT_MS })).trim().split(/ (?=\d|\[)/);
    expect(found).toBe('[]');
    // The race took place.
    expect(Number(exchanges)).toBeGreaterThan(50);
    expect(Number(served)).toBeGreaterThan(50);
    expect(picture(outside)).toEqual(before);
  });

  it('symbolic links are text: the daemon follows none, and "..", even of a folder that was moved out, stays inside', async () => {
    const { source, outside, world } = makeWorld();
    symlinkSync(join(outside, 'f'), join(source, 'absolute'));
    symlinkSync('../../../../../../outside/f', join(source, 'x/upwards'));
    symlinkSync('/proc/self/root', join(source, 'magic'));
    symlinkSync(join('/proc/1', 'root', 'etc/hostname'), join(source, 'magic-file'));
    mkdirSync(join(source, 'deep/er'), { recursive: true });
    writeFileSync(join(source, 'deep/er/own'), 'own');
    const path = await mounted(source);
    const before = picture(outside);
    const program = `
import os, sys
mnt, source, outside = sys.argv[1:]
def t(call):
    try: return call()
    except OSError as e: return type(e).__name__
here = os.stat(mnt).st_dev
print(os.readlink(mnt + '/absolute') == outside + '/f', os.readlink(mnt + '/magic'))
print([t(lambda: os.open(mnt + '/' + name, os.O_RDONLY | os.O_NOFOLLOW)) for name in ('absolute', 'x/upwards', 'magic', 'y')])
print(t(lambda: os.stat(mnt + '/y/f').st_dev == here), os.stat(mnt + '/magic').st_dev == here)
fd = os.open(mnt + '/deep/er', os.O_RDONLY | os.O_DIRECTORY)
os.rename(source + '/deep/er', outside + '/er')
at = lambda name, flags=os.O_RDONLY: t(lambda: os.close(os.open(name, flags, 0o600, dir_fd=fd)))
print([at(name) for name in ('../f', '../only-outside', '../../outside/f', '../../../outside/f')])
print(at('../made', os.O_CREAT | os.O_EXCL), os.path.exists(source + '/deep/made'), os.path.exists(outside + '/made'))
print(at('../../../../../../made', os.O_CREAT | os.O_EXCL | os.O_PATH))
os.rename(outside + '/er', source + '/deep/er')
`;
    const output = await runWell([PYTHON!, '-c', program, path, source, outside], { timeoutMs: LIMIT_MS });
    const lines = output.trimEnd().split('\n');
    expect(lines[0]).toBe('True /proc/self/root');
    expect(lines[1]).toBe("['OSError', 'OSError', 'OSError', 'OSError']");
    // A relative link leads the caller beside the mount point, an absolute one where it leads the caller anyway.
    expect(lines[2]).toBe('FileNotFoundError False');
    expect(lines[3]).toBe("['FileNotFoundError', 'FileNotFoundError', 'FileNotFoundError', 'FileNotFoundError']");
    expect(lines[4]).toBe('None True False');
    expect(picture(outside).filter((line) => !line.startsWith('er'))).toEqual(before);
    expect(readdirSync(world).sort()).toEqual(['outside', 'source']);
  });

  it('hard links lead to the one file that they name; across the border none is made', async () => {
    const { source, outside } = makeWorld();
    linkSync(join(outside, 'f'), join(source, 'shared'));
    const path = await mounted(source);
    const before = picture(outside);
    // The administrator linked it in: it is a file of the folder. Nobody else can, through the mount.
    expect(await runWell(['cat', join(path, 'shared')], { timeoutMs: LIMIT_MS })).toBe('SECRET');
    for (const [from, to] of [
      [join(outside, 'only-outside'), join(path, 'linked')],
      [join(path, 'x/f'), join(outside, 'linked')],
    ]) {
      expect((await run(['ln', from, to], { timeoutMs: LIMIT_MS })).stderr).toContain('cross-device');
    }
    expect(picture(outside)).toEqual(before);
  });

  it('names of odd bytes are names', async () => {
    const { source, outside } = makeWorld();
    const path = await mounted(source);
    const before = picture(outside);
    const program = `
import os, sys
mnt = sys.argv[1].encode()
names = [b'..\\\\outside', b'\\xff\\xfe', b'%2e%2e%2foutside', b'..\\xc0\\xaf..', b'\\xe2\\x80\\xae', b'. .', b'...', b' ', b'\\n', b'-rf', b'a' * 255, b'\\x01', b'~', b'self', b'3', b'fd', b'$HOME', b'*', b'\\xef\\xbc\\x8e\\xef\\xbc\\x8e']
for name in names:
    os.mkdir(mnt + b'/' + name); open(mnt + b'/' + name + b'/f', 'w').close()
print(sorted(os.listdir(mnt)) == sorted(names + [b'x', b'y']))
for name in names:
    os.unlink(mnt + b'/' + name + b'/f'); os.rename(mnt + b'/' + name, mnt + b'/z'); os.rmdir(mnt + b'/z')
try: os.mkdir(mnt + b'/' + b'a' * 256)
except OSError as e: print(e.errno)
`;
    expect(await runWell([PYTHON!, '-c', program, path], { timeoutMs: LIMIT_MS })).toBe('True\n36\n');
    expect(readdirSync(source).sort()).toEqual(['x', 'y']);
    expect(picture(outside)).toEqual(before);
  });
});

describe('requests that no kernel sends', () => {
  let kernel: TestKernel;
  let state: ReturnType<typeof shared>;
  let world: ReturnType<typeof makeWorld>;
  let inside: number;
  let link: number;

  useLiveMounts();

  beforeEach(async () => {
    world = makeWorld();
    chmodSync(world.source, 0o777);
    await start(world.source);
    inside = nodeOf('x');
    link = nodeOf('y');
  });

  afterEach(() => {
    kernel.pair.kernel.close();
    sharedEnd(state);
  });

  async function start(source: string): Promise<void> {
    state = shared({ source, maxNodes: 1024, backing: false });
    kernel = new TestKernel(passthrough({ index: 0, workers: 1, options: { source }, shared: state, mode: 'event' }));
    await kernel.init();
  }

  /** The errno that a request came to, at once: 0 for success. */
  function errnoOf(name: OpcodeName, payload: Uint8Array, nodeid = 1, uid = 0): number {
    const unique = kernel.request(name, payload, { nodeid, uid, gid: uid });
    const reply = kernel.of(unique);
    if (reply === undefined) throw new Error(`${name} was not answered at once`);
    return reply.errno;
  }

  function nodeOf(name: string): number {
    expect(errnoOf('LOOKUP', body(`${name}\0`))).toBe(0);
    return word(kernel.last().body, 0);
  }

  const zeros = (bytes: number) => new Uint8Array(bytes);
  const FLAGS_NEW = 0o102;

  /** Each request that brings a name, with that name in each place where one can stand. */
  const naming = (name: string): [OpcodeName, Uint8Array][] => [
    ['LOOKUP', body(`${name}\0`)],
    ['MKDIR', body(0o755, 0, `${name}\0`)],
    ['MKNOD', body(0o100644, 0, 0, 0, `${name}\0`)],
    ['SYMLINK', body(`${name}\0target\0`)],
    ['CREATE', body(FLAGS_NEW, 0o644, 0, 0, `${name}\0`)],
    ['UNLINK', body(`${name}\0`)],
    ['RMDIR', body(`${name}\0`)],
    ['LINK', body(BigInt(inside), `${name}\0`)],
    ['RENAME', body(1n, `${name}\0renamed\0`)],
    ['RENAME', body(1n, `x\0${name}\0`)],
    ['RENAME2', body(1n, 2, 0, `x\0${name}\0`)],
    ['RENAME2', body(1n, 2, 0, `${name}\0x\0`)],
    ['RENAME2', body(BigInt(link), 0, 0, `x\0${name}\0`)],
  ];

  const PATHS = [
    '..',
    '.',
    '',
    '/',
    '../outside',
    '../outside/f',
    'x/f',
    '/etc/passwd',
    'y/f',
    'y/only-outside',
    '//',
    './f',
    '../source',
    'x/',
  ];
  const LONG = ['a'.repeat(256), 'a'.repeat(4095), '../'.repeat(1000), `/proc/self/fd/${'0'.repeat(300)}`];
  const MAGIC = [join('/proc/self', 'root', 'etc/passwd'), '/proc/self/cwd', '/dev/fd/3', '/proc/self/fd/0'];

  it('names that are no single component are refused, whatever the request', () => {
    const before = [picture(world.outside), picture(world.source), readdirSync(world.world)];
    for (const name of [...PATHS, ...LONG, ...MAGIC]) {
      for (const [opcode, payload] of naming(name)) {
        for (const parent of [1, inside]) {
          expect(errnoOf(opcode, payload, parent), `${opcode} of ${name.slice(0, 40)} in ${parent}`).not.toBe(0);
        }
      }
    }
    expect([picture(world.outside), picture(world.source), readdirSync(world.world)]).toEqual(before);
  });

  it('a name ends at its NUL, and one without is malformed', () => {
    const before = picture(world.outside);
    expect(errnoOf('MKDIR', body(0o755, 0, 'made\0../outside/made\0'))).toBe(0);
    expect(errnoOf('LOOKUP', body('x\0../../outside\0'))).toBe(0);
    expect(word(kernel.last().body, 0)).toBe(inside);
    expect(errnoOf('UNLINK', body('x'))).not.toBe(0);
    expect(errnoOf('RENAME', body(1n, 'x\0'))).not.toBe(0);
    expect(readdirSync(world.source).sort()).toEqual(['made', 'x', 'y']);
    expect(picture(world.outside)).toEqual(before);
  });

  it('a symbolic link is no folder and no file: nothing goes through its node', () => {
    const before = picture(world.outside);
    for (const name of ['f', 'only-outside', 'folder', 'new']) {
      for (const [opcode, payload] of naming(name)) {
        if (opcode.startsWith('RENAME')) continue;
        expect(errnoOf(opcode, payload, link), `${opcode} of ${name} in the link`).not.toBe(0);
      }
      for (const payload of [body(BigInt(link), `x\0${name}\0`), body(BigInt(link), `y\0${name}\0`)]) {
        expect(errnoOf('RENAME', payload)).not.toBe(0);
      }
    }
    for (const [opcode, payload] of [
      ['OPEN', body(0, 0)],
      ['OPEN', body(2, 0)],
      ['OPEN', body(0o1002, 0)],
      ['OPENDIR', body(0o200000, 0)],
      ['TMPFILE', body(FLAGS_NEW, 0o644, 0, 0, '\0')],
      // FATTR_SIZE, FATTR_MODE.
      ['SETATTR', body(8, 0, zeros(80))],
      ['SETXATTR', body(1, 0, 0, 0, 'user.a\0b')],
    ] as const) {
      expect(errnoOf(opcode, payload, link), opcode).not.toBe(0);
    }
    expect(picture(world.outside)).toEqual(before);
  });

  it('nodes and handles that were never given are none', () => {
    const before = [picture(world.outside), picture(world.source)];
    const byHandle = (handle: number) => body(BigInt(handle), 0n, 4096, 0, 0n, 0, 0);
    for (const node of [0, 2 ** 20, 1000, 1023, 1024, 1025, 2 ** 31, 2 ** 32 - 1]) {
      for (const row of OPCODES) {
        if (!row.hasReply || row.method === undefined) continue;
        const names = row.request.names === 2 ? 'x\0y\0' : row.request.names === 1 ? 'x\0' : '';
        const struct = zeros(96);
        const errno = errnoOf(row.name, body(struct, names), node);
        // What asks nothing of the node: the filesystem as a whole.
        if (!['SYNCFS', 'INTERRUPT'].includes(row.name)) expect(errno, `${row.name} of node ${node}`).not.toBe(0);
      }
    }
    const { stdin } = process as unknown as { stdin: { fd: number } };
    for (const handle of [0, 1, 2, 3, stdin.fd, 7, 2 ** 20, 2 ** 32 - 1, 2 ** 40]) {
      for (const opcode of ['READ', 'READDIR', 'READDIRPLUS'] as const) {
        expect(errnoOf(opcode, byHandle(handle), inside), `${opcode} of handle ${handle}`).not.toBe(0);
      }
      expect(errnoOf('WRITE', body(BigInt(handle), 0n, 4, 0, 0n, 0, 0, 'EVIL'), inside)).not.toBe(0);
      expect(errnoOf('FSYNC', body(BigInt(handle), 0, 0), inside)).not.toBe(0);
      expect(errnoOf('FALLOCATE', body(BigInt(handle), 0n, 10n, 0, 0), inside)).not.toBe(0);
    }
    expect([picture(world.outside), picture(world.source)]).toEqual(before);
  });

  it('magic links of /proc are links: of a passthrough of /proc nothing is reached through them', async () => {
    sharedEnd(state);
    await start('/proc/self');
    for (const name of ['root', 'cwd', 'exe']) {
      const node = nodeOf(name);
      for (const [opcode, payload] of [
        ['LOOKUP', body('etc\0')],
        ['MKDIR', body(0o755, 0, 'fusewire-escape\0')],
        ['CREATE', body(FLAGS_NEW, 0o644, 0, 0, 'fusewire-escape\0')],
        ['OPEN', body(0, 0)],
        ['OPENDIR', body(0o200000, 0)],
      ] as const) {
        expect(errnoOf(opcode, payload, node), `${opcode} of ${name}`).not.toBe(0);
      }
    }
    expect(existsSync('/fusewire-escape') || existsSync('fusewire-escape')).toBe(false);
  });

  it('a folder that is replaced by a link between two requests stays what it was', () => {
    const before = picture(world.outside);
    renameSync(join(world.source, 'x'), join(world.source, 'moved'));
    symlinkSync('../outside', join(world.source, 'x'));
    expect(errnoOf('LOOKUP', body('only-outside\0'), inside)).toBe(0);
    expect(word(kernel.last().body, 0)).toBe(0);
    expect(errnoOf('LOOKUP', body('f\0'), inside)).toBe(0);
    const file = word(kernel.last().body, 0);
    rmSync(join(world.source, 'moved/f'));
    symlinkSync('../../outside/f', join(world.source, 'moved/f'));
    expect(errnoOf('OPEN', body(2, 0), file)).toBe(0);
    expect(errnoOf('SETATTR', body(8, 0, zeros(80)), file)).toBe(0);
    expect(errnoOf('MKDIR', body(0o755, 0, 'made\0'), inside)).toBe(0);
    expect(existsSync(join(world.source, 'moved/made'))).toBe(true);
    expect(picture(world.outside)).toEqual(before);
  });
});
