/** What the samples say: each configuration in each row, the best of others beside it, and how ours compare. */
import { median, present, type Summary, summarize } from '../harness/statistics.ts';
import { figure, type Table, times } from '../harness/table.ts';
import { type Configuration, type Group, OURS } from './configurations.ts';
import type { Samples } from './measure.ts';
import type { Row } from './rows.ts';

/** One configuration in one row. */
export interface Cell {
  configuration: Configuration;
  value: Summary;
  /** Medians; NaN where nothing says them. */
  p50: number;
  p99: number;
  cpuMicros: number;
  /** The kernel answered by itself. */
  cached: boolean;
}

export interface RowReport {
  row: Pick<Row, 'name' | 'title' | 'unit' | 'better'>;
  cells: Cell[];
}

/** Rows that are not about requests: no part of means, nor of the goals about speed. */
export const NOT_SPEED: readonly string[] = ['start', 'rss'];

/** Less processor time than this for an operation, microseconds, and the daemon was not asked. */
const CACHED_CPU_MICROS_MAX = 0.3;

export function reportOf(rows: readonly Row[], configurations: readonly Configuration[], samples: Samples): RowReport[] {
  return rows.map((row) => {
    const byName = samples.get(row.name);
    const cells = configurations
      .filter(({ name }) => byName?.has(name))
      .map((configuration) => {
        const own = present(byName?.get(configuration.name) ?? []);
        const of = (pick: (sample: (typeof own)[number]) => number | undefined) => median(present(own.map(pick)));
        const cpuMicros = of((sample) => sample.cpuMicros);
        const cached = row.mayBeCached && configuration.group !== 'backing' && cpuMicros < CACHED_CPU_MICROS_MAX;
        const [p50, p99] = [of((sample) => sample.p50), of((sample) => sample.p99)];
        return { configuration, value: summarize(own.map(({ value }) => value)), p50, p99, cpuMicros, cached };
      });
    return { row, cells };
  });
}

/** How many times as good `a` is as `b`. */
export function advantage({ better }: RowReport['row'], a: number, b: number): number {
  return better === 'more' ? a / b : b / a;
}

/**
 * The best of others in a group. Where the daemon of ours was asked, a peer whose kernel answered alone is no measure of a
 * daemon, and does not count.
 */
export function bestPeer(report: RowReport, against: Cell, projects?: readonly string[]): Cell | undefined {
  const { group } = against.configuration;
  let best: Cell | undefined;
  for (const cell of report.cells) {
    const { configuration, value } = cell;
    if (configuration.group !== group || configuration.project === OURS || !Number.isFinite(value.median)) continue;
    if (projects !== undefined && !projects.includes(configuration.project)) continue;
    if (cell.cached && !against.cached) continue;
    if (best === undefined || advantage(report.row, value.median, best.value.median) > 1) best = cell;
  }
  return best;
}

/** How ours compares with the best of others; undefined where there is none. */
export function compare(
  report: RowReport,
  name: string,
  projects?: readonly string[],
): { best: Cell; ratio: number } | undefined {
  const ours = report.cells.find(({ configuration }) => configuration.name === name);
  const best = ours === undefined ? undefined : bestPeer(report, ours, projects);
  if (ours === undefined || best === undefined) return undefined;
  const ratio = advantage(report.row, ours.value.median, best.value.median);
  return Number.isFinite(ratio) ? { best, ratio } : undefined;
}

export function geometricMean(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN;
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

const right = (titles: readonly string[]) => titles.map((title) => ({ title, align: 'right' as const }));

/** All configurations of one row. */
export function rowTable(report: RowReport): Table {
  const { row, cells } = report;
  const native = cells.find(({ configuration }) => configuration.group === 'native')?.value.median ?? Number.NaN;
  const titles = ['median', 'min', 'max', 'of native', '÷ best peer', 'p50 µs', 'p99 µs', 'daemon CPU µs'];
  return {
    columns: [{ title: `${row.title}, ${row.unit}` }, { title: 'group' }, ...right(titles)],
    rows: cells.map((cell) => {
      const { configuration, value, cached } = cell;
      const ratio = configuration.project === OURS ? compare(report, configuration.name)?.ratio : undefined;
      const share = advantage(row, value.median, native);
      return [
        configuration.name + (cached ? ' (!)' : ''),
        configuration.group,
        ...[value.median, value.min, value.max].map(figure),
        Number.isFinite(share) ? `${Math.round(100 * share)} %` : '',
        ratio === undefined ? '' : times(ratio),
        ...[cell.p50, cell.p99, cell.cpuMicros].map((each) => (Number.isFinite(each) ? figure(each) : '')),
      ];
    }),
  };
}

const SHOWN: readonly Group[] = ['passthrough', 'backing', 'memory', 'hello'];

/** One table a group: a line a row, each judged one of ours with its ratio to the best peer, and the geometric mean. */
export function groupTables(reports: readonly RowReport[]): { group: Group; table: Table }[] {
  return SHOWN.map((group) => ({ group, table: groupTable(reports, group) })).filter(({ table }) => table.rows.length > 1);
}

function groupTable(reports: readonly RowReport[], group: Group): Table {
  const inGroup = reports.filter(({ cells }) => cells.some(({ configuration }) => configuration.group === group));
  const ours = [...new Set(inGroup.flatMap((report) => oursIn(report, group)))];
  const ratios = new Map(ours.map((name) => [name, [] as number[]]));
  const lines = inGroup.map((report) => {
    const { row, cells } = report;
    const inOther = (other: Group) =>
      bestOf(
        report,
        cells.filter(({ configuration }) => configuration.group === other),
      );
    const compared = ours.map((name) => compare(report, name));
    for (const [i, name] of ours.entries()) {
      if (compared[i] !== undefined && !NOT_SPEED.includes(row.name)) ratios.get(name)?.push(compared[i].ratio);
    }
    const best = compared.find((each) => each !== undefined)?.best;
    return [
      `${row.title}, ${row.unit}`,
      figure(inOther('native')),
      figure(inOther('floor')),
      best === undefined ? '–' : `${figure(best.value.median)} (${best.configuration.name})`,
      ...ours.map((name, i) => oursCell(report, name, compared[i]?.ratio)),
    ];
  });
  const mean = ['geometric mean', '', '', '', ...ours.map((name) => times(geometricMean(ratios.get(name) ?? [])))];
  return {
    columns: [{ title: group }, ...right(['native', 'floor', 'best peer', ...ours])],
    rows: [...lines, mean],
  };
}

function oursIn({ cells }: RowReport, group: Group): string[] {
  return cells
    .filter(({ configuration }) => configuration.group === group && configuration.project === OURS)
    .map(({ configuration }) => configuration.name);
}

function oursCell({ cells }: RowReport, name: string, ratio: number | undefined): string {
  const cell = cells.find(({ configuration }) => configuration.name === name);
  if (cell === undefined) return '';
  return `${figure(cell.value.median)}${cell.cached ? ' (!)' : ''}${ratio === undefined ? '' : ` (${times(ratio)})`}`;
}

function bestOf({ row }: RowReport, cells: readonly Cell[]): number {
  const values = cells.map(({ value }) => value.median).filter(Number.isFinite);
  if (values.length === 0) return Number.NaN;
  return row.better === 'more' ? Math.max(...values) : Math.min(...values);
}
