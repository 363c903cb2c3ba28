/** INIT flags about names and directories: each in force on one mount and not on another, and what that changes. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Entry, Filesystem } from '../../src/filesystem/filesystem.ts';
import type { InitFlag } from '../../src/protocol/index.ts';
import { LEFT_OUT, type Stage, stage, steps, stepsOf } from './capabilities-support.ts';
import { eventually, LineProcess, runWell, useLiveMounts } from './harness.ts';
import { prove } from './proof.ts';

const LIMIT_MS = 20_000;

/** Asked for, then not. */
const askedOrNot = (flag: InitFlag): InitFlag[][] => [[flag], []];

function failing(code: string): never {
  throw Object.assign(new Error(code), { code });
}

/**
 * A tree that can be exported: `/d/f`. It finds every node by its number alone, also when the kernel has forgotten it.
 */
class Exported implements Filesystem {
  readonly #names = new Map([
    ['1/d', 2],
    ['2/f', 3],
    ['2/..', 1],
  ]);
  gone = false;

  lookup(parent: number, name: string): Entry {
    const node = name === '.' ? parent : this.#names.get(`${parent}/${name}`);
    if (node === undefined) failing('ENOENT');
    if (node === 3 && this.gone) failing(name === '.' ? 'ESTALE' : 'ENOENT');
    // The root has always generation 0.
    return { node, ...this.getattr(node), generation: node === 1 ? 0 : 7 };
  }

  getattr(node: number) {
    return { attributes: { mode: node === 3 ? 0o100644 : 0o040755, size: node === 3 ? 5 : 0 } };
  }

  forget(): void {}

  /** A directory that was found by number gets its name back by its inode number in its parent's listing. */
  readdir(node: number) {
    if (node === 3) failing('ENOTDIR');
    return node === 1 ? [{ name: 'd', ino: 2 }] : [{ name: 'f', ino: 3 }];
  }

  read(): Uint8Array {
    return Buffer.from('found');
  }
}

/** Lets the kernel drop the names of these nodes: by the notification, or on older kernels by dropping every name that it has. */
async function dropNames(on: Stage, ...nodes: number[]): Promise<void> {
  try {
    await on.mount.kernel.prune(nodes);
  } catch {
    await runWell(['sh', '-c', 'echo 2 > /proc/sys/vm/drop_caches'], { timeoutMs: 20_000 });
  }
}

describe.skipIf(LEFT_OUT)('flags about names', { timeout: 90_000 }, () => {
  useLiveMounts();

  it('DO_READDIRPLUS and READDIRPLUS_AUTO: which listings bring attributes', async () => {
    const ways = ['always', 'auto', 'never'] as const;
    const came: string[][] = [];
    for (const readdirplus of ways) {
      const on = await stage({ readdirplus });
      await steps(`mkdir ${on.path}/d 755`, ...Array.from({ length: 400 }, (_, at) => `symlink x ${on.path}/d/name-${at}`));
      on.observed.clear();
      expect((await steps(`list ${on.path}/d`))[0]).toBe('402');
      came.push(on.observed.of('READDIR', 'READDIRPLUS').map(({ operation }) => operation));
      if (readdirplus === 'always') prove('flag', 'FUSE_DO_READDIRPLUS');
      if (readdirplus === 'auto') prove('flag', 'FUSE_READDIRPLUS_AUTO');
    }
    const [always, auto, never] = came;
    expect(always.length).toBeGreaterThan(2);
    expect(new Set(always)).toEqual(new Set(['READDIRPLUS']));
    expect(auto[0]).toBe('READDIRPLUS');
    expect(new Set(auto.slice(1))).toEqual(new Set(['READDIR']));
    expect(new Set(never)).toEqual(new Set(['READDIR']));
  });

  it('PARALLEL_DIROPS: two names of one directory are looked up together', async () => {
    const together: number[] = [];
    for (const refuseFlags of [[], ['FUSE_PARALLEL_DIROPS']] as InitFlag[][]) {
      const on = await stage({ refuseFlags });
      on.observed.hold('LOOKUP');
      const callers = ['a', 'b'].map((name) => new LineProcess(stepsOf(`stat ${on.path}/${name}`)));
      await on.observed.heldIs(1);
      await sleep(300);
      together.push(on.held.length);
      on.observed.letGo();
      for (const caller of callers) await caller.end(LIMIT_MS);
      expect(callers.map(({ lines }) => lines)).toEqual([['stat ENOENT'], ['stat ENOENT']]);
    }
    expect(together).toEqual([2, 1]);
    prove('flag', 'FUSE_PARALLEL_DIROPS');
  });

  it('NO_OPENDIR_SUPPORT: a directory is listed again without any request', async () => {
    const requests: number[] = [];
    for (const asks of askedOrNot('FUSE_NO_OPENDIR_SUPPORT')) {
      const on = await stage({ asks, without: ['opendir', 'releasedir'], readdirplus: 'never' });
      await steps(`mkdir ${on.path}/d 755`, `mkdir ${on.path}/d/in 755`);
      expect(await steps(`list ${on.path}/d`, `list ${on.path}/d`, `stat ${on.path}/d`)).toMatchObject([
        '3',
        '3',
        expect.stringMatching(/^40755/),
      ]);
      // The first listing is kept when it was whole and the directory had not just changed.
      await sleep(20);
      const before = (await on.mount.counters()).requests;
      expect(await steps(`list ${on.path}/d`, `list ${on.path}/d`)).toEqual(['3', '3']);
      requests.push((await on.mount.counters()).requests - before);
    }
    expect(requests[0]).toBe(0);
    expect(requests[1]).toBeGreaterThanOrEqual(6);
    prove('flag', 'FUSE_NO_OPENDIR_SUPPORT');
  });

  it('CACHE_SYMLINKS: a target is read once', async () => {
    const reads: number[] = [];
    for (const asks of askedOrNot('FUSE_CACHE_SYMLINKS')) {
      const on = await stage({ asks });
      const link = `${on.path}/link`;
      expect(await steps(`symlink there ${link}`, `readlink ${link}`, `readlink ${link}`)).toEqual(['0', 'there', 'there']);
      expect(await steps(`readlink ${link}`)).toEqual(['there']);
      reads.push(on.observed.of('READLINK').length);
    }
    expect(reads).toEqual([1, 3]);
    prove('flag', 'FUSE_CACHE_SYMLINKS');
  });

  it('HAS_EXPIRE_ONLY: an expired name is looked up again but stays where it is used', async () => {
    const seen: unknown[] = [];
    for (const expireOnly of [true, false]) {
      const on = await stage();
      await steps(`mkdir ${on.path}/d 755`);
      const user = new LineProcess(stepsOf(`open 0 ${on.path}/d path`, 'wait', 'path 0', `stat ${on.path}/d`));
      await user.line((line) => line === 'wait here', LIMIT_MS, 'the open directory');
      on.observed.clear();
      await on.mount.kernel.invalidateEntry(1, 'd', expireOnly);
      user.send('');
      await user.end(LIMIT_MS);
      const [path] = user.lines.filter((line) => line.startsWith('path '));
      seen.push({ whole: path === `path ${on.path}/d`, lookups: on.observed.of('LOOKUP').map(({ name }) => name) });
    }
    expect(seen).toEqual([
      { whole: true, lookups: ['d'] },
      { whole: false, lookups: ['d'] },
    ]);
    prove('flag', 'FUSE_HAS_EXPIRE_ONLY');
  });

  it('HAS_IOCTL_DIR: ioctl of a directory', async () => {
    const on = await stage({ instead: () => ({ ioctl: () => ({ result: 42 }) }) });
    // _IOR('F', 77, int), which the kernel has no meaning of its own for.
    expect(await steps(`open 0 ${on.path} r,dir`, 'ioctl 0 0x8004464d')).toEqual(['0', '42']);
    expect(on.observed.of('IOCTL')).toMatchObject([{ node: 1, directory: true }]);
    const without = await stage();
    expect(await steps(`open 0 ${without.path} r,dir`, 'ioctl 0 0x8004464d')).toEqual(['0', 'ENOTTY']);
    prove('flag', 'FUSE_HAS_IOCTL_DIR');
  });

  /** Opens both by handles that were taken before the kernel forgot everything. */
  async function openedByHandle(asks: readonly InitFlag[]) {
    const base = new Exported();
    const on = await stage({ base, asks });
    const [file, folder] = await steps(`handle ${on.path}/d/f`, `handle ${on.path}/d`);
    // The inodes go with the names, as nobody has them open.
    await dropNames(on, 3, 2);
    await eventually(
      () => on.observed.of('FORGET').length >= 2,
      LIMIT_MS,
      () => 'nothing was forgotten',
    );
    on.observed.clear();
    const list = [`byhandle 0 ${on.path} ${file} r`, 'read 0 0 10', `byhandle 1 ${on.path} ${folder} r,dir`, 'path 1'];
    return { on, base, file, answers: await steps(...list) };
  }

  it('EXPORT_SUPPORT: a handle finds its file when nothing is cached', async () => {
    const { on, base, file, answers } = await openedByHandle(['FUSE_EXPORT_SUPPORT']);
    expect(answers).toEqual(['0', '5 found', '0', `${on.path}/d`]);
    const lookups = on.observed.of('LOOKUP').map(({ node, name }) => `${node}/${name}`);
    expect(lookups).toEqual(expect.arrayContaining(['3/.', '2/.']));
    // The path of a directory needs its parents.
    expect(lookups).toContain('2/..');
    base.gone = true;
    await dropNames(on, 3);
    expect((await steps(`byhandle 0 ${on.path} ${file} r`))[0]).toBe('ESTALE');

    const without = await openedByHandle([]);
    expect(without.answers).toEqual(['ESTALE', 'EBADF', 'ESTALE', 'ENOENT']);
    expect(without.on.observed.of('LOOKUP')).toEqual([]);
    prove('flag', 'FUSE_EXPORT_SUPPORT');
  });

  it('NO_EXPORT_SUPPORT: there are no handles to open', async () => {
    const handles: string[][] = [];
    for (const asks of askedOrNot('FUSE_NO_EXPORT_SUPPORT')) {
      const on = await stage({ base: new Exported(), asks });
      handles.push(await steps(`handle ${on.path}/d/f`, `handle ${on.path}/d/f fid`));
    }
    expect(handles[0]).toEqual(['EOPNOTSUPP', expect.stringMatching(/^\d+:[0-9a-f]+$/)]);
    expect(handles[1]).toEqual([expect.stringMatching(/^\d+:[0-9a-f]+$/), expect.stringMatching(/^\d+:[0-9a-f]+$/)]);
    prove('flag', 'FUSE_NO_EXPORT_SUPPORT');
  });
});
