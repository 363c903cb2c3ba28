/** ioctl(2) on files and directories: what goes in, what comes out, and the flags of chattr(1). */
import { constants } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ERRNO, FuseError, type IoctlReply, type IoctlRequest, type NodeId } from '../../src/index.ts';
import { faultsSeen, negative, skipLoudly, useLiveMounts } from './harness.ts';
import { AskedMemory, liveFilesystem, NO_OPERATIONS } from './operations-live.ts';
import { prove, proveOpcodes } from './proof.ts';

const { O_CREAT, O_RDONLY, O_RDWR, O_DIRECTORY } = constants;

/** Request numbers as <asm-generic/ioctl.h> makes them: direction, bytes of the argument, and two bytes that name it. */
const ioc = (direction: 0 | 1 | 2 | 3, bytes: number, kind: string, number: number) =>
  ((direction << 30) | (bytes << 16) | (kind.charCodeAt(0) << 8) | number) >>> 0;
const IN = 1;
const OUT = 2;

const KNOB_PRESS = ioc(0, 0, 'K', 1);
const KNOB_SET = ioc(IN, 8, 'K', 2);
const KNOB_GET = ioc(OUT, 8, 'K', 3);
const KNOB_SWAP = ioc(3, 8, 'K', 4);
const KNOB_BIG = ioc(3, 16_000, 'K', 5);
const KNOB_BROKEN = ioc(OUT, 4, 'K', 6);

// <linux/fs.h>. The kernel itself turns these into IOCTL, whatever the caller's word size.
const FS_IOC_GETFLAGS = ioc(OUT, 8, 'f', 1);
const FS_IOC_SETFLAGS = ioc(IN, 8, 'f', 2);
const FS_IOC_FSGETXATTR = ioc(OUT, 28, 'X', 31);
const FS_IOC_FSSETXATTR = ioc(IN, 28, 'X', 32);
const FS_NODUMP_FL = 0x40;
const FS_NOATIME_FL = 0x80;
const FS_XFLAG_NODUMP = 0x80;

/** Files with a knob of eight bytes each, and the flags of chattr. */
class Knobs extends AskedMemory {
  readonly knobs = new Map<number, Buffer>();
  readonly flags = new Map<number, number>();
  pressed = 0n;

  async ioctl(node: NodeId, request: IoctlRequest): Promise<IoctlReply> {
    const { command, data, argumentLow, argumentHigh } = request;
    // Later, so that the bytes of the request must outlive its delivery.
    await new Promise((resolve) => setImmediate(resolve));
    const knob = this.knobs.get(node) ?? Buffer.alloc(8);
    switch (command) {
      case KNOB_PRESS:
        this.pressed = (BigInt(argumentHigh) << 32n) | BigInt(argumentLow);
        return { result: 42 };
      case KNOB_SET:
        this.knobs.set(node, Buffer.from(data));
        return {};
      case KNOB_GET:
        return { data: knob };
      case KNOB_SWAP:
        this.knobs.set(node, Buffer.from(data));
        return { data: knob, result: 1 };
      case KNOB_BIG:
        return { data: Buffer.from(data).reverse() };
      case KNOB_BROKEN:
        return { data: Buffer.alloc(5) };
      default:
        return this.#attributes(node, command, data);
    }
  }

  #attributes(node: NodeId, command: number, data: Uint8Array): IoctlReply {
    const bytes = Buffer.alloc(28);
    switch (command) {
      case FS_IOC_GETFLAGS:
        bytes.writeUInt32LE(this.flags.get(node) ?? 0);
        return { data: bytes.subarray(0, 4) };
      case FS_IOC_SETFLAGS:
        this.flags.set(node, Buffer.from(data).readUInt32LE());
        return {};
      case FS_IOC_FSGETXATTR:
        bytes.writeUInt32LE((this.flags.get(node) ?? 0) & FS_NODUMP_FL ? FS_XFLAG_NODUMP : 0);
        bytes.writeUInt32LE(7, 12);
        return { data: bytes };
      case FS_IOC_FSSETXATTR:
        this.flags.set(node, Buffer.from(data).readUInt32LE() & FS_XFLAG_NODUMP ? FS_NODUMP_FL : 0);
        return {};
      default:
        throw FuseError.of(ERRNO.ENOTTY);
    }
  }
}

describe.skipIf(skipLoudly('ioctl', NO_OPERATIONS))('ioctl', () => {
  useLiveMounts();

  async function withKnobs() {
    const knobs = new Knobs();
    const live = await liveFilesystem(knobs);
    const file = await live.caller.open(live.at('file'), O_CREAT | O_RDWR);
    const folder = await live.caller.open(live.path, O_RDONLY | O_DIRECTORY);
    return { ...live, knobs, file, folder };
  }

  test.each(['file', 'folder'] as const)('bytes go in, come out, and both, on a %s', async (which) => {
    const live = await withKnobs();
    const { caller, calls, knobs } = live;
    const fd = live[which];
    expect(await caller.result('ioctl', fd, KNOB_PRESS, 0x1234_5678_9abc_def0n)).toBe(42);
    expect(knobs.pressed).toBe(0x1234_5678_9abc_def0n);
    expect(await caller.result('ioctl', fd, KNOB_SET, Buffer.from('12345678'))).toBe(0);
    const got = await caller.ok('ioctl', fd, KNOB_GET, Buffer.from('........'));
    expect([got.result, got.memory[0].toString()]).toEqual([0, '12345678']);
    const swapped = await caller.ok('ioctl', fd, KNOB_SWAP, Buffer.from('abcdefgh'));
    expect([swapped.result, swapped.memory[0].toString()]).toEqual([1, '12345678']);
    const again = await caller.ok('ioctl', fd, KNOB_GET, Buffer.alloc(8));
    expect(again.memory[0].toString()).toBe('abcdefgh');
    const directory = which === 'folder';
    expect(calls('IOCTL').map((one) => [one.command, (one.data as Buffer).byteLength, one.outSize, one.directory])).toEqual([
      [KNOB_PRESS, 0, 0, directory],
      [KNOB_SET, 8, 0, directory],
      [KNOB_GET, 0, 8, directory],
      [KNOB_SWAP, 8, 8, directory],
      [KNOB_GET, 0, 8, directory],
    ]);
    proveOpcodes('IOCTL');
    // Without the flag directories have no ioctls.
    if (directory) prove('flag', 'FUSE_HAS_IOCTL_DIR');
  });

  test('arguments of several pages travel both ways', async () => {
    const { caller, file } = await withKnobs();
    const argument = Buffer.from(Array.from({ length: 16_000 }, (_, index) => index % 251));
    const { memory } = await caller.ok('ioctl', file, KNOB_BIG, argument);
    expect(memory[0].equals(Buffer.from(argument).reverse())).toBe(true);
    proveOpcodes('IOCTL');
  });

  test('an unknown number is ENOTTY, an answer that is too long EIO and a fault', async () => {
    const { caller, file } = await withKnobs();
    expect(await caller.result('ioctl', file, ioc(IN, 4, 'K', 99), Buffer.alloc(4))).toBe(negative('ENOTTY'));
    expect(await caller.result('ioctl', file, KNOB_BROKEN, Buffer.alloc(4))).toBe(negative('EIO'));
    expect(faultsSeen()).toMatchObject([{ kind: 'invalid-answer', operation: 'IOCTL' }]);
  });

  test('without the method it is ENOTTY, for files and directories', async () => {
    const { caller, at, path } = await liveFilesystem(new AskedMemory());
    const file = await caller.open(at('file'), O_CREAT | O_RDWR);
    const folder = await caller.open(path, O_RDONLY | O_DIRECTORY);
    for (const fd of [file, folder]) {
      expect(await caller.result('ioctl', fd, KNOB_SET, Buffer.alloc(8))).toBe(negative('ENOTTY'));
    }
  });

  test.each(['file', 'folder'] as const)('the flags of chattr and the attributes of project quotas, on a %s', async (which) => {
    const live = await withKnobs();
    const { caller, calls } = live;
    const fd = live[which];
    const directory = which === 'folder';
    const flags = async () => {
      const { memory } = await caller.ok('ioctl', fd, FS_IOC_GETFLAGS, Buffer.alloc(8));
      return memory[0].readUInt32LE();
    };
    expect(await flags()).toBe(0);
    const wanted = Buffer.alloc(8);
    wanted.writeUInt32LE(FS_NODUMP_FL | FS_NOATIME_FL);
    await caller.ok('ioctl', fd, FS_IOC_SETFLAGS, wanted);
    expect(await flags()).toBe(FS_NODUMP_FL | FS_NOATIME_FL);
    const { memory } = await caller.ok('ioctl', fd, FS_IOC_FSGETXATTR, Buffer.alloc(28));
    expect([memory[0].readUInt32LE(), memory[0].readUInt32LE(12)]).toEqual([FS_XFLAG_NODUMP, 7]);
    await caller.ok('ioctl', fd, FS_IOC_FSSETXATTR, Buffer.alloc(28));
    expect(await flags()).toBe(0);
    const sent = calls('IOCTL').map((one) => one.command);
    for (const command of [FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR]) {
      expect(sent).toContain(command);
    }
    expect(calls('IOCTL').every((one) => one.directory === directory)).toBe(true);
    // The word of flags is four bytes on the wire, although the number says that it is a long.
    expect(calls('IOCTL').find((one) => one.command === FS_IOC_SETFLAGS)).toMatchObject({ data: { byteLength: 4 } });
    proveOpcodes('IOCTL');
  });
});
