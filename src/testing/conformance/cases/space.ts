/** fallocate, data and holes, copy_file_range, O_TMPFILE, statfs, and files beyond 4 GiB. */
import type { PosixProcess } from '../../posix.ts';
import {
  bytes,
  type ConformanceMap,
  each,
  fails,
  family,
  holds,
  pattern,
  readAll,
  same,
  sameBytes,
  test,
  text,
} from '../case.ts';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  GIB,
  NAME_MAX,
  O_APPEND,
  O_CREAT,
  O_EXCL,
  O_RDONLY,
  O_RDWR,
  O_TMPFILE,
  O_WRONLY,
  S_IFMT,
  S_IFREG,
  SEEK_CUR,
  SEEK_DATA,
  SEEK_END,
  SEEK_HOLE,
  SEEK_SET,
} from '../linux.ts';

const KIB = 1024;
/** A unit that every filesystem with holes can leave out. */
const HOLE = 64 * KIB;

const fallocate: ConformanceMap = family('fallocate', {
  'makes a file longer': test(['fallocate'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abc');
    await s.p.fallocate(fd, 0, 0, 10_000);
    same((await s.p.fstat(fd)).size, 10_000, 'size');
    const data = await readAll(s.p, fd);
    same(text(data.subarray(0, 4)), 'abc\0', 'contents');
    holds(
      data.subarray(3).every((byte) => byte === 0),
      'zeros behind',
    );
  }),
  'takes space': test(['fallocate'], async (s) => {
    const fd = await s.opened('/f', O_RDWR);
    await s.p.fallocate(fd, 0, 0, 1 << 20);
    holds((await s.p.fstat(fd)).blocks >= 2048, '1 MiB is stored');
  }),
  'inside of the file changes nothing': test(['fallocate'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abcdefghij');
    await s.p.fallocate(fd, 0, 2, 4);
    same(await s.contents('/f'), 'abcdefghij', 'contents');
  }),
  'KEEP_SIZE keeps the size': test(['fallocate'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abc');
    await s.p.fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1 << 20);
    same((await s.p.fstat(fd)).size, 3, 'size');
    same(await s.contents('/f'), 'abc', 'contents');
  }),
  'PUNCH_HOLE leaves zeros and the size': test(['fallocate', 'punch-hole'], async (s) => {
    const data = pattern(4 * HOLE, 1);
    await s.file('/f', data);
    const fd = await s.p.open('/f', O_RDWR);
    await s.p.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, HOLE, HOLE);
    data.fill(0, HOLE, 2 * HOLE);
    sameBytes(await readAll(s.p, fd), data, 'contents');
    same((await s.p.fstat(fd)).size, 4 * HOLE, 'size');
  }),
  'PUNCH_HOLE between blocks': test(['fallocate', 'punch-hole'], async (s) => {
    const data = pattern(20_000, 2);
    await s.file('/f', data);
    const fd = await s.p.open('/f', O_RDWR);
    await s.p.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1000, 10_001);
    data.fill(0, 1000, 11_001);
    sameBytes(await readAll(s.p, fd), data, 'contents');
  }),
  'PUNCH_HOLE over the end does not make the file longer': test(['fallocate', 'punch-hole'], async (s) => {
    await s.file('/f', pattern(10_000, 3));
    const fd = await s.p.open('/f', O_RDWR);
    await s.p.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5000, 50_000);
    const expected = pattern(10_000, 3).fill(0, 5000);
    sameBytes(await readAll(s.p, fd), expected, 'contents');
  }),
  'PUNCH_HOLE gives back space': test(['fallocate', 'punch-hole', 'sparse'], async (s) => {
    await s.file('/f', pattern(1 << 20, 4));
    const fd = await s.p.open('/f', O_RDWR);
    await s.p.fsync(fd);
    const before = (await s.p.fstat(fd)).blocks;
    await s.p.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20);
    const after = (await s.p.fstat(fd)).blocks;
    holds(after < before / 2, `${before} blocks before, ${after} after`);
  }),
  'PUNCH_HOLE without KEEP_SIZE is refused': test(['fallocate', 'punch-hole'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abc');
    await fails(['EOPNOTSUPP', 'EINVAL'], s.p.fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 1));
  }),
  'of no bytes, or before the beginning, is EINVAL': test(['fallocate'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abc');
    await fails('EINVAL', s.p.fallocate(fd, 0, 0, 0));
    await fails('EINVAL', s.p.fallocate(fd, 0, -1, 10));
    await fails('EINVAL', s.p.fallocate(fd, 0, 0, -1));
  }),
  'of a descriptor that only reads is EBADF': test(['fallocate'], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'abc');
    await fails('EBADF', s.p.fallocate(fd, 0, 0, 10));
  }),
  'an unknown mode is EOPNOTSUPP': test(['fallocate'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abc');
    await fails(['EOPNOTSUPP', 'EINVAL'], s.p.fallocate(fd, 0x4000, 0, 10));
  }),
});

const holes: ConformanceMap = family('SEEK_DATA and SEEK_HOLE', {
  'find a hole between data': test(['seek-hole', 'sparse'], async (s) => {
    const fd = await s.opened('/f', O_RDWR);
    await s.p.write(fd, pattern(HOLE), 0);
    await s.p.write(fd, pattern(HOLE), 8 * HOLE);
    await s.p.fsync(fd);
    same(await s.p.lseek(fd, 0, SEEK_DATA), 0, 'data from 0');
    const hole = await s.p.lseek(fd, 0, SEEK_HOLE);
    holds(hole >= HOLE && hole < 8 * HOLE, `the hole begins at ${hole}`);
    const data = await s.p.lseek(fd, hole, SEEK_DATA);
    holds(data > hole && data <= 8 * HOLE, `data goes on at ${data}`);
    same(await s.p.lseek(fd, 8 * HOLE, SEEK_HOLE), 9 * HOLE, 'the end counts as a hole');
  }),
  'find no hole but the end in a full file': test(['seek-hole'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'x'.repeat(10_000));
    same(await s.p.lseek(fd, 0, SEEK_HOLE), 10_000, 'the hole');
    same(await s.p.lseek(fd, 5000, SEEK_DATA), 5000, 'data');
  }),
  'at and behind the end are ENXIO': test(['seek-hole'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abc');
    await fails('ENXIO', s.p.lseek(fd, 3, SEEK_DATA));
    await fails('ENXIO', s.p.lseek(fd, 100, SEEK_DATA));
    await fails('ENXIO', s.p.lseek(fd, 100, SEEK_HOLE));
  }),
  'before the beginning are ENXIO': test(['seek-hole'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abc');
    await fails(['ENXIO', 'EINVAL'], s.p.lseek(fd, -1, SEEK_DATA));
  }),
  'set the position': test(['seek-hole'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abcdef');
    await s.p.lseek(fd, 2, SEEK_DATA);
    same(await s.p.lseek(fd, 0, SEEK_CUR), 2, 'position');
    same(text(await s.p.read(fd, 9)), 'cdef', 'contents');
  }),
  'an empty file has no data': test(['seek-hole'], async (s) => {
    const fd = await s.opened('/f', O_RDWR);
    await fails('ENXIO', s.p.lseek(fd, 0, SEEK_DATA));
    await fails('ENXIO', s.p.lseek(fd, 0, SEEK_HOLE));
  }),
  'after a hole was punched': test(['seek-hole', 'punch-hole', 'fallocate'], async (s) => {
    await s.file('/f', pattern(4 * HOLE));
    const fd = await s.p.open('/f', O_RDWR);
    await s.p.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, HOLE, 2 * HOLE);
    same(await s.p.lseek(fd, 0, SEEK_HOLE), HOLE, 'the hole');
    same(await s.p.lseek(fd, HOLE, SEEK_DATA), 3 * HOLE, 'the data behind');
  }),
});

/** Copies everything, however little a call moves. */
async function copyAll(p: PosixProcess, from: number, fromAt: number, to: number, toAt: number, length: number): Promise<number> {
  let copied = 0;
  while (copied < length) {
    const moved = await p.copyFileRange(from, fromAt + copied, to, toAt + copied, length - copied);
    if (moved === 0) break;
    copied += moved;
  }
  return copied;
}

const copying: ConformanceMap = family('copy_file_range', {
  ...each(
    [
      [0, 0, 100_000],
      [1, 0, 99_999],
      [4096, 8192, 50_000],
      [99_999, 5, 1],
      [0, 300_000, 100_000],
    ],
    ([from, to, length]) => `${length} bytes from ${from} to ${to}`,
    ([from, to, length]) =>
      test(['copy-file-range'], async (s) => {
        const source = pattern(100_000, 5);
        const target = pattern(20_000, 6);
        await s.file('/a', source);
        await s.file('/b', target);
        const a = await s.p.open('/a', O_RDONLY);
        const b = await s.p.open('/b', O_RDWR);
        same(await copyAll(s.p, a, from, b, to, length), length, 'bytes copied');
        const expected = new Uint8Array(Math.max(target.length, to + length));
        expected.set(target);
        expected.set(source.subarray(from, from + length), to);
        sameBytes(await readAll(s.p, b), expected, 'contents');
      }),
  ),
  'stops at the end of the source': test(['copy-file-range'], async (s) => {
    const a = await s.opened('/a', O_RDONLY, 'abc');
    const b = await s.opened('/b', O_RDWR);
    same(await copyAll(s.p, a, 1, b, 0, 100), 2, 'bytes copied');
    same(await s.contents('/b'), 'bc', 'contents');
    same(await s.p.copyFileRange(a, 3, b, 0, 10), 0, 'bytes copied at the end');
  }),
  'within one file': test(['copy-file-range'], async (s) => {
    const a = await s.opened('/a', O_RDWR, 'abcdefghij');
    same(await copyAll(s.p, a, 0, a, 5, 3), 3, 'bytes copied');
    same(await s.contents('/a'), 'abcdeabcij', 'contents');
  }),
  'ranges that overlap in one file are EINVAL': test(['copy-file-range'], async (s) => {
    const a = await s.opened('/a', O_RDWR, 'abcdefghij');
    await fails('EINVAL', s.p.copyFileRange(a, 0, a, 2, 5));
  }),
  'to a descriptor that only reads is EBADF': test(['copy-file-range'], async (s) => {
    const a = await s.opened('/a', O_RDONLY, 'abc');
    const b = await s.opened('/b', O_RDONLY);
    await fails('EBADF', s.p.copyFileRange(a, 0, b, 0, 3));
  }),
  'to a descriptor that appends is EBADF': test(['copy-file-range', 'append'], async (s) => {
    const a = await s.opened('/a', O_RDONLY, 'abc');
    const b = await s.opened('/b', O_WRONLY | O_APPEND);
    await fails('EBADF', s.p.copyFileRange(a, 0, b, 0, 3));
  }),
  'from a directory is EISDIR': test(['copy-file-range'], async (s) => {
    await s.p.mkdir('/d');
    const a = await s.p.open('/d', O_RDONLY);
    const b = await s.opened('/b', O_WRONLY);
    await fails(['EISDIR', 'EINVAL'], s.p.copyFileRange(a, 0, b, 0, 3));
  }),
});

const tmpfiles: ConformanceMap = family('O_TMPFILE', {
  'makes a file without a name': test(['tmpfile'], async (s) => {
    const fd = await s.p.open('/', O_RDWR | O_TMPFILE, 0o600);
    const { nlink, mode } = await s.p.fstat(fd);
    same([nlink, mode & S_IFMT], [0, S_IFREG], 'nlink, type');
    same(await s.names('/'), [], 'names');
  }),
  'is written and read': test(['tmpfile'], async ({ p }) => {
    const fd = await p.open('/', O_RDWR | O_TMPFILE, 0o600);
    await p.write(fd, bytes('temporary'), 0);
    same(text(await p.read(fd, 20, 0)), 'temporary', 'contents');
  }),
  'gets a name by link': test(['tmpfile', 'hardlinks'], async (s) => {
    const fd = await s.p.open('/', O_RDWR | O_TMPFILE, 0o640);
    await s.p.write(fd, bytes('kept'));
    await s.p.linkFd(fd, '/f');
    same(await s.contents('/f'), 'kept', 'contents');
    const { nlink, mode, ino } = await s.p.stat('/f');
    same([nlink, mode & 0o777, ino], [1, 0o640, (await s.p.fstat(fd)).ino], 'nlink, mode, ino');
  }),
  'is seen through its name while it is still open': test(['tmpfile', 'hardlinks'], async (s) => {
    const fd = await s.p.open('/', O_RDWR | O_TMPFILE, 0o600);
    await s.p.linkFd(fd, '/f');
    await s.p.write(fd, bytes('after'));
    same(await s.contents('/f'), 'after', 'contents');
    await s.p.unlink('/f');
    same((await s.p.fstat(fd)).nlink, 0, 'nlink after unlink');
  }),
  'with O_EXCL never gets a name': test(['tmpfile', 'hardlinks'], async ({ p }) => {
    const fd = await p.open('/', O_RDWR | O_TMPFILE | O_EXCL, 0o600);
    await fails('ENOENT', p.linkFd(fd, '/f'));
  }),
  'two are two': test(['tmpfile'], async ({ p }) => {
    const one = await p.open('/', O_RDWR | O_TMPFILE, 0o600);
    const other = await p.open('/', O_RDWR | O_TMPFILE, 0o600);
    await p.write(one, bytes('one'));
    await p.write(other, bytes('other'));
    same(text(await p.read(one, 9, 0)), 'one', 'contents');
    holds((await p.fstat(one)).ino !== (await p.fstat(other)).ino, 'two inode numbers');
  }),
  'for reading only is EINVAL': test(['tmpfile'], async ({ p }) => {
    await fails('EINVAL', p.open('/', O_RDONLY | O_TMPFILE, 0o600));
  }),
  'in a file is ENOTDIR': test(['tmpfile'], async (s) => {
    await s.file('/f');
    await fails('ENOTDIR', s.p.open('/f', O_RDWR | O_TMPFILE, 0o600));
  }),
  'applies the umask': test(['tmpfile', 'permissions'], async ({ p }) => {
    await p.umask(0o077);
    const fd = await p.open('/', O_RDWR | O_TMPFILE, 0o666);
    same((await p.fstat(fd)).mode & 0o777, 0o600, 'mode');
  }),
});

const statfs: ConformanceMap = family('statfs', {
  'makes sense': test(['statfs'], async ({ p }) => {
    const { bsize, frsize, blocks, bfree, bavail, files, ffree } = await p.statfs('/');
    holds(bsize >= 512 && frsize >= 512, `bsize ${bsize}, frsize ${frsize}`);
    holds(blocks >= bfree && bfree >= bavail, `blocks ${blocks}, bfree ${bfree}, bavail ${bavail}`);
    holds(files >= ffree, `files ${files}, ffree ${ffree}`);
  }),
  'knows the longest name': test(['statfs'], async ({ p }) => {
    same((await p.statfs('/')).namelen, NAME_MAX, 'namelen');
  }),
  'is the same everywhere in the tree': test(['statfs'], async (s) => {
    await s.p.mkdir('/d');
    await s.file('/d/f');
    const [root, below] = [await s.p.statfs('/'), await s.p.statfs('/d/f')];
    same([below.bsize, below.blocks, below.namelen], [root.bsize, root.blocks, root.namelen], 'bsize, blocks, namelen');
  }),
  'of a missing file is ENOENT': test(['statfs'], async ({ p }) => {
    await fails('ENOENT', p.statfs('/f'));
  }),
  'dev is the same for all files, ino differs': test(['stable-inodes'], async (s) => {
    await s.p.mkdir('/d');
    await s.file('/d/f');
    await s.file('/g');
    const stats = [await s.p.stat('/'), await s.p.stat('/d'), await s.p.stat('/d/f'), await s.p.stat('/g')];
    same(new Set(stats.map((stat) => stat.dev)).size, 1, 'devices');
    same(new Set(stats.map((stat) => stat.ino)).size, 4, 'inode numbers');
  }),
  'blksize is a size': test([], async (s) => {
    await s.file('/f', 'x');
    holds((await s.p.stat('/f')).blksize >= 512, 'blksize of a file');
  }),
  'the inode number of a file stays': test(['stable-inodes'], async (s) => {
    await s.file('/f', 'x');
    const { ino } = await s.p.stat('/f');
    await s.p.chmod('/f', 0o600);
    await s.file('/f', 'other');
    same((await s.p.stat('/f')).ino, ino, 'ino');
  }),
});

const FAR = [2 * GIB - 1, 2 * GIB, 4 * GIB - 1, 4 * GIB, 4 * GIB + 1, 6 * GIB + 12_345, 64 * GIB];

const large: ConformanceMap = family('large file', {
  ...each(
    FAR,
    (at) => `bytes at ${at}`,
    (at) =>
      test(['large-files', 'sparse'], async (s) => {
        const fd = await s.opened('/f', O_RDWR);
        same(await s.p.write(fd, bytes('here'), at), 4, 'bytes written');
        same((await s.p.fstat(fd)).size, at + 4, 'size');
        same(text(await s.p.read(fd, 10, at)), 'here', 'contents');
        same(text(await s.p.read(fd, 4, at - 2)), '\0\0he', 'contents across');
        same(text(await s.p.read(fd, 4, at % (4 * GIB) === at ? 0 : at % (4 * GIB))), '\0\0\0\0', 'the same place below 4 GiB');
      }),
  ),
  'lseek and read behind 4 GiB': test(['large-files', 'sparse'], async (s) => {
    const fd = await s.opened('/f', O_RDWR);
    await s.p.write(fd, bytes('abc'), 5 * GIB);
    same(await s.p.lseek(fd, 5 * GIB + 1, SEEK_SET), 5 * GIB + 1, 'position');
    same(text(await s.p.read(fd, 9)), 'bc', 'contents');
    same(await s.p.lseek(fd, -3, SEEK_END), 5 * GIB, 'position from the end');
  }),
  'truncate across 4 GiB': test(['large-files', 'sparse', 'truncate'], async (s) => {
    await s.file('/f', 'abc');
    await s.p.truncate('/f', 9 * GIB);
    same((await s.p.stat('/f')).size, 9 * GIB, 'size');
    await s.p.truncate('/f', 4 * GIB + 2);
    same((await s.p.stat('/f')).size, 4 * GIB + 2, 'size');
    await s.p.truncate('/f', 2);
    same(await s.contents('/f'), 'ab', 'contents');
  }),
  'append behind 4 GiB': test(['large-files', 'sparse', 'truncate', 'append'], async (s) => {
    await s.file('/f');
    await s.p.truncate('/f', 4 * GIB + 10);
    const fd = await s.p.open('/f', O_RDWR | O_APPEND);
    await s.p.write(fd, bytes('end'));
    same((await s.p.fstat(fd)).size, 4 * GIB + 13, 'size');
    same(text(await s.p.read(fd, 10, 4 * GIB + 10)), 'end', 'contents');
  }),
  'a made file of 5 GiB is listed with its size': test(['large-files', 'sparse', 'truncate'], async (s) => {
    const fd = await s.p.open('/f', O_WRONLY | O_CREAT);
    await s.p.ftruncate(fd, 5 * GIB);
    await s.p.close(fd);
    const other = await s.as();
    same((await other.stat('/f')).size, 5 * GIB, 'size');
  }),
});

export const space: ConformanceMap = { ...fallocate, ...holes, ...copying, ...tmpfiles, ...statfs, ...large };
