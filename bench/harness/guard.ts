/**
 * Keeps account of children, mounts and folders, and takes them away at the end of the process however it comes: here at a
 * normal end and at signals, by the janitor process where nothing can be done here any more.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { extname, join } from 'node:path';
import type { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { Debris, noteOf } from './debris.ts';
import { startTime } from './proc.ts';

const debris = new Debris();
let janitor: Writable | undefined;

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

function begin(): Writable {
  // This file as it runs tells the janitor's: compiled, or TypeScript under a loader that the parent's arguments name.
  const script = fileURLToPath(new URL(`./janitor${extname(import.meta.url)}`, import.meta.url));
  const child = spawn(process.execPath, [...process.execArgv, script], {
    stdio: ['pipe', 'ignore', 'inherit'],
    detached: true,
  });
  child.unref();
  child.stdin.on('error', () => {});
  (child.stdin as Writable & { unref?(): void }).unref?.();
  for (const [signal, number] of Object.entries(SIGNALS)) {
    process.once(signal, () => {
      debris.clear();
      process.exit(128 + number);
    });
  }
  process.on('exit', () => debris.clear());
  return child.stdin;
}

function note(line: string): void {
  janitor ??= begin();
  debris.note(line);
  janitor.write(`${line}\n`);
}

/** A fresh folder below `parent`, removed at the end. */
export function temporaryFolder(parent: string): string {
  const path = mkdtempSync(join(parent, 'fusewire-bench-'));
  note(noteOf(true, 'folder', path));
  return path;
}

/** Removes a folder of {@link temporaryFolder} now. */
export function forgetFolder(path: string): void {
  const one = new Debris();
  one.note(noteOf(true, 'folder', path));
  one.clear();
  note(noteOf(false, 'folder', path));
}

/** A process that must not outlive this one, nor what it started. */
export function guardChild(pid: number): void {
  note(noteOf(true, 'child', String(pid), startTime(pid)));
}

export function forgetChild(pid: number): void {
  note(noteOf(false, 'child', String(pid)));
}

/** A path on which something will be mounted. */
export function guardMount(path: string): void {
  note(noteOf(true, 'mount', path));
}

export function forgetMount(path: string): void {
  note(noteOf(false, 'mount', path));
}

/** A file of the kernel's that holds something else during this run: `before` is put back at the end. */
export function guardSetting(path: string, before: string): void {
  note(noteOf(true, 'setting', path, before));
}
