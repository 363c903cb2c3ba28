/**
 * An alarm that is precise to some tenths of a millisecond. Timers of Node are not: the event loop counts whole milliseconds, so
 * that half a millisecond becomes one or two. A thread that sleeps in Atomics.wait wakes 0.1 to 0.2 ms after its time and costs
 * nothing until then.
 */
import type { Worker } from 'node:worker_threads';
import { entryOf, startWorker } from '../../session/index.ts';
import { ALARM_BYTES, ALARM_CHANGED, type AlarmMemory, alarmMemory, sharedNow } from './alarm-memory.ts';

/** What is left when the thread has rung is waited for on the event loop, at most so long, milliseconds. */
const LEAD_MS_MAX = 0.5;

export class Alarm {
  readonly #memory = new SharedArrayBuffer(ALARM_BYTES);
  readonly #shared: AlarmMemory = alarmMemory(this.#memory);
  readonly #worker: Worker;
  /** Settles when the thread runs. */
  readonly ready: Promise<void>;
  readonly #onRing: () => void;
  /** How much earlier the thread is asked to ring: what it was late before. */
  #leadMs = 0.15;
  #due = 0;
  #spinning = false;

  /** `onRing` is called at or after the time that was set last. */
  constructor(onRing: () => void) {
    this.#onRing = onRing;
    this.#worker = startWorker(entryOf(import.meta.url, './alarm-thread'), { workerData: this.#memory, name: 'fusewire alarm' });
    this.ready = new Promise((resolve, reject) => {
      this.#worker.once('message', () => {
        // From now on what the alarm is for keeps the process alive, or nothing does.
        this.#worker.unref();
        resolve();
      });
      this.#worker.once('error', reject);
    });
    this.#worker.on('message', () => this.#onThread());
  }

  /** Rings at `due`, milliseconds of {@link sharedNow}, and not at what was set before. */
  set(due: number): void {
    if (this.#due === due) return;
    this.#due = due;
    if (due - sharedNow() <= this.#leadMs) this.#spin();
    else this.#tell(due - this.#leadMs);
  }

  #tell(due: number): void {
    this.#shared.due[0] = due;
    Atomics.add(this.#shared.words, ALARM_CHANGED, 1);
    Atomics.notify(this.#shared.words, ALARM_CHANGED);
  }

  #onThread(): void {
    if (this.#due === 0) return;
    const late = sharedNow() - (this.#due - this.#leadMs);
    // A new time may have been set while the message was on its way.
    if (late < 0) return;
    this.#leadMs = Math.min(LEAD_MS_MAX, this.#leadMs * 0.9 + late * 0.1);
    this.#spin();
  }

  #spin(): void {
    if (this.#spinning) return;
    this.#spinning = true;
    setImmediate(this.#onSpin);
  }

  readonly #onSpin = (): void => {
    this.#spinning = false;
    const left = this.#due - sharedNow();
    if (this.#due === 0) return;
    if (left > this.#leadMs) this.#tell(this.#due - this.#leadMs);
    else if (left > 0) this.#spin();
    else {
      this.#due = 0;
      this.#onRing();
    }
  };

  async close(): Promise<void> {
    this.#due = 0;
    this.#tell(-1);
    await this.#worker.terminate();
  }
}
