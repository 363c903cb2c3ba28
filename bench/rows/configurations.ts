/** What the rows are run on: each a folder, seen through a daemon or not. Only those of one group are compared. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { BenchError } from '../harness/failure.ts';
import { packageRoot } from '../harness/machine.ts';
import { ourCommand } from '../letter/configurations.ts';

/**
 * `passthrough`: a folder shown through, every byte by the daemon. `backing`: the same with files that the kernel reads and writes
 * itself. `memory`: filesystems that hold their files. `hello`: one small file that never changes. `floor`: one file of zeros.
 */
export const GROUPS = ['native', 'floor', 'passthrough', 'backing', 'memory', 'hello'] as const;
export type Group = (typeof GROUPS)[number];

export interface Configuration {
  /** Unique. */
  name: string;
  group: Group;
  /** Whose it is: `fusewire`, `libfuse`, `bindfs` and so on. */
  project: string;
  /** Of ours: whether goals are asked of it, or it is measured beside. */
  judged: boolean;
  ring: boolean;
  /** Worker threads, where that is known. */
  workers?: number;
  /** Undefined: no daemon, the source folder itself. */
  command?: (source: string, mount: string) => string[];
  /** Where the source folder's files stand below the mount point. */
  prefix: 'root' | 'source-path';
}

export const OURS = 'fusewire';
export const LIBFUSE = 'libfuse';
export const FLOOR = 'null daemon';
export const PREAD_FLOOR = 'null daemon with a file';

export const NATIVE: Configuration = {
  name: 'native',
  group: 'native',
  project: 'native',
  judged: false,
  ring: false,
  prefix: 'root',
};

export type Mode = 'event' | 'blocking';
export type Transport = 'device' | 'uring';

export interface OurChoice {
  modes: readonly Mode[];
  workers: readonly number[];
  transports: readonly Transport[];
  /** Words for every daemon of ours, and words that make a further one, measured beside. */
  extra: readonly string[];
  variants: readonly string[];
}

interface OurDaemon {
  mode: Mode;
  workers: number;
  transport: Transport;
  words: readonly string[];
}

/** Our passthrough with every combination asked for, and the first with backing files; our memory filesystem and hello. */
export function ourConfigurations(choice: OurChoice): Configuration[] {
  const { modes, workers, transports, extra, variants } = choice;
  const list: Configuration[] = [];
  for (const [m, mode] of modes.entries()) {
    for (const transport of transports) {
      for (const [w, count] of workers.entries()) {
        for (const variant of ['', ...variants]) {
          const words = [...extra, ...variant.split(/\s+/).filter((word) => word !== '')];
          const judged = m === 0 && w === 0 && variant === '';
          list.push(...passthroughs({ mode, workers: count, transport, words }, variant, judged));
        }
      }
      list.push(module('memory', mode, transport, extra, m === 0), module('hello', mode, transport, extra, m === 0));
    }
  }
  return list;
}

function passthroughs(daemon: OurDaemon, variant: string, judged: boolean): Configuration[] {
  const { mode, workers, transport, words } = daemon;
  const name = nameOf(`fusewire ${mode} ${workers}w`, transport, variant);
  const common = { project: OURS, judged, ring: transport === 'uring', workers, prefix: 'root' } as const;
  const command = (backing: string) => (source: string, mount: string) =>
    ourCommand(source, mount, { mode, workers, extra: ['--transport', transport, backing, ...words] });
  const daemonPath: Configuration = { ...common, name, group: 'passthrough', command: command('--no-backing') };
  if (!judged) return [daemonPath];
  return [daemonPath, { ...common, name: `${name} backing`, group: 'backing', command: command('--backing') }];
}

const MODULES = {
  memory: { script: 'dist/examples/memory/filesystem.js', words: ['-o', 'default_permissions'], after: ['size=4g'] },
  hello: { script: 'dist/examples/hello/hello.js', words: [], after: [] },
} as const;

function module(
  group: keyof typeof MODULES,
  mode: Mode,
  transport: Transport,
  extra: readonly string[],
  judged: boolean,
): Configuration {
  const { script, words, after } = MODULES[group];
  const how = ['--mode', mode, '--workers', '1', '--transport', transport];
  return {
    name: nameOf(`fusewire ${group} ${mode}`, transport, ''),
    group,
    project: OURS,
    judged,
    ring: transport === 'uring',
    workers: 1,
    prefix: 'root',
    command: (_source, mount) => [...ourCli(), 'mount', built(script), mount, ...how, ...words, ...extra, '--', ...after],
  };
}

function nameOf(daemon: string, transport: Transport, variant: string): string {
  return [daemon, ...(transport === 'uring' ? ['ring'] : []), ...(variant === '' ? [] : [variant])].join(' ');
}

/** The words that start this package's program. */
export function ourCli(): string[] {
  return [process.execPath, built('dist/src/cli/main.js')];
}

/** A file of the package that `npm run build` makes. */
export function built(path: string): string {
  const full = join(packageRoot(), path);
  if (!existsSync(full)) throw BenchError.machine(`${path} is missing: run npm run build`);
  return full;
}

/**
 * The null daemon on device and ring, with one thread and with as many as our workers; and with that many reading and writing the
 * source's file, which is the least that a passthrough can do.
 */
export function floorConfigurations(program: string, workers: number, bytes: number, data: string): Configuration[] {
  const one = (transport: Transport, threads: number, pread: boolean): Configuration => ({
    name: nameOf(`null ${pread ? 'pread ' : ''}${threads}t`, transport, ''),
    group: 'floor',
    project: pread ? PREAD_FLOOR : FLOOR,
    judged: false,
    ring: transport === 'uring',
    workers: threads,
    prefix: 'root',
    command: (source, mount) => [
      program,
      transport === 'uring' ? '--ring' : '--device',
      ...['--threads', String(threads)],
      ...(pread ? ['--file', join(source, data)] : ['--size', String(bytes)]),
      mount,
    ],
  });
  return (['device', 'uring'] as const).flatMap((transport) => [
    ...[...new Set([1, workers])].map((threads) => one(transport, threads, false)),
    one(transport, workers, true),
  ]);
}
