/** Throughput over requests in flight, a line for each number of workers, a panel for each mode and transport. */
import { element, logScale, picture, roundUp, text, titled } from '../harness/svg.ts';
import { figure } from '../harness/table.ts';
import { type Point, seriesOf } from './report.ts';

const PANEL_WIDTH = 440;
const PANEL_HEIGHT = 300;
const TOP = 84;
const MARGIN = 56;
const STEPS = 4;

export function scalingChart(points: readonly Point[], machine: string): string {
  const panels = [...seriesOf(points, ({ mode, transport }) => `${mode}, ${transport}`)];
  const most = roundUp(Math.max(...points.map(({ perSecond }) => perSecond)));
  const about = '4 KiB random direct reads: thousands a second over requests in flight';
  const width = Math.max(2, panels.length) * PANEL_WIDTH + MARGIN;
  return picture(width, TOP + PANEL_HEIGHT + 56, about, [
    text(16, 26, about, { class: 'title' }),
    text(16, 44, machine, { class: 'small faint' }),
    ...panels.map(([name, own], i) => panel(name, own, MARGIN + i * PANEL_WIDTH, most)),
  ]);
}

function panel(name: string, points: readonly Point[], left: number, most: number): string {
  const flights = [...new Set(points.map(({ flight }) => flight))].sort((a, b) => a - b);
  const right = left + PANEL_WIDTH - 40;
  const bottom = TOP + PANEL_HEIGHT;
  const first = flights[0];
  const x = logScale(first, Math.max(first + 1, flights.at(-1) as number), left, right);
  const y = (perSecond: number) => bottom - (perSecond / most) * PANEL_HEIGHT;
  const lines = [...seriesOf(points, ({ workers }) => String(workers))];
  return [
    text(left, TOP - 14, name),
    ...Array.from({ length: STEPS + 1 }, (_, step) => rung((most * step) / STEPS, y((most * step) / STEPS), left, right)),
    ...flights.map((flight) => text(x(flight), bottom + 18, String(flight), { class: 'small faint', 'text-anchor': 'middle' })),
    ...lines.map(([workers, own], i) => line(workers, own, i, x, y)),
    ...lines.map(([workers], i) => legend(workers, i, left + i * 96, bottom + 42)),
  ].join('\n');
}

function rung(perSecond: number, y: number, left: number, right: number): string {
  const label = text(left - 8, y + 4, figure(perSecond / 1000), { class: 'small faint', 'text-anchor': 'end' });
  return element('line', { class: 'grid', x1: left, x2: right, y1: y, y2: y }) + label;
}

function line(workers: string, points: readonly Point[], i: number, x: (flight: number) => number, y: (rate: number) => number) {
  const ordered = [...points].sort((a, b) => a.flight - b.flight);
  const places = ordered.map(({ flight, perSecond }) => `${x(flight).toFixed(1)},${y(perSecond).toFixed(1)}`).join(' ');
  const dots = ordered.map((point) => {
    const dot = element('circle', { class: `mark ours-${i % 4}`, cx: x(point.flight), cy: y(point.perSecond), r: 4 });
    return titled(dot, `${workers} workers, ${point.flight} in flight: ${figure(point.perSecond)} a second`);
  });
  return element('polyline', { class: `line ours-${i % 4}`, points: places }) + dots.join('');
}

function legend(workers: string, i: number, x: number, y: number): string {
  const mark = element('circle', { class: `mark ours-${i % 4}`, cx: x + 4, cy: y - 4, r: 4 });
  return mark + text(x + 14, y, `${workers} ${workers === '1' ? 'worker' : 'workers'}`, { class: 'small' });
}
