/**
 * Runs beside a benchmark and cleans up after it when it was killed: reads what there is to clean from standard input, and
 * when that ends, takes it away. Nothing but the end of standard input ends it: a Ctrl-C reaches the whole process group.
 */
import { createInterface } from 'node:readline';
import { Debris } from './debris.ts';

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});

const debris = new Debris();
createInterface({ input: process.stdin })
  .on('line', (line) => debris.note(line))
  .on('close', () => debris.clear());
