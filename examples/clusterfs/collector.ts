/** Collects blocks that nothing names any more: what was overwritten, cut off, or removed with its file. */
import type { Meta } from './meta/meta.ts';
import type { BlockStore } from './store/store.ts';

export interface CollectorSettings {
  readonly graceMs: number;
  readonly everyMs: number;
  readonly onFault: (error: Error) => void;
}

const BATCH = 512;

export class Collector {
  readonly #meta: Meta;
  readonly #store: BlockStore;
  readonly #settings: CollectorSettings;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #ended = false;

  constructor(meta: Meta, store: BlockStore, settings: CollectorSettings) {
    this.#meta = meta;
    this.#store = store;
    this.#settings = settings;
    this.#schedule();
  }

  async end(): Promise<void> {
    this.#ended = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  #schedule(): void {
    if (this.#ended) return;
    // Not all mounts at once.
    const ms = this.#settings.everyMs * (0.5 + Math.random() / 2);
    this.#timer = setTimeout(() => {
      this.#running = collect(this.#meta, this.#store, this.#settings.graceMs, () => this.#ended)
        .then(() => {})
        .catch((error) => this.#settings.onFault(error))
        .finally(() => this.#schedule());
    }, ms);
    this.#timer.unref();
  }
}

/** Deletes what has been garbage for `graceMs`. Answers how many blocks that were. */
export async function collect(
  meta: Meta,
  store: BlockStore,
  graceMs: number,
  stop: () => boolean = () => false,
): Promise<number> {
  let count = 0;
  while (!stop()) {
    const [reply] = await meta.change('collect', [String(graceMs), String(BATCH)]);
    const ids = (reply as readonly Buffer[]).map(String);
    if (ids.length === 0) break;
    await store.delete(ids);
    await meta.change('collected', []);
    count += ids.length;
  }
  return count;
}
