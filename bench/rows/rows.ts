/** The rows: what each runs on a configuration, and what is counted. */
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../harness/children.ts';
import { cpuSecondsBetween } from '../harness/proc.ts';
import { dropNames } from '../harness/setting.ts';
import type { Group } from './configurations.ts';
import { type Contestant, DATA, GIT_ENVIRONMENT, HELLO, MANY, type Materials, startDaemon, TREE } from './stage.ts';
import { type ClientWork, clientCommand, type FioLoad, fioCommand, type Outcome, parseClient, parseFio } from './tools.ts';

export interface Tools {
  fio: string;
  client: string;
}

/** One run of a row. */
export interface Scene {
  contestant: Contestant;
  materials: Materials;
  tools: Tools;
  /** How long a load lasts that has no end of its own. */
  seconds: number;
  /** Files of the rows that make, look at and remove names. */
  names: number;
  /** A name for files of this run alone. */
  turn: string;
}

export interface Sample extends Outcome {
  /** In the row's unit. */
  value: number;
  /** Microseconds of the daemon's processor time for an operation; undefined without a daemon. */
  cpuMicros: number | undefined;
}

export interface Row {
  name: string;
  title: string;
  unit: string;
  better: 'more' | 'less';
  groups: readonly Group[];
  /** The kernel may answer it all by itself, for as long as the daemon allowed. */
  mayBeCached: boolean;
  /** The median of several starts, or one measurement. */
  sample(scene: Scene): Promise<Sample>;
}

const FOLDERS: readonly Group[] = ['native', 'passthrough', 'backing', 'memory'];
const ONE_FILE: readonly Group[] = [...FOLDERS, 'floor'];
const ANY: readonly Group[] = [...ONE_FILE, 'hello'];
const DAEMONS: readonly Group[] = ['floor', 'passthrough', 'backing', 'memory', 'hello'];

const LIMIT_MS = 120_000;

/** Runs a program and counts the daemon's processor time meanwhile. */
async function watched(scene: Scene, argv: readonly string[], parse: (stdout: string, seconds: number) => Outcome) {
  const { daemon } = scene.contestant;
  daemon?.assertAlive();
  const before = daemon?.cpuReading();
  const begun = performance.now();
  const { stdout } = await run(argv, { timeoutMs: LIMIT_MS, env: GIT_ENVIRONMENT });
  const elapsed = (performance.now() - begun) / 1000;
  const after = daemon?.cpuReading();
  daemon?.assertAlive();
  const outcome = parse(stdout, elapsed);
  const cpuSeconds = before === undefined || after === undefined ? undefined : cpuSecondsBetween(before, after);
  const cpuMicros = cpuSeconds === undefined ? undefined : (cpuSeconds * 1e6) / outcome.operations;
  return { ...outcome, cpuMicros };
}

const perSecond = (outcome: Outcome) => outcome.operations / outcome.seconds;

function fileOf({ contestant: { configuration, root } }: Scene): string {
  return join(root, configuration.group === 'hello' ? HELLO : DATA);
}

function fioRow(name: string, title: string, unit: 'requests/s' | 'MB/s', load: FioLoad): Row {
  return {
    name,
    title,
    unit,
    better: 'more',
    groups: load.buffered ? FOLDERS : ONE_FILE,
    mayBeCached: load.buffered,
    async sample(scene) {
      const { tools, materials, seconds } = scene;
      const argv = fioCommand(tools.fio, load, fileOf(scene), materials.sizes.dataBytes, seconds);
      const outcome = await watched(scene, argv, (stdout) => parseFio(stdout, load));
      return { ...outcome, value: unit === 'MB/s' ? outcome.bytes / outcome.seconds / 1e6 : perSecond(outcome) };
    },
  };
}

function callsRow(name: string, title: string, work: ClientWork, processes: number): Row {
  const whole = work === 'list';
  return {
    name,
    title,
    unit: whole ? 'entries/s' : '/s',
    better: 'more',
    groups: whole ? FOLDERS : ANY,
    mayBeCached: whole,
    async sample(scene) {
      const path = whole ? join(scene.contestant.root, MANY) : fileOf(scene);
      const argv = clientCommand(scene.tools.client, work, path, processes, scene.seconds);
      const outcome = await watched(scene, argv, parseClient);
      return { ...outcome, value: perSecond(outcome) };
    },
  };
}

/** Files of a new folder. What comes before the measured step, and the removal, does not count. */
function namesRow(name: string, title: string, work: 'create' | 'names' | 'unlink'): Row {
  return {
    name,
    title,
    unit: '/s',
    better: 'more',
    groups: FOLDERS,
    mayBeCached: work === 'names',
    async sample(scene) {
      const { tools, names, turn, contestant } = scene;
      const folder = join(contestant.root, `names-${turn}`);
      await run(['mkdir', '--', folder], { timeoutMs: LIMIT_MS });
      const step = (each: ClientWork) => clientCommand(tools.client, each, folder, names);
      if (work !== 'create') await run(step('create'), { timeoutMs: LIMIT_MS });
      const outcome = await watched(scene, step(work), parseClient);
      await run(['rm', '-rf', '--', folder], { timeoutMs: LIMIT_MS });
      return { ...outcome, value: perSecond(outcome) };
    },
  };
}

function walkRow(name: string, title: string, cold: boolean): Row {
  return {
    name,
    title,
    unit: 'entries/s',
    better: 'more',
    groups: FOLDERS,
    mayBeCached: !cold,
    async sample(scene) {
      const argv = clientCommand(scene.tools.client, 'walk', join(scene.contestant.root, TREE), 0);
      if (cold) dropNames();
      else await run(argv, { timeoutMs: LIMIT_MS });
      const outcome = await watched(scene, argv, parseClient);
      return { ...outcome, value: perSecond(outcome) };
    },
  };
}

/** A program by the seconds that it takes; `operations` are the files it is about. */
function programRow(
  name: string,
  title: string,
  argvOf: (scene: Scene, folder: string) => string[],
  before?: (scene: Scene, folder: string) => string[],
): Row {
  return {
    name,
    title,
    unit: 's',
    better: 'less',
    groups: FOLDERS,
    mayBeCached: false,
    async sample(scene) {
      const folder = join(scene.contestant.root, `program-${scene.turn}`);
      await run(['mkdir', '--', folder], { timeoutMs: LIMIT_MS });
      if (before !== undefined) await run(before(scene, folder), { timeoutMs: LIMIT_MS, env: GIT_ENVIRONMENT });
      const operations = scene.materials.sizes.tree;
      const parse = (_: string, seconds: number) => ({ operations, bytes: 0, seconds, p50: undefined, p99: undefined });
      const outcome = await watched(scene, argvOf(scene, folder), parse);
      await run(['rm', '-rf', '--', folder], { timeoutMs: LIMIT_MS });
      return { ...outcome, value: outcome.seconds };
    },
  };
}

const clone = ({ materials }: Scene, folder: string) => [
  'git',
  ...['clone', '-q', '--no-hardlinks', materials.repository, join(folder, 'clone')],
];

/** How long after its start a daemon counts as idle. */
const SETTLE_MS = 500;

/** A fresh daemon, mounted on nothing that anyone uses. */
function freshRow(name: string, title: string, unit: 'ms' | 'MiB'): Row {
  return {
    name,
    title,
    unit,
    better: 'less',
    groups: DAEMONS,
    mayBeCached: false,
    async sample({ contestant: { configuration }, materials, turn }) {
      const folder = join(materials.folder, `fresh-${turn}`);
      const { daemon } = await startDaemon(configuration, folder, materials.source);
      if (daemon === undefined) throw new Error(`${name} is a row of daemons`);
      try {
        if (unit === 'MiB') await sleep(SETTLE_MS);
        const value = unit === 'ms' ? daemon.startedInMs : daemon.residentBytes() / 2 ** 20;
        const cpuMicros = daemon.cpuSeconds() * 1e6;
        return { value, operations: 1, bytes: 0, seconds: daemon.startedInMs / 1000, p50: undefined, p99: undefined, cpuMicros };
      } finally {
        await daemon.stop();
      }
    },
  };
}

const direct = (rw: FioLoad['rw'], block: string, depth: number): FioLoad => ({ rw, block, depth, buffered: false });
const buffered = (rw: FioLoad['rw']): FioLoad => ({ rw, block: '128k', depth: 1, buffered: true });

export const ROWS: readonly Row[] = [
  fioRow('read4k1', '4 KiB random reads, 1 in flight', 'requests/s', direct('randread', '4k', 1)),
  fioRow('read4k32', '4 KiB random reads, 32 in flight', 'requests/s', direct('randread', '4k', 32)),
  fioRow('write4k1', '4 KiB random writes, 1 in flight', 'requests/s', direct('randwrite', '4k', 1)),
  fioRow('write4k32', '4 KiB random writes, 32 in flight', 'requests/s', direct('randwrite', '4k', 32)),
  fioRow('read64k4', '64 KiB reads in order, 4 in flight', 'MB/s', direct('read', '64k', 4)),
  fioRow('write64k4', '64 KiB writes in order, 4 in flight', 'MB/s', direct('write', '64k', 4)),
  fioRow('readbuf', 'buffered read', 'MB/s', buffered('read')),
  fioRow('writebuf', 'buffered write', 'MB/s', buffered('write')),
  callsRow('stat1', 'stat round trips, 1 process', 'stat', 1),
  callsRow('stat4', 'stat round trips, 4 processes', 'stat', 4),
  callsRow('open', 'open and close', 'open', 1),
  callsRow('cat', 'open, read 4 KiB, close', 'cat', 1),
  namesRow('create', 'create', 'create'),
  namesRow('stat', 'stat by name', 'names'),
  namesRow('unlink', 'unlink', 'unlink'),
  walkRow('findcold', 'find, names not known', true),
  walkRow('findwarm', 'find, names known', false),
  callsRow('readdir', 'list a large folder', 'list', 1),
  programRow('untar', 'untar', ({ materials }, folder) => ['tar', '-xf', materials.archive, '-C', folder]),
  programRow('clone', 'git clone', clone),
  programRow('status', 'git status', (_, folder) => ['git', '-C', join(folder, 'clone'), 'status', '--porcelain'], clone),
  freshRow('start', 'start until usable', 'ms'),
  freshRow('rss', 'memory of an idle daemon', 'MiB'),
];

export const ROW_NAMES = ROWS.map(({ name }) => name);
