/**
 * Synchronous INIT (FUSE_DEV_IOC_SYNC_INIT, Linux 6.18): mount(2) returns when INIT was answered, and fails when that failed. So
 * it must wait on another thread than the one that answers.
 */
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Addon, toBinary } from '../native/index.ts';
import { FUSE_DEV_IOC_SYNC_INIT } from '../protocol/index.ts';
import { entryOf, type InitializeOptions, refuseNext, startWorker } from '../session/index.ts';
import { connectionOf } from './connection.ts';

/** Elements of the shared state. */
export const STATE = 0;
export const RESULT = 1;

export const STATE_READY = 0;
export const STATE_CALLING = 1;
export const STATE_GIVEN_UP = 2;
export const STATE_RETURNED = 3;

/** What mount(2) takes, all strings binary. */
export interface MountCall {
  readonly source: string;
  readonly target: string;
  readonly type: string;
  readonly flags: number;
  readonly data: string;
}

/** What the thread is started with. */
export interface MountArguments extends MountCall {
  /** How far the call has come, then its result. */
  readonly state: Int32Array<SharedArrayBuffer>;
}

/** What tells how far the mount is: see {@link InitializeOptions}. */
export type Progress = Required<Pick<InitializeOptions, 'isAttached' | 'signal'>>;

/** Answers INIT, and does whatever else the mount needs before its first caller. */
export type Begin = (fd: number, progress: Progress) => Promise<void>;

const MNT_DETACH = 2;
/** How long the end of the process waits for a mount(2) that it refuses. */
const EXIT_MS = 2000;
const STEP_MS = 5;
const { ENOTCONN } = constants.errno;

/** Asks for synchronous INIT on a device that is not mounted yet. False where the kernel has none. */
export function wantSynchronousInit(addon: Addon, fd: number): boolean {
  return addon.ioctlInteger(fd, FUSE_DEV_IOC_SYNC_INIT, 0) === 0;
}

/**
 * mount(2) on a thread of its own, while `begin` answers INIT on this one. Resolves with the result of mount(2) when both are done;
 * when `begin` rejects, nothing is left mounted, and this rejects as `begin` did.
 */
export async function mountSynchronously(addon: Addon, fd: number, call: MountCall, begin: Begin): Promise<number> {
  const state = new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT));
  const onExit = () => endWithProcess(addon, fd, call, state);
  process.once('exit', onExit);
  try {
    const unmounted = new AbortController();
    const mounted = callInThread(call, state).finally(() => {
      if (Atomics.load(state, STATE) !== STATE_RETURNED || Atomics.load(state, RESULT) < 0) unmounted.abort();
    });
    const begun = begin(fd, { isAttached: () => isAttached(fd), signal: unmounted.signal }).catch(async (error) => {
      await refuseMount(addon, fd, state, unmounted.signal);
      throw error;
    });
    const [mount, beginning] = await Promise.allSettled([mounted, begun]);
    const result = mount.status === 'fulfilled' ? mount.value : undefined;
    // A mount(2) that failed by itself explains why nothing could begin; ENOTCONN is how it tells that INIT failed.
    const failedByItself = result !== undefined && result < 0 && result !== -ENOTCONN;
    if (beginning.status === 'rejected' && !failedByItself) {
      if (result === 0) addon.umount(call.target, MNT_DETACH);
      throw beginning.reason;
    }
    if (mount.status === 'rejected') throw mount.reason;
    return mount.value;
  } finally {
    process.off('exit', onExit);
  }
}

/** /proc tells without touching the device, which would sleep. */
function isAttached(fd: number): boolean {
  return connectionOf(fd) !== undefined;
}

function callInThread(call: MountCall, state: MountArguments['state']): Promise<number> {
  const worker = startWorker(entryOf(import.meta.url, './mount-thread'), {
    workerData: { state, ...call } satisfies MountArguments,
    name: 'fusewire mount',
  });
  return new Promise<number>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', () => reject(new Error('the thread of mount(2) ended before the call')));
  });
}

/** Sees to it that the thread ends: it never calls mount(2) any more, or gets errors for what it waits for. */
async function refuseMount(addon: Addon, fd: number, state: Int32Array, ended: AbortSignal): Promise<void> {
  if (Atomics.compareExchange(state, STATE, STATE_READY, STATE_GIVEN_UP) === STATE_READY) return;
  while (!ended.aborted && Atomics.load(state, STATE) !== STATE_RETURNED) {
    if (isAttached(fd)) refuseNext(addon, fd);
    await sleep(STEP_MS);
  }
}

/** The process ends: a thread that waits in mount(2) would keep it from that. */
function endWithProcess(addon: Addon, fd: number, call: MountCall, state: Int32Array): void {
  if (Atomics.compareExchange(state, STATE, STATE_READY, STATE_GIVEN_UP) === STATE_READY) return;
  const deadline = Date.now() + EXIT_MS;
  while (Atomics.load(state, STATE) !== STATE_RETURNED && Date.now() < deadline) {
    if (isAttached(fd)) refuseNext(addon, fd);
    Atomics.wait(state, STATE, STATE_CALLING, STEP_MS);
  }
  if (Atomics.load(state, STATE) === STATE_RETURNED && Atomics.load(state, RESULT) === 0) addon.umount(call.target, MNT_DETACH);
}

/** The arguments of mount(2) as they travel. */
export function mountCall(source: string, target: string, type: string, flags: number, data: string): MountCall {
  return { source: toBinary(source), target: toBinary(target), type: toBinary(type), flags, data: toBinary(data) };
}
