/**
 * A capture of several threads can put an answer before its question, or a request before the INIT reply that let the kernel
 * send it: system calls are stamped when the tracer sees them return. Here such pairs are put right; all else stays.
 */
import type { TraceMessage } from './message.ts';

export interface Placed {
  /** Place in the trace, from 0. */
  readonly index: number;
  readonly message: TraceMessage;
}

/** How far ahead a missing partner is looked for. */
const AHEAD = 512;
const AHEAD_BYTES = 64 * 1024 * 1024;
/** Requests that are remembered as asked; beyond, the oldest is forgotten. */
const ASKED_MAX = 65_536;

const INIT = 26;
const CUSE_INIT = 4096;

/** Messages that were read and not handed on yet, filled only as far as somebody looks. */
class Ahead {
  readonly #queue: Placed[] = [];
  readonly #source: AsyncIterator<TraceMessage> | Iterator<TraceMessage>;
  #bytes = 0;
  #next = 0;
  #ended = false;

  constructor(source: Iterable<TraceMessage> | AsyncIterable<TraceMessage>) {
    this.#source = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  }

  async #pull(): Promise<boolean> {
    if (this.#ended) return false;
    const { value, done } = await this.#source.next();
    if (done === true) {
      this.#ended = true;
      return false;
    }
    this.#bytes += value.bytes.length;
    this.#queue.push({ index: this.#next++, message: value });
    return true;
  }

  async shift(): Promise<Placed | undefined> {
    if (this.#queue.length === 0) await this.#pull();
    const first = this.#queue.shift();
    if (first !== undefined) this.#bytes -= first.message.bytes.length;
    return first;
  }

  /** Takes the first message ahead that `wanted` accepts. */
  async take(wanted: (message: TraceMessage) => boolean): Promise<Placed | undefined> {
    for (let at = 0; at < AHEAD; at++) {
      if (at >= this.#queue.length && (this.#bytes > AHEAD_BYTES || !(await this.#pull()))) return undefined;
      const candidate = this.#queue[at]!;
      if (!wanted(candidate.message)) continue;
      this.#queue.splice(at, 1);
      this.#bytes -= candidate.message.bytes.length;
      return candidate;
    }
    return undefined;
  }

  /** Lets a file be closed when nobody reads on. */
  async end(): Promise<void> {
    await this.#source.return?.();
  }
}

/** The messages with their places, questions before answers. */
export async function* causally(source: Iterable<TraceMessage> | AsyncIterable<TraceMessage>): AsyncGenerator<Placed> {
  const ahead = new Ahead(source);
  const asked = new Set<bigint>();
  let opening: bigint | undefined;
  const note = ({ message }: Placed): void => {
    const unique = uniqueOf(message);
    if (unique === undefined) return;
    if (message.dir === 'out') {
      asked.delete(unique);
      if (unique === opening) opening = undefined;
      return;
    }
    asked.add(unique);
    if (isInit(message)) opening = unique;
    if (asked.size > ASKED_MAX)
      for (const oldest of asked) {
        asked.delete(oldest);
        break;
      }
  };
  try {
    for (let next = await ahead.shift(); next !== undefined; next = await ahead.shift()) {
      const missing = await partner(ahead, next.message, asked, opening);
      if (missing !== undefined) {
        note(missing);
        yield missing;
      }
      note(next);
      yield next;
    }
  } finally {
    await ahead.end();
  }
}

/** What has to come before a message and stands behind it. */
async function partner(
  ahead: Ahead,
  message: TraceMessage,
  asked: ReadonlySet<bigint>,
  opening: bigint | undefined,
): Promise<Placed | undefined> {
  const unique = uniqueOf(message);
  if (unique === undefined) return undefined;
  if (message.dir === 'out') {
    if (asked.has(unique) || message.errno !== undefined) return undefined;
    return ahead.take((other) => other.dir === 'in' && uniqueOf(other) === unique && !isInit(other));
  }
  if (opening === undefined || isInit(message)) return undefined;
  return ahead.take((other) => other.dir === 'out' && uniqueOf(other) === opening);
}

/** The id of a request or of the request that is answered; undefined for notifications and ioctls. */
function uniqueOf({ dir, bytes }: TraceMessage): bigint | undefined {
  if (dir === 'ioctl' || bytes.length < 16) return undefined;
  const unique = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigUint64(8, true);
  return unique === 0n ? undefined : unique;
}

function isInit({ dir, bytes }: TraceMessage): boolean {
  if (dir !== 'in' || bytes.length < 8) return false;
  const opcode = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(4, true);
  return opcode === INIT || opcode === CUSE_INIT;
}
