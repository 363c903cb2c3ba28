/** Mutations of frames that know what a message looks like. */
import { OPCODES, opcodeRow } from '../../src/protocol/index.ts';
import { FRAME_HEAD, FRAME_REQUEST, type Frame, putWord, wordAt } from './frame.ts';
import type { Random } from './random.ts';
import { headerPlaces, requestPlaces } from './seeds.ts';

/** A frame being mutated grows up to this. */
const FRAME_BYTES_MAX = 4096 + FRAME_HEAD;
const VALUES = OPCODES.map(({ value }) => value);

/** Turns one frame into another, many times, in memory of its own. */
export class Mutator {
  readonly #random: Random;
  readonly #memory = new Uint8Array(FRAME_BYTES_MAX);
  #length = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  /** A copy of `seed` with `count` mutations. `donor`: where spliced bytes come from. */
  mutate(seed: Frame, donor: Frame, count: number): Frame {
    const length = Math.min(seed.length, FRAME_BYTES_MAX);
    this.#memory.set(seed.subarray(0, length));
    this.#length = length;
    for (let index = 0; index < count; index++) this.#once(donor);
    return this.#memory.slice(0, this.#length);
  }

  #once(donor: Frame): void {
    const random = this.#random;
    const isRequest = this.#memory[0] === FRAME_REQUEST;
    const choice = random.below(12);
    if (choice === 0) this.#putEdge(random.pick(headerPlaces(isRequest)));
    else if (choice <= 3) this.#structField();
    else if (choice === 4) this.#flip();
    else if (choice === 5) this.#resize(FRAME_HEAD + random.below(this.#length - FRAME_HEAD + 1));
    else if (choice === 6) this.#extend();
    else if (choice === 7) this.#noise();
    else if (choice === 8 && isRequest) putWord(this.#memory, FRAME_HEAD + 4, random.pick(VALUES));
    else if (choice === 8) this.#memory[1] = random.pick(VALUES);
    else if (choice === 9) this.#splice(donor);
    else if (choice === 10) this.#nameByte();
    else if (isRequest) this.#extensions();
    else this.#anyWord();
  }

  #putEdge({ at, bytes }: { at: number; bytes: number }): void {
    const random = this.#random;
    const place = FRAME_HEAD + at;
    if (place + bytes > this.#length) return;
    if (bytes === 8) {
      const [low, high] = random.edge64();
      putWord(this.#memory, place, low);
      putWord(this.#memory, place + 4, high);
    } else if (bytes === 4) putWord(this.#memory, place, random.edge32(this.#near()));
    else {
      const value = random.edge32(2);
      this.#memory[place] = value;
      if (bytes === 2) this.#memory[place + 1] = value >>> 8;
    }
  }

  /** Lengths that occur in the message: that of the whole, of its body, of what stands behind the struct. */
  #near(): number {
    const length = this.#length - FRAME_HEAD;
    return this.#random.pick([length, length - 40, length - 16, length - 80, length - 56]) >>> 0;
  }

  #structField(): void {
    if (this.#memory[0] !== FRAME_REQUEST) this.#anyWord();
    else this.#putEdge(this.#random.pick(requestPlaces(wordAt(this.#memory, FRAME_HEAD + 4))));
  }

  /** An edge value at any place that is aligned as words are. */
  #anyWord(): void {
    const words = Math.floor((this.#length - FRAME_HEAD) / 4);
    if (words > 0) putWord(this.#memory, FRAME_HEAD + this.#random.below(words) * 4, this.#random.edge32(this.#near()));
  }

  #flip(): void {
    if (this.#length === 0) return;
    const at = this.#random.below(this.#length);
    if (at > 0 && at < this.#length) this.#memory[at]! ^= 1 << this.#random.below(8);
  }

  /** Cuts or grows; the header's length follows more often than not. */
  #resize(length: number): void {
    this.#length = Math.max(FRAME_HEAD, Math.min(length, FRAME_BYTES_MAX));
    if (!this.#random.once(4) && this.#length >= FRAME_HEAD + 4) putWord(this.#memory, FRAME_HEAD, this.#length - FRAME_HEAD);
  }

  #extend(): void {
    const random = this.#random;
    const extra = random.once(4) ? random.below(600) : random.below(40);
    const from = this.#length;
    const to = Math.min(from + extra, FRAME_BYTES_MAX);
    const fill = random.once(2) ? 0 : random.below(256);
    this.#memory.fill(fill, from, to);
    this.#resize(to);
  }

  #noise(): void {
    const random = this.#random;
    const from = FRAME_HEAD + random.below(Math.max(1, this.#length - FRAME_HEAD));
    const to = Math.min(this.#length, from + 1 + random.below(32));
    for (let at = from; at < to; at++) this.#memory[at] = random.word();
  }

  #splice(donor: Frame): void {
    const random = this.#random;
    const from = FRAME_HEAD + random.below(Math.max(1, donor.length - FRAME_HEAD));
    const at = FRAME_HEAD + random.below(Math.max(1, this.#length - FRAME_HEAD));
    const part = donor.subarray(from, from + 1 + random.below(200)).subarray(0, FRAME_BYTES_MAX - at);
    this.#memory.set(part, at);
    if (at + part.length > this.#length) this.#resize(at + part.length);
  }

  /** A byte that names are sensitive to, near the end, where names stand. */
  #nameByte(): void {
    const random = this.#random;
    const room = Math.min(24, this.#length - FRAME_HEAD);
    if (room <= 0) return;
    this.#memory[this.#length - 1 - random.below(room)] = random.pick([0, 0x2f, 0x2e, 0x80, 0xc0, 0xed, 0xff, 0x61]);
  }

  /** An extension area at the end, announced or not, with sizes that may be wrong. */
  #extensions(): void {
    const random = this.#random;
    const at = (this.#length + 7) & ~7;
    const records = 1 + random.below(2);
    const bytes = records * 24;
    if (at + bytes > FRAME_BYTES_MAX || this.#length < FRAME_HEAD + 40) return;
    this.#memory.fill(0, this.#length, at + bytes);
    for (let index = 0; index < records; index++) {
      const record = at + index * 24;
      putWord(this.#memory, record, random.once(3) ? random.edge32(24) : 24);
      putWord(this.#memory, record + 4, random.once(2) ? 32 : random.below(40));
      putWord(this.#memory, record + 8, random.once(2) ? random.below(4) : random.edge32(12));
      putWord(this.#memory, record + 12, random.word());
    }
    this.#length = at + bytes;
    putWord(this.#memory, FRAME_HEAD, this.#length - FRAME_HEAD);
    const announced = random.once(4) ? random.edge32(bytes / 8) & 0xffff : bytes / 8;
    putWord(this.#memory, FRAME_HEAD + 36, announced);
    if (opcodeRow(wordAt(this.#memory, FRAME_HEAD + 4))?.request.extensions !== true && random.once(2))
      putWord(this.#memory, FRAME_HEAD + 4, random.pick([6, 8, 9, 35, 51]));
  }
}
