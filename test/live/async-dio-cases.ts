/**
 * Asynchronous direct I/O (FUSE_ASYNC_DIO) as the kernel does it, in 27 assertions: how a caller's read or write is cut
 * into requests, how many of them are in flight before any answer, and what the caller gets. Each is one test on a live
 * mount whose replies are held back. async-dio*.test.ts run them over the ways to serve.
 *
 * Kernel functions meant: fuse_direct_IO, fuse_direct_io, fuse_aio_complete, fuse_direct_write_iter in fs/fuse/file.c.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { MountSettings } from '../../src/mount/mount.ts';
import { Client } from './client.ts';
import { abortConnection, type LiveMount, mountHere, negative, onCleanUp, withLimit } from './harness.ts';
import { type FileSpec, type Pending, type Seen, Withheld } from './withheld.ts';

/** Who serves the mount. */
export interface Serving {
  workers: number;
  mode: 'event' | 'blocking';
  transport?: 'device' | 'uring';
}

const KIB = 1024;
const MIB = 1024 * KIB;
/** Bytes of one piece under configuration C. */
const PIECE = 128 * KIB;

/** 128 KiB requests and the kernel's own default of background requests. */
const CONFIGURATION_C: MountSettings = { asyncDio: true, maxWrite: PIECE, maxPages: 32, maxBackground: 12 };
const SYNCHRONOUS: MountSettings = { asyncDio: false };

const DIRECT = { directIo: true };
const PARALLEL = { directIo: true, parallelDirectWrites: true };

/** FATTR_SIZE | FATTR_FH | FATTR_LOCKOWNER. */
const TRUNCATE_BACK = 0x248;

interface Scene {
  fs: Withheld;
  live: LiveMount;
  client: Client;
  path(name: string): string;
}

/** Pieces of `size` bytes from `from` on, as a list of offset and size. */
function pieces(count: number, size = PIECE, from = 0): [number, number][] {
  return Array.from({ length: count }, (_, index) => [from + index * size, size]);
}

function describePiece(request: Seen): [number, number] {
  return [request.offset ?? -1, request.size ?? -1];
}

function byOffset(requests: readonly Pending[]): Pending[] {
  return [...requests].sort((left, right) => left.offset - right.offset);
}

/** One test for each assertion, over mounts that are served so. */
export function asyncDioAssertions(serving: Serving): void {
  // Several workers take requests from one queue: only one alone sees them in the kernel's order.
  const ordered = serving.workers <= 1;

  async function scene(files: readonly FileSpec[], settings: MountSettings = {}): Promise<Scene> {
    const fs = new Withheld(files);
    onCleanUp({ before: () => fs.letGo(), after: () => fs.close() });
    const source = serving.workers === 0 ? fs.filesystem() : fs.module();
    const live = await mountHere(source, { ...CONFIGURATION_C, ...serving, ...settings });
    return { fs, live, client: await Client.start(), path: (name) => join(live.path, name) };
  }

  /** Asserts what is pending, in the order of arrival where that is determined. */
  function expectPending(requests: readonly Pending[], expected: [number, number][]): void {
    expect((ordered ? requests : byOffset(requests)).map(describePiece)).toEqual(expected);
  }

  function expectTruncatedBack(fs: Withheld, size: number): void {
    const setattrs = fs.seen('SETATTR');
    expect(setattrs).toHaveLength(1);
    expect(setattrs[0]).toMatchObject({ valid: TRUNCATE_BACK, size, handle: fs.seen('OPEN')[0].handle });
    const lastWrite = fs.requests.findLastIndex((request) => request.operation === 'WRITE');
    expect(fs.requests.indexOf(setattrs[0])).toBeGreaterThan(lastWrite);
  }

  test('A1 with ASYNC_DIO, all 8 pieces of a 1 MiB pread are pending before any reply', async () => {
    const { fs, client, path } = await scene([{ name: 'f', size: 4 * MIB }]);
    await client.open(0, path('f'), 'rdwr,direct');
    const read = client.pread(0, 0, MIB);
    const pending = await fs.pendingIs(8);
    expectPending(pending, pieces(8));
    expect(read.done).toBe(false);
    await fs.answerAll(pending);
    expect(await read.wait()).toMatchObject({ result: MIB, data: 'same' });
    expect(fs.seen('READ')).toHaveLength(8);
  });

  test('A2 without ASYNC_DIO one piece is pending, and the next comes only after its reply', async () => {
    const { fs, client, path } = await scene([{ name: 'f', size: 4 * MIB }], SYNCHRONOUS);
    await client.open(0, path('f'), 'rdwr,direct');
    const read = client.pread(0, 0, MIB);
    expect(await fs.answerOneByOne(8)).toEqual(pieces(8));
    expect(await read.wait()).toMatchObject({ result: MIB, data: 'same' });
    expect(fs.seen('READ')).toHaveLength(8);
  });

  test('A3 FOPEN_DIRECT_IO makes a pread synchronous even with ASYNC_DIO', async () => {
    const { fs, client, path } = await scene([{ name: 'f', size: 4 * MIB, open: DIRECT }]);
    for (const [slot, flags] of ['rdwr', 'rdwr,direct'].entries()) {
      await client.open(slot, path('f'), flags);
      const read = client.pread(slot, 0, MIB);
      expect(await fs.answerOneByOne(8)).toEqual(pieces(8));
      expect(await read.wait()).toMatchObject({ result: MIB, data: 'same' });
    }
    expect(fs.seen('READ')).toHaveLength(16);
  });

  test('A4 io_submit of a read returns while 4 pieces are pending; the event comes after the last reply, in any order', async () => {
    const { fs, client, path } = await scene([
      { name: 'plain', size: 4 * MIB },
      { name: 'direct', size: 4 * MIB, open: DIRECT },
    ]);
    const orders = [
      [0, 1, 2, 3],
      [3, 2, 1, 0],
      [2, 0, 3, 1],
    ];
    await client.open(0, path('plain'), 'rdwr,direct');
    await client.open(1, path('direct'), 'rdwr');
    for (const slot of [0, 1]) {
      for (const order of orders) {
        const read = client.aread(slot, 0, 512 * KIB);
        const submit = client.submit();
        const pending = byOffset(await fs.pendingIs(4));
        expect(pending.map(describePiece)).toEqual(pieces(4));
        expect(await submit.wait(1000)).toMatchObject({ result: 1 });
        const events = client.events(1, 6000);
        for (const [replied, index] of order.entries()) {
          expect(read.done, `after ${replied} replies`).toBe(false);
          await fs.answer(pending[index]);
          await sleep(30);
        }
        expect(await events.wait()).toMatchObject({ result: 1 });
        expect(await read.wait()).toMatchObject({ result: 512 * KIB, data: 'same' });
      }
    }
  });

  test('A5 without ASYNC_DIO io_submit returns only after the last reply, one piece pending at a time', async () => {
    const { fs, client, path } = await scene([{ name: 'f', size: 4 * MIB }], SYNCHRONOUS);
    await client.open(0, path('f'), 'rdwr,direct');
    const read = client.aread(0, 0, 512 * KIB);
    const submit = client.submit();
    for (const piece of pieces(4)) {
      const [first] = await fs.pendingIs(1);
      expect(describePiece(first)).toEqual(piece);
      expect(submit.done).toBe(false);
      await fs.answer(first);
    }
    expect(await submit.wait()).toMatchObject({ result: 1 });
    await client.events(1, 1000).wait();
    expect(await read.wait()).toMatchObject({ result: 512 * KIB, data: 'same' });
  });

  test('A6 io_submit of a write inside the file returns at once, its event is the size, no SETATTR follows', async () => {
    const { fs, client, path } = await scene([{ name: 'f', size: 4 * MIB }]);
    await client.open(0, path('f'), 'rdwr,direct');
    const write = client.awrite(0, MIB, 512 * KIB);
    const submit = client.submit();
    const pending = await fs.pendingIs(4);
    expectPending(pending, pieces(4, PIECE, MIB));
    expect(await submit.wait(1000)).toMatchObject({ result: 1 });
    expect(pending.map((request) => request.mismatch())).toEqual([-1, -1, -1, -1]);
    expect(write.done).toBe(false);
    await fs.answerAll(pending);
    await client.events(1, 2000).wait();
    expect(await write.wait()).toMatchObject({ result: 512 * KIB });
    expect(fs.seen('SETATTR')).toEqual([]);
  });

  test('A7 an extending AIO write sends its 4 pieces together, and io_submit waits for their replies', async () => {
    const { fs, client, path } = await scene([{ name: 'f', size: 128 * KIB }]);
    await client.open(0, path('f'), 'rdwr,direct');
    const write = client.awrite(0, 0, 512 * KIB);
    const submit = client.submit();
    const pending = await fs.pendingIs(4);
    expectPending(pending, pieces(4));
    for (const request of pending) {
      await sleep(30);
      expect(submit.done).toBe(false);
      await fs.answer(request);
    }
    expect(await submit.wait()).toMatchObject({ result: 1 });
    await client.events(1, 2000).wait();
    expect(await write.wait()).toMatchObject({ result: 512 * KIB });
    expect(await client.fstat(0).wait()).toMatchObject({ result: 512 * KIB });
    expect(fs.seen('SETATTR')).toEqual([]);
  });

  /** An extending AIO write whose third piece ends so: the caller gets `error`, and the file its old size back. */
  async function extendingWriteFails(
    open: FileSpec['open'],
    flags: string,
    outcome: Parameters<Withheld['answer']>[1],
    error: number,
  ) {
    const { fs, client, path } = await scene([{ name: 'f', size: 128 * KIB, ...(open === undefined ? {} : { open }) }]);
    await client.open(0, path('f'), flags);
    const write = client.awrite(0, 0, 512 * KIB);
    const submit = client.submit();
    const pending = byOffset(await fs.pendingIs(4));
    for (const index of [0, 1, 3]) await fs.answer(pending[index]);
    expect(fs.seen('SETATTR')).toEqual([]);
    await fs.answer(pending[2], outcome);
    await submit.wait();
    await client.events(1, 2000).wait();
    expect(await write.wait()).toMatchObject({ result: error });
    expectTruncatedBack(fs, 128 * KIB);
    expect(await client.fstat(0).wait()).toMatchObject({ result: 128 * KIB });
  }

  test('A8 an extending AIO write with ENOSPC on one piece fails, and one SETATTR gives the old size back', async () => {
    await extendingWriteFails(undefined, 'rdwr,direct', { errno: 'ENOSPC' }, negative('ENOSPC'));
    await extendingWriteFails(DIRECT, 'rdwr', { errno: 'ENOSPC' }, negative('ENOSPC'));
  });

  test('A9 an extending AIO write with a short reply fails with EIO and the same SETATTR', async () => {
    await extendingWriteFails(undefined, 'rdwr,direct', { bytes: 1000 }, negative('EIO'));
  });

  test('A10 a failing extending pwrite: the SETATTR comes with O_DIRECT, with and without ASYNC_DIO, not with FOPEN_DIRECT_IO', async () => {
    const ways: { open?: FileSpec['open']; flags: string; settings: MountSettings; atOnce: number }[] = [
      { flags: 'rdwr,direct', settings: {}, atOnce: 4 },
      { flags: 'rdwr,direct', settings: SYNCHRONOUS, atOnce: 1 },
      { open: DIRECT, flags: 'rdwr', settings: {}, atOnce: 1 },
    ];
    for (const { open, flags, settings, atOnce } of ways) {
      const { fs, client, path } = await scene(
        [{ name: 'f', size: 128 * KIB, ...(open === undefined ? {} : { open }) }],
        settings,
      );
      await client.open(0, path('f'), flags);
      const write = client.pwrite(0, 0, 512 * KIB);
      const [first, ...others] = byOffset(await fs.pendingIs(atOnce));
      await fs.answer(first, { errno: 'ENOSPC' });
      await fs.answerAll(others);
      expect(await write.wait()).toMatchObject({ result: negative('ENOSPC') });
      if (open === undefined) expectTruncatedBack(fs, 128 * KIB);
      else expect(fs.seen('SETATTR')).toEqual([]);
      expect(fs.seen('WRITE')).toHaveLength(atOnce);
    }
  });

  test('A11 a failing write inside the file gives its error and no SETATTR', async () => {
    const { fs, client, path } = await scene([{ name: 'f', size: 4 * MIB }]);
    await client.open(0, path('f'), 'rdwr,direct');
    const asynchronous = client.awrite(0, 0, 512 * KIB);
    client.submit();
    const first = byOffset(await fs.pendingIs(4));
    await fs.answer(first[1], { errno: 'ENOSPC' });
    await fs.answerAll();
    await client.events(1, 2000).wait();
    expect(await asynchronous.wait()).toMatchObject({ result: negative('ENOSPC') });
    const synchronous = client.pwrite(0, 0, 512 * KIB);
    const second = byOffset(await fs.pendingIs(4));
    await fs.answer(second[3], { errno: 'EDQUOT' });
    await fs.answerAll();
    expect(await synchronous.wait()).toMatchObject({ result: negative('EDQUOT') });
    expect(fs.seen('SETATTR')).toEqual([]);
  });

  test('A12 of two failing pieces, the one answered first gives the error', async () => {
    const { fs, client, path } = await scene([{ name: 'f', size: 4 * MIB }]);
    await client.open(0, path('f'), 'rdwr,direct');
    const errors: Record<number, string> = { 2: 'ENOSPC', 3: 'EDQUOT' };
    for (const order of [
      [0, 1, 2, 3],
      [3, 2, 1, 0],
    ]) {
      const write = client.awrite(0, 0, 512 * KIB);
      client.submit();
      const pending = byOffset(await fs.pendingIs(4));
      for (const index of order) {
        await fs.answer(pending[index], errors[index] === undefined ? undefined : { errno: errors[index] });
      }
      await client.events(1, 2000).wait();
      expect(await write.wait()).toMatchObject({ result: order[0] === 0 ? negative('ENOSPC') : negative('EDQUOT') });
    }
  });

  test('A13 an AIO read on FOPEN_DIRECT_IO ends at the first gap', async () => {
    const { fs, client, path } = await scene([{ name: 'f', size: 4 * MIB, open: DIRECT }]);
    await client.open(0, path('f'), 'rdwr');
    const shorts: { replies: Record<number, number>; result: number }[] = [
      { replies: { 1: 1000 }, result: PIECE + 1000 },
      { replies: { 0: 0 }, result: 0 },
      { replies: { 3: 5 }, result: 3 * PIECE + 5 },
      { replies: { 3: 5, 2: 70_000 }, result: 2 * PIECE + 70_000 },
    ];
    for (const { replies, result } of shorts) {
      const read = client.aread(0, 0, 512 * KIB);
      client.submit();
      const pending = byOffset(await fs.pendingIs(4));
      for (const index of [3, 0, 2, 1]) {
        await fs.answer(pending[index], replies[index] === undefined ? undefined : { bytes: replies[index] });
      }
      await client.events(1, 2000).wait();
      expect(await read.wait()).toMatchObject({ result, data: 'same' });
    }
  });

  test('A14 an O_DIRECT pread with a short piece in the middle goes on through the page cache to the full length', async () => {
    const { fs, client, path } = await scene([{ name: 'f', size: 4 * MIB }]);
    await client.open(0, path('f'), 'rdwr,direct');
    const read = client.pread(0, 0, 512 * KIB);
    const pending = byOffset(await fs.pendingIs(4));
    await fs.answer(pending[1], { bytes: 1000 });
    fs.letGo();
    expect(await read.wait()).toMatchObject({ result: 512 * KIB, data: 'same' });
    const buffered = fs
      .seen('READ')
      .slice(4)
      .map(describePiece)
      .sort(([left], [right]) => left - right);
    expect(buffered[0][0]).toBe(PIECE);
    let covered = PIECE;
    for (const [offset, size] of buffered) {
      expect(offset % 4096).toBe(0);
      expect(size % 4096).toBe(0);
      expect(offset).toBeLessThanOrEqual(covered);
      covered = Math.max(covered, offset + size);
    }
    expect(covered).toBeGreaterThanOrEqual(512 * KIB);
  });

  test('A15 of 32 AIO reads, max_background are pending, and each reply lets exactly one more out', async () => {
    for (const maxBackground of [12, 4]) {
      const { fs, client, path } = await scene([{ name: 'f', size: 4 * MIB }], { maxBackground });
      await client.open(0, path('f'), 'rdwr,direct');
      for (let index = 0; index < 32; index++) client.aread(0, index * 4 * KIB, 4 * KIB);
      const submit = client.submit();
      const pending = await fs.pendingIs(maxBackground);
      expectPending(pending, pieces(maxBackground, 4 * KIB));
      expect(submit.done).toBe(false);
      for (let replies = 1; replies <= 3; replies++) {
        await fs.answer(fs.pending[0]);
        await fs.pendingIs(maxBackground);
        expect(fs.seen('READ')).toHaveLength(maxBackground + replies);
      }
      fs.letGo();
      expect(await submit.wait()).toMatchObject({ result: 32 });
      expect(await client.events(32, 5000).wait()).toMatchObject({ result: 32 });
      expect(fs.seen('READ')).toHaveLength(32);
    }
  });

  test('A16 with max_background 64, all 32 AIO reads are pending and io_submit does not wait', async () => {
    const { fs, client, path } = await scene([{ name: 'f', size: 4 * MIB }], { maxBackground: 64 });
    await client.open(0, path('f'), 'rdwr,direct');
    const reads = Array.from({ length: 32 }, (_, index) => client.aread(0, index * 4 * KIB, 4 * KIB));
    const submit = client.submit();
    const pending = await fs.pendingIs(32);
    expectPending(pending, pieces(32, 4 * KIB));
    expect(await submit.wait(1000)).toMatchObject({ result: 32 });
    await fs.answerAll();
    expect(await client.events(32, 5000).wait()).toMatchObject({ result: 32 });
    for (const read of reads) expect(await read.wait()).toMatchObject({ result: 4 * KIB, data: 'same' });
  });

  test('A17 a buffer 512 bytes off its page costs a page: pieces of 130560, 7 of 131072, 512', async () => {
    const { fs, client, path } = await scene([{ name: 'f', size: 4 * MIB }]);
    await client.open(0, path('f'), 'rdwr,direct');
    const expected: [number, number][] = [[0, 130_560], ...pieces(7, PIECE, 130_560), [130_560 + 7 * PIECE, 512]];
    const read = client.pread(0, 0, MIB, 512);
    const pending = await fs.pendingIs(9);
    expectPending(pending, expected);
    await fs.answerAll(pending);
    expect(await read.wait()).toMatchObject({ result: MIB, data: 'same' });
    const write = client.pwrite(0, 0, MIB, 512);
    // A synchronous write inside the file sends its pieces together as well.
    const writes = await fs.pendingIs(9);
    expectPending(writes, expected);
    expect(writes.map((request) => request.mismatch())).toEqual(Array(9).fill(-1));
    await fs.answerAll(writes);
    expect(await write.wait()).toMatchObject({ result: MIB });
  });

  test('A18 the mount option max_read cuts the pieces of reads', async () => {
    const { fs, client, path } = await scene([{ name: 'f', size: 4 * MIB }], { mountOptions: 'max_read=65536' });
    await client.open(0, path('f'), 'rdwr,direct');
    const read = client.pread(0, 0, 512 * KIB);
    const pending = await fs.pendingIs(8);
    expectPending(pending, pieces(8, 64 * KIB));
    await fs.answerAll(pending);
    expect(await read.wait()).toMatchObject({ result: 512 * KIB, data: 'same' });
    const write = client.pwrite(0, 0, 512 * KIB);
    const writes = await fs.pendingIs(4);
    expectPending(writes, pieces(4));
    await fs.answerAll(writes);
    expect(await write.wait()).toMatchObject({ result: 512 * KIB });
  });

  test('A19 asking for 1024 pages gives pieces as large as max_pages_limit allows', async () => {
    const limit = Number(readFileSync('/proc/sys/fs/fuse/max_pages_limit', 'utf8'));
    const size = Math.min(limit, 1024) * 4 * KIB;
    const count = (4 * MIB) / size;
    const { fs, client, path } = await scene([{ name: 'f', size: 8 * MIB }], { maxPages: 1024, maxWrite: 4 * MIB });
    await client.open(0, path('f'), 'rdwr,direct');
    const read = client.pread(0, 0, 4 * MIB);
    const pending = await fs.pendingIs(count);
    expectPending(pending, pieces(count, size));
    await fs.answerAll(pending);
    expect(await read.wait()).toMatchObject({ result: 4 * MIB, data: 'same' });
    const write = client.pwrite(0, 0, 4 * MIB);
    const writes = await fs.pendingIs(count);
    expectPending(writes, pieces(count, size));
    expect(writes.map((request) => request.mismatch())).toEqual(Array(count).fill(-1));
    await fs.answerAll(writes);
    expect(await write.wait()).toMatchObject({ result: 4 * MIB });
  });

  test('A20 at the end of the file AIO and O_DIRECT reads send nothing; a pread on FOPEN_DIRECT_IO sends one READ', async () => {
    const { fs, client, path } = await scene([
      { name: 'plain', size: 100_000 },
      { name: 'direct', size: 100_000, open: DIRECT },
    ]);
    await client.open(0, path('plain'), 'rdwr,direct');
    await client.open(1, path('direct'), 'rdwr');
    for (const offset of [100_000, 200_704]) {
      expect(await client.pread(0, offset, PIECE).wait()).toMatchObject({ result: 0 });
      for (const slot of [0, 1]) {
        const read = client.aread(slot, offset, PIECE);
        expect(await client.submit().wait()).toMatchObject({ result: 1 });
        await client.events(1, 2000).wait();
        expect(await read.wait()).toMatchObject({ result: 0 });
      }
    }
    expect(fs.seen('READ')).toEqual([]);
    const read = client.pread(1, 200_704, PIECE);
    const [only] = await fs.pendingIs(1);
    expect(describePiece(only)).toEqual([200_704, PIECE]);
    await fs.answer(only);
    expect(await read.wait()).toMatchObject({ result: 0 });
    expect(fs.seen('READ')).toHaveLength(1);
  });

  test('A21 a read across the end of the file is shortened to whole requests', async () => {
    const { fs, client, path } = await scene([
      { name: 'small', size: 100_000 },
      { name: 'larger', size: 300_000 },
    ]);
    await client.open(0, path('small'), 'rdwr,direct');
    await client.open(1, path('larger'), 'rdwr,direct');
    const small = client.pread(0, 0, MIB);
    const pending = await fs.pendingIs(1);
    expectPending(pending, [[0, PIECE]]);
    await fs.answerAll(pending);
    expect(await small.wait()).toMatchObject({ result: 100_000, data: 'same' });
    const larger = client.pread(1, 4096, MIB);
    const rest = await fs.pendingIs(3);
    expectPending(rest, pieces(3, PIECE, 4096));
    await fs.answerAll(rest);
    expect(await larger.wait()).toMatchObject({ result: 300_000 - 4096, data: 'same' });
    expect(fs.seen('READ')).toHaveLength(4);
  });

  /** Four callers write 4 KiB each to one file. */
  async function fourWriters({ fs, client, path }: Scene, flags: string, offset: number) {
    const clients = [client, await Client.start(), await Client.start(), await Client.start()];
    for (const writer of clients) await writer.open(1, path('f'), flags);
    expect(fs.pending).toEqual([]);
    return clients.map((writer, index) => writer.pwrite(1, offset + index * 4 * KIB, 4 * KIB));
  }

  test('A22 four writers are in flight together with DIRECT_IO and PARALLEL_DIRECT_WRITES, and one at a time otherwise', async () => {
    const together = await scene([{ name: 'f', size: 4 * MIB, open: PARALLEL }]);
    const parallel = await fourWriters(together, 'rdwr', 0);
    expect(byOffset(await together.fs.pendingIs(4)).map(describePiece)).toEqual(pieces(4, 4 * KIB));
    await together.fs.answerAll();
    for (const write of parallel) expect(await write.wait()).toMatchObject({ result: 4 * KIB });

    const alone: { why: string; open: FileSpec['open']; flags: string; offset: number; cachedOpen?: boolean }[] = [
      { why: 'without PARALLEL_DIRECT_WRITES', open: DIRECT, flags: 'rdwr', offset: 0 },
      { why: 'without DIRECT_IO', open: { parallelDirectWrites: true }, flags: 'rdwr', offset: 0 },
      { why: 'with O_APPEND', open: PARALLEL, flags: 'rdwr,append', offset: 0 },
      { why: 'extending', open: PARALLEL, flags: 'rdwr', offset: 4 * MIB },
      { why: 'beside a cached open', open: PARALLEL, flags: 'rdwr', offset: 0, cachedOpen: true },
    ];
    for (const { why, open, flags, offset, cachedOpen } of alone) {
      const one = await scene([{ name: 'f', size: 4 * MIB }]);
      if (cachedOpen) await one.client.open(0, one.path('f'), 'rdwr');
      one.fs.file('f').open = open ?? {};
      const writes = await fourWriters(one, flags, offset);
      await one.fs.pendingIs(1);
      if (why === 'extending') one.fs.letGo();
      else expect((await one.fs.answerOneByOne(4)).length, why).toBe(4);
      for (const write of writes) expect(await write.wait(), why).toMatchObject({ result: 4 * KIB });
    }
  });

  test('A23 a cached open waits until the parallel writes that run are answered', async () => {
    const it = await scene([{ name: 'f', size: 4 * MIB, open: PARALLEL }]);
    const writes = await fourWriters(it, 'rdwr', 0);
    await it.fs.pendingIs(4);
    it.fs.file('f').open = {};
    const other = await Client.start();
    const opening = other.opening(0, it.path('f'), 'rdonly');
    for (const request of byOffset(it.fs.pending)) {
      await sleep(100);
      expect(opening.done).toBe(false);
      await it.fs.answer(request);
    }
    expect(await opening.wait()).toMatchObject({ result: 0 });
    for (const write of writes) expect(await write.wait()).toMatchObject({ result: 4 * KIB });
    expect(it.fs.seen('OPEN')).toHaveLength(5);
  });

  test('A24 a direct WRITE of an ordinary user has write_flags LOCKOWNER and KILL_SUIDGID (6), one of root LOCKOWNER alone (2)', async () => {
    const { fs, client, path } = await scene([{ name: 'f', size: 4 * MIB }], { mountOptions: 'allow_other' });
    const user = await Client.start({ uid: 65_534, gid: 65_534 });
    for (const [caller, uid] of [
      [client, 0],
      [user, 65_534],
    ] as const) {
      await caller.open(0, path('f'), 'rdwr,direct');
      const write = caller.pwrite(0, 0, 4 * KIB);
      const [only] = await fs.pendingIs(1);
      expect(only).toMatchObject({ uid, writeFlags: uid === 0 ? 2 : 6 });
      await fs.answer(only);
      expect(await write.wait()).toMatchObject({ result: 4 * KIB });
    }
  });

  test('A25 a reply that claims more bytes than the WRITE had makes it EIO', async () => {
    const { fs, client, path } = await scene([{ name: 'f', size: 4 * MIB }]);
    await client.open(0, path('f'), 'rdwr,direct');
    const write = client.pwrite(0, 0, 512 * KIB);
    const pending = byOffset(await fs.pendingIs(4));
    await fs.answer(pending[1], { bytes: PIECE + 1 });
    await fs.answerAll();
    expect(await write.wait()).toMatchObject({ result: negative('EIO') });
  });

  test('A26 replies in reverse order give the same data and count', async () => {
    const { fs, client, path } = await scene([{ name: 'f', size: 4 * MIB }]);
    await client.open(0, path('f'), 'rdwr,direct');
    const read = client.pread(0, 4096, MIB);
    const reads = byOffset(await fs.pendingIs(8));
    expect(reads.map(describePiece)).toEqual(pieces(8, PIECE, 4096));
    await fs.answerAll(reads.reverse());
    expect(await read.wait()).toMatchObject({ result: MIB, data: 'same' });
    const write = client.pwrite(0, 4096, MIB);
    const writes = byOffset(await fs.pendingIs(8));
    for (const request of writes.reverse()) {
      // The payload is lent until the answer: it still holds what the caller wrote when other requests came and went.
      expect(request.mismatch()).toBe(-1);
      await fs.answer(request);
    }
    expect(await write.wait()).toMatchObject({ result: MIB });
    const again = client.aread(0, 0, 512 * KIB);
    client.submit();
    await fs.answerAll(byOffset(await fs.pendingIs(4)).reverse());
    await client.events(1, 2000).wait();
    expect(await again.wait()).toMatchObject({ result: 512 * KIB, data: 'same' });
  });

  test('A27 after an abort through fusectl pending AIO ends with ECONNABORTED and nobody hangs', async () => {
    const { fs, live, client, path } = await scene([{ name: 'f', size: 4 * MIB }]);
    await client.open(0, path('f'), 'rdwr,direct');
    const read = client.aread(0, 0, 512 * KIB);
    const write = client.awrite(0, 0, 512 * KIB);
    const submit = client.submit();
    await fs.pendingIs(8);
    expect(await submit.wait(1000)).toMatchObject({ result: 2 });
    const events = client.events(2, 6000);
    await sleep(50);
    expect(events.done).toBe(false);
    await abortConnection(live.connection);
    expect(await events.wait(2000)).toMatchObject({ result: 2 });
    expect(await read.wait()).toMatchObject({ result: negative('ECONNABORTED') });
    expect(await write.wait()).toMatchObject({ result: negative('ECONNABORTED') });
    expect(await client.pread(0, 0, 4 * KIB).wait(1000)).toMatchObject({ result: negative('ENOTCONN') });
    await withLimit(
      Promise.resolve(live.mount.closed).catch(() => {}),
      2000,
      'Mount.closed after an abort',
    );
  });
}
