/** Extended attributes. */
import { decodeGetxattrOut, newGetxattrOut, type OpcodeName } from '../../protocol/index.ts';
import { isDirectory, isRegular, MAY_READ, MAY_WRITE, S_ISVTX, XATTR_NAME_MAX, XATTR_SIZE_MAX } from './constants.ts';
import { type Call, type Core, isPrivileged, type Missing } from './core.ts';
import { ERRNO, errnoFrom, fail } from './errors.ts';
import { assertGood, type Inode } from './inodes.ts';
import { ownsInode, permit } from './permissions.ts';
import type { Outgoing, Reply } from './wire.ts';
import { touchStatus } from './writeback.ts';

const { ENOSYS, EOPNOTSUPP, EPERM, ERANGE, E2BIG, EIO } = ERRNO;
const ENODATA = ERRNO.ENODATA ?? 61;

/** xattr_permission: who may use which namespace. */
async function permitName(core: Core, call: Call, inode: Inode, name: string, mask: number): Promise<void> {
  if (name === '' || name.length > XATTR_NAME_MAX) fail(ERANGE);
  const isWrite = (mask & MAY_WRITE) !== 0;
  if (isWrite && core.mount.readOnly) fail(ERRNO.EROFS);
  if (name.startsWith('security.') || name.startsWith('system.')) return;
  if (name.startsWith('trusted.')) {
    if (!isPrivileged(call.caller)) fail(isWrite ? EPERM : ENODATA);
    return;
  }
  if (name.startsWith('user.')) {
    if (!isRegular(inode.mode) && !isDirectory(inode.mode)) fail(isWrite ? EPERM : ENODATA);
    const isSticky = isDirectory(inode.mode) && (core.inodes.effectiveMode(inode) & S_ISVTX) !== 0;
    if (isSticky && isWrite && !ownsInode(call.caller, inode)) fail(EPERM);
  }
  await permit(core, call, inode, mask);
}

/** Sends one of the four, unless ENOSYS has silenced it. */
async function send<Op extends OpcodeName & Missing>(core: Core, outgoing: Outgoing<Op>): Promise<Reply> {
  if (core.missing.has(outgoing.op)) fail(EOPNOTSUPP);
  const reply = await core.wire.request(outgoing);
  if (reply.errno === ENOSYS) {
    core.missing.add(outgoing.op);
    fail(EOPNOTSUPP);
  }
  if (reply.errno !== 0) fail(reply.errno);
  return reply;
}

async function getSize(core: Core, call: Call, inode: Inode, name: string): Promise<number> {
  const { nodeid } = inode;
  const reply = await send(core, { op: 'GETXATTR', nodeid, args: { size: 0 }, names: [name], caller: call });
  const out = newGetxattrOut();
  decodeGetxattrOut(reply.words, 0, out);
  return Math.min(out.size, XATTR_SIZE_MAX);
}

/** The value. `room`: the bytes that the caller has for it, otherwise its size is asked for first. */
export async function getxattr(core: Core, call: Call, inode: Inode, name: string, room?: number): Promise<Uint8Array> {
  assertGood(inode);
  await permitName(core, call, inode, name, MAY_READ);
  const { nodeid } = inode;
  if (room === 0) {
    await getSize(core, call, inode, name);
    return new Uint8Array(0);
  }
  if (room !== undefined) {
    const args = { size: Math.min(room, XATTR_SIZE_MAX) };
    return (await send(core, { op: 'GETXATTR', nodeid, args, names: [name], caller: call })).bytes.slice();
  }
  // It may grow between the two requests; whoever asks then tries again.
  for (let attempt = 0; ; attempt++) {
    const size = await getSize(core, call, inode, name);
    if (size === 0) return new Uint8Array(0);
    try {
      return (await send(core, { op: 'GETXATTR', nodeid, args: { size }, names: [name], caller: call })).bytes.slice();
    } catch (error) {
      if (errnoFrom(error) !== ERANGE || attempt === 3) throw error;
    }
  }
}

export async function listxattr(core: Core, call: Call, inode: Inode): Promise<string[]> {
  assertGood(inode);
  const { nodeid } = inode;
  const sized = await send(core, { op: 'LISTXATTR', nodeid, args: { size: 0 }, caller: call });
  const out = newGetxattrOut();
  decodeGetxattrOut(sized.words, 0, out);
  if (out.size === 0) return [];
  const { bytes } = await send(core, { op: 'LISTXATTR', nodeid, args: { size: out.size }, caller: call });
  const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join('');
  if (text === '') return [];
  // fuse_verify_xattr_list: every name ends, none is empty.
  if (!text.endsWith('\0')) fail(EIO);
  const names = text.slice(0, -1).split('\0');
  if (names.includes('')) fail(EIO);
  return names;
}

export async function setxattr(
  core: Core,
  call: Call,
  inode: Inode,
  name: string,
  value: Uint8Array,
  flags: number,
): Promise<void> {
  assertGood(inode);
  if ((flags & ~3) !== 0) fail(ERRNO.EINVAL);
  if (value.length > XATTR_SIZE_MAX) fail(E2BIG);
  await permitName(core, call, inode, name, MAY_WRITE);
  await inode.lock.hold(true, async () => {
    const args = { size: value.length, flags };
    await send(core, { op: 'SETXATTR', nodeid: inode.nodeid, args, names: [name], data: value, caller: call });
    inode.hasNoSecurity = false;
    touchStatus(core, inode);
  });
}

export async function removexattr(core: Core, call: Call, inode: Inode, name: string): Promise<void> {
  assertGood(inode);
  await permitName(core, call, inode, name, MAY_WRITE);
  await inode.lock.hold(true, () => removeLocked(core, call, inode, name));
}

async function removeLocked(core: Core, call: Call, inode: Inode, name: string): Promise<void> {
  await send(core, { op: 'REMOVEXATTR', nodeid: inode.nodeid, names: [name], caller: call });
  touchStatus(core, inode);
}

/** cap_inode_need_killpriv: asks for file capabilities and takes them away. Answers whether there were any. */
export async function needsKillpriv(core: Core, call: Call, inode: Inode): Promise<boolean> {
  const name = 'security.capability';
  if (core.missing.has('GETXATTR')) return false;
  try {
    if ((await getSize(core, call, inode, name)) === 0) return false;
    await removeLocked(core, call, inode, name);
    return true;
  } catch (error) {
    errnoFrom(error);
    return false;
  }
}
