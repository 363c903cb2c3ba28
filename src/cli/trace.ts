/** `fusewire trace`: reading, checking, searching and changing recorded traffic. */
import { resolve } from 'node:path';
import {
  anonymiseTrace,
  type CheckReport,
  checkTrace,
  errnoNumber,
  type GrepQuery,
  grepMessages,
  grepTrace,
  type Machine,
  readTrace,
  type ShowOptions,
  showTrace,
  showTraceJson,
  statTrace,
  type TraceMessage,
  type TraceSummary,
  writeTrace,
} from '../trace/index.ts';
import { integer, need, type OptionTable, oneOf, parse, type TraceAction, type Values } from './arguments.ts';
import { CliError, EXIT } from './exit.ts';
import type { Output } from './output.ts';
import { Lines } from './trace-lines.ts';
import { checkText, statText } from './trace-text.ts';

const SHOW_OPTIONS: OptionTable = {
  pairs: { type: 'string' },
  json: { type: 'boolean' },
  from: { type: 'string' },
  to: { type: 'string' },
  limit: { type: 'string' },
  all: { type: 'boolean' },
  data: { type: 'string' },
  machine: { type: 'string' },
  colour: { type: 'string' },
  color: { type: 'string' },
};

const GREP_OPTIONS: OptionTable = {
  ...SHOW_OPTIONS,
  opcode: { type: 'string' },
  errno: { type: 'string' },
  path: { type: 'string' },
  node: { type: 'string' },
  pid: { type: 'string' },
  uid: { type: 'string' },
  'min-duration': { type: 'string' },
  output: { type: 'string' },
};

/** Runs `fusewire trace ACTION`; answers the exit code. */
export async function trace(action: TraceAction, argv: readonly string[], output: Output): Promise<number> {
  switch (action) {
    case 'show':
      return show(argv, output);
    case 'stat':
      return stat(argv, output);
    case 'check':
      return check(argv, output);
    case 'grep':
      return grep(argv, output);
    case 'anonymise':
      return anonymise(argv, output);
    case 'convert':
      return convert(argv, output);
    case 'replay':
      return (await import('./trace-replay.ts')).run(argv, output);
    case 'export':
      return (await import('./trace-export.ts')).run(argv, output);
    case 'dissector':
      return dissector(argv);
  }
}

async function show(argv: readonly string[], output: Output): Promise<number> {
  const { values, places } = parse('trace', argv, SHOW_OPTIONS);
  const { file } = need('trace', places, ['file']);
  const options = showOptions(values);
  const source = new Source(file);
  await print(source, options, values.json === true);
  source.tell(output);
  return EXIT.OK;
}

async function print(source: Source, options: ShowOptions, json: boolean): Promise<void> {
  const lines = new Lines();
  const shown = json ? jsonLines(showTraceJson(source.read(), options)) : showTrace(source.read(), options);
  for await (const line of shown) if (!(await lines.write(line))) return;
  await lines.end();
}

async function* jsonLines(values: AsyncIterable<unknown>): AsyncGenerator<string> {
  for await (const value of values) yield JSON.stringify(value);
}

async function stat(argv: readonly string[], output: Output): Promise<number> {
  const { values, places } = parse('trace', argv, { json: { type: 'boolean' }, top: { type: 'string' } });
  const { file } = need('trace', places, ['file']);
  const source = new Source(file);
  const report = await statTrace(source.read(), { top: integer(values, 'top', 0, 1_000_000) ?? 10 });
  const lines = new Lines();
  await lines.write(values.json === true ? JSON.stringify(report, undefined, 2) : statText(report));
  await lines.end();
  source.tell(output);
  return EXIT.OK;
}

async function check(argv: readonly string[], output: Output): Promise<number> {
  const { values, places } = parse('trace', argv, { json: { type: 'boolean' } });
  if (places.length === 0) need('trace', places, ['file']);
  const lines = new Lines();
  const json = values.json === true;
  const reports: CheckReport[] = [];
  for (const file of places) {
    const source = new Source(file);
    const report = await checkTrace(source.read());
    reports.push(report);
    if (json) await lines.write(JSON.stringify({ file, ...report }));
    else for (const line of checkText(report, places.length > 1 ? file : undefined)) await lines.write(line);
    source.tell(output);
  }
  if (!json && places.length > 1) await lines.write(countsLine(reports));
  await lines.end();
  return reports.every(({ different, undecodable }) => different === 0 && undecodable === 0) ? EXIT.OK : EXIT.DATA;
}

function countsLine(reports: readonly CheckReport[]): string {
  const sum = (name: 'messages' | 'identical' | 'different' | 'undecodable') =>
    reports.reduce((total, report) => total + report[name], 0);
  return `${sum('messages')} messages, ${sum('identical')} identical, ${sum('different')} different, ${sum('undecodable')} undecodable`;
}

async function grep(argv: readonly string[], output: Output): Promise<number> {
  const { values, places } = parse('trace', argv, GREP_OPTIONS);
  const { file } = need('trace', places, ['file']);
  const query = grepQuery(values);
  const source = new Source(file);
  if (values.output !== undefined) {
    differ(file, values.output as string);
    const count = await writeTrace(
      values.output as string,
      grepMessages(() => source.read(), query),
    );
    output.text(`wrote ${count} messages to ${values.output as string}`);
  } else {
    const options = showOptions(values);
    const found = await grepTrace(source.read(), query);
    await print(source, { ...options, only: (index) => found.has(index) }, values.json === true);
  }
  source.tell(output);
  return EXIT.OK;
}

async function anonymise(argv: readonly string[], output: Output): Promise<number> {
  const { values, places } = parse('trace', argv, { seed: { type: 'string' } });
  const { file, result } = need('trace', places, ['file', 'result']);
  differ(file, result);
  const source = new Source(file);
  const seed = integer(values, 'seed', 0, 2 ** 32 - 1);
  let dropped = 0;
  const changed = anonymiseTrace(source.read(), {
    ...(seed === undefined ? {} : { seed }),
    onDropped: () => {
      dropped += 1;
    },
  });
  const count = await writeTrace(result, changed);
  const lost = dropped === 0 ? '' : `; ${dropped} that do not decode were left out`;
  output.text(`wrote ${count} messages to ${result}${lost}`);
  source.tell(output);
  return EXIT.OK;
}

async function convert(argv: readonly string[], output: Output): Promise<number> {
  const { places } = parse('trace', argv, {});
  const { file, result } = need('trace', places, ['file', 'result']);
  differ(file, result);
  const source = new Source(file);
  const count = await writeTrace(result, source.read());
  output.text(`wrote ${count} messages to ${result}`);
  source.tell(output);
  return EXIT.OK;
}

async function dissector(argv: readonly string[]): Promise<number> {
  const { places } = parse('trace', argv, {});
  const { wiresharkDissector } = await import('../trace/dissector.ts');
  if (places.length === 0) {
    const lines = new Lines();
    await lines.write(wiresharkDissector().trimEnd());
    await lines.end();
    return EXIT.OK;
  }
  const { file } = need('trace', places, ['file']);
  const { writeFile } = await import('node:fs/promises');
  try {
    await writeFile(file, wiresharkDissector());
  } catch (error) {
    throw new CliError(`${file} cannot be written (${(error as NodeJS.ErrnoException).code}); name another file.`);
  }
  return EXIT.OK;
}

/** A trace that is read, and what is to be said about it at the end. */
class Source {
  readonly #file: string;
  #summary: TraceSummary | undefined;

  constructor(file: string) {
    this.#file = file;
  }

  read(): AsyncGenerator<TraceMessage, unknown, void> {
    return readTrace(this.#file, {
      onEnd: (summary) => {
        this.#summary = summary;
      },
    });
  }

  /** A recording that a crash cut is read as far as it goes. */
  tell(output: Output): void {
    const cut = this.#summary?.truncated;
    if (cut !== undefined) output.note(`The end of the trace ${this.#file} is missing, from byte ${cut.offset} on.`);
  }
}

function differ(file: string, result: string): void {
  if (resolve(file) === resolve(result)) throw new CliError(`The result would take the place of ${file}; name another file.`);
}

function showOptions(values: Values): ShowOptions {
  const [from, to] = [micros(values, 'from'), micros(values, 'to')];
  const limit = integer(values, 'limit', 0, 1e9);
  const dataMax = integer(values, 'data', 0, 1e7);
  const machine = oneOf<Machine>(values, 'machine', ['x64', 'arm']);
  return {
    pairs: oneOf(values, 'pairs', ['yes', 'no']) !== 'no',
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
    ...(limit === undefined ? {} : { limit }),
    ...(dataMax === undefined ? {} : { dataMax }),
    ...(machine === undefined ? {} : { machine }),
    all: values.all === true,
    colour: wantsColour(values),
  };
}

function wantsColour(values: Values): boolean {
  const name = values.color === undefined ? 'colour' : 'color';
  const choice = oneOf(values, name, ['auto', 'always', 'never']) ?? 'auto';
  if (choice !== 'auto') return choice === 'always';
  return process.stdout.isTTY === true && (process.env.NO_COLOR ?? '') === '' && process.env.TERM !== 'dumb';
}

const MICROS: Readonly<Record<string, number>> = { s: 1e6, ms: 1e3, us: 1 };

/** Seconds, or a number with its unit, in microseconds. */
function micros(values: Values, name: string): number | undefined {
  const value = values[name];
  if (value === undefined) return undefined;
  const match = /^(\d+(?:\.\d*)?|\.\d+)(s|ms|us)?$/.exec(value as string);
  if (match === null) throw new CliError(`--${name} is a time as 1.5, 250ms or 90us, not ${value as string}.`);
  return Number(match[1]) * MICROS[match[2] ?? 's']!;
}

function grepQuery(values: Values): GrepQuery {
  const opcodes = list(values, 'opcode')?.map((name) => name.toUpperCase().replace(/^FUSE_/, ''));
  const nodeid = values.node === undefined ? undefined : nodeNumber(values.node as string);
  const [pid, uid] = [integer(values, 'pid', 0, 2 ** 32 - 1), integer(values, 'uid', 0, 2 ** 32 - 1)];
  const durationMin = micros(values, 'min-duration');
  const errnos = errnosOf(list(values, 'errno'));
  return {
    ...(opcodes === undefined ? {} : { opcodes }),
    ...(errnos === undefined ? {} : { errnos }),
    ...(values.path === undefined ? {} : { path: pathPattern(values.path as string) }),
    ...(nodeid === undefined ? {} : { nodeid }),
    ...(pid === undefined ? {} : { pid }),
    ...(uid === undefined ? {} : { uid }),
    ...(durationMin === undefined ? {} : { durationMin }),
  };
}

function list(values: Values, name: string): string[] | undefined {
  return (values[name] as string | undefined)?.split(',').filter((word) => word !== '');
}

function errnosOf(names: readonly string[] | undefined): number[] | 'any' | undefined {
  if (names === undefined) return undefined;
  if (names.includes('any')) return 'any';
  return names.map((name) => {
    const number = errnoNumber(name);
    if (number === undefined) throw new CliError(`--errno is a list of names as ENOENT, or any; ${name} is none.`);
    return number;
  });
}

function nodeNumber(text: string): bigint {
  if (!/^#?\d{1,20}$/.test(text)) throw new CliError(`--node is the number of a node, not ${text}.`);
  return BigInt(text.replace('#', ''));
}

/** A pattern with a slash is for the whole path, without for a name. */
function pathPattern(pattern: string): RegExp {
  const source = pattern.replace(/\*\*|[*?]|[\\^$.|+()[\]{}]/g, (found) => {
    if (found === '**') return '.*';
    if (found === '*') return '[^/]*';
    return found === '?' ? '[^/]' : `\\${found}`;
  });
  return new RegExp(pattern.includes('/') ? `^${source}$` : `(?:^|/)${source}$`, 'su');
}
