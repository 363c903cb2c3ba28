/**
 * Kills the master of a slot in the middle of 8 writers that call fsync, again and again: whatever fsync has answered for must be
 * there after the failover, whole, and the volume must be clean.
 *
 *     npm run failover -- --rounds 20 [--json]
 *
 * Real servers, a real mount, writers in a process of their own. Needs root (or fusermount3) and redis-server.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { checkVolume } from '../check.ts';
import { SLOTS, slotOf } from '../redis/slot.ts';
import { storeOf } from '../stores.ts';
import { LocalCluster } from '../testing/server.ts';
import { formatVolume, openVolume } from '../volume.ts';

const VOLUME = 'failover';
const WRITERS = 8;
const KILL_AFTER_MS = 800;
const DOWN_MS = 4000;
const AFTER_MS = 2500;
const CLI = fileURLToPath(new URL('../cli.js', import.meta.url));

/**
 * Runs in a process of its own. Each line of its output is what fsync has answered for: `file NAME SHA256` and
 * `log NAME RECORDS`.
 */
const WRITER = `
const { createHash, randomBytes } = require('node:crypto');
const fs = require('node:fs/promises');
const [folder, round, writers] = process.argv.slice(1);
let stopped = false;
process.stdin.on('data', () => { stopped = true; });
const say = (line) => process.stdout.write(line + '\\n');
async function writer(number) {
  const log = await fs.open(folder + '/log-' + number, 'a');
  for (let nth = 0; !stopped; nth++) {
    const name = 'r' + round + '-w' + number + '-' + nth;
    const data = randomBytes(1 + Math.floor(Math.random() * (nth % 4 === 0 ? 600000 : 20000)));
    try {
      const file = await fs.open(folder + '/' + name, 'w');
      try {
        for (let at = 0; at < data.length; at += 50000) await file.write(data.subarray(at, at + 50000));
        await file.sync();
        say('file ' + name + ' ' + createHash('sha256').update(data).digest('hex'));
      } finally {
        await file.close();
      }
      const record = Buffer.alloc(64, name + ' ');
      await log.write(record);
      await log.sync();
      say('log log-' + number + ' ' + name);
    } catch (error) {
      say('error ' + error.code + ' ' + name);
    }
  }
  await log.close();
}
Promise.all(Array.from({ length: Number(writers) }, (_, number) => writer(number))).then(() => process.exit(0));
`;

/** Runs in a process of its own too, on a mount that has cached nothing. Reads names, answers digests. */
const READER = `
const { createHash } = require('node:crypto');
const fs = require('node:fs');
const folder = process.argv[1];
require('node:readline').createInterface({ input: process.stdin }).on('line', (name) => {
  let answer;
  try { answer = name.startsWith('log-') ? fs.readFileSync(folder + '/' + name).toString('base64')
    : createHash('sha256').update(fs.readFileSync(folder + '/' + name)).digest('hex'); } catch (error) { answer = error.code; }
  process.stdout.write(name + ' ' + answer + '\\n');
});
`;

interface Round {
  readonly round: number;
  readonly killed: string;
  readonly files: number;
  readonly records: number;
  readonly errors: Readonly<Record<string, number>>;
  readonly longestMs: number;
  readonly wrong: readonly string[];
  readonly problems: readonly string[];
}

interface Acknowledged {
  readonly files: Map<string, string>;
  readonly records: Map<string, string[]>;
  readonly errors: Record<string, number>;
  longestMs: number;
}

class Mounted {
  readonly path: string;
  readonly #child: ChildProcess;

  private constructor(path: string, child: ChildProcess) {
    this.path = path;
    this.#child = child;
  }

  static async start(path: string, nodes: readonly string[]): Promise<Mounted> {
    mkdirSync(path, { recursive: true });
    const argv = [CLI, 'mount', VOLUME, path, '--nodes', nodes.join(','), '--lease', '3s', '--timeout', '60s', '--json'];
    const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = await Promise.race([
      once(createInterface({ input: child.stdout }), 'line'),
      once(child, 'exit').then(() => Promise.reject(new Error('the mount did not start'))),
    ]);
    if (!String(line).includes('mountpoint')) throw new Error(`the mount did not start: ${line}`);
    return new Mounted(path, child);
  }

  async end(): Promise<void> {
    const gone = this.#child.exitCode === null ? once(this.#child, 'exit') : undefined;
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 20_000);
    await gone;
    clearTimeout(timer);
  }
}

/** Writes while the master dies. */
async function writeThrough(local: LocalCluster, round: number, path: string): Promise<Acknowledged & { killed: string }> {
  const answered: Acknowledged = { files: new Map(), records: new Map(), errors: {}, longestMs: 0 };
  const child = spawn(process.execPath, ['-e', WRITER, path, String(round), String(WRITERS)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, UV_THREADPOOL_SIZE: String(WRITERS) },
  });
  let last = performance.now();
  createInterface({ input: child.stdout }).on('line', (line) => {
    const [kind, name, rest] = line.split(' ');
    answered.longestMs = Math.max(answered.longestMs, performance.now() - last);
    last = performance.now();
    if (kind === 'file') answered.files.set(name, rest);
    else if (kind === 'log') answered.records.set(name, [...(answered.records.get(name) ?? []), rest]);
    else answered.errors[name] = (answered.errors[name] ?? 0) + 1;
  });
  const ended = once(child, 'exit');
  await sleep(KILL_AFTER_MS + Math.random() * KILL_AFTER_MS);
  // Half of the time the master of the metadata, else that of a third of all blocks.
  const slot = round % 2 === 0 ? slotOf(`{${VOLUME}}`) : Math.floor(Math.random() * SLOTS);
  const victim = await local.masterOf(slot);
  await local.kill(victim);
  await sleep(DOWN_MS);
  local.restart(victim);
  await sleep(AFTER_MS);
  child.stdin.write('stop\n');
  const timer = setTimeout(() => child.kill('SIGKILL'), 90_000);
  await ended;
  clearTimeout(timer);
  await local.ready(60_000);
  return { ...answered, killed: `${victim.address}${slot === slotOf(`{${VOLUME}}`) ? ' (metadata)' : ''}` };
}

/** What of all that was answered for, in this round and before, is not there as it was. */
async function verify(path: string, answered: Acknowledged): Promise<string[]> {
  const child = spawn(process.execPath, ['-e', READER, path], { stdio: ['pipe', 'pipe', 'inherit'] });
  const wrong: string[] = [];
  let left = answered.files.size + answered.records.size;
  const done = new Promise<void>((resolve, reject) => {
    if (left === 0) resolve();
    child.once('exit', () => reject(new Error('the reader ended')));
    createInterface({ input: child.stdout }).on('line', (line) => {
      const [name, answer] = line.split(' ');
      const digest = answered.files.get(name);
      if (digest !== undefined && digest !== answer) wrong.push(`${name}: ${answer} instead of ${digest}`);
      const records = answered.records.get(name);
      if (records !== undefined) {
        const text = Buffer.from(answer, 'base64').toString();
        const missing = records.filter((record) => !text.includes(`${record} `));
        if (missing.length > 0) wrong.push(`${name}: without ${missing.join(', ')}`);
      }
      if (--left === 0) resolve();
    });
  });
  child.stdin.write([...answered.files.keys(), ...answered.records.keys()].map((name) => `${name}\n`).join(''));
  const timer = setTimeout(() => child.kill('SIGKILL'), 120_000);
  await done.finally(() => clearTimeout(timer));
  child.kill();
  return wrong;
}

async function runRound(local: LocalCluster, round: number, folder: string, all: Acknowledged): Promise<Round> {
  const writing = await Mounted.start(join(folder, 'mnt'), local.addresses);
  const written = await writeThrough(local, round, writing.path).finally(() => writing.end());
  for (const [name, digest] of written.files) all.files.set(name, digest);
  for (const [name, records] of written.records) all.records.set(name, [...(all.records.get(name) ?? []), ...records]);
  const reading = await Mounted.start(join(folder, 'mnt'), local.addresses);
  const wrong = await verify(reading.path, all).finally(() => reading.end());
  const volume = await openVolume({ nodes: local.addresses }, VOLUME);
  const report = await checkVolume(volume, storeOf(volume, { replicas: 0, waitMs: 0 })).finally(() => volume.cluster.close());
  return {
    round,
    killed: written.killed,
    files: written.files.size,
    records: [...written.records.values()].reduce((sum, records) => sum + records.length, 0),
    errors: written.errors,
    longestMs: Math.round(written.longestMs),
    wrong,
    problems: report.problems.map(({ kind, message }) => `${kind}: ${message}`),
  };
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { rounds: { type: 'string', default: '20' }, json: { type: 'boolean', default: false } },
  });
  const folder = mkdtempSync(join(tmpdir(), 'clusterfs-failover-'));
  const local = await LocalCluster.start({ nodeTimeoutMs: 1000 });
  const all: Acknowledged = { files: new Map(), records: new Map(), errors: {}, longestMs: 0 };
  let failed = 0;
  try {
    await formatVolume({ nodes: local.addresses }, VOLUME);
    for (let round = 0; round < Number(values.rounds); round++) {
      const result = await runRound(local, round, folder, all);
      const bad = result.wrong.length + result.problems.length;
      if (bad > 0) failed++;
      const { killed, files, records, longestMs, errors } = result;
      const text = `round ${round}: killed ${killed}; ${files} files and ${records} records answered for, longest pause ${longestMs} ms, errors ${JSON.stringify(errors)}; ${bad === 0 ? 'all there, fsck clean' : [...result.wrong, ...result.problems].join('; ')}`;
      process.stdout.write(values.json ? `${JSON.stringify(result)}\n` : `${text}\n`);
    }
  } finally {
    await local.stop();
    rmSync(folder, { recursive: true, force: true });
  }
  process.stdout.write(`${values.rounds} rounds, ${failed} with losses\n`);
  return failed === 0 ? 0 : 1;
}

process.exitCode = await main();
