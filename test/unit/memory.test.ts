/** The memory filesystem, request by request: counts, limits and what POSIX says where callers seldom look. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import memory, { MemoryError, shared, workers } from '../../examples/memory/filesystem.ts';
import { completeOptions } from '../../examples/memory/options.ts';
import { FileData, PageStore } from '../../examples/memory/pages.ts';
import { MemoryKernel } from './memory-wire.ts';
import { body, long, word } from './wire.ts';

const ROOT = 1;
const turn = () => new Promise((resolve) => setImmediate(resolve));
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1');
const names = (kernel: MemoryKernel, node = ROOT) => kernel.list(node).map(({ name }) => name);

describe('lookup counts', () => {
  test('an unlinked file stays as long as the kernel knows it or has it open, then all of it is free again', async () => {
    const kernel = await MemoryKernel.start();
    const before = kernel.free();
    const { node, handle } = kernel.create(ROOT, 'f');
    kernel.write(node, 0, 'x'.repeat(10_000));
    expect(kernel.free()).toEqual({ pages: before.pages - 3, inodes: before.inodes - 1 });
    kernel.unlink(ROOT, 'f');
    expect(kernel.stat(node)).toMatchObject({ nlink: 0, size: 10_000 });
    expect(kernel.lookup(ROOT, 'f')).toBeUndefined();
    kernel.forget(node);
    expect(text(kernel.read(node, 9_999, 10))).toBe('x');
    kernel.release(node, handle);
    expect(kernel.free()).toEqual(before);
    expect(() => kernel.stat(node)).toThrow('ESTALE');
  });

  test('every answered entry counts once: make, lookup, link, readdirplus; "." and ".." do not', async () => {
    const kernel = await MemoryKernel.start();
    const before = kernel.free();
    const folder = kernel.mkdir(ROOT, 'd');
    const { node } = kernel.mknod(folder.node, 'f', 0o100644);
    kernel.lookup(folder.node, 'f');
    kernel.link(node, folder.node, 'g');
    expect(kernel.list(folder.node).map((entry) => entry.node)).toEqual([0, 0, node, node]);
    kernel.unlink(folder.node, 'f');
    kernel.unlink(folder.node, 'g');
    kernel.forget(node, 4);
    expect(kernel.free().inodes).toBe(before.inodes - 2);
    kernel.forget(node);
    expect(kernel.free().inodes).toBe(before.inodes - 1);
    kernel.rmdir(ROOT, 'd');
    kernel.forget(folder.node);
    expect(kernel.free()).toEqual(before);
  });

  test('a listing counts only what fitted into it', async () => {
    const kernel = await MemoryKernel.start();
    const counts = new Map<number, number>();
    for (let index = 0; index < 50; index++) counts.set(kernel.mknod(ROOT, `file${index}`, 0o100644).node, 1);
    const seen: string[] = [];
    for (let cookie = 0; ; ) {
      const page = kernel.list(ROOT, cookie, 1000);
      if (page.length === 0) break;
      for (const { node, name } of page) {
        seen.push(name);
        if (node !== 0) counts.set(node, counts.get(node)! + 1);
      }
      cookie = page.at(-1)!.cookie;
    }
    expect(seen).toEqual(['.', '..', ...Array.from({ length: 50 }, (_, index) => `file${index}`)]);
    for (let index = 0; index < 50; index++) kernel.unlink(ROOT, `file${index}`);
    const { inodes } = kernel.free();
    for (const [node, count] of counts) kernel.forget(node, count - 1);
    expect(kernel.free().inodes).toBe(inodes);
    for (const node of counts.keys()) kernel.forget(node);
    expect(kernel.free().inodes).toBe(inodes + 50);
  });

  test('a forgotten file with a name is found again under the same node, and the root is never freed', async () => {
    const kernel = await MemoryKernel.start();
    const { node } = kernel.mknod(ROOT, 'f', 0o100644);
    kernel.forget(node);
    kernel.forget(ROOT, 5);
    expect(kernel.lookup(ROOT, 'f')).toMatchObject({ node });
  });
});

describe('names', () => {
  test('cookies stay valid while names come and go, also when the order is swept', async () => {
    const kernel = await MemoryKernel.start();
    const all = Array.from({ length: 100 }, (_, index) => `f${index}`);
    for (const name of all) kernel.mknod(ROOT, name, 0o100644);
    const page = kernel.list(ROOT, 0, 5000);
    const seen = page.map(({ name }) => name);
    const kept = ['f60', 'f77', 'f99'];
    for (const name of all) if (!kept.includes(name)) kernel.unlink(ROOT, name);
    kernel.mknod(ROOT, 'new', 0o100644);
    const rest = kernel.list(ROOT, page.at(-1)!.cookie).map(({ name }) => name);
    expect(seen.slice(0, 4)).toEqual(['.', '..', 'f0', 'f1']);
    expect(rest).toEqual([...kept, 'new']);
    const left = kernel.list(ROOT, 1);
    expect(left.map(({ name }) => name)).toEqual(['..', ...kept, 'new']);
    // A cookie is never used again, and a name that came later stands later.
    expect(left.map(({ cookie }) => cookie)).toEqual([2, 63, 80, 102, 103]);
  });

  test('a name that is replaced keeps its place in a listing', async () => {
    const kernel = await MemoryKernel.start();
    for (const name of ['a', 'b', 'c']) kernel.mknod(ROOT, name, 0o100644);
    const before = kernel.list(ROOT);
    kernel.rename(ROOT, 'c', ROOT, 'a');
    const after = kernel.list(ROOT);
    expect(after.map(({ name }) => name)).toEqual(['.', '..', 'a', 'b']);
    expect(after.map(({ cookie }) => cookie)).toEqual(before.slice(0, 4).map(({ cookie }) => cookie));
    expect(after[2].node).toBe(before[4].node);
  });

  test('any byte may stand in a name, 255 of them and no more', async () => {
    const kernel = await MemoryKernel.start();
    const name = '\xff\xfe\x01';
    kernel.mknod(ROOT, name, 0o100644);
    expect(names(kernel)).toContain(name);
    kernel.mknod(ROOT, 'n'.repeat(255), 0o100644);
    expect(() => kernel.mknod(ROOT, 'n'.repeat(256), 0o100644)).toThrow('ENAMETOOLONG');
  });

  test('every type can be made, with its device number', async () => {
    const kernel = await MemoryKernel.start();
    for (const type of [0o100000, 0o010000, 0o140000, 0o020000, 0o060000]) {
      const { stat } = kernel.mknod(ROOT, `t${type}`, type | 0o640, 0x10203);
      expect(stat).toMatchObject({ mode: type | 0o640, nlink: 1, rdev: 0x10203, size: 0 });
    }
    const link = kernel.symlink(ROOT, 'l', 'over/there');
    expect(link.stat).toMatchObject({ mode: 0o120777, size: 10 });
    expect(text(kernel.ask('READLINK', link.node).body)).toBe('over/there');
  });

  test('links of directories are counted through making, moving, exchanging and removing', async () => {
    const kernel = await MemoryKernel.start();
    const nlink = (node: number) => kernel.stat(node).nlink;
    const one = kernel.mkdir(ROOT, 'one').node;
    const two = kernel.mkdir(ROOT, 'two').node;
    kernel.mkdir(one, 'd');
    kernel.mknod(two, 'f', 0o100644);
    expect([nlink(ROOT), nlink(one), nlink(two)]).toEqual([4, 3, 2]);
    kernel.rename(one, 'd', two, 'f', 2);
    expect([nlink(ROOT), nlink(one), nlink(two)]).toEqual([4, 2, 3]);
    expect([names(kernel, one), names(kernel, two)]).toEqual([
      ['.', '..', 'd'],
      ['.', '..', 'f'],
    ]);
    kernel.rename(two, 'f', ROOT, 'moved');
    expect([nlink(ROOT), nlink(two)]).toEqual([5, 2]);
    const gone = kernel.lookup(ROOT, 'two')!.node;
    kernel.rename(ROOT, 'moved', ROOT, 'two');
    expect([nlink(ROOT), nlink(gone)]).toEqual([4, 0]);
    expect(() => kernel.mkdir(gone, 'late')).toThrow('ENOENT');
  });

  test('what cannot be removed, replaced or made again', async () => {
    const kernel = await MemoryKernel.start();
    const folder = kernel.mkdir(ROOT, 'd').node;
    const inner = kernel.mkdir(folder, 'inner').node;
    const file = kernel.mknod(ROOT, 'f', 0o100644).node;
    kernel.mkdir(ROOT, 'empty');
    expect(() => kernel.rmdir(ROOT, 'd')).toThrow('ENOTEMPTY');
    expect(() => kernel.rmdir(ROOT, 'f')).toThrow('ENOTDIR');
    expect(() => kernel.unlink(ROOT, 'd')).toThrow('EISDIR');
    expect(() => kernel.unlink(ROOT, 'absent')).toThrow('ENOENT');
    expect(() => kernel.mkdir(ROOT, 'f')).toThrow('EEXIST');
    expect(() => kernel.mkdir(file, 'x')).toThrow('ENOTDIR');
    expect(() => kernel.link(folder, ROOT, 'hard')).toThrow('EPERM');
    expect(() => kernel.link(file, ROOT, 'd')).toThrow('EEXIST');
    expect(() => kernel.rename(ROOT, 'f', ROOT, 'd')).toThrow('EISDIR');
    expect(() => kernel.rename(ROOT, 'd', ROOT, 'f')).toThrow('ENOTDIR');
    expect(() => kernel.rename(ROOT, 'empty', ROOT, 'd')).toThrow('ENOTEMPTY');
    expect(() => kernel.rename(ROOT, 'd', inner, 'x')).toThrow('EINVAL');
    expect(() => kernel.rename(ROOT, 'd', folder, 'inner', 2)).toThrow('EINVAL');
    expect(() => kernel.rename(folder, 'inner', ROOT, 'd', 2)).toThrow('EINVAL');
    expect(() => kernel.rename(ROOT, 'f', ROOT, 'd', 1)).toThrow('EEXIST');
    expect(() => kernel.rename(ROOT, 'f', ROOT, 'absent', 2)).toThrow('ENOENT');
    expect(() => kernel.rename(ROOT, 'f', ROOT, 'x', 8)).toThrow('EINVAL');
    expect(() => kernel.rename(ROOT, 'f', ROOT, 'x', 3)).toThrow('EINVAL');
    expect(names(kernel)).toEqual(['.', '..', 'd', 'f', 'empty']);
  });

  test('a whiteout takes the old place, and two names of one file do not replace each other', async () => {
    const kernel = await MemoryKernel.start();
    const { node } = kernel.mknod(ROOT, 'f', 0o100644);
    kernel.rename(ROOT, 'f', ROOT, 'g', 4);
    expect(kernel.lookup(ROOT, 'g')).toMatchObject({ node });
    expect(kernel.lookup(ROOT, 'f')!.stat).toMatchObject({ mode: 0o020000, rdev: 0 });
    kernel.link(node, ROOT, 'h');
    kernel.rename(ROOT, 'g', ROOT, 'h');
    expect(names(kernel)).toEqual(['.', '..', 'f', 'g', 'h']);
    expect(kernel.stat(node).nlink).toBe(2);
  });

  test('a temporary file has no name until it is linked, and open with O_CREAT finds what is there', async () => {
    const kernel = await MemoryKernel.start();
    const before = kernel.free();
    const { node, stat, handle } = kernel.tmpfile(ROOT);
    expect(stat.nlink).toBe(0);
    expect(kernel.link(node, ROOT, 'named').stat.nlink).toBe(1);
    expect(kernel.create(ROOT, 'named').node).toBe(node);
    expect(() => kernel.create(ROOT, 'named', 0o644, { flags: 0o200 | 2 })).toThrow('EEXIST');
    kernel.release(node, handle);
    const other = kernel.tmpfile(ROOT);
    kernel.forget(other.node);
    kernel.release(other.node, other.handle);
    expect(kernel.free().inodes).toBe(before.inodes - 1);
  });
});

describe('what a new file belongs to', () => {
  test('the caller; in a set-group-id directory to its group, which directories pass on', async () => {
    const kernel = await MemoryKernel.start();
    const folder = kernel.mkdir(ROOT, 'd', 0o777).node;
    kernel.setattr(folder, 0x4 | 0x1, { gid: 50, mode: 0o2777 });
    const caller = { uid: 1000, gid: 1000 };
    expect(kernel.create(ROOT, 'plain', 0o644, caller).stat).toMatchObject({ uid: 1000, gid: 1000 });
    expect(kernel.create(folder, 'f', 0o2755, caller).stat).toMatchObject({ uid: 1000, gid: 50, mode: 0o100755 });
    expect(kernel.create(folder, 'mine', 0o2755, { uid: 1000, gid: 50 }).stat.mode).toBe(0o102755);
    expect(kernel.create(folder, 'lock', 0o2745, caller).stat.mode).toBe(0o102745);
    expect(kernel.mkdir(folder, 'sub', 0o755, caller).stat).toMatchObject({ gid: 50, mode: 0o042755 });
  });

  test('the umask is taken off, unless a default ACL stands in for it', async () => {
    const kernel = await MemoryKernel.start();
    const folder = kernel.mkdir(ROOT, 'd', 0o777, { umask: 0o022 });
    expect(folder.stat.mode).toBe(0o040755);
    kernel.setxattr(folder.node, 'system.posix_acl_default', acl([1, 7], [2, 6, 7], [4, 5], [0x10, 7], [0x20, 0]));
    const { node, stat } = kernel.create(folder.node, 'f', 0o666, { umask: 0o077 });
    expect(stat.mode).toBe(0o100660);
    expect(kernel.getxattr(node, 'system.posix_acl_access')).toEqual(acl([1, 6], [2, 6, 7], [4, 5], [0x10, 6], [0x20, 0]));
    expect(kernel.listxattr(node)).toEqual(['system.posix_acl_access']);
    const sub = kernel.mkdir(folder.node, 'sub', 0o777, { umask: 0o077 });
    expect(kernel.listxattr(sub.node)).toEqual(['system.posix_acl_access', 'system.posix_acl_default']);
  });
});

/** An ACL as its attribute: tag, permissions and, for users and groups, an id. */
function acl(...entries: [tag: number, permissions: number, id?: number][]): Uint8Array {
  return body(2, ...entries.flatMap(([tag, permissions, id = 0xffff_ffff]) => [tag | (permissions << 16), id]));
}

describe('contents', () => {
  const DATA = 3;
  const HOLE = 4;

  test('holes cost nothing, read as zeros and are told from data', async () => {
    const kernel = await MemoryKernel.start();
    const { node } = kernel.create(ROOT, 'f');
    kernel.write(node, 2 ** 40, 'far');
    expect(kernel.stat(node)).toMatchObject({ size: 2 ** 40 + 3, blocks: 8 });
    expect(kernel.read(node, 12_345, 5000)).toEqual(new Uint8Array(5000));
    expect(kernel.seek(node, 0, DATA)).toBe(2 ** 40);
    expect(kernel.seek(node, 0, HOLE)).toBe(0);
    expect(kernel.seek(node, 2 ** 40 + 1, HOLE)).toBe(2 ** 40 + 3);
    expect(() => kernel.seek(node, 2 ** 40 + 3, DATA)).toThrow('ENXIO');
    expect(kernel.read(node, 2 ** 40 + 3, 100)).toHaveLength(0);
  });

  test('fallocate: with and without size, a hole, zeros, and what it cannot do', async () => {
    const kernel = await MemoryKernel.start();
    const { node } = kernel.create(ROOT, 'f');
    kernel.write(node, 0, 'x'.repeat(20_000));
    kernel.fallocate(node, 1, 30_000, 10_000);
    expect(kernel.stat(node)).toMatchObject({ size: 20_000, blocks: 8 * 8 });
    expect(() => kernel.seek(node, 20_000, DATA)).toThrow('ENXIO');
    kernel.fallocate(node, 3, 4000, 10_000);
    expect(kernel.stat(node)).toMatchObject({ size: 20_000, blocks: 8 * 6 });
    expect(text(kernel.read(node, 0, 20_000))).toBe('x'.repeat(4000) + '\0'.repeat(10_000) + 'x'.repeat(6000));
    kernel.fallocate(node, 0x10, 0, 40_001);
    expect(kernel.stat(node)).toMatchObject({ size: 40_001, blocks: 8 * 10 });
    expect(kernel.read(node, 0, 40_001)).toEqual(new Uint8Array(40_001));
    expect(() => kernel.fallocate(node, 8, 0, 4096)).toThrow('EOPNOTSUPP');
    expect(() => kernel.fallocate(node, 2, 0, 4096)).toThrow('EOPNOTSUPP');
  });

  test('what was cut off does not come back', async () => {
    const kernel = await MemoryKernel.start();
    const { node } = kernel.create(ROOT, 'f');
    kernel.write(node, 0, 'secret');
    kernel.setattr(node, 8, { size: 2 });
    kernel.setattr(node, 8, { size: 10 });
    expect(text(kernel.read(node, 0, 100))).toBe('se\0\0\0\0\0\0\0\0');
    kernel.open(node, 0o1000 | 2);
    expect(kernel.stat(node)).toMatchObject({ size: 0, blocks: 0 });
  });

  test('copies between files and within one', async () => {
    const kernel = await MemoryKernel.start({ copy: 4096 });
    const from = kernel.create(ROOT, 'from').node;
    const to = kernel.create(ROOT, 'to').node;
    kernel.write(from, 0, 'abcdefgh'.repeat(1000));
    expect(kernel.copy(from, 1, to, 10, 5)).toBe(5);
    expect(text(kernel.read(to, 0, 100))).toBe(`${'\0'.repeat(10)}bcdef`);
    expect(kernel.copy(from, 0, to, 0, 100_000)).toBe(4096);
    expect(kernel.copy(from, 7998, to, 0, 100)).toBe(2);
    expect(kernel.copy(from, 8000, to, 0, 100)).toBe(0);
    expect(kernel.copy(from, 0, from, 8000, 8)).toBe(8);
    expect(kernel.stat(from).size).toBe(8008);
    expect(() => kernel.copy(from, 0, from, 7, 8)).toThrow('EINVAL');
  });

  test('a full filesystem takes what fits, then ENOSPC; an allocation takes all or nothing', async () => {
    const kernel = await MemoryKernel.start({ size: 4 * 4096, inodes: 3 });
    const { node } = kernel.create(ROOT, 'f');
    expect(() => kernel.fallocate(node, 0, 0, 5 * 4096)).toThrow('ENOSPC');
    expect(kernel.free().pages).toBe(4);
    expect(() => kernel.fallocate(node, 0, 0, 2 ** 50)).toThrow('ENOSPC');
    expect(kernel.write(node, 100, 'x'.repeat(20_000))).toBe(4 * 4096 - 100);
    expect(kernel.stat(node).size).toBe(4 * 4096);
    expect(() => kernel.write(node, 4 * 4096, 'x')).toThrow('ENOSPC');
    expect(kernel.write(node, 0, 'over')).toBe(4);
    kernel.mknod(ROOT, 'second', 0o100644);
    expect(() => kernel.mknod(ROOT, 'third', 0o100644)).toThrow('ENOSPC');
    expect(names(kernel)).toEqual(['.', '..', 'f', 'second']);
  });

  test('file data agrees with plain bytes, and gives back every page', () => {
    const max = 40_000;
    const position = fc.oneof(
      fc.nat(max),
      fc.nat(9).map((page) => page * 4096),
    );
    const step = fc.record({
      kind: fc.constantFrom('write', 'punch', 'allocate', 'truncate', 'seek'),
      at: position,
      length: position,
      byte: fc.nat(255),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const store = new PageStore(1 << 20);
        const file = new FileData(store);
        const model = new Uint8Array(2 * max);
        let size = 0;
        for (const { kind, at, length, byte } of steps) {
          const end = at + length;
          if (kind === 'write') {
            expect(file.write(new Uint8Array(length).fill(byte), at)).toBe(length);
            model.fill(byte, at, end);
            if (length > 0) size = Math.max(size, end);
          } else if (kind === 'punch' && length > 0) {
            file.punch(at, end);
            model.fill(0, at, end);
          } else if (kind === 'allocate' && length > 0) {
            file.allocate(at, end);
          } else if (kind === 'truncate') {
            file.truncate(at);
            model.fill(0, at);
            size = at;
          } else if (kind === 'seek' && at < size) {
            expect(file.seekHole(at)).toBeLessThanOrEqual(size);
          }
          const back = new Uint8Array(2 * max);
          expect(file.size).toBe(size);
          expect(file.read(back, 0)).toBe(size);
          expect(Buffer.compare(back, model)).toBe(0);
          expect(store.pagesUsed * 8).toBe(file.blocks);
        }
        file.truncate(0);
        expect(store.pagesUsed).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  test('the store hands out no page twice and forgets slabs that nobody uses', () => {
    const store = new PageStore(1000 * 4096);
    const pages = Array.from({ length: 1000 }, () => store.take());
    expect(new Set(pages).size).toBe(1000);
    expect(() => store.take()).toThrow('ENOSPC');
    for (const page of pages) store.bytes(page).fill(1);
    for (const page of pages) store.give(page);
    expect(store.pagesFree).toBe(1000);
    const again = Array.from({ length: 1000 }, () => store.take());
    expect(new Set(again).size).toBe(1000);
    expect(again.every((page) => store.bytes(page).every((byte) => byte === 0))).toBe(true);
  });
});

describe('attributes', () => {
  test('times are exact to the nanosecond, before 1970 too', async () => {
    const kernel = await MemoryKernel.start();
    const { node } = kernel.create(ROOT, 'f');
    const stat = kernel.setattr(node, 0x30, { atime: -5, atimeNs: 999_999_999, mtime: 2 ** 35, mtimeNs: 1 });
    expect([stat.atime, stat.mtime]).toEqual(['-5.999999999', `${2 ** 35}.1`]);
    const now = kernel.setattr(node, 0x1b0, {});
    expect(now.atime).toBe(now.ctime);
    expect(now.mtime).toBe(now.ctime);
    expect(Math.abs(Number(now.ctime.split('.')[0]) * 1000 - Date.now())).toBeLessThan(2000);
  });

  test('each operation moves the times that POSIX names, and no others', async () => {
    const kernel = await MemoryKernel.start();
    const { node } = kernel.create(ROOT, 'f');
    const old = { atime: 1, mtime: 1 };
    /** Which times of the file and of the root moved. */
    const moved = (action: () => void): string => {
      const of = (target: number) => {
        const before = kernel.setattr(target, 0x30, old);
        return () => {
          const after = kernel.stat(target);
          return [after.atime !== before.atime && 'a', after.mtime !== before.mtime && 'm', after.ctime !== before.ctime && 'c']
            .filter(Boolean)
            .join('');
        };
      };
      const file = of(node);
      const root = of(ROOT);
      action();
      return `${file()}/${root()}`;
    };
    expect(moved(() => kernel.write(node, 0, 'text'))).toBe('mc/');
    expect(moved(() => kernel.read(node, 0, 10))).toBe('a/');
    expect(moved(() => kernel.read(node, 0, 10, 0o1000000))).toBe('/');
    expect(moved(() => kernel.list(ROOT))).toBe('/a');
    expect(moved(() => kernel.lookup(ROOT, 'f'))).toBe('/');
    expect(moved(() => kernel.setattr(node, 1, { mode: 0o600 }))).toBe('c/');
    expect(moved(() => kernel.setattr(node, 8, { size: 4 }))).toBe('/');
    expect(moved(() => kernel.setattr(node, 8, { size: 5 }))).toBe('mc/');
    expect(moved(() => kernel.link(node, ROOT, 'g'))).toBe('c/mc');
    expect(moved(() => kernel.rename(ROOT, 'g', ROOT, 'h'))).toBe('c/mc');
    expect(moved(() => kernel.unlink(ROOT, 'h'))).toBe('c/mc');
    expect(moved(() => kernel.setxattr(node, 'user.a', 'x'))).toBe('c/');
    expect(moved(() => kernel.ask('REMOVEXATTR', node, ['user.a\0']))).toBe('c/');
    expect(moved(() => kernel.fallocate(node, 0, 0, 10))).toBe('mc/');
    expect(moved(() => kernel.open(node, 0o1000))).toBe('mc/');
    expect(moved(() => kernel.mknod(ROOT, 'other', 0o100644))).toBe('/mc');
  });

  test('set-id bits and capabilities go when the kernel says so, mandatory locking stays', async () => {
    const kernel = await MemoryKernel.start();
    const { node } = kernel.create(ROOT, 'f');
    const prepare = (mode: number) => {
      kernel.setattr(node, 1, { mode });
      kernel.setxattr(node, 'security.capability', 'caps');
    };
    prepare(0o6755);
    kernel.write(node, 0, 'x');
    expect(kernel.stat(node).mode).toBe(0o106755);
    kernel.write(node, 0, 'x', 4);
    expect(kernel.stat(node).mode).toBe(0o100755);
    expect(kernel.listxattr(node)).toEqual([]);
    prepare(0o6745);
    expect(kernel.setattr(node, 0x808, { size: 0 }).mode).toBe(0o102745);
    prepare(0o6755);
    expect(kernel.setattr(node, 0x806, { uid: 5, gid: 6 })).toMatchObject({ mode: 0o100755, uid: 5, gid: 6 });
    prepare(0o4755);
    expect(kernel.setattr(node, 0, {}).mode).toBe(0o100755);
    prepare(0o4755);
    kernel.open(node, 0o1000 | 2, 1);
    expect(kernel.stat(node).mode).toBe(0o100755);
  });

  test('statx tells the time of birth', async () => {
    const kernel = await MemoryKernel.start();
    const { node, stat } = kernel.create(ROOT, 'f');
    kernel.write(node, 0, 'x');
    const { body: bytes } = kernel.ask('STATX', node, [0, 0, 0n, 0, 0xfff, 0, 0]);
    expect(word(bytes, 32) & 0x800).toBe(0x800);
    expect(`${long(bytes, 32 + 80)}.${word(bytes, 32 + 88)}`).toBe(stat.ctime);
  });

  test('extended attributes: namespaces, flags, the limit, and what others do not see', async () => {
    const kernel = await MemoryKernel.start({ xattrs: 1000 });
    const { node } = kernel.create(ROOT, 'f');
    kernel.setxattr(node, 'user.a', 'one', 1);
    expect(() => kernel.setxattr(node, 'user.a', 'two', 1)).toThrow('EEXIST');
    expect(() => kernel.setxattr(node, 'user.b', 'two', 2)).toThrow('ENODATA');
    kernel.setxattr(node, 'user.a', 'two', 2);
    kernel.setxattr(node, 'trusted.t', '');
    kernel.setxattr(node, 'user.\xff', '\0\xff');
    expect(text(kernel.getxattr(node, 'user.a'))).toBe('two');
    expect(kernel.getxattr(node, 'trusted.t')).toHaveLength(0);
    expect(kernel.listxattr(node)).toEqual(['user.a', 'trusted.t', 'user.\xff']);
    expect(kernel.listxattr(node, { uid: 1000 })).toEqual(['user.a', 'user.\xff']);
    for (const name of ['nonsense.a', 'user.', 'system.other']) {
      expect(() => kernel.setxattr(node, name, 'x')).toThrow('EOPNOTSUPP');
      expect(() => kernel.getxattr(node, name)).toThrow('EOPNOTSUPP');
    }
    expect(() => kernel.setxattr(node, 'user.big', 'x'.repeat(1000))).toThrow('ENOSPC');
    kernel.setxattr(node, 'user.big', 'x'.repeat(900));
    kernel.setxattr(node, 'user.big', 'y'.repeat(900));
    expect(() => kernel.ask('REMOVEXATTR', node, ['user.absent\0'])).toThrow('ENODATA');
  });

  test('an access ACL and the permission bits follow each other', async () => {
    const kernel = await MemoryKernel.start();
    const { node } = kernel.create(ROOT, 'f', 0o2640);
    const ACCESS = 'system.posix_acl_access';
    kernel.setxattr(node, ACCESS, acl([1, 6], [2, 6, 7], [4, 0], [0x10, 6], [0x20, 4]), 0, 1);
    expect(kernel.stat(node).mode).toBe(0o100664);
    expect(kernel.setattr(node, 1, { mode: 0o700 }).mode).toBe(0o100700);
    expect(kernel.getxattr(node, ACCESS)).toEqual(acl([1, 7], [2, 6, 7], [4, 0], [0x10, 0], [0x20, 0]));
    // What permission bits can say is not kept as an ACL.
    kernel.setxattr(node, ACCESS, acl([1, 4], [4, 2], [0x20, 1]));
    expect(kernel.stat(node).mode).toBe(0o100421);
    expect(() => kernel.getxattr(node, ACCESS)).toThrow('ENODATA');
    for (const [bad, errno] of [
      [new Uint8Array(3), 'EINVAL'],
      [acl([1, 4]), 'EINVAL'],
      [body(3), 'EOPNOTSUPP'],
    ] as const) {
      expect(() => kernel.setxattr(node, ACCESS, bad)).toThrow(errno);
    }
    expect(() => kernel.setxattr(node, 'system.posix_acl_default', acl([1, 4], [4, 2], [0x20, 1]))).toThrow('EACCES');
  });
});

describe('locks', () => {
  const READ = 0;
  const WRITE = 1;
  const UNLOCK = 2;

  async function withFile() {
    const kernel = await MemoryKernel.start();
    return { kernel, node: kernel.create(ROOT, 'f').node };
  }

  test('ranges split, join and conflict', async () => {
    const { kernel, node } = await withFile();
    const lock = (owner: number, type: 0 | 1 | 2, start: number, end: number | 'eof') =>
      kernel.outcome(kernel.lock(node, owner, type, start, end));
    expect(lock(1, WRITE, 0, 99)).toBe('ok');
    expect(lock(1, READ, 20, 29)).toBe('ok');
    expect(lock(1, UNLOCK, 40, 49)).toBe('ok');
    expect(kernel.lockInTheWay(node, 2, READ, 0, 'eof')).toEqual([WRITE, 0, 19, 1001]);
    expect(kernel.lockInTheWay(node, 2, WRITE, 20, 39)).toEqual([READ, 20, 29, 1001]);
    expect(kernel.lockInTheWay(node, 2, READ, 20, 29)).toEqual([UNLOCK, 0, 0, 0]);
    expect(kernel.lockInTheWay(node, 2, WRITE, 45, 45)[0]).toBe(UNLOCK);
    expect(lock(2, WRITE, 40, 49)).toBe('ok');
    expect(lock(2, WRITE, 40, 50)).toBe('EAGAIN');
    expect(lock(1, WRITE, 20, 29)).toBe('ok');
    expect(kernel.lockInTheWay(node, 2, READ, 10, 10)).toEqual([WRITE, 0, 39, 1001]);
    expect(lock(1, WRITE, 1000, 'eof')).toBe('ok');
    expect(kernel.lockInTheWay(node, 3, READ, 2 ** 40, 'eof')).toEqual([WRITE, 1000, 'eof', 1001]);
  });

  test('who waits gets the lock when it is free, in the order of asking', async () => {
    const { kernel, node } = await withFile();
    kernel.lock(node, 1, WRITE, 0, 9);
    const second = kernel.lock(node, 2, WRITE, 5, 9, { wait: true });
    const third = kernel.lock(node, 3, READ, 0, 4, { wait: true });
    const fourth = kernel.lock(node, 4, READ, 5, 5, { wait: true });
    await turn();
    expect([second, third, fourth].map((unique) => kernel.outcome(unique))).toEqual(['waiting', 'waiting', 'waiting']);
    // A write lock that becomes a read lock lets readers in.
    kernel.lock(node, 1, READ, 0, 4);
    await turn();
    expect([second, third, fourth].map((unique) => kernel.outcome(unique))).toEqual(['waiting', 'ok', 'waiting']);
    kernel.ask('FLUSH', node, [1n, 0, 0, 1n]);
    await turn();
    expect([second, fourth].map((unique) => kernel.outcome(unique))).toEqual(['ok', 'waiting']);
    kernel.lock(node, 2, UNLOCK, 0, 'eof');
    await turn();
    expect(kernel.outcome(fourth)).toBe('ok');
  });

  test('an interrupt ends the wait, and nothing is left of it', async () => {
    const { kernel, node } = await withFile();
    kernel.lock(node, 1, WRITE, 0, 9);
    const waiting = kernel.lock(node, 2, WRITE, 0, 9, { wait: true });
    kernel.begin('INTERRUPT', 0, [BigInt(waiting)], { unique: waiting | 1 });
    await turn();
    expect(kernel.outcome(waiting)).toBe('EINTR');
    kernel.lock(node, 1, UNLOCK, 0, 'eof');
    await turn();
    expect(kernel.lockInTheWay(node, 3, WRITE, 0, 'eof')[0]).toBe(UNLOCK);
  });

  test('a circle of waiters is refused, over several files', async () => {
    const { kernel, node } = await withFile();
    const other = kernel.create(ROOT, 'g').node;
    kernel.lock(node, 1, WRITE, 0, 0);
    kernel.lock(node, 2, WRITE, 1, 1);
    kernel.lock(other, 3, WRITE, 0, 0);
    const first = kernel.lock(node, 1, WRITE, 1, 1, { wait: true });
    const second = kernel.lock(other, 2, WRITE, 0, 0, { wait: true });
    const third = kernel.lock(node, 3, READ, 0, 0, { wait: true });
    await turn();
    expect([first, second, third].map((unique) => kernel.outcome(unique))).toEqual(['waiting', 'waiting', 'EDEADLK']);
  });

  test('flock is another kind: it belongs to an opening, and a conversion gives up what it had', async () => {
    const { kernel, node } = await withFile();
    const one = kernel.open(node);
    const two = kernel.open(node);
    const flock = (handle: bigint, type: 0 | 1 | 2, wait = false) =>
      kernel.lock(node, 100 + Number(handle), type, 0, 'eof', { flock: true, handle, wait });
    kernel.lock(node, 1, WRITE, 0, 'eof');
    expect(kernel.outcome(flock(one, READ))).toBe('ok');
    expect(kernel.outcome(flock(two, READ))).toBe('ok');
    expect(kernel.outcome(flock(one, WRITE))).toBe('EAGAIN');
    expect(kernel.outcome(flock(two, WRITE))).toBe('ok');
    const waiting = flock(one, READ, true);
    await turn();
    expect(kernel.outcome(waiting)).toBe('waiting');
    kernel.release(node, two);
    await turn();
    expect(kernel.outcome(waiting)).toBe('ok');
  });

  test('an open file description lock ends with its opening, and no flush takes it away', async () => {
    const { kernel, node } = await withFile();
    const handle = kernel.open(node);
    kernel.lock(node, 77, WRITE, 0, 'eof', { handle });
    kernel.ask('FLUSH', node, [handle, 0, 0, 5n]);
    expect(kernel.lockInTheWay(node, 2, READ, 0, 0)[0]).toBe(WRITE);
    kernel.release(node, handle);
    expect(kernel.lockInTheWay(node, 2, READ, 0, 0)[0]).toBe(UNLOCK);
  });
});

describe('options', () => {
  const refusal = (make: () => unknown): string => {
    try {
      make();
    } catch (error) {
      expect(error).toBeInstanceOf(MemoryError);
      return `${(error as MemoryError).code}: ${(error as MemoryError).message}`;
    }
    return 'accepted';
  };

  test('several workers are refused with the way out', () => {
    expect(refusal(() => memory({ workers: 2, options: {}, shared: shared() }))).toBe(
      'ERR_FUSEWIRE_WORKERS: the memory filesystem lives in one thread and cannot be shared by 2 workers; mount it with --workers 1',
    );
    expect(refusal(() => memory({ workers: 1, options: {}, shared: shared() }))).toBe('accepted');
  });

  test('words of the command line have units and win; what is wrong is named', () => {
    expect(completeOptions({ inodes: 5, arguments: ['size=2m', 'inodes=10k', 'mode=1777'] })).toMatchObject({
      size: 2 << 20,
      inodes: 10 << 10,
      mode: 0o1777,
    });
    expect(refusal(() => completeOptions({ arguments: ['sise=1m'] }))).toMatch(
      /^ERR_FUSEWIRE_OPTION: sise=1m is no option; write NAME=NUMBER/,
    );
    expect(refusal(() => completeOptions({ arguments: ['size=big'] }))).toMatch(/size=big is no option/);
    expect(refusal(() => completeOptions({ size: 100 }))).toMatch(/size is a whole number from 4096 to \d+, not 100/);
    expect(refusal(() => completeOptions({ inodes: 1.5 }))).toMatch(/inodes is a whole number/);
  });

  test('a thread that takes over gives out other numbers than the one before, and starts empty', async () => {
    const lastNode = shared();
    const serve = async () => {
      const kernel = new MemoryKernel(memory({ workers, options: {}, shared: lastNode }));
      await kernel.kernel.init();
      return kernel;
    };
    const before = (await serve()).create(ROOT, 'f').node;
    const after = await serve();
    expect(names(after)).toEqual(['.', '..']);
    expect(() => after.stat(before)).toThrow('ESTALE');
    expect(after.create(ROOT, 'f').node).toBeGreaterThan(before);
  });

  test('the mode of the root is an option', async () => {
    const kernel = await MemoryKernel.start({ mode: 0o1777, uid: 7, gid: 8 });
    expect(kernel.stat(ROOT)).toMatchObject({ mode: 0o041777, uid: 7, gid: 8, nlink: 2 });
  });
});
