/** A tree under test that is a directory of this machine: a local filesystem, or a mount. */
import { randomBytes } from 'node:crypto';
import type { Mount } from '../../mount/index.ts';
import type { PosixFeature, PosixIdentity, PosixProcess, PosixTree } from '../posix.ts';
import type { CallingProcess } from './child-process.ts';
import { HostProcessError } from './errors.ts';
import { giveBack, type Identity, lease, MAY_SWITCH } from './pool.ts';
import { HostProcess } from './process.ts';

export interface HostTreeOptions {
  /** For titles. Default: the path. */
  name?: string;
  /** What the filesystem cannot do, with the reason. */
  unsupported?: ReadonlyMap<PosixFeature, string>;
  /** How long a system call may take before its process is killed, milliseconds. Default 10,000. */
  callTimeoutMs?: number;
  /** Called when a call took too long: whoever serves the path should let go of its callers now. */
  onHang?: () => void;
}

const CALL_TIMEOUT_MS = 10_000;
const ROOT: Identity = { uid: 0, gid: 0, groups: [] };

/** What nobody can test without privileges. */
const NEEDS_ROOT: readonly PosixFeature[] = ['other-users', 'ownership', 'devices'];

class HostTree implements PosixTree {
  readonly name: string;
  readonly unsupported: ReadonlyMap<PosixFeature, string>;
  readonly #root: string;
  readonly #callTimeoutMs: number;
  readonly #onHang: (() => void) | undefined;
  readonly #processes = new Map<HostProcess, { child: CallingProcess; identity: Identity }>();

  constructor(root: string, options: HostTreeOptions) {
    this.#root = root;
    this.name = options.name ?? root;
    this.#callTimeoutMs = options.callTimeoutMs ?? CALL_TIMEOUT_MS;
    this.#onHang = options.onHang;
    const unsupported = new Map(options.unsupported);
    if (!MAY_SWITCH) for (const feature of NEEDS_ROOT) unsupported.set(feature, 'the tests do not run as root');
    this.unsupported = unsupported;
  }

  async process(identity: PosixIdentity = {}): Promise<PosixProcess> {
    const { uid = 0, gid = 0, groups = [], umask = 0o022 } = identity;
    if (!MAY_SWITCH && uid !== 0 && uid !== process.getuid?.()) {
      throw new HostProcessError('ERR_FUSEWIRE_IDENTITY', `only root may start a process of user ${uid}`);
    }
    const whole = { uid, gid, groups };
    const child = await lease(whole, this.#callTimeoutMs);
    const made = new HostProcess(child, { timeoutMs: this.#callTimeoutMs, onHang: this.#onHang });
    this.#processes.set(made, { child, identity: whole });
    await child.call('enter', [this.#root, umask], this.#callTimeoutMs).catch((error: Error & { code?: string }) => {
      throw error.code === 'EACCES' ? new HostProcessError('ERR_FUSEWIRE_IDENTITY', unreachable(this.#root, uid)) : error;
    });
    return made;
  }

  async end(): Promise<void> {
    const all = [...this.#processes.values()];
    this.#processes.clear();
    const returned = await Promise.allSettled(all.map(({ child, identity }) => this.#settle(child, identity)));
    await withRootProcess(this.#callTimeoutMs, (child) => child.call('removeRoot', [this.#root], this.#callTimeoutMs));
    const failed = returned.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  /** A process that still waits in a call, for a lock perhaps, is of no more use. */
  async #settle(child: CallingProcess, identity: Identity): Promise<void> {
    if (child.busy) child.kill();
    else await giveBack(child, identity, this.#callTimeoutMs);
  }
}

function unreachable(root: string, uid: number): string {
  return `user ${uid} may not enter ${root}: the folders above it need search permission for others, and a FUSE mount the option allow_other`;
}

async function withRootProcess<Value>(timeoutMs: number, work: (child: CallingProcess) => Promise<Value>): Promise<Value> {
  const child = await lease(ROOT, timeoutMs);
  try {
    return await work(child);
  } finally {
    await giveBack(child, ROOT, timeoutMs).catch(() => child.kill());
  }
}

/**
 * A tree in a fresh directory below `path`, which has to exist and to be writable; other users need to reach it. The
 * system calls are made by child processes, never by this one, so `path` may lie on a mount that this process serves.
 *
 * @throws {CallError} when the directory cannot be made
 */
export async function hostTree(path: string, options: HostTreeOptions = {}): Promise<PosixTree> {
  const name = `tree-${randomBytes(6).toString('hex')}`;
  const timeoutMs = options.callTimeoutMs ?? CALL_TIMEOUT_MS;
  const root = await withRootProcess(timeoutMs, (child) => child.call<string>('makeRoot', [path, name], timeoutMs)).catch(
    (error) => {
      if ((error as HostProcessError).code === 'ERR_FUSEWIRE_CALL_HUNG') options.onHang?.();
      throw error;
    },
  );
  return new HostTree(root, { name: path, ...options });
}

/** A tree in a fresh directory of a mount. A call that hangs ends the mount's connection, so that nobody waits on. */
export function mountedTree(mount: Pick<Mount, 'mountpoint' | 'abort'>, options: HostTreeOptions = {}): Promise<PosixTree> {
  return hostTree(mount.mountpoint, { onHang: () => void mount.abort(), ...options });
}
