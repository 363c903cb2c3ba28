/** What `fusewire trace check` and `stat` print for people. */
import type { CheckReport, Latency, OpcodeStat, TraceStat } from '../trace/index.ts';

const OPAQUE: Readonly<Record<keyof CheckReport['opaque'], string>> = {
  unasked: 'answers to requests that the trace does not hold, or that were answered before',
  refused: 'writes that the kernel refused and that are no messages',
  foreign: 'ioctls that are not of FUSE',
  empty: 'messages of which the recorder kept no bytes',
};

/** The findings, what is special about the identical ones, and the counts as the last line. */
export function checkText(report: CheckReport, file?: string): string[] {
  const prefix = file === undefined ? '' : `${file}: `;
  const { messages, identical, different, undecodable, padding, opaque, findings } = report;
  const lines = findings.map(
    ({ index, t, dir, verdict, code, reason }) =>
      `${prefix}message ${index} (${dir}) at ${(t / 1e6).toFixed(6)} is ${verdict}: ${code}: ${reason}`,
  );
  const more = different + undecodable - findings.length;
  if (more > 0) lines.push(`${prefix}and ${more} more`);
  for (const [why, count] of Object.entries(opaque) as [keyof typeof OPAQUE, number][])
    if (count > 0) lines.push(`${prefix}of the identical, kept as they came: ${count} ${OPAQUE[why]}`);
  if (padding > 0) lines.push(`${prefix}of the identical, different in padding alone: ${padding}`);
  lines.push(`${prefix}${messages} messages, ${identical} identical, ${different} different, ${undecodable} undecodable`);
  return lines;
}

export function statText(report: TraceStat): string {
  const { messages, requests, duration, broken, refused } = report;
  const seconds = duration / 1e6;
  const rate = seconds > 0 ? `, ${Math.round(requests / seconds)} requests a second` : '';
  const trouble = [
    ...(broken > 0 ? [`${broken} messages do not decode`] : []),
    ...(refused > 0 ? [`${refused} writes were refused by the kernel`] : []),
  ];
  return [
    `${messages} messages, ${requests} requests in ${seconds.toFixed(3)} s${rate}`,
    ...trouble,
    ...initText(report),
    '',
    ...opcodeTable(report.opcodes),
    ...others('notifications', report.notifications),
    ...others('ioctls', report.ioctls),
    '',
    ...depthText(report),
    ...fileTable(report),
  ].join('\n');
}

function initText({ init }: TraceStat): string[] {
  if (init === undefined) return ['no INIT in the trace'];
  const kernel = init.kernelMinor === undefined ? '' : ` (the kernel offers 7.${init.kernelMinor})`;
  const limits = Object.entries(init.reply).filter(([, value]) => value !== 0);
  return [
    `agreed on 7.${init.minor}${kernel}: ${limits.map(([name, value]) => `${name} ${value}`).join(', ')}`,
    `flags: ${init.flags.map((flag) => flag.replace(/^FUSE_/, '')).join(' ') || 'none'}`,
  ];
}

function opcodeTable(opcodes: readonly OpcodeStat[]): string[] {
  const head = ['opcode', 'count', 'share', 'min', 'p50', 'p90', 'p99', 'max', 'read', 'written', 'errors'];
  const rows = opcodes.map((row) => [
    row.opcode,
    String(row.count),
    `${(row.share * 100).toFixed(1)}%`,
    ...latencyCells(row.latency),
    row.bytesRead === 0 ? '' : bytes(row.bytesRead),
    row.bytesWritten === 0 ? '' : bytes(row.bytesWritten),
    [
      ...Object.entries(row.errors).map(([name, count]) => `${name} ${count}`),
      ...(row.unanswered > 0 ? [`unanswered ${row.unanswered}`] : []),
    ].join(', '),
  ]);
  return table([head, ...rows], [0, 10]);
}

function latencyCells(latency: Latency | undefined): string[] {
  if (latency === undefined) return ['', '', '', '', ''];
  return [latency.min, latency.p50, latency.p90, latency.p99, latency.max].map(span);
}

function others(what: string, counts: Readonly<Record<string, number>>): string[] {
  const entries = Object.entries(counts);
  return entries.length === 0 ? [] : [`${what}: ${entries.map(([name, count]) => `${name} ${count}`).join(', ')}`];
}

const BARS = ' ▁▂▃▄▅▆▇█';

function depthText({ depth, duration }: TraceStat): string[] {
  const { average, max, histogram, timeline } = depth;
  const total = histogram.reduce((sum, time) => sum + time, 0);
  const bar = (value: number) => BARS[value === 0 ? 0 : Math.max(1, Math.round((value / Math.max(1, max)) * 8))]!;
  const rows = ranges(histogram)
    .filter(({ time }) => time > 0)
    .map(({ label, time }) => [label, `${((100 * time) / total).toFixed(1)}%`, '█'.repeat(Math.round((40 * time) / total))]);
  return [
    `requests in flight: ${average.toFixed(2)} on average, ${max} at most`,
    `  |${timeline.map(bar).join('')}| highest in each ${span(duration / timeline.length)}`,
    ...table(rows, [2]).map((line) => `  ${line}`),
  ];
}

/** Depths 0, 1, 2, 3-4, 5-8 and so on. */
function ranges(histogram: readonly number[]): { label: string; time: number }[] {
  const found: { label: string; time: number }[] = [];
  let from = 0;
  for (let to = 0; from < histogram.length; to = to < 2 ? to + 1 : to * 2) {
    const time = histogram.slice(from, to + 1).reduce((sum, part) => sum + part, 0);
    found.push({ label: from === to ? String(to) : `${from}-${to}`, time });
    from = to + 1;
  }
  return found;
}

function fileTable({ files }: TraceStat): string[] {
  if (files.length === 0) return [];
  const rows = files.map(({ path, count, time, bytesRead, bytesWritten }) => [
    span(time),
    String(count),
    bytesRead === 0 ? '' : bytes(bytesRead),
    bytesWritten === 0 ? '' : bytes(bytesWritten),
    // A name can hold what a terminal would obey.
    JSON.stringify(path).slice(1, -1),
  ]);
  return ['', ...table([['time', 'requests', 'read', 'written', 'busiest files'], ...rows], [4])];
}

/** Columns of equal width; those in `left` begin at the left. */
function table(rows: readonly (readonly string[])[], left: readonly number[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (left.includes(column) ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join('  ')
      .trimEnd(),
  );
}

function span(micros: number): string {
  if (micros < 1000) return `${Math.round(micros)}us`;
  return micros < 1e6 ? `${(micros / 1e3).toPrecision(3)}ms` : `${(micros / 1e6).toPrecision(3)}s`;
}

function bytes(count: number): string {
  const unit = Math.min(4, Math.max(0, Math.floor(Math.log2(Math.max(1, count)) / 10)));
  return unit === 0 ? String(count) : `${(count / 1024 ** unit).toPrecision(3)}${['', 'K', 'M', 'G', 'T'][unit]}`;
}
