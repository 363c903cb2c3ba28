/** What the passthrough can be told, and what workers get from the main thread. */
import type { FilesystemSettings } from 'fusewire';

/** How long the kernel may believe what it was told. See README.md. */
export type CachePolicy = 'none' | 'auto' | 'always';

export interface PassthroughOptions {
  /** The folder that shows through: a path. */
  readonly source: string;
  /** Default `auto`. */
  readonly cache?: CachePolicy;
  /**
   * Reading leaves the host's access times alone, as the mount option `noatime` asks: the kernel leaves them to the filesystem.
   * Needs a daemon that is root, or that owns the files. Default false.
   */
  readonly noAccessTimes?: boolean;
  /**
   * Offers open files to the kernel as backing files, which it reads and writes itself where the mount may have that. Not
   * together with `noAccessTimes`. Default true.
   */
  readonly backing?: boolean;
  /**
   * Files that the kernel may know at a time, 16 to 16,777,216; beyond that, looking up a further one fails with ENFILE.
   * Each takes one descriptor, so that seven eighths of RLIMIT_NOFILE (raised as far as allowed) are a limit too. Default
   * 1,048,576.
   */
  readonly maxNodes?: number;
  /** Pairs of a file and a process that holds POSIX locks on it, 16 to 1,048,576; beyond that ENOLCK. Default 65,536. */
  readonly maxLockOwners?: number;
}

export const MAX_NODES_DEFAULT = 1 << 20;
export const MAX_LOCK_OWNERS_DEFAULT = 1 << 16;

/** Made once by the main thread. Plain data and shared memory, so that it travels to every worker. */
export interface PassthroughShared {
  readonly inodes: SharedArrayBuffer;
  readonly locks: SharedArrayBuffer;
  readonly lockWaits: SharedArrayBuffer;
  readonly openFiles: SharedArrayBuffer;
  /** What the descriptors that the system allows leave of the option. */
  readonly maxNodes: number;
  readonly maxLockOwners: number;
  readonly cache: CachePolicy;
  readonly noAccessTimes: boolean;
  readonly backing: boolean;
  /** `/proc/self/fd`, opened O_PATH. */
  readonly links: number;
  /** The process's umask before it was set to 0. */
  readonly formerUmask: number;
}

/** Why the passthrough cannot be made. `code` is stable. */
export class PassthroughError extends Error {
  override readonly name = 'PassthroughError';
  readonly code: 'ERR_FUSEWIRE_SOURCE' | 'ERR_FUSEWIRE_PROC' | 'ERR_FUSEWIRE_OPTION';

  constructor(code: PassthroughError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

/** Checks the options and fills in defaults. Throws {@link PassthroughError}. */
export function completeOptions(options: PassthroughOptions): Required<PassthroughOptions> {
  const { source, cache = 'auto', noAccessTimes = false, backing = true } = options;
  const { maxNodes = MAX_NODES_DEFAULT, maxLockOwners = MAX_LOCK_OWNERS_DEFAULT } = options;
  const refuse = (message: string): never => {
    throw new PassthroughError('ERR_FUSEWIRE_OPTION', message);
  };
  if (typeof source !== 'string' || source === '') refuse('the passthrough needs a source folder');
  if (!['none', 'auto', 'always'].includes(cache)) refuse(`the cache policy is none, auto or always, not ${cache}`);
  const inRange = (value: number, most: number) => Number.isInteger(value) && value >= 16 && value <= most;
  if (!inRange(maxNodes, 1 << 24)) refuse(`maxNodes is a whole number from 16 to ${1 << 24}, not ${maxNodes}`);
  if (!inRange(maxLockOwners, 1 << 20)) refuse(`maxLockOwners is a whole number from 16 to ${1 << 20}, not ${maxLockOwners}`);
  return { source, cache, noAccessTimes, backing, maxNodes, maxLockOwners };
}

const DAY_SECONDS = 86_400;

/** Lifetimes of names and attributes, and what the filesystem does its part of beyond what its methods say. */
export function settingsFor(cache: CachePolicy, backing: boolean): FilesystemSettings {
  const ttl = { none: 0, auto: 1, always: DAY_SECONDS }[cache];
  return {
    // Names are bytes to Linux, so they pass as bytes.
    nameEncoding: 'binary',
    entryTtl: ttl,
    attributeTtl: ttl,
    capabilities: [
      'FUSE_ATOMIC_O_TRUNC',
      'FUSE_HANDLE_KILLPRIV_V2',
      // The host knows ACLs: it enforces none for the daemon, which is root, so the kernel has to see and check them. A
      // default ACL replaces the umask, and only the host knows whether there is one, so the umask is applied here.
      'FUSE_POSIX_ACL',
      'FUSE_DONT_MASK',
      // A node ends with its FORGET, so a file handle would turn stale while its file is there: better none (name_to_handle_at).
      'FUSE_NO_EXPORT_SUPPORT',
      ...(backing ? (['FUSE_PASSTHROUGH'] as const) : []),
      // A symbolic link never changes its target. Only in /proc it does, and `none` must show that.
      ...(cache === 'none' ? [] : (['FUSE_CACHE_SYMLINKS'] as const)),
    ],
  };
}
