/** What the layer did: plain numbers that only grow, except where it says "now". */
export interface StorageCounters {
  /** Reads and writes that were asked for, and their bytes. */
  reads: number;
  readBytes: number;
  writes: number;
  writeBytes: number;
  /** Operations of the backend that read, the ranges in them, and the bytes they asked for. Repetitions count again. */
  readOperations: number;
  readRanges: number;
  readOperationBytes: number;
  /** Operations of the backend that wrote, the ranges in them, and their bytes. */
  writeOperations: number;
  writeRanges: number;
  writeOperationBytes: number;
  /** Calls of `sync`. */
  syncs: number;
  /** Requests that an operation began for another, or already in flight, served wholly or in part. */
  joined: number;
  /** Requests that what was read ahead, or not yet written, served wholly or in part. */
  buffered: number;
  /** Operations that read ahead, the bytes they brought, and how many of these nobody asked for in time. */
  readAheads: number;
  readAheadBytes: number;
  readAheadWastedBytes: number;
  /** Requests that waited because the limits were reached, and for how long together, milliseconds. */
  queued: number;
  queuedMs: number;
  /** Requests that waited for an earlier one of the same bytes. */
  ordered: number;
  /** Writes whose answer waited until less was unwritten. */
  throttled: number;
  /** Failed attempts that were repeated; attempts that ran into their deadline; operations that failed in the end. */
  retries: number;
  timeouts: number;
  failures: number;
  /** Merged operations that failed and were done again one request at a time. */
  splits: number;
  /** Requests that were interrupted; operations that were told so because nobody else waited. */
  interrupted: number;
  aborted: number;
  /** Now: operations in flight, their bytes, requests that wait for a place, bytes answered and not written, bytes read ahead. */
  operationsNow: number;
  operationBytesNow: number;
  waitingNow: number;
  unwrittenNow: number;
  readAheadNow: number;
  /** The most operations that were in flight at a time. */
  operationsPeak: number;
}

export function newStorageCounters(): StorageCounters {
  return {
    reads: 0,
    readBytes: 0,
    writes: 0,
    writeBytes: 0,
    readOperations: 0,
    readRanges: 0,
    readOperationBytes: 0,
    writeOperations: 0,
    writeRanges: 0,
    writeOperationBytes: 0,
    syncs: 0,
    joined: 0,
    buffered: 0,
    readAheads: 0,
    readAheadBytes: 0,
    readAheadWastedBytes: 0,
    queued: 0,
    queuedMs: 0,
    ordered: 0,
    throttled: 0,
    retries: 0,
    timeouts: 0,
    failures: 0,
    splits: 0,
    interrupted: 0,
    aborted: 0,
    operationsNow: 0,
    operationBytesNow: 0,
    waitingNow: 0,
    unwrittenNow: 0,
    readAheadNow: 0,
    operationsPeak: 0,
  };
}

/** Requests for each operation of the backend that served them; 1 when nothing was merged. */
export function mergeRatio(counters: StorageCounters): number {
  const operations = counters.readOperations + counters.writeOperations;
  return operations === 0 ? 1 : (counters.reads + counters.writes) / operations;
}
