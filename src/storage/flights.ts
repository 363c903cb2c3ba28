/** Single flight: who asks for what is being fetched already waits for that fetch. */
import type { Answer } from '../filesystem/index.ts';

interface Flight<V> {
  readonly controller: AbortController;
  readonly result: Promise<V>;
  /** How many still want it. */
  waiting: number;
}

export class Flights<V> {
  readonly #flights = new Map<string, Flight<V>>();
  /** How many joined a fetch of somebody else's. */
  joined = 0;

  get size(): number {
    return this.#flights.size;
  }

  has(key: string): boolean {
    return this.#flights.has(key);
  }

  /**
   * The result of the fetch in flight for `key`, or of a new one. A caller whose signal aborts gets its reason at once; the fetch is
   * aborted when it was the last.
   */
  run(key: string, fetch: (signal: AbortSignal) => Answer<V>, signal?: AbortSignal): Promise<V> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    let flight = this.#flights.get(key);
    if (flight === undefined) flight = this.#start(key, fetch);
    else this.joined++;
    flight.waiting++;
    return signal === undefined ? flight.result : this.#until(key, flight, signal);
  }

  #start(key: string, fetch: (signal: AbortSignal) => Answer<V>): Flight<V> {
    const controller = new AbortController();
    const result = new Promise<V>((resolve) => resolve(fetch(controller.signal)));
    const flight: Flight<V> = { controller, result, waiting: 0 };
    this.#flights.set(key, flight);
    const end = (): void => this.#remove(key, flight);
    result.then(end, end);
    return flight;
  }

  #remove(key: string, flight: Flight<V>): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
  }

  #until(key: string, flight: Flight<V>, signal: AbortSignal): Promise<V> {
    return new Promise<V>((resolve, reject) => {
      const onAbort = (): void => {
        flight.waiting--;
        if (flight.waiting === 0) {
          // Who comes now starts anew: this one is on its way to fail.
          this.#remove(key, flight);
          flight.controller.abort(signal.reason);
        }
        reject(signal.reason);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      const end = (): void => signal.removeEventListener('abort', onAbort);
      flight.result.then(
        (value) => {
          end();
          resolve(value);
        },
        (error) => {
          end();
          reject(error);
        },
      );
    });
  }
}
