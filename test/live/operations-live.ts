/**
 * What the tests of single operations share: a program that makes the system calls they ask for (test/clients/operations/call.c),
 * and a filesystem on a mount of this process that writes down what its methods were called with.
 */
import { join } from 'node:path';
import type { TestContext } from 'vitest';
import { MemoryFilesystem } from '../../examples/memory/filesystem.ts';
import { methodsOf } from '../../src/filesystem/methods.ts';
import type { Filesystem, FilesystemSettings } from '../../src/index.ts';
import type { MountSettings } from '../../src/mount/mount.ts';
import { clientProgram, NO_COMPILER } from '../clients/build.ts';
import { LineProcess, type LiveMount, mountHere, NO_MOUNTS } from './harness.ts';

/** Why these tests cannot run here, or undefined. */
export const NO_OPERATIONS = NO_MOUNTS ?? NO_COMPILER;

const LIMIT_MS = 10_000;

/** A number, a path or other string (a NUL is added), or memory that the kernel may change. */
export type Argument = number | bigint | string | Uint8Array;

export interface Returned {
  /** The result, or the negative errno. */
  readonly result: number;
  /** The memory that was handed over, as it is afterwards. */
  readonly memory: Buffer[];
}

export const AT_FDCWD = -100;

/** A process that makes system calls, one after the other. */
export class Caller extends LineProcess {
  #tags = 0;

  /** `interruptible`: SIGINT interrupts a call; otherwise it ends the process, as it does any. */
  static async start(options: { interruptible?: boolean; uid?: number; gid?: number } = {}): Promise<Caller> {
    const { interruptible = false, ...user } = options;
    const caller = new Caller([clientProgram('call'), interruptible ? 'interruptible' : 'plain'], user);
    await caller.line((line) => line === 'ready', LIMIT_MS, 'the line `ready`');
    return caller;
  }

  /** Begins a call. */
  begin(name: string, ...args: readonly Argument[]): Call {
    const tag = `c${++this.#tags}`;
    this.send([tag, name, ...args.map(wordOf)].join(' '));
    return new Call(this, tag, `${name}(${args.map(String).join(', ')})`);
  }

  /** Makes a call that may fail. */
  make(name: string, ...args: readonly Argument[]): Promise<Returned> {
    return this.begin(name, ...args).wait();
  }

  /** Makes a call, answers its result or negative errno. */
  async result(name: string, ...args: readonly Argument[]): Promise<number> {
    return (await this.make(name, ...args)).result;
  }

  /** Makes a call that must succeed; answers its result and the memory. */
  async ok(name: string, ...args: readonly Argument[]): Promise<Returned> {
    const call = this.begin(name, ...args);
    const returned = await call.wait();
    if (returned.result < 0) throw new Error(`${call.text} failed with errno ${-returned.result}`);
    return returned;
  }

  /** Opens a file; answers its descriptor. */
  async open(path: string, flags: number, mode = 0o644): Promise<number> {
    return (await this.ok('openat', AT_FDCWD, path, flags, mode)).result;
  }
}

/** A system call under way or done. */
export class Call {
  readonly #caller: Caller;
  readonly #start: string;
  readonly text: string;

  constructor(caller: Caller, tag: string, text: string) {
    this.#caller = caller;
    this.#start = `${tag} `;
    this.text = text;
  }

  get done(): boolean {
    return this.#caller.lines.some((line) => line.startsWith(this.#start));
  }

  async wait(timeoutMs = LIMIT_MS): Promise<Returned> {
    const line = await this.#caller.line((one) => one.startsWith(this.#start), timeoutMs, `the end of ${this.text}`);
    const [, result, ...memory] = line.split(' ');
    return { result: Number(result), memory: memory.map((hex) => Buffer.from(hex === '-' ? '' : hex, 'hex')) };
  }
}

function wordOf(argument: Argument): string {
  if (typeof argument === 'string') return `s:${Buffer.from(argument).toString('hex')}`;
  if (argument instanceof Uint8Array) return `x:${Buffer.from(argument).toString('hex')}`;
  return String(argument);
}

function copyOf(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value);
  return typeof value === 'object' && value !== null ? { ...value } : value;
}

// --- the filesystem -------------------------------------------------------------------------------------------------

/** One call of a method: its operation's name, and everything that its request said. */
export interface Logged {
  readonly method: string;
  readonly operation: string;
  readonly [field: string]: unknown;
}

/** A filesystem whose methods write down what they are called with. */
export function recorded(filesystem: Filesystem): { filesystem: Filesystem; log: Logged[] } {
  const log: Logged[] = [];
  const methods: Record<string, unknown> = { settings: filesystem.settings };
  const source = filesystem as unknown as Record<string, (...args: unknown[]) => unknown>;
  for (const method of methodsOf(filesystem)) {
    methods[method] = (...args: unknown[]) => {
      log.push(loggedCall(method, args));
      return source[method](...args);
    };
  }
  return { filesystem: methods as Filesystem, log };
}

function loggedCall(method: string, args: readonly unknown[]): Logged {
  const request = args.find((arg) => typeof arg === 'object' && arg !== null && 'exchange' in arg) as object | undefined;
  const fields = Object.entries(request ?? {}).filter(([name]) => !['exchange', 'pool', 'reply'].includes(name));
  const copies = fields.map(([name, value]) => [name, copyOf(value)]);
  const operation = (request as { operation?: string } | undefined)?.operation ?? method;
  return { method, operation, ...Object.fromEntries(copies), words: args.filter((arg) => typeof arg !== 'object') };
}

/** The memory filesystem of the examples, asked each time: nothing is remembered by the kernel unless a test wants it. */
export class AskedMemory extends MemoryFilesystem {
  override readonly settings: FilesystemSettings;

  constructor(settings: FilesystemSettings = {}) {
    super({ size: 64 << 20, inodes: 10_000 });
    this.settings = { cache: 'none', ...settings };
  }
}

export interface LiveFilesystem extends LiveMount {
  readonly log: Logged[];
  /** The calls of one operation, by its name. */
  calls(operation: string): Logged[];
  /** The path of a name on the mount. */
  at(name: string): string;
  readonly caller: Caller;
}

/** Mounts a filesystem in this process, with a caller. */
export async function liveFilesystem(filesystem: Filesystem, settings: MountSettings = {}): Promise<LiveFilesystem> {
  const watched = recorded(filesystem);
  const live = await mountHere(watched.filesystem, settings);
  const caller = await Caller.start();
  return {
    ...live,
    log: watched.log,
    calls: (operation) => watched.log.filter((one) => one.operation === operation),
    at: (name) => join(live.path, name),
    caller,
  };
}

/** Skips the test on a kernel that does not speak the minor yet. */
export function needsMinor(context: TestContext, live: LiveMount, minor: number): void {
  const { kernelMinor } = live.mount.negotiated;
  context.skip(kernelMinor < minor, `the kernel speaks 7.${kernelMinor}, this needs 7.${minor}`);
}
