/** What the runs with more in flight and more workers say. */
import { median } from '../harness/statistics.ts';
import { figure, type Table } from '../harness/table.ts';

export interface Run {
  mode: string;
  transport: string;
  workers: number;
  flight: number;
  perSecond: number;
  /** Microseconds. */
  p99: number;
  /** Of the daemon, for a request. */
  cpuMicros: number;
}

/** The medians of a combination. */
export type Point = Run;

export function pointsOf(runs: readonly Run[]): Point[] {
  const groups = new Map<string, Run[]>();
  for (const run of runs) {
    const key = `${run.mode} ${run.transport} ${run.workers} ${run.flight}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [run]);
    else group.push(run);
  }
  return [...groups.values()].map((group) => {
    const of = (name: 'perSecond' | 'p99' | 'cpuMicros') => median(group.map((run) => run[name]));
    return { ...group[0], perSecond: of('perSecond'), p99: of('p99'), cpuMicros: of('cpuMicros') };
  });
}

/** Points that belong together, by what they share. */
export function seriesOf(points: readonly Point[], keyOf: (point: Point) => string): Map<string, Point[]> {
  const series = new Map<string, Point[]>();
  for (const point of points) series.set(keyOf(point), [...(series.get(keyOf(point)) ?? []), point]);
  return series;
}

/** What may be lost from one point to the next. */
const FALL_MOST = 0.05;

/** A sentence for each place where more in flight, or more workers, made it slower. */
export function falls(points: readonly Point[]): string[] {
  const sentences: string[] = [];
  const look = (grows: 'flight' | 'workers', stays: 'flight' | 'workers', unit: string, other: string) => {
    for (const series of seriesOf(points, (each) => `${each.mode} ${each.transport} ${each[stays]}`).values()) {
      const ordered = [...series].sort((a, b) => a[grows] - b[grows]);
      for (let i = 1; i < ordered.length; i++) {
        const [before, after] = [ordered[i - 1], ordered[i]];
        const loss = 1 - after.perSecond / before.perSecond;
        if (loss <= FALL_MOST) continue;
        const step = `from ${before[grows]} to ${after[grows]} ${unit} (${after[stays]} ${other})`;
        sentences.push(`${after.mode}, ${after.transport}: ${(100 * loss).toFixed(1)} % lost ${step}`);
      }
    }
  };
  look('flight', 'workers', 'in flight', 'workers');
  look('workers', 'flight', 'workers', 'in flight');
  return sentences;
}

/** A line a daemon, a column for each number in flight: thousands a second, p99 and processor time. */
export function scalingTable(points: readonly Point[], flights: readonly number[]): Table {
  const lines = seriesOf(points, (each) => `${each.mode}, ${each.transport}, ${each.workers} workers`);
  const cell = (point: Point | undefined) =>
    point === undefined ? '–' : `${figure(point.perSecond / 1000)} k, ${figure(point.p99)} µs, ${figure(point.cpuMicros)} µs`;
  return {
    columns: [
      { title: 'reads a second, p99, daemon CPU' },
      ...flights.map((flight) => ({ title: `${flight} in flight`, align: 'right' as const })),
    ],
    rows: [...lines].map(([name, own]) => [name, ...flights.map((flight) => cell(own.find((point) => point.flight === flight)))]),
  };
}
