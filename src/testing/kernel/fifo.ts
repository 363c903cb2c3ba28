/** Named pipes: the kernel carries their bytes itself, the daemon only keeps the name. */
import { canRead, canWrite, O_NONBLOCK } from './constants.ts';
import type { Call } from './core.ts';
import { ERRNO, fail } from './errors.ts';
import type { OpenFile } from './files.ts';

const { EAGAIN, EINTR, ENXIO, EPIPE, EBADF } = ERRNO;

/** Bytes that a pipe holds. */
const CAPACITY_BYTES = 65_536;

export class Fifo {
  #readers = 0;
  #writers = 0;
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #waiters: (() => void)[] = [];
  // Openings so far: who waits for the other end is let in even when that has gone again.
  #readersEver = 0;
  #writersEver = 0;

  /** Waits for the other end, as open(2) does. */
  async open(call: Call, file: OpenFile): Promise<void> {
    const isReader = canRead(file.flags);
    const isWriter = canWrite(file.flags);
    const isNonblocking = (file.flags & O_NONBLOCK) !== 0;
    if (isWriter && !isReader && isNonblocking && this.#readers === 0) fail(ENXIO);
    if (isReader) this.#readersEver += 1;
    if (isReader) this.#readers++;
    if (isWriter) this.#writersEver += 1;
    if (isWriter) this.#writers++;
    this.#wake();
    if (isNonblocking || (isReader && isWriter)) return;
    const seen = isReader ? this.#writersEver : this.#readersEver;
    const isAlone = () =>
      isReader ? this.#writers === 0 && this.#writersEver === seen : this.#readers === 0 && this.#readersEver === seen;
    try {
      while (isAlone()) await this.#wait(call);
    } catch (error) {
      this.close(file);
      throw error;
    }
  }

  close(file: OpenFile): void {
    if (canRead(file.flags)) this.#readers--;
    if (canWrite(file.flags)) this.#writers--;
    if (this.#readers === 0 && this.#writers === 0) {
      this.#chunks = [];
      this.#bytes = 0;
    }
    this.#wake();
  }

  async read(call: Call, file: OpenFile, length: number): Promise<Uint8Array> {
    if (!canRead(file.flags)) fail(EBADF);
    while (this.#bytes === 0) {
      if (this.#writers === 0) return new Uint8Array(0);
      if ((file.flags & O_NONBLOCK) !== 0) fail(EAGAIN);
      await this.#wait(call);
    }
    const out = new Uint8Array(Math.min(length, this.#bytes));
    for (let at = 0; at < out.length; ) {
      const chunk = this.#chunks[0]!;
      const part = chunk.subarray(0, out.length - at);
      out.set(part, at);
      at += part.length;
      if (part.length === chunk.length) this.#chunks.shift();
      else this.#chunks[0] = chunk.subarray(part.length);
    }
    this.#bytes -= out.length;
    this.#wake();
    return out;
  }

  async write(call: Call, file: OpenFile, data: Uint8Array): Promise<number> {
    if (!canWrite(file.flags)) fail(EBADF);
    let done = 0;
    while (done < data.length) {
      if (this.#readers === 0) fail(EPIPE);
      const room = CAPACITY_BYTES - this.#bytes;
      if (room > 0) {
        const chunk = data.slice(done, done + room);
        this.#chunks.push(chunk);
        this.#bytes += chunk.length;
        done += chunk.length;
        this.#wake();
      } else if ((file.flags & O_NONBLOCK) !== 0) return done > 0 ? done : fail(EAGAIN);
      else await this.#wait(call);
    }
    return done;
  }

  async #wait(call: Call): Promise<void> {
    if (call.isInterrupted) fail(EINTR);
    await new Promise<void>((resume) => {
      this.#waiters.push(resume);
      call.onInterrupt = resume;
    });
    call.onInterrupt = undefined;
    if (call.isInterrupted) fail(EINTR);
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resume of waiters) resume();
  }
}
