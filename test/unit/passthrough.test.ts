/** The passthrough driven by hand-made requests: no mount, the host's own filesystem below. */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import passthrough, { type PassthroughOptions, shared, sharedEnd } from '../../examples/passthrough/filesystem.ts';
import type {
  CreateRequest,
  DirectoryEntry,
  Entry,
  FileHandle,
  Filesystem,
  LockRequest,
  NodeId,
  OpenReply,
  Request,
  SetattrRequest,
  WriteRequest,
} from '../../src/filesystem/index.ts';
import { loadAddon } from '../../src/native/index.ts';

const ROOT = 1 as NodeId;
const NEVER = new AbortController().signal;

let source: string;
let fds: number;
let state: ReturnType<typeof shared> | undefined;
let pt: Required<Filesystem>;

function openFds(): number {
  return fs.readdirSync('/proc/self/fd').length;
}

function start(options: Partial<PassthroughOptions> = {}): void {
  state = shared({ source, maxNodes: 1024, ...options });
  pt = make();
}

function make(): Required<Filesystem> {
  return passthrough({ index: 0, workers: 1, options: { source }, shared: state!, mode: 'event' }) as Required<Filesystem>;
}

function stop(): void {
  if (state === undefined) return;
  pt.destroy();
  sharedEnd(state);
  state = undefined;
}

/** A request with whatever fields an operation wants. */
function asks<R = Request>(fields: Partial<Record<string, unknown>> = {}): R {
  return { uid: 0, gid: 0, pid: process.pid, operation: 'TEST', signal: NEVER, groups: () => [], ...fields } as R;
}

/** An answer with the identities as the kernel hands them back. */
type Found = Entry & { node: NodeId };
type Opened = OpenReply & { handle: FileHandle };

function find(name: string, parent = ROOT): Found {
  const found = pt.lookup(parent, name, asks()) as Found;
  if (found.node === (0 as NodeId)) throw new Error(`${name} was not found`);
  return { ...found, attributes: { ...found.attributes } };
}

function create(name: string, fields: Partial<CreateRequest> = {}): { node: NodeId; handle: FileHandle; open: Opened } {
  const flags = fs.constants.O_RDWR | fs.constants.O_CREAT;
  const { entry, open } = pt.create(
    ROOT,
    name,
    asks({ flags, mode: 0o100644, umask: 0, killSuidGid: false, ...fields }),
  ) as never as {
    entry: Found;
    open: Opened;
  };
  return { node: entry.node, handle: open.handle, open };
}

/** A write whose bytes lie where the addon can reach them, as in a message. */
function writes(handle: FileHandle, offset: number, text: string, fields: Partial<WriteRequest> = {}): WriteRequest {
  const addon = loadAddon();
  const memory = new ArrayBuffer(text.length);
  new Uint8Array(memory).set(Buffer.from(text));
  const writeTo = (fd: number, position: number) => {
    const id = addon.registerBuffer(memory);
    const written = addon.pwrite(fd, id, 0, text.length, position);
    addon.unregisterBuffer(id);
    return written;
  };
  return asks({ handle, offset, size: text.length, flags: 0, writeback: false, killSuidGid: false, writeTo, ...fields });
}

function fails(code: string, call: () => unknown): void {
  expect(call).toThrowError(expect.objectContaining({ code }));
}

beforeEach(() => {
  source = fs.mkdtempSync(join(tmpdir(), 'fusewire-passthrough-'));
  fds = openFds();
});

afterEach(() => {
  stop();
  fs.rmSync(source, { recursive: true, force: true });
});

describe('options', () => {
  it.each([
    [{ source: '/nonexistent-folder' }, 'ERR_FUSEWIRE_SOURCE'],
    [{ source: '/proc/self/status' }, 'ERR_FUSEWIRE_SOURCE'],
    [{ source: '' }, 'ERR_FUSEWIRE_OPTION'],
    [{ maxNodes: 3 }, 'ERR_FUSEWIRE_OPTION'],
    [{ maxNodes: 1.5e9 }, 'ERR_FUSEWIRE_OPTION'],
    [{ maxLockOwners: Number.NaN }, 'ERR_FUSEWIRE_OPTION'],
    [{ cache: 'sometimes' as never }, 'ERR_FUSEWIRE_OPTION'],
  ])('refuses %j', (options, code) => {
    const before = process.umask();
    fails(code, () => start(options));
    expect(process.umask()).toBe(before);
    expect(openFds()).toBe(fds);
  });

  it('leaves nothing open and the umask as it was', () => {
    process.umask(0o027);
    start();
    expect(process.umask()).toBe(0);
    makeFile('file');
    create('open');
    pt.setlk(find('file').node, locks({ type: 'write' }));
    stop();
    expect(process.umask()).toBe(0o027);
    process.umask(0o022);
    expect(openFds()).toBe(fds);
  });
});

function makeFile(name: string, contents = ''): string {
  fs.writeFileSync(join(source, name), contents);
  return name;
}

function locks(fields: Partial<LockRequest> = {}): LockRequest {
  const owner = { low: 1, high: 2 };
  return asks({
    owner,
    start: 0,
    end: Number.POSITIVE_INFINITY,
    type: 'read',
    lockPid: 4711,
    flock: false,
    wait: false,
    ...fields,
  });
}

describe('names', () => {
  it('gives a file one node, whatever it is called, and closes it when it is forgotten', () => {
    start();
    makeFile('one');
    fs.linkSync(join(source, 'one'), join(source, 'two'));
    const { node } = find('one');
    expect(find('two').node).toBe(node);
    expect(find('one').node).toBe(node);
    const before = openFds();
    pt.forget(node, 2);
    expect(openFds()).toBe(before);
    pt.forget(node, 1);
    expect(openFds()).toBe(before - 1);
    fails('ESTALE', () => pt.getattr(node, asks({ handle: undefined })));
  });

  it('answers absence without remembering it, except under always', () => {
    start();
    expect(pt.lookup(ROOT, 'absent', asks())).toEqual({ node: 0, entryTtl: 0 });
    stop();
    start({ cache: 'always' });
    expect(pt.lookup(ROOT, 'absent', asks())).toEqual({ node: 0, entryTtl: 86400 });
  });

  it.each(['', '.', '..', 'a/b', '/', '../escape'])('refuses %j as a name', (name) => {
    start();
    makeFile('file');
    const { node } = find('file');
    fails('EINVAL', () => pt.lookup(ROOT, name, asks()));
    fails('EINVAL', () => pt.mkdir(ROOT, name, asks({ mode: 0o755, umask: 0 })));
    fails('EINVAL', () => pt.unlink(ROOT, name, asks()));
    fails('EINVAL', () => pt.rmdir(ROOT, name, asks()));
    fails('EINVAL', () => pt.symlink(ROOT, name, 'target', asks()));
    fails('EINVAL', () => create(name));
    fails('EINVAL', () => pt.link(node, asks({ newParent: ROOT, newName: name })));
    fails('EINVAL', () => pt.rename(ROOT, 'file', asks({ newParent: ROOT, newName: name, flags: 0 })));
    fails('EINVAL', () => pt.rename(ROOT, name, asks({ newParent: ROOT, newName: 'file', flags: 0 })));
  });

  it('does not follow symbolic links', () => {
    start();
    fs.symlinkSync('/etc/passwd', join(source, 'link'));
    const { node, attributes } = find('link');
    expect(attributes.mode & fs.constants.S_IFMT).toBe(fs.constants.S_IFLNK);
    expect(Buffer.from(pt.readlink(node, asks()) as Uint8Array).toString()).toBe('/etc/passwd');
    fails('ENOTDIR', () => pt.lookup(node, 'anything', asks()));
    // Somebody put the link there between the kernel's LOOKUP and its CREATE.
    fails('ESTALE', () => create('link'));
    fails('ESTALE', () => create('link', { flags: fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_TRUNC }));
    fs.symlinkSync('nowhere', join(source, 'dangling'));
    fails('ESTALE', () => create('dangling'));
    expect(fs.readdirSync(source).sort()).toEqual(['dangling', 'link']);
  });

  it('does not wait for a partner when a FIFO took the name', () => {
    start();
    execFileSync('mkfifo', [join(source, 'fifo')]);
    const before = openFds();
    fails('ESTALE', () => create('fifo', { flags: fs.constants.O_RDONLY | fs.constants.O_CREAT }));
    fails('ESTALE', () => create('fifo', { flags: fs.constants.O_WRONLY | fs.constants.O_CREAT }));
    expect(openFds()).toBe(before);
  });

  it('keeps to the directory when it is moved, and to the file when it is replaced', () => {
    start();
    fs.mkdirSync(join(source, 'folder'));
    fs.mkdirSync(join(source, 'other'));
    makeFile('folder/file', 'right');
    makeFile('other/file', 'wrong');
    const folder = find('folder').node;
    fs.renameSync(join(source, 'folder'), join(source, 'moved'));
    fs.symlinkSync('other', join(source, 'folder'));
    const { node } = find('file', folder);
    fs.renameSync(join(source, 'other/file'), join(source, 'moved/file'));
    expect(pt.getattr(node, asks({ handle: undefined }))).toMatchObject({ attributes: { nlink: 0, size: 5 } });
    const { handle } = pt.open(node, asks({ flags: fs.constants.O_RDONLY, killSuidGid: false })) as Opened;
    const range = pt.read(node, asks({ handle, offset: 0, size: 10, flags: 0 })) as { fd: number };
    const bytes = Buffer.alloc(5);
    fs.readSync(range.fd, bytes, 0, 5, 0);
    expect(bytes.toString()).toBe('right');
  });

  it('answers ENFILE when the table is nearly full, keeps the rest for files that are made, and recovers', async () => {
    start({ maxNodes: 16 });
    const names = Array.from({ length: 16 }, (_, i) => makeFile(`file${i}`));
    const nodes = names.slice(0, 14).map((name) => find(name).node);
    const before = openFds();
    await expect(pt.lookup(ROOT, names[14], asks())).rejects.toMatchObject({ code: 'ENFILE' });
    expect(openFds()).toBe(before);
    const made = create('made');
    fails('ENFILE', () => create('one too many'));
    pt.release(made.node, asks({ handle: made.handle }));
    pt.forget(made.node, 1);
    pt.forget(nodes[0], 1);
    expect(openFds()).toBe(before - 1);
    expect(find(names[14]).node).toBe(nodes[0]);
  });

  it('shares nodes between workers', () => {
    start();
    makeFile('file');
    const other = make();
    const { node } = find('file');
    expect((other.lookup(ROOT, 'file', asks()) as Entry).node).toBe(node);
    pt.forget(node, 1);
    expect(other.getattr(node, asks({ handle: undefined }))).toBeDefined();
    const { handle } = other.open(node, asks({ flags: 0, killSuidGid: false })) as Opened;
    pt.release(node, asks({ handle }));
    fails('EBADF', () => other.read(node, asks({ handle, offset: 0, size: 1, flags: 0 })));
    other.destroy();
  });
});

// Owners and devices take root.
describe.runIf(process.geteuid?.() === 0)('attributes', () => {
  it('are those of the host, to the nanosecond', () => {
    start();
    const path = join(source, makeFile('file', 'x'.repeat(5000)));
    execFileSync('touch', ['-d', '1931-02-03 04:05:06.123456789 UTC', path]);
    fs.chmodSync(path, 0o6751);
    fs.chownSync(path, 12345, 54321);
    fs.chmodSync(path, 0o4751);
    const want = fs.statSync(path, { bigint: true });
    const { attributes } = find('file');
    const nanoseconds = (time: unknown) => {
      const { seconds, nanoseconds: rest } = time as { seconds: number; nanoseconds: number };
      return BigInt(seconds) * 1_000_000_000n + BigInt(rest);
    };
    expect(want.mtimeNs).toBeLessThan(0n);
    expect(nanoseconds(attributes.mtime)).toBe(want.mtimeNs);
    expect(nanoseconds(attributes.atime)).toBe(want.atimeNs);
    expect(nanoseconds(attributes.ctime)).toBe(want.ctimeNs);
    for (const name of ['ino', 'mode', 'nlink', 'uid', 'gid', 'size', 'blocks', 'blksize'] as const) {
      expect(BigInt(attributes[name] ?? -1), name).toBe(want[name]);
    }
    const born = pt.statx(find('file').node, asks({ mask: 0xfff, flags: 0, handle: undefined })) as {
      attributes: { btime: unknown };
    };
    expect(nanoseconds(born.attributes.btime)).toBe(want.birthtimeNs);
  });

  it('show device numbers', () => {
    start();
    execFileSync('mknod', [join(source, 'device'), 'c', '4095', '1048575']);
    expect(find('device').attributes.rdev).toBe(((0xff | (4095 << 8)) >>> 0) + 0xfff00 * 4096);
  });

  function set(node: NodeId, fields: Partial<SetattrRequest>) {
    const none = { handle: undefined, killSuidGid: false, valid: Object.keys(fields).length };
    return pt.setattr(node, asks({ ...none, ...fields })) as { attributes: { mode: number; size: number } };
  }

  it('are set one by one', () => {
    start();
    const path = join(source, makeFile('file', 'contents'));
    const { node } = find('file');
    expect(set(node, { mode: 0o100640 }).attributes.mode).toBe(0o100640);
    expect(set(node, { size: 3 }).attributes.size).toBe(3);
    set(node, { newGid: 7 });
    set(node, { mtime: { seconds: -1, nanoseconds: 999_999_999 } });
    const stat = fs.statSync(path, { bigint: true });
    expect([stat.uid, stat.gid, stat.mtimeNs]).toEqual([0n, 7n, -1n]);
    const before = BigInt(Date.now()) * 1_000_000n;
    set(node, { atime: 'now' });
    expect(fs.statSync(path, { bigint: true }).atimeNs).toBeGreaterThan(before - 20_000_000n);
    expect(fs.statSync(path, { bigint: true }).mtimeNs).toBe(-1n);
  });

  it('of a symbolic link are its own', () => {
    start();
    makeFile('file');
    fs.symlinkSync('file', join(source, 'link'));
    const { node } = find('link');
    set(node, { newUid: 5, mtime: { seconds: 1, nanoseconds: 2 } });
    expect(fs.lstatSync(join(source, 'link'))).toMatchObject({ uid: 5, mtimeMs: 1000.000002 });
    expect(fs.statSync(join(source, 'file')).uid).toBe(0);
    fails('EOPNOTSUPP', () => set(node, { mode: 0o600 }));
  });

  it('lose set-id bits as they would natively', () => {
    start();
    const path = join(source, makeFile('file', 'contents'));
    const { node } = find('file');
    const user = { uid: 1000, gid: 1000 };
    const { handle } = pt.open(node, asks({ flags: fs.constants.O_RDWR, killSuidGid: false })) as Opened;
    const mode = () => (fs.statSync(path).mode & 0o7777).toString(8);
    const cases: [string, () => unknown, string][] = [
      [
        'a write of another user',
        () => pt.write(node, new Uint8Array(1), writes(handle, 0, 'x', { ...user, killSuidGid: true })),
        '777',
      ],
      ['a write of root', () => pt.write(node, new Uint8Array(1), writes(handle, 0, 'x')), '6777'],
      ['ftruncate', () => set(node, { ...user, handle: handle, size: 2, killSuidGid: true }), '777'],
      ['truncate', () => set(node, { ...user, size: 2, killSuidGid: true }), '777'],
      ['truncate by root', () => set(node, { size: 1 }), '6777'],
      ['open with O_TRUNC', () => open({ ...user, killSuidGid: true }), '777'],
      ['open with O_TRUNC by root', () => open({}), '6777'],
      ['chown', () => set(node, { newGid: 3, valid: 0x810, killSuidGid: true }), '777'],
      ['chown of nothing', () => set(node, {}), '777'],
      ['fallocate', () => pt.fallocate(node, asks({ ...user, handle, offset: 0, length: 100, mode: 0 })), '777'],
    ];
    const open = (who: object) => {
      const reply = pt.open(node, asks({ flags: fs.constants.O_WRONLY | fs.constants.O_TRUNC, ...who })) as Opened;
      pt.release(node, asks({ handle: reply.handle }));
      expect(fs.statSync(path).size).toBe(0);
    };
    for (const [what, change, want] of cases) {
      // Everybody may write: truncating by name asks for permission, as natively.
      fs.chmodSync(path, 0o6777);
      change();
      expect(mode(), what).toBe(want);
    }
  });
});

describe.runIf(process.geteuid?.() === 0)('new files', () => {
  const user = { uid: 1000, gid: 1001 };

  it('belong to the caller, in set-group-id directories to the group of those', () => {
    start();
    fs.chmodSync(source, 0o777);
    fs.mkdirSync(join(source, 'shared'));
    fs.chownSync(join(source, 'shared'), 0, 2000);
    fs.chmodSync(join(source, 'shared'), 0o2770);
    create('file', user);
    pt.mkdir(ROOT, 'folder', asks({ ...user, mode: 0o777, umask: 0o027 }));
    pt.symlink(ROOT, 'link', 'target', asks(user));
    pt.mknod(ROOT, 'fifo', asks({ ...user, mode: fs.constants.S_IFIFO | 0o666, umask: 0o022, rdev: 0 }));
    const shown = (name: string) => {
      const { uid, gid, mode } = fs.lstatSync(join(source, name));
      return `${uid} ${gid} ${(mode & 0o7777).toString(8)}`;
    };
    expect(['file', 'folder', 'link', 'fifo'].map(shown)).toEqual([
      '1000 1001 644',
      '1000 1001 750',
      '1000 1001 777',
      '1000 1001 644',
    ]);
    const folder = find('shared').node;
    fails('EACCES', () => pt.mkdir(folder, 'refused', asks({ ...user, mode: 0o777, umask: 0 })));
    pt.mkdir(folder, 'inside', asks({ ...user, groups: () => [2000], mode: 0o777, umask: 0 }));
    expect(shown('shared/inside')).toBe('1000 2000 2777');
    fails('EPERM', () => pt.mknod(ROOT, 'device', asks({ ...user, mode: fs.constants.S_IFCHR | 0o666, umask: 0, rdev: 0x103 })));
    create('by-root');
    expect(shown('by-root')).toBe('0 0 644');
  });

  it('take a default ACL instead of the umask', () => {
    start();
    try {
      execFileSync('setfacl', ['-d', '-m', 'u::rwx,g::rwx,o::r-x', source], { stdio: 'pipe' });
    } catch {
      return;
    }
    pt.mkdir(ROOT, 'folder', asks({ mode: 0o777, umask: 0o077 }));
    expect(fs.statSync(join(source, 'folder')).mode & 0o777).toBe(0o775);
  });

  it('without a name can be given one', () => {
    start();
    const flags = fs.constants.O_RDWR;
    const { entry, open } = pt.tmpfile(ROOT, asks({ ...user, uid: 0, flags, mode: 0o600, umask: 0 })) as never as {
      entry: Found;
      open: Opened;
    };
    pt.write(entry.node, new Uint8Array(3), writes(open.handle, 0, 'abc'));
    expect(entry.attributes.nlink).toBe(0);
    pt.link(entry.node, asks({ newParent: ROOT, newName: 'named' }));
    expect(fs.readFileSync(join(source, 'named'), 'utf8')).toBe('abc');
    expect(fs.statSync(join(source, 'named')).gid).toBe(1001);
  });
});

describe('open files', () => {
  it('are read and written where they are, appended with O_APPEND', () => {
    start();
    const { node, handle } = create('file', { flags: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_APPEND });
    expect(pt.write(node, new Uint8Array(3), writes(handle, 0, 'abc'))).toBe(3);
    // Another program appended meanwhile; the kernel still believes in offset 3.
    fs.appendFileSync(join(source, 'file'), 'xyz');
    pt.write(node, new Uint8Array(3), writes(handle, 3, 'def'));
    expect(fs.readFileSync(join(source, 'file'), 'utf8')).toBe('abcxyzdef');
    expect(pt.read(node, asks({ handle, offset: 4, size: 100, flags: 0 }))).toEqual({ fd: handle, position: 4, length: 100 });
    pt.unlink(ROOT, 'file', asks());
    pt.write(node, new Uint8Array(1), writes(handle, 0, '!'));
    expect(pt.getattr(node, asks({ handle }))).toMatchObject({ attributes: { nlink: 0, size: 10 } });
    pt.flush(node, asks({ handle, lockOwner: { low: 1, high: 1 } }));
    pt.release(node, asks({ handle }));
    fails('EBADF', () => pt.fsync(node, asks({ handle, dataOnly: true })));
  });

  it('are opened for the cache policy', () => {
    const flags = fs.constants.O_RDWR | fs.constants.O_CREAT;
    const replies = (['none', 'auto', 'always'] as const).map((cache) => {
      start({ cache });
      const plain = create('plain').open;
      const direct = create('direct', { flags: flags | fs.constants.O_DIRECT }).open;
      const folder = pt.opendir(ROOT, asks({ flags: 0 })) as Opened;
      const entryTtl = pt.settings.entryTtl;
      stop();
      return [entryTtl, !!plain.directIo, !!direct.directIo, !!plain.keepCache, !!folder.cacheDirectory];
    });
    expect(replies).toEqual([
      [0, true, false, false, false],
      [1, false, false, false, false],
      [86400, false, false, true, true],
    ]);
  });

  it('refuse ioctls that could take their argument for an address', () => {
    start();
    const { node, handle } = create('file');
    const ask = (command: number, size: number) =>
      pt.ioctl(node, asks({ handle, command, data: new Uint8Array(0), outSize: size, flags: 0, directory: false }));
    fails('ENOTTY', () => ask(0x5401, 36));
    fails('ENOTTY', () => ask(0x40049409, 0));
    try {
      expect((ask(0x80086601, 4) as { data: Uint8Array }).data.byteLength).toBe(4);
    } catch (error) {
      // The host's filesystem may have no inode flags.
      expect(error).toMatchObject({ code: expect.stringMatching(/^(ENOTTY|EOPNOTSUPP)$/) });
    }
  });

  it('find holes, allocate and copy', () => {
    start();
    const from = create('from');
    const to = create('to');
    pt.write(from.node, new Uint8Array(4), writes(from.handle, 1 << 20, 'data'));
    const seek = (offset: number, whence: number) => pt.lseek(from.node, asks({ handle: from.handle, offset, whence }));
    expect(seek(0, 3)).toBe(1 << 20);
    expect(seek(0, 4)).toBe(0);
    fails('ENXIO', () => seek(2 << 20, 3));
    const copied = pt.copyFileRange(
      from.node,
      asks({
        handle: from.handle,
        offset: (1 << 20) + 1,
        toNode: to.node,
        toHandle: to.handle,
        toOffset: 2,
        length: 1e12,
        flags: 0,
      }),
    );
    expect(copied).toBe(3);
    expect(fs.readFileSync(join(source, 'to'), 'latin1')).toBe('\0\0ata');
    pt.fallocate(to.node, asks({ handle: to.handle, offset: 0, length: 10, mode: 0 }));
    expect(fs.statSync(join(source, 'to')).size).toBe(10);
  });
});

describe('listings', () => {
  interface Listed {
    name: string;
    offset: number | bigint;
    found: number;
  }

  /** Lists with replies of `size` bytes from a cookie on, as the kernel would, over two workers in turn. */
  function list(plus: boolean, size: number, from: number | bigint = 0, pages = Number.POSITIVE_INFINITY): Listed[] {
    const workers = [pt, make()];
    const { handle } = pt.opendir(ROOT, asks({ flags: 0 })) as Opened;
    const all: Listed[] = [];
    let cookie = from;
    for (let page = 0; page < pages; page++) {
      let room = size;
      const before = all.length;
      const take = (entry: DirectoryEntry, found?: Entry) => {
        const bytes = (plus ? 152 : 24) + ((entry.name.length + 7) & ~7);
        if (bytes > room) return false;
        room -= bytes;
        all.push({ name: entry.name, offset: entry.offset, found: found?.node ?? 0 });
        cookie = entry.offset;
        return true;
      };
      const offset = BigInt.asUintN(64, BigInt(cookie));
      const request = asks<never>({
        handle,
        offset: Number(offset),
        offsetLow: Number(offset & 0xffffffffn),
        offsetHigh: Number(offset >> 32n),
        size,
      });
      const reply = { add: take, addPlus: take, fits: (bytes: number) => (plus ? 152 : 24) + ((bytes + 7) & ~7) <= room };
      workers[page % 2][plus ? 'readdirplus' : 'readdir'](ROOT, request, reply);
      if (all.length === before) break;
    }
    pt.releasedir(ROOT, asks({ handle }));
    workers[1].destroy();
    return all;
  }

  function populate(count: number): string[] {
    const names = Array.from({ length: count }, (_, i) => makeFile(`${'n'.repeat(1 + (i % 200))}${i}`));
    return ['.', '..', ...names].sort();
  }

  it.each([false, true])('are whole, in pages of any size (with attributes: %s)', (plus) => {
    start();
    const names = populate(500);
    for (const size of [4096, 32768]) {
      const listed = list(plus, size);
      expect(listed.map((entry) => entry.name).sort()).toEqual(names);
    }
  });

  it('go on from any cookie', () => {
    start();
    populate(300);
    const whole = list(false, 32768);
    for (const at of [0, 1, 57, 150, 298]) {
      const rest = list(false, 4096, whole[at].offset);
      expect(rest.map((entry) => entry.name)).toEqual(whole.slice(at + 1).map((entry) => entry.name));
    }
  });

  it('start anew after an opening was first asked for its end', () => {
    start();
    const names = populate(300);
    const end = list(false, 32768).at(-1)?.offset ?? 0;
    const { handle } = pt.opendir(ROOT, asks({ flags: 0 })) as Opened;
    const seen: string[] = [];
    const take = (entry: DirectoryEntry) => seen.push(entry.name) > 0;
    for (const offset of [BigInt(end), 0n]) {
      const words = { offset: Number(offset), offsetLow: Number(offset & 0xffffffffn), offsetHigh: Number(offset >> 32n) };
      pt.readdir(ROOT, asks({ handle, ...words, size: 1 << 17 }), { add: take, addPlus: take, fits: () => true });
    }
    pt.releasedir(ROOT, asks({ handle }));
    expect(seen.slice().sort()).toEqual(names);
  });

  it('count a lookup for each entry with attributes that went into the reply, and for no dots', () => {
    start();
    populate(60);
    const before = openFds();
    const listed = list(true, 4096, 0, 1);
    const real = listed.filter((entry) => entry.name !== '.' && entry.name !== '..');
    expect(real.length).toBeGreaterThan(3);
    expect(real.length).toBeLessThan(60);
    expect(real.every((entry) => entry.found > 1)).toBe(true);
    expect(listed.filter((entry) => entry.found === 0).length).toBe(listed.length - real.length);
    expect(openFds()).toBe(before + real.length);
    for (const entry of real) pt.forget(entry.found as NodeId, 1);
    expect(openFds()).toBe(before);
  });

  it('carry names that are not UTF-8', () => {
    start();
    const name = Buffer.from([0x66, 0xff, 0x80, 0x01, 0xe2, 0x28]);
    fs.writeFileSync(Buffer.concat([Buffer.from(`${source}/`), name]), '');
    const listed = list(true, 4096).map((entry) => entry.name);
    expect(listed).toContain(name.toString('latin1'));
    expect(find(name.toString('latin1')).node).toBeGreaterThan(1);
  });
});

describe('extended attributes', () => {
  it('pass, and trusted ones are shown to root only', () => {
    start();
    makeFile('file');
    const { node } = find('file');
    const value = Buffer.from('value');
    try {
      pt.setxattr(node, 'user.test', value, asks({ flags: 0, aclKillSgid: false }));
    } catch (error) {
      expect(error).toMatchObject({ code: 'EOPNOTSUPP' });
      return;
    }
    expect(pt.getxattr(node, 'user.test', asks({ size: 0 }))).toBe(5);
    expect(Buffer.from(pt.getxattr(node, 'user.test', asks({ size: 100 })) as Uint8Array).toString()).toBe('value');
    fails('ERANGE', () => pt.getxattr(node, 'user.test', asks({ size: 2 })));
    fails('ENODATA', () => pt.getxattr(node, 'user.other', asks({ size: 100 })));
    fails('EEXIST', () => pt.setxattr(node, 'user.test', value, asks({ flags: 1, aclKillSgid: false })));
    const names = (uid: number) => Buffer.from(pt.listxattr(node, asks({ uid, size: 1000 })) as Uint8Array).toString();
    if (process.geteuid?.() === 0) {
      pt.setxattr(node, 'trusted.test', value, asks({ flags: 0, aclKillSgid: false }));
      expect(names(0).split('\0').sort()).toEqual(['', 'trusted.test', 'user.test']);
    }
    expect(names(1000)).toBe('user.test\0');
    pt.removexattr(node, 'user.test', asks());
    fails('ENODATA', () => pt.getxattr(node, 'user.test', asks({ size: 0 })));
  });
});

describe('locks', () => {
  const alice = { low: 1, high: 0x80000000 };
  const bob = { low: 2, high: 0 };
  let node: NodeId;

  beforeEach(() => {
    start();
    makeFile('file', 'x'.repeat(1000));
    node = find('file').node;
  });

  it('exclude other owners over the range, on every worker', () => {
    const other = make();
    pt.setlk(node, locks({ owner: alice, type: 'write', start: 10, end: 19, lockPid: 100 }));
    fails('EAGAIN', () => other.setlk(node, locks({ owner: bob, type: 'read', start: 19, end: 19 })));
    other.setlk(node, locks({ owner: bob, type: 'write', start: 20, lockPid: 200 }));
    pt.setlk(node, locks({ owner: alice, type: 'read', start: 0, end: 15 }));
    expect(other.getlk(node, locks({ owner: bob, type: 'write' }))).toEqual({ type: 'read', start: 0, end: 15, pid: 4711 });
    expect(pt.getlk(node, locks({ owner: alice, type: 'read', start: 30, end: 40 }))).toEqual({
      type: 'write',
      start: 20,
      end: Number.POSITIVE_INFINITY,
      pid: 200,
    });
    expect(pt.getlk(node, locks({ owner: { low: 9, high: 9 }, type: 'read', start: 5, end: 6 }))).toBeUndefined();
    other.destroy();
  });

  it('end with the flush of their owner, and with no other', () => {
    const { handle } = pt.open(node, asks({ flags: fs.constants.O_RDWR, killSuidGid: false })) as Opened;
    const before = openFds();
    pt.setlk(node, locks({ owner: alice, type: 'write' }));
    pt.flush(node, asks({ handle, lockOwner: bob }));
    fails('EAGAIN', () => pt.setlk(node, locks({ owner: bob, type: 'write' })));
    pt.flush(node, asks({ handle, lockOwner: alice }));
    pt.setlk(node, locks({ owner: bob, type: 'write' }));
    pt.flush(node, asks({ handle, lockOwner: bob }));
    expect(openFds()).toBe(before);
  });

  it('are waited for without blocking, and granted when they are free', async () => {
    pt.setlk(node, locks({ owner: alice, type: 'write' }));
    let granted = false;
    const waiting = (pt.setlk(node, locks({ owner: bob, type: 'write', wait: true })) as Promise<void>).then(() => {
      granted = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(granted).toBe(false);
    pt.setlk(node, locks({ owner: alice, type: 'unlock' }));
    await waiting;
    fails('EAGAIN', () => pt.setlk(node, locks({ owner: alice, type: 'read' })));
  });

  it('are given up when the caller is interrupted', async () => {
    pt.setlk(node, locks({ owner: alice, type: 'write' }));
    const interrupt = new AbortController();
    const waiting = pt.setlk(node, locks({ owner: bob, type: 'write', wait: true, signal: interrupt.signal })) as Promise<void>;
    setTimeout(() => interrupt.abort(), 20);
    await expect(waiting).rejects.toMatchObject({ code: 'EINTR' });
    await expect(pt.setlk(node, locks({ owner: bob, wait: true, signal: AbortSignal.abort() }))).rejects.toMatchObject({
      code: 'EINTR',
    });
    pt.setlk(node, locks({ owner: alice, type: 'unlock' }));
    pt.setlk(node, locks({ owner: alice, type: 'write' }));
  });

  it('are still granted to a waiter whose process closes another descriptor meanwhile', async () => {
    const { handle } = pt.open(node, asks({ flags: fs.constants.O_RDWR, killSuidGid: false })) as Opened;
    pt.setlk(node, locks({ owner: alice, type: 'write', start: 0, end: 9 }));
    pt.setlk(node, locks({ owner: bob, type: 'write', start: 50, end: 59 }));
    const waiting = pt.setlk(node, locks({ owner: bob, type: 'write', start: 0, end: 9, wait: true })) as Promise<void>;
    pt.flush(node, asks({ handle, lockOwner: bob }));
    // What bob held is gone, what he waits for still comes.
    pt.setlk(node, locks({ owner: alice, type: 'write', start: 50, end: 59 }));
    pt.setlk(node, locks({ owner: alice, type: 'unlock' }));
    await waiting;
    fails('EAGAIN', () => pt.setlk(node, locks({ owner: alice, type: 'read', start: 0, end: 9 })));
  });

  it('of flock belong to the opening', async () => {
    const open = () => (pt.open(node, asks({ flags: fs.constants.O_RDWR, killSuidGid: false })) as Opened).handle;
    const [mine, other] = [open(), open()];
    const flock = (handle: FileHandle, type: 'read' | 'write' | 'unlock', wait = false) =>
      pt.setlk(node, locks({ handle, type, flock: true, wait }));
    flock(mine, 'write');
    fails('EAGAIN', () => flock(other, 'read'));
    const waiting = flock(other, 'read', true) as Promise<void>;
    pt.release(node, asks({ handle: mine }));
    await waiting;
    flock(other, 'unlock');
  });
});
