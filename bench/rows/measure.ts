/** The rounds: every row on every configuration that it is for, once a round, in an order that turns. */
import { messageOf } from '../harness/failure.ts';
import { rotated } from '../harness/statistics.ts';
import type { Row, Sample, Scene, Tools } from './rows.ts';
import type { Contestant, Materials } from './stage.ts';

/** By row, by configuration name, by round; undefined where a run failed. */
export type Samples = Map<string, Map<string, (Sample | undefined)[]>>;

export interface Measured {
  samples: Samples;
  failures: string[];
}

export interface MeasureOptions extends Pick<Scene, 'seconds' | 'names'> {
  rows: readonly Row[];
  contestants: readonly Contestant[];
  materials: Materials;
  tools: Tools;
  warmup: number;
  rounds: number;
  /** Memory, start: so many measurements in a round. */
  starts: number;
  onProgress: (line: string) => void;
}

/** A row that failed so often on a configuration is run there no more: each try may take the whole limit. */
const FAILURES_MAX = 2;

export async function measure(options: MeasureOptions): Promise<Measured> {
  const { rows, contestants, warmup, rounds } = options;
  const measured: Measured = { samples: new Map(), failures: [] };
  const failed = new Map<string, number>();
  for (const row of rows) {
    const taking = contestants.filter(({ configuration }) => row.groups.includes(configuration.group));
    measured.samples.set(row.name, new Map(taking.map(({ configuration }) => [configuration.name, []])));
  }
  let turns = 0;
  for (let round = -warmup; round < rounds; round++) {
    const label = round < 0 ? 'warm-up' : `round ${round + 1} of ${rounds}`;
    // Row by row, not configuration by configuration: what is compared lies closest together in time.
    for (const row of rows) {
      const byName = measured.samples.get(row.name);
      const taking = contestants.filter(({ configuration }) => byName?.has(configuration.name));
      for (const contestant of rotated(taking, round + warmup)) {
        const { name } = contestant.configuration;
        const key = `${row.name} ${name}`;
        const before = failed.get(key) ?? 0;
        if (before >= FAILURES_MAX) continue;
        options.onProgress(`${label}: ${row.title}: ${name}`);
        turns++;
        const result = await attempt(row, options, contestant, String(turns));
        if (typeof result !== 'string') {
          if (round >= 0) byName?.get(name)?.push(result);
          continue;
        }
        failed.set(key, before + 1);
        measured.failures.push(`${name}, ${row.title}, ${label}: ${result}`);
        if (round >= 0) byName?.get(name)?.push(undefined);
      }
    }
  }
  return measured;
}

/** The sample, or why there is none. */
async function attempt(row: Row, options: MeasureOptions, contestant: Contestant, turn: string): Promise<Sample | string> {
  try {
    const scene = { ...options, contestant, turn };
    if (row.unit !== 'ms') return await row.sample(scene);
    const many: Sample[] = [];
    for (let i = 0; i < options.starts; i++) many.push(await row.sample({ ...scene, turn: `${turn}-${i}` }));
    // The one in the middle, so that its parts belong together.
    return many.sort((a, b) => a.value - b.value)[many.length >> 1];
  } catch (error) {
    return messageOf(error);
  }
}
