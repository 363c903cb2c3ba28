/** Puts together where the contents of a volume come from and go to. */
import { BlockCache } from 'fusewire/storage';
import type { ContentContext } from './data/content.ts';
import { Gate } from './data/gate.ts';
import { ClusterfsError } from './errors.ts';
import type { Limits } from './options.ts';
import { RedisBlockStore } from './store/redis.ts';
import { S3BlockStore, type S3Options } from './store/s3.ts';
import type { BlockStore, LostBlock } from './store/store.ts';
import type { Volume } from './volume.ts';

export interface Stores {
  readonly store: BlockStore;
  readonly gate: Gate;
  readonly context: ContentContext;
}

/** The store that a volume's blocks are kept in. */
export function storeOf(
  { name, cluster, description }: Volume,
  limits: Pick<Limits, 'replicas' | 'waitMs'>,
  s3?: S3Options,
): BlockStore {
  const { store, uuid } = description;
  if (store === 'redis') return new RedisBlockStore(cluster, name, uuid, limits);
  if (s3 === undefined) {
    throw new ClusterfsError(
      'ERR_CLUSTERFS_OPTION',
      `the blocks of ${name} are kept by an S3 service, and no client for it was given`,
    );
  }
  return new S3BlockStore(s3, name, uuid);
}

export function storesOf(
  volume: Volume,
  limits: Limits,
  s3: S3Options | undefined,
  onLost: (blocks: readonly LostBlock[]) => void,
): Stores {
  const store = storeOf(volume, limits, s3);
  const gate = new Gate({ operationsMax: limits.operationsMax, onLost });
  let blocks = 0;
  const context: ContentContext = {
    meta: volume.meta,
    store,
    cache: new BlockCache({ memory: limits.cacheBytes }),
    gate,
    blockBytes: volume.description.blockBytes,
    durability: limits,
    aheadBlocks: limits.aheadBlocks,
    // Unlike every other ever: no two sessions have the same number.
    newBlockId: () => `${volume.meta.session}.${(++blocks).toString(36)}`,
  };
  return { store, gate, context };
}
