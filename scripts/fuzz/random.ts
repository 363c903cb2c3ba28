/** Pseudo-random numbers that a seed determines, fast enough to make a hundred thousand frames a second. */

/** Values at which code that handles sizes, counts, offsets and signs goes wrong. */
const EDGES_32 = [
  0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 23, 24, 39, 40, 41, 63, 64, 127, 128, 255, 256, 257, 511, 512, 4095, 4096, 4097, 0xffff,
  0x1_0000, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0xffff_fff8, 0xffff_fffe, 0xffff_ffff,
];

/** The same with 64 bits, as [low, high]. */
const EDGES_64: readonly (readonly [number, number])[] = [
  [0, 0],
  [1, 0],
  [0xffff_ffff, 0],
  [0, 1],
  [0x7fff_ffff, 0],
  [0x8000_0000, 0],
  // 2^53 - 2 to 2^53 + 1
  [0xffff_fffe, 0x1f_ffff],
  [0xffff_ffff, 0x1f_ffff],
  [0, 0x20_0000],
  [1, 0x20_0000],
  // 2^63 - 1, 2^63, 2^64 - 1
  [0xffff_ffff, 0x7fff_ffff],
  [0, 0x8000_0000],
  [0xffff_ffff, 0xffff_ffff],
];

/** xoshiro128**: 2^128 - 1 numbers until it repeats. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    // splitmix32 spreads neighbouring seeds.
    let state = seed | 0;
    const next = (): number => {
      state = (state + 0x9e37_79b9) | 0;
      let mixed = Math.imul(state ^ (state >>> 16), 0x85eb_ca6b);
      mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2_ae35);
      return (mixed ^ (mixed >>> 16)) >>> 0;
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    this.#d = next() | 1;
  }

  /** 32 bits. */
  word(): number {
    const scrambled = Math.imul(this.#b, 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0;
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }

  /** 0 to `limit` - 1. */
  below(limit: number): number {
    return Math.floor((this.word() / 0x1_0000_0000) * limit);
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  /** 32 bits, more often than not a value at an edge, or next to `near`. */
  edge32(near: number): number {
    if (this.once(4)) return this.word();
    if (this.once(3)) return (near + this.below(5) - 2) >>> 0;
    return this.pick(EDGES_32);
  }

  /** 64 bits, [low, high]. */
  edge64(): readonly [number, number] {
    return this.once(5) ? [this.word(), this.word()] : this.pick(EDGES_64);
  }
}
