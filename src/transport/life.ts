/** What the channels of the kernel have in common: the states of their life, and the way back to sleep in the kernel. */

/** Of a channel: not opened, open, ending as soon as the handler has returned, ended. */
export const STATE_NEW = 0;
export const STATE_OPEN = 1;
export const STATE_ENDING = 2;
export const STATE_ENDED = 3;

/** What a handler threw becomes an 'uncaughtException', without harm to whoever called it. */
export function rethrow(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/** Calls `enter`, which goes back to the kernel, once the event loop had its turns. */
export class WayBack {
  readonly #enter: () => void;
  #isTaken = false;

  constructor(enter: () => void) {
    this.#enter = enter;
  }

  /**
   * After this many check phases of the event loop. One gives pending callbacks their turn; between two lies a whole poll
   * phase, so that what was posted to this thread before it was woken has arrived.
   */
  after(turns: number): void {
    if (this.#isTaken) return;
    this.#isTaken = true;
    setImmediate(this.#onTurn, turns - 1);
  }

  readonly #onTurn = (turnsLeft: number): void => {
    if (turnsLeft > 0) {
      setImmediate(this.#onTurn, turnsLeft - 1);
      return;
    }
    this.#isTaken = false;
    this.#enter();
  };
}
