/** The stage for the letter's rows: one file on tmpfs, and every configuration mounted over it. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../harness/children.ts';
import { Daemon } from '../harness/daemon.ts';
import { BenchError, messageOf } from '../harness/failure.ts';
import type { Configuration } from './configurations.ts';
import { DD_BLOCK_BYTES } from './tools.ts';

/** A configuration that can be measured. */
export interface Contestant {
  configuration: Configuration;
  /** The file of the rows, through the mount. */
  file: string;
  daemon: Daemon | undefined;
}

export interface Stage {
  contestants: Contestant[];
  /** A sentence for each configuration that did not come up, or came up as something else. */
  refused: { configuration: Configuration; reason: string }[];
}

/** The file that the rows read and write, in the source folder. */
export const LETTER_FILE = 'letter.dat';
/** Random bytes, to compare what comes through a mount with. */
export const CHECK_FILE = 'check.dat';
export const CHECK_BYTES = 8 << 20;
const CHECK_MS = 30_000;

/** Makes the files below `folder`, every byte written: a sparse one would be read faster than memory. */
export async function makeFiles(folder: string, bytes: number): Promise<string> {
  const source = join(folder, 'source');
  mkdirSync(source);
  const fill = (name: string, from: string, length: number) =>
    run(['dd', `if=${from}`, `of=${join(source, name)}`, `bs=${DD_BLOCK_BYTES}`, `count=${length / DD_BLOCK_BYTES}`], {
      timeoutMs: 120_000,
    });
  await fill(CHECK_FILE, '/dev/urandom', CHECK_BYTES);
  await fill(LETTER_FILE, '/dev/urandom', bytes);
  return source;
}

/** Mounts the configurations one after the other; those that fail are told, not dropped. */
export async function setStage(folder: string, source: string, configurations: readonly Configuration[]): Promise<Stage> {
  const stage: Stage = { contestants: [], refused: [] };
  for (const [index, configuration] of configurations.entries()) {
    try {
      stage.contestants.push(await enter(join(folder, `run-${index}`), source, configuration));
    } catch (error) {
      stage.refused.push({ configuration, reason: messageOf(error) });
    }
  }
  return stage;
}

async function enter(folder: string, source: string, configuration: Configuration): Promise<Contestant> {
  mkdirSync(folder);
  if (configuration.command === undefined) return { configuration, file: join(source, LETTER_FILE), daemon: undefined };
  const mount = join(folder, 'mount');
  const seen = configuration.prefix === 'root' ? mount : join(mount, source);
  const mark = join(folder, 'preloaded');
  const env = configuration.preload === undefined ? undefined : preloading(configuration.preload, mark, configuration.asyncDio);
  const daemon = await Daemon.start(configuration.command(source, mount), mount, join(seen, LETTER_FILE), env);
  try {
    if (env !== undefined && !existsSync(mark)) {
      throw BenchError.machine('the preloaded library cannot decide on asynchronous direct I/O in this daemon');
    }
    await assertSameBytes(folder, source, seen);
  } catch (error) {
    await daemon.stop();
    throw error;
  }
  return { configuration, file: join(seen, LETTER_FILE), daemon };
}

function preloading(library: string, mark: string, asyncDio: Configuration['asyncDio']): NodeJS.ProcessEnv {
  return {
    LD_PRELOAD: library,
    FUSEWIRE_BENCH_ASYNC_DIO: asyncDio === 'patched' ? '1' : '0',
    FUSEWIRE_BENCH_ASYNC_DIO_MARK: mark,
  };
}

/** A fast daemon that moves the wrong bytes is worth nothing: random bytes, read and written direct through the mount. */
export async function assertSameBytes(folder: string, source: string, seen: string): Promise<void> {
  const original = join(source, CHECK_FILE);
  const copy = join(folder, 'copy.dat');
  const limit = { timeoutMs: CHECK_MS };
  const block = `bs=${DD_BLOCK_BYTES}`;
  await run(['dd', `if=${join(seen, CHECK_FILE)}`, `of=${copy}`, 'iflag=direct', block], limit);
  await run(['cmp', original, copy], limit);
  await run(['dd', `if=${copy}`, `of=${join(seen, 'written.dat')}`, 'oflag=direct', block], limit);
  await run(['cmp', original, join(source, 'written.dat')], limit);
  await run(['rm', '-f', '--', copy, join(source, 'written.dat')], limit);
}

export async function strike(stage: Stage): Promise<void> {
  for (const { daemon } of stage.contestants) await daemon?.stop();
}
