/** Files of the kernel's that a run needs another way, put back at its end whatever happens. */
import { readFileSync, writeFileSync } from 'node:fs';
import { BenchError, messageOf } from './failure.ts';
import { guardSetting } from './guard.ts';

/** Writes `value` unless the file holds it already. Throws a BenchError where that is not allowed. */
export function set(path: string, value: string): void {
  try {
    const before = readFileSync(path, 'utf8').trim();
    if (before === value) return;
    guardSetting(path, before);
    writeFileSync(path, value);
  } catch (error) {
    throw BenchError.machine(`${path} cannot be set to ${value}: ${messageOf(error)}`);
  }
}

/** Writes a number unless the file holds a larger one already. */
export function raise(path: string, value: number): void {
  if (Number(readFileSync(path, 'utf8')) < value) set(path, String(value));
}

/** FUSE-over-io_uring, for mounts made from now on. */
export function enableRing(): void {
  set('/sys/module/fuse/parameters/enable_uring', 'Y');
}

/** Drops the names and inodes that the kernel remembers and nobody uses; the filesystems' own memory stays. */
export function dropNames(): void {
  try {
    writeFileSync('/proc/sys/vm/drop_caches', '2');
  } catch (error) {
    throw BenchError.machine(`names cannot be dropped from the kernel's memory (it needs root): ${messageOf(error)}`);
  }
}
