/** Volumes: made, found, refused, checked, mended and swept, on a real cluster. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, test } from 'vitest';
import {
  CLUSTERFS_ERROR_CODES,
  checkVolume,
  collectVolume,
  formatVolume,
  openVolume,
  type Volume,
  volumeStatus,
} from '../../examples/clusterfs/index.ts';
import { RedisCluster } from '../../examples/clusterfs/redis/cluster.ts';
import { slotOf } from '../../examples/clusterfs/redis/slot.ts';
import { storeOf } from '../../examples/clusterfs/stores.ts';
import { findRedisServer, LocalCluster } from '../../examples/clusterfs/testing/index.ts';
import { ROOT, skipLoudly } from '../live/harness.ts';
import { freshVolume, NO_REDIS, openFilesystem, simulated, useCluster } from './harness.ts';

const O_RDONLY = 0;
const O_WRONLY_CREATE = 0o101;
const NO_REPLICAS = { replicas: 0, waitMs: 0 };

describe('slots', () => {
  // The examples of the cluster specification, and its check value.
  it.each([
    ['123456789', 0x31c3],
    ['{user1000}.following', slotOf('user1000')],
    ['foo{}{bar}', slotOf('foo{}{bar}')],
    ['foo{{bar}}zap', slotOf('{bar')],
  ])('%s', (key, slot) => expect(slotOf(key)).toBe(slot));
});

test('the README has each error code, and no other', () => {
  const text = readFileSync(join(ROOT, 'examples/clusterfs/README.md'), 'utf8');
  const told = new Set(text.match(/ERR_CLUSTERFS_[A-Z_]+/g));
  expect([...told].sort()).toEqual([...CLUSTERFS_ERROR_CODES].sort());
});

describe.skipIf(skipLoudly('volumes of clusterfs', NO_REDIS))('volumes', () => {
  const cluster = useCluster();
  const opened: Volume[] = [];

  const open = async (name: string) => {
    const volume = await openVolume({ nodes: cluster.local.addresses }, name);
    opened.push(volume);
    return volume;
  };
  const check = async (name: string, repair = false) => {
    const volume = await open(name);
    return await checkVolume(volume, storeOf(volume, NO_REPLICAS), { repair });
  };
  const redis = (volume: Volume, ...words: string[]) => volume.cluster.send(volume.meta.slot, [words]);

  afterEach(() => {
    for (const volume of opened.splice(0)) volume.cluster.close();
  });

  /** A volume with a file of three blocks, a directory with a file, and a link. */
  async function populated(): Promise<string> {
    const name = await freshVolume(cluster.local, { blockBytes: 4096 });
    const kernel = await simulated(cluster.local, name, { collectMs: 0 });
    const p = await kernel.process();
    await p.mkdir('/folder');
    for (const path of ['/three', '/folder/one']) {
      const fd = await p.open(path, O_WRONLY_CREATE, 0o644);
      await p.write(fd, Buffer.alloc(path === '/three' ? 10_000 : 1, 'x'), 0);
      await p.close(fd);
    }
    await p.link('/three', '/again');
    await kernel.end();
    return name;
  }

  it('says what it is', async () => {
    const name = await freshVolume(cluster.local, { blockBytes: 65_536 });
    const status = await volumeStatus(await open(name));
    expect(status).toMatchObject({
      inodes: 1,
      bytes: 0,
      sessions: [],
      description: { format: 1, blockBytes: 65_536, store: 'redis' },
    });
  });

  it('is not made twice, unless told to', async () => {
    const name = await populated();
    const options = { nodes: cluster.local.addresses };
    await expect(formatVolume(options, name)).rejects.toMatchObject({ code: 'ERR_CLUSTERFS_EXISTS' });
    await formatVolume(options, name, { force: true });
    const volume = await open(name);
    expect((await volumeStatus(volume)).inodes).toBe(1);
    // The blocks of the old one are found by their older mark.
    const report = await collectVolume(volume, storeOf(volume, NO_REPLICAS));
    expect(report).toEqual({ garbage: 0, orphans: 0, stale: 4, used: 0 });
  });

  it('is not erased under a mount', async () => {
    const name = await freshVolume(cluster.local);
    const filesystem = await openFilesystem(cluster.local, name);
    const again = formatVolume({ nodes: cluster.local.addresses }, name, { force: true });
    await expect(again).rejects.toMatchObject({ code: 'ERR_CLUSTERFS_IN_USE' });
    await filesystem.destroy();
  });

  it('refuses what cannot be', async () => {
    const options = { nodes: cluster.local.addresses };
    await expect(formatVolume(options, 'a/b')).rejects.toMatchObject({ code: 'ERR_CLUSTERFS_OPTION' });
    await expect(formatVolume(options, 'odd', { blockBytes: 5000 })).rejects.toMatchObject({ code: 'ERR_CLUSTERFS_OPTION' });
    await expect(openVolume(options, 'nobody')).rejects.toMatchObject({ code: 'ERR_CLUSTERFS_NO_VOLUME' });
    await expect(openVolume({ nodes: [] }, 'nobody')).rejects.toMatchObject({ code: 'ERR_CLUSTERFS_OPTION' });
  });

  it('of a newer format is left alone', async () => {
    const name = await freshVolume(cluster.local);
    const volume = await open(name);
    const newer = JSON.stringify({ ...volume.description, format: 2 });
    await redis(volume, 'SET', `${volume.meta.tag}:volume`, newer);
    await expect(open(name)).rejects.toMatchObject({ code: 'ERR_CLUSTERFS_NEWER_FORMAT' });
  });

  it('is clean after use, and nothing is left open', async () => {
    const name = await populated();
    expect(await check(name)).toEqual({ directories: 2, files: 2, blocks: 4, problems: [] });
    expect((await volumeStatus(await open(name))).sessions).toEqual([]);
  });

  it('fsck finds each kind of damage, and mends what has one answer', async () => {
    const name = await populated();
    const volume = await open(name);
    const { tag } = volume.meta;
    // 1 root, 2 folder, 3 three, 4 one.
    await redis(volume, 'HSET', `${tag}:d:1`, 'dangling', '77 32768');
    await redis(volume, 'HSET', `${tag}:i:3`, 'nlink', '5', 'alloc', '1');
    await redis(volume, 'HSET', `${tag}:i:2`, 'parent', '3');
    await redis(
      volume,
      'HSET',
      `${tag}:i:88`,
      ...'mode 33188 uid 0 gid 0 nlink 1 size 0 rdev 0'.split(' '),
      ...'atime 0.0 mtime 0.0 ctime 0.0 btime 0.0 rev 0 alloc 0'.split(' '),
    );
    const kinds = (report: Awaited<ReturnType<typeof check>>) => report.problems.map(({ kind }) => kind).sort();
    const damage = ['file-without-name', 'name-without-file', 'wrong-count', 'wrong-link-count', 'wrong-parent', 'wrong-space'];
    expect(kinds(await check(name))).toEqual(damage);
    const mended = await check(name, true);
    expect(mended.problems.every(({ repaired }) => repaired)).toBe(true);
    // Removing the file without a name took one off a count that did not know it: that is put right in a second go.
    await check(name, true);
    expect((await check(name)).problems).toEqual([]);
  });

  it('a block that is missing is told to fsck and to the reader', async () => {
    const name = await populated();
    const volume = await open(name);
    const [map] = await redis(volume, 'HGET', `${volume.meta.tag}:b:3`, '1');
    const id = String(map).split(':')[0];
    await storeOf(volume, NO_REPLICAS).delete([id]);
    expect((await check(name)).problems).toEqual([expect.objectContaining({ kind: 'block-missing', repaired: false })]);
    const faults: string[] = [];
    const kernel = await simulated(cluster.local, name, {
      onFault: (error) => faults.push((error as Error & { code: string }).code),
    });
    const p = await kernel.process();
    const fd = await p.open('/three', O_RDONLY);
    await expect(p.read(fd, 4096, 4096)).rejects.toMatchObject({ code: 'EIO' });
    await p.close(fd);
    await kernel.end();
    expect(faults).toContain('ERR_CLUSTERFS_BLOCK_MISSING');
  });

  it('gc takes what was removed, and what was never published', async () => {
    const name = await populated();
    const volume = await open(name);
    const store = storeOf(volume, NO_REPLICAS);
    const kernel = await simulated(cluster.local, name, { collectMs: 0 });
    const p = await kernel.process();
    await p.unlink('/three');
    await p.unlink('/again');
    await kernel.end();
    // A session that is gone has left a block, one that lives has one under way.
    const filesystem = await openFilesystem(cluster.local, name, { collectMs: 0 });
    const [alive] = (await volumeStatus(volume)).sessions;
    await store.put('1.zz', Buffer.from('left'), 0);
    await store.put(`${alive.session}.zz`, Buffer.from('under way'), 0);
    expect(await collectVolume(volume, store, { graceMs: 0 })).toEqual({ garbage: 3, orphans: 1, stale: 0, used: 2 });
    await filesystem.destroy();
    expect((await check(name)).problems).toEqual([]);
    expect(await collectVolume(volume, store, { graceMs: 0 })).toEqual({ garbage: 0, orphans: 1, stale: 0, used: 1 });
  });
});

describe.skipIf(skipLoudly('servers that cannot be used', NO_REDIS))('a server that cannot be used', () => {
  it('is not there', async () => {
    const begin = performance.now();
    const options = { nodes: ['127.0.0.1:1'], commandMs: 500 };
    await expect(openVolume(options, 'any')).rejects.toMatchObject({ code: 'ERR_CLUSTERFS_UNREACHABLE' });
    expect(performance.now() - begin).toBeLessThan(5000);
  });

  it('wants a password', async () => {
    await using local = await LocalCluster.start({ password: 'open sesame' });
    const nodes = local.addresses;
    await expect(openVolume({ nodes }, 'any')).rejects.toMatchObject({ code: 'ERR_CLUSTERFS_AUTH' });
    await expect(openVolume({ nodes, password: 'wrong' }, 'any')).rejects.toMatchObject({ code: 'ERR_CLUSTERFS_AUTH' });
    await formatVolume({ nodes, password: 'open sesame' }, 'any');
  }, 60_000);

  it('is no cluster', async () => {
    const port = 19_000 + Math.floor(Math.random() * 900);
    const argv = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
    const child = spawn(findRedisServer() as string, argv, { stdio: 'ignore' });
    try {
      const options = { nodes: [`127.0.0.1:${port}`], commandMs: 10_000 };
      await expect(RedisCluster.connect(options)).rejects.toMatchObject({ code: 'ERR_CLUSTERFS_NOT_CLUSTER' });
    } finally {
      child.kill('SIGKILL');
    }
  }, 20_000);
});
