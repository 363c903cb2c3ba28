/**
 * The least kernel that drives a session through the in-memory channel: sends prepared requests with a fresh `unique` each,
 * and counts answers. It checks every answer's header, so that an error cannot pass for speed.
 */
import { type Filesystem, operationsOf } from 'fusewire';
import {
  encodeInHeader,
  encodeInitFlags,
  encodeInitIn,
  FUSE_INIT,
  FUSE_KERNEL_MINOR_VERSION,
  FUSE_KERNEL_VERSION,
  IN_HEADER_SIZE,
  INIT_FLAGS,
  INIT_IN_SIZE,
  newInHeader,
  newInitIn,
  OUT_HEADER_SIZE,
} from 'fusewire/protocol';
import { Session } from 'fusewire/session';
import { type KernelEnd, type MessageBuffer, memoryPair } from 'fusewire/transport';
import { BenchError } from '../harness/failure.ts';

/** A request as it stands in memory, ready to be copied. */
export interface Prepared {
  words: Uint32Array;
  /** Bytes of the whole message; what lies behind `words` is payload whose contents do not matter. */
  length: number;
  replyBytes: number;
}

const UNIQUE_WORD = 2;
const PID = 4242;

/** A request of `opcode` on node `nodeid`; `body` writes its arguments behind the header and `payloadBytes` follow. */
export function prepare(
  request: { opcode: number; nodeid: number; bodyBytes: number; payloadBytes?: number; replyBodyBytes: number },
  body: (words: Uint32Array, bytes: Uint8Array, at: number) => void,
): Prepared {
  const headBytes = IN_HEADER_SIZE + request.bodyBytes;
  const length = headBytes + (request.payloadBytes ?? 0);
  const words = new Uint32Array(Math.ceil(headBytes / 4));
  const { opcode, nodeid } = request;
  encodeInHeader(words, 0, { ...newInHeader(), len: length, opcode, nodeid, uid: 1000, gid: 1000, pid: PID });
  body(words, new Uint8Array(words.buffer), IN_HEADER_SIZE / 4);
  return { words, length, replyBytes: OUT_HEADER_SIZE + request.replyBodyBytes };
}

export class BenchKernel {
  readonly #kernel: KernelEnd;
  readonly #session: Session;
  #unique = 0;
  #answers = 0;
  #failures = 0;
  #expectedBytes = 0;

  constructor(filesystem: Filesystem) {
    const pair = memoryPair({ onReply: (buffer, length) => this.#onReply(buffer, length) });
    this.#kernel = pair.kernel;
    this.#session = new Session(pair.daemon, operationsOf(filesystem), { isOwnThread: () => false });
    // Begins before it returns: INIT has yet to come, so there is nothing to wait for.
    this.#session.open();
    this.#initialize();
  }

  /** Requests answered so far. */
  get answers(): number {
    return this.#answers;
  }

  #onReply(buffer: MessageBuffer, length: number): number {
    const { words } = buffer;
    this.#answers++;
    if (words[1] !== 0 || words[0] !== length || length !== this.#expectedBytes) this.#failures++;
    return 0;
  }

  #initialize(): void {
    const { flags, flags2 } = encodeInitFlags(new Set(INIT_FLAGS.map(({ name }) => name)));
    const init = {
      ...newInitIn(),
      major: FUSE_KERNEL_VERSION,
      minor: FUSE_KERNEL_MINOR_VERSION,
      max_readahead: 131_072,
      flags,
      flags2,
    };
    const request = { opcode: FUSE_INIT, nodeid: 0, bodyBytes: INIT_IN_SIZE, replyBodyBytes: 64 };
    this.send(prepare(request, (words, _, at) => encodeInitIn(words, at, init)));
    this.assertAnswered(1);
  }

  /** Sends one request; a session that answers at once has answered when this returns. */
  send(prepared: Prepared): void {
    const buffer = this.#kernel.acquire(prepared.length);
    const { words } = buffer;
    words.set(prepared.words);
    this.#unique += 2;
    words[UNIQUE_WORD] = this.#unique;
    this.#expectedBytes = prepared.replyBytes;
    if (this.#kernel.submit(buffer, prepared.length) !== 0) this.#failures++;
  }

  /** Throws unless exactly `count` requests were answered since the last call, each with success and the right length. */
  assertAnswered(count: number): void {
    const { counters } = this.#session;
    if (this.#answers !== count || this.#failures !== 0) {
      const said = `${this.#answers} answers for ${count} requests, ${this.#failures} wrong, ${counters.errors} errors`;
      throw BenchError.result(`the session did not answer as it should: ${said}`);
    }
    this.#answers = 0;
  }

  close(): void {
    this.#kernel.close();
  }
}
