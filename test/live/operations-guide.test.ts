/** The filesystems of the guide's pages on ioctl, poll, locks and notifications, as they stand there, on a mount. */
import { constants } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Filesystem } from '../../src/index.ts';
import { blocksOf, fileOf, isCode, writeBlocks } from '../unit/docs-blocks.ts';
import { eventually, negative, runWell, skipLoudly, useLiveMounts } from './harness.ts';
import { AT_FDCWD, Caller, liveFilesystem, NO_OPERATIONS } from './operations-live.ts';

const { O_RDONLY, O_RDWR } = constants;
const POLLIN = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;
const LIMIT_MS = 15_000;

const blocks = ['ioctl', 'poll', 'locks', 'notifications'].flatMap((name) => blocksOf(`docs/guide/${name}.md`)).filter(isCode);

describe.skipIf(skipLoudly('the guide on single operations', NO_OPERATIONS))('the guide on', () => {
  let written: ReturnType<typeof writeBlocks>;
  beforeAll(() => {
    written = writeBlocks(blocks);
  });
  afterAll(() => written.remove());
  useLiveMounts();

  async function moduleOf<Module>(file: string): Promise<Module> {
    const block = blocks.find((one) => one.file === file)!;
    return (await import(/* @vite-ignore */ pathToFileURL(join(written.folder, fileOf(block))).href)) as Module;
  }
  const filesystemOf = async (file: string) => (await moduleOf<{ default: Filesystem }>(file)).default;

  test('ioctl', async () => {
    const { caller, at } = await liveFilesystem(await filesystemOf('ioctl.ts'));
    const fd = await caller.open(at('counter'), O_RDWR);
    const add = async (value: bigint) => {
      const argument = Buffer.alloc(8);
      argument.writeBigUInt64LE(value);
      return (await caller.ok('ioctl', fd, 0xc0084301, argument)).memory[0].readBigUInt64LE();
    };
    expect([await add(40n), await add(2n)]).toEqual([40n, 42n]);
    expect(await caller.result('ioctl', fd, 0x4302, 0)).toBe(42);
    expect(await add(1n)).toBe(1n);
    expect(await caller.result('ioctl', fd, 0x4303, 0)).toBe(negative('ENOTTY'));
  });

  test('poll', async () => {
    const { caller, at, calls } = await liveFilesystem(await filesystemOf('poll.ts'));
    const reader = await caller.open(at('mailbox'), O_RDWR);
    const pollfd = Buffer.alloc(8);
    pollfd.writeInt32LE(reader);
    pollfd.writeInt16LE(POLLIN, 4);
    const waiting = caller.begin('ppoll', pollfd, 1, 0, 0, 8);
    await eventually(
      () => calls('POLL').some(({ notify }) => notify === true),
      LIMIT_MS,
      () => 'nobody waits',
    );
    expect(waiting.done).toBe(false);
    const writer = await Caller.start();
    await writer.ok('write', await writer.open(at('mailbox'), O_RDWR), Buffer.from('a letter'), 8);
    expect((await waiting.wait()).memory[0].readInt16LE(6)).toBe(POLLIN);
    const { result, memory } = await caller.ok('read', reader, Buffer.alloc(32), 32);
    expect(memory[0].toString('latin1', 0, result)).toBe('a letter');
  });

  test('locks', async () => {
    const { caller, at, calls } = await liveFilesystem(await filesystemOf('locks.ts'));
    const other = await Caller.start({ interruptible: true });
    const [held, wanted] = [await caller.open(at('door'), O_RDWR), await other.open(at('door'), O_RDWR)];
    await caller.ok('flock', held, LOCK_EX);
    expect(await other.result('flock', wanted, LOCK_EX | LOCK_NB)).toBe(negative('EAGAIN'));
    const waits = (count: number) =>
      eventually(
        () => calls('SETLKW').length === count,
        LIMIT_MS,
        () => 'nobody waits',
      );
    // The first lock came as a waiting one, too.
    const before = calls('SETLKW').length;
    const interrupted = other.begin('flock', wanted, LOCK_EX);
    await waits(before + 1);
    process.kill(other.pid, 'SIGINT');
    expect((await interrupted.wait()).result).toBe(negative('EINTR'));
    const waiting = other.begin('flock', wanted, LOCK_EX);
    await waits(before + 2);
    caller.kill('SIGKILL');
    expect((await waiting.wait()).result).toBe(0);
    await other.ok('flock', wanted, LOCK_UN);
  });

  test('notifications', async () => {
    const { Source, mirror } = await moduleOf<{
      Source: new () => { set(name: string, text: string): void; remove(name: string): void };
      mirror(source: unknown): Filesystem;
    }>('notifications.ts');
    const source = new Source();
    source.set('news', 'old');
    const { caller, at } = await liveFilesystem(mirror(source));
    const read = () => runWell(['cat', at('news')], { timeoutMs: LIMIT_MS });
    expect(await read()).toBe('old');
    source.set('news', 'newer');
    await eventually(
      async () => (await read()) === 'newer',
      LIMIT_MS,
      () => 'the old text is still read',
    );
    source.remove('news');
    await eventually(
      async () => (await caller.result('openat', AT_FDCWD, at('news'), O_RDONLY, 0)) === negative('ENOENT'),
      LIMIT_MS,
      () => 'the name is still found',
    );
    source.set('news', 'again');
    await eventually(
      async () => (await caller.result('openat', AT_FDCWD, at('news'), O_RDONLY, 0)) >= 0,
      LIMIT_MS,
      () => 'the name is not found',
    );
  });
});
