/** Blocks in the cluster itself: one string each, spread over all slots by their ids. */
import { ClusterfsError } from '../errors.ts';
import type { Durability } from '../meta/meta.ts';
import type { RedisCluster } from '../redis/cluster.ts';
import type { Reply } from '../redis/connection.ts';
import { slotOf } from '../redis/slot.ts';
import type { BlockStore, LostBlock } from './store.ts';

/** How often blocks are confirmed that nobody has called fsync for, milliseconds. */
const CONFIRM_MS = 1000;

interface Unconfirmed {
  readonly owner: number;
  readonly bytes: number;
  /** The connection that wrote it. */
  readonly way: string | undefined;
}

export class RedisBlockStore implements BlockStore {
  readonly #cluster: RedisCluster;
  readonly #volume: string;
  readonly #prefix: string;
  readonly #durability: Durability;
  /** Written, and not known to be on a replica. */
  #unconfirmed = new Map<string, Unconfirmed>();
  #timer: NodeJS.Timeout | undefined;
  #syncing: Promise<readonly LostBlock[]> = Promise.resolve([]);
  /** Found lost by a confirmation that nobody asked for. */
  #lost: LostBlock[] = [];

  constructor(cluster: RedisCluster, volume: string, uuid: string, durability: Durability) {
    this.#cluster = cluster;
    this.#volume = volume;
    this.#prefix = `b:${volume}:${uuid.slice(0, 8)}:`;
    this.#durability = durability;
  }

  async put(id: string, data: Buffer, owner: number): Promise<void> {
    const key = this.#prefix + id;
    const slot = slotOf(key);
    await this.#cluster.send(slot, [['SET', key, data]]);
    if (this.#durability.replicas === 0) return;
    this.#unconfirmed.set(id, { owner, bytes: data.byteLength, way: this.#cluster.wayOf(slot) });
    this.#timer ??= setTimeout(() => void this.#confirmLater(), CONFIRM_MS).unref();
  }

  async get(id: string, signal?: AbortSignal): Promise<Buffer | undefined> {
    const key = this.#prefix + id;
    const [reply] = await this.#cluster.send(slotOf(key), [['GET', key]], signal === undefined ? {} : { signal });
    return (reply as Buffer | null) ?? undefined;
  }

  async size(id: string): Promise<number | undefined> {
    const key = this.#prefix + id;
    const [bytes] = await this.#cluster.send(slotOf(key), [['STRLEN', key]]);
    return bytes === 0 ? undefined : (bytes as number);
  }

  async delete(ids: readonly string[]): Promise<void> {
    for (const id of ids) this.#unconfirmed.delete(id);
    await this.deleteStale(ids.map((id) => this.#prefix + id));
  }

  async deleteStale(keys: readonly string[]): Promise<void> {
    await Promise.all(keys.map((key) => this.#cluster.send(slotOf(key), [['UNLINK', key]])));
  }

  async *list(): AsyncGenerator<{ id: string; stale: boolean }> {
    for (const node of this.#cluster.masters) {
      let cursor = '0';
      do {
        const reply = await this.#cluster.on(node, ['SCAN', cursor, 'MATCH', `b:${this.#volume}:*`, 'COUNT', '1000']);
        const [next, keys] = reply as readonly [Buffer, readonly Buffer[]];
        for (const key of keys.map(String)) {
          const stale = !key.startsWith(this.#prefix);
          yield { id: stale ? key : key.slice(this.#prefix.length), stale };
        }
        cursor = String(next);
      } while (cursor !== '0');
    }
  }

  sync(): Promise<readonly LostBlock[]> {
    const next = this.#syncing.catch(() => []).then(() => this.#confirm());
    this.#syncing = next;
    return next;
  }

  async space(): Promise<{ total: number; free: number } | undefined> {
    let total = 0;
    let used = 0;
    for (const node of this.#cluster.masters) {
      const info = String(await this.#cluster.on(node, ['INFO', 'memory']));
      const most = Number(/^maxmemory:(\d+)/m.exec(info)?.[1] ?? 0);
      if (most === 0) return undefined;
      total += most;
      used += Math.min(most, Number(/^used_memory:(\d+)/m.exec(info)?.[1] ?? 0));
    }
    return { total, free: total - used };
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  async #confirmLater(): Promise<void> {
    try {
      this.#lost.push(...(await this.sync()));
    } catch {
      // It is tried again, and fsync tells what is still not confirmed.
    }
    this.#timer = undefined;
    if (this.#unconfirmed.size > 0) this.#timer = setTimeout(() => void this.#confirmLater(), CONFIRM_MS).unref();
  }

  /**
   * WAIT counts the writes of its own connection, so something is written by it first: appending nothing to a block, which
   * also tells whether the block is there. Where the connection is still the one that wrote the blocks, one stands for all.
   */
  async #confirm(): Promise<readonly LostBlock[]> {
    const lost = this.#lost.splice(0);
    const batch = this.#unconfirmed;
    this.#unconfirmed = new Map();
    const ways = new Map<string, [string, Unconfirmed][]>();
    for (const entry of batch) {
      const slot = slotOf(this.#prefix + entry[0]);
      const way = this.#cluster.wayOf(slot);
      const key = way !== undefined && way === entry[1].way ? way : `alone ${entry[0]}`;
      const group = ways.get(key);
      if (group === undefined) ways.set(key, [entry]);
      else group.push(entry);
    }
    try {
      await Promise.all(
        [...ways.values()].map(async (group) => {
          if (await this.#confirmed(group[0][0], group[0][1])) {
            for (const [id] of group) batch.delete(id);
            return;
          }
          batch.delete(group[0][0]);
          lost.push({ id: group[0][0], owner: group[0][1].owner });
          // The others have to be asked for one by one.
          for (const [id, one] of group.slice(1)) batch.set(id, { ...one, way: undefined });
        }),
      );
    } catch (error) {
      this.#lost.push(...lost);
      throw error;
    } finally {
      for (const [id, one] of batch) this.#unconfirmed.set(id, one);
    }
    return this.#unconfirmed.size > 0 && lost.length > 0 ? [...lost, ...(await this.#confirm())] : lost;
  }

  async #confirmed(id: string, { bytes }: Unconfirmed): Promise<boolean> {
    const key = this.#prefix + id;
    const { replicas, waitMs } = this.#durability;
    const commands = [
      ['APPEND', key, ''],
      ['WAIT', String(replicas), String(waitMs)],
    ];
    const [length, confirmed] = (await this.#cluster.send(slotOf(key), commands, { lane: 'durable' })) as readonly Reply[];
    if (length !== bytes) {
      await this.deleteStale([key]);
      return false;
    }
    if ((confirmed as number) < replicas) throw new ClusterfsError('ERR_CLUSTERFS_NOT_REPLICATED', `${confirmed} of ${replicas}`);
    return true;
  }
}
