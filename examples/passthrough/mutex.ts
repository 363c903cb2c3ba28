/**
 * A mutex in memory that threads share: 0 is free, 1 is held, 2 is held and somebody sleeps for it.
 *
 * It guards table manipulations of well under a microsecond and is never held across a system call, so a short spin
 * nearly always gets it; only when its holder lost the processor does a thread sleep in the kernel.
 */
import { FuseError } from 'fusewire';
import { EIO } from './linux.ts';

const SPINS = 200;

/**
 * A holder that is gone for so long has been torn down in the middle (its thread ran out of memory). Its table cannot be
 * trusted any more, but callers shall get an error rather than wait for ever.
 */
const STUCK_MS = 5000;

export class Mutex {
  readonly #words: Int32Array;
  readonly #at: number;

  /** The mutex is word `at` of `words`; memory full of zeros is a free one. */
  constructor(words: Int32Array, at: number) {
    this.#words = words;
    this.#at = at;
  }

  /** Throws EIO when the holder does not let go. */
  lock(): void {
    const words = this.#words;
    const at = this.#at;
    if (Atomics.compareExchange(words, at, 0, 1) === 0) return;
    for (let spin = 0; spin < SPINS; spin++) {
      if (Atomics.load(words, at) === 0 && Atomics.compareExchange(words, at, 0, 1) === 0) return;
    }
    // Whoever slept takes it as 2: there may be others asleep, and one wake-up too many costs nothing.
    while (Atomics.exchange(words, at, 2) !== 0) {
      if (Atomics.wait(words, at, 2, STUCK_MS) === 'timed-out' && Atomics.load(words, at) === 2) throw FuseError.of(EIO);
    }
  }

  unlock(): void {
    if (Atomics.exchange(this.#words, this.#at, 0) === 2) Atomics.notify(this.#words, this.#at, 1);
  }
}
