/** Operations on open files: opening, reading, writing, closing, locks, ranges. */
import { readSync } from 'node:fs';
import { tryLoadAddon } from '../native/index.ts';
import {
  COPY_FILE_RANGE_OUT_SIZE,
  decodeCopyFileRangeIn,
  decodeFallocateIn,
  decodeFlushIn,
  decodeFsyncIn,
  decodeLkIn,
  decodeLseekIn,
  decodeOpenIn,
  decodeReadIn,
  decodeReleaseIn,
  decodeWriteIn,
  encodeCopyFileRangeOut,
  encodeLkOut,
  encodeLseekOut,
  encodeWriteOut,
  FUSE_FSYNC_FDATASYNC,
  FUSE_LK_FLOCK,
  FUSE_OPEN_KILL_SUIDGID,
  FUSE_RELEASE_FLOCK_UNLOCK,
  FUSE_WRITE_CACHE,
  FUSE_WRITE_KILL_SUIDGID,
  LK_OUT_SIZE,
  LSEEK_OUT_SIZE,
  newCopyFileRangeIn,
  newCopyFileRangeOut,
  newFallocateIn,
  newFlushIn,
  newFsyncIn,
  newLkIn,
  newLkOut,
  newLseekIn,
  newLseekOut,
  newOpenIn,
  newReadIn,
  newReleaseIn,
  newWriteIn,
  newWriteOut,
  WRITE_IN_SIZE,
  WRITE_OUT_SIZE,
} from '../protocol/index.ts';
import { BODY_WORD, ERRNO, type Exchange, FuseError, IN_HEADER_BYTES, OUT_HEADER_BYTES } from '../session/index.ts';
import type { MessageBuffer } from '../transport/index.ts';
import { CallPool, CloseCall, CreateCall, LockCall, RangeCall, ReadCall, WriteCall } from './calls.ts';
import type { Codec } from './codec.ts';
import type { FileLock, FileRange, Filesystem, ReadReply } from './filesystem.ts';
import type { FileHandle, NodeId } from './identity.ts';
import { type OperationMap, sendNothing, sendStruct, settle } from './settle.ts';
import { assertBytes, assertWhole, InvalidAnswer } from './wire.ts';

export function fileOperations(fs: Filesystem, codec: Codec): OperationMap {
  return { ...opening(fs, codec), ...reading(fs), ...writing(fs), ...locking(fs), ...ranges(fs) };
}

function opening(fs: Filesystem, codec: Codec): OperationMap {
  const createPool = new CallPool(() => new CreateCall());
  const closePool = new CallPool(() => new CloseCall());
  const openIn = newOpenIn();
  const flushIn = newFlushIn();
  const releaseIn = newReleaseIn();
  const fsyncIn = newFsyncIn();
  const takeOpen = (exchange: Exchange): CreateCall => {
    decodeOpenIn(exchange.buffer.words, BODY_WORD, openIn);
    const call = createPool.take(exchange);
    call.flags = openIn.flags;
    call.killSuidGid = (openIn.open_flags & FUSE_OPEN_KILL_SUIDGID) !== 0;
    return call;
  };
  const takeRelease = (exchange: Exchange): CloseCall => {
    decodeReleaseIn(exchange.buffer.words, BODY_WORD, releaseIn);
    const call = closePool.take(exchange);
    call.handle = releaseIn.fh as FileHandle;
    call.flags = releaseIn.flags;
    call.flockUnlock = (releaseIn.release_flags & FUSE_RELEASE_FLOCK_UNLOCK) !== 0;
    call.lockOwner.low = releaseIn.lock_owner_lo;
    call.lockOwner.high = releaseIn.lock_owner_hi;
    return call;
  };
  const takeFsync = (exchange: Exchange): CloseCall => {
    decodeFsyncIn(exchange.buffer.words, BODY_WORD, fsyncIn);
    const call = closePool.take(exchange);
    call.handle = fsyncIn.fh as FileHandle;
    call.dataOnly = (fsyncIn.fsync_flags & FUSE_FSYNC_FDATASYNC) !== 0;
    return call;
  };
  return {
    OPEN: fs.open && ((exchange) => settle(exchange, fs.open!(exchange.nodeid as NodeId, takeOpen(exchange)), codec.sendOpen)),
    // ENOSYS makes the kernel cache listings for good, so a filesystem without opendir gets plain openings unless it asked for that.
    OPENDIR: (exchange) => {
      if (fs.opendir === undefined && exchange.negotiated.flags.has('FUSE_NO_OPENDIR_SUPPORT')) exchange.sendError(ERRNO.ENOSYS);
      else if (fs.opendir === undefined) codec.sendOpenDirectory(exchange);
      else settle(exchange, fs.opendir(exchange.nodeid as NodeId, takeOpen(exchange)), codec.sendOpenDirectory);
    },
    FLUSH:
      fs.flush &&
      ((exchange) => {
        decodeFlushIn(exchange.buffer.words, BODY_WORD, flushIn);
        const call = closePool.take(exchange);
        call.handle = flushIn.fh as FileHandle;
        call.lockOwner.low = flushIn.lock_owner_lo;
        call.lockOwner.high = flushIn.lock_owner_hi;
        settle(exchange, fs.flush!(exchange.nodeid as NodeId, call), sendNothing);
      }),
    RELEASE: (exchange) => {
      codec.closed(exchange.nodeid as NodeId);
      if (fs.release === undefined) exchange.sendEmpty();
      else settle(exchange, fs.release(exchange.nodeid as NodeId, takeRelease(exchange)), sendNothing);
    },
    RELEASEDIR: (exchange) => {
      if (fs.releasedir === undefined) exchange.sendEmpty();
      else settle(exchange, fs.releasedir(exchange.nodeid as NodeId, takeRelease(exchange)), sendNothing);
    },
    FSYNC: fs.fsync && ((exchange) => settle(exchange, fs.fsync!(exchange.nodeid as NodeId, takeFsync(exchange)), sendNothing)),
    FSYNCDIR:
      fs.fsyncdir && ((exchange) => settle(exchange, fs.fsyncdir!(exchange.nodeid as NodeId, takeFsync(exchange)), sendNothing)),
  };
}

function reading(fs: Filesystem): OperationMap {
  const pool = new CallPool(() => new ReadCall());
  const readIn = newReadIn();
  return {
    READ:
      fs.read &&
      ((exchange) => {
        decodeReadIn(exchange.buffer.words, BODY_WORD, readIn);
        if (readIn.offset > Number.MAX_SAFE_INTEGER) throw FuseError.of(ERRNO.EOVERFLOW);
        exchange.assertTail(readIn.size);
        const call = pool.take(exchange);
        call.handle = readIn.fh as FileHandle;
        call.offset = readIn.offset;
        call.size = readIn.size;
        call.flags = readIn.flags;
        settle(exchange, fs.read!(exchange.nodeid as NodeId, call), sendRead);
      }),
  };
}

function sendRead(exchange: Exchange, reply: ReadReply): void {
  const call = exchange.passenger as ReadCall;
  if (typeof reply === 'number') sendFilled(exchange, call, reply);
  else if (reply instanceof Uint8Array) sendBytes(exchange, reply, call.size);
  else if (Array.isArray(reply)) exchange.sendParts(limitParts(reply as readonly Uint8Array[], call.size));
  else sendRange(exchange, reply as FileRange, call.size);
}

function sendFilled(exchange: Exchange, call: ReadCall, count: number): void {
  if (!Number.isInteger(count) || count < 0 || count > call.size || (call.reply === undefined && count > 0)) {
    throw new InvalidAnswer(
      `read answered ${count} bytes of ${call.size}, ${call.reply === undefined ? 'none' : 'all'} of them in its payload`,
    );
  }
  const buffer = call.reply ?? exchange.acquire(0);
  call.reply = undefined;
  exchange.send(buffer, count);
}

/** Replies up to this size are copied behind the header and leave with the next receive; larger ones are gathered by the kernel. */
const COPY_BYTES_MAX = 16 * 1024;

function sendBytes(exchange: Exchange, bytes: Uint8Array, size: number): void {
  const wanted = bytes.byteLength > size ? bytes.subarray(0, size) : bytes;
  if (wanted.byteLength > COPY_BYTES_MAX) {
    exchange.sendParts([wanted]);
    return;
  }
  const buffer = exchange.acquire(wanted.byteLength);
  buffer.bytes.set(wanted, OUT_HEADER_BYTES);
  exchange.send(buffer, wanted.byteLength);
}

/** More bytes than asked would make the kernel refuse the whole reply. */
function limitParts(parts: readonly Uint8Array[], size: number): readonly Uint8Array[] {
  let total = 0;
  for (const part of parts) {
    assertBytes(part, 'a piece that read answers');
    total += part.byteLength;
  }
  if (total <= size) return parts;
  const limited: Uint8Array[] = [];
  let left = size;
  for (const part of parts) {
    limited.push(part.subarray(0, left));
    left -= Math.min(left, part.byteLength);
  }
  return limited;
}

function sendRange(exchange: Exchange, range: FileRange, size: number): void {
  const { fd, position } = range;
  assertWhole(fd, 0, 0x7fff_ffff, 'the fd of a range');
  assertWhole(position, 0, Number.MAX_SAFE_INTEGER, 'the position of a range');
  assertWhole(range.length, 0, Number.MAX_SAFE_INTEGER, 'the length of a range');
  const length = Math.min(range.length, size);
  const buffer = exchange.acquire(length);
  const count = readInto(buffer, fd, position, length);
  if (count >= 0) exchange.send(buffer, count);
  else exchange.sendError(-count);
}

/** One pread(2) straight into the reply's memory, on this thread. Returns the bytes read or a negative errno. */
function readInto(buffer: MessageBuffer, fd: number, position: number, length: number): number {
  const addon = buffer.id >= 0 ? tryLoadAddon() : undefined;
  if (addon !== undefined) return addon.pread(fd, buffer.id, OUT_HEADER_BYTES, length, position);
  try {
    return readSync(fd, buffer.bytes, OUT_HEADER_BYTES, length, position);
  } catch (error) {
    return (error as NodeJS.ErrnoException).errno ?? -ERRNO.EIO;
  }
}

function writing(fs: Filesystem): OperationMap {
  const pool = new CallPool(() => new WriteCall());
  const writeIn = newWriteIn();
  const writeOut = newWriteOut();
  const sendWritten = (exchange: Exchange, written: number | void): void => {
    const { size } = exchange.passenger as WriteCall;
    const taken = written ?? size;
    // The kernel takes more than it asked for as an error of its own making, and answers EIO.
    if (!Number.isInteger(taken) || taken < 0 || taken > size) throw new InvalidAnswer(`write took ${taken} bytes of ${size}`);
    writeOut.size = taken;
    sendStruct(exchange, WRITE_OUT_SIZE, encodeWriteOut, writeOut);
  };
  const payloadAt = IN_HEADER_BYTES + WRITE_IN_SIZE;
  return {
    WRITE:
      fs.write &&
      ((exchange) => {
        decodeWriteIn(exchange.buffer.words, BODY_WORD, writeIn);
        const { size, offset } = writeIn;
        if (payloadAt + size > exchange.bodyEnd) throw FuseError.of(ERRNO.EIO);
        if (offset + size > Number.MAX_SAFE_INTEGER) throw FuseError.of(ERRNO.EFBIG);
        const call = pool.take(exchange);
        call.handle = writeIn.fh as FileHandle;
        call.offset = offset;
        call.size = size;
        call.flags = writeIn.flags;
        call.writeFlags = writeIn.write_flags;
        call.writeback = (writeIn.write_flags & FUSE_WRITE_CACHE) !== 0;
        call.killSuidGid = (writeIn.write_flags & FUSE_WRITE_KILL_SUIDGID) !== 0;
        call.payloadAt = payloadAt;
        const data = exchange.buffer.bytes.subarray(payloadAt, payloadAt + size);
        settle(exchange, fs.write!(exchange.nodeid as NodeId, data, call), sendWritten, true);
      }),
  };
}

/** F_RDLCK, F_WRLCK and F_UNLCK of <fcntl.h>. */
const LOCK_TYPES = ['read', 'write', 'unlock'] as const;
const F_UNLCK = 2;

function locking(fs: Filesystem): OperationMap {
  const pool = new CallPool(() => new LockCall());
  const lkIn = newLkIn();
  const lkOut = newLkOut();
  const take = (exchange: Exchange, wait: boolean): LockCall => {
    decodeLkIn(exchange.buffer.words, BODY_WORD, lkIn);
    const { lk } = lkIn;
    const type = LOCK_TYPES[lk.type];
    if (type === undefined) throw FuseError.of(ERRNO.EINVAL);
    if (lk.start > Number.MAX_SAFE_INTEGER) throw FuseError.of(ERRNO.EOVERFLOW);
    if (lk.end < lk.start) throw FuseError.of(ERRNO.EINVAL);
    const call = pool.take(exchange);
    call.handle = lkIn.fh as FileHandle;
    call.owner.low = lkIn.owner_lo;
    call.owner.high = lkIn.owner_hi;
    call.start = lk.start;
    // No lock can start behind 2^53-1, so one that ends there reaches as far as any.
    call.end = lk.end > Number.MAX_SAFE_INTEGER ? Number.POSITIVE_INFINITY : lk.end;
    call.type = type;
    call.lockPid = lk.pid;
    call.flock = (lkIn.lk_flags & FUSE_LK_FLOCK) !== 0;
    call.wait = wait;
    return call;
  };
  const sendLock = (exchange: Exchange, lock: FileLock | void): void => {
    const { lk } = lkOut;
    if (lock !== undefined) assertLock(lock);
    lk.start = lock?.start ?? 0;
    lk.end = lock?.end ?? 0;
    lk.type = lock === undefined ? F_UNLCK : LOCK_TYPES.indexOf(lock.type);
    lk.pid = lock?.pid ?? 0;
    sendStruct(exchange, LK_OUT_SIZE, encodeLkOut, lkOut);
  };
  return {
    GETLK: fs.getlk && ((exchange) => settle(exchange, fs.getlk!(exchange.nodeid as NodeId, take(exchange, false)), sendLock)),
    SETLK: fs.setlk && ((exchange) => settle(exchange, fs.setlk!(exchange.nodeid as NodeId, take(exchange, false)), sendNothing)),
    SETLKW: fs.setlk && ((exchange) => settle(exchange, fs.setlk!(exchange.nodeid as NodeId, take(exchange, true)), sendNothing)),
  };
}

function assertLock(lock: FileLock): void {
  const { start, end, type, pid } = lock;
  if (!LOCK_TYPES.includes(type)) throw new InvalidAnswer(`a lock is of type ${LOCK_TYPES.join(', ')}, not ${typeof type}`);
  assertWhole(start, 0, Number.MAX_SAFE_INTEGER, 'the start of a lock');
  if (end !== Number.POSITIVE_INFINITY) assertWhole(end, start, Number.MAX_SAFE_INTEGER, 'the end of a lock');
  assertWhole(pid, 0, 0x7fff_ffff, 'the pid of a lock');
}

/** The largest count that a 32-bit reply of COPY_FILE_RANGE can say, whole pages (libfuse clamps the same way). */
const COPY_BYTES_32 = 0xfffff000;

function assertCopied(exchange: Exchange, copied: number): void {
  const { length } = exchange.passenger as RangeCall;
  if (!(Number.isInteger(copied) && copied >= 0 && copied <= length))
    throw new InvalidAnswer(`copyFileRange copied ${copied} bytes of ${length}`);
}

function ranges(fs: Filesystem): OperationMap {
  const pool = new CallPool(() => new RangeCall());
  const fallocateIn = newFallocateIn();
  const lseekIn = newLseekIn();
  const lseekOut = newLseekOut();
  const copyIn = newCopyFileRangeIn();
  const copyOut = newCopyFileRangeOut();
  const writeOut = newWriteOut();
  const takeCopy = (exchange: Exchange, lengthMax: number): RangeCall => {
    decodeCopyFileRangeIn(exchange.buffer.words, BODY_WORD, copyIn);
    if (copyIn.off_in > Number.MAX_SAFE_INTEGER) throw FuseError.of(ERRNO.EOVERFLOW);
    if (copyIn.off_out > Number.MAX_SAFE_INTEGER) throw FuseError.of(ERRNO.EFBIG);
    const call = pool.take(exchange);
    call.handle = copyIn.fh_in as FileHandle;
    call.offset = copyIn.off_in;
    call.toNode = copyIn.nodeid_out as NodeId;
    call.toHandle = copyIn.fh_out as FileHandle;
    call.toOffset = copyIn.off_out;
    call.length = Math.min(copyIn.len, lengthMax);
    call.flags = copyIn.flags_lo;
    return call;
  };
  return {
    FALLOCATE:
      fs.fallocate &&
      ((exchange) => {
        decodeFallocateIn(exchange.buffer.words, BODY_WORD, fallocateIn);
        if (fallocateIn.offset + fallocateIn.length > Number.MAX_SAFE_INTEGER) throw FuseError.of(ERRNO.EFBIG);
        const call = pool.take(exchange);
        call.handle = fallocateIn.fh as FileHandle;
        call.offset = fallocateIn.offset;
        call.length = fallocateIn.length;
        call.mode = fallocateIn.mode;
        settle(exchange, fs.fallocate!(exchange.nodeid as NodeId, call), sendNothing);
      }),
    LSEEK:
      fs.lseek &&
      ((exchange) => {
        decodeLseekIn(exchange.buffer.words, BODY_WORD, lseekIn);
        // The kernel lets negative offsets through, and neither data nor a hole is there.
        if (lseekIn.offset < 0) throw FuseError.of(ERRNO.ENXIO);
        if (lseekIn.offset > Number.MAX_SAFE_INTEGER) throw FuseError.of(ERRNO.EOVERFLOW);
        const call = pool.take(exchange);
        call.handle = lseekIn.fh as FileHandle;
        call.offset = lseekIn.offset;
        call.whence = lseekIn.whence;
        settle(exchange, fs.lseek!(exchange.nodeid as NodeId, call), (ready, offset) => {
          if (!(Number.isInteger(offset) && offset >= 0)) throw new InvalidAnswer(`lseek answered the offset ${offset}`);
          lseekOut.offset = offset;
          sendStruct(ready, LSEEK_OUT_SIZE, encodeLseekOut, lseekOut);
        });
      }),
    COPY_FILE_RANGE:
      fs.copyFileRange &&
      ((exchange) => {
        settle(exchange, fs.copyFileRange!(exchange.nodeid as NodeId, takeCopy(exchange, COPY_BYTES_32)), (ready, copied) => {
          assertCopied(ready, copied);
          writeOut.size = copied;
          sendStruct(ready, WRITE_OUT_SIZE, encodeWriteOut, writeOut);
        });
      }),
    COPY_FILE_RANGE_64:
      fs.copyFileRange &&
      ((exchange) => {
        const call = takeCopy(exchange, Number.MAX_SAFE_INTEGER);
        settle(exchange, fs.copyFileRange!(exchange.nodeid as NodeId, call), (ready, copied) => {
          assertCopied(ready, copied);
          copyOut.bytes_copied = copied;
          sendStruct(ready, COPY_FILE_RANGE_OUT_SIZE, encodeCopyFileRangeOut, copyOut);
        });
      }),
  };
}
