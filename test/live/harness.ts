/**
 * Live mounts for tests: own mount points, callers as exec'ed children with time limits, and a clean-up that happens
 * whatever the test did, also when the test process is killed (test/live/janitor.mjs).
 *
 * The daemon often runs in the test process itself. So nothing here makes a file system call on a mount, and nothing
 * waits synchronously for a child that does.
 */
import { type ChildProcess, type ChildProcessByStdio, execFile, spawn } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import {
  accessSync,
  chmodSync,
  closeSync,
  existsSync,
  constants as fsConstants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeEach, expect } from 'vitest';
import type { Filesystem } from '../../src/filesystem/filesystem.ts';
import type { Mount, MountSettings } from '../../src/mount/mount.ts';
import type { Fault } from '../../src/session/diagnostics.ts';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const CLI = join(ROOT, 'dist/src/cli/main.js');
export const FIXTURES = join(ROOT, 'test/fixtures');

// --- what this machine offers --------------------------------------------------------------------------------------

function whyNoMounts(): string | undefined {
  try {
    closeSync(openSync('/dev/fuse', 'r+'));
  } catch (error) {
    return `/dev/fuse does not open (${(error as NodeJS.ErrnoException).code})`;
  }
  if (process.getuid?.() !== 0) return 'the control files of connections, which end a hung mount, need root';
  return undefined;
}

/** Why nothing can be mounted here, or undefined. */
export const NO_MOUNTS = whyNoMounts();

const told = new Set<string>();

/** Says once on standard error what is left out and why. Answers `reason !== undefined`, for `describe.skipIf`. */
export function skipLoudly(what: string, reason: string | undefined): boolean {
  if (reason === undefined) return false;
  const line = `SKIPPED: ${what}: ${reason}`;
  if (!told.has(line)) process.stderr.write(`\n${line}\n`);
  told.add(line);
  return true;
}

/** The path of a program, or undefined. */
export function program(name: string): string | undefined {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(folder, name);
    try {
      accessSync(path, fsConstants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

// --- the janitor ---------------------------------------------------------------------------------------------------

let janitor: ChildProcessByStdio<Writable, null, null> | undefined;

function tellJanitor(...words: string[]): void {
  if (janitor === undefined) {
    janitor = spawn(process.execPath, [join(ROOT, 'test/live/janitor.mjs')], {
      stdio: ['pipe', 'ignore', 'inherit'],
      detached: true,
      cwd: '/',
    });
    janitor.unref();
    (janitor.stdin as Writable & { unref?(): void }).unref?.();
    janitor.stdin.on('error', () => {});
  }
  janitor.stdin.write(`${words.join('\t')}\n`);
}

// --- folders -------------------------------------------------------------------------------------------------------

const folders = new Set<string>();

/** A fresh folder that other users may enter, removed after the test. Its path has no symbolic link and no space. */
export function temporaryFolder(name: string): string {
  const path = mkdtempSync(join(tmpdir(), `fusewire-${name}-`));
  chmodSync(path, 0o755);
  folders.add(path);
  tellJanitor('+', 'folder', path);
  return path;
}

/** A fresh empty folder to mount on. */
export function mountPoint(): string {
  const path = join(temporaryFolder('mnt'), 'mnt');
  mkdirSync(path);
  return path;
}

function removeFolder(path: string): void {
  const left = mountsUnder(path);
  if (left.length > 0) throw new Error(`${path} still has mounts: ${left.map((row) => row.path).join(', ')}`);
  rmSync(path, { recursive: true, force: true });
  folders.delete(path);
  tellJanitor('-', 'folder', path);
}

// --- mounts as the kernel sees them --------------------------------------------------------------------------------

export interface MountRow {
  path: string;
  type: string;
  source: string;
  options: string;
  /** Number of the connection: the decimal st_dev minor, or for fuseblk all of st_dev as the kernel has it. */
  connection: number;
}

/** The rows of /proc/self/mountinfo whose mount point is `folder` or lies below it, in mount order. Touches no mount. */
export function mountsUnder(folder: string): MountRow[] {
  const rows: MountRow[] = [];
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const fields = line.split(' ');
    if (fields.length < 10) continue;
    const path = fields[4].replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    if (path !== folder && !path.startsWith(`${folder}/`)) continue;
    const dash = fields.indexOf('-');
    const [major, minor] = fields[2].split(':').map(Number);
    const connection = major * 2 ** 20 + minor;
    rows.push({ path, type: fields[dash + 1], source: fields[dash + 2], options: fields.slice(dash + 3).join(' '), connection });
  }
  return rows;
}

/** The top FUSE mount on exactly this path. */
export function fuseMountAt(path: string): MountRow | undefined {
  return mountsUnder(path)
    .filter((row) => row.path === path && row.type.startsWith('fuse'))
    .at(-1);
}

let control: string | undefined;
let controlIsOurs = false;

/** The folder of the connections' control files; mounted privately where the machine has none. */
export async function controlFolder(): Promise<string> {
  if (control !== undefined) return control;
  const standing = readFileSync('/proc/self/mountinfo', 'utf8').match(/^\S+ \S+ \S+ \S+ (\S+) .* - fusectl /m);
  if (standing) {
    control = standing[1];
  } else {
    const path = mkdtempSync(join(tmpdir(), 'fusewire-ctl-'));
    tellJanitor('+', 'control', path);
    await command('mount', ['-t', 'fusectl', 'none', path]);
    controlIsOurs = true;
    control = path;
  }
  tellJanitor('fusectl', control);
  return control;
}

/** Ends a connection as root may: requests in flight fail with ECONNABORTED, later ones with ENOTCONN. */
export async function abortConnection(connection: number): Promise<void> {
  const file = join(await controlFolder(), String(connection), 'abort');
  if (existsSync(file)) writeFileSync(file, '1');
}

/** Numbers of all connections that exist, and how many requests wait in each. */
export async function connections(): Promise<Map<number, number>> {
  const folder = await controlFolder();
  const found = new Map<number, number>();
  for (const name of readdirSync(folder)) {
    try {
      found.set(Number(name), Number(readFileSync(join(folder, name, 'waiting'), 'utf8')));
    } catch {
      // It ended meanwhile.
    }
  }
  return found;
}

/** umount(8) as a child, because the daemon may live in this process. */
export async function umount(path: string, ...options: string[]): Promise<void> {
  await command('umount', [...options, path]);
}

function command(name: string, args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(name, args, { timeout: 10_000, killSignal: 'SIGKILL' }, (error, _stdout, stderr) => {
      if (error) reject(new Error(`${name} ${args.join(' ')}: ${stderr.trim() || error.message}`));
      else resolve();
    });
  });
}

// --- children ------------------------------------------------------------------------------------------------------

const children = new Set<ChildProcess>();

function startTime(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return '';
  }
}

function register(child: ChildProcess): void {
  if (child.pid === undefined) return;
  const pid = String(child.pid);
  children.add(child);
  tellJanitor('+', 'child', pid, startTime(child.pid));
  child.once('exit', () => {
    children.delete(child);
    tellJanitor('-', 'child', pid);
  });
}

export interface RunOptions {
  /** Milliseconds after which the child is killed and the test fails. */
  timeoutMs: number;
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  input?: string;
  uid?: number;
  gid?: number;
}

export interface RunResult {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
  elapsedMs: number;
}

/**
 * Runs a program to its end. Fails with its output after the time limit. Use it for every access to a mount; `cwd` on a
 * mount is entered by `env -C` and not by the child of this process before its exec, which could hang us.
 */
export async function run(argv: readonly string[], options: RunOptions): Promise<RunResult> {
  const whole = options.cwd === undefined ? argv : ['env', '-C', options.cwd, ...argv];
  const begin = performance.now();
  const child = spawn(whole[0], whole.slice(1), {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: options.env ?? process.env,
    detached: true,
    ...(options.uid === undefined ? {} : { uid: options.uid }),
    ...(options.gid === undefined ? {} : { gid: options.gid }),
  });
  register(child);
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text;
  });
  child.stdin.on('error', () => {});
  child.stdin.end(options.input ?? '');
  return await new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      killGroup(child);
      reject(new Error(`${argv.join(' ')} took longer than ${options.timeoutMs} ms\n${output.stdout}${output.stderr}`));
    }, options.timeoutMs);
    child.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, ...output, elapsedMs: performance.now() - begin });
    });
  });
}

/** The same, for a program that must end with 0; answers its standard output. */
export async function runWell(argv: readonly string[], options: RunOptions): Promise<string> {
  const result = await run(argv, options);
  if (result.code !== 0) {
    const end = result.signal ?? `code ${result.code}`;
    throw new Error(`${argv.join(' ')} ended with ${end}\n${result.stdout.slice(-4000)}${result.stderr.slice(-4000)}`);
  }
  return result.stdout;
}

/** Kills a child and, where it leads a process group of its own, everything that it started. */
function killGroup(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    child.kill('SIGKILL');
  }
}

/** A child whose output is read line by line while it runs. */
export class LineProcess {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly lines: string[] = [];
  stderr = '';
  /** How it ended, once it has. */
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null; at: number }>;
  hasEnded = false;
  #rest = '';
  #wake: (() => void)[] = [];

  constructor(argv: readonly string[], options: { uid?: number; gid?: number; env?: NodeJS.ProcessEnv } = {}) {
    this.child = spawn(argv[0], argv.slice(1), { stdio: ['pipe', 'pipe', 'pipe'], detached: true, cwd: '/', ...options });
    register(this.child);
    this.child.stdin.on('error', () => {});
    this.child.stdout.setEncoding('utf8').on('data', (text: string) => this.#take(text));
    this.child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.ended = new Promise((resolve) => {
      this.child.once('close', (code, signal) => {
        this.hasEnded = true;
        this.#notify();
        resolve({ code, signal, at: performance.now() });
      });
      this.child.once('error', (error) => {
        this.stderr += error.message;
      });
    });
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  #take(text: string): void {
    const pieces = (this.#rest + text).split('\n');
    this.#rest = pieces.pop() ?? '';
    this.lines.push(...pieces);
    this.#notify();
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = [];
    for (const call of wake) call();
  }

  send(line: string): void {
    this.child.stdin.write(`${line}\n`);
  }

  /** The first line that `matches`, now or within the time limit. */
  async line(matches: (line: string) => boolean, timeoutMs: number, what: string): Promise<string> {
    const limit = performance.now() + timeoutMs;
    let seen = 0;
    for (;;) {
      for (; seen < this.lines.length; seen++) if (matches(this.lines[seen])) return this.lines[seen];
      const left = limit - performance.now();
      if (left <= 0 || this.hasEnded) {
        const why = this.hasEnded ? 'the process ended' : `${timeoutMs} ms went by`;
        throw new Error(`${why} without ${what}\nstdout: ${this.lines.join(' | ')}\nstderr: ${this.stderr}`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  /** Waits for its end, at most so long. */
  async end(timeoutMs: number): Promise<{ code: number | null; signal: NodeJS.Signals | null; at: number }> {
    const stop = new AbortController();
    const late = sleep(timeoutMs, undefined, { signal: stop.signal }).then(
      () => undefined,
      () => undefined,
    );
    const ended = await Promise.race([this.ended, late]);
    stop.abort();
    if (ended === undefined) {
      throw new Error(
        `process ${this.pid} still runs after ${timeoutMs} ms\nstdout: ${this.lines.join(' | ')}\nstderr: ${this.stderr}`,
      );
    }
    return ended;
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }
}

// --- our daemon as a process of its own ----------------------------------------------------------------------------

/** A `fusewire …` process with its mount. */
export class Daemon extends LineProcess {
  readonly path: string;

  constructor(argv: readonly string[], path: string) {
    super(argv);
    this.path = path;
    tellJanitor('+', 'mount', path);
    mounted.add(path);
  }

  get connection(): number {
    const row = fuseMountAt(this.path);
    if (row === undefined) throw new Error(`nothing is mounted on ${this.path}`);
    return row.connection;
  }
}

/** Starts `node ARGV…` and waits for its line starting `mounted`. */
export async function daemonOf(script: string, args: readonly string[], path: string, timeoutMs = 10_000): Promise<Daemon> {
  await controlFolder();
  const started = new Daemon([process.execPath, script, ...args], path);
  await started.line((line) => line.startsWith('mounted'), timeoutMs, 'the line `mounted`');
  rememberConnection(path);
  return started;
}

/** Starts `fusewire ARGS…`, which mounts on `path`, and waits until it is ready. */
export function daemon(args: readonly string[], path: string): Promise<Daemon> {
  if (!existsSync(CLI)) throw new Error('dist/src/cli/main.js is missing: run npm run build');
  return daemonOf(CLI, args, path);
}

// --- our daemon in this process ------------------------------------------------------------------------------------

const mounted = new Set<string>();
const mounts = new Map<string, Mount>();
let faults: Fault[] = [];

function collectFault(message: unknown): void {
  faults.push(message as Fault);
}

/** What the library reported on its diagnostics channel since the test began. */
export function faultsSeen(): readonly Fault[] {
  return faults;
}

export interface LiveMount {
  path: string;
  mount: Mount;
  /** Number of the connection in fusectl. */
  connection: number;
}

/**
 * Mounts in this process. Worker threads load compiled files, so a mount with workers comes from dist (built by `npm
 * test`); one without comes from src.
 */
export async function mountHere(
  filesystem: Filesystem | { module: string | URL; options?: unknown },
  settings: MountSettings,
): Promise<LiveMount> {
  await controlFolder();
  const path = mountPoint();
  tellJanitor('+', 'mount', path);
  mounted.add(path);
  const module: typeof import('../../src/mount/mount.ts') =
    (settings.workers ?? 0) === 0
      ? await import('../../src/mount/mount.ts')
      : await import(/* @vite-ignore */ pathToFileURL(join(ROOT, 'dist/src/mount/mount.js')).href);
  const mount = await withLimit(module.mount(filesystem, path, settings), 10_000, 'mount()');
  mounts.set(path, mount);
  return { path, mount, connection: rememberConnection(path) };
}

/** Connections of the test's mounts by mount point, for the clean-up after a mount was detached. */
const connectionOf = new Map<string, number>();

function rememberConnection(path: string): number {
  const row = fuseMountAt(path);
  if (row === undefined) throw new Error(`the daemon says that it mounted, but mountinfo has nothing on ${path}`);
  connectionOf.set(path, row.connection);
  tellJanitor('+', 'mount', path, String(row.connection));
  return row.connection;
}

/** The promise, or a failure after the time limit. */
export async function withLimit<T>(promise: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not finish within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits until `condition` holds; the time over, fails with what `describe` says. */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  timeoutMs: number,
  describe: () => string,
): Promise<void> {
  const limit = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > limit) throw new Error(`after ${timeoutMs} ms: ${describe()}`);
    await sleep(5);
  }
}

/** Tells a measured figure on standard error when FUSEWIRE_TEST_FIGURES is set. */
export function tellFigure(what: string, value: string | number): void {
  if (process.env.FUSEWIRE_TEST_FIGURES) process.stderr.write(`${expect.getState().currentTestName}: ${what} ${value}\n`);
}

// --- clean-up ------------------------------------------------------------------------------------------------------

/** What a test's own filesystem does around the clean-up. */
interface CleanUpCalls {
  /** Before anything is taken away: a filesystem that holds back replies lets them go here. */
  before?: () => void;
  /** When nothing is mounted any more. */
  after?: () => void;
}

const cleanUpCalls: CleanUpCalls[] = [];

export function onCleanUp(calls: CleanUpCalls): void {
  cleanUpCalls.push(calls);
}

/** Takes one mount away: by the library first, by the control file and a lazy unmount if that is not enough. */
async function dropMount(path: string): Promise<string | undefined> {
  let complaint: string | undefined;
  const mount = mounts.get(path);
  mounts.delete(path);
  if (mount !== undefined) {
    await withLimit(mount.unmount(), 5000, 'unmount()').catch((error: Error) => {
      complaint = `${error.message}`;
    });
  }
  for (const row of mountsUnder(path).reverse()) {
    if (row.type.startsWith('fuse')) await abortConnection(row.connection);
    await umount(row.path, '-l', '-c').catch(() => {});
  }
  mounted.delete(path);
  tellJanitor('-', 'mount', path);
  return complaint;
}

/**
 * Waits for the killed children. One that stays waits in a detached mount for an answer: as long as it does, the number of
 * the connection cannot belong to somebody else's, and the connection is aborted.
 */
async function awaitChildren(complaints: string[]): Promise<void> {
  const left = () => [...children].map((child) => child.pid).join(', ');
  const gone = () => children.size === 0;
  try {
    await eventually(gone, 2000, () => `killed processes still wait in a mount that ended: ${left()}`);
  } catch (error) {
    complaints.push((error as Error).message);
    for (const connection of connectionOf.values()) await abortConnection(connection);
    await eventually(gone, 3000, () => `processes survive even the abort of their connection: ${left()}`);
  }
  connectionOf.clear();
}

/** Ends everything that the test started, and fails when the library did not do its part. */
export async function cleanUp(): Promise<void> {
  const calls = cleanUpCalls.splice(0);
  for (const { before } of calls) before?.();
  for (const child of children) killGroup(child);
  const complaints: string[] = [];
  for (const path of mounted) {
    const complaint = await dropMount(path);
    if (complaint !== undefined) complaints.push(complaint);
  }
  await awaitChildren(complaints);
  for (const { after } of calls) after?.();
  for (const path of folders) if (!kept.has(path)) removeFolder(path);
  if (complaints.length > 0) throw new Error(complaints.join('\n'));
}

const kept = new Set<string>();

/** A folder that stays until the last test of the file. */
export function sharedFolder(name: string): string {
  const path = temporaryFolder(name);
  kept.add(path);
  return path;
}

/** Fails when a mount below the test's folders or a child of the test is left. */
export function assertNothingLeft(path: string, ...pids: number[]): void {
  expect(mountsUnder(path), `mounts left on ${path}`).toEqual([]);
  for (const pid of pids) expect(existsSync(`/proc/${pid}`), `process ${pid} is left`).toBe(false);
}

/** Call at the top of each live test file. */
export function useLiveMounts(): void {
  beforeEach(() => {
    faults = [];
    subscribe('fusewire:fault', collectFault);
  });
  afterEach(async (context) => {
    unsubscribe('fusewire:fault', collectFault);
    if (context.task.result?.state === 'fail' && faults.length > 0) {
      process.stderr.write(`faults during "${context.task.name}": ${JSON.stringify(faults.slice(0, 20))}\n`);
    }
    await cleanUp();
  }, 40_000);
  afterAll(async () => {
    await cleanUp();
    for (const path of kept) removeFolder(path);
    kept.clear();
    if (control !== undefined && controlIsOurs) {
      await umount(control);
      rmdirSync(control);
      tellJanitor('-', 'control', control);
    }
    control = undefined;
    controlIsOurs = false;
    janitor?.stdin.end();
    janitor = undefined;
  }, 40_000);
}

/** The negative errno of a name: what the test's clients print. */
export function negative(name: keyof typeof constants.errno): number {
  return -constants.errno[name];
}
