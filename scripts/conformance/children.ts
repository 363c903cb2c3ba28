/** Programs that the runner starts: with a time limit, their output kept, and everything that they started ended with them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';

export interface RunOptions {
  /** Milliseconds. */
  limit: number;
  /** Where standard output and standard error go, in the order in which they are written. */
  log: string;
  cwd?: string;
  env?: NodeJS.ProcessEnv;
}

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  timedOut: boolean;
  output: string;
  /** Milliseconds. */
  took: number;
}

/** The output that is looked at: more than any suite has to say. */
const OUTPUT_BYTES_MAX = 64 << 20;

/** The soft limit that Linux gives its first process. */
const DESCRIPTORS = 1024;

/** Runs a program to its end. `cwd` may lie on a mount: this process serves none. */
export async function run(argv: readonly string[], options: RunOptions): Promise<Ended> {
  mkdirSync(dirname(options.log), { recursive: true });
  const log = openSync(options.log, 'w');
  const begin = performance.now();
  let child: ChildProcess;
  try {
    // Node raises its own soft limit of descriptors; the suites expect the usual one.
    child = spawn('prlimit', [`--nofile=${DESCRIPTORS}:`, ...argv], {
      stdio: ['ignore', log, log],
      detached: true,
      env: options.env ?? process.env,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
  } finally {
    closeSync(log);
  }
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    killSession(child);
  }, options.limit);
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (...how) => resolve(how));
  }).finally(() => clearTimeout(timer));
  // What it left running would disturb the next test.
  killSession(child);
  const output = readFileSync(options.log).subarray(0, OUTPUT_BYTES_MAX).toString('utf8');
  return { code, signal, timedOut, output, took: performance.now() - begin };
}

/** Ends a child and whatever it started: all of its session, since tests make process groups of their own. */
function killSession(child: ChildProcess): void {
  if (child.pid === undefined) return;
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
      const session = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[3];
      if (session === String(child.pid)) process.kill(Number(name), 'SIGKILL');
    } catch {
      // It ended meanwhile.
    }
  }
}

/** How a program ended, for people. */
export function ending({ code, signal, timedOut, took }: Ended): string {
  if (timedOut) return `still running after ${Math.round(took / 1000)} s`;
  return signal === null ? `exit code ${code}` : `ended by ${signal}`;
}

/** The last lines of an output that are not empty. */
export function lastLines(output: string, lines: number): string {
  return output.trimEnd().split('\n').slice(-lines).join('\n');
}
