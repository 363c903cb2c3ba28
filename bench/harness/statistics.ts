/** Numbers made of samples. */

export interface Summary {
  count: number;
  median: number;
  min: number;
  max: number;
}

/** The middle value, or the mean of the two middle ones. NaN for no values. */
export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** All NaN for no values. */
export function summarize(values: readonly number[]): Summary {
  if (values.length === 0) return { count: 0, median: Number.NaN, min: Number.NaN, max: Number.NaN };
  return { count: values.length, median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/**
 * How one configuration compares with another: the quotient of the medians, and how far the quotients of single rounds
 * spread. Samples of the same round were taken one shortly after the other, so what disturbed one disturbed the other.
 */
export interface Ratio {
  ofMedians: number;
  /** Of the rounds in which both have a sample. */
  byRound: Summary;
}

/** `samples` are by round; undefined where a round has none. */
export function ratio(over: readonly (number | undefined)[], under: readonly (number | undefined)[]): Ratio {
  const quotients: number[] = [];
  for (let round = 0; round < Math.min(over.length, under.length); round++) {
    const [a, b] = [over[round], under[round]];
    if (a !== undefined && b !== undefined && b !== 0) quotients.push(a / b);
  }
  return { ofMedians: median(present(over)) / median(present(under)), byRound: summarize(quotients) };
}

export function present<T>(values: readonly (T | undefined)[]): T[] {
  return values.filter((value) => value !== undefined);
}

/** The same list, begun at another element each round: no configuration always runs first, or always after the same one. */
export function rotated<T>(list: readonly T[], round: number): T[] {
  if (list.length === 0) return [];
  const start = round % list.length;
  return [...list.slice(start), ...list.slice(0, start)];
}
