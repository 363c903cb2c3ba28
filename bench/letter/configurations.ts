/** What the letter's rows are run on: each a folder whose files are those of the source folder, seen through something. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { BenchError } from '../harness/failure.ts';
import { packageRoot } from '../harness/machine.ts';
import type { FoundPeer } from './peers.ts';

/** Asynchronous direct I/O: refused as before the letter's patches, accepted as with them, or as the daemon happens to do. */
export type AsyncDio = 'original' | 'patched' | 'as it is';

export interface Configuration {
  /** Unique; the pair of `original` and `patched` of one daemon shares `family`. */
  name: string;
  family: string;
  asyncDio: AsyncDio;
  ours: boolean;
  /** No daemon: the source folder itself. */
  command: ((source: string, mount: string) => string[]) | undefined;
  /** The library that decides on asynchronous direct I/O, preloaded into daemons that have no option for it. */
  preload?: string;
  prefix: FoundPeer['prefix'];
}

export const NATIVE = 'native';

export function nativeConfiguration(): Configuration {
  return { name: NATIVE, family: NATIVE, asyncDio: 'as it is', ours: false, command: undefined, prefix: 'root' };
}

export interface OurOptions {
  mode: 'event' | 'blocking';
  workers: number;
  /** Further options of `fusewire passthrough`. */
  extra: readonly string[];
}

/** The command line of this package's passthrough. */
export function ourCommand(source: string, mount: string, { mode, workers, extra }: OurOptions): string[] {
  const cli = join(packageRoot(), 'dist/src/cli/main.js');
  if (!existsSync(cli)) throw BenchError.machine('dist/src/cli/main.js is missing: run npm run build');
  // What is measured is the daemon, unless somebody asks for the kernel's own way.
  const backing = extra.some((word) => word.endsWith('backing')) ? [] : ['--no-backing'];
  return [
    process.execPath,
    cli,
    'passthrough',
    source,
    mount,
    '--mode',
    mode,
    '--workers',
    String(workers),
    ...backing,
    ...extra,
  ];
}

/** `variant`: what sets this pair apart from another of the same mode and workers, if anything. */
export function ourPair(options: OurOptions, variant = ''): Configuration[] {
  const family = `fusewire ${options.mode} ${options.workers}w${variant === '' ? '' : ` ${variant}`}`;
  return (['original', 'patched'] as const).map((asyncDio) => ({
    name: `${family} ${asyncDio}`,
    family,
    asyncDio,
    ours: true,
    command: (source, mount) => [
      ...ourCommand(source, mount, options),
      asyncDio === 'original' ? '--no-async-dio' : '--async-dio',
    ],
    prefix: 'root',
  }));
}

/** A peer both ways by the preloaded library, or as it is without one. */
export function peerConfigurations(peer: FoundPeer, preload: string | undefined): Configuration[] {
  const common = { family: peer.name, ours: false, command: peer.command, prefix: peer.prefix };
  if (preload === undefined) return [{ ...common, name: peer.name, asyncDio: 'as it is' }];
  return (['original', 'patched'] as const).map((asyncDio) => ({
    ...common,
    name: `${peer.name} ${asyncDio}`,
    asyncDio,
    preload,
  }));
}
