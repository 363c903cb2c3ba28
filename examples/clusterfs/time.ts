import { performance } from 'node:perf_hooks';
import type { Timespec } from 'fusewire';

/** What to add to performance.now() to come to the system clock, milliseconds. */
let offsetMs = 0;

/**
 * The time, with the order of events that come within a millisecond. Date follows the system clock in whole milliseconds;
 * the fraction is the monotonic clock's, set right whenever the two disagree. Never change what this answers: times share it.
 */
export function now(): Timespec {
  const ms = Date.now();
  let fractionMs = performance.now() + offsetMs - ms;
  if (!(fractionMs >= 0 && fractionMs < 1)) {
    offsetMs = ms - performance.now();
    fractionMs = 0;
  }
  return { seconds: Math.floor(ms / 1000), nanoseconds: (ms % 1000) * 1_000_000 + Math.floor(fractionMs * 1_000_000) };
}
