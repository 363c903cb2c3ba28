/** Programs run as children: own process group, no shell, output collected, a time limit that holds. */
import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { killTree } from './debris.ts';
import { BenchError } from './failure.ts';
import { forgetChild, guardChild } from './guard.ts';
import { startTime } from './proc.ts';

export interface RunOptions {
  timeoutMs: number;
  env?: NodeJS.ProcessEnv;
}

export interface RunResult {
  stdout: string;
  stderr: string;
}

/** How long a killed child may take to go: one that waits for a mount cannot, until the mount is aborted. */
const GRACE_MS = 2000;
const OUTPUT_CHARACTERS_MAX = 4 << 20;

/** The first executable file of that name in the folders of `path`, or undefined. A name with a slash is a path. */
export function program(name: string, path = process.env.PATH ?? ''): string | undefined {
  const candidates = name.includes('/') ? [resolve(name)] : path.split(delimiter).map((folder) => join(folder, name));
  return candidates.find((candidate) => {
    try {
      accessSync(candidate, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Programs print numbers as they do in the C locale. */
export function environment(extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: 'C', ...extra };
}

/** Starts a child in its own group, so that Ctrl-C reaches us alone and killing it takes what it started along. */
export function start(argv: readonly string[], env?: NodeJS.ProcessEnv): ChildProcess {
  const child = spawn(argv[0], argv.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    env: environment(env),
    cwd: '/',
  });
  const { pid } = child;
  if (pid !== undefined) {
    guardChild(pid);
    child.once('exit', () => forgetChild(pid));
  }
  return child;
}

/** Collects an output stream's text; of a flood only the last part is kept. */
export function collect(stream: NodeJS.ReadableStream | null): { text: string } {
  const collected = { text: '' };
  stream?.setEncoding('utf8').on('data', (chunk: string) => {
    collected.text += chunk;
    if (collected.text.length > OUTPUT_CHARACTERS_MAX) collected.text = collected.text.slice(-OUTPUT_CHARACTERS_MAX / 2);
  });
  return collected;
}

/** Kills a child and all that it started. */
export function kill(child: ChildProcess): void {
  if (child.pid !== undefined) killTree(child.pid, startTime(child.pid));
}

/** Waits for a program that must end with 0. */
export async function run(argv: readonly string[], { timeoutMs, env }: RunOptions): Promise<RunResult> {
  const child = start(argv, env);
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (status, signal) => resolve(status === 0 ? '' : signal === null ? `exit status ${status}` : signal));
  });
  const limit = new AbortController();
  const late = sleep(timeoutMs, 'late', { signal: limit.signal }).catch(() => 'late');
  let outcome = await Promise.race([ended, late]);
  if (outcome === 'late') {
    kill(child);
    await Promise.race([ended, sleep(GRACE_MS)]);
    outcome = `not done within ${timeoutMs / 1000} s`;
  }
  limit.abort();
  if (outcome === '') return { stdout: stdout.text, stderr: stderr.text };
  const said = (stderr.text || stdout.text).trim().split('\n').slice(-3).join(' / ');
  throw BenchError.result(`${argv.join(' ')}: ${outcome}${said === '' ? '' : `: ${said}`}`);
}
