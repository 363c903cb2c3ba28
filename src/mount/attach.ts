/**
 * Attaching: a mount point gets an open /dev/fuse descriptor behind it, by mount(2), by fusermount3, or because the caller
 * brought one. An {@link Attachment} is that descriptor together with the way to take the mount away again.
 */

import { resolve as resolvePath } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Addon, errnoName, errnoNumber, fromBinary, toBinary } from '../native/index.ts';
import { statInChild } from './child.ts';
import { abortConnection, connectionOf, isConnected, isFuseDevice } from './connection.ts';
import { MountError, type MountErrorCode } from './errors.ts';
import { findHelper, mountByHelper } from './helper.ts';
import { connectionNumber, isFuseType, type MountInfo, mountOwner, readMountInfo, topmostMount } from './mountinfo.ts';
import { helperMountOptions, kernelMountData, type MountOptions, mountSource, parseMountOptions } from './options.ts';
import { isPrivileged } from './privilege.ts';
import { checkMountPoint, type ResolvedPath, resolveMountPoint } from './resolve.ts';
import { type Begin, mountCall, mountSynchronously, wantSynchronousInit } from './synchronous.ts';
import { detach, detachSync, MNT_DETACH, MNT_FORCE, UMOUNT_NOFOLLOW } from './unmount.ts';

export interface AttachSettings {
  addon: Addon;
  /** Ignored, and may be empty, when `fd` is given. */
  mountpoint: string;
  /** mount(8)-style. They win over `name` and `subtype`. */
  options?: string;
  /** Source of the mount (`fsname`). */
  name?: string;
  subtype?: string;
  /** An open /dev/fuse descriptor that somebody else mounted. It stays the caller's. */
  fd?: number;
  /** `auto` calls mount(2) where this process has CAP_SYS_ADMIN and fusermount3 otherwise. Default `auto`. */
  way?: 'auto' | 'mount' | 'fusermount';
  /** Path of fusermount3. Default: the one in PATH. */
  helper?: string;
  /** Default `/dev/fuse`. */
  device?: string;
  /** How long a FUSE mount that is already at the mount point may take to answer, milliseconds. Default 2000. */
  statTimeoutMs?: number;
  /** How long fusermount3 may take, milliseconds. Default 10,000. */
  helperTimeoutMs?: number;
  /**
   * Wants synchronous INIT (Linux 6.18): {@link attach} resolves when INIT was answered by this, and rejects as this does. It is
   * not called where the kernel has no such thing, or fusermount3 mounts: then INIT waits for the caller of attach, as ever.
   */
  begin?: Begin;
}

export interface UnmountSettings {
  /** How long a busy mount is tried again before it is detached lazily, milliseconds. Default 300. Infinity: for ever. */
  busyMs?: number;
  /** How long one umount may take before the next stronger way is tried, milliseconds. Default 2000. */
  attemptMs?: number;
}

/** How an unmount ended. */
export type UnmountOutcome =
  /** Nobody used it, and it is gone. */
  | 'unmounted'
  /** Detached: no new caller finds it; files that are open go on until they are closed. */
  | 'lazy'
  /** The connection was aborted, then detached. */
  | 'forced'
  /** There was nothing of ours to unmount: somebody else did it before, or the caller brought the descriptor. */
  | 'gone';

export interface Attachment {
  /** The attached device. It stays open until {@link Attachment.close}; channels use duplicates or clones of it. */
  readonly fd: number;
  /** Absolute, without symbolic links; empty where a given descriptor's mount is not in sight. */
  readonly mountpoint: string;
  readonly how: 'mount' | 'fusermount' | 'given';
  /** The kernel's number of the connection, name of its folder in fusectl: minor of `st_dev`, but for fuseblk. 0 where unknown. */
  readonly connection: number;
  /** The options in force. */
  readonly options: MountOptions;
  /** Whether the mount that is visible at {@link Attachment.mountpoint} is the one made here. Never waits. */
  isOurs(): boolean;
  /**
   * Takes the mount away: plainly, again while it is busy, then lazily, then by force. Never touches a mount of somebody
   * else. Idempotent; rejects with ERR_FUSEWIRE_UNMOUNT_FAILED when the mount is still there after all that.
   */
  unmount(settings?: UnmountSettings): Promise<UnmountOutcome>;
  /**
   * For exit handlers: detaches the mount without waiting for anybody. With privileges the connection is aborted by the
   * same call, so that neither dirty pages nor callers can hold up the end of the process; what was not yet written is lost.
   */
  unmountSync(): void;
  /** Aborts the connection: waiting callers get ECONNABORTED. False where fusectl is not mounted and privileges are missing. */
  abort(): boolean;
  /** Closes the descriptor, unless the caller gave it. Idempotent. The connection ends when nobody else has it open. */
  close(): void;
}

const AT_FDCWD = -100;
const O_RDWR = 2;
const STAT_TIMEOUT_MS = 2000;
const HELPER_TIMEOUT_MS = 10_000;
const BUSY_MS = 300;
const ATTEMPT_MS = 2000;
/** How long {@link Attachment.unmountSync} waits for fusermount3. */
const EXIT_HELPER_MS = 1000;
/** Dead mounts on top of each other that are cleared away. */
const DEAD_MOUNTS_MAX = 16;

/**
 * Mounts, or takes over the given descriptor. The filesystem cannot be used before INIT was answered on the descriptor.
 *
 * A mount point whose FUSE mount is dead (its daemon ended, and it belongs to this user) is cleared first; one with a live
 * FUSE mount is refused.
 *
 * @throws MountError, see errors.ts; then nothing is left mounted.
 */
export async function attach(settings: AttachSettings): Promise<Attachment> {
  const { addon } = settings;
  const options = parseMountOptions(settings.options ?? '', {
    ...(settings.name === undefined ? {} : { fsname: settings.name }),
    ...(settings.subtype === undefined ? {} : { subtype: settings.subtype }),
  });
  if (settings.fd !== undefined) return adopt(settings, settings.fd, options);
  const privileged = isPrivileged();
  const resolved = await clearMountPoint(settings);
  checkMountPoint(resolved, privileged);
  const before = readMountInfo();
  const made = await makeMount(settings, resolved, options, privileged);
  const mount = findNewMount(before, resolved.path, connectionOf(made.fd));
  if (mount === undefined) {
    closeAll(addon, made);
    throw new MountError('ERR_FUSEWIRE_MOUNT_FAILED', resolved.path, { detail: 'it is not in /proc/self/mountinfo' });
  }
  return new MountedAttachment(settings, made, mount, resolved.path, options);
}

interface MadeMount {
  fd: number;
  how: 'mount' | 'fusermount';
  socket: number | undefined;
}

async function makeMount(
  settings: AttachSettings,
  resolved: ResolvedPath,
  options: MountOptions,
  privileged: boolean,
): Promise<MadeMount> {
  const way = settings.way ?? 'auto';
  // auto_unmount is a service of fusermount3: only a process that outlives the daemon can do it.
  const direct = way === 'mount' || (way === 'auto' && privileged && !options.autoUnmount);
  const helper = settings.helper ?? findHelper();
  if (direct) {
    const result = await mountDirectly(settings, resolved, options);
    if (result >= 0) return { fd: result, how: 'mount', socket: undefined };
    const refused = result === -errno('EPERM');
    if (!refused || way === 'mount' || helper === undefined) throw directError(settings, resolved.path, -result, options);
  }
  if (helper === undefined) {
    if (process.geteuid?.() === 0)
      throw new MountError('ERR_FUSEWIRE_NO_PERMISSION', 'mount', { detail: 'CAP_SYS_ADMIN is missing' });
    throw new MountError('ERR_FUSEWIRE_NO_HELPER', 'fusermount3');
  }
  const made = await mountByHelper({
    addon: settings.addon,
    helper,
    options: helperMountOptions(options),
    mountpoint: resolved.path,
    autoUnmount: options.autoUnmount,
    timeoutMs: settings.helperTimeoutMs ?? HELPER_TIMEOUT_MS,
  });
  return { ...made, how: 'fusermount' };
}

/** open(/dev/fuse) and mount(2). Answers the descriptor or -errno of mount(2). */
async function mountDirectly(settings: AttachSettings, resolved: ResolvedPath, options: MountOptions): Promise<number> {
  const { addon, begin } = settings;
  const device = settings.device ?? '/dev/fuse';
  const fd = addon.openat(AT_FDCWD, toBinary(device), O_RDWR, 0);
  if (fd < 0) {
    const denied = fd === -errno('EACCES') || fd === -errno('EPERM');
    if (denied) throw new MountError('ERR_FUSEWIRE_NO_PERMISSION', `open ${device}`, { errno: -fd });
    throw new MountError('ERR_FUSEWIRE_NO_DEVICE', device, { errno: -fd });
  }
  try {
    const { source, type } = mountSource(options);
    const identity = { fd, mode: resolved.mode as number, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
    const data = kernelMountData(options, identity);
    const call = mountCall(source, resolved.path, type, options.flags, data);
    const result =
      begin !== undefined && wantSynchronousInit(addon, fd)
        ? await mountSynchronously(addon, fd, call, begin)
        : addon.mount(call.source, call.target, call.type, call.flags, call.data);
    if (result === 0) return fd;
    addon.close(fd);
    return result;
  } catch (error) {
    addon.close(fd);
    throw error;
  }
}

const DIRECT_CODES: Readonly<Record<string, MountErrorCode>> = {
  EBUSY: 'ERR_FUSEWIRE_MOUNTPOINT_BUSY',
  ENOENT: 'ERR_FUSEWIRE_MOUNTPOINT_MISSING',
  ENOTDIR: 'ERR_FUSEWIRE_MOUNTPOINT_NOT_DIRECTORY',
  ENODEV: 'ERR_FUSEWIRE_NO_DEVICE',
  EPERM: 'ERR_FUSEWIRE_NO_PERMISSION',
  EACCES: 'ERR_FUSEWIRE_NO_PERMISSION',
};

function directError(settings: AttachSettings, mountpoint: string, number: number, options: MountOptions) {
  if (options.blockDevice) {
    const detail = `mount(2) of ${options.fsname} said ${errnoName(number)}`;
    return new MountError('ERR_FUSEWIRE_MOUNT_FAILED', mountpoint, { errno: number, detail });
  }
  const code = DIRECT_CODES[errnoName(number)] ?? 'ERR_FUSEWIRE_MOUNT_FAILED';
  let subject = mountpoint;
  if (code === 'ERR_FUSEWIRE_NO_DEVICE') subject = settings.device ?? '/dev/fuse';
  if (code === 'ERR_FUSEWIRE_NO_PERMISSION') subject = 'mount';
  return new MountError(code, subject, { errno: number, detail: `mount(2) said ${errnoName(number)}` });
}

function errno(name: string): number {
  return errnoNumber(name) as number;
}

/** Resolves the mount point and takes dead FUSE mounts of this user off it; refuses one that lives. */
async function clearMountPoint(settings: AttachSettings): Promise<ResolvedPath> {
  const timeoutMs = settings.statTimeoutMs ?? STAT_TIMEOUT_MS;
  for (let round = 0; round < DEAD_MOUNTS_MAX; round++) {
    const resolved = await resolveMountPoint(settings.mountpoint, timeoutMs);
    const { path, mounted } = resolved;
    if (mounted === undefined || !isFuseType(mounted.type)) return resolved;
    const state = await statInChild(path, timeoutMs);
    const dead = 'code' in state && state.code === 'ENOTCONN';
    const owned = isPrivileged() || mountOwner(mounted) === process.getuid?.();
    if (!dead || !owned) {
      const hung = 'code' in state && state.code === 'ETIMEDOUT';
      const detail = hung
        ? `the daemon of the ${mounted.type} mount there does not answer`
        : `a ${dead ? 'dead ' : ''}${mounted.type} mount of user ${mountOwner(mounted) ?? '?'} is there`;
      throw new MountError('ERR_FUSEWIRE_MOUNTPOINT_BUSY', path, { detail });
    }
    await detach(path, { lazy: true, timeoutMs, helper: settings.helper, addon: settings.addon });
  }
  throw new MountError('ERR_FUSEWIRE_MOUNTPOINT_BUSY', settings.mountpoint, {
    detail: 'dead mounts there could not be taken away',
  });
}

/**
 * Our new mount in the list: visible at the path, FUSE, not there before, and of our connection where the kernel tells its
 * number. A stat(2) would tell the device too, but would wait for INIT, which only we can answer.
 */
function findNewMount(before: readonly MountInfo[], path: string, connection: number | undefined): MountInfo | undefined {
  const known = new Set(before.map((mount) => mount.mountId));
  const mount = topmostMount(readMountInfo(), toBinary(path));
  if (mount === undefined || !isFuseType(mount.type)) return undefined;
  return connection === undefined
    ? known.has(mount.mountId)
      ? undefined
      : mount
    : connectionNumber(mount) === connection
      ? mount
      : undefined;
}

function closeAll(addon: Addon, made: MadeMount): void {
  addon.close(made.fd);
  if (made.socket !== undefined) addon.close(made.socket);
}

/** Takes a descriptor that somebody else mounted. */
function adopt(settings: AttachSettings, fd: number, options: MountOptions): Attachment {
  if (!Number.isInteger(fd) || fd < 0 || !isFuseDevice(fd)) {
    throw new MountError('ERR_FUSEWIRE_BAD_DESCRIPTOR', String(fd));
  }
  settings.addon.setInheritable(fd, false);
  const connection = connectionOf(fd);
  if (connection !== undefined && !isConnected(settings.addon, fd)) {
    throw new MountError('ERR_FUSEWIRE_BAD_DESCRIPTOR', String(fd), { detail: 'its connection has ended' });
  }
  const mount = readMountInfo().find(
    (candidate) => isFuseType(candidate.type) && connectionNumber(candidate) === connection && candidate.root === '/',
  );
  const mountpoint = mount === undefined ? settings.mountpoint && resolvePath(settings.mountpoint) : fromBinary(mount.mountPoint);
  return new GivenAttachment(settings.addon, fd, mountpoint ?? '', connection ?? 0, options);
}

/** A mount made here. */
class MountedAttachment implements Attachment {
  readonly fd: number;
  readonly how: 'mount' | 'fusermount';
  readonly mountpoint: string;
  readonly connection: number;
  readonly options: MountOptions;
  readonly #addon: Addon;
  readonly #helper: string | undefined;
  readonly #mount: MountInfo;
  readonly #uniqueId: string | undefined;
  #socket: number | undefined;
  #closed = false;

  constructor(settings: AttachSettings, made: MadeMount, mount: MountInfo, mountpoint: string, options: MountOptions) {
    this.#addon = settings.addon;
    this.#helper = settings.helper;
    this.#mount = mount;
    this.#socket = made.socket;
    this.fd = made.fd;
    this.how = made.how;
    this.mountpoint = mountpoint;
    this.connection = connectionNumber(mount);
    this.options = options;
    this.#uniqueId = uniqueMountId(this.#addon, mountpoint);
  }

  isOurs(): boolean {
    const now = topmostMount(readMountInfo(), this.#mount.mountPoint);
    if (now?.mountId !== this.#mount.mountId || now.major !== this.#mount.major || now.minor !== this.#mount.minor) return false;
    // The kernel reuses both numbers. A connection that lives proves that its mount does, too; else the unique id tells.
    if (!this.#closed && isConnected(this.#addon, this.fd)) return true;
    if (this.#uniqueId !== undefined) return uniqueMountId(this.#addon, this.mountpoint) === this.#uniqueId;
    return now.source === this.#mount.source && now.superOptions === this.#mount.superOptions;
  }

  async unmount(settings: UnmountSettings = {}): Promise<UnmountOutcome> {
    const { busyMs = BUSY_MS, attemptMs = ATTEMPT_MS } = settings;
    if (!this.isOurs()) return this.#ended('gone');
    const deadline = Date.now() + busyMs;
    let said = '';
    for (let pauseMs = 10; ; pauseMs = Math.min(pauseMs * 2, 200)) {
      said = await this.#detach(false, attemptMs);
      if (!this.isOurs()) return this.#ended('unmounted');
      if (Date.now() + pauseMs >= deadline || !/busy/i.test(said)) break;
      await sleep(pauseMs);
    }
    said = (await this.#detach(true, attemptMs)) || said;
    if (!this.isOurs()) return this.#ended('lazy');
    this.abort();
    said = (this.isOurs() && (await this.#detach(true, attemptMs))) || said;
    if (!this.isOurs()) return this.#ended('forced');
    throw new MountError('ERR_FUSEWIRE_UNMOUNT_FAILED', this.mountpoint, { detail: said });
  }

  unmountSync(): void {
    if (this.isOurs()) {
      if (this.how === 'mount' || isPrivileged()) {
        this.#addon.umount(toBinary(this.mountpoint), MNT_DETACH | MNT_FORCE | UMOUNT_NOFOLLOW);
      } else {
        this.abort();
        detachSync(this.mountpoint, EXIT_HELPER_MS, this.#helper);
      }
    }
    this.#ended('gone');
  }

  abort(): boolean {
    const isAlive = () => !this.#closed && isConnected(this.#addon, this.fd);
    if (isAlive() && abortConnection(this.connection, isAlive)) return true;
    if (!this.isOurs()) return false;
    // FUSE's umount_begin aborts the connection, whether or not the unmount that follows finds the mount busy.
    if (this.how === 'mount' || isPrivileged()) this.#addon.umount(toBinary(this.mountpoint), MNT_FORCE | UMOUNT_NOFOLLOW);
    return this.#closed || !isConnected(this.#addon, this.fd);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#addon.close(this.fd);
    this.#ended('gone');
  }

  #detach(lazy: boolean, timeoutMs: number): Promise<string> {
    return detach(this.mountpoint, { lazy, timeoutMs, helper: this.#helper, addon: this.#addon });
  }

  /** Lets the auto_unmount helper go: it looks at the mount point when its socket closes, and finds nothing dead. */
  #ended(outcome: UnmountOutcome): UnmountOutcome {
    if (this.#socket !== undefined) this.#addon.close(this.#socket);
    this.#socket = undefined;
    return outcome;
  }
}

/** A mount that somebody else made and will take away. */
class GivenAttachment implements Attachment {
  readonly how = 'given';
  readonly fd: number;
  readonly mountpoint: string;
  readonly connection: number;
  readonly options: MountOptions;
  readonly #addon: Addon;

  constructor(addon: Addon, fd: number, mountpoint: string, connection: number, options: MountOptions) {
    this.#addon = addon;
    this.fd = fd;
    this.mountpoint = mountpoint;
    this.connection = connection;
    this.options = options;
  }

  isOurs(): boolean {
    return false;
  }

  async unmount(): Promise<UnmountOutcome> {
    return 'gone';
  }

  unmountSync(): void {}

  abort(): boolean {
    const isAlive = () => isConnected(this.#addon, this.fd);
    return this.connection !== 0 && isAlive() && abortConnection(this.connection, isAlive);
  }

  close(): void {}
}

const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_NO_AUTOMOUNT = 0x800;
const AT_STATX_DONT_SYNC = 0x4000;
const STATX_MNT_ID_UNIQUE = 0x4000;
/** Offset of stx_mnt_id in struct statx, <linux/stat.h>. */
const STX_MNT_ID_AT = 0x90;

/**
 * The kernel's never-reused id of the mount at a path (Linux 6.8 and later). Asks for nothing that FUSE would have to ask its
 * daemon for, and says so (AT_STATX_DONT_SYNC: fuse_update_get_attr answers from its cache), so it does not wait.
 */
function uniqueMountId(addon: Addon, path: string): string | undefined {
  const flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
  if (addon.statx(AT_FDCWD, toBinary(path), flags, STATX_MNT_ID_UNIQUE, 0, 0) !== 0) return undefined;
  const words = new Uint32Array(addon.scratch, 0, 64);
  if ((words[0] & STATX_MNT_ID_UNIQUE) === 0) return undefined;
  return `${words[STX_MNT_ID_AT / 4 + 1]}:${words[STX_MNT_ID_AT / 4]}`;
}
