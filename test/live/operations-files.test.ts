/** Operations on files, directories and the whole filesystem, each sent by the running kernel. */
import { constants } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ERRNO, FuseError } from '../../src/index.ts';
import { eventually, negative, skipLoudly, useLiveMounts } from './harness.ts';
import { AskedMemory, AT_FDCWD, liveFilesystem, NO_OPERATIONS, needsMinor } from './operations-live.ts';
import { proveOpcodes } from './proof.ts';

const { O_CREAT, O_RDONLY, O_RDWR, O_DIRECTORY, O_TRUNC, S_IFREG, R_OK, W_OK, X_OK } = constants;
const AT_EMPTY_PATH = 0x1000;
const STATX_BASIC_STATS = 0x7ff;
const STATX_BTIME = 0x800;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const FALLOC_FL_KEEP_SIZE = 0x01;
const FALLOC_FL_PUNCH_HOLE = 0x02;
const FALLOC_FL_COLLAPSE_RANGE = 0x08;
const FALLOC_FL_ZERO_RANGE = 0x10;
const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;
const UTIME_NOW = 0x3fffffff;
const UTIME_OMIT = 0x3ffffffe;
/** Bits of SETATTR that say that a field counts. */
const FATTR_FH = 0x40;

function timespec(seconds: number, nanoseconds: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeBigInt64LE(BigInt(seconds), 0);
  bytes.writeBigInt64LE(BigInt(nanoseconds), 8);
  return bytes;
}

class Synced extends AskedMemory {
  fsync(): void {}
  fsyncdir(): void {}
}

/** The entries of a getdents64 buffer. */
function direntsOf(bytes: Buffer, length: number): { name: string; type: number }[] {
  const entries = [];
  for (let at = 0; at < length; at += bytes.readUInt16LE(at + 16)) {
    const end = bytes.indexOf(0, at + 19);
    entries.push({ name: bytes.toString('latin1', at + 19, end), type: bytes[at + 18] });
  }
  return entries;
}

describe.skipIf(skipLoudly('operations on files', NO_OPERATIONS))('files', () => {
  useLiveMounts();

  /** A mount with an open file. */
  async function withFile(memory = new AskedMemory()) {
    const live = await liveFilesystem(memory);
    const fd = await live.caller.open(live.at('file'), O_CREAT | O_RDWR);
    const statx = async (mask = STATX_BASIC_STATS) => {
      const { memory: out } = await live.caller.ok('statx', fd, '', AT_EMPTY_PATH, mask, Buffer.alloc(256));
      const [bytes] = out;
      const time = (at: number) => ({ seconds: Number(bytes.readBigInt64LE(at)), nanoseconds: bytes.readUInt32LE(at + 8) });
      return {
        mask: bytes.readUInt32LE(0),
        mode: bytes.readUInt16LE(28),
        uid: bytes.readUInt32LE(20),
        gid: bytes.readUInt32LE(24),
        size: Number(bytes.readBigUInt64LE(40)),
        blocks: Number(bytes.readBigUInt64LE(48)),
        atime: time(64),
        btime: time(80),
        mtime: time(112),
      };
    };
    const pread = async (length: number, offset: number) => {
      const { result, memory: out } = await live.caller.ok('pread64', fd, Buffer.alloc(length), length, offset);
      return out[0].subarray(0, result);
    };
    const pwrite = (text: string, offset: number) => live.caller.ok('pwrite64', fd, Buffer.from(text), text.length, offset);
    return { ...live, fd, statx, pread, pwrite };
  }

  test('what is written is read, from where it was written', async () => {
    const { caller, fd, at, calls, pread, pwrite } = await withFile();
    await pwrite('hello world', 5);
    // Opened again: the page cache of the first opening is dropped.
    const again = await caller.open(at('file'), O_RDONLY);
    const { result, memory } = await caller.ok('pread64', again, Buffer.alloc(32), 32, 3);
    expect(memory[0].subarray(0, result)).toEqual(Buffer.from('\0\0hello world'));
    expect(await pread(5, 11)).toEqual(Buffer.from('world'));
    expect(calls('WRITE')).toMatchObject([{ offset: 5, size: 11, writeback: false }]);
    expect(calls('READ').length).toBeGreaterThan(0);
    expect(calls('OPEN')).toHaveLength(1);
    expect(fd).not.toBe(again);
    proveOpcodes('OPEN', 'READ', 'WRITE');
  });

  test('each close is a FLUSH, the last one a RELEASE; fsync and fdatasync are told apart', async () => {
    const { caller, fd, calls, pwrite } = await withFile(new Synced());
    await pwrite('x', 0);
    await caller.ok('fsync', fd);
    await caller.ok('fdatasync', fd);
    expect(calls('FSYNC').map(({ dataOnly }) => dataOnly)).toEqual([false, true]);
    const other = (await caller.ok('dup', fd)).result;
    await caller.ok('close', fd);
    expect([calls('FLUSH').length, calls('RELEASE').length]).toEqual([1, 0]);
    await caller.ok('close', other);
    await eventually(
      () => calls('RELEASE').length === 1,
      5000,
      () => 'no RELEASE came',
    );
    expect(calls('FLUSH')).toHaveLength(2);
    expect(calls('RELEASE')[0]).toMatchObject({ handle: calls('FLUSH')[0].handle, flockUnlock: false });
    proveOpcodes('FSYNC', 'FLUSH', 'RELEASE');
  });

  test('an error of flush is what close returns', async () => {
    class Full extends AskedMemory {
      override flush(): never {
        throw FuseError.of(ERRNO.EDQUOT);
      }
    }
    const { caller, fd } = await withFile(new Full());
    expect(await caller.result('close', fd)).toBe(negative('EDQUOT'));
  });

  test('attributes change one by one, and all are seen', async () => {
    const { caller, fd, at, calls, statx, pwrite } = await withFile();
    const last = () => calls('SETATTR').at(-1)!;
    await pwrite('0123456789', 0);
    await caller.ok('fchmodat', AT_FDCWD, at('file'), 0o604);
    expect(last()).toMatchObject({ mode: S_IFREG | 0o604, newUid: undefined, size: undefined, atime: undefined });
    await caller.ok('fchownat', AT_FDCWD, at('file'), 12, -1, 0);
    expect(last()).toMatchObject({ newUid: 12, newGid: undefined });
    await caller.ok('fchownat', AT_FDCWD, at('file'), -1, 34, 0);
    await caller.ok('truncate', at('file'), 7);
    expect(last()).toMatchObject({ size: 7, handle: undefined });
    await caller.ok('ftruncate', fd, 4);
    expect(last().size).toBe(4);
    expect((last().valid as number) & FATTR_FH).toBe(FATTR_FH);
    await caller.ok('utimensat', AT_FDCWD, at('file'), Buffer.concat([timespec(1e9, 123456789), timespec(-5, 1)]), 0);
    const expected = { mode: S_IFREG | 0o604, uid: 12, gid: 34, size: 4 };
    const times = { atime: { seconds: 1e9, nanoseconds: 123456789 }, mtime: { seconds: -5, nanoseconds: 1 } };
    expect(await statx()).toMatchObject({ ...expected, ...times });
    await caller.ok('utimensat', AT_FDCWD, at('file'), Buffer.concat([timespec(0, UTIME_OMIT), timespec(0, UTIME_NOW)]), 0);
    expect(last()).toMatchObject({ atime: undefined, mtime: 'now' });
    expect((await statx()).mtime.seconds).toBeGreaterThan(1e9);
    expect(calls('GETATTR').length).toBeGreaterThan(0);
    proveOpcodes('SETATTR', 'GETATTR');
  });

  test('statx shows the birth time, and only who asks for it causes a STATX', async (context) => {
    const live = await withFile();
    needsMinor(context, live, 39);
    await live.statx();
    expect(live.calls('STATX')).toEqual([]);
    const found = await live.statx(STATX_BASIC_STATS | STATX_BTIME);
    expect(found.mask & STATX_BTIME).toBe(STATX_BTIME);
    expect(found.btime).toEqual(found.mtime);
    expect(Math.abs(found.btime.seconds * 1000 - Date.now())).toBeLessThan(60_000);
    expect(live.calls('STATX')).toMatchObject([{ mask: STATX_BASIC_STATS | STATX_BTIME }]);
    proveOpcodes('STATX');
  });

  test('O_TRUNC empties a file', async () => {
    const { caller, at, statx, pwrite } = await withFile();
    await pwrite('full', 0);
    await caller.open(at('file'), O_RDWR | O_TRUNC);
    expect((await statx()).size).toBe(0);
  });

  test('data and holes are found', async () => {
    const { caller, fd, pwrite, calls } = await withFile();
    await pwrite('x', 1 << 20);
    await caller.ok('ftruncate', fd, 4 << 20);
    expect(await caller.result('lseek', fd, 0, SEEK_DATA)).toBe(1 << 20);
    expect(await caller.result('lseek', fd, 1 << 20, SEEK_HOLE)).toBe((1 << 20) + 4096);
    expect(await caller.result('lseek', fd, (1 << 20) + 4096, SEEK_DATA)).toBe(negative('ENXIO'));
    expect(calls('LSEEK').map(({ whence }) => whence)).toEqual([SEEK_DATA, SEEK_HOLE, SEEK_DATA]);
    proveOpcodes('LSEEK');
  });

  test('fallocate in each mode; what the filesystem or the kernel does not do is EOPNOTSUPP', async () => {
    const { caller, fd, statx, pread, pwrite, calls } = await withFile();
    const fallocate = (mode: number, offset: number, length: number) => caller.result('fallocate', fd, mode, offset, length);
    await pwrite('a'.repeat(4096 * 3), 0);
    expect(await fallocate(0, 0, 4096 * 4)).toBe(0);
    expect((await statx()).size).toBe(4096 * 4);
    expect(await fallocate(FALLOC_FL_KEEP_SIZE, 0, 4096 * 8)).toBe(0);
    expect(await statx()).toMatchObject({ size: 4096 * 4, blocks: 64 });
    expect(await fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096)).toBe(0);
    expect((await pread(4096 * 3, 0)).equals(Buffer.from(`${'a'.repeat(4096)}${'\0'.repeat(4096)}${'a'.repeat(4096)}`))).toBe(
      true,
    );
    expect((await statx()).blocks).toBe(56);
    expect(await fallocate(FALLOC_FL_ZERO_RANGE, 0, 16)).toBe(0);
    expect(await pread(18, 0)).toEqual(Buffer.from(`${'\0'.repeat(16)}aa`));
    expect(await fallocate(FALLOC_FL_COLLAPSE_RANGE, 0, 4096)).toBe(negative('EOPNOTSUPP'));
    const modes = calls('FALLOCATE').map(({ mode }) => mode);
    // The kernel itself refuses to collapse.
    expect(modes).toEqual([0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE]);
    proveOpcodes('FALLOCATE');
  });

  test.for([
    ['64 bits of length', 45, 'COPY_FILE_RANGE_64', AskedMemory],
    [
      '32 bits of length, where the larger one is not answered',
      28,
      'COPY_FILE_RANGE',
      class extends AskedMemory {
        override copyFileRange(...args: Parameters<AskedMemory['copyFileRange']>) {
          if (args[1].operation === 'COPY_FILE_RANGE_64') throw FuseError.of(ERRNO.ENOSYS);
          return super.copyFileRange(...args);
        }
      },
    ],
  ] as const)('copy_file_range with %s', async ([_what, minor, operation, Memory], context) => {
    const live = await withFile(new Memory());
    needsMinor(context, live, minor);
    const { caller, fd, at, pwrite, calls } = live;
    await pwrite('0123456789', 0);
    const target = await caller.open(at('copy'), O_CREAT | O_RDWR);
    const offset = Buffer.alloc(8);
    offset.writeBigUInt64LE(2n);
    const { result, memory } = await caller.ok('copy_file_range', fd, offset, target, 0, 5, 0);
    expect([result, memory[0].readBigUInt64LE()]).toEqual([5, 7n]);
    const copied = await caller.ok('pread64', target, Buffer.alloc(16), 16, 0);
    expect(copied.memory[0].toString('latin1', 0, copied.result)).toBe('23456');
    expect(calls(operation)).toMatchObject([{ offset: 2, toOffset: 0, length: 5, flags: 0 }]);
    proveOpcodes(operation);
  });

  test('a directory is opened, listed and closed', async () => {
    const { caller, at, path, calls } = await withFile(new Synced());
    await caller.ok('mkdirat', AT_FDCWD, at('dir'), 0o755);
    const fd = await caller.open(path, O_RDONLY | O_DIRECTORY);
    const { result, memory } = await caller.ok('getdents64', fd, Buffer.alloc(4096), 4096);
    const found = direntsOf(memory[0], result).sort((a, b) => (a.name < b.name ? -1 : 1));
    expect(found).toEqual([
      { name: '.', type: 4 },
      { name: '..', type: 4 },
      { name: 'dir', type: 4 },
      { name: 'file', type: 8 },
    ]);
    await caller.ok('fsync', fd);
    await caller.ok('fdatasync', fd);
    expect(calls('FSYNCDIR').map(({ dataOnly }) => dataOnly)).toEqual([false, true]);
    await caller.ok('close', fd);
    await eventually(
      () => calls('RELEASEDIR').length === 1,
      5000,
      () => 'no RELEASEDIR came',
    );
    // The attributes came with the listing, so that they are not asked for.
    expect(calls('READDIRPLUS').length).toBeGreaterThan(0);
    proveOpcodes('OPENDIR', 'READDIRPLUS', 'FSYNCDIR', 'RELEASEDIR');
  });

  test('a filesystem without readdirplus is listed by READDIR', async () => {
    const memory = new AskedMemory();
    Object.defineProperty(memory, 'readdirplus', { value: undefined });
    const { caller, path } = await withFile(memory);
    const fd = await caller.open(path, O_RDONLY | O_DIRECTORY);
    const { result, memory: out } = await caller.ok('getdents64', fd, Buffer.alloc(4096), 4096);
    expect(direntsOf(out[0], result).map(({ name }) => name)).toContain('file');
    proveOpcodes('READDIR');
  });

  test('statfs', async () => {
    const { caller, fd } = await withFile();
    const { memory } = await caller.ok('fstatfs', fd, Buffer.alloc(120));
    const word = (index: number) => Number(memory[0].readBigUInt64LE(index * 8));
    expect([word(1), word(2), word(5), word(8)]).toEqual([4096, (64 << 20) / 4096, 10_000, 255]);
    proveOpcodes('STATFS');
  });

  test('access asks for what access(2) was asked, and may say no', async () => {
    class Guarded extends AskedMemory {
      access(_node: number, { mask }: { mask: number }): void {
        if ((mask & W_OK) !== 0) throw FuseError.of(ERRNO.EACCES);
      }
    }
    const { caller, at, calls } = await withFile(new Guarded());
    expect(await caller.result('faccessat', AT_FDCWD, at('file'), R_OK)).toBe(0);
    expect(await caller.result('faccessat', AT_FDCWD, at('file'), R_OK | W_OK)).toBe(negative('EACCES'));
    expect(await caller.result('chdir', at(''))).toBe(0);
    expect(calls('ACCESS').map(({ mask }) => mask)).toEqual([R_OK, R_OK | W_OK, X_OK]);
    await caller.ok('chdir', '/');
    proveOpcodes('ACCESS');
  });

  test('extended attributes are set, listed, read and removed', async () => {
    const { caller, at, calls } = await withFile();
    const file = at('file');
    const set = (value: string, flags: number) =>
      caller.result('setxattr', file, 'user.colour', Buffer.from(value), value.length, flags);
    expect(await set('red', XATTR_REPLACE)).toBe(negative('ENODATA'));
    expect(await set('red', XATTR_CREATE)).toBe(0);
    expect(await set('blue', XATTR_CREATE)).toBe(negative('EEXIST'));
    expect(await set('blue', XATTR_REPLACE)).toBe(0);
    expect(await set('green', 0)).toBe(0);
    expect(calls('SETXATTR').map(({ flags }) => flags)).toEqual([XATTR_REPLACE, XATTR_CREATE, XATTR_CREATE, XATTR_REPLACE, 0]);
    const listed = await caller.ok('listxattr', file, Buffer.alloc(64), 64);
    expect(listed.memory[0].toString('latin1', 0, listed.result)).toBe('user.colour\0');
    expect(await caller.result('listxattr', file, 0, 0)).toBe(12);
    const value = await caller.ok('getxattr', file, 'user.colour', Buffer.alloc(64), 64);
    expect(value.memory[0].toString('latin1', 0, value.result)).toBe('green');
    expect(await caller.result('getxattr', file, 'user.colour', 0, 0)).toBe(5);
    expect(await caller.result('getxattr', file, 'user.colour', Buffer.alloc(2), 2)).toBe(negative('ERANGE'));
    await caller.ok('removexattr', file, 'user.colour');
    expect(await caller.result('getxattr', file, 'user.colour', Buffer.alloc(64), 64)).toBe(negative('ENODATA'));
    proveOpcodes('SETXATTR', 'GETXATTR', 'LISTXATTR', 'REMOVEXATTR');
  });
});
