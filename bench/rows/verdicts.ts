/** The goals, each as a sentence that says whether it was met. */
import { figure, times } from '../harness/table.ts';
import { FLOOR, type Group, LIBFUSE, PREAD_FLOOR } from './configurations.ts';
import { type Cell, compare, geometricMean, NOT_SPEED, type RowReport } from './report.ts';

export interface Verdict {
  configuration: string;
  passed: boolean;
  text: string;
}

/** Of the best of libfuse's ways, in every row, and over all rows. */
const EVERY_ROW_LEAST = 1;
const MEAN_LEAST = 1.2;
/** With backing files, the kernel does the work: within 5 %. */
const BACKING_LEAST = 0.95;
/** JavaScript peers, where these serve from user space. */
const SCRIPT_PEERS: readonly { project: string; least: number }[] = [
  { project: 'fuse-native', least: 3 },
  { project: 'mountx', least: 2 },
];
/** Processor time for a 4 KiB read at depth 32, over the null daemon's. */
const FLOOR_CPU_MOST = 1.3;
const FLOOR_ROW = 'read4k32';
const P99_ROWS = ['read4k1', 'read4k32', 'write4k1', 'write4k32'];

export function verdicts(reports: readonly RowReport[]): Verdict[] {
  const judged = new Map<string, Cell['configuration']>();
  for (const { cells } of reports) {
    for (const { configuration } of cells) if (configuration.judged) judged.set(configuration.name, configuration);
  }
  return [...judged.values()].flatMap(({ name, group }) => [
    ...againstLibfuse(reports, name, group),
    ...(group === 'passthrough'
      ? [...againstScripts(reports, name), ...againstFloor(reports, name), ...lateness(reports, name)]
      : []),
  ]);
}

function ratiosOf(reports: readonly RowReport[], name: string, projects?: readonly string[]) {
  return reports
    .filter(({ row }) => !NOT_SPEED.includes(row.name))
    .flatMap((report) => {
      const compared = compare(report, name, projects);
      return compared === undefined ? [] : [{ title: report.row.title, ...compared }];
    });
}

function againstLibfuse(reports: readonly RowReport[], name: string, group: Group): Verdict[] {
  const projects = group === 'backing' ? undefined : [LIBFUSE];
  const whose = group === 'backing' ? 'the best of others' : "libfuse's best";
  const least = group === 'backing' ? BACKING_LEAST : EVERY_ROW_LEAST;
  const ratios = ratiosOf(reports, name, projects);
  if (ratios.length === 0) return [];
  const below = ratios.filter(({ ratio }) => ratio < least);
  const told = below.map(({ title, ratio, best }) => `${title} ${times(ratio)} of ${best.configuration.name}`).join('; ');
  const every: Verdict = {
    configuration: name,
    passed: below.length === 0,
    text: `${name}: ${ratios.length - below.length} of ${ratios.length} rows at ${least} × ${whose} or above${told === '' ? '' : `; below: ${told}`}`,
  };
  if (group === 'backing') return [every];
  const mean = geometricMean(ratios.map(({ ratio }) => ratio));
  const text = `${name}: geometric mean over ${ratios.length} rows ${times(mean)} of ${whose}; the goal is ${MEAN_LEAST}`;
  return [every, { configuration: name, passed: mean >= MEAN_LEAST, text }];
}

function againstScripts(reports: readonly RowReport[], name: string): Verdict[] {
  return SCRIPT_PEERS.flatMap(({ project, least }) => {
    const ratios = ratiosOf(reports, name, [project]);
    if (ratios.length === 0) return [];
    const lowest = ratios.reduce((a, b) => (b.ratio < a.ratio ? b : a));
    const text = `${name}: at least ${times(lowest.ratio)} of ${project} (${lowest.title}); the goal is ${least} in every row`;
    return [{ configuration: name, passed: lowest.ratio >= least, text }];
  });
}

/** Against the null daemon on the same transport, with as many threads where that was measured. */
function againstFloor(reports: readonly RowReport[], name: string): Verdict[] {
  const cells = reports.find(({ row }) => row.name === FLOOR_ROW)?.cells ?? [];
  const ours = cells.find(({ configuration }) => configuration.name === name);
  if (ours === undefined) return [];
  const floors = cells.filter(
    ({ configuration }) => configuration.project === FLOOR && configuration.ring === ours.configuration.ring,
  );
  const floor = floors.find(({ configuration }) => configuration.workers === ours.configuration.workers) ?? floors[0];
  if (floor === undefined) return [];
  const ratio = ours.cpuMicros / floor.cpuMicros;
  const measured = `${figure(ours.cpuMicros)} µs of CPU a request, ${times(ratio)} of ${floor.configuration.name}'s ${figure(floor.cpuMicros)}`;
  const pread = cells.find(
    ({ configuration }) => configuration.project === PREAD_FLOOR && configuration.ring === ours.configuration.ring,
  );
  const beside = pread === undefined ? '' : `, ${times(ours.cpuMicros / pread.cpuMicros)} of ${pread.configuration.name}'s`;
  const text = `${name}: ${measured}${beside} (4 KiB reads, 32 in flight); the goal is at most ${FLOOR_CPU_MOST} of the former`;
  return [{ configuration: name, passed: ratio <= FLOOR_CPU_MOST, text }];
}

function lateness(reports: readonly RowReport[], name: string): Verdict[] {
  return reports
    .filter(({ row }) => P99_ROWS.includes(row.name))
    .flatMap(({ row, cells }) => {
      const ours = cells.find(({ configuration }) => configuration.name === name);
      const theirs = cells.filter(
        ({ configuration, p99 }) =>
          configuration.project === LIBFUSE && configuration.group === ours?.configuration.group && Number.isFinite(p99),
      );
      if (ours === undefined || theirs.length === 0) return [];
      const best = theirs.reduce((a, b) => (b.p99 < a.p99 ? b : a));
      const text = `${name}: p99 ${figure(ours.p99)} µs, ${best.configuration.name} ${figure(best.p99)} µs (${row.title})`;
      return [{ configuration: name, passed: ours.p99 <= best.p99, text }];
    });
}

/** Whether there is a way to run ours that met every goal, in each group that was measured. */
export function goalsMet(all: readonly Verdict[], reports: readonly RowReport[]): boolean {
  const groupOf = new Map(
    reports.flatMap(({ cells }) => cells.map(({ configuration }) => [configuration.name, configuration.group])),
  );
  const failed = new Set(all.filter(({ passed }) => !passed).map(({ configuration }) => configuration));
  const groups = new Set(all.map(({ configuration }) => groupOf.get(configuration)));
  return [...groups].every((group) =>
    all.some(({ configuration }) => groupOf.get(configuration) === group && !failed.has(configuration)),
  );
}
