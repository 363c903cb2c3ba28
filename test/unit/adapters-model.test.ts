/**
 * Random sequences of operations on the host or on memfs alone, and on the same seen through fromNodeFs and toNodeFs: both come
 * to the same tree and the same errors. FUSEWIRE_TEST_SEED repeats a run, FUSEWIRE_TEST_RUNS makes more of them.
 */
import { mkdtempSync, promises, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { createFsFromVolume, Volume } from 'memfs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { fromNodeFs, type NodeFs, toNodeFs } from '../../src/adapters/index.ts';
import type { PathFilesystem, PathOptions } from '../../src/paths/index.ts';

const RUNS = Number(process.env.FUSEWIRE_TEST_RUNS ?? 150);
const SEED = process.env.FUSEWIRE_TEST_SEED === undefined ? {} : { seed: Number(process.env.FUSEWIRE_TEST_SEED) };

/** What both offer; memfs types its arguments more narrowly. */
type Fs = Pick<
  NodeFs,
  'mkdir' | 'rmdir' | 'unlink' | 'rename' | 'link' | 'symlink' | 'writeFile' | 'appendFile' | 'readFile' | 'truncate' | 'chmod'
> & { lstat: NodeFs['lstat']; readdir: NodeFs['readdir']; readlink: NodeFs['readlink'] };

const name = fc.constantFrom('a', 'b', 'c');
const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((names) => `/${names.join('/')}`);
const text = fc.string({ maxLength: 20 });

type Step = { call: string; run: (fs: Fs) => Promise<unknown> };
const step = (call: string, run: (fs: Fs) => Promise<unknown>): Step => ({ call, run });

const operation: fc.Arbitrary<Step> = fc.oneof(
  path.map((at) => step(`mkdir ${at}`, (fs) => fs.mkdir(at))),
  path.map((at) => step(`rmdir ${at}`, (fs) => fs.rmdir(at))),
  path.map((at) => step(`unlink ${at}`, (fs) => fs.unlink(at))),
  fc.tuple(path, path).map(([from, to]) => step(`rename ${from} ${to}`, (fs) => fs.rename(from, to))),
  fc.tuple(path, path).map(([from, to]) => step(`link ${from} ${to}`, (fs) => fs.link(from, to))),
  fc.tuple(path, path).map(([target, at]) => step(`symlink ${target} ${at}`, (fs) => fs.symlink(target, at))),
  fc.tuple(path, text).map(([at, data]) => step(`writeFile ${at} ${JSON.stringify(data)}`, (fs) => fs.writeFile(at, data))),
  fc.tuple(path, text).map(([at, data]) => step(`appendFile ${at} ${JSON.stringify(data)}`, (fs) => fs.appendFile(at, data))),
  fc.tuple(path, fc.nat(40)).map(([at, length]) => step(`truncate ${at} ${length}`, (fs) => fs.truncate(at, length))),
  fc
    .tuple(path, fc.constantFrom(0o644, 0o600, 0o755))
    .map(([at, mode]) => step(`chmod ${at} ${mode}`, (fs) => fs.chmod(at, mode))),
  path.map((at) => step(`readFile ${at}`, (fs) => fs.readFile(at, 'utf8'))),
  path.map((at) => step(`readdir ${at}`, async (fs) => (await fs.readdir(at)).sort())),
  path.map((at) => step(`readlink ${at}`, (fs) => fs.readlink(at))),
);

async function outcome(fs: Fs, { run }: Step): Promise<string> {
  try {
    const result = await run(fs);
    return typeof result === 'string' || Array.isArray(result) ? `ok ${JSON.stringify(result)}` : 'ok';
  } catch (error) {
    return `fails ${(error as NodeJS.ErrnoException).code}`;
  }
}

/** Every file with its type, mode, links and contents. Files with one inode number share a number here. */
async function describeTree(fs: Fs): Promise<string[]> {
  const lines: string[] = [];
  const inodes = new Map<number, number>();
  const visit = async (at: string): Promise<void> => {
    for (const entry of (await fs.readdir(at)).sort()) {
      const whole = at === '/' ? `/${entry}` : `${at}/${entry}`;
      const stat = await fs.lstat(whole);
      if (!inodes.has(stat.ino)) inodes.set(stat.ino, inodes.size);
      const what = stat.isDirectory() ? '' : stat.isSymbolicLink() ? await fs.readlink(whole) : await fs.readFile(whole, 'utf8');
      const links = stat.isDirectory() ? '' : stat.nlink;
      lines.push(`${whole} ${stat.mode.toString(8)} ${links} #${inodes.get(stat.ino)} ${stat.isFile() ? stat.size : ''} ${what}`);
      if (stat.isDirectory()) await visit(whole);
    }
  };
  await visit('/');
  return lines;
}

/** The host's own files in a folder, as the truth about Linux. */
function hostFs(root: string): Fs {
  const at = (path: string) => join(root, path);
  const fs = promises;
  return {
    mkdir: (path: string) => fs.mkdir(at(path)),
    rmdir: (path: string) => fs.rmdir(at(path)),
    unlink: (path: string) => fs.unlink(at(path)),
    rename: (from: string, to: string) => fs.rename(at(from), at(to)),
    link: (from: string, to: string) => fs.link(at(from), at(to)),
    // Targets are absolute; in the folder they lead to the folder's own files.
    symlink: (target: string, path: string) => fs.symlink(at(target), at(path)),
    writeFile: (path: string, data: string) => fs.writeFile(at(path), data),
    appendFile: (path: string, data: string) => fs.appendFile(at(path), data),
    truncate: (path: string, length: number) => fs.truncate(at(path), length),
    chmod: (path: string, mode: number) => fs.chmod(at(path), mode),
    readFile: (path: string, encoding: 'utf8') => fs.readFile(at(path), encoding),
    readdir: (path: string) => fs.readdir(at(path)),
    readlink: async (path: string) => (await fs.readlink(at(path))).slice(root.length),
    lstat: (path: string) => fs.lstat(at(path)),
  } as unknown as Fs;
}

const folders: string[] = [];
function folder(): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), 'fusewire-model-')));
  folders.push(path);
  return path;
}
afterEach(() => {
  for (const path of folders.splice(0)) rmSync(path, { recursive: true, force: true });
});

let umask = 0;
beforeAll(() => {
  umask = process.umask(0);
});
afterAll(() => {
  process.umask(umask);
});

/** Nothing is left open or waiting, and what was looked up was forgotten: beside idle nodes only directories on the way to them stay. */
function assertSettled(filesystem: PathFilesystem): void {
  const { openings, waiting, nodes, idleNodes } = filesystem.paths.counters;
  expect({ openings, waiting }).toEqual({ openings: 0, waiting: 0 });
  expect(nodes - idleNodes).toBeLessThanOrEqual(1 + 3 + 9);
}

const KINDS: [string, PathOptions][] = [
  ['with the handles of the source', {}],
  ['with hidden files', { unlinkOpen: 'hide' }],
  ['with two idle nodes', { maxIdleNodes: 2 }],
  ['with numbers of its own', { inodes: 'own' }],
  ['with names alone in listings', { listing: 'names' }],
];

describe('fromNodeFs of the host against the host', () => {
  test.each(KINDS)('%s', { timeout: 120_000 }, async (_what, options) => {
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 40 }), async (steps) => {
        const plain = hostFs(folder());
        const filesystem = fromNodeFs(promises, { root: folder(), ownership: 'source', ...options });
        const served = toNodeFs(filesystem, { umask: 0 });
        const done: string[] = [];
        for (const each of steps) {
          const [expected, actual] = [await outcome(plain, each), await outcome(served as unknown as Fs, each)];
          done.push(`${each.call}: ${expected}`);
          expect([...done.slice(0, -1), `${each.call}: ${actual}`]).toEqual(done);
        }
        // Hard links are told apart by the numbers of the source alone, once their node was let go.
        const describeWithout = async (fs: Fs) => (await describeTree(fs)).map((line) => line.replace(/#\d+/, ''));
        const describe = options.inodes === 'own' ? describeWithout : describeTree;
        expect(await describe(served as unknown as Fs)).toEqual(await describe(plain));
        assertSettled(filesystem);
        await served.end();
      }),
      { numRuns: RUNS, ...SEED },
    );
  });
});

describe('fromNodeFs(memfs) against memfs', () => {
  // Where memfs does otherwise than Linux, what is right is moot, and the sequence ends.
  test.each(KINDS.slice(0, 3))('%s', { timeout: 120_000 }, async (_what, options) => {
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 40 }), async (steps) => {
        const linux = hostFs(folder());
        const plain = createFsFromVolume(new Volume()).promises as unknown as Fs;
        const filesystem = fromNodeFs(createFsFromVolume(new Volume()).promises, { ownership: 'source', ...options });
        const served = toNodeFs(filesystem, { umask: 0 });
        const done: string[] = [];
        for (const each of steps) {
          const expected = await outcome(plain, each);
          if (expected !== (await outcome(linux, each))) return;
          done.push(`${each.call}: ${expected}`);
          expect([...done.slice(0, -1), `${each.call}: ${await outcome(served as unknown as Fs, each)}`]).toEqual(done);
        }
        expect(await describeTree(served as unknown as Fs)).toEqual(await describeTree(plain));
        assertSettled(filesystem);
        await served.end();
      }),
      { numRuns: RUNS, ...SEED },
    );
  });
});
