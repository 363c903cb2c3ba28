/**
 * Random sequences of system calls on the memory filesystem, under the simulated kernel, and on the host's tmpfs: every call has
 * the same result, or fails with the same error, and both come to the same tree. FUSEWIRE_TEST_SEED repeats a run,
 * FUSEWIRE_MODEL_OPERATIONS makes it longer.
 */
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MemoryFilesystem } from '../../examples/memory/filesystem.ts';
import * as linux from '../../src/testing/conformance/linux.ts';
import { endIdleProcesses, hostTree } from '../../src/testing/host/index.ts';
import { simulate } from '../../src/testing/kernel/index.ts';
import type { PosixLock, PosixProcess, PosixStat, PosixTime, PosixTree } from '../../src/testing/posix.ts';
import { skipLoudly, tellFigure } from '../live/harness.ts';

const OPERATIONS = Number(process.env.FUSEWIRE_MODEL_OPERATIONS ?? 3000);
const SEED = process.env.FUSEWIRE_TEST_SEED === undefined ? {} : { seed: Number(process.env.FUSEWIRE_TEST_SEED) };

const SEQUENCE_MAX = 200;
const TMPFS = '/dev/shm';
const USER = { uid: 65_501, gid: 65_511, groups: [65_520] };
const DESCRIPTORS = 4;
/** Times before it were set by the test, later ones come from the clock. */
const CLOCK_NS = 10n ** 18n;

// --- calls -----------------------------------------------------------------------------------------------------------

/** A process with its descriptors by number, which the two sides need not agree on. */
class Actor {
  readonly p: PosixProcess;
  readonly #side: Side;
  readonly #open = new Map<number, number>();

  constructor(p: PosixProcess, side: Side) {
    this.p = p;
    this.#side = side;
  }

  /** The descriptor in a place; one that nobody has where there is none. */
  fd(place: number): number {
    return this.#open.get(place) ?? 999;
  }

  async keep(place: number, opening: Promise<number>): Promise<void> {
    const fd = await opening;
    const before = this.#open.get(place);
    this.#open.set(place, fd);
    if (before !== undefined) await this.p.close(before);
  }

  async close(place: number): Promise<void> {
    const fd = this.fd(place);
    this.#open.delete(place);
    await this.p.close(fd);
  }

  shown(stat: PosixStat): string {
    return this.#side.shown(stat);
  }
}

/** One of the two trees. */
class Side {
  readonly tree: PosixTree;
  readonly actors: Actor[] = [];
  readonly #inodes = new Map<bigint, number>();

  constructor(tree: PosixTree) {
    this.tree = tree;
  }

  async start(): Promise<void> {
    const root = await this.tree.process();
    // So that the user may do something, too.
    await root.chmod('/', 0o777);
    this.actors.push(new Actor(root, this), new Actor(await this.tree.process(USER), this));
  }

  /** What both sides have to agree on: numbers of inodes in the order in which they were seen, times that the test set. */
  shown({ mode, nlink, uid, gid, rdev, size, blocks, ino, mtimeNs }: PosixStat): string {
    if (!this.#inodes.has(ino)) this.#inodes.set(ino, this.#inodes.size);
    const isFile = (mode & linux.S_IFMT) === linux.S_IFREG;
    const mtime = mtimeNs < CLOCK_NS ? mtimeNs : 'now';
    const ids = `${uid}:${gid} rdev ${rdev} #${this.#inodes.get(ino)}`;
    return `${mode.toString(8)} links ${nlink} ${ids} size ${size} ${isFile ? `blocks ${blocks} ` : ''}mtime ${mtime}`;
  }

  async do(step: Step): Promise<string> {
    try {
      const result = await step.run(this.actors[step.who]);
      return result === undefined ? 'ok' : `ok ${result instanceof Uint8Array ? Buffer.from(result).toString('hex') : result}`;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === undefined) throw error;
      return `fails ${code}`;
    }
  }

  /** Every file: attributes, a digest of the contents, extended attributes. */
  async describe(): Promise<string[]> {
    const lines: string[] = [];
    const [{ p }] = this.actors;
    const visit = async (path: string): Promise<void> => {
      const stat = await p.lstat(path);
      const type = stat.mode & linux.S_IFMT;
      let what = '';
      if (type === linux.S_IFLNK) what = await p.readlink(path);
      if (type === linux.S_IFREG) what = await contents(p, path);
      const names = type === linux.S_IFREG || type === linux.S_IFDIR ? (await p.listxattr(path)).sort().join() : '';
      lines.push(`${path} ${this.shown(stat)} ${names} ${what}`);
      if (type !== linux.S_IFDIR) return;
      for (const entry of await list(p, path)) await visit(`${path === '/' ? '' : path}/${entry.split(' ')[0]}`);
    };
    await visit('/');
    return lines;
  }
}

async function contents(p: PosixProcess, path: string): Promise<string> {
  const fd = await p.open(path, linux.O_RDONLY);
  const data = await p.read(fd, 1 << 20, 0);
  await p.close(fd);
  return createHash('sha256').update(data).digest('hex');
}

async function list(p: PosixProcess, path: string): Promise<string[]> {
  const fd = await p.open(path, linux.O_RDONLY | linux.O_DIRECTORY);
  const entries = await p.getdents(fd);
  await p.close(fd);
  const shown = entries.filter(({ name }) => name !== '.' && name !== '..').map(({ name, type }) => `${name} ${type}`);
  return shown.sort();
}

class Step {
  readonly call: string;
  readonly who: number;
  readonly run: (actor: Actor) => Promise<unknown>;

  constructor(call: string, who: number, run: (actor: Actor) => Promise<unknown>) {
    this.call = call;
    this.who = who;
    this.run = run;
  }

  [fc.toStringMethod](): string {
    return `${this.who === 0 ? 'root' : 'user'} ${this.call}`;
  }
}

/** A kind of call: its arguments, and how it is made. */
function call<Arguments extends unknown[]>(
  name: string,
  values: { [Index in keyof Arguments]: fc.Arbitrary<Arguments[Index]> },
  run: (actor: Actor, ...values: Arguments) => Promise<unknown>,
  by = who,
): fc.Arbitrary<Step> {
  const all = fc.tuple(...values) as unknown as fc.Arbitrary<Arguments>;
  return fc.tuple(by, all).map(([caller, given]) => {
    const shown = given.map((value) => (typeof value === 'object' ? JSON.stringify(value) : String(value)));
    return new Step(`${name} ${shown.join(' ')}`, caller, (actor) => run(actor, ...given));
  });
}

// --- arguments -------------------------------------------------------------------------------------------------------

const who = fc.constantFrom(0, 0, 1);
const name = fc.constantFrom('a', 'b', 'd');
const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((names) => `/${names.join('/')}`);
/** Relative and without "..", so that no link leads out of the tree. */
const target = fc.constantFrom('a', 'b', 'd', 'd/a', './b', 'missing', 'd/d');
const place = fc.nat(DESCRIPTORS - 1);
/** No sticky directory that others may write to: what opens there depends on sysctls of the machine (fs.protected_regular). */
const mode = fc.constantFrom(0o644, 0o600, 0o666, 0o755, 0o777, 0o1755, 0o2775, 0o4755, 0o6777, 0);
const id = fc.constantFrom(-1, 0, USER.uid, USER.gid, USER.groups[0]);
const owners = fc.tuple(id, id).filter(([uid, gid]) => uid !== -1 || gid !== -1);
const offset = fc.oneof(
  fc.nat(20_000),
  fc.nat(4).map((pages) => pages * 4096),
);
const length = fc.oneof(fc.nat(9000), fc.constantFrom(0, 1, 4096, 8192));
/** At the file position: node:fs does not make the system call for 0 bytes. */
const some = fc.integer({ min: 1, max: 9000 });
const bytes = fc.tuple(length, fc.nat(255));
const time: fc.Arbitrary<PosixTime> = fc.oneof(
  fc.constantFrom<PosixTime>('now', 'omit'),
  fc.nat(10 ** 9).map((ns) => BigInt(ns) * 1001n),
);
const flags = fc
  .tuple(
    fc.constantFrom(linux.O_RDONLY, linux.O_WRONLY, linux.O_RDWR, linux.O_RDWR),
    fc.subarray([linux.O_CREAT, linux.O_EXCL, linux.O_TRUNC, linux.O_APPEND, linux.O_NOFOLLOW]),
  )
  .map(([access, more]) => more.reduce((all, one) => all | one, access));
const xattr = fc.constantFrom('user.a', 'user.b', 'trusted.c', 'nowhere.d');
const lock: fc.Arbitrary<PosixLock> = fc.record({
  type: fc.constantFrom<PosixLock['type']>('read', 'write', 'unlock'),
  start: fc.nat(40),
  length: fc.nat(20),
});

const filled = ([count, value]: [number, number]) => new Uint8Array(count).fill(value);

// --- all calls -------------------------------------------------------------------------------------------------------

const NAMES = [
  call('mkdir', [path, mode], ({ p }, at, bits) => p.mkdir(at, bits)),
  call('rmdir', [path], ({ p }, at) => p.rmdir(at)),
  call('unlink', [path], ({ p }, at) => p.unlink(at)),
  call('rename', [path, path], ({ p }, from, to) => p.rename(from, to)),
  call('renameat2', [path, path, fc.constantFrom(1, 2, 3)], ({ p }, from, to, how) => p.renameat2(from, to, how)),
  // Of root: what others may link depends on a sysctl of the machine (fs.protected_hardlinks).
  call('link', [path, path], ({ p }, from, to) => p.link(from, to), fc.constant(0)),
  call('symlink', [target, path], ({ p }, to, at) => p.symlink(to, at)),
  call('readlink', [path], ({ p }, at) => p.readlink(at)),
  call('mknod', [path, fc.constantFrom(linux.S_IFREG, linux.S_IFSOCK), mode], ({ p }, at, type, bits) =>
    p.mknod(at, type | bits),
  ),
  call('readdir', [path], async ({ p }, at) => (await list(p, at)).join()),
];

const ATTRIBUTES = [
  call('stat', [path], async (actor, at) => actor.shown(await actor.p.stat(at))),
  call('lstat', [path], async (actor, at) => actor.shown(await actor.p.lstat(at))),
  call('chmod', [path, mode], ({ p }, at, bits) => p.chmod(at, bits)),
  call('chown', [path, owners], ({ p }, at, [uid, gid]) => p.chown(at, uid, gid)),
  // Of root: FUSE lets anybody take set-id bits away like this, other filesystems only the owner.
  call('chown to nobody', [path], ({ p }, at) => p.chown(at, -1, -1), fc.constant(0)),
  call('lchown', [path, owners], ({ p }, at, [uid, gid]) => p.lchown(at, uid, gid)),
  call('access', [path, fc.nat(7)], ({ p }, at, bits) => p.access(at, bits)),
  call('utimens', [path, time, time, fc.boolean()], ({ p }, at, one, two, nofollow) => p.utimens(at, one, two, nofollow)),
  call('truncate', [path, length], ({ p }, at, bytes) => p.truncate(at, bytes)),
  call('setxattr', [path, xattr, fc.nat(50), fc.nat(2)], ({ p }, at, key, bytes, how) =>
    p.setxattr(at, key, new Uint8Array(bytes).fill(7), how),
  ),
  call('getxattr', [path, xattr], ({ p }, at, key) => p.getxattr(at, key)),
  call('listxattr', [path], async ({ p }, at) => (await p.listxattr(at)).sort().join()),
  call('removexattr', [path, xattr], ({ p }, at, key) => p.removexattr(at, key)),
];

const OPENING = call('open', [place, path, flags, mode], (actor, to, at, how, bits) =>
  actor.keep(to, actor.p.open(at, how, bits)),
);

/** `whence` up to SEEK_HOLE, or allocation without data: tmpfs calls the latter a hole, the memory filesystem data. Both may. */
const data = (whenceMax: number, allocations: readonly number[]) => [
  call('close', [place], (actor, from) => actor.close(from)),
  call('dup', [place, place], (actor, from, to) => actor.keep(to, actor.p.dup(actor.fd(from)))),
  call('read', [place, some], (actor, from, bytes) => actor.p.read(actor.fd(from), bytes)),
  call('pread', [place, length, offset], (actor, from, bytes, at) => actor.p.read(actor.fd(from), bytes, at)),
  call('write', [place, fc.tuple(some, fc.nat(255))], (actor, to, what) => actor.p.write(actor.fd(to), filled(what))),
  call('pwrite', [place, bytes, offset], (actor, to, what, at) => actor.p.write(actor.fd(to), filled(what), at)),
  call('lseek', [place, offset, fc.nat(whenceMax)], async (actor, from, at, whence) => {
    // Positions in directories are each filesystem's own.
    const { mode } = await actor.p.fstat(actor.fd(from));
    return (mode & linux.S_IFMT) === linux.S_IFDIR ? 'a directory' : actor.p.lseek(actor.fd(from), at, whence);
  }),
  call('fstat', [place], async (actor, from) => actor.shown(await actor.p.fstat(actor.fd(from)))),
  call('ftruncate', [place, length], (actor, to, bytes) => actor.p.ftruncate(actor.fd(to), bytes)),
  call('fchmod', [place, mode], (actor, to, bits) => actor.p.fchmod(actor.fd(to), bits)),
  call('fchown', [place, owners], (actor, to, [uid, gid]) => actor.p.fchown(actor.fd(to), uid, gid)),
  call('futimens', [place, time, time], (actor, to, one, two) => actor.p.futimens(actor.fd(to), one, two)),
  call('fsync', [place], (actor, to) => actor.p.fsync(actor.fd(to))),
  call('fallocate', [place, fc.constantFrom(...allocations), offset, length], (actor, to, how, at, bytes) =>
    actor.p.fallocate(actor.fd(to), how, at, bytes),
  ),
  call('copy_file_range', [place, offset, place, offset, length], (actor, from, at, to, there, bytes) =>
    actor.p.copyFileRange(actor.fd(from), at, actor.fd(to), there, bytes),
  ),
  call('setlk', [place, lock], (actor, on, what) => actor.p.setlk(actor.fd(on), what)),
  call('getlk', [place, lock], async (actor, on, what) => JSON.stringify(await actor.p.getlk(actor.fd(on), what))),
  call('flock', [place, fc.constantFrom(1, 2, 8)], (actor, on, what) => actor.p.flock(actor.fd(on), what | linux.LOCK_NB)),
];

const sequence = (calls: readonly fc.Arbitrary<Step>[]) =>
  fc.array(
    fc.oneof(
      { weight: 3, arbitrary: OPENING },
      { weight: 8, arbitrary: fc.oneof(...calls) },
      { weight: 6, arbitrary: fc.oneof(...NAMES) },
      { weight: 6, arbitrary: fc.oneof(...ATTRIBUTES) },
    ),
    { maxLength: SEQUENCE_MAX, size: 'max' },
  );

const { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, SEEK_END, SEEK_HOLE } = linux;
const PUNCHING = [FALLOC_FL_PUNCH_HOLE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE];
const anything = fc.oneof(sequence(data(SEEK_HOLE, PUNCHING)), sequence(data(SEEK_END, [0, FALLOC_FL_KEEP_SIZE, ...PUNCHING])));

// --- the comparison --------------------------------------------------------------------------------------------------

let folder = '';
let operations = 0;

async function agree(steps: readonly Step[]): Promise<void> {
  const [host, memory] = [new Side(await hostTree(folder)), new Side(await simulate(new MemoryFilesystem()))];
  const sides = [host, memory];
  try {
    for (const side of sides) await side.start();
    for (const [index, one] of steps.entries()) {
      const [wanted, got] = await Promise.all(sides.map((side) => side.do(one)));
      expect(got, `${one[fc.toStringMethod]()}, step ${index + 1}`).toBe(wanted);
      operations++;
    }
    const [wanted, got] = await Promise.all(sides.map((side) => side.describe()));
    expect(got).toEqual(wanted);
  } finally {
    await host.tree.end();
  }
  // Its books balance, and the filesystem's own count agrees.
  await memory.tree.end();
}

describe.skipIf(skipLoudly('the memory filesystem against tmpfs', existsSync(TMPFS) ? undefined : `there is no ${TMPFS}`))(
  'the memory filesystem',
  () => {
    beforeAll(() => {
      folder = mkdtempSync(join(TMPFS, 'fusewire-model-'));
      // The other user has to reach the trees.
      chmodSync(folder, 0o755);
    });

    afterAll(async () => {
      await endIdleProcesses();
      rmSync(folder, { recursive: true, force: true });
    });

    test('does what tmpfs does, call by call', { timeout: 60_000 + OPERATIONS * 20 }, async () => {
      const begin = performance.now();
      const numRuns = Math.ceil(OPERATIONS / (SEQUENCE_MAX * 0.45));
      await fc.assert(fc.asyncProperty(anything, agree), { numRuns, ...SEED });
      expect(operations).toBeGreaterThan(OPERATIONS / 2);
      tellFigure('operations', `${operations} in ${Math.round(performance.now() - begin)} ms`);
    });
  },
);
