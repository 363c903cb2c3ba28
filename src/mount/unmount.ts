/**
 * Taking mounts away. umount(2) of a FUSE mount can wait for the daemon (dirty pages are written back first), so it runs in
 * a child with a time limit; whether it worked is read from the list of mounts, not from the words of the child.
 */
import { spawnSync } from 'node:child_process';
import { type Addon, fromBinary, toBinary, tryLoadAddon } from '../native/index.ts';
import { childEnvironment, runChild } from './child.ts';
import { abortConnection } from './connection.ts';
import { MountError } from './errors.ts';
import { findHelper, findProgram } from './helper.ts';
import { connectionNumber, isFuseType, type MountInfo, mountOwner, readMountInfo, topmostMount } from './mountinfo.ts';
import { isPrivileged } from './privilege.ts';
import { resolveMountPoint } from './resolve.ts';

/** Flags of umount2(2). */
export const MNT_FORCE = 1;
export const MNT_DETACH = 2;
export const UMOUNT_NOFOLLOW = 8;

export interface DetachSettings {
  lazy: boolean;
  timeoutMs: number;
  /** Path of fusermount3. Default: the one in PATH. */
  helper?: string | undefined;
  addon?: Addon | undefined;
}

/** The commands that unmount, best first. fusermount3 touches only the parent directory; umount(8) may stat the mount. */
function commands(mountpoint: string, lazy: boolean, helper: string | undefined): [string, string[]][] {
  const found: [string, string[]][] = [];
  const fusermount = helper ?? findHelper();
  if (fusermount !== undefined) found.push([fusermount, ['-u', ...(lazy ? ['-z'] : []), '--', mountpoint]]);
  const umount = isPrivileged() ? findProgram(['umount']) : undefined;
  if (umount !== undefined) found.push([umount, [...(lazy ? ['-l'] : []), mountpoint]]);
  return found;
}

/**
 * Unmounts what is at `mountpoint` (absolute, resolved) once. Answers '' when a command reported success, else what it said.
 */
export async function detach(mountpoint: string, settings: DetachSettings): Promise<string> {
  let said = 'neither fusermount3 nor umount is installed';
  for (const [file, args] of commands(mountpoint, settings.lazy, settings.helper)) {
    const result = await runChild(file, args, { timeoutMs: settings.timeoutMs });
    if (result.status === 0) return '';
    said = result.timedOut ? `${file} did not end within ${settings.timeoutMs} ms` : (result.startError ?? result.stderr);
    if (result.timedOut || /busy/i.test(said)) return said;
  }
  const addon = settings.addon ?? tryLoadAddon();
  if (addon === undefined || !isPrivileged()) return said;
  // No program did it. Detaching does not ask whether the mount is busy; aborting first keeps it from waiting for the daemon.
  const result = addon.umount(toBinary(mountpoint), UMOUNT_NOFOLLOW | MNT_DETACH | MNT_FORCE);
  return result === 0 ? '' : said;
}

/** {@link detach}, lazily, while the process ends: waits for the child on this thread, at most `timeoutMs`. */
export function detachSync(mountpoint: string, timeoutMs: number, helper?: string): void {
  for (const [file, args] of commands(mountpoint, true, helper)) {
    const { status } = spawnSync(file, args, {
      cwd: '/',
      env: childEnvironment(),
      stdio: 'ignore',
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    if (status === 0) return;
  }
}

/** Whether `mount` is what is mounted at its place now. */
export function isMounted(mount: MountInfo): boolean {
  const now = topmostMount(readMountInfo(), mount.mountPoint);
  return now?.mountId === mount.mountId && now.major === mount.major && now.minor === mount.minor;
}

export interface UnmountPathSettings {
  /** Detach at once, even when programs use the mount. Default false. */
  lazy?: boolean;
  /** Abort the connection first: callers that wait for the daemon get an error now. Default false. */
  force?: boolean;
  /** Default 5000. */
  timeoutMs?: number;
}

/**
 * Unmounts the FUSE mount at a path, whoever's daemon it is, as far as this user may. Answers the path.
 *
 * @throws MountError ERR_FUSEWIRE_NOT_MOUNTED where there is no FUSE mount, ERR_FUSEWIRE_NOT_OURS for another user's,
 * ERR_FUSEWIRE_UNMOUNT_FAILED when it is busy.
 */
export async function unmountPath(path: string, settings: UnmountPathSettings = {}): Promise<string> {
  const { lazy = false, force = false, timeoutMs = 5000 } = settings;
  const { path: mountpoint, mounted } = await resolveMountPoint(path, timeoutMs);
  if (mounted === undefined || !isFuseType(mounted.type)) {
    throw new MountError(
      'ERR_FUSEWIRE_NOT_MOUNTED',
      mountpoint,
      mounted === undefined ? {} : { detail: `what is mounted there is ${mounted.type}` },
    );
  }
  assertMayUnmount(mounted);
  const isStill = () => isMounted(mounted);
  if (force && !abortConnection(connectionNumber(mounted), isStill) && isStill() && isPrivileged()) {
    tryLoadAddon()?.umount(toBinary(mountpoint), UMOUNT_NOFOLLOW | MNT_FORCE);
  }
  const said = isMounted(mounted) ? await detach(mountpoint, { lazy: lazy || force, timeoutMs }) : '';
  if (isMounted(mounted)) throw new MountError('ERR_FUSEWIRE_UNMOUNT_FAILED', mountpoint, { detail: said });
  return mountpoint;
}

/** Refuses what fusermount3 would refuse, in clearer words. */
export function assertMayUnmount(mount: MountInfo): void {
  const owner = mountOwner(mount);
  if (isPrivileged() || owner === undefined || owner === process.getuid?.()) return;
  throw new MountError('ERR_FUSEWIRE_NOT_OURS', fromBinary(mount.mountPoint) ?? mount.mountPoint, {
    detail: `user ${owner} mounted it`,
  });
}
