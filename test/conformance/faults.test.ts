/** A case is worth something when a filesystem that errs is caught: faults are put between the cases and a good one. */
import { chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { CONFORMANCE, runConformance } from '../../src/testing/conformance/index.ts';
import { CallError } from '../../src/testing/host/errors.ts';
import { endIdleProcesses, hostTree } from '../../src/testing/host/index.ts';
import type { PosixProcess, PosixStat, PosixTree } from '../../src/testing/posix.ts';

type Faulty = { [Name in keyof PosixProcess]?: (real: PosixProcess, ...args: Parameters<PosixProcess[Name]>) => unknown };

const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'fusewire-faults-'));
// mkdtemp makes it private, and processes of other users have to reach their trees.
chmodSync(folder, 0o755);

afterAll(async () => {
  await endIdleProcesses();
  rmSync(folder, { recursive: true, force: true });
});

/** A tree whose processes do some calls wrong. */
async function faultyTree(faults: Faulty): Promise<PosixTree> {
  const tree = await hostTree(folder);
  const wrap = (real: PosixProcess): PosixProcess =>
    new Proxy(real, {
      get(target, name: keyof PosixProcess) {
        const fault = faults[name] as ((real: PosixProcess, ...args: unknown[]) => unknown) | undefined;
        const method = target[name] as ((...args: unknown[]) => unknown) | undefined;
        return fault === undefined ? method?.bind(target) : async (...args: unknown[]) => fault(target, ...args);
      },
    });
  return {
    name: 'faulty',
    unsupported: tree.unsupported,
    process: async (identity) => wrap(await tree.process(identity)),
    end: () => tree.end(),
  };
}

const cheapened = async (stat: Promise<PosixStat>, change: (stat: PosixStat) => Partial<PosixStat>): Promise<PosixStat> => {
  const real = await stat;
  return { ...real, ...change(real) };
};
const refuse = (code: number, call: string): never => {
  throw new CallError(-code, call, []);
};

const FAULTS: { name: string; only: RegExp; faults: Faulty; caught: string[] }[] = [
  {
    name: 'rename that does not replace',
    only: /^rename: a (file|directory) over/,
    faults: {
      rename: async (real, from, to) =>
        (await real.lstat(to).catch(() => undefined)) ? refuse(17, 'rename') : real.rename(from, to),
    },
    caught: ['rename: a file over a file replaces it', 'rename: a directory over a directory that is empty replaces it'],
  },
  {
    name: 'append that ignores what others wrote',
    only: /^append/,
    faults: { open: (real, path, flags, mode) => real.open(path, flags & ~0o2000, mode) },
    caught: ['append: every write goes to the end', 'append: two processes lose nothing'],
  },
  {
    name: 'truncation that leaves the tail',
    only: /truncate: what was cut off/,
    faults: {
      ftruncate: async (real, fd, length) => {
        const tail = await real.read(fd, 100, length);
        await real.ftruncate(fd, length);
        if (tail.length > 0) await real.write(fd, tail, length);
        await real.ftruncate(fd, length + tail.length);
      },
    },
    caught: ['truncate: what was cut off is gone when the file grows again'],
  },
  {
    name: 'a directory that loses an entry at the edge of a buffer',
    only: /^readdir: (in buffers|1000 entries)/,
    faults: { getdentsSome: async (real, fd, bytes) => (await real.getdentsSome(fd, bytes)).slice(0, 9) },
    caught: ['readdir: in buffers of 1024 bytes', 'readdir: in buffers of 4096 bytes'],
  },
  {
    name: 'link counts that stay at one',
    only: /^link: (gives|nlink)/,
    faults: { stat: (real, path) => cheapened(real.stat(path), () => ({ nlink: 1 })) },
    caught: ['link: gives a file a second name', 'link: nlink counts a hundred names up and down'],
  },
  {
    name: 'times of whole seconds',
    only: /^utimens: (2001|now|omit)/,
    faults: {
      stat: (real, path) =>
        cheapened(real.stat(path), ({ mtimeNs, atimeNs }) => ({ mtimeNs: mtimeNs - (mtimeNs % 1_000_000_000n), atimeNs })),
    },
    caught: ['utimens: 2001 with nanoseconds'],
  },
  {
    name: 'chmod that does nothing',
    only: /^chmod: of a file to 0(400|755)/,
    faults: { chmod: async () => {} },
    caught: ['chmod: of a file to 0400', 'chmod: of a file to 0755'],
  },
  {
    name: 'locks that never conflict',
    only: /^lock: a write lock of 5\+10/,
    faults: { setlk: async () => {}, getlk: async () => undefined },
    caught: [
      'lock: a write lock of 5+10 conflicts with a read lock of 0+10',
      'lock: a write lock of 5+10 conflicts with a write lock of 0+10',
    ],
  },
  {
    name: 'reads that lose the top half of a large position',
    only: /^large file: bytes at 4294967297/,
    faults: {
      read: (real, fd, length, position) => real.read(fd, length, position === undefined ? undefined : position % 2 ** 32),
    },
    caught: ['large file: bytes at 4294967297'],
  },
  {
    name: 'names cut to seven bits',
    only: /^name: (in Latin|of one byte that)/,
    faults: {
      getdents: async (real, fd) =>
        (await real.getdents(fd)).map((entry) => ({ ...entry, name: entry.name.replace(/[\x80-\xff]/g, '?') })),
    },
    caught: ['name: in Latin', 'name: of one byte that is not UTF-8'],
  },
  {
    name: 'extended attributes that are replaced silently',
    only: /^xattr: XATTR_(CREATE|REPLACE)/,
    faults: { setxattr: (real, path, name, value) => real.setxattr(path, name, value) },
    caught: ['xattr: XATTR_CREATE of one that is there is EEXIST', 'xattr: XATTR_REPLACE of a missing one is ENODATA'],
  },
];

describe('a fault is caught', () => {
  test.each(FAULTS)('$name', async ({ only, faults, caught }) => {
    const sound = await runConformance(() => hostTree(folder), { only });
    expect(sound.failed, String(sound)).toBe(0);
    const report = await runConformance(() => faultyTree(faults), { only });
    const failed = report.results.filter(({ outcome }) => outcome === 'failed');
    expect(failed.map(({ name }) => name)).toEqual(expect.arrayContaining(caught));
    // Either an expectation that was not met, or an errno that the case did not expect; never a bug of the case.
    for (const { name, error } of failed) expect((error as { code?: string }).code, name).toMatch(/^E[A-Z_]+$/);
  });
});

describe('the runner', () => {
  const good = { needs: [], run: async () => {} };
  const makeTree = () => hostTree(folder);

  test('there are several hundred cases', () => {
    expect(Object.keys(CONFORMANCE).length).toBeGreaterThan(800);
  });

  test('a case that needs an unsupported feature is skipped, by choice and by the tree', async () => {
    const cases = { a: { ...good, needs: ['xattrs'] as const }, b: good };
    const chosen = await runConformance(makeTree, { cases, unsupported: ['xattrs'] });
    expect(chosen.results.map(({ name, outcome, reason }) => [name, outcome, reason])).toEqual([
      ['a', 'skipped', 'xattrs is not supported'],
      ['b', 'passed', undefined],
    ]);
    const told = await runConformance(() => hostTree(folder, { unsupported: new Map([['xattrs', 'no room']]) }), { cases });
    expect(told.results[0]).toMatchObject({ outcome: 'skipped', reason: 'xattrs: no room' });
  });

  test('an exception is skipped with its reason, and has to name a case', async () => {
    const report = await runConformance(makeTree, { cases: { a: good }, except: { a: 'known' } });
    expect(report.results[0]).toMatchObject({ outcome: 'skipped', reason: 'known' });
    await expect(runConformance(makeTree, { cases: { a: good }, except: { z: 'gone' } })).rejects.toThrow(RangeError);
  });

  test('a case that does not end fails, and the next one runs', async () => {
    const cases = { hangs: { needs: [], run: () => new Promise<void>(() => {}) }, next: good };
    const report = await runConformance(makeTree, { cases, timeoutMs: 50 });
    expect(report.results.map(({ outcome }) => outcome)).toEqual(['failed', 'passed']);
    expect(String(report)).toContain('hangs: the end of the case did not happen within 50 ms');
  });

  test('a tree that cannot be made is a failure of the case', async () => {
    const report = await runConformance(() => hostTree(join(folder, 'missing')), { cases: { a: good } });
    expect(report.results[0]).toMatchObject({ outcome: 'failed', error: { code: 'ENOENT' } });
  });

  test('a tree that leaks is a failure of the case', async () => {
    const leaking: PosixTree = {
      name: 'leaking',
      unsupported: new Map(),
      process: () => Promise.reject(new Error('not asked')),
      end: () => Promise.reject(new Error('two nodes are left')),
    };
    const report = await runConformance(() => leaking, { cases: { a: good } });
    expect(String(report)).toBe('0 passed, 1 failed, 0 skipped\na: two nodes are left');
  });

  test('only some cases run', async () => {
    const cases = { apple: good, pear: good, pineapple: good };
    const seen = async (only: string | RegExp | ((name: string) => boolean)) =>
      (await runConformance(makeTree, { cases, only })).results.map(({ name }) => name);
    expect(await seen('apple')).toEqual(['apple', 'pineapple']);
    expect(await seen(/^p/)).toEqual(['pear', 'pineapple']);
    expect(await seen((name) => name === 'pear')).toEqual(['pear']);
  });
});
