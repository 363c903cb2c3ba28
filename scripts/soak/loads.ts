/** What a soak does to a mount: programs that run until they are told to stop, each verifying what it wrote. */
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { compileClient } from '../compile.ts';

/** How one program ended. */
export interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly output: string;
}

/** Milliseconds after which a program counts as hanging. */
const LIMIT_MS = 180_000;
const OUTPUT_MAX = 16_384;

/** Runs a program to its end, outside of the mount until it runs. */
export function runProgram(argv: readonly string[], timeoutMs = LIMIT_MS): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(argv[0], argv.slice(1), { cwd: '/', stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    let output = '';
    const listen = (text: string) => {
      if (output.length < OUTPUT_MAX) output += text;
    };
    child.stdout.setEncoding('utf8').on('data', listen);
    child.stderr.setEncoding('utf8').on('data', listen);
    const timer = setTimeout(() => {
      output += `\nkilled after ${timeoutMs} ms`;
      try {
        process.kill(-(child.pid ?? 0), 'SIGKILL');
      } catch {
        child.kill('SIGKILL');
      }
    }, timeoutMs);
    child.once('error', (error) => listen(error.message));
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, output });
    });
  });
}

export interface Load {
  readonly name: string;
  /** One turn of it, in a folder of its own below the mount. */
  turn(folder: string, count: number): Promise<Outcome>;
}

/** A shell script with its arguments as $1 and so on; the first error ends it. */
const script = (text: string, ...args: string[]) => runProgram(['sh', '-euc', text, 'sh', ...args]);

const GIT = `
cd "$1"; rm -rf origin clone
export HOME="$1" GIT_AUTHOR_NAME=soak GIT_AUTHOR_EMAIL=soak@example.org GIT_COMMITTER_NAME=soak GIT_COMMITTER_EMAIL=soak@example.org
git init -q -b main origin
for i in 1 2 3 4 5 6; do
  mkdir -p origin/d$i; seq $((i * 1000)) $((i * 1000 + 800)) > origin/d$i/a; head -c 60000 /dev/urandom > origin/d$i/b
  git -C origin add -A; git -C origin commit -q -m "$2 $i"
done
git clone -q origin clone
cd clone; git mv d1 e1; seq 5000 > e1/c; git add -A; git commit -q -m moved; git checkout -q HEAD~2; git checkout -q main
git gc -q --prune=now; git fsck --full --strict; git status --porcelain | wc -l | grep -qx 0
`;

const USERS = `
cd "$1"
[ "$(id -u)" = "$2" ]
i=0
while [ $i -lt 40 ]; do
  echo "$2 $i" > own-$i; chmod 600 own-$i
  [ "$(cat own-$i)" = "$2 $i" ]
  [ "$(stat -c %u own-$i)" = "$2" ]
  i=$((i + 1))
done
# What belongs to root alone must stay closed, for reading, writing and removing.
if cat "$3/secret" 2>/dev/null; then echo 'read what is not theirs'; exit 1; fi
if (echo x > "$3/secret") 2>/dev/null; then echo 'wrote what is not theirs'; exit 1; fi
if rm -f "$3/secret" 2>/dev/null; then echo 'removed what is not theirs'; exit 1; fi
rm -f own-*
`;

const WATCH = `
cd "$1"; rm -f seen; mkdir -p watched
timeout 150 inotifywait -q -m -r -e create,modify,move,delete,close_write --format '%e %f' watched > seen 2>watch-errors & watcher=$!
i=0; while [ $i -lt 600 ] && [ ! -s seen ]; do sleep 0.1; touch watched/probe; i=$((i + 1)); done
[ -s seen ] || { echo "the watcher sees nothing: $(cat watch-errors)"; exit 1; }
i=0; while [ $i -lt 50 ]; do echo $i > watched/f$i; mv watched/f$i watched/g$i; rm watched/g$i; i=$((i + 1)); done
i=0; while [ $i -lt 600 ] && ! grep -q 'DELETE g49' seen; do sleep 0.1; i=$((i + 1)); done
kill $watcher 2>/dev/null || true; wait $watcher 2>/dev/null || true
for kind in CREATE MODIFY MOVED_FROM MOVED_TO DELETE; do grep -q "$kind" seen || { echo "no $kind: $(tail -3 seen)"; exit 1; }; done
[ "$(grep -c 'DELETE g' seen)" = 50 ] || { echo "$(grep -c 'DELETE g' seen) of 50 removed files seen"; exit 1; }
`;

function fio(folder: string, count: number): Promise<Outcome> {
  const direct = count % 2;
  return runProgram([
    'fio',
    '--name=verified',
    `--directory=${folder}`,
    '--rw=randrw',
    '--bsrange=4k-64k',
    '--size=16m',
    '--numjobs=2',
    '--verify=crc32c',
    '--do_verify=1',
    '--verify_fatal=1',
    '--end_fsync=1',
    `--direct=${direct}`,
    `--ioengine=${direct === 1 ? 'libaio' : 'psync'}`,
    '--iodepth=8',
    `--randseed=${count + 1}`,
    '--output-format=terse',
    '--unlink=1',
  ]);
}

function users(folder: string, count: number): Promise<Outcome> {
  // Made by the mount's owner, as a system would.
  const uid = String(20_000 + (count % 3));
  const prepare = `mkdir -p "$1/home-$2" "$1/closed"; chmod 755 "$1"; chown "$2:$2" "$1/home-$2"; umask 077; echo top > "$1/closed/secret"; chmod 700 "$1/closed"`;
  return script(prepare, folder, uid).then((made) =>
    made.code === 0
      ? runProgram([
          'setpriv',
          `--reuid=${uid}`,
          `--regid=${uid}`,
          '--clear-groups',
          'sh',
          '-euc',
          USERS,
          'sh',
          join(folder, `home-${uid}`),
          uid,
          join(folder, 'closed'),
        ])
      : made,
  );
}

/** `aligned` and not `direct`: with backing files O_DIRECT follows the rules of the filesystem beneath. */
const FSX_WAYS = ['buffered', 'aligned', 'mmap'];

/** The loads, with the programs that they need, which `end` removes. */
export function makeLoads(): { loads: Load[]; end(): void } {
  const programs = mkdtempSync(join(tmpdir(), 'fusewire-soak-clients-'));
  chmodSync(programs, 0o755);
  const fsx = compileClient('fsx/fsx.c', programs);
  const stress = compileClient('faults/stress.c', programs);
  const fsstress = process.env.FUSEWIRE_FSSTRESS;
  const loads: Load[] = [
    { name: 'git', turn: (folder, count) => script(GIT, folder, String(count)) },
    {
      name: 'fsx',
      turn: (folder, count) =>
        runProgram([fsx, join(folder, 'file'), '4000', String(count + 1), FSX_WAYS[count % FSX_WAYS.length]]),
    },
    { name: 'stress', turn: (folder, count) => runProgram([stress, folder, '8', String(count + 1)]) },
    { name: 'fio', turn: fio },
    { name: 'inotify', turn: (folder) => script(WATCH, folder) },
    { name: 'users', turn: users },
  ];
  if (fsstress !== undefined) {
    loads.push({
      name: 'fsstress',
      turn: (folder, count) => runProgram([fsstress, '-d', folder, '-p', '2', '-n', '400', '-s', String(count + 1)]),
    });
  }
  return { loads, end: () => rmSync(programs, { recursive: true }) };
}

export interface LoadReport {
  readonly name: string;
  turns: number;
  readonly failures: string[];
}

/** Runs one load again and again until `isOver`; pauses between the turns, for a machine that others use. */
export async function repeat(load: Load, mountpoint: string, report: LoadReport, isOver: () => boolean): Promise<void> {
  const folder = join(mountpoint, load.name);
  const made = await runProgram(['mkdir', '-p', folder]);
  if (made.code !== 0) report.failures.push(made.output);
  while (!isOver() && report.failures.length < 5) {
    const { code, signal, output } = await load.turn(folder, report.turns);
    report.turns++;
    if (code !== 0) report.failures.push(`turn ${report.turns} ended with ${code ?? signal}: ${output.slice(-1500)}`);
    await sleep(300);
  }
}

/** A folder that every user may enter, below `over`. */
export function makePlace(over: string): { folder: string; source: string; mountpoint: string } {
  const folder = mkdtempSync(join(over, 'fusewire-soak-'));
  chmodSync(folder, 0o755);
  const source = join(folder, 'source');
  const mountpoint = join(folder, 'mnt');
  for (const path of [source, mountpoint]) {
    mkdirSync(path);
    chmodSync(path, 0o755);
  }
  return { folder, source, mountpoint };
}
