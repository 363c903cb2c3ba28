/** The corpus: cases that showed a fault once, as `npm run fuzz` prints them. */
import { readdirSync, readFileSync } from 'node:fs';
import { type Frame, fromHex } from './frame.ts';

const FOLDER = new URL('../../test/corpus/', import.meta.url);

export interface CorpusCase {
  readonly name: string;
  readonly target: string;
  /** What was wrong. */
  readonly about: string;
  readonly frames: readonly Frame[];
}

export function readCorpus(): CorpusCase[] {
  return readdirSync(FOLDER)
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map((name) => {
      const text = readFileSync(new URL(name, FOLDER), 'utf8');
      const { target, about, frames } = JSON.parse(text) as { target: string; about: string; frames: string[] };
      return { name: name.slice(0, -'.json'.length), target, about, frames: frames.map(fromHex) };
    });
}
