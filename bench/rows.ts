/** `bench rows`: everything that a filesystem does, ours beside others. docs/BENCHMARKS.md says what each row is. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { program } from './harness/children.ts';
import { mustCompile } from './harness/compiler.ts';
import { BenchError, messageOf } from './harness/failure.ts';
import { forgetFolder, temporaryFolder } from './harness/guard.ts';
import { assertTmpfs, describeMachine, machineLine, QUIET_LOAD_MAX } from './harness/machine.ts';
import { count, parse, words } from './harness/options.ts';
import type { Output } from './harness/output.ts';
import { enableRing } from './harness/setting.ts';
import { markdownTable, textTable } from './harness/table.ts';
import { groupChart } from './rows/chart.ts';
import {
  type Configuration,
  floorConfigurations,
  NATIVE,
  OURS,
  type OurChoice,
  ourConfigurations,
} from './rows/configurations.ts';
import { type Measured, measure } from './rows/measure.ts';
import { peerConfigurations } from './rows/peers.ts';
import { groupTables, reportOf, rowTable } from './rows/report.ts';
import { ROW_NAMES, ROWS, type Tools } from './rows/rows.ts';
import { DATA, type Materials, makeMaterials, type Sizes, type Stage, setStage, strike } from './rows/stage.ts';
import { goalsMet, verdicts } from './rows/verdicts.ts';

export const ROWS_HELP = `npm run bench -- rows [options]
  --rows ROW,…          of ${ROW_NAMES.slice(0, 12).join(', ')},
                        ${ROW_NAMES.slice(12).join(', ')}
  --only TEXT,…         only configurations whose name contains one of these
  --rounds N            rounds that count (default 5)
  --warmup N            rounds before them (default 1)
  --seconds N           how long a load without an end of its own lasts (default 1)
  --quick               one round of everything, small: to see whether it runs, not for its figures
  --mode MODE,…         of blocking, event (default blocking, as the command line's)
  --workers N,…         worker threads of fusewire (default: as the command line's)
  --transport T,…       of device, uring (default both); uring writes Y to /sys/module/fuse/parameters/enable_uring for the run
  --daemon-option=WORD  one more word for fusewire; may stand several times
  --variant=WORDS       measure fusewire's passthrough with these words as well; may stand several times
  --peers all|none      measure the daemons of others that are here (default all)
  --starts N            daemons started for one measurement of start (default 3)
  --list                the configurations, and what is missing; measures nothing
  --folder DIR          a tmpfs (default /dev/shm)
  --json FILE           write every sample
  --svg DIR             write a picture of each group: DIR/bench-GROUP.svg
  --markdown FILE       write the tables`;

interface Settings {
  rounds: number;
  warmup: number;
  seconds: number;
  starts: number;
  names: number;
  sizes: Sizes;
  rows: typeof ROWS;
  only: readonly string[];
  choice: OurChoice;
  peers: boolean;
  folder: string;
  json: string | undefined;
  svg: string | undefined;
  markdown: string | undefined;
  list: boolean;
}

const SIZES: Sizes = { dataBytes: 256 << 20, many: 10_000, tree: 5000 };
const QUICK_SIZES: Sizes = { dataBytes: 16 << 20, many: 500, tree: 200 };
const NAMES = 5000;
const QUICK_NAMES = 200;
const QUICK_SECONDS = 0.2;

/** As the command line chooses for a passthrough. */
function ourWorkers(): number {
  return Math.min(4, Math.max(2, availableParallelism()));
}

function settingsOf(args: readonly string[]): Settings {
  const [quick, list] = ['--quick', '--list'].map((flag) => args.includes(flag));
  const given = parse(
    args.filter((word) => word !== '--quick' && word !== '--list'),
    {
      ...{ rows: 'one', only: 'one', rounds: 'one', warmup: 'one', seconds: 'one', starts: 'one', mode: 'one', workers: 'one' },
      ...{ transport: 'one', peers: 'one', folder: 'one', json: 'one', svg: 'one', markdown: 'one' },
      ...{ 'daemon-option': 'many', variant: 'many' },
    },
  );
  const names = words('rows', given.rows, ROW_NAMES, ROW_NAMES);
  return {
    rounds: count('rounds', given.rounds, quick ? 1 : 5),
    warmup: count('warmup', given.warmup, quick ? 0 : 1, 0),
    seconds: quick ? QUICK_SECONDS : count('seconds', given.seconds, 1, 1, 3600),
    starts: count('starts', given.starts, quick ? 1 : 3, 1, 10_000),
    names: quick ? QUICK_NAMES : NAMES,
    sizes: quick ? QUICK_SIZES : SIZES,
    rows: ROWS.filter(({ name }) => names.includes(name)),
    only: given.only?.split(',') ?? [],
    choice: {
      modes: words('mode', given.mode, ['blocking'], ['blocking', 'event']),
      workers: (given.workers?.split(',') ?? [undefined]).map((text) => count('workers', text, ourWorkers(), 1, 64)),
      transports: words('transport', given.transport, ['device', 'uring'], ['device', 'uring']),
      extra: given['daemon-option'],
      variants: given.variant,
    },
    peers: words('peers', given.peers, ['all'], ['all', 'none'])[0] === 'all',
    folder: given.folder ?? '/dev/shm',
    json: given.json,
    svg: given.svg,
    markdown: given.markdown,
    list,
  };
}

function need(name: string, from: string): string {
  const path = program(name);
  if (path === undefined)
    throw BenchError.machine(`${name} is not here (Debian: apt install ${from}); it is needed, or leave rows out with --rows`);
  return path;
}

/** Only what the chosen rows use has to be here. */
async function toolsOf(rows: Settings['rows'], folder: string): Promise<Tools> {
  const uses = (...names: string[]) => rows.some(({ name }) => names.some((each) => name.startsWith(each)));
  need('git', 'git');
  need('tar', 'tar');
  const fio = uses('read4k', 'read64k', 'readbuf', 'write') ? need('fio', 'fio') : '';
  return { fio, client: await mustCompile('rows/client.c', join(folder, 'client')) };
}

const NULL_SOURCES = ['null.c', 'answer.c', 'device.c', 'ring.c'].map((name) => `null/${name}`);

/** All that can be mounted here, and a sentence for each thing that cannot. */
async function configurationsOf(settings: Settings, folder: string): Promise<{ list: Configuration[]; missing: string[] }> {
  const { choice, sizes, only, rows } = settings;
  const list: Configuration[] = [NATIVE, ...ourConfigurations(choice)];
  const missing: string[] = [];
  try {
    const floor = await mustCompile(NULL_SOURCES, join(folder, 'null'), '-pthread');
    list.push(...floorConfigurations(floor, choice.workers[0], sizes.dataBytes, DATA));
  } catch (error) {
    missing.push(`null daemon: ${messageOf(error)}`);
  }
  if (settings.peers) {
    const peers = peerConfigurations(process.env);
    list.push(...peers.found);
    missing.push(...peers.missing);
  }
  const chosen = list.filter(({ name }) => only.length === 0 || only.some((each) => name.includes(each)));
  const taking = chosen.filter(({ group }) => rows.some(({ groups }) => groups.includes(group)));
  if (taking.length === 0) throw BenchError.usage('--only and --rows leave no configuration; --list shows their names');
  const ring = taking.some((each) => each.ring);
  if (!ring || settings.list) return { list: taking, missing };
  try {
    enableRing();
    return { list: taking, missing };
  } catch (error) {
    missing.push(`everything on the ring: ${messageOf(error)}`);
    return { list: taking.filter((each) => !each.ring), missing };
  }
}

export async function rows(args: readonly string[], out: Output): Promise<boolean> {
  const settings = settingsOf(args);
  // The source, and a copy in each filesystem that holds its files itself.
  assertTmpfs(settings.folder, 8 * settings.sizes.dataBytes + (256 << 20));
  const machine = describeMachine();
  out.heading('Rows: ours beside others');
  out.line(machineLine(machine));
  if (machine.load > QUIET_LOAD_MAX) out.warn(`the machine is busy (load ${machine.load.toFixed(2)}): figures are of little use`);
  const folder = temporaryFolder(settings.folder);
  let stage: Stage | undefined;
  try {
    const { list, missing } = await configurationsOf(settings, folder);
    for (const sentence of missing) out.line(`not here: ${sentence}`);
    if (settings.list) {
      for (const { group, name } of list) out.line(`${group.padEnd(12)} ${name}`);
      return true;
    }
    const tools = await toolsOf(settings.rows, folder);
    out.status('making files');
    const materials: Materials = await makeMaterials(folder, settings.sizes);
    const { rounds, warmup, seconds } = settings;
    stage = await setStage(materials, list, out.status);
    for (const { name, reason } of stage.refused) out.warn(`${name} is left out: ${reason}`);
    out.line(`${stage.contestants.length} configurations, ${rounds} rounds after ${warmup} of warm-up, loads of ${seconds} s`);
    const measured = await measure({ ...settings, contestants: stage.contestants, materials, tools, onProgress: out.status });
    out.status('');
    return conclude(settings, stage, measured, machineLine(machine), out);
  } finally {
    out.status('');
    if (stage !== undefined) await strike(stage);
    forgetFolder(folder);
  }
}

function conclude(settings: Settings, stage: Stage, measured: Measured, machine: string, out: Output): boolean {
  const configurations = stage.contestants.map(({ configuration }) => configuration);
  const reports = reportOf(settings.rows, configurations, measured.samples);
  const tables = groupTables(reports);
  for (const report of reports) out.line(`\n${textTable(rowTable(report))}`);
  for (const { table } of tables) out.line(`\n${textTable(table)}`);
  if (reports.some(({ cells }) => cells.some(({ cached }) => cached))) {
    out.line('\n(!) the kernel answered by itself; compared only with others of which that is true');
  }
  for (const failure of measured.failures) out.warn(failure);
  const judged = verdicts(reports);
  out.line('');
  for (const { passed, text } of judged) out.line(`${passed ? 'met    ' : 'not met'}  ${text}`);
  if (settings.json !== undefined) writeJson(settings.json, settings, stage, measured, machine);
  if (settings.markdown !== undefined) {
    writeFileSync(settings.markdown, `${tables.map(({ table }) => markdownTable(table)).join('\n\n')}\n`);
  }
  if (settings.svg !== undefined) writePictures(settings.svg, reports, tables, machine);
  const broken = stage.refused.some(({ project }) => project === OURS) || measured.failures.length > 0;
  return goalsMet(judged, reports) && !broken;
}

function writeJson(path: string, settings: Settings, stage: Stage, measured: Measured, machine: string): void {
  const { rounds, warmup, seconds, starts, names, sizes, choice } = settings;
  const configurations = stage.contestants.map(({ configuration: { command: _, ...plain } }) => plain);
  const samples = Object.fromEntries([...measured.samples].map(([row, byName]) => [row, Object.fromEntries(byName)]));
  const ran = { machine, rounds, warmup, seconds, starts, names, sizes, choice };
  const contents = { ...ran, configurations, samples, refused: stage.refused, failures: measured.failures };
  writeFileSync(path, `${JSON.stringify(contents, null, 2)}\n`);
}

function writePictures(
  folder: string,
  reports: Parameters<typeof groupTables>[0],
  tables: ReturnType<typeof groupTables>,
  machine: string,
): void {
  mkdirSync(folder, { recursive: true });
  for (const { group } of tables) {
    const chart = groupChart(reports, group, machine);
    if (chart !== undefined) writeFileSync(join(folder, `bench-${group}.svg`), chart);
  }
}
