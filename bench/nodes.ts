/** `bench nodes`: memory of a daemon for each file that the kernel knows, and processor time of daemons that nobody uses. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { program, run } from './harness/children.ts';
import { mustCompile } from './harness/compiler.ts';
import { Daemon } from './harness/daemon.ts';
import { descriptorsFor } from './harness/descriptors.ts';
import { messageOf } from './harness/failure.ts';
import { forgetFolder, temporaryFolder } from './harness/guard.ts';
import { assertTmpfs, describeMachine, machineLine } from './harness/machine.ts';
import { count, parse, words } from './harness/options.ts';
import type { Output } from './harness/output.ts';
import { enableRing } from './harness/setting.ts';
import { figure, textTable } from './harness/table.ts';
import { ourConfigurations } from './rows/configurations.ts';
import { peerConfigurations } from './rows/peers.ts';
import { clientCommand, parseClient } from './rows/tools.ts';

const KINDS = ['paths', 'passthrough', 'memory', 'passthrough_ll'] as const;
type Kind = (typeof KINDS)[number];

export const NODES_HELP = `npm run bench -- nodes [options]
  --count N             files looked up (default 1000000)
  --kinds KIND,…        of paths (the library's own table, over files that take no memory), passthrough, memory (with the
                        files themselves), passthrough_ll (libfuse's, where it is here) (default all)
  --idle N              seconds for which idle daemons are watched, 0 for none (default 60)
  --folder DIR          a tmpfs (default /dev/shm)
  --json FILE           write the figures`;

const NODE_BYTES_MAX = 300;
/** Looked up before the first reading, so that code is compiled and pools are filled. */
const WARM = 5000;
const SETTLE_MS = 3000;
const LIMIT_MS = 1_200_000;
/** Names of a tmpfs file that the source needs, with its folder's part. */
const SOURCE_BYTES_PER_FILE = 1024;
/** Descriptors beside those of the nodes. */
const DESCRIPTORS_MORE = 10_000;
const SHARE_OF_DESCRIPTORS = 0.7;

interface NodesResult {
  kind: Kind;
  files: number;
  before: number;
  after: number;
  bytesPerNode: number;
  lookupsPerSecond: number;
}

interface IdleResult {
  name: string;
  cpuSeconds: number;
  residentBytes: number;
}

interface Bed {
  folder: string;
  source: string;
  client: string;
  files: number;
}

export async function nodes(args: readonly string[], out: Output): Promise<boolean> {
  const given = parse(args, { count: 'one', kinds: 'one', idle: 'one', folder: 'one', json: 'one' });
  const files = count('count', given.count, 1_000_000, WARM, 10_000_000);
  const idleSeconds = count('idle', given.idle, 60, 0, 86_400);
  const kinds = words('kinds', given.kinds, KINDS, KINDS);
  const parent = given.folder ?? '/dev/shm';
  assertTmpfs(parent, files * SOURCE_BYTES_PER_FILE);
  const machine = describeMachine();
  out.heading('Memory for each file that the kernel knows, and what an idle daemon costs');
  out.line(machineLine(machine));
  const folder = temporaryFolder(parent);
  const failures: string[] = [];
  const results: NodesResult[] = [];
  let idle: IdleResult[] = [];
  try {
    const bed: Bed = {
      folder,
      source: join(folder, 'source'),
      client: await mustCompile('rows/client.c', join(folder, 'client')),
      files,
    };
    mkdirSync(bed.source);
    const held = kinds.some(holdsDescriptors) ? await makeFiles(bed, out) : files;
    for (const kind of kinds) {
      const many = holdsDescriptors(kind) ? held : files;
      out.status(`${kind}: ${many} files`);
      try {
        const result = await measure({ ...bed, files: many }, kind);
        if (result === undefined) out.line('not here: passthrough_ll: set FUSEWIRE_PEER_PASSTHROUGH_LL to the program');
        else results.push(result);
      } catch (error) {
        failures.push(`${kind}: ${messageOf(error)}`);
      }
    }
    if (idleSeconds > 0) idle = await watchIdle(bed, idleSeconds, out, failures);
  } finally {
    out.status('');
    forgetFolder(folder);
  }
  return conclude({ results, idle, idleSeconds, failures, machine, json: given.json }, out);
}

/** A passthrough has a descriptor open for each file that the kernel knows. */
function holdsDescriptors(kind: Kind): boolean {
  return kind.startsWith('passthrough');
}

/** Answers how many files the passthroughs can be asked for: all, or what a process may hold descriptors of. */
async function makeFiles(bed: Bed, out: Output): Promise<number> {
  out.status('making files');
  const descriptors = descriptorsFor(2 * bed.files + DESCRIPTORS_MORE);
  // The passthrough uses seven eighths, and begins to have files forgotten before it has them all.
  const many = Math.min(bed.files, Math.max(2 * WARM, Math.floor(descriptors * SHARE_OF_DESCRIPTORS)));
  if (many < bed.files) {
    const why = 'the limit on descriptors (RLIMIT_NOFILE) cannot be raised here without CAP_SYS_RESOURCE';
    out.line(`passthrough, passthrough_ll: ${many} files only: ${why}`);
  }
  await run(clientCommand(bed.client, 'create', bed.source, many), { timeoutMs: LIMIT_MS });
  return many;
}

function commandOf(kind: Kind, { source, files }: Bed, mount: string): string[] | undefined {
  if (kind !== 'passthrough_ll') {
    const script = fileURLToPath(new URL('./nodes/daemon.js', import.meta.url));
    return [process.execPath, '--expose-gc', script, kind, source, mount, String(files)];
  }
  const peer = peerConfigurations(process.env).found.find(({ name }) => name === 'passthrough_ll');
  const prlimit = program('prlimit');
  if (peer?.command === undefined || prlimit === undefined) return undefined;
  return [prlimit, `--nofile=${Math.ceil(files / SHARE_OF_DESCRIPTORS)}`, ...peer.command(source, mount)];
}

/** Undefined when the daemon is not here. */
async function measure(bed: Bed, kind: Kind): Promise<NodesResult | undefined> {
  const mount = join(bed.folder, kind);
  const command = commandOf(kind, bed, mount);
  if (command === undefined) return undefined;
  const daemon = await Daemon.start(command, mount, mount);
  try {
    // The memory filesystem has no files yet: making them is looking them up.
    const work = kind === 'memory' ? 'create' : 'names';
    const warm = kind === 'memory' ? join(mount, 'warm') : mount;
    if (kind === 'memory') await run(['mkdir', warm], { timeoutMs: LIMIT_MS });
    await run(clientCommand(bed.client, work, warm, WARM), { timeoutMs: LIMIT_MS });
    const before = await settled(daemon);
    const { stdout } = await run(clientCommand(bed.client, work, mount, bed.files), { timeoutMs: LIMIT_MS });
    daemon.assertAlive();
    const after = await settled(daemon);
    const outcome = parseClient(stdout);
    const fresh = kind === 'memory' ? bed.files : bed.files - WARM;
    const lookupsPerSecond = outcome.operations / outcome.seconds;
    return { kind, files: bed.files, before, after, bytesPerNode: (after - before) / fresh, lookupsPerSecond };
  } finally {
    await daemon.stop();
  }
}

/** Resident bytes when nothing is under way any more, and garbage is gone. */
async function settled(daemon: Daemon): Promise<number> {
  await sleep(SETTLE_MS);
  return daemon.residentBytes();
}

/** All at the same time: what is idle does not disturb. */
async function watchIdle(bed: Bed, seconds: number, out: Output, failures: string[]): Promise<IdleResult[]> {
  enableRing();
  const choice = {
    modes: ['blocking', 'event'],
    workers: [2],
    transports: ['device', 'uring'],
    extra: [],
    variants: [],
  } as const;
  const daemons: { name: string; daemon: Daemon }[] = [];
  try {
    for (const [i, { name, command }] of ourConfigurations(choice).entries()) {
      out.status(`idle: starting ${name}`);
      const mount = join(bed.folder, `idle-${i}`);
      try {
        if (command !== undefined) daemons.push({ name, daemon: await Daemon.start(command(bed.source, mount), mount, mount) });
      } catch (error) {
        failures.push(`${name}: ${messageOf(error)}`);
      }
    }
    await sleep(2 * SETTLE_MS);
    out.status(`idle: ${seconds} s`);
    const before = daemons.map(({ daemon }) => daemon.cpuSeconds());
    await sleep(seconds * 1000);
    return daemons.map(({ name, daemon }, i) => ({
      name,
      cpuSeconds: daemon.cpuSeconds() - before[i],
      residentBytes: daemon.residentBytes(),
    }));
  } finally {
    for (const { daemon } of daemons) await daemon.stop();
  }
}

interface Conclusion {
  results: NodesResult[];
  idle: IdleResult[];
  idleSeconds: number;
  failures: string[];
  machine: ReturnType<typeof describeMachine>;
  json: string | undefined;
}

const right = (titles: readonly string[]) => titles.map((title) => ({ title, align: 'right' as const }));

function conclude({ results, idle, idleSeconds, failures, machine, json }: Conclusion, out: Output): boolean {
  const rows = results.map(({ kind, files, bytesPerNode, before, after, lookupsPerSecond }) => [
    kind,
    ...[files, bytesPerNode, before / 2 ** 20, after / 2 ** 20, lookupsPerSecond].map(figure),
  ]);
  const titles = ['files', 'bytes a file', 'RSS before, MiB', 'RSS after, MiB', 'a second'];
  out.line(textTable({ columns: [{ title: 'looked up' }, ...right(titles)], rows }));
  if (idle.length > 0) {
    const columns = [{ title: `idle for ${idleSeconds} s` }, ...right(['daemon CPU s', 'RSS, MiB'])];
    const lines = idle.map(({ name, cpuSeconds, residentBytes }) => [
      name,
      cpuSeconds.toFixed(2),
      figure(residentBytes / 2 ** 20),
    ]);
    out.line(`\n${textTable({ columns, rows: lines })}`);
  }
  if (json !== undefined) writeFileSync(json, `${JSON.stringify({ machine, results, idleSeconds, idle, failures }, null, 2)}\n`);
  for (const failure of failures) out.warn(failure);
  // The memory filesystem's figure has the files in it, and the peer's is its own.
  const judged: readonly Kind[] = ['paths', 'passthrough'];
  const large = results.filter(({ kind, bytesPerNode }) => judged.includes(kind) && bytesPerNode >= NODE_BYTES_MAX);
  for (const { kind, bytesPerNode } of large)
    out.warn(`${kind}: ${Math.round(bytesPerNode)} bytes a file; the goal is under ${NODE_BYTES_MAX}`);
  // 0 % to a tenth of a per cent.
  const busy = idle.filter(({ cpuSeconds }) => cpuSeconds > idleSeconds / 1000);
  for (const { name, cpuSeconds } of busy)
    out.warn(`${name}: ${cpuSeconds.toFixed(2)} s of processor time while idle; the goal is none`);
  return failures.length + large.length + busy.length === 0;
}
