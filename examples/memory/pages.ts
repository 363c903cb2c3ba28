/** The contents of files: pages of 4 KiB out of one store, so that holes cost nothing and the limit is exact. */
import { fail } from './linux.ts';

export const PAGE_BYTES = 4096;

/** Pages are cut from slabs of 1 MiB: a buffer for each would cost the garbage collector more than the bytes are worth. */
const SLAB_PAGES = 256;
const SLAB_SHIFT = 8;

interface Slab {
  readonly bytes: Uint8Array;
  /** Numbers of its pages that nobody has. */
  readonly free: number[];
}

/** All pages of a filesystem. A page is known by a number. */
export class PageStore {
  readonly pagesMax: number;
  pagesUsed = 0;
  readonly #slabs: (Slab | undefined)[] = [];
  /** Slabs that have free pages. */
  readonly #roomy: number[] = [];

  constructor(bytes: number) {
    this.pagesMax = Math.floor(bytes / PAGE_BYTES);
  }

  get pagesFree(): number {
    return this.pagesMax - this.pagesUsed;
  }

  /** A page of zeros. Throws ENOSPC. */
  take(): number {
    if (this.pagesUsed >= this.pagesMax) fail('ENOSPC');
    if (this.#roomy.length === 0) this.#addSlab();
    const slab = this.#slabs[this.#roomy.at(-1)!]!;
    const page = slab.free.pop()!;
    if (slab.free.length === 0) this.#roomy.pop();
    this.pagesUsed++;
    return page;
  }

  /** Takes a page back, and makes it zeros: new memory is that without being touched, so free pages always are. */
  give(page: number): void {
    this.bytes(page).fill(0);
    const index = page >>> SLAB_SHIFT;
    const { free } = this.#slabs[index]!;
    if (free.length === 0) this.#roomy.push(index);
    free.push(page);
    this.pagesUsed--;
    if (free.length < SLAB_PAGES || this.#roomy.length === 1) return;
    this.#slabs[index] = undefined;
    this.#roomy.splice(this.#roomy.indexOf(index), 1);
  }

  /** A window on the page's bytes, or on a part of them. */
  bytes(page: number, from = 0, to = PAGE_BYTES): Uint8Array {
    const at = (page & (SLAB_PAGES - 1)) * PAGE_BYTES;
    return this.#slabs[page >>> SLAB_SHIFT]!.bytes.subarray(at + from, at + to);
  }

  #addSlab(): void {
    const gap = this.#slabs.indexOf(undefined);
    const index = gap < 0 ? this.#slabs.length : gap;
    const free = Array.from({ length: SLAB_PAGES }, (_, page) => index * SLAB_PAGES + SLAB_PAGES - 1 - page);
    this.#slabs[index] = { bytes: new Uint8Array(SLAB_PAGES * PAGE_BYTES), free };
    this.#roomy.push(index);
  }
}

/**
 * One file. A page that is not there is a hole and reads as zeros. Bytes of a page beyond the end of the file are always
 * zero, so that growing the file shows nothing old.
 */
export class FileData {
  size = 0;
  readonly #store: PageStore;
  /** From the page's place in the file to its number in the store. */
  readonly #pages = new Map<number, number>();

  constructor(store: PageStore) {
    this.#store = store;
  }

  /** Units of 512 bytes, as in st_blocks: pages that exist, also beyond the end of the file. */
  get blocks(): number {
    return this.#pages.size * (PAGE_BYTES / 512);
  }

  /** Fills `into` from the file; answers the bytes there were before its end. */
  read(into: Uint8Array, offset: number): number {
    const length = Math.max(0, Math.min(into.byteLength, this.size - offset));
    for (let done = 0; done < length; ) {
      const [place, from, to] = piece(offset + done, length - done);
      const page = this.#pages.get(place);
      if (page === undefined) into.fill(0, done, done + to - from);
      else into.set(this.#store.bytes(page, from, to), done);
      done += to - from;
    }
    return length;
  }

  /** Writes as far as there is room; answers the bytes written. Throws ENOSPC when there is none at all. */
  write(data: Uint8Array, offset: number): number {
    let done = 0;
    while (done < data.byteLength) {
      const [place, from, to] = piece(offset + done, data.byteLength - done);
      const page = this.#pages.get(place) ?? (done > 0 && this.#store.pagesFree === 0 ? undefined : this.#add(place));
      if (page === undefined) break;
      this.#store.bytes(page, from, to).set(data.subarray(done, done + to - from));
      done += to - from;
    }
    if (done > 0) this.size = Math.max(this.size, offset + done);
    return done;
  }

  /** Cuts off or extends with a hole. */
  truncate(size: number): void {
    if (size <= this.size) this.punch(size, Number.MAX_SAFE_INTEGER);
    this.size = size;
  }

  /** Makes a hole: whole pages go, parts of pages become zeros. */
  punch(start: number, end: number): void {
    const first = Math.floor(start / PAGE_BYTES);
    const last = Math.floor((end - 1) / PAGE_BYTES);
    this.#zeroPart(first, start - first * PAGE_BYTES, first === last ? end - first * PAGE_BYTES : PAGE_BYTES);
    if (last > first) this.#zeroPart(last, 0, end - last * PAGE_BYTES);
    const remove = (place: number): void => {
      const page = this.#pages.get(place);
      if (page === undefined || place * PAGE_BYTES < start || (place + 1) * PAGE_BYTES > end) return;
      this.#pages.delete(place);
      this.#store.give(page);
    };
    // A file may be far larger than what it holds, and a hole far smaller than the file.
    if (last - first < this.#pages.size) for (let place = first; place <= last; place++) remove(place);
    else for (const place of this.#pages.keys()) remove(place);
  }

  /** Gives pages to a whole range, or throws ENOSPC and gives none. */
  allocate(start: number, end: number): void {
    const first = Math.floor(start / PAGE_BYTES);
    const beyond = Math.ceil(end / PAGE_BYTES);
    // Even if the file had all its pages in this range, that many more could not be had.
    if (beyond - first - this.#pages.size > this.#store.pagesFree) fail('ENOSPC');
    const missing: number[] = [];
    for (let place = first; place < beyond; place++) if (!this.#pages.has(place)) missing.push(place);
    if (missing.length > this.#store.pagesFree) fail('ENOSPC');
    for (const place of missing) this.#add(place);
  }

  /** Where data begins at or after `offset`. Throws ENXIO when none does. */
  seekData(offset: number): number {
    if (offset < 0 || offset >= this.size) fail('ENXIO');
    const first = Math.floor(offset / PAGE_BYTES);
    if (this.#pages.has(first)) return offset;
    const found = this.#nextPlace(first) * PAGE_BYTES;
    return found < this.size ? found : fail('ENXIO');
  }

  /** Where a hole begins at or after `offset`; the end of the file counts as one. Throws ENXIO beyond it. */
  seekHole(offset: number): number {
    if (offset < 0 || offset >= this.size) fail('ENXIO');
    let place = Math.floor(offset / PAGE_BYTES);
    if (!this.#pages.has(place)) return offset;
    while (this.#pages.has(place)) place++;
    return Math.min(this.size, place * PAGE_BYTES);
  }

  /** The first page after a missing one. Walks the gap, but no further than looking at all pages would cost. */
  #nextPlace(first: number): number {
    const steps = first + this.#pages.size;
    for (let place = first + 1; place <= steps; place++) if (this.#pages.has(place)) return place;
    let next = Number.POSITIVE_INFINITY;
    for (const place of this.#pages.keys()) if (place > first && place < next) next = place;
    return next;
  }

  #add(place: number): number {
    const page = this.#store.take();
    this.#pages.set(place, page);
    return page;
  }

  #zeroPart(place: number, from: number, to: number): void {
    const page = this.#pages.get(place);
    if (page !== undefined) this.#store.bytes(page, from, to).fill(0);
  }
}

/** The page that `offset` falls into, and which of its bytes belong to a range of `length` bytes from there. */
function piece(offset: number, length: number): [place: number, from: number, to: number] {
  const place = Math.floor(offset / PAGE_BYTES);
  const from = offset - place * PAGE_BYTES;
  return [place, from, Math.min(PAGE_BYTES, from + length)];
}
