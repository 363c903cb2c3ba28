interface Waiter {
  readonly exclusive: boolean;
  readonly resume: () => void;
}

/** A fair lock for many readers or one writer: the inode lock (i_rwsem) of the kernel. */
export class RwLock {
  #readers = 0;
  #isExclusive = false;
  readonly #waiters: Waiter[] = [];

  get isHeld(): boolean {
    return this.#isExclusive || this.#readers > 0;
  }

  async acquire(exclusive: boolean): Promise<void> {
    if (this.#waiters.length === 0 && this.#isFree(exclusive)) {
      this.#take(exclusive);
      return;
    }
    await new Promise<void>((resume) => this.#waiters.push({ exclusive, resume }));
  }

  release(exclusive: boolean): void {
    if (exclusive) this.#isExclusive = false;
    else this.#readers--;
    while (this.#waiters.length > 0 && this.#isFree(this.#waiters[0]!.exclusive)) {
      const waiter = this.#waiters.shift()!;
      this.#take(waiter.exclusive);
      waiter.resume();
    }
  }

  async hold<T>(exclusive: boolean, action: () => Promise<T>): Promise<T> {
    await this.acquire(exclusive);
    try {
      return await action();
    } finally {
      this.release(exclusive);
    }
  }

  #isFree(exclusive: boolean): boolean {
    return !this.#isExclusive && (!exclusive || this.#readers === 0);
  }

  #take(exclusive: boolean): void {
    if (exclusive) this.#isExclusive = true;
    else this.#readers++;
  }
}

/** Holds two locks exclusively, in the order of `rank`, so that two holders never wait for each other. */
export async function holdBoth<T>(
  one: { readonly lock: RwLock; readonly rank: number },
  other: { readonly lock: RwLock; readonly rank: number },
  action: () => Promise<T>,
): Promise<T> {
  if (one === other) return one.lock.hold(true, action);
  const [first, second] = one.rank < other.rank ? [one, other] : [other, one];
  return first.lock.hold(true, () => second.lock.hold(true, action));
}
