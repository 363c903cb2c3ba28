import { existsSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { InodeTable } from '../../examples/passthrough/inode-table.ts';
import { LockTable } from '../../examples/passthrough/lock-table.ts';
import { closesCircle, type Holder, LockWaits, type Wait } from '../../examples/passthrough/lock-waits.ts';
import { OpenFiles } from '../../examples/passthrough/open-files.ts';
import { fileHandle, type NodeId } from '../../src/filesystem/index.ts';

const ROOT = { device: 1, inoLow: 2, inoHigh: 0 };
const FILE = { device: 1, inoLow: 3, inoHigh: 0 };

function tableOf(nodesMax = 64) {
  const table = new InodeTable(InodeTable.reserve(nodesMax), nodesMax);
  expect(table.enter(100, ROOT)).toBe(1);
  return table;
}

describe('inode table', () => {
  it('gives a file one node and counts its lookups', () => {
    const table = tableOf();
    const node = table.enter(101, FILE) as NodeId;
    expect(table.adopted).toBe(true);
    expect(table.enter(102, FILE)).toBe(node);
    expect(table.adopted).toBe(false);
    expect(table.fd(node)).toBe(101);
    expect(table.lookups(node)).toBe(2);
    expect(table.forget(node, 1)).toBe(false);
    expect(table.forget(node, 1)).toBe(true);
    expect(table.freedFd).toBe(101);
    expect(() => table.fd(node)).toThrowError(expect.objectContaining({ code: 'ESTALE' }));
  });

  it('tells files apart by every part of their identity', () => {
    const table = tableOf();
    const nodes = [FILE, { ...FILE, device: 2 }, { ...FILE, inoHigh: 1 }, { ...FILE, inoLow: 0xffffffff }].map((file, i) =>
      table.enter(200 + i, file),
    );
    expect(new Set(nodes).size).toBe(4);
    expect(table.enter(300, { ...FILE, inoLow: 0xffffffff })).toBe(nodes[3]);
  });

  it('reuses slots under another generation', () => {
    const table = tableOf();
    const seen = new Set<string>();
    for (let round = 0; round < 1000; round++) {
      const node = table.enter(101, FILE) as NodeId;
      seen.add(`${node} ${table.generation(node)}`);
      expect(table.forget(node, 1)).toBe(true);
    }
    expect(seen.size).toBe(1000);
    expect(table.live).toBe(1);
  });

  it('finds a file only when it was known before its identity was read', () => {
    const table = tableOf();
    const before = table.now();
    const node = table.enter(101, FILE);
    expect(table.find(FILE, before)).toBe(0);
    expect(table.find(FILE, table.now())).toBe(node);
    expect(table.lookups(node as NodeId)).toBe(2);
  });

  it('answers 0 when it is full, and takes files again afterwards', () => {
    const table = tableOf(16);
    const nodes = Array.from({ length: 15 }, (_, i) => table.enter(200 + i, { ...FILE, inoLow: 100 + i }));
    expect(nodes.every((node) => node > 1)).toBe(true);
    expect(table.enter(300, FILE)).toBe(0);
    expect(table.adopted).toBe(false);
    table.forget(nodes[7] as NodeId, 1);
    expect(table.enter(300, FILE)).toBe(nodes[7]);
  });

  it('never frees the root, nor a node that is none', () => {
    const table = tableOf();
    expect(table.forget(1 as NodeId, 1e9)).toBe(false);
    expect(table.forget(9 as NodeId, 1)).toBe(false);
    expect(table.forget(1e6 as NodeId, 1)).toBe(false);
    expect(table.fd(1 as NodeId)).toBe(100);
    expect([...table.descriptors()]).toEqual([100]);
  });

  it('counts beyond 32 bits', () => {
    const table = tableOf();
    const node = table.enter(101, FILE) as NodeId;
    table.forget(node, -(2 ** 33));
    expect(table.forget(node, 2 ** 33)).toBe(false);
    expect(table.lookups(node)).toBe(1);
  });

  it('holds together when threads look up and forget the same files', async () => {
    const module = new URL('../../dist/examples/passthrough/inode-table.js', import.meta.url);
    if (!existsSync(module)) throw new Error('dist is missing: run npm run build');
    const nodesMax = 64;
    const memory = InodeTable.reserve(nodesMax);
    const table = new InodeTable(memory, nodesMax);
    table.enter(100, ROOT);
    const worker = new URL('../clients/passthrough/table-race.mjs', import.meta.url);
    const results = await Promise.all(
      [0, 1, 2, 3].map(
        (index) =>
          new Promise<{ adopted: number; freed: number; wrong: string[] }>((resolve, reject) => {
            const workerData = { module: module.href, memory, nodesMax, index, rounds: 60_000, files: 6 };
            new Worker(worker, { workerData }).once('message', resolve).once('error', reject);
          }),
      ),
    );
    expect(results.flatMap((result) => result.wrong)).toEqual([]);
    const sum = (of: 'adopted' | 'freed') => results.reduce((total, result) => total + result[of], 0);
    expect(sum('adopted')).toBeGreaterThan(1000);
    expect(sum('freed')).toBe(sum('adopted'));
    expect(table.live).toBe(1);
  });
});

describe('open files', () => {
  it('knows handles from other numbers', () => {
    const files = new OpenFiles(OpenFiles.reserve(1024));
    const handles = [31, 32, 63, 1000].map((fd) => files.add(fd));
    expect(handles).toEqual([31, 32, 63, 1000]);
    expect(files.fd(fileHandle(63))).toBe(63);
    expect([...files.descriptors()]).toEqual([31, 32, 63, 1000]);
    for (const number of [0, 30, 33, 1024, 2 ** 32 + 31, 2 ** 40]) {
      expect(() => files.fd(fileHandle(number)), String(number)).toThrowError(expect.objectContaining({ code: 'EBADF' }));
    }
    expect(files.remove(handles[2])).toBe(63);
    expect(() => files.remove(handles[2])).toThrowError(expect.objectContaining({ code: 'EBADF' }));
    expect([...files.descriptors()]).toEqual([31, 32, 1000]);
    expect(() => files.add(1024)).toThrowError(expect.objectContaining({ code: 'ENFILE' }));
  });
});

describe('waiting for locks', () => {
  const node = 5 as NodeId;
  const owner = (id: number) => ({ low: -id, high: id });
  const range = { type: 'write', start: 0, end: 9 } as const;
  const wait = (id: number, start: number, pid = id): Wait => ({ ...range, node, owner: owner(id), pid, start, end: start + 9 });
  const held = (id: number, start: number, pid = id): Holder => ({ ...range, owner: owner(id), pid, start, end: start + 9 });

  it('remembers who waits until they leave', () => {
    const waits = new LockWaits(LockWaits.reserve());
    const request = { owner: owner(1), type: 'read', start: 3, end: Number.POSITIVE_INFINITY, lockPid: 77 };
    const first = waits.enter(node, request as never);
    const second = waits.enter(node, { ...request, type: 'write', end: 2 ** 40 } as never);
    expect(waits.all()).toEqual([
      { node, owner: owner(1), pid: 77, type: 'read', start: 3, end: Number.POSITIVE_INFINITY },
      { node, owner: owner(1), pid: 77, type: 'write', start: 3, end: 2 ** 40 },
    ]);
    waits.leave(first);
    expect(waits.all()).toHaveLength(1);
    waits.leave(second);
    expect(waits.all()).toEqual([]);
  });

  it('finds circles of two and of three, and no others', () => {
    const two = [wait(1, 10), wait(2, 0)];
    expect(closesCircle(owner(1), two, () => [held(1, 0), held(2, 10)])).toBe(true);
    expect(closesCircle(owner(1), two, () => [held(3, 0), held(2, 10)])).toBe(false);
    const three = [wait(1, 10), wait(2, 20), wait(3, 0)];
    expect(closesCircle(owner(1), three, () => [held(1, 0), held(2, 10), held(3, 20)])).toBe(true);
    // A circle that others are in is theirs.
    expect(closesCircle(owner(4), [...three, wait(4, 0)], () => [held(1, 0), held(2, 10), held(3, 20)])).toBe(false);
  });

  it('sees no conflict between readers', () => {
    const waits: Wait[] = [{ ...wait(1, 10), type: 'read' }, wait(2, 0)];
    const holders: Holder[] = [held(1, 0), { ...held(2, 10), type: 'read' }];
    expect(closesCircle(owner(1), waits, () => holders)).toBe(false);
  });

  it('leaves alone what threads of one process may resolve', () => {
    expect(closesCircle(owner(1), [wait(1, 10, 7), wait(2, 0, 7)], () => [held(1, 0, 7), held(2, 10, 7)])).toBe(false);
    const threads = [wait(1, 10), wait(2, 0), wait(2, 50)];
    expect(closesCircle(owner(1), threads, () => [held(1, 0), held(2, 10)])).toBe(false);
  });
});

describe('lock table', () => {
  const alice = { low: 1, high: 0xffffffff };
  const bob = { low: 2, high: 0 };
  const handle = fileHandle(20);
  const second = fileHandle(21);

  function tablesOf(entriesMax = 16) {
    const inodes = tableOf();
    return { inodes, locks: new LockTable(LockTable.reserve(entriesMax), entriesMax, inodes) };
  }

  it('keeps one descriptor for each owner of a file', () => {
    const { inodes, locks } = tablesOf();
    const node = inodes.enter(101, FILE) as NodeId;
    expect(locks.hasOwners(node)).toBe(false);
    expect(locks.find(node, alice)).toBe(0);
    const mine = locks.insert(node, alice, handle, 50);
    expect(locks.fd(locks.insert(node, alice, handle, 51))).toBe(50);
    const other = locks.insert(node, bob, second, 52);
    expect(locks.fd(other)).toBe(52);
    expect(locks.find(1 as NodeId, alice)).toBe(0);
    for (const entry of [mine, mine, other]) locks.release(entry);
    expect(locks.remove(node, alice)).toBe(50);
    expect(locks.find(node, alice)).toBe(0);
    expect(locks.remove(node, alice)).toBe(-1);
    expect([...locks.descriptors()]).toEqual([52]);
    expect(locks.hasOwners(node)).toBe(true);
  });

  it('gives up what was made through an opening that ended', () => {
    const { inodes, locks } = tablesOf();
    const node = inodes.enter(101, FILE) as NodeId;
    locks.release(locks.insert(node, alice, handle, 50));
    locks.release(locks.insert(node, bob, second, 51));
    locks.insert(node, { low: 3, high: 3 }, handle, 52);
    expect(locks.removeOf(node, handle)).toEqual([50]);
    expect([...locks.descriptors()].sort()).toEqual([51, 52]);
  });

  it('keeps an entry that is in use', () => {
    const { inodes, locks } = tablesOf();
    const node = inodes.enter(101, FILE) as NodeId;
    const entry = locks.insert(node, alice, handle, 50);
    expect(locks.remove(node, alice)).toBe(-1);
    expect(locks.kept).toBe(entry);
    locks.release(locks.kept);
    locks.release(entry);
    expect(locks.remove(node, alice)).toBe(50);
    expect(locks.kept).toBe(0);
  });

  it('gives up all entries of a node that is freed, and uses them again', () => {
    const { inodes, locks } = tablesOf();
    const node = inodes.enter(101, FILE) as NodeId;
    for (let i = 0; i < 16; i++) locks.release(locks.insert(node, { low: i, high: 9 }, handle, 50 + i));
    expect(() => locks.insert(node, alice, handle, 99)).toThrowError(expect.objectContaining({ code: 'ENOLCK' }));
    expect(inodes.forget(node, 1)).toBe(true);
    const fds = locks.removeAll(inodes.freedLockOwners);
    expect(fds.sort()).toEqual(Array.from({ length: 16 }, (_, i) => 50 + i));
    const again = inodes.enter(102, FILE) as NodeId;
    expect(locks.hasOwners(again)).toBe(false);
    expect(locks.fd(locks.insert(again, alice, handle, 70))).toBe(70);
  });
});
