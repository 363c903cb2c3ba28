import type { Addon } from '../native/index.ts';
import { connectionOf, mountsOf } from './guard-mounts.ts';

/**
 * Gets the queues of a ring going again after it had no entries for a while, because its thread died or its io_uring was taken away: what
 * came meanwhile is delivered only after the next answer on that queue (fuse_uring_commit_fetch). So each gets a request that is
 * answered at once: GETATTR of the root.
 */
export function nudgeQueues(addon: Addon, fd: number, queues: number): void {
  const [place] = mountsOf(connectionOf(fd)).places;
  if (place !== undefined) addon.statOnProcessors(place.path, queues);
}
