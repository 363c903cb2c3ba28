/** The rounds: every row on every configuration, once a round, in an order that turns. */
import { performance } from 'node:perf_hooks';
import { run } from '../harness/children.ts';
import { BenchError, messageOf } from '../harness/failure.ts';
import { rotated } from '../harness/statistics.ts';
import { type AioTool, type LetterRow, rowCommand, rowTransfer } from './rows.ts';
import type { Contestant } from './stage.ts';
import { megabytesPerSecond } from './tools.ts';

export interface Sample {
  megabytesPerSecond: number;
  /** Processor seconds of the daemon meanwhile; undefined where there is none. */
  daemonCpuSeconds: number | undefined;
  /** Seconds from the program's start to its end, as its time limit counts them. */
  elapsedSeconds: number;
}

/** By row, by configuration name, by round; undefined where a run failed. */
export type Samples = Map<string, Map<string, (Sample | undefined)[]>>;

export interface Measured {
  samples: Samples;
  failures: string[];
}

export interface MeasureOptions {
  rows: readonly LetterRow[];
  contestants: readonly Contestant[];
  aio: AioTool;
  bytes: number;
  /** Rounds before the first that counts: caches fill, code is compiled. */
  warmup: number;
  rounds: number;
  onProgress: (line: string) => void;
}

const RUN_MS = 60_000;
/** A configuration that fails so often without a success between is run no more: each try may take the whole limit. */
const FAILURES_IN_A_ROW_MAX = 3;

export async function measure(options: MeasureOptions): Promise<Measured> {
  const measured: Measured = { samples: new Map(), failures: [] };
  const failuresInARow = new Map<string, number>();
  for (const row of options.rows) {
    measured.samples.set(row.name, new Map(options.contestants.map(({ configuration }) => [configuration.name, []])));
  }
  for (let round = -options.warmup; round < options.rounds; round++) {
    const label = round < 0 ? 'warm-up' : `round ${round + 1} of ${options.rounds}`;
    // Row by row, not configuration by configuration: what is compared lies closest together in time.
    for (const row of options.rows) {
      for (const contestant of rotated(options.contestants, round + options.warmup)) {
        const { name } = contestant.configuration;
        options.onProgress(`${label}: ${row.title}: ${name}`);
        const failed = failuresInARow.get(name) ?? 0;
        const sample =
          failed < FAILURES_IN_A_ROW_MAX ? await attempt(row, contestant, options, measured.failures, label) : undefined;
        failuresInARow.set(name, sample === undefined ? failed + 1 : 0);
        if (failed + 1 === FAILURES_IN_A_ROW_MAX && sample === undefined) {
          measured.failures.push(`${name} is run no more after ${FAILURES_IN_A_ROW_MAX} failures in a row`);
        }
        if (round >= 0) measured.samples.get(row.name)?.get(name)?.push(sample);
      }
    }
  }
  return measured;
}

async function attempt(
  row: LetterRow,
  contestant: Contestant,
  options: MeasureOptions,
  failures: string[],
  label: string,
): Promise<Sample | undefined> {
  try {
    return await sampleOf(row, contestant, options);
  } catch (error) {
    failures.push(`${contestant.configuration.name}, ${row.title}, ${label}: ${messageOf(error)}`);
    return undefined;
  }
}

/** Runs a row once. Throws a BenchError when the program failed, or did not move the whole file. */
export async function sampleOf(
  row: LetterRow,
  { daemon, file }: Contestant,
  { aio, bytes }: Pick<MeasureOptions, 'aio' | 'bytes'>,
): Promise<Sample> {
  daemon?.assertAlive();
  const cpuBefore = daemon?.cpuSeconds();
  const begun = performance.now();
  const output = await run(rowCommand(row, aio, file, bytes), { timeoutMs: RUN_MS });
  const elapsedSeconds = (performance.now() - begun) / 1000;
  const cpuAfter = daemon?.cpuSeconds();
  daemon?.assertAlive();
  const transfer = rowTransfer(row, aio, output);
  if (transfer.bytes !== bytes) {
    throw BenchError.result(`${transfer.bytes} of ${bytes} bytes were moved; the row is the whole file`);
  }
  const daemonCpuSeconds = cpuBefore === undefined || cpuAfter === undefined ? undefined : cpuAfter - cpuBefore;
  return { megabytesPerSecond: megabytesPerSecond(transfer), daemonCpuSeconds, elapsedSeconds };
}
