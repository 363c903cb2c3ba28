/** A backend whose contents never change, with a block cache before it. */
import type { Bytes, StorageBackend, Transfer } from './backend.ts';
import type { BlockCache } from './blocks.ts';
import { StorageError } from './options.ts';
import { cut, piecesOf } from './pieces.ts';

export interface CachedBackendOptions {
  cache: BlockCache;
  /** Names a block of this file for ever: with the version of its contents, such as an ETag, or with their hash. */
  key: (index: number) => string;
  /** Bytes of a block; the last one of the file may be shorter. Default 1 MiB. */
  blockBytes?: number;
}

/**
 * Reads whole blocks through `cache`, each fetched once however many ask for parts of it. The file cannot be written: give a new version
 * a backend with other keys.
 */
export function cachedBackend(backend: StorageBackend, options: CachedBackendOptions): StorageBackend {
  const { cache, key, blockBytes = 1 << 20 } = options;
  if (!Number.isSafeInteger(blockBytes) || blockBytes < 1)
    throw new StorageError(`blockBytes is a whole number from 1, not ${blockBytes}`);
  const fetch = async (index: number, transfer: Transfer, signal: AbortSignal): Promise<Uint8Array> => {
    const pieces = piecesOf(await readOnce(backend, index * blockBytes, blockBytes, new BlockTransfer(transfer, signal)));
    // A block is kept for long: views would keep whatever they were cut from.
    return pieces.length === 1 && pieces[0].byteLength === pieces[0].buffer.byteLength ? pieces[0] : Buffer.concat(pieces);
  };
  return {
    async read(offset, length, transfer) {
      const first = Math.floor(offset / blockBytes);
      const count = Math.floor((offset + length - 1) / blockBytes) - first + 1;
      const blocks = await Promise.all(
        Array.from({ length: count }, (_, step) =>
          cache.get(key(first + step), (signal) => fetch(first + step, transfer, signal), transfer.signal),
        ),
      );
      const short = blocks.findIndex(({ byteLength }) => byteLength < blockBytes);
      return cut(short < 0 ? blocks : blocks.slice(0, short + 1), offset - first * blockBytes, length);
    },
  };
}

async function readOnce(backend: StorageBackend, offset: number, length: number, transfer: Transfer): Promise<Bytes> {
  if (backend.readRanges === undefined) return backend.read!(offset, length, transfer);
  const [bytes] = await backend.readRanges([{ offset, length }], transfer);
  return bytes;
}

/** The fetch of a block goes on while anybody waits for it, whichever read began it. */
class BlockTransfer implements Transfer {
  readonly signal: AbortSignal;
  readonly attempt: number;
  readonly isReadAhead: boolean;
  readonly origin: Transfer['origin'];

  constructor(transfer: Transfer, signal: AbortSignal) {
    this.signal = signal;
    this.attempt = transfer.attempt;
    this.isReadAhead = transfer.isReadAhead;
    this.origin = transfer.origin;
  }
}
