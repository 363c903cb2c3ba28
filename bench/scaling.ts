/** `bench scaling`: 4 KiB random reads with more in flight and with more workers. Neither may make it slower. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { program, run } from './harness/children.ts';
import { Daemon } from './harness/daemon.ts';
import { BenchError } from './harness/failure.ts';
import { forgetFolder, temporaryFolder } from './harness/guard.ts';
import { assertTmpfs, describeMachine, machineLine, QUIET_LOAD_MAX } from './harness/machine.ts';
import { count, parse, words } from './harness/options.ts';
import type { Output } from './harness/output.ts';
import { cpuSecondsBetween } from './harness/proc.ts';
import { enableRing } from './harness/setting.ts';
import { rotated } from './harness/statistics.ts';
import { textTable } from './harness/table.ts';
import { ourCommand } from './letter/configurations.ts';
import type { Mode, Transport } from './rows/configurations.ts';
import { fioCommand, parseFio } from './rows/tools.ts';
import { scalingChart } from './scaling/chart.ts';
import { falls, pointsOf, type Run, scalingTable } from './scaling/report.ts';

export const SCALING_HELP = `npm run bench -- scaling [options]
  --flight N,…          requests in flight (default 1,4,16,64,256)
  --workers N,…         worker threads (default 1,2,4)
  --mode MODE,…         of blocking, event (default blocking)
  --transport T,…       of device, uring (default both)
  --rounds N            rounds that count, after one of warm-up (default 5)
  --seconds N           of each load (default 1)
  --quick               one round of 0.2 s each
  --daemon-option=WORD  one more word for \`fusewire passthrough\`; may stand several times
  --folder DIR          a tmpfs (default /dev/shm)
  --json FILE           write every sample
  --svg FILE            write the picture`;

const FILE_BYTES = 128 << 20;
const LIMIT_MS = 60_000;

interface Subject {
  mode: Mode;
  transport: Transport;
  workers: number;
  daemon: Daemon;
}

interface Plan {
  flights: number[];
  workers: number[];
  modes: Mode[];
  transports: Transport[];
  rounds: number;
  warmup: number;
  seconds: number;
  extra: string[];
}

export async function scaling(args: readonly string[], out: Output): Promise<boolean> {
  const quick = args.includes('--quick');
  const given = parse(
    args.filter((word) => word !== '--quick'),
    {
      ...{ flight: 'one', workers: 'one', mode: 'one', transport: 'one', rounds: 'one', seconds: 'one' },
      ...{ folder: 'one', json: 'one', svg: 'one', 'daemon-option': 'many' },
    },
  );
  const list = (name: string, text: string | undefined, fallback: string, most: number) =>
    (text ?? fallback).split(',').map((each) => count(name, each, 1, 1, most));
  const plan: Plan = {
    flights: list('flight', given.flight, '1,4,16,64,256', 4096),
    workers: list('workers', given.workers, '1,2,4', 64),
    modes: words('mode', given.mode, ['blocking'], ['blocking', 'event']),
    transports: words('transport', given.transport, ['device', 'uring'], ['device', 'uring']),
    rounds: count('rounds', given.rounds, quick ? 1 : 5),
    warmup: quick ? 0 : 1,
    seconds: quick ? 0.2 : count('seconds', given.seconds, 1, 1, 600),
    extra: given['daemon-option'],
  };
  const parent = given.folder ?? '/dev/shm';
  const fio = program('fio');
  if (fio === undefined) throw BenchError.machine('fio is not here (Debian: apt install fio)');
  assertTmpfs(parent, 2 * FILE_BYTES);
  const machine = describeMachine();
  out.heading('Scaling: 4 KiB random direct reads, thousands a second');
  out.line(machineLine(machine));
  if (machine.load > QUIET_LOAD_MAX) out.warn(`the machine is busy (load ${machine.load.toFixed(2)}): figures are of little use`);
  const runs = await measure(plan, parent, fio, out);
  const points = pointsOf(runs);
  out.line(`\n${textTable(scalingTable(points, plan.flights))}\n`);
  const fallen = falls(points);
  for (const sentence of fallen) out.line(`not met  ${sentence}`);
  if (fallen.length === 0) out.line('met      throughput never falls by more than 5 % when either grows');
  if (given.json !== undefined) writeFileSync(given.json, `${JSON.stringify({ machine, plan, runs }, null, 2)}\n`);
  if (given.svg !== undefined) writeFileSync(given.svg, scalingChart(points, machineLine(machine)));
  return fallen.length === 0;
}

async function measure(plan: Plan, parent: string, fio: string, out: Output): Promise<Run[]> {
  const { rounds, warmup, flights } = plan;
  const folder = temporaryFolder(parent);
  const subjects: Subject[] = [];
  const runs: Run[] = [];
  try {
    if (plan.transports.includes('uring')) enableRing();
    await mountAll(plan, folder, subjects);
    for (let round = -warmup; round < rounds; round++) {
      for (const flight of flights) {
        for (const subject of rotated(subjects, round + warmup)) {
          out.status(`round ${round + 1} of ${rounds}: ${flight} in flight, ${subject.workers} workers, ${subject.transport}`);
          const taken = await drive(fio, subject, flight, plan.seconds);
          if (round >= 0) runs.push(taken);
        }
      }
    }
    return runs;
  } finally {
    out.status('');
    for (const { daemon } of subjects) await daemon.stop();
    forgetFolder(folder);
  }
}

/** Into `subjects` one by one, so that the caller can stop those that came up when a later one does not. */
async function mountAll(plan: Plan, folder: string, subjects: Subject[]): Promise<void> {
  const source = join(folder, 'source');
  mkdirSync(source);
  const fill = ['dd', 'if=/dev/urandom', `of=${join(source, 'data.dat')}`, 'bs=1M', `count=${FILE_BYTES / 2 ** 20}`];
  await run(fill, { timeoutMs: LIMIT_MS });
  for (const mode of plan.modes) {
    for (const transport of plan.transports) {
      for (const workers of plan.workers) {
        const mount = join(folder, `${mode}-${transport}-${workers}`);
        const extra = ['--transport', transport, '--no-backing', ...plan.extra];
        const daemon = await Daemon.start(ourCommand(source, mount, { mode, workers, extra }), mount, join(mount, 'data.dat'));
        subjects.push({ mode, transport, workers, daemon });
      }
    }
  }
}

async function drive(fio: string, { mode, transport, workers, daemon }: Subject, flight: number, seconds: number): Promise<Run> {
  const load = { rw: 'randread', block: '4k', depth: flight, buffered: false } as const;
  const before = daemon.cpuReading();
  const argv = fioCommand(fio, load, join(daemon.mountPoint, 'data.dat'), FILE_BYTES, seconds);
  const { stdout } = await run(argv, { timeoutMs: LIMIT_MS });
  const cpuSeconds = cpuSecondsBetween(before, daemon.cpuReading());
  daemon.assertAlive();
  const { operations, seconds: lasted, p99 } = parseFio(stdout, load);
  const perSecond = operations / lasted;
  return { mode, transport, workers, flight, perSecond, p99: p99 ?? Number.NaN, cpuMicros: (cpuSeconds * 1e6) / operations };
}
