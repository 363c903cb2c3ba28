/**
 * Direct I/O (fuse_direct_IO, fuse_direct_io): cut into pieces of one request each, one after the other, or all together
 * where FUSE_ASYNC_DIO is agreed on. The rules of results are those of fs/fuse/file.c.
 */
import {
  decodeWriteOut,
  FATTR_SIZE,
  FUSE_READ_LOCKOWNER,
  FUSE_WRITE_KILL_SUIDGID,
  FUSE_WRITE_LOCKOWNER,
  newWriteOut,
} from '../../protocol/index.ts';
import { refresh, removePrivileges, setattr } from './attributes.ts';
import { noteWritten, readBuffered, writeThrough } from './buffered-io.ts';
import { O_LARGEFILE, PAGE_BYTES, STATX_MODSIZE, STATX_SIZE } from './constants.ts';
import { accessed, type Call, type Core, has, isPrivileged, lockOwner, requestBytesMax } from './core.ts';
import { ERRNO, errnoFrom, fail } from './errors.ts';
import type { OpenFile } from './files.ts';
import { assertGood } from './inodes.ts';
import type { Reply } from './wire.ts';
import { writeBack } from './writeback.ts';

const { EIO } = ERRNO;

export interface DirectOptions {
  /** Byte within its page where the caller's buffer starts: what is lost of the first request. Default 0. */
  readonly bufferOffset?: number;
  /** Asynchronous I/O (io_submit): `onSubmitted` is called when the submission would return. */
  readonly onSubmitted?: () => void;
}

interface Piece {
  readonly offset: number;
  readonly length: number;
}

/** How a range is cut: by the request's limit, and by the pages of the caller's memory that fit in one. */
export function* pieces(core: Core, offset: number, length: number, isWrite: boolean, bufferOffset = 0): Generator<Piece> {
  const bytesMax = isWrite ? core.wire.agreed.maxWrite : core.mount.maxRead;
  for (let done = 0; done < length; ) {
    const lost = (bufferOffset + done) % PAGE_BYTES;
    const part = Math.min(length - done, bytesMax, requestBytesMax(core) - lost);
    yield { offset: offset + done, length: part };
    done += part;
  }
}

function outgoing(call: Call, file: OpenFile, piece: Piece, data: Uint8Array | undefined) {
  const owner = lockOwner(call.caller.filesId);
  const common = { fh: file.handle, offset: piece.offset, size: piece.length, flags: file.flags | O_LARGEFILE };
  const owned = { lock_owner_lo: owner.low, lock_owner_hi: owner.high };
  const { nodeid } = file.inode;
  if (data === undefined)
    return { op: 'READ', nodeid, args: { ...common, ...owned, read_flags: FUSE_READ_LOCKOWNER }, caller: call } as const;
  const write_flags = FUSE_WRITE_LOCKOWNER | (isPrivileged(call.caller) ? 0 : FUSE_WRITE_KILL_SUIDGID);
  return { op: 'WRITE', nodeid, args: { ...common, ...owned, write_flags }, data, caller: call } as const;
}

/** Bytes that an answer moved. */
function moved(reply: Reply, isWrite: boolean): number {
  if (!isWrite) return reply.bytes.length;
  const out = newWriteOut();
  decodeWriteOut(reply.words, 0, out);
  return out.size;
}

interface Transfer {
  readonly offset: number;
  /** Where bytes that are read go, or those to be written. */
  readonly buffer: Uint8Array;
  readonly isWrite: boolean;
  readonly bufferOffset: number;
}

/** One piece after the other; the first short or failed one ends it. Bytes moved; fails only when there are none. */
async function transferInTurn(core: Core, call: Call, file: OpenFile, transfer: Transfer): Promise<number> {
  const { buffer, isWrite, offset } = transfer;
  let done = 0;
  for (const piece of pieces(core, offset, buffer.length, isWrite, transfer.bufferOffset)) {
    const data = isWrite ? buffer.subarray(done, done + piece.length) : undefined;
    const reply = await core.wire.request(outgoing(call, file, piece, data));
    let errno = reply.errno;
    const count = errno === 0 ? moved(reply, isWrite) : 0;
    if (count > piece.length) errno = EIO;
    if (errno !== 0) {
      if (done === 0) fail(errno);
      break;
    }
    if (!isWrite) buffer.set(reply.bytes, done);
    done += count;
    if (count !== piece.length) break;
  }
  return done;
}

/**
 * All pieces together, as background requests. The first error by order of answers decides; a short read ends the result
 * at the lowest gap; a short write is EIO.
 */
async function transferTogether(
  core: Core,
  call: Call,
  file: OpenFile,
  transfer: Transfer,
  onSubmitted: () => void,
): Promise<number> {
  const { buffer, isWrite, offset } = transfer;
  let error = 0;
  let gap = -1;
  let size = 0;
  let left = 1;
  let finish!: () => void;
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const complete = (): void => {
    left--;
    if (left === 0) finish();
  };
  for (const piece of pieces(core, offset, buffer.length, isWrite, transfer.bufferOffset)) {
    const at = piece.offset - offset;
    const data = isWrite ? buffer.subarray(at, at + piece.length) : undefined;
    left++;
    size += piece.length;
    await core.wire.background(outgoing(call, file, piece, data), (reply) => {
      if (reply.errno !== 0) error ||= reply.errno;
      else {
        if (!isWrite) buffer.set(reply.bytes, at);
        const count = moved(reply, isWrite);
        if (count !== piece.length && (gap < 0 || at + count < gap)) gap = at + count;
      }
      complete();
    });
  }
  onSubmitted();
  complete();
  await finished;
  if (error !== 0) fail(error);
  if (gap >= 0 && isWrite) fail(EIO);
  return gap >= 0 ? gap : size;
}

// --- reading -------------------------------------------------------------------------------------------------------------------

export async function readDirect(
  core: Core,
  call: Call,
  file: OpenFile,
  offset: number,
  length: number,
  options: DirectOptions = {},
): Promise<Uint8Array> {
  assertGood(file.inode);
  const isAio = options.onSubmitted !== undefined;
  // A file that the daemon opened direct goes straight to it, in turn; AIO on it goes the way of O_DIRECT.
  if (file.isDirectIo && !isAio) {
    const buffer = new Uint8Array(length);
    const count = await transferInTurn(core, call, file, {
      offset,
      buffer,
      isWrite: false,
      bufferOffset: options.bufferOffset ?? 0,
    });
    return buffer.subarray(0, count);
  }
  const { inode } = file;
  if (!file.isDirectIo && (has(core, 'FUSE_AUTO_INVAL_DATA') || offset + length > inode.size))
    await refresh(core, call, inode, STATX_SIZE, file);
  await writeBack(core, inode, offset, offset + length);
  const head = await readByDirectIO(core, call, file, offset, length, options);
  accessed(core, inode);
  const at = offset + head.length;
  if (file.isDirectIo || head.length === length || at >= inode.size) return head;
  // The page cache supplies what a short answer left out (generic_file_read_iter).
  const rest = await readBuffered(core, call, file, at, length - head.length);
  const whole = new Uint8Array(head.length + rest.length);
  whole.set(head);
  whole.set(rest, head.length);
  return whole;
}

/** fuse_direct_IO for reads. */
async function readByDirectIO(
  core: Core,
  call: Call,
  file: OpenFile,
  offset: number,
  length: number,
  options: DirectOptions,
): Promise<Uint8Array> {
  const { size } = file.inode;
  const submitted = options.onSubmitted ?? (() => {});
  if (offset >= size) {
    submitted();
    return new Uint8Array(0);
  }
  const isTogether = has(core, 'FUSE_ASYNC_DIO');
  let wanted = length;
  if (isTogether && offset + length > size) {
    const unit = requestBytesMax(core);
    wanted = Math.min(length, Math.ceil((size - offset) / unit) * unit);
  }
  const buffer = new Uint8Array(wanted);
  const transfer = { offset, buffer, isWrite: false, bufferOffset: options.bufferOffset ?? 0 };
  if (isTogether) return buffer.subarray(0, await transferTogether(core, call, file, transfer, submitted));
  const count = await transferInTurn(core, call, file, transfer);
  submitted();
  return buffer.subarray(0, count);
}

// --- writing -------------------------------------------------------------------------------------------------------------------

/** A direct write with the locking that the kernel does for it. */
export async function writeDirect(
  core: Core,
  call: Call,
  file: OpenFile,
  offset: number,
  data: Uint8Array,
  options: DirectOptions = {},
): Promise<number> {
  const { inode } = file;
  assertGood(inode);
  const isExtending = offset + data.length > inode.size;
  if (file.isParallel && !file.appends && !isExtending && inode.cachedOpens === 0) {
    inode.parallelWrites++;
    try {
      return await inode.lock.hold(false, () => writeLocked(core, call, file, offset, data, options));
    } finally {
      inode.parallelWrites--;
      if (inode.parallelWrites === 0) for (const resume of inode.parallelWaiters.splice(0)) resume();
    }
  }
  const onSubmitted = options.onSubmitted;
  if (onSubmitted === undefined)
    return inode.lock.hold(true, () => writeLocked(core, call, file, file.appends ? inode.size : offset, data, options));
  return writeAio(core, call, file, offset, data, { ...options, onSubmitted });
}

/** Asynchronous I/O lets go of the lock when the submission returns, so that several overlap. */
async function writeAio(
  core: Core,
  call: Call,
  file: OpenFile,
  offset: number,
  data: Uint8Array,
  options: DirectOptions & { readonly onSubmitted: () => void },
): Promise<number> {
  const { inode } = file;
  await inode.lock.acquire(true);
  let isHeld = true;
  const letGo = (): void => {
    if (isHeld) inode.lock.release(true);
    isHeld = false;
  };
  try {
    const at = file.appends ? inode.size : offset;
    const waits = at + data.length > inode.size || !has(core, 'FUSE_ASYNC_DIO');
    const onSubmitted = (): void => {
      if (waits) return;
      letGo();
      options.onSubmitted();
    };
    return await writeLocked(core, call, file, at, data, { ...options, onSubmitted });
  } finally {
    letGo();
    options.onSubmitted();
  }
}

async function writeLocked(
  core: Core,
  call: Call,
  file: OpenFile,
  offset: number,
  data: Uint8Array,
  options: DirectOptions,
): Promise<number> {
  const { inode } = file;
  const transfer = { offset, buffer: data, isWrite: true, bufferOffset: options.bufferOffset ?? 0 };
  if (file.isDirectIo && options.onSubmitted === undefined) {
    try {
      const written = await transferInTurn(core, call, file, transfer);
      noteWritten(core, inode, offset + written, written);
      return written;
    } finally {
      inode.pages.dropRange(offset, offset + data.length);
    }
  }
  await removePrivileges(core, call, inode);
  await writeBack(core, inode, offset, offset + data.length);
  inode.pages.dropRange(offset, offset + data.length);
  const written = await writeByDirectIO(core, call, file, transfer, options.onSubmitted ?? (() => {}));
  if (written === data.length || file.isDirectIo) return written;
  const rest = await writeThrough(core, call, file, offset + written, data.subarray(written));
  inode.pages.dropRange(offset, offset + data.length);
  return written + rest;
}

/** fuse_direct_IO for writes; a failed one that reached beyond the file is cut off again. */
async function writeByDirectIO(
  core: Core,
  call: Call,
  file: OpenFile,
  transfer: Transfer,
  onSubmitted: () => void,
): Promise<number> {
  const { inode } = file;
  const { offset, buffer } = transfer;
  const oldSize = inode.size;
  inode.invalidate(STATX_MODSIZE);
  try {
    const written = has(core, 'FUSE_ASYNC_DIO')
      ? await transferTogether(core, call, file, transfer, onSubmitted)
      : await transferInTurn(core, call, file, transfer);
    noteWritten(core, inode, offset + written, written);
    return written;
  } catch (error) {
    errnoFrom(error);
    inode.attrVersion = ++core.attrVersion;
    if (offset + buffer.length > oldSize) await cutOff(core, call, file, oldSize);
    throw error;
  }
}

/** fuse_do_truncate: its outcome is ignored. */
async function cutOff(core: Core, call: Call, file: OpenFile, size: number): Promise<void> {
  try {
    await setattr(core, call, file.inode, { args: { valid: FATTR_SIZE, size }, file });
  } catch (error) {
    errnoFrom(error);
  }
}
