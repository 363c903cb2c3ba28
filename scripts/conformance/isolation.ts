/**
 * Namespaces for a run. Mounts, loop devices and processes are made in them, so the kernel takes everything away with the
 * last process: at a normal end, at an error, at Ctrl-C and when the runner is killed. What could stay is one empty folder.
 */
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConformanceError } from './failure.ts';

const VARIABLE = 'FUSEWIRE_CONFORMANCE_INSIDE';

/** The folder of the run, in the inner process; undefined in the outer one. */
export const insideFolder: string | undefined = process.env[VARIABLE];

/** Runs this very program again in its own namespaces and answers its exit code. */
export async function runInside(): Promise<number> {
  if (process.getuid?.() !== 0) throw new ConformanceError('the suites need root: run it as root');
  const folder = mkdtempSync(join(tmpdir(), 'fusewire-conformance-'));
  chmodSync(folder, 0o755);
  // The first process of the namespace has to take in orphans, which a shell does and Node does not.
  const child = spawn(
    'setpriv',
    [
      '--pdeathsig=KILL',
      ...['unshare', '--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', '--mount-proc'],
      ...['sh', '-c', '"$@"; exit $?', 'sh'],
      process.execPath,
      ...process.execArgv,
      ...process.argv.slice(1),
    ],
    { stdio: 'inherit', env: { ...process.env, [VARIABLE]: folder }, detached: true },
  );
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  let ended: NodeJS.Signals | undefined;
  const end = (signal: NodeJS.Signals) => {
    ended = signal;
    child.kill('SIGKILL');
  };
  for (const signal of signals) process.on(signal, end);
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', (error) => reject(new ConformanceError(`setpriv and unshare are needed: ${error.message}`)));
      child.once('exit', (code) => resolve(code));
    });
    return ended === undefined ? (code ?? 1) : 128 + constants.signals[ended];
  } finally {
    for (const signal of signals) process.off(signal, end);
    rmSync(folder, { recursive: true, force: true });
  }
}
