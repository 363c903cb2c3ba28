/** What was written into one block and is not published: bytes, and which of them count. */

const LEAST_BYTES = 4096;

export class DirtyBlock {
  /** Nothing of what was there before shines through: it was punched out, or never was. */
  whole = false;
  #bytes = Buffer.alloc(0);
  /** Where the last byte ends that counts. */
  #length = 0;
  /** Sorted, apart: start, end, start, end. */
  #ranges: number[] = [];

  /** Bytes of memory that it takes. */
  get memory(): number {
    return this.#bytes.byteLength;
  }

  write(at: number, data: Uint8Array, blockBytes: number): void {
    const end = at + data.byteLength;
    if (end > this.#bytes.byteLength) {
      const grown = Buffer.alloc(Math.min(blockBytes, Math.max(LEAST_BYTES, 2 * this.#bytes.byteLength, end)));
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    this.#bytes.set(data, at);
    this.#add(at, end);
    this.#length = Math.max(this.#length, end);
  }

  /** Zeros instead of all there was and is. */
  clear(): void {
    this.whole = true;
    this.#bytes = Buffer.alloc(0);
    this.#length = 0;
    this.#ranges = [];
  }

  /** Whether the bytes from 0 to `length` all count. */
  covers(length: number): boolean {
    return this.whole || length === 0 || (this.#ranges.length === 2 && this.#ranges[0] === 0 && this.#ranges[1] >= length);
  }

  /** The block that comes of it, without zeros at the end that nobody wrote. `base`: what it was written over. */
  over(base: Uint8Array | undefined): Buffer {
    if (base === undefined || this.covers(base.byteLength)) return this.#bytes.subarray(0, this.#length);
    const all = Buffer.alloc(Math.max(base.byteLength, this.#length));
    all.set(base);
    for (let at = 0; at < this.#ranges.length; at += 2) {
      const [start, end] = [this.#ranges[at], this.#ranges[at + 1]];
      all.set(this.#bytes.subarray(start, end), start);
    }
    return all;
  }

  /** Puts what is newer on top. */
  merge(newer: DirtyBlock, blockBytes: number): void {
    if (newer.whole) {
      this.clear();
    }
    for (let at = 0; at < newer.#ranges.length; at += 2) {
      const [start, end] = [newer.#ranges[at], newer.#ranges[at + 1]];
      this.write(start, newer.#bytes.subarray(start, end), blockBytes);
    }
  }

  #add(start: number, end: number): void {
    const ranges = this.#ranges;
    // Most writes go on where the last one ended.
    if (ranges.length > 0 && ranges[ranges.length - 1] === start) {
      ranges[ranges.length - 1] = end;
      return;
    }
    const result: number[] = [];
    let [from, to] = [start, end];
    for (let at = 0; at < ranges.length; at += 2) {
      if (ranges[at] > to || ranges[at + 1] < from) {
        result.push(ranges[at], ranges[at + 1]);
      } else {
        from = Math.min(from, ranges[at]);
        to = Math.max(to, ranges[at + 1]);
      }
    }
    result.push(from, to);
    // Pairs by their starts.
    const pairs: [number, number][] = [];
    for (let at = 0; at < result.length; at += 2) pairs.push([result[at], result[at + 1]]);
    this.#ranges = pairs.sort(([one], [other]) => one - other).flat();
  }
}
