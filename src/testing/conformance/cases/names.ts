/** mkdir, rmdir, mknod, unlink, link, symlink, and what a name may be. */
import { ALICE, bytes, type ConformanceMap, each, fails, family, holds, pattern, same, sameBytes, test, text } from '../case.ts';
import {
  direntType,
  NAME_MAX,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from '../linux.ts';

const mkdir: ConformanceMap = family('mkdir', {
  'makes an empty directory': test([], async (s) => {
    await s.p.mkdir('/d', 0o755);
    same((await s.p.stat('/d')).mode & S_IFMT, S_IFDIR, 'type');
    same(await s.names('/d'), [], 'names');
  }),
  'applies the umask': test(['permissions'], async ({ p }) => {
    await p.umask(0o077);
    await p.mkdir('/d', 0o777);
    same((await p.stat('/d')).mode & 0o7777, 0o700, 'mode');
  }),
  'keeps the sticky bit of the mode': test(['permissions', 'sticky'], async ({ p }) => {
    await p.mkdir('/d', 0o1755);
    same((await p.stat('/d')).mode & 0o7777, 0o1755, 'mode');
  }),
  'on a directory is EEXIST': test([], async ({ p }) => {
    await p.mkdir('/d');
    await fails('EEXIST', p.mkdir('/d'));
  }),
  'on a file is EEXIST': test([], async (s) => {
    await s.file('/f', 'keep');
    await fails('EEXIST', s.p.mkdir('/f'));
    same(await s.contents('/f'), 'keep', 'contents');
  }),
  'on a dangling symbolic link is EEXIST': test(['symlinks'], async ({ p }) => {
    await p.symlink('nowhere', '/l');
    await fails('EEXIST', p.mkdir('/l'));
  }),
  'on the root is EEXIST': test([], async ({ p }) => {
    await fails('EEXIST', p.mkdir('/'));
  }),
  'in a directory that is not there is ENOENT': test([], async ({ p }) => {
    await fails('ENOENT', p.mkdir('/a/b'));
  }),
  'below a file is ENOTDIR': test([], async (s) => {
    await s.file('/f');
    await fails('ENOTDIR', s.p.mkdir('/f/d'));
  }),
  'with a trailing slash works': test([], async (s) => {
    await s.p.mkdir('/d/');
    same(await s.names('/'), ['d'], 'names');
  }),
  'a hundred levels deep': test([], async (s) => {
    let path = '';
    for (let level = 0; level < 100; level++) {
      path += '/d';
      await s.p.mkdir(path);
    }
    await s.file(`${path}/f`, 'deep');
    same(await s.contents(`${path}/f`), 'deep', 'contents');
    same((await s.p.stat(`${path}/../d/f`)).size, 4, 'size by way of ..');
  }),
  'counts its directory among the links of its parent': test(['nlink-directories'], async ({ p }) => {
    await p.mkdir('/d');
    same((await p.stat('/d')).nlink, 2, 'nlink of an empty directory');
    await p.mkdir('/d/a');
    await p.mkdir('/d/b');
    same((await p.stat('/d')).nlink, 4, 'nlink with two directories');
    await p.rmdir('/d/a');
    same((await p.stat('/d')).nlink, 3, 'nlink with one directory');
  }),
  'files do not count among the links of their directory': test(['nlink-directories'], async (s) => {
    await s.p.mkdir('/d');
    await s.file('/d/f');
    same((await s.p.stat('/d')).nlink, 2, 'nlink');
  }),
});

const rmdir: ConformanceMap = family('rmdir', {
  'removes an empty directory': test([], async (s) => {
    await s.p.mkdir('/d');
    await s.p.rmdir('/d');
    await fails('ENOENT', s.p.stat('/d'));
    same(await s.names('/'), [], 'names');
  }),
  'of a directory with a file is ENOTEMPTY': test([], async (s) => {
    await s.p.mkdir('/d');
    await s.file('/d/f');
    await fails(['ENOTEMPTY', 'EEXIST'], s.p.rmdir('/d'));
    same(await s.names('/d'), ['f'], 'names');
  }),
  'of a directory with a directory is ENOTEMPTY': test([], async ({ p }) => {
    await p.mkdir('/d');
    await p.mkdir('/d/e');
    await fails(['ENOTEMPTY', 'EEXIST'], p.rmdir('/d'));
  }),
  'works once it is empty again': test([], async (s) => {
    await s.p.mkdir('/d');
    await s.file('/d/f');
    await s.p.unlink('/d/f');
    await s.p.rmdir('/d');
    await fails('ENOENT', s.p.stat('/d'));
  }),
  'of a file is ENOTDIR': test([], async (s) => {
    await s.file('/f');
    await fails('ENOTDIR', s.p.rmdir('/f'));
    await s.p.stat('/f');
  }),
  'of a symbolic link to a directory is ENOTDIR': test(['symlinks'], async ({ p }) => {
    await p.mkdir('/d');
    await p.symlink('d', '/l');
    await fails('ENOTDIR', p.rmdir('/l'));
  }),
  'of a missing name is ENOENT': test([], async ({ p }) => {
    await fails('ENOENT', p.rmdir('/d'));
  }),
  'of a name ending in . is EINVAL': test([], async ({ p }) => {
    await p.mkdir('/d');
    await fails('EINVAL', p.rmdir('/d/.'));
  }),
  'of a name ending in .. is ENOTEMPTY': test([], async ({ p }) => {
    await p.mkdir('/d');
    await p.mkdir('/d/e');
    await fails('ENOTEMPTY', p.rmdir('/d/e/..'));
  }),
  'of an open directory works, and nothing is listed there any more': test(['unlinked-open'], async ({ p }) => {
    await p.mkdir('/d');
    const fd = await p.open('/d', O_RDONLY | O_DIRECTORY);
    await p.rmdir('/d');
    const entries = await p.getdents(fd).catch((error: NodeJS.ErrnoException) => same(error.code, 'ENOENT', 'the error'));
    same(
      (entries ?? []).filter(({ name }) => name !== '.' && name !== '..'),
      [],
      'entries',
    );
    await p.close(fd);
  }),
  'the name can be used again': test([], async (s) => {
    for (let round = 0; round < 5; round++) {
      await s.p.mkdir('/n');
      await s.p.rmdir('/n');
      await s.file('/n', 'file');
      same(await s.contents('/n'), 'file', 'contents');
      await s.p.unlink('/n');
    }
  }),
});

const NODES = [
  { name: 'a FIFO', type: S_IFIFO, needs: 'fifos' },
  { name: 'a socket', type: S_IFSOCK, needs: 'fifos' },
  { name: 'a character device', type: S_IFCHR, needs: 'devices' },
  { name: 'a block device', type: S_IFBLK, needs: 'devices' },
  { name: 'a regular file', type: S_IFREG, needs: 'writing' },
] as const;

const mknod: ConformanceMap = family('mknod', {
  ...each(
    NODES,
    ({ name }) => `makes ${name}`,
    ({ type, needs }) =>
      test([needs], async ({ p }) => {
        await p.mknod('/n', type | 0o640, 1, 3);
        const stat = await p.lstat('/n');
        same([stat.mode, stat.nlink, stat.size], [type | 0o640, 1, 0], 'mode, nlink, size');
        const isDevice = type === S_IFCHR || type === S_IFBLK;
        if (isDevice) same(stat.rdev, 2 ** 20 + 3, 'rdev');
      }),
  ),
  ...each(
    NODES,
    ({ name }) => `${name} is listed as what it is`,
    ({ type, needs }) =>
      test([needs], async ({ p }) => {
        await p.mknod('/n', type | 0o600, 4, 5);
        const fd = await p.open('/', O_RDONLY | O_DIRECTORY);
        const entry = (await p.getdents(fd)).find(({ name }) => name === 'n');
        holds(entry !== undefined && (entry.type === direntType(type) || entry.type === 0), `d_type is ${entry?.type}`);
      }),
  ),
  ...each(
    NODES,
    ({ name }) => `${name} is renamed and removed`,
    ({ type, needs }) =>
      test([needs], async (s) => {
        await s.p.mknod('/n', type | 0o600, 1, 3);
        await s.p.rename('/n', '/m');
        same((await s.p.lstat('/m')).mode & S_IFMT, type, 'type');
        await s.p.unlink('/m');
        same(await s.names('/'), [], 'names');
      }),
  ),
  'large device numbers': test(['devices'], async ({ p }) => {
    await p.mknod('/n', S_IFCHR | 0o600, 4000, 1_000_000);
    same((await p.stat('/n')).rdev, 4000 * 2 ** 20 + 1_000_000, 'rdev');
  }),
  'applies the umask': test(['permissions', 'fifos'], async ({ p }) => {
    await p.umask(0o077);
    await p.mknod('/n', S_IFIFO | 0o666);
    same((await p.stat('/n')).mode & 0o777, 0o600, 'mode');
  }),
  'on a name that is taken is EEXIST': test(['fifos'], async (s) => {
    await s.file('/f');
    await fails('EEXIST', s.p.mknod('/f', S_IFIFO | 0o600));
  }),
  'of a directory is refused': test([], async ({ p }) => {
    await fails(['EPERM', 'EINVAL'], p.mknod('/d', S_IFDIR | 0o700));
  }),
  'of a device by a user is EPERM': test(['devices', 'other-users'], async (s) => {
    await s.openDirectory('/d');
    const alice = await s.as(ALICE);
    await fails('EPERM', alice.mknod('/d/n', S_IFCHR | 0o600, 1, 3));
    await alice.mknod('/d/p', S_IFIFO | 0o600);
  }),
  'a FIFO carries bytes between processes': test(['fifos'], async (s) => {
    await s.p.mknod('/p', S_IFIFO | 0o600);
    const other = await s.as();
    const reader = await s.p.open('/p', O_RDONLY | O_NONBLOCK);
    const writer = await other.open('/p', O_WRONLY);
    await other.write(writer, bytes('through the pipe'));
    same(text(await s.p.read(reader, 100)), 'through the pipe', 'bytes');
    same((await s.p.fstat(reader)).size, 0, 'size');
  }),
  'a socket is not opened': test(['fifos'], async ({ p }) => {
    await p.mknod('/s', S_IFSOCK | 0o600);
    await fails('ENXIO', p.open('/s', O_RDONLY));
  }),
});

const unlink: ConformanceMap = family('unlink', {
  'removes a file': test([], async (s) => {
    await s.file('/f', 'x');
    await s.p.unlink('/f');
    await fails('ENOENT', s.p.stat('/f'));
    same(await s.names('/'), [], 'names');
  }),
  'of a missing name is ENOENT': test([], async ({ p }) => {
    await fails('ENOENT', p.unlink('/f'));
  }),
  'of a directory is EISDIR': test([], async ({ p }) => {
    await p.mkdir('/d');
    await fails(['EISDIR', 'EPERM'], p.unlink('/d'));
    await p.stat('/d');
  }),
  'below a file is ENOTDIR': test([], async (s) => {
    await s.file('/f');
    await fails('ENOTDIR', s.p.unlink('/f/g'));
  }),
  'of a symbolic link leaves the target': test(['symlinks'], async (s) => {
    await s.file('/f', 'x');
    await s.p.symlink('f', '/l');
    await s.p.unlink('/l');
    same(await s.names('/'), ['f'], 'names');
  }),
  'of a file with a trailing slash is ENOTDIR': test([], async (s) => {
    await s.file('/f');
    await fails('ENOTDIR', s.p.unlink('/f/'));
    await s.p.stat('/f');
  }),
  'of a read-only file works: the directory decides': test(['permissions'], async (s) => {
    await s.file('/f', 'x', 0o444);
    await s.p.unlink('/f');
    await fails('ENOENT', s.p.stat('/f'));
  }),
});

const unlinked: ConformanceMap = family('unlinked', {
  'an open file is still read': test(['unlinked-open'], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'still here');
    await s.p.unlink('/f');
    same(text(await s.p.read(fd, 20)), 'still here', 'contents');
  }),
  'an open file is still written and grows': test(['unlinked-open'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abc');
    await s.p.unlink('/f');
    const data = pattern(100_000, 3);
    await s.p.write(fd, data, 0);
    sameBytes(await s.p.read(fd, 100_000, 0), data, 'contents');
    same((await s.p.fstat(fd)).size, 100_000, 'size');
  }),
  'an open file is still truncated': test(['unlinked-open', 'truncate'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abcdef');
    await s.p.unlink('/f');
    await s.p.ftruncate(fd, 2);
    same((await s.p.fstat(fd)).size, 2, 'size');
    same(text(await s.p.read(fd, 10)), 'ab', 'contents');
  }),
  'an open file has no links': test(['unlinked-open'], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'x');
    same((await s.p.fstat(fd)).nlink, 1, 'nlink before');
    await s.p.unlink('/f');
    same((await s.p.fstat(fd)).nlink, 0, 'nlink after');
  }),
  'an open file keeps its inode number': test(['unlinked-open'], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'x');
    const { ino } = await s.p.fstat(fd);
    await s.p.unlink('/f');
    same((await s.p.fstat(fd)).ino, ino, 'ino');
  }),
  'the mode, owner and times of an open file still change': test(['unlinked-open', 'permissions', 'times'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'x');
    await s.p.unlink('/f');
    await s.p.fchmod(fd, 0o640);
    await s.p.futimens(fd, 5_000_000_000n, 7_000_000_000n);
    const stat = await s.p.fstat(fd);
    same([stat.mode & 0o777, stat.mtimeNs], [0o640, 7_000_000_000n], 'mode, mtime');
  }),
  'the owner of an open file still changes': test(['unlinked-open', 'ownership'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'x');
    await s.p.unlink('/f');
    await s.p.fchown(fd, 123, 456);
    const { uid, gid } = await s.p.fstat(fd);
    same([uid, gid], [123, 456], 'uid, gid');
  }),
  'the name is free for another file': test(['unlinked-open'], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'old');
    await s.p.unlink('/f');
    await s.file('/f', 'new');
    same(text(await s.p.read(fd, 9)), 'old', 'the old file');
    same(await s.contents('/f'), 'new', 'the new file');
    holds((await s.p.fstat(fd)).ino !== (await s.p.stat('/f')).ino, 'two files, two inode numbers');
  }),
  'a file that another process removed is still written': test(['unlinked-open'], async (s) => {
    const other = await s.as();
    const fd = await s.opened('/f', O_RDWR, 'abc');
    await other.unlink('/f');
    await s.p.write(fd, bytes('X'), 1);
    same(text(await s.p.read(fd, 10)), 'aXc', 'contents');
  }),
  'ten files, all removed, all still there': test(['unlinked-open'], async (s) => {
    const fds: number[] = [];
    for (let index = 0; index < 10; index++) {
      fds.push(await s.opened('/f', O_RDWR, `file ${index}`));
      await s.p.unlink('/f');
    }
    for (let index = 0; index < 10; index++) same(text(await s.p.read(fds[index], 20)), `file ${index}`, `file ${index}`);
  }),
  'a replaced file stays open': test(['unlinked-open'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'old');
    await s.file('/g', 'new');
    await s.p.rename('/g', '/f');
    same((await s.p.fstat(fd)).nlink, 0, 'nlink');
    await s.p.write(fd, bytes('OLD'), 0);
    same(text(await s.p.read(fd, 9, 0)), 'OLD', 'the old file');
    same(await s.contents('/f'), 'new', 'the new file');
  }),
  'nothing is made in a removed directory': test(['unlinked-open'], async (s) => {
    await s.p.mkdir('/d');
    const fd = await s.p.open('/d', O_RDONLY | O_DIRECTORY);
    await s.p.rmdir('/d');
    await fails('ENOENT', s.p.open('/d/f', O_WRONLY | O_CREAT));
    holds((await s.p.fstat(fd)).nlink <= 1, 'a removed directory has no links to speak of');
  }),
  'it goes with the last descriptor, not the first': test(['unlinked-open'], async (s) => {
    const one = await s.opened('/f', O_RDONLY, 'abc');
    const other = await s.p.open('/f', O_RDONLY);
    const copy = await s.p.dup(other);
    await s.p.unlink('/f');
    await s.p.close(one);
    await s.p.close(other);
    same(text(await s.p.read(copy, 9)), 'abc', 'contents');
  }),
});

const link: ConformanceMap = family('link', {
  'gives a file a second name': test(['hardlinks'], async (s) => {
    await s.file('/f', 'abc');
    await s.p.link('/f', '/g');
    const [one, other] = [await s.p.stat('/f'), await s.p.stat('/g')];
    same(one.ino, other.ino, 'ino');
    same([one.nlink, other.nlink], [2, 2], 'nlink');
    same(await s.contents('/g'), 'abc', 'contents');
  }),
  'both names show every change': test(['hardlinks', 'permissions'], async (s) => {
    await s.file('/f', 'abc');
    await s.p.link('/f', '/g');
    const fd = await s.p.open('/g', O_WRONLY);
    await s.p.write(fd, bytes('XYZ!'));
    same(await s.contents('/f'), 'XYZ!', 'contents');
    await s.p.chmod('/f', 0o600);
    same((await s.p.stat('/g')).mode & 0o777, 0o600, 'mode');
  }),
  'the file stays when its first name goes': test(['hardlinks'], async (s) => {
    await s.file('/f', 'abc');
    await s.p.link('/f', '/g');
    await s.p.unlink('/f');
    same(await s.contents('/g'), 'abc', 'contents');
    same((await s.p.stat('/g')).nlink, 1, 'nlink');
  }),
  'nlink counts a hundred names up and down': test(['hardlinks'], async (s) => {
    await s.file('/f', 'abc');
    for (let index = 0; index < 100; index++) await s.p.link('/f', `/g${index}`);
    same((await s.p.stat('/f')).nlink, 101, 'nlink');
    for (let index = 0; index < 100; index++) await s.p.unlink(`/g${index}`);
    same((await s.p.stat('/f')).nlink, 1, 'nlink');
  }),
  'across directories': test(['hardlinks'], async (s) => {
    await s.p.mkdir('/a');
    await s.p.mkdir('/b');
    await s.file('/a/f', 'abc');
    await s.p.link('/a/f', '/b/g');
    await s.p.unlink('/a/f');
    await s.p.rmdir('/a');
    same(await s.contents('/b/g'), 'abc', 'contents');
  }),
  'on a name that is taken is EEXIST': test(['hardlinks'], async (s) => {
    await s.file('/f', 'f');
    await s.file('/g', 'g');
    await fails('EEXIST', s.p.link('/f', '/g'));
    await fails('EEXIST', s.p.link('/f', '/f'));
    same(await s.contents('/g'), 'g', 'contents');
  }),
  'of a missing file is ENOENT': test(['hardlinks'], async ({ p }) => {
    await fails('ENOENT', p.link('/f', '/g'));
  }),
  'into a directory that is not there is ENOENT': test(['hardlinks'], async (s) => {
    await s.file('/f');
    await fails('ENOENT', s.p.link('/f', '/d/g'));
    same((await s.p.stat('/f')).nlink, 1, 'nlink');
  }),
  'of a directory is EPERM': test(['hardlinks'], async ({ p }) => {
    await p.mkdir('/d');
    await fails('EPERM', p.link('/d', '/e'));
  }),
  'below a file is ENOTDIR': test(['hardlinks'], async (s) => {
    await s.file('/f');
    await fails('ENOTDIR', s.p.link('/f', '/f/g'));
  }),
  'of a symbolic link names the link itself': test(['hardlinks', 'symlinks'], async (s) => {
    await s.file('/f');
    await s.p.symlink('f', '/l');
    await s.p.link('/l', '/m');
    const stat = await s.p.lstat('/m');
    same([stat.mode & S_IFMT, stat.nlink], [S_IFLNK, 2], 'type, nlink');
    same(await s.p.readlink('/m'), 'f', 'target');
  }),
  'of an open file that lost its name is refused': test(['hardlinks', 'unlinked-open'], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'x');
    await s.p.unlink('/f');
    await fails('ENOENT', s.p.linkFd(fd, '/g'));
  }),
  'of a FIFO': test(['hardlinks', 'fifos'], async ({ p }) => {
    await p.mknod('/p', S_IFIFO | 0o600);
    await p.link('/p', '/q');
    same((await p.stat('/q')).nlink, 2, 'nlink');
  }),
  'both names are listed with the same inode': test(['hardlinks', 'stable-inodes'], async (s) => {
    await s.file('/f');
    await s.p.link('/f', '/g');
    const fd = await s.p.open('/', O_RDONLY | O_DIRECTORY);
    const entries = await s.p.getdents(fd);
    const ino = (wanted: string) => entries.find(({ name }) => name === wanted)?.ino;
    same(ino('f'), ino('g'), 'd_ino');
  }),
});

const TARGETS = [
  ['short', 'x'],
  ['relative with ..', '../a/./b//c'],
  ['absolute', '/no/such/place'],
  ['of 100 bytes', 't'.repeat(100)],
  ['of 1,000 bytes', 't'.repeat(1000)],
  ['of 4,095 bytes', 't'.repeat(4095)],
  ['in UTF-8', 'ziel-\xc3\xa4\xe2\x82\xac'],
  ['with spaces and line ends', ' a\tb\nc '],
] as const;

const symlink: ConformanceMap = family('symlink', {
  ...each(
    TARGETS,
    ([name]) => `a target ${name} comes back`,
    ([, target]) =>
      test(['symlinks'], async ({ p }) => {
        await p.symlink(target, '/l');
        same(await p.readlink('/l'), target, 'target');
        const stat = await p.lstat('/l');
        same([stat.mode & S_IFMT, stat.size, stat.nlink], [S_IFLNK, target.length, 1], 'type, size, nlink');
      }),
  ),
  'an empty target is ENOENT': test(['symlinks'], async ({ p }) => {
    await fails('ENOENT', p.symlink('', '/l'));
  }),
  'on a name that is taken is EEXIST': test(['symlinks'], async (s) => {
    await s.file('/f', 'keep');
    await fails('EEXIST', s.p.symlink('x', '/f'));
    await s.p.symlink('x', '/l');
    await fails('EEXIST', s.p.symlink('y', '/l'));
    same(await s.p.readlink('/l'), 'x', 'target');
  }),
  'stat follows, lstat does not': test(['symlinks'], async (s) => {
    await s.file('/f', 'abc');
    await s.p.symlink('f', '/l');
    same((await s.p.stat('/l')).size, 3, 'size by stat');
    same((await s.p.lstat('/l')).size, 1, 'size by lstat');
    same((await s.p.stat('/l')).ino, (await s.p.stat('/f')).ino, 'ino by stat');
  }),
  'a dangling one: lstat works, stat is ENOENT': test(['symlinks'], async ({ p }) => {
    await p.symlink('nowhere', '/l');
    same((await p.lstat('/l')).mode & S_IFMT, S_IFLNK, 'type');
    await fails('ENOENT', p.stat('/l'));
    await fails('ENOENT', p.chmod('/l', 0o600));
  }),
  'a target that appears later is found': test(['symlinks'], async (s) => {
    await s.p.symlink('later', '/l');
    await fails('ENOENT', s.p.stat('/l'));
    await s.file('/later', 'now');
    same(await s.contents('/l'), 'now', 'contents');
  }),
  'to itself is ELOOP': test(['symlinks'], async ({ p }) => {
    await p.symlink('l', '/l');
    await fails('ELOOP', p.stat('/l'));
    await fails('ELOOP', p.open('/l', O_RDONLY));
    await fails('ELOOP', p.stat('/l/x'));
    await p.lstat('/l');
  }),
  'two to each other are ELOOP': test(['symlinks'], async ({ p }) => {
    await p.symlink('b', '/a');
    await p.symlink('a', '/b');
    await fails('ELOOP', p.stat('/a'));
    await fails('ELOOP', p.chmod('/b', 0o600));
  }),
  'a chain of 40 is followed, of 41 not': test(['symlinks'], async (s) => {
    await s.file('/l0', 'end');
    for (let index = 1; index <= 41; index++) await s.p.symlink(`l${index - 1}`, `/l${index}`);
    same(await s.contents('/l40'), 'end', 'contents');
    await fails('ELOOP', s.p.stat('/l41'));
  }),
  'on the way is followed': test(['symlinks'], async (s) => {
    await s.p.mkdir('/a');
    await s.p.mkdir('/a/b');
    await s.file('/a/b/f', 'x');
    await s.p.symlink('a/b', '/l');
    same(await s.contents('/l/f'), 'x', 'contents');
    await s.file('/l/g', 'y');
    same(await s.names('/a/b'), ['f', 'g'], 'names');
  }),
  'relative to where it lies, not to who asks': test(['symlinks'], async (s) => {
    await s.p.mkdir('/d');
    await s.file('/d/f', 'in d');
    await s.file('/f', 'in root');
    await s.p.symlink('f', '/d/l');
    same(await s.contents('/d/l'), 'in d', 'contents');
    await s.p.rename('/d/l', '/l');
    same(await s.contents('/l'), 'in root', 'contents after the link moved');
  }),
  'readlink of a file is EINVAL': test(['symlinks'], async (s) => {
    await s.file('/f');
    await fails('EINVAL', s.p.readlink('/f'));
    await fails('EINVAL', s.p.readlink('/'));
    await fails('ENOENT', s.p.readlink('/x'));
  }),
  'a trailing slash follows the link': test(['symlinks'], async (s) => {
    await s.p.mkdir('/d');
    await s.p.symlink('d', '/l');
    same((await s.p.lstat('/l/')).mode & S_IFMT, S_IFDIR, 'type');
    await s.file('/f');
    await s.p.symlink('f', '/m');
    await fails('ENOTDIR', s.p.lstat('/m/'));
  }),
  'its mode is 0777': test(['symlinks'], async ({ p }) => {
    await p.umask(0o077);
    await p.symlink('x', '/l');
    same((await p.lstat('/l')).mode & 0o777, 0o777, 'mode');
  }),
  'chmod follows': test(['symlinks', 'permissions'], async (s) => {
    await s.file('/f');
    await s.p.symlink('f', '/l');
    await s.p.chmod('/l', 0o600);
    same((await s.p.stat('/f')).mode & 0o777, 0o600, 'mode');
  }),
  'replaced by another gives the new target': test(['symlinks'], async ({ p }) => {
    await p.symlink('one', '/l');
    same(await p.readlink('/l'), 'one', 'first');
    await p.unlink('/l');
    await p.symlink('another', '/l');
    same(await p.readlink('/l'), 'another', 'second');
    same((await p.lstat('/l')).size, 7, 'size');
  }),
});

const NAMES = [
  ['with a space', 'a b'],
  ['with a line end', 'a\nb'],
  ['starting with a dash', '-rf'],
  ['starting with a dot', '.hidden'],
  ['of three dots', '...'],
  ['ending in dots and spaces', 'a. .'],
  ['with a backslash', 'a\\b'],
  ['with quotes and a percent sign', `'"%s%n`],
  ['with wildcards', '*?[a]'],
  ['of control characters', '\x01\x02\x1f\x7f'],
  ['in Latin', '\xc3\xa4\xc3\xb6\xc3\xbc'],
  ['in Chinese', '\xe6\x96\x87\xe4\xbb\xb6'],
  ['with an emoji', '\xf0\x9f\x93\x81'],
  ['with a combining character', 'a\xcc\x88'],
  ['of one byte', 'x'],
] as const;
const BINARY_NAMES = [
  ['of one byte that is not UTF-8', '\xff'],
  ['of a cut UTF-8 sequence', 'a\xe2\x82'],
  ['of an overlong sequence', '\xc0\xaf'],
  ['of a surrogate', '\xed\xa0\x80'],
  [
    'of every byte that a name may have',
    Array.from({ length: 255 }, (_, at) => at + 1)
      .filter((byte) => byte !== 0x2f)
      .map((byte) => String.fromCharCode(byte))
      .join(''),
  ],
] as const;

const nameCase = (needs: 'writing' | 'binary-names', name: string) =>
  test([needs], async (s) => {
    await s.file(`/${name}`, 'contents');
    same(await s.names('/'), [name], 'names');
    same(await s.contents(`/${name}`), 'contents', 'contents');
    await s.p.rename(`/${name}`, '/other');
    await s.p.rename('/other', `/${name}`);
    await s.p.unlink(`/${name}`);
    await s.p.mkdir(`/${name}`);
    await s.file(`/${name}/${name}`, 'inside');
    same(await s.names(`/${name}`), [name], 'names inside');
    await s.p.unlink(`/${name}/${name}`);
    await s.p.rmdir(`/${name}`);
    same(await s.names('/'), [], 'names at the end');
  });

/** Each makes, or takes away, something by a name of 255 bytes, and is refused one of 256. */
const LONG_NAMES: {
  name: string;
  needs: 'hardlinks' | 'symlinks' | 'fifos' | 'writing';
  make: (s: Parameters<Parameters<typeof test>[1]>[0], path: string) => Promise<unknown>;
}[] = [
  { name: 'open', needs: 'writing', make: (s, path) => s.p.open(path, O_WRONLY | O_CREAT | O_EXCL) },
  { name: 'mkdir', needs: 'writing', make: (s, path) => s.p.mkdir(path) },
  { name: 'mknod', needs: 'fifos', make: (s, path) => s.p.mknod(path, S_IFIFO | 0o600) },
  { name: 'symlink', needs: 'symlinks', make: (s, path) => s.p.symlink('x', path) },
  { name: 'link', needs: 'hardlinks', make: (s, path) => s.p.link('/file', path) },
  { name: 'rename', needs: 'writing', make: (s, path) => s.p.rename('/file', path) },
];

const names: ConformanceMap = {
  ...family('name', {
    ...each(
      NAMES,
      ([name]) => name,
      ([, name]) => nameCase('writing', name),
    ),
    ...each(
      BINARY_NAMES,
      ([name]) => name,
      ([, name]) => nameCase('binary-names', name),
    ),
    'names differ by the case of a letter': test([], async (s) => {
      await s.file('/a', 'small');
      await s.file('/A', 'large');
      same([await s.contents('/a'), await s.contents('/A')], ['small', 'large'], 'contents');
    }),
    'names are not normalized': test([], async (s) => {
      await s.file('/\xc3\xa4', 'composed');
      await s.file('/a\xcc\x88', 'decomposed');
      same((await s.names('/')).length, 2, 'names');
    }),
    'dots lead where they should': test([], async (s) => {
      await s.p.mkdir('/d');
      await s.p.mkdir('/d/e');
      const root = await s.p.stat('/');
      same((await s.p.stat('/d/..')).ino, root.ino, 'ino of d/..');
      same((await s.p.stat('/d/e/../..')).ino, root.ino, 'ino of d/e/../..');
      same((await s.p.stat('/d/./e/.')).ino, (await s.p.stat('/d/e')).ino, 'ino of d/./e/.');
      same((await s.p.stat('/d//e')).ino, (await s.p.stat('/d/e')).ino, 'ino of d//e');
    }),
  }),
  ...family('long name', {
    ...each(
      LONG_NAMES,
      ({ name }) => `${name} takes 255 bytes`,
      ({ needs, make }) =>
        test(['long-names', needs], async (s) => {
          await s.file('/file');
          const long = 'n'.repeat(NAME_MAX);
          await make(s, `/${long}`);
          await s.p.lstat(`/${long}`);
          holds((await s.names('/')).includes(long), 'it is listed');
        }),
    ),
    ...each(
      LONG_NAMES,
      ({ name }) => `${name} of 256 bytes is ENAMETOOLONG`,
      ({ needs, make }) =>
        test(['long-names', needs], async (s) => {
          await s.file('/file');
          await fails('ENAMETOOLONG', make(s, `/${'n'.repeat(NAME_MAX + 1)}`));
          same(await s.names('/'), ['file'], 'names');
        }),
    ),
    'stat, unlink and rmdir of 256 bytes are ENAMETOOLONG': test(['long-names'], async ({ p }) => {
      const path = `/${'n'.repeat(NAME_MAX + 1)}`;
      await fails('ENAMETOOLONG', p.stat(path));
      await fails('ENAMETOOLONG', p.unlink(path));
      await fails('ENAMETOOLONG', p.rmdir(path));
      await fails('ENAMETOOLONG', p.stat(`${path}/below`));
    }),
    'a rename away from 256 bytes is ENAMETOOLONG': test(['long-names'], async ({ p }) => {
      await fails('ENAMETOOLONG', p.rename(`/${'n'.repeat(NAME_MAX + 1)}`, '/f'));
    }),
    '255 bytes of UTF-8': test(['long-names'], async (s) => {
      const long = '\xe2\x82\xac'.repeat(85);
      await s.file(`/${long}`, 'x');
      same(await s.names('/'), [long], 'names');
      await fails('ENAMETOOLONG', s.p.stat(`/${long}x`));
    }),
    'a path of 5,000 bytes is ENAMETOOLONG': test([], async ({ p }) => {
      await fails('ENAMETOOLONG', p.stat(`/${'./'.repeat(2500)}`));
    }),
    'a path of 4,000 bytes works': test([], async ({ p }) => {
      same((await p.stat(`/${'./'.repeat(2000)}`)).ino, (await p.stat('/')).ino, 'ino');
    }),
    'sixteen levels of 200 bytes': test([], async (s) => {
      let path = '';
      for (let level = 0; level < 16; level++) {
        path += `/${String.fromCharCode(97 + level).repeat(200)}`;
        await s.p.mkdir(path);
      }
      await s.file(`${path}/f`, 'far down');
      same(await s.contents(`${path}/f`), 'far down', 'contents');
    }),
  }),
};

export const namespace: ConformanceMap = {
  ...mkdir,
  ...rmdir,
  ...mknod,
  ...unlink,
  ...unlinked,
  ...link,
  ...symlink,
  ...names,
};
