/** How files are opened and made on the host. */
import type { MkdirRequest } from 'fusewire';
import type { Host } from './host.ts';
import {
  O_ACCMODE,
  O_APPEND,
  O_DSYNC,
  O_NOATIME,
  O_NONBLOCK,
  O_RDWR,
  O_SYNC,
  O_TRUNC,
  O_WRONLY,
  PERMISSION_BITS,
} from './linux.ts';

/**
 * The caller's flags that mean something on the host.
 *
 * Not O_DIRECT: between the kernel and the daemon it is honoured, that is, no cache of the mount stands between the caller
 * and the host. But the host demands buffers aligned to its blocks, and what comes in a FUSE message lies behind a header.
 *
 * O_NONBLOCK always: it does nothing to a regular file, and whatever else a name may have become must not make the daemon
 * wait for a partner, as a FIFO would.
 */
export function hostFlags(flags: number, writeback: boolean): number {
  const kept = flags & (O_ACCMODE | O_APPEND | O_TRUNC | O_SYNC | O_DSYNC | O_NOATIME);
  if (!writeback) return kept | O_NONBLOCK;
  // With the write-back cache the kernel reads the rest of a page before it changes a part of it, also for those who only
  // write; and it knows the end of the file, so that appending again would put its pages in the wrong place.
  const access = (kept & O_ACCMODE) === O_WRONLY ? O_RDWR : kept & O_ACCMODE;
  return (kept & ~(O_ACCMODE | O_APPEND)) | access | O_NONBLOCK;
}

/**
 * The permission bits of a new file. The process's own umask is 0, so it is the caller's that is taken off here, unless
 * the directory has a default ACL: that stands in for the umask, and the host applies it.
 */
export function creationMode(host: Host, parentFd: number, request: MkdirRequest): number {
  const mode = request.mode & PERMISSION_BITS;
  if (request.umask === 0) return mode;
  const inherits = host.addon.getxattr(host.path(parentFd), 'system.posix_acl_default', 0, 0, 0) > 0;
  return inherits ? mode : mode & ~request.umask;
}
