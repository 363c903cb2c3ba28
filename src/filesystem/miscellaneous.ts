/** The rest: statfs, access, extended attributes, ioctl, poll, bmap, syncfs. */
import {
  ACCESS_IN_SIZE,
  BMAP_OUT_SIZE,
  decodeAccessIn,
  decodeBmapIn,
  decodeGetxattrIn,
  decodeIoctlIn,
  decodePollIn,
  decodeSetxattrIn,
  encodeBmapOut,
  encodeGetxattrOut,
  encodeIoctlOut,
  encodePollOut,
  encodeStatfsOut,
  FUSE_COMPAT_SETXATTR_IN_SIZE,
  FUSE_IOCTL_DIR,
  FUSE_POLL_SCHEDULE_NOTIFY,
  FUSE_SETXATTR_ACL_KILL_SGID,
  GETXATTR_IN_SIZE,
  GETXATTR_OUT_SIZE,
  IOCTL_IN_SIZE,
  IOCTL_OUT_SIZE,
  newAccessIn,
  newBmapIn,
  newBmapOut,
  newGetxattrIn,
  newGetxattrOut,
  newIoctlIn,
  newIoctlOut,
  newPollIn,
  newPollOut,
  newSetxattrIn,
  newStatfsOut,
  POLL_OUT_SIZE,
  SETXATTR_IN_SIZE,
  STATFS_OUT_SIZE,
} from '../protocol/index.ts';
import { BODY_WORD, ERRNO, type Exchange, FuseError, IN_HEADER_BYTES, OUT_HEADER_BYTES, REPLY_WORD } from '../session/index.ts';
import type { StatfsInit } from './attributes.ts';
import { Call, CallPool, IoctlCall, PlainCall, PollCall } from './calls.ts';
import type { Codec } from './codec.ts';
import type { Filesystem, IoctlReply } from './filesystem.ts';
import type { FileHandle, NodeId } from './identity.ts';
import { type OperationMap, sendNothing, sendStruct, settle } from './settle.ts';
import { assertBytes, assertWhole, fillStatfs, InvalidAnswer } from './wire.ts';

export function miscellaneousOperations(fs: Filesystem, codec: Codec): OperationMap {
  return { ...whole(fs), ...xattrs(fs, codec), ...devices(fs) };
}

function whole(fs: Filesystem): OperationMap {
  const pool = new CallPool<Call>(() => new Call());
  const plain = new CallPool(() => new PlainCall());
  const accessIn = newAccessIn();
  const bmapIn = newBmapIn();
  const bmapOut = newBmapOut();
  const statfsOut = newStatfsOut();
  const sendStatfs = (exchange: Exchange, reply: StatfsInit): void => {
    fillStatfs(statfsOut.st, reply);
    sendStruct(exchange, STATFS_OUT_SIZE, encodeStatfsOut, statfsOut);
  };
  return {
    STATFS: (exchange) => {
      if (fs.statfs === undefined) sendStatfs(exchange, {});
      else settle(exchange, fs.statfs(exchange.nodeid as NodeId, pool.take(exchange)), sendStatfs);
    },
    ACCESS:
      fs.access &&
      ((exchange) => {
        if (exchange.length < IN_HEADER_BYTES + ACCESS_IN_SIZE) throw FuseError.of(ERRNO.EIO);
        decodeAccessIn(exchange.buffer.words, BODY_WORD, accessIn);
        const call = plain.take(exchange);
        call.mask = accessIn.mask;
        settle(exchange, fs.access!(exchange.nodeid as NodeId, call), sendNothing);
      }),
    SYNCFS:
      fs.syncfs && ((exchange) => settle(exchange, fs.syncfs!(exchange.nodeid as NodeId, pool.take(exchange)), sendNothing)),
    // Sent on fuseblk mounts only; what it announces reaches the filesystem through destroy.
    DESTROY: (exchange) => exchange.sendEmpty(),
    BMAP:
      fs.bmap &&
      ((exchange) => {
        decodeBmapIn(exchange.buffer.words, BODY_WORD, bmapIn);
        if (bmapIn.block > Number.MAX_SAFE_INTEGER) throw FuseError.of(ERRNO.EFBIG);
        const call = plain.take(exchange);
        call.block = bmapIn.block;
        call.blocksize = bmapIn.blocksize;
        settle(exchange, fs.bmap!(exchange.nodeid as NodeId, call), (ready, block) => {
          assertWhole(block, 0, Number.MAX_SAFE_INTEGER, 'the block of bmap');
          bmapOut.block = block;
          sendStruct(ready, BMAP_OUT_SIZE, encodeBmapOut, bmapOut);
        });
      }),
  };
}

function xattrs(fs: Filesystem, codec: Codec): OperationMap {
  const pool = new CallPool(() => new PlainCall());
  const plain = new CallPool<Call>(() => new Call());
  const setxattrIn = newSetxattrIn();
  const getxattrIn = newGetxattrIn();
  const getxattrOut = newGetxattrOut();
  const sendValue = (exchange: Exchange, value: Uint8Array | number): void => {
    const { size } = exchange.passenger as PlainCall;
    if (typeof value === 'number') assertWhole(value, 0, 0xffff_ffff, 'the length of an extended attribute');
    else assertBytes(value, 'an extended attribute');
    const length = typeof value === 'number' ? value : value.byteLength;
    if (size === 0) {
      getxattrOut.size = length;
      sendStruct(exchange, GETXATTR_OUT_SIZE, encodeGetxattrOut, getxattrOut);
      return;
    }
    if (length > size) throw FuseError.of(ERRNO.ERANGE);
    if (typeof value === 'number') throw new TypeError('a length was answered where the value was asked for');
    const buffer = exchange.acquire(length);
    buffer.bytes.set(value, OUT_HEADER_BYTES);
    exchange.send(buffer, length);
  };
  const takeGet = (exchange: Exchange): PlainCall => {
    decodeGetxattrIn(exchange.buffer.words, BODY_WORD, getxattrIn);
    const call = pool.take(exchange);
    call.size = getxattrIn.size;
    return call;
  };
  return {
    GETXATTR:
      fs.getxattr &&
      ((exchange) => {
        const name = codec.attributeName(exchange, IN_HEADER_BYTES + GETXATTR_IN_SIZE);
        settle(exchange, fs.getxattr!(exchange.nodeid as NodeId, name, takeGet(exchange)), sendValue);
      }),
    LISTXATTR:
      fs.listxattr &&
      ((exchange) => {
        settle(exchange, fs.listxattr!(exchange.nodeid as NodeId, takeGet(exchange)), (ready, names) => {
          sendValue(ready, Array.isArray(names) ? joinNames(names, codec) : (names as Uint8Array | number));
        });
      }),
    SETXATTR:
      fs.setxattr &&
      ((exchange) => {
        const extended = exchange.negotiated.flags.has('FUSE_SETXATTR_EXT');
        const fixed = extended ? SETXATTR_IN_SIZE : FUSE_COMPAT_SETXATTR_IN_SIZE;
        decodeSetxattrIn(exchange.buffer.words, BODY_WORD, setxattrIn, fixed);
        const name = codec.attributeName(exchange, IN_HEADER_BYTES + fixed);
        const at = codec.nextByte;
        if (at + setxattrIn.size > exchange.bodyEnd) throw FuseError.of(ERRNO.EIO);
        const call = pool.take(exchange);
        call.flags = setxattrIn.flags;
        call.aclKillSgid = (setxattrIn.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) !== 0;
        const value = exchange.buffer.bytes.subarray(at, at + setxattrIn.size);
        settle(exchange, fs.setxattr!(exchange.nodeid as NodeId, name, value, call), sendNothing, true);
      }),
    REMOVEXATTR:
      fs.removexattr &&
      ((exchange) => {
        const name = codec.attributeName(exchange, IN_HEADER_BYTES);
        settle(exchange, fs.removexattr!(exchange.nodeid as NodeId, name, plain.take(exchange)), sendNothing);
      }),
  };
}

function joinNames(names: readonly string[], codec: Codec): Uint8Array {
  let length = 0;
  for (const name of names) length += codec.nameBytes(name) + 1;
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const name of names) at += codec.putName(bytes, at, name) + 1;
  return bytes;
}

function devices(fs: Filesystem): OperationMap {
  const ioctlPool = new CallPool(() => new IoctlCall());
  const pollPool = new CallPool(() => new PollCall());
  const ioctlIn = newIoctlIn();
  const ioctlOut = newIoctlOut();
  const pollIn = newPollIn();
  const pollOut = newPollOut();
  const sendIoctl = (exchange: Exchange, reply: IoctlReply): void => {
    const { outSize } = exchange.passenger as IoctlCall;
    if (reply.data !== undefined) assertBytes(reply.data, 'the data of an ioctl');
    assertWhole(reply.result ?? 0, -0x8000_0000, 0xffff_ffff, 'the result of an ioctl');
    const length = reply.data?.byteLength ?? 0;
    if (length > outSize) throw new InvalidAnswer(`ioctl answered ${length} bytes where the caller takes ${outSize}`);
    ioctlOut.result = reply.result ?? 0;
    const buffer = exchange.acquire(IOCTL_OUT_SIZE + length);
    encodeIoctlOut(buffer.words, REPLY_WORD, ioctlOut);
    if (reply.data !== undefined) buffer.bytes.set(reply.data, OUT_HEADER_BYTES + IOCTL_OUT_SIZE);
    exchange.send(buffer, IOCTL_OUT_SIZE + length);
  };
  return {
    IOCTL:
      fs.ioctl &&
      ((exchange) => {
        decodeIoctlIn(exchange.buffer.words, BODY_WORD, ioctlIn);
        const at = IN_HEADER_BYTES + IOCTL_IN_SIZE;
        if (at + ioctlIn.in_size > exchange.bodyEnd) throw FuseError.of(ERRNO.EIO);
        const call = ioctlPool.take(exchange);
        call.handle = ioctlIn.fh as FileHandle;
        call.command = ioctlIn.cmd;
        call.argumentLow = ioctlIn.arg_lo;
        call.argumentHigh = ioctlIn.arg_hi;
        call.flags = ioctlIn.flags;
        call.outSize = ioctlIn.out_size;
        call.directory = (ioctlIn.flags & FUSE_IOCTL_DIR) !== 0;
        call.data = exchange.buffer.bytes.subarray(at, at + ioctlIn.in_size);
        settle(exchange, fs.ioctl!(exchange.nodeid as NodeId, call), sendIoctl, true);
      }),
    POLL:
      fs.poll &&
      ((exchange) => {
        decodePollIn(exchange.buffer.words, BODY_WORD, pollIn);
        const call = pollPool.take(exchange);
        call.handle = pollIn.fh as FileHandle;
        call.pollHandleLow = pollIn.kh_lo;
        call.pollHandleHigh = pollIn.kh_hi;
        call.events = pollIn.events;
        call.notify = (pollIn.flags & FUSE_POLL_SCHEDULE_NOTIFY) !== 0;
        settle(exchange, fs.poll!(exchange.nodeid as NodeId, call), (ready, revents) => {
          assertWhole(revents, 0, 0xffff_ffff, 'the events of poll');
          pollOut.revents = revents;
          sendStruct(ready, POLL_OUT_SIZE, encodePollOut, pollOut);
        });
      }),
  };
}
