/** rename(2) and renameat2(2). */

import type { PosixFeature } from '../../posix.ts';
import type { Stage } from '../case.ts';
import { type ConformanceMap, each, fails, family, holds, same, test, text } from '../case.ts';
import {
  O_DIRECTORY,
  O_RDONLY,
  O_RDWR,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from '../linux.ts';

interface Kind {
  readonly name: string;
  readonly type: number;
  readonly needs: PosixFeature;
  readonly make: (s: Stage, path: string) => Promise<void>;
}

const KINDS: readonly Kind[] = [
  { name: 'a file', type: S_IFREG, needs: 'writing', make: (s, path) => s.file(path, path) },
  { name: 'a symbolic link', type: S_IFLNK, needs: 'symlinks', make: (s, path) => s.p.symlink('x', path) },
  { name: 'a FIFO', type: S_IFIFO, needs: 'fifos', make: (s, path) => s.p.mknod(path, S_IFIFO | 0o600) },
  { name: 'a directory', type: S_IFDIR, needs: 'writing', make: (s, path) => s.p.mkdir(path) },
];
const isDirectory = (kind: Kind) => kind.type === S_IFDIR;
const PAIRS = KINDS.flatMap((from) => KINDS.map((to) => [from, to] as const));

const plain: ConformanceMap = {
  ...each(
    KINDS,
    ({ name }) => `${name} gets another name`,
    ({ type, needs, make }) =>
      test([needs], async (s) => {
        await make(s, '/a');
        const { ino } = await s.p.lstat('/a');
        await s.p.rename('/a', '/b');
        await fails('ENOENT', s.p.lstat('/a'));
        const stat = await s.p.lstat('/b');
        same([stat.mode & S_IFMT, stat.ino], [type, ino], 'type, ino');
        same(await s.names('/'), ['b'], 'names');
      }),
  ),
  ...each(
    KINDS,
    ({ name }) => `${name} goes to another directory`,
    ({ type, needs, make }) =>
      test([needs], async (s) => {
        await s.p.mkdir('/from');
        await s.p.mkdir('/to');
        await make(s, '/from/a');
        await s.p.rename('/from/a', '/to/b');
        same((await s.p.lstat('/to/b')).mode & S_IFMT, type, 'type');
        same(await s.names('/from'), [], 'names in the old directory');
        same(await s.names('/to'), ['b'], 'names in the new directory');
      }),
  ),
  ...each(
    PAIRS,
    ([from, to]) => {
      const error = isDirectory(from) === isDirectory(to) ? undefined : isDirectory(from) ? 'ENOTDIR' : 'EISDIR';
      return `${from.name} over ${to.name}${isDirectory(to) && isDirectory(from) ? ' that is empty' : ''} ${error ? `is ${error}` : 'replaces it'}`;
    },
    ([from, to]) =>
      test([from.needs, to.needs], async (s) => {
        await from.make(s, '/a');
        await to.make(s, '/b');
        if (isDirectory(from) === isDirectory(to)) {
          await s.p.rename('/a', '/b');
          same((await s.p.lstat('/b')).mode & S_IFMT, from.type, 'type');
          same(await s.names('/'), ['b'], 'names');
        } else {
          await fails(isDirectory(from) ? 'ENOTDIR' : 'EISDIR', s.p.rename('/a', '/b'));
          same(await s.names('/'), ['a', 'b'], 'names');
        }
      }),
  ),
};

const trees: ConformanceMap = {
  'a file takes its contents along': test([], async (s) => {
    await s.file('/a', 'contents');
    await s.p.rename('/a', '/b');
    same(await s.contents('/b'), 'contents', 'contents');
  }),
  'a replaced file is gone': test([], async (s) => {
    await s.file('/a', 'new');
    await s.file('/b', 'old');
    await s.p.rename('/a', '/b');
    same(await s.contents('/b'), 'new', 'contents');
  }),
  'a directory takes its tree along': test([], async (s) => {
    await s.p.mkdir('/a');
    await s.p.mkdir('/a/b');
    await s.file('/a/b/f', 'deep');
    await s.file('/a/g', 'flat');
    await s.p.rename('/a', '/z');
    same([await s.contents('/z/b/f'), await s.contents('/z/g')], ['deep', 'flat'], 'contents');
    await fails('ENOENT', s.p.stat('/a/b/f'));
    await s.file('/z/b/h', 'new');
    same(await s.names('/z/b'), ['f', 'h'], 'names');
  }),
  'an open file below a renamed directory stays open': test([], async (s) => {
    await s.p.mkdir('/a');
    const fd = await s.opened('/a/f', O_RDWR, 'abc');
    await s.p.rename('/a', '/b');
    await s.p.write(fd, new Uint8Array([88]), 1);
    same(await s.contents('/b/f'), 'aXc', 'contents');
  }),
  'an open directory is still listed': test([], async (s) => {
    await s.p.mkdir('/a');
    await s.file('/a/f');
    const fd = await s.p.open('/a', O_RDONLY | O_DIRECTORY);
    await s.p.rename('/a', '/b');
    holds(
      (await s.p.getdents(fd)).some(({ name }) => name === 'f'),
      'f is listed',
    );
  }),
  '.. of a moved directory is its new parent': test([], async ({ p }) => {
    await p.mkdir('/a');
    await p.mkdir('/a/d');
    await p.mkdir('/b');
    await p.rename('/a/d', '/b/d');
    same((await p.stat('/b/d/..')).ino, (await p.stat('/b')).ino, 'ino');
  }),
  'a directory over a full one is ENOTEMPTY': test([], async (s) => {
    await s.p.mkdir('/a');
    await s.p.mkdir('/b');
    await s.file('/b/f');
    await fails(['ENOTEMPTY', 'EEXIST'], s.p.rename('/a', '/b'));
    same(await s.names('/'), ['a', 'b'], 'names');
    same(await s.names('/b'), ['f'], 'names in b');
  }),
  'a full directory over an empty one': test([], async (s) => {
    await s.p.mkdir('/a');
    await s.file('/a/f', 'x');
    await s.p.mkdir('/b');
    await s.p.rename('/a', '/b');
    same(await s.names('/b'), ['f'], 'names');
  }),
  'a directory into itself is EINVAL': test([], async ({ p }) => {
    await p.mkdir('/a');
    await fails('EINVAL', p.rename('/a', '/a/b'));
    await p.mkdir('/a/b');
    await fails('EINVAL', p.rename('/a', '/a/b/c'));
  }),
  'a directory over one of its own ancestors is ENOTEMPTY': test([], async ({ p }) => {
    await p.mkdir('/a');
    await p.mkdir('/a/b');
    await fails(['ENOTEMPTY', 'EEXIST'], p.rename('/a/b', '/a'));
  }),
  'a directory next to one whose name begins alike': test([], async (s) => {
    await s.p.mkdir('/a');
    await s.p.mkdir('/ab');
    await s.p.rename('/a', '/ab/a');
    same(await s.names('/ab'), ['a'], 'names');
  }),
  'links of both parents are counted': test(['nlink-directories'], async ({ p }) => {
    await p.mkdir('/a');
    await p.mkdir('/b');
    await p.mkdir('/a/d');
    same([(await p.stat('/a')).nlink, (await p.stat('/b')).nlink], [3, 2], 'nlink before');
    await p.rename('/a/d', '/b/d');
    same([(await p.stat('/a')).nlink, (await p.stat('/b')).nlink], [2, 3], 'nlink after');
  }),
  'links of the parent after a directory was replaced': test(['nlink-directories'], async ({ p }) => {
    await p.mkdir('/p');
    await p.mkdir('/p/a');
    await p.mkdir('/p/b');
    await p.rename('/p/a', '/p/b');
    same((await p.stat('/p')).nlink, 3, 'nlink');
  }),
};

const edges: ConformanceMap = {
  'to the same name does nothing': test([], async (s) => {
    await s.file('/a', 'x');
    await s.p.rename('/a', '/a');
    same(await s.contents('/a'), 'x', 'contents');
    await s.p.mkdir('/d');
    await s.p.rename('/d', '/d');
    same(await s.names('/'), ['a', 'd'], 'names');
  }),
  'between two names of one file does nothing': test(['hardlinks'], async (s) => {
    await s.file('/a', 'x');
    await s.p.link('/a', '/b');
    await s.p.rename('/a', '/b');
    same(await s.names('/'), ['a', 'b'], 'names');
    same((await s.p.stat('/a')).nlink, 2, 'nlink');
  }),
  'over one of two names takes one link': test(['hardlinks'], async (s) => {
    await s.file('/a', 'a');
    await s.file('/b', 'b');
    await s.p.link('/b', '/c');
    await s.p.rename('/a', '/b');
    same((await s.p.stat('/c')).nlink, 1, 'nlink');
    same(await s.contents('/c'), 'b', 'contents');
  }),
  'a symbolic link itself, not its target': test(['symlinks'], async (s) => {
    await s.file('/f', 'x');
    await s.p.symlink('f', '/l');
    await s.p.rename('/l', '/m');
    same(await s.p.readlink('/m'), 'f', 'target');
    same(await s.names('/'), ['f', 'm'], 'names');
  }),
  'over a symbolic link, not its target': test(['symlinks'], async (s) => {
    await s.file('/f', 'target');
    await s.p.symlink('f', '/l');
    await s.file('/g', 'g');
    await s.p.rename('/g', '/l');
    same([await s.contents('/f'), await s.contents('/l')], ['target', 'g'], 'contents');
    same((await s.p.lstat('/l')).mode & S_IFMT, S_IFREG, 'type');
  }),
  'of a missing name is ENOENT': test([], async (s) => {
    await s.file('/b', 'keep');
    await fails('ENOENT', s.p.rename('/a', '/b'));
    same(await s.contents('/b'), 'keep', 'contents');
  }),
  'into a directory that is not there is ENOENT': test([], async (s) => {
    await s.file('/a');
    await fails('ENOENT', s.p.rename('/a', '/d/a'));
    await s.p.stat('/a');
  }),
  'below a file is ENOTDIR': test([], async (s) => {
    await s.file('/a');
    await s.file('/f');
    await fails('ENOTDIR', s.p.rename('/a', '/f/a'));
    await fails('ENOTDIR', s.p.rename('/f/a', '/b'));
  }),
  'of . and .. is EBUSY': test([], async ({ p }) => {
    await p.mkdir('/d');
    await p.mkdir('/d/e');
    await fails(['EBUSY', 'EINVAL'], p.rename('/d/e/.', '/x'));
    await fails(['EBUSY', 'EINVAL', 'ENOTEMPTY'], p.rename('/d/e/..', '/x'));
  }),
  'a file to a name with a trailing slash is ENOTDIR': test([], async (s) => {
    await s.file('/a');
    await fails('ENOTDIR', s.p.rename('/a', '/b/'));
    same(await s.names('/'), ['a'], 'names');
  }),
  'a directory to a name with a trailing slash': test([], async (s) => {
    await s.p.mkdir('/a');
    await s.p.rename('/a', '/b/');
    same(await s.names('/'), ['b'], 'names');
  }),
  'fifty times back and forth': test([], async (s) => {
    await s.p.mkdir('/d');
    await s.file('/a', 'traveller');
    for (let round = 0; round < 50; round++) {
      await s.p.rename('/a', '/d/b');
      await s.p.rename('/d/b', '/a');
    }
    same(await s.contents('/a'), 'traveller', 'contents');
    same(await s.names('/d'), [], 'names');
  }),
  'a name that was looked up in vain is found afterwards': test([], async (s) => {
    await fails('ENOENT', s.p.stat('/b'));
    await s.file('/a', 'x');
    await s.p.rename('/a', '/b');
    same((await s.p.stat('/b')).size, 1, 'size');
    await fails('ENOENT', s.p.stat('/a'));
  }),
};

const flagged: ConformanceMap = family('flags', {
  'RENAME_NOREPLACE onto a free name': test(['rename-flags'], async (s) => {
    await s.file('/a', 'x');
    await s.p.renameat2('/a', '/b', RENAME_NOREPLACE);
    same(await s.names('/'), ['b'], 'names');
  }),
  ...each(
    KINDS,
    ({ name }) => `RENAME_NOREPLACE onto ${name} is EEXIST`,
    ({ make, needs }) =>
      test(['rename-flags', needs], async (s) => {
        await s.file('/a', 'x');
        await make(s, '/b');
        await fails('EEXIST', s.p.renameat2('/a', '/b', RENAME_NOREPLACE));
        same(await s.names('/'), ['a', 'b'], 'names');
      }),
  ),
  'RENAME_EXCHANGE of two files': test(['rename-flags'], async (s) => {
    await s.file('/a', 'was a');
    await s.file('/b', 'was b');
    const [a, b] = [await s.p.stat('/a'), await s.p.stat('/b')];
    await s.p.renameat2('/a', '/b', RENAME_EXCHANGE);
    same([await s.contents('/a'), await s.contents('/b')], ['was b', 'was a'], 'contents');
    same([(await s.p.stat('/a')).ino, (await s.p.stat('/b')).ino], [b.ino, a.ino], 'ino');
  }),
  'RENAME_EXCHANGE of a file and a full directory in different places': test(['rename-flags'], async (s) => {
    await s.p.mkdir('/d');
    await s.file('/d/f', 'file');
    await s.p.mkdir('/e');
    await s.p.mkdir('/e/g');
    await s.file('/e/g/h', 'inside');
    await s.p.renameat2('/d/f', '/e/g', RENAME_EXCHANGE);
    same(await s.contents('/d/f/h'), 'inside', 'contents of the directory');
    same(await s.contents('/e/g'), 'file', 'contents of the file');
  }),
  'RENAME_EXCHANGE counts links of parents': test(['rename-flags', 'nlink-directories'], async (s) => {
    await s.p.mkdir('/d');
    await s.file('/d/f');
    await s.p.mkdir('/e');
    await s.p.mkdir('/e/g');
    await s.p.renameat2('/d/f', '/e/g', RENAME_EXCHANGE);
    same([(await s.p.stat('/d')).nlink, (await s.p.stat('/e')).nlink], [3, 2], 'nlink');
  }),
  'RENAME_EXCHANGE with a missing name is ENOENT': test(['rename-flags'], async (s) => {
    await s.file('/a');
    await fails('ENOENT', s.p.renameat2('/a', '/b', RENAME_EXCHANGE));
    await fails('ENOENT', s.p.renameat2('/b', '/a', RENAME_EXCHANGE));
  }),
  'RENAME_EXCHANGE of a directory with what is below it is EINVAL': test(['rename-flags'], async ({ p }) => {
    await p.mkdir('/a');
    await p.mkdir('/a/b');
    await fails('EINVAL', p.renameat2('/a', '/a/b', RENAME_EXCHANGE));
    await fails('EINVAL', p.renameat2('/a/b', '/a', RENAME_EXCHANGE));
  }),
  'RENAME_NOREPLACE with RENAME_EXCHANGE is EINVAL': test(['rename-flags'], async (s) => {
    await s.file('/a');
    await s.file('/b');
    await fails('EINVAL', s.p.renameat2('/a', '/b', RENAME_NOREPLACE | RENAME_EXCHANGE));
  }),
  'an unknown flag is EINVAL': test(['rename-flags'], async (s) => {
    await s.file('/a');
    await fails('EINVAL', s.p.renameat2('/a', '/b', 0x4000));
    same(await s.names('/'), ['a'], 'names');
  }),
  'open files survive an exchange': test(['rename-flags'], async (s) => {
    const a = await s.opened('/a', O_RDONLY, 'was a');
    await s.file('/b', 'was b');
    await s.p.renameat2('/a', '/b', RENAME_EXCHANGE);
    same(text(await s.p.read(a, 9)), 'was a', 'contents');
  }),
});

export const renaming = family('rename', { ...plain, ...trees, ...edges, ...flagged });
