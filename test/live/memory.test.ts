/**
 * The memory filesystem on live mounts: against the host's own tmpfs call by call, under random operations, and under real
 * programs.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NO_COMPILER } from '../clients/build.ts';
import { CLIENT, compileFsx, SECTIONS } from './differential.ts';
import {
  CLI,
  daemon,
  mountPoint,
  NO_MOUNTS,
  program,
  ROOT,
  run,
  runWell,
  sharedFolder,
  skipLoudly,
  temporaryFolder,
  useLiveMounts,
} from './harness.ts';

const MODULE = join(ROOT, 'dist/examples/memory/filesystem.js');
const OPTIONS = ['-o', 'allow_other,default_permissions,dev,suid'];

/** Mounts it; answers the mount point. */
async function mounted(...more: string[]): Promise<string> {
  const path = mountPoint();
  await daemon(['mount', MODULE, path, ...OPTIONS, ...more], path);
  return path;
}

// --- against tmpfs ---------------------------------------------------------------------------------------------------

const PYTHON = program('python3');
const NO_CLIENT = NO_MOUNTS ?? (PYTHON === undefined ? 'there is no python3' : undefined);

/**
 * Where it rightly differs: tmpfs cannot zero a range, and has the inode flags of chattr(1), which this example leaves out:
 * the client goes on with a file that they kept from being removed.
 */
const DIFFERS: Readonly<Record<string, RegExp>> = {
  data: /^fallocate zero/,
  special: /flags: |append only: |clear it: |^poll: |^access: |^chdir: /,
  'what special left': /'\.\/f'/,
};

async function outcome(folder: string, section: string): Promise<string[]> {
  const text = await runWell([PYTHON!, CLIENT, folder, section], { timeoutMs: 60_000 });
  return text.trimEnd().split('\n');
}

/** Runs all sections, each in a folder of its own; answers lines by section. */
async function outcomes(root: string): Promise<Map<string, string[]>> {
  const lines = new Map<string, string[]>();
  for (const sections of SECTIONS) {
    const name = sections.at(-1)!;
    const folder = join(root, name);
    await runWell(['mkdir', '-m', '755', folder], { timeoutMs: 5000 });
    for (const section of [...sections, 'tree']) {
      const title = section === 'tree' ? `what ${name} left` : section;
      const differs = DIFFERS[title];
      lines.set(
        title,
        (await outcome(folder, section)).filter((line) => !differs?.test(line)),
      );
    }
  }
  return lines;
}

/** The memory filesystem has no flags to set with chattr(1). */
const CHATTR = 'flags move the change time: ';

describe.skipIf(skipLoudly('the memory filesystem against tmpfs', NO_CLIENT))('the memory filesystem', () => {
  useLiveMounts();
  let native: Map<string, string[]>;
  let tmpfs: string;

  beforeAll(async () => {
    tmpfs = join(sharedFolder('tmpfs'), 'mnt');
    mkdirSync(tmpfs);
    await runWell(['mount', '-t', 'tmpfs', '-o', 'mode=755', 'none', tmpfs], { timeoutMs: 5000 });
    native = await outcomes(tmpfs);
  }, 60_000);

  afterAll(async () => {
    await run(['umount', '-l', tmpfs], { timeoutMs: 5000 });
  });

  it.each(['event', 'blocking'])('does what tmpfs does, %s mode', { timeout: 60_000 }, async (mode) => {
    const found = await outcomes(await mounted('--mode', mode));
    expect([...found.keys()]).toEqual([...native.keys()]);
    const comparable = (lines: string[]) => lines.filter((line) => !line.startsWith(CHATTR));
    for (const [section, lines] of native)
      expect(comparable(found.get(section)!), `section ${section}`).toEqual(comparable(lines));
    expect([...native.values()].flat().length).toBeGreaterThan(500);
  });
});

// --- random operations -----------------------------------------------------------------------------------------------

const OPERATIONS = 20_000;

describe.skipIf(skipLoudly('fsx on the memory filesystem', NO_MOUNTS ?? NO_COMPILER))('random operations on one file', () => {
  useLiveMounts();
  let fsx: string;

  beforeAll(() => {
    fsx = compileFsx();
  });

  it.each([
    ['buffered', []],
    ['direct', []],
    ['mmap', []],
    ['buffered', ['--writeback']],
    ['mmap', ['--writeback']],
  ])('agree with a model: %s %s', { timeout: 60_000 }, async (how, options) => {
    const path = await mounted(...options);
    const seed = String(Math.floor(Math.random() * 2 ** 31));
    const { code, stdout, stderr } = await run([fsx, join(path, 'file'), String(OPERATIONS), seed, how], { timeoutMs: 50_000 });
    expect(code, `seed ${seed}: ${stdout}${stderr}`).toBe(0);
    expect(stdout).toMatch(new RegExp(`^${OPERATIONS} operations agree`));
  });
});

// --- programs, limits ------------------------------------------------------------------------------------------------

describe.skipIf(skipLoudly('the memory filesystem under programs', NO_MOUNTS))('a mounted memory filesystem', () => {
  useLiveMounts();

  const script = (text: string, cwd: string) => {
    const identity = { GIT_AUTHOR_NAME: 'a', GIT_AUTHOR_EMAIL: 'a@b.c', GIT_COMMITTER_NAME: 'a', GIT_COMMITTER_EMAIL: 'a@b.c' };
    const env = { PATH: process.env.PATH, HOME: cwd, LC_ALL: 'C', GIT_CONFIG_NOSYSTEM: '1', ...identity };
    return runWell(['sh', '-euc', text], { cwd, timeoutMs: 60_000, env });
  };

  it.skipIf(skipLoudly('git on the memory filesystem', program('git') ? undefined : 'there is no git'))(
    'holds repositories that git finds sound',
    { timeout: 90_000 },
    async () => {
      const path = await mounted();
      const lines = [
        'git init -q -b main one; cd one',
        'i=0; while [ $i -lt 300 ]; do mkdir -p d$((i % 7)); seq $i $((i * 3 + 50)) > d$((i % 7))/f$i; i=$((i + 1)); done',
        'git add -A; git commit -qm first; git mv d1 moved; git commit -qam second',
        'cd ..; git clone -q --no-local one two; cd two',
        'git fsck --full --strict --no-progress; git status --porcelain',
        'git gc -q; git fsck --full --no-progress',
        'diff -r --exclude .git ../one . && git ls-files | wc -l',
      ];
      expect(await script(lines.join('\n'), path)).toBe('300\n');
    },
  );

  it.skipIf(skipLoudly('SQLite on the memory filesystem', program('sqlite3') ? undefined : 'there is no sqlite3'))(
    'holds a database in WAL mode with two writers',
    { timeout: 90_000 },
    async () => {
      const path = await mounted();
      const insert = (writer: number) =>
        `BEGIN IMMEDIATE; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) ` +
        `INSERT INTO t(writer, value) SELECT ${writer}, hex(i) || printf('%.200c', 'x') FROM n; COMMIT;`;
      const lines = [
        "sqlite3 db 'PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, writer INT, value TEXT);'",
        `w() { i=0; while [ $i -lt 10 ]; do sqlite3 -cmd '.timeout 20000' db "$1"; i=$((i + 1)); done; }`,
        `w "${insert(1)}" & one=$!; w "${insert(2)}" & two=$!; wait $one; wait $two`,
        "sqlite3 db 'PRAGMA integrity_check; SELECT writer, count(*) FROM t GROUP BY writer; VACUUM; PRAGMA integrity_check;'",
        'ls',
      ];
      expect(await script(lines.join('\n'), path)).toBe('wal\nok\n1|500\n2|500\nok\ndb\n');
    },
  );

  it('keeps its limits, shows them, and has everything back when files are gone', async () => {
    const path = await mounted('--', 'size=1m', 'inodes=20', 'mode=1777');
    const lines = [
      "stat -c '%a' .",
      "stat -f -c '%b %f %c %d' .",
      'head -c 2000000 /dev/zero 2>&1 > big || true; stat -c %s big',
      'echo x | dd of=more status=none 2>&1 || true',
      'rm big more',
      'for i in $(seq 30); do : > f$i || break; done 2>&1 | wc -l; ls | wc -l',
      'rm f*',
    ];
    expect(await script(lines.join('\n'), path)).toMatch(
      /^1777\n256 256 20 19\n[^\n]*No space left[^\n]*\n1048576\n[^\n]*No space left[^\n]*\n1\n19\n$/,
    );
    // The kernel forgets a removed file when it pleases, so what is free is asked until it is all.
    const free =
      "n=0; until [ \"$(stat -f -c '%f %d' .)\" = '256 19' ]; do n=$((n + 1)); [ $n -lt 50 ] || exit 1; sleep 0.1; done";
    await script(free, path);
  });

  it('refuses several workers, and options that it does not know, before anything is mounted', async () => {
    const path = join(temporaryFolder('refused'), 'mnt');
    mkdirSync(path);
    const refused = async (...more: string[]) => {
      const { code, stderr } = await run([process.execPath, CLI, 'mount', MODULE, path, ...more], { timeoutMs: 10_000 });
      expect(code).not.toBe(0);
      return stderr;
    };
    expect(await refused('--workers', '2')).toContain('cannot be shared by 2 workers; mount it with --workers 1');
    expect(await refused('--', 'sise=1')).toContain('sise=1 is no option');
    expect(existsSync(path)).toBe(true);
  });
});
