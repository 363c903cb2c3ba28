/** Operations on names and nodes: looking up, making, renaming, removing, attributes. */
import {
  CREATE_IN_SIZE,
  decodeBatchForgetIn,
  decodeCreateIn,
  decodeForgetIn,
  decodeForgetOne,
  decodeGetattrIn,
  decodeLinkIn,
  decodeMkdirIn,
  decodeMknodIn,
  decodeRename2In,
  decodeRenameIn,
  decodeSetattrIn,
  decodeStatxIn,
  encodeStatxOut,
  FATTR_ATIME,
  FATTR_ATIME_NOW,
  FATTR_CTIME,
  FATTR_FH,
  FATTR_GID,
  FATTR_KILL_SUIDGID,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_MTIME_NOW,
  FATTR_SIZE,
  FATTR_UID,
  FORGET_ONE_SIZE,
  FUSE_GETATTR_FH,
  FUSE_OPEN_KILL_SUIDGID,
  LINK_IN_SIZE,
  MKDIR_IN_SIZE,
  MKNOD_IN_SIZE,
  newBatchForgetIn,
  newCreateIn,
  newForgetIn,
  newForgetOne,
  newGetattrIn,
  newLinkIn,
  newMkdirIn,
  newMknodIn,
  newRename2In,
  newRenameIn,
  newSetattrIn,
  newStatxIn,
  newStatxOut,
  RENAME_IN_SIZE,
  RENAME2_IN_SIZE,
  STATX_OUT_SIZE,
} from '../protocol/index.ts';
import { BODY_WORD, ERRNO, type Exchange, FuseError, IN_HEADER_BYTES } from '../session/index.ts';
import type { Timespec } from './attributes.ts';
import {
  type Call,
  Call as CallClass,
  CallPool,
  CreateCall,
  GetattrCall,
  MknodCall,
  RenameCall,
  SetattrCall,
  StatxCall,
} from './calls.ts';
import type { Codec } from './codec.ts';
import type { AttributesReply, Filesystem } from './filesystem.ts';
import type { FileHandle, NodeId } from './identity.ts';
import { type OperationMap, sendNothing, sendStruct, settle, takeOff } from './settle.ts';
import { assertBytes, fillStatx, ttlNanoseconds, ttlSeconds } from './wire.ts';

/** Calls that carry nothing but who asks. */
const plainPool = () => new CallPool<Call>(() => new CallClass());

export function namespaceOperations(fs: Filesystem, codec: Codec): OperationMap {
  return { ...lookups(fs, codec), ...attributes(fs, codec), ...makers(fs, codec), ...renamers(fs, codec) };
}

function lookups(fs: Filesystem, codec: Codec): OperationMap {
  const pool = plainPool();
  const forgetIn = newForgetIn();
  const batchIn = newBatchForgetIn();
  const one = newForgetOne();
  return {
    LOOKUP:
      fs.lookup &&
      ((exchange) => {
        const name = codec.entryName(exchange, IN_HEADER_BYTES);
        settle(exchange, fs.lookup!(exchange.nodeid as NodeId, name, pool.take(exchange)), codec.sendEntry);
      }),
    FORGET: (exchange) => {
      decodeForgetIn(exchange.buffer.words, BODY_WORD, forgetIn);
      takeOff(fs, exchange.nodeid as NodeId, forgetIn.nlookup);
    },
    BATCH_FORGET: (exchange) => {
      const { words } = exchange.buffer;
      decodeBatchForgetIn(words, BODY_WORD, batchIn);
      const room = Math.floor((exchange.length - IN_HEADER_BYTES - 8) / FORGET_ONE_SIZE);
      const count = Math.min(batchIn.count, room);
      if (fs.forget === undefined) return;
      for (let i = 0; i < count; i++) {
        decodeForgetOne(words, BODY_WORD + 2 + (i * FORGET_ONE_SIZE) / 4, one);
        takeOff(fs, one.nodeid as NodeId, one.nlookup);
      }
    },
    READLINK:
      fs.readlink &&
      ((exchange) => {
        settle(exchange, fs.readlink!(exchange.nodeid as NodeId, pool.take(exchange)), (ready, target) => {
          if (typeof target !== 'string') assertBytes(target, 'the target of a symbolic link');
          const length = typeof target === 'string' ? codec.nameBytes(target) : target.byteLength;
          // The kernel refuses a longer target and gives the caller EIO.
          if (length > 4095) throw FuseError.of(ERRNO.ENAMETOOLONG);
          const buffer = ready.acquire(length);
          if (typeof target === 'string') codec.putName(buffer.bytes, 16, target);
          else buffer.bytes.set(target, 16);
          ready.send(buffer, length);
        });
      }),
    UNLINK: fs.unlink && remover(fs, codec, 'unlink'),
    RMDIR: fs.rmdir && remover(fs, codec, 'rmdir'),
  };
}

function remover(fs: Filesystem, codec: Codec, how: 'unlink' | 'rmdir') {
  const pool = plainPool();
  return (exchange: Exchange): void => {
    const name = codec.entryName(exchange, IN_HEADER_BYTES);
    settle(exchange, fs[how]!(exchange.nodeid as NodeId, name, pool.take(exchange)), sendNothing);
  };
}

function attributes(fs: Filesystem, codec: Codec): OperationMap {
  const getattrPool = new CallPool(() => new GetattrCall());
  const setattrPool = new CallPool(() => new SetattrCall());
  const statxPool = new CallPool(() => new StatxCall());
  const getattrIn = newGetattrIn();
  const setattrIn = newSetattrIn();
  const statxIn = newStatxIn();
  const statxOut = newStatxOut();
  const sendStatx = (exchange: Exchange, reply: AttributesReply): void => {
    const ttl = reply.attributeTtl ?? codec.attributeTtl;
    statxOut.attr_valid = ttlSeconds(ttl);
    statxOut.attr_valid_nsec = ttlNanoseconds(ttl);
    fillStatx(statxOut.stat, reply.attributes, exchange.nodeid);
    sendStruct(exchange, STATX_OUT_SIZE, encodeStatxOut, statxOut);
  };
  return {
    GETATTR:
      fs.getattr &&
      ((exchange) => {
        decodeGetattrIn(exchange.buffer.words, BODY_WORD, getattrIn);
        const call = getattrPool.take(exchange);
        call.handle = (getattrIn.getattr_flags & FUSE_GETATTR_FH) !== 0 ? (getattrIn.fh as FileHandle) : undefined;
        settle(exchange, fs.getattr!(exchange.nodeid as NodeId, call), codec.sendAttributes);
      }),
    SETATTR:
      fs.setattr &&
      ((exchange) => {
        decodeSetattrIn(exchange.buffer.words, BODY_WORD, setattrIn);
        // The kernel sends no size beyond 2^63-1; beyond 2^53-1 a number would no longer be exact.
        if ((setattrIn.valid & FATTR_SIZE) !== 0 && setattrIn.size > Number.MAX_SAFE_INTEGER) throw FuseError.of(ERRNO.EFBIG);
        const call = setattrPool.take(exchange);
        fillSetattr(call, setattrIn);
        settle(exchange, fs.setattr!(exchange.nodeid as NodeId, call), codec.sendAttributes);
      }),
    STATX:
      fs.statx &&
      ((exchange) => {
        decodeStatxIn(exchange.buffer.words, BODY_WORD, statxIn);
        const call = statxPool.take(exchange);
        call.handle = (statxIn.getattr_flags & FUSE_GETATTR_FH) !== 0 ? (statxIn.fh as FileHandle) : undefined;
        call.mask = statxIn.sx_mask;
        call.flags = statxIn.sx_flags;
        settle(exchange, fs.statx!(exchange.nodeid as NodeId, call), sendStatx);
      }),
  };
}

function fillSetattr(call: SetattrCall, wire: ReturnType<typeof newSetattrIn>): void {
  const { valid } = wire;
  call.valid = valid;
  call.handle = (valid & FATTR_FH) !== 0 ? (wire.fh as FileHandle) : undefined;
  call.mode = (valid & FATTR_MODE) !== 0 ? wire.mode : undefined;
  call.newUid = (valid & FATTR_UID) !== 0 ? wire.uid : undefined;
  call.newGid = (valid & FATTR_GID) !== 0 ? wire.gid : undefined;
  call.size = (valid & FATTR_SIZE) !== 0 ? wire.size : undefined;
  call.atime = time(valid, FATTR_ATIME, FATTR_ATIME_NOW, wire.atime, wire.atimensec);
  call.mtime = time(valid, FATTR_MTIME, FATTR_MTIME_NOW, wire.mtime, wire.mtimensec);
  call.ctime = (valid & FATTR_CTIME) !== 0 ? instant(wire.ctime, wire.ctimensec) : undefined;
  call.killSuidGid = (valid & FATTR_KILL_SUIDGID) !== 0;
}

function time(valid: number, bit: number, now: number, seconds: number, nanoseconds: number) {
  if ((valid & now) !== 0) return 'now' as const;
  return (valid & bit) !== 0 ? instant(seconds, nanoseconds) : undefined;
}

function instant(seconds: number, nanoseconds: number): Timespec {
  if (nanoseconds > 999_999_999) throw FuseError.of(ERRNO.EINVAL);
  return { seconds, nanoseconds };
}

function makers(fs: Filesystem, codec: Codec): OperationMap {
  const plain = plainPool();
  const mknodPool = new CallPool(() => new MknodCall());
  const createPool = new CallPool(() => new CreateCall());
  const mknodIn = newMknodIn();
  const mkdirIn = newMkdirIn();
  const createIn = newCreateIn();
  const takeCreate = (exchange: Exchange): CreateCall => {
    decodeCreateIn(exchange.buffer.words, BODY_WORD, createIn);
    const call = withGroups(createPool.take(exchange));
    call.flags = createIn.flags;
    call.mode = createIn.mode;
    call.umask = createIn.umask;
    call.killSuidGid = (createIn.open_flags & FUSE_OPEN_KILL_SUIDGID) !== 0;
    return call;
  };
  return {
    MKNOD:
      fs.mknod &&
      ((exchange) => {
        decodeMknodIn(exchange.buffer.words, BODY_WORD, mknodIn);
        const name = codec.entryName(exchange, IN_HEADER_BYTES + MKNOD_IN_SIZE);
        const call = withGroups(mknodPool.take(exchange));
        call.mode = mknodIn.mode;
        call.umask = mknodIn.umask;
        call.rdev = mknodIn.rdev;
        settle(exchange, fs.mknod!(exchange.nodeid as NodeId, name, call), codec.sendEntry);
      }),
    MKDIR:
      fs.mkdir &&
      ((exchange) => {
        decodeMkdirIn(exchange.buffer.words, BODY_WORD, mkdirIn);
        const name = codec.entryName(exchange, IN_HEADER_BYTES + MKDIR_IN_SIZE);
        const call = withGroups(mknodPool.take(exchange));
        call.mode = mkdirIn.mode;
        call.umask = mkdirIn.umask;
        call.rdev = 0;
        settle(exchange, fs.mkdir!(exchange.nodeid as NodeId, name, call), codec.sendEntry);
      }),
    SYMLINK:
      fs.symlink &&
      ((exchange) => {
        const name = codec.entryName(exchange, IN_HEADER_BYTES);
        const target = codec.name(exchange, codec.nextByte);
        const call = withGroups(plain.take(exchange));
        settle(exchange, fs.symlink!(exchange.nodeid as NodeId, name, target, call), codec.sendEntry);
      }),
    CREATE:
      fs.create &&
      ((exchange) => {
        const name = codec.entryName(exchange, IN_HEADER_BYTES + CREATE_IN_SIZE);
        settle(exchange, fs.create!(exchange.nodeid as NodeId, name, takeCreate(exchange)), codec.sendCreated);
      }),
    TMPFILE:
      fs.tmpfile &&
      ((exchange) => {
        settle(exchange, fs.tmpfile!(exchange.nodeid as NodeId, takeCreate(exchange)), codec.sendCreated);
      }),
  };
}

/** Extensions stand in the message, which is gone once a handler waits. */
function withGroups<C extends Call>(call: C): C {
  if (call.exchange.extensionBytes > 0) call.readExtensions();
  return call;
}

function renamers(fs: Filesystem, codec: Codec): OperationMap {
  const pool = new CallPool(() => new RenameCall());
  const renameIn = newRenameIn();
  const rename2In = newRename2In();
  const linkIn = newLinkIn();
  const rename = (exchange: Exchange, namesAt: number, newParent: number, flags: number): void => {
    const name = codec.entryName(exchange, namesAt);
    const call = pool.take(exchange);
    call.newName = codec.entryName(exchange, codec.nextByte);
    call.newParent = newParent as NodeId;
    call.flags = flags;
    settle(exchange, fs.rename!(exchange.nodeid as NodeId, name, call), sendNothing);
  };
  return {
    RENAME:
      fs.rename &&
      ((exchange) => {
        decodeRenameIn(exchange.buffer.words, BODY_WORD, renameIn);
        rename(exchange, IN_HEADER_BYTES + RENAME_IN_SIZE, renameIn.newdir, 0);
      }),
    RENAME2:
      fs.rename &&
      ((exchange) => {
        decodeRename2In(exchange.buffer.words, BODY_WORD, rename2In);
        rename(exchange, IN_HEADER_BYTES + RENAME2_IN_SIZE, rename2In.newdir, rename2In.flags);
      }),
    LINK:
      fs.link &&
      ((exchange) => {
        decodeLinkIn(exchange.buffer.words, BODY_WORD, linkIn);
        const call = pool.take(exchange);
        call.newName = codec.entryName(exchange, IN_HEADER_BYTES + LINK_IN_SIZE);
        call.newParent = exchange.nodeid as NodeId;
        call.flags = 0;
        settle(exchange, fs.link!(linkIn.oldnodeid as NodeId, call), codec.sendEntry);
      }),
  };
}
