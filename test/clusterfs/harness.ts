/** One real Redis Cluster for each test file, and volumes in it. */
import { afterAll, beforeAll } from 'vitest';
import {
  ClusterFilesystem,
  type ClusterFilesystemOptions,
  type FormatOptions,
  formatVolume,
  openVolume,
} from '../../examples/clusterfs/index.ts';
import { findRedisServer, LocalCluster, type LocalClusterOptions } from '../../examples/clusterfs/testing/index.ts';
import { simulate } from '../../src/testing/kernel/index.ts';

/** Why clusterfs cannot be tested here, or undefined. */
export const NO_REDIS = findRedisServer() === undefined ? 'there is no redis-server (apt-get install redis-server)' : undefined;

/** A cluster that is there for all tests of a file. */
export function useCluster(options: LocalClusterOptions = {}): { readonly local: LocalCluster } {
  const held: { local?: LocalCluster } = {};
  beforeAll(async () => {
    held.local = await LocalCluster.start(options);
  }, 60_000);
  afterAll(async () => {
    await held.local?.stop();
  }, 30_000);
  return {
    get local() {
      if (held.local === undefined) throw new Error('the cluster is not up');
      return held.local;
    },
  };
}

let volumes = 0;

/** Makes a volume and answers its name. */
export async function freshVolume(local: LocalCluster, format: FormatOptions = {}): Promise<string> {
  const name = `v${++volumes}`;
  await formatVolume({ nodes: local.addresses }, name, format);
  return name;
}

export async function openFilesystem(
  local: LocalCluster,
  name: string,
  options: ClusterFilesystemOptions & { commandMs?: number } = {},
): Promise<ClusterFilesystem> {
  const { commandMs, ...rest } = options;
  const volume = await openVolume({ nodes: local.addresses, ...(commandMs === undefined ? {} : { commandMs }) }, name);
  return await ClusterFilesystem.open(volume, rest);
}

/** A mount of a volume under the simulated kernel. */
export async function simulated(
  local: LocalCluster,
  name: string,
  options: ClusterFilesystemOptions & { commandMs?: number } = {},
) {
  return await simulate(await openFilesystem(local, name, options), { name: 'clusterfs' });
}
