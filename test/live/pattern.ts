/** The bytes that test files hold: each byte follows from its file offset alone. test/clients/aio/client.c has the same function. */

/** The four bytes that stand at file offset `index * 4`, as a little-endian word. */
function patternWord(index: number): number {
  return (Math.imul(index, 0x9e3779b1) + 0x7f4a7c15) >>> 0;
}

export function patternByte(offset: number): number {
  return (patternWord(Math.floor(offset / 4)) >>> (8 * (offset % 4))) & 0xff;
}

/** Fills `bytes` with what stands in the file from `offset` on. */
export function fillPattern(bytes: Uint8Array, offset: number): void {
  for (let i = 0; i < bytes.length; i++) bytes[i] = patternByte(offset + i);
}

/** The file offset of the first byte that differs from the pattern, or -1. */
export function patternMismatch(bytes: Uint8Array, offset: number): number {
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] !== patternByte(offset + i)) return offset + i;
  }
  return -1;
}
