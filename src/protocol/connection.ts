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
import { type InitFlag, PROTOCOL_MINOR } from './schema.ts';
import { initInHasFlags, MINOR_OF } from './versions.ts';

const RESENT = 1n << 63n;
/**
 * The kernel lends the reply to IOCTL at least a page (fs/fuse/ioctl.c, fuse_do_ioctl), whatever out_size says; pages of Linux
 * have up to this many bytes.
 */
const IOCTL_REPLY_BYTES = 65_536;

/**
 * What may have been agreed on when nobody saw INIT, most likely first: each differs from the others in the size of some
 * message. The names of the predicates in versions.ts tell which.
 */
const ASSUMPTIONS: readonly Agreement[] = [
  { minor: PROTOCOL_MINOR, flags: new Set() },
  { minor: PROTOCOL_MINOR, flags: new Set(['FUSE_SETXATTR_EXT']) },
  { minor: PROTOCOL_MINOR, flags: new Set(['FUSE_SECURITY_CTX']) },
  { minor: MINOR_OF.createHasUmask - 1, flags: new Set() },
  { minor: MINOR_OF.attrHasBlksize - 1, flags: new Set() },
  { minor: MINOR_OF.statfsHasFragmentSize - 1, flags: new Set() },
];

/** A request that waits for its answer. */
export interface PendingRequest extends RequestFacts {
  readonly unique: bigint;
  readonly nodeid: bigint;
}

export interface ConnectionOptions {
  /** Requests that may wait; beyond, the oldest is forgotten. Default 65,536. */
  readonly pendingMax?: number;
  /**
   * What was agreed on, for a stream that begins after INIT. Default: 7.45 without flags, until a message has a size that
   * only another agreement explains.
   */
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
  #assumed: boolean;

  constructor(options: ConnectionOptions = {}) {
    this.agreed = options.agreed ?? ASSUMPTIONS[0]!;
    this.#assumed = options.agreed === undefined;
    this.#pendingMax = options.pendingMax ?? 65_536;
  }

  /** Whether {@link agreed} is a guess: no INIT was seen, and none was given. */
  get assumed(): boolean {
    return this.#assumed;
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
    const message = this.#decode((agreed) => decodeRequest(bytes, agreed));
    if (message.kind === 'failure') return message;
    const body = message.structs[0]?.value;
    if (message.opcode === 'INIT') this.kernelMinor = body?.minor as number;
    // An INTERRUPT may be answered, though nothing waits for it.
    if (opcodeNamed(message.opcode).hasReply || message.opcode === 'INTERRUPT') this.#remember(message);
    return message;
  }

  /** Decodes as was agreed on. Where that is only assumed, by the first assumption that explains the message. */
  #decode<Decoded extends { readonly kind: string }>(
    decode: (agreed: Agreement) => Decoded | DecodeFailure,
  ): Decoded | DecodeFailure {
    const first = decode(this.agreed);
    if (first.kind !== 'failure' || !this.#assumed) return first;
    for (const agreed of ASSUMPTIONS) {
      const other = decode(agreed);
      if (other.kind === 'failure') continue;
      this.agreed = agreed;
      return other;
    }
    return first;
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
    const message = refused
      ? decodeReply(bytes, this.agreed, request)
      : this.#decode((agreed) => decodeReply(bytes, agreed, request));
    // The kernel leaves a request waiting only when the header of the reply is wrong.
    const kept = message.kind === 'failure' && (message.code === 'BAD_ERROR' || message.code === 'LENGTH_MISMATCH');
    if (!kept) this.#pending.delete(unique);
    if (message.kind === 'failure') return refused ? decodeMalformedReply(bytes, request, message) : message;
    const agrees = message.opcode === 'INIT' || message.opcode === 'CUSE_INIT';
    return agrees && !refused ? this.#agree(message) : message;
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
    const minor = Number(value.minor ?? 0);
    // CUSE has flags of its own; replies before 7.6 have words there that the kernel does not heed (process_init_reply).
    const heeded = message.opcode === 'INIT' && initInHasFlags(minor);
    const flags = heeded ? decodeInitFlags(Number(value.flags ?? 0), Number(value.flags2 ?? 0)) : new Set<InitFlag>();
    this.agreed = { minor, flags };
    this.#assumed = false;
    return message;
  }

  /** An ioctl(2) on the device. */
  ioctl(request: number, argument: Uint8Array): IoctlMessage | DecodeFailure {
    return decodeIoctl(request, argument);
  }
}

function tailLimit(message: RequestMessage): number | undefined {
  const field = opcodeNamed(message.opcode).reply.limitedBy;
  const size = field === undefined ? undefined : (message.structs[0]?.value[field] as number | undefined);
  return size !== undefined && message.opcode === 'IOCTL' ? Math.max(size, IOCTL_REPLY_BYTES) : size;
}
