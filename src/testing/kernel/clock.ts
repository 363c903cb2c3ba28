interface Timer {
  readonly at: number;
  readonly order: number;
  readonly action: () => void;
}

/**
 * The kernel's own time: lifetimes of names and attributes and delayed replies count on it. It stands still until
 * {@link Clock.advance}, so that nothing expires by accident.
 */
export class Clock {
  /** Milliseconds since the simulated boot. Never 0, which means "not cached" in a deadline. */
  #nowMs = 1_000;
  #order = 0;
  #timers: Timer[] = [];

  get nowMs(): number {
    return this.#nowMs;
  }

  /** Nanoseconds since 1970: the machine's time, moved on by what the virtual clock was advanced. */
  wallNs(): bigint {
    return BigInt(Date.now() + this.#nowMs - 1_000) * 1_000_000n;
  }

  /** The moment until which something with that lifetime may be used; 0 when it may not be used at all. */
  deadline(seconds: number, nanoseconds: number): number {
    return seconds === 0 && nanoseconds === 0 ? 0 : this.#nowMs + seconds * 1000 + nanoseconds / 1e6;
  }

  isOver(deadline: number): boolean {
    return deadline < this.#nowMs;
  }

  after(ms: number, action: () => void): void {
    this.#timers.push({ at: this.#nowMs + ms, order: this.#order++, action });
    this.#timers.sort((one, other) => one.at - other.at || one.order - other.order);
  }

  advance(ms: number): void {
    const until = this.#nowMs + ms;
    while (this.#timers.length > 0 && this.#timers[0]!.at <= until) {
      const timer = this.#timers.shift()!;
      this.#nowMs = timer.at;
      timer.action();
    }
    this.#nowMs = until;
  }
}
