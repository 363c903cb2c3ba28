/** Making, removing, linking and renaming names. */
import { makeDevice } from '../../filesystem/index.ts';
import { encodeExtensions, FUSE_OPEN_KILL_SUIDGID, type OpcodeName, opcodeNamed, rename2Exists } from '../../protocol/index.ts';
import {
  MAY_WRITE,
  O_ACCMODE,
  O_CLOEXEC,
  O_LARGEFILE,
  O_NOCTTY,
  O_TRUNC,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  STATX_MODSIZE,
} from './constants.ts';
import { type Call, type Core, has, isPrivileged } from './core.ts';
import { type Dentry, decodeEntry } from './dentries.ts';
import { ERRNO, errnoFrom, fail } from './errors.ts';
import { type OpenFile, takeCreated } from './files.ts';
import { type Inode, isInvalidAttr } from './inodes.ts';
import { assertWritable, mayCreate, mayDelete, permit, stripSetGid } from './permissions.ts';
import { holdBoth } from './rwlock.ts';
import { checkPath, type Target, walkParent } from './walk.ts';
import type { Outgoing } from './wire.ts';
import { touchStatus } from './writeback.ts';

const { EEXIST, EIO, EINTR, ENOENT, ENOSYS, EPERM, EINVAL, EISDIR, ENOTDIR, EBUSY, ENOTEMPTY, EOPNOTSUPP } = ERRNO;

/** fuse_dir_changed: what is cached of a directory is stale. */
function directoryChanged(directory: Inode): void {
  directory.invalidate(STATX_MODSIZE);
  directory.listing = undefined;
}

/** The mode that is sent: without the umask unless the daemon applies it. */
function maskedMode(core: Core, call: Call, parent: Inode, mode: number): number {
  const stripped = stripSetGid(core, call.caller, parent, mode);
  return has(core, 'FUSE_DONT_MASK') ? stripped : stripped & ~call.caller.umask;
}

/** What creating requests carry behind their names. */
function extensions(core: Core, call: Call, parent: Inode): { extensions?: Uint8Array } {
  const { caller } = call;
  const isMember = caller.gid !== parent.attr.gid && caller.groups.includes(parent.attr.gid);
  const groups = has(core, 'FUSE_CREATE_SUPP_GROUP') && isMember ? [parent.attr.gid] : undefined;
  const securityContexts = has(core, 'FUSE_SECURITY_CTX') ? [] : undefined;
  if (groups === undefined && securityContexts === undefined) return {};
  return { extensions: encodeExtensions({ groups, securityContexts }) };
}

/** create_new_entry: sends, checks what came, puts it into the caches. */
async function makeEntry<Op extends OpcodeName>(
  core: Core,
  child: Dentry,
  outgoing: Outgoing<Op>,
  type: number,
): Promise<Dentry> {
  const parent = child.parent!;
  const version = core.attrVersion;
  const reply = await core.wire.request(outgoing);
  if (reply.errno !== 0) {
    if (reply.errno === EEXIST) child.validUntil = 0;
    fail(reply.errno);
  }
  const entry = decodeEntry(reply);
  if (entry.nodeid === 0 || entry.nodeid === 1 || isInvalidAttr(entry.attr)) fail(EIO);
  if ((entry.attr.mode & S_IFMT) !== type) {
    core.inodes.forget(entry.nodeid, 1);
    fail(EIO);
  }
  const inode = core.inodes.take(entry, version);
  core.dentries.invalidate(child);
  const made = core.dentries.add(parent, child.name, inode, core.clock.deadline(entry.entry_valid, entry.entry_valid_nsec));
  directoryChanged(parent.inode!);
  return made;
}

/** filename_create: the negative dentry of a name to be made, with its directory locked. */
async function withNewName<T>(
  core: Core,
  call: Call,
  path: string,
  wantsDirectory: boolean,
  action: (child: Dentry, parent: Inode) => Promise<T>,
): Promise<T> {
  const target = await walkParent(core, call, path);
  if (target.kind !== 'name') fail(EEXIST);
  const parent = target.parent.inode!;
  return parent.lock.hold(true, async () => {
    const child = await core.dentries.lookup(call, target.parent, target.name, 'exclusive', true);
    if (child.inode !== undefined) fail(EEXIST);
    if (target.isDirectory && !wantsDirectory) fail(ENOENT);
    assertWritable(core);
    return action(child, parent);
  });
}

export async function mkdir(core: Core, call: Call, path: string, mode: number): Promise<void> {
  await withNewName(core, call, path, true, async (child, parent) => {
    await mayCreate(core, call, parent, child);
    const args = { mode: maskedMode(core, call, parent, mode & 0o1777), umask: call.caller.umask };
    const { nodeid } = parent;
    const names = [child.name];
    await makeEntry(core, child, { op: 'MKDIR', nodeid, args, names, caller: call, ...extensions(core, call, parent) }, S_IFDIR);
  });
}

export async function mknod(core: Core, call: Call, path: string, mode: number, major: number, minor: number): Promise<void> {
  const type = (mode & S_IFMT) === 0 ? S_IFREG : mode & S_IFMT;
  if (type === S_IFDIR) fail(EPERM);
  if (![S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK].includes(type)) fail(EINVAL);
  await withNewName(core, call, path, false, async (child, parent) => {
    await mayCreate(core, call, parent, child);
    const isDevice = type === S_IFCHR || type === S_IFBLK;
    if (isDevice && !isPrivileged(call.caller)) fail(EPERM);
    await sendMknod(core, call, child, type | (mode & 0o7777), isDevice ? makeDevice(major, minor) : 0);
  });
}

/** MKNOD; also what stands in for CREATE where the daemon has none. */
export async function sendMknod(core: Core, call: Call, child: Dentry, mode: number, rdev: number): Promise<Dentry> {
  const parent = child.parent!.inode!;
  const args = { mode: maskedMode(core, call, parent, mode), rdev, umask: call.caller.umask };
  const outgoing = { op: 'MKNOD', nodeid: parent.nodeid, args, names: [child.name], caller: call } as const;
  return makeEntry(core, child, { ...outgoing, ...extensions(core, call, parent) }, mode & S_IFMT);
}

export async function symlink(core: Core, call: Call, text: string, path: string): Promise<void> {
  checkPath(text);
  await withNewName(core, call, path, false, async (child, parent) => {
    await mayCreate(core, call, parent, child);
    const outgoing = { op: 'SYMLINK', nodeid: parent.nodeid, names: [child.name, text], caller: call } as const;
    await makeEntry(core, child, { ...outgoing, ...extensions(core, call, parent) }, S_IFLNK);
  });
}

export async function link(core: Core, call: Call, inode: Inode, path: string): Promise<void> {
  await withNewName(core, call, path, false, async (child, parent) => {
    await mayCreate(core, call, parent, child);
    if (inode.isDirectory) fail(EPERM);
    await inode.lock.hold(true, async () => {
      if (inode.attr.nlink === 0 && !inode.isLinkable) fail(ENOENT);
      if (core.missing.has('LINK')) fail(EPERM);
      const args = { oldnodeid: inode.nodeid };
      const outgoing = { op: 'LINK', nodeid: parent.nodeid, args, names: [child.name], caller: call } as const;
      try {
        await makeEntry(core, child, outgoing, inode.mode & S_IFMT);
        inode.isLinkable = false;
        if (has(core, 'FUSE_WRITEBACK_CACHE')) touchStatus(core, inode);
      } catch (error) {
        const errno = errnoFrom(error);
        if (errno === EINTR) inode.invalidate();
        if (errno !== ENOSYS) throw error;
        core.missing.add('LINK');
        fail(EPERM);
      }
    });
  });
}

// --- creating and opening at once ----------------------------------------------------------------------------------------------

/** fuse_create_open: undefined where the daemon has no CREATE. The directory is locked. */
export async function create(core: Core, call: Call, child: Dentry, flags: number, mode: number): Promise<OpenFile | undefined> {
  if (core.missing.has('CREATE')) return undefined;
  const parent = child.parent!.inode!;
  const version = core.attrVersion;
  const reply = await core.wire.request({
    op: 'CREATE',
    nodeid: parent.nodeid,
    args: createArguments(core, call, parent, flags, mode),
    names: [child.name],
    caller: call,
    ...extensions(core, call, parent),
  });
  if (reply.errno === ENOSYS) {
    core.missing.add('CREATE');
    return undefined;
  }
  if (reply.errno !== 0) {
    if (reply.errno === EEXIST) child.validUntil = 0;
    fail(reply.errno);
  }
  const file = await takeCreated(core, reply, flags, version, (inode, entry) => {
    const directory = child.parent!;
    core.dentries.invalidate(child);
    return core.dentries.add(directory, child.name, inode, core.clock.deadline(entry.entry_valid, entry.entry_valid_nsec));
  });
  directoryChanged(parent);
  return file;
}

function createArguments(core: Core, call: Call, parent: Inode, flags: number, mode: number) {
  const kills = has(core, 'FUSE_HANDLE_KILLPRIV_V2') && (flags & O_TRUNC) !== 0 && !isPrivileged(call.caller);
  return {
    flags: (flags & ~(O_NOCTTY | O_CLOEXEC)) | O_LARGEFILE,
    mode: maskedMode(core, call, parent, (mode & 0o7777) | S_IFREG),
    umask: call.caller.umask,
    open_flags: kills ? FUSE_OPEN_KILL_SUIDGID : 0,
  };
}

/** O_TMPFILE: the name in the message is always "/". */
export async function tmpfile(core: Core, call: Call, directory: Inode, flags: number, mode: number): Promise<OpenFile> {
  if (!directory.isDirectory) fail(ENOTDIR);
  if ((flags & O_ACCMODE) === 0) fail(EINVAL);
  await permit(core, call, directory, MAY_WRITE | 1);
  if (core.missing.has('TMPFILE') || opcodeNamed('TMPFILE').since > core.wire.agreed.minor) fail(EOPNOTSUPP);
  const version = core.attrVersion;
  const args = createArguments(core, call, directory, flags, mode);
  const outgoing = { op: 'TMPFILE', nodeid: directory.nodeid, args, names: ['/'], caller: call } as const;
  const reply = await core.wire.request({ ...outgoing, ...extensions(core, call, directory) });
  if (reply.errno === ENOSYS) {
    core.missing.add('TMPFILE');
    fail(EOPNOTSUPP);
  }
  if (reply.errno !== 0) fail(reply.errno);
  const file = await takeCreated(core, reply, flags, version, () => undefined);
  file.inode.isLinkable = (flags & 0o200) === 0;
  return file;
}

// --- removing --------------------------------------------------------------------------------------------------------------------

export async function unlink(core: Core, call: Call, path: string): Promise<void> {
  const target = await walkParent(core, call, path);
  if (target.kind !== 'name') fail(EISDIR);
  await remove(core, call, target, 'UNLINK');
}

export async function rmdir(core: Core, call: Call, path: string): Promise<void> {
  const target = await walkParent(core, call, path);
  if (target.kind === 'dotdot') fail(ENOTEMPTY);
  if (target.kind === 'dot') fail(EINVAL);
  if (target.kind === 'root') fail(EBUSY);
  await remove(core, call, target, 'RMDIR');
}

async function remove(core: Core, call: Call, target: Target, op: 'UNLINK' | 'RMDIR'): Promise<void> {
  const parent = target.parent.inode!;
  const wantsDirectory = op === 'RMDIR';
  await parent.lock.hold(true, async () => {
    const victim = await core.dentries.lookup(call, target.parent, target.name, undefined, true);
    const inode = victim.inode;
    if (inode === undefined) fail(ENOENT);
    if (!wantsDirectory && target.isDirectory) fail(inode.isDirectory ? EISDIR : ENOTDIR);
    assertWritable(core);
    await mayDelete(core, call, parent, victim, wantsDirectory);
    await inode.lock.hold(true, async () => {
      const { errno } = await core.wire.request({ op, nodeid: parent.nodeid, names: [victim.name], caller: call });
      if (errno === EINTR || errno === ENOENT) core.dentries.invalidate(victim);
      if (errno !== 0) fail(errno);
      directoryChanged(parent);
      entryUnlinked(core, victim);
      if (wantsDirectory) inode.isDead = true;
      core.dentries.invalidate(victim);
    });
  });
}

/** fuse_entry_unlinked: one name less, as far as the kernel can tell. */
function entryUnlinked(core: Core, victim: Dentry): void {
  const inode = victim.inode!;
  inode.attrVersion = ++core.attrVersion;
  if (inode.isDirectory) inode.attr.nlink = 0;
  else if (inode.attr.nlink > 0) inode.attr.nlink--;
  touchStatus(core, inode);
}

// --- renaming --------------------------------------------------------------------------------------------------------------------

export async function rename(core: Core, call: Call, from: string, to: string, flags: number): Promise<void> {
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) !== 0) fail(EINVAL);
  if ((flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)) !== 0 && (flags & RENAME_EXCHANGE) !== 0) fail(EINVAL);
  const source = await walkParent(core, call, from);
  const target = await walkParent(core, call, to);
  if (source.kind !== 'name') fail(EBUSY);
  if (target.kind !== 'name') fail((flags & RENAME_NOREPLACE) !== 0 ? EEXIST : EBUSY);
  await lockParents(core, source.parent, target.parent, async () => {
    const old = await core.dentries.lookup(call, source.parent, source.name, undefined, true);
    if (old.inode === undefined) fail(ENOENT);
    const replaced = await core.dentries.lookup(call, target.parent, target.name, 'rename-target', true);
    checkRename(source, target, old, replaced, flags);
    assertWritable(core);
    // Two names of one file: nothing to do.
    if (old.inode === replaced.inode) return;
    await permitRename(core, call, source, target, old, replaced, flags);
    await sendRename(core, call, old, replaced, flags);
  });
}

/** lock_rename: a directory before those below it, as everybody who locks a directory and something in it does. */
function lockParents(core: Core, one: Dentry, other: Dentry, action: () => Promise<void>): Promise<void> {
  if (one.inode === other.inode) return one.inode!.lock.hold(true, action);
  return core.renaming.hold(true, () => {
    const [first, second] = isAncestor(other, one) ? [other.inode!, one.inode!] : [one.inode!, other.inode!];
    const isRelated = isAncestor(other, one) || isAncestor(one, other);
    if (!isRelated) return holdBoth(first, second, action);
    return first.lock.hold(true, () => second.lock.hold(true, action));
  });
}

function isAncestor(dentry: Dentry, of: Dentry): boolean {
  for (let up: Dentry | undefined = of; up !== undefined; up = up.parent) if (up === dentry) return true;
  return false;
}

function checkRename(source: Target, target: Target, old: Dentry, replaced: Dentry, flags: number): void {
  const isExchange = (flags & RENAME_EXCHANGE) !== 0;
  if ((flags & RENAME_NOREPLACE) !== 0 && replaced.inode !== undefined) fail(EEXIST);
  if (isExchange) {
    if (replaced.inode === undefined) fail(ENOENT);
    if (!replaced.inode.isDirectory && target.isDirectory) fail(ENOTDIR);
  }
  if (!old.inode!.isDirectory && (source.isDirectory || (!isExchange && target.isDirectory))) fail(ENOTDIR);
  if (isAncestor(old, target.parent)) fail(EINVAL);
  if (isAncestor(replaced, source.parent) && replaced.inode !== undefined) fail(isExchange ? EINVAL : ENOTEMPTY);
}

async function permitRename(
  core: Core,
  call: Call,
  source: Target,
  target: Target,
  old: Dentry,
  replaced: Dentry,
  flags: number,
): Promise<void> {
  const oldInode = old.inode!;
  await mayDelete(core, call, source.parent.inode!, old, oldInode.isDirectory);
  const newParent = target.parent.inode!;
  if (replaced.inode === undefined) await mayCreate(core, call, newParent, replaced);
  else {
    const wantsDirectory = (flags & RENAME_EXCHANGE) !== 0 ? replaced.inode.isDirectory : oldInode.isDirectory;
    await mayDelete(core, call, newParent, replaced, wantsDirectory);
  }
  if (source.parent === target.parent) return;
  // A directory's ".." changes, so it must be writable itself.
  if (oldInode.isDirectory) await permit(core, call, oldInode, MAY_WRITE);
  if ((flags & RENAME_EXCHANGE) !== 0 && replaced.inode!.isDirectory) await permit(core, call, replaced.inode!, MAY_WRITE);
}

async function sendRename(core: Core, call: Call, old: Dentry, replaced: Dentry, flags: number): Promise<void> {
  const oldDir = old.parent!.inode!;
  const newParent = replaced.parent!;
  const newDir = newParent.inode!;
  const { nodeid } = oldDir;
  const names = [old.name, replaced.name];
  let errno: number;
  if (flags === 0) {
    ({ errno } = await core.wire.request({ op: 'RENAME', nodeid, args: { newdir: newDir.nodeid }, names, caller: call }));
  } else {
    if (core.missing.has('RENAME2') || !rename2Exists(core.wire.agreed.minor)) fail(EINVAL);
    const args = { newdir: newDir.nodeid, flags };
    ({ errno } = await core.wire.request({ op: 'RENAME2', nodeid, args, names, caller: call }));
    if (errno === ENOSYS) {
      core.missing.add('RENAME2');
      fail(EINVAL);
    }
  }
  if (errno === EINTR || errno === ENOENT) {
    // Nobody knows whether it took place.
    core.dentries.invalidate(old);
    core.dentries.invalidate(replaced);
  }
  if (errno !== 0) fail(errno);
  touchStatus(core, old.inode!);
  directoryChanged(oldDir);
  directoryChanged(newDir);
  if ((flags & RENAME_EXCHANGE) !== 0) {
    touchStatus(core, replaced.inode!);
    core.dentries.exchange(old, replaced);
    return;
  }
  if (replaced.inode !== undefined) {
    entryUnlinked(core, replaced);
    if (replaced.inode.isDirectory) replaced.inode.isDead = true;
  }
  const { name } = replaced;
  core.dentries.move(old, newParent, name);
}
