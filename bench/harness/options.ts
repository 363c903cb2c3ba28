/** Command lines. */
import { parseArgs } from 'node:util';
import { BenchError, messageOf } from './failure.ts';

/** Options by name: given at most once, or any number of times. All take a value. */
type Kinds = Readonly<Record<string, 'one' | 'many'>>;
type Values<T extends Kinds> = { [Name in keyof T]: T[Name] extends 'many' ? string[] : string | undefined };

/** Parsed options; whatever is wrong becomes a sentence. */
export function parse<const T extends Kinds>(args: readonly string[], kinds: T): Values<T> {
  const options = Object.fromEntries(
    Object.entries(kinds).map(([name, kind]) => [name, { type: 'string', multiple: kind === 'many' } as const]),
  );
  try {
    const { values } = parseArgs({ args: [...args], options, strict: true, allowPositionals: false });
    return Object.fromEntries(
      Object.entries(kinds).map(([name, kind]) => [name, values[name] ?? (kind === 'many' ? [] : undefined)]),
    ) as Values<T>;
  } catch (error) {
    throw BenchError.usage(
      `${messageOf(error).replaceAll('\n', ' ').replace(/\.$/, '')}; npm run bench -- --help shows what there is`,
    );
  }
}

/** A whole number from `least` to `most`. */
export function count(name: string, text: string | undefined, fallback: number, least = 1, most = 1_000_000_000): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  throw BenchError.usage(`--${name} is a whole number from ${least} to ${most}, not ${text}`);
}

/** A comma-separated list of words out of `known`. */
export function words<T extends string>(
  name: string,
  text: string | undefined,
  fallback: readonly T[],
  known: readonly T[],
): T[] {
  if (text === undefined) return [...fallback];
  return text.split(',').map((word) => {
    const found = known.find((candidate) => candidate === word);
    if (found === undefined) throw BenchError.usage(`--${name} knows ${known.join(', ')}, not ${word || 'nothing'}`);
    return found;
  });
}
