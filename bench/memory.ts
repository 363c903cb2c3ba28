/** `bench memory`: a mounted daemon answers a million requests and must not grow. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { program, run } from './harness/children.ts';
import { compile, compiler } from './harness/compiler.ts';
import { Daemon } from './harness/daemon.ts';
import { BenchError } from './harness/failure.ts';
import { forgetFolder, temporaryFolder } from './harness/guard.ts';
import { assertTmpfs, describeMachine, machineLine } from './harness/machine.ts';
import { count, parse, words } from './harness/options.ts';
import type { Output } from './harness/output.ts';
import { figure, textTable } from './harness/table.ts';
import { ourCommand } from './letter/configurations.ts';
import { parseFioRequests } from './memory/fio.ts';

export const MEMORY_HELP = `npm run bench -- memory [options]
  --requests N          requests after the warm-up (default 1000000)
  --warmup N            requests before (default 50000)
  --load LOAD,…         of aio (fio: 4 KiB direct reads, 32 in flight), reads (one caller), names (create to unlink)
                        (default aio,names)
  --mode MODE,…         of event, blocking (default both)
  --workers N           worker threads (default 2)
  --daemon-option=WORD  one more word for \`fusewire passthrough\`; may stand several times
  --folder DIR          a tmpfs (default /dev/shm)
  --json FILE           write the figures`;

type Load = 'aio' | 'reads' | 'names';
const LOADS: readonly Load[] = ['aio', 'reads', 'names'];

const FILE_BYTES = 64 << 20;
const GROWTH_BYTES_MAX = 20_000_000;
const SAMPLE_MS = 100;
/** A load is given this long per thousand requests, and never less than a minute. */
const LIMIT_MS_PER_THOUSAND = 1000;

interface Result {
  mode: string;
  load: Load;
  requests: number;
  requestsPerSecond: number;
  /** Resident memory of the daemon, bytes. */
  before: number;
  warm: number;
  after: number;
  highest: number;
}

interface Bed {
  folder: string;
  source: string;
  client: string | undefined;
  fio: string | undefined;
}

export async function memory(args: readonly string[], out: Output): Promise<boolean> {
  const given = parse(args, {
    requests: 'one',
    warmup: 'one',
    load: 'one',
    mode: 'one',
    workers: 'one',
    folder: 'one',
    json: 'one',
    'daemon-option': 'many',
  });
  const requests = count('requests', given.requests, 1_000_000);
  const warmup = count('warmup', given.warmup, 50_000);
  const workers = count('workers', given.workers, 2, 1, 256);
  const loads = words('load', given.load, ['aio', 'names'], LOADS);
  const modes = words('mode', given.mode, ['event', 'blocking'], ['event', 'blocking']);
  const parent = given.folder ?? '/dev/shm';
  assertTmpfs(parent, 2 * FILE_BYTES);
  const machine = describeMachine();
  out.heading('Memory of a mounted daemon');
  out.line(machineLine(machine));
  const bed = await prepareBed(parent);
  const results: Result[] = [];
  try {
    for (const mode of modes) {
      for (const load of loads) {
        out.status(`${mode}: ${load}`);
        const options = { mode, workers, extra: given['daemon-option'] };
        results.push(await measure(bed, `${mode}-${load}`, options, { load, requests, warmup }));
      }
    }
  } finally {
    out.status('');
    forgetFolder(bed.folder);
  }
  out.line(table(results));
  if (given.json !== undefined) writeFileSync(given.json, `${JSON.stringify({ machine, workers, results }, null, 2)}\n`);
  return judge(results, out);
}

async function prepareBed(parent: string): Promise<Bed> {
  const folder = temporaryFolder(parent);
  const source = join(folder, 'source');
  mkdirSync(source);
  const blocks = ['bs=1M', `count=${FILE_BYTES / 2 ** 20}`];
  await run(['dd', 'if=/dev/urandom', `of=${join(source, 'reads.dat')}`, ...blocks], { timeoutMs: 60_000 });
  const cc = compiler();
  const client = cc === undefined ? undefined : await compile(cc, 'memory/client.c', join(folder, 'client'));
  return { folder, source, client, fio: program('fio') };
}

async function measure(
  bed: Bed,
  name: string,
  options: Parameters<typeof ourCommand>[2],
  { load, requests, warmup }: { load: Load; requests: number; warmup: number },
): Promise<Result> {
  const mount = join(bed.folder, name);
  const daemon = await Daemon.start(ourCommand(bed.source, mount, options), mount, join(mount, 'reads.dat'));
  try {
    const before = daemon.residentBytes();
    await drive(bed, mount, load, warmup);
    const warm = await settled(daemon);
    let highest = warm;
    const watch = setInterval(() => {
      highest = Math.max(highest, daemon.residentBytes());
    }, SAMPLE_MS);
    const begun = Date.now();
    const served = await drive(bed, mount, load, requests).finally(() => clearInterval(watch));
    const seconds = (Date.now() - begun) / 1000;
    daemon.assertAlive();
    const after = await settled(daemon);
    highest = Math.max(highest, after);
    return { mode: options.mode, load, requests: served, requestsPerSecond: served / seconds, before, warm, after, highest };
  } finally {
    await daemon.stop();
  }
}

/** Resident memory once the last RELEASEs and FORGETs are through. */
async function settled(daemon: Daemon): Promise<number> {
  await sleep(500);
  return daemon.residentBytes();
}

/** Causes at least `requests` requests and answers how many. */
async function drive(bed: Bed, mount: string, load: Load, requests: number): Promise<number> {
  const timeoutMs = Math.max(60_000, (requests / 1000) * LIMIT_MS_PER_THOUSAND);
  if (load === 'aio') {
    if (bed.fio === undefined) throw BenchError.machine('fio is not here (Debian: apt install fio); use --load reads,names');
    const words = ['--name=memory', `--filename=${join(mount, 'reads.dat')}`, `--size=${FILE_BYTES}`, '--rw=randread', '--bs=4k'];
    const many = [`--number_ios=${requests}`, `--io_size=${requests * 4096}`, '--norandommap', '--iodepth=32'];
    const how = ['--ioengine=libaio', '--direct=1', '--thread', '--output-format=json'];
    return parseFioRequests((await run([bed.fio, ...words, ...many, ...how], { timeoutMs })).stdout, requests);
  }
  if (bed.client === undefined)
    throw BenchError.machine('there is no C compiler (Debian: apt install gcc libc6-dev); use --load aio');
  const { stdout } = await run([bed.client, mount, load, String(requests)], { timeoutMs });
  return Number(stdout.trim());
}

const mebibytes = (bytes: number) => figure(bytes / 2 ** 20);

function table(results: readonly Result[]): string {
  const titles = ['requests', 'per second', 'RSS at start', 'warm', 'at the end', 'highest', 'growth, MB'];
  return textTable({
    columns: [{ title: 'MiB' }, ...titles.map((title) => ({ title, align: 'right' as const }))],
    rows: results.map((result) => [
      `${result.mode}, ${result.load}`,
      figure(result.requests),
      figure(result.requestsPerSecond),
      mebibytes(result.before),
      mebibytes(result.warm),
      mebibytes(result.after),
      mebibytes(result.highest),
      ((result.after - result.warm) / 1e6).toFixed(1),
    ]),
  });
}

function judge(results: readonly Result[], out: Output): boolean {
  const grown = results.filter(({ warm, after }) => after - warm >= GROWTH_BYTES_MAX);
  for (const { mode, load, warm, after } of grown) {
    out.warn(
      `${mode}, ${load}: the daemon grew by ${((after - warm) / 1e6).toFixed(1)} MB; the goal is under ${GROWTH_BYTES_MAX / 1e6} MB`,
    );
  }
  return grown.length === 0;
}
