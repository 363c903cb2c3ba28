import type { MessageBuffer } from '../transport/index.ts';
import { describeError, ERRNO, errnoOf, FuseError } from './errors.ts';
import type { Negotiated } from './negotiate.ts';
import type { Session } from './session.ts';

/** Bytes of fuse_in_header and fuse_out_header, and the word where a request's body starts. */
export const IN_HEADER_BYTES = 40;
export const OUT_HEADER_BYTES = 16;
export const BODY_WORD = IN_HEADER_BYTES / 4;
export const REPLY_WORD = OUT_HEADER_BYTES / 4;

/** What rides along with a request and is given back when the request is done. */
export interface Passenger {
  release(): void;
}

export const EXCHANGE_FREE = 0;
export const EXCHANGE_DELIVERED = 1;
export const EXCHANGE_PENDING = 2;
export const EXCHANGE_ANSWERED = 3;

/**
 * One request and its one answer. Objects are pooled by their session; `serial` changes with each use, so that a promise
 * that settles after its request was answered otherwise (at shutdown) finds out.
 */
export class Exchange {
  readonly session: Session;
  state: 0 | 1 | 2 | 3 = EXCHANGE_FREE;
  serial = 0;
  opcode = 0;
  uniqueLow = 0;
  uniqueHigh = 0;
  nodeid = 0;
  uid = 0;
  gid = 0;
  pid = 0;
  /** Bytes of extensions at the end of the message. */
  extensionBytes = 0;
  /** The message, while it is lent: during delivery, and until the answer when {@link keepMessage} was called. */
  buffer: MessageBuffer;
  /** Bytes of the message. */
  length = 0;
  kept = false;
  /** When it began to wait, milliseconds since 1970; 0 once it was reported as slow. */
  waitingSince = 0;
  passenger: Passenger | undefined = undefined;
  controller: AbortController | undefined = undefined;
  /** The buffer of an answer that is being written: given back when that fails. */
  draft: MessageBuffer | undefined = undefined;

  constructor(session: Session, buffer: MessageBuffer) {
    this.session = session;
    this.buffer = buffer;
  }

  /** The end of the arguments: where extensions start. */
  get bodyEnd(): number {
    return this.length - this.extensionBytes;
  }

  get negotiated(): Negotiated {
    return this.session.negotiated;
  }

  /** Aborted by FUSE_INTERRUPT and by the end of the session. */
  get signal(): AbortSignal {
    if (this.controller === undefined) {
      this.controller = new AbortController();
      if (this.session.takeEarlyInterrupt(this)) this.controller.abort();
    }
    return this.controller.signal;
  }

  /** Keeps the message's bytes until the answer. Only while the request is being delivered. */
  keepMessage(): void {
    if (this.kept) return;
    this.kept = true;
    this.session.channel.keep(this.buffer);
  }

  /** Throws EIO when a request asks for more bytes than any can, so that a broken length makes no memory. */
  assertTail(bytes: number): void {
    if (bytes > this.session.tailBytesMax) throw FuseError.of(ERRNO.EIO);
  }

  /** A reply buffer with room for a body of `bodyBytes`, which starts at {@link REPLY_WORD}. */
  acquire(bodyBytes: number): MessageBuffer {
    this.draft = this.session.channel.acquire(OUT_HEADER_BYTES + bodyBytes);
    return this.draft;
  }

  /** Answers with the body in `buffer`. */
  send(buffer: MessageBuffer, bodyBytes: number): void {
    this.draft = undefined;
    this.session.answer(this, buffer, bodyBytes);
  }

  /** Answers with success and no body. */
  sendEmpty(): void {
    this.send(this.acquire(0), 0);
  }

  /** Answers with the bytes of `parts`, in order, without gathering them first. */
  sendParts(parts: readonly Uint8Array[]): void {
    this.session.answerParts(this, parts);
  }

  /** Answers with an errno (positive, 1 to 511). */
  sendError(errno: number): void {
    this.session.answerError(this, errno);
  }

  /** Answers with what an error means: its errno, or EIO and a fault on the diagnostics channel. */
  fail(error: unknown): void {
    const errno = errnoOf(error);
    if (errno === 0) this.#reportFailure(error);
    this.sendError(errno === 0 ? ERRNO.EIO : errno);
  }

  #reportFailure(error: unknown): void {
    const { name, message } = describeError(error);
    if (name === 'InvalidAnswer') this.session.fault('invalid-answer', this, `${message}; the caller got EIO`, error);
    else this.session.fault('handler-error', this, `a handler failed without an errno (${message}); the caller got EIO`, error);
  }

  /** Answers when `answer` settles, by `encode` or by what the error means. `keep` holds the message's bytes until then. */
  pend<T>(answer: PromiseLike<T>, encode: (exchange: Exchange, value: T) => void, keep: boolean): void {
    if (keep) this.keepMessage();
    const serial = this.serial;
    this.session.pend(this);
    const onFailure = (error: unknown): void => {
      if (this.serial !== serial || this.state !== EXCHANGE_PENDING) return;
      this.fail(error);
      this.session.settled(this);
    };
    const onAnswer = (value: T): void => {
      if (this.serial !== serial || this.state !== EXCHANGE_PENDING) return;
      try {
        encode(this, value);
      } catch (error) {
        this.fail(error);
      }
      this.session.settled(this);
    };
    try {
      answer.then(onAnswer, onFailure);
    } catch (error) {
      // No promise of the language's: whatever its `then` did, the request is answered.
      onFailure(error);
    }
  }
}
