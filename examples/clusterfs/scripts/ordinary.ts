/**
 * What people do in a folder, on clusterfs and beside it: git clone, npm install, and a C compile, with their times.
 *
 *     npm run ordinary -- --repository FOLDER [--round-trip 1] [--rounds 3] [--package memfs@4.80.1]
 *
 * Native is a folder in memory, passthrough is that folder through fusewire; clusterfs talks to its cluster through a proxy that adds the
 * round-trip time. Rounds are interleaved; shown are median, least and most.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type LatencyProxy, latencyProxy } from 'fusewire/testing';
import { LocalCluster } from '../testing/server.ts';
import { formatVolume } from '../volume.ts';

const CLI = fileURLToPath(new URL('../cli.js', import.meta.url));
const FUSEWIRE = join(dirname(fileURLToPath(import.meta.resolve('fusewire/package.json'))), 'dist/src/cli/main.js');
const STEP_MS = 300_000;

interface Place {
  readonly name: string;
  readonly path: string;
  end(): Promise<void>;
}

interface Task {
  readonly name: string;
  readonly argv: (place: string) => readonly string[];
}

/** Runs one program to its end; answers how long it took, milliseconds. */
async function timed(argv: readonly string[]): Promise<number> {
  const begin = performance.now();
  const child = spawn(argv[0], argv.slice(1), { stdio: ['ignore', 'ignore', 'pipe'], cwd: '/' });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), STEP_MS);
  const [code] = await once(child, 'close');
  clearTimeout(timer);
  if (code !== 0) throw new Error(`${argv.join(' ')} ended with ${code}: ${errors.slice(-2000)}`);
  return performance.now() - begin;
}

/** A daemon with its mount. */
async function mounted(name: string, path: string, argv: readonly string[]): Promise<Place> {
  mkdirSync(path, { recursive: true });
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  const started = once(createInterface({ input: child.stdout }), 'line');
  await Promise.race([started, once(child, 'exit').then(() => Promise.reject(new Error(`${name} did not start`)))]);
  return {
    name,
    path,
    async end() {
      const gone = once(child, 'exit');
      child.kill('SIGTERM');
      await gone;
    },
  };
}

function tasksOf(repository: string, packageName: string): Task[] {
  const compile = 'cd "$1/clone" && for f in bench/null/*.c test/clients/*/*.c; do cc -O1 -w -c -o "$f.o" "$f" || exit 1; done';
  return [
    { name: 'git clone', argv: (place) => ['git', 'clone', '-q', '--no-hardlinks', repository, join(place, 'clone')] },
    { name: 'git status, cold', argv: (place) => ['git', '-C', join(place, 'clone'), 'status', '--porcelain'] },
    {
      name: `npm install ${packageName}`,
      argv: (place) => [
        ...[
          'npm',
          'install',
          '--prefix',
          join(place, 'package'),
          '--prefer-offline',
          '--no-audit',
          '--no-fund',
          '--ignore-scripts',
        ],
        packageName,
      ],
    },
    { name: 'cc of the C files', argv: (place) => ['sh', '-c', compile, 'sh', place] },
    { name: 'rm -r', argv: (place) => ['rm', '-r', join(place, 'clone'), join(place, 'package')] },
  ];
}

const shown = (times: readonly number[]): string => {
  const sorted = [...times].sort((one, other) => one - other).map((ms) => (ms / 1000).toFixed(2));
  return `${sorted[Math.floor(sorted.length / 2)]} (${sorted[0]}–${sorted[sorted.length - 1]})`;
};

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      repository: { type: 'string' },
      'round-trip': { type: 'string', default: '1' },
      rounds: { type: 'string', default: '3' },
      package: { type: 'string', default: 'memfs@4.80.1' },
    },
  });
  if (values.repository === undefined) throw new Error('--repository names a git repository to clone');
  const roundTripMs = Number(values['round-trip']);
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'clusterfs-ordinary-'));
  const local = await LocalCluster.start();
  const proxies: LatencyProxy[] = [];
  const places: Place[] = [];
  // Servers and the proxies' thread do not keep a process alive.
  const alive = setInterval(() => {}, STEP_MS);
  try {
    const map: string[] = [];
    for (const { host, port, address } of local.nodes) {
      const proxy = await latencyProxy({ target: { host, port }, roundTripMs });
      proxies.push(proxy);
      map.push(`${address}=${proxy.host}:${proxy.port}`);
    }
    await formatVolume({ nodes: local.addresses }, 'ordinary');
    const nodes = local.addresses.join(',');
    const native = join(folder, 'native');
    const beneath = join(folder, 'beneath');
    for (const path of [native, beneath]) mkdirSync(path);
    places.push({ name: 'native (memory)', path: native, end: async () => {} });
    const through = join(folder, 'passthrough');
    places.push(await mounted('passthrough', through, [FUSEWIRE, 'passthrough', beneath, through]));
    const cluster = join(folder, 'clusterfs');
    const argv = [CLI, 'mount', 'ordinary', cluster, '--nodes', nodes, '--node-map', map.join(',')];
    places.push(await mounted(`clusterfs at ${roundTripMs} ms`, cluster, argv));
    await measure(places, tasksOf(values.repository, values.package), Number(values.rounds));
  } finally {
    for (const place of places) await place.end();
    for (const proxy of proxies) await proxy.close();
    await local.stop();
    rmSync(folder, { recursive: true, force: true });
    clearInterval(alive);
  }
}

async function measure(places: readonly Place[], tasks: readonly Task[], rounds: number): Promise<void> {
  const times = new Map<string, number[]>();
  for (let round = 0; round < rounds; round++) {
    for (const place of places) {
      for (const task of tasks) {
        const key = `${task.name}|${place.name}`;
        times.set(key, [...(times.get(key) ?? []), await timed(task.argv(place.path))]);
      }
    }
  }
  process.stdout.write(`| seconds, median (least–most) of ${rounds} | ${places.map(({ name }) => name).join(' | ')} |\n`);
  process.stdout.write(`|---|${places.map(() => '---:|').join('')}\n`);
  for (const task of tasks) {
    const row = places.map((place) => shown(times.get(`${task.name}|${place.name}`) as number[]));
    process.stdout.write(`| ${task.name} | ${row.join(' | ')} |\n`);
  }
}

await main();
