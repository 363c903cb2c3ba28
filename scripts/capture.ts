/**
 * Makes the captures of test/protocol/captures/ anew: our passthrough, recorded with `trace`, under git, fio and sqlite.
 *
 * usage: npx tsx scripts/capture.ts [git|fio|sqlite …]      after npm run build; needs /dev/fuse and the programs
 */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';

const root = fileURLToPath(new URL('..', import.meta.url));
const { mount } = (await import(join(root, 'dist/src/index.js'))) as typeof import('../src/index.ts');
const passthrough = join(root, 'dist/examples/passthrough/filesystem.js');
const captures = join(root, 'test/protocol/captures');
const BYTES_MAX = 150_000;
const LIMIT_MS = 60_000;

interface Capture {
  /** Runs in the mount. */
  readonly script: string;
  readonly workers: number;
  readonly mode: 'event' | 'blocking';
  /** The form in which it is kept. */
  readonly suffix: '.trace' | '.jsonl';
}

const CAPTURES: Record<string, Capture> = {
  git: {
    workers: 2,
    mode: 'event',
    suffix: '.trace',
    script: `
git -c init.defaultBranch=main init -q --template= origin && cd origin
printf 'one\\n' > one && mkdir folder && seq 1 200 > folder/two && git add . && git commit -qm first
git checkout -qb side && printf 'more\\n' >> one && git mv folder/two folder/moved && git commit -qam second
git checkout -q main && cd .. && git clone -q --template= --no-hardlinks origin copy && cd copy
git checkout -q side && git status --short && git log --oneline > /dev/null && git fsck --no-progress`,
  },
  fio: {
    workers: 2,
    mode: 'blocking',
    suffix: '.trace',
    script: `
fio --name=rw --filename=data --size=48k --bs=4k --rw=randrw --direct=1 --ioengine=libaio --iodepth=8 --randseed=7 \\
  --verify=pattern --verify_pattern=0x5eed5eed --do_verify=1 --verify_fatal=1 --fallocate=none --output=/dev/null
fio --name=ww --filename=data --size=48k --bs=4k --rw=randwrite --direct=1 --ioengine=libaio --iodepth=8 --randseed=8 \\
  --verify=pattern --verify_pattern=0xfeed%o --do_verify=1 --verify_fatal=1 --fallocate=none --output=/dev/null`,
  },
  sqlite: {
    workers: 1,
    mode: 'event',
    suffix: '.jsonl',
    script: `
sqlite3 data.db 'PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, word TEXT);
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<40) INSERT INTO t SELECT i, "word "||i FROM n;' > /dev/null
sqlite3 data.db 'BEGIN; UPDATE t SET word=word||"!" WHERE id%2=0; COMMIT; SELECT count(*) FROM t;' > /dev/null
sqlite3 data.db 'DELETE FROM t WHERE id>20; PRAGMA wal_checkpoint(TRUNCATE); VACUUM; PRAGMA integrity_check;' > /dev/null`,
  },
};

const ENVIRONMENT = {
  PATH: process.env.PATH ?? '',
  HOME: '/nonexistent',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_AUTHOR_NAME: 'A',
  GIT_AUTHOR_EMAIL: 'a@example.org',
  GIT_COMMITTER_NAME: 'A',
  GIT_COMMITTER_EMAIL: 'a@example.org',
  GIT_AUTHOR_DATE: '2020-01-01T00:00:00Z',
  GIT_COMMITTER_DATE: '2020-01-01T00:00:00Z',
};

async function capture(name: string, { script, workers, mode, suffix }: Capture): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'fusewire-capture-'));
  const [source, path, trace] = [join(folder, 'source'), join(folder, 'mnt'), join(folder, `${name}${suffix}`)];
  mkdirSync(source);
  mkdirSync(path);
  // By backing files, reads and writes would not be in it.
  const settings = { workers, mode, backing: false, trace: { path: trace, readRateMax: Number.POSITIVE_INFINITY } };
  const mounted = await mount({ module: passthrough, options: { source } }, path, settings);
  try {
    const argv = ['-C', path, 'sh', '-ec', script];
    await promisify(execFile)('env', argv, { env: ENVIRONMENT, timeout: LIMIT_MS, killSignal: 'SIGKILL' });
  } finally {
    await mounted.unmount();
  }
  const packed = gzipSync(readFileSync(trace), { level: 9 });
  const kept = join(captures, `passthrough-${name}${suffix}.gz`);
  if (packed.length > BYTES_MAX) throw new Error(`${kept} would have ${packed.length} bytes; make its work smaller`);
  mkdirSync(captures, { recursive: true });
  writeFileSync(kept, packed);
  process.stdout.write(`${kept}: ${statSync(trace).size} bytes, packed ${packed.length}\n`);
  rmSync(folder, { recursive: true });
}

const asked = process.argv.slice(2);
for (const [name, each] of Object.entries(CAPTURES)) if (asked.length === 0 || asked.includes(name)) await capture(name, each);
