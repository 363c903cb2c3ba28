/** read(2) and write(2): which way they go. */
import { readBuffered, writeBuffered } from './buffered-io.ts';
import { canRead, canWrite, isRegular, O_DSYNC, RW_BYTES_MAX } from './constants.ts';
import type { Call, Core } from './core.ts';
import { type DirectOptions, readDirect, writeDirect } from './direct-io.ts';
import { ERRNO, fail } from './errors.ts';
import { fsyncLocked, type OpenFile, usesDirect } from './files.ts';
import { assertGood } from './inodes.ts';

const { EBADF, EINVAL, EISDIR, EFBIG } = ERRNO;

export async function readFile(
  core: Core,
  call: Call,
  file: OpenFile,
  offset: number,
  length: number,
  options: DirectOptions = {},
): Promise<Uint8Array> {
  if (!canRead(file.flags)) fail(EBADF);
  if (file.isDirectory) fail(EISDIR);
  if (offset < 0 || length < 0 || !isRegular(file.inode.mode)) fail(EINVAL);
  assertGood(file.inode);
  const wanted = Math.min(length, RW_BYTES_MAX);
  if (wanted === 0) {
    options.onSubmitted?.();
    return new Uint8Array(0);
  }
  return usesDirect(file)
    ? readDirect(core, call, file, offset, wanted, options)
    : readBuffered(core, call, file, offset, wanted);
}

export async function writeFile(
  core: Core,
  call: Call,
  file: OpenFile,
  offset: number,
  data: Uint8Array,
  options: DirectOptions = {},
): Promise<number> {
  if (!canWrite(file.flags)) fail(EBADF);
  if (offset < 0 || !isRegular(file.inode.mode)) fail(EINVAL);
  assertGood(file.inode);
  if (data.length === 0) {
    options.onSubmitted?.();
    return 0;
  }
  if (offset + data.length > Number.MAX_SAFE_INTEGER) fail(EFBIG);
  const bytes = data.length > RW_BYTES_MAX ? data.subarray(0, RW_BYTES_MAX) : data;
  const { inode } = file;
  const written = usesDirect(file)
    ? await writeDirect(core, call, file, offset, bytes, options)
    : await inode.lock.hold(true, () => writeBuffered(core, call, file, file.appends ? inode.size : offset, bytes));
  if (written > 0 && (file.flags & O_DSYNC) !== 0) {
    // O_SYNC has a bit of its own beside O_DSYNC.
    const isDataOnly = (file.flags & 0o4000000) === 0;
    await inode.lock.hold(true, () => fsyncLocked(core, call, file, isDataOnly));
  }
  return written;
}
