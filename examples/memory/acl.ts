/**
 * POSIX access control lists in the form of their extended attributes (<linux/posix_acl_xattr.h>): a version, then entries
 * of 8 bytes: tag, permissions, id. The kernel checks and enforces them; what is left to a filesystem is to keep them and
 * the permission bits in step, and to let new files inherit.
 */
import { fail } from './linux.ts';

export const ACCESS = 'system.posix_acl_access';
export const DEFAULT = 'system.posix_acl_default';

const VERSION = 2;
const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;
const USER_OBJ = 0x01;
const GROUP_OBJ = 0x04;
const MASK = 0x10;
const OTHER = 0x20;

/** Offsets of the permissions that the three groups of permission bits stand for. With a mask, the group's are the mask. */
interface Classes {
  readonly view: DataView;
  readonly user: number;
  readonly group: number;
  readonly other: number;
  /** Whether it says no more than permission bits can. */
  readonly minimal: boolean;
}

function classes(acl: Uint8Array): Classes {
  const view = new DataView(acl.buffer, acl.byteOffset, acl.byteLength);
  const at = new Map<number, number>();
  if (acl.byteLength < HEADER_BYTES || (acl.byteLength - HEADER_BYTES) % ENTRY_BYTES !== 0) fail('EINVAL');
  if (view.getUint32(0, true) !== VERSION) fail('EOPNOTSUPP');
  for (let entry = HEADER_BYTES; entry < acl.byteLength; entry += ENTRY_BYTES) at.set(view.getUint16(entry, true), entry + 2);
  const user = at.get(USER_OBJ) ?? fail('EINVAL');
  const group = at.get(MASK) ?? at.get(GROUP_OBJ) ?? fail('EINVAL');
  const other = at.get(OTHER) ?? fail('EINVAL');
  return { view, user, group, other, minimal: acl.byteLength === HEADER_BYTES + 3 * ENTRY_BYTES };
}

/** The nine permission bits that a list comes to, and whether they say all of it. */
export function permissionsOf(acl: Uint8Array): { mode: number; minimal: boolean } {
  const { view, user, group, other, minimal } = classes(acl);
  const at = (offset: number) => view.getUint16(offset, true) & 7;
  return { mode: (at(user) << 6) | (at(group) << 3) | at(other), minimal };
}

/** The list after chmod(2). */
export function withPermissions(acl: Uint8Array, mode: number): Uint8Array {
  const copy = acl.slice();
  const { view, user, group, other } = classes(copy);
  view.setUint16(user, (mode >> 6) & 7, true);
  view.setUint16(group, (mode >> 3) & 7, true);
  view.setUint16(other, mode & 7, true);
  return copy;
}

/** What a new file made with `mode` gets from its directory's default list: no more than both allow. */
export function inherit(acl: Uint8Array, mode: number): { mode: number; access: Uint8Array | undefined } {
  const { mode: allowed, minimal } = permissionsOf(acl);
  const granted = (mode & ~0o777) | (mode & allowed);
  return { mode: granted, access: minimal ? undefined : withPermissions(acl, granted) };
}
