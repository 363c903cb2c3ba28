/** What the runs of the storage benchmark say. */
import { median } from '../harness/statistics.ts';
import { figure, type Table } from '../harness/table.ts';

export type Pattern = 'random' | 'sequential';

/** One load on one daemon. */
export interface Run {
  readonly subject: string;
  readonly roundTripMs: number;
  readonly pattern: Pattern;
  readonly flight: number;
  readonly perSecond: number;
  /** Operations of the backend for each request of the program; NaN where nobody counts. */
  readonly operationsEach: number;
}

/** In the order in which they are told and drawn. */
const SUBJECTS = ['merged, accepted', 'merged, refused', 'unmerged, accepted', 'unmerged, refused', 'sshfs'];

export function subjectsOf(points: readonly Run[]): string[] {
  return [...new Set(points.map(({ subject }) => subject))].sort((a, b) => SUBJECTS.indexOf(a) - SUBJECTS.indexOf(b));
}

export function keyOf({ subject, roundTripMs, pattern, flight }: Run): string {
  return `${subject}|${roundTripMs}|${pattern}|${flight}`;
}

/** The medians of each load. */
export function pointsOf(runs: readonly Run[]): Run[] {
  const groups = new Map<string, Run[]>();
  for (const run of runs) groups.set(keyOf(run), [...(groups.get(keyOf(run)) ?? []), run]);
  return [...groups.values()].map((group) => ({
    ...group[0],
    perSecond: median(group.map(({ perSecond }) => perSecond)),
    operationsEach: median(group.map(({ operationsEach }) => operationsEach)),
  }));
}

export function findPoint(
  points: readonly Run[],
  subject: string,
  roundTripMs: number,
  pattern: Pattern,
  flight: number,
): Run | undefined {
  return points.find(
    (point) =>
      point.subject === subject && point.roundTripMs === roundTripMs && point.pattern === pattern && point.flight === flight,
  );
}

/** A table for each pattern and round-trip: a line a subject, a column for each number in flight. */
export function flightTable(points: readonly Run[], roundTripMs: number, pattern: Pattern, flights: readonly number[]): Table {
  const subjects = subjectsOf(points);
  const cell = (point: Run | undefined): string => {
    if (point === undefined) return '–';
    const each = Number.isNaN(point.operationsEach) ? '' : ` (${point.operationsEach.toFixed(3)})`;
    return `${figure(point.perSecond)}${each}`;
  };
  return {
    columns: [
      { title: `${pattern} 4 KiB at ${roundTripMs} ms: reads a second (operations each)` },
      ...flights.map((flight) => ({ title: `${flight} in flight`, align: 'right' as const })),
    ],
    rows: subjects.map((subject) => [
      subject,
      ...flights.map((flight) => cell(findPoint(points, subject, roundTripMs, pattern, flight))),
    ]),
  };
}
