/**
 * The worker pool: threads that each own a channel of one connection and serve it with their own instance of the author's
 * module. The main thread stays free; it starts them, carries interrupts between them, replaces one that dies, and ends them.
 */

import type { Worker } from 'node:worker_threads';
import type { Addon } from '../native/index.ts';
import { type ChannelMode, type CloseReason, type RingPlace, receiveBytesFor, type TraceFile } from '../transport/index.ts';
import type { Claim } from './claim.ts';
import { reportFault } from './diagnostics.ts';
import { guard } from './guard.ts';
import type { MountLimits } from './limits.ts';
import type { Capabilities, Negotiated } from './negotiate.ts';
import type { NotifyWriter } from './notify.ts';
import { nudgeQueues } from './nudge.ts';
import type { TraceStart } from './recording.ts';
import { newCounters, type SessionCounters } from './session.ts';
import { startWorker } from './worker-entry.ts';

/** What a worker is started with. Plain data. */
export interface WorkerStart {
  module: string;
  options: unknown;
  shared: unknown;
  index: number;
  workers: number;
  mode: ChannelMode;
  limits: MountLimits;
  trace: TraceStart | undefined;
}

/** From the pool to a worker. */
export type ToWorker =
  | { type: 'serve'; fd: number; negotiated: Negotiated; ring: RingPlace | undefined; backing: number | undefined }
  | { type: 'interrupt'; uniqueLow: number; uniqueHigh: number }
  | { type: 'counters'; ticket: number }
  | { type: 'notified'; ticket: number; result: number }
  | { type: 'retrieved'; id: number; data: Uint8Array }
  | { type: 'take'; message: Uint8Array; claim: Claim }
  | { type: 'flush' }
  | { type: 'drain'; timeoutMs: number };

/** From a worker to the pool. */
export type FromWorker =
  | { type: 'loaded'; capabilities: Capabilities }
  | { type: 'failed'; code: string; message: string; stack: string | undefined }
  | { type: 'cloned'; threadId: number; fd: number }
  | { type: 'serving' }
  | { type: 'interrupt'; uniqueLow: number; uniqueHigh: number }
  | { type: 'counters'; ticket: number; counters: SessionCounters }
  | { type: 'notify'; ticket: number; message: Uint8Array }
  | { type: 'retrieved'; source: number; id: number; data: Uint8Array }
  | { type: 'closed'; reason: CloseReason; errno: number };

export interface PoolOptions {
  /** The script that every worker runs. */
  entry: URL;
  /** The author's module, a file URL. */
  module: string;
  options: unknown;
  shared: unknown;
  /** 1 to 64. */
  workers: number;
  mode: ChannelMode;
  /** Of the pool, and of each worker's channel and session. */
  limits: MountLimits;
  addon: Addon;
  /** Where every worker records its channel, if anywhere. Stays the caller's. */
  trace?: TraceFile | undefined;
  /** Writes a worker's notifications, off its thread. */
  notify: NotifyWriter;
  /** The answer to a RETRIEVE of the main thread reached a worker. */
  onRetrieved: (id: number, data: Uint8Array) => void;
}

/** A worker could not load its module, or died too often. */
export class WorkerFailure extends Error {
  override readonly name = 'WorkerFailure';
  readonly code: string;

  constructor(code: string, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}

interface Member {
  readonly worker: Worker;
  readonly index: number;
  threadId: number;
  fd: number;
  closed: boolean;
  /** Whether it was asked for a sign of life and owes it. */
  isAsked: boolean;
  /** Takes it out of the guard's sight. */
  unguard: () => void;
  /** Counts of the worker when last asked. */
  counters: SessionCounters | undefined;
  /** What ended the thread, when it told. */
  error: unknown;
  loaded: Promise<Capabilities>;
}

/** The place of a worker; those that start together take turns. */
function placeOf(first: RingPlace, index: number, of: number, word: Int32Array<SharedArrayBuffer> | undefined): RingPlace {
  const place = { ...first, key: first.key + index };
  return word === undefined || of === 1 ? place : { ...place, turns: { word, index, of } };
}

/** What every worker serves. */
interface Served {
  fd: number;
  negotiated: Negotiated;
  /** The place of the first worker. */
  ring: RingPlace | undefined;
  /** The table of open inodes, where FUSE_PASSTHROUGH is in force. */
  backing: number | undefined;
}

export interface PoolEnd {
  reason: CloseReason;
  errno: number;
}

export class WorkerPool {
  /** Settles when the connection ended: every worker's channel is closed. Rejects with {@link WorkerFailure}. */
  readonly ended: Promise<PoolEnd>;
  #resolveEnded!: (end: PoolEnd) => void;
  #rejectEnded!: (error: WorkerFailure) => void;
  readonly #options: PoolOptions;
  readonly #members: (Member | undefined)[] = [];
  readonly #restarts: number[] = [];
  readonly #tickets = new Map<number, (counters: SessionCounters) => void>();
  #nextTicket = 1;
  #served: Served | undefined;
  #ending = false;
  readonly #trace: TraceStart | undefined;
  #flushTimer: NodeJS.Timeout | undefined;
  #busyTimer: NodeJS.Timeout | undefined;

  constructor(options: PoolOptions) {
    this.#options = options;
    const { trace, workers } = options;
    if (trace !== undefined) this.#trace = { file: trace, states: new Int32Array(new SharedArrayBuffer(4 * workers)) };
    this.ended = new Promise((resolve, reject) => {
      this.#resolveEnded = resolve;
      this.#rejectEnded = reject;
    });
    this.ended.catch(() => {});
  }

  /** Starts the workers and loads the module in each. Answers what it can do; rejects with {@link WorkerFailure}. */
  async load(): Promise<Capabilities> {
    for (let index = 0; index < this.#options.workers; index++) this.#members[index] = this.#start(index);
    try {
      const all = await Promise.all(this.#members.map((member) => member!.loaded));
      return all[0];
    } catch (error) {
      await this.terminate();
      throw error;
    }
  }

  /**
   * Lets every worker serve a connection; `fd` is an attached device descriptor, which stays the caller's. Resolves when all
   * of them do; rejects with {@link WorkerFailure} when one cannot.
   */
  async serve(fd: number, negotiated: Negotiated, ring?: RingPlace): Promise<void> {
    const backing = negotiated.flags.has('FUSE_PASSTHROUGH') ? this.#options.addon.backingTable() : undefined;
    const served = { fd, negotiated, ring, backing };
    this.#served = served;
    this.#watchRecorders();
    this.#watchTurns();
    const turns = new Int32Array(new SharedArrayBuffer(4));
    await Promise.all(this.#members.map((member) => this.#serving(member!, served, turns)));
  }

  /** Sum of the counters of all workers; those that do not answer in time are left out. */
  async counters(timeoutMs = 1000): Promise<SessionCounters> {
    const counts = await Promise.all(
      this.#members.map((member) => (member === undefined ? undefined : this.#ask(member, timeoutMs))),
    );
    const sum = newCounters();
    for (const one of counts) {
      if (one === undefined) continue;
      for (const key of Object.keys(sum) as (keyof SessionCounters)[]) sum[key] += one[key];
    }
    return sum;
  }

  /** Asks every worker to finish what is pending and close its channel; waits for that, then ends the threads. */
  async stop(timeoutMs: number): Promise<void> {
    this.#ending = true;
    for (const member of this.#members) {
      if (member === undefined || member.closed) continue;
      this.#tell(member, { type: 'drain', timeoutMs });
    }
    const waited = new Promise<void>((resolve) => setTimeout(resolve, timeoutMs + 500).unref());
    await Promise.race([this.ended.catch(() => {}), waited]);
    await this.terminate();
  }

  /** Ends the threads at once. */
  async terminate(): Promise<void> {
    this.#ending = true;
    clearInterval(this.#flushTimer);
    clearInterval(this.#busyTimer);
    await Promise.all(
      this.#members.map(async (member) => {
        if (member === undefined) return;
        this.#wake(member);
        await member.worker.terminate();
      }),
    );
    const { ring, backing } = this.#served ?? {};
    if (backing !== undefined) this.#options.addon.backingEnd(backing);
    if (ring !== undefined) for (const index of this.#members.keys()) this.#options.addon.ringForget(ring.key + index);
  }

  #start(index: number): Member {
    const { entry, module, options, shared, workers, mode, limits } = this.#options;
    const trace = this.#trace;
    const worker = startWorker(entry, {
      workerData: { module, options, shared, index, workers, mode, limits, trace } satisfies WorkerStart,
      name: `fusewire ${index}`,
      ...(limits.workerHeapMiB === undefined ? {} : { resourceLimits: { maxOldGenerationSizeMb: limits.workerHeapMiB } }),
    });
    const member: Member = {
      worker,
      index,
      threadId: 0,
      fd: -1,
      closed: false,
      isAsked: false,
      unguard: () => {},
      counters: undefined,
      error: undefined,
      loaded: this.#loading(worker),
    };
    member.loaded.catch(() => {});
    worker.on('message', (message: FromWorker) => this.#onMessage(member, message));
    worker.on('error', (error) => {
      member.error = error;
    });
    worker.on('exit', () => this.#onExit(member));
    return member;
  }

  /** A worker that sleeps in the kernel has no timers: this thread tells it when what it recorded has waited long enough. */
  #watchRecorders(): void {
    const trace = this.#trace;
    if (trace === undefined || this.#flushTimer !== undefined) return;
    const { states, file } = trace;
    const before = new Int32Array(states.length);
    this.#flushTimer = setInterval(() => {
      for (const member of this.#members) {
        if (member === undefined || member.closed) continue;
        const state = Atomics.load(states, member.index);
        // Odd, and no other number than last time: something waits, and nothing was written since.
        if ((state & 1) === 1 && state === before[member.index]) this.#tell(member, { type: 'flush' });
        before[member.index] = state;
      }
    }, file.flushMs / 2).unref();
  }

  /** A worker in a long loop, or asleep in a synchronous call, reports nothing itself: this thread asks each for a sign of life. */
  #watchTurns(): void {
    const slowMs = this.#options.limits.slowMs ?? 30_000;
    if (slowMs <= 0 || this.#busyTimer !== undefined) return;
    this.#busyTimer = setInterval(() => {
      for (const member of this.#members) {
        if (member === undefined || member.closed || member.threadId === 0 || member.isAsked) continue;
        member.isAsked = true;
        this.#ask(member, slowMs, () => this.#reportBusy(member, slowMs)).then(() => {
          member.isAsked = false;
        });
      }
    }, slowMs).unref();
  }

  #reportBusy(member: Member, slowMs: number): void {
    if (member.closed || this.#ending) return;
    reportFault({
      kind: 'worker-busy',
      operation: '',
      nodeid: 0,
      pid: member.threadId,
      message: `worker ${member.index} has not come back to its event loop for more than ${slowMs} ms; its callers wait`,
    });
  }

  #loading(worker: Worker): Promise<Capabilities> {
    return new Promise((resolve, reject) => {
      const limitMs = this.#options.limits.loadTimeoutMs ?? 30_000;
      const fail = (message: string, cause?: unknown) => {
        clearTimeout(timer);
        reject(new WorkerFailure('ERR_FUSEWIRE_WORKER_LOAD', message, cause));
      };
      const timer = setTimeout(() => fail(`a worker did not load ${this.#options.module} within ${limitMs} ms`), limitMs);
      worker.on('message', (message: FromWorker) => {
        if (message.type === 'loaded') {
          clearTimeout(timer);
          resolve(message.capabilities);
        } else if (message.type === 'failed') {
          clearTimeout(timer);
          const error = new WorkerFailure(message.code, message.message);
          if (message.stack !== undefined) error.stack = message.stack;
          reject(error);
        }
      });
      worker.once('error', (error) =>
        fail(`a worker failed while loading ${this.#options.module}: ${(error as Error).message}`, error),
      );
      worker.once('exit', (code) => fail(`a worker ended (exit ${code}) while loading ${this.#options.module}`));
    });
  }

  #serving(
    member: Member,
    { fd, negotiated, ring: first, backing }: Served,
    turns?: Int32Array<SharedArrayBuffer>,
  ): Promise<void> {
    const ring = first && placeOf(first, member.index, this.#members.length, turns);
    return new Promise((resolve, reject) => {
      const { worker } = member;
      const done = (error?: WorkerFailure) => {
        worker.off('message', onMessage);
        worker.off('exit', onExit);
        if (error === undefined) resolve();
        else reject(error);
      };
      const onMessage = (message: FromWorker) => {
        if (message.type === 'serving') done();
        else if (message.type === 'failed') done(new WorkerFailure(message.code, message.message));
      };
      const onExit = () => done(new WorkerFailure('ERR_FUSEWIRE_WORKER_DIED', 'a worker ended before it could serve'));
      worker.on('message', onMessage);
      worker.on('exit', onExit);
      worker.postMessage({ type: 'serve', fd, negotiated, ring, backing } satisfies ToWorker);
    });
  }

  #onMessage(member: Member, message: FromWorker): void {
    if (message.type === 'cloned') {
      member.threadId = message.threadId;
      member.fd = message.fd;
      this.#guard(member);
    } else if (message.type === 'interrupt') {
      for (const other of this.#members) {
        if (other !== undefined && other !== member) other.worker.postMessage(message);
      }
    } else if (message.type === 'counters') {
      member.counters = message.counters;
      this.#tickets.get(message.ticket)?.(message.counters);
      this.#tickets.delete(message.ticket);
    } else if (message.type === 'notify') {
      const { ticket } = message;
      this.#options.notify(message.message).then((result) => this.#tell(member, { type: 'notified', ticket, result }));
    } else if (message.type === 'retrieved') {
      this.#passRetrieved(message);
    } else if (message.type === 'closed') {
      member.closed = true;
      member.unguard();
      this.#endWhenAllClosed(message);
    }
  }

  /** A worker that sleeps in a call on its own mount is helped; one that serves by a ring cannot be. */
  #guard(member: Member): void {
    const served = this.#served;
    if (served === undefined || served.ring !== undefined) return;
    const { maxWrite, maxPages } = served.negotiated;
    const thread = {
      threadId: member.threadId,
      fd: member.fd,
      receiveBytes: receiveBytesFor({ maxWriteBytes: maxWrite, maxPages }),
      ping: () => this.#pong(member),
      take: (message: Uint8Array, claim: Claim) => this.#tell(member, { type: 'take', message, claim }),
    };
    member.unguard = guard(thread, this.#options.limits.guardMs);
  }

  /** The kernel gives NOTIFY_REPLY to any reader; its source says who asked: 0 the main thread, else a worker. */
  #passRetrieved({ source, id, data }: Extract<FromWorker, { type: 'retrieved' }>): void {
    if (source === 0) this.#options.onRetrieved(id, data);
    const asker = this.#members[source - 1];
    if (asker !== undefined) this.#tell(asker, { type: 'retrieved', id, data });
  }

  /** A thread that ended without closing its channel: its unanswered requests fail when its descriptor is closed. */
  #onExit(member: Member): void {
    if (member.closed) return;
    member.closed = true;
    member.unguard();
    if (member.fd >= 0) this.#options.addon.close(member.fd);
    if (this.#members[member.index] !== member) return;
    if (this.#ending || this.#served === undefined) {
      this.#endWhenAllClosed({ reason: 'closed', errno: 0 });
      return;
    }
    reportFault({
      kind: 'worker-died',
      operation: '',
      nodeid: 0,
      pid: 0,
      message: `worker ${member.index} ended (${(member.error as Error | undefined)?.message ?? 'process.exit'}); its callers got ECONNABORTED`,
      error: member.error,
    });
    const now = Date.now();
    while (this.#restarts.length > 0 && now - this.#restarts[0] > 60_000) this.#restarts.shift();
    this.#restarts.push(now);
    if (this.#restarts.length > (this.#options.limits.restartsMax ?? 8)) {
      this.#rejectEnded(new WorkerFailure('ERR_FUSEWIRE_WORKER_DIED', 'workers died too often; the mount was given up'));
      return;
    }
    this.#replace(member.index, this.#served);
  }

  #replace(index: number, served: Served): void {
    const fresh = this.#start(index);
    this.#members[index] = fresh;
    fresh.loaded
      .then(() => this.#serving(fresh, served))
      .then(() => served.ring && nudgeQueues(this.#options.addon, served.fd, served.ring.queues))
      .catch((error: WorkerFailure) => {
        if (!this.#ending) this.#rejectEnded(error);
      });
  }

  #endWhenAllClosed(end: PoolEnd): void {
    if (this.#members.every((member) => member === undefined || member.closed)) this.#resolveEnded(end);
  }

  /** The counters of a worker, or those of last time when it does not answer within the time (then `late` is called). */
  #ask(member: Member, timeoutMs: number, late?: () => void): Promise<SessionCounters | undefined> {
    if (member.closed) return Promise.resolve(member.counters);
    return new Promise((resolve) => {
      const ticket = this.#nextTicket++;
      const timer = setTimeout(() => {
        this.#tickets.delete(ticket);
        late?.();
        resolve(member.counters);
      }, timeoutMs).unref();
      this.#tickets.set(ticket, (counters) => {
        clearTimeout(timer);
        resolve(counters);
      });
      this.#tell(member, { type: 'counters', ticket });
    });
  }

  /** Settles when the worker's event loop had a turn; rejects when it had none for a while. */
  async #pong(member: Member): Promise<void> {
    const before = member.counters;
    if ((await this.#ask(member, 10_000)) === before) throw new Error('no turn');
  }

  /** A message, and a wake-up for a worker that sleeps in the kernel. */
  #tell(member: Member, message: ToWorker): void {
    member.worker.postMessage(message);
    this.#wake(member);
  }

  #wake(member: Member): void {
    if (member.threadId > 0 && !member.closed) this.#options.addon.wakeBlockedThread(member.threadId);
  }
}
