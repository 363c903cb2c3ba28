/** `bench codec`: one request decoded and answered, without a mount. */
import { writeFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { type Case, codecCases } from './codec/cases.ts';
import { allocatedBytesPerRequest, livingBytes } from './codec/heap.ts';
import { describeMachine, machineLine, QUIET_LOAD_MAX } from './harness/machine.ts';
import { count, parse } from './harness/options.ts';
import type { Output } from './harness/output.ts';
import { type Summary, summarize } from './harness/statistics.ts';
import { figure, textTable } from './harness/table.ts';

export const CODEC_HELP = `npm run bench -- codec [options]
  --rounds N            rounds that count (default 9)
  --requests N          requests in each (default 200000)
  --json FILE           write the figures`;

interface Result {
  name: string;
  nanoseconds: Summary;
  goalNs: number | undefined;
  /** Bytes taken per request, most of them garbage at once. */
  allocatedBytes: number;
  /** Bytes that a million requests left behind. */
  grownBytes: number;
}

const GROWTH_REQUESTS = 1_000_000;
/** A million requests may leave this much: compiled code and its statistics, not a quarter of a byte per request. */
const GROWTH_BYTES_MAX = 256 * 1024;

export async function codec(args: readonly string[], out: Output): Promise<boolean> {
  const given = parse(args, { rounds: 'one', requests: 'one', json: 'one' });
  const rounds = count('rounds', given.rounds, 9);
  const requests = count('requests', given.requests, 200_000, 1024);
  const machine = describeMachine();
  out.heading('Codec and session, without a mount');
  out.line(machineLine(machine));
  if (machine.load > QUIET_LOAD_MAX) out.warn(`the machine is busy (load ${machine.load.toFixed(2)}): figures are of little use`);
  const results: Result[] = [];
  for (const each of codecCases()) {
    out.status(each.name);
    results.push(await measure(each, rounds, requests));
    each.close();
  }
  out.status('');
  out.line(table(results));
  const failed = results.filter((result) => !reachesGoal(result));
  for (const { name, goalNs, nanoseconds, grownBytes } of failed) {
    out.warn(
      `${name}: ${Math.round(nanoseconds.median)} ns, ${grownBytes} bytes kept; the goal is ` +
        `${goalNs === undefined ? '' : `under ${goalNs} ns and `}at most ${GROWTH_BYTES_MAX} bytes kept per million`,
    );
  }
  if (given.json !== undefined) writeFileSync(given.json, `${JSON.stringify({ machine, rounds, requests, results }, null, 2)}\n`);
  return failed.length === 0;
}

async function measure(each: Case, rounds: number, requests: number): Promise<Result> {
  for (let warm = 0; warm < 3; warm++) await each.run(requests);
  const nanoseconds: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const begun = performance.now();
    await each.run(requests);
    nanoseconds.push(((performance.now() - begun) * 1e6) / requests);
  }
  const allocatedBytes = await allocatedBytesPerRequest((some) => each.run(some));
  const before = livingBytes();
  for (let done = 0; done < GROWTH_REQUESTS; done += requests) await each.run(requests);
  const grownBytes = livingBytes() - before;
  return { name: each.name, nanoseconds: summarize(nanoseconds), goalNs: each.goalNs, allocatedBytes, grownBytes };
}

function reachesGoal({ goalNs, nanoseconds, grownBytes }: Result): boolean {
  return nanoseconds.median < (goalNs ?? Number.POSITIVE_INFINITY) && grownBytes <= GROWTH_BYTES_MAX;
}

function table(results: readonly Result[]): string {
  const titles = ['ns, median', 'min', 'max', 'goal', 'heap bytes taken', 'kept by a million'];
  return textTable({
    columns: [{ title: 'per request' }, ...titles.map((title) => ({ title, align: 'right' as const }))],
    rows: results.map(({ name, nanoseconds, goalNs, allocatedBytes, grownBytes }) => [
      name,
      figure(nanoseconds.median),
      figure(nanoseconds.min),
      figure(nanoseconds.max),
      goalNs === undefined ? '' : `< ${goalNs}`,
      figure(allocatedBytes),
      `${grownBytes < 0 ? '−' : ''}${figure(Math.abs(grownBytes) / 1024)} KiB`,
    ]),
  });
}
