/**
 * Child processes with a time limit. What may wait for a FUSE daemon (stat of a mount, umount) is done in a child, because
 * a thread of this process that waits could be the one that the daemon's answer depends on.
 */
import { type SpawnOptions, spawn } from 'node:child_process';

export interface ChildSettings {
  timeoutMs: number;
  /** Added to a small environment of PATH and LC_ALL=C. */
  env?: Record<string, string>;
  /** A descriptor that the child has as number 3. */
  descriptor?: number;
}

export interface ChildResult {
  /** Exit status; undefined when a signal or the time limit ended it, or it did not start. */
  readonly status: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
  readonly timedOut: boolean;
  /** `ENOENT` and the like when the program did not start. */
  readonly startError?: string;
}

/** Characters kept of each output stream; more is dropped. */
const OUTPUT_MAX = 64 * 1024;

/** A small environment: messages in English, nothing of NODE_OPTIONS and LD_PRELOAD. */
export function childEnvironment(more: Record<string, string> = {}): Record<string, string> {
  return { PATH: process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', LC_ALL: 'C', ...more };
}

export function spawnOptions(settings: ChildSettings): SpawnOptions {
  return {
    // The working directory of this process might itself lie on a mount that does not answer.
    cwd: '/',
    env: childEnvironment(settings.env),
    stdio: ['ignore', 'pipe', 'pipe', ...(settings.descriptor === undefined ? [] : [settings.descriptor])],
  };
}

/**
 * Runs a program with an argument vector (never a shell) and collects its output. Never rejects. At the time limit the
 * child gets SIGKILL and is left behind: a process in an uninterruptible wait for a FUSE daemon does not die before that
 * daemon answers or ends, and must not be waited for.
 */
export function runChild(file: string, args: readonly string[], settings: ChildSettings): Promise<ChildResult> {
  return new Promise((resolve) => {
    const child = spawn(file, args, spawnOptions(settings));
    const output = { stdout: '', stderr: '' };
    let settled = false;
    const settle = (result: Pick<ChildResult, 'status' | 'timedOut' | 'startError'>) => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      resolve({ ...result, ...output });
    };
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      child.stdout?.destroy();
      child.stderr?.destroy();
      child.unref();
      settle({ status: undefined, timedOut: true });
    }, settings.timeoutMs);
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream]?.setEncoding('utf8').on('data', (text: string) => {
        if (output[stream].length < OUTPUT_MAX) output[stream] += text;
      });
    }
    child.on('error', (error: NodeJS.ErrnoException) => {
      settle({ status: undefined, timedOut: false, startError: error.code ?? error.message });
    });
    child.on('close', (status) => settle({ status: status ?? undefined, timedOut: false }));
  });
}

/** How the root of a path answers to stat(2). */
export interface StatAnswer {
  /** Absolute, without symbolic links. */
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
}

export type ChildStat = { answer: StatAnswer } | { code: string };

// Plain JavaScript for `node -e`: realpath and stat, as JSON.
const STAT_SCRIPT = `const fs = require('node:fs');
try {
  const path = fs.realpathSync.native(process.argv[1]);
  const { mode, uid } = fs.statSync(path);
  fs.writeSync(1, JSON.stringify({ answer: { path, mode, uid } }));
} catch (error) {
  fs.writeSync(1, JSON.stringify({ code: error.code ?? 'EIO' }));
}`;

/** realpath and stat of a path in a child: the answer, an errno's name, or `ETIMEDOUT`. */
export async function statInChild(path: string, timeoutMs: number): Promise<ChildStat> {
  const result = await runChild(process.execPath, ['-e', STAT_SCRIPT, '--', path], { timeoutMs });
  if (result.timedOut) return { code: 'ETIMEDOUT' };
  try {
    return JSON.parse(result.stdout) as ChildStat;
  } catch {
    return { code: 'EIO' };
  }
}
