/** The filesystems that sessions are fuzzed with. */
import { type Filesystem, FuseError, type Kernel, type Request } from '../../src/filesystem/index.ts';
import { type PathHandle, type PathSource, pathFilesystem } from '../../src/paths/index.ts';
import { OPCODES } from '../../src/protocol/index.ts';
import type { Random } from './random.ts';
import { Finding } from './target.ts';

/** A running hash of everything that a filesystem was told: two sessions that saw the same have the same. */
export class Digest {
  value = 0;
  /** What was wrong with what it was told. Thrown by the handler it would only be a failed request. */
  finding: unknown;

  number(value: number): void {
    const low = value | 0;
    const high = Math.floor(value / 0x1_0000_0000) | 0;
    this.value = Math.imul((this.value ^ low) + 0x9e37_79b9, 0x85eb_ca6b) ^ Math.imul(high + 1, 0xc2b2_ae35);
  }

  text(value: string): void {
    for (let index = 0; index < value.length; index++) this.number(value.charCodeAt(index));
  }

  bytes(value: Uint8Array): void {
    for (let at = 0; at < value.length; at++) this.number(value[at]!);
  }
}

/** Fields of request objects that are offsets or sizes: whole numbers that are exact. */
const EXACT = new Set([
  'offset',
  'size',
  'length',
  'start',
  'toOffset',
  'block',
  'outSize',
  'blocksize',
  'mask',
  'flags',
  'mode',
]);
/** Of the library's own: not what a handler is told. */
const INTERNAL = new Set(['exchange', 'pool', 'reply', 'payloadAt']);

/** Whether a request's own fields are within the ranges that src/filesystem/requests.ts documents. */
function inspect(method: string, request: Record<string, unknown>, digest: Digest): void {
  for (const [name, value] of Object.entries(request)) {
    if (INTERNAL.has(name)) continue;
    if (typeof value === 'number') inspectNumber(method, name, value);
    inspectValue(method, name, value, digest);
  }
  if (typeof request.end === 'number' && !((request.end as number) >= (request.start as number)))
    throw new Finding('range', `${method}: a lock ends at ${request.end} before it starts at ${request.start}`);
}

function inspectNumber(method: string, name: string, value: number): void {
  const isCookie = method.startsWith('readdir') && name === 'offset';
  const isWhole = Number.isInteger(value) || (name === 'end' && value === Number.POSITIVE_INFINITY);
  if (!isWhole || value < 0) throw new Finding('range', `${method}: ${name} is ${value}`);
  if ((EXACT.has(name) && !isCookie && !Number.isSafeInteger(value)) || (name === 'end' && value > 2 ** 53 && value !== Infinity))
    throw new Finding('range', `${method}: ${name} is ${value}, which is not exact`);
}

function inspectValue(method: string, name: string, value: unknown, digest: Digest): void {
  if (typeof value === 'number') digest.number(value === Infinity ? -1 : value);
  else if (typeof value === 'string') {
    if (name === 'newName') inspectName(method, value);
    digest.text(value);
  } else if (typeof value === 'boolean') digest.number(value ? 1 : 0);
  else if (value instanceof Uint8Array) digest.bytes(value);
  else if (typeof value === 'object' && value !== null) {
    for (const [inner, part] of Object.entries(value)) {
      if (inner === 'nanoseconds' && !((part as number) >= 0 && (part as number) < 1e9))
        throw new Finding('range', `${method}: ${name} has ${part} nanoseconds`);
      if (typeof part === 'number') digest.number(part);
    }
  }
}

function inspectName(method: string, name: string): void {
  if (name === '' || name.includes('\0') || name.includes('/'))
    throw new Finding('name', `${method} got the name ${JSON.stringify(name)}`);
}

const WITH_NAME = new Set(['lookup', 'mknod', 'mkdir', 'unlink', 'rmdir', 'rename', 'create', 'symlink']);
const WITH_XATTR = new Set(['setxattr', 'getxattr', 'removexattr']);

function inspectCall(method: string, values: readonly unknown[], digest: Digest): void {
  digest.text(method);
  const [node] = values;
  if (typeof node !== 'number' || !Number.isInteger(node) || node < 0)
    throw new Finding('range', `${method} got node ${String(node)}`);
  if (WITH_NAME.has(method)) inspectName(method, values[1] as string);
  if (WITH_XATTR.has(method) && (values[1] === '' || (values[1] as string).includes('\0')))
    throw new Finding('name', `${method} got the name ${JSON.stringify(values[1])}`);
  for (const value of values) {
    if (typeof value === 'number') digest.number(value);
    else if (typeof value === 'string') digest.text(value);
    else if (value instanceof Uint8Array) digest.bytes(value);
  }
  const request = values.at(-1);
  if (method === 'readdir' || method === 'readdirplus') inspect(method, values[1] as Record<string, unknown>, digest);
  else if (typeof request === 'object') inspect(method, request as Record<string, unknown>, digest);
  if (method === 'write' && (values[1] as Uint8Array).byteLength !== (request as { size: number }).size)
    throw new Finding('range', 'write got other bytes than its size says');
}

function watch(method: string, values: readonly unknown[], digest: Digest): void {
  try {
    inspectCall(method, values, digest);
  } catch (error) {
    digest.finding ??= error;
  }
}

/** All methods of the protocol that an author may write. */
export const METHODS: readonly string[] = [...new Set(OPCODES.flatMap(({ method }) => (method === undefined ? [] : [method])))];

const attributes = (node: number) => ({ mode: node % 3 === 0 ? 0o040755 : 0o100644, size: node * 100, nlink: 1, btime: 5n });
const entryOf = (node: number) => ({ node: (node % 60) + 2, attributes: attributes(node) });
const OPENED = { handle: 7 };

interface Readdir {
  readonly offsetLow: number;
  readonly size: number;
}
interface Adder {
  addPlus(entry: object, found: object | undefined): boolean;
}

/** Answers that are right, by method. */
const ANSWERS: { readonly [method: string]: (...values: never[]) => unknown } = {
  lookup: (_parent: number, name: string) => (name.length % 5 === 0 ? { node: 0 } : entryOf(name.length)),
  forget: () => undefined,
  getattr: (node: number) => ({ attributes: attributes(node) }),
  setattr: (node: number) => ({ attributes: attributes(node) }),
  statx: (node: number) => ({ attributes: attributes(node) }),
  readlink: () => 'some/target',
  symlink: (_parent: number, name: string) => entryOf(name.length),
  mknod: (_parent: number, name: string) => entryOf(name.length),
  mkdir: (_parent: number, name: string) => entryOf(name.length),
  link: (node: number) => entryOf(node),
  create: (_parent: number, name: string) => ({ entry: entryOf(name.length), open: OPENED }),
  tmpfile: () => ({ entry: entryOf(9), open: OPENED }),
  open: () => OPENED,
  opendir: () => OPENED,
  read: (node: number, request: { size: number; payload(): Uint8Array }) => {
    const wanted = Math.min(request.size, 3000);
    if (node % 4 === 0) return request.payload().subarray(0, wanted).fill(1).length;
    if (node % 4 === 1) return [new Uint8Array(wanted >> 1), new Uint8Array(3)];
    return new Uint8Array(wanted);
  },
  write: (_node: number, data: Uint8Array) => data.byteLength,
  readdir: (_node: number, request: Readdir, reply: Adder) => listing(request, reply),
  readdirplus: (node: number, request: Readdir, reply: Adder) => (node % 2 === 0 ? ['a', 'bb', 'ccc'] : listing(request, reply)),
  statfs: () => ({ blocks: 10 }),
  getxattr: () => new Uint8Array(20),
  listxattr: () => ['user.a', 'user.b'],
  getlk: () => ({ start: 0, end: Infinity, type: 'write', pid: 1 }),
  lseek: () => 100,
  copyFileRange: (_node: number, request: { length: number }) => Math.min(request.length, 100),
  ioctl: (_node: number, request: { outSize: number }) => ({ result: 1, data: new Uint8Array(Math.min(request.outSize, 50)) }),
  poll: () => 5,
  bmap: () => 3,
};

function listing(request: Readdir, reply: Adder): void {
  for (let offset = (request.offsetLow % 100) + 1; offset < 40; offset++) {
    const entry = { name: `entry${offset}`, ino: offset, mode: 0o100644, offset };
    if (!reply.addPlus(entry, offset % 3 === 0 ? undefined : entryOf(offset))) return;
  }
}

type Method = (...values: unknown[]) => unknown;

function filesystemOf(make: (method: string) => Method): Filesystem {
  const methods: Record<string, Method> = {};
  for (const method of METHODS) methods[method] = make(method);
  return methods as Filesystem;
}

/** Every method, each checking and remembering what it is told, and answering at once. */
export function recorder(digest: Digest): Filesystem {
  return filesystemOf((method) => (...values) => {
    watch(method, values, digest);
    return ANSWERS[method]?.(...(values as never[]));
  });
}

/** Things to do later: what the event loop would bring. */
export class Later {
  readonly #waiting: (() => void)[] = [];

  add(action: () => void): void {
    this.#waiting.push(action);
  }

  /** Settles at the next turn. */
  once(): Promise<void> {
    return new Promise((resolve) => this.add(resolve));
  }

  /** Does all of it. */
  turn(): void {
    for (const action of this.#waiting.splice(0)) action();
  }
}

/**
 * The same answers by promises, in any order, or rejections, or never until the request is interrupted or the session ends; and
 * notifications in between.
 */
export function promises(random: Random, later: Later, digest: Digest): Filesystem {
  let kernel: Kernel | undefined;
  const filesystem = filesystemOf((method) => (...values) => {
    watch(method, values, digest);
    if (random.once(16)) notify(random, kernel);
    const value = ANSWERS[method]?.(...(values as never[]));
    if (method === 'forget') return undefined;
    switch (random.below(6)) {
      case 0:
        return value;
      case 1:
        return Promise.resolve(value);
      case 2:
        return Promise.reject(random.once(3) ? new Error('no errno') : new FuseError('EACCES'));
      case 3:
        return interrupted(
          values.findLast((part) => typeof part === 'object' && part !== null && 'signal' in part) as Request,
          later,
        );
      default:
        return new Promise((resolve) => later.add(() => resolve(value)));
    }
  });
  filesystem.init = (_negotiated, own) => {
    kernel = own;
    return later.once();
  };
  return filesystem;
}

/** What it retrieves is answered by whatever NOTIFY_REPLY comes, or when the session ends. */
function notify(random: Random, kernel: Kernel | undefined): void {
  const told =
    random.below(4) === 0 ? kernel?.invalidateEntry(1, 'name', random.once(2)) : kernel?.retrieve(1, random.below(9000), 4096);
  told?.catch(() => {});
}

function interrupted(request: Request, later: Later): Promise<unknown> {
  const { signal } = request;
  return new Promise((_resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) return stop();
    signal.addEventListener('abort', stop);
    later.add(() => later.add(() => later.add(() => reject(FuseError.of(11)))));
  });
}

// --- hostile ----------------------------------------------------------------------------------------------------------------

const thrower = (): never => {
  throw new Error('a getter that throws');
};

function trap(): object {
  return new Proxy({}, { get: thrower, has: thrower, getPrototypeOf: thrower, ownKeys: thrower });
}

function cyclic(): object {
  const self: Record<string, unknown> = {};
  for (const name of ['attributes', 'entry', 'open', 'node', 'data', 'then', 'mode', 'size', 'errno', 'code', 'message'])
    self[name] = self;
  return self;
}

/** Values that no method documents. */
const WEIRD: readonly (() => unknown)[] = [
  () => undefined,
  () => null,
  () => Number.NaN,
  () => -1,
  () => 1.5,
  () => Number.POSITIVE_INFINITY,
  () => 2 ** 53,
  () => 2 ** 70,
  () => -0,
  () => 5n,
  () => -(2n ** 70n),
  () => Symbol('weird'),
  () => '',
  () => 'x'.repeat(5000),
  () => '\ud800',
  () => 'a/b',
  () => true,
  () => () => 1,
  () => ({}),
  () => [],
  () => [1, 'a', null],
  () => [{ byteLength: 9 }],
  () => new Uint8Array(70_000),
  () => new DataView(new ArrayBuffer(8)),
  () => new ArrayBuffer(8),
  () => new Float64Array(3),
  () => new Date(Number.NaN),
  () => Object.create(null),
  () => cyclic(),
  () => trap(),
  () => Object.defineProperty({}, 'then', { get: thrower }),
  // biome-ignore lint/suspicious/noThenProperty: that is what is tried
  () => ({ then: thrower }),
  // biome-ignore lint/suspicious/noThenProperty: that is what is tried
  () => ({ then: (resolve: Method) => resolve(resolve(1)) }),
  // biome-ignore lint/suspicious/noThenProperty: that is what is tried
  () => ({ then: (resolve: Method, reject: Method) => reject(resolve(undefined)) }),
  () => ({ byteLength: 5, length: 5 }),
  () => ({ fd: -1, position: -1, length: -1 }),
  () => ({ fd: 1.5, position: 2 ** 60, length: Number.NaN }),
  () => ({ attributes: { mode: 0o100644, size: 5n, atime: {}, mtime: 3, ino: 'a' } }),
  () => ({ attributes: { mode: 0o100644, atime: -(2n ** 80n), ctime: new Date(1e300) }, attributeTtl: Number.NaN }),
  () => ({ node: 3, generation: {}, attributes: { mode: 0o100644, size: 2 ** 52 }, entryTtl: -5 }),
  () => ({ node: 5n, attributes: { mode: 0o100644 } }),
  () => ({ entry: { node: 3, attributes: { mode: 0o100644 } }, open: { handle: {} } }),
  () => ({ entry: { node: 3, attributes: { mode: 0o100644 } } }),
  () => ({ handle: -1 }),
  () => ({ handle: 2 ** 60, backingId: 'x' }),
  () => ({ start: 5, end: 1, type: 'other', pid: Number.NaN }),
  () => ({ start: {}, end: 'x', type: 'read', pid: -5 }),
  () => ({ result: 2 ** 40, data: 'text' }),
  () => ({ result: Symbol('weird'), data: { byteLength: 3 } }),
  () => ({ blocks: -1, bsize: 5n }),
  () => ['', 'a/b', 'a\0b', 5, {}],
  () => [
    { name: 'a', entry: {} },
    { name: 'b', entry: trap() },
  ],
  () => [{ name: 'c', entry: { node: 4, attributes: { mode: 0 } } }],
];

const ERRORS: readonly (() => unknown)[] = [
  () => new FuseError('ENOENT'),
  () => new Error('no errno'),
  () => ({ errno: -4096 }),
  () => ({ errno: Number.NaN, code: {} }),
  () => ({ code: 'toString' }),
  () => ({ code: '__proto__' }),
  () => ({ name: 'InvalidAnswer', message: Symbol('weird') }),
  () => ({ name: 'AbortError' }),
  () => trap(),
  () => Object.create(null),
  () => Symbol('thrown'),
  () => undefined,
  () => 5n,
  () => cyclic(),
];

/** Every method, answering what nobody expects, and misusing what it is given. */
export function hostile(random: Random, later: Later): Filesystem {
  const weird = () => random.pick(WEIRD)();
  return filesystemOf((method) => (...values) => {
    const right = () => ANSWERS[method]?.(...(values as never[]));
    if (method.startsWith('readdir')) misuseListing(random, values[2] as Adder, later);
    if (method === 'read' && random.once(3)) (values[1] as { payload(): Uint8Array }).payload();
    if (random.once(8)) touchSignal(values.at(-1) as Request);
    switch (random.below(8)) {
      case 0:
        throw random.pick(ERRORS)();
      case 1:
        return Promise.reject(random.pick(ERRORS)());
      case 2:
        return Promise.resolve(weird());
      case 3:
        return new Promise((resolve) => later.add(() => resolve(weird())));
      case 4:
        return damaged(random, right());
      default:
        return weird();
    }
  });
}

/** A right answer with one field that is not. */
function damaged(random: Random, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
  const copy = structuredClone(value) as Record<string, unknown>;
  const place = (copy.attributes ?? copy.entry ?? copy) as Record<string, unknown>;
  const names = Object.keys(place);
  if (names.length > 0) place[random.pick(names)] = random.pick(WEIRD)();
  return copy;
}

function misuseListing(random: Random, reply: Adder, later: Later): void {
  const add = () => {
    const offset = random.pick(WEIRD)();
    reply.addPlus(
      { name: random.once(2) ? 'name' : random.pick(WEIRD)(), ino: 1, mode: random.pick(WEIRD)(), offset },
      undefined,
    );
  };
  if (random.once(2)) later.add(() => tryTo(add));
  if (random.once(2)) tryTo(add);
  if (random.once(4)) reply.addPlus({ name: 'x', ino: 1, offset: 7 }, random.pick(WEIRD)() as object);
}

function tryTo(action: () => void): void {
  try {
    action();
  } catch {}
}

function touchSignal(request: Request | undefined): void {
  if (typeof request !== 'object' || !('signal' in request)) return;
  request.signal.addEventListener('abort', () => {});
}

// --- by paths ---------------------------------------------------------------------------------------------------------------

/** A small tree of files by paths, in a map: directories are undefined. */
export function byPaths(digest: Digest): Filesystem {
  const files = new Map<string, Uint8Array | undefined>([
    ['/', undefined],
    ['/a', undefined],
    ['/a/b', new Uint8Array(10)],
    ['/c', new Uint8Array(5000)],
  ]);
  const need = (path: string): Uint8Array | undefined => {
    if (path.includes('\0') || path.includes('//') || /\/\.{1,2}(\/|$)/.test(path))
      digest.finding ??= new Finding('name', `the path ${JSON.stringify(path)} is none`);
    if (!files.has(path)) throw new FuseError('ENOENT');
    return files.get(path);
  };
  const source: PathSource = {
    lstat: async (path) => {
      const data = need(path);
      return data === undefined ? { type: 'directory' } : { type: 'file', size: data.length };
    },
    readdir: (path) => {
      const prefix = path === '/' ? '/' : `${path}/`;
      const below = [...files.keys()].filter((key) => key !== '/' && key.startsWith(prefix));
      return below.map((key) => key.slice(prefix.length)).filter((name) => !name.includes('/'));
    },
    mkdir: (path) => {
      if (files.size < 50) files.set(path, undefined);
    },
    unlink: (path) => {
      need(path);
      files.delete(path);
    },
    rmdir: async (path) => {
      need(path);
      files.delete(path);
    },
    rename: async (from, to) => {
      const data = need(from);
      files.delete(from);
      files.set(to, data);
    },
    open: async (path, flags) => {
      if (!files.has(path) && files.size < 50 && (flags & 0o100) !== 0) files.set(path, new Uint8Array(0));
      return handleOf(files, path, need(path) ?? new Uint8Array(0));
    },
    truncate: (path, length) => {
      need(path);
      files.set(path, new Uint8Array(Math.min(length, 10_000)));
    },
  };
  return pathFilesystem(source, {});
}

function handleOf(files: Map<string, Uint8Array | undefined>, path: string, data: Uint8Array): PathHandle {
  return {
    read: async (buffer, offset, length, position) => {
      const part = data.subarray(position, position + length);
      buffer.set(part, offset);
      return part.length;
    },
    write: (_buffer, _offset, length, position) => {
      if (position + length < 10_000) files.set(path, new Uint8Array(position + length));
      return length;
    },
    truncate: () => {},
    stat: () => ({ type: 'file', size: data.length }),
  };
}
