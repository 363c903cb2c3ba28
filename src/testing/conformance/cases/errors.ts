/** Every call by path, on paths that lead nowhere; and every call by descriptor, on descriptors of the wrong kind. */
import type { PosixFeature, PosixProcess } from '../../posix.ts';
import { bytes, type ConformanceMap, each, fails, family, same, test } from '../case.ts';
import { O_CREAT, O_RDONLY, O_RDWR, O_WRONLY, R_OK, S_IFIFO } from '../linux.ts';

interface PathCall {
  readonly name: string;
  readonly needs?: readonly PosixFeature[];
  readonly call: (p: PosixProcess, path: string) => Promise<unknown>;
  /** Whether the last name is to be made, so that its absence is no error. */
  readonly makes?: boolean;
  /** Whether the call is about a symbolic link at the end itself. */
  readonly ownLink?: boolean;
}

const PATH_CALLS: readonly PathCall[] = [
  { name: 'open', call: (p, path) => p.open(path, O_RDONLY) },
  { name: 'open with O_CREAT', makes: true, call: (p, path) => p.open(path, O_WRONLY | O_CREAT) },
  { name: 'stat', call: (p, path) => p.stat(path) },
  { name: 'lstat', ownLink: true, call: (p, path) => p.lstat(path) },
  { name: 'access', call: (p, path) => p.access(path, R_OK) },
  { name: 'chmod', needs: ['permissions'], call: (p, path) => p.chmod(path, 0o600) },
  { name: 'chown', needs: ['ownership'], call: (p, path) => p.chown(path, 1, 1) },
  { name: 'lchown', needs: ['ownership'], ownLink: true, call: (p, path) => p.lchown(path, 1, 1) },
  { name: 'utimens', needs: ['times'], call: (p, path) => p.utimens(path, 0n, 0n) },
  { name: 'truncate', needs: ['truncate'], call: (p, path) => p.truncate(path, 0) },
  { name: 'mkdir', makes: true, ownLink: true, call: (p, path) => p.mkdir(path) },
  { name: 'rmdir', ownLink: true, call: (p, path) => p.rmdir(path) },
  { name: 'mknod', needs: ['fifos'], makes: true, ownLink: true, call: (p, path) => p.mknod(path, S_IFIFO | 0o600) },
  { name: 'unlink', ownLink: true, call: (p, path) => p.unlink(path) },
  { name: 'link from', needs: ['hardlinks'], ownLink: true, call: (p, path) => p.link(path, '/new') },
  { name: 'link to', needs: ['hardlinks'], makes: true, ownLink: true, call: (p, path) => p.link('/file', path) },
  { name: 'symlink', needs: ['symlinks'], makes: true, ownLink: true, call: (p, path) => p.symlink('x', path) },
  { name: 'readlink', needs: ['symlinks'], ownLink: true, call: (p, path) => p.readlink(path) },
  { name: 'rename from', ownLink: true, call: (p, path) => p.rename(path, '/new') },
  { name: 'rename to', makes: true, ownLink: true, call: (p, path) => p.rename('/file', path) },
  { name: 'statfs', needs: ['statfs'], call: (p, path) => p.statfs(path) },
  { name: 'getxattr', needs: ['xattrs'], call: (p, path) => p.getxattr(path, 'user.v') },
  { name: 'setxattr', needs: ['xattrs'], call: (p, path) => p.setxattr(path, 'user.v', bytes('x')) },
];

const named = (calls: readonly PathCall[], make: (row: PathCall) => ReturnType<typeof test>): ConformanceMap =>
  each(calls, ({ name }) => name, make);

const paths: ConformanceMap = {
  ...family(
    'ENOENT at the end',
    named(
      PATH_CALLS.filter(({ makes }) => !makes),
      ({ needs = [], call }) =>
        test(needs, async (s) => {
          await s.file('/file');
          await fails('ENOENT', call(s.p, '/missing'));
          same(await s.names('/'), ['file'], 'names');
        }),
    ),
  ),
  ...family(
    'ENOENT on the way',
    named(PATH_CALLS, ({ needs = [], call }) =>
      test(needs, async (s) => {
        await s.file('/file');
        await fails('ENOENT', call(s.p, '/missing/name'));
        same(await s.names('/'), ['file'], 'names');
      }),
    ),
  ),
  ...family(
    'ENOENT for an empty path',
    named(
      PATH_CALLS.filter(({ name }) => name !== 'statfs'),
      ({ needs = [], call }) =>
        test(needs, async (s) => {
          await s.file('/file');
          await fails('ENOENT', call(s.p, ''));
        }),
    ),
  ),
  ...family(
    'ENOTDIR on the way',
    named(PATH_CALLS, ({ needs = [], call }) =>
      test(needs, async (s) => {
        await s.file('/file', 'keep');
        await fails('ENOTDIR', call(s.p, '/file/name'));
        same(await s.contents('/file'), 'keep', 'contents');
      }),
    ),
  ),
  ...family(
    'ELOOP',
    named(PATH_CALLS, ({ needs = [], call, ownLink }) =>
      test(['symlinks', ...needs], async (s) => {
        await s.file('/file');
        await s.p.symlink('loop', '/loop');
        await fails('ELOOP', call(s.p, '/loop/name'));
        if (!ownLink) await fails('ELOOP', call(s.p, '/loop'));
      }),
    ),
  ),
};

const DESCRIPTOR_CALLS: {
  name: string;
  needs?: readonly PosixFeature[];
  call: (p: PosixProcess, fd: number) => Promise<unknown>;
}[] = [
  { name: 'read', call: (p, fd) => p.read(fd, 1) },
  { name: 'pread', call: (p, fd) => p.read(fd, 1, 0) },
  { name: 'write', call: (p, fd) => p.write(fd, bytes('x')) },
  { name: 'pwrite', call: (p, fd) => p.write(fd, bytes('x'), 0) },
  { name: 'lseek', call: (p, fd) => p.lseek(fd, 0, 0) },
  { name: 'fstat', call: (p, fd) => p.fstat(fd) },
  { name: 'fsync', call: (p, fd) => p.fsync(fd) },
  { name: 'fdatasync', call: (p, fd) => p.fdatasync(fd) },
  { name: 'ftruncate', needs: ['truncate'], call: (p, fd) => p.ftruncate(fd, 0) },
  { name: 'fchmod', needs: ['permissions'], call: (p, fd) => p.fchmod(fd, 0o600) },
  { name: 'fchown', needs: ['ownership'], call: (p, fd) => p.fchown(fd, 1, 1) },
  { name: 'futimens', needs: ['times'], call: (p, fd) => p.futimens(fd, 0n, 0n) },
  { name: 'getdents', call: (p, fd) => p.getdents(fd) },
  { name: 'dup', call: (p, fd) => p.dup(fd) },
  { name: 'close', call: (p, fd) => p.close(fd) },
  { name: 'fallocate', needs: ['fallocate'], call: (p, fd) => p.fallocate(fd, 0, 0, 1) },
  { name: 'setlk', needs: ['posix-locks'], call: (p, fd) => p.setlk(fd, { type: 'read', start: 0, length: 0 }) },
  { name: 'getlk', needs: ['posix-locks'], call: (p, fd) => p.getlk(fd, { type: 'read', start: 0, length: 0 }) },
  { name: 'flock', needs: ['flock'], call: (p, fd) => p.flock(fd, 5) },
];

/** A number that no process of a test reaches. */
const NO_DESCRIPTOR = 54_321;

const descriptors: ConformanceMap = {
  ...family(
    'EBADF',
    each(
      DESCRIPTOR_CALLS,
      ({ name }) => name,
      ({ needs = [], call }) => test(needs, async ({ p }) => fails('EBADF', call(p, NO_DESCRIPTOR))),
    ),
  ),
  ...family('wrong kind', {
    'write to a directory is EBADF': test([], async ({ p }) => {
      const fd = await p.open('/', O_RDONLY);
      await fails('EBADF', p.write(fd, bytes('x')));
    }),
    'ftruncate of a directory is EINVAL': test(['truncate'], async ({ p }) => {
      const fd = await p.open('/', O_RDONLY);
      await fails(['EINVAL', 'EBADF'], p.ftruncate(fd, 0));
    }),
    'fallocate of a directory is refused': test(['fallocate'], async ({ p }) => {
      const fd = await p.open('/', O_RDONLY);
      await fails(['EBADF', 'EISDIR', 'ENODEV'], p.fallocate(fd, 0, 0, 10));
    }),
    'lseek of a FIFO is ESPIPE': test(['fifos'], async ({ p }) => {
      await p.mknod('/p', S_IFIFO | 0o600);
      const fd = await p.open('/p', O_RDWR);
      await fails('ESPIPE', p.lseek(fd, 0, 0));
      await fails('ESPIPE', p.read(fd, 1, 0));
    }),
    'truncate of a FIFO is EINVAL': test(['fifos', 'truncate'], async ({ p }) => {
      await p.mknod('/p', S_IFIFO | 0o600);
      await fails('EINVAL', p.truncate('/p', 0));
    }),
    'xattr calls of a descriptor by path follow the file': test(['xattrs'], async (s) => {
      await s.file('/f');
      await fails('ENODATA', s.p.getxattr('/f', 'user.none'));
    }),
    'a size that no file can have is EFBIG or works': test(['truncate', 'large-files'], async (s) => {
      await s.file('/f', 'abc');
      const largest = Number.MAX_SAFE_INTEGER;
      const refused = await s.p.truncate('/f', largest).then(
        () => undefined,
        (error: NodeJS.ErrnoException) => error.code,
      );
      same((await s.p.stat('/f')).size, refused === undefined ? largest : 3, 'size');
      same(refused === undefined || refused === 'EFBIG' || refused === 'EINVAL', true, `the error ${refused}`);
    }),
  }),
};

export const errors: ConformanceMap = { ...paths, ...descriptors };
