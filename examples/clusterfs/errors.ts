/** Errors of clusterfs: a stable code, one sentence that says what to do, and the errno that a caller of the mount gets. */
import { ERRNO } from 'fusewire';

const SENTENCES = {
  ERR_CLUSTERFS_OPTION: 'that is no way to call it',
  ERR_CLUSTERFS_UNREACHABLE: 'the cluster cannot be reached; is it up, and are the addresses right?',
  ERR_CLUSTERFS_AUTH: 'the cluster refuses the user or the password; give --password, or CLUSTERFS_PASSWORD in the environment',
  ERR_CLUSTERFS_NOT_CLUSTER: 'that server does not run in cluster mode; start it with --cluster-enabled yes',
  ERR_CLUSTERFS_OLD_SERVER: 'that server is too old; Redis 7.0 or later is needed, for functions',
  ERR_CLUSTERFS_READ_ONLY: 'the cluster takes no writes; the node that owns the volume is a replica or has too few of them',
  ERR_CLUSTERFS_FULL: 'the cluster has no memory left (maxmemory); add memory or nodes, or remove files and run gc',
  ERR_CLUSTERFS_NO_VOLUME: 'there is no such volume; make one with clusterfs format',
  ERR_CLUSTERFS_EXISTS: 'there is such a volume already; format --force erases it',
  ERR_CLUSTERFS_NEWER_FORMAT: 'the volume has a newer format than this version of clusterfs knows; update clusterfs',
  ERR_CLUSTERFS_BLOCK_MISSING: 'a block that a file names is not in the store; run fsck to see which files are hurt',
  ERR_CLUSTERFS_NOT_REPLICATED:
    'too few replicas have confirmed the data in time; it is written, and may be lost with its master',
  ERR_CLUSTERFS_LOST: 'the cluster has lost what it had confirmed without replicas: a failover went back in time',
  ERR_CLUSTERFS_SESSION_LOST: 'the lease ran out while the cluster was out of reach; locks of this mount are gone',
  ERR_CLUSTERFS_IN_USE: 'the volume is mounted; unmount it first, or say --force',
  ERR_CLUSTERFS_STORE: 'the block store failed',
  ERR_CLUSTERFS_SERVER: 'the cluster answered with an error',
  ERR_CLUSTERFS_NO_REDIS: 'there is no redis-server here; install it (apt-get install redis-server)',
} as const;

export type ClusterfsErrorCode = keyof typeof SENTENCES;

/** Every code, for documentation and tests. */
export const CLUSTERFS_ERROR_CODES = Object.keys(SENTENCES) as ClusterfsErrorCode[];

const ERRNOS: Partial<Record<ClusterfsErrorCode, string>> = {
  ERR_CLUSTERFS_FULL: 'ENOSPC',
  ERR_CLUSTERFS_READ_ONLY: 'EROFS',
  ERR_CLUSTERFS_AUTH: 'EACCES',
};

/** `code` is stable; `errno` is negative, as in errors of node:fs, and what the caller of a system call receives. */
export class ClusterfsError extends Error {
  override readonly name = 'ClusterfsError';
  readonly code: ClusterfsErrorCode;
  readonly errno: number;

  constructor(code: ClusterfsErrorCode, detail?: string, cause?: unknown) {
    super(`${SENTENCES[code]}${detail === undefined ? '' : ` (${detail})`}`, cause === undefined ? undefined : { cause });
    this.code = code;
    this.errno = -(ERRNO[ERRNOS[code] ?? 'EIO'] as number);
  }
}
