/** A stream of chunks as something to take whole pieces from. Holds what was looked at and not taken, and one chunk more. */
export class ByteStream {
  /** Bytes taken so far. */
  offset = 0;
  readonly #chunks: AsyncIterator<Uint8Array>;
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  /** Bytes of the first held chunk that are taken. */
  #taken = 0;
  #isAtEnd = false;

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** Waits until `length` bytes can be had; false where fewer are left. */
  async has(length: number): Promise<boolean> {
    while (this.#heldBytes < length && !this.#isAtEnd) {
      const next = await this.#chunks.next();
      if (next.done === true) {
        this.#isAtEnd = true;
      } else if (next.value.length > 0) {
        this.#held.push(next.value);
        this.#heldBytes += next.value.length;
      }
    }
    return this.#heldBytes >= length;
  }

  /** Bytes that can be had without waiting. */
  get availableBytes(): number {
    return this.#heldBytes;
  }

  /** A view of the next `length` bytes, which {@link has} must have promised. They are not taken. */
  peek(length: number): Uint8Array {
    const first = this.#held[0];
    if (first === undefined) return new Uint8Array(0);
    if (first.length - this.#taken < length) this.#join();
    return this.#held[0].subarray(this.#taken, this.#taken + length);
  }

  /** The next `length` bytes in memory of their own, 8-byte aligned. */
  takeCopy(length: number): Uint8Array<ArrayBuffer> {
    const copy = new Uint8Array(length);
    let at = 0;
    while (at < length) {
      const first = this.#held[0];
      const part = first.subarray(this.#taken, this.#taken + length - at);
      copy.set(part, at);
      at += part.length;
      this.skip(part.length);
    }
    return copy;
  }

  /** Takes bytes that {@link has} promised. */
  skip(length: number): void {
    this.offset += length;
    this.#heldBytes -= length;
    this.#taken += length;
    while (this.#held.length > 0 && this.#taken >= this.#held[0].length) {
      this.#taken -= this.#held[0].length;
      this.#held.shift();
    }
  }

  #join(): void {
    const joined = new Uint8Array(this.#heldBytes);
    let at = 0;
    for (const chunk of this.#held) {
      const part = at === 0 ? chunk.subarray(this.#taken) : chunk;
      joined.set(part, at);
      at += part.length;
    }
    this.#held = [joined];
    this.#taken = 0;
  }

  /** Ends the stream where it stands. */
  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}
