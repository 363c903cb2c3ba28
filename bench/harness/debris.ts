/** What a benchmark leaves about while it runs, and how to take it away whatever state it is in. */
import { rmSync, writeFileSync } from 'node:fs';
import { abortConnections, isMounted, mountsUnder, unmount } from './mounts.ts';
import { processTree, startTime } from './proc.ts';

export class Debris {
  /** Process id to its start time. */
  readonly children = new Map<number, string>();
  readonly mounts = new Set<string>();
  readonly folders = new Set<string>();
  /** A file of the kernel's to what it held before. */
  readonly settings = new Map<string, string>();

  /** Notes a line of {@link noteOf}. */
  note(line: string): void {
    const [sign, kind, value, started] = line.split('\t');
    const adding = sign === '+';
    if (kind === 'child') {
      if (adding) this.children.set(Number(value), started);
      else this.children.delete(Number(value));
      return;
    }
    if (kind === 'setting') {
      if (adding) this.settings.set(value, started);
      else this.settings.delete(value);
      return;
    }
    const set = kind === 'mount' ? this.mounts : this.folders;
    if (adding) set.add(value);
    else set.delete(value);
  }

  /** Synchronous and bounded: it runs in exit handlers. */
  clear(): void {
    for (const [pid, started] of this.children) killTree(pid, started);
    for (const path of this.mounts) {
      if (isMounted(path)) unmount(path);
      if (!isMounted(path)) continue;
      abortConnections(path);
      unmount(path);
    }
    for (const path of this.folders) {
      for (const row of mountsUnder(path).reverse()) unmount(row.path);
      // Never remove through a mount that refused to go.
      if (mountsUnder(path).length === 0) rmSync(path, { recursive: true, force: true });
    }
    for (const [path, before] of this.settings) restore(path, before);
    this.settings.clear();
    this.children.clear();
    this.mounts.clear();
    this.folders.clear();
  }
}

export function noteOf(adding: boolean, kind: 'child' | 'mount' | 'folder' | 'setting', value: string, started = ''): string {
  return [adding ? '+' : '-', kind, value, started].join('\t');
}

function restore(path: string, before: string): void {
  try {
    writeFileSync(path, before);
  } catch {
    // Nobody may write it any more; nothing more can be done about it here.
  }
}

/**
 * Kills a process that we started and all below it, and no later process that happens to have its id. By the tree rather
 * than the process group: fio's jobs and daemons begin sessions of their own.
 */
export function killTree(pid: number, started: string | undefined): void {
  if (started === undefined || startTime(pid) !== started) return;
  for (const member of processTree(pid)) {
    try {
      process.kill(member, 'SIGKILL');
    } catch {
      // It has ended already.
    }
  }
}
