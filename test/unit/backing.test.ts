/** Backing files without a kernel: the table that all threads share, and the flags that follow from it. */
import { closeSync, openSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { BackingFiles } from '../../src/filesystem/backing.ts';
import type { NodeId } from '../../src/filesystem/identity.ts';
import { mayRegisterBackingFiles } from '../../src/mount/privilege.ts';
import { type Addon, tryLoadAddon } from '../../src/native/index.ts';
import { FUSE_DEV_IOC_BACKING_CLOSE, FUSE_DEV_IOC_BACKING_OPEN } from '../../src/protocol/index.ts';

const loaded = tryLoadAddon();
const [NODE, OTHER] = [5 as NodeId, 6 as NodeId];
const [DIRECT_IO, KEEP_CACHE, STREAM, NOFLUSH, PARALLEL, PASSTHROUGH] = [1, 2, 16, 32, 64, 128];
const [O_RDONLY, O_RDWR, O_DIRECT] = [0, 2, process.arch === 'arm64' ? 0o200000 : 0o40000];

describe.skipIf(loaded === undefined)('the table of open nodes', () => {
  const addon = loaded!;
  const enter = (table: number, node: number, device = -1) =>
    addon.backingEnter(table, node, device, FUSE_DEV_IOC_BACKING_OPEN, 0, 0);
  const status = () => new Int32Array(addon.scratch, 16, 1)[0];

  test('counts the opens of each node', () => {
    const table = addon.backingTable();
    expect(table).toBeGreaterThan(0);
    for (let node = 1; node <= 1000; node++) for (let open = 0; open < 2; open++) expect(enter(table, node)).toBe(0);
    expect(enter(table, Number.MAX_SAFE_INTEGER)).toBe(0);
    expect(addon.backingNodes(table)).toBe(1001);
    for (let node = 1; node <= 1000; node++) addon.backingLeave(table, node);
    expect(addon.backingNodes(table)).toBe(1001);
    for (let node = 1; node <= 1000; node++) addon.backingLeave(table, node);
    expect(addon.backingNodes(table)).toBe(1);
    // A release of what was never opened.
    expect(addon.backingLeave(table, 7)).toBe(0);
    addon.backingEnd(table);
  });

  test('is another one for each connection, and ends for good', () => {
    const [one, two] = [addon.backingTable(), addon.backingTable()];
    enter(one, 5);
    expect([addon.backingNodes(one), addon.backingNodes(two)]).toEqual([1, 0]);
    addon.backingEnd(one);
    addon.backingEnd(one);
    expect(addon.backingTable()).toBeGreaterThan(two);
    expect([enter(one, 5), addon.backingLeave(one, 5), addon.backingNodes(one)]).toEqual([0, 0, 0]);
    addon.backingEnd(two);
  });

  test('goes without an id where the ioctl is refused', () => {
    const table = addon.backingTable();
    const device = openSync('/dev/null', 'r');
    expect(enter(table, 5, device)).toBe(0);
    expect(status()).toBe(-25);
    // Open already: nobody is asked again.
    expect([enter(table, 5, device), status()]).toEqual([0, 0]);
    expect([enter(table, 6, device), status()]).toEqual([0, -25]);
    closeSync(device);
    addon.backingEnd(table);
  });

  test('asks no more where the process may not register', (context) => {
    let device = -1;
    try {
      // No connection's: the kernel says EPERM.
      device = openSync('/dev/fuse', 'r+');
    } catch {
      context.skip();
    }
    const table = addon.backingTable();
    expect([enter(table, 5, device), status()]).toEqual([0, -1]);
    expect([enter(table, 6, device), status()]).toEqual([0, 0]);
    expect(addon.backingNodes(table)).toBe(2);
    closeSync(device);
    addon.backingEnd(table);
  });

  test('survives the thread that counted', { timeout: 60_000 }, async () => {
    const table = addon.backingTable();
    const script = `const { addon } = await import(${JSON.stringify(new URL('../fixtures/addon.mjs', import.meta.url).href)});
      for (let node = 1; node <= 50; node++) addon.backingEnter(${table}, node, -1, ${FUSE_DEV_IOC_BACKING_OPEN}, 0, 0);
      process.exit(1);`;
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(script)}`));
    await new Promise((resolve) => worker.on('exit', resolve));
    expect(addon.backingNodes(table)).toBe(50);
    for (let node = 1; node <= 50; node++) addon.backingLeave(table, node);
    expect(addon.backingNodes(table)).toBe(0);
    addon.backingEnd(table);
  });

  test('refuses arguments that are none', () => {
    const table = addon.backingTable();
    for (const node of [0, -1, 1.5, 2 ** 53, Number.NaN]) expect(() => enter(table, node), String(node)).toThrow(TypeError);
    const end = addon.scratch.byteLength;
    expect(() => addon.backingEnter(table, 5, -1, FUSE_DEV_IOC_BACKING_OPEN, 0, end - 16)).toThrow(TypeError);
    addon.backingEnd(table);
  });
});

/** An addon of one connection that gives out the ids 1, 2, 3 or an errno. */
class FakeAddon {
  readonly scratch = new ArrayBuffer(64);
  readonly ioctls: [request: number, argument: number][] = [];
  readonly nodes = new Map<number, { id: number; opens: number }>();
  errno = 0;
  hasDirect = true;
  #last = 0;
  readonly #words = new Int32Array(this.scratch);

  backingEnter(_table: number, node: number, device: number, request: number): number {
    this.#words[4] = 0;
    const found = this.nodes.get(node);
    if (found !== undefined) {
      found.opens++;
      return found.id;
    }
    if (device >= 0) {
      this.ioctls.push([request, this.#words[0]]);
      this.#words[4] = this.errno === 0 ? ++this.#last : -this.errno;
    }
    const id = Math.max(this.#words[4], 0);
    this.nodes.set(node, { id, opens: 1 });
    return id;
  }

  backingLeave(_table: number, node: number): number {
    const found = this.nodes.get(node)!;
    if (--found.opens > 0) return 0;
    this.nodes.delete(node);
    return found.id;
  }

  ioctlBuffer(_fd: number, request: number): number {
    this.ioctls.push([request, this.#words[0]]);
    return 0;
  }

  openat(): number {
    return this.hasDirect ? 99 : -22;
  }

  close(): number {
    return 0;
  }
}

function backingFiles(writesAreCheap = true) {
  const addon = new FakeAddon();
  return { addon, files: new BackingFiles({ addon: addon as unknown as Addon, device: 3, table: 1, writesAreCheap }) };
}

describe('answers to open', () => {
  test('one id for all opens of a node, given back with the last', () => {
    const { addon, files } = backingFiles();
    expect([files.enter(NODE, 40, KEEP_CACHE | NOFLUSH, O_RDONLY), files.id]).toEqual([PASSTHROUGH | NOFLUSH, 1]);
    expect([files.enter(NODE, 41, DIRECT_IO | PARALLEL, O_RDWR), files.id]).toEqual([PASSTHROUGH, 1]);
    expect([files.enter(OTHER, 42, 0, O_RDWR), files.id]).toEqual([PASSTHROUGH, 2]);
    files.leave(NODE);
    expect(addon.ioctls.map(([request]) => request)).not.toContain(FUSE_DEV_IOC_BACKING_CLOSE);
    files.leave(NODE);
    expect(addon.ioctls).toEqual([
      [FUSE_DEV_IOC_BACKING_OPEN, 40],
      [FUSE_DEV_IOC_BACKING_OPEN, 42],
      [FUSE_DEV_IOC_BACKING_CLOSE, 1],
    ]);
  });

  test('an open without an offer beside one with: served past the cache by the same id', () => {
    const { files } = backingFiles();
    files.enter(NODE, 40, 0, O_RDWR);
    expect(files.enter(NODE, undefined, KEEP_CACHE | PARALLEL, O_RDWR)).toBe(PASSTHROUGH | DIRECT_IO | PARALLEL);
    expect(files.id).toBe(1);
  });

  test('an offer beside an open without: served, and nothing of the cache is kept', () => {
    const { addon, files } = backingFiles();
    expect(files.enter(NODE, undefined, KEEP_CACHE, O_RDWR)).toBe(0);
    expect([files.enter(NODE, 40, DIRECT_IO | KEEP_CACHE, O_RDWR), files.id]).toEqual([DIRECT_IO, 0]);
    files.leave(NODE);
    files.leave(NODE);
    expect([files.enter(NODE, 40, 0, O_RDWR), files.id]).toEqual([PASSTHROUGH, 1]);
    expect(addon.ioctls).toHaveLength(1);
  });

  test('streams have none; a refused offer is served', () => {
    const { addon, files } = backingFiles();
    expect([files.enter(NODE, 40, STREAM, O_RDWR), files.id]).toEqual([STREAM, 0]);
    addon.errno = 40;
    expect([files.enter(OTHER, 40, 0, O_RDWR), files.id]).toEqual([0, 0]);
  });

  test('O_DIRECT: where the host has it, and for writing where writes are cheap', () => {
    const { addon, files } = backingFiles();
    expect(files.enter(NODE, 40, 0, O_DIRECT | O_RDWR)).toBe(PASSTHROUGH);
    addon.hasDirect = false;
    expect(files.enter(OTHER, 40, 0, O_DIRECT | O_RDONLY)).toBe(0);
    const dear = backingFiles(false).files;
    expect(dear.enter(NODE, 40, 0, O_DIRECT | O_RDWR)).toBe(0);
    expect(dear.enter(OTHER, 40, 0, O_DIRECT | O_RDONLY)).toBe(PASSTHROUGH);
    expect(dear.enter(OTHER, 40, 0, O_DIRECT | O_RDWR)).toBe(PASSTHROUGH | DIRECT_IO);
  });

  test.each([-1, 1.5, 2 ** 31, Number.NaN])('%d is no descriptor', (fd) => {
    const { addon, files } = backingFiles();
    expect(() => files.enter(NODE, fd, 0, O_RDWR)).toThrow(/descriptor of a backing file/);
    expect(addon.nodes.size).toBe(0);
  });
});

test('only CAP_SYS_ADMIN in the first user namespace may register', () => {
  const folder = new URL('../fixtures/privilege/', import.meta.url).pathname;
  const may = (status: string, map: string) => mayRegisterBackingFiles(folder + status, folder + map);
  expect(may('root', 'first')).toBe(true);
  expect(may('user', 'first')).toBe(false);
  expect(may('root', 'inner')).toBe(false);
  expect(may('root', 'missing')).toBe(false);
});
