/** Runs targets over frames by the million, and makes the smallest case of what it finds. */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { checkCase, watchStrays } from './check.ts';
import { type Frame, toHex } from './frame.ts';
import { Random } from './random.ts';
import { keyOf, shrink } from './shrink.ts';
import type { Target } from './target.ts';

export interface RunOptions {
  readonly frames: number;
  readonly seed: number;
  /** Goes on after a finding, to the next case. */
  readonly keepGoing?: boolean;
  readonly print?: (line: string) => void;
}

export interface RunOutcome {
  readonly frames: number;
  readonly findings: number;
  readonly seconds: number;
}

/** Out of a hundred frames, how many go to a target. */
const SHARES: Readonly<Record<string, number>> = {
  messages: 44,
  codecs: 12,
  records: 10,
  connection: 12,
  session: 21,
  init: 0.5,
  traces: 0.5,
};

/** A case of its own seed, so that it can be made again without those before it. */
function seedOf(run: number, target: string, index: number): number {
  let seed = Math.imul(run, 0x9e37_79b1) ^ Math.imul(index + 1, 0xc2b2_ae3d);
  for (const letter of target) seed = Math.imul(seed ^ letter.charCodeAt(0), 0x85eb_ca77);
  return seed >>> 0;
}

let collect: (() => void) | undefined;

/** Bytes of the heap and of buffers that are in use, after what is garbage has gone. */
async function heapBytes(): Promise<number> {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
  }
  // Buffers of streams are let go by callbacks of the engine, some turns after the first collection.
  for (let round = 0; round < 3; round++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

export async function run(targets: readonly Target[], options: RunOptions): Promise<RunOutcome> {
  const print = options.print ?? (() => {});
  const shares = targets.reduce((sum, { name }) => sum + (SHARES[name] ?? 10), 0);
  print(`seed ${options.seed}`);
  const begin = performance.now();
  const unwatch = watchStrays();
  let frames = 0;
  let findings = 0;
  for (const target of targets) {
    const share = Math.round((options.frames * (SHARES[target.name] ?? 10)) / shares);
    const result = await runTarget(target, share, { ...options, print });
    frames += result.frames;
    findings += result.findings;
  }
  unwatch();
  const seconds = (performance.now() - begin) / 1000;
  print(
    `${frames} frames in ${seconds.toFixed(1)} s, ${Math.round(frames / seconds)} a second, ${findings} findings, seed ${options.seed}`,
  );
  return { frames, findings, seconds };
}

interface TargetRun extends RunOptions {
  readonly print: (line: string) => void;
}

async function runTarget(target: Target, share: number, options: TargetRun): Promise<{ frames: number; findings: number }> {
  const begin = performance.now();
  const seen = new Map<string, number>();
  let frames = 0;
  let baseline = 0;
  await target.prepare?.();
  for (let round = 0; frames < share; round++) {
    const count = Math.min(target.caseFrames, share - frames);
    const made = target.generate(new Random(seedOf(options.seed, target.name, round)), count);
    frames += count;
    try {
      await checkCase(target, made);
    } catch (error) {
      const key = keyOf(error);
      const times = (seen.get(key) ?? 0) + 1;
      seen.set(key, times);
      if (times === 1) await report(target, made, error, options.print);
      if (!options.keepGoing) return { frames, findings: seen.size };
    }
    // The first cases fill caches and pools.
    if (baseline === 0 && frames > share / 5) baseline = await heapBytes();
  }
  const growth = (await heapBytes()) - baseline;
  const seconds = (performance.now() - begin) / 1000;
  options.print(
    `${target.name}: ${frames} frames in ${seconds.toFixed(1)} s, ${Math.round(frames / seconds)} a second, heap ${growth >= 0 ? '+' : ''}${(growth / 1024).toFixed(0)} KiB`,
  );
  if (growth > HEAP_GROWTH_MAX) {
    options.print(`FINDING ${target.name}: memory grew by ${growth} bytes over ${frames} frames`);
    seen.set('memory', 1);
  }
  for (const [key, times] of seen) if (times > 1) options.print(`  ${times} cases: ${key}`);
  return { frames, findings: seen.size };
}

/** What a run may hold more at its end than after its first fifth; compiled code and caches of the engine move by this much. */
const HEAP_GROWTH_MAX = 8 * 1024 * 1024;

async function report(target: Target, frames: readonly Frame[], error: unknown, print: (line: string) => void): Promise<void> {
  const smallest = await shrink(target, frames, keyOf(error));
  print(`FINDING ${target.name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  print(JSON.stringify({ target: target.name, about: keyOf(error), frames: smallest.map(toHex) }));
}
