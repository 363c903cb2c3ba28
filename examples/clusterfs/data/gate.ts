/** What bounds a mount: operations of the store in flight, and bytes that were written and are not published. */
import type { LostBlock } from '../store/store.ts';

export interface GateSettings {
  /** Operations of the store at a time. */
  readonly operationsMax: number;
  readonly onLost: (blocks: readonly LostBlock[]) => void;
}

export class Gate {
  readonly #settings: GateSettings;
  readonly #queue: (() => void)[] = [];
  #running = 0;
  #dirtyBytes = 0;

  constructor(settings: GateSettings) {
    this.#settings = settings;
  }

  get dirtyBytes(): number {
    return this.#dirtyBytes;
  }

  dirtied(bytes: number): void {
    this.#dirtyBytes += bytes;
  }

  onLost(blocks: readonly LostBlock[]): void {
    this.#settings.onLost(blocks);
  }

  /** In the order in which they come. */
  async run<T>(operation: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#settings.operationsMax) await new Promise<void>((resolve) => this.#queue.push(resolve));
    else this.#running++;
    try {
      return await operation();
    } finally {
      const next = this.#queue.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}
