/** What the kernel sends only to filesystems on a block device (fuseblk): BMAP, SYNCFS, and DESTROY, for which umount waits. */
import { execFileSync } from 'node:child_process';
import { constants, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { BmapRequest, NodeId } from '../../src/index.ts';
import {
  eventually,
  fuseMountAt,
  mountsUnder,
  negative,
  program,
  run,
  skipLoudly,
  temporaryFolder,
  useLiveMounts,
} from './harness.ts';
import { AskedMemory, liveFilesystem, NO_OPERATIONS } from './operations-live.ts';
import { proveOpcodes } from './proof.ts';

const { O_CREAT, O_RDONLY, O_RDWR, O_DIRECTORY } = constants;
const FIBMAP = 1;
const BLOCK_BYTES = 1024;

class OnDevice extends AskedMemory {
  readonly #ended: () => void;
  synced = 0;

  constructor(ended: () => void = () => {}) {
    super();
    this.#ended = ended;
  }

  bmap(_node: NodeId, { block, blocksize }: BmapRequest): number {
    return block === 9 ? 0 : 1000 + block * (blocksize / BLOCK_BYTES);
  }

  async syncfs(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 20));
    this.synced++;
  }

  destroy(): void {
    this.#ended();
  }
}

/** What the kernel made of `blksize`: from Linux 6.18 on a page, whatever was asked for. */
function blockBytesOf(path: string): number {
  return Number(/blksize=(\d+)/.exec(fuseMountAt(path)?.options ?? '')?.[1]);
}

function whyNoDevice(): string | undefined {
  if (NO_OPERATIONS !== undefined) return NO_OPERATIONS;
  if (program('losetup') === undefined) return 'there is no losetup (Debian: apt install mount)';
  const result = spawnLosetup('-f');
  return result === undefined ? 'there is no free loop device' : undefined;
}

function spawnLosetup(...args: string[]): string | undefined {
  try {
    return execFileSync('losetup', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], timeout: 10_000 }).trim();
  } catch {
    return undefined;
  }
}

describe.skipIf(skipLoudly('fuseblk mounts', whyNoDevice()))('a filesystem on a block device', () => {
  useLiveMounts();

  /** Mounts with a loop device that goes away with the mount. */
  async function mounted(filesystem: OnDevice) {
    const image = join(temporaryFolder('disk'), 'image');
    writeFileSync(image, '');
    truncateSync(image, 1 << 20);
    const device = spawnLosetup('-f', '--show', image);
    if (device === undefined) throw new Error('losetup failed');
    try {
      const live = await liveFilesystem(filesystem, { mountOptions: `blkdev,blksize=${BLOCK_BYTES},fsname=${device}` });
      return { ...live, device };
    } finally {
      // While somebody holds it that is only a promise: it goes with the last one.
      spawnLosetup('-d', device);
    }
  }

  test('is of type fuseblk, with the number of its device as that of the connection', async () => {
    const { path, device, mount, connection } = await mounted(new OnDevice());
    expect(fuseMountAt(path)).toMatchObject({ type: 'fuseblk.fusewire', source: device });
    expect(mount.connection).toBe(connection);
    expect(connection).toBeGreaterThan(2 ** 20);
    expect(blockBytesOf(path)).toBeGreaterThanOrEqual(BLOCK_BYTES);
  });

  test('says where on the device a block of a file is', async () => {
    const { caller, at, calls, path } = await mounted(new OnDevice());
    const blocksize = blockBytesOf(path);
    const blocks = blocksize / BLOCK_BYTES;
    const fd = await caller.open(at('file'), O_CREAT | O_RDWR);
    await caller.ok('ftruncate', fd, 10 * blocksize);
    const block = async (number: number) => {
      const argument = Buffer.alloc(4);
      argument.writeInt32LE(number);
      return (await caller.ok('ioctl', fd, FIBMAP, argument)).memory[0].readInt32LE();
    };
    expect([await block(0), await block(3), await block(9)]).toEqual([1000, 1000 + 3 * blocks, 0]);
    expect(calls('BMAP')).toMatchObject([
      { block: 0, blocksize },
      { block: 3, blocksize },
      { block: 9, blocksize },
    ]);
    proveOpcodes('BMAP');
  });

  test('is synced as a whole: syncfs waits until it has been', async () => {
    const filesystem = new OnDevice();
    const { caller, path } = await mounted(filesystem);
    const fd = await caller.open(path, O_RDONLY | O_DIRECTORY);
    const before = filesystem.synced;
    await caller.ok('syncfs', fd);
    expect(filesystem.synced).toBe(before + 1);
    proveOpcodes('SYNCFS');
  });

  test('is told of the end before umount returns', async () => {
    let ended = false;
    const filesystem = new OnDevice(() => {
      ended = true;
    });
    const { caller, path, mount } = await mounted(filesystem);
    caller.child.stdin.end();
    await caller.end(5000);
    const { code } = await run(['umount', path], { timeoutMs: 10_000 });
    expect(code).toBe(0);
    proveOpcodes('DESTROY');
    await mount.closed;
    expect(ended).toBe(true);
    expect(mountsUnder(path)).toEqual([]);
  });

  test('a busy one is detached, an aborted one does not hold up anybody', async () => {
    const { caller, at, path, mount } = await mounted(new OnDevice());
    const fd = await caller.open(at('file'), O_CREAT | O_RDWR);
    await mount.unmount();
    expect(mountsUnder(path)).toEqual([]);
    expect(await caller.result('fsync', fd)).toBe(negative('ENOTCONN'));
  });

  test('the loop device is free afterwards', async () => {
    const { mount, device } = await mounted(new OnDevice());
    await mount.unmount();
    await eventually(
      () => !(spawnLosetup('-l', '-n', '-O', 'NAME') ?? '').split('\n').includes(device),
      5000,
      () => `${device} is still in use`,
    );
  });

  test('a device that is none cannot be mounted, and the error says so', async () => {
    await expect(liveFilesystem(new OnDevice(), { mountOptions: 'blkdev,fsname=/dev/null' })).rejects.toMatchObject({
      code: 'ERR_FUSEWIRE_MOUNT_FAILED',
      message: expect.stringContaining('/dev/null said ENOTBLK'),
    });
  });
});
