/** poll(2), select(2) and epoll(7): the first question, the wait, and the wake-up by NOTIFY_POLL. */
import { constants } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Kernel, Negotiated, NodeId, OpenReply, PollRequest } from '../../src/index.ts';
import { eventually, skipLoudly, useLiveMounts } from './harness.ts';
import { AskedMemory, type Caller, liveFilesystem, NO_OPERATIONS } from './operations-live.ts';
import { prove, proveOpcodes } from './proof.ts';

const { O_CREAT, O_RDWR } = constants;
const POLLIN = 0x1;
const POLLPRI = 0x2;
const POLLOUT = 0x4;
const EPOLL_CTL_ADD = 1;
const EPOLLET = 0x8000_0000;

/** Files that become ready when the test says so. */
class Bells extends AskedMemory {
  readonly #ready = new Map<number, number>();
  /** Who waits for which file. */
  readonly #waiting = new Map<number, [low: number, high: number]>();
  #kernel: Kernel | undefined;

  override init(negotiated: Negotiated, kernel?: Kernel): void {
    super.init(negotiated);
    this.#kernel = kernel;
  }

  override open(...args: Parameters<AskedMemory['open']>): OpenReply {
    return { ...super.open(...args), directIo: true };
  }

  poll(node: NodeId, { notify, pollHandleLow, pollHandleHigh, events }: PollRequest): number {
    if (notify) this.#waiting.set(node, [pollHandleLow, pollHandleHigh]);
    return (this.#ready.get(node) ?? 0) & events;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Sets what a file is ready for, and wakes who waits. */
  async ring(node: number, events: number): Promise<void> {
    this.#ready.set(node, events);
    const handle = this.#waiting.get(node);
    this.#waiting.delete(node);
    if (handle !== undefined) await this.#kernel!.wakePoll(...handle);
  }
}

function pollfd(fd: number, events: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeInt32LE(fd, 0);
  bytes.writeInt16LE(events, 4);
  return bytes;
}

/** A struct epoll_event of any architecture: the events stand first. */
function epollEvent(events: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt32LE(events >>> 0);
  return bytes;
}

describe.skipIf(skipLoudly('poll', NO_OPERATIONS))('poll', () => {
  useLiveMounts();

  async function withBell() {
    const bells = new Bells();
    const live = await liveFilesystem(bells);
    const fd = await live.caller.open(live.at('bell'), O_CREAT | O_RDWR);
    const node = [...bells.lookupCounts()].map(([one]) => one).at(-1)!;
    const someoneWaits = () =>
      eventually(
        () => bells.waiting > 0,
        5000,
        () => 'nobody waits',
      );
    return { ...live, bells, fd, node, someoneWaits };
  }

  test('what is ready at once is said at once, of what was asked for', async () => {
    const { caller, bells, fd, node, calls } = await withBell();
    await bells.ring(node, POLLIN | POLLOUT);
    // With a time limit of nothing, nobody wants to be woken.
    const { result, memory } = await caller.ok('ppoll', pollfd(fd, POLLIN | POLLPRI), 1, Buffer.alloc(16), 0, 8);
    expect([result, memory[0].readInt16LE(6)]).toEqual([1, POLLIN]);
    expect(calls('POLL')).toMatchObject([{ notify: false }]);
    expect((calls('POLL')[0].events as number) & POLLIN).toBe(POLLIN);
    proveOpcodes('POLL');
  });

  test('poll waits until it is woken, and asks again', async () => {
    const { caller, bells, fd, node, calls, someoneWaits } = await withBell();
    const waiting = caller.begin('ppoll', pollfd(fd, POLLIN), 1, 0, 0, 8);
    await someoneWaits();
    const asked = calls('POLL').length;
    expect(calls('POLL').at(-1)).toMatchObject({ notify: true });
    // Woken for nothing it sleeps on.
    await bells.ring(node, POLLOUT);
    await someoneWaits();
    expect(waiting.done).toBe(false);
    await bells.ring(node, POLLIN);
    const { result, memory } = await waiting.wait();
    expect([result, memory[0].readInt16LE(6)]).toEqual([1, POLLIN]);
    expect(calls('POLL').length).toBeGreaterThan(asked + 1);
    proveOpcodes('POLL');
    prove('notification', 'POLL');
  });

  test('a time limit ends the wait without the filesystem', async () => {
    const { caller, fd, someoneWaits } = await withBell();
    const limit = Buffer.alloc(16);
    limit.writeBigInt64LE(100_000_000n, 8);
    const waiting = caller.begin('ppoll', pollfd(fd, POLLIN), 1, limit, 0, 8);
    await someoneWaits();
    expect((await waiting.wait()).result).toBe(0);
  });

  test('select waits and is woken', async () => {
    const { caller, bells, fd, node, someoneWaits } = await withBell();
    const set = Buffer.alloc(128);
    set[fd >> 3] = 1 << (fd & 7);
    const waiting = caller.begin('pselect6', fd + 1, set, 0, 0, 0, 0);
    await someoneWaits();
    expect(waiting.done).toBe(false);
    await bells.ring(node, POLLIN);
    const { result, memory } = await waiting.wait();
    expect([result, memory[0][fd >> 3]]).toEqual([1, 1 << (fd & 7)]);
    proveOpcodes('POLL');
    prove('notification', 'POLL');
  });

  test.each([
    ['level', 0],
    ['edge', EPOLLET],
  ])('epoll waits and is woken (%s-triggered)', async (_how, extra) => {
    const { caller, bells, fd, node, someoneWaits } = await withBell();
    const epoll = (await caller.ok('epoll_create1', 0)).result;
    await caller.ok('epoll_ctl', epoll, EPOLL_CTL_ADD, fd, epollEvent(POLLIN | extra));
    const wait = (one: Caller) => one.begin('epoll_pwait', epoll, epollEvent(0), 1, -1, 0, 8);
    for (let round = 0; round < 2; round++) {
      const waiting = wait(caller);
      await someoneWaits();
      expect(waiting.done).toBe(false);
      await bells.ring(node, POLLIN);
      const { result, memory } = await waiting.wait();
      expect([result, memory[0].readUInt32LE() & POLLIN]).toEqual([1, POLLIN]);
      // The next question finds it quiet again, and leaves word to be woken.
      await bells.ring(node, 0);
      if (extra === 0) expect(await caller.result('epoll_pwait', epoll, epollEvent(0), 1, 0, 0, 8)).toBe(0);
      else await caller.ok('ppoll', pollfd(fd, POLLIN), 1, Buffer.alloc(16), 0, 8);
    }
    proveOpcodes('POLL');
    prove('notification', 'POLL');
  });

  test('without the method every file is always ready', async () => {
    const { caller, at } = await liveFilesystem(new AskedMemory());
    const fd = await caller.open(at('file'), O_CREAT | O_RDWR);
    const { result, memory } = await caller.ok('ppoll', pollfd(fd, POLLIN | POLLOUT), 1, 0, 0, 8);
    expect([result, memory[0].readInt16LE(6)]).toEqual([1, POLLIN | POLLOUT]);
  });
});
