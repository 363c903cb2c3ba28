/** The request objects that handlers see. One class per shape, pooled; each forwards who asks to its exchange. */
import { readFileSync } from 'node:fs';
import { tryLoadAddon } from '../native/index.ts';
import { decodeExtensions, FUSE_UNIQUE_RESEND_HI, opcodeRow } from '../protocol/index.ts';
import { type Exchange, OUT_HEADER_BYTES, type Passenger } from '../session/index.ts';
import type { MessageBuffer } from '../transport/index.ts';
import type { Timespec } from './attributes.ts';
import type { FileHandle, NodeId } from './identity.ts';
import type * as requests from './requests.ts';

const NO_GROUPS: readonly number[] = [];
const NO_CONTEXTS: readonly requests.SecurityContext[] = [];
/** FUSE_UNIQUE_RESEND, in the high word of `unique`. */
const RESENT = FUSE_UNIQUE_RESEND_HI | 0;

/** Objects of one class, kept for reuse. */
export class CallPool<C extends Call> {
  readonly #make: () => C;
  readonly #idle: C[] = [];

  constructor(make: () => C) {
    this.#make = make;
  }

  /** A call that rides with `exchange` and comes back when that is done. */
  take(exchange: Exchange): C {
    const call = this.#idle.pop() ?? this.#make();
    call.exchange = exchange;
    call.pool = this as unknown as CallPool<Call>;
    exchange.passenger = call;
    return call;
  }

  give(call: C): void {
    if (this.#idle.length < 256) this.#idle.push(call);
  }
}

export class Call implements requests.Request, Passenger {
  exchange!: Exchange;
  pool!: CallPool<Call>;
  #groups: readonly number[] | undefined = undefined;
  #contexts: readonly requests.SecurityContext[] = NO_CONTEXTS;

  get uid(): number {
    return this.exchange.uid;
  }

  get gid(): number {
    return this.exchange.gid;
  }

  get pid(): number {
    return this.exchange.pid;
  }

  get operation(): string {
    return opcodeRow(this.exchange.opcode)?.name ?? '';
  }

  get signal(): AbortSignal {
    return this.exchange.signal;
  }

  groups(): readonly number[] {
    if (this.#groups !== undefined) return this.#groups;
    const { exchange } = this;
    if (exchange.extensionBytes > 0) this.readExtensions();
    else if (exchange.negotiated.flags.has('FUSE_CREATE_SUPP_GROUP') && opcodeRow(exchange.opcode)?.request.extensions)
      this.#groups = NO_GROUPS;
    else this.#groups = groupsOfThread(exchange.pid);
    return this.#groups ?? NO_GROUPS;
  }

  securityContexts(): readonly requests.SecurityContext[] {
    return this.#contexts;
  }

  get resent(): boolean {
    return (this.exchange.uniqueHigh & RESENT) !== 0;
  }

  /** While the message is there: creating operations call it when they have extensions. */
  readExtensions(): void {
    const { exchange } = this;
    const found = decodeExtensions(exchange.buffer.bytes, exchange.bodyEnd, exchange.length);
    const isWhole = 'groups' in found;
    this.#groups = isWhole ? found.groups : NO_GROUPS;
    if (isWhole && found.securityContexts.length > 0) {
      this.#contexts = found.securityContexts.map(({ name, value }) => ({ name, value: value.slice() }));
    }
  }

  release(): void {
    this.#groups = undefined;
    this.#contexts = NO_CONTEXTS;
    this.pool.give(this);
  }
}

/** Supplementary groups of a caller, from /proc; none when it is gone or in another pid namespace. */
function groupsOfThread(pid: number): readonly number[] {
  if (pid === 0) return NO_GROUPS;
  try {
    const line = /^Groups:[ \t]*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
    return line === null || line[1].trim() === '' ? NO_GROUPS : line[1].trim().split(/\s+/).map(Number);
  } catch {
    return NO_GROUPS;
  }
}

export class GetattrCall extends Call implements requests.GetattrRequest {
  handle: FileHandle | undefined = undefined;
}

export class StatxCall extends GetattrCall implements requests.StatxRequest {
  mask = 0;
  flags = 0;
}

export class SetattrCall extends Call implements requests.SetattrRequest {
  handle: FileHandle | undefined = undefined;
  mode: number | undefined = undefined;
  newUid: number | undefined = undefined;
  newGid: number | undefined = undefined;
  size: number | undefined = undefined;
  atime: Timespec | 'now' | undefined = undefined;
  mtime: Timespec | 'now' | undefined = undefined;
  ctime: Timespec | undefined = undefined;
  killSuidGid = false;
  valid = 0;
}

export class MknodCall extends Call implements requests.MknodRequest {
  mode = 0;
  umask = 0;
  rdev = 0;
}

export class RenameCall extends Call implements requests.RenameRequest {
  newParent = 0 as NodeId;
  newName = '';
  flags = 0;
}

export class CreateCall extends Call implements requests.CreateRequest {
  flags = 0;
  mode = 0;
  umask = 0;
  killSuidGid = false;
}

/** Calls with a handle. */
export class HandleCall extends Call implements requests.HandleRequest {
  handle = 0 as FileHandle;
}

export class ReadCall extends HandleCall implements requests.ReadRequest {
  offset = 0;
  size = 0;
  flags = 0;
  /** The reply's memory, once asked for. */
  reply: MessageBuffer | undefined = undefined;

  payload(): Uint8Array {
    this.reply ??= this.exchange.session.channel.acquire(OUT_HEADER_BYTES + this.size);
    return this.reply.bytes.subarray(OUT_HEADER_BYTES, OUT_HEADER_BYTES + this.size);
  }

  override release(): void {
    if (this.reply !== undefined) {
      this.exchange.session.channel.discard(this.reply);
      this.reply = undefined;
    }
    super.release();
  }
}

export class WriteCall extends HandleCall implements requests.WriteRequest {
  offset = 0;
  size = 0;
  flags = 0;
  writeback = false;
  killSuidGid = false;
  writeFlags = 0;
  /** Byte of the message where the payload starts. */
  payloadAt = 0;

  writeTo(fd: number, position: number): number {
    const { buffer } = this.exchange;
    const addon = tryLoadAddon();
    if (addon === undefined) throw new Error('writeTo needs the native addon');
    if (buffer.id >= 0) return addon.pwrite(fd, buffer.id, this.payloadAt, this.size, position);
    const id = addon.registerBuffer(buffer.bytes.buffer as ArrayBuffer);
    const written = addon.pwrite(fd, id, buffer.bytes.byteOffset + this.payloadAt, this.size, position);
    addon.unregisterBuffer(id);
    return written;
  }
}

export class ReaddirCall extends HandleCall implements requests.ReaddirRequest {
  offset = 0;
  offsetLow = 0;
  offsetHigh = 0;
  size = 0;
  /** The reply that is being filled. */
  listing: { close(): void } | undefined = undefined;

  override release(): void {
    this.listing?.close();
    this.listing = undefined;
    super.release();
  }
}

/** FLUSH, RELEASE and FSYNC. */
export class CloseCall extends HandleCall implements requests.FlushRequest, requests.ReleaseRequest, requests.FsyncRequest {
  flags = 0;
  flockUnlock = false;
  dataOnly = false;
  readonly lockOwner = { low: 0, high: 0 };
}

export class LockCall extends HandleCall implements requests.LockRequest {
  readonly owner = { low: 0, high: 0 };
  start = 0;
  end = 0;
  type: 'read' | 'write' | 'unlock' = 'unlock';
  lockPid = 0;
  flock = false;
  wait = false;
}

/** Operations on a range of an open file. */
export class RangeCall
  extends HandleCall
  implements requests.FallocateRequest, requests.LseekRequest, requests.CopyFileRangeRequest
{
  offset = 0;
  length = 0;
  mode = 0;
  whence = 0;
  toNode = 0 as NodeId;
  toHandle = 0 as FileHandle;
  toOffset = 0;
  flags = 0;
}

export class IoctlCall extends HandleCall implements requests.IoctlRequest {
  command = 0;
  argumentLow = 0;
  argumentHigh = 0;
  flags = 0;
  data: Uint8Array = EMPTY;
  outSize = 0;
  directory = false;
}

export class PollCall extends HandleCall implements requests.PollRequest {
  pollHandleLow = 0;
  pollHandleHigh = 0;
  events = 0;
  notify = false;
}

/** ACCESS, the xattr operations and BMAP: a few plain numbers. */
export class PlainCall
  extends Call
  implements requests.AccessRequest, requests.SetxattrRequest, requests.XattrRequest, requests.BmapRequest
{
  mask = 0;
  size = 0;
  flags = 0;
  aclKillSgid = false;
  block = 0;
  blocksize = 0;
}

const EMPTY = new Uint8Array(0);
