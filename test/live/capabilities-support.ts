/**
 * What the tests of INIT capabilities share: a filesystem whose calls are seen and can be held back, and a caller that makes one
 * system call after the other (test/clients/capabilities/steps.c).
 */
import { MemoryFilesystem } from '../../examples/memory/filesystem.ts';
import type { AttributesReply, Filesystem, FilesystemSettings } from '../../src/filesystem/filesystem.ts';
import { methodsOf } from '../../src/filesystem/methods.ts';
import type { Request } from '../../src/filesystem/requests.ts';
import type { MountSettings } from '../../src/mount/mount.ts';
import type { InitFlag } from '../../src/protocol/index.ts';
import { clientProgram, NO_COMPILER } from '../clients/build.ts';
import { eventually, type LiveMount, mountHere, NO_MOUNTS, onCleanUp, runWell, skipLoudly } from './harness.ts';

/** Why the tests of capabilities cannot run here, said once; for `describe.skipIf`. */
export const LEFT_OUT = skipLoudly('INIT capabilities', NO_MOUNTS ?? NO_COMPILER);

/** A request as the filesystem saw it: its operation, its node and name, and whatever fields the operation has. */
export interface Seen {
  readonly operation: string;
  readonly node: number;
  readonly name?: string;
  readonly [field: string]: unknown;
}

const FIELDS = [
  ...['uid', 'gid', 'handle', 'flags', 'mode', 'umask', 'size', 'offset', 'valid', 'newUid', 'newGid', 'type', 'flock'],
  ...['killSuidGid', 'aclKillSgid', 'writeback', 'directory', 'resent', 'newName'],
];

type AnyMethod = (...args: unknown[]) => unknown;

/** The methods of another filesystem, each call written down and, when the test says so, held back. */
export class Observed {
  readonly seen: Seen[] = [];
  readonly filesystem: Filesystem;
  /** What waits because of {@link Observed.hold}, in the order of arrival. */
  readonly held: { readonly seen: Seen; go(): void; fail(error: unknown): void }[] = [];
  readonly #holding = new Set<string>();

  constructor(base: Filesystem, settings: FilesystemSettings, overlay: Partial<Filesystem>, without: readonly string[]) {
    const methods: Record<string, AnyMethod> = {};
    for (const name of new Set([...methodsOf(base), ...methodsOf(overlay)])) {
      if (without.includes(name)) continue;
      const owner = name in overlay ? overlay : base;
      const method = Reflect.get(owner, name) as AnyMethod;
      methods[name] = (...args) => this.#call((...rest) => method.apply(owner, rest), args);
    }
    this.filesystem = { ...methods, settings: { ...base.settings, ...settings } };
    onCleanUp({ before: () => this.letGo() });
  }

  #call(method: AnyMethod, args: unknown[]): unknown {
    const request = args.find((arg) => typeof arg === 'object' && arg !== null && 'operation' in arg) as Request | undefined;
    if (request === undefined) {
      // Of the methods without a request only forget is called while requests come.
      if (typeof args[0] === 'number') this.seen.push({ operation: 'FORGET', node: args[0] });
      return method(...args);
    }
    const seen: Record<string, unknown> = { operation: request.operation, node: args[0] };
    if (typeof args[1] === 'string') seen.name = args[1];
    for (const field of FIELDS) {
      const value = (request as unknown as Record<string, unknown>)[field];
      if (value !== undefined) seen[field] = value;
    }
    this.seen.push(seen as unknown as Seen);
    if (!this.#holding.has(request.operation)) return method(...args);
    return new Promise((resolve, reject) => {
      const go = () => resolve(method(...args));
      this.held.push({ seen: seen as unknown as Seen, go, fail: reject });
    });
  }

  /** Requests of these operations wait from now on. */
  hold(...operations: string[]): void {
    for (const operation of operations) this.#holding.add(operation);
  }

  /** Nothing waits any more. */
  letGo(): void {
    this.#holding.clear();
    for (const { go } of this.held.splice(0)) go();
  }

  async heldIs(count: number): Promise<void> {
    const told = () => `${this.held.length} requests are held back, not ${count}`;
    await eventually(() => this.held.length >= count, 20_000, told);
  }

  /** The requests of these operations, in order. */
  of(...operations: string[]): Seen[] {
    return this.seen.filter(({ operation }) => operations.includes(operation));
  }

  /** Forgets what was seen. */
  clear(): void {
    this.seen.length = 0;
  }
}

export interface StageOptions extends MountSettings {
  /** INIT flags that the filesystem asks for. Default: none. */
  asks?: readonly InitFlag[];
  /** Methods that it does not have. */
  without?: readonly string[];
  /** Methods that are not those of the memory filesystem; `base` is that one. */
  instead?: (base: Filesystem) => Partial<Filesystem>;
  /** Another filesystem than the one in memory. */
  base?: Filesystem;
  cache?: Omit<FilesystemSettings, 'capabilities' | 'nameEncoding'>;
}

export interface Stage extends LiveMount, Pick<Observed, 'seen' | 'held'> {
  observed: Observed;
}

/** Mounts a filesystem in memory, observed, so that every user may use it. */
export async function stage(options: StageOptions = {}): Promise<Stage> {
  const { asks = [], without = [], instead, base = new MemoryFilesystem(), cache = {}, ...settings } = options;
  const observed = new Observed(base, { ...cache, capabilities: asks }, instead?.(base) ?? {}, without);
  const mountOptions = settings.mountOptions ?? 'allow_other,default_permissions,suid,dev';
  const live = await mountHere(observed.filesystem, { ...settings, mountOptions });
  return { ...live, observed, seen: observed.seen, held: observed.held };
}

/** What each step of the caller came to, without its verb; its command line. */
export async function steps(...list: string[]): Promise<string[]> {
  const output = await runWell([clientProgram('steps'), ...list], { timeoutMs: 30_000 });
  return output
    .trimEnd()
    .split('\n')
    .map((line) => line.slice(line.indexOf(' ') + 1));
}

/** The command line of a caller. */
export function stepsOf(...list: string[]): string[] {
  return [clientProgram('steps'), ...list];
}

/** A folder with one file `f` that the test changes behind the kernel's back. */
export class OneFile implements Filesystem {
  readonly settings: FilesystemSettings = { entryTtl: 1000, attributeTtl: 0 };
  content = 'aaaa';
  changedAt = 1000;

  lookup(_parent: number, name: string) {
    if (name !== 'f') throw Object.assign(new Error('ENOENT'), { code: 'ENOENT' });
    return { node: 2, ...this.getattr(2) };
  }

  getattr(node: number): AttributesReply {
    if (node === 1) return { attributes: { mode: 0o040755, nlink: 2 } };
    const mtime = { seconds: this.changedAt, nanoseconds: 0 };
    return { attributes: { mode: 0o100644, size: this.content.length, mtime, ctime: mtime } };
  }

  open() {
    return { keepCache: true };
  }

  read(_node: number, { offset, size }: { offset: number; size: number }): Uint8Array {
    return Buffer.from(this.content).subarray(offset, offset + size);
  }
}
