/** SETATTR: what chmod, chown, truncate and utimensat come as. */
import type { SetattrRequest, Timespec } from 'fusewire';
import type { Callers } from './callers.ts';
import { check, type Host } from './host.ts';
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, EINVAL, EPERM, UTIME_NOW, UTIME_OMIT } from './linux.ts';

const ITSELF = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW;

/** Of <linux/fuse.h>. */
const FATTR_CTIME = 1 << 10;

/**
 * Applies all that a request asks for to a node's file. The owner comes before the mode, because a change of owner takes
 * set-id bits away, and the times come last, because everything else moves them. `open` is the descriptor of the caller's
 * handle: an open file can be truncated whatever its permissions say by now.
 */
export function setAttributes(host: Host, callers: Callers, fd: number, open: number | undefined, request: SetattrRequest): void {
  const { addon } = host;
  const { newUid, newGid, mode, size } = request;
  if (newUid !== undefined || newGid !== undefined) check(addon.fchownat(fd, '', newUid ?? -1, newGid ?? -1, ITSELF));
  // A request for nothing is chown(file, -1, -1), or a write that the kernel announces: both take set-id bits away. (With
  // the write-back cache the kernel adds its change time, which no host lets anybody set.)
  if ((request.valid & ~FATTR_CTIME) === 0) {
    const stripped = callers.run(request, () => addon.fchownat(fd, '', -1, -1, ITSELF));
    // Who writes need not be the owner; chown(file, -1, -1) of somebody else's file looks the same. Whoever may write could take
    // the bits away by writing, so for those it is done, and nobody else gets further than on the host.
    check(stripped === -EPERM ? callers.clearSetId(request, host, fd) : stripped);
  }
  if (mode !== undefined) check(addon.fchmodat(AT_FDCWD, host.path(fd), mode & 0o7777));
  if (size !== undefined) {
    const truncate = () => (open === undefined ? addon.truncate(host.path(fd), size) : addon.ftruncate(open, size));
    check(request.killSuidGid ? callers.runWithoutSetId(request, fd, truncate) : truncate());
  }
  if (request.atime !== undefined || request.mtime !== undefined) setTimes(host, fd, request);
}

function setTimes(host: Host, fd: number, request: SetattrRequest): void {
  const { atime, mtime } = request;
  const set = (dirfd: number, path: string, flags: number) =>
    host.addon.utimensat(dirfd, path, seconds(atime), nanoseconds(atime), seconds(mtime), nanoseconds(mtime), flags);
  const result = set(fd, '', ITSELF);
  // Linux before 5.8 takes no descriptor alone.
  check(result === -EINVAL ? set(AT_FDCWD, host.path(fd), 0) : result);
}

/** A time that no number holds exactly becomes the nearest one that does; the host puts what it can hold in its place anyway. */
function seconds(time: Timespec | 'now' | undefined): number {
  if (typeof time !== 'object') return 0;
  return Math.max(Number.MIN_SAFE_INTEGER, Math.min(time.seconds, Number.MAX_SAFE_INTEGER));
}

function nanoseconds(time: Timespec | 'now' | undefined): number {
  if (time === undefined) return UTIME_OMIT;
  return time === 'now' ? UTIME_NOW : time.nanoseconds;
}
