/**
 * Old kernels, and kernels to come: the whole life of a mount at each minor that a session accepts, every request and reply
 * measured against the facts, and nothing sent or expected that the minor lacks.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { constants } from 'node:os';
import { describe, expect, test } from 'vitest';
import { MemoryFilesystem } from '../../examples/memory/filesystem.ts';
import type { Filesystem, Kernel } from '../../src/filesystem/index.ts';
import {
  Connection,
  copyFileRange64Exists,
  encodeMessage,
  headerHasExtensionLength,
  INIT_FLAGS,
  type InitFlag,
  initInHasSecondFlags,
  NOTIFICATIONS,
  OPCODES,
  type OpcodeName,
  opcodeNamed,
  type RequestMessage,
  statxExists,
  structBytes,
} from '../../src/protocol/index.ts';
import { FAULT_CHANNEL, type Fault, MINOR_FLOOR, NegotiationError, negotiate } from '../../src/session/index.ts';
import { type SimulatedKernel, type SimulatedProcess, type SimulationOptions, simulate } from '../../src/testing/index.ts';
import { decoded, readFacts } from '../protocol/support.ts';
import { body, long, opcode, TestKernel, word } from './wire.ts';

const { EPROTO, EIO, EINVAL } = constants.errno;
const MINORS = Array.from({ length: 45 - MINOR_FLOOR + 1 }, (_, index) => MINOR_FLOOR + index);
const O_CREAT = 0o100;
const O_RDWR = 2;
const O_TMPFILE = 0o20200000;
const IN_HEADER = 40;
const OUT_HEADER = 16;

// --- the facts ------------------------------------------------------------------------------------------------------------

type Sized =
  | { readonly minor_below?: number; readonly minor_from?: number; readonly size?: number; readonly never_sent?: boolean }
  | { readonly with_flag?: string; readonly without_flag?: string; readonly size: number };

interface Facts {
  readonly opcodes: readonly { readonly name: string; readonly since_minor: number }[];
  readonly structs: Record<string, { readonly size: number }>;
  readonly reply_and_request_sizes_by_negotiated_minor: {
    readonly reply: Record<string, readonly Sized[]>;
    readonly request: Record<string, readonly Sized[]>;
    readonly not_shortened_by_6_18: readonly string[];
  };
}

const facts = readFacts<Facts>();
const sizes = facts.reply_and_request_sizes_by_negotiated_minor;

/** What the facts say of one entry at a minor. */
function fact(entries: readonly Sized[] | undefined, minor: number, flags: ReadonlySet<InitFlag>): number {
  const found = entries?.find((entry) => {
    if ('with_flag' in entry) return flags.has(entry.with_flag as InitFlag);
    if ('without_flag' in entry) return !flags.has(entry.without_flag as InitFlag);
    const { minor_from = 0, minor_below = 1000 } = entry as { minor_from?: number; minor_below?: number };
    return minor >= minor_from && minor < minor_below;
  });
  if (found?.size === undefined) throw new Error('the facts say nothing');
  return found.size;
}

const ENTRY_OPS: readonly OpcodeName[] = ['LOOKUP', 'MKNOD', 'MKDIR', 'SYMLINK', 'LINK'];

/** Bytes of the fixed part of a request, from the facts alone. */
function requestFact(name: OpcodeName, minor: number, flags: ReadonlySet<InitFlag>): number {
  const special = sizes.request[`FUSE_${name} header`];
  if (special !== undefined) return fact(special, minor, flags);
  const kept = sizes.not_shortened_by_6_18
    .map((line) => /^FUSE_([A-Z/]+) (?:request )?stays? (\d+)$/.exec(line))
    .find((match) => match?.[1]?.split('/').includes(name));
  if (kept !== undefined) return Number(kept?.[2]);
  const struct = opcodeNamed(name).request.struct;
  return struct === undefined ? 0 : facts.structs[struct]!.size;
}

/** Bytes of the fixed part of a successful reply. */
function replyFact(name: OpcodeName, minor: number, flags: ReadonlySet<InitFlag>): number {
  const entry = () => fact(sizes.reply['entry_out in LOOKUP/MKNOD/MKDIR/SYMLINK/LINK and first part of CREATE'], minor, flags);
  if (ENTRY_OPS.includes(name)) return entry();
  if (name === 'CREATE' || name === 'TMPFILE') return entry() + facts.structs.fuse_open_out!.size;
  if (name === 'GETATTR' || name === 'SETATTR') return fact(sizes.reply['attr_out in GETATTR/SETATTR'], minor, flags);
  if (name === 'STATFS') return fact(sizes.reply.FUSE_STATFS, minor, flags);
  return opcodeNamed(name).reply.structs.reduce((sum, struct) => sum + facts.structs[struct]!.size, 0);
}

// --- what crossed ---------------------------------------------------------------------------------------------------------

interface Crossed {
  readonly direction: 'in' | 'out';
  readonly bytes: Uint8Array;
}

/** Asserts every message that crossed, byte for byte. Answers the operations that were sent. */
function assertSizes(crossed: readonly Crossed[], minor: number): Set<OpcodeName> {
  const connection = new Connection();
  const requests = new Map<bigint, RequestMessage>();
  const sent = new Set<OpcodeName>();
  const agreed = Math.min(minor, 45);
  for (const { direction, bytes } of crossed) {
    const unique = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(8, true);
    if (direction === 'in') {
      const message = decoded(connection.incoming(bytes)) as RequestMessage;
      expect(Buffer.from(encodeMessage(message)).equals(bytes)).toBe(true);
      requests.set(unique, message);
      sent.add(message.opcode);
      assertRequest(message, bytes.length, agreed, connection.agreed.flags, minor);
    } else {
      const request = requests.get(unique)!;
      const message = decoded(connection.outgoing(bytes));
      expect(Buffer.from(encodeMessage(message)).equals(bytes)).toBe(true);
      assertReply(request, bytes, agreed, connection.agreed.flags);
    }
  }
  return sent;
}

function assertRequest(
  message: RequestMessage,
  length: number,
  agreed: number,
  flags: ReadonlySet<InitFlag>,
  minor: number,
): void {
  const { opcode: name, names, data, records, extensions, header } = message;
  if (name === 'INIT') {
    expect(length - IN_HEADER).toBe(structBytes('fuse_init_in', minor));
    return;
  }
  expect(facts.opcodes.find((row) => row.name === `FUSE_${name}`)!.since_minor, name).toBeLessThanOrEqual(agreed);
  const tail = (data?.length ?? 0) + (records?.length ?? 0) * facts.structs.fuse_forget_one!.size;
  const text = names.reduce((sum, one) => sum + one.length + 1, 0);
  const extended = (header.total_extlen as number) * 8;
  if (!headerHasExtensionLength(agreed)) expect(extended, name).toBe(0);
  else if (extensions !== undefined) expect(extended).toBeGreaterThan(0);
  expect(length, name).toBe(IN_HEADER + requestFact(name, agreed, flags) + text + tail + extended);
}

function assertReply(request: RequestMessage, bytes: Uint8Array, agreed: number, flags: ReadonlySet<InitFlag>): void {
  const { opcode: name } = request;
  const error = word(bytes, 4) | 0;
  const bodyBytes = bytes.length - OUT_HEADER;
  if (error !== 0) {
    expect(bodyBytes, name).toBe(0);
    return;
  }
  if (name === 'INIT') {
    expect(bodyBytes).toBe(64);
    return;
  }
  const { tail, limitedBy, whenSizeZero } = opcodeNamed(name).reply;
  const size = limitedBy === undefined ? undefined : Number(request.structs[0]!.value[limitedBy]);
  if (whenSizeZero !== undefined && size === 0) expect(bodyBytes, name).toBe(facts.structs[whenSizeZero]!.size);
  else if (tail === undefined) expect(bodyBytes, name).toBe(replyFact(name, agreed, flags));
  else {
    const fixed = replyFact(name, agreed, flags);
    expect(bodyBytes, name).toBeGreaterThanOrEqual(fixed);
    expect(bodyBytes, name).toBeLessThanOrEqual(fixed + (size ?? 4095));
  }
}

// --- a life ---------------------------------------------------------------------------------------------------------------

class EverythingInMemory extends MemoryFilesystem implements Filesystem {
  kernel!: Kernel;

  override init(negotiated: Parameters<MemoryFilesystem['init']>[0], kernel?: Kernel): void {
    super.init(negotiated);
    this.kernel = kernel!;
  }

  access(): void {}
  fsync(): void {}
  fsyncdir(): void {}
  syncfs(): void {}
  ioctl = () => ({ result: 3, data: new Uint8Array([1, 2]) });
  poll = () => 1;
}

async function mounted(minor: number, options: SimulationOptions = {}) {
  const crossed: Crossed[] = [];
  const filesystem = new EverythingInMemory({ size: 1 << 22 });
  const tap = (direction: 'in' | 'out', bytes: Uint8Array) => void crossed.push({ direction, bytes });
  const kernel = await simulate(filesystem, { minor, tap, ...options });
  const process = await kernel.process({ uid: 0, gid: 0, groups: [5] });
  return { kernel, process, filesystem, crossed };
}

async function files(process: SimulatedProcess): Promise<void> {
  await process.mkdir('/d');
  const fd = await process.open('/d/f', O_CREAT | O_RDWR, 0o644);
  await process.write(fd, new Uint8Array(300_000).fill(7), 0);
  await process.fsync(fd);
  expect(await process.read(fd, 300_000, 0)).toHaveLength(300_000);
  expect((await process.lseek(fd, 10, 3)) >= 10).toBe(true);
  await process.fallocate(fd, 0, 0, 400_000);
  await process.ftruncate(fd, 200_000);
  const copy = await process.open('/d/g', O_CREAT | O_RDWR, 0o600);
  expect(await process.copyFileRange(fd, 0, copy, 0, 5000)).toBe(5000);
  expect((await process.ioctl(fd, 1, new Uint8Array(3), 8)).result).toBe(3);
  expect(await process.poll(fd, 1)).toBe(1);
  await process.setlk(fd, { type: 'write', start: 0, length: 10 });
  expect(await process.getlk(copy, { type: 'write', start: 0, length: 10 })).toBeUndefined();
  await process.flock(fd, 2);
  await process.close(fd);
  await process.close(copy);
}

async function names(process: SimulatedProcess): Promise<void> {
  await process.symlink('f', '/d/s');
  expect(await process.readlink('/d/s')).toBe('f');
  await process.link('/d/f', '/d/h');
  await process.mknod('/d/p', 0o10644);
  await process.rename('/d/g', '/d/i');
  await process.renameat2('/d/i', '/d/h', 2);
  const list = await process.open('/d', 0o200000);
  expect((await process.getdents(list)).map(({ name }) => name).sort()).toEqual(['.', '..', 'f', 'h', 'i', 'p', 's']);
  await process.fsync(list);
  await process.close(list);
  await process.chmod('/d/f', 0o600);
  await process.utimens('/d/f', 1n, 'now');
  await process.access('/d/f', 4);
  expect((await process.statfs('/')).namelen).toBe(255);
  await process.setxattr('/d/f', 'user.a', new Uint8Array(5));
  expect(await process.getxattr('/d/f', 'user.a')).toHaveLength(5);
  expect(await process.listxattr('/d/f')).toEqual(['user.a']);
  await process.removexattr('/d/f', 'user.a');
  await process.unlink('/d/s');
  await process.mkdir('/d/e');
  await process.rmdir('/d/e');
}

/** Operations that a life has at every minor. */
const ALWAYS: readonly OpcodeName[] = [
  ...(['INIT', 'LOOKUP', 'GETATTR', 'SETATTR', 'MKDIR', 'RMDIR', 'UNLINK', 'SYMLINK', 'READLINK', 'LINK', 'MKNOD'] as const),
  ...(['RENAME', 'RENAME2', 'CREATE', 'READ', 'WRITE', 'FLUSH', 'RELEASE', 'FSYNC', 'OPENDIR', 'READDIRPLUS'] as const),
  ...(['RELEASEDIR', 'FSYNCDIR', 'STATFS', 'SETXATTR', 'GETXATTR', 'LISTXATTR', 'REMOVEXATTR', 'GETLK', 'SETLK'] as const),
  ...(['SETLKW', 'FALLOCATE', 'LSEEK', 'IOCTL', 'POLL', 'BATCH_FORGET'] as const),
];

describe.each(MINORS)('7.%i', (minor) => {
  test('the whole life of a mount, every message of the size that the facts give', async () => {
    const { kernel, process, crossed } = await mounted(minor);
    expect(kernel.agreed.minor).toBe(minor);
    await files(process);
    await names(process);
    const statx = await process.stat('/d/f');
    expect(statx.btimeNs !== undefined).toBe(statxExists(minor));
    const unnamed = await process.open('/d', O_TMPFILE | O_RDWR, 0o600).catch((error: { code: string }) => error.code);
    expect(typeof unnamed).toBe(minor >= opcodeNamed('TMPFILE').since ? 'number' : 'string');
    await kernel.end();
    const sent = assertSizes(crossed, minor);
    expect(ALWAYS.filter((name) => !sent.has(name))).toEqual([]);
    expect(sent.has('STATX')).toBe(statxExists(minor));
    expect(sent.has('TMPFILE')).toBe(minor >= 37);
    expect(sent.has('COPY_FILE_RANGE_64')).toBe(copyFileRange64Exists(minor));
    expect(sent.has('COPY_FILE_RANGE')).toBe(minor >= 28 && !copyFileRange64Exists(minor));
    expect([...sent].filter((name) => opcodeNamed(name).since > minor)).toEqual([]);
  });

  test('INIT is answered within what the minor knows', async () => {
    const { kernel, crossed } = await mounted(minor);
    const reply = crossed[1]!.bytes.subarray(OUT_HEADER);
    const at = (offset: number) => word(reply, offset);
    expect([at(0), at(4)]).toEqual([7, minor]);
    for (const flag of kernel.agreed.flags)
      expect(INIT_FLAGS.find(({ name }) => name === flag)!.since, flag).toBeLessThanOrEqual(minor);
    if (!initInHasSecondFlags(minor)) {
      expect(at(12) & (1 << 30)).toBe(0);
      expect(at(32)).toBe(0);
    }
    const hasPages = minor >= INIT_FLAGS.find(({ name }) => name === 'FUSE_MAX_PAGES')!.since;
    const maxPages = at(28) & 0xffff;
    expect(maxPages).toBe(hasPages ? 256 : 0);
    expect(at(20)).toBe(hasPages ? 1 << 20 : 32 * 4096);
    // The words behind are padding to a kernel that does not know them.
    expect(reply.subarray(36).every((byte) => byte === 0)).toBe(true);
    expect(kernel.agreed.maxPages).toBe(hasPages ? 256 : 32);
    await kernel.end();
  });

  test('SETXATTR has the head that was agreed on', async () => {
    const lengths: number[] = [];
    for (const withheld of [[], ['FUSE_SETXATTR_EXT']] as InitFlag[][]) {
      const { kernel, process, crossed } = await mounted(minor, { withheld });
      await process.mkdir('/x');
      await process.setxattr('/x', 'user.a', new Uint8Array(3));
      await kernel.end();
      const message = crossed.find(({ direction, bytes }) => direction === 'in' && word(bytes, 4) === opcode('SETXATTR'))!;
      lengths.push(message.bytes.length - IN_HEADER - 'user.a\0'.length - 3);
      assertSizes(crossed, minor);
    }
    expect(lengths).toEqual([minor >= 33 ? 16 : 8, 8]);
  });

  test('notifications that it does not know are refused and never written, the others reach it', async () => {
    const { kernel, process, filesystem } = await mounted(minor);
    await process.mkdir('/d');
    const told: Record<string, () => Promise<unknown>> = {
      POLL: () => filesystem.kernel.wakePoll(1, 0),
      INVAL_INODE: () => filesystem.kernel.invalidateData(1),
      INVAL_ENTRY: () => filesystem.kernel.invalidateEntry(1, 'd'),
      STORE: () => filesystem.kernel.store(99, 0, new Uint8Array(4)),
      RETRIEVE: () => filesystem.kernel.retrieve(1, 0, 16),
      DELETE: () => filesystem.kernel.removed(1, 'none', 99),
      RESEND: () => filesystem.kernel.resend(),
      INC_EPOCH: () => filesystem.kernel.expireAll(),
      PRUNE: () => filesystem.kernel.prune([99]),
    };
    expect(Object.keys(told).sort()).toEqual(NOTIFICATIONS.map(({ name }) => name as string).sort());
    for (const row of NOTIFICATIONS) {
      kernel.notifications.length = 0;
      const outcome = await told[row.name]!().then(
        () => 'written',
        (error: Error & { code: string }) => `${error.code} ${error.message}`,
      );
      if (row.since <= minor) {
        expect(outcome, row.name).toBe('written');
        expect(kernel.notifications.map(({ name }) => name)).toEqual([row.name]);
      } else {
        expect(outcome).toBe(
          `EOPNOTSUPP the kernel speaks FUSE 7.${minor}; the notification ${row.name} came with 7.${row.since}, do without it`,
        );
        expect(kernel.notifications).toEqual([]);
      }
    }
    const expired = filesystem.kernel.invalidateEntry(1, 'd', true);
    if (minor >= 38) await expired;
    else await expect(expired).rejects.toMatchObject({ code: 'EOPNOTSUPP', message: expect.stringContaining('7.38') });
    await kernel.end();
  });

  test('what the simulated kernel never sends is served all the same: SYNCFS, BMAP, DESTROY, ACCESS', async () => {
    const kernel = new TestKernel({ bmap: () => 9, syncfs: () => {}, access: () => {} });
    await kernel.init(minor);
    expect(kernel.session.negotiated.minor).toBe(minor);
    const reply = (name: OpcodeName, payload?: Uint8Array) => kernel.of(kernel.request(name, payload))!;
    const bmap = reply('BMAP', body(4n, 512, 0));
    expect([bmap.body.length, long(bmap.body, 0)]).toEqual([facts.structs.fuse_bmap_out!.size, 9n]);
    expect(reply('ACCESS', body(4, 0))).toMatchObject({ errno: 0 });
    expect(reply('SYNCFS', body(0n))).toMatchObject({ errno: 0 });
    expect(reply('DESTROY')).toMatchObject({ errno: 0 });
  });
});

describe('a label that the header does not announce', () => {
  test.each([36, 37])('7.%i: security contexts are not agreed on, and creating works', async (minor) => {
    const { kernel, process } = await mounted(minor);
    expect(kernel.agreed.flags.has('FUSE_SECURITY_CTX')).toBe(false);
    await process.close(await process.open('/f', O_CREAT | O_RDWR, 0o600));
    await kernel.end();
    const init = { major: 7, minor, max_readahead: 0, flags: 2 ** 30, flags2: 1 };
    const asked = negotiate(init, { methods: [], requested: ['FUSE_SECURITY_CTX'] }, {});
    expect(asked.refused.get('FUSE_SECURITY_CTX')).toContain('7.38');
    expect(
      negotiate({ ...init, minor: 38 }, { methods: [], requested: ['FUSE_SECURITY_CTX'] }, {}).flags.has('FUSE_SECURITY_CTX'),
    ).toBe(true);
  });
});

describe('kernels to come', () => {
  test.each([46, 50, 99])('7.%i is answered 7.45 and served as such', async (minor) => {
    const { kernel, process, crossed } = await mounted(minor);
    expect(kernel.agreed.minor).toBe(45);
    expect(word(crossed[1]!.bytes, OUT_HEADER + 4)).toBe(45);
    await files(process);
    await names(process);
    await kernel.end();
    const sent = assertSizes(crossed, minor);
    expect(sent.has('COPY_FILE_RANGE_64')).toBe(true);
  });

  test('flags that nobody knows are not accepted, and an INIT that has grown is read', async () => {
    const kernel = new TestKernel({ getattr: () => ({ attributes: { mode: 0o040755 } }) });
    await kernel.serve();
    kernel.send(opcode('INIT'), body(7, 60, 131072, 0xffff_ffff, 0xffff_ffff, new Uint8Array(236).fill(0xff)), { nodeid: 0 });
    const reply = kernel.last();
    expect([reply.errno, reply.body.length, word(reply.body, 4)]).toEqual([0, 64, 45]);
    const known = INIT_FLAGS.reduce((bits, { bit }) => bits | (1n << BigInt(bit)), 0n);
    const accepted = (BigInt(word(reply.body, 32)) << 32n) | BigInt(word(reply.body, 12));
    expect(accepted & ~known).toBe(0n);
    expect(kernel.of(kernel.request('GETATTR', body(0, 0, 0n)))).toMatchObject({ errno: 0 });
    expect(
      kernel.of(kernel.send(Math.max(...OPCODES.filter(({ value }) => value < 1000).map(({ value }) => value)) + 1)),
    ).toMatchObject({
      errno: constants.errno.ENOSYS,
    });
  });

  test('major 8 is answered 7, and then INIT comes again', async () => {
    const kernel = new TestKernel({ getattr: () => ({ attributes: { mode: 0o040755 } }) });
    await kernel.serve();
    kernel.send(opcode('INIT'), body(8, 2, new Uint8Array(56)), { nodeid: 0 });
    expect([kernel.last().errno, word(kernel.last().body, 0)]).toEqual([0, 7]);
    expect(word((await kernel.init(45)).body, 4)).toBe(45);
    expect(kernel.of(kernel.request('GETATTR', body(0, 0, 0n)))).toMatchObject({ errno: 0 });
  });
});

describe('kernels before the floor', () => {
  test.each([MINOR_FLOOR - 1, 23, 8, 5, 1])(
    '7.%i gets EPROTO, which makes its mount fail cleanly, and we say why',
    async (minor) => {
      const faults: Fault[] = [];
      const listen = (fault: unknown) => void faults.push(fault as Fault);
      subscribe(FAULT_CHANNEL, listen);
      const kernel = new TestKernel({ lookup: () => ({ node: 0 }) });
      await kernel.serve();
      // Before 7.6 INIT has no flags.
      kernel.send(opcode('INIT'), minor < 6 ? body(7, minor) : body(7, minor, 131072, 0), { nodeid: 0 });
      unsubscribe(FAULT_CHANNEL, listen);
      expect(kernel.last()).toMatchObject({ errno: EPROTO, body: new Uint8Array(0) });
      expect(faults).toHaveLength(1);
      expect(faults[0]!.error).toBeInstanceOf(NegotiationError);
      expect(faults[0]!.error).toMatchObject({
        code: 'ERR_FUSEWIRE_KERNEL_TOO_OLD',
        message: `the kernel speaks FUSE 7.${minor}; fusewire needs 7.27 (Linux 4.18) or newer`,
      });
      // Whatever comes nevertheless is answered.
      expect(kernel.of(kernel.request('LOOKUP', body('a\0')))).toMatchObject({ errno: EIO });
    },
  );

  test('so does an older major, whatever its minor', () => {
    const init = { major: 6, minor: 99, max_readahead: 0, flags: 0, flags2: 0 };
    expect(() => negotiate(init, { methods: [], requested: [] }, {})).toThrow('the kernel speaks FUSE 6.99');
  });

  test('the simulated kernel speaks none of them', async () => {
    await expect(simulate({}, { minor: MINOR_FLOOR - 1 })).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_SIMULATION_OPTION' });
  });
});

test('a notification that the simulated kernel does not know is refused as the real one does', async () => {
  const kernel: SimulatedKernel = await simulate({}, { minor: 30 });
  const prune = body(24, NOTIFICATIONS.find(({ name }) => name === 'PRUNE')!.value, 0n, 0, 0);
  expect(kernel.notify(prune)).toBe(-EINVAL);
  await kernel.end();
});
