/**
 * Backing files on the live kernel: reads, writes and memory maps that never reach the daemon, and everything that must be as
 * without them all the same.
 */
import { chmodSync, copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { NO_COMPILER } from '../clients/build.ts';
import { folderIn, passthroughHere, Steps, WITHOUT_BACKING } from './backing-support.ts';
import { Client } from './client.ts';
import { compileFsx } from './differential.ts';
import { run, runWell, skipLoudly, useLiveMounts } from './harness.ts';
import { prove } from './proof.ts';

const TEST_MS = 240_000;
const FOPEN_DIRECT_IO = 1;
const FOPEN_PASSTHROUGH = 0x80;
const PLACE = '/dev/shm';

describe.skipIf(skipLoudly('backing files', WITHOUT_BACKING))('backing files of the passthrough', () => {
  useLiveMounts();

  test('reads and writes of several processes go past the daemon', { timeout: TEST_MS }, async () => {
    const source = folderIn(PLACE);
    writeFileSync(join(source, 'file'), 'abcdef');
    const { path, mount, traffic } = await passthroughHere(source);
    expect(mount.negotiated.flags.has('FUSE_PASSTHROUGH')).toBe(true);
    expect(mount.negotiated.maxStackDepth).toBe(1);
    const [one, two] = await Promise.all([Steps.start(), Steps.start()]);
    const file = join(path, 'file');
    await one.step('open', 'f', file, 'O_RDWR');
    await two.step('open', 'f', file, 'O_RDONLY');
    expect(await two.step('pread', 'f', 100, 0)).toBe('abcdef');
    const before = await two.step<{ mtime: string }>('stat', file);
    expect(await one.step('pwrite', 'f', 'XYZ', 4)).toBe(3);
    expect(await two.step('pread', 'f', 100, 0)).toBe('abcdXYZ');
    const after = await two.step<{ size: number; mtime: string }>('stat', file);
    expect(after.size).toBe(7);
    expect(BigInt(after.mtime)).toBeGreaterThan(BigInt(before.mtime));
    expect(BigInt(after.mtime)).toBe(statSync(join(source, 'file'), { bigint: true }).mtimeNs);
    await one.step('truncate', 'f', 2);
    expect(await two.step('fstat', 'f')).toMatchObject({ size: 2 });
    expect(await two.step('pread', 'f', 100, 0)).toBe('ab');
    await one.step('fallocate', 'f', 0, 5000);
    expect(await two.step('stat', file)).toMatchObject({ size: 5000 });
    await one.step('fsync', 'f');
    expect((await mount.counters()).backedOpens).toBe(2);
    for (const steps of [one, two]) await steps.step('close', 'f');
    const seen = await traffic();
    expect(seen.requests.READ ?? 0).toBe(0);
    expect(seen.requests.WRITE ?? 0).toBe(0);
    expect(seen.requests).toMatchObject({ OPEN: 2, FALLOCATE: 1, FSYNC: 1 });
    // Both files of the inode had the same id.
    expect(seen).toMatchObject({ opened: 1, closed: 1, openFlags: [FOPEN_PASSTHROUGH, FOPEN_PASSTHROUGH] });
    prove('flag', 'FUSE_PASSTHROUGH', 'no READ or WRITE reached the workers, by their trace');
  });

  test('memory maps of several processes share the pages of the host', { timeout: TEST_MS }, async () => {
    const source = folderIn(PLACE);
    writeFileSync(join(source, 'file'), 'a'.repeat(8192));
    const { path, traffic } = await passthroughHere(source);
    const [one, two] = await Promise.all([Steps.start(), Steps.start()]);
    const file = join(path, 'file');
    await one.step('open', 'f', file, 'O_RDWR');
    await two.step('open', 'f', file, 'O_RDWR');
    await one.step('map', 'm', 'f', 8192, 'w');
    await two.step('map', 'm', 'f', 8192, 'r');
    await one.step('poke', 'm', 'mapped', 4090);
    expect(await two.step('peek', 'm', 8, 4089)).toBe('amappeda');
    expect(await two.step('pread', 'f', 6, 4090)).toBe('mapped');
    await two.step('pwrite', 'f', 'written', 0);
    expect(await one.step('peek', 'm', 7, 0)).toBe('written');
    // The map outlives the file.
    await one.step('close', 'f');
    await one.step('poke', 'm', 'late', 100);
    expect(await two.step('pread', 'f', 4, 100)).toBe('late');
    expect(readFileSync(join(source, 'file'), 'latin1').slice(100, 104)).toBe('late');
    await one.step('unmap', 'm');
    const seen = await traffic();
    expect(seen.requests.READ ?? 0).toBe(0);
    expect(seen.requests.WRITE ?? 0).toBe(0);
  });

  test('what is made, unlinked while open, copied and executed', { timeout: TEST_MS }, async () => {
    const source = folderIn(PLACE);
    copyFileSync('/bin/echo', join(source, 'echo'));
    chmodSync(join(source, 'echo'), 0o755);
    const { path, traffic } = await passthroughHere(source, {}, { cache: 'none' });
    const steps = await Steps.start();
    const fresh = join(path, 'fresh');
    await steps.step('open', 'new', fresh, 'O_CREAT|O_RDWR|O_EXCL');
    await steps.step('pwrite', 'new', 'made here', 0);
    expect(await steps.step('pread', 'new', 100, 0)).toBe('made here');
    await steps.step('open', 'copy', join(path, 'copy'), 'O_CREAT|O_RDWR');
    expect(await steps.step('copy', 'new', 'copy', 9)).toBe(9);
    expect(await steps.step('pread', 'copy', 100, 0)).toBe('made here');
    await steps.step('unlink', fresh);
    await steps.step('pwrite', 'new', 'still', 0);
    expect(await steps.step('pread', 'new', 100, 0)).toBe('stillhere');
    expect(await steps.step('fstat', 'new')).toMatchObject({ size: 9, nlink: 0 });
    await steps.step('open', 'log', join(path, 'log'), 'O_CREAT|O_WRONLY|O_APPEND');
    await steps.step('pwrite', 'log', 'one', 0);
    await steps.step('open', 'temporary', path, 'O_TMPFILE|O_RDWR');
    await steps.step('pwrite', 'temporary', 'nameless', 0);
    expect(await steps.step('pread', 'temporary', 100, 0)).toBe('nameless');
    expect(await steps.step('execute', join(path, 'echo'), 'run')).toEqual([0, 'run\n', '']);
    for (const slot of ['new', 'copy', 'log', 'temporary']) await steps.step('close', slot);
    const seen = await traffic();
    expect(seen.requests.READ ?? 0).toBe(0);
    expect(seen.requests.WRITE ?? 0).toBe(0);
    expect(seen.requests).toMatchObject({ CREATE: 3, TMPFILE: 1 });
    expect(seen.closed).toBe(seen.opened);
  });

  test('set-id bits go with the first write of an ordinary user', { timeout: TEST_MS }, async () => {
    const source = folderIn(PLACE);
    chmodSync(source, 0o777);
    for (const name of ['before', 'while']) writeFileSync(join(source, name), 'x');
    for (const name of ['before', 'while']) chmodSync(join(source, name), name === 'before' ? 0o6777 : 0o777);
    const { path, traffic } = await passthroughHere(source, { mountOptions: 'allow_other,default_permissions,suid' });
    const [root, user] = await Promise.all([Steps.start(), Steps.start()]);
    await user.step('become', 1234);
    for (const name of ['before', 'while']) await user.step('open', name, join(path, name), 'O_RDWR');
    await user.step('pwrite', 'while', 'first', 0);
    await root.step('chmod', join(path, 'while'), 0o6777);
    expect(await root.step('stat', join(path, 'while'))).toMatchObject({ mode: '0o6777' });
    for (const name of ['before', 'while']) {
      await user.step('pwrite', name, 'y', 0);
      expect(statSync(join(source, name)).mode & 0o7777, name).toBe(0o777);
      expect(await root.step('stat', join(path, name))).toMatchObject({ mode: '0o777' });
    }
    expect((await traffic()).requests.WRITE ?? 0).toBe(0);
  });

  test('10,000 opens leave no id behind', { timeout: TEST_MS }, async () => {
    const source = folderIn(PLACE);
    for (const name of ['a', 'b']) writeFileSync(join(source, name), name);
    const { path, mount, traffic } = await passthroughHere(source);
    const clients = await Promise.all([Steps.start(), Steps.start(), Steps.start(), Steps.start()]);
    const churns = clients.map((steps, index) => steps.step('churn', join(path, index % 2 === 0 ? 'a' : 'b'), 2500, 'O_RDONLY'));
    expect(await Promise.all(churns)).toEqual([2500, 2500, 2500, 2500]);
    expect((await mount.counters()).backedOpens).toBe(10_000);
    const seen = await traffic();
    expect(seen.requests).toMatchObject({ OPEN: 10_000, RELEASE: 10_000 });
    expect(seen.requests.READ ?? 0).toBe(0);
    expect(seen.closed).toBe(seen.opened);
  });

  test('files of an overlay need a stack of two', { timeout: TEST_MS }, async () => {
    const base = folderIn(PLACE);
    for (const name of ['lower', 'upper', 'work', 'merged']) mkdirSync(join(base, name));
    writeFileSync(join(base, 'lower/file'), 'layered');
    const merged = join(base, 'merged');
    const layers = ['lowerdir=lower', 'upperdir=upper', 'workdir=work'].map((layer) => layer.replace('=', `=${base}/`));
    await runWell(['mount', '-t', 'overlay', 'none', '-o', layers.join(','), merged], { timeoutMs: 30_000 });
    try {
      for (const maxStackDepth of [1, 2]) {
        const { path, mount, traffic } = await passthroughHere(merged, { maxStackDepth });
        expect(mount.negotiated.maxStackDepth).toBe(maxStackDepth);
        const steps = await Steps.start();
        await steps.step('open', 'f', join(path, 'file'), 'O_RDWR');
        expect(await steps.step('pread', 'f', 100, 0)).toBe('layered');
        await steps.step('pwrite', 'f', 'LAY', 0);
        expect(await steps.step('pread', 'f', 3, 0)).toBe('LAY');
        await steps.step('pwrite', 'f', 'lay', 0);
        await steps.step('close', 'f');
        const { opened, requests } = await traffic();
        expect(opened).toBe(maxStackDepth === 2 ? 1 : 0);
        expect([(requests.READ ?? 0) > 0, (requests.WRITE ?? 0) > 0]).toEqual([maxStackDepth === 1, maxStackDepth === 1]);
      }
    } finally {
      await runWell(['umount', '-l', merged], { timeoutMs: 30_000 });
    }
  });

  test('switched off, or with the write-back cache, the daemon serves', { timeout: TEST_MS }, async () => {
    const source = folderIn(PLACE);
    writeFileSync(join(source, 'file'), 'abc');
    await expect(passthroughHere(source, { backing: true, writeback: true })).rejects.toMatchObject({
      code: 'ERR_FUSEWIRE_CAPABILITY',
      message: expect.stringContaining('exclude each other'),
    });
    for (const settings of [{ backing: false }, { writeback: true }]) {
      const { path, mount, traffic } = await passthroughHere(source, settings);
      expect(mount.negotiated.flags.has('FUSE_PASSTHROUGH')).toBe(false);
      expect(mount.negotiated.refused.get('FUSE_PASSTHROUGH')).toMatch(/switched off|exclude each other/);
      const steps = await Steps.start();
      await steps.step('open', 'f', join(path, 'file'), 'O_RDONLY');
      expect(await steps.step('pread', 'f', 100, 0)).toBe('abc');
      const seen = await traffic();
      expect(seen.requests.READ).toBeGreaterThan(0);
      expect(seen.opened).toBe(0);
    }
  });
});

describe.skipIf(skipLoudly('direct I/O and random operations on backing files', WITHOUT_BACKING ?? NO_COMPILER))(
  'backing files under load',
  () => {
    useLiveMounts();
    let fsx: string;
    beforeAll(() => {
      fsx = compileFsx();
    });

    test('direct and asynchronous I/O', { timeout: TEST_MS }, async () => {
      const source = folderIn(PLACE);
      writeFileSync(join(source, 'file'), Buffer.alloc(65536));
      const { path, traffic } = await passthroughHere(source);
      const file = join(path, 'file');
      const client = await Client.start();
      await client.open(0, file, 'rdwr,direct');
      const writes = Array.from({ length: 16 }, (_, index) => client.awrite(0, index * 4096, 4096));
      client.submit();
      client.events(16, 30_000);
      for (const write of writes) expect(await write.wait(60_000)).toMatchObject({ result: 4096 });
      expect(await client.pread(0, 0, 65536).wait(60_000)).toMatchObject({ result: 65536, data: 'same' });
      client.kill('SIGKILL');
      await client.end(10_000);
      const seen = await traffic();
      expect(seen.requests.READ ?? 0).toBe(0);
      expect(seen.requests.WRITE ?? 0).toBe(0);
      // The kernel asked once whether a write takes capabilities away, not before every write.
      expect(seen.requests.GETXATTR).toBeLessThanOrEqual(1);
    });

    test('where each write costs a request anyway, direct writes are served', { timeout: TEST_MS }, async () => {
      const source = folderIn(PLACE);
      writeFileSync(join(source, 'file'), Buffer.alloc(8192, 'a'));
      const { path, traffic } = await passthroughHere(source, { refuseFlags: ['FUSE_HANDLE_KILLPRIV_V2'] });
      const [one, two] = await Promise.all([Steps.start(), Steps.start()]);
      const file = join(path, 'file');
      // Alone: as without backing files. Meanwhile nobody else has one.
      await one.step('open', 'f', file, 'O_RDWR|O_DIRECT');
      await two.step('open', 'f', file, 'O_RDONLY');
      expect(await one.step('fill', 'f', 'b', 4096, 0)).toBe(4096);
      expect(await two.step('pread', 'f', 2, 4095)).toBe('ba');
      await one.step('close', 'f');
      await two.step('close', 'f');
      // Beside a reader by the backing file: by its id, but served.
      await two.step('open', 'f', file, 'O_RDONLY');
      await one.step('open', 'f', file, 'O_RDWR|O_DIRECT');
      expect(await one.step('fill', 'f', 'c', 4096, 4096)).toBe(4096);
      expect(await two.step('pread', 'f', 2, 4095)).toBe('bc');
      expect(await one.step('aligned', 'f', 8192, 0)).toEqual([8192, 'bc']);
      const seen = await traffic();
      expect(seen.openFlags.map((flags) => flags & (FOPEN_PASSTHROUGH | FOPEN_DIRECT_IO))).toEqual([
        0,
        0,
        FOPEN_PASSTHROUGH,
        FOPEN_PASSTHROUGH | FOPEN_DIRECT_IO,
      ]);
      expect(seen.requests.WRITE).toBe(2);
    });

    test.each(['buffered', 'direct', 'mmap'])('20,000 random operations agree: %s', { timeout: TEST_MS }, async (how) => {
      const { path, mount, traffic } = await passthroughHere(folderIn(PLACE));
      const seed = String(Math.floor(Math.random() * 2 ** 31));
      const { code, stdout, stderr } = await run([fsx, join(path, 'file'), '20000', seed, how], { timeoutMs: 200_000 });
      expect(code, `seed ${seed}: ${stdout}${stderr}`).toBe(0);
      expect(stdout).toMatch(/^20000 operations agree/);
      expect((await mount.counters()).backedOpens).toBeGreaterThan(0);
      const seen = await traffic();
      expect((seen.requests.READ ?? 0) + (seen.requests.WRITE ?? 0)).toBe(0);
      expect(seen.closed).toBe(seen.opened);
    });
  },
);
