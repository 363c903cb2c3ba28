/** What goes wrong with the cluster while a volume is in use: a clear error in bounded time, nothing acknowledged lost, and it goes on. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { type ClusterfsError, checkVolume, collectVolume, openVolume } from '../../examples/clusterfs/index.ts';
import { slotOf } from '../../examples/clusterfs/redis/slot.ts';
import { storeOf } from '../../examples/clusterfs/stores.ts';
import { LocalCluster, type LocalClusterOptions } from '../../examples/clusterfs/testing/index.ts';
import type { PosixProcess } from '../../src/testing/posix.ts';
import { skipLoudly } from '../live/harness.ts';
import { freshVolume, NO_REDIS, simulated } from './harness.ts';

const O_RDONLY = 0;
const O_WRONLY_CREATE = 0o101;
const NO_REPLICAS = { replicas: 0, waitMs: 0 };

describe.skipIf(skipLoudly('faults of the cluster under clusterfs', NO_REDIS))('clusterfs goes through', () => {
  const ends: (() => Promise<unknown>)[] = [];
  let local: LocalCluster;
  let name = '';
  let faults: string[] = [];

  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });

  async function mounted(
    cluster: LocalClusterOptions,
    options: { commandMs?: number; waitMs?: number } = {},
  ): Promise<PosixProcess> {
    local = await LocalCluster.start(cluster);
    ends.push(() => local.stop());
    name = await freshVolume(local);
    faults = [];
    const onFault = (error: Error) => faults.push((error as ClusterfsError).code);
    const kernel = await simulated(local, name, { collectMs: 0, restMs: 100_000, onFault, ...options });
    ends.push(() => kernel.end());
    return await kernel.process();
  }

  async function put(p: PosixProcess, path: string, data: Uint8Array): Promise<void> {
    const fd = await p.open(path, O_WRONLY_CREATE, 0o644);
    try {
      await p.write(fd, data, 0);
      await p.fsync(fd);
    } finally {
      await p.close(fd).catch(() => {});
    }
  }

  async function get(p: PosixProcess, path: string, length = 1000): Promise<Buffer> {
    const fd = await p.open(path, O_RDONLY);
    try {
      return Buffer.from(await p.read(fd, length, 0));
    } finally {
      await p.close(fd);
    }
  }

  async function clean(): Promise<void> {
    const volume = await openVolume({ nodes: local.addresses }, name);
    const { problems } = await checkVolume(volume, storeOf(volume, NO_REPLICAS)).finally(() => volume.cluster.close());
    expect(problems).toEqual([]);
  }

  const metadataMaster = () => local.masterOf(slotOf(`{${name}}`));

  it('the loss of all nodes, and their return', async () => {
    const p = await mounted({}, { commandMs: 2000 });
    await put(p, '/before', Buffer.from('kept'));
    for (const node of local.nodes) await local.kill(node);
    const begin = performance.now();
    await expect(put(p, '/during', Buffer.from('x'))).rejects.toMatchObject({ code: 'EIO' });
    await expect(p.mkdir('/folder', 0o755)).rejects.toMatchObject({ code: 'EIO' });
    expect(performance.now() - begin).toBeLessThan(15_000);
    for (const node of local.nodes) local.restart(node);
    await local.ready();
    expect(String(await get(p, '/before'))).toBe('kept');
    await put(p, '/after', Buffer.from('goes on'));
    expect(String(await get(p, '/after'))).toBe('goes on');
    await clean();
  }, 120_000);

  it('full memory: ENOSPC, what was there stays, and removing makes room', async () => {
    const p = await mounted({ maxmemory: 14 << 20 });
    const chunk = Buffer.alloc(1 << 20, 'f');
    let written = 0;
    const filling = async () => {
      for (; written < 100; written++) await put(p, `/f${written}`, chunk);
    };
    await expect(filling()).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(written).toBeGreaterThan(3);
    expect(written).toBeLessThan(60);
    expect(faults).toContain('ERR_CLUSTERFS_FULL');
    for (let nth = 0; nth < written; nth++) expect((await get(p, `/f${nth}`, 1 << 20)).equals(chunk)).toBe(true);
    for (let nth = 0; nth < written - 1; nth++) await p.unlink(`/f${nth}`);
    await p.unlink(`/f${written}`).catch(() => {});
    const volume = await openVolume({ nodes: local.addresses }, name);
    await collectVolume(volume, storeOf(volume, NO_REPLICAS), { graceMs: 0 }).finally(() => volume.cluster.close());
    await put(p, '/again', chunk);
    expect((await get(p, '/again', 1 << 20)).equals(chunk)).toBe(true);
    await clean();
  }, 120_000);

  it('a replica that is gone: fsync says so, and is right again when it is back', async () => {
    const p = await mounted({}, { waitMs: 300 });
    const master = await metadataMaster();
    const [, , replicas] = (await local.command(master, 'ROLE')) as readonly [Buffer, number, readonly (readonly Buffer[])[]];
    const replica = local.nodes.find(({ port }) => port === Number(String(replicas[0][1]))) as LocalCluster['nodes'][number];
    await local.kill(replica);
    const fd = await p.open('/file', O_WRONLY_CREATE, 0o644);
    await p.write(fd, Buffer.from('written'), 0);
    await expect(p.fsync(fd)).rejects.toMatchObject({ code: 'EIO' });
    expect(faults).toContain('ERR_CLUSTERFS_NOT_REPLICATED');
    local.restart(replica);
    await local.ready();
    await p.fsync(fd);
    await p.close(fd);
    expect(String(await get(p, '/file'))).toBe('written');
    await clean();
  }, 90_000);

  it('a master that takes no writes: EROFS, and reading goes on', async () => {
    const p = await mounted({}, { commandMs: 1000 });
    await put(p, '/file', Buffer.from('kept'));
    const master = await metadataMaster();
    await local.command(master, 'CONFIG', 'SET', 'min-replicas-to-write', '5');
    await expect(p.mkdir('/folder', 0o755)).rejects.toMatchObject({ code: 'EROFS' });
    expect((await p.stat('/file')).size).toBe(4);
    await local.command(master, 'CONFIG', 'SET', 'min-replicas-to-write', '0');
    await p.mkdir('/folder', 0o755);
    await clean();
  }, 90_000);

  it('a master that hangs: its replica takes over', async () => {
    const p = await mounted({ nodeTimeoutMs: 1500 });
    await put(p, '/file', Buffer.from('kept'));
    const master = await metadataMaster();
    local.signal(master, 'SIGSTOP');
    const begin = performance.now();
    await p.mkdir('/folder', 0o755);
    expect(performance.now() - begin).toBeLessThan(25_000);
    local.signal(master, 'SIGCONT');
    await local.ready();
    expect(String(await get(p, '/file'))).toBe('kept');
    await put(p, '/later', Buffer.from('goes on'));
    await clean();
  }, 90_000);

  it('a connection that breaks after the server has acted: nothing is done twice', async () => {
    const p = await mounted({});
    const master = await metadataMaster();
    let stop = false;
    const breaking = (async () => {
      for (; !stop; await sleep(150))
        await local.command(master, 'CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes').catch(() => {});
    })();
    try {
      for (let nth = 0; nth < 60; nth++) {
        await p.mkdir(`/d${nth}`, 0o755);
        await p.rename(`/d${nth}`, `/e${nth}`);
        if (nth % 2 === 0) await p.rmdir(`/e${nth}`);
      }
    } finally {
      stop = true;
      await breaking;
    }
    expect((await p.stat('/')).nlink).toBe(2 + 30);
    await clean();
  }, 90_000);
});
