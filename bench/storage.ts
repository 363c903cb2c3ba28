/** `bench storage`: the storage layer over a network of its own: merged and not, at several round-trips, beside sshfs. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { program, run } from './harness/children.ts';
import { BenchError } from './harness/failure.ts';
import { forgetFolder, temporaryFolder } from './harness/guard.ts';
import { assertTmpfs, describeMachine, machineLine, QUIET_LOAD_MAX } from './harness/machine.ts';
import { count, parse } from './harness/options.ts';
import type { Output } from './harness/output.ts';
import { rotated } from './harness/statistics.ts';
import { textTable } from './harness/table.ts';
import { fioCommand, parseFio } from './rows/tools.ts';
import { storageChart } from './storage/chart.ts';
import { BlockClient } from './storage/client.ts';
import { goalsOf, type Measured } from './storage/goals.ts';
import { flightTable, type Pattern, pointsOf, type Run } from './storage/points.ts';
import {
  copyOfFile,
  FILE_BYTES,
  findSshfs,
  Listener,
  ourDaemon,
  type Plan,
  type Subject,
  sftpServer,
  sshfsDaemon,
} from './storage/stage.ts';
import { bandwidth, cost, fewReads } from './storage/trials.ts';

export const STORAGE_HELP = `npm run bench -- storage [options]
  --round-trip N,…      milliseconds (default 0,1,5,20)
  --flight N,…          requests in flight (default 1,4,16,64)
  --rounds N            rounds that count, after one of warm-up (default 3)
  --tenths N            tenths of a second of each load (default 5)
  --only WHAT           graph, goals or cost (default all)
  --quick               one round of 0.2 s each
  --folder DIR          a tmpfs (default /dev/shm)
  --json FILE           write every sample
  --svg FILE            write the picture`;

const LIMIT_MS = 60_000;
const PATTERNS: readonly Pattern[] = ['random', 'sequential'];

export async function storage(args: readonly string[], out: Output): Promise<boolean> {
  const quick = args.includes('--quick');
  const given = parse(
    args.filter((word) => word !== '--quick'),
    {
      ...{ 'round-trip': 'one', flight: 'one', rounds: 'one', tenths: 'one', only: 'one' },
      ...{ folder: 'one', json: 'one', svg: 'one' },
    },
  );
  const list = (name: string, text: string | undefined, fallback: string, least: number, most: number) =>
    (text ?? fallback).split(',').map((each) => count(name, each, least, least, most));
  const fio = program('fio');
  if (fio === undefined) throw BenchError.machine('fio is not here (Debian: apt install fio)');
  const plan: Plan = {
    roundTrips: list('round-trip', given['round-trip'], '0,1,5,20', 0, 1000),
    flights: list('flight', given.flight, '1,4,16,64', 1, 1024),
    rounds: count('rounds', given.rounds, quick ? 1 : 3),
    warmup: quick ? 0 : 1,
    seconds: quick ? 0.2 : count('tenths', given.tenths, 5, 1, 6000) / 10,
    fio,
  };
  const parent = given.folder ?? '/dev/shm';
  assertTmpfs(parent, 2 * FILE_BYTES);
  const machine = describeMachine();
  out.heading('Storage: 4 KiB direct reads over a network with distance');
  out.line(machineLine(machine));
  if (machine.load > QUIET_LOAD_MAX) out.warn(`the machine is busy (load ${machine.load.toFixed(2)}): figures are of little use`);
  const wants = (what: string) => given.only === undefined || given.only === what;
  const folder = temporaryFolder(parent);
  const measured: Measured = { points: [], roundTrips: plan.roundTrips, flights: plan.flights };
  const server = await Listener.start('server', [FILE_BYTES]);
  let runs: Run[] = [];
  try {
    if (wants('graph')) {
      runs = await graph(plan, folder, server, out);
      measured.points = pointsOf(runs);
      for (const roundTripMs of plan.roundTrips)
        for (const pattern of PATTERNS)
          out.line(`\n${textTable(flightTable(measured.points, roundTripMs, pattern, plan.flights))}`);
    }
    if (wants('goals')) {
      measured.bandwidth = await bandwidth(plan, folder, server, out);
      measured.fewReads = await fewReads(plan, folder, server, out);
    }
    if (wants('cost')) measured.cost = await cost(plan, folder, out);
  } finally {
    out.status('');
    await server.stop();
    forgetFolder(folder);
  }
  if (given.json !== undefined) writeFileSync(given.json, `${JSON.stringify({ machine, plan, runs, measured }, null, 2)}\n`);
  if (given.svg !== undefined && measured.points.length > 0)
    writeFileSync(given.svg, storageChart(measured.points, machineLine(machine)));
  const goals = goalsOf(measured);
  out.line('');
  for (const { met, sentence } of goals) out.line(`${met ? 'met     ' : 'not met '} ${sentence}`);
  return goals.every(({ met }) => met);
}

/** Each round-trip by itself, its daemons beside each other. */
async function graph(plan: Plan, folder: string, server: Listener, out: Output): Promise<Run[]> {
  const runs: Run[] = [];
  const counter = await BlockClient.connect(server.port, 1);
  try {
    for (const roundTripMs of plan.roundTrips) {
      const listeners: Listener[] = [];
      const subjects: Subject[] = [];
      try {
        await mountAll(roundTripMs, folder, server, listeners, subjects, out);
        for (let round = -plan.warmup; round < plan.rounds; round++) {
          for (const pattern of PATTERNS) {
            for (const flight of plan.flights) {
              for (const subject of rotated(subjects, round + plan.warmup)) {
                out.status(
                  `${roundTripMs} ms, round ${round + 1} of ${plan.rounds}: ${pattern}, ${flight} in flight, ${subject.name}`,
                );
                const taken = await drive(plan, subject, pattern, flight, counter);
                if (round >= 0) runs.push(taken);
              }
            }
          }
        }
      } finally {
        for (const { daemon } of subjects) await daemon.stop();
        for (const listener of listeners) await listener.stop();
      }
    }
    return runs;
  } finally {
    counter.close();
  }
}

/** Into the lists one by one, so that the caller can stop those that came up when a later one does not. */
async function mountAll(
  roundTripMs: number,
  folder: string,
  server: Listener,
  listeners: Listener[],
  subjects: Subject[],
  out: Output,
): Promise<void> {
  const proxy = await Listener.start('proxy', [server.port, roundTripMs, 0]);
  listeners.push(proxy);
  for (const layer of ['merged', 'unmerged'] as const) {
    for (const asyncDio of [true, false]) {
      const name = `${layer}, ${asyncDio ? 'accepted' : 'refused'}`;
      const mount = join(folder, `${roundTripMs}-${layer}-${asyncDio}`);
      const daemon = await ourDaemon({ layer, asyncDio, mount, bytes: FILE_BYTES, port: proxy.port });
      subjects.push({ name, roundTripMs, daemon, file: join(mount, 'data'), isCounted: true });
    }
  }
  const sshfs = findSshfs();
  if (sshfs === undefined) {
    out.warn('sshfs and openssh-sftp-server are not here: nothing stands beside (Debian: apt install sshfs openssh-sftp-server)');
    return;
  }
  const source = join(folder, 'source');
  await copyOfFile(source, FILE_BYTES, server.port);
  const sftp = await Listener.start('sftp', [sftpServer() as string]);
  listeners.push(sftp);
  const far = await Listener.start('proxy', [sftp.port, roundTripMs, 0]);
  listeners.push(far);
  const mount = join(folder, `${roundTripMs}-sshfs`);
  mkdirSync(mount);
  const daemon = await sshfsDaemon(sshfs, source, mount, far.port);
  subjects.push({ name: 'sshfs', roundTripMs, daemon, file: join(mount, 'data'), isCounted: false });
}

async function drive(plan: Plan, subject: Subject, pattern: Pattern, flight: number, counter: BlockClient): Promise<Run> {
  const load = { rw: pattern === 'random' ? 'randread' : 'read', block: '4k', depth: flight, buffered: false } as const;
  const before = await counter.counts();
  const { stdout } = await run(fioCommand(plan.fio, load, subject.file, FILE_BYTES, plan.seconds), { timeoutMs: LIMIT_MS });
  const after = await counter.counts();
  subject.daemon.assertAlive();
  const { operations, seconds } = parseFio(stdout, load);
  const { name, roundTripMs } = subject;
  const operationsEach = subject.isCounted ? (after.operations - before.operations) / operations : Number.NaN;
  return { subject: name, roundTripMs, pattern, flight, perSecond: operations / seconds, operationsEach };
}
