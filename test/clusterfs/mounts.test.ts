/** Two mounts of one volume, under simulated kernels, over a real cluster. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { type ClusterFilesystemOptions, type ClusterfsError, checkVolume, openVolume } from '../../examples/clusterfs/index.ts';
import { storeOf } from '../../examples/clusterfs/stores.ts';
import { AuditError } from '../../src/testing/kernel/index.ts';
import type { PosixProcess } from '../../src/testing/posix.ts';
import { skipLoudly, tellFigure } from '../live/harness.ts';
import { freshVolume, NO_REDIS, simulated, useCluster } from './harness.ts';

const O_RDONLY = 0;
const O_RDWR = 2;
const O_CREAT = 0o100;
const O_APPEND = 0o2000;
const LOCK_EX = 2;
const LOCK_UN = 8;
const BLOCK = 4096;

/**
 * A name that another mount moves while this one's rename is on its way can leave the simulated kernel with directories that are
 * each in the other, which it never forgets. The running kernel locks against that (s_vfs_rename_mutex).
 */
function tolerated(error: unknown): void {
  if (!(error instanceof AuditError) || error.violations.some(({ kind }) => kind !== 'lookup-count')) throw error;
}

describe.skipIf(skipLoudly('two mounts of clusterfs', NO_REDIS))('two mounts', () => {
  const cluster = useCluster();
  const ends: (() => Promise<void>)[] = [];
  let name = '';

  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
    const volume = await openVolume({ nodes: cluster.local.addresses }, name);
    const report = await checkVolume(volume, storeOf(volume, { replicas: 0, waitMs: 0 }));
    volume.cluster.close();
    expect(report.problems).toEqual([]);
  });

  async function mountOf(options: ClusterFilesystemOptions = {}) {
    const kernel = await simulated(cluster.local, name, { collectMs: 0, ...options });
    ends.push(() => kernel.end().catch(tolerated));
    return { kernel, p: await kernel.process() };
  }

  /** Two processes on two mounts of a new volume. */
  async function two(options: ClusterFilesystemOptions = {}): Promise<[PosixProcess, PosixProcess]> {
    name = await freshVolume(cluster.local, { blockBytes: BLOCK });
    return [(await mountOf(options)).p, (await mountOf(options)).p];
  }

  const put = async (p: PosixProcess, path: string, text: string) => {
    const fd = await p.open(path, O_RDWR | O_CREAT, 0o644);
    await p.ftruncate(fd, 0);
    await p.write(fd, Buffer.from(text), 0);
    await p.close(fd);
  };
  const get = async (p: PosixProcess, path: string) => {
    const fd = await p.open(path, O_RDONLY);
    try {
      return Buffer.from(await p.read(fd, 100_000, 0)).toString();
    } finally {
      await p.close(fd);
    }
  };

  it('what one closes the other reads, soon after an open that had it cached', async () => {
    const [a, b] = await two();
    await put(a, '/file', 'first');
    expect(await get(b, '/file')).toBe('first');
    expect(await get(b, '/file')).toBe('first');
    const times: number[] = [];
    for (let nth = 0; nth < 30; nth++) {
      const text = `text ${nth} ${'x'.repeat(nth * 300)}`;
      await put(a, '/file', text);
      const closed = performance.now();
      while ((await get(b, '/file')) !== text) {
        if (performance.now() - closed > 5000) throw new Error(`after 5 s it still reads the old text ${nth}`);
        await sleep(1);
      }
      times.push(performance.now() - closed);
    }
    times.sort((one, other) => one - other);
    tellFigure('seen after close', `median ${times[15].toFixed(1)} ms, max ${times[29].toFixed(1)} ms`);
  }, 60_000);

  it('names appear, change and go on the other, though both believe what they know', async () => {
    const [a, b] = await two();
    const eventually = async (what: () => Promise<boolean>) => {
      for (const begin = performance.now(); !(await what()); await sleep(1)) {
        expect(performance.now() - begin).toBeLessThan(5000);
      }
    };
    const there = (path: string) =>
      b.stat(path).then(
        () => true,
        () => false,
      );
    expect(await there('/new')).toBe(false);
    await put(a, '/new', 'x');
    await eventually(() => there('/new'));
    await a.rename('/new', '/newer');
    await eventually(async () => !(await there('/new')) && (await there('/newer')));
    await a.chmod('/newer', 0o600);
    await eventually(async () => ((await b.stat('/newer')).mode & 0o777) === 0o600);
    await a.unlink('/newer');
    await eventually(async () => !(await there('/newer')));
  });

  it('a file that is open elsewhere outlives its name, and goes with the last close', async () => {
    const [a, b] = await two();
    await put(a, '/file', 'still here');
    const fd = await b.open('/file', O_RDONLY);
    await a.unlink('/file');
    expect(Buffer.from(await b.read(fd, 100, 0)).toString()).toBe('still here');
    expect((await b.fstat(fd)).nlink).toBe(0);
    await b.close(fd);
  });

  it('writes to different parts of one block both stay', async () => {
    const [a, b] = await two();
    await put(a, '/file', '.'.repeat(3000));
    const [one, other] = [await a.open('/file', O_RDWR), await b.open('/file', O_RDWR)];
    for (let nth = 0; nth < 20; nth++) {
      await Promise.all([a.write(one, Buffer.from('A'), nth * 2), b.write(other, Buffer.from('B'), nth * 2 + 1)]);
      await Promise.all([a.fsync(one), b.fsync(other)]);
    }
    await a.close(one);
    await b.close(other);
    const fresh = (await mountOf()).p;
    expect(await get(fresh, '/file')).toBe('AB'.repeat(20) + '.'.repeat(2960));
  });

  it('locks exclude, and who waits comes when the other lets go', async () => {
    const [a, b] = await two();
    await put(a, '/file', '');
    const [one, other] = [await a.open('/file', O_RDWR), await b.open('/file', O_RDWR)];
    await a.setlk(one, { type: 'write', start: 0, length: 10 });
    await expect(b.setlk(other, { type: 'write', start: 5, length: 1 })).rejects.toMatchObject({ code: 'EAGAIN' });
    await b.setlk(other, { type: 'write', start: 10, length: 1 });
    let had = false;
    const waiting = b.setlk(other, { type: 'write', start: 0, length: 5 }, true).then(() => {
      had = true;
    });
    await sleep(100);
    expect(had).toBe(false);
    const begin = performance.now();
    await a.setlk(one, { type: 'unlock', start: 0, length: 10 });
    await waiting;
    tellFigure('a lock changes hands in', `${(performance.now() - begin).toFixed(1)} ms`);
    await a.close(one);
    await b.close(other);
  });

  it('a counter under a lock loses nothing', async () => {
    const [a, b] = await two();
    await put(a, '/counter', '0');
    const add = async (p: PosixProcess) => {
      const fd = await p.open('/counter', O_RDWR);
      for (let nth = 0; nth < 25; nth++) {
        await p.flock(fd, LOCK_EX);
        const value = Number(Buffer.from(await p.read(fd, 20, 0)).toString());
        await p.write(fd, Buffer.from(String(value + 1)), 0);
        await p.flock(fd, LOCK_UN);
      }
      await p.close(fd);
    };
    await Promise.all([add(a), add(b)]);
    expect(await get(a, '/counter')).toBe('50');
  }, 60_000);

  it('two that wait for each other: one gets EDEADLK', async () => {
    const [a, b] = await two();
    await put(a, '/file', '');
    const [one, other] = [await a.open('/file', O_RDWR), await b.open('/file', O_RDWR)];
    await a.setlk(one, { type: 'write', start: 0, length: 1 });
    await b.setlk(other, { type: 'write', start: 1, length: 1 });
    const outcomes = await Promise.allSettled([
      a.setlk(one, { type: 'write', start: 1, length: 1 }, true).catch(async (error) => {
        await a.setlk(one, { type: 'unlock', start: 0, length: 10 });
        throw error;
      }),
      b.setlk(other, { type: 'write', start: 0, length: 1 }, true).catch(async (error) => {
        await b.setlk(other, { type: 'unlock', start: 0, length: 10 });
        throw error;
      }),
    ]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const [refused] = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(refused.reason).toMatchObject({ code: 'EDEADLK' });
    await a.close(one);
    await b.close(other);
  });

  /** Renames of both mounts in random order: whatever wins, the tree stays one. */
  it.each([1, 2, 3])(
    'rename races keep the tree whole, seed %i',
    async (seed) => {
      const [a, b] = await two();
      let state = seed;
      const random = (below: number) => {
        state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
        return (state >>> 8) % below;
      };
      const paths = ['/a', '/b', '/c', '/a/x', '/b/x', '/a/y', '/b/y', '/c/x', '/a/x/z', '/b/x/z'];
      const path = () => paths[random(paths.length)];
      const act = async (p: PosixProcess) => {
        const step = random(10);
        const [from, to] = [path(), path()];
        try {
          if (step < 3) await p.mkdir(from, 0o755);
          else if (step < 5) await put(p, from, from);
          else if (step < 6) await p.rmdir(from);
          else if (step < 7) await p.unlink(from);
          else if (step < 8) await p.link(from, to);
          else await p.renameat2(from, to, [0, 0, 1, 2][random(4)]);
        } catch (error) {
          const usual = ['ENOENT', 'EEXIST', 'ENOTDIR', 'EISDIR', 'ENOTEMPTY', 'EINVAL', 'EPERM', 'EBUSY', 'ESTALE'];
          if (!usual.includes((error as { code: string }).code)) throw error;
        }
      };
      const walk = async (p: PosixProcess) => {
        for (let nth = 0; nth < 60; nth++) await act(p);
      };
      await Promise.all([walk(a), walk(b), walk(a), walk(b)]);
    },
    60_000,
  );

  it('appends of both, one after the other under a lock, stay whole', async () => {
    const [a, b] = await two();
    await put(a, '/log', '');
    const append = async (p: PosixProcess, letter: string) => {
      const fd = await p.open('/log', O_RDWR | O_APPEND);
      for (let nth = 0; nth < 15; nth++) {
        await p.setlk(fd, { type: 'write', start: 0, length: 0 }, true);
        // The kernel appends where it believes the end to be; asked for the size, it learns where it is.
        await p.fstat(fd);
        await p.write(fd, Buffer.from(`${letter.repeat(99)}\n`));
        await p.setlk(fd, { type: 'unlock', start: 0, length: 0 });
      }
      await p.close(fd);
    };
    await Promise.all([append(a, 'a'), append(b, 'b')]);
    const lines = (await get(a, '/log')).split('\n').slice(0, -1);
    expect(lines.length).toBe(30);
    expect(lines.every((line) => /^(a{99}|b{99})$/.test(line))).toBe(true);
  }, 60_000);

  it('a mount that is silent loses its locks with its lease, and is told so', async () => {
    name = await freshVolume(cluster.local, { blockBytes: BLOCK });
    const faults: string[] = [];
    const { p: a } = await mountOf({ leaseMs: 60_000, onFault: (error) => faults.push((error as ClusterfsError).code) });
    const { p: b } = await mountOf({ leaseMs: 1500 });
    await put(a, '/file', 'x');
    const [one, other] = [await a.open('/file', O_RDWR), await b.open('/file', O_RDWR)];
    await a.setlk(one, { type: 'write', start: 0, length: 0 });
    // As if it had been silent for its whole lease.
    const volume = await openVolume({ nodes: cluster.local.addresses }, name);
    await volume.cluster.send(volume.meta.slot, [['ZADD', `${volume.meta.tag}:sessions`, '1', '1']]);
    volume.cluster.close();
    await b.setlk(other, { type: 'write', start: 0, length: 0 }, true);
    await put(a, '/other', 'this goes on, in a new session');
    await expect(a.write(one, Buffer.from('no'), 0)).rejects.toMatchObject({ code: 'EIO' });
    expect(faults).toContain('ERR_CLUSTERFS_SESSION_LOST');
    await a.close(one).catch(() => {});
    const again = await a.open('/file', O_RDWR);
    await a.write(again, Buffer.from('yes'), 0);
    await a.close(again);
    await b.close(other);
  });
});
