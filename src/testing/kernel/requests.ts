/** How each request is laid out: its struct's codec by opcode. */

import type { OpcodeName } from '../../protocol/index.ts';
import * as wire from '../../protocol/index.ts';

type Encode<T> = (words: Uint32Array, at: number, value: T, size: number) => void;

interface StructCodec<T> {
  readonly make: () => T;
  readonly encode: Encode<T>;
}

const codec = <T>(make: () => T, encode: Encode<T>): StructCodec<T> => ({ make, encode });

const read = codec(wire.newReadIn, wire.encodeReadIn);
const open = codec(wire.newOpenIn, wire.encodeOpenIn);
const release = codec(wire.newReleaseIn, wire.encodeReleaseIn);
const fsync = codec(wire.newFsyncIn, wire.encodeFsyncIn);
const getxattr = codec(wire.newGetxattrIn, wire.encodeGetxattrIn);
const lock = codec(wire.newLkIn, wire.encodeLkIn);
const create = codec(wire.newCreateIn, wire.encodeCreateIn);
const copy = codec(wire.newCopyFileRangeIn, wire.encodeCopyFileRangeIn);

/** The fixed struct of each request that the simulated kernel sends and that has one. */
export const REQUEST_STRUCTS = {
  INIT: codec(wire.newInitIn, wire.encodeInitIn),
  FORGET: codec(wire.newForgetIn, wire.encodeForgetIn),
  BATCH_FORGET: codec(wire.newBatchForgetIn, wire.encodeBatchForgetIn),
  INTERRUPT: codec(wire.newInterruptIn, wire.encodeInterruptIn),
  GETATTR: codec(wire.newGetattrIn, wire.encodeGetattrIn),
  SETATTR: codec(wire.newSetattrIn, wire.encodeSetattrIn),
  STATX: codec(wire.newStatxIn, wire.encodeStatxIn),
  MKNOD: codec(wire.newMknodIn, wire.encodeMknodIn),
  MKDIR: codec(wire.newMkdirIn, wire.encodeMkdirIn),
  RENAME: codec(wire.newRenameIn, wire.encodeRenameIn),
  RENAME2: codec(wire.newRename2In, wire.encodeRename2In),
  LINK: codec(wire.newLinkIn, wire.encodeLinkIn),
  OPEN: open,
  OPENDIR: open,
  CREATE: create,
  TMPFILE: create,
  READ: read,
  READDIR: read,
  READDIRPLUS: read,
  WRITE: codec(wire.newWriteIn, wire.encodeWriteIn),
  FLUSH: codec(wire.newFlushIn, wire.encodeFlushIn),
  RELEASE: release,
  RELEASEDIR: release,
  FSYNC: fsync,
  FSYNCDIR: fsync,
  ACCESS: codec(wire.newAccessIn, wire.encodeAccessIn),
  SETXATTR: codec(wire.newSetxattrIn, wire.encodeSetxattrIn),
  GETXATTR: getxattr,
  LISTXATTR: getxattr,
  GETLK: lock,
  SETLK: lock,
  SETLKW: lock,
  FALLOCATE: codec(wire.newFallocateIn, wire.encodeFallocateIn),
  LSEEK: codec(wire.newLseekIn, wire.encodeLseekIn),
  COPY_FILE_RANGE: copy,
  COPY_FILE_RANGE_64: copy,
  IOCTL: codec(wire.newIoctlIn, wire.encodeIoctlIn),
  POLL: codec(wire.newPollIn, wire.encodePollIn),
  NOTIFY_REPLY: codec(wire.newNotifyRetrieveIn, wire.encodeNotifyRetrieveIn),
} as const;

export type StructuredOpcode = keyof typeof REQUEST_STRUCTS;

/** The fields of an opcode's struct; those that are left out are 0. */
export type Arguments<Op extends OpcodeName> = Op extends StructuredOpcode
  ? Partial<ReturnType<(typeof REQUEST_STRUCTS)[Op]['make']>>
  : undefined;

/** A request as the simulated kernel sent it: for assertions. */
export interface SentRequest {
  /** Counts all requests of the connection from 0. */
  readonly index: number;
  readonly operation: OpcodeName;
  readonly nodeid: number;
  /** Identity of the request in the protocol. */
  readonly unique: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** The fields of the request's struct in kernel spelling; undefined where it has none. Lists of BATCH_FORGET are in `forgets`. */
  readonly args: Readonly<Record<string, unknown>> | undefined;
  /** Names in the order in which they travel, one character a byte. */
  readonly names: readonly string[];
  /** Bytes of payload behind the names. */
  readonly dataBytes: number;
  /** What BATCH_FORGET holds. */
  readonly forgets: readonly { readonly nodeid: number; readonly nlookup: number }[] | undefined;
  /** 0 or the positive errno of the answer; undefined while there is none, and for requests that have none. */
  errno: number | undefined;
}

/** `LOOKUP #12 of node 1 "a"`. */
export function describeRequest(request: SentRequest): string {
  const names = request.names.map((name) => ` ${JSON.stringify(name)}`).join('');
  return `${request.operation} #${request.index} of node ${request.nodeid}${names}`;
}
