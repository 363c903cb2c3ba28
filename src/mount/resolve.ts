/**
 * Finds out what a mount point is, without ever waiting for a FUSE daemon in this process: the path is walked component by
 * component beside the list of mounts, and what lies on a FUSE mount is asked for in a child with a time limit.
 */
import { accessSync, constants, lstatSync, readlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { toBinary } from '../native/index.ts';
import { statInChild } from './child.ts';
import { MountError } from './errors.ts';
import { isFuseType, type MountInfo, readMountInfo, topmostMount } from './mountinfo.ts';

/** Symbolic links followed in one path, as the kernel's MAXSYMLINKS. */
const SYMLINKS_MAX = 40;

export interface ResolvedPath {
  /** Absolute, without symbolic links. */
  readonly path: string;
  /** The mount that is visible at exactly this path. */
  readonly mounted?: MountInfo;
  /** Present unless the path is the root of a FUSE mount, which was not touched. */
  readonly mode?: number;
  readonly uid?: number;
  /** The path lies below a FUSE mount: asking about it here could wait for that daemon. */
  readonly belowFuse?: true;
}

/**
 * Resolves symbolic links, `.` and `..`. Stops before it touches a FUSE mount at the end of the path; components below a
 * FUSE mount are resolved in a child.
 *
 * @throws MountError ERR_FUSEWIRE_MOUNTPOINT_MISSING, ERR_FUSEWIRE_MOUNTPOINT_NOT_DIRECTORY (a component is a file),
 * ERR_FUSEWIRE_MOUNTPOINT_NOT_PERMITTED, or ERR_FUSEWIRE_MOUNTPOINT_BUSY when a daemon does not answer in time.
 */
export async function resolveMountPoint(path: string, timeoutMs: number, mounts = readMountInfo()): Promise<ResolvedPath> {
  if (path === '' || path.includes('\0')) throw new MountError('ERR_FUSEWIRE_MOUNTPOINT_MISSING', path);
  let current = '/';
  const todo = absolute(path)
    .split('/')
    .filter((part) => part !== '' && part !== '.');
  let symlinks = 0;
  for (let part = todo.shift(); part !== undefined; part = todo.shift()) {
    if (part === '..') {
      current = dirname(current);
      continue;
    }
    const candidate = join(current, part);
    const mounted = topmostMount(mounts, toBinary(candidate));
    if (mounted !== undefined && isFuseType(mounted.type)) {
      if (todo.length === 0) return { path: candidate, mounted };
      return await resolveOnFuse(join(candidate, ...todo), candidate, timeoutMs, mounts);
    }
    const link = readComponent(candidate, path);
    if (link === undefined) current = candidate;
    else {
      if (++symlinks > SYMLINKS_MAX) throw missing(path, 'ELOOP');
      todo.unshift(...link.split('/').filter((piece) => piece !== '' && piece !== '.'));
      if (link.startsWith('/')) current = '/';
    }
  }
  const { mode, uid } = lstatSync(current);
  const mounted = topmostMount(mounts, toBinary(current));
  return { path: current, mode, uid, ...(mounted === undefined ? {} : { mounted }) };
}

function absolute(path: string): string {
  if (path.startsWith('/')) return path;
  try {
    return `${process.cwd()}/${path}`;
  } catch (error) {
    // The working directory was removed.
    throw missing(path, (error as NodeJS.ErrnoException).code);
  }
}

/** The target when `candidate` is a symbolic link. */
function readComponent(candidate: string, path: string): string | undefined {
  try {
    return lstatSync(candidate).isSymbolicLink() ? readlinkSync(candidate) : undefined;
  } catch (error) {
    throw missing(path, (error as NodeJS.ErrnoException).code);
  }
}

async function resolveOnFuse(
  path: string,
  fuseRoot: string,
  timeoutMs: number,
  mounts: readonly MountInfo[],
): Promise<ResolvedPath> {
  const result = await statInChild(path, timeoutMs);
  if ('code' in result) {
    if (result.code === 'ETIMEDOUT' || result.code === 'ENOTCONN') {
      const state = result.code === 'ENOTCONN' ? 'is dead' : `did not answer within ${timeoutMs} ms`;
      throw new MountError('ERR_FUSEWIRE_MOUNTPOINT_BUSY', path, {
        detail: `it lies on the FUSE mount ${fuseRoot}, whose daemon ${state}`,
      });
    }
    throw missing(path, result.code);
  }
  const mounted = topmostMount(mounts, toBinary(result.answer.path));
  return { ...result.answer, belowFuse: true, ...(mounted === undefined ? {} : { mounted }) };
}

function missing(path: string, code: string | undefined): MountError {
  if (code === 'ENOTDIR') return new MountError('ERR_FUSEWIRE_MOUNTPOINT_NOT_DIRECTORY', path);
  if (code === 'EACCES' || code === 'EPERM') {
    return new MountError('ERR_FUSEWIRE_MOUNTPOINT_NOT_PERMITTED', path, { detail: code });
  }
  return new MountError('ERR_FUSEWIRE_MOUNTPOINT_MISSING', path);
}

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_ISVTX = 0o1000;

/** Whether a resolved mount point is a directory, and, for an ordinary user, one that fusermount3 will accept (check_perm). */
export function checkMountPoint(resolved: ResolvedPath, privileged: boolean): void {
  const { path, mode, uid } = resolved;
  if (mode === undefined) return;
  if ((mode & S_IFMT) !== S_IFDIR) throw new MountError('ERR_FUSEWIRE_MOUNTPOINT_NOT_DIRECTORY', path);
  if (privileged) return;
  if ((mode & S_ISVTX) !== 0 && uid !== process.getuid?.()) {
    throw new MountError('ERR_FUSEWIRE_MOUNTPOINT_NOT_PERMITTED', path, { detail: 'it is sticky and has another owner' });
  }
  if (resolved.belowFuse) return;
  try {
    accessSync(path, constants.W_OK);
  } catch {
    throw new MountError('ERR_FUSEWIRE_MOUNTPOINT_NOT_PERMITTED', path, { detail: 'you have no write access to it' });
  }
}
