/** What code leaves on V8's heap and how much it takes there in passing. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { median } from '../harness/statistics.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Bytes alive on the heap and in array buffers after a full collection. */
export function livingBytes(): number {
  collectGarbage();
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

const SLICES = 41;
const REQUESTS_PER_SLICE = 512;

/**
 * Bytes taken from the heap per request, garbage or not: the median over slices so short that no collection falls into
 * most of them.
 */
export async function allocatedBytesPerRequest(run: (count: number) => void | Promise<void>): Promise<number> {
  const slices: number[] = [];
  for (let slice = 0; slice < SLICES; slice++) {
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    await run(REQUESTS_PER_SLICE);
    slices.push(process.memoryUsage().heapUsed - before);
  }
  // What an empty slice costs by itself: the result object of memoryUsage and the like.
  const empty: number[] = [];
  for (let slice = 0; slice < SLICES; slice++) {
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    await run(0);
    empty.push(process.memoryUsage().heapUsed - before);
  }
  return Math.max(0, median(slices) - median(empty)) / REQUESTS_PER_SLICE;
}
