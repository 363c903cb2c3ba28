/** lseek, fallocate and copy_file_range. */
import {
  copyFileRange64Exists,
  decodeCopyFileRangeOut,
  decodeLseekOut,
  decodeWriteOut,
  newCopyFileRangeOut,
  newLseekOut,
  newWriteOut,
  opcodeNamed,
} from '../../protocol/index.ts';
import { refresh, removePrivileges } from './attributes.ts';
import { noteWritten } from './buffered-io.ts';
import {
  canRead,
  canWrite,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  isRegular,
  SEEK_CUR,
  SEEK_DATA,
  SEEK_END,
  SEEK_HOLE,
  SEEK_SET,
  STATX_MODSIZE,
  STATX_SIZE,
} from './constants.ts';
import { type Call, type Core, has } from './core.ts';
import { ERRNO, fail } from './errors.ts';
import type { OpenFile } from './files.ts';
import { assertGood } from './inodes.ts';
import { readFile, writeFile } from './io.ts';
import { holdBoth } from './rwlock.ts';
import { touch, writeBack } from './writeback.ts';

const { EINVAL, ESPIPE, ENXIO, ENOSYS, EBADF, EOPNOTSUPP, EISDIR, ENODEV, EIO } = ERRNO;

/** The new file position. */
export async function lseek(core: Core, call: Call, file: OpenFile, offset: number, whence: number): Promise<number> {
  const { inode } = file;
  if (file.isSilent || !file.isSeekable) fail(ESPIPE);
  let position: number;
  if (whence === SEEK_SET) position = offset;
  else if (whence === SEEK_CUR) position = file.position + offset;
  else if (whence === SEEK_END) {
    await inode.lock.hold(true, () => refresh(core, call, inode, STATX_SIZE, file));
    position = inode.size + offset;
  } else if (whence === SEEK_DATA || whence === SEEK_HOLE) position = await seekData(core, call, file, offset, whence);
  else fail(EINVAL);
  if (position < 0) fail(EINVAL);
  file.position = position;
  return position;
}

async function seekData(core: Core, call: Call, file: OpenFile, offset: number, whence: number): Promise<number> {
  const { inode } = file;
  assertGood(inode);
  return inode.lock.hold(true, async () => {
    if (!core.missing.has('LSEEK')) {
      await writeBack(core, inode);
      const args = { fh: file.handle, offset, whence };
      const reply = await core.wire.request({ op: 'LSEEK', nodeid: inode.nodeid, args, caller: call });
      if (reply.errno === 0) {
        const out = newLseekOut();
        decodeLseekOut(reply.words, 0, out);
        return out.offset;
      }
      if (reply.errno !== ENOSYS) fail(reply.errno);
      core.missing.add('LSEEK');
    }
    await refresh(core, call, inode, STATX_SIZE, file);
    if (offset < 0 || offset >= inode.size) fail(ENXIO);
    return whence === SEEK_DATA ? offset : inode.size;
  });
}

export async function fallocate(
  core: Core,
  call: Call,
  file: OpenFile,
  mode: number,
  offset: number,
  length: number,
): Promise<void> {
  const { inode } = file;
  if (offset < 0 || length <= 0) fail(EINVAL);
  if ((mode & FALLOC_FL_PUNCH_HOLE) !== 0 && (mode & FALLOC_FL_KEEP_SIZE) === 0) fail(EOPNOTSUPP);
  if (!canWrite(file.flags)) fail(EBADF);
  if (inode.isDirectory) fail(EISDIR);
  if (!isRegular(inode.mode)) fail(ENODEV);
  assertGood(inode);
  if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) !== 0 || core.missing.has('FALLOCATE'))
    fail(EOPNOTSUPP);
  await inode.lock.hold(true, async () => {
    await writeBack(core, inode, offset, offset + length);
    await removePrivileges(core, call, inode);
    if (has(core, 'FUSE_WRITEBACK_CACHE')) touch(core, inode);
    const args = { fh: file.handle, offset, length, mode };
    const { errno } = await core.wire.request({ op: 'FALLOCATE', nodeid: inode.nodeid, args, caller: call });
    if (errno === ENOSYS) {
      core.missing.add('FALLOCATE');
      fail(EOPNOTSUPP);
    }
    if (errno !== 0) fail(errno);
    if ((mode & FALLOC_FL_KEEP_SIZE) === 0) noteWritten(core, inode, offset + length, length);
    if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) !== 0) inode.pages.dropRange(offset, offset + length);
    inode.invalidate(STATX_MODSIZE);
  });
}

export interface CopyRange {
  readonly from: OpenFile;
  readonly fromOffset: number;
  readonly to: OpenFile;
  readonly toOffset: number;
  readonly length: number;
}

/** COPY_FILE_RANGE_64, then COPY_FILE_RANGE, then READ and WRITE: whatever the daemon has. */
export async function copyFileRange(core: Core, call: Call, range: CopyRange): Promise<number> {
  const { from, to, fromOffset, toOffset } = range;
  if (from.isDirectory || to.isDirectory) fail(EISDIR);
  if (!isRegular(from.inode.mode) || !isRegular(to.inode.mode)) fail(EINVAL);
  if (!canRead(from.flags) || !canWrite(to.flags) || to.appends) fail(EBADF);
  if (fromOffset < 0 || toOffset < 0) fail(EINVAL);
  await refresh(core, call, from.inode, STATX_SIZE, from);
  if (fromOffset >= from.inode.size) return 0;
  const length = Math.min(range.length, from.inode.size - fromOffset);
  const isOverlapping = from.inode === to.inode && fromOffset < toOffset + length && toOffset < fromOffset + length;
  if (isOverlapping) fail(EINVAL);
  if (length === 0) return 0;
  const copied = await copyInDaemon(core, call, { ...range, length });
  if (copied !== undefined) return copied;
  const data = await readFile(core, call, from, fromOffset, Math.min(length, 1 << 20));
  return writeFile(core, call, to, toOffset, data);
}

async function copyInDaemon(core: Core, call: Call, range: CopyRange): Promise<number | undefined> {
  const { from, to, fromOffset, toOffset } = range;
  return holdBoth(from.inode, to.inode, async () => {
    await writeBack(core, from.inode, fromOffset, fromOffset + range.length);
    if (core.missing.has('COPY_FILE_RANGE')) return undefined;
    await removePrivileges(core, call, to.inode);
    if (has(core, 'FUSE_WRITEBACK_CACHE')) touch(core, to.inode);
    await writeBack(core, to.inode);
    const copied = await sendCopy(core, call, range);
    if (copied === undefined) return undefined;
    to.inode.pages.dropRange(toOffset, toOffset + copied);
    noteWritten(core, to.inode, toOffset + copied, copied);
    return copied;
  });
}

async function sendCopy(core: Core, call: Call, range: CopyRange): Promise<number | undefined> {
  const { from, to } = range;
  const args = {
    fh_in: from.handle,
    off_in: range.fromOffset,
    nodeid_out: to.inode.nodeid,
    fh_out: to.handle,
    off_out: range.toOffset,
    len: range.length,
  };
  const { nodeid } = from.inode;
  if (copyFileRange64Exists(core.wire.agreed.minor) && !core.missing.has('COPY_FILE_RANGE_64')) {
    const reply = await core.wire.request({ op: 'COPY_FILE_RANGE_64', nodeid, args, caller: call });
    if (reply.errno !== ENOSYS) {
      if (reply.errno !== 0) fail(reply.errno);
      const out = newCopyFileRangeOut();
      decodeCopyFileRangeOut(reply.words, 0, out);
      if (out.bytes_copied > args.len) fail(EIO);
      return out.bytes_copied;
    }
    core.missing.add('COPY_FILE_RANGE_64');
  }
  if (opcodeNamed('COPY_FILE_RANGE').since > core.wire.agreed.minor) return undefined;
  // The count in this answer has 32 bits.
  args.len = Math.min(args.len, 0xfffff000);
  const reply = await core.wire.request({ op: 'COPY_FILE_RANGE', nodeid, args, caller: call });
  if (reply.errno === ENOSYS) {
    core.missing.add('COPY_FILE_RANGE');
    return undefined;
  }
  if (reply.errno === EOPNOTSUPP) return undefined;
  if (reply.errno !== 0) fail(reply.errno);
  const out = newWriteOut();
  decodeWriteOut(reply.words, 0, out);
  if (out.size > args.len) fail(EIO);
  return out.size;
}
