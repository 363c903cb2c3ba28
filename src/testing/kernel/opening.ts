/** open(2): from a path and O_* flags to an open file. */
import { truncate } from './attributes.ts';
import {
  __O_TMPFILE,
  isRegular,
  isSymlink,
  MAY_EXEC,
  MAY_READ,
  MAY_WRITE,
  O_ACCMODE,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOATIME,
  O_NOFOLLOW,
  O_PATH,
  O_TRUNC,
  S_IFREG,
} from './constants.ts';
import { type Call, type Core, has } from './core.ts';
import type { Dentry } from './dentries.ts';
import { ERRNO, fail } from './errors.ts';
import { OpenFile, openInode } from './files.ts';
import { create, sendMknod, tmpfile } from './namespace.ts';
import { ownsInode, permit } from './permissions.ts';
import { finishStep, type Links, linkText, newLinks, type Target, walk, walkParent } from './walk.ts';
import { needsKillpriv } from './xattrs.ts';

const { ENOENT, EEXIST, EISDIR, ELOOP, ENOTDIR, EROFS, EPERM, EINVAL } = ERRNO;

export async function openPath(core: Core, call: Call, path: string, flags: number, mode: number): Promise<OpenFile> {
  if ((flags & O_PATH) !== 0) return openForPath(core, call, path, flags);
  if ((flags & __O_TMPFILE) !== 0) {
    if ((flags & O_DIRECTORY) === 0 || (flags & O_CREAT) !== 0) fail(EINVAL);
    const directory = await walk(core, call, path);
    return tmpfile(core, call, directory.inode!, flags, mode);
  }
  if ((flags & (O_CREAT | O_DIRECTORY)) === (O_CREAT | O_DIRECTORY)) fail(EINVAL);
  if ((flags & O_CREAT) !== 0) return openOrCreate(core, call, path, flags, mode);
  const target = await walkParent(core, call, path);
  const links = newLinks();
  const follow = (flags & O_NOFOLLOW) === 0 || target.isDirectory;
  const found = await finishStep(core, call, target, links, follow);
  if (target.isDirectory && !found.inode!.isDirectory) fail(ENOTDIR);
  return openExisting(core, call, found, flags);
}

/** O_PATH: the file is only a place, the daemon is not told. */
async function openForPath(core: Core, call: Call, path: string, flags: number): Promise<OpenFile> {
  const found = await walk(core, call, path, { follow: (flags & O_NOFOLLOW) === 0 });
  const inode = found.inode!;
  if ((flags & O_DIRECTORY) !== 0 && !inode.isDirectory) fail(ENOTDIR);
  const file = new OpenFile(inode, found, (flags & ~O_ACCMODE) | O_PATH);
  file.isSilent = true;
  file.isOpen = true;
  inode.pins++;
  found.pins++;
  return file;
}

async function openOrCreate(core: Core, call: Call, path: string, flags: number, mode: number): Promise<OpenFile> {
  const links = newLinks();
  let target = await walkParent(core, call, path, undefined, links);
  // Each turn is a symbolic link at the end of the path.
  for (;;) {
    if (target.kind !== 'name') return openDots(core, call, target, links, flags);
    if (target.isDirectory) fail(EISDIR);
    const here: Target = target;
    const result = await here.parent.inode!.lock.hold(true, () => lookupOrCreate(core, call, here, flags, mode));
    if (result instanceof OpenFile) return result;
    const inode = result.inode!;
    if ((flags & O_EXCL) !== 0) fail(EEXIST);
    if (!isSymlink(inode.mode)) {
      if (inode.isDirectory) fail(EISDIR);
      return openExisting(core, call, result, flags);
    }
    if ((flags & O_NOFOLLOW) !== 0) fail(ELOOP);
    const text = await linkText(core, call, result, links);
    target = await walkParent(core, call, text, result.parent, links);
  }
}

async function openDots(core: Core, call: Call, target: Target, links: Links, flags: number): Promise<OpenFile> {
  if ((flags & O_EXCL) !== 0) fail(EEXIST);
  await finishStep(core, call, target, links, true);
  fail(EISDIR);
}

/** lookup_open with fuse_atomic_open: the dentry that is there, or a file that was made. The directory is locked. */
async function lookupOrCreate(core: Core, call: Call, target: Target, flags: number, mode: number): Promise<Dentry | OpenFile> {
  const parent = target.parent.inode!;
  const child = await core.dentries.lookup(
    call,
    target.parent,
    target.name,
    (flags & O_EXCL) !== 0 ? 'exclusive' : undefined,
    true,
  );
  if (child.inode !== undefined) return child;
  if (core.mount.readOnly) fail(EROFS);
  if (parent.isDead) fail(ENOENT);
  await permit(core, call, parent, MAY_WRITE | MAY_EXEC);
  const made = await create(core, call, child, flags, mode);
  if (made !== undefined) return made;
  const entry = await sendMknod(core, call, child, (mode & 0o7777) | S_IFREG, 0);
  call.holdDentry(entry);
  return openInode(core, call, entry.inode!, entry, flags & ~O_TRUNC);
}

function accessOf(flags: number): number {
  const access = [MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE][flags & O_ACCMODE]!;
  return (flags & O_TRUNC) !== 0 ? access | MAY_WRITE : access;
}

/** do_open and may_open. */
async function openExisting(core: Core, call: Call, dentry: Dentry, flags: number): Promise<OpenFile> {
  const inode = dentry.inode!;
  call.holdDentry(dentry);
  if ((flags & O_DIRECTORY) !== 0 && !inode.isDirectory) fail(ENOTDIR);
  if (isSymlink(inode.mode)) fail(ELOOP);
  const access = accessOf(flags);
  if (inode.isDirectory && (access & MAY_WRITE) !== 0) fail(EISDIR);
  await permit(core, call, inode, access);
  if ((flags & O_NOATIME) !== 0 && !ownsInode(call.caller, inode)) fail(EPERM);
  const file = await openInode(core, call, inode, dentry, flags);
  if ((flags & O_TRUNC) === 0 || !isRegular(inode.mode)) return file;
  // The daemon may have truncated it in OPEN; then only file capabilities are left to ask for (handle_truncate).
  if (!has(core, 'FUSE_ATOMIC_O_TRUNC')) await truncate(core, call, inode, 0);
  else if (!inode.hasNoSecurity) await needsKillpriv(core, call, inode);
  return file;
}
