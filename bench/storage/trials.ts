/** Single questions to the storage layer, each with its own daemons. */
import { join } from 'node:path';
import { run } from '../harness/children.ts';
import type { Daemon } from '../harness/daemon.ts';
import type { Output } from '../harness/output.ts';
import { type Ratio, ratio, rotated } from '../harness/statistics.ts';
import { fioCommand, parseFio } from '../rows/tools.ts';
import { BlockClient } from './client.ts';
import { FILE_BYTES, type Layer, Listener, ourDaemon, type Plan } from './stage.ts';

const LIMIT_MS = 60_000;
const ROUND_TRIP_MS = 5;
const BYTES_PER_SECOND = 200_000_000;

/** Sequential reads through a link of some bandwidth. */
export interface Bandwidth {
  readonly layer: Layer;
  readonly block: string;
  /** Of the link's. */
  readonly share: number;
}

async function perSecond(
  plan: Plan,
  daemon: Daemon,
  load: { rw: 'read' | 'randread'; block: string; depth: number },
): Promise<{ operations: number; bytes: number }> {
  const whole = { ...load, buffered: false };
  const argv = fioCommand(plan.fio, whole, join(daemon.mountPoint, 'data'), FILE_BYTES, Math.max(plan.seconds, 1));
  const { operations, bytes, seconds } = parseFio((await run(argv, { timeoutMs: LIMIT_MS })).stdout, whole);
  daemon.assertAlive();
  return { operations: operations / seconds, bytes: bytes / seconds };
}

/** One reader with one large direct read at a time: what limits it? */
export async function bandwidth(plan: Plan, folder: string, server: Listener, out: Output): Promise<Bandwidth[]> {
  const found: Bandwidth[] = [];
  const proxy = await Listener.start('proxy', [server.port, ROUND_TRIP_MS, BYTES_PER_SECOND]);
  try {
    for (const layer of ['merged', 'unmerged'] as const) {
      const mount = join(folder, `bandwidth-${layer}`);
      const daemon = await ourDaemon({ layer, asyncDio: true, mount, bytes: FILE_BYTES, port: proxy.port });
      try {
        for (const block of ['1m', '4m', '16m']) {
          out.status(`sequential reads of ${block}, ${layer}`);
          const { bytes } = await perSecond(plan, daemon, { rw: 'read', block, depth: 1 });
          found.push({ layer, block, share: bytes / BYTES_PER_SECOND });
        }
      } finally {
        await daemon.stop();
      }
    }
  } finally {
    await proxy.stop();
  }
  return found;
}

/** How many operations 1,024 sequential asynchronous reads of 4 KiB become. */
export async function fewReads(plan: Plan, folder: string, server: Listener, out: Output): Promise<number> {
  out.status('1,024 sequential reads');
  const proxy = await Listener.start('proxy', [server.port, ROUND_TRIP_MS, 0]);
  const counter = await BlockClient.connect(server.port, 1);
  const mount = join(folder, 'few');
  let daemon: Daemon | undefined;
  try {
    daemon = await ourDaemon({ layer: 'merged', asyncDio: true, mount, bytes: FILE_BYTES, port: proxy.port });
    const before = await counter.counts();
    const argv = fioCommand(plan.fio, { rw: 'read', block: '4k', depth: 64, buffered: false }, join(mount, 'data'), 4 << 20, 1);
    await run(
      argv.filter((word) => word !== '--time_based' && !word.startsWith('--runtime')),
      { timeoutMs: LIMIT_MS },
    );
    return (await counter.counts()).operations - before.operations;
  } finally {
    await daemon?.stop();
    counter.close();
    await proxy.stop();
  }
}

/** What merging costs where nothing can be merged: reads at random of what a daemon has in its memory. */
export interface Cost {
  readonly flight: number;
  /** Merging on, over merging off. */
  readonly merging: Ratio;
  /** The layer, over none. */
  readonly layer: Ratio;
}

export async function cost(plan: Plan, folder: string, out: Output): Promise<Cost[]> {
  const daemons = new Map<Layer, Daemon>();
  const found: Cost[] = [];
  try {
    for (const layer of ['bare', 'unmerged', 'merged'] as const) {
      const mount = join(folder, `cost-${layer}`);
      daemons.set(layer, await ourDaemon({ layer, asyncDio: true, mount, bytes: FILE_BYTES, port: 0 }));
    }
    for (const flight of [1, 16]) {
      const samples: Record<Layer, number[]> = { bare: [], unmerged: [], merged: [] };
      const rounds = plan.rounds * 3;
      for (let round = -plan.warmup; round < rounds; round++) {
        for (const [layer, daemon] of rotated([...daemons], round + plan.warmup)) {
          out.status(`what merging costs: round ${round + 1} of ${rounds}, ${layer}, ${flight} in flight`);
          const { operations } = await perSecond(plan, daemon, { rw: 'randread', block: '4k', depth: flight });
          if (round >= 0) samples[layer].push(operations);
        }
      }
      found.push({ flight, merging: ratio(samples.merged, samples.unmerged), layer: ratio(samples.merged, samples.bare) });
    }
  } finally {
    for (const daemon of daemons.values()) await daemon.stop();
  }
  return found;
}
