/** The letter's table: as text with every configuration, as Markdown for the README, as JSON. */
import { present, type Ratio, ratio, type Summary, summarize } from '../harness/statistics.ts';
import { figure, type Table, times } from '../harness/table.ts';
import { type Configuration, NATIVE } from './configurations.ts';
import type { Sample, Samples } from './measure.ts';
import { type LetterRow, letterRatio } from './rows.ts';

/** One configuration in one row. */
export interface Cell {
  configuration: Configuration;
  rate: Summary;
  daemonCpuSeconds: Summary;
  /** Patched over original, in the cell of the patched one. */
  gain: Ratio | undefined;
  suspicious: boolean;
}

export interface RowReport {
  row: LetterRow;
  cells: Cell[];
}

export function reportOf(
  rows: readonly LetterRow[],
  configurations: readonly Configuration[],
  samples: Samples,
  bytes: number,
): RowReport[] {
  return rows.map((row) => ({
    row,
    cells: configurations.map((configuration) => cellOf(row, configuration, configurations, samples, bytes)),
  }));
}

function cellOf(
  row: LetterRow,
  configuration: Configuration,
  configurations: readonly Configuration[],
  samples: Samples,
  bytes: number,
): Cell {
  const of = (name: string) => samples.get(row.name)?.get(name) ?? [];
  const own = of(configuration.name);
  const daemonCpuSeconds = summarize(present(present(own).map((sample) => sample.daemonCpuSeconds)));
  const partner = configurations.find(
    (candidate) =>
      configuration.asyncDio === 'patched' && candidate.family === configuration.family && candidate.asyncDio === 'original',
  );
  return {
    configuration,
    rate: summarize(present(own).map((sample) => sample.megabytesPerSecond)),
    daemonCpuSeconds,
    gain: partner === undefined ? undefined : ratio(rates(own), rates(of(partner.name))),
    suspicious: servedByOthers(bytes, daemonCpuSeconds.median),
  };
}

function rates(samples: readonly (Sample | undefined)[]): (number | undefined)[] {
  return samples.map((sample) => sample?.megabytesPerSecond);
}

/** No processor copies more than this many bytes in a second of its time. */
const COPY_BYTES_PER_SECOND_MAX = 40e9;

/**
 * Whether the daemon cannot have moved the bytes itself, because it spent less time than a copy takes: then the page
 * cache answered, or a backing file that the kernel reads (FUSE_PASSTHROUGH), and the row compares something else.
 */
export function servedByOthers(bytes: number, daemonCpuSeconds: number): boolean {
  return Number.isFinite(daemonCpuSeconds) && daemonCpuSeconds < bytes / COPY_BYTES_PER_SECOND_MAX;
}

/** All configurations of one row. */
export function rowTable({ row, cells }: RowReport): Table {
  const native = cells.find(({ configuration }) => configuration.name === NATIVE)?.rate.median;
  return {
    columns: [
      { title: `${row.title}, MB/s` },
      ...['median', 'min', 'max', 'of native', 'patched ÷ original', 'by round', 'daemon CPU s'].map((title) => ({
        title,
        align: 'right' as const,
      })),
    ],
    rows: cells.map(({ configuration, rate, gain, daemonCpuSeconds, suspicious }) => [
      configuration.name + (suspicious ? ' (!)' : ''),
      figure(rate.median),
      figure(rate.min),
      figure(rate.max),
      native === undefined || !Number.isFinite(rate.median) ? '–' : `${Math.round((100 * rate.median) / native)} %`,
      gain === undefined ? '' : times(gain.ofMedians),
      gain === undefined ? '' : `${times(gain.byRound.min)} to ${times(gain.byRound.max)}`,
      configuration.command === undefined ? '' : figure(daemonCpuSeconds.median),
    ]),
  };
}

/** The README's table: one line a row, the letter beside each daemon that has both ways. */
export function letterTable(reports: readonly RowReport[]): Table {
  const families = [...new Set(reports.flatMap(({ cells }) => cells.map(({ configuration }) => configuration.family)))];
  return {
    columns: [
      { title: 'MB/s, median (refused → accepted)' },
      { title: 'the letter, 2013', align: 'right' },
      ...families.map((title) => ({ title, align: 'right' as const })),
    ],
    rows: reports.map(({ row, cells }) => [
      row.title,
      `${row.letter.original} → ${row.letter.patched} (${times(letterRatio(row))})`,
      ...families.map((family) => familyCell(cells.filter(({ configuration }) => configuration.family === family))),
    ]),
  };
}

function familyCell(cells: readonly Cell[]): string {
  const of = (asyncDio: Configuration['asyncDio']) => cells.find(({ configuration }) => configuration.asyncDio === asyncDio);
  const [original, patched, only] = [of('original'), of('patched'), of('as it is')];
  const mark = cells.some(({ suspicious }) => suspicious) ? ' (!)' : '';
  if (only !== undefined) return figure(only.rate.median) + mark;
  return `${figure(original?.rate.median)} → ${figure(patched?.rate.median)} (${times(patched?.gain?.ofMedians)})${mark}`;
}

/** One sentence for each of our rows: whether the gain is above the letter's. */
export function verdicts(reports: readonly RowReport[]): { passed: boolean; text: string }[] {
  return reports.flatMap(({ row, cells }) =>
    cells
      .filter(({ configuration, gain }) => configuration.ours && gain !== undefined)
      .map(({ configuration, gain }) => {
        const ours = gain?.ofMedians ?? Number.NaN;
        const passed = ours > letterRatio(row);
        const relation = passed ? 'above' : 'not above';
        return {
          passed,
          text: `${configuration.family}, ${row.title}: ${times(ours)}, ${relation} the letter's ${times(letterRatio(row))}`,
        };
      }),
  );
}
