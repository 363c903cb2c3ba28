/** `bench letter`: the benchmark of the 2013 letter. docs/BENCHMARKS.md says what each row and column is. */
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { program } from './harness/children.ts';
import { compile, compiler } from './harness/compiler.ts';
import { BenchError, messageOf } from './harness/failure.ts';
import { forgetFolder, temporaryFolder } from './harness/guard.ts';
import { assertTmpfs, describeMachine, type Machine, machineLine, QUIET_LOAD_MAX } from './harness/machine.ts';
import { count, parse, words } from './harness/options.ts';
import type { Output } from './harness/output.ts';
import { markdownTable, textTable } from './harness/table.ts';
import { type Configuration, nativeConfiguration, ourPair, peerConfigurations } from './letter/configurations.ts';
import { type Measured, measure, sampleOf } from './letter/measure.ts';
import { findPeers } from './letter/peers.ts';
import { letterTable, type RowReport, reportOf, rowTable, verdicts } from './letter/report.ts';
import { type AioTool, LETTER_ROWS, ROW_NAMES } from './letter/rows.ts';
import { LETTER_FILE, makeFiles, type Stage, setStage, strike } from './letter/stage.ts';

export const LETTER_HELP = `npm run bench -- letter [options]
  --rounds N            rounds that count (default 5)
  --warmup N            rounds before them (default 1)
  --size MiB            size of the file (default 512)
  --only ROW,…          of ${ROW_NAMES.join(', ')}
  --mode MODE,…         of event, blocking (default both)
  --workers N,…         worker threads of fusewire (default: one a core, at least 2)
  --daemon-option=WORD  one more word for \`fusewire passthrough\`; may stand several times
  --variant=WORDS       measure fusewire with these words as well, in the same rounds; may stand several times
  --peers all|none      measure the daemons of others that are here (default all)
  --folder DIR          a tmpfs (default /dev/shm)
  --json FILE           write every sample`;

interface Settings {
  rounds: number;
  warmup: number;
  bytes: number;
  rows: typeof LETTER_ROWS;
  modes: ('event' | 'blocking')[];
  workers: number[];
  extra: readonly string[];
  variants: readonly string[];
  peers: boolean;
  folder: string;
  json: string | undefined;
}

function settingsOf(args: readonly string[]): Settings {
  const given = parse(args, {
    rounds: 'one',
    warmup: 'one',
    size: 'one',
    only: 'one',
    mode: 'one',
    workers: 'one',
    peers: 'one',
    folder: 'one',
    json: 'one',
    'daemon-option': 'many',
    variant: 'many',
  });
  const mebibytes = count('size', given.size, 512, 2, 65_536);
  if (mebibytes % 2 !== 0) throw BenchError.usage('--size is an even number: dd moves blocks of 2 MiB');
  const workers = Math.max(2, availableParallelism());
  const names = words('only', given.only, ROW_NAMES, ROW_NAMES);
  return {
    rounds: count('rounds', given.rounds, 5),
    warmup: count('warmup', given.warmup, 1, 0),
    bytes: mebibytes * 2 ** 20,
    rows: LETTER_ROWS.filter(({ name }) => names.includes(name)),
    modes: words('mode', given.mode, ['event', 'blocking'], ['event', 'blocking']),
    workers: (given.workers?.split(',') ?? [undefined]).map((text) => count('workers', text, workers, 1, 256)),
    extra: given['daemon-option'],
    variants: given.variant,
    peers: words('peers', given.peers, ['all'], ['all', 'none'])[0] === 'all',
    folder: given.folder ?? '/dev/shm',
    json: given.json,
  };
}

/**
 * The letter's aio-stress where one is installed that works as it did then: newer ones of the Linux Test Project make a file
 * of their own in the folder for temporary files, and measure that.
 */
async function aioTool(settings: Settings, source: string, out: Output): Promise<AioTool> {
  const fio: AioTool = { kind: 'fio', path: program('fio') ?? '' };
  const row = settings.rows.find(({ tool }) => tool === 'aio');
  if (row === undefined) return fio;
  const path = program('aio-stress');
  if (path !== undefined) {
    const aioStress: AioTool = { kind: 'aio-stress', path };
    try {
      const native = { configuration: nativeConfiguration(), file: join(source, LETTER_FILE), daemon: undefined };
      await sampleOf(row, native, { aio: aioStress, bytes: settings.bytes });
      return aioStress;
    } catch (error) {
      out.warn(`${path} is not used: ${messageOf(error)}`);
    }
  }
  if (fio.path !== '') return fio;
  throw BenchError.machine('there is no fio (Debian: apt install fio): install it, or use --only dd_read,dd_write');
}

export async function letter(args: readonly string[], out: Output): Promise<boolean> {
  const settings = settingsOf(args);
  // The file, and what the daemons and the check of their bytes need beside it.
  assertTmpfs(settings.folder, settings.bytes + (256 << 20));
  const machine = describeMachine();
  out.heading('The letter: asynchronous direct I/O refused and accepted');
  out.line(machineLine(machine));
  if (machine.load > QUIET_LOAD_MAX) out.warn(`the machine is busy (load ${machine.load.toFixed(2)}): figures are of little use`);

  const folder = temporaryFolder(settings.folder);
  let stage: Stage | undefined;
  try {
    const source = await makeFiles(folder, settings.bytes);
    const aio = await aioTool(settings, source, out);
    const { bytes, rounds, warmup } = settings;
    out.line(`${bytes / 2 ** 20} MiB on tmpfs, ${rounds} rounds after ${warmup} of warm-up, AIO by ${aio.kind}`);
    stage = await setStage(folder, source, await configurationsOf(settings, folder, out));
    for (const { configuration, reason } of stage.refused) out.warn(`${configuration.name} is left out: ${reason}`);
    const measured = await measure({ ...settings, contestants: stage.contestants, aio, onProgress: out.status });
    out.status('');
    return conclude(settings, stage, measured, machine, aio, out);
  } finally {
    if (stage !== undefined) await strike(stage);
    forgetFolder(folder);
  }
}

async function configurationsOf(settings: Settings, folder: string, out: Output): Promise<Configuration[]> {
  const list: Configuration[] = [nativeConfiguration(), ...ourConfigurations(settings)];
  if (!settings.peers) return list;
  const { found, missing } = findPeers(process.env);
  for (const sentence of missing) out.line(`not here: ${sentence}`);
  const preload = found.length === 0 ? undefined : await preloadLibrary(folder, out);
  for (const peer of found) list.push(...peerConfigurations(peer, preload));
  return list;
}

function ourConfigurations({ modes, workers, extra, variants }: Settings): Configuration[] {
  const one = (mode: Settings['modes'][number], count: number, variant: string) =>
    ourPair({ mode, workers: count, extra: [...extra, ...variant.split(/\s+/).filter((word) => word !== '')] }, variant);
  return modes.flatMap((mode) => workers.flatMap((count) => ['', ...variants].flatMap((variant) => one(mode, count, variant))));
}

async function preloadLibrary(folder: string, out: Output): Promise<string | undefined> {
  const cc = compiler();
  try {
    if (cc === undefined) throw BenchError.machine('there is no C compiler');
    return await compile(cc, 'letter/async-dio.c', join(folder, 'async-dio.so'), '-shared', '-fPIC');
  } catch (error) {
    out.warn(`peers are measured only as they are, not both ways: ${messageOf(error)}`);
    return undefined;
  }
}

function conclude(settings: Settings, stage: Stage, measured: Measured, machine: Machine, aio: AioTool, out: Output): boolean {
  const configurations = stage.contestants.map(({ configuration }) => configuration);
  const reports = reportOf(settings.rows, configurations, measured.samples, settings.bytes);
  for (const report of reports) out.line(`\n${textTable(rowTable(report))}`);
  out.line(`\n${markdownTable(letterTable(reports))}\n`);
  warnAboutCaches(reports, out);
  for (const failure of measured.failures) out.warn(failure);
  const judged = verdicts(reports);
  for (const { text } of judged) out.line(text);
  if (settings.json !== undefined) {
    const samples = Object.fromEntries([...measured.samples].map(([row, byName]) => [row, Object.fromEntries(byName)]));
    const refused = stage.refused.map(({ configuration, reason }) => ({ name: configuration.name, reason }));
    const { bytes, rounds, warmup, workers, extra, variants } = settings;
    const contents = {
      machine,
      aio: aio.kind,
      bytes,
      rounds,
      warmup,
      workers,
      extra,
      variants,
      samples,
      refused,
      failures: measured.failures,
    };
    writeFileSync(settings.json, `${JSON.stringify(contents, null, 2)}\n`);
  }
  const ourFailure = stage.refused.some(({ configuration }) => configuration.ours) || measured.failures.length > 0;
  return judged.every(({ passed }) => passed) && !ourFailure;
}

function warnAboutCaches(reports: readonly RowReport[], out: Output): void {
  for (const { row, cells } of reports) {
    for (const { configuration, suspicious } of cells) {
      if (!suspicious) continue;
      out.warn(
        `(!) ${configuration.name}, ${row.title}: the daemon had too little processor time to have moved the bytes; ` +
          'the page cache or the kernel served them, so do not compare the figure',
      );
    }
  }
}
