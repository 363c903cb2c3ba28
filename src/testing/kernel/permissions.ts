/** Who may do what: fuse_permission and what the VFS checks around it. */

import { getattr } from './attributes.ts';
import {
  isDirectory,
  isRegular,
  MAY_EXEC,
  MAY_READ,
  MAY_WRITE,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
  S_ISGID,
  S_ISVTX,
  S_IXGRP,
  S_IXUGO,
  STATX_GID,
  STATX_MODE,
  STATX_UID,
} from './constants.ts';
import { type Call, type Caller, type Core, isPrivileged } from './core.ts';
import type { Dentry } from './dentries.ts';
import { ERRNO, fail } from './errors.ts';
import { assertGood, type Inode } from './inodes.ts';

const { EACCES, EPERM, EROFS, ENOENT, EEXIST, ENOTDIR, EISDIR, EBUSY, ENOSYS } = ERRNO;

export const isInGroup = (caller: Caller, gid: number): boolean => caller.gid === gid || caller.groups.includes(gid);

/** inode_owner_or_capable. */
export const ownsInode = (caller: Caller, inode: Inode): boolean => isPrivileged(caller) || caller.uid === inode.attr.uid;

/** Without allow_other only the user who mounted may come in, root included (fuse_allow_current_process). */
function mayEnter(core: Core, caller: Caller): boolean {
  const { allowOther, userId, groupId } = core.mount;
  return allowOther || (caller.uid === userId && caller.gid === groupId);
}

/** generic_permission by mode bits. */
function byMode(core: Core, caller: Caller, inode: Inode, mask: number): boolean {
  const mode = core.inodes.effectiveMode(inode);
  let bits = mode;
  if (caller.uid === inode.attr.uid) bits = mode >> 6;
  else if (isInGroup(caller, inode.attr.gid)) bits = mode >> 3;
  if ((mask & ~bits & 7) === 0) return true;
  if (!isPrivileged(caller)) return false;
  return isDirectory(mode) || (mask & MAY_EXEC) === 0 || (mode & S_IXUGO) !== 0;
}

export interface PermissionOptions {
  /** access(2) or chdir(2): without default_permissions the daemon is asked. */
  readonly isAccess?: boolean;
}

/** fuse_permission behind inode_permission: fails with EACCES, EROFS, EIO, or what ACCESS answered. */
export async function permit(core: Core, call: Call, inode: Inode, mask: number, options: PermissionOptions = {}): Promise<void> {
  const { caller } = call;
  const type = inode.mode & S_IFMT;
  if ((mask & MAY_WRITE) !== 0 && core.mount.readOnly && (type === S_IFREG || type === S_IFDIR || type === 0o120000)) fail(EROFS);
  assertGood(inode);
  if (!mayEnter(core, caller)) fail(EACCES);
  const wantsExec = (mask & MAY_EXEC) !== 0 && isRegular(inode.mode);
  let isRefreshed = false;
  if (core.mount.defaultPermissions || wantsExec) {
    const needed = STATX_MODE | STATX_UID | STATX_GID;
    if ((needed & inode.invalid) !== 0 || core.clock.isOver(inode.validUntil)) {
      isRefreshed = true;
      await getattr(core, call, inode);
    }
  }
  if (core.mount.defaultPermissions) {
    if (byMode(core, caller, inode, mask)) return;
    // The cached mode may be wrong, so the daemon is asked once more before anybody is turned away.
    if (!isRefreshed) {
      await getattr(core, call, inode);
      if (byMode(core, caller, inode, mask)) return;
    }
    fail(EACCES);
  }
  if (options.isAccess) await askAccess(core, call, inode, mask);
  else if (wantsExec && (inode.mode & S_IXUGO) === 0) fail(EACCES);
}

async function askAccess(core: Core, call: Call, inode: Inode, mask: number): Promise<void> {
  if (core.missing.has('ACCESS')) return;
  const args = { mask: mask & (MAY_READ | MAY_WRITE | MAY_EXEC) };
  const { errno } = await core.wire.request({ op: 'ACCESS', nodeid: inode.nodeid, args, caller: call });
  if (errno === ENOSYS) core.missing.add('ACCESS');
  else if (errno !== 0) fail(errno);
}

/** may_create: a name that is not there yet, in a directory that may be written. */
export async function mayCreate(core: Core, call: Call, parent: Inode, child: Dentry): Promise<void> {
  if (child.inode !== undefined) fail(EEXIST);
  if (parent.isDead) fail(ENOENT);
  await permit(core, call, parent, MAY_WRITE | MAY_EXEC);
}

/** may_delete: the name is there, the directory may be written, the sticky bit allows it, and the type is the right one. */
export async function mayDelete(core: Core, call: Call, parent: Inode, victim: Dentry, wantsDirectory: boolean): Promise<void> {
  const inode = victim.inode;
  if (inode === undefined) fail(ENOENT);
  await permit(core, call, parent, MAY_WRITE | MAY_EXEC);
  const { caller } = call;
  const isSticky = (core.inodes.effectiveMode(parent) & S_ISVTX) !== 0;
  if (isSticky && caller.uid !== inode.attr.uid && caller.uid !== parent.attr.uid && !isPrivileged(caller)) fail(EPERM);
  if (wantsDirectory) {
    if (!inode.isDirectory) fail(ENOTDIR);
    if (victim === core.dentries.root) fail(EBUSY);
  } else if (inode.isDirectory) fail(EISDIR);
  if (parent.isDead) fail(ENOENT);
}

export function assertWritable(core: Core): void {
  if (core.mount.readOnly) fail(EROFS);
}

/** mode_strip_sgid: only members of a directory's group may make set-group-id programs in it. */
export function stripSetGid(core: Core, caller: Caller, parent: Inode, mode: number): number {
  const both = S_ISGID | S_IXGRP;
  if ((mode & both) !== both || isDirectory(mode) || (core.inodes.effectiveMode(parent) & S_ISGID) === 0) return mode;
  return isInGroup(caller, parent.attr.gid) || isPrivileged(caller) ? mode : mode & ~S_ISGID;
}
