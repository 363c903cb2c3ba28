/** The storage layer on a mount: how many operations of the backend the kernel's parallel pieces become. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { Filesystem } from '../../src/filesystem/index.ts';
import { BlockCache, cachedBackend, type StorageBackend, type WithStorageOptions, withStorage } from '../../src/storage/index.ts';
import { NO_COMPILER } from '../clients/build.ts';
import { Client } from './client.ts';
import { mountHere, NO_MOUNTS, skipLoudly, useLiveMounts } from './harness.ts';
import { fillPattern } from './pattern.ts';

const skip = skipLoudly('the storage layer on live mounts', NO_MOUNTS ?? NO_COMPILER);
const KIB = 1024;
const MIB = 1024 * KIB;
const BYTES = 8 * MIB;
const LIMIT_MS = 20_000;

/** A file in memory whose every operation takes some milliseconds, and which counts them. */
class DistantFile {
  readonly bytes = Buffer.alloc(BYTES);
  readonly reads: [number, number][] = [];
  readonly writes: [number, number][] = [];
  syncs = 0;

  constructor() {
    fillPattern(this.bytes, 0);
  }

  backend(): StorageBackend {
    return {
      read: async (offset, length) => {
        this.reads.push([offset, length]);
        await sleep(5);
        return this.bytes.subarray(offset, offset + length);
      },
      write: async (offset, data) => {
        this.writes.push([offset, data.length]);
        await sleep(5);
        this.bytes.set(data, offset);
      },
      sync: () => {
        this.syncs++;
      },
    };
  }
}

const FILE = 2;

function filesystem(): Filesystem {
  const attributes = { mode: 0o100644, size: BYTES };
  return {
    lookup: (_parent, name) => (name === 'data' ? { node: FILE, attributes } : { node: 0 }),
    getattr: (node) => ({ attributes: node === FILE ? attributes : { mode: 0o040755, nlink: 2 } }),
    setattr: () => ({ attributes }),
    open: () => ({ handle: 1 }),
    read: () => new Uint8Array(0),
    write: () => 0,
  };
}

describe.skipIf(skip)('the storage layer on a mount', () => {
  useLiveMounts();

  async function scene(options: WithStorageOptions = {}, backend = (file: DistantFile) => file.backend()) {
    const file = new DistantFile();
    const fs = withStorage(filesystem(), { backend: () => backend(file), ...options });
    const live = await mountHere(fs, { asyncDio: true, workers: 0, mode: 'event', maxWrite: 128 * KIB, maxPages: 32 });
    return { file, fs, path: join(live.path, 'data') };
  }

  /** Asynchronous reads of 4 KiB one behind the other, submitted by one call. */
  async function readInOrder(client: Client, path: string, count: number, from = 0): Promise<string[]> {
    await client.open(0, path, 'rdonly,direct');
    const reads = Array.from({ length: count }, (_, index) => client.aread(0, from + index * 4 * KIB, 4 * KIB));
    const submitted = client.submit();
    const events = client.events(count, LIMIT_MS);
    const results = await Promise.all(reads.map((read) => read.wait(LIMIT_MS)));
    await submitted.wait(LIMIT_MS);
    await events.wait(LIMIT_MS);
    expect(new Set(results.map(({ result }) => result))).toEqual(new Set([4 * KIB]));
    return results.map(({ data }) => data);
  }

  test.each<[string, WithStorageOptions]>([
    ['as it comes', {}],
    ['by merging alone', { readAhead: false, limits: { operationsMax: 4 } }],
  ])(
    '1,024 sequential asynchronous reads are at most 128 operations: %s',
    async (_name, options) => {
      const { file, fs, path } = await scene(options);
      const data = await readInOrder(await Client.start(), path, 1024);
      expect(new Set(data)).toEqual(new Set(['same']));
      expect(fs.storage.counters.reads).toBe(1024);
      expect(file.reads.length).toBeLessThanOrEqual(128);
      expect(fs.storage.counters.readOperations).toBe(file.reads.length);
    },
    40_000,
  );

  test('64 random asynchronous reads are all with the backend before it answers any', async () => {
    const asked: number[] = [];
    let answer = () => {};
    const answering = new Promise<void>((resolve) => {
      answer = resolve;
    });
    const { path } = await scene({}, (file) => ({
      async read(offset, length) {
        asked.push(length);
        if (asked.length === 64) answer();
        await answering;
        return file.bytes.subarray(offset, offset + length);
      },
    }));
    const client = await Client.start();
    await client.open(0, path, 'rdonly,direct');
    // A step that visits each place once and never two neighbours in a row.
    const reads = Array.from({ length: 64 }, (_, index) => client.aread(0, ((index * 29) % 64) * 64 * KIB, 4 * KIB));
    const submitted = client.submit();
    const events = client.events(64, LIMIT_MS);
    const results = await Promise.all(reads.map((read) => read.wait(LIMIT_MS)));
    await submitted.wait(LIMIT_MS);
    await events.wait(LIMIT_MS);
    expect(new Set(results.map(({ data }) => data))).toEqual(new Set(['same']));
    expect(asked).toEqual(Array.from({ length: 64 }, () => 4 * KIB));
  });

  test('the pieces of one large direct read become few operations', async () => {
    const { file, fs, path } = await scene({ readAhead: false, limits: { operationsMax: 2 } });
    const client = await Client.start();
    await client.open(0, path, 'rdonly,direct');
    expect(await client.pread(0, 0, 4 * MIB).wait(LIMIT_MS)).toMatchObject({ result: 4 * MIB, data: 'same' });
    expect(fs.storage.counters.reads).toBe(32);
    expect(file.reads.length).toBeLessThan(16);
  });

  test('adjacent asynchronous writes reach the backend gathered, and fsync waits for them', async () => {
    const { file, fs, path } = await scene({ limits: { operationsMax: 1 } });
    file.bytes.fill(0);
    const client = await Client.start();
    await client.open(0, path, 'rdwr,direct');
    const writes = Array.from({ length: 64 }, (_, index) => client.awrite(0, index * 4 * KIB, 4 * KIB));
    const submitted = client.submit();
    const events = client.events(64, LIMIT_MS);
    expect(new Set((await Promise.all(writes.map((write) => write.wait(LIMIT_MS)))).map(({ result }) => result))).toEqual(
      new Set([4 * KIB]),
    );
    await submitted.wait(LIMIT_MS);
    await events.wait(LIMIT_MS);
    expect(fs.storage.counters.writes).toBe(64);
    expect(file.writes.length).toBeLessThanOrEqual(8);
    expect(await client.pread(0, 0, 256 * KIB).wait(LIMIT_MS)).toMatchObject({ result: 256 * KIB, data: 'same' });
  });

  test('overlapping readers of one cold file fetch each block once', async () => {
    const cache = new BlockCache();
    const { file, path } = await scene({}, (distant) =>
      cachedBackend(distant.backend(), { cache, key: (index) => `data/1/${index}`, blockBytes: 128 * KIB }),
    );
    const clients = await Promise.all([Client.start(), Client.start()]);
    const data = await Promise.all(clients.map((client, index) => readInOrder(client, path, 512, index * 256 * KIB)));
    expect(new Set(data.flat())).toEqual(new Set(['same']));
    const fetched = file.reads.map(([offset]) => offset);
    expect(new Set(fetched).size).toBe(fetched.length);
    expect(cache.counters.fetches).toBe(fetched.length);
  }, 40_000);
});
