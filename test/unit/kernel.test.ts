/** The simulated kernel sends what the live one sends (protocol/NOTES.md), and its audit finds what leaks. */
import { describe, expect, test } from 'vitest';
import { type Filesystem, FuseError } from '../../src/filesystem/index.ts';
import { encodeInitFlags, type InitFlag } from '../../src/protocol/index.ts';
import { AuditError, type SimulationOptions, simulate } from '../../src/testing/index.ts';
import { bytes, Gate, operationsOf, pattern, SmallTree, text, turn } from './kernel-tree.ts';

const O_RDONLY = 0;
const O_WRONLY = 1;
const O_RDWR = 2;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_TRUNC = 0o1000;
const O_DIRECTORY = 0o200000;

async function small(
  replace: Partial<Filesystem> | ((tree: SmallTree) => Partial<Filesystem>) = {},
  options: SimulationOptions = {},
) {
  const tree = new SmallTree();
  const methods = typeof replace === 'function' ? replace(tree) : replace;
  const kernel = await simulate({ ...tree.filesystem(), ...methods }, { audited: tree, defaultPermissions: false, ...options });
  return { tree, kernel, p: await kernel.process() };
}

/** A notification as the daemon would write it. */
function notification(code: number, ...parts: (bigint | string)[]): Uint8Array {
  const body = Buffer.concat(
    parts.map((part) => {
      if (typeof part === 'string') return Buffer.from(part, 'latin1');
      const chunk = Buffer.alloc(8);
      chunk.writeBigUInt64LE(BigInt.asUintN(64, part));
      return chunk;
    }),
  );
  const head = Buffer.alloc(16);
  head.writeUInt32LE(16 + body.length, 0);
  head.writeInt32LE(code, 4);
  return new Uint8Array(Buffer.concat([head, body]));
}

describe('INIT', () => {
  test.each([27, 30, 35, 36, 41, 45])('is agreed on at minor %i, and the flags are honoured', async (minor) => {
    const { kernel, p, tree } = await small({}, { minor });
    tree.add('f', bytes('abc'));
    expect(kernel.agreed.minor).toBe(minor);
    expect(text(await p.read(await p.open('/f', O_RDONLY), 10))).toBe('abc');
    await kernel.end();
  });

  test('only what is offered is accepted', async () => {
    const offered: InitFlag[] = ['FUSE_ASYNC_READ', 'FUSE_INIT_EXT'];
    const { kernel } = await small({}, { offered });
    expect([...kernel.agreed.flags].sort()).toEqual(offered.sort());
    expect(encodeInitFlags(kernel.agreed.flags)).toEqual(encodeInitFlags(new Set(offered)));
    await kernel.end();
  });

  test('a failing init is an error that says so', async () => {
    await expect(simulate({ init: () => Promise.reject(new FuseError('EACCES')) })).rejects.toMatchObject({
      code: 'ERR_FUSEWIRE_SIMULATION_INIT',
      message: expect.stringContaining('EACCES'),
    });
    await expect(simulate({}, { minor: 26 })).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_SIMULATION_OPTION' });
  });
});

describe('names and attributes', () => {
  test('a cold stat without attribute lifetime is LOOKUP and GETATTR; with one, a second stat asks nothing', async () => {
    const { kernel, p, tree } = await small();
    tree.add('f');
    tree.attributeTtl = 0;
    expect(await operationsOf(kernel, () => p.stat('/f'))).toEqual(['LOOKUP', 'GETATTR']);
    tree.attributeTtl = 1;
    await p.stat('/f');
    expect(await operationsOf(kernel, () => p.stat('/f'))).toEqual([]);
    kernel.advance(1001);
    expect(await operationsOf(kernel, () => p.stat('/f'))).toEqual(['LOOKUP']);
    await kernel.end();
  });

  test('a name that vanished is looked up twice, with FORGET between', async () => {
    const { kernel, p, tree } = await small();
    tree.add('f');
    await p.stat('/f');
    tree.files.delete('f');
    kernel.advance(1001);
    const operations = await operationsOf(kernel, () =>
      expect(p.stat('/f')).rejects.toMatchObject({ code: 'ENOENT', errno: -2 }),
    );
    expect(operations).toEqual(['LOOKUP', 'FORGET', 'LOOKUP']);
    await kernel.end();
  });

  test('a name that leads elsewhere now gives both nodes back as it must', async () => {
    const { kernel, p, tree } = await small();
    tree.add('f');
    await p.stat('/f');
    tree.add('f');
    kernel.advance(1001);
    expect(await operationsOf(kernel, () => p.stat('/f'))).toEqual(['LOOKUP', 'BATCH_FORGET', 'LOOKUP']);
    expect(kernel.requests[1].forgets).toEqual([
      { nodeid: 3, nlookup: 1 },
      { nodeid: 2, nlookup: 1 },
    ]);
    await kernel.end();
  });

  test('absence is cached only when it is answered as an entry', async () => {
    const { kernel, p } = await small({ lookup: (_parent, name) => (name === 'no' ? { node: 0, entryTtl: 5 } : fail()) });
    const miss = (path: string) => operationsOf(kernel, () => expect(p.stat(path)).rejects.toMatchObject({ code: 'ENOENT' }));
    expect(await miss('/no')).toEqual(['LOOKUP']);
    expect(await miss('/no')).toEqual([]);
    expect(await miss('/other')).toEqual(['LOOKUP']);
    expect(await miss('/other')).toEqual(['LOOKUP']);
    kernel.advance(5001);
    expect(await miss('/no')).toEqual(['LOOKUP']);
    await kernel.end();
  });

  test('the same node with a new generation makes what is open fail with EIO', async () => {
    const { kernel, p, tree } = await small();
    const file = tree.add('f', bytes('abc'));
    const fd = await p.open('/f', O_RDONLY);
    file.generation++;
    kernel.advance(1001);
    await p.stat('/f');
    await expect(p.read(fd, 3)).rejects.toMatchObject({ code: 'EIO' });
    await expect(p.close(fd)).rejects.toMatchObject({ code: 'EIO' });
    await kernel.end();
  });

  test('another type in GETATTR is EIO', async () => {
    const { kernel, p, tree } = await small();
    const file = tree.add('f');
    tree.attributeTtl = 0;
    const fd = await p.open('/f', O_RDONLY);
    file.mode = 0o040755;
    await expect(p.fstat(fd)).rejects.toMatchObject({ code: 'EIO' });
    await p.close(fd).catch(() => {});
    await kernel.end();
  });
});

function fail(): never {
  throw new FuseError('ENOENT');
}

describe('opening and closing', () => {
  test('a new file: LOOKUP, CREATE, FLUSH, RELEASE; its flags keep O_CREAT and O_EXCL', async () => {
    const { kernel, p } = await small();
    const flags = O_WRONLY | O_CREAT | O_EXCL;
    const operations = await operationsOf(kernel, async () => p.close(await p.open('/new', flags, 0o666)));
    // FLUSH is answered ENOSYS: no further one is sent.
    expect(operations).toEqual(['LOOKUP', 'CREATE', 'FLUSH', 'RELEASE']);
    expect(kernel.requests[1].args).toMatchObject({ flags: flags | 0o100000, mode: 0o100644, umask: 0o022 });
    expect(await operationsOf(kernel, async () => p.close(await p.open('/new', O_RDONLY | O_CREAT)))).toEqual([
      'OPEN',
      'RELEASE',
    ]);
    expect(kernel.requests[0].args).toMatchObject({ flags: 0o100000 });
    await kernel.end();
  });

  test('FLUSH comes with every close, RELEASE with the last', async () => {
    const { kernel, p, tree } = await small({ flush: () => {} });
    tree.add('f');
    const fd = await p.open('/f', O_RDONLY);
    const other = await p.dup(fd);
    expect(await operationsOf(kernel, () => p.close(fd))).toEqual(['FLUSH']);
    expect(await operationsOf(kernel, () => p.close(other))).toEqual(['FLUSH', 'RELEASE']);
    expect(kernel.requests[1]).toMatchObject({ uid: 0, pid: 0 });
    await kernel.end();
  });

  test('without CREATE it is MKNOD and OPEN, remembered', async () => {
    const { kernel, p } = await small((tree) => ({
      create: undefined as never,
      mknod: (_parent, name, { mode }) => tree.entry(tree.add(name, new Uint8Array(0), mode)),
    }));
    expect(await operationsOf(kernel, () => p.open('/a', O_CREAT | O_RDWR))).toEqual(['LOOKUP', 'CREATE', 'MKNOD', 'OPEN']);
    expect(await operationsOf(kernel, () => p.open('/b', O_CREAT | O_RDWR))).toEqual(['LOOKUP', 'MKNOD', 'OPEN']);
    await kernel.end();
  });

  test('O_TRUNC is in OPEN, or is a SETATTR of size 0 and 0x208', async () => {
    const atomic = await small();
    atomic.tree.add('f', bytes('abc'));
    await atomic.p.open('/f', O_WRONLY | O_TRUNC);
    expect(atomic.kernel.requests.find(({ operation }) => operation === 'OPEN')!.args!.flags).toBe(O_WRONLY | O_TRUNC | 0o100000);
    expect(atomic.kernel.operations).not.toContain('SETATTR');
    await atomic.kernel.end();
    const plain = await small({}, { withheld: ['FUSE_ATOMIC_O_TRUNC'] });
    plain.tree.add('f', bytes('abc'));
    await plain.p.open('/f', O_WRONLY | O_TRUNC);
    expect(plain.kernel.requests.find(({ operation }) => operation === 'OPEN')!.args!.flags).toBe(O_WRONLY | 0o100000);
    expect(plain.kernel.requests.at(-1)).toMatchObject({ operation: 'SETATTR', args: { valid: 0x208, size: 0 } });
    await plain.kernel.end();
  });

  test('SETATTR patterns: chmod 0x1, truncate 0x208, ftruncate 0x248, times of now 0x1b0, given times 0x30', async () => {
    const { kernel, p, tree } = await small();
    tree.add('f');
    const fd = await p.open('/f', O_RDWR);
    kernel.clearRequests();
    await p.chmod('/f', 0o600);
    await p.truncate('/f', 10);
    await p.ftruncate(fd, 5);
    await p.utimens('/f', 'now', 'now');
    await p.utimens('/f', 1n, 2n);
    const valid = kernel.requests.filter(({ operation }) => operation === 'SETATTR').map(({ args }) => args!.valid);
    expect(valid).toEqual([0x1, 0x208, 0x248, 0x1b0, 0x30]);
    await kernel.end();
  });
});

describe('the page cache', () => {
  test('a buffered read is asked in pages and kept', async () => {
    const { kernel, p, tree } = await small();
    const data = pattern(300_000);
    tree.add('f', data);
    const fd = await p.open('/f', O_RDONLY);
    kernel.clearRequests();
    expect(await p.read(fd, 300_000, 0)).toEqual(data);
    const reads = kernel.requests.filter(({ operation }) => operation === 'READ');
    expect(reads.every(({ args }) => Number(args!.offset) % 4096 === 0 && Number(args!.size) % 4096 === 0)).toBe(true);
    expect(await operationsOf(kernel, () => p.read(fd, 300_000, 0))).toEqual([]);
    await kernel.end();
  });

  test('write-through goes up to the page boundary first: 3996, 131072, 131072, 33860', async () => {
    const settings = { maxWrite: 131_072, maxPages: 32 };
    const { kernel, p } = await small({}, { settings });
    const fd = await p.open('/f', O_CREAT | O_RDWR);
    expect(await p.write(fd, pattern(300_000), 100)).toBe(300_000);
    const sizes = kernel.requests.filter(({ operation }) => operation === 'WRITE').map(({ args }) => args!.size);
    expect(sizes).toEqual([3996, 131_072, 131_072, 33_860]);
    await kernel.end();
  });

  test('a short answer to a buffered read means end of file', async () => {
    const { kernel, p, tree } = await small({ read: () => bytes('abc') });
    tree.add('f', pattern(10));
    const fd = await p.open('/f', O_RDONLY);
    expect(text(await p.read(fd, 10, 0))).toBe('abc\0\0\0\0\0\0\0'.slice(0, 3));
    await kernel.end();
  });

  test('a changed modification time drops what is cached', async () => {
    const { kernel, p, tree } = await small();
    const file = tree.add('f', bytes('old'));
    const fd = await p.open('/f', O_RDONLY);
    expect(text(await p.read(fd, 9, 0))).toBe('old');
    file.data = bytes('new');
    expect(text(await p.read(fd, 9, 0))).toBe('old');
    file.mtime = { seconds: 2, nanoseconds: 0 };
    kernel.advance(1001);
    expect(text(await p.read(fd, 9, 0))).toBe('new');
    await kernel.end();
  });

  test('write-back: the data comes with fsync or close, from nobody, then the times', async () => {
    const { kernel, p, tree } = await small({ fsync: () => {} }, { settings: { writeback: true } });
    const file = tree.add('f', pattern(10_000));
    const fd = await p.open('/f', O_WRONLY);
    kernel.clearRequests();
    await p.write(fd, bytes('xyz'), 5000);
    // A page that is written in part is read first, although the file is open for writing only.
    expect(kernel.operations.filter((operation) => operation !== 'GETXATTR')).toEqual(['READ']);
    expect(await operationsOf(kernel, () => p.fsync(fd))).toEqual(['WRITE', 'SETATTR', 'FSYNC']);
    expect(kernel.requests[0]).toMatchObject({ uid: 0, pid: 0, args: { offset: 4096, size: 4096, write_flags: 1 } });
    expect(kernel.requests[1].args!.valid).toBe(0x460);
    expect(text(file.data.subarray(5000, 5003))).toBe('xyz');
    await kernel.end();
  });
});

describe('listings', () => {
  test('READDIRPLUS feeds the caches, and each entry counts', async () => {
    const { kernel, p, tree } = await small((own) => ({
      readdirplus: (_node, { offset }, reply) => {
        let at = 0;
        for (const [name, file] of own.files) {
          if (++at <= offset) continue;
          if (!reply.fits(name.length)) return;
          reply.addPlus({ name, ino: file.node, mode: file.mode, offset: at }, own.entry(file));
        }
      },
    }));
    for (let i = 0; i < 300; i++) tree.add(`file-${i}`);
    const fd = await p.open('/', O_DIRECTORY);
    expect(await p.getdents(fd)).toHaveLength(300);
    expect(await operationsOf(kernel, () => p.stat('/file-299'))).toEqual([]);
    await kernel.end();
  });

  test('positions are cookies', async () => {
    const { kernel, p, tree } = await small();
    for (const name of ['a', 'b', 'c']) tree.add(name);
    const fd = await p.open('/', O_DIRECTORY);
    const [first, second] = await p.getdents(fd);
    await p.seekdir(fd, first.offset);
    expect((await p.getdents(fd)).map(({ name }) => name)).toEqual(['b', 'c']);
    await p.seekdir(fd, second.offset);
    expect((await p.getdentsSome(fd, 64)).map(({ name }) => name)).toEqual(['c']);
    expect(await p.getdentsSome(fd, 64)).toEqual([]);
    await kernel.end();
  });
});

describe('interrupts and simultaneous callers', () => {
  test('a signal sends INTERRUPT, the original is answered EINTR', async () => {
    const gate = new Gate();
    const { kernel, p, tree } = await small({
      open: () => ({ directIo: true }),
      release: () => {},
      read: (node, request) => gate.hold(node, request),
    });
    tree.add('f', bytes('abc'));
    const fd = await p.open('/f', O_RDONLY);
    const read = p.read(fd, 3);
    read.catch(() => {});
    await turn();
    p.interrupt();
    await turn();
    const sent = kernel.requests.find(({ operation }) => operation === 'READ')!;
    expect(kernel.requests.find(({ operation }) => operation === 'INTERRUPT')).toMatchObject({
      unique: sent.unique + 1,
      nodeid: 0,
      pid: 0,
      args: { unique_lo: sent.unique },
    });
    await expect(read).rejects.toMatchObject({ code: 'EINTR' });
    await kernel.end();
  });

  test('lookups of one directory run together, or one at a time without FUSE_PARALLEL_DIROPS', async () => {
    for (const [withheld, together] of [
      [[], 3],
      [['FUSE_PARALLEL_DIROPS'], 1],
    ] as const) {
      const gate = new Gate();
      const { kernel, p, tree } = await small({ lookup: (node, _name, request) => gate.hold(node, request) }, { withheld });
      const stats = ['/a', '/b', '/c'].map((path) => p.stat(path));
      await turn();
      expect(kernel.pending).toHaveLength(together);
      for (let i = 0; i < 3; i++) {
        gate.waiting[i].resolve(tree.entry(tree.add(`x${i}`)) as never);
        await turn();
        await turn();
      }
      await Promise.all(stats);
      await kernel.end();
    }
  });
});

describe('notifications', () => {
  test('INVAL_ENTRY, DELETE and INVAL_INODE change the caches', async () => {
    const { kernel, p, tree } = await small();
    tree.entryTtl = 1000;
    tree.attributeTtl = 1000;
    const file = tree.add('f', bytes('abc'));
    const fd = await p.open('/f', O_RDONLY);
    await p.read(fd, 3, 0);
    expect(kernel.notify(notification(2, BigInt(file.node), 0n, 0n))).toBe(0);
    expect(await operationsOf(kernel, () => p.read(fd, 3, 0))).toEqual(['GETATTR', 'READ']);
    await p.close(fd);
    expect(kernel.notify(notification(3, 1n, 1n, 'f\0'))).toBe(0);
    expect(await operationsOf(kernel, () => p.stat('/f'))).toEqual(['FORGET', 'LOOKUP']);
    expect(kernel.notify(notification(3, 1n, 1n, 'g\0'))).toBe(-2);
    expect(kernel.notify(notification(3, 1n, 2n, 'g\0'))).toBe(-22);
    expect(kernel.notify(notification(6, 1n, 99n, 1n, 'f\0'))).toBe(-2);
    expect(await operationsOf(kernel, async () => kernel.notify(notification(6, 1n, BigInt(file.node), 1n, 'f\0')))).toEqual([
      'FORGET',
    ]);
    expect(kernel.notify(notification(10))).toBe(-22);
    expect(kernel.notifications.map(({ name, status }) => `${name} ${status}`)).toContain('DELETE 0');
    await kernel.end();
  });

  test('STORE fills the page cache, RETRIEVE brings it back', async () => {
    const { kernel, p, tree } = await small();
    tree.attributeTtl = 1000;
    const file = tree.add('f', bytes('abc'));
    const fd = await p.open('/f', O_RDONLY);
    expect(kernel.notify(notification(4, BigInt(file.node), 0n, 6n, 'stored'))).toBe(0);
    expect(text(await p.read(fd, 10, 0))).toBe('stored');
    expect(await operationsOf(kernel, async () => kernel.notify(notification(5, 77n, BigInt(file.node), 0n, 100n)))).toEqual([
      'NOTIFY_REPLY',
    ]);
    expect(kernel.requests[0]).toMatchObject({ unique: 77, dataBytes: 6, args: { size: 6 } });
    await kernel.end();
  });
});

describe('permissions', () => {
  test('default_permissions goes by mode bits, groups and the sticky bit; root passes', async () => {
    const { kernel, tree } = await small({}, { defaultPermissions: true });
    tree.add('secret', bytes('x'), 0o100640);
    const stranger = await kernel.process({ uid: 1000, gid: 1000 });
    await expect(stranger.open('/secret', O_RDONLY)).rejects.toMatchObject({ code: 'EACCES' });
    const member = await kernel.process({ uid: 1000, gid: 1000, groups: [0] });
    await member.open('/secret', O_RDONLY);
    await expect(member.open('/secret', O_WRONLY)).rejects.toMatchObject({ code: 'EACCES' });
    await expect(stranger.unlink('/secret')).rejects.toMatchObject({ code: 'EACCES' });
    expect(kernel.operations).not.toContain('ACCESS');
    await kernel.end();
  });

  test('without it access(2) is an ACCESS, and without allow_other strangers stay out', async () => {
    const { kernel, p, tree } = await small({ access: () => {} }, { allowOther: false });
    tree.add('f');
    await p.access('/f', 4);
    expect(kernel.operations).toContain('ACCESS');
    const stranger = await kernel.process({ uid: 1000, gid: 1000 });
    await expect(stranger.stat('/f')).rejects.toMatchObject({ code: 'EACCES' });
    await kernel.end();
  });

  test('a read-only mount is EROFS', async () => {
    const { kernel, p, tree } = await small({}, { readOnly: true });
    tree.add('f');
    await expect(p.open('/f', O_WRONLY)).rejects.toMatchObject({ code: 'EROFS' });
    await expect(p.open('/g', O_WRONLY | O_CREAT)).rejects.toMatchObject({ code: 'EROFS' });
    await kernel.end();
  });
});

describe('the audit', () => {
  test('a filesystem that forgets to forget is caught, with the request that counted', async () => {
    const { kernel, p, tree } = await small({ forget: () => {} });
    tree.add('f');
    await p.stat('/f');
    expect(await kernel.audit()).toEqual([]);
    const error = await kernel.end().catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(AuditError);
    expect((error as AuditError).violations).toMatchObject([
      { kind: 'filesystem-count', message: expect.stringContaining('node 2') },
    ]);
  });

  test('a filesystem that counts what it did not answer is caught at once', async () => {
    const { kernel, p, tree } = await small();
    const file = tree.add('f');
    await p.stat('/f');
    tree.entry(file);
    expect(await kernel.audit()).toMatchObject([
      { kind: 'filesystem-count', operation: expect.stringMatching(/^LOOKUP #\d+ of node 1 "f"$/) },
    ]);
    await expect(kernel.end()).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_AUDIT' });
  });

  test('a handle that is never given back is caught', async () => {
    const { kernel, p, tree } = await small({ release: () => {} });
    tree.add('f');
    await p.close(await p.open('/f', O_RDONLY));
    await expect(kernel.end()).rejects.toMatchObject({ violations: [{ kind: 'filesystem-handle' }] });
  });

  test('a request that is never answered is named, and end comes back', async () => {
    const { kernel, p, tree } = await small({ read: () => new Promise<never>(() => {}) }, { endTimeoutMs: 50 });
    tree.add('f', bytes('abc'));
    const read = p.read(await p.open('/f', O_RDONLY), 3);
    read.catch(() => {});
    await turn();
    await expect(kernel.end()).rejects.toMatchObject({
      violations: [{ kind: 'unanswered', operation: expect.stringMatching(/^READ #\d+ of node 2$/) }],
    });
    // The pages that were read ahead failed with ECONNABORTED, so the reader asked once more.
    await expect(read).rejects.toMatchObject({ code: 'ENOTCONN' });
  });

  test('an entry that the kernel cannot use is EIO, and its count is lost', async () => {
    const { kernel, p, tree } = await small({}, { audited: {} });
    tree.add('f');
    // The mode stands 60 bytes into the attributes, which stand 40 bytes into the entry.
    const alter = (reply: Uint8Array) => reply.fill(0, 16 + 40 + 60, 16 + 40 + 64);
    kernel.inject({ operation: 'LOOKUP', action: { kind: 'alter-reply', alter } });
    await expect(p.stat('/f')).rejects.toMatchObject({ code: 'EIO' });
    await expect(kernel.end()).rejects.toMatchObject({
      violations: [{ kind: 'lookup-count', message: expect.stringContaining('node 2') }],
    });
  });
});
