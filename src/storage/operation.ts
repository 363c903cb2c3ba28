/** One operation of a backend: its attempts, its deadline, and what becomes of those who wait for it. */
import { setMaxListeners } from 'node:events';
import type { Answer } from '../filesystem/index.ts';
import { ERRNO, FuseError } from '../session/index.ts';
import type { ByteRange, Bytes, GatheredWrite, Origin, Transfer } from './backend.ts';
import type { File } from './file.ts';
import type { Handle } from './handle.ts';
import { cut, lengthOf, piecesOf } from './pieces.ts';
import type { Segment, Task, WriteTask } from './tasks.ts';

export abstract class Operation implements Transfer {
  readonly file: File;
  readonly handle: Handle;
  /** Of all ranges. */
  readonly bytes: number;
  /** Around all ranges. */
  readonly start: number;
  readonly end: number;
  attempt = 0;
  /** Its place among those in flight. */
  index = -1;
  isEnded = false;
  /** Nobody wants it any more, and the backend was told. */
  isAborted = false;
  #serial = 0;
  #attemptTick = 0;
  #controller: AbortController | undefined;
  #pause: NodeJS.Timeout | undefined;
  #origin: Origin | undefined;

  constructor(file: File, handle: Handle, start: number, end: number, bytes: number) {
    this.file = file;
    this.handle = handle;
    this.start = start;
    this.end = end;
    this.bytes = bytes;
  }

  abstract readonly tasks: readonly Task[];
  abstract readonly isReadAhead: boolean;
  /** Calls the backend. */
  protected abstract call(): Answer<unknown>;
  /** Hands out what the backend answered; throws when that cannot be. */
  protected abstract deliver(answer: unknown): void;
  protected abstract failed(error: unknown): void;

  get origin(): Origin {
    this.#origin ??= this.handle.originOf(this.tasks);
    return this.#origin;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      // A backend may do one operation by as many of its own as it likes.
      setMaxListeners(0, this.#controller.signal);
    }
    if (this.isAborted) this.#controller.abort();
    return this.#controller.signal;
  }

  get isWanted(): boolean {
    for (const task of this.tasks) if (task.isWanted) return true;
    return false;
  }

  run(): void {
    const serial = ++this.#serial;
    this.#attemptTick = this.file.layer.tick;
    this.#controller = undefined;
    const onAnswer = (answer: unknown): void => {
      if (serial === this.#serial) this.#answered(answer);
    };
    const onFailure = (error: unknown): void => {
      if (serial === this.#serial) this.#failedOnce(error);
    };
    try {
      const answer = this.call();
      if (isThenable(answer)) answer.then(onAnswer, onFailure);
      else queueMicrotask(() => onAnswer(answer));
    } catch (error) {
      queueMicrotask(() => onFailure(error));
    }
  }

  #answered(answer: unknown): void {
    try {
      this.deliver(answer);
    } catch (error) {
      this.failed(error);
    }
    this.#end();
  }

  #failedOnce(error: unknown): void {
    const { settings, counters } = this.file.layer;
    const { retries } = settings;
    this.#serial++;
    if (!this.isWanted) {
      this.#end();
    } else if (this.attempt < retries.max && retries.isTransient(error)) {
      counters.retries++;
      const longest = Math.min(retries.pauseMsMax, retries.pauseMs * 2 ** this.attempt);
      this.attempt++;
      // Whoever failed at the same time must not come back at the same time.
      this.#pause = setTimeout(
        () => {
          this.#pause = undefined;
          this.run();
        },
        longest * (0.5 + Math.random() / 2),
      );
    } else {
      counters.failures++;
      this.failed(error);
      this.#end();
    }
  }

  /** Each tick of the layer: whether the attempt takes too long. */
  onTick(tick: number, ticksMax: number): void {
    if (ticksMax === 0 || this.#pause !== undefined || tick - this.#attemptTick < ticksMax) return;
    this.file.layer.counters.timeouts++;
    const error = FuseError.of(ERRNO.ETIMEDOUT);
    this.#controller?.abort(error);
    this.#failedOnce(error);
  }

  /** One that it was for went away. */
  leave(): void {
    if (this.isEnded || this.isAborted || this.isWanted) return;
    this.isAborted = true;
    this.file.layer.counters.aborted++;
    this.#controller?.abort();
    if (this.#pause === undefined) return;
    clearTimeout(this.#pause);
    this.#end();
  }

  #end(): void {
    if (this.isEnded) return;
    this.isEnded = true;
    this.#serial++;
    this.file.layer.operationEnded(this);
  }
}

function isThenable(answer: unknown): answer is PromiseLike<unknown> {
  return typeof answer === 'object' && answer !== null && typeof (answer as { then?: unknown }).then === 'function';
}

/** What a backend must not answer; without an errno, so that its author hears of it as a fault and callers get EIO. */
class InvalidStorageAnswer extends Error {
  override readonly name = 'InvalidAnswer';
}

export class ReadOperation extends Operation {
  /** Several ranges; none when it is one, from `start` to `end`. */
  readonly #ranges: readonly ByteRange[] | undefined;
  readonly tasks: Segment[];
  /** {@link File.epoch} at its start. */
  readonly epoch: number;
  /** Its place among those of the file. */
  place = -1;

  constructor(file: File, start: number, end: number, tasks: Segment[], ranges?: readonly ByteRange[]) {
    super(file, tasks[0].handle, start, end, ranges === undefined ? end - start : bytesOf(ranges));
    this.#ranges = ranges;
    this.tasks = tasks;
    this.epoch = file.epoch;
    for (const task of tasks) task.operation = this;
  }

  get ranges(): readonly ByteRange[] {
    return this.#ranges ?? [{ offset: this.start, length: this.end - this.start }];
  }

  /** Whether it reads any byte of a range. */
  overlaps(start: number, end: number): boolean {
    if (this.end <= start || end <= this.start) return false;
    return this.#ranges === undefined || this.#ranges.some(({ offset, length }) => offset < end && start < offset + length);
  }

  get isReadAhead(): boolean {
    for (const { request } of this.tasks) if (request !== undefined) return false;
    return true;
  }

  protected call(): Answer<unknown> {
    const { backend, layer } = this.file;
    const { counters } = layer;
    counters.readOperations++;
    counters.readRanges += this.#ranges?.length ?? 1;
    counters.readOperationBytes += this.bytes;
    if (backend.readRanges !== undefined) return backend.readRanges(this.ranges, this);
    if (backend.read === undefined) throw FuseError.of(ERRNO.EBADF);
    return backend.read(this.start, this.end - this.start, this);
  }

  protected deliver(answer: unknown): void {
    if (this.file.backend.readRanges === undefined) {
      this.#handOut(checked(answer, this.bytes), this.start, this.tasks);
      return;
    }
    const { ranges } = this;
    if (!Array.isArray(answer) || answer.length !== ranges.length)
      throw new InvalidStorageAnswer(`readRanges of the backend answers one entry for each of ${ranges.length} ranges`);
    const pieces = ranges.map(({ length }, index) => checked(answer[index], length));
    for (const [index, { offset, length }] of ranges.entries()) {
      const inside =
        ranges.length === 1 ? this.tasks : this.tasks.filter(({ start }) => offset <= start && start < offset + length);
      this.#handOut(pieces[index], offset, inside);
    }
  }

  #handOut(pieces: readonly Uint8Array[], offset: number, segments: readonly Segment[]): void {
    for (const segment of segments) {
      if (!segment.isWanted) continue;
      const bytes = cut(pieces, segment.start - offset, segment.end - segment.start);
      const { request } = segment;
      if (request === undefined) {
        this.file.keepReadAhead(segment, bytes, segments);
        continue;
      }
      segment.done();
      request.finish(segment.start, segment.end, bytes);
    }
  }

  protected failed(error: unknown): void {
    const wanted = this.tasks.filter((segment) => segment.request !== undefined && segment.isWanted);
    const isMerged = wanted.length > 1 || this.tasks.length > wanted.length;
    if (isMerged && wanted.length > 0) this.file.layer.counters.splits++;
    for (const segment of wanted) {
      if (isMerged) this.file.again(segment);
      else segment.request!.fail(error);
    }
  }
}

function bytesOf(ranges: readonly ByteRange[]): number {
  let bytes = 0;
  for (const { length } of ranges) bytes += length;
  return bytes;
}

function checked(bytes: unknown, length: number): readonly Uint8Array[] {
  if (bytes instanceof Uint8Array && bytes.byteLength <= length) return [bytes];
  if (!(bytes instanceof Uint8Array) && !(Array.isArray(bytes) && bytes.every((piece) => piece instanceof Uint8Array)))
    throw new InvalidStorageAnswer('read of the backend answers a Uint8Array, or several in order');
  const pieces = piecesOf(bytes as Bytes);
  const total = pieces.length === 1 ? pieces[0].byteLength : lengthOf(pieces);
  if (total > length) throw new InvalidStorageAnswer(`read of the backend answered ${total} bytes of ${length}`);
  return pieces;
}

export class WriteOperation extends Operation {
  readonly writes: readonly GatheredWrite[];
  readonly tasks: WriteTask[];
  readonly isReadAhead = false;

  constructor(file: File, writes: readonly GatheredWrite[], tasks: WriteTask[]) {
    const last = writes[writes.length - 1];
    super(file, tasks[0].handle, writes[0].offset, last.offset + last.length, bytesOf(writes));
    this.writes = writes;
    this.tasks = tasks;
    for (const task of tasks) task.operation = this;
  }

  protected call(): Answer<unknown> {
    const { backend, layer } = this.file;
    const { counters } = layer;
    counters.writeOperations++;
    counters.writeRanges += this.writes.length;
    counters.writeOperationBytes += this.bytes;
    if (backend.writeRanges !== undefined) return backend.writeRanges(this.writes, this);
    if (backend.write === undefined) throw FuseError.of(ERRNO.EROFS);
    const [{ offset, parts }] = this.writes;
    return backend.write(offset, parts.length === 1 ? parts[0] : Buffer.concat(parts), this);
  }

  protected deliver(answer: unknown): void {
    if (typeof answer === 'number' && this.file.backend.writeRanges === undefined && answer !== this.bytes)
      throw new InvalidStorageAnswer(`write of the backend took ${answer} bytes of ${this.bytes}; it takes all or fails`);
    for (const task of this.tasks) this.file.writeDone(task, undefined);
  }

  protected failed(error: unknown): void {
    const isMerged = this.tasks.length > 1;
    if (isMerged) this.file.layer.counters.splits++;
    for (const task of this.tasks) {
      if (isMerged && task.isWanted) this.file.again(task);
      else this.file.writeDone(task, { error });
    }
  }
}

/** A call of the backend's `sync`, with deadlines and repetitions like any operation. It needs no place among them. */
export class SyncOperation extends Operation {
  readonly tasks: readonly Task[] = [];
  readonly isReadAhead = false;
  readonly done: Promise<void>;
  readonly #dataOnly: boolean;
  #resolve!: () => void;
  #reject!: (error: unknown) => void;

  constructor(file: File, handle: Handle, dataOnly: boolean) {
    super(file, handle, 0, 0, 0);
    this.#dataOnly = dataOnly;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  override get isWanted(): boolean {
    return true;
  }

  protected call(): Answer<unknown> {
    this.file.layer.counters.syncs++;
    return this.file.backend.sync?.(this.#dataOnly, this);
  }

  protected deliver(): void {
    this.#resolve();
  }

  protected failed(error: unknown): void {
    this.#reject(error);
  }
}
