/** Write-back: dirty pages and the kernel's own times on their way to the daemon. */
import {
  decodeWriteOut,
  FATTR_CTIME,
  FATTR_FH,
  FATTR_MTIME,
  FUSE_WRITE_CACHE,
  newWriteOut,
  setattrHasCtime,
} from '../../protocol/index.ts';
import { isRegular, STATX_BLOCKS, STATX_CTIME } from './constants.ts';
import { type Call, type Core, has, requestBytesMax } from './core.ts';
import { ERRNO } from './errors.ts';
import type { OpenFile } from './files.ts';
import type { Inode } from './inodes.ts';

const { EIO } = ERRNO;

/** Any handle that can write: the kernel does not know which one made a page dirty. */
const anyWriter = (inode: Inode): OpenFile | undefined => [...inode.writers].find(({ isOpen }) => isOpen);

/** Sends the dirty pages in a range. An error is kept for the next fsync or close. */
export async function writeBack(core: Core, inode: Inode, from = 0, to = Infinity): Promise<void> {
  const bytesMax = Math.min(core.wire.agreed.maxWrite, requestBytesMax(core));
  const runs = inode.pages.dirtyRuns(from, to, Math.max(4096, bytesMax - (bytesMax % 4096)));
  await Promise.all(
    runs.map(async ({ offset, length }) => {
      const size = Math.min(length, inode.size - offset);
      inode.pages.markClean(offset, length);
      if (size <= 0) return;
      const errno = await writeRun(core, inode, offset, inode.pages.copy(offset, size));
      if (errno !== 0) inode.writeError = errno;
    }),
  );
}

async function writeRun(core: Core, inode: Inode, offset: number, data: Uint8Array): Promise<number> {
  const file = anyWriter(inode);
  if (file === undefined) return EIO;
  const args = { fh: file.handle, offset, size: data.length, write_flags: FUSE_WRITE_CACHE, flags: 0 };
  inode.attrVersion = ++core.attrVersion;
  const reply = await core.wire.backgroundForced({ op: 'WRITE', nodeid: inode.nodeid, args, data });
  if (reply.errno !== 0) return reply.errno;
  const out = newWriteOut();
  decodeWriteOut(reply.words, 0, out);
  inode.attrVersion = ++core.attrVersion;
  return out.size === data.length ? 0 : EIO;
}

/** fuse_flush_times: the daemon learns the times that the kernel kept. */
async function flushTimes(core: Core, call: Call | undefined, inode: Inode): Promise<void> {
  if (!inode.areTimesDirty) return;
  inode.areTimesDirty = false;
  const { mtime, mtimensec, ctime, ctimensec } = inode.attr;
  const file = anyWriter(inode);
  const withCtime = setattrHasCtime(core.wire.agreed.minor);
  const valid = FATTR_MTIME | (withCtime ? FATTR_CTIME : 0) | (file === undefined ? 0 : FATTR_FH);
  const args = { valid, mtime, mtimensec, ...(withCtime ? { ctime, ctimensec } : {}), fh: file?.handle ?? 0 };
  const { errno } = await core.wire.request({ op: 'SETATTR', nodeid: inode.nodeid, args, caller: call });
  if (errno !== 0) inode.writeError = errno;
}

/** write_inode_now: pages, then times. Without write-back there is nothing to do. */
export async function flushInode(core: Core, call: Call | undefined, inode: Inode): Promise<void> {
  if (!has(core, 'FUSE_WRITEBACK_CACHE')) return;
  await writeBack(core, inode);
  await flushTimes(core, call, inode);
  inode.invalidate(STATX_BLOCKS);
}

/** The error of an earlier write-back, told once; 0 when there is none. */
export function takeWriteError(inode: Inode): number {
  const { writeError } = inode;
  inode.writeError = 0;
  return writeError;
}

function now(core: Core): { seconds: number; rest: number } {
  const ns = core.clock.wallNs();
  return { seconds: Number(ns / 1_000_000_000n), rest: Number(ns % 1_000_000_000n) };
}

/** file_update_time, where the kernel owns the times. */
export function touch(core: Core, inode: Inode): void {
  const { seconds, rest } = now(core);
  Object.assign(inode.attr, { mtime: seconds, mtimensec: rest, ctime: seconds, ctimensec: rest });
  inode.areTimesDirty = true;
}

/** fuse_update_ctime: something other than the data changed. What the kernel does not own is asked for again. */
export function touchStatus(core: Core, inode: Inode): void {
  inode.invalidate(STATX_CTIME);
  if (!has(core, 'FUSE_WRITEBACK_CACHE') || !isRegular(inode.mode)) return;
  const { seconds, rest } = now(core);
  Object.assign(inode.attr, { ctime: seconds, ctimensec: rest });
  inode.areTimesDirty = true;
}
