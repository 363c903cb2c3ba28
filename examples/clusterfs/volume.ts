/** A volume: made, found, and described. */
import { randomUUID } from 'node:crypto';
import { ClusterfsError } from './errors.ts';
import { encodeTime } from './meta/attributes.ts';
import { Meta, Refusal } from './meta/meta.ts';
import { type ClusterOptions, RedisCluster } from './redis/cluster.ts';
import type { Reply } from './redis/connection.ts';
import { now } from './time.ts';

/** The format that this version writes. One that knows less than a volume needs must not touch it. */
export const FORMAT = 1;

const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/;

export interface VolumeDescription {
  readonly format: number;
  readonly uuid: string;
  /** Bytes of a whole block. */
  readonly blockBytes: number;
  /** Where blocks are kept. */
  readonly store: 'redis' | 's3';
  readonly madeAt: string;
}

export interface FormatOptions {
  /** A power of two from 4 KiB to 4 MiB. Default 64 KiB. */
  readonly blockBytes?: number;
  readonly store?: 'redis' | 's3';
  /** Permission bits and owner of the root. Default 0o755, and who runs this. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Erase a volume of that name first. Default false. */
  readonly force?: boolean;
}

const BLOCK_BYTES = 64 << 10;
const BLOCK_MIN = 4 << 10;
const BLOCK_MAX = 4 << 20;

/** A volume with a connection to its cluster. */
export interface Volume {
  readonly name: string;
  readonly cluster: RedisCluster;
  readonly meta: Meta;
  readonly description: VolumeDescription;
}

export interface VolumeStatus {
  readonly description: VolumeDescription;
  readonly inodes: number;
  readonly bytes: number;
  /** Blocks, and files with blocks, that wait to be collected. */
  readonly garbage: number;
  readonly deadFiles: number;
  readonly sessions: readonly SessionStatus[];
}

export interface SessionStatus {
  readonly session: string;
  /** Milliseconds until its lease ends; negative when it should have been renewed. */
  readonly leaseMs: number;
  readonly info: Readonly<Record<string, unknown>>;
  readonly openFiles: number;
  readonly lockedFiles: number;
}

function assertName(name: string): void {
  if (!NAME.test(name)) {
    throw new ClusterfsError(
      'ERR_CLUSTERFS_OPTION',
      `a volume is named by up to 63 letters, digits, ".", "_" and "-", not ${name}`,
    );
  }
}

/** Makes a volume. Rejects with ERR_CLUSTERFS_EXISTS where there is one. */
export async function formatVolume(
  options: ClusterOptions,
  name: string,
  format: FormatOptions = {},
): Promise<VolumeDescription> {
  assertName(name);
  const { blockBytes = BLOCK_BYTES, store = 'redis', mode = 0o755, force = false } = format;
  const { uid = process.getuid?.() ?? 0, gid = process.getgid?.() ?? 0 } = format;
  const power = Number.isInteger(Math.log2(blockBytes));
  if (!power || blockBytes < BLOCK_MIN || blockBytes > BLOCK_MAX) {
    throw new ClusterfsError(
      'ERR_CLUSTERFS_OPTION',
      `a block has a power of two from ${BLOCK_MIN} to ${BLOCK_MAX} bytes, not ${blockBytes}`,
    );
  }
  const description: VolumeDescription = {
    format: FORMAT,
    uuid: randomUUID(),
    blockBytes,
    store,
    madeAt: new Date().toISOString(),
  };
  const cluster = await RedisCluster.connect(options);
  try {
    const meta = new Meta(cluster, name);
    if (force) await eraseMetadata(meta);
    await meta.administer('format', [
      JSON.stringify(description),
      String(blockBytes),
      String(mode),
      String(uid),
      String(gid),
      encodeTime(now()),
    ]);
    return description;
  } catch (error) {
    if (error instanceof Refusal && error.code === 'EEXIST') throw new ClusterfsError('ERR_CLUSTERFS_EXISTS', name);
    throw error;
  } finally {
    cluster.close();
  }
}

/** Removes all keys of a volume; blocks become orphans of a volume that does not exist, which gc of the new one does not see. */
async function eraseMetadata(meta: Meta): Promise<void> {
  let live = 0;
  try {
    const [sessions] = await meta.read('sessions', []);
    live = (sessions as readonly Reply[]).filter((one) => Number((one as readonly Buffer[])[1]) > 0).length;
  } catch {
    // Without a volume there are no sessions.
  }
  if (live > 0) throw new ClusterfsError('ERR_CLUSTERFS_IN_USE', `${live} sessions are alive`);
  for await (const key of keysOf(meta.cluster, meta.slot, `${meta.tag}:*`)) {
    await meta.cluster.send(meta.slot, [['UNLINK', key]]);
  }
}

/** Keys that the owner of a slot has, by a pattern. */
export async function* keysOf(cluster: RedisCluster, slot: number, pattern: string): AsyncGenerator<Buffer> {
  let cursor = '0';
  do {
    const [reply] = await cluster.send(slot, [['SCAN', cursor, 'MATCH', pattern, 'COUNT', '1000']]);
    const [next, keys] = reply as readonly [Buffer, readonly Buffer[]];
    yield* keys;
    cursor = String(next);
  } while (cursor !== '0');
}

/** Finds a volume. The caller closes its `cluster`. */
export async function openVolume(options: ClusterOptions, name: string): Promise<Volume> {
  assertName(name);
  const cluster = await RedisCluster.connect(options);
  try {
    const meta = new Meta(cluster, name);
    const [text] = await cluster.send(meta.slot, [['GET', `${meta.tag}:volume`]]);
    if (text === null) throw new ClusterfsError('ERR_CLUSTERFS_NO_VOLUME', name);
    const description = JSON.parse(String(text)) as VolumeDescription;
    if (!(description.format <= FORMAT)) {
      throw new ClusterfsError('ERR_CLUSTERFS_NEWER_FORMAT', `${name} has format ${description.format}, this knows ${FORMAT}`);
    }
    return { name, cluster, meta, description };
  } catch (error) {
    cluster.close();
    throw error;
  }
}

export async function volumeStatus({ meta, description }: Volume): Promise<VolumeStatus> {
  const [, counters, garbage, deadFiles] = await meta.read('volume', []);
  const [inodes, bytes] = counters as readonly Reply[];
  const [sessions] = await meta.read('sessions', []);
  return {
    description,
    inodes: Number(inodes),
    bytes: Number(bytes),
    garbage: Number(garbage),
    deadFiles: Number(deadFiles),
    sessions: (sessions as readonly (readonly Buffer[])[]).map(([session, leaseMs, info, openFiles, lockedFiles]) => ({
      session: String(session),
      leaseMs: Number(leaseMs),
      info: JSON.parse(String(info)) as Record<string, unknown>,
      openFiles: Number(openFiles),
      lockedFiles: Number(lockedFiles),
    })),
  };
}
