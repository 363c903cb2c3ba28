/** fcntl(2) and flock(2) between processes: waiting, release by close and by kill, interruption, and deadlocks. */
import { constants } from 'node:fs';
import { beforeEach, describe, expect, test } from 'vitest';
import { clientProgram } from '../clients/build.ts';
import { eventually, LineProcess, negative, skipLoudly, useLiveMounts } from './harness.ts';
import { AskedMemory, type Call, Caller, liveFilesystem, NO_OPERATIONS } from './operations-live.ts';
import { prove, proveOpcodes } from './proof.ts';

const { O_CREAT, O_RDWR } = constants;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
const F_GETLK = 5;
const F_SETLK = 6;
const F_SETLKW = 7;
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_OFD_SETLKW = 38;
const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;
const SIGINT = 2;
const LIMIT_MS = 15_000;

/** A struct flock of a 64-bit machine. `length` 0 is to the end. */
function flock(type: number, start = 0, length = 0): Buffer {
  const bytes = Buffer.alloc(32);
  bytes.writeInt16LE(type, 0);
  bytes.writeBigInt64LE(BigInt(start), 8);
  bytes.writeBigInt64LE(BigInt(length), 16);
  return bytes;
}

function flockOf(bytes: Buffer) {
  return {
    type: bytes.readInt16LE(0),
    start: Number(bytes.readBigInt64LE(8)),
    length: Number(bytes.readBigInt64LE(16)),
    pid: bytes.readInt32LE(24),
  };
}

describe.skipIf(skipLoudly('locks', NO_OPERATIONS))('locks', () => {
  useLiveMounts();

  let live: Awaited<ReturnType<typeof liveFilesystem>>;
  /** The one who holds, and the one who wants. */
  let holder: Caller;
  let other: Caller;
  let held: number;
  let wanted: number;

  beforeEach(async () => {
    live = await liveFilesystem(new AskedMemory());
    holder = live.caller;
    other = await Caller.start({ interruptible: true });
    held = await holder.open(live.at('file'), O_CREAT | O_RDWR);
    wanted = await other.open(live.at('file'), O_RDWR);
  });

  /** How many blocking requests have come. */
  const waits = () => live.calls('SETLKW').length;

  /** Begins a call that blocks, and waits until it does. */
  async function blocked(begin: () => Call): Promise<Call> {
    const before = waits();
    const call = begin();
    await eventually(
      () => waits() > before,
      LIMIT_MS,
      () => `${call.text} did not reach the filesystem`,
    );
    expect(call.done).toBe(false);
    return call;
  }

  const isFree = async (caller: Caller, fd: number) => (await caller.result('fcntl', fd, F_SETLK, flock(F_WRLCK))) === 0;

  test('the kernel forwards both kinds', () => {
    expect([...live.mount.negotiated.flags]).toEqual(expect.arrayContaining(['FUSE_POSIX_LOCKS', 'FUSE_FLOCK_LOCKS']));
  });

  test('a range is held against others: they see whose it is, are refused, or wait', async () => {
    expect(await holder.result('fcntl', held, F_SETLK, flock(F_WRLCK, 10, 10))).toBe(0);
    const { memory } = await other.ok('fcntl', wanted, F_GETLK, flock(F_RDLCK));
    expect(flockOf(memory[0])).toEqual({ type: F_WRLCK, start: 10, length: 10, pid: holder.pid });
    expect(await other.result('fcntl', wanted, F_SETLK, flock(F_RDLCK, 15, 1))).toBe(negative('EAGAIN'));
    expect(await other.result('fcntl', wanted, F_SETLK, flock(F_WRLCK, 20, 5))).toBe(0);
    const waiting = await blocked(() => other.begin('fcntl', wanted, F_SETLKW, flock(F_WRLCK, 0, 30)));
    expect(await holder.result('fcntl', held, F_SETLK, flock(F_UNLCK, 10, 10))).toBe(0);
    expect((await waiting.wait()).result).toBe(0);
    const seen = await holder.ok('fcntl', held, F_GETLK, flock(F_WRLCK));
    expect(flockOf(seen.memory[0])).toEqual({ type: F_WRLCK, start: 0, length: 30, pid: other.pid });
    const free = await holder.ok('fcntl', held, F_GETLK, flock(F_WRLCK, 30));
    expect(flockOf(free.memory[0]).type).toBe(F_UNLCK);
    expect(live.calls('SETLKW')).toMatchObject([{ wait: true, flock: false, type: 'write', start: 0, end: 29 }]);
    proveOpcodes('GETLK', 'SETLK', 'SETLKW');
    prove('flag', 'FUSE_POSIX_LOCKS');
  });

  test.each([
    ['unlocks', () => holder.result('fcntl', held, F_SETLK, flock(F_UNLCK))],
    ['closes the file', () => holder.result('close', held)],
    // Any descriptor of the file will do (fcntl(2)).
    ['closes another descriptor of the file', async () => holder.result('close', await holder.open(live.at('file'), O_RDWR))],
    ['is killed', async () => holder.kill('SIGKILL')],
  ])('who waits in fcntl gets the lock when the holder %s', async (_how, release) => {
    await holder.ok('fcntl', held, F_SETLK, flock(F_WRLCK));
    const waiting = await blocked(() => other.begin('fcntl', wanted, F_SETLKW, flock(F_WRLCK)));
    await release();
    expect((await waiting.wait()).result).toBe(0);
    proveOpcodes('SETLKW');
  });

  test.each([
    ['unlocks', () => holder.result('flock', held, LOCK_UN)],
    ['closes the file', () => holder.result('close', held)],
    ['is killed', async () => holder.kill('SIGKILL')],
  ])('who waits in flock gets the lock when the holder %s', async (_how, release) => {
    await holder.ok('flock', held, LOCK_EX);
    expect(await other.result('flock', wanted, LOCK_EX | LOCK_NB)).toBe(negative('EAGAIN'));
    const waiting = await blocked(() => other.begin('flock', wanted, LOCK_EX));
    await release();
    expect((await waiting.wait()).result).toBe(0);
    expect(live.calls('SETLKW').every((one) => one.flock === true)).toBe(true);
    proveOpcodes('SETLKW');
    prove('flag', 'FUSE_FLOCK_LOCKS');
  });

  test('an flock outlives the close of a duplicate, not of the last descriptor', async () => {
    await holder.ok('flock', held, LOCK_EX);
    const duplicate = (await holder.ok('dup', held)).result;
    await holder.ok('close', held);
    expect(await other.result('flock', wanted, LOCK_EX | LOCK_NB)).toBe(negative('EAGAIN'));
    const waiting = await blocked(() => other.begin('flock', wanted, LOCK_EX));
    await holder.ok('close', duplicate);
    expect((await waiting.wait()).result).toBe(0);
    expect(live.calls('RELEASE')).toMatchObject([{ flockUnlock: true }]);
    proveOpcodes('RELEASE');
  });

  test('shared locks are had together', async () => {
    expect([await holder.result('flock', held, LOCK_SH), await other.result('flock', wanted, LOCK_SH)]).toEqual([0, 0]);
    expect(await other.result('flock', wanted, LOCK_EX | LOCK_NB)).toBe(negative('EAGAIN'));
    const both = [holder.result('fcntl', held, F_SETLK, flock(F_RDLCK)), other.result('fcntl', wanted, F_SETLK, flock(F_RDLCK))];
    expect(await Promise.all(both)).toEqual([0, 0]);
  });

  test.each([
    ['fcntl', () => other.begin('fcntl', wanted, F_SETLKW, flock(F_WRLCK))],
    ['flock', () => other.begin('flock', wanted, LOCK_EX)],
    ['an open file description lock', () => other.begin('fcntl', wanted, F_OFD_SETLKW, flock(F_WRLCK))],
  ])('a signal ends the wait in %s with EINTR, and the lock is not had', async (what, begin) => {
    const isFlock = what === 'flock';
    if (isFlock) await holder.ok('flock', held, LOCK_EX);
    else await holder.ok('fcntl', held, F_SETLK, flock(F_WRLCK));
    const waiting = await blocked(begin);
    process.kill(other.pid, SIGINT);
    expect((await waiting.wait()).result).toBe(negative('EINTR'));
    // The holder gives it up, takes it again, and nobody was in between.
    if (isFlock) {
      await holder.ok('flock', held, LOCK_UN);
      expect(await holder.result('flock', held, LOCK_EX | LOCK_NB)).toBe(0);
    } else {
      await holder.ok('fcntl', held, F_SETLK, flock(F_UNLCK));
      expect(await isFree(holder, held)).toBe(true);
    }
    proveOpcodes('INTERRUPT');
  });

  test.each([
    ['fcntl', (fd: string) => ['fcntl', fd, String(F_SETLKW), `x:${flock(F_WRLCK).toString('hex')}`]],
    ['flock', (fd: string) => ['flock', fd, String(LOCK_EX)]],
  ])('Ctrl-C in a terminal ends a program that waits in %s', async (what, words) => {
    if (what === 'flock') await holder.ok('flock', held, LOCK_EX);
    else await holder.ok('fcntl', held, F_SETLK, flock(F_WRLCK));
    const terminal = new LineProcess([clientProgram('terminal'), clientProgram('call')]);
    const reply = (start: string) => terminal.line((line) => line.startsWith(start), LIMIT_MS, `a line ${start}`);
    await reply('ready');
    terminal.send(`a openat -100 s:${Buffer.from(live.at('file')).toString('hex')} ${O_RDWR} 0`);
    const fd = (await reply('a ')).trim().split(' ')[1];
    const before = waits();
    terminal.send(['b', ...words(fd)].join(' '));
    await eventually(
      () => waits() > before,
      LIMIT_MS,
      () => 'it does not wait',
    );
    const began = performance.now();
    terminal.send('interrupt');
    expect((await reply('signal')).trim()).toBe(`signal ${SIGINT}`);
    // The holder still has the lock: nothing but the signal ended the wait.
    expect(performance.now() - began).toBeLessThan(LIMIT_MS);
    if (what === 'flock') await holder.ok('flock', held, LOCK_UN);
    else await holder.ok('fcntl', held, F_SETLK, flock(F_UNLCK));
    expect(await isFree(other, wanted)).toBe(true);
    proveOpcodes('INTERRUPT');
  });

  test('a process that is killed while it waits is gone at once, and never gets the lock', async () => {
    await holder.ok('fcntl', held, F_SETLK, flock(F_WRLCK));
    await blocked(() => other.begin('fcntl', wanted, F_SETLKW, flock(F_WRLCK)));
    other.kill('SIGKILL');
    expect((await other.end(LIMIT_MS)).signal).toBe('SIGKILL');
    const third = await Caller.start();
    const fd = await third.open(live.at('file'), O_RDWR);
    await holder.ok('close', held);
    expect(await isFree(third, fd)).toBe(true);
    proveOpcodes('INTERRUPT');
  });

  test('locks of open file descriptions exclude each other within one process, and end with the description', async () => {
    const second = await holder.open(live.at('file'), O_RDWR);
    expect(await holder.result('fcntl', held, F_OFD_SETLK, flock(F_WRLCK, 0, 8))).toBe(0);
    expect(await holder.result('fcntl', second, F_OFD_SETLK, flock(F_WRLCK, 4, 8))).toBe(negative('EAGAIN'));
    const { memory } = await holder.ok('fcntl', second, F_OFD_GETLK, flock(F_WRLCK));
    expect(flockOf(memory[0])).toMatchObject({ type: F_WRLCK, start: 0, length: 8 });
    const waiting = await blocked(() => other.begin('fcntl', wanted, F_OFD_SETLKW, flock(F_WRLCK)));
    // The close of another descriptor of the file does not end them, as it would end the process's own.
    await holder.ok('close', second);
    expect(waiting.done).toBe(false);
    await holder.ok('close', held);
    expect((await waiting.wait()).result).toBe(0);
    proveOpcodes('GETLK', 'SETLK', 'SETLKW');
  });

  test('two who would wait for each other for ever: the second is told EDEADLK', async () => {
    await holder.ok('fcntl', held, F_SETLK, flock(F_WRLCK, 0, 1));
    await other.ok('fcntl', wanted, F_SETLK, flock(F_WRLCK, 1, 1));
    const waiting = await blocked(() => other.begin('fcntl', wanted, F_SETLKW, flock(F_WRLCK, 0, 1)));
    expect(await holder.result('fcntl', held, F_SETLKW, flock(F_WRLCK, 1, 1))).toBe(negative('EDEADLK'));
    await holder.ok('fcntl', held, F_SETLK, flock(F_UNLCK));
    expect((await waiting.wait()).result).toBe(0);
  });
});
