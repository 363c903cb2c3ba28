/** What traces and tests must remember to decode messages in order: what INIT agreed on, and which requests wait. */
import { type DecodeFailure, failure } from './failure.ts';
import { FUSE_KERNEL_VERSION } from './generated/constants.ts';
import { decodeInitFlags } from './init-flags.ts';
import {
  type Agreement,
  decodeIoctl,
  decodeMalformedReply,
  decodeNotification,
  decodeReply,
  decodeRequest,
  type IoctlMessage,
  type NotificationMessage,
  type ReplyMessage,
  type RequestFacts,
  type RequestMessage,
} from './message.ts';
import { opcodeNamed } from './opcodes.ts';
import { PROTOCOL_MINOR } from './schema.ts';

const RESENT = 1n << 63n;

/** A request that waits for its answer. */
export interface PendingRequest extends RequestFacts {
  readonly unique: bigint;
  readonly nodeid: bigint;
}

export interface ConnectionOptions {
  /** Requests that may wait; beyond, the oldest is forgotten. Default 65,536. */
  readonly pendingMax?: number;
  /** What was agreed on, for a stream that begins after INIT. Default: 7.45 without flags. */
  readonly agreed?: Agreement;
}

/** Follows one connection. Feed it every message in the order in which it crossed the device. */
export class Connection {
  /** What INIT agreed on, or what was assumed before it. */
  agreed: Agreement;
  /** Minor that the kernel offered; undefined before INIT. */
  kernelMinor: number | undefined;
  readonly #pending = new Map<bigint, PendingRequest>();
  readonly #pendingMax: number;

  constructor(options: ConnectionOptions = {}) {
    this.agreed = options.agreed ?? { minor: PROTOCOL_MINOR, flags: new Set() };
    this.#pendingMax = options.pendingMax ?? 65_536;
  }

  /** The request that waits under `unique`. */
  pending(unique: bigint): PendingRequest | undefined {
    return this.#pending.get(unique);
  }

  /** How many requests wait. */
  get pendingCount(): number {
    return this.#pending.size;
  }

  /** What the daemon read. */
  incoming(bytes: Uint8Array): RequestMessage | DecodeFailure {
    const message = decodeRequest(bytes, this.agreed);
    if (message.kind === 'failure') return message;
    const body = message.structs[0]?.value;
    if (message.opcode === 'INIT') this.kernelMinor = body?.minor as number;
    // An INTERRUPT may be answered, though nothing waits for it.
    if (opcodeNamed(message.opcode).hasReply || message.opcode === 'INTERRUPT') this.#remember(message);
    return message;
  }

  #remember(message: RequestMessage): void {
    const unique = message.header.unique as bigint;
    if ((unique & RESENT) !== 0n) this.#pending.delete(unique & ~RESENT);
    const size = tailLimit(message);
    this.#pending.set(unique, { opcode: message.opcode, size, unique, nodeid: message.header.nodeid as bigint });
    if (this.#pending.size > this.#pendingMax)
      for (const oldest of this.#pending.keys()) return void this.#pending.delete(oldest);
  }

  /**
   * What the daemon wrote. `refused`: the kernel did not take it. Then it agreed on nothing, and a body that is not as the
   * protocol wants it is no failure: the reply is `malformed` instead.
   */
  outgoing(bytes: Uint8Array, refused = false): ReplyMessage | NotificationMessage | DecodeFailure {
    if (bytes.length < 16) return failure('TRUNCATED', bytes.length, `A reply has at least 16 bytes, not ${bytes.length}.`);
    const unique = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigUint64(8, true);
    if (unique === 0n) return decodeNotification(bytes);
    const request = this.#pending.get(unique);
    if (request === undefined) return failure('UNKNOWN_UNIQUE', 8, `No request ${unique} waits for an answer.`);
    const message = decodeReply(bytes, this.agreed, request);
    // The kernel leaves a request waiting only when the header of the reply is wrong.
    const kept = message.kind === 'failure' && (message.code === 'BAD_ERROR' || message.code === 'LENGTH_MISMATCH');
    if (!kept) this.#pending.delete(unique);
    if (message.kind === 'failure') return refused ? decodeMalformedReply(bytes, request, message) : message;
    return message.opcode === 'INIT' && !refused ? this.#agree(message) : message;
  }

  #agree(message: ReplyMessage): ReplyMessage | DecodeFailure {
    const value = message.structs[0]?.value;
    if (value === undefined) return message;
    if (value.major !== FUSE_KERNEL_VERSION) {
      return failure(
        'BAD_MAJOR',
        16,
        `The INIT reply has major version ${value.major as number}, the kernel takes ${FUSE_KERNEL_VERSION} alone.`,
      );
    }
    const flags = decodeInitFlags(Number(value.flags ?? 0), Number(value.flags2 ?? 0));
    this.agreed = { minor: value.minor as number, flags };
    return message;
  }

  /** An ioctl(2) on the device. */
  ioctl(request: number, argument: Uint8Array): IoctlMessage | DecodeFailure {
    return decodeIoctl(request, argument);
  }
}

function tailLimit(message: RequestMessage): number | undefined {
  const field = opcodeNamed(message.opcode).reply.limitedBy;
  return field === undefined ? undefined : (message.structs[0]?.value[field] as number | undefined);
}
