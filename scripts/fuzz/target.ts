/** What is fuzzed: makes frames, and says whether what happens to them is right. */
import type { Frame } from './frame.ts';
import { Mutator } from './mutate.ts';
import type { Random } from './random.ts';
import type { Seeds } from './seeds.ts';

/** Something that must never happen. `key` names the fault whatever the bytes were. */
export class Finding extends Error {
  override readonly name = 'Finding';
  readonly key: string;
  /** Which frame of the case, where it is one. */
  readonly frame: number | undefined;

  constructor(key: string, message: string, frame?: number) {
    super(message);
    this.key = key;
    this.frame = frame;
  }
}

export interface Target {
  readonly name: string;
  /** One sentence: what is asserted. */
  readonly about: string;
  /** Frames that belong together: the state of a connection lives as long. */
  readonly caseFrames: number;
  /** Before the first case. */
  prepare?(): Promise<void>;
  generate(random: Random, count: number): Frame[];
  /** Throws or rejects with what is wrong; a {@link Finding}, or anything that the code under test threw. */
  check(frames: readonly Frame[]): void | Promise<void>;
}

/** Frames that are mutations of one set of seeds, one in sixteen left as it is, one in sixty-four nothing but noise. */
export function mutations(random: Random, count: number, seeds: readonly Frame[], kindOf = 0): Frame[] {
  const mutator = new Mutator(random);
  const frames: Frame[] = [];
  for (let index = 0; index < count; index++) {
    if (random.once(64)) frames.push(noise(random, kindOf));
    else frames.push(mutator.mutate(random.pick(seeds), random.pick(seeds), random.once(16) ? 0 : 1 + random.below(4)));
  }
  return frames;
}

function noise(random: Random, kind: number): Frame {
  const frame = new Uint8Array(8 + random.below(random.once(2) ? 64 : 400));
  for (let at = 0; at < frame.length; at++) frame[at] = random.word();
  frame[0] = kind;
  return frame;
}

export const allSeeds = (seeds: Seeds): readonly Frame[] => [
  ...seeds.requests,
  ...seeds.replies,
  ...seeds.notifications,
  ...seeds.ioctls,
];

/** Memory around a message: what lies there must make no difference. */
export class Poisoned {
  static readonly MARGIN = 256;
  readonly #memory: Uint8Array;
  readonly #margin: number;

  /** `margin`: a multiple of 8. */
  constructor(bytesMax: number, margin = Poisoned.MARGIN) {
    this.#memory = new Uint8Array(new ArrayBuffer(margin + ((bytesMax + 7) & ~7) + Poisoned.MARGIN));
    this.#margin = margin;
  }

  /** The message amid bytes of one value, 8-byte aligned. Valid until the next call. */
  place(message: Uint8Array, poison: number): Uint8Array {
    const from = this.#margin;
    this.#memory.fill(poison, 0, from);
    this.#memory.set(message, from);
    this.#memory.fill(poison, from + message.length, from + message.length + Poisoned.MARGIN);
    return this.#memory.subarray(from, from + message.length);
  }

  /** The whole memory from where messages begin, as words. */
  get words(): Uint32Array {
    return new Uint32Array(this.#memory.buffer, this.#margin, (this.#memory.length - this.#margin) >>> 2);
  }
}
