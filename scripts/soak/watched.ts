/** The daemon of a soak, and what it uses, read from outside: /proc and the control files of its connection. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { runProgram } from './loads.ts';

const O_PATH = 0o10000000;
const COLLECT_ROUNDS_MAX = 20;

export interface Usage {
  /** Resident memory, KiB. */
  rssKiB: number;
  descriptors: number;
  /** What the descriptors are besides nodes, sorted: a path, or a kind such as `socket`. */
  open: string[];
  /** Nodes that the kernel knows: each is a descriptor opened O_PATH. The folder itself and /proc/self/fd are among them. */
  nodes: number;
  /** Requests that wait in the kernel's connection, and answers that are pending in the daemon. */
  waiting: number;
  pending: number;
  /** Requests served so far. */
  requests: number;
}

interface Said {
  event: string;
  connection?: number;
  faults?: string[];
  collected?: number[];
  counters?: { requests: number; pending: number };
}

export class WatchedDaemon {
  readonly #child: ChildProcess;
  readonly #waiters: ((said: Said) => void)[] = [];
  readonly #control = mkdtempSync(join(tmpdir(), 'fusewire-ctl-'));
  #connection = 0;
  errors = '';
  faults: string[] = [];
  readonly ended: Promise<number | null>;

  constructor(settings: object) {
    const program = fileURLToPath(new URL('./daemon.mjs', import.meta.url));
    this.#child = spawn(process.execPath, ['--expose-gc', program, JSON.stringify(settings)], {
      cwd: '/',
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.errors += text;
    });
    createInterface({ input: this.#child.stdout! }).on('line', (line) => this.#waiters.shift()?.(JSON.parse(line) as Said));
    this.ended = new Promise((resolve) => this.#child.once('exit', resolve));
  }

  #next(): Promise<Said> {
    const said = new Promise<Said>((resolve) => this.#waiters.push(resolve));
    const ended = this.ended.then((code) => {
      throw new Error(`the daemon ended with ${code}: ${this.errors}`);
    });
    return Promise.race([said, ended]);
  }

  #ask(line: string): Promise<Said> {
    this.#child.stdin?.write(`${line}\n`);
    return this.#next();
  }

  async start(): Promise<void> {
    const { connection = 0 } = await this.#next();
    this.#connection = connection;
    await runProgram(['mount', '-t', 'fusectl', 'none', this.#control]);
  }

  /** What it uses now. */
  async usage(): Promise<Usage> {
    const { counters, faults = [] } = await this.#ask('counters');
    this.faults = faults;
    const proc = `/proc/${this.#child.pid}`;
    const status = readFileSync(`${proc}/status`, 'latin1');
    const open: string[] = [];
    let nodes = 0;
    for (const fd of readdirSync(`${proc}/fdinfo`)) {
      try {
        const flags = /^flags:\s+(\d+)/m.exec(readFileSync(`${proc}/fdinfo/${fd}`, 'latin1'));
        const target = readlinkSync(`${proc}/fd/${fd}`);
        if (flags !== null && (Number.parseInt(flags[1], 8) & O_PATH) !== 0) nodes++;
        else open.push(target.replace(/:\[\d+\]$/, ''));
      } catch {
        // It was closed meanwhile.
      }
    }
    const waiting = Number(readFileSync(join(this.#control, String(this.#connection), 'waiting'), 'latin1'));
    const rssKiB = Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]);
    const { pending = 0, requests = 0 } = counters ?? {};
    return { rssKiB, descriptors: open.length + nodes, open: open.sort(), nodes, waiting, pending, requests };
  }

  /**
   * Collects the garbage of the main thread and of every worker. Who gets a lookup is chance, so it is tried until each has had one:
   * the part of a heap for young objects stays as large as the load made it until then.
   */
  async collect(mountpoint: string): Promise<void> {
    const { collected: before = [] } = await this.#ask('collect');
    for (let round = 0; round < COLLECT_ROUNDS_MAX; round++) {
      const names = Array.from({ length: 24 }, (_, index) => join(mountpoint, `.soak-collect-${round}-${index}`));
      await Promise.all(names.map((name) => runProgram(['stat', name])));
      const { collected: now = [] } = await this.#ask('collect');
      if (now.every((turns, worker) => turns > before[worker])) return;
    }
  }

  /** Unmounts and ends. */
  async end(): Promise<number | null> {
    await runProgram(['umount', this.#control]);
    rmdirSync(this.#control);
    this.#child.stdin?.end();
    return await this.ended;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
