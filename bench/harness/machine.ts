/** What a figure depends on besides the program. */
import { existsSync, statfsSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BenchError } from './failure.ts';

export interface Machine {
  processor: string;
  cores: number;
  memoryBytes: number;
  kernel: string;
  node: string;
  /** Of the minute before the run. */
  load: number;
}

export function describeMachine(): Machine {
  return {
    processor: cpus()[0]?.model.trim() || 'unknown processor',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.version,
    load: loadavg()[0],
  };
}

export function machineLine(machine: Machine): string {
  const memory = `${Math.round(machine.memoryBytes / 2 ** 30)} GiB`;
  return `${machine.processor}, ${machine.cores} cores, ${memory}, Linux ${machine.kernel}, Node ${machine.node}`;
}

/** Above this, something else was running and its share is in every figure. */
export const QUIET_LOAD_MAX = 0.3;

/** The folder that holds package.json, wherever this file was compiled to. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw BenchError.machine('the package of this benchmark was not found: run it from a checkout');
    folder = parent;
  }
  return folder;
}

const TMPFS_MAGIC = 0x01021994;

/** A tmpfs with at least `bytes` free, or a sentence that says what to do. */
export function assertTmpfs(folder: string, bytes: number): void {
  if (!existsSync(folder)) throw BenchError.machine(`there is no ${folder}: name a tmpfs with --folder`);
  const status = statfsSync(folder);
  if (status.type !== TMPFS_MAGIC)
    throw BenchError.machine(`${folder} is no tmpfs: a disk would be measured; name one with --folder`);
  const free = status.bavail * status.bsize;
  if (free < bytes) {
    const needed = `${Math.ceil(bytes / 2 ** 20)} MiB`;
    throw BenchError.machine(`${folder} has ${Math.floor(free / 2 ** 20)} MiB free, ${needed} are needed: use a smaller --size`);
  }
}
