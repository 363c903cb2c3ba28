/**
 * What the ends are tried on: daemons with mount points of their own, and callers that wait in them. Nothing here touches a
 * mount from this process; a caller is a child, and what is mounted is read from the kernel's list.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const CLI = join(ROOT, 'dist/src/cli/main.js');
export const MODULE = join(ROOT, 'scripts/ends/module.mjs');
export const PROGRAM = join(ROOT, 'scripts/ends/daemon.mjs');

/** Milliseconds from the end to nothing left. */
export const BOUND_MS = 5000;
/** Milliseconds for what is no end: starting, a caller that shall be served. Much, for a machine that others keep busy. */
export const PATIENCE_MS = 60_000;

export interface Serving {
  readonly workers: number;
  readonly mode: 'event' | 'blocking';
}

/** A process that may have mounted something, or waits in a mount. */
export class Child {
  readonly process: ChildProcess;
  readonly started = performance.now();
  output = '';
  errors = '';
  code: number | null = null;
  signal: NodeJS.Signals | null = null;
  hasEnded = false;
  #wake: (() => void)[] = [];

  constructor(argv: readonly string[], env?: NodeJS.ProcessEnv) {
    this.process = spawn(argv[0], argv.slice(1), {
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(env === undefined ? {} : { env: { ...process.env, ...env } }),
    });
    this.process.stdin?.on('error', () => {});
    this.process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.output += text;
      this.#notify();
    });
    this.process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.errors += text;
    });
    this.process.once('exit', (code, signal) => {
      this.code = code;
      this.signal = signal;
      this.hasEnded = true;
      this.#notify();
    });
    this.process.once('error', (error) => {
      this.errors += error.message;
      this.hasEnded = true;
      this.#notify();
    });
  }

  get pid(): number {
    return this.process.pid ?? -1;
  }

  #notify(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  /** Waits until `condition` holds, which output and the end of the process may bring about. */
  async until(condition: () => boolean, timeoutMs: number, what: string): Promise<void> {
    const limit = performance.now() + timeoutMs;
    while (!condition()) {
      const left = limit - performance.now();
      if (left <= 0) throw new Error(`${what}: not within ${timeoutMs} ms\n${this.output}${this.errors}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(left, 100));
        this.#wake.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  async end(timeoutMs: number): Promise<void> {
    await this.until(() => this.hasEnded, timeoutMs, `process ${this.pid} ends`);
  }

  /** Ends it and everything that it started. */
  destroy(): void {
    if (this.hasEnded || this.process.pid === undefined) return;
    try {
      process.kill(-this.process.pid, 'SIGKILL');
    } catch {
      this.process.kill('SIGKILL');
    }
  }
}

interface MountRow {
  path: string;
  type: string;
  minor: number;
}

function mountsUnder(folder: string): MountRow[] {
  const rows: MountRow[] = [];
  for (const line of readFileSync('/proc/self/mountinfo', 'latin1').split('\n')) {
    const fields = line.split(' ');
    if (fields.length < 10 || !(fields[4] === folder || fields[4].startsWith(`${folder === '/' ? '' : folder}/`))) continue;
    rows.push({ path: fields[4], type: fields[fields.indexOf('-') + 1], minor: Number(fields[2].split(':')[1]) });
  }
  return rows;
}

/** Control files of FUSE connections. A mount of our own, because the one that stands may be another program's and go with it. */
export class Control {
  readonly folder = mkdtempSync(join(tmpdir(), 'fusewire-ctl-'));

  constructor() {
    const { status, stderr } = spawnSync('mount', ['-t', 'fusectl', 'none', this.folder], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`fusectl cannot be mounted: ${stderr}`);
  }

  /** Aborts a connection, unless its number is another one's by now. */
  abort(connection: number, identity: number): void {
    try {
      const file = openSync(join(this.folder, String(connection), 'abort'), 'r+');
      // What was opened stays that of its connection, so it is looked at after that.
      if (this.identity(connection) === identity) writeSync(file, '1');
      closeSync(file);
    } catch {
      // It has ended already.
    }
  }

  /** Tells a connection from others that have its number before or after it; -1 when there is none. */
  identity(connection: number): number {
    return statSync(join(this.folder, String(connection)), { throwIfNoEntry: false })?.ino ?? -1;
  }

  waiting(connection: number): number {
    try {
      return Number(readFileSync(join(this.folder, String(connection), 'waiting'), 'latin1'));
    } catch {
      return 0;
    }
  }

  end(): void {
    spawnSync('umount', [this.folder]);
    rmdirSync(this.folder);
  }
}

/** One mount point and everything that one end is tried with. */
export class World {
  readonly control: Control;
  readonly serving: Serving;
  readonly folder: string;
  readonly source: string;
  readonly path: string;
  readonly #children: Child[] = [];
  /** Connections by number, and what tells them apart from a later one with the same number. */
  readonly #connections = new Map<number, number>();
  #aborts = false;

  constructor(control: Control, serving: Serving) {
    this.control = control;
    this.serving = serving;
    this.folder = mkdtempSync(join(tmpdir(), 'fusewire-ends-'));
    this.source = join(this.folder, 'source');
    this.path = join(this.folder, 'mnt');
    mkdirSync(this.source);
    mkdirSync(this.path);
    writeFileSync(join(this.source, 'data'), 'contents');
  }

  /** Starts something and waits until it says that it mounted. */
  async mounts(argv: readonly string[], env?: NodeJS.ProcessEnv): Promise<Child> {
    const child = this.start(argv, env);
    await child.until(() => child.output.includes('mounted') || child.hasEnded, PATIENCE_MS, 'the mount comes up');
    if (child.hasEnded) throw new Error(`the daemon ended (${child.code ?? child.signal})\n${child.output}${child.errors}`);
    const row = mountsUnder(this.path).at(-1);
    if (row !== undefined) this.#connections.set(row.minor, this.control.identity(row.minor));
    return child;
  }

  start(argv: readonly string[], env?: NodeJS.ProcessEnv): Child {
    const child = new Child(argv, env);
    this.#children.push(child);
    return child;
  }

  get #servingOptions(): string[] {
    return ['--workers', String(this.serving.workers), '--mode', this.serving.mode];
  }

  get stuckArguments(): string[] {
    return [process.execPath, CLI, 'mount', MODULE, this.path, ...this.#servingOptions];
  }

  get passthroughArguments(): string[] {
    return [process.execPath, CLI, 'passthrough', this.source, this.path, ...this.#servingOptions];
  }

  /** `fusewire mount` of a filesystem where callers can be made to wait. */
  stuck(...options: string[]): Promise<Child> {
    return this.mounts([...this.stuckArguments, ...options]);
  }

  passthrough(...options: string[]): Promise<Child> {
    return this.mounts([...this.passthroughArguments, ...options]);
  }

  /** A program that uses the library. */
  program(limits: object = {}, nodeOptions: string[] = []): Promise<Child> {
    const argument = JSON.stringify({ path: this.path, ...this.serving, limits });
    return this.mounts([process.execPath, ...nodeOptions, PROGRAM, argument]);
  }

  /** One caller that waits in a read and one in a lookup. */
  async callers(): Promise<Child[]> {
    const callers = [this.start(['cat', join(this.path, 'stuck')]), this.start(['stat', '-c', '%s', join(this.path, 'never')])];
    const connection = this.connection;
    const limit = performance.now() + PATIENCE_MS;
    while (this.control.waiting(connection) < 2) {
      if (performance.now() > limit) throw new Error(`the callers do not wait: ${callers.map((one) => one.errors)}`);
      await sleep(10);
    }
    return callers;
  }

  get connection(): number {
    const row = mountsUnder(this.path).at(-1);
    if (row === undefined) throw new Error('nothing is mounted');
    return row.minor;
  }

  get isMounted(): boolean {
    return mountsUnder(this.path).length > 0;
  }

  /** Runs a program to its end, which must be a good one unless told otherwise. */
  async run(argv: readonly string[], codes: readonly number[] = [0]): Promise<Child> {
    const child = this.start(argv);
    await child.end(PATIENCE_MS);
    if (!codes.includes(child.code ?? -1)) {
      throw new Error(`${argv.join(' ')} ended with ${child.code ?? child.signal}\n${child.output}${child.errors}`);
    }
    return child;
  }

  /** The mount serves: a file is read to its end. */
  async serves(): Promise<void> {
    await this.run(['cat', join(this.path, 'data')]);
  }

  /** Waits until nothing is left of the mount, the given daemon and its callers; all of that within the bound after `from`. */
  async nothingLeft(from: number, daemons: readonly Child[], callers: readonly Child[] = []): Promise<void> {
    const left = () => Math.max(1, BOUND_MS - (performance.now() - from));
    for (const child of [...daemons, ...callers]) await child.end(left());
    const [first] = daemons;
    await first.until(() => !this.isMounted, left(), 'the mount goes away');
    for (const [connection, identity] of this.#connections) {
      // A mount namespace that somebody made meanwhile may keep the connection, dead, until it ends itself.
      const isOver = () => this.control.identity(connection) !== identity || this.control.waiting(connection) === 0;
      await first.until(isOver, left(), 'nobody waits in the connection');
    }
    // fusermount3 hears of the daemon's end by its socket, unmounts, and only then ends itself.
    await first.until(() => this.#strays().length === 0, left(), 'no process is left');
    for (const caller of callers) {
      if (caller.code === 0) throw new Error(`a caller whose request was never answered ended well: ${caller.output}`);
    }
  }

  /** From here on the end itself aborts the connection. */
  willAbort(): void {
    this.#aborts = true;
  }

  /** A daemon told of an abort that is none of ours: on a shared machine somebody may do that to a number that was once his. */
  get toldOfAbort(): boolean {
    return !this.#aborts && this.#children.some((child) => child.errors.includes('ERR_FUSEWIRE_CONNECTION'));
  }

  /** Takes away whatever a failure left, and says what that was. */
  async clear(): Promise<string[]> {
    const found: string[] = [];
    for (const row of mountsUnder(this.folder).reverse()) {
      const identity = this.control.identity(row.minor);
      if (!mountsUnder(this.folder).some(({ path, minor }) => path === row.path && minor === row.minor)) continue;
      found.push(`a ${row.type} mount on ${row.path}`);
      this.control.abort(row.minor, identity);
      spawnSync('umount', ['-l', '-c', row.path], { timeout: 5000 });
    }
    for (const [connection, identity] of this.#connections) {
      const waiting = this.control.identity(connection) === identity ? this.control.waiting(connection) : 0;
      if (waiting > 0) found.push(`${waiting} requests in connection ${connection}`);
    }
    for (const child of this.#children) {
      if (child.hasEnded) continue;
      found.push(`process ${child.pid} (${child.process.spawnargs.join(' ')})`);
      child.destroy();
      await child.end(5000).catch(() => found.push(`process ${child.pid} cannot be killed`));
    }
    for (const { pid, words } of this.#strays()) {
      found.push(`process ${pid} (${words})`);
      kill(pid);
    }
    rmSync(this.folder, { recursive: true, force: true });
    return found;
  }

  /** Processes that somebody of ours started and that outlive him: they name our folder. */
  #strays(): { pid: number; words: string }[] {
    const found: { pid: number; words: string }[] = [];
    const ours = new Set(this.#children.filter((child) => !child.hasEnded).map((child) => child.pid));
    for (const name of readdirSync('/proc')) {
      const pid = Number(name);
      if (!Number.isInteger(pid) || ours.has(pid)) continue;
      const words = commandOf(pid);
      if (words.includes(this.folder)) found.push({ pid, words });
    }
    return found;
  }
}

/** Empty when it has ended. */
function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}
