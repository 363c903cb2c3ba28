/** The command line of the runner. */
import { parseArgs } from 'node:util';
import { ConformanceError } from './failure.ts';

export const STORAGES = ['tmpfs', 'ext4', 'xfs'] as const;
export type Storage = (typeof STORAGES)[number];

export interface Settings {
  suite: string;
  list: boolean;
  help: boolean;
  json: boolean;
  over: Storage;
  mode: 'event' | 'blocking';
  workers: number;
  cache: 'none' | 'auto' | 'always';
  writeback: boolean;
  /** Files that the kernel reads and writes itself: the default for root, but not with write-back. */
  backing: boolean;
  /** Only cases, or files of cases, whose name contains one of these. Empty: all. */
  only: string[];
  /** Cases that are left out, likewise. */
  except: string[];
  /** What a suite calls a group of its tests; undefined: the suite's default. */
  group: string | undefined;
  /** Operations that fsx makes in each of its modes. */
  operations: number;
  seed: number;
  /** How long fsstress runs. */
  seconds: number;
  /** Processes of fsstress; test files at a time elsewhere. */
  processes: number | undefined;
  /** Seconds that one test of xfstests or LTP, or one file of pjdfstest, may take; undefined: the suite's default. */
  limit: number | undefined;
  /** Bytes of the scratch filesystem, as mkfs and tmpfs take them: `4G`. */
  size: string;
  /** What an earlier `--json` run printed, of which the results beneath are taken instead of running the suite there. */
  beneath: string | undefined;
  /** A folder that keeps the raw output of every test. */
  log: string | undefined;
  /** After `--`: more arguments for `fusewire passthrough`. */
  daemon: string[];
}

export const USAGE = `npm run conformance -- SUITE [options] [-- ARGUMENTS]

Runs an outside suite of filesystem tests against a fresh mount of "fusewire passthrough" and against the folder beneath,
and prints where they differ. Differences that scripts/conformance/known.json explains are listed with their reason; any
other one makes the run fail. ARGUMENTS go to the passthrough.

  --list                    the suites, the variables that name them, and which are there
  --over tmpfs|ext4|xfs     what the folder beneath lies on: a fresh filesystem (default: tmpfs)
  --mode event|blocking     of the workers (default: blocking)
  --workers N               (default: 2)
  --cache none|auto|always  (default: auto)
  --writeback, --backing, --no-backing
                            of the passthrough (default: backing files, as it does by itself for root)
  --only TEXT               only tests whose name contains TEXT; may be repeated
  --except TEXT             not those; may be repeated
  --group NAME              of the suite's tests: xfstests quick (default), auto …; ltp syscalls, fs, dio … with commas between
  --operations N            fsx: in each mode (default: 100000)
  --seed N                  fsx, fsstress (default: 1)
  --seconds N               fsstress (default: 60)
  --processes N             fsstress (default: 8); of other suites, test files at a time (default: 1)
  --limit SECONDS           for one test of xfstests (default: 300) or LTP (180), or one file of pjdfstest (900)
  --size SIZE               of the scratch filesystem (default: 6G; it takes what is written to it)
  --beneath FILE            results beneath from an earlier run with --json
  --log FOLDER              keep every test's output
  --json                    everything as JSON

It needs root. All it does happens in namespaces of its own: when it ends, however it ends, its mounts, loop devices and
processes are gone. It exits with 0 when nothing differs but what is known, with 1 when something does or the run fails,
with 2 when the command is wrong, and with 69 when the suite is not there.`;

const OPTIONS = {
  help: { type: 'boolean', short: 'h' },
  list: { type: 'boolean' },
  json: { type: 'boolean' },
  over: { type: 'string' },
  mode: { type: 'string' },
  workers: { type: 'string' },
  cache: { type: 'string' },
  writeback: { type: 'boolean' },
  backing: { type: 'boolean' },
  'no-backing': { type: 'boolean' },
  only: { type: 'string', multiple: true },
  except: { type: 'string', multiple: true },
  group: { type: 'string' },
  operations: { type: 'string' },
  seed: { type: 'string' },
  seconds: { type: 'string' },
  processes: { type: 'string' },
  limit: { type: 'string' },
  size: { type: 'string' },
  beneath: { type: 'string' },
  log: { type: 'string' },
} as const;

export function parseSettings(argv: readonly string[]): Settings {
  const end = argv.indexOf('--');
  const { values, positionals } = parseOrRefuse(end < 0 ? argv : argv.slice(0, end));
  if (values.backing && (values.writeback || values['no-backing'])) {
    throw ConformanceError.usage(`--backing excludes --${values.writeback ? 'writeback' : 'no-backing'}`);
  }
  if (positionals.length > 1) throw ConformanceError.usage(`one suite at a time, not also ${positionals[1]}`);
  return {
    suite: positionals[0] ?? '',
    list: values.list ?? false,
    help: values.help ?? false,
    json: values.json ?? false,
    over: oneOf('over', values.over, STORAGES) ?? 'tmpfs',
    mode: oneOf('mode', values.mode, ['event', 'blocking'] as const) ?? 'blocking',
    workers: count('workers', values.workers, 64) ?? 2,
    cache: oneOf('cache', values.cache, ['none', 'auto', 'always'] as const) ?? 'auto',
    writeback: values.writeback ?? false,
    backing: !(values.writeback || values['no-backing']),
    only: values.only ?? [],
    except: values.except ?? [],
    group: values.group,
    operations: count('operations', values.operations, 1e9) ?? 100_000,
    seed: count('seed', values.seed, 2 ** 31 - 1) ?? 1,
    seconds: count('seconds', values.seconds, 86_400) ?? 60,
    processes: count('processes', values.processes, 64),
    limit: count('limit', values.limit, 86_400),
    size: size(values.size ?? '6G'),
    beneath: values.beneath,
    log: values.log,
    daemon: end < 0 ? [] : argv.slice(end + 1),
  };
}

function parseOrRefuse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true, strict: true });
  } catch (error) {
    throw ConformanceError.usage((error as Error).message.split('\n', 1)[0]);
  }
}

function oneOf<Choice extends string>(name: string, value: string | undefined, choices: readonly Choice[]): Choice | undefined {
  const choice = choices.find((candidate) => candidate === value);
  if (value !== undefined && choice === undefined) {
    throw ConformanceError.usage(`--${name} is ${choices.join(' or ')}, not ${value}`);
  }
  return choice;
}

function count(name: string, value: string | undefined, most: number): number | undefined {
  if (value === undefined) return undefined;
  const number = /^\d{1,10}$/.test(value) ? Number(value) : 0;
  if (number < 1 || number > most) throw ConformanceError.usage(`--${name} is a whole number from 1 to ${most}, not ${value}`);
  return number;
}

function size(value: string): string {
  if (!/^\d{1,4}[MG]$/.test(value)) throw ConformanceError.usage(`--size is a number with M or G, not ${value}`);
  return value;
}

/** How the passthrough is served, in words. */
export function describeMount(settings: Settings): string {
  const { workers, mode, cache, writeback, backing, daemon } = settings;
  return [
    `${mode} mode`,
    `${workers} ${workers === 1 ? 'worker' : 'workers'}`,
    ...(cache === 'auto' ? [] : [`cache ${cache}`]),
    ...(writeback ? ['write-back cache'] : []),
    ...(backing || writeback ? [] : ['no backing files']),
    ...daemon,
  ].join(', ');
}
