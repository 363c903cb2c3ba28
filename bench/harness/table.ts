/** Tables as text, the same cells either aligned for a terminal or as Markdown. */

export interface Column {
  title: string;
  /** Default left; numbers stand better on the right. */
  align?: 'left' | 'right';
}

export interface Table {
  columns: readonly Column[];
  rows: readonly (readonly string[])[];
}

/** Characters as a terminal counts them; enough for the signs that occur here. */
function width(text: string): number {
  return [...text].length;
}

function pad(text: string, length: number, align: Column['align']): string {
  const space = ' '.repeat(Math.max(0, length - width(text)));
  return align === 'right' ? space + text : text + space;
}

function widths(table: Table, cell: (text: string) => string): number[] {
  return table.columns.map(({ title }, column) =>
    Math.max(width(cell(title)), ...table.rows.map((row) => width(cell(row[column] ?? '')))),
  );
}

export function textTable(table: Table): string {
  const lengths = widths(table, (text) => text);
  const line = (cells: readonly string[]) =>
    table.columns
      .map(({ align }, column) => pad(cells[column] ?? '', lengths[column], align))
      .join('  ')
      .trimEnd();
  const rule = lengths.map((length) => '─'.repeat(length)).join('  ');
  return [line(table.columns.map(({ title }) => title)), rule, ...table.rows.map(line)].join('\n');
}

export function markdownTable(table: Table): string {
  const escaped = (text: string) => text.replaceAll('\\', '\\\\').replaceAll('|', '\\|');
  const lengths = widths(table, escaped).map((length) => Math.max(3, length));
  const line = (cells: readonly string[]) =>
    `| ${table.columns.map(({ align }, column) => pad(escaped(cells[column] ?? ''), lengths[column], align)).join(' | ')} |`;
  const rule = table.columns.map(({ align }, column) =>
    align === 'right' ? `${'-'.repeat(lengths[column] - 1)}:` : '-'.repeat(lengths[column]),
  );
  return [line(table.columns.map(({ title }) => title)), `| ${rule.join(' | ')} |`, ...table.rows.map(line)].join('\n');
}

/** A number with the digits that mean something: three, or whole and with thousands separated from 1000 on. `–` for none. */
export function figure(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return '–';
  if (Math.abs(value) >= 99.95) return Math.round(value).toLocaleString('en-US');
  if (Math.abs(value) >= 9.995) return value.toFixed(1);
  return value.toFixed(2);
}

/** `×1.19`. */
export function times(value: number | undefined): string {
  return value === undefined || !Number.isFinite(value) ? '–' : `×${value.toFixed(2)}`;
}
