import { Worker } from 'node:worker_threads';
import { ERRNO } from './errors.ts';
import type { NotifyWriter } from './notify.ts';
import { entryOf, workerOptions } from './worker-entry.ts';

/**
 * The thread that writes notifications to a device descriptor. It starts with the first one, and does not keep the process
 * alive. `fd` stays the caller's and must stay open until {@link NotifyThread.end}.
 */
export class NotifyThread {
  readonly #fd: number;
  readonly #waiting = new Map<number, (result: number) => void>();
  #worker: Worker | undefined;
  #nextTicket = 1;
  #ended = false;

  constructor(fd: number) {
    this.#fd = fd;
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
    await this.#worker?.terminate();
    this.#settleAll();
  }

  #started(): Worker {
    if (this.#worker !== undefined) return this.#worker;
    const entry = entryOf(import.meta.url, './notify-thread');
    const worker = new Worker(entry, {
      workerData: { fd: this.#fd },
      name: 'fusewire notify',
      ...workerOptions(entry),
    });
    worker.on('message', ({ ticket, result }: { ticket: number; result: number }) => {
      this.#waiting.get(ticket)?.(result);
      this.#waiting.delete(ticket);
    });
    worker.on('error', () => this.#settleAll());
    worker.on('exit', () => this.#settleAll());
    worker.unref();
    this.#worker = worker;
    return worker;
  }

  #settleAll(): void {
    for (const settle of this.#waiting.values()) settle(-ERRNO.ENODEV);
    this.#waiting.clear();
  }
}
