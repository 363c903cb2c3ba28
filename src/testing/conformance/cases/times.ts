/** utimensat(2), and which operation sets which time. */
import type { PosixFeature } from '../../posix.ts';
import { ALICE, bytes, type ConformanceMap, each, fails, family, holds, SECOND_NS, type Stage, same, test } from '../case.ts';
import { O_CREAT, O_DIRECTORY, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } from '../linux.ts';

const nowNs = () => BigInt(Date.now()) * 1_000_000n;
/** How far the clock that stamps files may lie behind the one of this program. */
const CLOCK_SLACK_NS = SECOND_NS * 5n;

function isNow(time: bigint, what: string): void {
  const off = nowNs() - time;
  holds(off < CLOCK_SLACK_NS && off > -CLOCK_SLACK_NS, `${what} is ${off} ns before now`);
}

const MOMENTS: { name: string; needs: readonly PosixFeature[]; ns: bigint }[] = [
  { name: '1970', needs: [], ns: 0n },
  { name: 'one second after 1970', needs: [], ns: SECOND_NS },
  { name: '2001 with nanoseconds', needs: ['nanoseconds'], ns: 1_000_000_000_123_456_789n },
  { name: 'the last nanosecond of a second', needs: ['nanoseconds'], ns: 1_500_000_000_999_999_999n },
  { name: 'one nanosecond', needs: ['nanoseconds'], ns: 1n },
  { name: 'before 1970', needs: [], ns: -86_400n * SECOND_NS },
  { name: 'half a second before 1970', needs: ['nanoseconds'], ns: -500_000_000n },
  { name: 'the end of 32 bits', needs: [], ns: 2_147_483_647n * SECOND_NS },
  { name: 'after the end of 32 bits', needs: [], ns: 4_000_000_000n * SECOND_NS },
];

const setting: ConformanceMap = family('utimens', {
  ...each(
    MOMENTS,
    ({ name }) => name,
    ({ needs, ns }) =>
      test(['times', ...needs], async (s) => {
        await s.file('/f');
        await s.p.utimens('/f', ns, ns + 1000n * SECOND_NS);
        const stat = await s.p.stat('/f');
        same([stat.atimeNs, stat.mtimeNs], [ns, ns + 1000n * SECOND_NS], 'atime, mtime');
      }),
  ),
  now: test(['times'], async (s) => {
    await s.file('/f');
    await s.p.utimens('/f', 0n, 0n);
    await s.p.utimens('/f', 'now', 'now');
    const stat = await s.p.stat('/f');
    isNow(stat.atimeNs, 'atime');
    isNow(stat.mtimeNs, 'mtime');
  }),
  'omit leaves a time alone': test(['times'], async (s) => {
    await s.file('/f');
    await s.p.utimens('/f', 5n * SECOND_NS, 6n * SECOND_NS);
    await s.p.utimens('/f', 'omit', 7n * SECOND_NS);
    await s.p.utimens('/f', 8n * SECOND_NS, 'omit');
    await s.p.utimens('/f', 'omit', 'omit');
    const stat = await s.p.stat('/f');
    same([stat.atimeNs, stat.mtimeNs], [8n * SECOND_NS, 7n * SECOND_NS], 'atime, mtime');
  }),
  'now for one and a moment for the other': test(['times'], async (s) => {
    await s.file('/f');
    await s.p.utimens('/f', 'now', 6n * SECOND_NS);
    const stat = await s.p.stat('/f');
    isNow(stat.atimeNs, 'atime');
    same(stat.mtimeNs, 6n * SECOND_NS, 'mtime');
  }),
  'sets ctime to now': test(['times'], async (s) => {
    await s.file('/f');
    await s.p.utimens('/f', 0n, 0n);
    isNow((await s.p.stat('/f')).ctimeNs, 'ctime');
  }),
  'of an open file': test(['times'], async (s) => {
    const fd = await s.opened('/f', O_RDWR);
    await s.p.futimens(fd, 3n * SECOND_NS, 4n * SECOND_NS);
    const stat = await s.p.stat('/f');
    same([stat.atimeNs, stat.mtimeNs], [3n * SECOND_NS, 4n * SECOND_NS], 'atime, mtime');
  }),
  'of a file that is open for writing stays after close': test(['times'], async (s) => {
    const fd = await s.p.open('/f', O_WRONLY | O_CREAT);
    await s.p.write(fd, bytes('abc'));
    await s.p.futimens(fd, 3n * SECOND_NS, 4n * SECOND_NS);
    await s.p.close(fd);
    same((await s.p.stat('/f')).mtimeNs, 4n * SECOND_NS, 'mtime');
  }),
  'of a directory': test(['times'], async ({ p }) => {
    await p.mkdir('/d');
    await p.utimens('/d', 3n * SECOND_NS, 4n * SECOND_NS);
    const stat = await p.stat('/d');
    same([stat.atimeNs, stat.mtimeNs], [3n * SECOND_NS, 4n * SECOND_NS], 'atime, mtime');
  }),
  'follows a symbolic link': test(['times', 'symlinks'], async (s) => {
    await s.file('/f');
    await s.p.symlink('f', '/l');
    const before = (await s.p.lstat('/l')).mtimeNs;
    await s.p.utimens('/l', 3n * SECOND_NS, 4n * SECOND_NS);
    same((await s.p.stat('/f')).mtimeNs, 4n * SECOND_NS, 'mtime of the target');
    same((await s.p.lstat('/l')).mtimeNs, before, 'mtime of the link');
  }),
  'of a symbolic link itself': test(['times', 'symlinks'], async (s) => {
    await s.file('/f');
    await s.p.symlink('f', '/l');
    const before = (await s.p.stat('/f')).mtimeNs;
    await s.p.utimens('/l', 3n * SECOND_NS, 4n * SECOND_NS, true);
    same((await s.p.lstat('/l')).mtimeNs, 4n * SECOND_NS, 'mtime of the link');
    same((await s.p.stat('/f')).mtimeNs, before, 'mtime of the target');
  }),
  'of a missing file is ENOENT': test(['times'], async ({ p }) => {
    await fails('ENOENT', p.utimens('/f', 'now', 'now'));
  }),
  'a moment for a file of others is EPERM': test(['times', 'permissions', 'other-users'], async (s) => {
    await s.file('/f');
    await s.p.chmod('/f', 0o666);
    const alice = await s.as(ALICE);
    await fails('EPERM', alice.utimens('/f', 0n, 0n));
    await fails('EPERM', alice.utimens('/f', 'now', 'omit'));
  }),
  'now for a file of others that may be written': test(['times', 'permissions', 'other-users'], async (s) => {
    await s.file('/f');
    await s.p.chmod('/f', 0o666);
    await s.p.utimens('/f', 0n, 0n);
    const alice = await s.as(ALICE);
    await alice.utimens('/f', 'now', 'now');
    isNow((await s.p.stat('/f')).mtimeNs, 'mtime');
  }),
  'survives a rename': test(['times'], async (s) => {
    await s.file('/f');
    await s.p.utimens('/f', 3n * SECOND_NS, 4n * SECOND_NS);
    await s.p.rename('/f', '/g');
    const stat = await s.p.stat('/g');
    same([stat.atimeNs, stat.mtimeNs], [3n * SECOND_NS, 4n * SECOND_NS], 'atime, mtime');
  }),
  'survives a new link': test(['times', 'hardlinks'], async (s) => {
    await s.file('/f');
    await s.p.utimens('/f', 3n * SECOND_NS, 4n * SECOND_NS);
    await s.p.link('/f', '/g');
    same((await s.p.stat('/g')).mtimeNs, 4n * SECOND_NS, 'mtime');
  }),
  'a new file has the times of now': test(['times'], async (s) => {
    await s.file('/f');
    const stat = await s.p.stat('/f');
    for (const time of ['atimeNs', 'mtimeNs', 'ctimeNs'] as const) isNow(stat[time], time);
  }),
  'the time of birth does not change': test(['birth-time'], async (s) => {
    await s.file('/f');
    const before = (await s.p.stat('/f')).btimeNs;
    holds(before !== undefined, 'there is a time of birth');
    await s.tick();
    await s.file('/f', 'new contents');
    await s.p.utimens('/f', 0n, 0n);
    same((await s.p.stat('/f')).btimeNs, before, 'btime');
  }),
});

interface Effect {
  readonly name: string;
  readonly needs?: readonly PosixFeature[];
  readonly prepare?: (s: Stage) => Promise<void>;
  readonly act: (s: Stage) => Promise<unknown>;
  /** By path as it is called before and after: the times that have to move. All others have to stay. */
  readonly sets: Readonly<Record<string, '' | 'c' | 'mc' | 'a'>>;
  /** Where a path is found afterwards, when it moved. */
  readonly after?: Readonly<Record<string, string>>;
}

/** The scene: /d with the file f, its second name g, and the directory e; and /o. */
const EFFECTS: readonly Effect[] = [
  { name: 'write', act: async (s) => s.p.write(await s.p.open('/d/f', O_WRONLY), bytes('x')), sets: { '/d/f': 'mc', '/d': '' } },
  {
    name: 'a write at the end',
    act: async (s) => s.p.write(await s.p.open('/d/f', O_WRONLY), bytes('x'), 100),
    sets: { '/d/f': 'mc', '/d': '' },
  },
  { name: 'a write of nothing', act: async (s) => s.p.write(await s.p.open('/d/f', O_WRONLY), bytes('')), sets: { '/d/f': '' } },
  {
    name: 'truncate to another size',
    needs: ['truncate'],
    act: (s) => s.p.truncate('/d/f', 1),
    sets: { '/d/f': 'mc', '/d': '' },
  },
  {
    name: 'ftruncate to a larger size',
    needs: ['truncate'],
    act: async (s) => s.p.ftruncate(await s.p.open('/d/f', O_WRONLY), 99),
    sets: { '/d/f': 'mc' },
  },
  {
    name: 'O_TRUNC of a file with contents',
    needs: ['truncate'],
    act: (s) => s.p.open('/d/f', O_WRONLY | O_TRUNC),
    sets: { '/d/f': 'mc', '/d': '' },
  },
  { name: 'open and close', act: async (s) => s.p.close(await s.p.open('/d/f', O_RDWR)), sets: { '/d/f': '', '/d': '' } },
  { name: 'stat', act: (s) => s.p.stat('/d/f'), sets: { '/d/f': '', '/d': '' } },
  { name: 'chmod', needs: ['permissions'], act: (s) => s.p.chmod('/d/f', 0o600), sets: { '/d/f': 'c', '/d': '' } },
  { name: 'chmod of a directory', needs: ['permissions'], act: (s) => s.p.chmod('/d/e', 0o700), sets: { '/d/e': 'c', '/d': '' } },
  { name: 'chown', needs: ['ownership'], act: (s) => s.p.chown('/d/f', 5, 5), sets: { '/d/f': 'c', '/d': '' } },
  {
    name: 'setxattr',
    needs: ['xattrs'],
    act: (s) => s.p.setxattr('/d/f', 'user.a', bytes('1')),
    sets: { '/d/f': 'c', '/d': '' },
  },
  {
    name: 'removexattr',
    needs: ['xattrs'],
    prepare: (s) => s.p.setxattr('/d/f', 'user.a', bytes('1')),
    act: (s) => s.p.removexattr('/d/f', 'user.a'),
    sets: { '/d/f': 'c', '/d': '' },
  },
  {
    name: 'making a file',
    act: async (s) => s.p.close(await s.p.open('/d/new', O_WRONLY | O_CREAT)),
    sets: { '/d': 'mc', '/d/f': '' },
  },
  {
    name: 'O_CREAT of a file that is there',
    act: async (s) => s.p.close(await s.p.open('/d/f', O_WRONLY | O_CREAT)),
    sets: { '/d': '', '/d/f': '' },
  },
  { name: 'mkdir', act: (s) => s.p.mkdir('/d/new'), sets: { '/d': 'mc' } },
  { name: 'mkdir that fails', act: (s) => fails('EEXIST', s.p.mkdir('/d/e')), sets: { '/d': '', '/d/e': '' } },
  { name: 'mknod', needs: ['fifos'], act: (s) => s.p.mknod('/d/new', 0o010600), sets: { '/d': 'mc' } },
  { name: 'symlink', needs: ['symlinks'], act: (s) => s.p.symlink('x', '/d/new'), sets: { '/d': 'mc' } },
  { name: 'link', needs: ['hardlinks'], act: (s) => s.p.link('/d/f', '/o/new'), sets: { '/o': 'mc', '/d/f': 'c', '/d': '' } },
  { name: 'unlink', act: (s) => s.p.unlink('/d/f'), sets: { '/d': 'mc' } },
  {
    name: 'unlink of one of two names',
    needs: ['hardlinks'],
    prepare: (s) => s.p.link('/d/f', '/o/g'),
    act: (s) => s.p.unlink('/d/f'),
    sets: { '/d': 'mc', '/o/g': 'c', '/o': '' },
  },
  { name: 'rmdir', act: (s) => s.p.rmdir('/d/e'), sets: { '/d': 'mc' } },
  { name: 'rmdir that fails', act: (s) => fails('ENOTEMPTY', s.p.rmdir('/d')), sets: { '/d': '', '/': '' } },
  {
    name: 'rename within a directory',
    act: (s) => s.p.rename('/d/f', '/d/n'),
    sets: { '/d': 'mc', '/d/f': 'c' },
    after: { '/d/f': '/d/n' },
  },
  {
    name: 'rename to another directory',
    act: (s) => s.p.rename('/d/f', '/o/n'),
    sets: { '/d': 'mc', '/o': 'mc', '/d/f': 'c' },
    after: { '/d/f': '/o/n' },
  },
  { name: 'rename of a directory', act: (s) => s.p.rename('/d/e', '/o/e'), sets: { '/d': 'mc', '/o': 'mc' } },
  {
    name: 'fallocate beyond the end',
    needs: ['fallocate'],
    act: async (s) => s.p.fallocate(await s.p.open('/d/f', O_WRONLY), 0, 0, 10_000),
    sets: { '/d/f': 'mc' },
  },
  {
    name: 'read',
    needs: ['atime'],
    act: async (s) => s.p.read(await s.p.open('/d/f', O_RDONLY), 2),
    sets: { '/d/f': 'a', '/d': '' },
  },
  {
    name: 'readdir',
    needs: ['atime'],
    act: async (s) => s.p.getdents(await s.p.open('/d', O_RDONLY | O_DIRECTORY)),
    sets: { '/d': 'a' },
  },
];

const LETTERS = { atimeNs: 'a', mtimeNs: 'm', ctimeNs: 'c' } as const;

const effects: ConformanceMap = family(
  'times',
  each(
    EFFECTS,
    ({ name }) => name,
    (effect) =>
      test(['times', 'nanoseconds', ...(effect.needs ?? [])], async (s) => {
        await s.p.mkdir('/d');
        await s.p.mkdir('/o');
        await s.p.mkdir('/d/e');
        await s.file('/d/f', 'abc');
        await effect.prepare?.(s);
        const paths = Object.keys(effect.sets);
        const before = new Map<string, Awaited<ReturnType<typeof s.p.stat>>>();
        for (const path of paths) before.set(path, await s.p.lstat(path));
        await s.tick();
        await effect.act(s);
        for (const path of paths) {
          const after = await s.p.lstat(effect.after?.[path] ?? path);
          for (const [time, letter] of Object.entries(LETTERS) as ['atimeNs', 'a'][]) {
            const moved = after[time] - before.get(path)![time];
            if (effect.sets[path].includes(letter))
              holds(moved > 0n, `${letter}time of ${path} has to move, and moved by ${moved} ns`);
            else if (letter !== 'a') same(moved, 0n, `nanoseconds that ${letter}time of ${path} moved`);
          }
        }
      }),
  ),
);

export const times: ConformanceMap = { ...setting, ...effects };
