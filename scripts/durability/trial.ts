/**
 * One trial of durability: writers over a passthrough, which is killed at a random moment, and the comparison of what they were
 * promised with what lies in the source.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const CLI = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url));
const FILE_BYTES = 1 << 20;
/** For what is no test of speed: a busy machine may take its time. */
const PATIENCE_MS = 180_000;

export interface Configuration {
  readonly name: string;
  readonly options: readonly string[];
}

/** Without backing files: what the kernel writes itself outlives the daemon, and its writers would never notice the kill. */
export const CONFIGURATIONS: readonly Configuration[] = [
  { name: '4 workers, blocking', options: ['--workers', '4', '--mode', 'blocking', '--no-backing'] },
  { name: '4 workers, blocking, writeback', options: ['--workers', '4', '--mode', 'blocking', '--writeback'] },
  { name: '1 worker, event', options: ['--workers', '1', '--mode', 'event', '--no-backing'] },
  { name: '1 worker, event, writeback', options: ['--workers', '1', '--mode', 'event', '--writeback'] },
];

const WAYS = ['fsync', 'fdatasync', 'dsync', 'direct', 'msync', 'rename'] as const;
type Way = (typeof WAYS)[number];

export interface TrialResult {
  /** Ranges and files that were promised before the kill. */
  promised: number;
  bytes: number;
  /** What of them is not there. */
  lost: string[];
}

interface Writer {
  readonly way: Way;
  readonly child: ChildProcess;
  output: string;
  /** Settles with its first promise, or its end. */
  readonly promised: Promise<void>;
  readonly ended: Promise<void>;
}

/** A folder to try in, below `over`; the same mount point for every trial, so that each starts over the dead mount of the last. */
export class Stage {
  readonly folder: string;
  readonly mountpoint: string;
  readonly #writerProgram: string;
  #trials = 0;

  constructor(over: string, compile: (folder: string) => string) {
    this.folder = mkdtempSync(join(over, 'fusewire-durability-'));
    chmodSync(this.folder, 0o755);
    this.mountpoint = join(this.folder, 'mnt');
    mkdirSync(this.mountpoint);
    // Not below a tmpfs that may be mounted noexec.
    this.#writerProgram = compile(this.folder);
  }

  /** Kills the daemon `killAfterMs` after each writer was promised something. */
  async trial(configuration: Configuration, killAfterMs: number, seed: number): Promise<TrialResult> {
    const source = join(this.folder, `source-${++this.#trials}`);
    mkdirSync(source);
    const daemon = spawn(process.execPath, [CLI, 'passthrough', source, this.mountpoint, ...configuration.options], {
      cwd: '/',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const daemonEnded = new Promise<void>((resolve) => daemon.once('exit', () => resolve()));
    const writers: Writer[] = [];
    try {
      await mounted(daemon);
      for (const way of WAYS) writers.push(this.#write(way, seed + writers.length));
      await within(Promise.all(writers.map(({ promised }) => promised)), 'every writer was promised something');
      await sleep(killAfterMs);
    } finally {
      daemon.kill('SIGKILL');
      await daemonEnded;
    }
    await within(Promise.all(writers.map((writer) => writer.ended)), 'the writers end');
    const result: TrialResult = { promised: 0, bytes: 0, lost: [] };
    for (const writer of writers) check(source, writer, result);
    rmSync(source, { recursive: true });
    return result;
  }

  #write(way: Way, seed: number): Writer {
    const child = spawn(this.#writerProgram, [this.mountpoint, way, way, String(seed)], {
      cwd: '/',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
    let first: () => void;
    const promised = new Promise<void>((resolve) => {
      first = resolve;
    });
    const writer: Writer = { way, child, output: '', promised: Promise.race([promised, ended]), ended };
    child.stdout?.setEncoding('latin1').on('data', (text: string) => {
      writer.output += text;
      if (/kept|named/.test(text)) first();
    });
    return writer;
  }

  end(): void {
    if (existsSync(this.mountpoint)) spawnSync('umount', ['-l', '-c', this.mountpoint]);
    else spawnSync('umount', ['-l', this.mountpoint]);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function mounted(daemon: ChildProcess): Promise<void> {
  return within(
    new Promise((resolve, reject) => {
      let said = '';
      const listen = (text: string) => {
        said += text;
        if (said.includes('mounted')) resolve();
      };
      daemon.stdout?.setEncoding('utf8').on('data', listen);
      daemon.stderr?.setEncoding('utf8').on('data', listen);
      daemon.once('exit', (code) => reject(new Error(`the daemon ended with ${code}: ${said}`)));
    }),
    'the mount comes up',
  );
}

async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  const stop = new AbortController();
  const late = sleep(PATIENCE_MS, undefined, { signal: stop.signal }).then(() => {
    throw new Error(`${what}: not within ${PATIENCE_MS} ms`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([promise, late]);
  } finally {
    stop.abort();
  }
}

/** As in test/clients/faults/writer.c. */
function patternByte(sequence: number, i: number): number {
  return (Math.imul(sequence, 167) + Math.imul(i, 31) + Math.imul(i >>> 8, 17) + Math.imul(i >>> 16, 101)) & 0xff;
}

function check(source: string, writer: Writer, result: TrialResult): void {
  // A line that was cut off by the end of the writer was not said.
  const lines = writer.output.split('\n').slice(0, -1);
  const words = lines.map((line) => line.split(' '));
  if (writer.way === 'rename') checkNamed(source, words, result);
  else checkRanges(source, writer.way, words, result);
}

function checkNamed(source: string, lines: readonly string[][], result: TrialResult): void {
  for (const [word, sequence, length] of lines) {
    if (word !== 'named') continue;
    result.promised++;
    result.bytes += Number(length);
    const path = join(source, `rename-${sequence}`);
    const bytes = existsSync(path) ? readFileSync(path) : undefined;
    if (bytes?.length !== Number(length)) {
      result.lost.push(`rename-${sequence} has ${bytes?.length ?? 'no'} bytes of ${length}`);
      continue;
    }
    const wrong = bytes.findIndex((byte, i) => byte !== patternByte(Number(sequence), i));
    if (wrong >= 0) result.lost.push(`rename-${sequence} differs at ${wrong}`);
  }
}

/** Which sequence each byte has to be of: the last one kept there. Bytes of the range that was under way may be either's. */
function checkRanges(source: string, way: Way, lines: readonly string[][], result: TrialResult): void {
  const owner = new Uint32Array(FILE_BYTES);
  let open: { sequence: number; offset: number; length: number } | undefined;
  let kept = 0;
  for (const [word, ...numbers] of lines) {
    const [sequence, offset, length] = numbers.map(Number);
    if (word === 'begin') open = { sequence, offset, length };
    else if (word === 'kept' && open !== undefined) {
      owner.fill(open.sequence, open.offset, open.offset + open.length);
      result.promised++;
      result.bytes += open.length;
      kept++;
      open = undefined;
    }
  }
  if (kept === 0) return;
  const bytes = readFileSync(join(source, way));
  if (bytes.length !== FILE_BYTES) {
    result.lost.push(`${way} has ${bytes.length} bytes`);
    return;
  }
  for (let i = 0; i < FILE_BYTES; i++) {
    const expected = owner[i] === 0 ? 0 : patternByte(owner[i], i);
    if (bytes[i] === expected) continue;
    const isUnderWay = open !== undefined && i >= open.offset && i < open.offset + open.length;
    if (isUnderWay && bytes[i] === patternByte(open!.sequence, i)) continue;
    result.lost.push(`${way} differs at ${i}: ${bytes[i]} instead of ${expected}, which range ${owner[i]} had kept`);
    return;
  }
}
