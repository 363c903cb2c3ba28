/** Faults, seeds and what ENOSYS means: the simulated kernel when things go wrong, and a real filesystem under disorder. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MemoryFilesystem } from '../../examples/memory/filesystem.ts';
import type { Filesystem } from '../../src/filesystem/index.ts';
import { type FaultAction, type SimulatedProcess, type SimulationOptions, simulate } from '../../src/testing/index.ts';
import { bytes, operationsOf, SmallTree, text, turn } from './kernel-tree.ts';

const O_RDONLY = 0;
const O_RDWR = 2;
const O_CREAT = 0o100;
const O_DIRECTORY = 0o200000;

async function small(replace: Partial<Filesystem> = {}, options: SimulationOptions = {}) {
  const tree = new SmallTree();
  const kernel = await simulate({ ...tree.filesystem(), ...replace }, { audited: tree, ...options });
  return { tree, kernel, p: await kernel.process() };
}

describe('faults', () => {
  test('the n-th request of an opcode fails with an errno, and the daemon never sees it', async () => {
    const { kernel, p, tree } = await small();
    tree.add('f');
    tree.entryTtl = 0;
    const planned = kernel.inject({ operation: 'LOOKUP', nth: 2, action: { kind: 'errno', errno: 12 } });
    await p.stat('/f');
    await expect(p.stat('/f')).rejects.toMatchObject({ code: 'ENOMEM', syscall: 'stat', path: '/f' });
    await p.stat('/f');
    expect(planned.hits).toBe(1);
    await kernel.end();
  });

  test('a malformed answer is EIO; what the daemon granted with it is taken back', async () => {
    const { kernel, p, tree } = await small();
    tree.add('f');
    kernel.inject({ operation: 'LOOKUP', action: { kind: 'malformed-reply' } });
    await expect(p.stat('/f')).rejects.toMatchObject({ code: 'EIO' });
    expect(tree.counts.size).toBe(0);
    await p.stat('/f');
    await kernel.end();
  });

  test('an answer that nobody wants any more is taken back too', async () => {
    const { kernel, p, tree } = await small();
    tree.add('f', bytes('abc'));
    await p.stat('/f');
    kernel.inject({ operation: 'OPEN', action: { kind: 'refuse-reply', errno: 2 } });
    await expect(p.open('/f', O_RDONLY)).rejects.toMatchObject({ code: 'EINTR' });
    await turn();
    expect(tree.handles.size).toBe(0);
    await kernel.end();
  });

  test('a duplicate is refused and changes nothing', async () => {
    const { kernel, p, tree } = await small();
    tree.add('f');
    kernel.inject({ operation: 'LOOKUP', action: { kind: 'duplicate-reply' } });
    await p.stat('/f');
    await kernel.end();
  });

  test('a delayed answer comes when the clock says', async () => {
    const { kernel, p, tree } = await small();
    tree.add('f');
    kernel.inject({ operation: 'LOOKUP', action: { kind: 'delay-reply', ms: 500 } });
    let isDone = false;
    const stat = p.stat('/f').then(() => {
      isDone = true;
    });
    kernel.advance(499);
    await turn();
    expect(isDone).toBe(false);
    await turn();
    kernel.advance(501);
    await stat;
    await kernel.end();
  });

  test.each<FaultAction>([{ kind: 'drop-request' }, { kind: 'drop-reply' }])(
    'what is lost is reported: $kind',
    async (action) => {
      const { kernel, p, tree } = await small({}, { endTimeoutMs: 50 });
      tree.add('f');
      kernel.inject({ operation: 'LOOKUP', action });
      const stat = p.stat('/f');
      stat.catch(() => {});
      await turn();
      expect(kernel.pending).toMatchObject([{ operation: 'LOOKUP', names: ['f'] }]);
      await expect(kernel.end()).rejects.toMatchObject({ violations: [{ kind: 'unanswered' }] });
      await expect(stat).rejects.toMatchObject({ code: 'ECONNABORTED' });
    },
  );

  test('a filesystem that answers more than was asked gets EIO for its caller', async () => {
    const { kernel, p, tree } = await small();
    tree.add('f', bytes('abc'));
    const fd = await p.open('/f', O_RDONLY | 0o40000);
    kernel.inject({
      operation: 'READ',
      action: {
        kind: 'alter-reply',
        alter: (reply) => {
          const longer = new Uint8Array(200_000);
          longer.set(reply);
          new DataView(longer.buffer).setUint32(0, longer.length, true);
          return longer;
        },
      },
    });
    await expect(p.read(fd, 3, 0)).rejects.toMatchObject({ code: 'EIO' });
    await kernel.end();
  });
});

describe('ENOSYS is remembered', () => {
  const cases: [string, (p: SimulatedProcess) => Promise<unknown>, string | undefined][] = [
    ['FSYNC', async (p) => p.fsync(await p.open('/f', O_RDWR)), undefined],
    ['FLUSH', async (p) => p.close(await p.open('/f', O_RDWR)), undefined],
    ['GETXATTR', (p) => p.getxattr('/f', 'user.a'), 'EOPNOTSUPP'],
    ['SETXATTR', (p) => p.setxattr('/f', 'user.a', bytes('x')), 'EOPNOTSUPP'],
    ['LISTXATTR', (p) => p.listxattr('/f'), 'EOPNOTSUPP'],
    ['REMOVEXATTR', (p) => p.removexattr('/f', 'user.a'), 'EOPNOTSUPP'],
    ['LINK', (p) => p.link('/f', '/g'), 'EPERM'],
    ['RENAME2', (p) => p.renameat2('/f', '/g', 1), 'EINVAL'],
    ['TMPFILE', (p) => p.open('/', O_RDWR | 0o20200000), 'EOPNOTSUPP'],
    ['FALLOCATE', async (p) => p.fallocate(await p.open('/f', O_RDWR), 0, 0, 10), 'EOPNOTSUPP'],
    ['LSEEK', async (p) => p.lseek(await p.open('/f', O_RDWR), 1, 3), undefined],
    ['POLL', async (p) => p.poll(await p.open('/f', O_RDWR), 5), undefined],
  ];
  test.each(cases)('%s', async (operation, action, code) => {
    const { kernel, p, tree } = await small();
    tree.add('f', bytes('abc'));
    for (const sent of [1, 0]) {
      kernel.clearRequests();
      const outcome = await action(p).then(
        () => undefined,
        (error: { code: string }) => error.code,
      );
      expect(outcome).toBe(code);
      expect(kernel.operations.filter((name) => name === operation)).toHaveLength(sent);
    }
    await kernel.end();
  });

  test('COPY_FILE_RANGE_64, then COPY_FILE_RANGE, then READ and WRITE', async () => {
    const { kernel, p, tree } = await small();
    tree.add('f', bytes('abcdef'));
    const from = await p.open('/f', O_RDONLY);
    const to = await p.open('/g', O_RDWR | O_CREAT);
    const operations = await operationsOf(kernel, () => p.copyFileRange(from, 1, to, 0, 100));
    expect(operations.filter((name) => name !== 'GETXATTR')).toEqual(['COPY_FILE_RANGE_64', 'COPY_FILE_RANGE', 'READ', 'WRITE']);
    expect(text(tree.files.get('g')!.data)).toBe('bcdef');
    await kernel.end();
  });
});

/** Several callers who make, move, read and remove in a few directories; every failure but the expected ones counts. */
async function quarrel(p: SimulatedProcess, seed: number): Promise<void> {
  const EXPECTED = new Set(['ENOENT', 'EEXIST', 'ENOTEMPTY', 'EISDIR', 'ENOTDIR', 'EINVAL', 'EBUSY', 'EPERM', 'ESTALE']);
  let state = seed;
  const pick = (limit: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % limit;
  };
  const path = () => `/${['a', 'b', 'c'][pick(3)]}${pick(2) === 0 ? '' : `/${['x', 'y', 'z'][pick(3)]}`}`;
  const steps = [
    () => p.mkdir(path()),
    () => p.rmdir(path()),
    () => p.unlink(path()),
    () => p.rename(path(), path()),
    () => p.link(path(), path()),
    () => p.stat(path()),
    async () => {
      const fd = await p.open(path(), O_RDWR | O_CREAT);
      await p.write(fd, bytes('some text'), pick(10_000));
      await p.read(fd, 20_000, 0);
      await p.close(fd);
    },
    async () => {
      const fd = await p.open(path(), O_DIRECTORY);
      await p.getdents(fd);
      await p.close(fd);
    },
  ];
  for (let i = 0; i < 60; i++) {
    await steps[pick(steps.length)]().catch((error: { code?: string }) => {
      if (error.code === undefined || !EXPECTED.has(error.code)) throw error;
    });
  }
}

describe('the memory filesystem under disorder', () => {
  const SEEDS = Array.from({ length: 12 }, (_, index) => index + 1);
  test.each(SEEDS)('seed %i: four callers, and nothing is left over', async (seed) => {
    const writeback = seed % 2 === 0;
    const readdirplus = (['always', 'auto', 'never'] as const)[seed % 3];
    const kernel = await simulate(new MemoryFilesystem(), { seed, settings: { writeback, readdirplus } });
    const processes = await Promise.all([0, 1, 2, 3].map(() => kernel.process()));
    await Promise.all(processes.map((p, index) => quarrel(p, seed * 100 + index)));
    // Rejects when a count, an opening or an answer is missing, or a lock was never let go.
    await kernel.end();
    expect(kernel.operations.some((operation) => operation.endsWith('FORGET'))).toBe(true);
    expect(kernel.cached.inodes).toBe(1);
  });

  test('the same seed gives the same run, another one another', async () => {
    const run = async (seed: number) => {
      const kernel = await simulate(new MemoryFilesystem(), { seed });
      const processes = await Promise.all([0, 1].map(() => kernel.process()));
      await Promise.all(processes.map((p, index) => quarrel(p, 7 + index)));
      const log = kernel.requests.map(({ operation, nodeid, pid, names }) => `${operation} ${nodeid} ${pid} ${names}`);
      await kernel.end();
      return log.join('\n');
    };
    const first = await run(5);
    expect(await run(5)).toBe(first);
    expect(await run(6)).not.toBe(first);
  });

  test('a failure of the audit says the seed', async () => {
    const { kernel, p, tree } = await small({ forget: () => {} }, { seed: 1234 });
    tree.add('f');
    await p.stat('/f');
    await expect(kernel.end()).rejects.toMatchObject({ seed: 1234, message: expect.stringContaining('seed 1234') });
  });
});

let unhandled: unknown[] = [];
const note = (error: unknown) => unhandled.push(error);
beforeAll(() => {
  unhandled = [];
  process.on('unhandledRejection', note);
});
afterAll(() => {
  process.off('unhandledRejection', note);
  expect(unhandled).toEqual([]);
});
