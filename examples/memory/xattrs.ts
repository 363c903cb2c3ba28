/**
 * Extended attributes. The kernel has checked names, sizes and rights already (xattr_permission, XATTR_NAME_MAX,
 * XATTR_SIZE_MAX); here are the namespaces that exist, the limit, and what ACLs mean for the permission bits.
 */
import type { Request, SetxattrRequest } from 'fusewire';
import * as acl from './acl.ts';
import type { Inode } from './inode.ts';
import { fail, S_ISGID, XATTR_CREATE, XATTR_REPLACE } from './linux.ts';

const NAMESPACES = ['user.', 'trusted.', 'security.'];

function assertKnown(name: string): void {
  if (name === acl.ACCESS || name === acl.DEFAULT) return;
  if (!NAMESPACES.some((prefix) => name.startsWith(prefix) && name.length > prefix.length)) fail('EOPNOTSUPP');
}

export function setXattr(inode: Inode, name: string, value: Uint8Array, request: SetxattrRequest, bytesMax: number): void {
  assertKnown(name);
  const known = inode.xattrs?.get(name);
  if (known !== undefined && (request.flags & XATTR_CREATE) !== 0) fail('EEXIST');
  if (known === undefined && (request.flags & XATTR_REPLACE) !== 0) fail('ENODATA');
  if (name === acl.DEFAULT && !inode.isDirectory) fail('EACCES');
  let bytes = name.length + value.byteLength;
  for (const [other, held] of inode.xattrs ?? []) if (other !== name) bytes += other.length + held.byteLength;
  if (bytes > bytesMax) fail('ENOSPC');
  if (name === acl.ACCESS && !setAccess(inode, value, request.aclKillSgid)) return;
  inode.xattrs ??= new Map();
  // The value is lent until the answer.
  inode.xattrs.set(name, value.slice());
}

/** Takes over the permission bits of an access ACL. False when they say all of it, and nothing has to be kept. */
function setAccess(inode: Inode, value: Uint8Array, killSgid: boolean): boolean {
  const { mode, minimal } = acl.permissionsOf(value);
  inode.mode = (inode.mode & ~0o777) | mode;
  if (killSgid) inode.mode &= ~S_ISGID;
  if (minimal) inode.xattrs?.delete(acl.ACCESS);
  return !minimal;
}

export function getXattr(inode: Inode, name: string): Uint8Array {
  assertKnown(name);
  return inode.xattrs?.get(name) ?? fail('ENODATA');
}

/** Attributes of the trusted namespace are not even mentioned to others than root. */
export function listXattrs(inode: Inode, request: Request): string[] {
  return [...(inode.xattrs?.keys() ?? [])].filter((name) => request.uid === 0 || !name.startsWith('trusted.'));
}

export function removeXattr(inode: Inode, name: string): void {
  assertKnown(name);
  if (!inode.xattrs?.delete(name)) fail('ENODATA');
}
