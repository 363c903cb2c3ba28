/** What was read ahead of one file and not asked for yet. */
import type { Handle } from './handle.ts';
import { cut, type Span, subtract } from './pieces.ts';

interface Ready extends Span {
  readonly bytes: readonly Uint8Array[];
  readonly handle: Handle;
  /** When it came, in ticks of the layer. */
  readonly tick: number;
  /** Bytes of it that nobody asked for. */
  unused: number;
}

export class ReadyRanges {
  #ranges: Ready[] = [];
  /** Told of bytes that come (positive) and go, and how many of these were never asked for. */
  readonly #onChange: (bytes: number, wasted: number) => void;

  constructor(onChange: (bytes: number, wasted: number) => void) {
    this.#onChange = onChange;
  }

  get isEmpty(): boolean {
    return this.#ranges.length === 0;
  }

  /** `unused`: how many of the bytes nobody has yet. */
  add(handle: Handle, { start, end }: Span, bytes: readonly Uint8Array[], unused: number, tick: number): void {
    if (start === end) return;
    this.#ranges.push({ start, end, bytes, handle, tick, unused });
    this.#onChange(end - start, 0);
  }

  /** Takes what is there of `spans`; answers what is not. What was taken wholly goes, unless `keeps`. */
  take(spans: readonly Span[], keeps: boolean, onFound: (span: Span, bytes: readonly Uint8Array[]) => void): readonly Span[] {
    let left = spans;
    for (const range of this.#ranges) {
      if (left.length === 0) break;
      left = subtract(left, range.start, range.end, (inside) => {
        range.unused -= inside.end - inside.start;
        onFound(inside, cut(range.bytes, inside.start - range.start, inside.end - inside.start));
      });
    }
    if (!keeps) this.#drop(({ unused }) => unused <= 0);
    return left;
  }

  /** What of a span is not there. */
  missing(spans: readonly Span[]): readonly Span[] {
    let left = spans;
    for (const range of this.#ranges) left = subtract(left, range.start, range.end, () => {});
    return left;
  }

  dropOverlapping(start: number, end: number): void {
    this.#drop((range) => range.start < end && start < range.end);
  }

  dropOf(handle: Handle): void {
    this.#drop((range) => range.handle === handle);
  }

  dropBefore(tick: number): void {
    this.#drop((range) => range.tick < tick);
  }

  clear(): void {
    this.#drop(() => true);
  }

  #drop(shallGo: (range: Ready) => boolean): void {
    if (!this.#ranges.some(shallGo)) return;
    this.#ranges = this.#ranges.filter((range) => {
      if (!shallGo(range)) return true;
      this.#onChange(range.start - range.end, Math.max(0, range.unused));
      return false;
    });
  }
}
