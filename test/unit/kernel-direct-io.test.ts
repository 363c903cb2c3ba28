/** Direct I/O under the simulated kernel: the assertions of protocol/ASYNC_DIO.md, section 10, that need no device. */
import { describe, expect, test } from 'vitest';
import { type Filesystem, FuseError } from '../../src/filesystem/index.ts';
import type { SessionSettings } from '../../src/session/index.ts';
import { simulate } from '../../src/testing/index.ts';
import { Gate, pattern, SmallTree, turn } from './kernel-tree.ts';

const O_RDWR = 2;
const O_APPEND = 0o2000;
const O_DIRECT = 0o40000;
const K128 = 131_072;

interface Setup {
  size?: number;
  settings?: SessionSettings;
  open?: { directIo?: boolean; parallelDirectWrites?: boolean };
  maxRead?: number;
  uid?: number;
}

/** max_write 131072, 32 pages, long lifetimes, READ and WRITE withheld. */
async function withheld({ size = 4 << 20, settings = {}, open = {}, ...rest }: Setup = {}) {
  const tree = new SmallTree();
  tree.attributeTtl = 1000;
  tree.entryTtl = 1000;
  const file = tree.add('f', pattern(size), 0o100666);
  const gate = new Gate();
  const methods: Filesystem = {
    ...tree.filesystem(),
    open: () => ({ ...tree.opened(), ...open }),
    read: (node, request) => gate.hold(node, request),
    write: (node, _data, request) => gate.hold(node, request),
    getxattr: () => {
      throw new FuseError('ENODATA');
    },
  };
  const kernel = await simulate(methods, {
    audited: tree,
    settings: { maxWrite: K128, maxPages: 32, ...settings },
    ...rest,
  });
  const p = await kernel.process({ uid: rest.uid ?? 0 });
  const pieces = () => gate.waiting.map(({ offset, size: length }) => [offset, length]);
  /** Answers what waits as the file would, in the order given. */
  const answer = (order = gate.waiting.map((_, index) => index)) => {
    for (const index of order) {
      const one = gate.waiting[index];
      const isRead = kernel.pending.find(({ args }) => args?.offset === one.offset)?.operation === 'READ';
      one.resolve((isRead ? file.data.slice(one.offset, one.offset + one.size) : one.size) as never);
    }
    gate.waiting.length = 0;
  };
  const setattrs = () => kernel.requests.filter(({ operation }) => operation === 'SETATTR').map(({ args }) => args);
  return { tree, file, gate, kernel, p, pieces, answer, setattrs };
}

/** Lets the calls go on until they wait for the daemon. */
async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) await turn();
}

describe('pieces', () => {
  test('A1, A26: with FUSE_ASYNC_DIO all are under way, and any order gives the same bytes', async () => {
    const { kernel, p, pieces, answer, file } = await withheld();
    const fd = await p.open('/f', O_RDWR | O_DIRECT);
    const read = p.read(fd, 1 << 20, 0);
    await settle();
    expect(pieces()).toEqual(Array.from({ length: 8 }, (_, index) => [index * K128, K128]));
    answer([7, 6, 5, 4, 3, 2, 1, 0]);
    expect(Buffer.compare(await read, file.data.subarray(0, 1 << 20))).toBe(0);
    await kernel.end();
  });

  test.each([
    ['A2: without FUSE_ASYNC_DIO', { settings: { asyncDio: false } }, O_DIRECT],
    ['A3: FOPEN_DIRECT_IO', { open: { directIo: true } }, 0],
  ])('%s: one at a time', async (_what, setup, flags) => {
    const { kernel, p, pieces, answer } = await withheld(setup);
    const fd = await p.open('/f', O_RDWR | flags);
    const read = p.read(fd, 4 * K128, 0);
    for (let index = 0; index < 4; index++) {
      await settle();
      expect(pieces()).toEqual([[index * K128, K128]]);
      answer();
    }
    expect(await read).toHaveLength(4 * K128);
    await kernel.end();
  });

  test('A17: a buffer that is not aligned loses a page of the first request', async () => {
    const { kernel, p, pieces, answer } = await withheld();
    const fd = await p.open('/f', O_RDWR | O_DIRECT);
    const { done } = p.submitRead(fd, 1 << 20, 0, { bufferOffset: 512 });
    await settle();
    expect(pieces().map(([, size]) => size)).toEqual([130_560, ...Array(7).fill(K128), 512]);
    answer();
    await done;
    await kernel.end();
  });

  test('A18, A19: max_read and the limit of pages cut', async () => {
    const small = await withheld({ maxRead: 65_536 });
    const fd = await small.p.open('/f', O_RDWR | O_DIRECT);
    const read = small.p.read(fd, 2 * K128, 0);
    await settle();
    expect(small.pieces().map(([, size]) => size)).toEqual([65_536, 65_536, 65_536, 65_536]);
    small.answer();
    await read;
    await small.kernel.end();
    const large = await withheld({ settings: { maxWrite: 4 << 20, maxPages: 1024 } });
    const other = large.p.read(await large.p.open('/f', O_RDWR | O_DIRECT), 4 << 20, 0);
    await settle();
    expect(large.pieces().map(([, size]) => size)).toEqual(Array(4).fill(1 << 20));
    large.answer();
    await other;
    await large.kernel.end();
  });

  test('A15: max_background bounds what exists, each answer lets one more in', async () => {
    const { kernel, p, gate, pieces } = await withheld({ settings: { maxBackground: 4 } });
    const fd = await p.open('/f', O_RDWR | O_DIRECT);
    const all = Array.from({ length: 12 }, (_, index) => p.submitRead(fd, 4096, index * 4096).done);
    await settle();
    expect(pieces()).toHaveLength(4);
    gate.waiting[0].resolve(new Uint8Array(4096) as never);
    await settle();
    expect(pieces()).toHaveLength(5);
    for (let next = 1; next < 12; next++) {
      gate.waiting[next].resolve(new Uint8Array(4096) as never);
      await settle();
    }
    await Promise.all(all);
    await kernel.end();
  });
});

describe('submission', () => {
  test('A4, A6: it returns at once; the event comes after the last answer', async () => {
    const { kernel, p, pieces, answer, setattrs } = await withheld();
    const fd = await p.open('/f', O_RDWR | O_DIRECT);
    for (const submit of [() => p.submitRead(fd, 4 * K128, 0), () => p.submitWrite(fd, new Uint8Array(4 * K128), 0)]) {
      const aio = submit();
      await aio.submitted;
      await settle();
      expect(pieces()).toHaveLength(4);
      answer();
      await aio.done;
    }
    expect(setattrs()).toEqual([]);
    await kernel.end();
  });

  test('A7: an extending write is sent together and waits', async () => {
    const { kernel, p, pieces, answer, tree } = await withheld({ size: K128 });
    const fd = await p.open('/f', O_RDWR | O_DIRECT);
    const aio = p.submitWrite(fd, new Uint8Array(4 * K128), 0);
    let isSubmitted = false;
    void aio.submitted.then(() => {
      isSubmitted = true;
    });
    await settle();
    expect(pieces()).toHaveLength(4);
    expect(isSubmitted).toBe(false);
    tree.files.get('f')!.data = new Uint8Array(4 * K128);
    answer();
    expect(await aio.done).toBe(4 * K128);
    expect((await p.fstat(fd)).size).toBe(4 * K128);
    await kernel.end();
  });
});

describe('results', () => {
  test.each([
    [[1, 2], 'ENOSPC'],
    [[2, 1], 'EDQUOT'],
  ])('A8, A12: the first error by order of answers %j decides, and what was written is cut off', async (order, code) => {
    const { kernel, p, gate, setattrs } = await withheld({ size: K128 });
    const fd = await p.open('/f', O_RDWR | O_DIRECT);
    const write = p.write(fd, new Uint8Array(4 * K128), 0);
    write.catch(() => {});
    await settle();
    for (const index of order) {
      gate.waiting[index].reject(new FuseError(index === 1 ? 'ENOSPC' : 'EDQUOT'));
      await settle();
    }
    for (const index of [0, 3]) gate.waiting[index].resolve(K128 as never);
    await expect(write).rejects.toMatchObject({ code });
    expect(setattrs()).toMatchObject([{ valid: 0x248, size: K128, fh: 1 }]);
    expect((await p.fstat(fd)).size).toBe(K128);
    await kernel.end();
  });

  test('A9, A11: a short write is EIO; within the file nothing is cut off', async () => {
    for (const [size, cuts] of [
      [K128, 1],
      [4 << 20, 0],
    ] as const) {
      const { kernel, p, gate, setattrs } = await withheld({ size });
      const fd = await p.open('/f', O_RDWR | O_DIRECT);
      const write = p.write(fd, new Uint8Array(2 * K128), 0);
      write.catch(() => {});
      await settle();
      gate.waiting[0].resolve(K128 as never);
      gate.waiting[1].resolve(1000 as never);
      await expect(write).rejects.toMatchObject({ code: 'EIO' });
      expect(setattrs()).toHaveLength(cuts);
      await kernel.end();
    }
  });

  test('A10: a write on FOPEN_DIRECT_IO that fails is not cut off', async () => {
    const { kernel, p, gate, setattrs } = await withheld({ size: 0, open: { directIo: true } });
    const write = p.write(await p.open('/f', O_RDWR), new Uint8Array(K128), 0);
    write.catch(() => {});
    await settle();
    gate.waiting[0].reject(new FuseError('ENOSPC'));
    await expect(write).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(setattrs()).toEqual([]);
    await kernel.end();
  });

  test('A13: the result of a read ends at the first gap', async () => {
    const { kernel, p, gate } = await withheld({ open: { directIo: true } });
    const { done } = p.submitRead(await p.open('/f', O_RDWR | O_DIRECT), 4 * K128, 0);
    await settle();
    for (const [index, length] of [
      [3, 10],
      [1, 1000],
      [0, K128],
      [2, K128],
    ] as const)
      gate.waiting[index].resolve(new Uint8Array(length) as never);
    expect(await done).toHaveLength(K128 + 1000);
    await kernel.end();
  });

  test('A14: what a short answer leaves out comes through the page cache', async () => {
    const { kernel, p, gate, answer, file } = await withheld({ size: 2 * K128 });
    const read = p.read(await p.open('/f', O_RDWR | O_DIRECT), 2 * K128, 0);
    await settle();
    gate.waiting[0].resolve(file.data.slice(0, 1000) as never);
    gate.waiting[1].resolve(file.data.slice(K128) as never);
    gate.waiting.length = 0;
    for (let i = 0; i < 4; i++) {
      await settle();
      answer();
    }
    expect(Buffer.compare(await read, file.data)).toBe(0);
    await kernel.end();
  });

  test('A20, A21: behind the end nothing is asked; across it one request is', async () => {
    const { kernel, p, pieces, answer } = await withheld({ size: 100_000 });
    const fd = await p.open('/f', O_RDWR | O_DIRECT);
    expect(await p.read(fd, 4096, 100_000)).toHaveLength(0);
    expect(pieces()).toEqual([]);
    const read = p.read(fd, 1 << 20, 0);
    await settle();
    expect(pieces()).toEqual([[0, K128]]);
    answer();
    expect(await read).toHaveLength(100_000);
    await kernel.end();
  });
});

describe('locks and flags', () => {
  test('A22, A23: parallel direct writes need both bits, a fixed size and no cached opening', async () => {
    const both = { directIo: true, parallelDirectWrites: true };
    for (const [open, flags, together] of [
      [both, 0, 4],
      [{ directIo: true }, 0, 1],
      [both, O_APPEND, 1],
    ] as const) {
      const { kernel, p, pieces, answer } = await withheld({ open });
      const fd = await p.open('/f', O_RDWR | flags);
      const writes = [0, 1, 2, 3].map((index) => p.write(fd, new Uint8Array(4096), index * 4096));
      await settle();
      expect(pieces()).toHaveLength(together);
      for (let i = 0; i < 4; i++) {
        answer();
        await settle();
      }
      await Promise.all(writes);
      await kernel.end();
    }
  });

  test('A24: write_flags are 2 for root and 6 for others', async () => {
    for (const [uid, write_flags] of [
      [0, 2],
      [1000, 6],
    ] as const) {
      const { kernel, p, answer } = await withheld({ uid });
      const write = p.write(await p.open('/f', O_RDWR | O_DIRECT), new Uint8Array(4096), 0);
      await settle();
      expect(kernel.pending[0]).toMatchObject({ operation: 'WRITE', uid, args: { write_flags } });
      answer();
      await write;
      await kernel.end();
    }
  });

  test('A27: an abort ends what waits with ECONNABORTED, and later calls with ENOTCONN', async () => {
    const { kernel, p, pieces } = await withheld();
    const fd = await p.open('/f', O_RDWR | O_DIRECT);
    const { done } = p.submitRead(fd, 4 * K128, 0);
    done.catch(() => {});
    await settle();
    expect(pieces()).toHaveLength(4);
    kernel.abort();
    await expect(done).rejects.toMatchObject({ code: 'ECONNABORTED' });
    await expect(p.stat('/g')).rejects.toMatchObject({ code: 'ENOTCONN' });
    await kernel.end();
  });
});
