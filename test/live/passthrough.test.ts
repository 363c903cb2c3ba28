/**
 * The passthrough on a live mount against the host itself: one program makes the same system calls in a folder of the host
 * and in a mount of such a folder, and every outcome has to be the same (test/clients/passthrough/differential.py).
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WITHOUT_BACKING } from './backing-support.ts';
import { CLIENT, SECTIONS } from './differential.ts';
import { daemon, mountPoint, NO_MOUNTS, program, run, runWell, skipLoudly, useLiveMounts } from './harness.ts';

/** The interpreter itself rather than a script that looks for it: it is started hundreds of times. */
const PYTHON =
  program('python3') && execFileSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' }).trim();
const NO_CLIENT = NO_MOUNTS ?? (PYTHON === undefined ? 'there is no python3' : undefined);
/** Sections that run at a time: the tables of the passthrough are shared, so they shall be busy. */
const SECTIONS_AT_A_TIME = 3;

skipLoudly(
  'ACLs on the passthrough',
  program('setfacl') === undefined ? 'there is no setfacl (Debian: apt install acl)' : undefined,
);

/** Where the host's folder lies: different filesystems, different cookies, times and limits. */
const PLACES = [
  ['the temporary folder', tmpdir()],
  ['shared memory', '/dev/shm'],
].filter(([, path]) => existsSync(path));

const folders: string[] = [];

function sourceFolder(place: string): string {
  const path = mkdtempSync(join(place, 'fusewire-source-'));
  folders.push(path);
  return path;
}

/** What a section prints in `folder`. */
async function outcome(folder: string, section: string): Promise<string[]> {
  const argv = [PYTHON!, CLIENT, folder, section];
  const result = await run(argv, { timeoutMs: 60_000 });
  if (result.code !== 0) {
    throw new Error(`section ${section} ended with ${result.signal ?? result.code}\n${result.stdout}${result.stderr}`);
  }
  return result.stdout.trimEnd().split('\n');
}

/** Runs all sections, each in a folder of its own below `seen`, made below `source`; answers lines by section. */
async function outcomes(source: string, seen: string): Promise<Map<string, string[]>> {
  const lines = new Map<string, string[]>();
  const left = SECTIONS.slice();
  const work = async () => {
    for (let sections = left.shift(); sections !== undefined; sections = left.shift()) {
      const folder = sections.at(-1)!;
      mkdirSync(join(source, folder), 0o755);
      for (const section of sections) lines.set(section, await outcome(join(seen, folder), section));
      lines.set(`what ${folder} left`, await outcome(join(source, folder), 'tree'));
    }
  };
  await Promise.all(Array.from({ length: SECTIONS_AT_A_TIME }, work));
  return lines;
}

/**
 * Where a mount with the write-back cache rightly differs: the kernel does not write back before it asks for data and
 * holes, so the passthrough lets it call the whole file data, which SEEK_DATA and SEEK_HOLE may always do. And it owns the times of
 * regular files (fuse_change_attributes_common), so a change time that the host moved does not show.
 */
const WRITEBACK_DIFFERS = /^(data|hole after data|flags move the change time): /;

const CONFIGURATIONS: { name: string; options: string[]; place?: string; differs?: RegExp }[] = [
  { name: 'event mode, 1 worker', options: ['--mode', 'event', '--workers', '1'], place: '/dev/shm' },
  { name: 'event mode, 4 workers', options: ['--mode', 'event', '--workers', '4'] },
  { name: 'blocking mode, 1 worker', options: ['--mode', 'blocking', '--workers', '1'] },
  { name: 'blocking mode, 4 workers', options: ['--mode', 'blocking', '--workers', '4'], place: '/dev/shm' },
  { name: 'no cache', options: ['--cache', 'none'], place: '/dev/shm' },
  { name: 'everything cached', options: ['--cache', 'always'], place: tmpdir() },
  { name: 'without backing files', options: ['--no-backing'], place: '/dev/shm' },
  { name: 'no cache, without backing files', options: ['--cache', 'none', '--no-backing'], place: '/dev/shm' },
  { name: 'write-back cache', options: ['--writeback'], place: '/dev/shm', differs: WRITEBACK_DIFFERS },
];

describe.skipIf(skipLoudly('the passthrough against the host', NO_CLIENT)).each(PLACES)(
  'the passthrough of a folder in %s',
  (_, place) => {
    useLiveMounts();
    let native: Map<string, string[]>;

    beforeAll(async () => {
      const folder = sourceFolder(place);
      await runWell(['chmod', '755', folder], { timeoutMs: 5000 });
      native = await outcomes(folder, folder);
    }, 120_000);

    afterAll(() => {
      for (const path of folders.splice(0)) rmSync(path, { recursive: true, force: true });
    });

    const here = CONFIGURATIONS.filter((configuration) => configuration.place === undefined || configuration.place === place);
    it.each(here)('does what the host does: $name', { timeout: 180_000 }, async ({ options, differs }) => {
      const source = sourceFolder(place);
      await runWell(['chmod', '755', source], { timeoutMs: 5000 });
      const path = mountPoint();
      await daemon(['passthrough', source, path, '-o', 'allow_other,default_permissions,dev,suid', ...options], path);
      const mounted = await outcomes(source, path);
      const comparable = (lines: string[]) => lines.filter((line) => differs === undefined || !differs.test(line));
      expect([...mounted.keys()].sort()).toEqual([...native.keys()].sort());
      for (const [section, lines] of native) {
        expect(comparable(mounted.get(section)!), `section ${section}`).toEqual(comparable(lines));
      }
      expect(native.get('user')!.length).toBeGreaterThan(90);
    });
  },
);

describe.skipIf(skipLoudly('cache policies of the passthrough', NO_CLIENT))('a change made underneath', () => {
  useLiveMounts();

  afterAll(() => {
    for (const path of folders.splice(0)) rmSync(path, { recursive: true, force: true });
  });

  /** Reads through the mount in a process that keeps the file open, before and after a change of the same length. */
  async function seen(cache: string, ...options: string[]): Promise<string[]> {
    const source = sourceFolder(tmpdir());
    writeFileSync(join(source, 'file'), 'before');
    const path = mountPoint();
    await daemon(['passthrough', source, path, '--cache', cache, ...options], path);
    const script = `
import os, sys
source, mount = sys.argv[1:]
fd = os.open(mount + "/file", os.O_RDONLY)
stat = lambda name: os.path.exists(mount + "/" + name)
print(os.pread(fd, 10, 0).decode(), stat("new"))
s = os.stat(source + "/file")
with open(source + "/file", "r+") as f: f.write("after!")
os.utime(source + "/file", ns=(s.st_atime_ns, s.st_mtime_ns))
open(source + "/new", "w").close()
print(os.pread(fd, 10, 0).decode(), stat("new"))
again = os.open(mount + "/file", os.O_RDONLY)
print(os.pread(again, 10, 0).decode())
os.close(again)
os.rename(source + "/new", source + "/file")
print(os.stat(mount + "/file").st_size)
`;
    const output = await runWell([PYTHON!, '-c', script, source, path], { timeoutMs: 10_000 });
    return output.trimEnd().split('\n');
  }

  it('shows at once without a cache, even with the same size and time', async () => {
    expect(await seen('none')).toEqual(['before False', 'after! True', 'after!', '0']);
  });

  it('shows in a file that is opened anew with the default policy', async () => {
    const lines = await seen('auto');
    expect(lines[0]).toBe('before False');
    expect(lines[1]).toMatch(/ True$/);
    expect(lines[2]).toBe('after!');
  });

  it('does not show where everything is cached', async () => {
    expect(await seen('always', '--no-backing')).toEqual(['before False', 'before False', 'before', '6']);
  });

  it.skipIf(skipLoudly('contents behind a cache', WITHOUT_BACKING))(
    'shows in contents that the kernel reads itself',
    async () => {
      expect(await seen('always', '--backing')).toEqual(['before False', 'after! False', 'after!', '6']);
    },
  );
});

describe.skipIf(skipLoudly('times of the passthrough', NO_MOUNTS))('times at the edges', () => {
  useLiveMounts();

  afterAll(() => {
    for (const path of folders.splice(0)) rmSync(path, { recursive: true, force: true });
  });

  it('takes the last second that there is', async () => {
    const path = mountPoint();
    await daemon(['passthrough', sourceFolder(tmpdir()), path], path);
    await runWell(['touch', '-d', '@9223372036854775807', join(path, 'file')], { timeoutMs: 10_000 });
    await runWell(['touch', '-d', '@-9223372036854775808', join(path, 'file')], { timeoutMs: 10_000 });
  });

  it('reads without moving access times where the mount says noatime', async () => {
    const source = sourceFolder(tmpdir());
    writeFileSync(join(source, 'file'), 'text');
    const past = new Date(1_000_000_000_000);
    utimesSync(join(source, 'file'), past, new Date());
    for (const [option, moves] of [
      ['noatime', false],
      ['nodev', true],
    ] as const) {
      const path = mountPoint();
      await daemon(['passthrough', source, path, '-o', option], path);
      await runWell(['cat', join(path, 'file')], { timeoutMs: 10_000 });
      expect(statSync(join(source, 'file')).atimeMs !== past.getTime(), option).toBe(moves);
    }
  });
});
