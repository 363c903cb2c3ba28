/** Requests of the layer's users, and the pieces of them that operations of the backend serve. */
import { ERRNO, FuseError } from '../session/index.ts';
import type { File } from './file.ts';
import type { Handle } from './handle.ts';
import type { Asker } from './interface.ts';
import type { Operation } from './operation.ts';
import { lengthOf } from './pieces.ts';

/** What each request costs of a share besides its bytes. */
const REQUEST_COST = 4096;

/** A part of an answer. */
interface Part {
  readonly start: number;
  readonly end: number;
  readonly bytes: readonly Uint8Array[];
}

/** Somebody who waits, and may be interrupted. */
abstract class Request {
  readonly asker: Asker | undefined;
  /** The tick of the layer in which it came. */
  readonly bornTick: number;
  isSettled = false;
  #unwatch: (() => void) | undefined;

  constructor(asker: Asker | undefined, bornTick: number) {
    this.asker = asker;
    this.bornTick = bornTick;
  }

  /** From now on it learns of interrupts. Signals cost, so that only requests which wait for long are watched. */
  watch(): void {
    if (this.#unwatch !== undefined || this.asker === undefined || this.isSettled) return;
    const { signal } = this.asker;
    const onAbort = (): void => {
      if (!this.isSettled) this.interrupt(signal.reason ?? FuseError.of(ERRNO.EINTR));
    };
    this.#unwatch = () => signal.removeEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  }

  protected settled(): void {
    this.isSettled = true;
    this.#unwatch?.();
  }

  abstract interrupt(reason: unknown): void;
}

/** A read that somebody waits for. */
export class ReadRequest extends Request {
  readonly file: File;
  readonly offset: number;
  readonly length: number;
  /** How far the file reaches at least, because of writes that were answered and are not written yet. */
  readonly knownEnd: number;
  /** How many segments are not there yet. */
  missing = 0;
  /** The first segment, and the others: most have one. */
  #segment: Segment | undefined = undefined;
  #segments: Segment[] | undefined = undefined;
  #parts: Part[] | undefined = undefined;
  readonly #resolve: (bytes: Uint8Array | readonly Uint8Array[]) => void;
  readonly #reject: (error: unknown) => void;

  constructor(
    file: File,
    offset: number,
    length: number,
    knownEnd: number,
    asker: Asker | undefined,
    resolve: (bytes: Uint8Array | readonly Uint8Array[]) => void,
    reject: (error: unknown) => void,
  ) {
    super(asker, file.layer.tick);
    this.file = file;
    this.offset = offset;
    this.length = length;
    this.knownEnd = knownEnd;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  has(segment: Segment): void {
    this.missing++;
    if (this.#segment === undefined) this.#segment = segment;
    else if (this.#segments === undefined) this.#segments = [segment];
    else this.#segments.push(segment);
  }

  /** Bytes from `start` on; fewer than up to `end` when the file ends there. */
  add(start: number, end: number, bytes: readonly Uint8Array[]): void {
    this.#parts ??= [];
    this.#parts.push({ start, end, bytes: this.#untilKnownEnd(start, end, bytes) });
  }

  /** The bytes of the last segment. */
  finish(start: number, end: number, bytes: readonly Uint8Array[]): void {
    if (this.missing === 0 && this.#parts === undefined && bytes.length === 1 && start >= this.knownEnd) {
      this.settled();
      this.file.layer.requestDone();
      this.#resolve(bytes[0]);
      return;
    }
    this.add(start, end, bytes);
    this.finishIfWhole();
  }

  /** A hole before what is not written yet: the backend ends too early, and the file does not. */
  #untilKnownEnd(start: number, end: number, bytes: readonly Uint8Array[]): readonly Uint8Array[] {
    if (start >= this.knownEnd) return bytes;
    const missing = Math.min(end, this.knownEnd) - start - lengthOf(bytes);
    return missing <= 0 ? bytes : [...bytes, new Uint8Array(missing)];
  }

  /** After the last segment: answers with the parts in order, up to the first that ends early. */
  finishIfWhole(): void {
    if (this.missing > 0 || this.isSettled) return;
    this.settled();
    this.file.layer.requestDone();
    const parts = this.#parts ?? [];
    if (parts.length > 1) parts.sort((a, b) => a.start - b.start);
    const answer: Uint8Array[] = [];
    for (const { start, end, bytes } of parts) {
      answer.push(...bytes);
      if (lengthOf(bytes) < end - start) break;
    }
    this.#resolve(answer.length === 1 ? answer[0] : answer);
  }

  fail(error: unknown): void {
    if (this.isSettled) return;
    this.settled();
    this.file.layer.requestDone();
    for (const segment of [this.#segment, ...(this.#segments ?? [])]) if (segment?.isDone === false) segment.giveUp();
    this.#reject(error);
  }

  interrupt(reason: unknown): void {
    this.file.layer.counters.interrupted++;
    this.fail(reason);
    this.file.recheck();
  }
}

/** What operations are made of: a range of a file, for somebody or ahead of need. */
export abstract class Task {
  readonly file: File;
  readonly handle: Handle;
  readonly start: number;
  readonly end: number;
  /** Its place in the order in which the requests of the file came. */
  readonly seq: number;
  /** Wants to become part of an operation. */
  isWaiting = true;
  /** Failed together with others, and is tried by itself. */
  isAlone = false;
  /** The operation that it is part of. */
  operation: Operation | undefined = undefined;
  /** When it began to wait for a place, milliseconds; 0: it did not. */
  queuedAt = 0;

  constructor(file: File, handle: Handle, start: number, end: number, seq: number) {
    this.file = file;
    this.handle = handle;
    this.start = start;
    this.end = end;
    this.seq = seq;
  }

  get cost(): number {
    return this.end - this.start + REQUEST_COST;
  }

  abstract readonly caller: number;
  abstract readonly asker: Asker | undefined;
  abstract readonly isWanted: boolean;
}

/** A range that is read; without a request nobody waits for it yet. */
export class Segment extends Task {
  request: ReadRequest | undefined;
  /** Read ahead and not wanted any more. */
  isCancelled = false;
  /** It is there, or others took its place. */
  isDone = false;
  /** Its place among those of the file that wait. */
  index = -1;

  constructor(file: File, handle: Handle, start: number, end: number, seq: number, request: ReadRequest | undefined) {
    super(file, handle, start, end, seq);
    this.request = request;
    request?.has(this);
  }

  get caller(): number {
    return this.request?.asker?.pid ?? 0;
  }

  get asker(): Asker | undefined {
    return this.request?.asker;
  }

  get isWanted(): boolean {
    return !this.isCancelled && !this.isDone && !this.request?.isSettled;
  }

  /** It is there, or others took its place. */
  done(): void {
    this.isDone = true;
    if (this.request !== undefined) this.request.missing--;
  }

  /** Nobody wants it any more. */
  giveUp(): void {
    this.isCancelled = true;
    if (this.isWaiting) this.file.remove(this);
    this.operation?.leave();
  }
}

/** A write: somebody waits for it, or was answered already. */
export class WriteTask extends Task {
  readonly request: WriteRequest | undefined;
  /** The bytes: the caller's for as long as it waits, else a copy. */
  readonly bytes: Uint8Array;
  /** Set-id bits have to go; the kernel wrote back. */
  readonly killSuidGid: boolean;
  readonly writeback: boolean;
  /** Answered already: errors go to the handles, and reads see its bytes. */
  readonly isBuffered: boolean;
  /** Not sent yet: more may come that belongs to it. */
  isResting: boolean;

  constructor(
    file: File,
    handle: Handle,
    range: { start: number; end: number; seq: number },
    what: {
      bytes: Uint8Array;
      request: WriteRequest | undefined;
      killSuidGid: boolean;
      writeback: boolean;
    },
  ) {
    super(file, handle, range.start, range.end, range.seq);
    this.bytes = what.bytes;
    this.request = what.request;
    this.killSuidGid = what.killSuidGid;
    this.writeback = what.writeback;
    this.isBuffered = what.request === undefined;
    this.isResting = this.isBuffered;
  }

  get caller(): number {
    return this.request?.asker?.pid ?? 0;
  }

  get asker(): Asker | undefined {
    return this.request?.asker;
  }

  get isWanted(): boolean {
    return this.request === undefined || !this.request.isSettled;
  }
}

/** Somebody who waits for a write. */
export class WriteRequest extends Request {
  task!: WriteTask;
  readonly #file: File;
  readonly #resolve: () => void;
  readonly #reject: (error: unknown) => void;

  constructor(file: File, asker: Asker | undefined, settle: { resolve: () => void; reject: (error: unknown) => void }) {
    super(asker, file.layer.tick);
    this.#file = file;
    this.#resolve = settle.resolve;
    this.#reject = settle.reject;
  }

  finish(): void {
    if (this.isSettled) return;
    this.settled();
    this.#file.layer.requestDone();
    this.#resolve();
  }

  fail(error: unknown): void {
    if (this.isSettled) return;
    this.settled();
    this.#file.layer.requestDone();
    this.#reject(error);
  }

  /** One that has not begun never happens; one that has may or may not have. */
  interrupt(reason: unknown): void {
    this.#file.layer.counters.interrupted++;
    this.fail(reason);
    if (this.task.isWaiting) this.#file.dropWrite(this.task);
    else this.task.operation?.leave();
  }
}
