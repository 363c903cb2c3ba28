/** INIT flags about the connection, and synchronous INIT. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { attach } from '../../src/mount/attach.ts';
import { type MountSettings, mount } from '../../src/mount/mount.ts';
import type { Progress } from '../../src/mount/synchronous.ts';
import { loadAddon } from '../../src/native/index.ts';
import { FUSE_DEV_IOC_SYNC_INIT, type InitFlag } from '../../src/protocol/index.ts';
import { LEFT_OUT, stage, steps, stepsOf } from './capabilities-support.ts';
import {
  abortConnection,
  assertNothingLeft,
  fuseMountAt,
  LineProcess,
  mountPoint,
  mountsUnder,
  ROOT,
  run,
  temporaryFolder,
  useLiveMounts,
  withLimit,
} from './harness.ts';
import { prove } from './proof.ts';

/** A thread that runs from sources starts in half a second, on a busy machine in ten. */
const LIMIT_MS = 30_000;
const O_RDWR = 2;
const AT_FDCWD = -100;

function hasSynchronousInit(): boolean {
  const addon = loadAddon();
  const fd = addon.openat(AT_FDCWD, '/dev/fuse', O_RDWR, 0);
  if (fd < 0) return false;
  const result = addon.ioctlInteger(fd, FUSE_DEV_IOC_SYNC_INIT, 0);
  addon.close(fd);
  return result === 0;
}

describe.skipIf(LEFT_OUT)('flags about the connection', () => {
  useLiveMounts();

  it('ABORT_ERROR: the device tells an abort from an unmount', async () => {
    const reasons: string[] = [];
    for (const refuseFlags of [[], ['FUSE_ABORT_ERROR']] as InitFlag[][]) {
      const on = await stage({ refuseFlags });
      await steps(`stat ${on.path}`);
      await abortConnection(on.connection);
      reasons.push((await withLimit(on.mount.closed, LIMIT_MS, 'the end')).reason);
    }
    expect(reasons).toEqual(['aborted', 'unmounted']);
    prove('flag', 'FUSE_ABORT_ERROR');
  });

  it('HAS_RESEND: what was never answered comes again', async () => {
    const on = await stage();
    on.observed.hold('MKDIR');
    const maker = new LineProcess(stepsOf(`mkdir ${on.path}/d 755`));
    await on.observed.heldIs(1);
    await on.mount.kernel.resend();
    await on.observed.heldIs(2);
    const [first, second] = on.held.splice(0);
    expect([first.seen, second.seen]).toMatchObject([
      { operation: 'MKDIR', name: 'd', resent: false },
      { operation: 'MKDIR', name: 'd', resent: true },
    ]);
    second.go();
    expect((await maker.end(LIMIT_MS)).code).toBe(0);
    expect(maker.lines).toEqual(['mkdir 0']);
    // The old number is nobody's any more.
    first.fail(Object.assign(new Error('EIO'), { code: 'EIO' }));
    on.observed.letGo();
    expect((await steps(`stat ${on.path}/d`))[0]).toContain('40755');
    prove('flag', 'FUSE_HAS_RESEND');
  });

  it('REQUEST_TIMEOUT: a request that waits too long ends the connection', { timeout: 90_000 }, async () => {
    const on = await stage({ requestTimeoutSeconds: 1 });
    on.observed.hold('LOOKUP');
    const caller = new LineProcess(stepsOf(`stat ${on.path}/f`, `stat ${on.path}/f`));
    await on.observed.heldIs(1);
    const since = performance.now();
    await caller.end(45_000);
    // The kernel looks every 15 s.
    expect(performance.now() - since).toBeGreaterThan(5000);
    expect(caller.lines).toEqual(['stat ECONNABORTED', expect.stringMatching(/ENOTCONN|ENOENT/)]);
    prove('flag', 'FUSE_REQUEST_TIMEOUT');
  });
});

describe.skipIf(LEFT_OUT || !hasSynchronousInit())('synchronous INIT', { timeout: 90_000 }, () => {
  useLiveMounts();

  it('the mount is there when it can be used, and not before', async () => {
    const path = mountPoint();
    let seenDuringInit: unknown[] | undefined;
    const filesystem = {
      init: () => {
        seenDuringInit = mountsUnder(path);
      },
      getattr: () => ({ attributes: { mode: 0o040750 } }),
    };
    const mounted = await withLimit(mount(filesystem, path, { syncInit: true }), LIMIT_MS, 'mount()');
    expect(seenDuringInit).toBeDefined();
    expect(fuseMountAt(path)?.connection).toBe(mounted.connection);
    expect((await steps(`stat ${path}`))[0]).toContain('40750');
    await mounted.unmount();
    assertNothingLeft(path);
  });

  it('INIT comes before mount(2) returns: nothing is mounted while it waits', async () => {
    const path = mountPoint();
    const addon = loadAddon();
    const order: string[] = [];
    const begin = async (_fd: number, { isAttached }: Progress) => {
      // mount(2) runs on its thread meanwhile, and cannot end.
      while (!isAttached()) await sleep(5);
      await sleep(100);
      order.push(`INIT waits, ${mountsUnder(path).length} mounts`);
      throw new Error('this filesystem does not begin');
    };
    const attaching = attach({ addon, mountpoint: path, way: 'mount', begin });
    await expect(withLimit(attaching, LIMIT_MS, 'attach()')).rejects.toThrow('this filesystem does not begin');
    expect(order).toEqual(['INIT waits, 0 mounts']);
    assertNothingLeft(path);
  });

  it.each<[string, MountSettings, object, RegExp]>([
    ['mount(2) fails by itself', { syncInit: true, mountOptions: 'context=none' }, {}, /context|EINVAL|mount/i],
    [
      'the filesystem does not come up',
      { syncInit: true },
      { init: () => Promise.reject(new Error('no storage')) },
      /no storage/,
    ],
    ['nor without synchronous INIT', { syncInit: false }, { init: () => Promise.reject(new Error('no storage')) }, /no storage/],
  ])('when %s, nothing is left', async (_, settings, methods, reason) => {
    const path = mountPoint();
    const mounting = mount({ getattr: () => ({ attributes: { mode: 0o040755 } }), ...methods }, path, settings);
    await expect(withLimit(mounting, LIMIT_MS, 'mount()')).rejects.toThrow(reason);
    assertNothingLeft(path);
  });

  it('a module on workers is mounted the same way', async () => {
    const path = mountPoint();
    const built: typeof import('../../src/mount/mount.ts') = await import(
      /* @vite-ignore */ pathToFileURL(join(ROOT, 'dist/src/mount/mount.js')).href
    );
    const module = join(ROOT, 'dist/examples/hello/hello.js');
    const mounted = await withLimit(built.mount({ module }, path, { syncInit: true, workers: 2 }), LIMIT_MS, 'mount()');
    expect((await steps(`stat ${path}`))[0]).toMatch(/^40/);
    await mounted.unmount();
    assertNothingLeft(path);
  });

  it('a process that ends while mount(2) waits does end, and leaves nothing', async () => {
    const path = mountPoint();
    const script = `
      import { attach } from ${JSON.stringify(pathToFileURL(join(ROOT, 'dist/src/mount/attach.js')).href)};
      import { loadAddon } from ${JSON.stringify(pathToFileURL(join(ROOT, 'dist/src/native/index.js')).href)};
      const addon = loadAddon();
      const begin = async (_fd, { isAttached }) => {
        while (!isAttached()) await new Promise((resolve) => setTimeout(resolve, 2));
        console.log('waiting');
        process.exit(7);
      };
      attach({ addon, mountpoint: ${JSON.stringify(path)}, way: 'mount', begin });
    `;
    const file = join(temporaryFolder('script'), 'ends.mjs');
    writeFileSync(file, script);
    const ended = await run([process.execPath, file], { timeoutMs: 60_000 });
    expect(ended).toMatchObject({ code: 7, stdout: 'waiting\n', stderr: '' });
    assertNothingLeft(path);
  });

  it('where fusermount3 mounts, INIT comes afterwards as ever', async () => {
    const path = mountPoint();
    const filesystem = { getattr: () => ({ attributes: { mode: 0o040755 } }) };
    const mounted = await withLimit(
      mount(filesystem, path, { syncInit: true, mountOptions: 'auto_unmount' }),
      LIMIT_MS,
      'mount()',
    );
    expect((await steps(`stat ${path}`))[0]).toContain('40755');
    await mounted.unmount();
    assertNothingLeft(path);
  });
});
