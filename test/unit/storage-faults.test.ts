/** The storage layer when its backend fails, is slow, never answers, or answers what it must not, and when callers go away. */
import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FuseError } from '../../src/session/index.ts';
import { FairQueue } from '../../src/storage/fair.ts';
import {
  type Asker,
  BlockCache,
  fileHandleBackend,
  type StorageBackend,
  type StorageOptions,
  storageLayer,
  type Transfer,
} from '../../src/storage/index.ts';

const KIB = 1024;
const content = Buffer.from(Array.from({ length: 256 * KIB }, (_, index) => (index * 31 + (index >> 8)) & 255));
const joined = (answer: Uint8Array | readonly Uint8Array[]) =>
  answer instanceof Uint8Array ? Buffer.from(answer) : Buffer.concat(answer);
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** A file whose operations wait until they are let go. */
function gated(options: StorageOptions = {}, offers: Partial<StorageBackend> = {}) {
  const waiting: { what: string; transfer: Transfer; resolve: () => void; reject: (error: unknown) => void }[] = [];
  const started: string[] = [];
  const bytes = Buffer.from(content);
  const wait = (what: string, transfer: Transfer) => {
    started.push(what);
    return new Promise<void>((resolve, reject) => waiting.push({ what, transfer, resolve, reject }));
  };
  const backend: StorageBackend = {
    read: (offset, length, transfer) =>
      wait(`r${offset}+${length}`, transfer).then(() => Buffer.from(bytes.subarray(offset, offset + length))),
    write: (offset, data, transfer) =>
      wait(`w${offset}+${data.length}`, transfer).then(() => {
        bytes.set(data, offset);
      }),
    sync: (_dataOnly, transfer) => wait('sync', transfer),
    ...offers,
  };
  const layer = storageLayer({ readAhead: false, retries: { max: 0 }, ...options });
  const file = layer.file(backend);
  const go = async (index = 0, error?: unknown) => {
    const [one] = waiting.splice(index, 1);
    if (error === undefined) one.resolve();
    else one.reject(error);
    await sleep(0);
  };
  const goAll = async () => {
    for (let idle = 0; idle < 3; idle++) {
      while (waiting.length > 0) {
        idle = 0;
        await go();
      }
      await sleep(1);
    }
  };
  return { layer, file, waiting, started, bytes, go, goAll };
}

const asker = (signal: AbortSignal, pid = 1): Asker => ({ uid: 0, gid: 0, pid, signal });

describe('merging', () => {
  it('makes one operation of what touches, one fetch of what is equal, and cuts the answers from it without a copy', async () => {
    const { file, layer, started, goAll } = gated();
    const handle = file.open();
    const reads = [
      handle.read(4 * KIB, 4 * KIB),
      handle.read(0, 4 * KIB),
      handle.read(0, 4 * KIB),
      handle.read(2 * KIB, 4 * KIB),
    ];
    await goAll();
    const answers = await Promise.all(reads);
    expect(started).toEqual([`r0+${8 * KIB}`]);
    expect(answers.map((answer) => joined(answer))).toEqual([
      content.subarray(4 * KIB, 8 * KIB),
      content.subarray(0, 4 * KIB),
      content.subarray(0, 4 * KIB),
      content.subarray(2 * KIB, 6 * KIB),
    ]);
    const memory = new Set(answers.map((answer) => (answer as Uint8Array).buffer));
    expect(memory.size).toBe(1);
    expect(layer.counters).toMatchObject({ reads: 4, readOperations: 1, readOperationBytes: 8 * KIB, waitingNow: 0 });
  });

  it('joins what is on its way, and reads only what nobody reads', async () => {
    const { file, started, go, goAll } = gated();
    const handle = file.open();
    const first = handle.read(0, 8 * KIB);
    await sleep(0);
    const equal = handle.read(0, 8 * KIB);
    const across = handle.read(4 * KIB, 8 * KIB);
    await sleep(0);
    expect(started).toEqual([`r0+${8 * KIB}`, `r${8 * KIB}+${4 * KIB}`]);
    await go(1);
    await goAll();
    expect(joined(await first)).toEqual(content.subarray(0, 8 * KIB));
    expect(joined(await equal)).toEqual(content.subarray(0, 8 * KIB));
    expect(joined(await across)).toEqual(content.subarray(4 * KIB, 12 * KIB));
  });

  it('lets the queue grow and merge while the backend is at its limit', async () => {
    const { file, layer, started, go, goAll } = gated({ limits: { operationsMax: 1 } });
    const handle = file.open();
    const reads = [handle.read(100 * KIB, KIB)];
    await sleep(0);
    for (let index = 0; index < 64; index++) {
      reads.push(handle.read(index * KIB, KIB));
      await Promise.resolve();
    }
    await go();
    expect(started).toEqual([`r${100 * KIB}+${KIB}`, `r0+${64 * KIB}`]);
    await goAll();
    for (const [index, answer] of (await Promise.all(reads.slice(1))).entries())
      expect(joined(answer)).toEqual(content.subarray(index * KIB, (index + 1) * KIB));
    expect(layer.counters.queued).toBe(64);
    expect(layer.counters.operationsPeak).toBe(1);
  });

  it('gathers writes, the later one counting where they overlap', async () => {
    const { file, started, bytes, goAll } = gated();
    const handle = file.open();
    const writes = [
      handle.write(0, Buffer.alloc(100, 1)),
      handle.write(100, Buffer.alloc(100, 2)),
      handle.write(50, Buffer.alloc(100, 3)),
    ];
    await goAll();
    await Promise.all(writes);
    expect(started).toEqual(['w0+200']);
    expect([bytes[49], bytes[50], bytes[149], bytes[150]]).toEqual([1, 3, 3, 2]);
  });

  it('gives a backend with ranges several of them, and pieces as they are', async () => {
    const asked: string[] = [];
    const layer = storageLayer({ readAhead: false });
    const file = layer.file({
      async readRanges(ranges) {
        asked.push(ranges.map(({ offset, length }) => `${offset}+${length}`).join(' '));
        return ranges.map(({ offset, length }) => [
          content.subarray(offset, offset + 1),
          content.subarray(offset + 1, offset + length),
        ]);
      },
    });
    const handle = file.open();
    const answers = await Promise.all([handle.read(9000, 10), handle.read(0, 10), handle.read(5, 10)]);
    expect(asked).toEqual(['0+15 9000+10']);
    expect(answers.map(joined)).toEqual([content.subarray(9000, 9010), content.subarray(0, 10), content.subarray(5, 15)]);
  });

  it('does without merging when told so', async () => {
    const { file, started, goAll } = gated({ merge: false });
    const handle = file.open();
    const reads = [handle.read(0, 10), handle.read(10, 10), handle.read(0, 10)];
    await goAll();
    await Promise.all(reads);
    expect(started).toEqual(['r0+10', 'r10+10', 'r0+10']);
  });

  it('ends answers where the file ends', async () => {
    const { file, goAll } = gated();
    const handle = file.open();
    const end = content.length;
    const reads = [handle.read(end - 10, 10), handle.read(end, 10), handle.read(end - 5, 100)];
    await goAll();
    expect((await Promise.all(reads)).map((answer) => joined(answer).length)).toEqual([10, 0, 5]);
  });
});

describe('order', () => {
  it('lets a read wait for a write of its bytes, and others pass', async () => {
    const { file, started, go, goAll } = gated();
    const handle = file.open();
    const write = handle.write(0, Buffer.alloc(10, 9));
    const behind = handle.read(5, 10);
    const beside = handle.read(100, 10);
    await sleep(0);
    expect(started).toEqual(['w0+10', 'r100+10']);
    await go();
    await goAll();
    await Promise.all([write, beside]);
    expect([...joined(await behind)]).toEqual([9, 9, 9, 9, 9, ...content.subarray(10, 15)]);
  });

  it('lets a write wait for reads of its bytes', async () => {
    const { file, started, go, goAll } = gated();
    const handle = file.open();
    const read = handle.read(0, 10);
    await sleep(0);
    const write = handle.write(5, Buffer.alloc(10, 9));
    await sleep(0);
    expect(started).toEqual(['r0+10']);
    await go();
    await goAll();
    expect(joined(await read)).toEqual(content.subarray(0, 10));
    await write;
    expect(started).toEqual(['r0+10', 'w5+10']);
  });

  it('syncs after every write that came before', async () => {
    const { file, started, go, goAll } = gated();
    const handle = file.open();
    const write = handle.write(0, Buffer.alloc(10, 1));
    const synced = handle.sync();
    await sleep(1);
    expect(started).toEqual(['w0+10']);
    await go();
    expect(started).toEqual(['w0+10', 'sync']);
    await goAll();
    await Promise.all([write, synced]);
  });

  it('runs a change alone', async () => {
    const { file, started, goAll, waiting } = gated();
    const handle = file.open();
    const before = handle.read(0, 10);
    await sleep(0);
    let flying = -1;
    const changed = file.exclusive(() => {
      flying = waiting.length;
    });
    const after = handle.read(20, 10);
    await sleep(1);
    expect(started).toEqual(['r0+10']);
    await goAll();
    await Promise.all([before, changed, after]);
    expect(flying).toBe(0);
    expect(started).toEqual(['r0+10', 'r20+10']);
  });
});

describe('faults', () => {
  it('tells the error of a merged operation to nobody whose own bytes are well', async () => {
    const layer = storageLayer({ readAhead: false });
    const file = layer.file({
      async read(offset, length) {
        if (offset <= 5000 && 5000 < offset + length) throw new FuseError('EIO');
        return content.subarray(offset, offset + length);
      },
    });
    const handle = file.open();
    const results = await Promise.allSettled([0, 1, 2].map((index) => handle.read(index * 4096, 4096)));
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(layer.counters).toMatchObject({ splits: 1, readOperations: 4, waitingNow: 0, operationsNow: 0 });
  });

  it('repeats what failed for now, with the same bytes, and gives up in the end', async () => {
    let failures = 2;
    const attempts: number[] = [];
    const layer = storageLayer({ readAhead: false, retries: { max: 3, pauseMs: 1 } });
    const file = layer.file({
      async read(offset, length, { attempt }) {
        attempts.push(attempt);
        if (failures-- > 0) throw new FuseError('ECONNRESET');
        return content.subarray(offset, offset + length);
      },
    });
    expect(joined(await file.open().read(0, 10))).toEqual(content.subarray(0, 10));
    expect(attempts).toEqual([0, 1, 2]);
    failures = 100;
    await expect(file.open().read(0, 10)).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(layer.counters).toMatchObject({ retries: 5, failures: 1, operationsNow: 0 });
  });

  it('does not wait for ever for a backend that never answers', async () => {
    const signals: AbortSignal[] = [];
    const layer = storageLayer({ readAhead: false, deadlineMs: 30, retries: { max: 1, pauseMs: 1 } });
    const file = layer.file({
      read(_offset, _length, { signal }) {
        signals.push(signal);
        return new Promise(() => {});
      },
    });
    await expect(file.open().read(0, 10)).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true]);
    expect(layer.counters).toMatchObject({ timeouts: 2, operationsNow: 0, operationBytesNow: 0, waitingNow: 0 });
  });

  it('tells the backend only when the last who waited was interrupted', async () => {
    const { file, layer, waiting, go } = gated();
    const handle = file.open();
    const [first, second] = [new AbortController(), new AbortController()];
    const reads = [handle.read(0, 10, asker(first.signal)), handle.read(0, 10, asker(second.signal))];
    await sleep(50);
    const { signal } = waiting[0].transfer;
    first.abort();
    await expect(reads[0]).rejects.toMatchObject({ name: 'AbortError' });
    expect(signal.aborted).toBe(false);
    second.abort();
    await expect(reads[1]).rejects.toMatchObject({ name: 'AbortError' });
    expect(signal.aborted).toBe(true);
    expect(layer.counters).toMatchObject({ interrupted: 2, aborted: 1, waitingNow: 0, operationsNow: 1 });
    await go(0, signal.reason);
    expect(layer.counters.operationsNow).toBe(0);
  });

  it('never begins what was interrupted while it waited, and goes on behind it', async () => {
    const { file, started, goAll } = gated({ limits: { operationsMax: 1 } });
    const handle = file.open();
    const first = handle.read(0, 10);
    await sleep(0);
    const controller = new AbortController();
    const write = handle.write(100, Buffer.alloc(10), asker(controller.signal));
    const behind = handle.read(100, 10);
    await sleep(50);
    controller.abort();
    await expect(write).rejects.toMatchObject({ name: 'AbortError' });
    await goAll();
    await first;
    expect(joined(await behind)).toEqual(content.subarray(100, 110));
    expect(started).toEqual(['r0+10', 'r100+10']);
  });

  it.each<[string, StorageBackend]>([
    ['more bytes than asked', { read: (_offset, length) => Buffer.alloc(length + 1) }],
    ['no bytes', { read: () => 'text' as unknown as Uint8Array }],
    ['too few ranges', { readRanges: () => [] }],
  ])('takes %s for a mistake of the backend', async (_what, backend) => {
    const layer = storageLayer({ readAhead: false });
    await expect(layer.file(backend).open().read(0, 10)).rejects.toMatchObject({ name: 'InvalidAnswer' });
    expect(layer.counters.operationsNow).toBe(0);
  });

  it('takes a write that took less for a mistake of the backend', async () => {
    const file = storageLayer().file({ read: () => content, write: (_offset, data) => data.length - 1 });
    await expect(file.open().write(0, Buffer.alloc(10))).rejects.toMatchObject({ name: 'InvalidAnswer' });
  });

  it('answers EAGAIN when too many wait', async () => {
    const { file, goAll } = gated({ limits: { waitingMax: 2 } });
    const handle = file.open();
    const reads = [handle.read(0, 10), handle.read(50, 10)];
    await expect(handle.read(100, 10)).rejects.toMatchObject({ code: 'EAGAIN' });
    await goAll();
    await Promise.all(reads);
  });

  it.each<[string, StorageOptions]>([
    ['rangeBytesMax', { rangeBytesMax: 0 }],
    ['limits.operationsMax', { limits: { operationsMax: 0 } }],
    ['deadlineMs', { deadlineMs: -1 }],
    ['readAhead.windowBytesMin', { readAhead: { windowBytesMin: 100, windowBytesMax: 10 } }],
    ['writeBehind.restMs', { writeBehind: { restMs: 0.5 } }],
    ['collect', { collect: 'never' as 'turn' }],
  ])('refuses %s out of its range', (name, options) => {
    expect(() => storageLayer(options)).toThrow(
      expect.objectContaining({ code: 'ERR_FUSEWIRE_STORAGE_OPTION', message: expect.stringContaining(name) }),
    );
  });
});

describe('reading ahead', () => {
  it('begins at the second read in order, grows, and is there before it is asked for', async () => {
    const { file, layer, started, goAll } = gated({ readAhead: { windowBytesMin: 8 * KIB, windowBytesMax: 32 * KIB } });
    const handle = file.open();
    for (let at = 0; at < 64 * KIB; at += 4 * KIB) {
      const read = handle.read(at, 4 * KIB);
      await goAll();
      expect(joined(await read)).toEqual(content.subarray(at, at + 4 * KIB));
    }
    expect(started.slice(0, 3)).toEqual([`r0+${4 * KIB}`, `r${4 * KIB}+${12 * KIB}`, `r${16 * KIB}+${12 * KIB}`]);
    expect(layer.counters.readOperations).toBeLessThan(8);
    expect(layer.counters.buffered).toBeGreaterThan(8);
  });

  it('keeps nothing of what was asked for while it was on its way', async () => {
    const window = 8 * KIB;
    const { file, layer, goAll } = gated({ readAhead: { windowBytesMin: window, windowBytesMax: window } });
    const handle = file.open();
    for (let at = 0; at < 192 * KIB; at += 12 * KIB) {
      const reads = [0, 1, 2].map((step) => handle.read(at + step * 4 * KIB, 4 * KIB));
      await goAll();
      for (const [step, answer] of (await Promise.all(reads)).entries())
        expect(joined(answer)).toEqual(content.subarray(at + step * 4 * KIB, at + (step + 1) * 4 * KIB));
    }
    expect(layer.counters.readAheadNow).toBeLessThanOrEqual(2 * window);
  });

  it('is cancelled by a seek and by closing', async () => {
    const { file, layer, waiting, goAll } = gated({
      readAhead: { windowBytesMin: 64 * KIB, windowBytesMax: 64 * KIB },
      merge: false,
    });
    const handle = file.open();
    const reads = [handle.read(0, KIB)];
    await sleep(0);
    reads.push(handle.read(KIB, KIB));
    await sleep(0);
    const ahead = waiting.find(({ transfer }) => transfer.isReadAhead)!;
    expect(ahead.what).toBe(`r${2 * KIB}+${64 * KIB}`);
    const { signal } = ahead.transfer;
    reads.push(handle.read(200 * KIB, KIB));
    expect(signal.aborted).toBe(true);
    await goAll();
    await Promise.all(reads);
    await handle.close();
    expect(layer.counters.readAheadNow).toBe(0);
  });

  it('gives out nothing that was written meanwhile, nor what is too old', async () => {
    const { file, bytes, goAll } = gated({ readAhead: { windowBytesMin: 16 * KIB, windowBytesMax: 16 * KIB, ageMs: 100 } });
    const handle = file.open();
    for (const at of [0, KIB]) {
      const read = handle.read(at, KIB);
      await goAll();
      await read;
    }
    const write = handle.write(2 * KIB, Buffer.alloc(KIB, 7));
    await goAll();
    await write;
    const fresh = handle.read(2 * KIB, KIB);
    await goAll();
    expect(joined(await fresh)).toEqual(Buffer.alloc(KIB, 7));
    bytes.fill(9, 3 * KIB, 4 * KIB);
    await sleep(150);
    const later = handle.read(3 * KIB, KIB);
    await goAll();
    expect(joined(await later)).toEqual(Buffer.alloc(KIB, 9));
  });
});

describe('writing behind', () => {
  const behind = (more: object = {}) => ({ writeBehind: { restMs: 60_000, ...more } });

  it('answers at once, reads what is not written, and writes it gathered', async () => {
    const { file, layer, started, bytes, goAll } = gated(behind());
    const handle = file.open();
    for (let index = 0; index < 16; index++) await handle.write(index * 100, Buffer.alloc(100, index + 1));
    await handle.write(300, Buffer.alloc(100, 77));
    expect(started).toEqual([]);
    expect(layer.counters.unwrittenNow).toBe(1600);
    const read = handle.read(250, 200);
    expect([...joined(await read)]).toEqual([...Buffer.alloc(50, 3), ...Buffer.alloc(100, 77), ...Buffer.alloc(50, 5)]);
    const synced = handle.sync();
    await goAll();
    await synced;
    expect(started).toEqual(['w0+1600', 'sync']);
    expect(bytes[350]).toBe(77);
    expect(layer.counters).toMatchObject({ unwrittenNow: 0, operationsNow: 0, waitingNow: 0 });
  });

  it('fills the hole behind a file that the backend does not know to be longer yet', async () => {
    const { file, goAll } = gated(behind());
    const handle = file.open();
    const end = content.length;
    await handle.write(end + 100, Buffer.alloc(10, 5));
    const read = handle.read(end - 10, 1000);
    await goAll();
    expect([...joined(await read)]).toEqual([...content.subarray(end - 10), ...Buffer.alloc(100), ...Buffer.alloc(10, 5)]);
  });

  it('tells an error once to each handle, at its next fsync or close, and not to those that come later', async () => {
    const layer = storageLayer({ ...behind(), retries: { max: 0 } });
    const file = layer.file({
      read: () => content,
      write() {
        throw new FuseError('ENOSPC');
      },
    });
    const [one, other] = [file.open(), file.open()];
    await one.write(0, Buffer.alloc(10));
    await expect(one.sync()).rejects.toMatchObject({ code: 'ENOSPC' });
    await one.sync();
    await expect(other.flush()).rejects.toMatchObject({ code: 'ENOSPC' });
    await file.open().sync();
    await Promise.all([one.close(), other.close()]);
  });

  it('lets writers wait when too much is unwritten', async () => {
    const { file, layer, goAll } = gated(behind({ bytesMax: 1000, fileBytesMax: 1000 }));
    const handle = file.open();
    await handle.write(0, Buffer.alloc(900));
    let answered = false;
    const second = handle.write(900, Buffer.alloc(900)).then(() => {
      answered = true;
    });
    await sleep(5);
    expect(answered).toBe(false);
    await goAll();
    await second;
    expect(layer.counters.throttled).toBe(1);
    const closed = handle.close();
    await goAll();
    await closed;
    expect(layer.counters.unwrittenNow).toBe(0);
  });

  it('writes what rested long enough by itself', async () => {
    const { file, started } = gated(behind({ restMs: 20 }));
    await file.open().write(0, Buffer.alloc(10));
    expect(started).toEqual([]);
    await sleep(150);
    expect(started).toEqual(['w0+10']);
  });
});

describe('sharing', () => {
  it('serves handles and callers by turns, whoever asked more', async () => {
    const { file, started, goAll } = gated({ limits: { operationsMax: 1 }, merge: false });
    const [greedy, modest] = [file.open(1), file.open(2)];
    const caller = (pid: number) => asker(new AbortController().signal, pid);
    const reads = Array.from({ length: 20 }, (_, index) => greedy.read(index * 1000, 1, caller(1)));
    await sleep(0);
    reads.push(modest.read(100_000, 2, caller(2)), modest.read(101_000, 2, caller(2)));
    await goAll();
    await Promise.all(reads);
    expect(started.indexOf('r100000+2')).toBeLessThan(4);
    expect(started.indexOf('r101000+2')).toBeLessThan(6);
  });

  it('keeps the limits of a handle, and lets others pass', async () => {
    const { file, started, goAll } = gated({ limits: { operationsMax: 8, handleOperationsMax: 2 }, merge: false });
    const [one, other] = [file.open(1), file.open(2)];
    const reads = [...Array.from({ length: 5 }, (_, index) => one.read(index * 10, 1)), other.read(500, 1)];
    await sleep(0);
    expect(started).toEqual(['r0+1', 'r10+1', 'r500+1']);
    await goAll();
    await Promise.all(reads);
  });

  it('gives callers shares by bytes', () => {
    const queue = new FairQueue<{ isWaiting: boolean; caller: number; handle: object; cost: number }>();
    const handle = {};
    for (let index = 0; index < 8; index++) queue.push({ isWaiting: true, caller: 1, handle, cost: 400 });
    for (let index = 0; index < 32; index++) queue.push({ isWaiting: true, caller: 2, handle, cost: 100 });
    const served = [0, 0, 0];
    for (let index = 0; index < 20; index++) {
      const task = queue.shift(() => true)!;
      served[task.caller] += task.cost;
    }
    expect(Math.abs(served[1] - served[2])).toBeLessThanOrEqual(400);
  });
});

describe('the block cache', () => {
  it('fetches each block once for all who ask, and keeps as many bytes as it may', async () => {
    const cache = new BlockCache({ memory: 250 });
    const fetched: string[] = [];
    const get = (key: string) =>
      cache.get(key, async () => {
        fetched.push(key);
        await sleep(1);
        return Buffer.alloc(100, key);
      });
    await Promise.all([get('a'), get('a'), get('b'), get('a')]);
    await get('b');
    await get('c');
    await get('a');
    expect(fetched).toEqual(['a', 'b', 'c', 'a']);
    expect(cache.counters).toMatchObject({ requests: 7, fetches: 4, joined: 2, memoryHits: 1 });
  });

  it('aborts a fetch when the last who waits was interrupted, and remembers no failure', async () => {
    const cache = new BlockCache();
    let aborted = false;
    const controllers = [new AbortController(), new AbortController()];
    const fetch = (signal: AbortSignal) =>
      new Promise<Uint8Array>((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          aborted = true;
          reject(signal.reason);
        });
      });
    const gets = controllers.map(({ signal }) => cache.get('a', fetch, signal));
    await sleep(1);
    controllers[0].abort();
    await expect(gets[0]).rejects.toMatchObject({ name: 'AbortError' });
    expect(aborted).toBe(false);
    controllers[1].abort();
    await expect(gets[1]).rejects.toMatchObject({ name: 'AbortError' });
    expect(aborted).toBe(true);
    expect(await cache.get('a', () => Buffer.from('well'))).toEqual(Buffer.from('well'));
  });

  it('keeps blocks on disk over a restart, and takes what is torn for a miss', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fusewire-blocks-'));
    try {
      const first = new BlockCache({ memory: 0, disk: { folder, bytes: 1 << 20 } });
      for (const key of ['a', 'b']) await first.get(key, () => Buffer.alloc(1000, key));
      while (readdirSync(folder).filter((name) => name.length === 64).length < 2) await sleep(5);
      writeFileSync(join(folder, 'left-over.tmp'), 'x');
      const again = new BlockCache({ memory: 0, disk: { folder, bytes: 1 << 20 } });
      const never = () => {
        throw new Error('it is on disk');
      };
      expect(await again.get('a', never)).toEqual(Buffer.alloc(1000, 'a'));
      expect(again.counters).toMatchObject({ diskHits: 1, fetches: 0 });
      for (const name of readdirSync(folder)) truncateSync(join(folder, name), 700);
      expect(await again.get('b', () => Buffer.from('anew'))).toEqual(Buffer.from('anew'));
      expect(readdirSync(folder)).not.toContain('left-over.tmp');
    } finally {
      await sleep(50);
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe('a FileHandle as a backend', () => {
  it('reads, writes gathered, and ends where the file ends', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fusewire-handle-'));
    const handle = await open(join(folder, 'file'), 'w+');
    try {
      const layer = storageLayer();
      const stored = layer.file(fileHandleBackend(handle)).open();
      await Promise.all(Array.from({ length: 50 }, (_, index) => stored.write(index * 10, Buffer.alloc(10, index))));
      await stored.sync();
      expect((await handle.stat()).size).toBe(500);
      expect(joined(await stored.read(95, 1000))).toHaveLength(405);
      expect([...joined(await stored.read(95, 10))]).toEqual([9, 9, 9, 9, 9, 10, 10, 10, 10, 10]);
      expect(layer.counters.writeOperations).toBe(1);
    } finally {
      await handle.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
