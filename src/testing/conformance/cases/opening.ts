/** open(2) and close(2). */
import { bytes, type ConformanceMap, each, fails, family, holds, same, test, text } from '../case.ts';
import {
  O_APPEND,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  S_IFMT,
  S_IFREG,
} from '../linux.ts';

const WAYS = [
  { name: 'O_RDONLY', flags: O_RDONLY, reads: true, writes: false },
  { name: 'O_WRONLY', flags: O_WRONLY, reads: false, writes: true },
  { name: 'O_RDWR', flags: O_RDWR, reads: true, writes: true },
];

const creating: ConformanceMap = {
  'O_CREAT makes an empty regular file': test([], async ({ p }) => {
    const fd = await p.open('/f', O_WRONLY | O_CREAT, 0o644);
    const stat = await p.fstat(fd);
    same([stat.size, stat.mode & S_IFMT, stat.nlink], [0, S_IFREG, 1], 'size, type, nlink');
    same((await p.stat('/f')).ino, stat.ino, 'ino by path and by descriptor');
  }),
  'O_CREAT on a file that is there opens it': test([], async (s) => {
    await s.file('/f', 'old');
    const fd = await s.p.open('/f', O_RDWR | O_CREAT, 0o600);
    same(text(await s.p.read(fd, 10)), 'old', 'contents');
    same((await s.p.fstat(fd)).mode & 0o777, 0o644, 'the mode stays');
  }),
  'O_CREAT | O_EXCL makes a file': test([], async ({ p }) => {
    await p.close(await p.open('/f', O_WRONLY | O_CREAT | O_EXCL));
    same((await p.stat('/f')).size, 0, 'size');
  }),
  'O_CREAT | O_EXCL on a file is EEXIST': test([], async (s) => {
    await s.file('/f', 'keep');
    await fails('EEXIST', s.p.open('/f', O_WRONLY | O_CREAT | O_EXCL | O_TRUNC));
    same(await s.contents('/f'), 'keep', 'contents');
  }),
  'O_CREAT | O_EXCL on a directory is EEXIST': test([], async ({ p }) => {
    await p.mkdir('/d');
    await fails('EEXIST', p.open('/d', O_WRONLY | O_CREAT | O_EXCL));
  }),
  'O_CREAT | O_EXCL on a symbolic link is EEXIST, even on a dangling one': test(['symlinks'], async ({ p }) => {
    await p.symlink('nowhere', '/l');
    await fails('EEXIST', p.open('/l', O_WRONLY | O_CREAT | O_EXCL));
    await fails('ENOENT', p.lstat('/nowhere'));
  }),
  'O_CREAT through a dangling symbolic link makes its target': test(['symlinks'], async (s) => {
    await s.p.mkdir('/d');
    await s.p.symlink('d/target', '/l');
    const fd = await s.p.open('/l', O_WRONLY | O_CREAT);
    await s.p.write(fd, bytes('x'));
    same(await s.contents('/d/target'), 'x', 'contents');
  }),
  'O_CREAT in a directory that is not there is ENOENT': test([], async ({ p }) => {
    await fails('ENOENT', p.open('/d/f', O_WRONLY | O_CREAT));
  }),
  'O_CREAT below a file is ENOTDIR': test([], async (s) => {
    await s.file('/f');
    await fails('ENOTDIR', s.p.open('/f/g', O_WRONLY | O_CREAT));
  }),
  'O_CREAT with a trailing slash is EISDIR': test([], async ({ p }) => {
    await fails('EISDIR', p.open('/f/', O_WRONLY | O_CREAT));
    await fails('ENOENT', p.lstat('/f'));
  }),
  'O_CREAT on a directory is EISDIR': test([], async ({ p }) => {
    await p.mkdir('/d');
    await fails('EISDIR', p.open('/d', O_RDONLY | O_CREAT));
  }),
  'a file made without permission to write is still written by its maker': test(['permissions'], async (s) => {
    const fd = await s.p.open('/f', O_WRONLY | O_CREAT, 0o400);
    same(await s.p.write(fd, bytes('abc')), 3, 'bytes written');
    same((await s.p.fstat(fd)).mode & 0o777, 0o400, 'mode');
  }),
  'the umask takes bits from the mode': test(['permissions'], async ({ p }) => {
    same(await p.umask(0o027), 0o022, 'former umask');
    await p.close(await p.open('/f', O_WRONLY | O_CREAT, 0o666));
    same((await p.stat('/f')).mode & 0o7777, 0o640, 'mode');
  }),
  'a made file grows its directory by one name': test([], async (s) => {
    await s.file('/a');
    await s.file('/b');
    same(await s.names('/'), ['a', 'b'], 'names');
  }),
};

const truncating: ConformanceMap = {
  'O_TRUNC empties a file': test(['truncate'], async (s) => {
    await s.file('/f', 'contents');
    const fd = await s.p.open('/f', O_WRONLY | O_TRUNC);
    same((await s.p.fstat(fd)).size, 0, 'size');
    same(await s.contents('/f'), '', 'contents');
  }),
  'O_TRUNC keeps the inode and the mode': test(['truncate', 'permissions'], async (s) => {
    await s.file('/f', 'contents', 0o640);
    const before = await s.p.stat('/f');
    await s.p.close(await s.p.open('/f', O_WRONLY | O_CREAT | O_TRUNC, 0o600));
    const after = await s.p.stat('/f');
    same([after.ino, after.mode], [before.ino, before.mode], 'ino, mode');
  }),
  'O_TRUNC is seen by a descriptor that was open before': test(['truncate'], async (s) => {
    const reader = await s.opened('/f', O_RDONLY, 'contents');
    same((await s.p.read(reader, 4, 0)).length, 4, 'bytes before');
    await s.p.close(await s.p.open('/f', O_WRONLY | O_TRUNC));
    same((await s.p.read(reader, 4, 0)).length, 0, 'bytes after');
    same((await s.p.fstat(reader)).size, 0, 'size');
  }),
  'O_TRUNC of a missing file is ENOENT': test(['truncate'], async ({ p }) => {
    await fails('ENOENT', p.open('/f', O_WRONLY | O_TRUNC));
  }),
  'O_TRUNC through a symbolic link empties the target': test(['truncate', 'symlinks'], async (s) => {
    await s.file('/f', 'contents');
    await s.p.symlink('f', '/l');
    await s.p.close(await s.p.open('/l', O_WRONLY | O_TRUNC));
    same((await s.p.stat('/f')).size, 0, 'size');
  }),
};

const directories: ConformanceMap = {
  'O_DIRECTORY opens a directory': test([], async ({ p }) => {
    await p.mkdir('/d');
    await p.close(await p.open('/d', O_RDONLY | O_DIRECTORY));
  }),
  'O_DIRECTORY on a file is ENOTDIR': test([], async (s) => {
    await s.file('/f');
    await fails('ENOTDIR', s.p.open('/f', O_RDONLY | O_DIRECTORY));
  }),
  'O_DIRECTORY on a missing name is ENOENT': test([], async ({ p }) => {
    await fails('ENOENT', p.open('/d', O_RDONLY | O_DIRECTORY));
  }),
  'O_DIRECTORY follows a symbolic link to a directory': test(['symlinks'], async ({ p }) => {
    await p.mkdir('/d');
    await p.symlink('d', '/l');
    const fd = await p.open('/l', O_RDONLY | O_DIRECTORY);
    same((await p.fstat(fd)).ino, (await p.stat('/d')).ino, 'ino');
  }),
  ...each(
    WAYS.filter((way) => way.writes),
    ({ name }) => `${name} on a directory is EISDIR`,
    ({ flags }) =>
      test([], async ({ p }) => {
        await p.mkdir('/d');
        await fails('EISDIR', p.open('/d', flags));
      }),
  ),
  'a directory is not read': test([], async ({ p }) => {
    await p.mkdir('/d');
    const fd = await p.open('/d', O_RDONLY);
    await fails('EISDIR', p.read(fd, 10));
    await fails('EISDIR', p.read(fd, 10, 0));
  }),
  'a file is not listed': test([], async (s) => {
    const fd = await s.opened('/f', O_RDONLY);
    await fails('ENOTDIR', s.p.getdents(fd));
  }),
  'a file with a trailing slash is ENOTDIR': test([], async (s) => {
    await s.file('/f');
    await fails('ENOTDIR', s.p.open('/f/', O_RDONLY));
  }),
  'a directory with a trailing slash opens': test([], async ({ p }) => {
    await p.mkdir('/d');
    await p.close(await p.open('/d/', O_RDONLY));
  }),
  'the root opens and lists itself': test([], async ({ p }) => {
    const fd = await p.open('/', O_RDONLY | O_DIRECTORY);
    same((await p.fstat(fd)).ino, (await p.stat('/')).ino, 'ino');
  }),
};

const links: ConformanceMap = {
  'O_NOFOLLOW on a symbolic link is ELOOP': test(['symlinks'], async (s) => {
    await s.file('/f');
    await s.p.symlink('f', '/l');
    await fails('ELOOP', s.p.open('/l', O_RDONLY | O_NOFOLLOW));
  }),
  'O_NOFOLLOW | O_DIRECTORY on a symbolic link to a directory is ENOTDIR': test(['symlinks'], async ({ p }) => {
    await p.mkdir('/d');
    await p.symlink('d', '/l');
    await fails('ENOTDIR', p.open('/l', O_RDONLY | O_NOFOLLOW | O_DIRECTORY));
  }),
  'O_NOFOLLOW follows links on the way': test(['symlinks'], async (s) => {
    await s.p.mkdir('/d');
    await s.file('/d/f', 'x');
    await s.p.symlink('d', '/l');
    const fd = await s.p.open('/l/f', O_RDONLY | O_NOFOLLOW);
    same(text(await s.p.read(fd, 9)), 'x', 'contents');
  }),
  'O_NOFOLLOW opens a file': test([], async (s) => {
    await s.file('/f', 'x');
    await s.p.close(await s.p.open('/f', O_RDONLY | O_NOFOLLOW));
  }),
  'a dangling symbolic link is ENOENT': test(['symlinks'], async ({ p }) => {
    await p.symlink('nowhere', '/l');
    await fails('ENOENT', p.open('/l', O_RDONLY));
  }),
};

const access: ConformanceMap = {
  ...each(
    WAYS,
    ({ name, reads }) => `${name} ${reads ? 'reads' : 'does not read'}`,
    ({ flags, reads }) =>
      test([], async (s) => {
        const fd = await s.opened('/f', flags, 'contents');
        if (reads) same(text(await s.p.read(fd, 8)), 'contents', 'bytes');
        else await fails('EBADF', s.p.read(fd, 8));
      }),
  ),
  ...each(
    WAYS,
    ({ name, writes }) => `${name} ${writes ? 'writes' : 'does not write'}`,
    ({ flags, writes }) =>
      test([], async (s) => {
        const fd = await s.opened('/f', flags, 'contents');
        if (writes) same(await s.p.write(fd, bytes('CON')), 3, 'bytes written');
        else await fails('EBADF', s.p.write(fd, bytes('CON')));
        same(await s.contents('/f'), writes ? 'CONtents' : 'contents', 'contents');
      }),
  ),
  ...each(
    WAYS,
    ({ name, writes }) => `${name} ${writes ? 'truncates' : 'does not truncate'}`,
    ({ flags, writes }) =>
      test(['truncate'], async (s) => {
        const fd = await s.opened('/f', flags, 'contents');
        if (writes) await s.p.ftruncate(fd, 3);
        else await fails(['EINVAL', 'EBADF'], s.p.ftruncate(fd, 3));
        same(await s.contents('/f'), writes ? 'con' : 'contents', 'contents');
      }),
  ),
  'O_PATH gives a descriptor for fstat alone': test([], async (s) => {
    const fd = await s.opened('/f', O_PATH, 'contents');
    same((await s.p.fstat(fd)).size, 8, 'size');
    await fails('EBADF', s.p.read(fd, 1));
    await fails('EBADF', s.p.fchmod(fd, 0o600));
  }),
  'O_PATH | O_NOFOLLOW opens the symbolic link itself': test(['symlinks'], async ({ p }) => {
    await p.symlink('nowhere', '/l');
    const fd = await p.open('/l', O_PATH | O_NOFOLLOW);
    same((await p.fstat(fd)).ino, (await p.lstat('/l')).ino, 'ino');
  }),
};

const closing: ConformanceMap = {
  'a closed descriptor is EBADF': test([], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'x');
    await s.p.close(fd);
    await fails('EBADF', s.p.read(fd, 1));
    await fails('EBADF', s.p.fstat(fd));
    await fails('EBADF', s.p.close(fd));
  }),
  'two opens have two positions': test([], async (s) => {
    const one = await s.opened('/f', O_RDONLY, 'abcdef');
    const other = await s.p.open('/f', O_RDONLY);
    holds(one !== other, 'two descriptors');
    same(text(await s.p.read(one, 3)), 'abc', 'first of one');
    same(text(await s.p.read(other, 2)), 'ab', 'first of the other');
    same(text(await s.p.read(one, 3)), 'def', 'second of one');
  }),
  'dup shares the position': test([], async (s) => {
    const one = await s.opened('/f', O_RDONLY, 'abcdef');
    const other = await s.p.dup(one);
    same(text(await s.p.read(one, 3)), 'abc', 'first');
    same(text(await s.p.read(other, 3)), 'def', 'second');
  }),
  'a dup outlives the original': test([], async (s) => {
    const one = await s.opened('/f', O_RDWR, 'abc');
    const other = await s.p.dup(one);
    await s.p.close(one);
    same(await s.p.write(other, bytes('X')), 1, 'bytes written');
    same(await s.contents('/f'), 'Xbc', 'contents');
  }),
  'what one process wrote, another reads after close': test([], async (s) => {
    const other = await s.as();
    await s.file('/f', 'from one');
    same(await s.contents('/f', other), 'from one', 'contents');
  }),
  'what one process wrote, another reads before close': test([], async (s) => {
    const other = await s.as();
    const fd = await s.p.open('/f', O_WRONLY | O_CREAT);
    await s.p.write(fd, bytes('early'));
    same(await s.contents('/f', other), 'early', 'contents');
    await s.p.write(fd, bytes(' bird'));
    same(await s.contents('/f', other), 'early bird', 'contents');
    same((await other.stat('/f')).size, 10, 'size');
  }),
  'a hundred files are open at once': test([], async (s) => {
    const fds: number[] = [];
    for (let index = 0; index < 100; index++) fds.push(await s.opened(`/f${index}`, O_RDONLY, `number ${index}`));
    for (let index = 99; index >= 0; index--) same(text(await s.p.read(fds[index], 20)), `number ${index}`, `file ${index}`);
  }),
  'O_RDWR | O_APPEND reads from the beginning': test(['append'], async (s) => {
    const fd = await s.opened('/f', O_RDWR | O_APPEND, 'abc');
    same(text(await s.p.read(fd, 10)), 'abc', 'contents');
  }),
};

export const opening = family('open', { ...creating, ...truncating, ...directories, ...links, ...access, ...closing });
