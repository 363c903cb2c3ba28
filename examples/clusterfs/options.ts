/** What a mount can be told. Every limit has its default here. */
import { ClusterfsError } from './errors.ts';

export interface MountOptions {
  /** How long others wait for a mount that is silent before they take what it holds, milliseconds, from 500. Default 15,000. */
  readonly leaseMs?: number;
  /** Replicas that must have confirmed what fsync answers for. Default 1. 0: fsync answers for the master alone. */
  readonly replicas?: number;
  /** How long such a confirmation may take before fsync fails, milliseconds. Default 10,000. */
  readonly waitMs?: number;
  /** Bytes of blocks that are kept in memory. Default 256 MiB. */
  readonly cacheBytes?: number;
  /** Bytes that may be written and not published; writers wait beyond. Default 64 MiB. */
  readonly dirtyBytes?: number;
  /** Bytes of one file after which its whole blocks are published without being asked for. Default 4 MiB. */
  readonly publishBytes?: number;
  /** How long what was written may rest before it is published, milliseconds. Default 1000. */
  readonly restMs?: number;
  /** Operations of the block store at a time. Default 64. */
  readonly operationsMax?: number;
  /** Blocks that are fetched ahead of a program that reads in order. Default 16. */
  readonly aheadBlocks?: number;
  /** How long the kernel may believe names and attributes while changes are heard, seconds. Default 3600. */
  readonly ttlSeconds?: number;
  /** Bytes of extended attributes of one file, names and values; beyond that ENOSPC. Default 65,536. */
  readonly xattrBytes?: number;
  /** How long what nothing names any more is kept for those who read it just now, milliseconds. Default 60,000. */
  readonly graceMs?: number;
  /** How often this mount collects garbage, milliseconds; 0: never. Default 30,000. */
  readonly collectMs?: number;
}

export type Limits = Required<MountOptions>;

const DEFAULTS: Limits = {
  leaseMs: 15_000,
  replicas: 1,
  waitMs: 10_000,
  cacheBytes: 256 << 20,
  dirtyBytes: 64 << 20,
  publishBytes: 4 << 20,
  restMs: 1000,
  operationsMax: 64,
  aheadBlocks: 16,
  ttlSeconds: 3600,
  xattrBytes: 65_536,
  graceMs: 60_000,
  collectMs: 30_000,
};

const LEAST: Partial<Limits> = { leaseMs: 500, waitMs: 1, restMs: 10, operationsMax: 1, publishBytes: 4096, dirtyBytes: 4096 };

export function completeOptions(options: MountOptions = {}): Limits {
  const limits = { ...DEFAULTS, ...Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) };
  for (const [name, value] of Object.entries(limits)) {
    if (!(name in DEFAULTS)) throw new ClusterfsError('ERR_CLUSTERFS_OPTION', `there is no option ${name}`);
    const least = LEAST[name as keyof Limits] ?? 0;
    if (!Number.isSafeInteger(value) || value < least) {
      throw new ClusterfsError('ERR_CLUSTERFS_OPTION', `${name} is a whole number from ${least}, not ${value}`);
    }
  }
  return limits;
}
