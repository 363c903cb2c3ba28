/** An open handle of a file: its place in the order of reading, its share of the limits, and the errors that it has not heard of. */
import { constants } from 'node:fs';
import type { Origin } from './backend.ts';
import type { File } from './file.ts';
import type { Asker, StoredHandle } from './interface.ts';
import { type Task, WriteTask } from './tasks.ts';

/** What of a write its bytes do not say. */
export interface WriteHints {
  readonly killSuidGid: boolean;
  readonly writeback: boolean;
}

const NO_HINTS: WriteHints = { killSuidGid: false, writeback: false };

/** O_SYNC, O_DSYNC and O_DIRECT: who opens so wants an answer that means written. */
const WRITES_THROUGH = constants.O_SYNC | constants.O_DSYNC | constants.O_DIRECT;

export class Handle implements StoredHandle {
  readonly file: File;
  readonly number: number;
  readonly flags: number;
  readonly writesThrough: boolean;
  /** Operations in flight in its name, and their bytes. */
  operations = 0;
  operationBytes = 0;
  /** The errors of the file that it has reported. */
  errorsSeen: number;
  #next = -1;
  #streak = 0;
  #window = 0;
  #aheadEnd = 0;
  /** Where reading ahead met the end of the file, as of an epoch of the file. */
  #fileEnd = Number.POSITIVE_INFINITY;
  #fileEndEpoch = -1;
  #isClosed = false;
  #onIdle: (() => void) | undefined;

  constructor(file: File, number: number, flags: number) {
    this.file = file;
    this.number = number;
    this.flags = flags;
    this.writesThrough = (flags & WRITES_THROUGH) !== 0;
    this.errorsSeen = file.errorsSeen;
  }

  read(offset: number, length: number, asker?: Asker): Promise<Uint8Array | readonly Uint8Array[]> {
    const answer = this.file.read(this, offset, length, asker);
    if (this.file.layer.settings.readAhead !== undefined && !this.#isClosed) this.#follow(offset, offset + length);
    return answer;
  }

  write(offset: number, data: Uint8Array, asker?: Asker, hints: WriteHints = NO_HINTS): Promise<void> {
    return this.file.write(this, offset, data, asker, hints);
  }

  async flush(): Promise<void> {
    await this.file.drain();
    this.file.reportTo(this);
  }

  async sync(dataOnly = false): Promise<void> {
    await this.file.drain();
    await this.file.sync(this, dataOnly);
    this.file.reportTo(this);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.file.stopReadAhead(this);
    await this.file.drain();
    if (this.operations > 0)
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    this.file.closed(this);
    this.file.reportTo(this);
  }

  operationEnded(bytes: number): void {
    this.operations--;
    this.operationBytes -= bytes;
    if (this.operations === 0) this.#onIdle?.();
  }

  /** In whose name an operation is done: of the first who still waits, because the request of who went away is another's now. */
  originOf(tasks: readonly Task[]): Origin {
    const asker = tasks.find(({ isWanted, asker }) => isWanted && asker !== undefined)?.asker;
    const writes = tasks.filter((task) => task instanceof WriteTask);
    return {
      handle: this.number,
      flags: this.flags,
      uid: asker?.uid ?? 0,
      gid: asker?.gid ?? 0,
      pid: asker?.pid ?? 0,
      killSuidGid: writes.some(({ killSuidGid }) => killSuidGid),
      writeback: writes.some(({ writeback }) => writeback),
    };
  }

  /** After a read: whether it goes on where those before it ended, and what to read ahead of it then. */
  #follow(start: number, end: number): void {
    const { readAhead } = this.file.layer.settings;
    if (start === this.#next) {
      this.#streak++;
      this.#next = end;
    } else if (this.#streak >= readAhead!.afterRequests && Math.abs(start - this.#next) <= this.#window) {
      // Requests of one reader overtake each other a little; that is no seek.
      this.#next = Math.max(this.#next, end);
    } else {
      this.#seek(end);
      return;
    }
    if (this.#streak < readAhead!.afterRequests) return;
    // Who reads much at a time is given more at first.
    if (this.#window === 0)
      this.#window = Math.min(readAhead!.windowBytesMax, Math.max(readAhead!.windowBytesMin, 2 * (end - start)));
    this.#aheadEnd = Math.max(this.#aheadEnd, end);
    if (this.#aheadEnd - end > this.#window / 2) return;
    const limit = this.#fileEndEpoch === this.file.epoch ? this.#fileEnd : Number.POSITIVE_INFINITY;
    const target = Math.min(end + this.#window, limit);
    if (target <= this.#aheadEnd) return;
    this.#aheadEnd = this.file.readAhead(this, this.#aheadEnd, target);
    this.#window = Math.min(this.#window * 2, readAhead!.windowBytesMax);
  }

  #seek(end: number): void {
    if (this.#aheadEnd > 0) this.file.stopReadAhead(this);
    this.#next = end;
    this.#streak = 1;
    this.#window = 0;
    this.#aheadEnd = 0;
  }

  /** Reading ahead found that the file ends here. */
  metEnd(end: number): void {
    this.#fileEnd = end;
    this.#fileEndEpoch = this.file.epoch;
  }
}
