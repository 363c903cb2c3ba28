/** `clusterfs gc`: collects garbage, and finds blocks that were never published or forgotten in a crash. */
import { collect } from './collector.ts';
import { Session } from './meta/session.ts';
import type { Reply } from './redis/connection.ts';
import type { BlockStore } from './store/store.ts';
import { keysOf, type Volume, volumeStatus } from './volume.ts';

export interface CollectOptions {
  /** How long something must have been garbage, milliseconds. 0 only where nobody reads. Default 60,000. */
  readonly graceMs?: number;
  /** Look at every block of the store for such that nothing names. Default true. */
  readonly orphans?: boolean;
  /** Only count. Default false. */
  readonly dryRun?: boolean;
}

export interface CollectReport {
  /** Blocks that were overwritten, cut off, or removed with their file. */
  readonly garbage: number;
  /** Blocks of sessions that died before they published them. */
  readonly orphans: number;
  /** Blocks of an older volume of the same name. */
  readonly stale: number;
  /** Blocks that are in use. */
  readonly used: number;
}

const GRACE_MS = 60_000;
const BATCH = 512;
/** A collection renews its lease like a mount. */
const LEASE_MS = 30_000;

/** Runs while the volume is in use. */
export async function collectVolume(volume: Volume, store: BlockStore, options: CollectOptions = {}): Promise<CollectReport> {
  const { graceMs = GRACE_MS, orphans = true, dryRun = false } = options;
  const { meta } = volume;
  const session = await Session.begin(meta, {
    leaseMs: LEASE_MS,
    info: { purpose: 'gc' },
    onRenewed: async () => {},
    onFault: () => {},
  });
  try {
    const status = await volumeStatus(volume);
    const garbage = dryRun ? status.garbage : await collect(meta, store, graceMs);
    const found = orphans ? await sweep(volume, store, dryRun) : { orphans: 0, stale: 0, used: 0 };
    return { garbage, ...found };
  } finally {
    await session.end();
  }
}

/**
 * The order makes it safe: blocks first, then who is alive, then what is named. A block of a session that is not alive can never be
 * published any more, so when nothing names it then, nothing ever will.
 */
async function sweep(volume: Volume, store: BlockStore, dryRun: boolean): Promise<Omit<CollectReport, 'garbage'>> {
  const blocks: string[] = [];
  const stale: string[] = [];
  for await (const { id, stale: old } of store.list()) (old ? stale : blocks).push(id);
  const alive = new Set((await volumeStatus(volume)).sessions.map(({ session }) => session));
  const named = await namedBlocks(volume);
  const orphans = blocks.filter((id) => !alive.has(id.slice(0, id.indexOf('.'))) && !named.has(id));
  if (!dryRun) {
    for (let at = 0; at < orphans.length; at += BATCH) await store.delete(orphans.slice(at, at + BATCH));
    for (let at = 0; at < stale.length; at += BATCH) await store.deleteStale(stale.slice(at, at + BATCH));
  }
  return { orphans: orphans.length, stale: stale.length, used: blocks.length - orphans.length };
}

/** Ids in all maps, also of files that were removed, and in the lists of garbage. */
async function namedBlocks({ cluster, meta }: Volume): Promise<Set<string>> {
  const named = new Set<string>();
  const ask = async (...words: (string | Buffer)[]): Promise<Reply> => (await cluster.send(meta.slot, [words]))[0];
  for (const kind of ['b', 'g']) {
    for await (const key of keysOf(cluster, meta.slot, `${meta.tag}:${kind}:*`)) {
      for (const entry of (await ask('HVALS', key)) as readonly Buffer[]) {
        const text = String(entry);
        named.add(text.slice(0, text.lastIndexOf(':')));
      }
    }
  }
  const garbage = (await ask('LRANGE', `${meta.tag}:garbage`, '0', '-1')) as readonly Buffer[];
  for (const entry of garbage.map(String)) named.add(entry.slice(entry.indexOf(' ') + 1));
  for await (const key of keysOf(cluster, meta.slot, `${meta.tag}:collecting:*`)) {
    for (const id of (await ask('LRANGE', key, '0', '-1')) as readonly Buffer[]) named.add(String(id));
  }
  return named;
}
