/** FUSE-over-io_uring on the running kernel. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { NO_COMPILER } from '../clients/build.ts';
import { asyncDioAssertions } from './async-dio-cases.ts';
import { Client } from './client.ts';
import {
  abortConnection,
  eventually,
  FIXTURES,
  fuseMountAt,
  mountHere,
  mountPoint,
  NO_MOUNTS,
  negative,
  onCleanUp,
  run,
  runWell,
  skipLoudly,
  temporaryFolder,
  umount,
  useLiveMounts,
  withLimit,
} from './harness.ts';
import { prove } from './proof.ts';

const SWITCH = '/sys/module/fuse/parameters/enable_uring';

function whyNoRing(): string | undefined {
  try {
    const former = readFileSync(SWITCH, 'latin1');
    writeFileSync(SWITCH, former);
  } catch {
    return `${SWITCH} cannot be written`;
  }
  return undefined;
}

const skip = skipLoudly('FUSE-over-io_uring', NO_MOUNTS ?? NO_COMPILER ?? whyNoRing());

const passthrough = (source: string) => ({
  module: pathToFileURL(join(FIXTURES, '../../dist/examples/passthrough/filesystem.js')),
  // Reads and writes are to travel by the ring.
  options: { source, backing: false },
});
const fixture = (name: string, options?: unknown) => ({ module: pathToFileURL(join(FIXTURES, name)), options });

describe.skipIf(skip)('FUSE-over-io_uring', () => {
  useLiveMounts();
  let former = 'N';
  beforeAll(() => {
    former = readFileSync(SWITCH, 'latin1').trim();
    writeFileSync(SWITCH, 'Y');
  });
  afterAll(() => writeFileSync(SWITCH, former));

  for (const mode of ['event', 'blocking'] as const) {
    for (const workers of [1, 2]) {
      test(`${workers} workers in ${mode} mode: a tree of files travels there and back`, async () => {
        const source = temporaryFolder('ring');
        const { path, mount } = await mountHere(passthrough(source), { workers, mode, transport: 'uring' });
        expect(mount.negotiated.flags).toContain('FUSE_OVER_IO_URING');
        const script = `set -e; cd "$1"; mkdir -p a/b; seq 200000 > a/b/numbers; cp a/b/numbers copy; cmp copy a/b/numbers
          ln copy linked; mv copy renamed; ln -s renamed sym; for i in $(seq 300); do echo $i > a/$i; done; ls -l a | wc -l; rm a/1??
          setfattr -n user.long -v "$(head -c 2000 /dev/zero | tr '\\0' x)" renamed; getfattr --only-values -n user.long renamed | wc -c
          cmp "$2/a/b/numbers" a/b/numbers; cat sym | sha256sum; ls a | wc -l; truncate -s 12345678 a/b/numbers; stat -c %s a/b/numbers`;
        const output = await runWell(['sh', '-c', script, 'sh', path, source], { timeoutMs: 60_000 });
        const lines = output.trim().split('\n');
        expect([lines[0], lines[1], ...lines.slice(3)]).toEqual(['302', '2000', '201', '12345678']);
        expect((await mount.counters()).answers).toBeGreaterThan(1000);
        prove('flag', 'FUSE_OVER_IO_URING', 'worker threads with rings answered; the connection says that it was agreed on');
      });
    }
  }

  describe('asynchronous direct I/O, 2 workers on their event loops', () =>
    asyncDioAssertions({ workers: 2, mode: 'event', transport: 'uring' }));
  describe('asynchronous direct I/O, 1 worker that sleeps in the kernel', () =>
    asyncDioAssertions({ workers: 1, mode: 'blocking', transport: 'uring' }));
  describe('asynchronous direct I/O, this thread', () => asyncDioAssertions({ workers: 0, mode: 'event', transport: 'uring' }));

  for (const mode of ['event', 'blocking'] as const) {
    test(`64 reads of one caller spread over 4 workers in ${mode} mode and are in flight at once`, async () => {
      const counters = new Int32Array(new SharedArrayBuffer(4 * 7));
      onCleanUp({ before: () => Atomics.store(counters, 2, 1) });
      const source = fixture('inflight.mjs', { counters: counters.buffer });
      const { path } = await mountHere(source, { workers: 4, mode, transport: 'uring', maxBackground: 64 });
      const client = await Client.start();
      await client.open(0, join(path, 'plain'), 'rdonly,direct');
      const reads = Array.from({ length: 64 }, (_, index) => client.aread(0, index * 4096, 4096));
      client.submit();
      await eventually(
        () => Atomics.load(counters, 0) === 64,
        10_000,
        () => `${Atomics.load(counters, 0)} reads in flight`,
      );
      Atomics.store(counters, 2, 1);
      expect(await client.events(64, 10_000).wait()).toMatchObject({ result: 64 });
      for (const read of reads) expect(await read.wait()).toMatchObject({ result: 4096, data: 'same' });
      expect([...counters.slice(3)].filter((share) => share > 0).length).toBeGreaterThan(1);
    });

    for (const workers of [1, 2]) {
      test(`a worker of ${workers} in ${mode} mode dies: its callers get an errno, and the next one serves`, async () => {
        const { path } = await mountHere(fixture('stuck.mjs'), { workers, mode, transport: 'uring' });
        // The kernel prefers the thread that answered last, so that of two only one may hold this.
        const stuck = workers === 1 ? run(['cat', join(path, 'stuck')], { timeoutMs: 20_000 }) : undefined;
        await runWell(['cat', join(path, 'data')], { timeoutMs: 10_000 });
        for (let round = 0; round < 4; round++) {
          const crash = await run(['stat', join(path, 'crash')], { timeoutMs: 10_000 });
          expect(crash.stderr).toMatch(/Software caused connection abort/);
          await runWell(['cat', join(path, 'data')], { timeoutMs: 10_000 });
        }
        if (stuck !== undefined) expect((await stuck).stderr).toMatch(/Software caused connection abort/);
      });
    }
  }

  test('an abort ends it and gives every caller its errno', async () => {
    const { path, mount, connection } = await mountHere(fixture('stuck.mjs'), { workers: 2, mode: 'event', transport: 'uring' });
    const client = await Client.start();
    await client.open(0, join(path, 'stuck'), 'rdonly,direct');
    const read = client.pread(0, 0, 4096);
    await eventually(
      async () => (await mount.counters()).pending === 1,
      5000,
      () => 'the read never arrived',
    );
    await abortConnection(connection);
    expect(await withLimit(read.wait(), 5000, 'the read')).toMatchObject({ result: negative('ECONNABORTED') });
    expect((await withLimit(mount.closed, 5000, 'the end')).reason).toBe('aborted');
  });

  test('a lazy unmount under load ends it', async () => {
    const source = temporaryFolder('ring-load');
    writeFileSync(join(source, 'f'), Buffer.alloc(8 << 20, 1));
    const { path, mount } = await mountHere(passthrough(source), { workers: 2, mode: 'blocking', transport: 'uring' });
    const load = run(['sh', '-c', `while cat ${path}/f > /dev/null 2>&1; do :; done`], { timeoutMs: 20_000 });
    await runWell(['sleep', '0.3'], { timeoutMs: 5000 });
    await umount(path, '--lazy');
    await load;
    expect((await withLimit(mount.closed, 5000, 'the end')).reason).toBe('unmounted');
  });

  test('where the kernel offers none, mounting fails and leaves nothing', async () => {
    writeFileSync(SWITCH, 'N');
    try {
      const { mount } = await import('../../src/mount/mount.ts');
      const path = mountPoint();
      await expect(mount({ getattr: () => ({ attributes: {} as never }) }, path, { transport: 'uring' })).rejects.toMatchObject({
        code: 'ERR_FUSEWIRE_RING',
      });
      expect(fuseMountAt(path)).toBeUndefined();
    } finally {
      writeFileSync(SWITCH, 'Y');
    }
  });
});
