/** What stands behind the layer: one file of a store, in whichever of several shapes its author has it. */
import type { Answer } from '../filesystem/index.ts';

/** A range of a file. */
export interface ByteRange {
  /** Bytes from the start of the file. */
  readonly offset: number;
  /** Bytes; at least 1. */
  readonly length: number;
}

/** Bytes in one piece or several in order. */
export type Bytes = Uint8Array | readonly Uint8Array[];

/** Adjacent writes, gathered. */
export interface GatheredWrite extends ByteRange {
  /** The bytes in order; together `length`. They are yours until your answer, and never change meanwhile. */
  readonly parts: readonly Uint8Array[];
}

/** Who asked first for what is transferred. */
export interface Origin {
  /** What {@link StoredFile.open} was given. */
  readonly handle: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** O_* flags of the open file. */
  readonly flags: number;
  /** A write that must take away set-id bits, for any of the writes in it. */
  readonly killSuidGid: boolean;
  /** Whether the kernel wrote back what its page cache held. */
  readonly writeback: boolean;
}

/** What a backend may want to know of an operation, beyond its ranges. */
export interface Transfer {
  /**
   * Aborted when the last who waited for it was interrupted, when its deadline passed, or when the read-ahead it belongs to is not
   * wanted any more. Made when first asked for. An operation that goes on all the same is kept in the count of those in flight until
   * it settles, or its deadline passes.
   */
  readonly signal: AbortSignal;
  /** 0 at first, then the number of the repetition. */
  readonly attempt: number;
  /** Nobody waits for it yet. */
  readonly isReadAhead: boolean;
  /** In whose name. Look at it when you are called; later it may be that of another who waits. */
  readonly origin: Origin;
}

/**
 * One file of a store. Offer `read` or `readRanges`, and for files that can be written `write` or `writeRanges`; where both are
 * there, the one with ranges is used. Answers are values or promises; failures are errors with an errno, as everywhere.
 *
 * The layer never has two operations that overlap in flight when one of them writes.
 */
export interface StorageBackend {
  /** The bytes of a range. Fewer mean that the file ends there. They belong to the layer, which hands out views: never change them. */
  read?(offset: number, length: number, transfer: Transfer): Answer<Bytes>;
  /** Several ranges, ascending and apart from each other; the answer has the bytes of each. */
  readRanges?(ranges: readonly ByteRange[], transfer: Transfer): Answer<readonly Bytes[]>;
  /** All of `data` in one piece. A count, if one is answered, has to be all of it. */
  write?(offset: number, data: Uint8Array, transfer: Transfer): Answer<number | void>;
  /** Several gathered writes, ascending and apart from each other. */
  writeRanges?(writes: readonly GatheredWrite[], transfer: Transfer): Answer<void>;
  /** Makes durable what was written: called by fsync, when every write before it was answered. */
  sync?(dataOnly: boolean, transfer: Transfer): Answer<void>;
}

/** What of a FileHandle of node:fs/promises is used. */
export interface FileHandleLike {
  read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
  writev(buffers: Uint8Array[], position: number): Promise<{ bytesWritten: number }>;
  sync?(): Promise<void>;
  datasync?(): Promise<void>;
}

/** A FileHandle, or what is shaped like one, as a backend: reads until the end of the file, writes gathered with `writev`. */
export function fileHandleBackend(handle: FileHandleLike): StorageBackend {
  return {
    async read(offset, length) {
      const bytes = Buffer.allocUnsafe(length);
      let filled = 0;
      while (filled < length) {
        const { bytesRead } = await handle.read(bytes, filled, length - filled, offset + filled);
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
      return filled === length ? bytes : bytes.subarray(0, filled);
    },
    async writeRanges(writes) {
      for (const { offset, parts } of writes) await writeAll(handle, parts, offset);
    },
    async sync(dataOnly) {
      if (dataOnly && handle.datasync !== undefined) await handle.datasync();
      else await handle.sync?.();
    },
  };
}

/** IOV_MAX: more pieces are EINVAL to pwritev(2). */
const PIECES_MAX = 1024;

/** A write may take less than it is given; the rest is written behind it. */
async function writeAll(handle: FileHandleLike, parts: readonly Uint8Array[], offset: number): Promise<void> {
  let left = [...parts];
  let position = offset;
  while (left.length > 0) {
    let { bytesWritten } = await handle.writev(left.slice(0, PIECES_MAX), position);
    position += bytesWritten;
    let done = 0;
    while (done < left.length && bytesWritten >= left[done].byteLength) bytesWritten -= left[done++].byteLength;
    left = left.slice(done);
    if (bytesWritten > 0) left[0] = left[0].subarray(bytesWritten);
  }
}
