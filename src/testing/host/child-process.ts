/** A child of ours that makes system calls: started once, used by one test after the other. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { CallError, describeCall, HostProcessError } from './errors.ts';
import { type CallAnswer, encodeFrame, FrameReader } from './messages.ts';

interface Pending {
  readonly call: string;
  readonly args: readonly unknown[];
  readonly timer: NodeJS.Timeout;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** Characters of the child's standard error that are kept for the message when it dies. */
const COMPLAINT_MAX = 4000;

export class CallingProcess {
  readonly #child: ChildProcess;
  readonly #pending = new Map<number, Pending>();
  readonly #reader = new FrameReader<CallAnswer>();
  /** Settles when the process is gone. */
  readonly gone: Promise<void>;
  #nextId = 1;
  #complaint = '';
  #ended = false;

  constructor() {
    const script = new URL(import.meta.url.endsWith('.ts') ? './child.ts' : './child.js', import.meta.url);
    this.#child = spawn(process.execPath, [...loaderFor(script), fileURLToPath(script)], {
      // Neither the working directory nor options of this process are the child's business.
      cwd: '/',
      env: { PATH: process.env.PATH ?? '', LC_ALL: 'C' },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#child.stdout!.on('data', (bytes: Buffer) => {
      for (const answer of this.#reader.take(bytes)) this.#settle(answer);
    });
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#complaint = (this.#complaint + text).slice(-COMPLAINT_MAX);
    });
    // A write after the end fails; the exit tells more.
    this.#child.stdin!.on('error', () => {});
    this.gone = new Promise((resolve) => {
      const end = () => {
        this.#fail(new HostProcessError('ERR_FUSEWIRE_PROCESS_ENDED', `the process ended${this.#why()}`));
        resolve();
      };
      this.#child.once('error', end);
      this.#child.once('exit', end);
    });
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Whether a call is under way. */
  get busy(): boolean {
    return this.#pending.size > 0;
  }

  #why(): string {
    const { exitCode, signalCode } = this.#child;
    const how = signalCode ?? (exitCode === null ? 'it did not start' : `code ${exitCode}`);
    return ` (${how})${this.#complaint === '' ? '' : `: ${this.#complaint}`}`;
  }

  #settle(answer: CallAnswer): void {
    const pending = this.#pending.get(answer.id);
    if (pending === undefined) return;
    this.#pending.delete(answer.id);
    clearTimeout(pending.timer);
    if ('errno' in answer) pending.reject(new CallError(answer.errno, pending.call, pending.args));
    else if ('message' in answer) pending.reject(new HostProcessError('ERR_FUSEWIRE_CALL_FAILED', answer.message));
    else pending.resolve(answer.value);
  }

  #fail(error: Error): void {
    this.#ended = true;
    for (const pending of this.#pending.values()) {
      clearTimeout(pending.timer);
      pending.reject(error);
    }
    this.#pending.clear();
  }

  /**
   * Makes a call, after those that were asked for before. When it takes longer than the limit the process is killed, and
   * this and all its other calls reject. A process that waits for a FUSE daemon may survive that until the daemon answers
   * or ends; nobody waits for it.
   */
  call<Value>(call: string, args: readonly unknown[], timeoutMs: number): Promise<Value> {
    const ended = () => new HostProcessError('ERR_FUSEWIRE_PROCESS_ENDED', `${call} of a process that ended${this.#why()}`);
    if (this.#ended) return Promise.reject(ended());
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      const timer = setTimeout(() => {
        const message = `${describeCall(call, args)} did not return within ${timeoutMs} ms, so its process was killed`;
        this.#fail(new HostProcessError('ERR_FUSEWIRE_CALL_HUNG', message));
        this.kill();
      }, timeoutMs);
      this.#pending.set(id, { call, args, timer, resolve: (value) => resolve(value as Value), reject });
      this.#child.stdin!.write(encodeFrame({ id, call, args }));
    });
  }

  kill(): void {
    this.#ended = true;
    this.#child.kill('SIGKILL');
  }

  /** Whether this process may end while the child lives: an idle child must not keep a program running. */
  keepAlive(keep: boolean): void {
    const { stdin, stdout, stderr } = this.#child;
    for (const handle of [this.#child, stdin as Socket, stdout as Socket, stderr as Socket]) {
      if (keep) handle.ref();
      else handle.unref();
    }
  }
}

/** Running from sources on a Node without type stripping, the child needs the loader that tests of this package have. */
function loaderFor(script: URL): string[] {
  if (!script.pathname.endsWith('.ts') || (process.features as { typescript?: unknown }).typescript) return [];
  return ['--import', `file://${createRequire(import.meta.url).resolve('tsx')}`];
}
