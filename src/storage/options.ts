/** Every option of the layer, with its default and its range. */

/** What the layer does. Every option may be left out. */
export interface StorageOptions {
  /** Requests that touch or overlap become one operation, equal ones one fetch. Default true. */
  merge?: boolean;
  /**
   * When what came together is looked at. `drain` (default): when the drain of the device that brought it ends; costs nothing.
   * `turn`: at the end of this turn of the event loop, which also catches what came by several channels.
   */
  collect?: 'drain' | 'turn';
  /** Bytes that may lie unasked for between two reads that become one. Default 0. */
  mergeGapBytes?: number;
  /** Largest range of one operation of the backend, bytes. Longer reads are served by several; a longer write goes by itself. Default 4 MiB. */
  rangeBytesMax?: number;
  /** Ranges that one `readRanges` or `writeRanges` is given. Default 64. */
  rangesMax?: number;
  /** Reading ahead of handles that read in order; false: never. Default: on. */
  readAhead?: boolean | ReadAheadOptions;
  /**
   * Answering writes before they are written. Only where losing what was written since the last fsync is allowed when this process
   * dies. Default false.
   */
  writeBehind?: boolean | WriteBehindOptions;
  limits?: StorageLimits;
  /** How long one attempt of an operation may take, milliseconds; then it counts as failed with ETIMEDOUT. 0: for ever. Default 30,000. */
  deadlineMs?: number;
  retries?: RetryOptions;
}

export interface ReadAheadOptions {
  /** Requests in order after which it begins. Default 2. */
  afterRequests?: number;
  /** First window, bytes, or twice the request where that is more; it doubles with each use. Default 256 KiB. */
  windowBytesMin?: number;
  /** Largest window of a handle, bytes: the bandwidth of the store times its round-trip, and more. Default 8 MiB. */
  windowBytesMax?: number;
  /** Bytes of the whole mount that are read and not asked for yet; the oldest are dropped. Default 64 MiB. */
  bytesMax?: number;
  /** How long what was read ahead may be given out, milliseconds: others may change the file meanwhile. Default 1,000. */
  ageMs?: number;
}

export interface WriteBehindOptions {
  /** Bytes of the whole mount that are answered and not written; writers wait beyond. Default 64 MiB. */
  bytesMax?: number;
  /** The same of one file. Default 16 MiB. */
  fileBytesMax?: number;
  /** How long a write rests at most before it is sent, milliseconds. Default 1,000. */
  restMs?: number;
}

export interface StorageLimits {
  /** Operations of the backend in flight. Default 64. */
  operationsMax?: number;
  /** Bytes of operations in flight; a single larger operation goes alone. Default 64 MiB. */
  bytesMax?: number;
  /** The same of one handle. Default: no less than of all. */
  handleOperationsMax?: number;
  handleBytesMax?: number;
  /** Requests that wait; beyond: EAGAIN. Default 65,536. */
  waitingMax?: number;
}

export interface RetryOptions {
  /** Repetitions of an operation that failed in a way that may pass. Default 3. */
  max?: number;
  /** The pause before the first repetition, milliseconds; it doubles each time. What is waited is by chance half to all of it. Default 20. */
  pauseMs?: number;
  /** Longest pause, milliseconds. Default 2,000. */
  pauseMsMax?: number;
  /** Whether a failure may pass. Default: {@link isTransient}. */
  isTransient?: (error: unknown) => boolean;
}

/** An option out of its range, or a backend that cannot be what its author meant. `code` is stable. */
export class StorageError extends Error {
  override readonly name = 'StorageError';
  readonly code = 'ERR_FUSEWIRE_STORAGE_OPTION';
}

/** Errnos and codes of connections that broke, and of services that are busy for now. */
const TRANSIENT = new Set([
  'EAGAIN',
  'EBUSY',
  'ECONNABORTED',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'ENETDOWN',
  'ENETRESET',
  'ENETUNREACH',
  'EPIPE',
  'ETIMEDOUT',
]);

/** Whether an error says that its cause may pass: a broken connection, a deadline, a service that is busy. */
export function isTransient(error: unknown): boolean {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' && TRANSIENT.has(code);
}
