/** The options of a layer, checked and filled in. */
import {
  isTransient,
  type ReadAheadOptions,
  type RetryOptions,
  StorageError,
  type StorageLimits,
  type StorageOptions,
  type WriteBehindOptions,
} from './options.ts';

export interface Settings {
  readonly merge: boolean;
  readonly collect: 'drain' | 'turn';
  readonly mergeGapBytes: number;
  readonly rangeBytesMax: number;
  readonly rangesMax: number;
  readonly readAhead: Required<ReadAheadOptions> | undefined;
  readonly writeBehind: Required<WriteBehindOptions> | undefined;
  readonly limits: Required<StorageLimits>;
  readonly deadlineMs: number;
  readonly retries: Required<RetryOptions>;
}

const READ_AHEAD: Required<ReadAheadOptions> = {
  afterRequests: 2,
  windowBytesMin: 256 << 10,
  windowBytesMax: 8 << 20,
  bytesMax: 64 << 20,
  ageMs: 1000,
};

const WRITE_BEHIND: Required<WriteBehindOptions> = { bytesMax: 64 << 20, fileBytesMax: 16 << 20, restMs: 1000 };

const RETRIES: Required<RetryOptions> = { max: 3, pauseMs: 20, pauseMsMax: 2000, isTransient };

/** Throws {@link StorageError} for what is out of its range. */
export function settingsOf(options: StorageOptions): Settings {
  const {
    merge = true,
    collect = 'drain',
    mergeGapBytes = 0,
    rangeBytesMax = 4 << 20,
    rangesMax = 64,
    deadlineMs = 30_000,
  } = options;
  if (collect !== 'drain' && collect !== 'turn') throw new StorageError(`collect is drain or turn, not ${String(collect)}`);
  whole('mergeGapBytes', mergeGapBytes, 0);
  whole('rangeBytesMax', rangeBytesMax, 1);
  whole('rangesMax', rangesMax, 1);
  whole('deadlineMs', deadlineMs, 0);
  const readAhead = group('readAhead', options.readAhead ?? true, READ_AHEAD);
  if (readAhead !== undefined && readAhead.windowBytesMin > readAhead.windowBytesMax)
    throw new StorageError('readAhead.windowBytesMin is at most readAhead.windowBytesMax');
  return {
    merge,
    collect,
    mergeGapBytes,
    rangeBytesMax,
    rangesMax,
    deadlineMs,
    readAhead,
    writeBehind: group('writeBehind', options.writeBehind ?? false, WRITE_BEHIND),
    limits: limitsOf(options.limits ?? {}),
    retries: retriesOf(options.retries ?? {}),
  };
}

function limitsOf(given: StorageLimits): Required<StorageLimits> {
  const { operationsMax = 64, bytesMax = 64 << 20, waitingMax = 65_536 } = given;
  const limits = {
    operationsMax,
    bytesMax,
    waitingMax,
    handleOperationsMax: given.handleOperationsMax ?? operationsMax,
    handleBytesMax: given.handleBytesMax ?? bytesMax,
  };
  for (const [name, value] of Object.entries(limits)) whole(`limits.${name}`, value, 1);
  return limits;
}

function retriesOf(given: RetryOptions): Required<RetryOptions> {
  const retries = { ...RETRIES, ...given };
  whole('retries.max', retries.max, 0);
  whole('retries.pauseMs', retries.pauseMs, 0);
  whole('retries.pauseMsMax', retries.pauseMsMax, 0);
  return retries;
}

function group<O extends object>(name: string, given: boolean | O, defaults: Required<O>): Required<O> | undefined {
  if (given === false) return undefined;
  const filled = { ...defaults, ...(given === true ? {} : given) };
  for (const [key, value] of Object.entries(filled)) whole(`${name}.${key}`, value as number, 1);
  return filled;
}

function whole(name: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least)
    throw new StorageError(`${name} is a whole number from ${least}, not ${String(value)}`);
}
