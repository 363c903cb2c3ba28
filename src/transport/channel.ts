/**
 * A channel carries FUSE messages between one thread and the kernel (or a stand-in for it): whole messages in, whole
 * messages out, no meaning. Three make: the device, FUSE-over-io_uring, and the in-memory pair.
 *
 * Who owns the bytes: a message arrives in a {@link MessageBuffer} that the channel lends to its handler for the length
 * of the call. A handler that still needs the bytes afterwards calls {@link Channel.keep} and later
 * {@link Channel.release}. A reply is built in a buffer from {@link Channel.acquire}; {@link Channel.send} takes it back,
 * whatever the outcome.
 */

/**
 * Memory for one message, with every view of it that the codec needs. Starts 8-byte aligned, not necessarily at the
 * start of its ArrayBuffer: it is placed so that a WRITE's payload, or a READ reply's, has an address good for O_DIRECT.
 */
export interface MessageBuffer {
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  /** The id under which native code knows the memory (its offset 0 is the first byte here), or -1 where it does not. */
  readonly id: number;
}

/** A block of a trace in memory that native code may write to: see native/src/tape.h. */
export interface RecordedBlock {
  readonly memory: ArrayBuffer;
  readonly dataBytes: number;
  readonly indexBytes: number;
}

/** Why a channel ended. */
export type CloseReason =
  /** The filesystem was unmounted, or the connection otherwise ended by the kernel (ENODEV). */
  | 'unmounted'
  /** The connection was aborted through its control file (ECONNABORTED, with FUSE_ABORT_ERROR negotiated). */
  | 'aborted'
  /** {@link Channel.close} was called here. */
  | 'closed'
  /** The descriptor failed in a way that no daemon survives; `errno` says how. */
  | 'failed';

/**
 * What a channel calls. All calls come on the thread that opened it, and never nested in another, except that
 * `onRefused` may come within {@link Channel.send}. What they throw goes to the channel's `onFault` and harms nobody else.
 */
export interface ChannelHandler {
  /** One whole message, `length` bytes from the start of `buffer`. Must not throw. */
  onMessage(buffer: MessageBuffer, length: number): void;
  /**
   * The kernel refused a reply that {@link Channel.send} had accepted (it leaves later, together with the next receive).
   * `words` is the reply's memory, header first; it is valid during the call. `errno` is positive. It concerns the last
   * reply sent before this call.
   */
  onRefused(words: Uint32Array, errno: number): void;
  /** Called once, last. Nothing is delivered afterwards. `errno` is positive, 0 after {@link Channel.close}. */
  onClosed(reason: CloseReason, errno: number): void;
}

export interface Channel {
  readonly kind: 'device' | 'uring' | 'memory';
  /** Largest message that can arrive, in bytes. Messages longer than that are refused by the kernel, never truncated. */
  readonly receiveBytesMax: number;
  /**
   * Begins delivery. In blocking mode the call returns only when the handler has answers pending (see {@link ChannelMode})
   * or keeps as many messages as it may, when another thread wakes this one, or when the channel ended.
   */
  open(handler: ChannelHandler): void;
  /** A buffer for a reply of at least `length` bytes, header included. Its contents are undefined. */
  acquire(length: number): MessageBuffer;
  /** Gives back an acquired buffer that is not sent after all. */
  discard(buffer: MessageBuffer): void;
  /**
   * Sends the first `length` bytes of an acquired buffer and takes it back. Returns 0 when the kernel took the message or
   * will be asked together with the next receive (then {@link ChannelHandler.onRefused} tells of a refusal), else -errno.
   */
  send(buffer: MessageBuffer, length: number): number;
  /**
   * The same, followed by `parts` in order: one message, gathered without a copy. It leaves at once, what was sent before it
   * first.
   */
  sendParts(buffer: MessageBuffer, length: number, parts: readonly Uint8Array[]): number;
  /** Keeps the message buffer now being delivered from being reused. Only inside onMessage, at most once a message. */
  keep(buffer: MessageBuffer): void;
  /** Gives back a kept buffer. */
  release(buffer: MessageBuffer): void;
  /**
   * Tells the channel how many answers are pending on this thread's event loop. A blocking channel sleeps in the kernel
   * only while there are none. Whatever else needs more than one turn of the event loop of a blocking channel's thread,
   * for example after it was woken for a message from another thread, counts itself as pending.
   */
  setPending(count: number): void;
  /**
   * Has native code record the messages that cross this channel into a block, from now to the channel's end. What it does not take is
   * left to the recorder: parts, and what its block says. False where this channel cannot. `startedAt` is microseconds of the
   * clock of process.hrtime.
   */
  recordTo?(block: RecordedBlock, startedAt: number): boolean;
  /** Delivers a message that another thread received by this channel's descriptor, as soon as the handler may have one. */
  inject?(message: Uint8Array): void;
  /** Stops delivery; staged replies leave first. The descriptor is closed. Idempotent. */
  close(): void;
}

/**
 * How a device channel waits. `event`: on the event loop, messages drained in batches. `blocking`: the thread sleeps in
 * the kernel until its next message, and leaves for the event loop only while promises are pending.
 */
export type ChannelMode = 'event' | 'blocking';
