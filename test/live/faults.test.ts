/** Faults of filesystems, of their storage and of their threads, on live mounts: what the callers see, and that the mount goes on. */
import { execFileSync } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test, vi } from 'vitest';
import { compileClient } from '../../scripts/compile.ts';
import type { ReadRequest } from '../../src/filesystem/index.ts';
import type { MountSettings } from '../../src/mount/mount.ts';
import { type FaultPlan, type FaultRule, faultCounts, faultPlan, withFaults } from '../../src/testing/faults/index.ts';
import { NO_COMPILER } from '../clients/build.ts';
import { Client } from './client.ts';
import {
  CLI,
  controlFolder,
  Daemon,
  daemon,
  eventually,
  faultsSeen,
  LineProcess,
  type LiveMount,
  mountHere,
  mountPoint,
  NO_MOUNTS,
  negative,
  onCleanUp,
  ROOT,
  run,
  runWell,
  skipLoudly,
  tellFigure,
  temporaryFolder,
  useLiveMounts,
} from './harness.ts';

// Each of these takes a second; a busy machine may take its time.
vi.setConfig({ testTimeout: 180_000 });

const MIB = 1 << 20;
const ALWAYS = Number.POSITIVE_INFINITY;
const LIMIT_MS = 30_000;

const compiled: typeof import('../../src/testing/faults/index.ts') = await import(
  /* @vite-ignore */ pathToFileURL(join(ROOT, 'dist/src/testing/index.js')).href
);
const PASSTHROUGH = pathToFileURL(join(ROOT, 'dist/examples/passthrough/filesystem.js'));

interface FaultyMount extends LiveMount {
  source: string;
  plan: FaultPlan;
}

/** A passthrough of an own folder with faults in front of it. */
async function faultyPassthrough(rules: readonly FaultRule[], settings: MountSettings = {}): Promise<FaultyMount> {
  const source = temporaryFolder('source');
  const plan = faultPlan(rules);
  const module = compiled.faultyModule({ module: PASSTHROUGH, options: { source } }, plan);
  const live = await mountHere(module, { workers: 2, mode: 'blocking', ...settings });
  return { ...live, source, plan };
}

const skip = skipLoudly('faults on live mounts', NO_MOUNTS ?? NO_COMPILER);

describe.skipIf(skip)('a fragment of direct I/O that fails or comes short, over a passthrough', () => {
  useLiveMounts();
  const SETTINGS: MountSettings = { maxWrite: 128 << 10, maxPages: 32 };

  test.each(['ENOSPC', 'EDQUOT', 'EIO'] as const)(
    '%s in the middle of an extending write: the caller gets it, and the file has its old size again',
    async (errno) => {
      const rule: FaultRule = { operation: 'write', offset: 5 * 131072, effect: { kind: 'errno', errno } };
      const { path, source, plan } = await faultyPassthrough([rule], SETTINGS);
      writeFileSync(join(source, 'file'), Buffer.alloc(131072, 1));
      const client = await Client.start();
      await client.open(0, join(path, 'file'), 'rdwr,direct');
      expect(await client.pwrite(0, 0, MIB).wait(LIMIT_MS)).toMatchObject({ result: negative(errno) });
      expect(faultCounts(plan)).toEqual([{ seen: 1, hit: 1 }]);
      expect(statSync(join(source, 'file')).size).toBe(131072);
      expect(await client.fstat(0).wait(LIMIT_MS)).toMatchObject({ result: 131072 });
    },
  );

  test('a write that takes less than it was given makes the whole call EIO, and is cut off', async () => {
    const rule: FaultRule = { offset: 3 * 131072, operation: 'write', effect: { kind: 'short', bytes: 4096 } };
    const { path, source, plan } = await faultyPassthrough([rule], SETTINGS);
    writeFileSync(join(source, 'file'), '');
    const client = await Client.start();
    await client.open(0, join(path, 'file'), 'rdwr,direct');
    expect(await client.pwrite(0, 0, MIB).wait(LIMIT_MS)).toMatchObject({ result: negative('EIO') });
    expect(faultCounts(plan)[0].hit).toBe(1);
    expect(statSync(join(source, 'file')).size).toBe(0);
  });

  test('a failure inside the file leaves its size, and what the other fragments wrote', async () => {
    const rule: FaultRule = { operation: 'write', offset: 131072, effect: { kind: 'errno', errno: 'EIO' } };
    const { path, source } = await faultyPassthrough([rule], SETTINGS);
    writeFileSync(join(source, 'file'), Buffer.alloc(MIB, 9));
    const client = await Client.start();
    await client.open(0, join(path, 'file'), 'rdwr,direct');
    expect(await client.pwrite(0, 0, MIB).wait(LIMIT_MS)).toMatchObject({ result: negative('EIO') });
    const bytes = readFileSync(join(source, 'file'));
    expect(bytes.length).toBe(MIB);
    expect(bytes.subarray(131072, 262144).every((byte) => byte === 9)).toBe(true);
    expect(bytes.subarray(0, 131072).some((byte) => byte !== 9)).toBe(true);
    expect(bytes.subarray(262144).some((byte) => byte !== 9)).toBe(true);
  });

  test('a short read inside the file is filled up: the caller gets all of it', async () => {
    const rule: FaultRule = { operation: 'read', offset: 2 * 131072, effect: { kind: 'short', bytes: 512 } };
    const { path, source, plan } = await faultyPassthrough([rule], SETTINGS);
    writeFileSync(join(source, 'file'), Buffer.alloc(MIB, 3));
    const copy = join(source, 'copy');
    await runWell(['dd', `if=${join(path, 'file')}`, `of=${copy}`, 'bs=1M', 'iflag=direct', 'status=none'], {
      timeoutMs: LIMIT_MS,
    });
    expect(faultCounts(plan)[0].hit).toBe(1);
    expect(readFileSync(copy).equals(Buffer.alloc(MIB, 3))).toBe(true);
  });
});

describe.skipIf(skip)('errors of the storage reach the caller through a passthrough', () => {
  useLiveMounts();

  /** A tmpfs of a few MiB, unmounted after the test. */
  function smallTmpfs(megabytes: number): string {
    const folder = temporaryFolder('small');
    const path = join(folder, 'tmpfs');
    mkdirSync(path);
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'none', path]);
    onCleanUp({ after: () => execFileSync('umount', ['-l', path]) });
    return path;
  }

  const dd = (to: string, ...more: string[]) =>
    run(['dd', 'if=/dev/zero', `of=${to}`, 'bs=64k', 'count=160', 'status=none', ...more], {
      timeoutMs: LIMIT_MS,
      env: { ...process.env, LC_ALL: 'C' },
    });

  test.each([
    ['buffered', [], []],
    ['direct', [], ['oflag=direct']],
    ['with the write-back cache, told at fsync', ['--writeback'], ['conv=fsync']],
  ])('ENOSPC of a full tmpfs, %s; after something was removed there is room again', async (_how, options, more) => {
    const source = smallTmpfs(4);
    const path = mountPoint();
    await daemon(['passthrough', source, path, ...options], path);
    const full = await dd(join(path, 'file'), ...more);
    expect(full.stderr).toContain('No space left on device');
    expect(full.code).toBe(1);
    await runWell(['rm', join(path, 'file')], { timeoutMs: LIMIT_MS });
    await runWell(['dd', 'if=/dev/zero', `of=${join(path, 'less')}`, 'bs=64k', 'count=16', 'conv=fsync', 'status=none'], {
      timeoutMs: LIMIT_MS,
    });
    expect(statSync(join(source, 'less')).size).toBe(MIB);
  });

  test('EMFILE when the daemon has no descriptors left; it serves on when files are closed', async () => {
    const source = temporaryFolder('source');
    for (let i = 0; i < 400; i++) writeFileSync(join(source, `f${i}`), 'x');
    const path = mountPoint();
    const limited = new Daemon(
      ['prlimit', '--nofile=200:200', process.execPath, CLI, 'passthrough', source, path, '--workers', '1'],
      path,
    );
    await limited.line((line) => line.startsWith('mounted'), LIMIT_MS, 'the line `mounted`');
    execFileSync('prlimit', [`--pid=${limited.pid}`, '--nofile=120:120']);
    const holder = new LineProcess([
      'bash',
      '-c',
      'ulimit -n 4096; for ((i = 0; i < 400; i++)); do eval "exec $((i + 20))<\\"$1/f$i\\"" || { echo stopped; break; }; done 2>&1; echo held; read line',
      'bash',
      path,
    ]);
    await holder.line((line) => line === 'held' || line === 'stopped', LIMIT_MS, 'files to be held');
    expect(holder.lines.join('\n')).toMatch(/Too many open files/);
    holder.kill('SIGKILL');
    await holder.end(LIMIT_MS);
    await eventually(
      async () => (await run(['cat', join(path, 'f399')], { timeoutMs: LIMIT_MS })).code === 0,
      LIMIT_MS,
      () => 'a file cannot be read although all are closed',
    );
  });

  test('EIO, ESTALE, EDQUOT and ENOSPC of a filesystem beneath, which is a mount of ours', { timeout: 120_000 }, async () => {
    const errnos = ['EIO', 'ESTALE', 'EDQUOT', 'ENOSPC'] as const;
    const rules = errnos.flatMap((errno): FaultRule[] => [
      { operation: 'write', armed: false, times: ALWAYS, effect: { kind: 'errno', errno } },
      { operation: 'fsync', armed: false, times: ALWAYS, effect: { kind: 'errno', errno } },
      { operation: 'unlink', armed: false, times: ALWAYS, effect: { kind: 'errno', errno } },
    ]);
    const below = await faultyPassthrough(rules);
    writeFileSync(join(below.source, 'file'), Buffer.alloc(MIB, 1));
    const path = mountPoint();
    await daemon(['passthrough', below.path, path, '--workers', '1'], path);
    const client = await Client.start();
    await client.open(0, join(path, 'file'), 'rdwr,direct');
    for (const [index, errno] of errnos.entries()) {
      const at = index * 3;
      for (const armed of [true, false]) {
        compiled.armFault(below.plan, at, armed);
        const expected = armed ? negative(errno) : 4096;
        expect(await client.pwrite(0, 0, 4096).wait(LIMIT_MS)).toMatchObject({ result: expected });
      }
      compiled.armFault(below.plan, at + 2, true);
      const removed = await run(
        ['python3', '-c', `import os,sys\ntry: os.unlink(sys.argv[1])\nexcept OSError as e: print(e.errno)`, join(path, 'file')],
        {
          timeoutMs: LIMIT_MS,
        },
      );
      expect(removed.stdout.trim()).toBe(String(-negative(errno)));
      compiled.armFault(below.plan, at + 2, false);
    }
  });
});

describe.skipIf(skip)('a method that never answers', () => {
  useLiveMounts();

  test('holds its own caller alone, and is told as slow-request', async () => {
    const plan = faultPlan([{ operation: 'read', node: 3, times: ALWAYS, effect: { kind: 'hang' } }]);
    const attributes = (node: number) => ({
      attributes: { mode: node === 1 ? 0o040755 : 0o100644, size: 4096 },
    });
    const base = {
      lookup: (_parent: number, name: string) => ({ node: name === 'stuck' ? 3 : 2, ...attributes(2) }),
      getattr: attributes,
      open: () => ({ directIo: true }),
      read: (_node: number, request: ReadRequest) => (request.offset > 0 ? 0 : request.payload().fill(5).length),
    };
    const live = await mountHere(withFaults(base, plan), { workers: 0, limits: { slowMs: 100 } });
    const stuck = new LineProcess(['cat', join(live.path, 'stuck')]);
    const seen = () => faultsSeen().filter(({ kind }) => kind === 'slow-request');
    await eventually(
      () => seen().length > 0,
      LIMIT_MS,
      () => 'no slow request was told',
    );
    expect(seen()[0]).toMatchObject({ operation: 'READ', nodeid: 3 });
    for (let i = 0; i < 3; i++) await runWell(['cat', join(live.path, 'good')], { timeoutMs: LIMIT_MS });
    expect(stuck.hasEnded).toBe(false);
    expect((await live.mount.counters()).pending).toBe(1);
    // One request is told once.
    expect(seen().length).toBe(1);
  });

  test('as many callers as the kernel lets wait: bounded memory for each, and all of them return when the mount ends', async () => {
    const count = 4000;
    const path = mountPoint();
    const module = join(ROOT, 'scripts/ends/crowd.mjs');
    const serving = await daemon(['mount', module, path, '--workers', '1', '--mode', 'event'], path);
    const memory = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${serving.pid}/status`, 'latin1'))?.[1]) * 1024;
    const before = memory();
    const crowd = new LineProcess([compileClient('faults/crowd.c', temporaryFolder('crowd')), path, String(count)]);
    await crowd.line((line) => line === 'waiting', LIMIT_MS, 'all callers to wait');
    await eventually(
      async () => Number(readFileSync(join(await controlFolder(), String(serving.connection), 'waiting'), 'latin1')) >= count,
      LIMIT_MS,
      () => 'the requests did not come',
    );
    const bytes = (memory() - before) / count;
    tellFigure('bytes of the daemon for each caller that waits:', Math.round(bytes));
    expect(bytes).toBeLessThan(16_384);
    serving.kill('SIGTERM');
    await serving.end(LIMIT_MS);
    await crowd.end(LIMIT_MS);
    expect(crowd.lines.filter((line) => line.startsWith('done')).length).toBeGreaterThan(0);
    expect(crowd.lines.some((line) => line.startsWith('done 0 '))).toBe(false);
  });
});

describe.skipIf(skip)('a worker that dies', () => {
  useLiveMounts();

  const rules = (['throw', 'rejection', 'exit', 'memory'] as const).map(
    (how): FaultRule => ({ operation: 'lookup', name: `crash-${how}`, times: 1, effect: { kind: 'crash', how } }),
  );
  for (const mode of ['event', 'blocking'] as const) {
    test(`${mode} mode: its callers get an errno, others are served, it is told and replaced, whichever way it died`, async () => {
      const settings: MountSettings = { workers: 2, mode, limits: { workerHeapMiB: 24 } };
      const source = temporaryFolder('source');
      writeFileSync(join(source, 'data'), 'contents');
      const died: string[] = [];
      const plan = faultPlan(rules);
      const listen = (message: unknown) => {
        const { kind } = message as { kind: string };
        if (kind === 'worker-died') died.push(kind);
      };
      subscribe('fusewire:fault', listen);
      onCleanUp({ after: () => unsubscribe('fusewire:fault', listen) });
      const module = compiled.faultyModule({ module: PASSTHROUGH, options: { source } }, plan);
      const live = await mountHere(module, settings);
      for (const [index, how] of ['throw', 'rejection', 'exit', 'memory'].entries()) {
        const crashed = await run(['stat', join(live.path, `crash-${how}`)], { timeoutMs: LIMIT_MS });
        expect(crashed.stderr).toMatch(/Software caused connection abort|Transport endpoint/);
        for (let i = 0; i < 4; i++)
          expect(await runWell(['cat', join(live.path, 'data')], { timeoutMs: LIMIT_MS })).toBe('contents');
        await eventually(
          () => died.length === index + 1,
          LIMIT_MS,
          () => `${died.length} workers were told dead`,
        );
        expect(faultCounts(plan)[index]).toEqual({ seen: 1, hit: 1 });
      }
      expect(live.mount.workers).toBe(2);
    });
  }
});
