/** The kernel's half of a session in a test: builds requests by hand, gathers replies. */

import { type Filesystem, operationsOf } from '../../src/filesystem/index.ts';
import { encodeInitFlags, INIT_FLAGS, type InitFlag, OPCODES, type OpcodeName } from '../../src/protocol/index.ts';
import { Session, type SessionOptions } from '../../src/session/index.ts';
import { type MemoryPair, memoryPair } from '../../src/transport/index.ts';

export interface Reply {
  unique: number;
  /** Positive errno, 0 for success. */
  errno: number;
  body: Uint8Array;
}

export interface RequestOptions {
  nodeid?: number;
  unique?: number;
  uid?: number;
  gid?: number;
  pid?: number;
  /** Bytes of extensions, multiple of 8; already part of the body. */
  extensionBytes?: number;
  /** The length that the header claims, when it is not the true one. */
  claimedLength?: number;
}

export const opcode = (name: OpcodeName): number => OPCODES.find((row) => row.name === name)!.value;

/** Little-endian bytes of words, then text and bytes as they are. */
export function body(...parts: (number | bigint | string | Uint8Array)[]): Uint8Array {
  const chunks = parts.map((part) => {
    if (typeof part === 'string') return Buffer.from(part, 'latin1');
    if (part instanceof Uint8Array) return Buffer.from(part);
    const chunk = Buffer.alloc(typeof part === 'bigint' ? 8 : 4);
    if (typeof part === 'bigint') chunk.writeBigUInt64LE(BigInt.asUintN(64, part));
    else chunk.writeUInt32LE(part >>> 0);
    return chunk;
  });
  return new Uint8Array(Buffer.concat(chunks));
}

export class TestKernel {
  readonly replies: Reply[] = [];
  readonly session: Session;
  readonly pair: MemoryPair;
  /** What the next writes of the daemon give. */
  refuse: number[] = [];
  #unique = 2;
  #serving = false;

  constructor(filesystem: Filesystem, options: SessionOptions = {}) {
    this.pair = memoryPair({
      onReply: (buffer, length) => {
        const refused = this.refuse.shift() ?? 0;
        if (refused !== 0) return refused;
        const { words } = buffer;
        this.replies.push({
          unique: words[2] + words[3] * 0x1_0000_0000,
          errno: 0 - (words[1] | 0),
          body: buffer.bytes.slice(16, length),
        });
        return 0;
      },
    });
    this.session = new Session(this.pair.daemon, operationsOf(filesystem), options);
  }

  /** Sends a message; answers its unique. */
  send(op: number, payload: Uint8Array = new Uint8Array(0), options: RequestOptions = {}): number {
    const unique = options.unique ?? this.#unique;
    this.#unique += 2;
    const length = 40 + payload.byteLength;
    const buffer = this.pair.kernel.acquire(length);
    const { words } = buffer;
    words.fill(0, 0, 10);
    words[0] = options.claimedLength ?? length;
    words[1] = op;
    words[2] = unique % 0x1_0000_0000;
    words[3] = Math.floor(unique / 0x1_0000_0000);
    words[4] = options.nodeid ?? 1;
    words[6] = options.uid ?? 1000;
    words[7] = options.gid ?? 1000;
    words[8] = options.pid ?? 0;
    words[9] = (options.extensionBytes ?? 0) / 8;
    buffer.bytes.set(payload, 40);
    this.pair.kernel.submit(buffer, length);
    return unique;
  }

  request(name: OpcodeName, payload?: Uint8Array, options?: RequestOptions): number {
    return this.send(opcode(name), payload, options);
  }

  async serve(): Promise<void> {
    if (this.#serving) return;
    this.#serving = true;
    await this.session.prepare();
    this.session.open();
  }

  /** INIT with everything offered, or what is given. */
  async init(minor = 45, offered: readonly InitFlag[] = INIT_FLAGS.map((row) => row.name)): Promise<Reply> {
    await this.serve();
    const { flags, flags2 } = encodeInitFlags(new Set(offered));
    this.send(opcode('INIT'), body(7, minor, 131072, flags, flags2, new Uint8Array(44)), { nodeid: 0 });
    return this.last();
  }

  /** The newest reply; waits for the next one when `count` says how many there should be. */
  last(): Reply {
    const reply = this.replies.at(-1);
    if (reply === undefined) throw new Error('no reply yet');
    return reply;
  }

  of(unique: number): Reply | undefined {
    return this.replies.find((reply) => reply.unique === unique);
  }
}

export const word = (bytes: Uint8Array, at: number): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
export const long = (bytes: Uint8Array, at: number): bigint =>
  new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(at, true);
