/** `bench trace`: what recording costs on 4 KiB random direct reads with 32 in flight. */
import { mkdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { program, run } from './harness/children.ts';
import { Daemon } from './harness/daemon.ts';
import { BenchError } from './harness/failure.ts';
import { forgetFolder, temporaryFolder } from './harness/guard.ts';
import { assertTmpfs, describeMachine, machineLine, packageRoot } from './harness/machine.ts';
import { count, parse, words } from './harness/options.ts';
import type { Output } from './harness/output.ts';
import { median, ratio, rotated, summarize } from './harness/statistics.ts';
import { figure, textTable } from './harness/table.ts';
import { parseFioRequests } from './memory/fio.ts';

export const TRACE_HELP = `npm run bench -- trace [options]
  --rounds N            interleaved rounds (default 9); every three of them with daemons started anew
  --reads N             reads of a round (default 60000)
  --mode MODE,…         of event, blocking (default event)
  --workers N           worker threads (default 1)
  --record WAY,…        of off, compact, lean, all, jsonl (default all of them); lean and all are compact
                        without READ payloads and with every byte of them, compact keeps 8 MiB a second
  --folder DIR          a tmpfs for the source (default /dev/shm)
  --trace-folder DIR    where the traces go (default the same)
  --json FILE           write the figures`;

const WAYS = ['off', 'compact', 'lean', 'all', 'jsonl'] as const;
type Way = (typeof WAYS)[number];

/** Bytes of READ replies kept in a second, where it is not the default. */
const READ_RATE: Partial<Record<Way, number>> = { lean: 0, all: Number.MAX_SAFE_INTEGER };

const FILE_BYTES = 64 << 20;
/** Where a process happens to lie in memory makes it faster or slower for all its life: so no daemon lives through all rounds. */
const ROUNDS_OF_A_LIFE = 3;
/** The goal: recording in the compact format leaves this much of the throughput. */
const SHARE_LEAST = 0.9;

interface Subject {
  readonly name: string;
  readonly mode: string;
  readonly way: Way;
  readonly start: () => Promise<Daemon>;
  readonly mount: string;
  readonly trace: string | undefined;
  readonly perSecond: number[];
  /** Microseconds of the daemon's processor time for a read. */
  readonly cpuMicros: number[];
  /** Bytes of trace for a read. */
  readonly traceBytes: number[];
}

export async function trace(args: readonly string[], out: Output): Promise<boolean> {
  const given = parse(args, {
    rounds: 'one',
    reads: 'one',
    mode: 'one',
    workers: 'one',
    record: 'one',
    folder: 'one',
    'trace-folder': 'one',
    json: 'one',
  });
  const rounds = count('rounds', given.rounds, 9);
  const reads = count('reads', given.reads, 60_000);
  const workers = count('workers', given.workers, 1, 1, 64);
  const modes = words('mode', given.mode, ['event'], ['event', 'blocking']);
  const ways = words('record', given.record, WAYS, WAYS);
  const fio = program('fio');
  if (fio === undefined) throw BenchError.machine('fio is not here (Debian: apt install fio)');
  const parent = given.folder ?? '/dev/shm';
  assertTmpfs(parent, 4 * FILE_BYTES);
  const machine = describeMachine();
  out.heading('What recording costs: 4 KiB random direct reads, 32 in flight');
  out.line(machineLine(machine));
  const folder = temporaryFolder(parent);
  const traces = temporaryFolder(given['trace-folder'] ?? parent);
  const subjects: Subject[] = [];
  try {
    const source = await makeSource(folder);
    for (const mode of modes) for (const way of ways) subjects.push(subject({ folder, traces, source }, { mode, way, workers }));
    for (let round = 0; round < rounds; round += ROUNDS_OF_A_LIFE) {
      const until = Math.min(round + ROUNDS_OF_A_LIFE, rounds);
      await life(fio, { subjects, reads, round, until, rounds, out });
    }
  } finally {
    out.status('');
    forgetFolder(folder);
    forgetFolder(traces);
  }
  out.line(table(subjects));
  if (given.json !== undefined)
    writeFileSync(given.json, `${JSON.stringify({ machine, workers, results: subjects.map(plain) }, null, 2)}\n`);
  return judge(subjects, out);
}

async function makeSource(folder: string): Promise<string> {
  const source = join(folder, 'source');
  mkdirSync(source);
  const blocks = ['bs=1M', `count=${FILE_BYTES / 2 ** 20}`];
  await run(['dd', 'if=/dev/urandom', `of=${join(source, 'reads.dat')}`, ...blocks], { timeoutMs: 60_000 });
  return source;
}

interface Life {
  subjects: readonly Subject[];
  reads: number;
  round: number;
  until: number;
  rounds: number;
  out: Output;
}

/** Some rounds with the same daemons. */
async function life(fio: string, { subjects, reads, round, until, rounds, out }: Life): Promise<void> {
  const daemons = new Map<Subject, Daemon>();
  try {
    for (const each of subjects) daemons.set(each, await each.start());
    for (const [each, daemon] of daemons) await drive(fio, each, daemon, reads / 4);
    for (let at = round; at < until; at++) {
      for (const each of rotated(subjects, at)) {
        out.status(`round ${at + 1} of ${rounds}: ${each.name}`);
        await measure(fio, each, daemons.get(each)!, reads);
      }
    }
  } finally {
    for (const daemon of daemons.values()) await daemon.stop();
  }
}

function subject(
  { folder, traces, source }: { folder: string; traces: string; source: string },
  { mode, way, workers }: { mode: string; way: Way; workers: number },
): Subject {
  const name = `${mode} ${way}`;
  const mount = join(folder, name.replace(' ', '-'));
  const trace = way === 'off' ? undefined : join(traces, `${mode}.${way === 'jsonl' ? 'jsonl' : way}`);
  const recording = trace === undefined ? {} : { trace: way in READ_RATE ? { path: trace, readRateMax: READ_RATE[way] } : trace };
  const script = join(packageRoot(), 'dist/bench/trace/daemon.js');
  const argv = [process.execPath, script, source, mount, JSON.stringify({ mode, workers, ...recording })];
  const start = () => Daemon.start(argv, mount, join(mount, 'reads.dat'));
  return { name, mode, way, start, mount, trace, perSecond: [], cpuMicros: [], traceBytes: [] };
}

async function drive(
  fio: string,
  { mount }: Subject,
  daemon: Daemon,
  reads: number,
): Promise<{ reads: number; seconds: number }> {
  const file = [`--filename=${join(mount, 'reads.dat')}`, `--size=${FILE_BYTES}`, '--rw=randread', '--bs=4k'];
  const many = [`--number_ios=${reads}`, `--io_size=${reads * 4096}`, '--norandommap', '--iodepth=32'];
  const how = ['--ioengine=libaio', '--direct=1', '--thread', '--randrepeat=0', '--output-format=json'];
  const { stdout } = await run([fio, '--name=trace', ...file, ...many, ...how], { timeoutMs: 120_000 });
  daemon.assertAlive();
  const { runtime } = (JSON.parse(stdout) as { jobs: { read: { runtime: number } }[] }).jobs[0].read;
  return { reads: parseFioRequests(stdout, reads), seconds: runtime / 1000 };
}

async function measure(fio: string, subject: Subject, daemon: Daemon, reads: number): Promise<void> {
  const { trace } = subject;
  // The descriptors append, so a trace can be emptied under its recorder.
  if (trace !== undefined) truncateSync(trace, 0);
  const before = daemon.cpuSeconds();
  const done = await drive(fio, subject, daemon, reads);
  subject.perSecond.push(done.reads / done.seconds);
  subject.cpuMicros.push(((daemon.cpuSeconds() - before) * 1e6) / done.reads);
  if (trace !== undefined) subject.traceBytes.push(statSync(trace).size / done.reads);
}

/** The same mode with recording off. */
function offOf(subjects: readonly Subject[], { mode }: Subject): Subject | undefined {
  return subjects.find((other) => other.mode === mode && other.way === 'off');
}

function table(subjects: readonly Subject[]): string {
  const titles = ['reads per second', 'least', 'most', 'share of off', 'least', 'most', 'daemon µs/read', 'trace B/read'];
  return textTable({
    columns: [{ title: 'recording' }, ...titles.map((title) => ({ title, align: 'right' as const }))],
    rows: subjects.map((subject) => {
      const speed = summarize(subject.perSecond);
      const off = offOf(subjects, subject);
      const share = off === undefined ? undefined : ratio(subject.perSecond, off.perSecond).byRound;
      const shares = share === undefined ? ['', '', ''] : [share.median, share.min, share.max].map((value) => value.toFixed(3));
      return [
        subject.name,
        ...[speed.median, speed.min, speed.max].map(figure),
        ...shares,
        median(subject.cpuMicros).toFixed(2),
        subject.traceBytes.length === 0 ? '' : figure(median(subject.traceBytes)),
      ];
    }),
  });
}

function plain({ name, perSecond, cpuMicros, traceBytes }: Subject) {
  return { name, perSecond, cpuMicros, traceBytes };
}

function judge(subjects: readonly Subject[], out: Output): boolean {
  let good = true;
  for (const subject of subjects) {
    const off = offOf(subjects, subject);
    if (subject.way !== 'compact' || off === undefined) continue;
    const share = ratio(subject.perSecond, off.perSecond).byRound.median;
    if (share >= SHARE_LEAST) continue;
    good = false;
    out.warn(`${subject.name} leaves ${share.toFixed(3)} of the throughput; the goal is ${SHARE_LEAST}`);
  }
  return good;
}
