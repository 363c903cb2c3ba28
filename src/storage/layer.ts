/** The layer of one mount: what waits, what is in flight, and the limits of both. */
import { ERRNO, FuseError } from '../session/index.ts';
import type { StorageBackend } from './backend.ts';
import { newStorageCounters, type StorageCounters } from './counters.ts';
import { FairQueue } from './fair.ts';
import { File } from './file.ts';
import type { StorageLayer, StoredFile } from './interface.ts';
import { type Operation, SyncOperation } from './operation.ts';
import { StorageError, type StorageOptions } from './options.ts';
import { type Settings, settingsOf } from './settings.ts';
import { Segment, type Task } from './tasks.ts';

/** How often deadlines, ages and interrupts are looked at, milliseconds. One timer does it for all; it costs requests nothing. */
export const TICK_MS = 10;

export class Layer implements StorageLayer {
  readonly counters: StorageCounters = newStorageCounters();
  readonly settings: Settings;
  /** Counts the calls of the timer. */
  tick = 0;
  readonly #deadlineTicks: number;
  #fresh: Task[] = [];
  #looked: Task[] = [];
  #isScheduled = false;
  readonly #queue = new FairQueue<Task>();
  /** What shall be read ahead and has no place yet. */
  #ahead: Segment[] = [];
  readonly #operations: Operation[] = [];
  /** Files of which something is going on. */
  readonly #files = new Set<File>();
  #timer: NodeJS.Timeout | undefined;
  #throttled: (() => boolean)[] = [];

  constructor(options: StorageOptions = {}) {
    this.settings = settingsOf(options);
    this.#deadlineTicks = Math.ceil(this.settings.deadlineMs / TICK_MS);
  }

  file(backend: StorageBackend): StoredFile {
    return this.fileOf(backend);
  }

  fileOf(backend: StorageBackend): File {
    if (
      backend.read === undefined &&
      backend.readRanges === undefined &&
      backend.write === undefined &&
      backend.writeRanges === undefined
    )
      throw new StorageError('a backend has read or readRanges, or write or writeRanges');
    return new File(this, backend);
  }

  async drain(): Promise<void> {
    await Promise.all([...this.#files].map((file) => file.drain()));
  }

  // --- what comes ----------------------------------------------------------------------------------------------------------

  /** Throws EAGAIN when too many wait. */
  admit(): void {
    if (this.counters.waitingNow >= this.settings.limits.waitingMax) throw FuseError.of(ERRNO.EAGAIN);
    this.counters.waitingNow++;
  }

  requestDone(): void {
    this.counters.waitingNow--;
  }

  /** A task that wants to become part of an operation. It is looked at together with what else comes now. */
  submit(task: Task): void {
    this.#fresh.push(task);
    this.schedule();
  }

  /** Something shall be read ahead, when there is room. */
  submitAhead(segment: Segment): void {
    this.#ahead.push(segment);
    this.schedule();
  }

  /** Looks at everything that waits when what goes on now has ended. */
  schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    if (this.settings.collect === 'drain') queueMicrotask(this.#collect);
    else setImmediate(this.#collect);
  }

  readonly #collect = (): void => {
    this.#isScheduled = false;
    const fresh = this.#fresh;
    this.#fresh = this.#looked;
    for (const task of fresh) if (task.isWaiting) this.consider(task);
    fresh.length = 0;
    this.#looked = fresh;
    if (!this.#queue.isEmpty || this.#ahead.length > 0) this.#pump();
  };

  /** Starts a task, or lets it wait: for others of the same bytes, or for a place. */
  consider(task: Task): void {
    const { file } = task;
    if (file.isBlocked(task)) {
      file.block(task);
      return;
    }
    if (task instanceof Segment && file.canJoin(task)) for (const segment of file.join(task)) this.#startOrQueue(segment);
    else this.#startOrQueue(task);
  }

  #startOrQueue(task: Task): void {
    // One that was cut in two is whole again when the operation of the first part took the second along.
    if (!task.isWaiting) return;
    if (this.#queue.isEmpty && this.#fits(task)) {
      this.#start(task);
      return;
    }
    if (task.queuedAt === 0) {
      this.counters.queued++;
      task.queuedAt = performance.now();
    }
    this.#queue.push(task);
  }

  // --- what goes -----------------------------------------------------------------------------------------------------------

  get #hasPlace(): boolean {
    return this.counters.operationsNow < this.settings.limits.operationsMax;
  }

  readonly #fits = (task: Task): boolean => {
    const { limits } = this.settings;
    const { counters } = this;
    const { handle } = task;
    const bytes = task.end - task.start;
    return (
      counters.operationsNow < limits.operationsMax &&
      (counters.operationsNow === 0 || counters.operationBytesNow + bytes <= limits.bytesMax) &&
      handle.operations < limits.handleOperationsMax &&
      (handle.operations === 0 || handle.operationBytes + bytes <= limits.handleBytesMax)
    );
  };

  #start(task: Task): void {
    const { limits } = this.settings;
    if (task.queuedAt !== 0) this.counters.queuedMs += performance.now() - task.queuedAt;
    const room = Math.min(limits.bytesMax - this.counters.operationBytesNow, limits.handleBytesMax - task.handle.operationBytes);
    const operation = task.file.gather(task, room);
    const { counters } = this;
    counters.operationsNow++;
    counters.operationBytesNow += operation.bytes;
    if (counters.operationsNow > counters.operationsPeak) counters.operationsPeak = counters.operationsNow;
    this.begin(operation);
  }

  /** Runs an operation, whether it needs a place or not. */
  begin(operation: Operation): void {
    operation.handle.operations++;
    operation.handle.operationBytes += operation.bytes;
    operation.index = this.#operations.length;
    this.#operations.push(operation);
    this.#startTimer();
    operation.run();
  }

  operationEnded(operation: Operation): void {
    const { counters } = this;
    const last = this.#operations.pop() as Operation;
    if (last !== operation) {
      this.#operations[operation.index] = last;
      last.index = operation.index;
    }
    if (!(operation instanceof SyncOperation)) {
      counters.operationsNow--;
      counters.operationBytesNow -= operation.bytes;
    }
    operation.handle.operationEnded(operation.bytes);
    operation.file.operationEnded(operation);
    if (!this.#queue.isEmpty || this.#ahead.length > 0) this.schedule();
  }

  /** Gives places to what waits for one. */
  #pump(): void {
    while (this.#hasPlace && !this.#queue.isEmpty) {
      const task = this.#queue.shift(this.#fits);
      if (task === undefined) break;
      const { file } = task;
      if (file.isBlocked(task)) file.block(task);
      else if (!(task instanceof Segment && file.canJoin(task))) this.#start(task);
      else
        for (const segment of file.join(task)) {
          if (!segment.isWaiting) continue;
          if (this.#fits(segment)) this.#start(segment);
          else this.#queue.push(segment);
        }
    }
    if (this.#ahead.length > 0) this.#pumpAhead();
  }

  /** Reading ahead leaves a quarter of the places to those who wait. */
  #pumpAhead(): void {
    const placesMax = Math.max(1, Math.ceil(this.settings.limits.operationsMax * 0.75));
    let index = 0;
    for (; index < this.#ahead.length && this.counters.operationsNow < placesMax; index++) {
      const segment = this.#ahead[index];
      if (!segment.isWaiting) continue;
      if (segment.file.isBlocked(segment)) segment.giveUp();
      else if (!this.#fits(segment)) break;
      else if (!segment.file.canJoin(segment)) this.#start(segment);
      else for (const rest of segment.file.join(segment)) if (rest.isWaiting) this.#start(rest);
    }
    this.#ahead = this.#ahead.slice(index);
  }

  // --- writers that wait until less is unwritten -----------------------------------------------------------------------------

  /** Resolves as soon as `isRoom` says so. */
  throttle(isRoom: () => boolean): Promise<void> {
    this.counters.throttled++;
    return new Promise((resolve) => {
      this.#throttled.push(() => {
        if (!isRoom()) return false;
        resolve();
        return true;
      });
    });
  }

  checkThrottled(): void {
    if (this.#throttled.length > 0) this.#throttled = this.#throttled.filter((tryIt) => !tryIt());
  }

  // --- time ------------------------------------------------------------------------------------------------------------------

  /** Something goes on with a file: the timer looks at it. */
  activate(file: File): void {
    this.#files.add(file);
    this.#startTimer();
  }

  #startTimer(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setInterval(() => this.#onTick(), TICK_MS);
    this.#timer.unref();
  }

  #onTick(): void {
    this.tick++;
    for (const operation of [...this.#operations]) operation.onTick(this.tick, this.#deadlineTicks);
    for (const file of this.#files) {
      file.onTick(this.tick);
      if (!file.isActive) {
        this.#files.delete(file);
        file.isWatched = false;
      }
    }
    if (this.#operations.length > 0 || this.#files.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

/** A layer of its own, for those who serve files without a {@link Filesystem}. */
export function storageLayer(options: StorageOptions = {}): StorageLayer {
  return new Layer(options);
}
