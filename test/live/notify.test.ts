/** What a filesystem tells the kernel of its own accord, seen by programs that had cached the opposite. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { Filesystem } from '../../src/filesystem/index.ts';
import { FIXTURES, mountHere, NO_MOUNTS, run, runWell, skipLoudly, useLiveMounts } from './harness.ts';

const skip = skipLoudly('notifications', NO_MOUNTS);
const module = pathToFileURL(join(FIXTURES, 'changing.mjs'));

async function mounted(settings: { workers: number; mode: 'event' | 'blocking' }) {
  const words = new Int32Array(new SharedArrayBuffer(16));
  Atomics.store(words, 2, 1);
  const live = await mountHere({ module, options: { state: words.buffer } }, settings);
  const file = (name: string) => join(live.path, name);
  const cat = (name: string) => runWell(['cat', file(name)], { timeoutMs: 5000 });
  const exists = async (name: string) => (await run(['stat', file(name)], { timeoutMs: 5000 })).code === 0;
  return { ...live, words, cat, exists };
}

describe.skipIf(skip).each([
  { workers: 1, mode: 'event' as const },
  { workers: 2, mode: 'event' as const },
  { workers: 2, mode: 'blocking' as const },
])('with %o', (settings) => {
  useLiveMounts();

  test('changed contents are read anew, and only then', async () => {
    const { mount, words, cat } = await mounted(settings);
    expect(await cat('file')).toBe('version 0\n');
    Atomics.store(words, 0, 1);
    expect(await cat('file')).toBe('version 0\n');
    await mount.kernel.changed(2);
    expect(await cat('file')).toBe('version 1\n');
  });

  test('an added name is found, a removed one is not', async () => {
    const { mount, words, exists } = await mounted(settings);
    expect([await exists('born'), await exists('doomed')]).toEqual([false, true]);
    Atomics.store(words, 1, 1);
    Atomics.store(words, 2, 0);
    expect([await exists('born'), await exists('doomed')]).toEqual([false, true]);
    await mount.kernel.added(1, 'born');
    await mount.kernel.removed(1, 'doomed', 4);
    expect([await exists('born'), await exists('doomed')]).toEqual([true, false]);
  });

  test('a worker notifies from inside a handler without waiting for itself', async () => {
    const { cat } = await mounted(settings);
    expect(await cat('file')).toBe('version 0\n');
    expect(await cat('notify')).toBe('told\n');
    expect(await cat('file')).toBe('version 1\n');
  });

  test('bytes are put into the page cache and taken from it', async () => {
    const { mount, cat } = await mounted(settings);
    expect(await cat('file')).toBe('version 0\n');
    await mount.kernel.store(2, 0, Buffer.from('STORED 0\n\n'));
    expect(await cat('file')).toBe('STORED 0\n\n');
    expect(Buffer.from(await mount.kernel.retrieve(2, 0, 6)).toString()).toBe('STORED');
    expect(await mount.kernel.retrieve(2, 1 << 20, 4096)).toHaveLength(0);
  });

  test('what the kernel does not hold is no error, what it refuses is one', async () => {
    const { mount } = await mounted(settings);
    await mount.kernel.changed(4711);
    await mount.kernel.removed(1, 'never seen');
    await expect(mount.kernel.invalidateEntry(1, 'x'.repeat(5000))).rejects.toMatchObject({ code: 'ENAMETOOLONG' });
    await mount.kernel.expireAll();
    await mount.kernel.prune([2, 4]);
    await mount.kernel.resend();
    await mount.kernel.wakePoll(7, 0);
  });

  test('many equal ones are merged, and the end settles those that wait', async () => {
    const { mount, cat } = await mounted(settings);
    await cat('file');
    await Promise.all(Array.from({ length: 10_000 }, () => mount.kernel.changed(2)));
    const late = mount.kernel.changed(2);
    await mount.unmount();
    await late;
    await mount.kernel.changed(2);
  });
});

describe.skipIf(skip)('with an object on this thread', () => {
  useLiveMounts();

  test('changed contents are read anew', async () => {
    const words = new Int32Array(new SharedArrayBuffer(16));
    const { default: changing } = (await import(module.href)) as { default: (context: object) => Filesystem };
    const { mount, path } = await mountHere(changing({ options: { state: words.buffer } }), {});
    const cat = () => runWell(['cat', join(path, 'file')], { timeoutMs: 5000 });
    expect(await cat()).toBe('version 0\n');
    Atomics.store(words, 0, 1);
    expect(await cat()).toBe('version 0\n');
    await mount.kernel.changed(2);
    expect(await cat()).toBe('version 1\n');
  });
});
