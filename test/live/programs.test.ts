/**
 * Real programs on a mounted passthrough. Each does its work in a plain folder first; on every kind of mount it must come
 * to the same result.
 */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  assertNothingLeft,
  daemon,
  mountPoint,
  NO_MOUNTS,
  program,
  run,
  runWell,
  sharedFolder,
  skipLoudly,
  temporaryFolder,
  useLiveMounts,
} from './harness.ts';
import { type PackageSpec, Registry } from './registry.ts';

/** One program: does its work in an empty folder and answers what came out, for comparison. */
interface Work {
  name: string;
  /** Programs it needs, with the Debian package of each. */
  needs: Record<string, string>;
  /** Makes what the work starts from, once, in a folder of its own. */
  prepare?(material: string): Promise<void> | void;
  run(folder: string, material: string): Promise<string>;
}

const LIMIT_MS = 60_000;

/** Environment without the user's own settings. */
function cleanEnvironment(home: string): NodeJS.ProcessEnv {
  const identity = {
    GIT_AUTHOR_NAME: 'a',
    GIT_AUTHOR_EMAIL: 'a@example.org',
    GIT_COMMITTER_NAME: 'a',
    GIT_COMMITTER_EMAIL: 'a@example.org',
  };
  return { PATH: process.env.PATH, HOME: home, LC_ALL: 'C', TZ: 'UTC', GIT_CONFIG_NOSYSTEM: '1', ...identity };
}

/** Runs a shell script in `cwd`. */
function script(text: string, cwd: string, material: string): Promise<string> {
  return runWell(['sh', '-euc', text], { cwd, timeoutMs: LIMIT_MS, env: { ...cleanEnvironment(material), MATERIAL: material } });
}

/** Type, mode, size, link target and checksum of everything below the working folder. */
const DESCRIBE_TREE = [
  "find . ! -type d -printf '%y %m %s %T@ %p %l\\n' | sort | sha256sum",
  "find . -type d -printf '%y %m %p\\n' | sort | sha256sum",
  'find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum',
  'find . | wc -l',
].join('\n');

const git: Work = {
  name: 'git clones and checks a repository',
  needs: { git: 'git' },
  async prepare(material) {
    const lines: string[] = [];
    for (let commit = 0; commit < 15; commit++) {
      lines.push('commit refs/heads/main', `committer a <a@example.org> ${1_700_000_000 + commit} +0000`, 'data 1', 'c');
      for (let file = 0; file < 60; file++) {
        const contents = `line ${file * commit}\n`.repeat(20 + ((file * 7 + commit) % 50));
        lines.push(`M 100644 inline folder${file % 7}/file${file}.txt`, `data ${contents.length}`, contents);
      }
    }
    await runWell(['git', 'init', '-q', '--bare', '-b', 'main', join(material, 'bare.git')], { timeoutMs: LIMIT_MS });
    const input = `${lines.join('\n')}\ndone\n`;
    await runWell(['git', '-C', join(material, 'bare.git'), 'fast-import', '--quiet', '--done'], { timeoutMs: LIMIT_MS, input });
  },
  run: (folder, material) =>
    script(
      [
        'git clone -q --no-local "$MATERIAL/bare.git" clone',
        'cd clone',
        'git fsck --full --strict --no-progress',
        'git rev-parse HEAD',
        'git status --porcelain',
        'git ls-files -s | sha256sum',
        'echo more >> folder1/file1.txt; git mv folder2/file2.txt moved.txt; git add -A; git -c gc.auto=0 commit -qm more --date "1700001000 +0000"',
        "git log --format='%T %s' | sha256sum",
        'git gc -q; git fsck --full --no-progress; git status --porcelain',
        'find . -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum',
      ].join('\n'),
      folder,
      material,
    ),
};

const TREE_FILES = 5000;

const tree: Work = {
  name: `tar unpacks a tree of ${TREE_FILES} files, and its checksums are right`,
  needs: { tar: 'tar', sha256sum: 'coreutils', find: 'findutils' },
  async prepare(material) {
    const root = join(material, 'tree');
    for (let index = 0; index < TREE_FILES; index++) {
      const folder = join(root, `d${index % 50}`, `e${index % 3}`);
      if (index < 150) mkdirSync(folder, { recursive: true });
      const mode = index % 10 === 0 ? 0o755 : 0o640;
      writeFileSync(join(folder, `file ${index}`), `${index} `.repeat(1 + ((index * 13) % 400)), { mode });
      if (index % 100 === 0) symlinkSync(`../file ${index}`, join(folder, `link ${index}`));
    }
    await runWell(['tar', '-C', material, '-cf', join(material, 'tree.tar'), 'tree'], { timeoutMs: LIMIT_MS });
  },
  run: (folder, material) => script(`tar -xf "$MATERIAL/tree.tar"\ncd tree\n${DESCRIBE_TREE}`, folder, material),
};

function packageSpecs(): PackageSpec[] {
  const specs: PackageSpec[] = [];
  for (let index = 0; index < 12; index++) {
    const dependencies: Record<string, string> = {};
    for (let other = index + 1; other < Math.min(12, index + 3); other++) dependencies[`package-${other}`] = '^1.0.0';
    const files: Record<string, string> = {
      'index.js': `module.exports = ${index} + ${
        Object.keys(dependencies)
          .map((name) => `require('${name}')`)
          .join(' + ') || '0'
      };\n`,
      'bin.js': `#!/usr/bin/env node\nconsole.log(require('.'));\n`,
    };
    for (let extra = 0; extra < 15; extra++) files[`lib/part${extra}.js`] = `// ${index} ${extra}\n`.repeat(50);
    specs.push({ name: `package-${index}`, version: '1.0.0', dependencies, bin: { [`tool-${index}`]: 'bin.js' }, files });
  }
  specs[3].scripts = { install: 'echo installed > made-by-install' };
  return specs;
}

let registry: Registry | undefined;

const npm: Work = {
  name: 'npm installs a package with dependencies, and it runs',
  needs: { npm: 'npm', node: 'nodejs' },
  async prepare(material) {
    registry = await Registry.start(packageSpecs(), material);
  },
  run(folder, material) {
    const manifest = { name: 'top', version: '1.0.0', dependencies: { 'package-0': '^1.0.0', 'package-5': '1.0.0' } };
    const flags = `--registry ${registry?.url} --cache ./cache --no-audit --no-fund --no-update-notifier --loglevel error --foreground-scripts`;
    return script(
      [
        `printf '%s' '${JSON.stringify(manifest)}' > package.json`,
        `npm install ${flags} > log 2>&1 || { cat log; exit 1; }`,
        `node -e "console.log(require('package-0'))"`,
        'node_modules/.bin/tool-5',
        'npm ls --all --parseable | wc -l',
        "find node_modules -printf '%y %p %l\\n' | sort | sha256sum",
        'find node_modules -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum',
        // Once more from the lockfile: removes the tree and makes it anew.
        `npm ci ${flags} --offline > log 2>&1 || { cat log; exit 1; }`,
        'node_modules/.bin/tool-0',
      ].join('\n'),
      folder,
      material,
    );
  },
};

const sqlite: Work = {
  name: 'SQLite in WAL mode with two writers keeps its integrity',
  needs: { sqlite3: 'sqlite3' },
  prepare(material) {
    const inserts = (writer: number) =>
      Array.from(
        { length: 40 },
        (_, round) =>
          `BEGIN IMMEDIATE; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) ` +
          `INSERT INTO t(writer, value) SELECT ${writer}, hex(i * ${round + 1}) || printf('%.200c', 'x') FROM n; COMMIT;`,
      ).join('\n');
    for (const writer of [1, 2]) writeFileSync(join(material, `writer${writer}.sql`), `.timeout 20000\n${inserts(writer)}\n`);
  },
  run: (folder, material) =>
    script(
      [
        "sqlite3 db 'PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, writer INT, value TEXT); CREATE INDEX i ON t(value);'",
        'sqlite3 db < "$MATERIAL/writer1.sql" & one=$!',
        'sqlite3 db < "$MATERIAL/writer2.sql" & two=$!',
        'wait $one; wait $two',
        "sqlite3 db 'PRAGMA journal_mode; PRAGMA integrity_check; SELECT writer, count(*), sum(length(value)) FROM t GROUP BY writer;'",
        "sqlite3 db 'DELETE FROM t WHERE id % 3 = 0; PRAGMA wal_checkpoint(TRUNCATE); VACUUM; PRAGMA integrity_check; SELECT count(*) FROM t;'",
        'ls',
      ].join('\n'),
      folder,
      material,
    ),
};

const fio: Work = {
  name: 'fio verifies random direct asynchronous reads and writes',
  needs: { fio: 'fio' },
  async run(folder) {
    const argv = [
      'fio',
      '--name=verify',
      '--filename=file',
      '--size=12m',
      '--bs=4k',
      '--rw=randrw',
      '--verify=crc32c',
      '--verify_fatal=1',
      '--direct=1',
      '--ioengine=libaio',
      '--iodepth=32',
      '--randrepeat=1',
      '--output-format=json',
    ];
    const text = await runWell(argv, { cwd: folder, timeoutMs: LIMIT_MS });
    const [job] = (
      JSON.parse(text.slice(text.indexOf('{'))) as {
        jobs: { error: number; read: { total_ios: number }; write: { total_ios: number } }[];
      }
    ).jobs;
    return JSON.stringify({ error: job.error, reads: job.read.total_ios, writes: job.write.total_ios });
  },
};

const compile: Work = {
  name: 'a C compiler builds a program of many files, and it runs',
  needs: { cc: 'gcc', ar: 'binutils' },
  prepare(material) {
    const count = 12;
    const declarations = Array.from({ length: count }, (_, index) => `int f${index}(int);`).join('\n');
    writeFileSync(join(material, 'all.h'), `#include <stdio.h>\n${declarations}\n`);
    for (let index = 0; index < count; index++) {
      const next = index + 1 < count ? `f${index + 1}(x + ${index})` : 'x * 3';
      writeFileSync(join(material, `f${index}.c`), `#include "all.h"\nint f${index}(int x) { return ${next}; }\n`);
    }
    writeFileSync(join(material, 'main.c'), '#include "all.h"\nint main(void) { printf("%d\\n", f0(4)); return 0; }\n');
  },
  run: (folder, material) =>
    script(
      [
        'cp "$MATERIAL"/*.c "$MATERIAL"/all.h .',
        'cc -O2 -Wall -c f*.c',
        'ar rcsD libf.a f*.o',
        'cc -O2 -Wall -o program main.c libf.a',
        'TMPDIR=. cc -O2 -pipe -o whole *.c',
        './program; ./whole',
        'sha256sum *.o libf.a program whole',
      ].join('\n'),
      folder,
      material,
    ),
};

const SERVINGS = [
  { workers: 1, mode: 'event' },
  { workers: 4, mode: 'event' },
  { workers: 1, mode: 'blocking' },
  { workers: 4, mode: 'blocking' },
];

function missing({ needs }: Work): string | undefined {
  const absent = Object.entries(needs).filter(([name]) => program(name) === undefined);
  if (absent.length === 0) return undefined;
  return `${absent.map(([name]) => name).join(', ')} not found (Debian: apt install ${absent.map(([, from]) => from).join(' ')})`;
}

describe.skipIf(skipLoudly('real programs on a live mount', NO_MOUNTS))('on a mounted passthrough, as in a plain folder', () => {
  useLiveMounts();
  afterAll(() => registry?.close());

  for (const work of [git, tree, npm, sqlite, fio, compile]) {
    describe.skipIf(skipLoudly(work.name, missing(work)))(work.name, () => onEachKindOfMount(work));
  }
});

function onEachKindOfMount(work: Work): void {
  let material: string;
  let expected: string;

  beforeAll(async () => {
    material = sharedFolder('material');
    await work.prepare?.(material);
    expected = await work.run(sharedFolder('native'), material);
  }, LIMIT_MS);

  for (const { workers, mode } of SERVINGS) {
    test(`with ${workers} worker${workers > 1 ? 's' : ''} in ${mode} mode`, { timeout: 3 * LIMIT_MS }, async () => {
      const source = temporaryFolder('source');
      const path = mountPoint();
      const args = ['passthrough', source, path, '--workers', String(workers), '--mode', mode];
      const serving = await daemon(args, path);
      expect(await work.run(path, material)).toBe(expected);
      // What the mount showed is what lies in the source folder.
      const list = ['sh', '-c', 'find . ! -name cache -print | sort | sha256sum'];
      const shown = await run(list, { cwd: path, timeoutMs: LIMIT_MS });
      expect(shown.stdout).toBe((await run(list, { cwd: source, timeoutMs: LIMIT_MS })).stdout);
      serving.kill('SIGTERM');
      expect(await serving.end(5000)).toMatchObject({ code: 0, signal: null });
      expect(serving.stderr).toBe('');
      assertNothingLeft(path, serving.pid);
    });
  }
}
