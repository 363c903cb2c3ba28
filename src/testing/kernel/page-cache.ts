import { PAGE_BYTES } from './constants.ts';

interface Page {
  readonly bytes: Uint8Array;
  isDirty: boolean;
}

/** A run of dirty pages: what one write-back request carries at most. */
export interface DirtyRun {
  readonly offset: number;
  readonly length: number;
}

/** The cached pages of one file. A page that is there is up to date. */
export class PageCache {
  readonly #pages = new Map<number, Page>();
  /** READs under way by page, so that two readers do not ask twice. */
  readonly loading = new Map<number, Promise<void>>();
  /** Where the last read ended and how much was read ahead, in pages. */
  nextPage = -1;
  windowPages = 0;

  get count(): number {
    return this.#pages.size;
  }

  has(index: number): boolean {
    return this.#pages.has(index);
  }

  get(index: number): Uint8Array | undefined {
    return this.#pages.get(index)?.bytes;
  }

  /** Puts bytes that came from the daemon. A page that was written meanwhile is newer and stays. */
  fill(index: number, bytes: Uint8Array): void {
    if (this.#pages.get(index)?.isDirty) return;
    const page = { bytes: new Uint8Array(PAGE_BYTES), isDirty: false };
    page.bytes.set(bytes.subarray(0, PAGE_BYTES));
    this.#pages.set(index, page);
  }

  /**
   * Writes bytes into cached pages. Pages that are not cached are made where the bytes cover them (or `makeAll` says that
   * nothing else is in them), else left out.
   */
  write(offset: number, data: Uint8Array, isDirty: boolean, makeAll = false): void {
    for (let at = 0; at < data.length; ) {
      const index = Math.floor((offset + at) / PAGE_BYTES);
      const within = offset + at - index * PAGE_BYTES;
      const length = Math.min(PAGE_BYTES - within, data.length - at);
      let page = this.#pages.get(index);
      if (page === undefined && (makeAll || length === PAGE_BYTES)) {
        page = { bytes: new Uint8Array(PAGE_BYTES), isDirty: false };
        this.#pages.set(index, page);
      }
      if (page !== undefined) {
        page.bytes.set(data.subarray(at, at + length), within);
        page.isDirty ||= isDirty;
      }
      at += length;
    }
  }

  /** Contiguous dirty pages in `[from, to)`, cut into pieces of at most `bytesMax`. */
  dirtyRuns(from: number, to: number, bytesMax: number): DirtyRun[] {
    const runs: { offset: number; length: number }[] = [];
    const dirty = [...this.#pages].filter(([, page]) => page.isDirty).map(([index]) => index);
    dirty.sort((one, other) => one - other);
    for (const index of dirty) {
      const offset = index * PAGE_BYTES;
      if (offset + PAGE_BYTES <= from || offset >= to) continue;
      const run = runs.at(-1);
      if (run !== undefined && run.offset + run.length === offset && run.length + PAGE_BYTES <= bytesMax)
        run.length += PAGE_BYTES;
      else runs.push({ offset, length: PAGE_BYTES });
    }
    return runs;
  }

  /** A copy of what is cached in a range that is cached. */
  copy(offset: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    for (let at = 0; at < length; ) {
      const index = Math.floor((offset + at) / PAGE_BYTES);
      const within = offset + at - index * PAGE_BYTES;
      const part = Math.min(PAGE_BYTES - within, length - at);
      const page = this.#pages.get(index);
      if (page !== undefined) out.set(page.bytes.subarray(within, within + part), at);
      at += part;
    }
    return out;
  }

  markClean(offset: number, length: number): void {
    for (let index = Math.floor(offset / PAGE_BYTES); index * PAGE_BYTES < offset + length; index++) {
      const page = this.#pages.get(index);
      if (page !== undefined) page.isDirty = false;
    }
  }

  /** Cuts off everything from `size` on; the rest of its page becomes zeros. */
  truncate(size: number): void {
    for (const index of [...this.#pages.keys()]) {
      const start = index * PAGE_BYTES;
      if (start >= size) this.#pages.delete(index);
      else if (start + PAGE_BYTES > size) this.#pages.get(index)!.bytes.fill(0, size - start);
    }
  }

  /** Drops the pages that `[from, to)` touches, dirty ones too. */
  dropRange(from: number, to: number): void {
    for (const index of [...this.#pages.keys()])
      if ((index + 1) * PAGE_BYTES > from && index * PAGE_BYTES < to) this.#pages.delete(index);
  }

  /** Drops what need not be written back. */
  dropClean(): void {
    for (const [index, page] of [...this.#pages]) if (!page.isDirty) this.#pages.delete(index);
  }

  drop(): void {
    this.#pages.clear();
  }
}
