/** The kernel's end of a replay: sends requests to a session over memory, and waits for answers no longer than it may. */
import {
  type Agreement,
  encodeInitFlags,
  encodeMessage,
  type InitFlag,
  type Message,
  MINOR_OF,
  PROTOCOL_MINOR,
  type RequestMessage,
  type StructValue,
  structOf,
} from '../protocol/index.ts';
import type { Session } from '../session/index.ts';
import { type Channel, type MemoryPair, memoryPair } from '../transport/index.ts';
import type { TraceMessage } from './message.ts';

/** Serves a channel: how a replay reaches what it is replayed against. */
export type SessionFactory = (channel: Channel) => Session;

export interface WireOptions {
  /** The largest message that will be sent, bytes. */
  readonly messageBytesMax: number;
  /** How long an answer may take, milliseconds. */
  readonly answerMs: number;
  /** What the kernel says to an answer: 0 or a negative errno. Default 0. */
  readonly verdict?: (unique: bigint) => number;
  /** Told of everything that crosses the channel; `t` counts from the first message. */
  readonly tap?: ((message: TraceMessage) => void) | undefined;
}

const MIB = 1024 * 1024;
const HEADER_BYTES = 4096;

export class ReplayWire {
  readonly session: Session;
  /** What the daemon wrote without being asked. */
  readonly notifications: Uint8Array[] = [];
  /** What the kernel says to the next notification. */
  notificationVerdict = 0;
  readonly #pair: MemoryPair;
  readonly #answerMs: number;
  readonly #tap: ((message: TraceMessage) => void) | undefined;
  readonly #began = performance.now();
  readonly #answers = new Map<bigint, Uint8Array>();
  readonly #waiting = new Map<bigint, (answer: Uint8Array | undefined) => void>();

  constructor(factory: SessionFactory, options: WireOptions) {
    this.#answerMs = options.answerMs;
    this.#tap = options.tap;
    this.#pair = memoryPair(
      {
        onReply: (buffer, length) => {
          const bytes = buffer.bytes.slice(0, length);
          const unique = new DataView(bytes.buffer).getBigUint64(8, true);
          const verdict = unique === 0n ? this.notificationVerdict : (options.verdict?.(unique) ?? 0);
          this.#tell('out', bytes, verdict);
          if (unique === 0n) this.notifications.push(bytes);
          else this.#deliver(unique, bytes);
          return verdict;
        },
        onClosed: () => {
          for (const settle of this.#waiting.values()) settle(undefined);
          this.#waiting.clear();
        },
      },
      { messageBytesMax: Math.max(options.messageBytesMax, MIB) + HEADER_BYTES, buffersMax: 65_536 },
    );
    this.session = factory(this.#pair.daemon);
  }

  /** Before the first request. */
  async open(): Promise<void> {
    await this.session.prepare();
    this.session.open();
  }

  #deliver(unique: bigint, bytes: Uint8Array): void {
    const waiting = this.#waiting.get(unique);
    this.#waiting.delete(unique);
    if (waiting === undefined) this.#answers.set(unique, bytes);
    else waiting(bytes);
  }

  #tell(dir: 'in' | 'out', bytes: Uint8Array, verdict: number): void {
    if (this.#tap === undefined) return;
    const t = Math.round((performance.now() - this.#began) * 1000);
    this.#tap({ dir, t, bytes: bytes.slice(), ...(verdict < 0 ? { errno: -verdict } : {}) });
  }

  /** Sends a request. False when the daemon is gone. */
  send(bytes: Uint8Array): boolean {
    this.#tell('in', bytes, 0);
    const buffer = this.#pair.kernel.acquire(bytes.length);
    buffer.bytes.set(bytes);
    return this.#pair.kernel.submit(buffer, bytes.length) === 0;
  }

  /** The answer to a request, once it is there; undefined when it took too long or the daemon went away. */
  answer(unique: bigint, limitMs = this.#answerMs): Promise<Uint8Array | undefined> {
    const ready = this.#answers.get(unique);
    if (ready !== undefined) {
      this.#answers.delete(unique);
      return Promise.resolve(ready);
    }
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(unique);
        resolve(undefined);
      }, limitMs);
      this.#waiting.set(unique, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
    });
  }

  /** Ends the session: answers that are still due are not waited for longer than the limit. */
  async close(): Promise<void> {
    this.#pair.kernel.close();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, this.#answerMs);
    });
    await Promise.race([this.session.ended, late]);
    clearTimeout(timer);
  }
}

/** What INIT agrees on in a replay, where the trace's own agreement is too old for a session. */
export function replayAgreement(agreed: Agreement, floor: number): Agreement {
  return agreed.minor >= floor ? agreed : { minor: PROTOCOL_MINOR, flags: agreed.flags };
}

/** The message in today's layout: structs in full, whatever was agreed on. Only their sizes change. */
export function modernised<M extends Message>(message: M, agreed: Agreement): M {
  const structs = message.structs.map(({ name, bytes, value }) => {
    const { row, bytes: full } = structOf(name);
    if (row.growth?.by === 'length') return { name, bytes, value };
    const long = row.growth?.by !== 'flag' || agreed.flags.has('FUSE_SETXATTR_EXT');
    return { name, bytes: long ? full : row.growth!.steps[0]![1], value };
  });
  return { ...message, structs, padding: [] };
}

/** An INIT request that offers exactly these flags. */
export function initRequest(unique: bigint, agreed: Agreement, maxReadahead: number): Uint8Array {
  const { flags, flags2 } = encodeInitFlags(new Set<InitFlag>(agreed.flags));
  const value: StructValue = { major: 7, minor: agreed.minor, max_readahead: maxReadahead, flags, flags2 };
  const bytes = agreed.minor >= MINOR_OF.initInHasSecondFlags ? 64 : 16;
  const message: RequestMessage = {
    kind: 'request',
    opcode: 'INIT',
    header: { unique, nodeid: 0n, uid: 0, gid: 0, pid: 0, total_extlen: 0 },
    structs: [{ name: 'fuse_init_in', bytes, value }],
    names: [],
    padding: [],
  };
  return encodeMessage(message);
}
