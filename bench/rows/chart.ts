/**
 * A group of the rows as a picture: a line a row, where everything stands by how many times as good as the best peer it is.
 * The axis is logarithmic, so that twice as good is as far from the middle as half as good.
 */
import { element, logScale, picture, text, titled } from '../harness/svg.ts';
import { figure, times } from '../harness/table.ts';
import { type Group, OURS } from './configurations.ts';
import { advantage, bestPeer, type Cell, compare, type RowReport } from './report.ts';

const WIDTH = 960;
const LEFT = 230;
const RIGHT = 700;
const TOP = 96;
const ROW_HEIGHT = 26;
const TICKS: readonly { at: number; label: string }[] = [
  { at: 1 / 16, label: '1/16' },
  { at: 1 / 4, label: '1/4' },
  { at: 1 / 2, label: '1/2' },
  { at: 1, label: 'best peer' },
  { at: 2, label: '×2' },
  { at: 4, label: '×4' },
  { at: 16, label: '×16' },
];
const OURS_COLOURS = 4;

interface Line {
  report: RowReport;
  best: Cell;
  ours: readonly string[];
}

/** Undefined when the group has nothing that could be compared. */
export function groupChart(reports: readonly RowReport[], group: Group, machine: string): string | undefined {
  const ours = [
    ...new Set(
      reports.flatMap(({ cells }) =>
        cells
          .filter(({ configuration }) => configuration.group === group && configuration.judged)
          .map(({ configuration }) => configuration.name),
      ),
    ),
  ];
  const lines = reports.flatMap((report): Line[] => {
    const compared = ours.map((name) => compare(report, name)).find((each) => each !== undefined);
    return compared === undefined ? [] : [{ report, best: compared.best, ours }];
  });
  if (lines.length === 0) return undefined;
  const height = TOP + lines.length * ROW_HEIGHT + 40;
  const about = `fusewire beside the best of others: ${group}`;
  const marks = lines.map((line, i) => lineOf(line, TOP + (i + 0.5) * ROW_HEIGHT));
  return picture(WIDTH, height, about, [
    text(16, 26, about, { class: 'title' }),
    text(16, 44, machine, { class: 'small faint' }),
    legend(ours),
    ...axis(height - 40),
    ...marks,
  ]);
}

const place = logScale(1 / 16, 16, LEFT, RIGHT);

function axis(bottom: number): string[] {
  return TICKS.flatMap(({ at, label }) => [
    element('line', { class: at === 1 ? 'even' : 'grid', x1: place(at), x2: place(at), y1: TOP - 8, y2: bottom }),
    text(place(at), bottom + 16, label, { class: 'small faint', 'text-anchor': 'middle' }),
  ]);
}

function legend(ours: readonly string[]): string {
  const entries: [string, (x: number) => string][] = [
    ...ours.map((name, i): [string, (x: number) => string] => [name, (x) => dot(x, 64, `ours-${i % OURS_COLOURS}`)]),
    ['others', (x) => dot(x, 64, 'peer', 3.5)],
    ['native', (x) => hollow(x, 64, 'native')],
    ['null daemon', (x) => hollow(x, 64, 'floor')],
  ];
  let x = 22;
  return entries
    .map(([name, mark]) => {
      const markup = mark(x) + text(x + 10, 68, name, { class: 'small' });
      x += 34 + name.length * 6.4;
      return markup;
    })
    .join('');
}

function dot(x: number, y: number, colour: string, r = 5): string {
  return element('circle', { class: `mark ${colour}`, cx: x, cy: y, r });
}

function hollow(x: number, y: number, colour: string): string {
  return element('circle', { class: `hollow ${colour}`, cx: x, cy: y, r: 4 });
}

function lineOf({ report, best, ours }: Line, y: number): string {
  const { row, cells } = report;
  const at = (cell: Cell) => place(advantage(row, cell.value.median, best.value.median));
  const measured = cells.filter(({ value }) => Number.isFinite(value.median));
  const said = (cell: Cell, markup: string) =>
    titled(
      markup,
      `${cell.configuration.name}: ${figure(cell.value.median)} ${row.unit}${cell.cached ? ' (the kernel answered)' : ''}`,
    );
  const others = measured.filter(
    ({ configuration }) => configuration.group === best.configuration.group && configuration.project !== OURS,
  );
  const beside = measured.filter(({ configuration }) => configuration.group === 'native' || configuration.group === 'floor');
  const mine = measured.filter(({ configuration }) => ours.includes(configuration.name));
  const first = mine[0];
  const against = first === undefined ? undefined : bestPeer(report, first);
  const ratio =
    first === undefined || against === undefined ? undefined : advantage(row, first.value.median, against.value.median);
  return [
    text(16, y + 4, row.title),
    element('line', { class: 'grid', x1: LEFT, x2: RIGHT, y1: y, y2: y }),
    ...others.map((cell) => said(cell, dot(at(cell), y, 'peer', 3.5))),
    ...beside.map((cell) => said(cell, hollow(at(cell), y, cell.configuration.group))),
    ...mine.map((cell) => said(cell, dot(at(cell), y, `ours-${ours.indexOf(cell.configuration.name) % OURS_COLOURS}`))),
    text(RIGHT + 16, y + 4, `${figure(first?.value.median)} ${row.unit}`, { class: 'small' }),
    text(WIDTH - 16, y + 4, times(ratio), { class: 'small', 'text-anchor': 'end' }),
  ].join('');
}
