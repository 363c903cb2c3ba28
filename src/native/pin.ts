import { markAsUntransferable } from 'node:worker_threads';
import type { Addon } from './addon.ts';

/** What O_DIRECT may ask of an address in memory: the size of a block, at most 4 KiB. */
const BOUNDARY_BYTES = 4096;

/** Registered memory, with the views of it. `id` and offset 0 name its first byte. */
export interface PinnedBuffer {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly words: Uint32Array<ArrayBuffer>;
  readonly id: number;
}

/**
 * Allocates and registers `length` bytes of zeros so that byte `alignedAt` has an address that is a multiple of 4,096, as
 * O_DIRECT wants it of a payload that follows a header. Large buffers cost no memory until they are touched.
 *
 * @param length in bytes, rounded up to a multiple of 8
 * @param alignedAt a multiple of 8, below 4,096
 */
export function pinBuffer(
  addon: Pick<Addon, 'registerBuffer' | 'bytesToBoundary'>,
  length: number,
  alignedAt: number,
): PinnedBuffer {
  const rounded = Math.ceil(length / 8) * 8;
  const memory = new ArrayBuffer(rounded + BOUNDARY_BYTES);
  // Transferring it to another thread would free the memory under the addon.
  markAsUntransferable(memory);
  const start = (addon.bytesToBoundary(memory) - alignedAt + BOUNDARY_BYTES) % BOUNDARY_BYTES;
  return {
    bytes: new Uint8Array(memory, start, rounded),
    words: new Uint32Array(memory, start, rounded / 4),
    id: addon.registerBuffer(memory, start, rounded),
  };
}
