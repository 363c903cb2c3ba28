/** Modes, owners, and what other users may do. */
import type { PosixFeature, PosixIdentity, PosixProcess } from '../../posix.ts';
import {
  ALICE,
  ALICE_IN_TEAM,
  BOB,
  bytes,
  type ConformanceMap,
  each,
  fails,
  family,
  type Stage,
  same,
  TEAM,
  test,
} from '../case.ts';
import {
  F_OK,
  O_CREAT,
  O_DIRECTORY,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  R_OK,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  W_OK,
  X_OK,
} from '../linux.ts';

const USERS: readonly PosixFeature[] = ['permissions', 'other-users', 'ownership'];
const SET_ID: readonly PosixFeature[] = [...USERS, 'set-id-bits'];
const modeOf = async (p: PosixProcess, path: string) => (await p.lstat(path)).mode & 0o7777;

const MODES = [0o000, 0o400, 0o200, 0o100, 0o644, 0o755, 0o777, 0o1777];

const chmod: ConformanceMap = family('chmod', {
  ...each(
    MODES,
    (mode) => `of a file to ${mode.toString(8).padStart(4, '0')}`,
    (mode) =>
      test(['permissions'], async (s) => {
        await s.file('/f');
        await s.p.chmod('/f', mode);
        same(await modeOf(s.p, '/f'), mode, 'mode');
      }),
  ),
  ...each(
    [0o700, 0o1777, 0o2755, 0o000],
    (mode) => `of a directory to ${mode.toString(8).padStart(4, '0')}`,
    (mode) =>
      test(['permissions', 'sticky', 'set-id-bits'], async ({ p }) => {
        await p.mkdir('/d');
        await p.chmod('/d', mode);
        same(await modeOf(p, '/d'), mode, 'mode');
      }),
  ),
  'set-id bits by root': test(['permissions', 'set-id-bits'], async (s) => {
    await s.file('/f');
    await s.p.chmod('/f', 0o6755);
    same(await modeOf(s.p, '/f'), 0o6755, 'mode');
    await s.p.chmod('/f', 0o755);
    same(await modeOf(s.p, '/f'), 0o755, 'mode after');
  }),
  'fchmod changes an open file': test(['permissions'], async (s) => {
    const fd = await s.opened('/f', O_RDONLY);
    await s.p.fchmod(fd, 0o631);
    same(await modeOf(s.p, '/f'), 0o631, 'mode');
  }),
  'fchmod changes an open directory': test(['permissions'], async ({ p }) => {
    await p.mkdir('/d');
    const fd = await p.open('/d', O_RDONLY | O_DIRECTORY);
    await p.fchmod(fd, 0o711);
    same(await modeOf(p, '/d'), 0o711, 'mode');
  }),
  'of a FIFO': test(['permissions', 'fifos'], async ({ p }) => {
    await p.mknod('/p', S_IFIFO | 0o600);
    await p.chmod('/p', 0o622);
    same(await modeOf(p, '/p'), 0o622, 'mode');
  }),
  'leaves the rest of the file alone': test(['permissions'], async (s) => {
    await s.file('/f', 'contents');
    const before = await s.p.stat('/f');
    await s.p.chmod('/f', 0o600);
    const after = await s.p.stat('/f');
    same([after.size, after.ino, after.mtimeNs], [before.size, before.ino, before.mtimeNs], 'size, ino, mtime');
  }),
  'of a missing file is ENOENT': test(['permissions'], async ({ p }) => {
    await fails('ENOENT', p.chmod('/f', 0o600));
  }),
  'by somebody else is EPERM': test(USERS, async (s) => {
    await s.file('/f', '', 0o666);
    const alice = await s.as(ALICE);
    await fails('EPERM', alice.chmod('/f', 0o777));
    same(await modeOf(s.p, '/f'), 0o644, 'mode');
  }),
  'by the owner works': test(USERS, async (s) => {
    await s.file('/f');
    await s.p.chown('/f', ALICE.uid!, ALICE.gid!);
    const alice = await s.as(ALICE);
    await alice.chmod('/f', 0o600);
    same(await modeOf(s.p, '/f'), 0o600, 'mode');
  }),
  'the setgid bit of a group that the owner is not in is dropped': test(SET_ID, async (s) => {
    await s.file('/f');
    await s.p.chown('/f', ALICE.uid!, BOB.gid!);
    const alice = await s.as(ALICE);
    await alice.chmod('/f', 0o2755);
    same(await modeOf(s.p, '/f'), 0o755, 'mode');
  }),
  'the setgid bit of a supplementary group stays': test(SET_ID, async (s) => {
    await s.file('/f');
    await s.p.chown('/f', ALICE.uid!, TEAM);
    const alice = await s.as(ALICE_IN_TEAM);
    await alice.chmod('/f', 0o2755);
    same(await modeOf(s.p, '/f'), 0o2755, 'mode');
  }),
});

const chown: ConformanceMap = family('chown', {
  'sets user and group': test(['ownership'], async (s) => {
    await s.file('/f');
    await s.p.chown('/f', 1234, 5678);
    const { uid, gid } = await s.p.stat('/f');
    same([uid, gid], [1234, 5678], 'uid, gid');
  }),
  'with -1 leaves an id alone': test(['ownership'], async (s) => {
    await s.file('/f');
    await s.p.chown('/f', 1234, 5678);
    await s.p.chown('/f', -1, 99);
    await s.p.chown('/f', 88, -1);
    await s.p.chown('/f', -1, -1);
    const { uid, gid } = await s.p.stat('/f');
    same([uid, gid], [88, 99], 'uid, gid');
  }),
  'large ids': test(['ownership'], async (s) => {
    await s.file('/f');
    await s.p.chown('/f', 4_000_000_000, 4_000_000_001);
    const { uid, gid } = await s.p.stat('/f');
    same([uid, gid], [4_000_000_000, 4_000_000_001], 'uid, gid');
  }),
  'fchown changes an open file': test(['ownership'], async (s) => {
    const fd = await s.opened('/f', O_RDONLY);
    await s.p.fchown(fd, 11, 22);
    const { uid, gid } = await s.p.stat('/f');
    same([uid, gid], [11, 22], 'uid, gid');
  }),
  'of a directory': test(['ownership'], async ({ p }) => {
    await p.mkdir('/d');
    await p.chown('/d', 11, 22);
    const { uid, gid } = await p.stat('/d');
    same([uid, gid], [11, 22], 'uid, gid');
  }),
  'follows a symbolic link, lchown does not': test(['ownership', 'symlinks'], async (s) => {
    await s.file('/f');
    await s.p.symlink('f', '/l');
    await s.p.chown('/l', 11, 22);
    await s.p.lchown('/l', 33, 44);
    const [target, link] = [await s.p.stat('/f'), await s.p.lstat('/l')];
    same([target.uid, target.gid, link.uid, link.gid], [11, 22, 33, 44], 'uid, gid of target and link');
    same(link.mode & S_IFMT, S_IFLNK, 'type of the link');
  }),
  'lchown of a dangling link': test(['ownership', 'symlinks'], async ({ p }) => {
    await p.symlink('nowhere', '/l');
    await p.lchown('/l', 5, 6);
    same((await p.lstat('/l')).uid, 5, 'uid');
    await fails('ENOENT', p.chown('/l', 7, 8));
  }),
  'of a missing file is ENOENT': test(['ownership'], async ({ p }) => {
    await fails('ENOENT', p.chown('/f', 1, 1));
  }),
  'to somebody else by the owner is EPERM': test(USERS, async (s) => {
    await s.file('/f');
    await s.p.chown('/f', ALICE.uid!, ALICE.gid!);
    const alice = await s.as(ALICE);
    await fails('EPERM', alice.chown('/f', BOB.uid!, -1));
    await fails('EPERM', alice.chown('/f', -1, BOB.gid!));
    same((await s.p.stat('/f')).uid, ALICE.uid, 'uid');
  }),
  'of somebody else is EPERM': test(USERS, async (s) => {
    await s.file('/f');
    const alice = await s.as(ALICE);
    await fails('EPERM', alice.chown('/f', ALICE.uid!, ALICE.gid!));
  }),
  'to a supplementary group by the owner works': test(USERS, async (s) => {
    await s.file('/f');
    await s.p.chown('/f', ALICE.uid!, ALICE.gid!);
    const alice = await s.as(ALICE_IN_TEAM);
    await alice.chown('/f', -1, TEAM);
    same((await s.p.stat('/f')).gid, TEAM, 'gid');
  }),
  'a new file belongs to its maker': test(USERS, async (s) => {
    await s.openDirectory('/d');
    const alice = await s.as(ALICE);
    await alice.close(await alice.open('/d/f', O_WRONLY | O_CREAT));
    await alice.mkdir('/d/e');
    for (const path of ['/d/f', '/d/e']) {
      const { uid, gid } = await s.p.stat(path);
      same([uid, gid], [ALICE.uid, ALICE.gid], `uid, gid of ${path}`);
    }
  }),
  'a new link and a new FIFO belong to their maker': test([...USERS, 'symlinks', 'fifos'], async (s) => {
    await s.openDirectory('/d');
    const alice = await s.as(ALICE);
    await alice.symlink('x', '/d/l');
    await alice.mknod('/d/p', S_IFIFO | 0o600);
    for (const path of ['/d/l', '/d/p']) {
      const { uid, gid } = await s.p.lstat(path);
      same([uid, gid], [ALICE.uid, ALICE.gid], `uid, gid of ${path}`);
    }
  }),
});

/** Root makes things of mode 0700 or 0600 in `/d`; another user may not. */
const FORBIDDEN: {
  name: string;
  needs?: readonly PosixFeature[];
  prepare?: (s: Stage) => Promise<void>;
  act: (p: PosixProcess) => Promise<unknown>;
}[] = [
  { name: 'reading a private file', act: (p) => p.open('/d/private', O_RDONLY) },
  { name: 'writing a private file', act: (p) => p.open('/d/private', O_WRONLY) },
  { name: 'truncating a private file', act: (p) => p.truncate('/d/private', 0) },
  { name: 'truncating a private file by open', act: (p) => p.open('/d/private', O_WRONLY | O_TRUNC) },
  { name: 'writing a file that may be read', act: (p) => p.open('/d/public', O_RDWR) },
  { name: 'listing a private directory', act: (p) => p.open('/d/closed', O_RDONLY | O_DIRECTORY) },
  { name: 'looking into a private directory', act: (p) => p.stat('/d/closed/f') },
  { name: 'opening a file in a private directory', act: (p) => p.open('/d/closed/f', O_RDONLY) },
  { name: 'making a file in a directory of others', act: (p) => p.open('/d/readable/g', O_WRONLY | O_CREAT) },
  { name: 'making a directory in a directory of others', act: (p) => p.mkdir('/d/readable/g') },
  { name: 'making a FIFO in a directory of others', needs: ['fifos'], act: (p) => p.mknod('/d/readable/g', S_IFIFO | 0o600) },
  { name: 'making a symbolic link in a directory of others', needs: ['symlinks'], act: (p) => p.symlink('x', '/d/readable/g') },
  { name: 'removing from a directory of others', act: (p) => p.unlink('/d/readable/f') },
  { name: 'removing a directory of others', act: (p) => p.rmdir('/d/readable/e') },
  { name: 'renaming in a directory of others', act: (p) => p.rename('/d/readable/f', '/d/readable/g') },
  { name: 'renaming out of a directory of others', act: (p) => p.rename('/d/readable/f', '/d/g') },
  { name: 'linking into a directory of others', needs: ['hardlinks'], act: (p) => p.link('/d/mine', '/d/readable/g') },
  { name: 'setting times of a file of others to now', act: (p) => p.utimens('/d/private', 'now', 'now') },
  { name: 'access for reading a private file', act: (p) => p.access('/d/private', R_OK) },
  { name: 'access for writing a public file', act: (p) => p.access('/d/public', W_OK) },
  { name: 'access for running a public file', act: (p) => p.access('/d/public', X_OK) },
];

async function forbiddenScene(s: Stage): Promise<void> {
  await s.openDirectory('/d');
  await s.file('/d/private', 'secret', 0o600);
  await s.file('/d/public', 'news', 0o644);
  await s.file('/d/mine', '', 0o666);
  await s.p.chown('/d/mine', ALICE.uid!, ALICE.gid!);
  await s.p.mkdir('/d/closed', 0o700);
  await s.file('/d/closed/f');
  await s.p.mkdir('/d/readable', 0o755);
  await s.p.mkdir('/d/readable/e');
  await s.file('/d/readable/f');
}

const forbidden: ConformanceMap = family('EACCES', {
  ...each(
    FORBIDDEN,
    ({ name }) => name,
    ({ needs = [], act }) =>
      test([...USERS, ...needs], async (s) => {
        await forbiddenScene(s);
        const before = [await s.names('/d'), await s.names('/d/readable'), await s.contents('/d/private')];
        const alice = await s.as(ALICE);
        await fails('EACCES', act(alice));
        same([await s.names('/d'), await s.names('/d/readable'), await s.contents('/d/private')], before, 'what was there');
      }),
  ),
});

/** Which of the three classes decides; the first that fits, even if a later one would allow more. */
const CLASSES: { name: string; mode: number; who: PosixIdentity; read: boolean; write: boolean }[] = [
  { name: 'the owner by the owner bits', mode: 0o600, who: ALICE, read: true, write: true },
  { name: 'the owner not by the group bits', mode: 0o060, who: ALICE, read: false, write: false },
  { name: 'the owner not by the other bits', mode: 0o006, who: ALICE, read: false, write: false },
  { name: 'the group by the group bits', mode: 0o040, who: { uid: BOB.uid!, gid: ALICE.gid! }, read: true, write: false },
  { name: 'the group not by the other bits', mode: 0o606, who: { uid: BOB.uid!, gid: ALICE.gid! }, read: false, write: false },
  {
    name: 'a supplementary group by the group bits',
    mode: 0o060,
    who: { ...BOB, groups: [ALICE.gid!] },
    read: true,
    write: true,
  },
  { name: 'others by the other bits', mode: 0o004, who: BOB, read: true, write: false },
  { name: 'others for writing alone', mode: 0o002, who: BOB, read: false, write: true },
  { name: 'others not by owner and group bits', mode: 0o660, who: BOB, read: false, write: false },
  { name: 'root without any bit', mode: 0o000, who: {}, read: true, write: true },
];

const classes: ConformanceMap = family('permission', {
  ...each(
    CLASSES,
    ({ name }) => name,
    ({ mode, who, read, write }) =>
      test(USERS, async (s) => {
        await s.file('/f', 'x');
        await s.p.chown('/f', ALICE.uid!, ALICE.gid!);
        await s.p.chmod('/f', mode);
        const p = await s.as(who);
        const attempt = async (flags: number, allowed: boolean) => {
          if (allowed) await p.close(await p.open('/f', flags));
          else await fails('EACCES', p.open('/f', flags));
        };
        await attempt(O_RDONLY, read);
        await attempt(O_WRONLY, write);
        if (read) await p.access('/f', R_OK);
        else await fails('EACCES', p.access('/f', R_OK));
      }),
  ),
  'an open descriptor keeps its right': test(USERS, async (s) => {
    await s.file('/f', 'x', 0o644);
    const alice = await s.as(ALICE);
    const fd = await alice.open('/f', O_RDONLY);
    await s.p.chmod('/f', 0o600);
    same((await alice.read(fd, 5)).length, 1, 'bytes');
    await fails('EACCES', alice.open('/f', O_RDONLY));
  }),
  'a right that was given later is seen': test(USERS, async (s) => {
    await s.file('/f', 'x', 0o600);
    const alice = await s.as(ALICE);
    await fails('EACCES', alice.open('/f', O_RDONLY));
    await s.p.chmod('/f', 0o644);
    same(await s.contents('/f', alice), 'x', 'contents');
    await s.p.chmod('/f', 0o600);
    await fails('EACCES', alice.open('/f', O_RDONLY));
  }),
  'a directory that may be searched but not listed': test(USERS, async (s) => {
    await s.p.mkdir('/d');
    await s.file('/d/f', 'x');
    await s.p.chmod('/d', 0o711);
    const alice = await s.as(ALICE);
    await fails('EACCES', alice.open('/d', O_RDONLY | O_DIRECTORY));
    same(await s.contents('/d/f', alice), 'x', 'contents');
  }),
  'a directory that may be listed but not searched': test(USERS, async (s) => {
    await s.p.mkdir('/d');
    await s.file('/d/f', 'x');
    await s.p.chmod('/d', 0o744);
    const alice = await s.as(ALICE);
    const fd = await alice.open('/d', O_RDONLY | O_DIRECTORY);
    same((await alice.getdents(fd)).length, 3, 'entries');
    await fails('EACCES', alice.stat('/d/f'));
  }),
  'a directory that may be written but not searched': test(USERS, async (s) => {
    await s.p.mkdir('/d');
    await s.p.chmod('/d', 0o722);
    const alice = await s.as(ALICE);
    await fails('EACCES', alice.open('/d/f', O_WRONLY | O_CREAT));
  }),
  'access tells what is there': test(['permissions'], async (s) => {
    await s.file('/f', '', 0o600);
    await s.p.access('/f', F_OK);
    await s.p.access('/f', R_OK | W_OK);
    await fails('EACCES', s.p.access('/f', X_OK));
    await fails('ENOENT', s.p.access('/g', F_OK));
    await s.p.chmod('/f', 0o100);
    await s.p.access('/f', X_OK);
  }),
  'access follows symbolic links': test(['permissions', 'symlinks'], async ({ p }) => {
    await p.symlink('nowhere', '/l');
    await fails('ENOENT', p.access('/l', F_OK));
  }),
  'a user makes, changes and removes what is his': test(USERS, async (s) => {
    await s.openDirectory('/d');
    const alice = await s.as(ALICE);
    const fd = await alice.open('/d/f', O_WRONLY | O_CREAT, 0o600);
    await alice.write(fd, bytes('mine'));
    await alice.close(fd);
    same(await s.contents('/d/f', alice), 'mine', 'contents');
    await alice.rename('/d/f', '/d/g');
    await alice.mkdir('/d/e');
    await alice.rename('/d/g', '/d/e/g');
    await alice.unlink('/d/e/g');
    await alice.rmdir('/d/e');
    same(await s.names('/d'), [], 'names');
  }),
});

const sticky: ConformanceMap = family('sticky', {
  ...each(
    [
      { name: 'unlink of a file of somebody else is EPERM', act: (p: PosixProcess) => p.unlink('/t/f') },
      { name: 'rename of a file of somebody else is EPERM', act: (p: PosixProcess) => p.rename('/t/f', '/t/g') },
      { name: 'rename over a file of somebody else is EPERM', act: (p: PosixProcess) => p.rename('/t/mine', '/t/f') },
      { name: 'rmdir of a directory of somebody else is EPERM', act: (p: PosixProcess) => p.rmdir('/t/d') },
      { name: 'rename away of a file of somebody else is EPERM', act: (p: PosixProcess) => p.rename('/t/f', '/o/f') },
    ],
    ({ name }) => name,
    ({ act }) =>
      test([...USERS, 'sticky'], async (s) => {
        await s.openDirectory('/t', 0o1777);
        await s.openDirectory('/o', 0o777);
        await s.file('/t/f', 'keep', 0o666);
        await s.p.mkdir('/t/d', 0o777);
        const alice = await s.as(ALICE);
        await alice.close(await alice.open('/t/mine', O_WRONLY | O_CREAT));
        await fails('EPERM', act(alice));
        same(await s.names('/t'), ['d', 'f', 'mine'], 'names');
      }),
  ),
  'the owner of the file may remove it': test([...USERS, 'sticky'], async (s) => {
    await s.openDirectory('/t', 0o1777);
    const alice = await s.as(ALICE);
    await alice.close(await alice.open('/t/f', O_WRONLY | O_CREAT));
    await alice.rename('/t/f', '/t/g');
    await alice.unlink('/t/g');
  }),
  'the owner of the directory may remove files of others': test([...USERS, 'sticky'], async (s) => {
    await s.openDirectory('/t', 0o1777);
    await s.p.chown('/t', ALICE.uid!, ALICE.gid!);
    const bob = await s.as(BOB);
    await bob.close(await bob.open('/t/f', O_WRONLY | O_CREAT));
    const alice = await s.as(ALICE);
    await alice.unlink('/t/f');
  }),
  'root may remove files of others': test([...USERS, 'sticky'], async (s) => {
    await s.openDirectory('/t', 0o1777);
    const alice = await s.as(ALICE);
    await alice.close(await alice.open('/t/f', O_WRONLY | O_CREAT));
    await s.p.unlink('/t/f');
  }),
});

const setgid: ConformanceMap = family('setgid directory', {
  'a new file has its group': test(SET_ID, async (s) => {
    await s.openDirectory('/d');
    await s.p.chown('/d', -1, TEAM);
    await s.p.chmod('/d', 0o2777);
    const alice = await s.as(ALICE);
    await alice.close(await alice.open('/d/f', O_WRONLY | O_CREAT));
    same((await s.p.stat('/d/f')).gid, TEAM, 'gid');
  }),
  'a new directory has its group and the bit': test(SET_ID, async (s) => {
    await s.openDirectory('/d');
    await s.p.chown('/d', -1, TEAM);
    await s.p.chmod('/d', 0o2777);
    const alice = await s.as(ALICE);
    await alice.mkdir('/d/e', 0o755);
    const { gid, mode } = await s.p.stat('/d/e');
    same([gid, mode & 0o7777], [TEAM, 0o2755], 'gid, mode');
  }),
  'a new symbolic link and FIFO have its group': test([...SET_ID, 'symlinks', 'fifos'], async (s) => {
    await s.openDirectory('/d');
    await s.p.chown('/d', -1, TEAM);
    await s.p.chmod('/d', 0o2777);
    const alice = await s.as(ALICE);
    await alice.symlink('x', '/d/l');
    await alice.mknod('/d/p', S_IFIFO | 0o644);
    same([(await s.p.lstat('/d/l')).gid, (await s.p.stat('/d/p')).gid], [TEAM, TEAM], 'gid');
  }),
  'without the bit the maker decides': test(USERS, async (s) => {
    await s.openDirectory('/d');
    await s.p.chown('/d', -1, TEAM);
    const alice = await s.as(ALICE);
    await alice.mkdir('/d/e');
    same((await s.p.stat('/d/e')).gid, ALICE.gid, 'gid');
  }),
  'a file that moves in keeps its group': test(SET_ID, async (s) => {
    await s.openDirectory('/d');
    await s.p.chown('/d', -1, TEAM);
    await s.p.chmod('/d', 0o2777);
    await s.file('/f');
    await s.p.rename('/f', '/d/f');
    same((await s.p.stat('/d/f')).gid, 0, 'gid');
  }),
});

/** What makes a set-user-id program lose its bits, done by a user who may do it. */
const KILLERS: { name: string; mode: number; after: number; who?: PosixIdentity; act: (p: PosixProcess) => Promise<unknown> }[] =
  [
    {
      name: 'a write by a user',
      mode: 0o6777,
      after: 0o777,
      who: BOB,
      act: async (p) => p.write(await p.open('/f', O_WRONLY), bytes('x')),
    },
    {
      name: 'a write by a user without group execution keeps setgid of his group',
      mode: 0o2666,
      after: 0o2666,
      who: { uid: BOB.uid!, gid: ALICE.gid! },
      act: async (p) => p.write(await p.open('/f', O_WRONLY), bytes('x')),
    },
    { name: 'truncate by a user', mode: 0o6777, after: 0o777, who: BOB, act: (p) => p.truncate('/f', 1) },
    { name: 'O_TRUNC by a user', mode: 0o6777, after: 0o777, who: BOB, act: (p) => p.open('/f', O_WRONLY | O_TRUNC) },
    { name: 'chown by root', mode: 0o6755, after: 0o755, act: (p) => p.chown('/f', 77, 77) },
    {
      name: 'chown of the group by the owner',
      mode: 0o6755,
      after: 0o755,
      who: ALICE_IN_TEAM,
      act: (p) => p.chown('/f', -1, TEAM),
    },
    {
      name: 'a write by root does not',
      mode: 0o6755,
      after: 0o6755,
      act: async (p) => p.write(await p.open('/f', O_WRONLY), bytes('x')),
    },
    {
      name: 'reading by a user does not',
      mode: 0o6777,
      after: 0o6777,
      who: BOB,
      act: async (p) => p.read(await p.open('/f', O_RDONLY), 1),
    },
  ];

const killers: ConformanceMap = family(
  'set-id bits',
  each(
    KILLERS,
    ({ name, mode, after }) => (mode === after ? `${name}: they stay` : `${name}: they go`),
    ({ mode, after, who, act }) =>
      test(SET_ID, async (s) => {
        await s.file('/f', 'program');
        await s.p.chown('/f', ALICE.uid!, ALICE.gid!);
        await s.p.chmod('/f', mode);
        await act(await s.as(who ?? {}));
        same(await modeOf(s.p, '/f'), after, 'mode');
      }),
  ),
);

export const permissions: ConformanceMap = {
  ...chmod,
  ...chown,
  ...forbidden,
  ...classes,
  ...sticky,
  ...setgid,
  ...killers,
};
