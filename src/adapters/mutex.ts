/** Changes in one directory happen one after the other, as in the kernel; one in two directories takes both in order of number. */
export class Mutexes {
  readonly #tails = new Map<number, Promise<unknown>>();

  async hold<T>(keys: readonly number[], work: () => Promise<T>): Promise<T> {
    const [first, ...rest] = [...new Set(keys)].sort((one, other) => one - other);
    if (first === undefined) return work();
    const before = this.#tails.get(first) ?? Promise.resolve();
    const inner = () => this.hold(rest, work);
    const turn = before.then(inner, inner);
    const tail = turn.then(
      () => {},
      () => {},
    );
    this.#tails.set(first, tail);
    try {
      return await turn;
    } finally {
      if (this.#tails.get(first) === tail) this.#tails.delete(first);
    }
  }
}
