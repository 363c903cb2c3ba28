/** INIT flags about the contents of files: each in force on one mount and refused on another, and what that changes. */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { InitFlag } from '../../src/protocol/index.ts';
import { LEFT_OUT, OneFile, type Stage, type StageOptions, stage, steps, stepsOf } from './capabilities-support.ts';
import { eventually, LineProcess, useLiveMounts } from './harness.ts';
import { prove } from './proof.ts';

const O_TRUNC = 0o1000;
const LIMIT_MS = 20_000;

/** Two mounts that differ in this flag alone. */
const twice = (flag: InitFlag) => [
  { isOn: true, settings: {} },
  { isOn: false, settings: { refuseFlags: [flag] } as StageOptions },
];

describe.skipIf(LEFT_OUT)('flags about contents', { timeout: 90_000 }, () => {
  useLiveMounts();

  /** The sizes of requests that are in flight together while a process reads the whole file once. */
  async function together(on: Stage, ...list: string[]): Promise<number> {
    await steps(`open 0 ${on.path}/f w,creat,direct 644`, 'write 0 0 262144 a');
    on.observed.hold('READ');
    const reader = new LineProcess(stepsOf(...list));
    await on.observed.heldIs(1);
    let most = 0;
    while (!reader.hasEnded) {
      const before = on.observed.of('READ').length;
      await new Promise((resolve) => setTimeout(resolve, 60));
      if (on.observed.of('READ').length !== before) continue;
      most = Math.max(most, on.held.length);
      on.held.splice(0, 1)[0]?.go();
    }
    expect((await reader.end(LIMIT_MS)).code).toBe(0);
    return most;
  }

  it('ASYNC_READ: read-ahead has several READs in flight', async () => {
    const most: number[] = [];
    for (const { settings } of twice('FUSE_ASYNC_READ')) {
      const on = await stage({ ...settings, maxWrite: 32768, maxPages: 8 });
      most.push(await together(on, `open 0 ${on.path}/f r`, 'read 0 0 131072'));
    }
    expect(most[0]).toBeGreaterThan(1);
    expect(most[1]).toBe(1);
    prove('flag', 'FUSE_ASYNC_READ');
  });

  it('ASYNC_DIO: a direct read has all its pieces in flight', async () => {
    const most: number[] = [];
    for (const asyncDio of [true, false]) {
      const on = await stage({ asyncDio, maxWrite: 32768, maxPages: 8 });
      most.push(await together(on, `open 0 ${on.path}/f r,direct`, 'read 0 0 262144'));
    }
    expect(most).toEqual([8, 1]);
    prove('flag', 'FUSE_ASYNC_DIO');
  });

  it('BIG_WRITES: a WRITE is longer than a page', async () => {
    const sizes: number[][] = [];
    for (const { settings } of twice('FUSE_BIG_WRITES')) {
      const on = await stage(settings);
      await steps(`open 0 ${on.path}/f w,creat 644`, 'write 0 0 65536 a');
      sizes.push(on.observed.of('WRITE').map(({ size }) => size as number));
    }
    expect(sizes).toEqual([[65536], Array(16).fill(4096)]);
    prove('flag', 'FUSE_BIG_WRITES');
  });

  it('MAX_PAGES: requests are as long as the system allows, also beyond 256 pages', async () => {
    const limit = '/proc/sys/fs/fuse/max_pages_limit';
    const standing = readFileSync(limit, 'utf8');
    const sizes: number[][] = [];
    const granted: number[] = [];
    try {
      writeFileSync(limit, '1024');
      for (const { settings } of twice('FUSE_MAX_PAGES')) {
        const on = await stage({ ...settings, maxWrite: 4 << 20 });
        await steps(`open 0 ${on.path}/f rw,creat,direct 644`, `write 0 0 ${4 << 20} a`, `read 0 0 ${4 << 20}`);
        sizes.push(on.observed.of('WRITE', 'READ').map(({ size }) => size as number));
        granted.push(on.mount.negotiated.maxPages);
      }
    } finally {
      writeFileSync(limit, standing);
    }
    expect(granted).toEqual([1024, 32]);
    expect(sizes).toEqual([[4 << 20, 4 << 20], Array(64).fill(128 << 10)]);
    prove('flag', 'FUSE_MAX_PAGES');
  });

  it('WRITEBACK_CACHE: writes are gathered and come when they must', async () => {
    for (const writeback of [true, false]) {
      const on = await stage({ writeback });
      const writer = new LineProcess(
        stepsOf(
          `open 0 ${on.path}/f w,creat 644`,
          ...Array.from({ length: 8 }, (_, at) => `write 0 ${at * 512} 512 a`),
          'wait',
          'fsync 0',
        ),
      );
      await writer.line((line) => line === 'wait here', LIMIT_MS, 'the writes');
      expect(on.observed.of('WRITE').length).toBe(writeback ? 0 : 8);
      writer.send('');
      expect((await writer.end(LIMIT_MS)).code).toBe(0);
      expect(on.observed.of('WRITE').map(({ size, writeback: cached }) => ({ size, cached }))).toEqual(
        writeback ? [{ size: 4096, cached: true }] : Array(8).fill({ size: 512, cached: false }),
      );
    }
    prove('flag', 'FUSE_WRITEBACK_CACHE');
  });

  it('AUTO_INVAL_DATA: a new modification time drops what is cached', async () => {
    const read: string[] = [];
    for (const { settings } of twice('FUSE_AUTO_INVAL_DATA')) {
      const base = new OneFile();
      const on = await stage({ ...settings, base });
      const again = [`open 0 ${on.path}/f r`, 'read 0 0 4'];
      expect((await steps(...again))[1]).toBe('4 aaaa');
      base.content = 'bbbb';
      base.changedAt++;
      read.push((await steps(...again))[1]);
    }
    expect(read).toEqual(['4 bbbb', '4 aaaa']);
    prove('flag', 'FUSE_AUTO_INVAL_DATA');
  });

  it('EXPLICIT_INVAL_DATA: nothing drops what is cached but the filesystem', async () => {
    const read: string[] = [];
    for (const asks of [['FUSE_EXPLICIT_INVAL_DATA'], []] as InitFlag[][]) {
      const base = new OneFile();
      const on = await stage({ asks, base, refuseFlags: ['FUSE_AUTO_INVAL_DATA'] });
      const again = [`open 0 ${on.path}/f r`, 'read 0 0 4'];
      expect((await steps(...again))[1]).toBe('4 aaaa');
      base.content = 'bbbbbbbb';
      base.changedAt++;
      // Its attributes arrive with the open, and would drop the pages.
      read.push((await steps(`stat ${on.path}/f`, ...again))[2]);
      await on.mount.kernel.invalidateData(2);
      expect((await steps(...again))[1]).toBe('4 bbbb');
    }
    expect(read).toEqual(['4 aaaa', '4 bbbb']);
    prove('flag', 'FUSE_EXPLICIT_INVAL_DATA');
  });

  it('DIRECT_IO_ALLOW_MMAP: a file without page cache can be mapped shared', async () => {
    const came: string[][] = [];
    for (const { settings } of twice('FUSE_DIRECT_IO_ALLOW_MMAP')) {
      const on = await stage({ ...settings, instead: () => ({ open: () => ({ directIo: true }) }) });
      await steps(`open 0 ${on.path}/f w,creat 644`, 'write 0 0 4096 a');
      on.observed.clear();
      came.push((await steps(`open 0 ${on.path}/f rw`, 'mmap 0 4096 private p', 'mmap 0 4096 shared z', 'read 0 0 3')).slice(1));
      if (came.length === 1) expect(on.observed.of('WRITE')).toMatchObject([{ offset: 0, size: 4096 }]);
    }
    expect(came).toEqual([
      ['saw a', 'saw a', '3 zaa'],
      ['saw a', 'ENODEV', '3 aaa'],
    ]);
    prove('flag', 'FUSE_DIRECT_IO_ALLOW_MMAP');
  });

  it('INIT_EXT: without it no flag of the second word counts', async () => {
    const on = await stage({ refuseFlags: ['FUSE_INIT_EXT'], instead: () => ({ open: () => ({ directIo: true }) }) });
    await steps(`open 0 ${on.path}/f w,creat 644`, 'write 0 0 4096 a');
    expect((await steps(`open 0 ${on.path}/f rw`, 'mmap 0 4096 shared z'))[1]).toBe('ENODEV');
    expect(on.mount.negotiated.refused.get('FUSE_DIRECT_IO_ALLOW_MMAP')).toBe('FUSE_INIT_EXT is refused');
    const extended = await stage({ instead: () => ({ open: () => ({ directIo: true }) }) });
    await steps(`open 0 ${extended.path}/f w,creat 644`, 'write 0 0 4096 a');
    expect((await steps(`open 0 ${extended.path}/f rw`, 'mmap 0 4096 shared z'))[1]).toBe('saw a');
    prove('flag', 'FUSE_INIT_EXT');
  });

  it('ATOMIC_O_TRUNC: open truncates', async () => {
    for (const asks of [['FUSE_ATOMIC_O_TRUNC'], []] as InitFlag[][]) {
      const on = await stage({ asks });
      await steps(`open 0 ${on.path}/f w,creat 644`, 'write 0 0 100 a');
      on.observed.clear();
      const [, , after] = await steps(`open 0 ${on.path}/f rw,trunc`, 'read 0 0 100', 'fstat 0');
      expect(after).toContain(' 0 ino=');
      const opened = on.observed.of('OPEN').map(({ flags }) => ((flags as number) & O_TRUNC) !== 0);
      const truncated = on.observed.of('SETATTR').filter(({ size }) => size === 0);
      expect([opened, truncated.length]).toEqual(asks.length === 1 ? [[true], 0] : [[false], 1]);
    }
    prove('flag', 'FUSE_ATOMIC_O_TRUNC');
  });

  it('NO_OPEN_SUPPORT: a filesystem without open is not asked any more', async () => {
    const requests: number[] = [];
    for (const without of [['open', 'create', 'release', 'flush'], []]) {
      const on = await stage({ without });
      await steps(`open 0 ${on.path}/f rw,creat 644`, 'write 0 0 4096 a', 'close 0', `open 0 ${on.path}/f r`, 'read 0 0 10');
      await eventually(
        () => without.length > 0 || on.observed.of('RELEASE').length === 2,
        LIMIT_MS,
        () => 'no RELEASE',
      );
      const before = (await on.mount.counters()).requests;
      await steps(...Array.from({ length: 5 }, (_, slot) => `open ${slot} ${on.path}/f r`), 'read 4 0 10', 'fstat 4');
      requests.push((await on.mount.counters()).requests - before);
      expect(on.observed.of('READ', 'WRITE').every(({ handle }) => (handle === 0) === without.length > 0)).toBe(true);
    }
    expect(requests[0]).toBeLessThanOrEqual(1);
    expect(requests[1]).toBeGreaterThanOrEqual(5);
    prove('flag', 'FUSE_NO_OPEN_SUPPORT');
  });
});
