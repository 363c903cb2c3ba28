#!/usr/bin/env node
import { subscribe } from 'node:diagnostics_channel';
/** clusterfs on the command line. */
import { parseArgs } from 'node:util';
import { FAULT_CHANNEL, type Fault, mount } from 'fusewire';
import { checkVolume } from './check.ts';
import { ClusterfsError } from './errors.ts';
import { ClusterFilesystem } from './filesystem.ts';
import { collectVolume } from './gc.ts';
import type { MountOptions } from './options.ts';
import type { ClusterOptions } from './redis/cluster.ts';
import { storeOf } from './stores.ts';
import { LocalCluster } from './testing/server.ts';
import { formatVolume, openVolume, type Volume, volumeStatus } from './volume.ts';

const HELP = `clusterfs: a network filesystem over Redis Cluster

  clusterfs format VOLUME [--block-size 64k] [--store redis|s3] [--force]
  clusterfs mount  VOLUME MOUNTPOINT [mount options]
  clusterfs status VOLUME
  clusterfs fsck   VOLUME [--repair] [--no-blocks]
  clusterfs gc     VOLUME [--grace 60s] [--no-orphans] [--dry-run]
  clusterfs local                 starts a cluster of 3 masters and 3 replicas on this machine, for trying it out

  Everywhere
    --nodes HOST:PORT,...         nodes of the cluster; one is enough. Default CLUSTERFS_NODES, else 127.0.0.1:6379
    --user NAME, --password WORD  default CLUSTERFS_USER, CLUSTERFS_PASSWORD
    --tls                         speak TLS
    --node-map A:1=B:2,...        reach nodes by other addresses than they announce
    --timeout 30s                 how long an operation is tried before it fails
    --json                        answers as JSON

  mount
    --wait 1                      replicas that fsync waits for; 0: none
    --wait-timeout 10s            after which fsync fails when they have not confirmed
    --lease 15s                   after which others take the locks of a mount that is silent
    --cache 256m                  blocks kept in memory
    --dirty 64m                   written and not yet published, at most
    -o OPTIONS                    mount(8) options; default allow_other (as root), default_permissions

  Exit codes: 0; 1 it failed; 2 fsck found damage that is not mended; 64 wrong usage.
`;

const USAGE = 64;
const DAMAGE = 2;

const OPTIONS = {
  nodes: { type: 'string' },
  user: { type: 'string' },
  password: { type: 'string' },
  tls: { type: 'boolean' },
  'node-map': { type: 'string' },
  timeout: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  'block-size': { type: 'string' },
  store: { type: 'string' },
  force: { type: 'boolean' },
  repair: { type: 'boolean' },
  'no-blocks': { type: 'boolean' },
  grace: { type: 'string' },
  'no-orphans': { type: 'boolean' },
  'dry-run': { type: 'boolean' },
  wait: { type: 'string' },
  'wait-timeout': { type: 'string' },
  lease: { type: 'string' },
  cache: { type: 'string' },
  dirty: { type: 'string' },
  options: { type: 'string', short: 'o' },
} as const;

type Values = ReturnType<typeof parse>['values'];

function parse(argv: string[]) {
  return parseArgs({ args: argv, options: OPTIONS, allowPositionals: true, strict: true });
}

const SIZES: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 };
const TIMES: Readonly<Record<string, number>> = { '': 1, ms: 1, s: 1000, m: 60_000 };

function quantity(name: string, text: string | undefined, units: Readonly<Record<string, number>>): number | undefined {
  if (text === undefined) return undefined;
  const [, digits, unit = ''] = /^(\d+)([a-z]*)$/i.exec(text) ?? [];
  const factor = units[unit.toLowerCase()];
  if (digits === undefined || factor === undefined) {
    throw new ClusterfsError(
      'ERR_CLUSTERFS_OPTION',
      `--${name} takes a number with one of ${Object.keys(units).filter(Boolean).join(', ')}, not ${text}`,
    );
  }
  return Number(digits) * factor;
}

/** Drops what was not given: an option that is there and undefined is not the same as one that is not there. */
function given<T extends object>(values: T): { [Name in keyof T]: Exclude<T[Name], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as never;
}

function addressMap(text: string | undefined): Record<string, string> | undefined {
  if (text === undefined) return undefined;
  const pairs = text.split(',').map((pair) => pair.split('='));
  if (pairs.some((pair) => pair.length !== 2))
    throw new ClusterfsError('ERR_CLUSTERFS_OPTION', `--node-map takes A:1=B:2,..., not ${text}`);
  return Object.fromEntries(pairs);
}

function clusterOf(values: Values): ClusterOptions {
  const { env } = process;
  return {
    nodes: (values.nodes ?? env.CLUSTERFS_NODES ?? '127.0.0.1:6379').split(','),
    ...given({
      username: values.user ?? env.CLUSTERFS_USER,
      password: values.password ?? env.CLUSTERFS_PASSWORD,
      tls: values.tls,
      nodeAddressMap: addressMap(values['node-map'] ?? env.CLUSTERFS_NODE_MAP),
      commandMs: quantity('timeout', values.timeout, TIMES),
    }),
  };
}

function print(values: Values, object: object, lines: readonly string[]): void {
  process.stdout.write(values.json ? `${JSON.stringify(object)}\n` : lines.map((line) => `${line}\n`).join(''));
}

type Command = (values: Values, words: readonly string[]) => Promise<number>;

async function format(values: Values, [name]: readonly string[]): Promise<number> {
  const { store } = values;
  if (store !== undefined && store !== 'redis' && store !== 's3')
    throw new ClusterfsError('ERR_CLUSTERFS_OPTION', `--store ${store}`);
  const blockBytes = quantity('block-size', values['block-size'], SIZES);
  const description = await formatVolume(clusterOf(values), name, given({ blockBytes, store, force: values.force }));
  print(values, description, [`${name} is ready: blocks of ${description.blockBytes} bytes, format ${description.format}`]);
  return 0;
}

function mountOptions(values: Values): MountOptions {
  return given({
    replicas: quantity('wait', values.wait, { '': 1 }),
    waitMs: quantity('wait-timeout', values['wait-timeout'], TIMES),
    leaseMs: quantity('lease', values.lease, TIMES),
    cacheBytes: quantity('cache', values.cache, SIZES),
    dirtyBytes: quantity('dirty', values.dirty, SIZES),
  });
}

/** One line on standard error for each kind of trouble in a second, so that an outage does not fill a disk. */
function tell(error: Error): void {
  const code = error instanceof ClusterfsError ? error.code : error.name;
  const second = Math.floor(performance.now() / 1000);
  if (told.get(code) === second) return;
  told.set(code, second);
  process.stderr.write(`clusterfs: ${code}: ${error.message}\n`);
}

const told = new Map<string, number>();

async function mountVolume(values: Values, [name, mountpoint]: readonly string[]): Promise<number> {
  const volume = await openVolume(clusterOf(values), name);
  const filesystem = await ClusterFilesystem.open(volume, { ...mountOptions(values), info: { mountpoint }, onFault: tell });
  subscribe(FAULT_CHANNEL, (fault) => {
    const { kind, operation, message } = fault as Fault;
    process.stderr.write(`clusterfs: ${kind}: ${operation}: ${message}\n`);
  });
  const root = process.getuid?.() === 0;
  try {
    const mounted = await mount(filesystem, mountpoint, {
      name,
      subtype: 'clusterfs',
      mountOptions: values.options ?? `${root ? 'allow_other,' : ''}default_permissions`,
    });
    print(values, { mountpoint: mounted.mountpoint, connection: mounted.connection }, [
      `mounted ${name} on ${mounted.mountpoint}`,
    ]);
    await mounted.closed;
    return 0;
  } catch (error) {
    await filesystem.destroy();
    throw error;
  }
}

async function withVolume(values: Values, name: string, run: (volume: Volume) => Promise<number>): Promise<number> {
  const volume = await openVolume(clusterOf(values), name);
  try {
    return await run(volume);
  } finally {
    volume.cluster.close();
  }
}

async function status(values: Values, [name]: readonly string[]): Promise<number> {
  return await withVolume(values, name, async (volume) => {
    const found = await volumeStatus(volume);
    const { description, inodes, bytes, garbage, deadFiles, sessions } = found;
    print(values, found, [
      `${name}: format ${description.format}, blocks of ${description.blockBytes} bytes in ${description.store}, made ${description.madeAt}`,
      `${inodes} files, ${bytes} bytes; ${garbage} blocks and ${deadFiles} removed files wait to be collected`,
      ...sessions.map(
        ({ session, leaseMs, info, openFiles, lockedFiles }) =>
          `session ${session}: ${info.host} ${info.pid} ${info.mountpoint ?? info.purpose ?? ''}, lease ${leaseMs} ms, ${openFiles} open, ${lockedFiles} locked`,
      ),
    ]);
    return 0;
  });
}

async function fsck(values: Values, [name]: readonly string[]): Promise<number> {
  return await withVolume(values, name, async (volume) => {
    const store = storeOf(volume, { replicas: 0, waitMs: 0 });
    const options = given({ repair: values.repair, blocks: values['no-blocks'] ? false : undefined });
    const report = await checkVolume(volume, store, options);
    const left = report.problems.filter(({ repaired }) => !repaired);
    print(values, report, [
      ...report.problems.map(({ kind, message, repaired }) => `${kind}: ${message}${repaired ? ' (mended)' : ''}`),
      `${report.directories} directories, ${report.files} files, ${report.blocks} blocks: ${left.length === 0 ? 'clean' : `${left.length} problems`}`,
    ]);
    return left.length === 0 ? 0 : DAMAGE;
  });
}

async function gc(values: Values, [name]: readonly string[]): Promise<number> {
  return await withVolume(values, name, async (volume) => {
    const store = storeOf(volume, { replicas: 0, waitMs: 0 });
    const graceMs = quantity('grace', values.grace, TIMES);
    const orphans = values['no-orphans'] ? false : undefined;
    const report = await collectVolume(volume, store, given({ graceMs, orphans, dryRun: values['dry-run'] }));
    print(values, report, [
      `${values['dry-run'] ? 'would remove' : 'removed'} ${report.garbage} blocks of garbage, ${report.orphans} orphans, ${report.stale} of older volumes; ${report.used} are in use`,
    ]);
    return 0;
  });
}

async function local(values: Values): Promise<number> {
  const cluster = await LocalCluster.start(given({ password: values.password }));
  const nodes = cluster.addresses.join(',');
  print(values, { nodes }, [`export CLUSTERFS_NODES=${nodes}`, '# Ctrl+C ends it, with all that is in it.']);
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve());
    setInterval(() => {}, 1 << 30);
  });
  await cluster.stop();
  process.exit(0);
}

const COMMANDS: Readonly<Record<string, readonly [run: Command, words: number]>> = {
  format: [format, 1],
  mount: [mountVolume, 2],
  status: [status, 1],
  fsck: [fsck, 1],
  gc: [gc, 1],
  local: [local, 0],
};

async function main(): Promise<number> {
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`clusterfs: ${(error as Error).message}\n`);
    return USAGE;
  }
  const { values, positionals } = parsed;
  const [name = '', ...words] = positionals;
  const [run, count] = COMMANDS[name] ?? [];
  if (values.help || run === undefined || words.length !== count) {
    (values.help ? process.stdout : process.stderr).write(HELP);
    return values.help ? 0 : USAGE;
  }
  try {
    return await run(values, words);
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    process.stderr.write(
      values.json ? `${JSON.stringify({ code, message })}\n` : `clusterfs: ${code === undefined ? '' : `${code}: `}${message}\n`,
    );
    return code === 'ERR_CLUSTERFS_OPTION' ? USAGE : 1;
  }
}

process.exitCode = await main();
