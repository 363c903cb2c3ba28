/** The example overlay on real mounts: what it shows, what it leaves in its two folders, and that it keeps data. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runConformance } from '../../src/testing/conformance/index.ts';
import { endIdleProcesses, mountedTree } from '../../src/testing/host/index.ts';
import type { PosixFeature } from '../../src/testing/posix.ts';
import { NO_COMPILER } from '../clients/build.ts';
import { compileFsx } from './differential.ts';
import {
  abortConnection,
  CLI,
  daemon,
  mountPoint,
  NO_MOUNTS,
  program,
  ROOT,
  run,
  runWell,
  skipLoudly,
  tellFigure,
  temporaryFolder,
  umount,
  useLiveMounts,
} from './harness.ts';

const MODULE = join(ROOT, 'dist/examples/overlay/filesystem.js');

interface Overlay {
  lower: string;
  upper: string;
  path: string;
}

const script = (text: string, cwd: string) => runWell(['sh', '-euc', text], { cwd, timeoutMs: 30_000 });

async function mountOverlay(lower: string, upper: string): Promise<string> {
  const path = mountPoint();
  await daemon(['mount', MODULE, path, '-o', 'allow_other,default_permissions', '--', lower, upper], path);
  return path;
}

/** An overlay over a lower folder that a shell script fills. */
async function overlay(fill: string): Promise<Overlay> {
  const lower = temporaryFolder('lower');
  const upper = temporaryFolder('upper');
  await script(fill, lower);
  return { lower, upper, path: await mountOverlay(lower, upper) };
}

/** All of a folder: types, modes, times, sizes, link targets and contents. */
const picture = (folder: string) =>
  script(`find . ! -name . -printf '%y %m %U %T@ %P %l\\n' | sort; find . -type f -exec sha256sum {} + | sort -k 2`, folder);

const LOWER = `
mkdir -p dir/sub other; echo one > dir/one; echo two > dir/two; echo deep > dir/sub/deep; echo o > other/o
chmod 640 dir/one; chown 7:8 dir/one; ln -s one dir/link; ln dir/two dir/second
touch -h -d '2001-02-03 04:05:06.123456789 UTC' dir/one dir dir/link
`;

describe.skipIf(skipLoudly('overlay', NO_MOUNTS))('overlay', () => {
  useLiveMounts();

  it('refuses folders that are none, or lie in each other', async () => {
    const folder = temporaryFolder('folders');
    mkdirSync(join(folder, 'in'));
    const refused = async (...words: string[]) =>
      (await run([process.execPath, CLI, 'mount', MODULE, mountPoint(), '--', ...words], { timeoutMs: 10_000 })).stderr;
    expect(await refused(folder)).toContain('overlay needs two folders');
    expect(await refused(folder, CLI)).toContain('overlay needs two folders');
    expect(await refused(folder, join(folder, 'in'))).toContain('none may lie in the other');
  });

  it('shows the lower folder, and changes nothing by being read', async () => {
    const { path, lower, upper } = await overlay(LOWER);
    expect(await picture(path)).toBe(await picture(lower));
    expect(await script('find . ! -name .', upper)).toBe('');
  });

  it('copies up what changes, with all that belongs to it, and keeps its number', async () => {
    const { path, lower, upper } = await overlay(LOWER);
    const before = await picture(lower);
    const stat = `stat -c '%i %a %u %g %.9Y' dir/one`;
    const shown = await script(stat, path);
    await script('chmod 600 dir/one', path);
    expect(await script(stat, path)).toBe(shown.replace(' 640 ', ' 600 '));
    expect(await script(`stat -c '%.9Y' dir; cat dir/one`, path)).toBe('981173106.123456789\none\n');
    await script('echo more >> dir/two; echo new > dir/sub/new; mv dir/link dir/moved', path);
    expect(await script('cat dir/two dir/second; ls dir dir/sub; readlink dir/moved', path)).toBe(
      'two\nmore\ntwo\ndir:\nmoved\none\nsecond\nsub\ntwo\n\ndir/sub:\ndeep\nnew\none\n',
    );
    expect(await picture(lower)).toBe(before);
    expect(await script('find . -type f | sort', upper)).toBe('./dir/.wh.link\n./dir/one\n./dir/sub/new\n./dir/two\n');
  });

  it('hides what is removed, shows what takes its place, and remembers both', async () => {
    const { path, lower, upper } = await overlay(LOWER);
    const before = await picture(lower);
    await script(
      'rm -r dir; [ ! -e dir ]; mkdir dir; [ -z "$(ls -A dir)" ]; echo mine > dir/two; rm other/o; rmdir other; echo file > other',
      path,
    );
    const after = await picture(path);
    expect(await script('ls -A . dir; cat dir/two other', path)).toBe('.:\ndir\nother\n\ndir:\ntwo\nmine\nfile\n');
    expect(await picture(lower)).toBe(before);
    await umount(path);
    expect(await picture(await mountOverlay(lower, upper))).toBe(after);
  });

  it('renames files over each other, own directories, and leaves lower directories to mv', async () => {
    const { path, lower } = await overlay(LOWER);
    const before = await picture(lower);
    const rename = (from: string, to: string) =>
      script(`python3 -c 'import os, sys; os.rename(*sys.argv[1:])' ${from} ${to} 2>&1 | tail -n 1 | cut -d: -f1,2`, path);
    expect(await rename('dir', 'gone')).toBe('OSError: [Errno 18] Invalid cross-device link\n');
    expect(await rename('dir/one', 'dir/two')).toBe('');
    await script('mkdir own own/below; echo x > own/below/x', path);
    expect(await rename('own', 'other/own')).toBe('');
    await script('rm other/o', path);
    // In the place of an empty directory of the lower folder: nothing of that may shine through.
    await script('rm -r dir/sub/deep', path);
    expect(await rename('other/own', 'dir/sub')).toBe('');
    expect(await script('mv dir went; find . -type f | sort; cat went/two went/sub/below/x', path)).toBe(
      './went/second\n./went/sub/below/x\n./went/two\none\nx\n',
    );
    expect(await picture(lower)).toBe(before);
  });

  it.skipIf(skipLoudly('exchange', program('python3') ? undefined : 'there is no python3'))(
    'swaps names of both folders',
    async () => {
      const { path, lower } = await overlay('echo a > a; mkdir full; echo f > full/f');
      const before = await picture(lower);
      const swap = [
        'import ctypes, os, sys',
        'libc = ctypes.CDLL(None, use_errno=True)',
        'r = libc.renameat2(-100, sys.argv[1].encode(), -100, sys.argv[2].encode(), 2)',
        'print(os.strerror(ctypes.get_errno()) if r else "done")',
      ].join('\n');
      const swapped = (one: string, other: string) =>
        runWell(['python3', '-c', swap, one, other], { cwd: path, timeoutMs: 10_000 });
      await script('mkdir new; echo n > new/n; echo b > b', path);
      expect(await swapped('a', 'b')).toBe('done\n');
      expect(await swapped('a', 'new')).toBe('done\n');
      expect(await swapped('full', 'new')).toBe('Invalid cross-device link\n');
      expect(await script('cat b new a/n; rm new; find . ! -name . | sort', path)).toBe(
        'a\nb\nn\n./a\n./a/n\n./b\n./full\n./full/f\n',
      );
      expect(await picture(lower)).toBe(before);
    },
  );

  it('lets who has a lower file open see what others write, and keep it when it is removed', async () => {
    const { path, lower } = await overlay('echo before > file; echo kept > removed');
    const source = [
      'import os, mmap',
      'reader = os.open("file", os.O_RDONLY); m = mmap.mmap(reader, 7, prot=mmap.PROT_READ)',
      'print(m[:7])',
      'writer = os.open("file", os.O_WRONLY); os.pwrite(writer, b"AFTER!", 0)',
      'print(os.pread(reader, 7, 0), m[:7], os.fstat(reader).st_ino == os.fstat(writer).st_ino)',
      'os.fchmod(reader, 0o611); print(oct(os.stat("file").st_mode))',
      'kept = os.open("removed", os.O_RDONLY); os.unlink("removed"); print(os.pread(kept, 9, 0), os.fstat(kept).st_nlink)',
      'os.link("file", "name"); print(os.stat("name").st_nlink, os.path.samefile("file", "name"))',
      'os.unlink("file"); print(os.stat("name").st_nlink, open("name").read())',
    ].join('\n');
    expect(await runWell(['python3', '-c', source], { cwd: path, timeoutMs: 10_000 })).toBe(
      "b'before\\n'\nb'AFTER!\\n' b'AFTER!\\n' True\n0o100611\nb'kept\\n' 0\n2 True\n1 AFTER!\n\n",
    );
    expect(await script('cat file removed', lower)).toBe('before\nkept\n');
  });

  it('hides the names that record removals', async () => {
    const { path } = await overlay('echo x > .wh.below; echo y > file');
    expect(await script('rm file; ls -A; ! touch .wh.file 2>/dev/null; ! cat .wh.file 2>/dev/null; [ ! -e file ]', path)).toBe(
      '',
    );
  });
});

// --- conformance -----------------------------------------------------------------------------------------------------

/** What it leaves out, by feature of the conformance map. */
const UNSUPPORTED: ReadonlyMap<PosixFeature, string> = new Map([
  ['xattrs', 'the overlay has no extended attributes'],
  ['acls', 'the overlay has no extended attributes'],
  ['tmpfile', 'paths name no file without a name'],
  ['seek-hole', 'all is data to the path-level interface'],
  ['binary-names', 'the path-level interface takes UTF-8'],
  ['birth-time', 'the path-level interface shows none'],
]);

describe.skipIf(skipLoudly('conformance of the overlay', NO_MOUNTS))('the conformance map on the overlay', () => {
  useLiveMounts();
  afterAll(endIdleProcesses);

  it('passes', { timeout: 150_000 }, async () => {
    const path = mountPoint();
    const options = ['-o', 'allow_other,default_permissions,dev,suid'];
    const started = await daemon(
      ['mount', MODULE, path, ...options, '--', temporaryFolder('lower'), temporaryFolder('upper')],
      path,
    );
    const abort = () => {
      abortConnection(started.connection);
      return true;
    };
    const report = await runConformance(() =>
      mountedTree({ mountpoint: path, abort }, { name: 'overlay', unsupported: UNSUPPORTED }),
    );
    await endIdleProcesses();
    const failed = report.results.filter(({ outcome }) => outcome === 'failed');
    expect(failed.map(({ name, error }) => `${name}: ${(error as Error | undefined)?.message}`)).toEqual([]);
    expect(report.passed).toBeGreaterThan(700);
    tellFigure('cases', `${report.passed} passed, ${report.failed} failed, ${report.skipped} skipped`);
  });
});

// --- random operations -----------------------------------------------------------------------------------------------

const OPERATIONS = 20_000;

describe.skipIf(skipLoudly('fsx on the overlay', NO_MOUNTS ?? NO_COMPILER))(
  'random operations on one file of the overlay',
  () => {
    useLiveMounts();
    let fsx: string;

    beforeAll(() => {
      fsx = compileFsx();
    });

    it.each(['buffered', 'direct', 'mmap'])('agree with a model: %s', { timeout: 90_000 }, async (how) => {
      const { path } = await overlay('echo lower > file');
      const seed = String(Math.floor(Math.random() * 2 ** 31));
      const { code, stdout, stderr } = await run([fsx, join(path, 'file'), String(OPERATIONS), seed, how], { timeoutMs: 80_000 });
      expect(code, `seed ${seed}: ${stdout}${stderr}`).toBe(0);
      expect(stdout).toMatch(new RegExp(`^${OPERATIONS} operations agree`));
    });
  },
);
