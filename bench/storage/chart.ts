/**
 * The picture of the storage benchmark: a column for each round-trip, and for each pattern a row of panels with the reads a second
 * and one with the operations of the backend for each read. Both axes are logarithmic.
 */
import { element, logScale, picture, roundUp, text, titled } from '../harness/svg.ts';
import { figure } from '../harness/table.ts';
import { type Pattern, type Run, subjectsOf } from './points.ts';

const WIDTH = 220;
const HEIGHT = 150;
const GAP_X = 56;
const GAP_Y = 58;
const LEFT = 64;
const TOP = 96;

interface Scale {
  readonly least: number;
  readonly most: number;
  readonly read: (run: Run) => number;
  readonly label: string;
}

export function storageChart(points: readonly Run[], machine: string): string {
  const roundTrips = [...new Set(points.map(({ roundTripMs }) => roundTripMs))].sort((a, b) => a - b);
  const patterns = [...new Set(points.map(({ pattern }) => pattern))];
  const subjects = subjectsOf(points);
  const counted = points.map(({ operationsEach }) => operationsEach).filter((each) => each > 0);
  const speed: Scale = {
    least: 10,
    most: roundUp(Math.max(...points.map(({ perSecond }) => perSecond))),
    read: ({ perSecond }) => perSecond,
    label: 'reads a second',
  };
  const effort: Scale = {
    least: 10 ** Math.floor(Math.log10(Math.min(1, ...counted))),
    most: 2,
    read: ({ operationsEach }) => operationsEach,
    label: 'operations for each read',
  };
  const rows = patterns.flatMap((pattern) => [speed, effort].map((scale) => ({ pattern, scale })));
  const about = '4 KiB direct reads over a network: merged and not, over requests in flight';
  const width = LEFT + roundTrips.length * (WIDTH + GAP_X);
  return picture(width, TOP + rows.length * (HEIGHT + GAP_Y) + 8, about, [
    text(16, 26, about, { class: 'title' }),
    text(16, 44, machine, { class: 'small faint' }),
    ...subjects.map((subject, i) => legend(subject, i, 16 + i * 182)),
    ...rows.flatMap(({ pattern, scale }, row) =>
      roundTrips.map((roundTripMs, column) => {
        const own = points.filter((point) => point.roundTripMs === roundTripMs && point.pattern === pattern);
        const place = { left: LEFT + column * (WIDTH + GAP_X), top: TOP + row * (HEIGHT + GAP_Y) };
        return panel(own, subjects, scale, place, titleOf(pattern, scale, roundTripMs, column));
      }),
    ),
  ]);
}

function titleOf(pattern: Pattern, { label }: Scale, roundTripMs: number, column: number): string {
  return column === 0 ? `${pattern}: ${label}, ${roundTripMs} ms` : `${roundTripMs} ms`;
}

interface Place {
  readonly left: number;
  readonly top: number;
}

function panel(points: readonly Run[], subjects: readonly string[], scale: Scale, { left, top }: Place, title: string): string {
  const flights = [...new Set(points.map(({ flight }) => flight))].sort((a, b) => a - b);
  const right = left + WIDTH;
  const bottom = top + HEIGHT;
  const first = flights[0] ?? 1;
  const x = logScale(first, Math.max(first + 1, flights.at(-1) ?? 1), left, right);
  const y = logScale(scale.least, scale.most, bottom, top);
  const rungs: number[] = [];
  for (let value = scale.least; value <= scale.most; value *= 10) rungs.push(value);
  return [
    text(left, top - 10, title, { class: 'small' }),
    ...rungs.map((value) => rung(value, y(value), left, right)),
    ...flights.map((flight) => text(x(flight), bottom + 16, String(flight), { class: 'small faint', 'text-anchor': 'middle' })),
    ...subjects.map((subject, i) => line(subject, points, i, { x, y, read: scale.read })),
  ].join('\n');
}

function rung(value: number, y: number, left: number, right: number): string {
  const label = text(left - 6, y + 4, value >= 1000 ? `${value / 1000} k` : String(Number(value.toPrecision(1))), {
    class: 'small faint',
    'text-anchor': 'end',
  });
  return element('line', { class: 'grid', x1: left, x2: right, y1: y, y2: y }) + label;
}

interface Axes {
  readonly x: (flight: number) => number;
  readonly y: (value: number) => number;
  readonly read: (run: Run) => number;
}

function line(subject: string, points: readonly Run[], i: number, { x, y, read }: Axes): string {
  const own = points.filter((point) => point.subject === subject && read(point) > 0).sort((a, b) => a.flight - b.flight);
  if (own.length === 0) return '';
  const places = own.map((point) => `${x(point.flight).toFixed(1)},${y(read(point)).toFixed(1)}`).join(' ');
  const dots = own.map((point) => {
    const dot = element('circle', { class: `mark ${colourOf(i)}`, cx: x(point.flight), cy: y(read(point)), r: 3.5 });
    return titled(
      dot,
      `${subject}, ${point.flight} in flight: ${read(point) < 1 ? read(point).toPrecision(2) : figure(read(point))}`,
    );
  });
  return element('polyline', { class: `line ${colourOf(i)}`, points: places }) + dots.join('');
}

function colourOf(i: number): string {
  return i < 4 ? `ours-${i}` : 'peer';
}

function legend(subject: string, i: number, x: number): string {
  return (
    element('circle', { class: `mark ${colourOf(i)}`, cx: x + 4, cy: 60, r: 4 }) + text(x + 14, 64, subject, { class: 'small' })
  );
}
