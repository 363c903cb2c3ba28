/** GETATTR, STATX and SETATTR, and what decides whether they are sent. */
import { splitDevice } from '../../filesystem/index.ts';
import {
  type Attr,
  decodeAttrOut,
  decodeStatxOut,
  FATTR_ATIME,
  FATTR_ATIME_NOW,
  FATTR_CTIME,
  FATTR_FH,
  FATTR_GID,
  FATTR_KILL_SUIDGID,
  FATTR_LOCKOWNER,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_MTIME_NOW,
  FATTR_SIZE,
  FATTR_UID,
  FUSE_GETATTR_FH,
  newAttrOut,
  newStatxOut,
  type SetattrIn,
  setattrHasCtime,
  statxExists,
} from '../../protocol/index.ts';
import type { PosixStat, PosixTime } from '../posix.ts';
import {
  isDirectory,
  isRegular,
  MAY_WRITE,
  S_IFMT,
  S_ISGID,
  S_ISUID,
  S_IXGRP,
  STATX_BASIC_STATS,
  STATX_BTIME,
} from './constants.ts';
import { type Call, type Core, has, isPrivileged, lockOwner } from './core.ts';
import { ERRNO, fail } from './errors.ts';
import type { OpenFile } from './files.ts';
import { assertGood, attrOfStatx, type Inode, isInvalidAttr } from './inodes.ts';
import { isInGroup, ownsInode, permit } from './permissions.ts';
import { flushInode } from './writeback.ts';
import { needsKillpriv } from './xattrs.ts';

const { EIO, EINTR, EPERM, EFBIG, EINVAL, ENOSYS, EISDIR } = ERRNO;

/** fuse_do_getattr: asks whatever is cached. */
export async function getattr(core: Core, call: Call, inode: Inode, file?: OpenFile): Promise<void> {
  assertGood(inode);
  const version = core.attrVersion;
  const usesHandle = file !== undefined && isRegular(inode.mode);
  const args = usesHandle ? { getattr_flags: FUSE_GETATTR_FH, fh: file.handle } : {};
  const reply = await core.wire.call({ op: 'GETATTR', nodeid: inode.nodeid, args, caller: call });
  const out = newAttrOut();
  decodeAttrOut(reply.words, 0, out);
  checkType(core, inode, out.attr);
  core.inodes.update(inode, out.attr, core.clock.deadline(out.attr_valid, out.attr_valid_nsec), version);
}

/** A reply that says the node is another type of file now makes the inode bad. */
function checkType(core: Core, inode: Inode, attr: Attr): void {
  if (!isInvalidAttr(attr) && (attr.mode & S_IFMT) === (inode.mode & S_IFMT)) return;
  core.inodes.makeBad(inode);
  fail(EIO);
}

/** fuse_update_attributes: asks when one of the groups is stale, or the attributes have expired. */
export async function refresh(core: Core, call: Call, inode: Inode, groups: number, file?: OpenFile): Promise<void> {
  const stale = groups & inode.invalid & ~core.inodes.ownGroups(inode);
  if (stale !== 0 || core.clock.isOver(inode.validUntil)) await getattr(core, call, inode, file);
}

/** Attributes as statx(2) gives them; `withBirth` asks for the birth time too, which only STATX can answer. */
export async function stat(
  core: Core,
  call: Call,
  inode: Inode,
  options: { readonly file?: OpenFile | undefined; readonly withBirth?: boolean } = {},
): Promise<PosixStat> {
  let btimeNs: bigint | undefined;
  const { file } = options;
  assertGood(inode);
  if (!core.mount.allowOther && (call.caller.uid !== core.mount.userId || call.caller.gid !== core.mount.groupId))
    fail(ERRNO.EACCES);
  if (options.withBirth && statxExists(core.wire.agreed.minor) && !core.missing.has('STATX')) {
    btimeNs = await statx(core, call, inode, file);
  } else await refresh(core, call, inode, STATX_BASIC_STATS, file);
  return { ...toStat(core, inode), btimeNs };
}

async function statx(core: Core, call: Call, inode: Inode, file: OpenFile | undefined): Promise<bigint | undefined> {
  const version = core.attrVersion;
  const handle = file !== undefined && isRegular(inode.mode) ? { getattr_flags: FUSE_GETATTR_FH, fh: file.handle } : {};
  const args = { ...handle, sx_mask: STATX_BASIC_STATS | STATX_BTIME };
  const reply = await core.wire.request({ op: 'STATX', nodeid: inode.nodeid, args, caller: call });
  if (reply.errno === ENOSYS) {
    core.missing.add('STATX');
    await refresh(core, call, inode, STATX_BASIC_STATS, file);
    return undefined;
  }
  if (reply.errno !== 0) fail(reply.errno);
  const out = newStatxOut();
  decodeStatxOut(reply.words, 0, out);
  const attr = attrOfStatx(out.stat);
  checkType(core, inode, attr);
  // Only a complete set of basic attributes is cached.
  if ((out.stat.mask & STATX_BASIC_STATS) === STATX_BASIC_STATS)
    core.inodes.update(inode, attr, core.clock.deadline(out.attr_valid, out.attr_valid_nsec), version);
  const { btime } = out.stat;
  return (out.stat.mask & STATX_BTIME) !== 0 ? nanoseconds(btime.tv_sec, btime.tv_nsec) : undefined;
}

const nanoseconds = (seconds: number, rest: number): bigint => BigInt(seconds) * 1_000_000_000n + BigInt(rest);

export function toStat(core: Core, inode: Inode): PosixStat {
  const { attr } = inode;
  const rdev = splitDevice(attr.rdev);
  return {
    dev: core.mount.device,
    ino: (BigInt(attr.ino_hi) << 32n) | BigInt(attr.ino_lo),
    mode: attr.mode,
    nlink: attr.nlink,
    uid: attr.uid,
    gid: attr.gid,
    rdev: rdev.major * 2 ** 20 + rdev.minor,
    size: attr.size,
    blksize: attr.blksize,
    blocks: attr.blocks,
    atimeNs: nanoseconds(attr.atime, attr.atimensec),
    mtimeNs: nanoseconds(attr.mtime, attr.mtimensec),
    ctimeNs: nanoseconds(attr.ctime, attr.ctimensec),
    btimeNs: undefined,
  };
}

// --- SETATTR -----------------------------------------------------------------------------------------------------------------

interface Change {
  readonly args: Partial<SetattrIn> & { valid: number };
  readonly file?: OpenFile | undefined;
  /** Set-id bits go, as far as the daemon does not take them away itself. */
  readonly killsSetId?: boolean;
}

/** fuse_setattr and fuse_do_setattr. The caller holds the inode's lock. */
export async function setattr(core: Core, call: Call, inode: Inode, change: Change): Promise<void> {
  assertGood(inode);
  const args = { ...change.args };
  // What it comes to may be nothing, as for chown(file, -1, -1); it is sent all the same, and means set-id bits.
  if (change.killsSetId) await killSetId(core, call, inode, args, change.file);
  const isWriteback = has(core, 'FUSE_WRITEBACK_CACHE') && isRegular(inode.mode);
  const isTruncate = (args.valid & FATTR_SIZE) !== 0;
  if (isWriteback && (args.valid & (FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_MTIME | FATTR_ATIME)) !== 0)
    await flushInode(core, call, inode);
  const killsByDaemon = has(core, 'FUSE_HANDLE_KILLPRIV_V2');
  if (change.file !== undefined && isTruncate) Object.assign(args, { valid: args.valid | FATTR_FH, fh: change.file.handle });
  if (killsByDaemon && !isDirectory(inode.mode) && (args.valid & (FATTR_UID | FATTR_GID)) !== 0) args.valid |= FATTR_KILL_SUIDGID;
  if (isTruncate) {
    const owner = lockOwner(call.caller.filesId);
    Object.assign(args, { valid: args.valid | FATTR_LOCKOWNER, lock_owner_lo: owner.low, lock_owner_hi: owner.high });
    if (killsByDaemon && !isPrivileged(call.caller)) args.valid |= FATTR_KILL_SUIDGID;
    inode.isSizeUnstable = true;
  }
  if (isWriteback) ownTimes(core, inode, args, isTruncate);
  try {
    await sendSetattr(core, call, inode, args, isWriteback, isTruncate);
  } finally {
    if (isTruncate) inode.isSizeUnstable = false;
  }
}

/** With write-back the kernel's times are the true ones and travel along. */
function ownTimes(core: Core, inode: Inode, args: Partial<SetattrIn> & { valid: number }, isTruncate: boolean): void {
  const now = core.clock.wallNs();
  const seconds = Number(now / 1_000_000_000n);
  const rest = Number(now % 1_000_000_000n);
  if (isTruncate && args.size !== inode.size)
    Object.assign(args, { valid: args.valid | FATTR_MTIME, mtime: seconds, mtimensec: rest });
  if (setattrHasCtime(core.wire.agreed.minor))
    Object.assign(args, { valid: args.valid | FATTR_CTIME, ctime: seconds, ctimensec: rest });
}

async function sendSetattr(
  core: Core,
  call: Call,
  inode: Inode,
  args: Partial<SetattrIn> & { valid: number },
  isWriteback: boolean,
  isTruncate: boolean,
): Promise<void> {
  const reply = await core.wire.request({ op: 'SETATTR', nodeid: inode.nodeid, args, caller: call });
  if (reply.errno !== 0) {
    if (reply.errno === EINTR) inode.invalidate();
    fail(reply.errno);
  }
  const out = newAttrOut();
  decodeAttrOut(reply.words, 0, out);
  checkType(core, inode, out.attr);
  if (isWriteback) {
    const { attr } = inode;
    if ((args.valid & FATTR_MTIME) !== 0) Object.assign(attr, { mtime: args.mtime, mtimensec: args.mtimensec });
    if ((args.valid & FATTR_CTIME) !== 0) Object.assign(attr, { ctime: args.ctime, ctimensec: args.ctimensec });
  }
  const oldSize = inode.size;
  const validUntil = core.clock.deadline(out.attr_valid, out.attr_valid_nsec);
  core.inodes.replace(inode, out.attr, validUntil, core.inodes.ownGroups(inode));
  if (isTruncate) inode.attr.size = out.attr.size;
  if ((isTruncate || !isWriteback) && isRegular(inode.mode) && oldSize !== out.attr.size) {
    inode.pages.truncate(out.attr.size);
    inode.pages.dropClean();
  }
}

/** Without FUSE_HANDLE_KILLPRIV the kernel takes set-id bits away by a mode of its own. */
async function killSetId(
  core: Core,
  call: Call,
  inode: Inode,
  args: Partial<SetattrIn> & { valid: number },
  file: OpenFile | undefined,
): Promise<void> {
  if (has(core, 'FUSE_HANDLE_KILLPRIV') || has(core, 'FUSE_HANDLE_KILLPRIV_V2')) return;
  await getattr(core, call, inode, file);
  let { mode } = inode;
  mode &= ~S_ISUID;
  if ((mode & (S_ISGID | S_IXGRP)) === (S_ISGID | S_IXGRP)) mode &= ~S_ISGID;
  if (mode !== inode.mode) Object.assign(args, { valid: args.valid | FATTR_MODE, mode });
}

export const hasSetId = (mode: number): boolean => (mode & S_ISUID) !== 0 || (mode & (S_ISGID | S_IXGRP)) === (S_ISGID | S_IXGRP);

/**
 * file_remove_privs: before a file's data change, set-id bits go (unless root changes them), and file capabilities are
 * asked for by GETXATTR.
 */
export async function removePrivileges(core: Core, call: Call, inode: Inode): Promise<void> {
  if (inode.hasNoSecurity || !isRegular(inode.mode)) return;
  const killsSetId = hasSetId(inode.mode) && !isPrivileged(call.caller);
  const killsCapability = await needsKillpriv(core, call, inode);
  if (killsSetId) await setattr(core, call, inode, { args: { valid: 0 }, killsSetId });
  if (!killsSetId && !killsCapability && !hasSetId(inode.mode) && has(core, 'FUSE_HANDLE_KILLPRIV_V2'))
    inode.hasNoSecurity = true;
}

export async function chmod(core: Core, call: Call, inode: Inode, mode: number): Promise<void> {
  const { caller } = call;
  if ((inode.mode & S_IFMT) === 0o120000) fail(ERRNO.EOPNOTSUPP);
  await inode.lock.hold(true, async () => {
    if (core.mount.readOnly) fail(ERRNO.EROFS);
    let wanted = (mode & 0o7777) | (inode.mode & S_IFMT);
    if (core.mount.defaultPermissions) {
      await refresh(core, call, inode, STATX_BASIC_STATS);
      if (!ownsInode(caller, inode)) fail(EPERM);
      if (!isInGroup(caller, inode.attr.gid) && !isPrivileged(caller)) wanted &= ~S_ISGID;
    }
    inode.hasNoSecurity = false;
    await setattr(core, call, inode, { args: { valid: FATTR_MODE, mode: wanted } });
  });
}

export async function chown(core: Core, call: Call, inode: Inode, uid: number, gid: number): Promise<void> {
  const { caller } = call;
  await inode.lock.hold(true, async () => {
    if (core.mount.readOnly) fail(ERRNO.EROFS);
    if (core.mount.defaultPermissions) {
      await refresh(core, call, inode, STATX_BASIC_STATS);
      const isOwner = caller.uid === inode.attr.uid;
      const mayUid = uid < 0 || isPrivileged(caller) || (isOwner && uid === inode.attr.uid);
      const mayGid = gid < 0 || isPrivileged(caller) || (isOwner && (isInGroup(caller, gid) || gid === inode.attr.gid));
      if (!mayUid || !mayGid) fail(EPERM);
    }
    const args: Partial<SetattrIn> & { valid: number } = { valid: 0 };
    if (uid >= 0) Object.assign(args, { valid: args.valid | FATTR_UID, uid });
    if (gid >= 0) Object.assign(args, { valid: args.valid | FATTR_GID, gid });
    const isFile = !isDirectory(inode.mode);
    if (isFile && isRegular(inode.mode)) await needsKillpriv(core, call, inode);
    await setattr(core, call, inode, { args, killsSetId: isFile && hasSetId(inode.mode) });
  });
}

export async function utimens(core: Core, call: Call, inode: Inode, atime: PosixTime, mtime: PosixTime): Promise<void> {
  if (atime === 'omit' && mtime === 'omit') return;
  await inode.lock.hold(true, async () => {
    if (core.mount.readOnly) fail(ERRNO.EROFS);
    if (core.mount.defaultPermissions) await mayTouch(core, call, inode, atime === 'now' && mtime === 'now');
    const now = core.clock.wallNs();
    const args: Partial<SetattrIn> & { valid: number } = { valid: 0 };
    if (atime !== 'omit') {
      const { seconds, rest } = split(atime === 'now' ? now : atime);
      Object.assign(args, { atime: seconds, atimensec: rest });
      args.valid |= FATTR_ATIME | (atime === 'now' ? FATTR_ATIME_NOW : 0);
    }
    if (mtime !== 'omit') {
      const { seconds, rest } = split(mtime === 'now' ? now : mtime);
      Object.assign(args, { mtime: seconds, mtimensec: rest });
      args.valid |= FATTR_MTIME | (mtime === 'now' ? FATTR_MTIME_NOW : 0);
    }
    await setattr(core, call, inode, { args });
  });
}

/** The present time may be set by whoever may write; any other only by the owner. */
async function mayTouch(core: Core, call: Call, inode: Inode, isNow: boolean): Promise<void> {
  await refresh(core, call, inode, STATX_BASIC_STATS);
  if (ownsInode(call.caller, inode)) return;
  if (!isNow) fail(EPERM);
  await permit(core, call, inode, MAY_WRITE);
}

function split(time: bigint): { seconds: number; rest: number } {
  const rest = ((time % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return { seconds: Number((time - rest) / 1_000_000_000n), rest: Number(rest) };
}

/** truncate(2), ftruncate(2) with a file, and O_TRUNC where the daemon does not do it in OPEN. */
export async function truncate(core: Core, call: Call, inode: Inode, size: number, file?: OpenFile): Promise<void> {
  if (size < 0) fail(EINVAL);
  if (inode.isDirectory) fail(EISDIR);
  if (!isRegular(inode.mode)) fail(EINVAL);
  if (size > Number.MAX_SAFE_INTEGER) fail(EFBIG);
  await inode.lock.hold(true, () => truncateLocked(core, call, inode, size, file));
}

export async function truncateLocked(core: Core, call: Call, inode: Inode, size: number, file?: OpenFile): Promise<void> {
  const killsSetId = hasSetId(inode.mode) && !isPrivileged(call.caller);
  if (!inode.hasNoSecurity) await needsKillpriv(core, call, inode);
  await setattr(core, call, inode, { args: { valid: FATTR_SIZE, size }, file, killsSetId });
}
