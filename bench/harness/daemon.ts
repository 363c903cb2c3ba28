/** A FUSE daemon as a child in the foreground: started, waited for, measured, stopped. */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { collect, kill, run, start } from './children.ts';
import { BenchError } from './failure.ts';
import { forgetMount, guardMount } from './guard.ts';
import { abortConnections, isMounted, unmount } from './mounts.ts';
import { type CpuReading, cpuReading, cpuSeconds, residentBytes } from './proc.ts';

const READY_MS = 15_000;
const STOP_MS = 5_000;
const POLL_MS = 2;

export class Daemon {
  readonly mountPoint: string;
  readonly #child: ChildProcess;
  readonly #stderr: { text: string };
  #ended: Promise<void>;
  #startedInMs = Number.NaN;

  private constructor(child: ChildProcess, mountPoint: string) {
    this.#child = child;
    this.mountPoint = mountPoint;
    this.#stderr = collect(child.stderr);
    collect(child.stdout);
    this.#ended = new Promise((resolve) => {
      child.once('exit', () => resolve());
      child.once('error', () => resolve());
    });
  }

  /** Starts `argv`, which mounts on `mountPoint` (made here), and waits until a program can look at `probe` through it. */
  static async start(argv: readonly string[], mountPoint: string, probe: string, env?: NodeJS.ProcessEnv): Promise<Daemon> {
    mkdirSync(mountPoint, { recursive: true });
    guardMount(mountPoint);
    const begun = performance.now();
    const daemon = new Daemon(start(argv, env), mountPoint);
    try {
      await daemon.#ready(argv);
      await run(['stat', '--', probe], { timeoutMs: READY_MS });
      daemon.#startedInMs = performance.now() - begun;
    } catch (error) {
      await daemon.stop();
      throw error;
    }
    return daemon;
  }

  async #ready(argv: readonly string[]): Promise<void> {
    let failure: string | undefined;
    this.#child.once('error', (error) => {
      failure = error.message;
    });
    const deadline = Date.now() + READY_MS;
    while (!isMounted(this.mountPoint)) {
      const { exitCode, signalCode } = this.#child;
      if (exitCode !== null || signalCode !== null) failure ??= `it ended (${exitCode ?? signalCode}) before it mounted`;
      if (Date.now() > deadline) failure ??= `nothing was mounted within ${READY_MS / 1000} s`;
      if (failure !== undefined) throw BenchError.daemon(`${argv.join(' ')}: ${failure}${this.#said()}`);
      await sleep(POLL_MS);
    }
  }

  /** What the daemon last wrote to standard error, as the end of a message. */
  #said(): string {
    const text = this.#stderr.text.trim();
    return text === '' ? '' : `: ${text.split('\n').slice(-3).join(' / ')}`;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get alive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Throws when the daemon is no longer there: what was measured since was something else. */
  assertAlive(): void {
    if (!this.alive) throw BenchError.daemon(`the daemon on ${this.mountPoint} has ended${this.#said()}`);
    if (!isMounted(this.mountPoint)) throw BenchError.daemon(`${this.mountPoint} is no longer mounted${this.#said()}`);
  }

  /** Milliseconds from its start until a program had looked at the probe through it. */
  get startedInMs(): number {
    return this.#startedInMs;
  }

  cpuSeconds(): number {
    return cpuSeconds(this.pid);
  }

  cpuReading(): CpuReading {
    return cpuReading(this.pid);
  }

  residentBytes(): number {
    return residentBytes(this.pid);
  }

  /** Unmounts, lets the daemon end, kills it when it does not. Never throws. */
  async stop(): Promise<void> {
    if (isMounted(this.mountPoint)) unmount(this.mountPoint);
    if (!(await this.#endsWithin(STOP_MS))) {
      kill(this.#child);
      if (!(await this.#endsWithin(STOP_MS))) abortConnections(this.mountPoint);
      await this.#endsWithin(STOP_MS);
    }
    if (isMounted(this.mountPoint)) unmount(this.mountPoint);
    if (!isMounted(this.mountPoint)) forgetMount(this.mountPoint);
  }

  async #endsWithin(limitMs: number): Promise<boolean> {
    if (!this.alive) return true;
    const limit = new AbortController();
    await Promise.race([this.#ended, sleep(limitMs, undefined, { signal: limit.signal }).catch(() => {})]);
    limit.abort();
    return !this.alive;
  }
}
