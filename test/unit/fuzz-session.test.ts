/** The session and the trace readers against every case that ever broke one, and a short run of the fuzzer. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { constants } from 'node:os';
import { afterAll, describe, expect, test } from 'vitest';
import { checkCase, watchStrays } from '../../scripts/fuzz/check.ts';
import { readCorpus } from '../../scripts/fuzz/corpus.ts';
import { run } from '../../scripts/fuzz/run.ts';
import { loadSeeds } from '../../scripts/fuzz/seeds.ts';
import { initTarget, sessionTarget } from '../../scripts/fuzz/session.ts';
import { tracesTarget } from '../../scripts/fuzz/traces.ts';
import type { DirectoryReply, Filesystem } from '../../src/filesystem/index.ts';
import { FAULT_CHANNEL, type Fault } from '../../src/session/index.ts';
import { body, opcode, TestKernel } from './wire.ts';

const { EIO, EINVAL, ENXIO } = constants.errno;
const turn = () => new Promise((resolve) => setImmediate(resolve));

const seeds = loadSeeds();
const corpus = readCorpus();
const FRAMES: Readonly<Record<string, number>> = { session: 6000, init: 60, traces: 60 };

afterAll(watchStrays());

describe.each([sessionTarget(seeds), initTarget(), tracesTarget(seeds)])('$name', (target) => {
  const cases = corpus.filter((one) => one.target === target.name);

  test.skipIf(cases.length === 0)(`${cases.length} cases of the corpus`, async () => {
    for (const { name, frames } of cases) {
      const outcome = await checkCase(target, frames).then(
        () => 'right',
        (error: unknown) => String(error),
      );
      expect(`${name}: ${outcome}`).toBe(`${name}: right`);
    }
  });

  test(`${FRAMES[target.name]} frames`, async () => {
    const lines: string[] = [];
    const options = { frames: FRAMES[target.name]!, seed: 20_261_122, print: (line: string) => void lines.push(line) };
    const outcome = await run([target], options);
    expect(outcome.findings, lines.join('\n')).toBe(0);
    expect(outcome.frames).toBeGreaterThanOrEqual(FRAMES[target.name]!);
  });
});

describe('what it found, by hand', () => {
  const attributes = { mode: 0o100644 };
  const readdirBody = (size: number) => body(0n, 0n, size, 0, 0n, 0, 0);
  const started = async (filesystem: Filesystem): Promise<TestKernel> => {
    const kernel = new TestKernel(filesystem);
    await kernel.init();
    return kernel;
  };
  const thrower = (): never => {
    throw new Error('a property that throws');
  };

  test.each<[string, () => unknown]>([
    ['an object without a prototype', () => Object.create(null)],
    ['one whose every property throws', () => new Proxy({}, { get: thrower })],
    ['one whose message is a symbol', () => ({ message: Symbol('message') })],
    ['a symbol', () => Symbol('thrown')],
    ['one whose code is a method of all objects', () => ({ code: 'toString' })],
  ])('%s, thrown or rejected, is EIO', async (_what, make) => {
    const kernel = await started({
      statfs: () => {
        throw make();
      },
      access: () => Promise.reject(make()),
    });
    const now = kernel.request('STATFS');
    const later = kernel.request('ACCESS', body(0, 0));
    await turn();
    expect([kernel.of(now)?.errno, kernel.of(later)?.errno]).toEqual([EIO, EIO]);
  });

  test.each<[string, () => unknown]>([
    // biome-ignore lint/suspicious/noThenProperty: that is what is tried
    ['throws', () => ({ then: thrower })],
    ['cannot be read', () => Object.defineProperty({}, 'then', { get: thrower })],
    // biome-ignore lint/suspicious/noThenProperty: that is what is tried
    ['answers twice, at once', () => ({ then: (resolve: (value: unknown) => void) => [resolve({ attributes }), resolve(1)] })],
  ])('a promise whose then %s is answered once', async (what, make) => {
    const kernel = await started({ getattr: () => make() as never });
    const unique = kernel.request('GETATTR', body(0, 0, 0n));
    await turn();
    expect(kernel.replies.filter((reply) => reply.unique === unique)).toHaveLength(1);
    expect(kernel.of(unique)!.errno).toBe(what.startsWith('answers') ? 0 : EIO);
    expect(kernel.session.counters.pending).toBe(0);
  });

  test('a forget that throws or rejects stops nothing, and takes no answer', async () => {
    const forgotten: number[] = [];
    const faults: Fault[] = [];
    const listen = (fault: unknown) => void faults.push(fault as Fault);
    subscribe(FAULT_CHANNEL, listen);
    const kernel = await started({
      forget: (node) => {
        forgotten.push(node);
        if (node === 6) throw new Error('no');
        if (node === 7) return Promise.reject(new Error('no')) as never;
      },
    });
    kernel.request('BATCH_FORGET', body(3, 0, 6n, 1n, 7n, 1n, 8n, 1n));
    await turn();
    unsubscribe(FAULT_CHANNEL, listen);
    expect(forgotten).toEqual([6, 7, 8]);
    expect(faults.map(({ kind, operation }) => `${kind} ${operation}`)).toEqual(['handler-error FORGET', 'handler-error FORGET']);
    expect(kernel.replies).toHaveLength(1);
  });

  test('FORGET before INIT takes no answer', async () => {
    const kernel = new TestKernel({});
    await kernel.serve();
    kernel.request('FORGET', body(1n));
    expect(kernel.replies).toEqual([]);
  });

  test('a listing that was answered takes no further entry', async () => {
    let kept: DirectoryReply | undefined;
    const kernel = await started({
      readdir: (_node, _request, reply) => {
        kept = reply;
      },
    });
    expect(kernel.of(kernel.request('READDIR', readdirBody(4096)))!.errno).toBe(0);
    expect(() => kept!.add({ name: 'late', ino: 1, offset: 1 })).toThrow('has been answered');
  });

  test.each<[string, Filesystem, Parameters<TestKernel['request']>]>([
    ['a link target', { readlink: () => ({ byteLength: 5 }) as never }, ['READLINK']],
    ['an extended attribute', { getxattr: () => 'text' as never }, ['GETXATTR', body(10, 0, 'user.a\0')]],
    ['a length', { getxattr: () => Number.NaN }, ['GETXATTR', body(0, 0, 'user.a\0')]],
    ['names', { listxattr: () => [5] as never }, ['LISTXATTR', body(100, 0)]],
    ['pieces', { read: () => [{ byteLength: 5 }] as never }, ['READ', readdirBody(10)]],
    ['a range', { read: () => ({ fd: 0, position: -1, length: 5 }) }, ['READ', readdirBody(10)]],
    ['a lock', { getlk: () => ({ type: 'none' }) as never }, ['GETLK', body(0n, 0n, 0n, 9n, 0, 0, 0, 0)]],
    ['a handle', { open: () => ({ handle: -1 }) }, ['OPEN', body(0, 0)]],
    ['events', { poll: () => Number.NaN }, ['POLL', body(0n, 0n, 0, 0)]],
    ['a block', { bmap: () => 2 ** 60 }, ['BMAP', body(0n, 512, 0)]],
    ['data of an ioctl', { ioctl: () => ({ data: 'text' }) as never }, ['IOCTL', body(0n, 0, 0, 0n, 0, 9)]],
  ])('%s of the wrong kind is EIO, not a broken reply', async (_what, filesystem, request) => {
    const kernel = await started(filesystem);
    expect(kernel.of(kernel.request(...request))).toMatchObject({ errno: EIO, body: new Uint8Array(0) });
  });

  test('names and numbers that no kernel sends do not reach a handler', async () => {
    const called: string[] = [];
    const tell = (what: string) => () => {
      called.push(what);
      return undefined as never;
    };
    const methods = ['unlink', 'getxattr', 'read', 'readdir', 'lseek', 'setlk', 'copyFileRange', 'setattr', 'bmap'] as const;
    const kernel = await started(Object.fromEntries(methods.map((method) => [method, tell(method)])) as Filesystem);
    const errno = (...request: Parameters<TestKernel['request']>) => kernel.of(kernel.request(...request))!.errno;
    expect(errno('UNLINK', body('\0\0'))).toBe(EIO);
    expect(errno('UNLINK', body('../x\0'))).toBe(EIO);
    expect(errno('GETXATTR', body(0, 0, '\0\0'))).toBe(EIO);
    expect(errno('READ', readdirBody(0xffff_ffff))).toBe(EIO);
    expect(errno('READDIR', readdirBody(0xffff_ffff))).toBe(EIO);
    expect(errno('LSEEK', body(0n, -1n, 3, 0))).toBe(ENXIO);
    expect(errno('SETLK', body(0n, 0n, 10n, 5n, 1, 0, 0, 0))).toBe(EINVAL);
    expect(errno('COPY_FILE_RANGE', body(0n, 2n ** 60n, 1n, 0n, 0n, 1n, 0n))).toBe(constants.errno.EOVERFLOW);
    expect(errno('SETATTR', body(1 << 4, 0, new Uint8Array(48), 2_000_000_000, new Uint8Array(28)))).toBe(EINVAL);
    expect(errno('BMAP', body(2n ** 63n, 512, 0))).toBe(constants.errno.EFBIG);
    expect(called).toEqual([]);
  });

  test('two requests under one number, as after RESEND: both are answered, and nothing stays pending', async () => {
    const settle: (() => void)[] = [];
    const kernel = await started({ getattr: () => new Promise((resolve) => settle.push(() => resolve({ attributes }))) });
    kernel.send(opcode('GETATTR'), body(0, 0, 0n), { unique: 900 });
    kernel.send(opcode('GETATTR'), body(0, 0, 0n), { unique: 900 });
    expect(kernel.session.counters.pending).toBe(2);
    for (const one of settle) one();
    await turn();
    expect(kernel.replies.filter(({ unique }) => unique === 900)).toHaveLength(2);
    expect(kernel.session.counters.pending).toBe(0);
  });
});
