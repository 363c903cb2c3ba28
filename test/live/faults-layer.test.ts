/** The fault layer over the simulated kernel: what a plan says happens, to the requests that it names, and is counted. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import type { AttributesReply, Filesystem } from '../../src/filesystem/index.ts';
import { armFault, type FaultRule, faultCounts, faultPlan, simulate, withFaults } from '../../src/testing/index.ts';
import { TestKernel } from '../unit/wire.ts';
import { tellFigure } from './harness.ts';

const SIZE = 64 * 1024;
const ALWAYS = Number.POSITIVE_INFINITY;

/** One file `data`, which goes past the page cache. */
function oneFile(): Filesystem & { seen: string[] } {
  const bytes = new Uint8Array(SIZE).fill(1);
  const seen: string[] = [];
  const attributes = (node: number) => ({
    attributes: { mode: node === 1 ? 0o040777 : 0o100666, size: node === 1 ? 0 : SIZE },
  });
  return {
    seen,
    settings: { cache: 'none' },
    lookup: (_parent, name) => (name === 'data' ? { node: 2, ...attributes(2) } : { node: 0 }),
    getattr: attributes,
    open: () => ({ directIo: true }),
    read(_node, { offset, size }) {
      seen.push(`read ${offset} ${size}`);
      return bytes.subarray(offset, offset + size);
    },
    write(_node, data, { offset, size }) {
      seen.push(`write ${offset} ${size}`);
      bytes.set(data.subarray(0, size), offset);
    },
    unlink() {},
  };
}

async function opened(rules: readonly FaultRule[], seed = 1) {
  const plan = faultPlan(rules, { seed });
  const filesystem = oneFile();
  const kernel = await simulate(withFaults(filesystem, plan));
  const user = await kernel.process({ uid: 1000, gid: 1000 });
  return { plan, filesystem, kernel, user, fd: await user.open('/data', 2) };
}

describe('a plan', () => {
  test('fails the n-th request and as many after it as it says', async () => {
    const { plan, kernel, user, fd } = await opened([
      { operation: 'read', nth: 2, times: 2, effect: { kind: 'errno', errno: 'EIO' } },
    ]);
    const outcomes: string[] = [];
    for (let i = 0; i < 5; i++) {
      outcomes.push(
        await user
          .read(fd, 10, 0)
          .then(String, ({ code }: { code: string }) => code)
          .then((text) => (text === 'EIO' ? text : 'ok')),
      );
    }
    expect(outcomes).toEqual(['ok', 'EIO', 'EIO', 'ok', 'ok']);
    expect(faultCounts(plan)).toEqual([{ seen: 5, hit: 2 }]);
    await user.close(fd);
    await kernel.end();
  });

  test('chooses by name, node, caller and a byte of the range', async () => {
    const rules: FaultRule[] = [
      { operation: 'unlink', name: /^da/, times: ALWAYS, effect: { kind: 'errno', errno: 'EPERM' } },
      { operation: 'read', node: 2, offset: 20_000, times: ALWAYS, effect: { kind: 'errno', errno: 5 } },
      { operation: 'read', uid: 0, times: ALWAYS, effect: { kind: 'errno', errno: 'EACCES' } },
    ];
    const { plan, kernel, user, fd } = await opened(rules);
    await expect(user.unlink('/data')).rejects.toMatchObject({ code: 'EPERM' });
    await expect(user.read(fd, 8192, 16_384)).rejects.toMatchObject({ code: 'EIO' });
    expect((await user.read(fd, 8192, 0)).length).toBe(8192);
    expect(faultCounts(plan)).toEqual([
      { seen: 1, hit: 1 },
      { seen: 1, hit: 1 },
      { seen: 0, hit: 0 },
    ]);
    await user.close(fd);
    await kernel.end();
  });

  test('makes reads and writes short, so that the filesystem does less and says so', async () => {
    const rules: FaultRule[] = [{ times: 2, effect: { kind: 'short', bytes: 100 } }];
    const { filesystem, kernel, user, fd } = await opened(rules);
    expect((await user.read(fd, 1000, 0)).length).toBe(100);
    expect(await user.write(fd, new Uint8Array(1000).fill(9), 0)).toBe(100);
    expect(filesystem.seen).toEqual(['read 0 100', 'write 0 100']);
    const bytes = await user.read(fd, 1000, 0);
    expect([bytes[99], bytes[100]]).toEqual([9, 1]);
    await user.close(fd);
    await kernel.end();
  });

  test('delays, and lets the next rule have the request too', async () => {
    const rules: FaultRule[] = [
      { operation: 'read', effect: { kind: 'delay', ms: 30 } },
      { operation: 'read', effect: { kind: 'errno', errno: 'ESTALE' } },
    ];
    const { plan, kernel, user, fd } = await opened(rules);
    const from = performance.now();
    await expect(user.read(fd, 10, 0)).rejects.toMatchObject({ code: 'ESTALE' });
    expect(performance.now() - from).toBeGreaterThan(25);
    expect(faultCounts(plan).map(({ hit }) => hit)).toEqual([1, 1]);
    await user.close(fd);
    await kernel.end();
  });

  test('is switched on and off while the filesystem serves', async () => {
    const rule: FaultRule = { operation: 'read', armed: false, times: ALWAYS, effect: { kind: 'errno', errno: 'EIO' } };
    const { plan, kernel, user, fd } = await opened([rule]);
    expect((await user.read(fd, 10, 0)).length).toBe(10);
    armFault(plan, 0, true);
    await expect(user.read(fd, 10, 0)).rejects.toMatchObject({ code: 'EIO' });
    armFault(plan, 0, false);
    expect((await user.read(fd, 10, 0)).length).toBe(10);
    expect(faultCounts(plan)).toEqual([{ seen: 1, hit: 1 }]);
    await user.close(fd);
    await kernel.end();
  });

  test('with a probability hits the same requests for the same seed, and about as many as it says', async () => {
    const rule: FaultRule = { operation: 'read', probability: 0.3, effect: { kind: 'errno', errno: 'EIO' } };
    const series: string[] = [];
    for (const seed of [7, 7, 8]) {
      const { plan, kernel, user, fd } = await opened([rule], seed);
      let hits = '';
      for (let i = 0; i < 300; i++)
        hits += await user.read(fd, 10, 0).then(
          () => '.',
          () => 'x',
        );
      expect(faultCounts(plan)[0].hit).toBeGreaterThan(60);
      expect(faultCounts(plan)[0].hit).toBeLessThan(120);
      series.push(hits);
      await user.close(fd);
      await kernel.end();
    }
    expect(series[0]).toBe(series[1]);
    expect(series[0]).not.toBe(series[2]);
  });

  test('travels: a copy by structured clone counts together with the original', () => {
    const plan = faultPlan([{ operation: 'read', name: /x/, times: 3, effect: { kind: 'errno', errno: 'EIO' } }]);
    // What workerData does to it: everything is copied, shared memory stays shared.
    const copy = { ...structuredClone({ rules: plan.rules, seed: plan.seed }), state: plan.state };
    armFault(copy, 0, false);
    const filesystem = withFaults({ read: () => 0 }, plan);
    expect(filesystem.read?.(2 as never, { uid: 0 } as never)).toBe(0);
    expect(faultCounts(copy)).toEqual([{ seen: 0, hit: 0 }]);
  });

  test.each([
    [{ effect: { kind: 'errno', errno: 'ENOTHING' } }],
    [{ effect: { kind: 'errno', errno: 512 } }],
    [{ effect: { kind: 'short', bytes: -1 } }],
    [{ operation: 'lookup', effect: { kind: 'short', bytes: 1 } }],
    [{ probability: 2, effect: { kind: 'hang' } }],
    [{ nth: 0, effect: { kind: 'hang' } }],
    [{ effect: { kind: 'delay', ms: Number.NaN } }],
  ] as FaultRule[][])('that could never do what it says is refused: %j', (rule) => {
    expect(() => faultPlan([rule])).toThrow(RangeError);
  });
});

describe('memory', () => {
  test('a million requests that wait take less than 1 KiB each, and are all answered', { timeout: 600_000 }, async () => {
    const count = 1_000_000;
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const used = () => {
      collect();
      const { heapUsed, external } = process.memoryUsage();
      return heapUsed + external;
    };
    const waiting: ((reply: AttributesReply) => void)[] = [];
    const filesystem: Filesystem = {
      getattr: () => new Promise((resolve) => waiting.push(resolve)),
    };
    const kernel = new TestKernel(filesystem);
    await kernel.init();
    const payload = new Uint8Array(16);
    const before = used();
    for (let i = 0; i < count; i++) kernel.request('GETATTR', payload);
    expect(kernel.session.counters.pending).toBe(count);
    const bytes = (used() - before) / count;
    tellFigure('bytes for each request that waits:', Math.round(bytes));
    expect(bytes).toBeLessThan(1024);

    for (const settle of waiting) settle({ attributes: { mode: 0o040755 } });
    await new Promise((resolve) => setImmediate(resolve));
    expect(kernel.session.counters).toMatchObject({ pending: 0, pendingMax: count, answers: count + 1 });
  });
});
