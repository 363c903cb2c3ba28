/** POSIX locks of fcntl(2), and flock(2). */
import type { PosixLock, PosixProcess } from '../../posix.ts';
import {
  bytes,
  type ConformanceMap,
  each,
  fails,
  family,
  holds,
  isPending,
  pause,
  type Stage,
  same,
  test,
  within,
} from '../case.ts';
import { LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, O_RDONLY, O_RDWR, O_WRONLY } from '../linux.ts';

const CONFLICT = ['EAGAIN', 'EACCES'];
/** How long somebody is watched waiting, and how long the lock may take once it is free. */
const WAITS_MS = 60;
const COMES_MS = 5000;

const read = (start: number, length: number): PosixLock => ({ type: 'read', start, length });
const write = (start: number, length: number): PosixLock => ({ type: 'write', start, length });
const unlock = (start: number, length: number): PosixLock => ({ type: 'unlock', start, length });

interface Holder {
  readonly p: PosixProcess;
  readonly fd: number;
}

/** A file that two processes have open. */
async function two(s: Stage): Promise<[Holder, Holder]> {
  await s.file('/f', 'x'.repeat(100));
  const other = await s.as();
  return [
    { p: s.p, fd: await s.p.open('/f', O_RDWR) },
    { p: other, fd: await other.open('/f', O_RDWR) },
  ];
}

/** What another process finds in the way, byte by byte: `r`, `w` or `.`. */
async function locksSeen({ p, fd }: Holder, length: number): Promise<string> {
  let seen = '';
  for (let at = 0; at < length; at++) {
    if ((await p.getlk(fd, read(at, 1))) !== undefined) seen += 'w';
    else seen += (await p.getlk(fd, write(at, 1))) === undefined ? '.' : 'r';
  }
  return seen;
}

/** Locks that one process sets, and what the other sees. */
const RANGES: { name: string; locks: PosixLock[]; seen: string }[] = [
  { name: 'one lock', locks: [write(2, 3)], seen: '..www.....' },
  { name: 'a lock to the end', locks: [write(6, 0)], seen: '......wwww' },
  { name: 'two that touch are one', locks: [write(0, 3), write(3, 3)], seen: 'wwwwww....' },
  { name: 'two that overlap are one', locks: [read(0, 5), read(3, 5)], seen: 'rrrrrrrr..' },
  { name: 'a gap stays free', locks: [read(0, 2), read(4, 2)], seen: 'rr..rr....' },
  { name: 'unlocking the middle splits', locks: [write(0, 9), unlock(3, 3)], seen: 'www...www.' },
  { name: 'unlocking the beginning', locks: [write(0, 9), unlock(0, 4)], seen: '....wwwww.' },
  { name: 'unlocking the end', locks: [write(0, 0), unlock(5, 0)], seen: 'wwwww.....' },
  { name: 'unlocking more than is locked', locks: [write(3, 3), unlock(0, 0)], seen: '..........' },
  { name: 'a write lock inside of a read lock', locks: [read(0, 9), write(3, 3)], seen: 'rrrwwwrrr.' },
  { name: 'a read lock inside of a write lock', locks: [write(0, 9), read(3, 3)], seen: 'wwwrrrwww.' },
  { name: 'a wider lock swallows others', locks: [read(1, 2), read(5, 2), write(0, 8)], seen: 'wwwwwwww..' },
  { name: 'filling a gap joins both sides', locks: [write(0, 3), write(6, 3), write(3, 3)], seen: 'wwwwwwwww.' },
  { name: 'split, then joined again', locks: [write(0, 9), unlock(4, 1), write(4, 1)], seen: 'wwwwwwwww.' },
  { name: 'unlocking what is not locked', locks: [unlock(2, 3)], seen: '..........' },
];

const ranges: ConformanceMap = each(
  RANGES,
  ({ name }) => `range: ${name}`,
  ({ locks, seen }) =>
    test(['posix-locks'], async (s) => {
      const [one, other] = await two(s);
      for (const lock of locks) await one.p.setlk(one.fd, lock);
      same(await locksSeen(other, 10), seen, 'locks');
    }),
);

const CONFLICTS: { held: PosixLock; wanted: PosixLock; conflict: boolean }[] = [
  { held: read(0, 10), wanted: read(5, 10), conflict: false },
  { held: read(0, 10), wanted: write(5, 10), conflict: true },
  { held: write(0, 10), wanted: read(5, 10), conflict: true },
  { held: write(0, 10), wanted: write(5, 10), conflict: true },
  { held: write(0, 10), wanted: write(10, 10), conflict: false },
  { held: write(10, 10), wanted: write(0, 10), conflict: false },
  { held: write(10, 0), wanted: write(1000, 1), conflict: true },
  { held: write(10, 1), wanted: write(0, 0), conflict: true },
];
const describeLock = ({ type, start, length }: PosixLock) => `a ${type} lock of ${start}+${length}`;

const conflicts: ConformanceMap = each(
  CONFLICTS,
  ({ held, wanted, conflict }) =>
    `${describeLock(wanted)} ${conflict ? 'conflicts with' : 'goes together with'} ${describeLock(held)}`,
  ({ held, wanted, conflict }) =>
    test(['posix-locks'], async (s) => {
      const [one, other] = await two(s);
      await one.p.setlk(one.fd, held);
      const found = await other.p.getlk(other.fd, wanted);
      if (conflict) {
        await fails(CONFLICT, other.p.setlk(other.fd, wanted));
        same(found, held, 'the lock that getlk found');
      } else {
        await other.p.setlk(other.fd, wanted);
        same(found, undefined, 'the lock that getlk found');
      }
    }),
);

const lifetimes: ConformanceMap = {
  'a process does not conflict with itself': test(['posix-locks'], async (s) => {
    const [one] = await two(s);
    const again = await s.p.open('/f', O_RDWR);
    await one.p.setlk(one.fd, write(0, 10));
    await one.p.setlk(again, write(5, 10));
    same(await one.p.getlk(one.fd, write(0, 0)), undefined, 'getlk');
  }),
  'closing drops it': test(['posix-locks'], async (s) => {
    const [one, other] = await two(s);
    await one.p.setlk(one.fd, write(0, 10));
    await fails(CONFLICT, other.p.setlk(other.fd, write(0, 10)));
    await one.p.close(one.fd);
    await other.p.setlk(other.fd, write(0, 10));
  }),
  'closing any other descriptor of the file drops it too': test(['posix-locks'], async (s) => {
    const [one, other] = await two(s);
    const second = await one.p.open('/f', O_RDONLY);
    await one.p.setlk(one.fd, write(0, 10));
    await one.p.close(second);
    await other.p.setlk(other.fd, write(0, 10));
  }),
  'closing a dup drops it too': test(['posix-locks'], async (s) => {
    const [one, other] = await two(s);
    const copy = await one.p.dup(one.fd);
    await one.p.setlk(one.fd, write(0, 10));
    await one.p.close(copy);
    await other.p.setlk(other.fd, write(0, 10));
  }),
  'closing by one process leaves those of another': test(['posix-locks'], async (s) => {
    const [one, other] = await two(s);
    const third = await s.as();
    const fd = await third.open('/f', O_RDWR);
    await one.p.setlk(one.fd, write(0, 10));
    await other.p.close(other.fd);
    await fails(CONFLICT, third.setlk(fd, write(0, 10)));
  }),
  'the end of the process drops it': test(['posix-locks'], async (s) => {
    const [one, other] = await two(s);
    await other.p.setlk(other.fd, write(0, 0));
    await fails(CONFLICT, one.p.setlk(one.fd, read(0, 1)));
    await other.p.exit();
    await one.p.setlk(one.fd, write(0, 0));
  }),
  'locks of different files do not meet': test(['posix-locks'], async (s) => {
    const [one, other] = await two(s);
    await s.file('/g', 'x');
    const fd = await other.p.open('/g', O_RDWR);
    await one.p.setlk(one.fd, write(0, 0));
    await other.p.setlk(fd, write(0, 0));
  }),
  'both names of a file have the same locks': test(['posix-locks', 'hardlinks'], async (s) => {
    const [one, other] = await two(s);
    await s.p.link('/f', '/g');
    const fd = await other.p.open('/g', O_RDWR);
    await one.p.setlk(one.fd, write(0, 10));
    await fails(CONFLICT, other.p.setlk(fd, write(0, 10)));
  }),
  'survives the removal of the name': test(['posix-locks', 'unlinked-open'], async (s) => {
    const [one, other] = await two(s);
    await one.p.setlk(one.fd, write(0, 10));
    await s.p.unlink('/f');
    await fails(CONFLICT, other.p.setlk(other.fd, write(0, 10)));
    await one.p.setlk(one.fd, unlock(0, 0));
    await other.p.setlk(other.fd, write(0, 10));
  }),
  'a write lock becomes a read lock': test(['posix-locks'], async (s) => {
    const [one, other] = await two(s);
    await one.p.setlk(one.fd, write(0, 10));
    await one.p.setlk(one.fd, read(0, 10));
    await other.p.setlk(other.fd, read(0, 10));
    await fails(CONFLICT, one.p.setlk(one.fd, write(0, 10)));
  }),
  'a write lock needs a descriptor that writes, a read lock one that reads': test(['posix-locks'], async (s) => {
    await s.file('/f', 'x');
    await fails('EBADF', s.p.setlk(await s.p.open('/f', O_RDONLY), write(0, 1)));
    await fails('EBADF', s.p.setlk(await s.p.open('/f', O_WRONLY), read(0, 1)));
  }),
  'a negative start is EINVAL': test(['posix-locks'], async (s) => {
    const [one] = await two(s);
    await fails('EINVAL', one.p.setlk(one.fd, write(-1, 10)));
  }),
  'far behind the end of the file': test(['posix-locks', 'large-files'], async (s) => {
    const [one, other] = await two(s);
    await one.p.setlk(one.fd, write(2 ** 40, 2 ** 40));
    same(await other.p.getlk(other.fd, write(2 ** 41 - 1, 1)), write(2 ** 40, 2 ** 40), 'the lock found');
    await other.p.setlk(other.fd, write(2 ** 41, 1));
  }),
  'does not keep anybody from writing': test(['posix-locks'], async (s) => {
    const [one, other] = await two(s);
    await one.p.setlk(one.fd, write(0, 0));
    same(await other.p.write(other.fd, bytes('free'), 0), 4, 'bytes written');
  }),
};

const waiting: ConformanceMap = {
  'waits until it is free': test(['posix-locks'], async (s) => {
    const [one, other] = await two(s);
    await one.p.setlk(one.fd, write(0, 10));
    const wait = other.p.setlk(other.fd, write(0, 10), true);
    holds(await isPending(wait, WAITS_MS), 'it waits');
    await one.p.setlk(one.fd, unlock(0, 10));
    await within(COMES_MS, wait, 'the lock');
    await fails(CONFLICT, one.p.setlk(one.fd, read(0, 1)));
  }),
  'comes at once where nothing is in the way': test(['posix-locks'], async (s) => {
    const [one, other] = await two(s);
    await one.p.setlk(one.fd, write(0, 10));
    await within(COMES_MS, other.p.setlk(other.fd, write(10, 10), true), 'the lock');
  }),
  'comes when the holder closes': test(['posix-locks'], async (s) => {
    const [one, other] = await two(s);
    await one.p.setlk(one.fd, write(0, 10));
    const wait = other.p.setlk(other.fd, read(5, 1), true);
    holds(await isPending(wait, WAITS_MS), 'it waits');
    await one.p.close(one.fd);
    await within(COMES_MS, wait, 'the lock');
  }),
  'comes when the holder ends': test(['posix-locks'], async (s) => {
    const [one, other] = await two(s);
    await other.p.setlk(other.fd, write(0, 0));
    const wait = one.p.setlk(one.fd, write(0, 0), true);
    holds(await isPending(wait, WAITS_MS), 'it waits');
    await other.p.exit();
    await within(COMES_MS, wait, 'the lock');
  }),
  'comes when the part that is in the way is unlocked': test(['posix-locks'], async (s) => {
    const [one, other] = await two(s);
    await one.p.setlk(one.fd, write(0, 100));
    const wait = other.p.setlk(other.fd, write(40, 10), true);
    await one.p.setlk(one.fd, unlock(0, 40));
    holds(await isPending(wait, WAITS_MS), 'it waits while the part that matters is locked');
    await one.p.setlk(one.fd, unlock(40, 10));
    await within(COMES_MS, wait, 'the lock');
    await fails(CONFLICT, other.p.setlk(other.fd, write(50, 1)));
  }),
  'comes when a write lock becomes a read lock': test(['posix-locks'], async (s) => {
    const [one, other] = await two(s);
    await one.p.setlk(one.fd, write(0, 10));
    const wait = other.p.setlk(other.fd, read(0, 10), true);
    holds(await isPending(wait, WAITS_MS), 'it waits');
    await one.p.setlk(one.fd, read(0, 10));
    await within(COMES_MS, wait, 'the lock');
  }),
  'a process that is killed while it waits gets nothing': test(['posix-locks'], async (s) => {
    const [one, other] = await two(s);
    const third = await s.as();
    const fd = await third.open('/f', O_RDWR);
    await one.p.setlk(one.fd, write(0, 10));
    const wait = other.p.setlk(other.fd, write(0, 10), true);
    wait.catch(() => {});
    holds(await isPending(wait, WAITS_MS), 'it waits');
    await other.p.exit();
    await one.p.setlk(one.fd, unlock(0, 10));
    await within(COMES_MS, third.setlk(fd, write(0, 10), true), 'the lock of the third');
  }),
  'all of five processes have their turn': test(['posix-locks'], async (s) => {
    await s.file('/f', '0');
    const processes = await Promise.all(Array.from({ length: 5 }, () => s.as()));
    const turn = async (p: PosixProcess) => {
      for (let round = 0; round < 4; round++) {
        const fd = await p.open('/f', O_RDWR);
        await p.setlk(fd, write(0, 0), true);
        const count = Number(String.fromCharCode(...(await p.read(fd, 10, 0))));
        await p.write(fd, bytes(String(count + 1)), 0);
        await p.close(fd);
      }
    };
    await within(COMES_MS * 2, Promise.all(processes.map(turn)), 'the end of all turns');
    same(await s.contents('/f'), '20', 'the count');
  }),
  'two that wait for each other: one gets EDEADLK': test(['posix-locks'], async (s) => {
    const [one, other] = await two(s);
    await one.p.setlk(one.fd, write(0, 1));
    await other.p.setlk(other.fd, write(1, 1));
    const wait = one.p.setlk(one.fd, write(1, 1), true);
    holds(await isPending(wait, WAITS_MS), 'the first waits');
    const second = other.p.setlk(other.fd, write(0, 1), true);
    // A filesystem that does not look for circles leaves both waiting; the end of a process has to free the other then.
    if (await isPending(second, WAITS_MS)) {
      second.catch(() => {});
      await other.p.exit();
    } else {
      await fails('EDEADLK', second);
      await other.p.setlk(other.fd, unlock(0, 0));
    }
    await within(COMES_MS, wait, 'the lock of the first');
  }),
};

const FLOCKS = [
  { held: LOCK_SH, wanted: LOCK_SH, conflict: false },
  { held: LOCK_SH, wanted: LOCK_EX, conflict: true },
  { held: LOCK_EX, wanted: LOCK_SH, conflict: true },
  { held: LOCK_EX, wanted: LOCK_EX, conflict: true },
];
const flockName = (operation: number) => (operation === LOCK_SH ? 'a shared lock' : 'an exclusive lock');

/** An exclusive lock, soon: the last close of a file drops its flock, but need not wait until a server knows. */
async function locksSoon({ p, fd }: Holder): Promise<void> {
  const limit = Date.now() + COMES_MS;
  for (;;) {
    try {
      return await p.flock(fd, LOCK_EX | LOCK_NB);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || Date.now() > limit) throw error;
      await pause(5);
    }
  }
}

const flock: ConformanceMap = family('flock', {
  ...each(
    FLOCKS,
    ({ held, wanted, conflict }) =>
      `${flockName(wanted)} ${conflict ? 'conflicts with' : 'goes together with'} ${flockName(held)}`,
    ({ held, wanted, conflict }) =>
      test(['flock'], async (s) => {
        const [one, other] = await two(s);
        await one.p.flock(one.fd, held);
        const attempt = other.p.flock(other.fd, wanted | LOCK_NB);
        if (conflict) await fails('EAGAIN', attempt);
        else await attempt;
      }),
  ),
  'is dropped by LOCK_UN': test(['flock'], async (s) => {
    const [one, other] = await two(s);
    await one.p.flock(one.fd, LOCK_EX);
    await one.p.flock(one.fd, LOCK_UN);
    await other.p.flock(other.fd, LOCK_EX | LOCK_NB);
  }),
  'belongs to the open file: two opens of one process conflict': test(['flock'], async (s) => {
    const [one] = await two(s);
    const again = await one.p.open('/f', O_RDWR);
    await one.p.flock(one.fd, LOCK_EX);
    await fails('EAGAIN', one.p.flock(again, LOCK_EX | LOCK_NB));
  }),
  'belongs to the open file: a dup has it too': test(['flock'], async (s) => {
    const [one, other] = await two(s);
    const copy = await one.p.dup(one.fd);
    await one.p.flock(one.fd, LOCK_EX);
    await one.p.close(one.fd);
    await fails('EAGAIN', other.p.flock(other.fd, LOCK_EX | LOCK_NB));
    await one.p.close(copy);
    await locksSoon(other);
  }),
  'closing another descriptor of the file leaves it': test(['flock'], async (s) => {
    const [one, other] = await two(s);
    const second = await one.p.open('/f', O_RDONLY);
    await one.p.flock(one.fd, LOCK_EX);
    await one.p.close(second);
    await fails('EAGAIN', other.p.flock(other.fd, LOCK_EX | LOCK_NB));
  }),
  'is dropped by the end of the process': test(['flock'], async (s) => {
    const [one, other] = await two(s);
    await other.p.flock(other.fd, LOCK_EX);
    await other.p.exit();
    await locksSoon(one);
  }),
  'changes from exclusive to shared': test(['flock'], async (s) => {
    const [one, other] = await two(s);
    await one.p.flock(one.fd, LOCK_EX);
    await one.p.flock(one.fd, LOCK_SH);
    await other.p.flock(other.fd, LOCK_SH | LOCK_NB);
  }),
  'waits until it is free': test(['flock'], async (s) => {
    const [one, other] = await two(s);
    await one.p.flock(one.fd, LOCK_EX);
    const wait = other.p.flock(other.fd, LOCK_EX);
    holds(await isPending(wait, WAITS_MS), 'it waits');
    await one.p.flock(one.fd, LOCK_UN);
    await within(COMES_MS, wait, 'the lock');
  }),
  'waits until the holder ends': test(['flock'], async (s) => {
    const [one, other] = await two(s);
    await other.p.flock(other.fd, LOCK_EX);
    const wait = one.p.flock(one.fd, LOCK_SH);
    holds(await isPending(wait, WAITS_MS), 'it waits');
    await other.p.exit();
    await within(COMES_MS, wait, 'the lock');
  }),
  'locks a file that is open for reading only': test(['flock'], async (s) => {
    const fd = await s.opened('/f', O_RDONLY, 'x');
    await s.p.flock(fd, LOCK_EX | LOCK_NB);
  }),
  'has nothing to do with POSIX locks': test(['flock', 'posix-locks'], async (s) => {
    const [one, other] = await two(s);
    await one.p.flock(one.fd, LOCK_EX);
    await other.p.setlk(other.fd, write(0, 0));
  }),
  'of nothing in particular is EINVAL': test(['flock'], async (s) => {
    const [one] = await two(s);
    await fails('EINVAL', one.p.flock(one.fd, 0));
  }),
});

export const locks: ConformanceMap = {
  ...family('lock', { ...ranges, ...conflicts, ...lifetimes }),
  ...family('lock wait', waiting),
  ...flock,
};
