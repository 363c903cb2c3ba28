/** Bytes in pieces: lengths and cuts, without copies. */
import type { Bytes } from './backend.ts';

export function piecesOf(bytes: Bytes): readonly Uint8Array[] {
  return bytes instanceof Uint8Array ? [bytes] : bytes;
}

export function lengthOf(pieces: readonly Uint8Array[]): number {
  let total = 0;
  for (const piece of pieces) total += piece.byteLength;
  return total;
}

/** Views of `length` bytes from `at` on; fewer where the pieces end. */
export function cut(pieces: readonly Uint8Array[], at: number, length: number): readonly Uint8Array[] {
  if (at === 0 && pieces.length === 1 && pieces[0].byteLength <= length) return pieces;
  const views: Uint8Array[] = [];
  let skip = at;
  let left = length;
  for (const piece of pieces) {
    if (left === 0) break;
    if (skip >= piece.byteLength) {
      skip -= piece.byteLength;
      continue;
    }
    const view = piece.subarray(skip, skip + left);
    views.push(view);
    left -= view.byteLength;
    skip = 0;
  }
  return views;
}

/** A range that is still looked for. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** What of `spans` lies outside of `start` to `end`. `onInside` is told what lies inside. */
export function subtract(spans: readonly Span[], start: number, end: number, onInside: (inside: Span) => void): readonly Span[] {
  const left: Span[] = [];
  for (const span of spans) {
    const from = Math.max(span.start, start);
    const to = Math.min(span.end, end);
    if (from >= to) {
      left.push(span);
      continue;
    }
    onInside({ start: from, end: to });
    if (span.start < from) left.push({ start: span.start, end: from });
    if (to < span.end) left.push({ start: to, end: span.end });
  }
  return left;
}

/** The same ranges in order, those that touch as one. */
export function united(spans: readonly Span[]): readonly Span[] {
  const result: { start: number; end: number }[] = [];
  for (const { start, end } of [...spans].sort((a, b) => a.start - b.start)) {
    const last = result.at(-1);
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, end);
    else result.push({ start, end });
  }
  return result;
}
