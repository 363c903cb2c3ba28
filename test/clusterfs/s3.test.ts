/** Blocks in S3: the store through a client that keeps objects in memory and fails when told to, and a mount over it. */
import { describe, expect, it } from 'vitest';
import {
  ClusterFilesystem,
  checkVolume,
  collectVolume,
  formatVolume,
  openVolume,
  type S3Client,
} from '../../examples/clusterfs/index.ts';
import { S3BlockStore } from '../../examples/clusterfs/store/s3.ts';
import { simulate } from '../../src/testing/kernel/index.ts';
import { skipLoudly } from '../live/harness.ts';
import { NO_REDIS, useCluster } from './harness.ts';

const PAGE = 2;

/** What a service answers by, as the SDK throws it. */
function failure(name: string, httpStatusCode: number): Error {
  return Object.assign(new Error(name), { name, $metadata: { httpStatusCode } });
}

class Objects implements S3Client {
  readonly objects = new Map<string, Uint8Array>();
  /** Requests that fail before one works again, and how. */
  failures: Error[] = [];
  requests = 0;

  #answer(): void {
    this.requests++;
    const error = this.failures.shift();
    if (error !== undefined) throw error;
  }

  async putObject({ Key, Body }: { Key: string; Body: Uint8Array }): Promise<object> {
    this.#answer();
    this.objects.set(Key, Uint8Array.from(Body));
    return {};
  }

  async getObject({ Key }: { Key: string }) {
    this.#answer();
    const bytes = this.objects.get(Key);
    if (bytes === undefined) throw failure('NoSuchKey', 404);
    return { Body: { transformToByteArray: async () => bytes } };
  }

  async headObject({ Key }: { Key: string }) {
    this.#answer();
    const bytes = this.objects.get(Key);
    if (bytes === undefined) throw failure('NotFound', 404);
    return { ContentLength: bytes.byteLength };
  }

  async deleteObject({ Key }: { Key: string }): Promise<object> {
    this.#answer();
    this.objects.delete(Key);
    return {};
  }

  async listObjectsV2({ Prefix, ContinuationToken }: { Prefix: string; ContinuationToken?: string }) {
    this.#answer();
    const keys = [...this.objects.keys()].filter((key) => key.startsWith(Prefix)).sort();
    const at = Number(ContinuationToken ?? 0);
    const more = at + PAGE < keys.length;
    return {
      Contents: keys.slice(at, at + PAGE).map((Key) => ({ Key })),
      NextContinuationToken: more ? String(at + PAGE) : undefined,
    };
  }
}

describe('blocks in S3', () => {
  const store = (client: S3Client, uuid = '12345678-new') => new S3BlockStore({ client, bucket: 'b', attempts: 3 }, 'vol', uuid);

  it('come back, and are gone when deleted', async () => {
    const s3 = store(new Objects());
    await s3.put('1.a', Buffer.from('contents'));
    expect(String(await s3.get('1.a'))).toBe('contents');
    expect(await s3.size('1.a')).toBe(8);
    await s3.delete(['1.a', '1.unknown']);
    expect(await s3.get('1.a')).toBeUndefined();
    expect(await s3.size('1.a')).toBeUndefined();
  });

  it('are listed over pages, with those of older volumes apart', async () => {
    const client = new Objects();
    await store(client, '00000000-old').put('9.z', Buffer.from('old'));
    const s3 = store(client);
    for (const id of ['1.a', '1.b', '2.a']) await s3.put(id, Buffer.from(id));
    const found: { id: string; stale: boolean }[] = [];
    for await (const one of s3.list()) found.push(one);
    expect(
      found
        .filter(({ stale }) => !stale)
        .map(({ id }) => id)
        .sort(),
    ).toEqual(['1.a', '1.b', '2.a']);
    const stale = found.filter((one) => one.stale).map(({ id }) => id);
    expect(stale.length).toBe(1);
    await s3.deleteStale(stale);
    expect(client.objects.size).toBe(3);
  });

  it('are asked for again when the service is busy, and not when it refuses', async () => {
    const client = new Objects();
    const s3 = store(client);
    client.failures = [failure('SlowDown', 503), failure('InternalError', 500)];
    await s3.put('1.a', Buffer.from('x'));
    expect(client.requests).toBe(3);
    client.failures = [failure('AccessDenied', 403)];
    await expect(s3.get('1.a')).rejects.toMatchObject({ code: 'ERR_CLUSTERFS_STORE' });
    expect(client.requests).toBe(4);
    client.failures = Array.from({ length: 3 }, () => failure('SlowDown', 503));
    await expect(s3.get('1.a')).rejects.toMatchObject({ code: 'ERR_CLUSTERFS_STORE' });
  });
});

describe.skipIf(skipLoudly('a volume with blocks in S3', NO_REDIS))('a volume with blocks in S3', () => {
  const cluster = useCluster();

  it('is written, read, checked and swept', async () => {
    const nodes = cluster.local.addresses;
    const client = new Objects();
    await formatVolume({ nodes }, 's3', { store: 's3', blockBytes: 4096 });
    await expect(ClusterFilesystem.open(await openVolume({ nodes }, 's3'))).rejects.toMatchObject({
      code: 'ERR_CLUSTERFS_OPTION',
    });
    const s3 = { client, bucket: 'b' };
    const kernel = await simulate(await ClusterFilesystem.open(await openVolume({ nodes }, 's3'), { s3, collectMs: 0 }));
    const p = await kernel.process();
    const fd = await p.open('/file', 0o102, 0o644);
    await p.write(fd, Buffer.alloc(10_000, 'x'), 0);
    await p.fsync(fd);
    expect(client.objects.size).toBe(3);
    await p.write(fd, Buffer.from('y'), 5000);
    await p.fsync(fd);
    expect(Buffer.from(await p.read(fd, 3, 4999)).toString()).toBe('xyx');
    await p.close(fd);
    await kernel.end();
    const volume = await openVolume({ nodes }, 's3');
    const store = new S3BlockStore(s3, 's3', volume.description.uuid);
    expect((await checkVolume(volume, store)).problems).toEqual([]);
    expect(await collectVolume(volume, store, { graceMs: 0 })).toEqual({ garbage: 1, orphans: 0, stale: 0, used: 3 });
    expect(client.objects.size).toBe(3);
    volume.cluster.close();
  });
});
