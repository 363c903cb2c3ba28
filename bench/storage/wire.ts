/**
 * What the block server and its client say to each other. A request is a head of two words (its number, the count of its ranges) and
 * for each range an offset (a double) and a length (a word); the answer is a head of two words (the number, the bytes) and the bytes.
 * No range at all asks for the counts, as JSON.
 */
export const HEAD_BYTES = 8;
export const RANGE_BYTES = 12;

export interface ServerCounts {
  operations: number;
  ranges: number;
  bytes: number;
}

/** Cuts a stream into frames whose length their head tells. Bytes are handed out as they came, in pieces. */
export class Frames {
  readonly #lengthOf: (head: Buffer) => number;
  readonly #onFrame: (head: Buffer, body: Buffer[]) => void;
  #pieces: Buffer[] = [];
  #bytes = 0;
  #head: Buffer | undefined;
  #wanted = HEAD_BYTES;

  constructor(lengthOf: (head: Buffer) => number, onFrame: (head: Buffer, body: Buffer[]) => void) {
    this.#lengthOf = lengthOf;
    this.#onFrame = onFrame;
  }

  push(chunk: Buffer): void {
    this.#pieces.push(chunk);
    this.#bytes += chunk.length;
    while (this.#bytes >= this.#wanted) {
      const taken = this.#take(this.#wanted);
      if (this.#head === undefined) {
        this.#head = taken.length === 1 ? taken[0] : Buffer.concat(taken);
        this.#wanted = this.#lengthOf(this.#head);
      } else {
        const head = this.#head;
        this.#head = undefined;
        this.#wanted = HEAD_BYTES;
        this.#onFrame(head, taken);
      }
    }
  }

  #take(length: number): Buffer[] {
    this.#bytes -= length;
    const taken: Buffer[] = [];
    let left = length;
    let whole = 0;
    while (left > 0 && this.#pieces[whole].length <= left) {
      left -= this.#pieces[whole].length;
      taken.push(this.#pieces[whole++]);
    }
    if (whole > 0) this.#pieces.splice(0, whole);
    if (left > 0) {
      taken.push(this.#pieces[0].subarray(0, left));
      this.#pieces[0] = this.#pieces[0].subarray(left);
    }
    return taken;
  }
}
