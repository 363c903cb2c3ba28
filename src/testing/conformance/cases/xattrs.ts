/** Extended attributes. */
import { ALICE, bytes, type ConformanceMap, each, fails, family, holds, pattern, same, sameBytes, test, text } from '../case.ts';
import { O_RDONLY, S_IFIFO, XATTR_CREATE, XATTR_REPLACE } from '../linux.ts';

/** tmpfs bounds all attributes of a file together, ext4 each by a block; more than this is for filesystems that can. */
const VALUE_BYTES = [0, 1, 100, 1024, 3000];
const LARGEST = 65_536;

const values: ConformanceMap = {
  ...each(
    VALUE_BYTES,
    (size) => `a value of ${size} bytes comes back`,
    (size) =>
      test(['xattrs'], async (s) => {
        await s.file('/f');
        await s.p.setxattr('/f', 'user.v', pattern(size));
        sameBytes(await s.p.getxattr('/f', 'user.v'), pattern(size), 'value');
      }),
  ),
  'a value of 64 KiB comes back, or there is no room': test(['xattrs'], async (s) => {
    await s.file('/f');
    const refused = await s.p.setxattr('/f', 'user.v', pattern(LARGEST)).then(
      () => undefined,
      (error: NodeJS.ErrnoException) => error.code,
    );
    if (refused === undefined) sameBytes(await s.p.getxattr('/f', 'user.v'), pattern(LARGEST), 'value');
    else {
      holds(['ENOSPC', 'E2BIG', 'ERANGE'].includes(refused), `setxattr failed with ${refused}`);
      same(await s.p.listxattr('/f'), [], 'names');
    }
  }),
  'a value above 64 KiB is E2BIG': test(['xattrs'], async (s) => {
    await s.file('/f');
    await fails('E2BIG', s.p.setxattr('/f', 'user.v', pattern(LARGEST + 1)));
  }),
  'is replaced by a shorter and by a longer value': test(['xattrs'], async (s) => {
    await s.file('/f');
    for (const value of ['medium', 'x', 'a longer value than before', '']) {
      await s.p.setxattr('/f', 'user.v', bytes(value));
      same(text(await s.p.getxattr('/f', 'user.v')), value, 'value');
    }
    same(await s.p.listxattr('/f'), ['user.v'], 'names');
  }),
  'a value may hold every byte': test(['xattrs'], async (s) => {
    await s.file('/f');
    const value = Uint8Array.from({ length: 256 }, (_, at) => at);
    await s.p.setxattr('/f', 'user.v', value);
    sameBytes(await s.p.getxattr('/f', 'user.v'), value, 'value');
  }),
  'room that is too small is ERANGE': test(['xattrs'], async (s) => {
    await s.file('/f');
    await s.p.setxattr('/f', 'user.v', bytes('0123456789'));
    await fails('ERANGE', s.p.getxattr('/f', 'user.v', 9));
    same(text(await s.p.getxattr('/f', 'user.v', 10)), '0123456789', 'value with just enough room');
    same(text(await s.p.getxattr('/f', 'user.v', 100)), '0123456789', 'value with more room');
  }),
};

const flags: ConformanceMap = {
  'XATTR_CREATE makes a new one': test(['xattrs'], async (s) => {
    await s.file('/f');
    await s.p.setxattr('/f', 'user.v', bytes('x'), XATTR_CREATE);
    same(text(await s.p.getxattr('/f', 'user.v')), 'x', 'value');
  }),
  'XATTR_CREATE of one that is there is EEXIST': test(['xattrs'], async (s) => {
    await s.file('/f');
    await s.p.setxattr('/f', 'user.v', bytes('old'));
    await fails('EEXIST', s.p.setxattr('/f', 'user.v', bytes('new'), XATTR_CREATE));
    same(text(await s.p.getxattr('/f', 'user.v')), 'old', 'value');
  }),
  'XATTR_REPLACE changes one that is there': test(['xattrs'], async (s) => {
    await s.file('/f');
    await s.p.setxattr('/f', 'user.v', bytes('old'));
    await s.p.setxattr('/f', 'user.v', bytes('new'), XATTR_REPLACE);
    same(text(await s.p.getxattr('/f', 'user.v')), 'new', 'value');
  }),
  'XATTR_REPLACE of a missing one is ENODATA': test(['xattrs'], async (s) => {
    await s.file('/f');
    await fails('ENODATA', s.p.setxattr('/f', 'user.v', bytes('x'), XATTR_REPLACE));
    same(await s.p.listxattr('/f'), [], 'names');
  }),
  'an unknown flag is EINVAL': test(['xattrs'], async (s) => {
    await s.file('/f');
    await fails('EINVAL', s.p.setxattr('/f', 'user.v', bytes('x'), 0x40));
  }),
};

const names: ConformanceMap = {
  'a missing one is ENODATA': test(['xattrs'], async (s) => {
    await s.file('/f');
    await fails('ENODATA', s.p.getxattr('/f', 'user.v'));
    await fails('ENODATA', s.p.removexattr('/f', 'user.v'));
  }),
  'of a missing file is ENOENT': test(['xattrs'], async ({ p }) => {
    await fails('ENOENT', p.getxattr('/f', 'user.v'));
    await fails('ENOENT', p.setxattr('/f', 'user.v', bytes('x')));
    await fails('ENOENT', p.listxattr('/f'));
    await fails('ENOENT', p.removexattr('/f', 'user.v'));
  }),
  'twenty are listed, each once': test(['xattrs'], async (s) => {
    await s.file('/f');
    const wanted = Array.from({ length: 20 }, (_, index) => `user.attribute-${index}`);
    for (const name of wanted) await s.p.setxattr('/f', name, bytes(name));
    same((await s.p.listxattr('/f')).sort(), [...wanted].sort(), 'names');
    for (const name of wanted) same(text(await s.p.getxattr('/f', name)), name, `value of ${name}`);
  }),
  'removed ones are gone, others stay': test(['xattrs'], async (s) => {
    await s.file('/f');
    for (const name of ['user.a', 'user.b', 'user.c']) await s.p.setxattr('/f', name, bytes(name));
    await s.p.removexattr('/f', 'user.b');
    same((await s.p.listxattr('/f')).sort(), ['user.a', 'user.c'], 'names');
    await fails('ENODATA', s.p.getxattr('/f', 'user.b'));
    same(text(await s.p.getxattr('/f', 'user.c')), 'user.c', 'value');
  }),
  'a name of 255 bytes works, of 256 is ERANGE': test(['xattrs'], async (s) => {
    await s.file('/f');
    const longest = `user.${'n'.repeat(250)}`;
    await s.p.setxattr('/f', longest, bytes('x'));
    same(await s.p.listxattr('/f'), [longest], 'names');
    await fails(['ERANGE', 'ENAMETOOLONG'], s.p.setxattr('/f', `${longest}n`, bytes('x')));
  }),
  'an empty name is ERANGE': test(['xattrs'], async (s) => {
    await s.file('/f');
    await fails(['ERANGE', 'EINVAL'], s.p.setxattr('/f', '', bytes('x')));
  }),
  'a name in UTF-8': test(['xattrs'], async (s) => {
    await s.file('/f');
    await s.p.setxattr('/f', 'user.\xc3\xa4', bytes('x'));
    same(await s.p.listxattr('/f'), ['user.\xc3\xa4'], 'names');
  }),
  'a namespace that nobody knows is EOPNOTSUPP': test(['xattrs'], async (s) => {
    await s.file('/f');
    await fails('EOPNOTSUPP', s.p.setxattr('/f', 'nobody.knows', bytes('x')));
  }),
  'a new file has none': test(['xattrs'], async (s) => {
    await s.file('/f');
    same(await s.p.listxattr('/f'), [], 'names');
  }),
};

const owners: ConformanceMap = {
  'of a directory': test(['xattrs'], async ({ p }) => {
    await p.mkdir('/d');
    await p.setxattr('/d', 'user.v', bytes('x'));
    same(text(await p.getxattr('/d', 'user.v')), 'x', 'value');
  }),
  'follow a symbolic link': test(['xattrs', 'symlinks'], async (s) => {
    await s.file('/f');
    await s.p.symlink('f', '/l');
    await s.p.setxattr('/l', 'user.v', bytes('x'));
    same(await s.p.listxattr('/f'), ['user.v'], 'names');
  }),
  'user attributes of a FIFO are EPERM': test(['xattrs', 'fifos'], async ({ p }) => {
    await p.mknod('/p', S_IFIFO | 0o600);
    await fails('EPERM', p.setxattr('/p', 'user.v', bytes('x')));
  }),
  'trusted attributes of root': test(['xattrs', 'other-users'], async (s) => {
    await s.file('/f');
    await s.p.setxattr('/f', 'trusted.v', bytes('x'));
    same(text(await s.p.getxattr('/f', 'trusted.v')), 'x', 'value');
  }),
  'trusted attributes are hidden from users': test(['xattrs', 'other-users'], async (s) => {
    await s.file('/f');
    await s.p.setxattr('/f', 'trusted.v', bytes('x'));
    const alice = await s.as(ALICE);
    await fails('ENODATA', alice.getxattr('/f', 'trusted.v'));
    await fails('EPERM', alice.setxattr('/f', 'trusted.w', bytes('x')));
  }),
  'a file that may not be written is EACCES': test(['xattrs', 'permissions', 'other-users'], async (s) => {
    await s.file('/f');
    await s.p.setxattr('/f', 'user.v', bytes('x'));
    const alice = await s.as(ALICE);
    same(text(await alice.getxattr('/f', 'user.v')), 'x', 'value');
    await fails('EACCES', alice.setxattr('/f', 'user.v', bytes('y')));
    await fails('EACCES', alice.removexattr('/f', 'user.v'));
  }),
  'a file that may not be read is EACCES': test(['xattrs', 'permissions', 'other-users'], async (s) => {
    await s.file('/f', '', 0o600);
    await s.p.setxattr('/f', 'user.v', bytes('x'));
    const alice = await s.as(ALICE);
    await fails('EACCES', alice.getxattr('/f', 'user.v'));
  }),
  'stay with a renamed file': test(['xattrs'], async (s) => {
    await s.file('/f');
    await s.p.setxattr('/f', 'user.v', bytes('x'));
    await s.p.rename('/f', '/g');
    same(text(await s.p.getxattr('/g', 'user.v')), 'x', 'value');
  }),
  'are seen by every name of a file': test(['xattrs', 'hardlinks'], async (s) => {
    await s.file('/f');
    await s.p.link('/f', '/g');
    await s.p.setxattr('/f', 'user.v', bytes('x'));
    same(text(await s.p.getxattr('/g', 'user.v')), 'x', 'value');
  }),
  'are not those of a file that took the name': test(['xattrs'], async (s) => {
    await s.file('/f');
    await s.p.setxattr('/f', 'user.v', bytes('x'));
    const fd = await s.p.open('/f', O_RDONLY);
    await s.p.unlink('/f');
    await s.file('/f');
    same(await s.p.listxattr('/f'), [], 'names');
    await s.p.close(fd);
  }),
  'change at once for another process': test(['xattrs'], async (s) => {
    const other = await s.as();
    await s.file('/f');
    for (const value of ['one', 'another']) {
      await s.p.setxattr('/f', 'user.v', bytes(value));
      same(text(await other.getxattr('/f', 'user.v')), value, 'value');
    }
  }),
};

export const xattrs = family('xattr', { ...values, ...flags, ...names, ...owners });
