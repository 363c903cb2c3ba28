/** Operations on names, each sent by the running kernel: what the method was asked, and what the caller saw of its answer. */
import { constants } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { eventually, negative, skipLoudly, useLiveMounts } from './harness.ts';
import { AskedMemory, AT_FDCWD, liveFilesystem, NO_OPERATIONS, needsMinor } from './operations-live.ts';
import { prove, proveOpcodes } from './proof.ts';

const { O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_WRONLY, O_DIRECTORY, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFREG, S_IFSOCK } =
  constants;
const AT_REMOVEDIR = 0x200;
const AT_SYMLINK_FOLLOW = 0x400;
const AT_SYMLINK_NOFOLLOW = 0x100;
const O_TMPFILE = 0o20000000 | O_DIRECTORY;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const RENAME_WHITEOUT = 4;
const STATX_BASIC_STATS = 0x7ff;
const S_IFMT = 0o170000;

/** The fields of struct statx that these tests look at. */
function statxOf(bytes: Buffer) {
  return {
    nlink: bytes.readUInt32LE(16),
    mode: bytes.readUInt16LE(28),
    ino: bytes.readBigUInt64LE(32),
    device: [bytes.readUInt32LE(128), bytes.readUInt32LE(132)],
  };
}

describe.skipIf(skipLoudly('operations on names', NO_OPERATIONS))('names', () => {
  useLiveMounts();

  const mounted = () => liveFilesystem(new AskedMemory());
  type Live = Awaited<ReturnType<typeof mounted>>;

  const stat = async ({ caller, at }: Live, name: string) =>
    statxOf((await caller.ok('statx', AT_FDCWD, at(name), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, Buffer.alloc(256))).memory[0]);
  const missing = ({ caller, at }: Live, name: string) =>
    caller.result('statx', AT_FDCWD, at(name), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, Buffer.alloc(256));
  const make = async ({ caller, at }: Live, name: string, text = '') => {
    const fd = await caller.open(at(name), O_CREAT | O_WRONLY);
    if (text !== '') await caller.ok('write', fd, Buffer.from(text), text.length);
    await caller.ok('close', fd);
  };
  const read = async ({ caller, at }: Live, name: string) => {
    const fd = await caller.open(at(name), O_RDONLY);
    const { result, memory } = await caller.ok('read', fd, Buffer.alloc(64), 64);
    await caller.ok('close', fd);
    return memory[0].toString('latin1', 0, result);
  };

  test('the mount answers INIT; a name is looked up, and an absent one is not there', async () => {
    const live = await mounted();
    await make(live, 'file');
    expect((await stat(live, 'file')).mode & S_IFMT).toBe(S_IFREG);
    expect(await missing(live, 'absent')).toBe(negative('ENOENT'));
    expect(live.calls('LOOKUP').map(({ words }) => (words as unknown[])[1])).toEqual(expect.arrayContaining(['file', 'absent']));
    proveOpcodes('INIT', 'LOOKUP');
  });

  test('create makes and opens at once, with mode, umask and flags as the caller gave them', async () => {
    const live = await mounted();
    const { caller, at } = live;
    await caller.ok('umask', 0o027);
    await caller.ok('openat', AT_FDCWD, at('new'), O_CREAT | O_EXCL | O_RDWR, 0o666);
    expect(live.calls('CREATE')).toMatchObject([{ mode: S_IFREG | 0o640, umask: 0o027 }]);
    expect((live.calls('CREATE')[0].flags as number) & (O_CREAT | O_EXCL | O_RDWR)).toBe(O_CREAT | O_EXCL | O_RDWR);
    expect((await stat(live, 'new')).mode).toBe(S_IFREG | 0o640);
    expect(await caller.result('openat', AT_FDCWD, at('new'), O_CREAT | O_EXCL | O_RDWR, 0o666)).toBe(negative('EEXIST'));
    proveOpcodes('CREATE');
  });

  test.each([
    ['a regular file', S_IFREG, 0, [0, 0]],
    ['a pipe', S_IFIFO, 0, [0, 0]],
    ['a socket', S_IFSOCK, 0, [0, 0]],
    ['a character device', S_IFCHR, 0x0301, [3, 1]],
    // Minor 0x12345 and major 0xabc in the kernel's 32-bit encoding.
    ['a block device with large numbers', S_IFBLK, 0x123abc45, [0xabc, 0x12345]],
  ])('mknod makes %s', async (_what, type, device, shown) => {
    const live = await mounted();
    const { caller, at } = live;
    await caller.ok('mknodat', AT_FDCWD, at('node'), type | 0o600, device);
    expect(live.calls('MKNOD')).toMatchObject([{ mode: type | 0o600, rdev: device }]);
    const found = await stat(live, 'node');
    expect([found.mode, found.device]).toEqual([type | 0o600, shown]);
    proveOpcodes('MKNOD');
  });

  test('directories are made and removed, full ones are not', async () => {
    const live = await mounted();
    const { caller, at } = live;
    await caller.ok('mkdirat', AT_FDCWD, at('dir'), 0o750);
    expect((await stat(live, 'dir')).mode).toBe(S_IFDIR | 0o750);
    await make(live, 'dir/file');
    expect(await caller.result('unlinkat', AT_FDCWD, at('dir'), AT_REMOVEDIR)).toBe(negative('ENOTEMPTY'));
    await caller.ok('unlinkat', AT_FDCWD, at('dir/file'), 0);
    await caller.ok('unlinkat', AT_FDCWD, at('dir'), AT_REMOVEDIR);
    expect(await missing(live, 'dir')).toBe(negative('ENOENT'));
    proveOpcodes('MKDIR', 'RMDIR', 'UNLINK');
  });

  test('a symbolic link keeps its target, which is read back', async () => {
    const live = await mounted();
    const { caller, at } = live;
    await make(live, 'file', 'through the link');
    await caller.ok('symlinkat', 'file', AT_FDCWD, at('link'));
    const { result, memory } = await caller.ok('readlinkat', AT_FDCWD, at('link'), Buffer.alloc(64), 64);
    expect(memory[0].toString('latin1', 0, result)).toBe('file');
    expect(await read(live, 'link')).toBe('through the link');
    expect(live.calls('SYMLINK')[0].words).toEqual([1, 'link', 'file']);
    proveOpcodes('SYMLINK', 'READLINK');
  });

  test('link gives a file a second name', async () => {
    const live = await mounted();
    const { caller, at } = live;
    await make(live, 'one', 'same');
    await caller.ok('linkat', AT_FDCWD, at('one'), AT_FDCWD, at('two'), 0);
    const [one, two] = [await stat(live, 'one'), await stat(live, 'two')];
    expect([two.ino, two.nlink]).toEqual([one.ino, 2]);
    await caller.ok('unlinkat', AT_FDCWD, at('one'), 0);
    expect([await read(live, 'two'), (await stat(live, 'two')).nlink]).toEqual(['same', 1]);
    proveOpcodes('LINK', 'UNLINK');
  });

  test('rename replaces; NOREPLACE does not, EXCHANGE swaps, WHITEOUT leaves a mark', async () => {
    const live = await mounted();
    const { caller, at } = live;
    const rename = (from: string, to: string, flags: number) =>
      caller.result('renameat2', AT_FDCWD, at(from), AT_FDCWD, at(to), flags);
    await make(live, 'a', 'A');
    await make(live, 'b', 'B');
    expect(await rename('a', 'b', RENAME_NOREPLACE)).toBe(negative('EEXIST'));
    expect(await rename('a', 'b', RENAME_EXCHANGE)).toBe(0);
    expect([await read(live, 'a'), await read(live, 'b')]).toEqual(['B', 'A']);
    expect(await rename('a', 'c', RENAME_NOREPLACE)).toBe(0);
    expect(await rename('c', 'd', RENAME_WHITEOUT)).toBe(0);
    const whiteout = await stat(live, 'c');
    expect([whiteout.mode & S_IFMT, whiteout.device]).toEqual([S_IFCHR, [0, 0]]);
    expect(await rename('d', 'b', 0)).toBe(0);
    expect([await read(live, 'b'), await missing(live, 'd')]).toEqual(['B', negative('ENOENT')]);
    expect(await rename('b', 'e', RENAME_EXCHANGE | RENAME_WHITEOUT)).toBe(negative('EINVAL'));
    // The kernel itself found that the target of the first stands in the way.
    expect(live.calls('RENAME2').map(({ flags }) => flags)).toEqual([RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT]);
    expect(live.calls('RENAME')).toMatchObject([{ words: [1, 'd'], newParent: 1, newName: 'b', flags: 0 }]);
    proveOpcodes('RENAME', 'RENAME2');
  });

  test('a nameless file is written and then given a name', async (context) => {
    const live = await mounted();
    needsMinor(context, live, 37);
    const { caller, at } = live;
    await caller.ok('mkdirat', AT_FDCWD, at('dir'), 0o755);
    const fd = await caller.open(at('dir'), O_TMPFILE | O_RDWR, 0o600);
    await caller.ok('write', fd, Buffer.from('unnamed'), 7);
    const shown = await caller.ok('statx', fd, '', 0x1000, STATX_BASIC_STATS, Buffer.alloc(256));
    expect(statxOf(shown.memory[0])).toMatchObject({ nlink: 0, mode: S_IFREG | 0o600 });
    await caller.ok('linkat', AT_FDCWD, `/proc/self/fd/${fd}`, AT_FDCWD, at('dir/named'), AT_SYMLINK_FOLLOW);
    expect([await read(live, 'dir/named'), (await stat(live, 'dir/named')).nlink]).toEqual(['unnamed', 1]);
    proveOpcodes('TMPFILE', 'LINK');
  });

  test('O_EXCL forbids the name', async (context) => {
    const live = await mounted();
    needsMinor(context, live, 37);
    const { caller, at } = live;
    const fd = await caller.open(at(''), O_TMPFILE | O_EXCL | O_RDWR, 0o600);
    expect(await caller.result('linkat', AT_FDCWD, `/proc/self/fd/${fd}`, AT_FDCWD, at('named'), AT_SYMLINK_FOLLOW)).toBe(
      negative('ENOENT'),
    );
    proveOpcodes('TMPFILE');
  });

  test('what nobody uses any more is forgotten, one at a time or in a batch', async () => {
    // Names that are believed stay until the kernel is told to drop them.
    const memory = new AskedMemory({ cache: 'exclusive' });
    const live = await liveFilesystem(memory);
    const { caller, at } = live;
    const known = () => [...memory.lookupCounts()].filter(([node, count]) => node !== 1 && count > 0).length;
    await make(live, 'file');
    await caller.ok('unlinkat', AT_FDCWD, at('file'), 0);
    await eventually(
      () => known() === 0,
      5000,
      () => `${known()} nodes are known`,
    );
    prove('opcode', 'FORGET');
    // Held open until all are there: short of memory the kernel drops what nobody uses, one by one.
    for (let i = 0; i < 64; i++) await caller.open(at(`file${i}`), O_CREAT | O_WRONLY);
    expect(known()).toBe(64);
    const nodes = [...memory.lookupCounts()].map(([node]) => node).filter((node) => node !== 1);
    caller.kill('SIGKILL');
    await caller.ended;
    // Dropping many at once queues their forgets together.
    await live.mount.kernel.prune(nodes);
    await eventually(
      () => known() === 0,
      5000,
      () => `${known()} nodes are known`,
    );
    proveOpcodes('BATCH_FORGET');
  });
});
