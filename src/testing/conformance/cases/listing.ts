/** getdents64(2): what a directory says it holds, while it changes and from every position. */
import type { PosixDirent, PosixProcess } from '../../posix.ts';
import { bytes, type ConformanceMap, each, fails, family, holds, same, test } from '../case.ts';
import { direntType, O_DIRECTORY, O_RDONLY, S_IFIFO } from '../linux.ts';

const isDot = (name: string) => name === '.' || name === '..';
const namesOf = (entries: readonly PosixDirent[]) =>
  entries
    .map((entry) => entry.name)
    .filter((name) => !isDot(name))
    .sort();
const numbered = (count: number) => Array.from({ length: count }, (_, index) => `entry-${String(index).padStart(5, '0')}`);

async function openRoot(p: PosixProcess, path = '/'): Promise<number> {
  return p.open(path, O_RDONLY | O_DIRECTORY);
}

/** Empty files; a process is asked for all of them at once. */
async function fill(p: PosixProcess, path: string, names: readonly string[]): Promise<void> {
  await Promise.all(names.map((name) => p.mknod(`${path}/${name}`, 0o100644)));
}

/** Lists in small pieces, to the end. */
async function listSlowly(
  p: PosixProcess,
  fd: number,
  bytesAtOnce: number,
  between?: (seen: number) => Promise<void>,
): Promise<PosixDirent[]> {
  const all: PosixDirent[] = [];
  for (;;) {
    const some = await p.getdentsSome(fd, bytesAtOnce);
    if (some.length === 0) return all;
    all.push(...some);
    await between?.(all.length);
  }
}

const complete: ConformanceMap = {
  ...each(
    [0, 1, 2, 10, 100, 1000],
    (count) => `${count} entries, each once`,
    (count) =>
      test([], async (s) => {
        await s.p.mkdir('/d');
        await fill(s.p, '/d', numbered(count));
        const fd = await openRoot(s.p, '/d');
        same(namesOf(await s.p.getdents(fd)), numbered(count), 'names');
      }),
  ),
  ...each(
    [280, 1024, 4096],
    (size) => `in buffers of ${size} bytes`,
    (size) =>
      test([], async (s) => {
        await s.p.mkdir('/d');
        await fill(s.p, '/d', numbered(300));
        const fd = await openRoot(s.p, '/d');
        same(namesOf(await listSlowly(s.p, fd, size)), numbered(300), 'names');
      }),
  ),
  'long names, each once': test(['long-names'], async (s) => {
    const names = Array.from({ length: 60 }, (_, index) => `${index}-`.padEnd(255, 'x')).sort();
    await s.p.mkdir('/d');
    await fill(s.p, '/d', names);
    const fd = await openRoot(s.p, '/d');
    same(namesOf(await s.p.getdents(fd)), names, 'names');
  }),
  'contains . and .. once': test([], async (s) => {
    await s.p.mkdir('/d');
    await s.file('/d/f');
    const fd = await openRoot(s.p, '/d');
    const dots = (await s.p.getdents(fd)).map((entry) => entry.name).filter(isDot);
    same(dots.sort(), ['.', '..'], 'dots');
  }),
  '. and .. have the inode numbers of the directory and its parent': test(['stable-inodes'], async ({ p }) => {
    await p.mkdir('/d');
    await p.mkdir('/d/e');
    const fd = await openRoot(p, '/d/e');
    const entries = await p.getdents(fd);
    const ino = (name: string) => entries.find((entry) => entry.name === name)?.ino;
    same(ino('.'), (await p.stat('/d/e')).ino, 'ino of .');
    same(ino('..'), (await p.stat('/d')).ino, 'ino of ..');
  }),
  'd_ino is what stat says': test(['stable-inodes'], async (s) => {
    await s.file('/f');
    await s.p.mkdir('/d');
    const fd = await openRoot(s.p);
    for (const entry of await s.p.getdents(fd)) {
      if (!isDot(entry.name)) same(entry.ino, (await s.p.lstat(`/${entry.name}`)).ino, `d_ino of ${entry.name}`);
    }
  }),
  'd_ino and d_type of a hundred files are what stat says': test(['stable-inodes'], async (s) => {
    await s.p.mkdir('/d');
    await fill(s.p, '/d', numbered(100));
    const fd = await openRoot(s.p, '/d');
    for (const entry of await s.p.getdents(fd)) {
      if (isDot(entry.name)) continue;
      const stat = await s.p.lstat(`/d/${entry.name}`);
      same(entry.ino, stat.ino, `d_ino of ${entry.name}`);
      holds(entry.type === 0 || entry.type === direntType(stat.mode), `d_type of ${entry.name} is ${entry.type}`);
    }
  }),
  'd_type of a file, a directory, a link and a FIFO': test(['symlinks', 'fifos'], async (s) => {
    await s.file('/file');
    await s.p.mkdir('/directory');
    await s.p.symlink('x', '/link');
    await s.p.mknod('/fifo', S_IFIFO | 0o600);
    const fd = await openRoot(s.p);
    for (const entry of await s.p.getdents(fd)) {
      const { mode } = await s.p.lstat(`/${entry.name === '..' ? '.' : entry.name}`);
      holds(entry.type === 0 || entry.type === direntType(mode), `d_type of ${entry.name} is ${entry.type}`);
    }
  }),
};

const positions: ConformanceMap = {
  'is at its end after the last entry': test([], async (s) => {
    await s.file('/f');
    const fd = await openRoot(s.p);
    await s.p.getdents(fd);
    same(await s.p.getdents(fd), [], 'entries');
  }),
  'begins again after seekdir to 0': test([], async (s) => {
    await s.p.mkdir('/d');
    await fill(s.p, '/d', numbered(50));
    const fd = await openRoot(s.p, '/d');
    const first = await s.p.getdents(fd);
    await s.p.seekdir(fd, 0n);
    same(await s.p.getdents(fd), first, 'entries');
  }),
  'after seekdir to 0 shows what came since': test([], async (s) => {
    await s.file('/a');
    const fd = await openRoot(s.p);
    same(namesOf(await s.p.getdents(fd)), ['a'], 'names');
    await s.file('/b');
    await s.p.unlink('/a');
    await s.p.seekdir(fd, 0n);
    same(namesOf(await s.p.getdents(fd)), ['b'], 'names after');
  }),
  ...each(
    [5, 60],
    (count) => `seekdir to every cookie of ${count} entries`,
    (count) =>
      test(['seekdir'], async (s) => {
        await s.p.mkdir('/d');
        await fill(s.p, '/d', numbered(count));
        const fd = await openRoot(s.p, '/d');
        const all = await s.p.getdents(fd);
        for (let index = 0; index < all.length; index++) {
          await s.p.seekdir(fd, all[index].offset);
          const rest = await s.p.getdents(fd);
          same(
            rest.map((entry) => entry.name),
            all.slice(index + 1).map((entry) => entry.name),
            `names after entry ${index}`,
          );
        }
      }),
  ),
  'seekdir backwards, in another descriptor of the directory': test(['seekdir'], async (s) => {
    await s.p.mkdir('/d');
    await fill(s.p, '/d', numbered(200));
    const all = await s.p.getdents(await openRoot(s.p, '/d'));
    const fd = await openRoot(s.p, '/d');
    for (const index of [150, 3, 199, 0, 100]) {
      await s.p.seekdir(fd, all[index].offset);
      const rest = await s.p.getdents(fd);
      same(rest.length, all.length - index - 1, `entries after entry ${index}`);
    }
  }),
  'cookies differ': test(['seekdir'], async (s) => {
    await s.p.mkdir('/d');
    await fill(s.p, '/d', numbered(100));
    const all = await s.p.getdents(await openRoot(s.p, '/d'));
    same(new Set(all.map((entry) => entry.offset)).size, all.length, 'different cookies');
  }),
  'two descriptors have two positions': test([], async (s) => {
    await s.p.mkdir('/d');
    await fill(s.p, '/d', numbered(100));
    const [one, other] = [await openRoot(s.p, '/d'), await openRoot(s.p, '/d')];
    const first = await s.p.getdentsSome(one, 1024);
    const whole = await s.p.getdents(other);
    same([...namesOf(first), ...namesOf(await s.p.getdents(one))].sort(), namesOf(whole), 'names');
  }),
  'dup shares the position': test([], async (s) => {
    await s.p.mkdir('/d');
    await fill(s.p, '/d', numbered(100));
    const one = await openRoot(s.p, '/d');
    const other = await s.p.dup(one);
    const first = await s.p.getdentsSome(one, 1024);
    const rest = await s.p.getdents(other);
    same([...namesOf(first), ...namesOf(rest)].sort(), numbered(100), 'names');
  }),
  'a buffer too small for an entry is EINVAL': test([], async (s) => {
    await s.file('/a-name-that-needs-some-room');
    const fd = await openRoot(s.p);
    await fails('EINVAL', s.p.getdentsSome(fd, 8));
  }),
  'a closed directory is EBADF': test([], async ({ p }) => {
    const fd = await openRoot(p);
    await p.close(fd);
    await fails('EBADF', p.getdents(fd));
  }),
};

/** What happens while somebody lists 400 entries; those that stay must be seen exactly once. */
const CHANGES: { name: string; change: (p: PosixProcess, round: number) => Promise<void>; mayMiss: RegExp }[] = [
  {
    name: 'entries are added',
    change: async (p, round) => {
      for (let index = 0; index < 5; index++) await p.mknod(`/d/added-${round}-${index}`, 0o100644);
    },
    mayMiss: /^added/,
  },
  {
    name: 'entries are removed behind the reader and before it',
    change: async (p, round) => {
      for (const name of [`/d/extra-${round}`, `/d/extra-${99 - round}`]) await p.unlink(name).catch(() => {});
    },
    mayMiss: /^extra/,
  },
  {
    name: 'entries are renamed',
    change: async (p, round) => p.rename(`/d/extra-${round}`, `/d/renamed-${round}`).catch(() => {}),
    mayMiss: /^(extra|renamed)/,
  },
  {
    name: 'one entry comes and goes',
    change: async (p) => {
      await p.mknod('/d/flicker', 0o100644);
      await p.unlink('/d/flicker');
    },
    mayMiss: /^flicker/,
  },
];

const changing: ConformanceMap = {
  ...each(
    CHANGES,
    ({ name }) => `stays right while ${name}`,
    ({ change, mayMiss }) =>
      test([], async (s) => {
        await s.p.mkdir('/d');
        await fill(s.p, '/d', numbered(300));
        await fill(
          s.p,
          '/d',
          Array.from({ length: 100 }, (_, index) => `extra-${index}`),
        );
        const other = await s.as();
        const fd = await openRoot(s.p, '/d');
        let round = 0;
        const seen = namesOf(await listSlowly(s.p, fd, 1024, () => (round < 100 ? change(other, round++) : Promise.resolve())));
        same(
          seen.filter((name) => name.startsWith('entry')),
          numbered(300),
          'the entries that stayed',
        );
        const rest = seen.filter((name) => !mayMiss.test(name) && !name.startsWith('entry') && !name.startsWith('extra'));
        same(rest, [], 'names of nothing');
        const changed = seen.filter((name) => mayMiss.test(name) && name !== 'flicker');
        same(changed.length, new Set(changed).size, 'each name at most once');
      }),
  ),
  'every entry is removed while it is listed': test([], async (s) => {
    await s.p.mkdir('/d');
    await fill(s.p, '/d', numbered(300));
    const fd = await openRoot(s.p, '/d');
    const removed: string[] = [];
    for (;;) {
      const some = await s.p.getdentsSome(fd, 1024);
      if (some.length === 0) break;
      for (const { name } of some) {
        if (isDot(name)) continue;
        await s.p.unlink(`/d/${name}`);
        removed.push(name);
      }
    }
    same(removed.sort(), numbered(300), 'names');
    same(await s.names('/d'), [], 'names left');
    await s.p.rmdir('/d');
  }),
  'shows a new file at once': test([], async (s) => {
    const other = await s.as();
    for (let round = 0; round < 10; round++) {
      await other.mknod(`/f${round}`, 0o100644);
      same((await s.names('/')).length, round + 1, 'names');
    }
  }),
  'does not show a removed file': test([], async (s) => {
    const other = await s.as();
    await fill(s.p, '/', numbered(10));
    for (let round = 0; round < 10; round++) {
      await other.unlink(`/${numbered(10)[round]}`);
      same((await s.names('/')).length, 9 - round, 'names');
    }
  }),
  'attributes are fresh when a listed file changed': test([], async (s) => {
    await s.file('/f', 'a');
    await s.names('/');
    same((await s.p.stat('/f')).size, 1, 'size before');
    const other = await s.as();
    const fd = await other.open('/f', 1);
    await other.write(fd, bytes('abcdef'));
    await s.names('/');
    same((await s.p.stat('/f')).size, 6, 'size after');
  }),
};

export const listing = family('readdir', { ...complete, ...positions, ...changing });
