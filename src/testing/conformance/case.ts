/** What the cases are written with: the shape of one, and a stage that keeps them to the point. */
import { inspect, isDeepStrictEqual } from 'node:util';
import type { PosixFeature, PosixIdentity, PosixProcess, PosixTree } from '../posix.ts';
import { ConformanceFailure } from './errors.ts';
import { O_CREAT, O_DIRECTORY, O_RDONLY, O_TRUNC, O_WRONLY } from './linux.ts';

/** One behaviour that a filesystem has to show. */
export interface ConformanceTest {
  /** What the filesystem must be able to do for this to make sense. */
  readonly needs: readonly PosixFeature[];
  /** Rejects when the tree behaves otherwise. Ends neither the tree nor its processes. */
  run(tree: PosixTree): Promise<void>;
}

export type ConformanceMap = Record<string, ConformanceTest>;

/** Users that nobody is on a machine. */
export const ALICE: PosixIdentity = { uid: 65_501, gid: 65_511 };
export const BOB: PosixIdentity = { uid: 65_502, gid: 65_512 };
/** A group that neither has as the first one. */
export const TEAM = 65_520;
export const ALICE_IN_TEAM: PosixIdentity = { ...ALICE, groups: [TEAM] };

/** How long to wait so that the next time stamp differs: the kernel's clock for files ticks every 1 to 10 ms. */
const TICK_MS = 25;

export const SECOND_NS = 1_000_000_000n;

/** A tree with its first process, and the errands of most cases. */
export class Stage {
  readonly tree: PosixTree;
  /** A process of root. */
  readonly p: PosixProcess;

  constructor(tree: PosixTree, p: PosixProcess) {
    this.tree = tree;
    this.p = p;
  }

  /** Another process; of root unless told. */
  as(identity?: PosixIdentity): Promise<PosixProcess> {
    return this.tree.process(identity);
  }

  /** Makes a file with these contents. */
  async file(path: string, contents: string | Uint8Array = '', mode = 0o644): Promise<void> {
    const fd = await this.p.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    await writeAll(this.p, fd, typeof contents === 'string' ? bytes(contents) : contents);
    await this.p.close(fd);
  }

  /** Makes a file and leaves it open. */
  async opened(path: string, flags: number, contents = '', mode = 0o644): Promise<number> {
    await this.file(path, contents, mode);
    return this.p.open(path, flags);
  }

  async contents(path: string, p = this.p): Promise<string> {
    const fd = await p.open(path, O_RDONLY);
    try {
      return text(await readAll(p, fd));
    } finally {
      await p.close(fd);
    }
  }

  /** Names in a directory without the dots, sorted. */
  async names(path: string): Promise<string[]> {
    const fd = await this.p.open(path, O_RDONLY | O_DIRECTORY);
    try {
      const entries = await this.p.getdents(fd);
      return entries
        .map((entry) => entry.name)
        .filter((name) => name !== '.' && name !== '..')
        .sort();
    } finally {
      await this.p.close(fd);
    }
  }

  /** A directory that everybody may write to. */
  async openDirectory(path: string, mode = 0o777): Promise<void> {
    await this.p.mkdir(path);
    await this.p.chmod(path, mode);
  }

  /** Lets time pass, so that the next time stamp is a later one. */
  tick(): Promise<void> {
    return pause(TICK_MS);
  }
}

/** A case. It needs writing unless it says that it reads only. */
export function test(needs: readonly PosixFeature[], run: (stage: Stage) => Promise<void>): ConformanceTest {
  return {
    needs: needs.includes('writing') ? needs : ['writing', ...needs],
    run: async (tree) => run(new Stage(tree, await tree.process())),
  };
}

/** Names the cases of a family: `rename: a file replaces a file`. */
export function family(name: string, cases: ConformanceMap): ConformanceMap {
  return Object.fromEntries(Object.entries(cases).map(([title, one]) => [`${name}: ${title}`, one]));
}

/** One case for each row of a table. */
export function each<Row>(
  rows: readonly Row[],
  title: (row: Row) => string,
  make: (row: Row) => ConformanceTest,
): ConformanceMap {
  return Object.fromEntries(rows.map((row) => [title(row), make(row)]));
}

// --- expectations --------------------------------------------------------------------------------------------------

/** Two values are the same, deeply. */
export function same(actual: unknown, expected: unknown, what: string): void {
  if (isDeepStrictEqual(actual, expected)) return;
  throw new ConformanceFailure(`${what}: ${show(actual)} instead of ${show(expected)}`);
}

export function holds(condition: boolean, what: string): void {
  if (!condition) throw new ConformanceFailure(what);
}

/** The call fails with one of these errors. */
export async function fails(codes: string | readonly string[], call: Promise<unknown>): Promise<void> {
  const wanted = typeof codes === 'string' ? [codes] : codes;
  let value: unknown;
  try {
    value = await call;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== undefined && wanted.includes(code)) return;
    throw new ConformanceFailure(`expected ${wanted.join(' or ')}, got ${message}`, { cause: error });
  }
  throw new ConformanceFailure(`expected ${wanted.join(' or ')}, but the call succeeded with ${show(value)}`);
}

function show(value: unknown): string {
  if (typeof value === 'bigint') return String(value);
  const whole = inspect(value, { depth: 4, maxArrayLength: 12, maxStringLength: 200, breakLength: 130 });
  return whole.length > 600 ? `${whole.slice(0, 600)}…` : whole;
}

// --- small tools ---------------------------------------------------------------------------------------------------

export const bytes = (latin1: string): Uint8Array => Uint8Array.from(latin1, (character) => character.charCodeAt(0));

export function text(data: Uint8Array): string {
  let result = '';
  for (let at = 0; at < data.length; at += 8192) result += String.fromCharCode(...data.subarray(at, at + 8192));
  return result;
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Bytes of which every position tells where it is. */
export function pattern(length: number, seed = 0): Uint8Array {
  const data = new Uint8Array(length);
  for (let at = 0; at < length; at++) data[at] = ((at * 31) ^ (at >>> 8) ^ (seed * 97)) & 0xff;
  return data;
}

/** Whether two arrays of bytes are the same; says where they are not. */
export function sameBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  same(actual.length, expected.length, `${what}: length`);
  for (let at = 0; at < expected.length; at++) {
    if (actual[at] !== expected[at]) {
      throw new ConformanceFailure(`${what}: byte ${at} is ${actual[at]} instead of ${expected[at]}`);
    }
  }
}

/** Writes everything at the file position. */
export async function writeAll(p: PosixProcess, fd: number, data: Uint8Array): Promise<void> {
  for (let at = 0; at < data.length; ) {
    const written = await p.write(fd, data.subarray(at));
    holds(written > 0, `write answered ${written}`);
    at += written;
  }
}

/** Reads from the file position to the end. */
export async function readAll(p: PosixProcess, fd: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const part = await p.read(fd, 65_536);
    if (part.length === 0) break;
    parts.push(part);
    length += part.length;
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Whether a promise is still open after so long. */
export async function isPending(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const pending = Symbol('pending');
  const settled = promise.then(
    () => undefined,
    () => undefined,
  );
  return (await Promise.race([settled, pause(ms).then(() => pending)])) === pending;
}

/** The promise, or a failure after the limit. */
export async function within<Value>(ms: number, promise: Promise<Value>, what: string): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new ConformanceFailure(`${what} did not happen within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
