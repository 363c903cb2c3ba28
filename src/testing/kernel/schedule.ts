/** A small generator of pseudo-random numbers (mulberry32): the same seed gives the same run on every machine. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 to 2^32-1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** 0 to `limit` - 1. */
  below(limit: number): number {
    return this.next() % limit;
  }
}

/**
 * Decides what happens next. Without a seed everything happens at once, in the order in which it was asked for. With a
 * seed, requests on their way to the daemon and answers on their way to callers wait together, and a pseudo-random one
 * is let go at a time: reproducible as long as the filesystem itself is.
 */
export class Schedule {
  readonly seed: number | undefined;
  readonly #random: Random | undefined;
  readonly #waiting: (() => void)[] = [];
  #isPumping = false;

  constructor(seed: number | undefined) {
    this.seed = seed;
    this.#random = seed === undefined ? undefined : new Random(seed);
  }

  get isSeeded(): boolean {
    return this.#random !== undefined;
  }

  /** Actions that were asked for and have not happened. */
  get waitingCount(): number {
    return this.#waiting.length;
  }

  post(action: () => void): void {
    if (this.#random === undefined) {
      action();
      return;
    }
    this.#waiting.push(action);
    if (this.#isPumping) return;
    this.#isPumping = true;
    setImmediate(this.#pump);
  }

  readonly #pump = (): void => {
    const random = this.#random!;
    // Sometimes one action a turn, sometimes a burst: both the sleepy and the busy daemon occur.
    const burst = 1 + random.below(4);
    for (let i = 0; i < burst && this.#waiting.length > 0; i++) {
      const [action] = this.#waiting.splice(random.below(this.#waiting.length), 1);
      action!();
    }
    if (this.#waiting.length > 0) setImmediate(this.#pump);
    else this.#isPumping = false;
  };
}
