import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Addon, errnoName, errnoNumber, fromBinary, pinBuffer, toBinary, tryLoadAddon } from '../../src/native/index.ts';

const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const AT_REMOVEDIR = 0x200;
const AT_SYMLINK_NOFOLLOW = 0x100;
const O_RDWR = 2;
const O_CREAT = 0o100;
const O_PATH = 0o10000000;
const STATX_BASIC = 0x7ff;
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_WRLCK = 1;
const F_UNLCK = 2;

const loaded = tryLoadAddon();

describe('text', () => {
  test('binary strings carry the bytes of UTF-8', () => {
    expect(toBinary('plain')).toBe('plain');
    expect(toBinary('ä€')).toBe('\xc3\xa4\xe2\x82\xac');
    expect(fromBinary('\xc3\xa4\xe2\x82\xac')).toBe('ä€');
    expect(fromBinary('plain')).toBe('plain');
  });

  test('bytes that are not UTF-8 are no string', () => {
    for (const binary of ['\xff', '\xc3', '\xed\xa0\x80', '\xc0\x80', '\xf5\x80\x80\x80'])
      expect(fromBinary(binary)).toBeUndefined();
  });

  test('error numbers have names', () => {
    expect([errnoName(-2), errnoName(11), errnoName(95), errnoName(117), errnoName(400)]).toEqual([
      'ENOENT',
      'EAGAIN',
      'EOPNOTSUPP',
      'EUCLEAN',
      'E400',
    ]);
    expect([errnoNumber('EINTR'), errnoNumber('EWOULDBLOCK'), errnoNumber('ENOTHING')]).toEqual([4, 11, undefined]);
  });
});

describe.skipIf(loaded === undefined)('addon', () => {
  const addon = loaded as Addon;
  let folder: string;
  let dirfd: number;
  let scratch: DataView;

  beforeAll(() => {
    scratch = new DataView(addon.scratch);
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'fusewire-native-'));
    dirfd = addon.openat(AT_FDCWD, folder, 0o200000, 0);
    expect(dirfd).toBeGreaterThan(0);
  });
  afterEach(() => {
    addon.close(dirfd);
    rmSync(folder, { recursive: true });
  });

  function create(name: string, content = ''): number {
    const fd = addon.openat(dirfd, name, O_RDWR | O_CREAT, 0o644);
    expect(fd).toBeGreaterThan(0);
    if (content !== '') {
      Buffer.from(addon.scratch).write(content, 'latin1');
      expect(addon.pwrite(fd, 0, 0, content.length, 0)).toBe(content.length);
    }
    return fd;
  }

  function scratchText(length: number): string {
    return Buffer.from(addon.scratch, 0, length).toString('latin1');
  }

  test('has exactly the functions that its typed face declares', () => {
    const source = readFileSync(new URL('../../src/native/addon.ts', import.meta.url), 'utf8');
    const body = source.slice(source.indexOf('export interface Addon'));
    const declared = [...body.matchAll(/^ {2}(?:readonly )?(\w+)[(:]/gm)].map((match) => match[1]);
    expect(Object.keys(addon).sort()).toEqual(declared.sort());
    expect(addon.scratch.byteLength).toBe(256 * 1024);
    expect(addon.replyStatus).toBeInstanceOf(Int32Array);
  });

  describe('arguments', () => {
    test.each([
      ['a string for a number', () => addon.close('3' as unknown as number)],
      ['nothing', () => (addon.pread as unknown as () => void)()],
      ['NaN', () => addon.close(Number.NaN)],
      ['a fraction', () => addon.close(1.5)],
      ['a descriptor beyond 32 bits', () => addon.close(2 ** 32 + 1)],
      ['a buffer that is not registered', () => addon.pread(0, 65_000, 0, 1, 0)],
      ['a negative offset', () => addon.pread(0, 0, -1, 1, 0)],
      ['an offset outside the buffer', () => addon.pread(0, 0, 256 * 1024 + 1, 0, 0)],
      ['a length outside the buffer', () => addon.pread(0, 0, 1, 256 * 1024, 0)],
      ['no room for statx', () => addon.statx(AT_FDCWD, '/', 0, 0, 0, 256 * 1024 - 255)],
      ['a NUL in a name', () => addon.unlinkat(AT_FDCWD, 'a\0b', 0)],
      ['a wide character in a name', () => addon.unlinkat(AT_FDCWD, '€', 0)],
      ['too many parts', () => addon.replyParts(-1, 0, 0, 0, new Array(1024).fill(new Uint8Array(1)))],
      ['parts of another type', () => addon.replyParts(-1, 0, 0, 0, [new Uint16Array(1) as unknown as Uint8Array])],
      ['a callback that is none', () => addon.watch(0, 5 as unknown as () => void)],
      ['an unknown kind of lock', () => addon.lockWait('posix' as 'ofd', 0, 0, 0, 0, () => {})],
      ['SETLKW where it may not sleep', () => addon.ofdLock(0, 38, 0, 0, 0)],
      ['a group that is none', () => addon.becomeUser(0, 0, [-1])],
      ['a typed array for an ArrayBuffer', () => addon.registerBuffer(new Uint8Array(8) as unknown as ArrayBuffer)],
      ['an empty ArrayBuffer', () => addon.registerBuffer(new ArrayBuffer(0))],
      ['a range outside the ArrayBuffer', () => addon.registerBuffer(new ArrayBuffer(8), 4, 5)],
      ['the scratch area to unregister', () => addon.unregisterBuffer(0)],
    ])('%s is a TypeError', (_name, call) => {
      expect(call).toThrow(expect.objectContaining({ name: 'TypeError', code: 'ERR_FUSEWIRE_ADDON_ARGUMENT' }));
    });

    test('a name of 4,096 bytes is too long, one of 4,095 reaches the kernel', () => {
      expect(addon.unlinkat(dirfd, 'x'.repeat(4096), 0)).toBe(-36);
      expect(addon.unlinkat(dirfd, `${'./'.repeat(2047)}x`, 0)).toBe(-2);
    });
  });

  describe('buffers', () => {
    test('a registered range starts at its own offset 0, and ids are reused', () => {
      const memory = new ArrayBuffer(64);
      const id = addon.registerBuffer(memory, 16, 8);
      const fd = create('file', 'abcdefghij');
      expect(addon.pread(fd, id, 2, 6, 0)).toBe(6);
      expect(Buffer.from(memory).toString('latin1', 16, 24)).toBe('\0\0abcdef');
      expect(() => addon.pread(fd, id, 0, 9, 0)).toThrow(TypeError);
      addon.unregisterBuffer(id);
      expect(() => addon.unregisterBuffer(id)).toThrow(TypeError);
      expect(() => addon.pread(fd, id, 0, 1, 0)).toThrow(TypeError);
      expect(addon.registerBuffer(memory)).toBe(id);
      addon.unregisterBuffer(id);
      addon.close(fd);
    });

    test('at most 65,536 can be registered', () => {
      const memory = new ArrayBuffer(8);
      const ids: number[] = [];
      expect(() => {
        for (;;) ids.push(addon.registerBuffer(memory));
      }).toThrow(expect.objectContaining({ name: 'RangeError', code: 'ERR_FUSEWIRE_ADDON_BUFFERS' }));
      expect(ids.length).toBeGreaterThan(65_000);
      for (const id of ids) addon.unregisterBuffer(id);
    });

    test('a pinned buffer has its payload at an address for O_DIRECT, and cannot be transferred', () => {
      for (const at of [0, 16, 80]) {
        const pinned = pinBuffer(addon, 8190, at);
        const memory = pinned.bytes.buffer;
        expect((addon.bytesToBoundary(memory) - pinned.bytes.byteOffset - at) % 4096).toBe(0);
        expect(pinned.bytes.length).toBe(8192);
        expect(pinned.words.byteOffset).toBe(pinned.bytes.byteOffset);
        // Node 20 copies it instead, later versions refuse; what matters is that it stays.
        try {
          structuredClone(memory, { transfer: [memory] });
        } catch {}
        expect(memory.byteLength).toBe(8192 + 4096);
        addon.unregisterBuffer(pinned.id);
      }
    });
  });

  describe('files', () => {
    test('data goes where it should', () => {
      const fd = create('file', 'hello world');
      expect(addon.pread(fd, 0, 100, 5, 6)).toBe(5);
      expect(Buffer.from(addon.scratch, 100, 5).toString()).toBe('world');
      expect(addon.pread(fd, 0, 0, 5, 1e15)).toBe(0);
      expect(addon.pwrite(fd, 0, 100, 5, 2 ** 33)).toBe(5);
      expect(statSync(join(folder, 'file')).size).toBe(2 ** 33 + 5);
      expect(addon.lseek(fd, 0, 2)).toBe(2 ** 33 + 5);
      expect(addon.lseek(fd, 4096, 3)).toBe(2 ** 33);
      expect(addon.lseekWords(fd, 5, 1)).toBe(0);
      expect(addon.lseek(fd, 0, 1)).toBe(2 ** 32 + 5);
      expect(addon.ftruncate(fd, 5)).toBe(0);
      expect(addon.truncate(toBinary(join(folder, 'file')), 3)).toBe(0);
      expect(readFileSync(join(folder, 'file'), 'utf8')).toBe('hel');
      expect([addon.fallocate(fd, 0, 0, 100), statSync(join(folder, 'file')).size]).toEqual([0, 100]);
      expect([addon.fsync(fd), addon.fdatasync(fd), addon.syncfs(fd)]).toEqual([0, 0, 0]);
      const other = create('other');
      expect(addon.copyFileRange(fd, 1, other, 10, 2, 0)).toBe(2);
      expect(readFileSync(join(folder, 'other'), 'latin1')).toBe(`${'\0'.repeat(10)}el`);
      expect([addon.close(other), addon.close(fd), addon.close(fd)]).toEqual([0, 0, -9]);
    });

    test('names of any bytes', () => {
      const name = '\xff\xfe name';
      addon.close(create(name));
      const got = addon.getdents64(dirfd, 0, 0, 4096);
      expect(got).toBeGreaterThan(0);
      expect(scratchText(got)).toContain(`${name}\0`);
      expect(addon.getdents64(dirfd, 0, 0, 4096)).toBe(0);
      expect(addon.unlinkat(dirfd, name, 0)).toBe(0);
    });

    test('statx, by name and by descriptor', () => {
      const fd = create('file', 'abc');
      expect(addon.statx(dirfd, 'file', 0, STATX_BASIC, 0, 8)).toBe(0);
      const size = scratch.getBigUint64(8 + 40, true);
      expect(addon.statx(fd, '', AT_EMPTY_PATH, STATX_BASIC, 0, 0)).toBe(0);
      expect([size, scratch.getBigUint64(40, true)]).toEqual([3n, 3n]);
      expect(scratch.getUint16(28, true)).toBe(0o100644);
      expect(addon.statx(dirfd, 'absent', 0, STATX_BASIC, 0, 0)).toBe(-2);
      expect(addon.fstatfs(fd, 0, 0)).toBe(0);
      expect(scratch.getBigUint64(64, true)).toBe(255n);
      addon.close(fd);
    });

    test('modes, owners and times', () => {
      const fd = create('file');
      symlinkSync('file', join(folder, 'link'));
      expect([addon.fchmod(fd, 0o600), addon.fchmodat(dirfd, 'file', 0o640)]).toEqual([0, 0]);
      expect(statSync(join(folder, 'file')).mode & 0o777).toBe(0o640);
      expect(addon.fchownat(dirfd, 'link', -1, -1, AT_SYMLINK_NOFOLLOW)).toBe(0);
      expect(addon.utimensat(dirfd, 'file', -5, 7, 12_345_678_901, 999_999_999, 0)).toBe(0);
      const stats = statSync(join(folder, 'file'), { bigint: true });
      expect([stats.atimeNs, stats.mtimeNs]).toEqual([-4_999_999_993n, 12_345_678_901_999_999_999n]);
      const path = addon.openat(dirfd, 'file', O_PATH, 0);
      expect(addon.utimensat(path, '', 1, 0, 0, 0x3ffffffe, AT_EMPTY_PATH)).toBe(0);
      expect(statSync(join(folder, 'file'), { bigint: true }).atimeNs).toBe(1_000_000_000n);
      expect(addon.utimensat(dirfd, 'file', 0, 1_000_000_000, 0, 0, 0)).toBe(-22);
      addon.close(path);
      addon.close(fd);
    });

    test('names come, move and go', () => {
      addon.close(create('a'));
      expect(addon.mkdirat(dirfd, 'd', 0o755)).toBe(0);
      expect(addon.mknodat(dirfd, 'fifo', 0o010644, 0, 0)).toBe(0);
      expect(addon.symlinkat('to nowhere', dirfd, 's')).toBe(0);
      expect(addon.readlinkat(dirfd, 's', 0, 0, 100)).toBe(10);
      expect(scratchText(10)).toBe('to nowhere');
      const link = addon.openat(dirfd, 's', O_PATH | 0o400000, 0);
      expect(addon.readlinkat(link, '', 0, 0, 4)).toBe(4);
      addon.close(link);
      expect(addon.linkat(dirfd, 'a', dirfd, 'd/b', 0)).toBe(0);
      expect(addon.renameat2(dirfd, 'a', dirfd, 'fifo', 1)).toBe(-17);
      expect(addon.renameat2(dirfd, 'a', dirfd, 'fifo', 2)).toBe(0);
      expect(statSync(join(folder, 'a')).isFIFO()).toBe(true);
      expect(addon.unlinkat(dirfd, 'd', AT_REMOVEDIR)).toBe(-39);
      expect([addon.unlinkat(dirfd, 'd/b', 0), addon.unlinkat(dirfd, 'd', AT_REMOVEDIR)]).toEqual([0, 0]);
    });

    test('extended attributes', () => {
      const path = toBinary(join(folder, 'file'));
      addon.close(create('file'));
      Buffer.from(addon.scratch).write('value');
      const set = addon.setxattr(path, 'user.name', 0, 0, 5, 0);
      if (set === -95) return;
      expect(set).toBe(0);
      expect(addon.getxattr(path, 'user.name', 0, 0, 0)).toBe(5);
      expect(addon.getxattr(path, 'user.name', 0, 100, 3)).toBe(-34);
      expect(addon.getxattr(path, 'user.name', 0, 100, 10)).toBe(5);
      expect(addon.listxattr(path, 0, 0, 1000)).toBeGreaterThanOrEqual(10);
      expect(scratchText(1000)).toContain('user.name\0');
      expect([addon.removexattr(path, 'user.name'), addon.getxattr(path, 'user.name', 0, 0, 0)]).toEqual([0, -61]);
    });
  });

  describe('descriptors', () => {
    test('every descriptor has FD_CLOEXEC until it is made inheritable', () => {
      const fd = create('file');
      const copy = addon.dup(fd);
      const flags = (which: number) =>
        Number.parseInt(/flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${which}`, 'utf8'))![1], 8);
      expect([flags(fd) & 0o2000000, flags(copy) & 0o2000000]).toEqual([0o2000000, 0o2000000]);
      addon.setInheritable(copy, true);
      expect(flags(copy) & 0o2000000).toBe(0);
      addon.setInheritable(copy, false);
      expect(flags(copy) & 0o2000000).toBe(0o2000000);
      addon.close(copy);
      addon.close(fd);
    });

    test('a descriptor travels over a socket', () => {
      expect(addon.socketPair()).toBe(0);
      const [one, two] = new Int32Array(addon.scratch, 0, 2);
      const fd = create('file', 'content');
      expect(addon.receiveDescriptor(two, 10)).toBe(-11);
      expect(addon.sendDescriptor(one, fd)).toBe(0);
      const received = addon.receiveDescriptor(two, 1000);
      expect(received).toBeGreaterThan(fd);
      expect(addon.pread(received, 0, 0, 7, 0)).toBe(7);
      addon.close(one);
      expect(addon.receiveDescriptor(two, 1000)).toBe(-61);
      expect(addon.sendDescriptor(two, fd)).toBe(-32);
      for (const open of [two, fd, received]) addon.close(open);
    });

    test('messages: reply, gathered reply, reply and receive', () => {
      addon.socketPair();
      const [one, two] = new Int32Array(addon.scratch, 0, 2);
      Buffer.from(addon.scratch).write('ABCDEF', 100);
      expect(addon.reply(one, 0, 100, 3)).toBe(3);
      expect(addon.replyParts(one, 0, 103, 2, [Buffer.from('xy'), new Uint8Array(0), Buffer.from('z')])).toBe(5);
      expect(addon.replyReceive(two, 0, 100, 4, 0, 200, 100)).toBe(8);
      expect(addon.replyStatus[0]).toBe(4);
      expect(Buffer.from(addon.scratch, 200, 8).toString()).toBe('ABCDExyz');
      expect(addon.receive(one, 0, 0, 100)).toBe(4);
      expect(addon.setNonBlocking(two, true)).toBe(0);
      expect(addon.replyReceive(two, 0, 0, 0, 0, 0, 100)).toBe(-11);
      expect(addon.poll(two, 1, 5)).toBe(0);
      addon.close(one);
      expect(addon.poll(two, 1, -1) & 0x10).toBe(0x10);
      addon.close(two);
      expect(addon.replyReceive(two, 0, 0, 1, 0, 0, 100)).toBe(-9);
      expect(addon.replyStatus[0]).toBe(-9);
    });

    test('ioctl reads and writes a buffer', () => {
      addon.socketPair();
      const [one, two] = new Int32Array(addon.scratch, 0, 2);
      addon.reply(one, 0, 0, 5);
      const FIONREAD = 0x541b;
      expect(addon.ioctlBuffer(two, FIONREAD, 0, 64)).toBe(0);
      expect(scratch.getInt32(64, true)).toBe(5);
      expect(addon.ioctlInteger(two, 0x5450, 0)).toBe(0);
      addon.close(one);
      addon.close(two);
    });
  });

  describe('watch', () => {
    function pair(): [number, number] {
      addon.socketPair();
      const [one, two] = new Int32Array(addon.scratch, 0, 2);
      return [one, two];
    }
    const turn = () => new Promise((resolve) => setTimeout(resolve, 20));

    test('is level-triggered, drains microtasks, and ends', async () => {
      const [one, two] = pair();
      const seen: string[] = [];
      const id = addon.watch(two, (revents) => {
        seen.push(`call ${revents}`);
        Promise.resolve().then(() => seen.push('microtask'));
        process.nextTick(() => seen.push('tick'));
        if (seen.length > 3) addon.receive(two, 0, 0, 10);
      });
      expect(id).toBeGreaterThan(0);
      await turn();
      expect(seen).toEqual([]);
      addon.reply(one, 0, 0, 1);
      await turn();
      expect(seen).toEqual(['call 1', 'tick', 'microtask', 'call 1', 'tick', 'microtask']);
      addon.unwatch(id);
      addon.unwatch(id);
      addon.reply(one, 0, 0, 1);
      await turn();
      expect(seen.length).toBe(6);
      addon.close(one);
      addon.close(two);
    });

    test('waits for errors alone when told to, and reports them', async () => {
      const [one, two] = pair();
      const seen: number[] = [];
      const id = addon.watch(two, (revents) => {
        seen.push(revents);
        addon.unwatch(id);
      });
      expect([addon.watchFor(id, 0), addon.watchFor(id + 1, 0)]).toEqual([0, -2]);
      addon.reply(one, 0, 0, 1);
      await turn();
      expect(seen).toEqual([]);
      addon.watchFor(id, 1);
      await turn();
      expect(seen).toEqual([1]);
      addon.close(one);
      addon.close(two);
    });

    test('can be ended from another watch, and started again on the same descriptor', async () => {
      const [one, two] = pair();
      let calls = 0;
      for (let round = 0; round < 50; round++) {
        const id = addon.watch(two, () => {
          calls++;
          addon.receive(two, 0, 0, 1);
          addon.unwatch(id);
        });
        expect(addon.watch(two, () => {})).toBeLessThan(0);
        addon.reply(one, 0, 0, 1);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      await turn();
      expect(calls).toBe(50);
      addon.close(one);
      addon.close(two);
    });

    test('a descriptor that cannot be watched gives an errno', () => {
      expect(addon.watch(9999, () => {})).toBe(-9);
      const fd = create('file');
      expect(addon.watch(fd, () => {})).toBe(-1);
      addon.close(fd);
    });
  });

  describe('locks', () => {
    test('conflicts are seen and reported', () => {
      const one = create('file');
      const two = create('file');
      expect(addon.ofdLock(one, F_OFD_SETLK, F_WRLCK, 10, 5)).toBe(0);
      expect(addon.ofdLock(two, F_OFD_SETLK, F_WRLCK, 14, 0)).toBe(-11);
      expect(addon.ofdLock(two, F_OFD_GETLK, F_WRLCK, 0, 0)).toBe(0);
      expect([scratch.getUint32(0, true), scratch.getInt32(4, true)]).toEqual([F_WRLCK, -1]);
      expect([scratch.getBigUint64(8, true), scratch.getBigUint64(16, true)]).toEqual([10n, 5n]);
      expect(addon.flock(one, 2 | 4)).toBe(0);
      expect(addon.flock(two, 2 | 4)).toBe(-11);
      addon.close(one);
      addon.close(two);
    });

    test.each(['ofd', 'flock'] as const)('a wait for a lock (%s) ends with it, or when cancelled', async (kind) => {
      const one = create('file');
      const two = create('file');
      const type = kind === 'ofd' ? F_WRLCK : 2;
      const lock = () => (kind === 'ofd' ? addon.ofdLock(one, F_OFD_SETLK, F_WRLCK, 0, 0) : addon.flock(one, 2 | 4));
      const unlock = () => (kind === 'ofd' ? addon.ofdLock(one, F_OFD_SETLK, F_UNLCK, 0, 0) : addon.flock(one, 8));
      const wait = (run: (id: number) => void) =>
        new Promise<number>((resolve) => {
          run(addon.lockWait(kind, two, type, 0, 0, resolve));
        });
      expect(lock()).toBe(0);
      const cancelled = await Promise.all(Array.from({ length: 30 }, () => wait((id) => addon.lockCancel(id))));
      expect(new Set(cancelled)).toEqual(new Set([-4]));
      expect(await wait((id) => setTimeout(() => addon.lockCancel(id), 30))).toBe(-4);
      expect(await wait(() => setTimeout(unlock, 30))).toBe(0);
      expect(lock()).toBe(-11);
      addon.lockCancel(12_345);
      expect(addon.lockWait(kind, 9999, type, 0, 0, () => {})).toBe(-9);
      addon.close(two);
      expect(lock()).toBe(0);
      addon.close(one);
    });
  });

  describe.skipIf(process.getuid?.() !== 0)('identity', () => {
    afterAll(() => {
      expect(addon.becomeSelf()).toBe(0);
    });

    test('files belong to whom this thread has become, and to root again afterwards', () => {
      expect(addon.fchmodat(AT_FDCWD, toBinary(folder), 0o777)).toBe(0);
      expect(addon.becomeUser(1234, 2345, [3456, 4567])).toBe(0);
      addon.close(create('theirs'));
      const status = readFileSync('/proc/thread-self/status', 'utf8');
      mkdirSync(join(folder, 'private'), { mode: 0o700 });
      expect(addon.becomeSelf()).toBe(0);
      addon.close(create('mine'));
      const theirs = statSync(join(folder, 'theirs'));
      expect([theirs.uid, theirs.gid, statSync(join(folder, 'mine')).uid]).toEqual([1234, 2345, 0]);
      expect(status).toMatch(/Groups:\s*3456 4567/);
      expect(readFileSync('/proc/thread-self/status', 'utf8')).not.toMatch(/Groups:\s*3456 4567/);
    });

    test('another user cannot look into a private folder', () => {
      mkdirSync(join(folder, 'private'), { mode: 0o700 });
      writeFileSync(join(folder, 'private', 'file'), '');
      expect(addon.becomeUser(1234, 2345, [])).toBe(0);
      expect(addon.statx(dirfd, 'private/file', 0, STATX_BASIC, 0, 0)).toBe(-13);
      expect(addon.becomeSelf()).toBe(0);
      expect(addon.statx(dirfd, 'private/file', 0, STATX_BASIC, 0, 0)).toBe(0);
    });
  });

  test('process-wide figures', () => {
    const former = addon.umask(0o077);
    expect(addon.umask(former)).toBe(0o077);
    const limit = addon.raiseOpenFileLimit(64);
    expect(limit).toBeGreaterThanOrEqual(64);
    expect(addon.raiseOpenFileLimit(limit)).toBe(limit);
    const { user, system } = process.cpuUsage();
    const used = addon.processCpuMicros();
    expect(used).toBeGreaterThan(user + system - 20_000);
    expect(used).toBeLessThan(user + system + 200_000);
  });

  test('mount and umount give errno', () => {
    expect(addon.mount('none', toBinary(join(folder, 'absent')), 'tmpfs', 0, '')).toBeLessThan(0);
    expect(addon.umount(toBinary(folder), 0)).toBeLessThan(0);
  });
});
