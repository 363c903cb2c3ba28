/** fromNodeFs and toNodeFs: the surface of node:fs/promises in both directions. */
import { promises } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createFsFromVolume, Volume } from 'memfs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fromNodeFs, type NodeFs, toNodeFs } from '../../src/adapters/index.ts';
import type { Filesystem, NodeId } from '../../src/filesystem/index.ts';

const memory = () => createFsFromVolume(new Volume());

/** Counts what a filesystem granted and what was forgotten of it. */
function audited(filesystem: Filesystem): { filesystem: Filesystem; counts: Map<number, number> } {
  const counts = new Map<number, number>();
  const add = (node: number, count: number) => counts.set(node, (counts.get(node) ?? 0) + count);
  const { lookup, mkdir, symlink, link, mknod, create, forget } = filesystem;
  const counted =
    <Given extends unknown[], Made>(method: (...given: Given) => Made, nodeOf: (made: Awaited<Made>) => number) =>
    async (...given: Given): Promise<Awaited<Made>> => {
      const made = await method.apply(filesystem, given);
      const node = nodeOf(made);
      if (node !== 0) add(node, 1);
      return made;
    };
  const ofEntry = (entry: { node: number }) => entry.node;
  return {
    counts,
    filesystem: {
      ...filesystem,
      lookup: counted(lookup!, ofEntry),
      mkdir: counted(mkdir!, ofEntry),
      symlink: counted(symlink!, ofEntry),
      link: counted(link!, ofEntry),
      mknod: counted(mknod!, ofEntry),
      create: counted(create!, ({ entry }) => entry.node),
      forget: (node: NodeId, count: number) => {
        add(node, -count);
        forget!(node, count);
      },
    },
  };
}

describe('toNodeFs', () => {
  let counts: Map<number, number>;
  let fs: NodeFs;
  beforeEach(() => {
    const audit = audited(fromNodeFs(memory(), { ownership: 'source' }));
    counts = audit.counts;
    fs = toNodeFs(audit.filesystem);
  });
  afterEach(async () => {
    await fs.end();
    expect([...counts].filter(([, count]) => count !== 0)).toEqual([]);
  });

  test('whole files, flags and encodings', async () => {
    await fs.writeFile('/f', 'grün');
    await fs.appendFile('/f', Buffer.from('!'));
    expect(await fs.readFile('/f', 'utf8')).toBe('grün!');
    expect(await fs.readFile('/f')).toEqual(Buffer.from('grün!'));
    await fs.writeFile('/f', ['a', Buffer.from('b')], { flag: 'a' });
    expect(await fs.readFile('/f', { encoding: 'latin1' })).toBe(`${Buffer.from('grün').toString('latin1')}!ab`);
    await expect(fs.writeFile('/f', '', { flag: 'wx' })).rejects.toMatchObject({ code: 'EEXIST', syscall: 'open', path: '/f' });
    await fs.copyFile('/f', '/g');
    expect(await fs.readFile('/g', 'utf8')).toBe('grün!ab');
    await expect(fs.copyFile('/f', '/g', fs.constants.COPYFILE_EXCL)).rejects.toMatchObject({ code: 'EEXIST' });
    const large = Buffer.alloc(3_000_001, 'large');
    await fs.writeFile('/large', large);
    expect((await fs.readFile('/large')).equals(large)).toBe(true);
  });

  test('handles: positions, append, truncate, times, dispose', async () => {
    await fs.writeFile('/f', '0123456789');
    const file = await fs.open('/f', 'r+');
    const buffer = Buffer.alloc(4);
    await file.read(buffer, 0, 4);
    expect(buffer.toString()).toBe('0123');
    await file.read(buffer, 0, 4, 6);
    expect(buffer.toString()).toBe('6789');
    await file.write('AB');
    await file.truncate(8);
    await file.utimes(1.5, 2.25);
    const stat = await file.stat({ bigint: true });
    expect([stat.size, stat.atimeNs, stat.mtimeNs]).toEqual([8n, 1_500_000_000n, 2_250_000_000n]);
    await file.sync();
    await file.close();
    await file.close();
    await expect(file.read(buffer)).rejects.toMatchObject({ code: 'EBADF', errno: -9 });
    expect(await fs.readFile('/f', 'utf8')).toBe('0123AB67');
    const appending = await fs.open('/f', 'a');
    await appending.write('x', 0);
    await Promise.all([appending.appendFile('y'), appending.appendFile('z')]);
    await appending.close();
    expect((await fs.readFile('/f', 'utf8')).slice(0, 9)).toBe('0123AB67x');
    expect((await fs.stat('/f')).size).toBe(11);
  });

  test('errors are those of node:fs', async () => {
    await fs.mkdir('/d');
    await fs.writeFile('/d/f', '');
    const cases: [Promise<unknown>, object, string][] = [
      [
        fs.stat('/no'),
        { code: 'ENOENT', errno: -2, syscall: 'stat', path: '/no' },
        "ENOENT: no such file or directory, stat '/no'",
      ],
      [fs.open('/no'), { syscall: 'open' }, "ENOENT: no such file or directory, open '/no'"],
      [fs.readdir('/d/f'), { code: 'ENOTDIR', syscall: 'scandir' }, "ENOTDIR: not a directory, scandir '/d/f'"],
      [fs.rmdir('/d'), { code: 'ENOTEMPTY', syscall: 'rmdir' }, "ENOTEMPTY: directory not empty, rmdir '/d'"],
      [fs.unlink('/d'), { code: 'EISDIR' }, "EISDIR: illegal operation on a directory, unlink '/d'"],
      [fs.mkdir('/d'), { code: 'EEXIST' }, "EEXIST: file already exists, mkdir '/d'"],
      [fs.rename('/no', '/d/x'), { dest: '/d/x', path: '/no' }, "ENOENT: no such file or directory, rename '/no' -> '/d/x'"],
      [fs.rename('/d', '/d/x'), { code: 'EINVAL' }, "EINVAL: invalid argument, rename '/d' -> '/d/x'"],
      [fs.readlink('/d/f'), { code: 'EINVAL' }, "EINVAL: invalid argument, readlink '/d/f'"],
      [fs.writeFile('/d/f/x', ''), { code: 'ENOTDIR' }, "ENOTDIR: not a directory, open '/d/f/x'"],
      [fs.stat(`/${'n'.repeat(256)}`), { code: 'ENAMETOOLONG' }, `ENAMETOOLONG: name too long, stat '/${'n'.repeat(256)}'`],
      [fs.rm('/d'), { code: 'ERR_FS_EISDIR' }, 'Path is a directory: rm returned EISDIR (is a directory) /d'],
    ];
    for (const [promise, shape, message] of cases) {
      const error = await promise.then(
        () => undefined,
        (reason: Error) => reason,
      );
      expect(error).toMatchObject({ ...shape, message });
    }
    expect(() => fs.watch('/d')).toThrow('watch is not there');
  });

  test('trees: recursive mkdir, readdir and rm', async () => {
    expect(await fs.mkdir('/a/b/c', { recursive: true })).toBe('/a');
    expect(await fs.mkdir('/a/b/c', { recursive: true })).toBeUndefined();
    await fs.writeFile('/a/b/f', '');
    await fs.symlink('b/f', '/a/l');
    expect((await fs.readdir('/a', { recursive: true })).sort()).toEqual(['b', 'b/c', 'b/f', 'l']);
    expect((await fs.readdir('/', { recursive: true })).sort()).toEqual(['a', 'a/b', 'a/b/c', 'a/b/f', 'a/l']);
    const entries = await fs.readdir('/a', { withFileTypes: true });
    expect(entries.map((entry) => [entry.name, entry.parentPath, entry.isDirectory(), entry.isSymbolicLink()]).sort()).toEqual([
      ['b', '/a', true, false],
      ['l', '/a', false, true],
    ]);
    expect(await fs.realpath('/a/./l')).toBe('/a/b/f');
    await fs.rm('/a', { recursive: true });
    await fs.rm('/a', { recursive: true, force: true });
    expect(await fs.readdir('/')).toEqual([]);
  });

  test('symbolic links: followed, counted, and not at the end where they shall not', async () => {
    await fs.mkdir('/d');
    await fs.symlink('/d/../d/f', '/l');
    await fs.writeFile('/l', 'through');
    expect(await fs.readFile('/d/f', 'utf8')).toBe('through');
    expect((await fs.lstat('/l')).isSymbolicLink()).toBe(true);
    expect((await fs.stat('/l')).isFile()).toBe(true);
    await fs.symlink('loop', '/loop');
    await expect(fs.stat('/loop')).rejects.toMatchObject({ code: 'ELOOP' });
    await expect(fs.open('/l', fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW)).rejects.toMatchObject({ code: 'ELOOP' });
    await fs.link('/d/f', '/hard');
    expect((await fs.stat('/hard')).ino).toBe((await fs.stat('/d/f')).ino);
    expect((await fs.stat('/hard')).nlink).toBe(2);
  });

  test('after the end everything fails', async () => {
    const file = await fs.open('/f', 'w');
    await fs.end();
    await expect(file.stat()).rejects.toMatchObject({ code: 'EBADF' });
    await expect(fs.stat('/')).rejects.toMatchObject({ code: 'ENOTCONN' });
  });
});

describe('toNodeFs of a filesystem of few methods', () => {
  test('no open, no flush, a read of parts, a listing answered whole', async () => {
    const forgotten: number[] = [];
    const fs = toNodeFs({
      lookup: (_parent, name) => (name === 'f' ? { node: 2, attributes: { mode: 0o100444, size: 6 } } : { node: 0 }),
      getattr: (node) => ({ attributes: node === 1 ? { mode: 0o040755 } : { mode: 0o100444, size: 6 } }),
      read: (_node, { offset }) => (offset === 0 ? [Buffer.from('abc'), Buffer.from('def')] : new Uint8Array(0)),
      readdir: () => ['f'],
      forget: (node, count) => void forgotten.push(node, count),
    });
    expect(await fs.readFile('/f', 'utf8')).toBe('abcdef');
    expect(await fs.readdir('/')).toEqual(['f']);
    await expect(fs.mkdir('/d')).rejects.toMatchObject({ code: 'ENOSYS', syscall: 'mkdir' });
    expect(forgotten.length).toBeGreaterThan(0);
    await fs.end();
  });
});

describe('fromNodeFs', () => {
  test('there and back twice is the same', async () => {
    const volume = new Volume();
    const inner = toNodeFs(fromNodeFs(createFsFromVolume(volume), { ownership: 'source' }));
    const fs = toNodeFs(fromNodeFs(inner, { ownership: 'source' }));
    await fs.mkdir('/d');
    await fs.writeFile('/d/f', 'twice');
    await fs.rename('/d', '/e');
    await fs.chmod('/e/f', 0o600);
    expect(volume.readFileSync('/e/f', 'utf8')).toBe('twice');
    expect((await fs.stat('/e/f')).mode).toBe(0o100600);
    await fs.end();
    await inner.end();
  });

  test('read-only', async () => {
    const fs = toNodeFs(fromNodeFs(createFsFromVolume(Volume.fromJSON({ '/f': 'x' })), { readOnly: true }));
    expect(await fs.readFile('/f', 'utf8')).toBe('x');
    for (const change of [fs.writeFile('/f', 'y'), fs.unlink('/f'), fs.mkdir('/d'), fs.chmod('/f', 0), fs.writeFile('/n', '')]) {
      await expect(change).rejects.toMatchObject({ code: 'EROFS' });
    }
    await fs.end();
  });

  test('an object that knows flags by name, and numbers no inodes', async () => {
    const volume = createFsFromVolume(new Volume()).promises;
    const asked: string[] = [];
    const driver = {
      stat: async (path: string) => {
        const { mode, size, mtimeMs } = await volume.lstat(path);
        return { mode, size, mtimeMs };
      },
      readdir: (path: string) => volume.readdir(path),
      open: (path: string, flags: string, mode: number) => {
        asked.push(flags);
        return volume.open(path, flags, mode);
      },
      mkdir: (path: string, options: { mode: number }) => volume.mkdir(path, options),
      unlink: (path: string) => volume.unlink(path),
    };
    const fs = toNodeFs(fromNodeFs(driver, { openFlags: 'names' }));
    await fs.mkdir('/d');
    await fs.writeFile('/d/f', 'named');
    await fs.appendFile('/d/f', '!');
    expect(await fs.readFile('/d/f', 'utf8')).toBe('named!');
    expect(asked).toEqual(['wx+', 'a+', 'r']);
    const { ino, nlink } = await fs.stat('/d/f');
    expect([ino > 0, nlink]).toEqual([true, 1]);
    expect((await fs.stat('/d/f')).ino).toBe(ino);
    await fs.end();
  });

  test('the host: times are exact, handles are closed', async () => {
    const root = await mkdtemp(join(tmpdir(), 'fusewire-host-'));
    try {
      const filesystem = fromNodeFs(promises, { root, ownership: 'source' });
      const fs = toNodeFs(filesystem);
      await fs.writeFile('/f', 'x');
      await fs.utimes('/f', 1_700_000_000.123456, 1_700_000_001.654321);
      expect((await promises.stat(join(root, 'f'), { bigint: true })).mtimeNs).toBe(
        (await fs.stat('/f', { bigint: true })).mtimeNs,
      );
      await fs.open('/f', 'r');
      expect(filesystem.paths.counters.openings).toBe(1);
      await fs.end();
      expect(filesystem.paths.counters.openings).toBe(0);
    } finally {
      await rm(root, { recursive: true });
    }
  });

  test('a folder that became a symbolic link behind us leads nowhere', async () => {
    const root = await mkdtemp(join(tmpdir(), 'fusewire-host-'));
    try {
      await promises.mkdir(join(root, 'in/d'), { recursive: true });
      await promises.mkdir(join(root, 'out'));
      await promises.writeFile(join(root, 'in/d/f'), 'inside');
      await promises.writeFile(join(root, 'out/f'), 'outside');
      const filesystem = fromNodeFs(promises, { root: join(root, 'in') });
      const asks = { uid: 0, gid: 0, pid: 1, operation: '', signal: new AbortController().signal };
      const request = { ...asks, groups: () => [], securityContexts: () => [], resent: false };
      const d = await filesystem.lookup!(1 as NodeId, 'd', request);
      await promises.rename(join(root, 'in/d'), join(root, 'in/was'));
      await promises.symlink('../out', join(root, 'in/d'));
      await expect(filesystem.lookup!(d.node as NodeId, 'f', request)).rejects.toMatchObject({ code: 'ESTALE' });
      await expect(filesystem.unlink!(d.node as NodeId, 'f', request)).rejects.toMatchObject({ code: 'ESTALE' });
      expect(await promises.readFile(join(root, 'out/f'), 'utf8')).toBe('outside');
      await filesystem.destroy!();
    } finally {
      await rm(root, { recursive: true });
    }
  });
});
