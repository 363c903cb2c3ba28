import type { Worker } from 'node:worker_threads';
import type { TraceFile } from '../transport/index.ts';
import { reportFault } from './diagnostics.ts';
import { ERRNO } from './errors.ts';
import type { NotifyWriter } from './notify.ts';
import { entryOf, startWorker } from './worker-entry.ts';

/** How long the thread may take to write the end of its recording. */
const LAST_WRITE_MS = 1000;

/**
 * The thread that writes notifications to a device descriptor. It starts with the first one, and does not keep the process
 * alive. `fd` stays the caller's and must stay open until {@link NotifyThread.end}.
 */
export class NotifyThread {
  readonly #fd: number;
  readonly #trace: { file: TraceFile; channel: number } | undefined;
  readonly #waiting = new Map<number, (result: number) => void>();
  #worker: Worker | undefined;
  #nextTicket = 1;
  #ended = false;

  /** `trace`: where what it writes is recorded, and under which number. */
  constructor(fd: number, trace?: { file: TraceFile; channel: number }) {
    this.#fd = fd;
    this.#trace = trace;
  }

  readonly write: NotifyWriter = (message) => {
    if (this.#ended) return Promise.resolve(-ERRNO.ENODEV);
    const worker = this.#started();
    const ticket = this.#nextTicket++;
    return new Promise((resolve) => {
      this.#waiting.set(ticket, resolve);
      worker.postMessage({ ticket, message });
    });
  };

  /** Ends the thread. A message that is stuck in the kernel goes when the connection does, so end that first. */
  async end(): Promise<void> {
    this.#ended = true;
    const worker = this.#worker;
    if (worker !== undefined && this.#trace !== undefined) {
      // A thread that is terminated cannot write what it has recorded.
      const ended = new Promise((resolve) => worker.once('exit', resolve));
      worker.postMessage({ ticket: 0 });
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, LAST_WRITE_MS).unref())]);
    }
    await worker?.terminate();
    this.#settleAll(-ERRNO.ENODEV);
  }

  #started(): Worker {
    if (this.#worker !== undefined) return this.#worker;
    const entry = entryOf(import.meta.url, './notify-thread');
    const worker = startWorker(entry, { workerData: { fd: this.#fd, trace: this.#trace }, name: 'fusewire notify' });
    worker.on('message', ({ ticket, result }: { ticket: number; result: number }) => {
      this.#waiting.get(ticket)?.(result);
      this.#waiting.delete(ticket);
    });
    worker.on('error', (error) => {
      reportFault({
        kind: 'notify-failed',
        operation: '',
        nodeid: 0,
        pid: 0,
        message: 'the thread of notifications died',
        error,
      });
    });
    // What it had not written is told as an error; the next notification starts a new thread.
    worker.on('exit', () => {
      if (this.#worker === worker) this.#worker = undefined;
      this.#settleAll(this.#ended ? -ERRNO.ENODEV : -ERRNO.EIO);
    });
    worker.unref();
    this.#worker = worker;
    return worker;
  }

  #settleAll(result: number): void {
    for (const settle of this.#waiting.values()) settle(result);
    this.#waiting.clear();
  }
}
