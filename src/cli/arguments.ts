/** The command line: arguments in, one typed command out. Refuses what it does not know. */
import { availableParallelism } from 'node:os';
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { CliError } from './exit.ts';

/** What serves a passthrough when nobody says otherwise: a worker for each core, at least two so that one may wait for the disk. */
export const PASSTHROUGH_WORKERS = Math.min(4, Math.max(2, availableParallelism()));
/**
 * Bytes. Larger requests would be fewer, but a direct read or write of a megabyte or two should come as several pieces that the
 * workers copy side by side: with 1 MiB asynchronous direct I/O gained nothing on `dd` writes of 2 MiB, with 256 KiB it gained ×1.7,
 * and buffered writes were as fast (docs/BENCHMARKS.md).
 */
export const PASSTHROUGH_MAX_WRITE = 256 * 1024;
export const PASSTHROUGH_MODE: ServeMode = 'blocking';

export type ServeMode = 'event' | 'blocking';
export type CachePolicy = 'none' | 'auto' | 'always';

/** The options that `passthrough` and `mount` share. Undefined: the default of the part that it goes to. */
export interface ServeOptions {
  workers?: number;
  mode?: ServeMode;
  transport: 'auto' | 'device' | 'uring';
  asyncDio: boolean;
  maxBackground?: number;
  maxWrite?: number;
  cache: CachePolicy;
  writeback: boolean;
  /** Undefined: where it can be had. */
  backing?: boolean;
  readOnly: boolean;
  json: boolean;
  /** A file in which the traffic is recorded. */
  trace?: string;
  /** All `-o`, joined by commas. */
  mountOptions: string;
}

export const TRACE_ACTIONS = ['show', 'stat', 'check', 'grep', 'anonymise', 'convert', 'replay', 'export', 'dissector'] as const;
export type TraceAction = (typeof TRACE_ACTIONS)[number];

export type CommandName = 'passthrough' | 'mount' | 'umount' | 'trace' | 'doctor';

export type Command =
  | { name: 'help'; topic?: CommandName }
  | { name: 'version' }
  /** Without a source and a mount point: make both. */
  | { name: 'passthrough'; places?: { source: string; mountpoint: string }; options: ServeOptions }
  /** `arguments`: what follows `--`, for the module. */
  | { name: 'mount'; module: string; mountpoint: string; arguments: string[]; options: ServeOptions }
  | { name: 'umount'; mountpoint: string; lazy: boolean; force: boolean }
  | { name: 'doctor'; json: boolean }
  /** `arguments`: what follows the action; each action parses its own. */
  | { name: 'trace'; action: TraceAction; arguments: string[] };

export type OptionTable = NonNullable<ParseArgsConfig['options']>;

const HELP: OptionTable = { help: { type: 'boolean', short: 'h' } };

const SERVE_OPTIONS: OptionTable = {
  ...HELP,
  workers: { type: 'string' },
  mode: { type: 'string' },
  transport: { type: 'string' },
  'async-dio': { type: 'boolean' },
  'no-async-dio': { type: 'boolean' },
  'max-background': { type: 'string' },
  'max-write': { type: 'string' },
  cache: { type: 'string' },
  writeback: { type: 'boolean' },
  backing: { type: 'boolean' },
  'no-backing': { type: 'boolean' },
  trace: { type: 'string' },
  'read-only': { type: 'boolean' },
  json: { type: 'boolean' },
  options: { type: 'string', short: 'o', multiple: true },
};

const UMOUNT_OPTIONS: OptionTable = {
  ...HELP,
  lazy: { type: 'boolean', short: 'z' },
  force: { type: 'boolean', short: 'f' },
};

const COMMANDS: readonly string[] = ['passthrough', 'mount', 'umount', 'trace', 'doctor'] satisfies CommandName[];

/** Parses `process.argv` without its first two. Throws {@link CliError}. */
export function parseCommand(argv: readonly string[]): Command {
  const [first, ...rest] = argv;
  if (first === undefined) throw new CliError('Name a command; "fusewire --help" lists them.');
  if (first === '--help' || first === '-h' || first === 'help') {
    return isCommand(rest[0]) ? { name: 'help', topic: rest[0] } : { name: 'help' };
  }
  if (first === '--version' || first === '-V') return { name: 'version' };
  if (!isCommand(first)) throw new CliError(`There is no command ${first}; "fusewire --help" lists those that exist.`);
  const known = {
    passthrough: SERVE_OPTIONS,
    mount: SERVE_OPTIONS,
    umount: UMOUNT_OPTIONS,
    doctor: { ...HELP, json: { type: 'boolean' } },
  };
  if (first === 'trace') return traceCommand(rest);
  const { values, places, after } = parse(first, rest, known[first] as OptionTable);
  if (values.help === true) return { name: 'help', topic: first };
  if (first !== 'mount' && after.length > 0) throw tooMany(first, after[0] as string);
  switch (first) {
    case 'passthrough':
      return passthroughCommand(values, places);
    case 'mount':
      return mountCommand(values, places, after);
    case 'umount':
      return { name: 'umount', ...need(first, places, ['mountpoint']), lazy: values.lazy === true, force: values.force === true };
    case 'doctor':
      need(first, places, []);
      return { name: 'doctor', json: values.json === true };
  }
}

function isCommand(name: string | undefined): name is CommandName {
  return name !== undefined && COMMANDS.includes(name);
}

function traceCommand([action, ...rest]: readonly string[]): Command {
  const before = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest;
  if (action === '--help' || action === '-h' || before.includes('--help') || before.includes('-h'))
    return { name: 'help', topic: 'trace' };
  if (action === undefined) throw new CliError('Say what to do with the trace; "fusewire trace --help" lists it.');
  const known = TRACE_ACTIONS.find((candidate) => candidate === (action === 'anonymize' ? 'anonymise' : action));
  if (known === undefined) throw new CliError(`There is no trace ${action}; "fusewire trace --help" lists what there is.`);
  return { name: 'trace', action: known, arguments: rest };
}

function passthroughCommand(values: Values, places: string[]): Command {
  const options = serveOptions(values);
  options.workers ??= PASSTHROUGH_WORKERS;
  options.mode ??= PASSTHROUGH_MODE;
  options.maxWrite ??= PASSTHROUGH_MAX_WRITE;
  if (places.length === 0) return { name: 'passthrough', options };
  return { name: 'passthrough', places: need('passthrough', places, ['source', 'mountpoint']), options };
}

function mountCommand(values: Values, places: string[], after: string[]): Command {
  return { name: 'mount', ...need('mount', places, ['module', 'mountpoint']), arguments: after, options: serveOptions(values) };
}

export type Values = Record<string, string | boolean | (string | boolean)[] | undefined>;

export function parse(
  command: string,
  args: readonly string[],
  options: OptionTable,
): { values: Values; places: string[]; after: string[] } {
  // What follows `--` belongs to the module: parseArgs would mix it with the places.
  const end = args.indexOf('--');
  const own = end < 0 ? args : args.slice(0, end);
  const after = end < 0 ? [] : args.slice(end + 1);
  try {
    const { values, positionals } = parseArgs({ args: [...own], options, allowPositionals: true, strict: true });
    return { values: values as Values, places: positionals, after };
  } catch (error) {
    const sentence = ((error as Error).message.split(/[.\n]/, 1)[0] as string).trim();
    throw new CliError(`${sentence}; "fusewire ${command} --help" lists the options.`);
  }
}

/** Gives the places their names, or says which one is missing. */
export function need<Name extends string>(
  command: string,
  places: readonly string[],
  names: readonly Name[],
): Record<Name, string> {
  if (places.length > names.length) throw tooMany(command, places[names.length] as string);
  const missing = names[places.length];
  if (missing !== undefined) throw new CliError(`The ${missing} is missing; see "fusewire ${command} --help".`);
  return Object.fromEntries(names.map((name, index) => [name, places[index]])) as Record<Name, string>;
}

function tooMany(command: string, argument: string): CliError {
  return new CliError(`The argument ${argument} is one too many; see "fusewire ${command} --help".`);
}

function serveOptions(values: Values): ServeOptions {
  if (values.trace === '') throw new CliError('--trace is the name of a file.');
  const asyncDio = choose(values, 'async-dio') ?? true;
  const backing = choose(values, 'backing');
  if (backing === true && values.writeback === true)
    throw new CliError('--backing and --writeback exclude each other: give one.');
  const transport = oneOf(values, 'transport', ['auto', 'device', 'uring']) ?? 'auto';
  const workers = integer(values, 'workers', 1, 64);
  const maxBackground = integer(values, 'max-background', 1, 65_535);
  const maxWrite = integer(values, 'max-write', 4096, 16 * 1024 * 1024);
  const mode = oneOf(values, 'mode', ['event', 'blocking']);
  return {
    ...(workers === undefined ? {} : { workers }),
    ...(mode === undefined ? {} : { mode }),
    transport,
    asyncDio,
    ...(maxBackground === undefined ? {} : { maxBackground }),
    ...(maxWrite === undefined ? {} : { maxWrite }),
    cache: oneOf(values, 'cache', ['none', 'auto', 'always']) ?? 'auto',
    writeback: values.writeback === true,
    ...(backing === undefined ? {} : { backing }),
    readOnly: values['read-only'] === true,
    json: values.json === true,
    ...(values.trace === undefined ? {} : { trace: values.trace as string }),
    mountOptions: ((values.options ?? []) as string[]).join(','),
  };
}

/** `--name` or `--no-name`, not both. */
function choose(values: Values, name: string): boolean | undefined {
  const [yes, no] = [values[name], values[`no-${name}`]];
  if (yes !== undefined && no !== undefined) throw new CliError(`Give --${name} or --no-${name}, not both.`);
  return yes !== undefined ? true : no !== undefined ? false : undefined;
}

export function oneOf<Choice extends string>(values: Values, name: string, choices: readonly Choice[]): Choice | undefined {
  const value = values[name];
  if (value === undefined) return undefined;
  const choice = choices.find((candidate) => candidate === value);
  if (choice === undefined) throw new CliError(`--${name} is ${choices.join(' or ')}, not ${value}.`);
  return choice;
}

export function integer(values: Values, name: string, least: number, most: number): number | undefined {
  const value = values[name];
  if (value === undefined) return undefined;
  const number = /^\d{1,10}$/.test(value as string) ? Number(value) : -1;
  if (number < least || number > most) throw new CliError(`--${name} is a whole number from ${least} to ${most}, not ${value}.`);
  return number;
}
