/** What the live tests of mounting share: mount points that are cleaned up whatever happens, and children with time limits. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { accessSync, chmodSync, constants, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isFuseType, type MountInfo, readMountInfo } from '../../src/mount/mountinfo.ts';
import { isPrivileged } from '../../src/mount/privilege.ts';
import { loadAddon } from '../../src/native/index.ts';

/** Whether this machine lets us mount at all. */
export function canMount(): boolean {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return isPrivileged();
  } catch {
    return false;
  }
}

export const CLI = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url));

/** An ordinary user for whom nothing is set up. */
export const ORDINARY_USER = 65534;

export interface Workspace {
  readonly folder: string;
  /** Takes away every mount below, aborts FUSE connections, ends children, removes the folder. */
  cleanUp(): void;
  readonly children: ChildProcess[];
}

export function makeWorkspace(): Workspace {
  const folder = mkdtempSync(join(tmpdir(), 'fusewire-mount-'));
  chmodSync(folder, 0o755);
  const children: ChildProcess[] = [];
  return {
    folder,
    children,
    cleanUp() {
      const addon = loadAddon();
      for (const mount of mountsBelow(folder).reverse()) {
        // MNT_DETACH, and for FUSE MNT_FORCE, which aborts the connection first.
        addon.umount(mount.mountPoint, isFuseType(mount.type) ? 3 : 2);
      }
      for (const child of children) child.kill('SIGKILL');
      if (mountsBelow(folder).length === 0) rmSync(folder, { recursive: true, force: true });
    },
  };
}

export function mountsBelow(folder: string): MountInfo[] {
  return readMountInfo().filter((mount) => mount.mountPoint.startsWith(`${folder}/`));
}

export interface Finished {
  status: number | null;
  stdout: string;
  stderr: string;
  ms: number;
}

/** Runs a program to its end, at most `timeoutMs`. */
export function run(
  file: string,
  args: readonly string[],
  options: { timeoutMs?: number; env?: NodeJS.ProcessEnv } = {},
): Promise<Finished> {
  const began = Date.now();
  return new Promise((resolve) => {
    const { timeoutMs = 10_000, env = process.env } = options;
    execFile(file, [...args], { timeout: timeoutMs, killSignal: 'SIGKILL', env, cwd: '/' }, (error, stdout, stderr) => {
      const status = error === null ? 0 : typeof error.code === 'number' ? error.code : null;
      resolve({ status, stdout, stderr, ms: Date.now() - began });
    });
  });
}

export const cli = (args: readonly string[], options: Parameters<typeof run>[2] = {}) =>
  run(process.execPath, [CLI, ...args], options);

/** `file args` as an ordinary user. */
export function asUser(file: string, args: readonly string[]): [string, string[]] {
  const id = String(ORDINARY_USER);
  return ['setpriv', ['--reuid', id, '--regid', id, '--clear-groups', file, ...args]];
}

export interface Started {
  readonly child: ChildProcess;
  /** Resolves with the first line that matches; rejects when the program ends before. */
  line(pattern: RegExp): Promise<string>;
  readonly ended: Promise<{ status: number | null; signal: string | null; ms: number }>;
  output(): string;
}

/** Starts a program that stays. `ms` counts from the last signal sent through {@link signal}, or from the start. */
export function start(workspace: Workspace, file: string, args: readonly string[]): Started {
  const child = spawn(file, [...args], { stdio: ['ignore', 'pipe', 'pipe'], cwd: '/' });
  workspace.children.push(child);
  let text = '';
  const began = Date.now();
  child.stdout.on('data', (data) => {
    text += data;
  });
  child.stderr.on('data', (data) => {
    text += data;
  });
  const ended = new Promise<{ status: number | null; signal: string | null; ms: number }>((resolve) => {
    child.on('exit', (status, signal) => resolve({ status, signal, ms: Date.now() - began }));
  });
  return {
    child,
    ended,
    output: () => text,
    line(pattern) {
      return new Promise((resolve, reject) => {
        const look = () => {
          const found = text.split('\n').find((line) => pattern.test(line));
          if (found !== undefined) resolve(found);
        };
        look();
        child.stdout.on('data', look);
        child.on('exit', () => setTimeout(() => reject(new Error(`ended before ${pattern}: ${text}`)), 50));
      });
    },
  };
}

/** Lets ordinary users open /dev/fuse; answers what restores it. */
export function openDevice(): () => void {
  const { mode } = statSync('/dev/fuse');
  chmodSync('/dev/fuse', 0o666);
  return () => chmodSync('/dev/fuse', mode & 0o777);
}

/** As another program would, behind the back of the attachment. umount(8) would stat the mount, and wait for its daemon. */
export function unmountOutside(path: string): void {
  const result = loadAddon().umount(path, 0);
  if (result !== 0) throw new Error(`umount2 said ${result}`);
}

export { loadAddon };
