/** read, write, lseek, truncate, append, fsync. */
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
  writeAll,
} from '../case.ts';
import {
  BLOCK,
  O_APPEND,
  O_CREAT,
  O_DIRECT,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  SEEK_CUR,
  SEEK_END,
  SEEK_SET,
} from '../linux.ts';

/** Around the sizes where something changes: a block, a page cache chunk, the largest request. */
const SIZES = [0, 1, 511, 512, BLOCK - 1, BLOCK, BLOCK + 1, 65_535, 65_536, 131_072, 131_073, 1_048_576, 1_048_577];

/** Places and lengths of a piece in a file of 300,000 bytes. */
const PIECES = [
  [0, 1],
  [1, BLOCK],
  [BLOCK - 1, 2],
  [BLOCK, BLOCK],
  [12_345, 67_890],
  [131_071, 2],
  [131_072, 131_072],
  [299_999, 1],
] as const;
const PIECES_BYTES = 300_000;

const wholeFiles: ConformanceMap = each(
  SIZES,
  (size) => `${size} bytes come back as they were written`,
  (size) =>
    test([], async (s) => {
      const data = pattern(size, 1);
      await s.file('/f', data);
      same((await s.p.stat('/f')).size, size, 'size');
      const other = await s.as();
      const fd = await other.open('/f', O_RDONLY);
      sameBytes(await readAll(other, fd), data, 'contents');
    }),
);

const pieces: ConformanceMap = {
  ...each(
    PIECES,
    ([at, length]) => `pread of ${length} bytes at ${at}`,
    ([at, length]) =>
      test([], async (s) => {
        const data = pattern(PIECES_BYTES, 2);
        await s.file('/f', data);
        const fd = await s.p.open('/f', O_RDONLY);
        sameBytes(await s.p.read(fd, length, at), data.subarray(at, at + length), 'piece');
        same(await s.p.lseek(fd, 0, SEEK_CUR), 0, 'the position stays');
      }),
  ),
  ...each(
    PIECES,
    ([at, length]) => `pwrite of ${length} bytes at ${at}`,
    ([at, length]) =>
      test([], async (s) => {
        const data = pattern(PIECES_BYTES, 3);
        const piece = pattern(length, 4);
        await s.file('/f', data);
        const fd = await s.p.open('/f', O_RDWR);
        same(await s.p.write(fd, piece, at), length, 'bytes written');
        data.set(piece, at);
        sameBytes(await readAll(s.p, fd), data, 'contents');
        same((await s.p.fstat(fd)).size, PIECES_BYTES, 'size');
      }),
  ),
};

const reading: ConformanceMap = {
  'at the end of the file gives nothing': test([], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'abc');
    same((await s.p.read(fd, 10, 3)).length, 0, 'at the end');
    same((await s.p.read(fd, 10, 4)).length, 0, 'behind the end');
    same((await s.p.read(fd, 10, 1_000_000)).length, 0, 'far behind the end');
  }),
  'across the end of the file is short': test([], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'abcdef');
    same(text(await s.p.read(fd, 10, 4)), 'ef', 'bytes');
  }),
  'zero bytes is nothing': test([], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'abc');
    same((await s.p.read(fd, 0, 0)).length, 0, 'bytes');
  }),
  'moves the position by what it read': test([], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'abcdef');
    same(text(await s.p.read(fd, 4)), 'abcd', 'first');
    same(text(await s.p.read(fd, 4)), 'ef', 'second');
    same(text(await s.p.read(fd, 4)), '', 'third');
    same(await s.p.lseek(fd, 0, SEEK_CUR), 6, 'position');
  }),
  'a negative position is EINVAL': test([], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abc');
    await fails('EINVAL', s.p.read(fd, 1, -1));
    await fails('EINVAL', s.p.write(fd, bytes('x'), -1));
  }),
  'sees what another descriptor wrote since': test([], async (s) => {
    const reader = await s.opened('/f', O_RDONLY, 'aaaa');
    same(text(await s.p.read(reader, 4, 0)), 'aaaa', 'before');
    const other = await s.as();
    const writer = await other.open('/f', O_WRONLY);
    await other.write(writer, bytes('bb'), 1);
    same(text(await s.p.read(reader, 4, 0)), 'abba', 'after');
  }),
  'an empty file is empty to every read': test([], async (s) => {
    const fd = await s.opened('/f', O_RDWR);
    same((await s.p.read(fd, 100)).length, 0, 'bytes');
    same(await s.p.lseek(fd, 0, SEEK_END), 0, 'end');
  }),
};

const writing: ConformanceMap = {
  'moves the position': test([], async (s) => {
    const fd = await s.opened('/f', O_RDWR);
    await s.p.write(fd, bytes('abc'));
    await s.p.write(fd, bytes('def'));
    same(await s.p.lseek(fd, 0, SEEK_CUR), 6, 'position');
    same(await s.contents('/f'), 'abcdef', 'contents');
  }),
  'over the end makes the file longer': test([], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abc');
    await s.p.write(fd, bytes('XYZ'), 2);
    same(await s.contents('/f'), 'abXYZ', 'contents');
    same((await s.p.fstat(fd)).size, 5, 'size');
  }),
  'zero bytes changes nothing': test([], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abc');
    same(await s.p.write(fd, bytes(''), 100), 0, 'bytes written');
    same((await s.p.fstat(fd)).size, 3, 'size');
  }),
  'one byte at a time': test([], async (s) => {
    const fd = await s.opened('/f', O_WRONLY);
    for (let at = 0; at < 200; at++) await s.p.write(fd, bytes(String.fromCharCode(33 + (at % 90))));
    const expected = Array.from({ length: 200 }, (_, at) => String.fromCharCode(33 + (at % 90))).join('');
    same(await s.contents('/f'), expected, 'contents');
  }),
  'backwards, piece by piece': test(['sparse'], async (s) => {
    const data = pattern(50_000, 5);
    const fd = await s.opened('/f', O_RDWR);
    for (let at = 49_000; at >= 0; at -= 1000) await s.p.write(fd, data.subarray(at, at + 1000), at);
    sameBytes(await readAll(s.p, fd), data, 'contents');
  }),
  'overwriting does not change the size': test([], async (s) => {
    await s.file('/f', 'abcdef');
    const fd = await s.p.open('/f', O_WRONLY);
    await s.p.write(fd, bytes('ABC'));
    same((await s.p.fstat(fd)).size, 6, 'size');
    same(await s.contents('/f'), 'ABCdef', 'contents');
  }),
  'four megabytes in one call': test([], async (s) => {
    const data = pattern(4 << 20, 6);
    await s.file('/f', data);
    const fd = await s.p.open('/f', O_RDONLY);
    sameBytes(await readAll(s.p, fd), data, 'contents');
  }),
  'survives fsync and fdatasync': test([], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abc');
    await s.p.write(fd, bytes('X'), 1);
    await s.p.fsync(fd);
    await s.p.write(fd, bytes('Y'), 2);
    await s.p.fdatasync(fd);
    same(await s.contents('/f'), 'aXY', 'contents');
  }),
  'fsync of a descriptor that only reads works': test([], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'abc');
    await s.p.fsync(fd);
  }),
  'fsync of a directory works': test([], async ({ p }) => {
    await p.mkdir('/d');
    const fd = await p.open('/d', O_RDONLY);
    await p.fsync(fd);
  }),
  'blocks count what is stored': test(['sparse'], async (s) => {
    await s.file('/f', pattern(64 * 1024));
    const fd = await s.p.open('/f', O_RDONLY);
    await s.p.fsync(fd);
    const { blocks } = await s.p.fstat(fd);
    holds(blocks >= 128 && blocks < 1024, `64 KiB take ${blocks} blocks of 512 bytes`);
  }),
};

const holes: ConformanceMap = family('hole', {
  'reads as zeros': test(['sparse'], async (s) => {
    const fd = await s.opened('/f', O_RDWR);
    await s.p.write(fd, bytes('end'), 10_000);
    const data = await readAll(s.p, fd);
    same(data.length, 10_003, 'length');
    holds(
      data.subarray(0, 10_000).every((byte) => byte === 0),
      'zeros before the data',
    );
    same(text(data.subarray(10_000)), 'end', 'data');
  }),
  'behind lseek': test(['sparse'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'ab');
    same(await s.p.lseek(fd, 5, SEEK_END), 7, 'position');
    same((await s.p.fstat(fd)).size, 2, 'lseek alone changes nothing');
    await s.p.write(fd, bytes('cd'));
    same(await s.contents('/f'), 'ab\0\0\0\0\0cd', 'contents');
  }),
  'takes no space': test(['sparse'], async (s) => {
    const fd = await s.opened('/f', O_RDWR);
    await s.p.write(fd, bytes('x'), 8 << 20);
    await s.p.fsync(fd);
    holds((await s.p.fstat(fd)).blocks < 2048, 'a hole of 8 MiB takes less than 1 MiB');
  }),
  'is filled later': test(['sparse'], async (s) => {
    const fd = await s.opened('/f', O_RDWR);
    await s.p.write(fd, bytes('B'), 9000);
    await s.p.write(fd, bytes('A'), 4500);
    const data = await readAll(s.p, fd);
    same([data[4499], data[4500], data[4501], data[9000]], [0, 65, 0, 66], 'bytes');
  }),
});

const seeking: ConformanceMap = family('lseek', {
  'SEEK_SET, SEEK_CUR, SEEK_END': test([], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'abcdefghij');
    same(await s.p.lseek(fd, 4, SEEK_SET), 4, 'SEEK_SET');
    same(await s.p.lseek(fd, 3, SEEK_CUR), 7, 'SEEK_CUR');
    same(await s.p.lseek(fd, -2, SEEK_END), 8, 'SEEK_END');
    same(text(await s.p.read(fd, 9)), 'ij', 'bytes');
  }),
  'before the beginning is EINVAL, and the position stays': test([], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'abc');
    await s.p.lseek(fd, 2, SEEK_SET);
    await fails('EINVAL', s.p.lseek(fd, -1, SEEK_SET));
    await fails('EINVAL', s.p.lseek(fd, -3, SEEK_CUR));
    await fails('EINVAL', s.p.lseek(fd, -4, SEEK_END));
    same(await s.p.lseek(fd, 0, SEEK_CUR), 2, 'position');
  }),
  'an unknown whence is EINVAL': test([], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'abc');
    await fails('EINVAL', s.p.lseek(fd, 0, 99));
  }),
  'SEEK_END follows a file that grows': test([], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'abc');
    const other = await s.as();
    const writer = await other.open('/f', O_WRONLY | O_APPEND);
    await other.write(writer, bytes('defg'));
    same(await s.p.lseek(fd, 0, SEEK_END), 7, 'end');
  }),
});

const LENGTHS = [
  [10, 0],
  [10, 9],
  [10, 10],
  [10, 11],
  [10_000, 4096],
  [10_000, 4097],
  [0, 5000],
  [4096, 200_000],
  [200_000, 1],
] as const;

const lengths: ConformanceMap = {
  ...each(
    LENGTHS,
    ([from, to]) => `truncate from ${from} to ${to}`,
    ([from, to]) =>
      test(['truncate'], async (s) => {
        const data = pattern(from, 7);
        await s.file('/f', data);
        await s.p.truncate('/f', to);
        same((await s.p.stat('/f')).size, to, 'size');
        const expected = new Uint8Array(to);
        expected.set(data.subarray(0, to));
        const fd = await s.p.open('/f', O_RDONLY);
        sameBytes(await readAll(s.p, fd), expected, 'contents');
      }),
  ),
  ...each(
    LENGTHS,
    ([from, to]) => `ftruncate from ${from} to ${to}`,
    ([from, to]) =>
      test(['truncate'], async (s) => {
        const data = pattern(from, 8);
        await s.file('/f', data);
        const fd = await s.p.open('/f', O_RDWR);
        // Some of it is in the cache of whoever has one.
        await s.p.read(fd, 5000, 0);
        await s.p.ftruncate(fd, to);
        same((await s.p.fstat(fd)).size, to, 'size');
        const expected = new Uint8Array(to);
        expected.set(data.subarray(0, to));
        sameBytes(await readAll(s.p, fd), expected, 'contents');
      }),
  ),
  'truncate: what was cut off is gone when the file grows again': test(['truncate'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abcdefghij');
    await s.p.ftruncate(fd, 3);
    await s.p.ftruncate(fd, 6);
    same(await s.contents('/f'), 'abc\0\0\0', 'contents');
    await s.p.write(fd, bytes('Z'), 8);
    same(await s.contents('/f'), 'abc\0\0\0\0\0Z', 'contents');
  }),
  'truncate: the position stays': test(['truncate'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abcdef');
    await s.p.lseek(fd, 5, SEEK_SET);
    await s.p.ftruncate(fd, 2);
    same(await s.p.lseek(fd, 0, SEEK_CUR), 5, 'position');
    await s.p.write(fd, bytes('X'));
    same(await s.contents('/f'), 'ab\0\0\0X', 'contents');
  }),
  'truncate: a negative length is EINVAL': test(['truncate'], async (s) => {
    const fd = await s.opened('/f', O_RDWR, 'abc');
    await fails('EINVAL', s.p.truncate('/f', -1));
    await fails('EINVAL', s.p.ftruncate(fd, -1));
    same((await s.p.fstat(fd)).size, 3, 'size');
  }),
  'truncate: a directory is EISDIR': test(['truncate'], async ({ p }) => {
    await p.mkdir('/d');
    await fails('EISDIR', p.truncate('/d', 0));
  }),
  'truncate: a missing file is ENOENT': test(['truncate'], async ({ p }) => {
    await fails('ENOENT', p.truncate('/f', 0));
  }),
  'truncate: follows a symbolic link': test(['truncate', 'symlinks'], async (s) => {
    await s.file('/f', 'abcdef');
    await s.p.symlink('f', '/l');
    await s.p.truncate('/l', 2);
    same(await s.contents('/f'), 'ab', 'contents');
  }),
  'truncate: seen by another process at once': test(['truncate'], async (s) => {
    const other = await s.as();
    await s.file('/f', 'abcdef');
    const fd = await other.open('/f', O_RDONLY);
    same(text(await other.read(fd, 6, 0)), 'abcdef', 'before');
    await s.p.truncate('/f', 2);
    same(text(await other.read(fd, 6, 0)), 'ab', 'after');
    same((await other.fstat(fd)).size, 2, 'size');
  }),
  'truncate: gives back space': test(['truncate', 'sparse'], async (s) => {
    await s.file('/f', pattern(1 << 20));
    const fd = await s.p.open('/f', O_RDWR);
    await s.p.fsync(fd);
    const before = (await s.p.fstat(fd)).blocks;
    await s.p.ftruncate(fd, 0);
    const after = (await s.p.fstat(fd)).blocks;
    holds(after < before, `${before} blocks before, ${after} after`);
  }),
};

const appending: ConformanceMap = family('append', {
  'every write goes to the end': test(['append'], async (s) => {
    const fd = await s.opened('/f', O_WRONLY | O_APPEND, 'abc');
    await s.p.lseek(fd, 0, SEEK_SET);
    await s.p.write(fd, bytes('def'));
    same(await s.p.lseek(fd, 0, SEEK_CUR), 6, 'position');
    same(await s.contents('/f'), 'abcdef', 'contents');
  }),
  'pwrite goes to the end too, as on Linux': test(['append'], async (s) => {
    const fd = await s.opened('/f', O_WRONLY | O_APPEND, 'abc');
    same(await s.p.write(fd, bytes('X'), 0), 1, 'bytes written');
    same(await s.contents('/f'), 'abcX', 'contents');
  }),
  'after somebody else made the file longer': test(['append'], async (s) => {
    const fd = await s.opened('/f', O_WRONLY | O_APPEND, 'abc');
    const other = await s.as();
    const writer = await other.open('/f', O_WRONLY);
    await other.write(writer, bytes('0123456789'));
    await s.p.write(fd, bytes('!'));
    same(await s.contents('/f'), '0123456789!', 'contents');
  }),
  'after a truncation': test(['append', 'truncate'], async (s) => {
    const fd = await s.opened('/f', O_WRONLY | O_APPEND, 'abcdef');
    await s.p.truncate('/f', 2);
    await s.p.write(fd, bytes('X'));
    same(await s.contents('/f'), 'abX', 'contents');
  }),
  'two processes lose nothing': test(['append'], async (s) => {
    await s.file('/f');
    const writers = await Promise.all([s.as(), s.as()]);
    await Promise.all(
      writers.map(async (p, who) => {
        const fd = await p.open('/f', O_WRONLY | O_APPEND);
        const line = bytes(`${'ab'[who].repeat(99)}\n`);
        await Promise.all(Array.from({ length: 100 }, () => p.write(fd, line)));
        await p.close(fd);
      }),
    );
    const lines = (await s.contents('/f')).split('\n');
    same(lines.length, 201, 'lines');
    same(lines.filter((line) => line === 'a'.repeat(99)).length, 100, 'lines of the first');
    same(lines.filter((line) => line === 'b'.repeat(99)).length, 100, 'lines of the second');
  }),
});

const direct: ConformanceMap = family('direct', {
  'aligned pieces come back': test(['direct-io'], async (s) => {
    const data = pattern(64 * 1024, 9);
    const fd = await s.p.open('/f', O_RDWR | O_CREAT | O_DIRECT);
    same(await s.p.write(fd, data, 0), data.length, 'bytes written');
    sameBytes(await s.p.read(fd, data.length, 0), data, 'contents');
    sameBytes(await s.p.read(fd, BLOCK, 3 * BLOCK), data.subarray(3 * BLOCK, 4 * BLOCK), 'one block');
  }),
  'sees what was written through the cache': test(['direct-io'], async (s) => {
    const data = pattern(2 * BLOCK, 10);
    await s.file('/f', data);
    const fd = await s.p.open('/f', O_RDONLY | O_DIRECT);
    sameBytes(await s.p.read(fd, 2 * BLOCK, 0), data, 'contents');
  }),
  'is seen through the cache': test(['direct-io'], async (s) => {
    await s.file('/f', pattern(4 * BLOCK, 11));
    const cached = await s.p.open('/f', O_RDONLY);
    await s.p.read(cached, 4 * BLOCK, 0);
    const fd = await s.p.open('/f', O_WRONLY | O_DIRECT);
    const piece = pattern(BLOCK, 12);
    await s.p.write(fd, piece, BLOCK);
    sameBytes(await s.p.read(cached, BLOCK, BLOCK), piece, 'contents');
  }),
  'is short at the end of the file': test(['direct-io'], async (s) => {
    await s.file('/f', pattern(BLOCK + 100, 13));
    const fd = await s.p.open('/f', O_RDONLY | O_DIRECT);
    same((await s.p.read(fd, 4 * BLOCK, 0)).length, BLOCK + 100, 'bytes');
    same((await s.p.read(fd, BLOCK, 2 * BLOCK)).length, 0, 'bytes behind the end');
  }),
});

const sharing: ConformanceMap = family('shared', {
  'writers of different parts do not disturb each other': test([], async (s) => {
    const each = 20_000;
    await s.file('/f', new Uint8Array(4 * each));
    const writers = await Promise.all([s.as(), s.as(), s.as(), s.as()]);
    await Promise.all(
      writers.map(async (p, who) => {
        const fd = await p.open('/f', O_WRONLY);
        const data = pattern(each, who);
        for (let at = 0; at < each; at += 777) await p.write(fd, data.subarray(at, Math.min(each, at + 777)), who * each + at);
        await p.close(fd);
      }),
    );
    const fd = await s.p.open('/f', O_RDONLY);
    const data = await readAll(s.p, fd);
    for (let who = 0; who < 4; who++) sameBytes(data.subarray(who * each, (who + 1) * each), pattern(each, who), `part ${who}`);
  }),
  'a file that is replaced while it is read stays whole for the reader': test(['unlinked-open'], async (s) => {
    const data = pattern(100_000, 14);
    await s.file('/f', data);
    const reader = await s.p.open('/f', O_RDONLY);
    const first = await s.p.read(reader, 50_000);
    await s.file('/new', 'short');
    await s.p.rename('/new', '/f');
    const rest = await readAll(s.p, reader);
    sameBytes(first, data.subarray(0, 50_000), 'first half');
    sameBytes(rest, data.subarray(50_000), 'second half');
    same(await s.contents('/f'), 'short', 'the new file');
  }),
  'a file is written anew many times': test(['truncate'], async (s) => {
    for (let round = 0; round < 20; round++) {
      const fd = await s.p.open('/f', O_WRONLY | O_CREAT | O_TRUNC);
      await writeAll(s.p, fd, pattern(1000 + round * 37, round));
      await s.p.close(fd);
      const reader = await s.p.open('/f', O_RDONLY);
      sameBytes(await readAll(s.p, reader), pattern(1000 + round * 37, round), `round ${round}`);
      await s.p.close(reader);
    }
  }),
});

export const data: ConformanceMap = {
  ...family('data', { ...wholeFiles, ...pieces }),
  ...family('read', reading),
  ...family('write', writing),
  ...holes,
  ...seeking,
  ...lengths,
  ...appending,
  ...direct,
  ...sharing,
};
