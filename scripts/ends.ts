/**
 * Every way in which a mount ends, again and again:
 *
 *     npm run ends -- [--rounds N] [--jobs N] [--only WORDS] [--json FILE]
 *
 * A round goes through the whole table (scripts/ends/table.ts), `--jobs` of its ends at a time. The rounds take turns with the
 * number of workers and the mode. Prints, for each end, how often it was tried, and the median and the largest time until nothing was left; ends with 1 when
 * one of them left something or took longer than 5 s.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { ENDS } from './ends/table.ts';
import { BOUND_MS, Control, type Serving, World } from './ends/world.ts';

const SERVINGS: readonly Serving[] = [
  { workers: 1, mode: 'event' },
  { workers: 2, mode: 'blocking' },
  { workers: 2, mode: 'event' },
  { workers: 1, mode: 'blocking' },
];

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '1' },
    jobs: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
    json: { type: 'string' },
  },
});
const rounds = Number(values.rounds);
const wanted = ENDS.filter(({ name }) => name.includes(values.only));

const control = new Control();
const times = new Map<string, number[]>(wanted.map(({ name }) => [name, []]));
const failures: string[] = [];

/** Attempts that another program spoilt, by aborting a connection whose number it took for its own. They are tried again. */
let disturbed = 0;

async function attempt(round: number, end: (typeof ENDS)[number], tries = 3): Promise<void> {
  const serving = SERVINGS[round % SERVINGS.length];
  const world = new World(control, serving);
  const what = `round ${round + 1}, ${end.name}, ${serving.workers} workers, ${serving.mode}`;
  try {
    const elapsed = await end.run(world);
    times.get(end.name)?.push(elapsed);
    if (elapsed > BOUND_MS) failures.push(`${what}: took ${Math.round(elapsed)} ms`);
  } catch (error) {
    if (world.toldOfAbort && tries > 1) {
      disturbed++;
      process.stderr.write(`${what}: the connection was aborted by somebody else; once more. ${(error as Error).message}\n`);
      await world.clear();
      await attempt(round, end, tries - 1);
      return;
    }
    failures.push(`${what}: ${(error as Error).message}`);
    process.stderr.write(`${failures.at(-1)}\n`);
  }
  const left = await world.clear();
  if (left.length > 0) failures.push(`${what}: left ${left.join(', ')}`);
}

let stopped = false;
process.once('SIGINT', () => {
  stopped = true;
});
const from = performance.now();
let begun = 0;
for (let round = 0; round < rounds && !stopped; round++) {
  begun++;
  const left = wanted.filter(({ missing }) => missing === undefined);
  const work = async () => {
    for (let end = left.shift(); end !== undefined && !stopped; end = left.shift()) await attempt(round, end);
  };
  await Promise.all(Array.from({ length: Number(values.jobs) }, work));
  process.stderr.write(`round ${round + 1} of ${rounds}, ${failures.length} failures\n`);
}
control.end();

const rows = wanted.map(({ name, leaves, missing }) => {
  const sorted = (times.get(name) ?? []).sort((a, b) => a - b);
  const median = Math.round(sorted[sorted.length >> 1] ?? 0);
  return { name, leaves, missing, times: sorted.length, medianMs: median, maxMs: Math.round(sorted.at(-1) ?? 0) };
});
for (const row of rows) {
  const figures = row.missing ?? `${row.times} times, median ${row.medianMs} ms, at most ${row.maxMs} ms`;
  process.stdout.write(`${row.name}: ${figures}; leaves ${row.leaves}\n`);
}
const seconds = Math.round((performance.now() - from) / 1000);
process.stdout.write(
  `${begun} rounds in ${seconds} s, ${failures.length} failures, ${disturbed} attempts spoilt by other programs\n`,
);
for (const failure of failures) process.stdout.write(`FAILED ${failure}\n`);
if (values.json !== undefined)
  writeFileSync(values.json, `${JSON.stringify({ rounds: begun, seconds, rows, failures, disturbed }, undefined, 2)}\n`);
process.exitCode = failures.length === 0 ? 0 : 1;
