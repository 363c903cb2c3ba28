/** What the runner knows of a suite. */
import type { Ended, RunOptions } from './children.ts';
import type { Settings, Storage } from './settings.ts';

export type Outcome = 'passed' | 'failed' | 'skipped';

export interface Case {
  name: string;
  outcome: Outcome;
  /** Why it failed or was skipped, in the suite's words: at most a few lines. */
  detail?: string;
}

/** A folder that a suite is run in: one on a mount, or one of the filesystem beneath. */
export interface Ground {
  readonly side: 'beneath' | 'mounted';
  readonly storage: Storage;
  /** Where the suite works. */
  readonly folder: string;
  /** The same folder as the host sees it; of the filesystem beneath it is `folder` itself. */
  readonly source: string;
}

export interface Bench {
  readonly settings: Settings;
  /** The path that the suite's variable holds. */
  readonly path: string;
  /** A folder for whatever the suite needs, on neither of the filesystems that are tested. */
  readonly scratch: string;
  /** `node …/main.js passthrough` and the options of this run, without the places and without `-o`. */
  readonly daemon: readonly string[];
  run(argv: readonly string[], name: string, options: Omit<RunOptions, 'log'>): Promise<Ended>;
  progress(text: string): void;
}

export interface Suite {
  readonly name: string;
  readonly about: string;
  /** The variable that names it, and what it names. */
  readonly variable: string;
  readonly names: string;
  readonly home: string;
  /** What is missing at the path, or undefined. */
  missing(path: string): string | undefined;
  /** Makes its mounts itself: `ground.folder` is then not mounted on, and `ground.source` is what its mounts shall show. */
  readonly mountsItself?: boolean;
  run(ground: Ground, bench: Bench): Promise<Case[]>;
}

/** Whether `--only` and `--except` let a test run. */
export function isWanted(name: string, { only, except }: Settings): boolean {
  return (only.length === 0 || only.some((text) => name.includes(text))) && !except.some((text) => name.includes(text));
}

/** Runs `work` for each item, `atATime` of them at once, and answers the results in the items' order. */
export async function each<Item, Result>(
  items: readonly Item[],
  atATime: number,
  work: (item: Item, index: number) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      results[index] = await work(items[index], index);
    }
  };
  await Promise.all(Array.from({ length: Math.min(atATime, items.length) }, worker));
  return results;
}
