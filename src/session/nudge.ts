import type { Addon } from '../native/index.ts';
import {
  encodeNotifyRetrieveOut,
  encodeOutHeader,
  FUSE_NOTIFY_RETRIEVE,
  FUSE_ROOT_ID,
  NOTIFY_RETRIEVE_OUT_SIZE,
  OUT_HEADER_SIZE,
} from '../protocol/index.ts';

const RETRIEVE_BYTES = OUT_HEADER_SIZE + NOTIFY_RETRIEVE_OUT_SIZE;
/** No thread of a connection has it, so that nobody takes the answer for one of theirs. */
const NOBODY = 0x7fffffff;

/**
 * Gets the queues of a ring going again after a worker died: what came while a queue had no entries is delivered only after the
 * next answer on that queue (fuse_uring_commit_fetch). So each gets a request that is answered at once: a RETRIEVE of nothing.
 */
export function nudgeQueues(addon: Addon, fd: number, queues: number): void {
  const memory = new ArrayBuffer(RETRIEVE_BYTES);
  const words = new Uint32Array(memory);
  encodeOutHeader(words, 0, { len: RETRIEVE_BYTES, error: FUSE_NOTIFY_RETRIEVE, unique_lo: 0, unique_hi: 0 });
  encodeNotifyRetrieveOut(words, OUT_HEADER_SIZE / 4, {
    notify_unique_lo: 0,
    notify_unique_hi: NOBODY,
    nodeid: FUSE_ROOT_ID,
    offset: 0,
    size: 0,
  });
  const id = addon.registerBuffer(memory);
  addon.writeOnProcessors(fd, id, 0, RETRIEVE_BYTES, queues);
  addon.unregisterBuffer(id);
}
