/**
 * /proc/self/mountinfo: which mounts there are, without touching any of them. Reading it never waits for a daemon.
 *
 * Paths are "binary" strings, one character a byte: a mount point is bytes to the kernel, and a name that is no UTF-8
 * must not make two mount points look alike. `toBinary` and `fromBinary` of the native part convert.
 */
import { readFileSync } from 'node:fs';

export interface MountInfo {
  /** Unique among the mounts that exist now; reused later. */
  readonly mountId: number;
  readonly parentId: number;
  /** `st_dev` of the files on it, as `major:minor`. See {@link connectionNumber}. */
  readonly major: number;
  readonly minor: number;
  /** Which directory of the filesystem is mounted: `/` unless it is a bind mount. Binary. */
  readonly root: string;
  /** Binary. */
  readonly mountPoint: string;
  /** Per-mount options: `rw,nosuid,relatime`. */
  readonly options: string;
  /** `fuse`, `fuse.sshfs`, `ext4`. */
  readonly type: string;
  /** Binary. */
  readonly source: string;
  /** Options of the filesystem: for FUSE `rw,user_id=0,group_id=0,allow_other`. */
  readonly superOptions: string;
}

/** Undoes the kernel's escapes (mangle_path: space, tab, newline, backslash and `#` as three octal digits). */
export function unescapeOctal(field: string): string {
  return field.replace(/\\([0-3][0-7]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/**
 * Parses the text of a mountinfo file, read as latin1. A line that has another shape is skipped.
 * Fields (proc_pid_mountinfo(5)): id parent major:minor root mountpoint options optional… - type source superoptions.
 */
export function parseMountInfo(text: string): MountInfo[] {
  const mounts: MountInfo[] = [];
  for (const line of text.split('\n')) {
    const fields = line.split(' ');
    const dash = fields.indexOf('-', 6);
    const device = /^(\d+):(\d+)$/.exec(fields[2] ?? '');
    if (dash < 0 || fields.length < dash + 3 || device === null) continue;
    mounts.push({
      mountId: Number(fields[0]),
      parentId: Number(fields[1]),
      major: Number(device[1]),
      minor: Number(device[2]),
      root: unescapeOctal(fields[3] as string),
      mountPoint: unescapeOctal(fields[4] as string),
      options: fields[5] as string,
      type: unescapeOctal(fields[dash + 1] as string),
      source: unescapeOctal(fields[dash + 2] as string),
      superOptions: fields.slice(dash + 3).join(' '),
    });
  }
  return mounts;
}

/** The mounts of this process's namespace, in the kernel's order. */
export function readMountInfo(path = '/proc/self/mountinfo'): MountInfo[] {
  return parseMountInfo(readFileSync(path, 'latin1'));
}

/**
 * The mount that a path (absolute, without symbolic links, binary) lies on, found as the kernel walks: from the root mount
 * down through the mounts attached to it. A mount that another one hides, at the same place or further up, is not found.
 */
export function coveringMount(mounts: readonly MountInfo[], path: string): MountInfo | undefined {
  const ids = new Set(mounts.map((mount) => mount.mountId));
  // The parent of the root mount, and of all where a chroot hides the root mount, is not in the list.
  const isTop = (mount: MountInfo) => !ids.has(mount.parentId) || mount.parentId === mount.mountId;
  let current: MountInfo | undefined;
  for (const prefix of prefixes(path)) {
    for (;;) {
      const from = current;
      const next = mounts.findLast(
        (mount) =>
          mount.mountPoint === prefix && mount !== from && (from === undefined ? isTop(mount) : mount.parentId === from.mountId),
      );
      if (next === undefined) break;
      current = next;
    }
  }
  return current;
}

/** The mount that one sees at exactly `mountPoint`: of several on top of each other the topmost. */
export function topmostMount(mounts: readonly MountInfo[], mountPoint: string): MountInfo | undefined {
  const mount = coveringMount(mounts, mountPoint);
  return mount?.mountPoint === mountPoint ? mount : undefined;
}

/** `/`, `/a`, `/a/b` for `/a/b`. */
function prefixes(path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '');
  return ['/', ...parts.map((_, index) => `/${parts.slice(0, index + 1).join('/')}`)];
}

/** Whether a mount type is served by a FUSE daemon of this machine. */
export function isFuseType(type: string): boolean {
  return /^fuse(blk)?(\.|$)/.test(type);
}

/** The kernel's number of a FUSE mount's connection: its dev_t, 20 bits of them the minor. That is the minor itself but for fuseblk. */
export function connectionNumber(mount: Pick<MountInfo, 'major' | 'minor'>): number {
  return mount.major * 2 ** 20 + mount.minor;
}

/** The user that mounted a FUSE filesystem (`user_id=`), or undefined. */
export function mountOwner(mount: MountInfo): number | undefined {
  const match = /(?:^|,)user_id=(\d+)/.exec(mount.superOptions);
  return match === null ? undefined : Number(match[1]);
}
