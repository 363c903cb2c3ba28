/** The path-level interface, through a session over the in-memory channel and at its own methods. */
import { constants } from 'node:os';
import { createFsFromVolume, Volume } from 'memfs';
import { describe, expect, test } from 'vitest';
import { fromNodeFs, toNodeFs } from '../../src/adapters/index.ts';
import type { NodeId } from '../../src/filesystem/index.ts';
import { type PathOptions, type PathSource, type Pressure, pathFilesystem } from '../../src/paths/index.ts';
import { body, TestKernel, word } from './wire.ts';

const { ENOENT, EINVAL, EROFS, EPERM, ENFILE, EOPNOTSUPP, EEXIST, EINTR, ENOTEMPTY, ESTALE } = constants.errno;
const settle = () => new Promise((resolve) => setTimeout(resolve, 5));

async function started(source: PathSource, options: PathOptions = {}) {
  const filesystem = pathFilesystem(source, options);
  const kernel = new TestKernel(filesystem);
  // The answer comes once the root was asked for its attributes.
  await kernel.init().catch(() => {});
  await settle();
  expect(kernel.last().errno).toBe(0);
  const ask = async (name: Parameters<TestKernel['request']>[0], payload?: Uint8Array, nodeid = 1) => {
    const unique = kernel.request(name, payload, { nodeid });
    await settle();
    return kernel.of(unique)!;
  };
  const lookup = async (parent: number, name: string) => {
    const reply = await ask('LOOKUP', body(`${name}\0`), parent);
    return reply.errno === 0 ? word(reply.body, 0) : -reply.errno;
  };
  return { filesystem, kernel, ask, lookup };
}

/** A tree in memory by paths: directories are null. */
function mapSource(
  entries: Record<string, string | null>,
  more: PathSource = {},
): PathSource & { files: Map<string, string | null> } {
  const files = new Map<string, string | null>([['/', null], ...Object.entries(entries)]);
  const need = (path: string) => {
    if (!files.has(path)) throw Object.assign(new Error(`no ${path}`), { code: 'ENOENT' });
    return files.get(path)!;
  };
  return {
    files,
    lstat: (path) => {
      const data = need(path);
      return data === null ? { type: 'directory' } : { type: 'file', size: data.length };
    },
    readdir: (path) => {
      const prefix = path === '/' ? '/' : `${path}/`;
      return [...files.keys()]
        .filter((key) => key !== '/' && key.startsWith(prefix) && !key.slice(prefix.length).includes('/'))
        .map((key) => key.slice(prefix.length));
    },
    rename: (from, to) => {
      need(from);
      for (const [key, value] of [...files]) {
        if (key !== from && !key.startsWith(`${from}/`)) continue;
        files.delete(key);
        files.set(to + key.slice(from.length), value);
      }
    },
    unlink: (path) => void files.delete(path),
    ...more,
  };
}

const RENAME = (to: number, from: string, name: string) => body(BigInt(to), `${from}\0${name}\0`);
const RENAME2 = (to: number, flags: number, from: string, name: string) => body(BigInt(to), flags, 0, `${from}\0${name}\0`);

describe('nodes', () => {
  test('a rename of a tree takes along what is below, and node ids stay', async () => {
    const { filesystem, ask, lookup } = await started(mapSource({ '/a': null, '/a/b': null, '/a/b/f': 'x' }));
    const a = await lookup(1, 'a');
    const b = await lookup(a, 'b');
    const f = await lookup(b, 'f');
    expect((await ask('RENAME', RENAME(1, 'a', 'moved'))).errno).toBe(0);
    expect(filesystem.paths.of(f as NodeId)).toEqual(['/moved/b/f']);
    expect((await ask('GETATTR', body(0, 0, 0n), f)).errno).toBe(0);
    expect(await lookup(1, 'moved')).toBe(a);
    expect(await lookup(1, 'a')).toBe(0);
  });

  test('what the kernel forgets is kept up to a limit, then let go', async () => {
    const files = Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`/f${index}`, 'x']));
    const { filesystem, kernel, lookup } = await started(mapSource(files), { maxIdleNodes: 10 });
    const first = await lookup(1, 'f0');
    const nodes = [first];
    for (let index = 1; index < 50; index++) nodes.push(await lookup(1, `f${index}`));
    expect(filesystem.paths.counters).toMatchObject({ nodes: 51, idleNodes: 0 });
    expect(await lookup(1, 'f49')).toBe(nodes[49]);
    for (const node of nodes) kernel.request('FORGET', body(1n), { nodeid: node });
    expect(filesystem.paths.counters).toMatchObject({ nodes: 12, idleNodes: 10 });
    // f49 was counted twice.
    expect(await lookup(1, 'f49')).toBe(nodes[49]);
    expect(await lookup(1, 'f48')).toBe(nodes[48]);
    expect(await lookup(1, 'f0')).not.toBe(first);
  });

  test('more nodes than wanted are told, with those that were used longest ago', async () => {
    const files = Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`/f${index}`, 'x']));
    const told: Pressure[] = [];
    const { lookup } = await started(mapSource(files), { maxNodes: 20, onPressure: (pressure) => told.push(pressure) });
    for (let index = 0; index < 25; index++) await lookup(1, `f${index}`);
    expect(told.length).toBeGreaterThan(0);
    expect(told[0]).toMatchObject({ limit: 20, nodes: 21 });
    expect(told[0].oldest(2).map(({ name }) => name)).toEqual(['f0', 'f1']);
  });

  test('names of one inode are one node, and a used-up number is another file', async () => {
    const stats = new Map([
      ['/', { type: 'directory' as const, ino: 1, nlink: 2 }],
      ['/a', { type: 'file' as const, ino: 5, nlink: 2 }],
      ['/b', { type: 'file' as const, ino: 5, nlink: 2 }],
    ]);
    const lstat = (path: string) => {
      const found = stats.get(path);
      if (found === undefined) throw Object.assign(new Error(), { code: 'ENOENT' });
      return found;
    };
    const { filesystem, ask, lookup } = await started({ lstat, unlink: (path) => void stats.delete(path) });
    const a = await lookup(1, 'a');
    expect(await lookup(1, 'b')).toBe(a);
    expect(filesystem.paths.of(a as NodeId)).toEqual(['/a', '/b']);
    stats.get('/b')!.nlink = 1;
    expect((await ask('UNLINK', body('a\0'))).errno).toBe(0);
    expect(await lookup(1, 'b')).toBe(a);
    expect((await ask('UNLINK', body('b\0'))).errno).toBe(0);
    stats.set('/c', { type: 'file', ino: 5, nlink: 1 });
    const c = await lookup(1, 'c');
    expect(c).toBeGreaterThan(0);
    expect(c).not.toBe(a);
    expect((await ask('GETATTR', body(0, 0, 0n), a)).errno).toBe(ENOENT);
  });

  test('a name that became another file behind our back is another node', async () => {
    const source = mapSource({ '/x': 'file' });
    const { ask, lookup } = await started(source);
    const file = await lookup(1, 'x');
    source.files.set('/x', null);
    expect((await ask('GETATTR', body(0, 0, 0n), file)).errno).toBe(ESTALE);
    const folder = await lookup(1, 'x');
    expect(folder).not.toBe(file);
  });

  test.each(['.', '..'])('%j is no name to look up', async (name) => {
    const { ask } = await started(mapSource({}));
    expect((await ask('LOOKUP', body(`${name}\0`))).errno).toBe(EINVAL);
  });
});

describe('order', () => {
  test('a rename waits for those who are inside, and who comes after it waits for it', async () => {
    const log: string[] = [];
    let open!: () => void;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const source = mapSource({ '/d': null, '/d/slow': 'x', '/d/fast': 'y' });
    const { lstat, rename } = source;
    source.lstat = async (path, context) => {
      if (path.endsWith('slow') && log.length === 0) {
        log.push('slow begins');
        await gate;
        log.push('slow ends');
      }
      return lstat!(path, context);
    };
    source.rename = (from, to, context) => {
      log.push(`rename ${from} ${to}`);
      return rename!(from, to, context);
    };
    const { filesystem, kernel, ask, lookup } = await started(source);
    const d = await lookup(1, 'd');
    const slow = kernel.request('LOOKUP', body('slow\0'), { nodeid: d });
    const renamed = kernel.request('RENAME', RENAME(1, 'd', 'e'));
    const later = kernel.request('LOOKUP', body('fast\0'), { nodeid: d });
    await settle();
    expect(log).toEqual(['slow begins']);
    expect([slow, renamed, later].map((unique) => kernel.of(unique))).toEqual([undefined, undefined, undefined]);
    expect(filesystem.paths.counters.waiting).toBe(2);
    // Elsewhere nothing waits.
    expect((await ask('GETATTR', body(0, 0, 0n))).errno).toBe(0);
    open();
    await settle();
    expect(log).toEqual(['slow begins', 'slow ends', 'rename /d /e']);
    expect([slow, renamed, later].map((unique) => kernel.of(unique)!.errno)).toEqual([0, 0, 0]);
    const fast = word(kernel.of(later)!.body, 0);
    expect(filesystem.paths.of(fast as NodeId)).toEqual(['/e/fast']);
  });

  test('renames across two directories in both directions at once come to an end', async () => {
    const source = mapSource({ '/a': null, '/b': null, '/a/x': '1', '/b/y': '2' });
    const { rename } = source;
    source.rename = async (from, to, context) => {
      await settle();
      return rename!(from, to, context);
    };
    const { kernel, lookup, filesystem } = await started(source);
    const [a, b] = [await lookup(1, 'a'), await lookup(1, 'b')];
    const uniques: number[] = [];
    for (let round = 0; round < 5; round++) {
      uniques.push(kernel.request('RENAME', RENAME(b, 'x', 'x'), { nodeid: a }));
      uniques.push(kernel.request('RENAME', RENAME(a, 'y', 'y'), { nodeid: b }));
      uniques.push(kernel.request('RENAME', RENAME(a, 'x', 'x'), { nodeid: b }));
      uniques.push(kernel.request('RENAME', RENAME(b, 'y', 'y'), { nodeid: a }));
    }
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(uniques.map((unique) => kernel.of(unique)?.errno)).toEqual(uniques.map(() => 0));
    expect(filesystem.paths.counters.waiting).toBe(0);
    expect([...source.files.keys()].sort()).toEqual(['/', '/a', '/a/x', '/b', '/b/y']);
  });

  test('who waits and is interrupted gets EINTR, and the others go on', async () => {
    const source = mapSource({ '/d': null, '/d/f': 'x' });
    let open!: () => void;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const unlink = source.unlink!;
    source.unlink = async (path, context) => {
      await gate;
      return unlink(path, context);
    };
    const { kernel, lookup } = await started(source);
    const d = await lookup(1, 'd');
    const first = kernel.request('UNLINK', body('f\0'), { nodeid: d });
    const waits = kernel.request('LOOKUP', body('f\0'), { nodeid: d });
    const other = kernel.request('LOOKUP', body('f\0'), { nodeid: d });
    await settle();
    kernel.request('INTERRUPT', body(BigInt(waits)));
    await settle();
    expect(kernel.of(waits)!.errno).toBe(EINTR);
    expect(kernel.of(other)).toBeUndefined();
    open();
    await settle();
    expect(kernel.of(first)!.errno).toBe(0);
    expect(word(kernel.of(other)!.body, 0)).toBe(0);
  });

  test('a directory does not go into itself', async () => {
    const { ask, lookup } = await started(mapSource({ '/a': null, '/a/b': null }));
    const a = await lookup(1, 'a');
    const b = await lookup(a, 'b');
    expect((await ask('RENAME', RENAME(b, 'a', 'c'))).errno).toBe(EINVAL);
    expect((await ask('RENAME', RENAME(1, 'b', 'a'), a)).errno).toBe(ENOTEMPTY);
  });
});

describe('what a source lacks', () => {
  test('and what that is answered', async () => {
    const { ask } = await started({ lstat: (path) => ({ type: path === '/' ? 'directory' : 'file' }) });
    const errno = async (name: Parameters<typeof ask>[0], payload: Uint8Array) => (await ask(name, payload)).errno;
    expect(await errno('MKDIR', body(0o755, 0, 'd\0'))).toBe(EROFS);
    expect(await errno('UNLINK', body('f\0'))).toBe(EROFS);
    expect(await errno('SYMLINK', body('n\0t\0'))).toBe(EPERM);
    expect(await errno('MKNOD', body(0o10644, 0, 0, 0, 'p\0'))).toBe(EPERM);
    expect(await errno('RENAME', RENAME(1, 'a', 'b'))).toBe(EROFS);
    expect(await errno('RENAME2', RENAME2(1, 4, 'a', 'b'))).toBe(EINVAL);
    expect(await errno('CREATE', body(0o2, 0o100644, 0, 0, 'f\0'))).toBe(EROFS);
  });

  test('ENOSYS never reaches the kernel, which would not ask again', async () => {
    const refuse = () => {
      throw Object.assign(new Error(), { code: 'ENOSYS' });
    };
    const { ask } = await started(mapSource({ '/f': 'x' }, { mkdir: refuse, getxattr: refuse }));
    expect((await ask('MKDIR', body(0o755, 0, 'd\0'))).errno).toBe(EOPNOTSUPP);
    expect((await ask('GETXATTR', body(0, 0, 'user.x\0'))).errno).toBe(EOPNOTSUPP);
  });

  test('options that do not go together are refused with the reason', () => {
    expect(() => pathFilesystem({})).toThrow('a path filesystem needs lstat or stat');
    expect(() => pathFilesystem({ lstat: () => ({}) }, { unlinkOpen: 'hide' })).toThrow("unlinkOpen: 'hide' needs rename");
    expect(() => pathFilesystem({ lstat: () => ({}) }, { maxNodes: 0 })).toThrow('maxNodes is a whole number from 1, not 0');
  });

  test('NOREPLACE is kept, EXCHANGE is the source’s', async () => {
    const source = mapSource({ '/a': '1', '/b': '2' });
    const { ask, lookup, filesystem } = await started(source);
    expect((await ask('RENAME2', RENAME2(1, 1, 'a', 'b'))).errno).toBe(EEXIST);
    expect((await ask('RENAME2', RENAME2(1, 2, 'a', 'b'))).errno).toBe(EINVAL);
    const swapping = await started({
      ...source,
      exchange: (one, other) => {
        const kept = source.files.get(one)!;
        source.files.set(one, source.files.get(other)!);
        source.files.set(other, kept);
      },
    });
    const a = await swapping.lookup(1, 'a');
    const b = await swapping.lookup(1, 'b');
    expect((await swapping.ask('RENAME2', RENAME2(1, 2, 'a', 'b'))).errno).toBe(0);
    expect([await swapping.lookup(1, 'a'), await swapping.lookup(1, 'b')]).toEqual([b, a]);
    expect([source.files.get('/a'), source.files.get('/b')]).toEqual(['2', '1']);
    expect(await lookup(1, 'a')).toBeGreaterThan(0);
    expect(filesystem.paths.counters.waiting).toBe(0);
  });
});

describe('open files and listings', () => {
  test('limits', async () => {
    const source = mapSource({ '/f': 'x' }, { open: () => ({ read: () => 0 }) });
    const { ask, lookup } = await started(source, { maxOpenFiles: 1 });
    const f = await lookup(1, 'f');
    expect((await ask('OPEN', body(0, 0), f)).errno).toBe(0);
    expect((await ask('OPEN', body(0, 0), f)).errno).toBe(ENFILE);
    expect((await ask('OPENDIR', body(0, 0))).errno).toBe(ENFILE);
  });

  test('a listing goes on where it stopped, whatever came and went', async () => {
    const files = Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`/f${index}`, '']));
    const source = mapSource(files);
    const { ask } = await started(source, { listing: 'names' });
    const fh = BigInt(word((await ask('OPENDIR', body(0, 0))).body, 0));
    const seen: string[] = [];
    let offset = 0n;
    for (let page = 0; page < 100; page++) {
      const { body: bytes } = await ask('READDIR', body(fh, offset, 128, 0, 0n, 0, 0));
      if (bytes.byteLength === 0) break;
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let at = 0; at < bytes.byteLength; ) {
        const length = view.getUint32(at + 16, true);
        offset = view.getBigUint64(at + 8, true);
        seen.push(Buffer.from(bytes.subarray(at + 24, at + 24 + length)).toString());
        at += (24 + length + 7) & ~7;
      }
      // Names come and go while the listing is under way.
      source.files.delete(`/f${page}`);
      source.files.set(`/new${page}`, '');
    }
    expect(seen.filter((name) => name.startsWith('f')).length).toBe(40);
    expect(new Set(seen).size).toBe(seen.length);
  });

  test('an endless listing is read only as far as somebody asks, and is let go', async () => {
    let made = 0;
    let ended = false;
    const source = mapSource(
      {},
      {
        async *readdir() {
          try {
            for (;;) yield `entry${made++}`;
          } finally {
            ended = true;
          }
        },
      },
    );
    const { ask } = await started(source, { listing: 'names' });
    const fh = BigInt(word((await ask('OPENDIR', body(0, 0))).body, 0));
    await ask('READDIR', body(fh, 0n, 512, 0, 0n, 0, 0));
    expect(made).toBeLessThan(100);
    await ask('RELEASEDIR', body(fh, 0, 0, 0n));
    await settle();
    expect(ended).toBe(true);
  });

  test('a read asks again until the end, because short means the end to the kernel', async () => {
    const data = Buffer.from('0123456789');
    const read = (buffer: Uint8Array, offset: number, length: number, position: number) => {
      const piece = data.subarray(position, position + Math.min(length, 3));
      buffer.set(piece, offset);
      return { bytesRead: piece.byteLength };
    };
    const fs = toNodeFs(pathFilesystem(mapSource({ '/f': '0123456789' }, { open: () => ({ read }) })));
    expect(await fs.readFile('/f', 'utf8')).toBe('0123456789');
    await fs.end();
  });

  test('the context says who asks', async () => {
    const told: object[] = [];
    const source = mapSource({ '/f': 'x' });
    const { lstat } = source;
    source.lstat = (path, context) => {
      told.push({ path, uid: context.uid, gid: context.gid, pid: context.pid });
      return lstat!(path, context);
    };
    const fs = toNodeFs(pathFilesystem(source), { uid: 7, gid: 8, pid: 9 });
    await fs.stat('/f');
    expect(told).toContainEqual({ path: '/f', uid: 7, gid: 8, pid: 9 });
    await fs.end();
  });

  test('a hidden file is shown to nobody and gone at the end', async () => {
    const volume = new Volume();
    const filesystem = fromNodeFs(createFsFromVolume(volume), { unlinkOpen: 'hide' });
    const fs = toNodeFs(filesystem);
    await fs.mkdir('/d');
    const file = await fs.open('/d/f', 'w+');
    await file.write(Buffer.from('kept'));
    await fs.unlink('/d/f');
    expect(await fs.readdir('/d')).toEqual([]);
    expect(volume.readdirSync('/d')).toHaveLength(1);
    await expect(fs.stat(`/d/${volume.readdirSync('/d')[0]}`)).rejects.toMatchObject({ code: 'ENOENT' });
    await fs.rmdir('/d');
    expect((await file.stat()).nlink).toBe(0);
    const buffer = Buffer.alloc(4);
    await file.read(buffer, 0, 4, 0);
    expect(buffer.toString()).toBe('kept');
    await file.close();
    expect(volume.readdirSync('/')).toEqual([]);
    await fs.end();
  });
});
