/** Runs the map over a filesystem, without any test runner. */
import type { PosixFeature, PosixTree } from '../posix.ts';
import { type ConformanceTest, within } from './case.ts';
import { CONFORMANCE } from './map.ts';

export interface ConformanceOptions {
  /** Features that the filesystem does not have: cases that need one are skipped. */
  unsupported?: Iterable<PosixFeature>;
  /** Names of cases that it is known to fail, with the reason: they are skipped, and the report says so. */
  except?: Readonly<Record<string, string>>;
  /** The cases to run: a part of the name, a pattern, or a choice. Default all. */
  only?: string | RegExp | ((name: string) => boolean);
  /** How long one case may take, milliseconds. Default 30,000. */
  timeoutMs?: number;
  /** Cases to run. Default {@link CONFORMANCE}. */
  cases?: Readonly<Record<string, ConformanceTest>>;
  /** Called after each case. */
  onResult?: (result: ConformanceResult) => void;
}

export interface ConformanceResult {
  readonly name: string;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  /** Why it was skipped. */
  readonly reason?: string;
  /** Why it failed. */
  readonly error?: unknown;
  readonly elapsedMs: number;
}

export interface ConformanceReport {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly results: readonly ConformanceResult[];
  /** One line for each case that failed. */
  toString(): string;
}

const CASE_TIMEOUT_MS = 30_000;

/** Makes a fresh, empty tree. */
export type MakeTree = () => Promise<PosixTree> | PosixTree;

/**
 * Runs every case over a tree of its own, one after the other. Never rejects for what the filesystem does: the report says
 * it. A name in `except` that is no case is a RangeError, so that the list cannot grow stale.
 *
 * ```ts
 * const report = await runConformance(() => hostTree('/mnt/mine'), { unsupported: ['xattrs', 'devices'] });
 * if (report.failed > 0) throw new Error(String(report));
 * ```
 */
export async function runConformance(makeTree: MakeTree, options: ConformanceOptions = {}): Promise<ConformanceReport> {
  const { cases = CONFORMANCE, only, onResult } = options;
  for (const name of Object.keys(options.except ?? {})) {
    if (!(name in cases)) throw new RangeError(`there is no case "${name}"; take it out of "except"`);
  }
  const chosen = chooser(only);
  const results: ConformanceResult[] = [];
  for (const [name, one] of Object.entries(cases)) {
    if (!chosen(name)) continue;
    const result = await runCase(name, one, makeTree, options);
    results.push(result);
    onResult?.(result);
  }
  return report(results);
}

function chooser(only: ConformanceOptions['only']): (name: string) => boolean {
  if (only === undefined) return () => true;
  if (typeof only === 'string') return (name) => name.includes(only);
  if (only instanceof RegExp) return (name) => only.test(name);
  return only;
}

/** Runs one case over a fresh tree, and ends the tree whatever happens. For adapters to test runners. */
export async function runCase(
  name: string,
  one: ConformanceTest,
  makeTree: MakeTree,
  options: Pick<ConformanceOptions, 'unsupported' | 'except' | 'timeoutMs'> = {},
): Promise<ConformanceResult> {
  const begin = performance.now();
  const done = (outcome: ConformanceResult['outcome'], more: { reason?: string; error?: unknown } = {}): ConformanceResult => ({
    name,
    outcome,
    elapsedMs: performance.now() - begin,
    ...more,
  });
  const reason = whyNot(name, one, new Map([...(options.unsupported ?? [])].map((feature) => [feature, ''])), options.except);
  if (reason !== undefined) return done('skipped', { reason });
  let tree: PosixTree;
  try {
    tree = await makeTree();
  } catch (error) {
    return done('failed', { error });
  }
  const lacking = whyNot(name, one, tree.unsupported);
  let failure: { error: unknown } | undefined;
  if (lacking === undefined) {
    try {
      await within(options.timeoutMs ?? CASE_TIMEOUT_MS, one.run(tree), 'the end of the case');
    } catch (error) {
      failure = { error };
    }
  }
  try {
    await tree.end();
  } catch (error) {
    // What the case itself found tells more than what it left behind.
    failure ??= { error };
  }
  if (failure !== undefined) return done('failed', failure);
  return lacking === undefined ? done('passed') : done('skipped', { reason: lacking });
}

function whyNot(
  name: string,
  one: ConformanceTest,
  unsupported: ReadonlyMap<PosixFeature, string>,
  except: Readonly<Record<string, string>> = {},
): string | undefined {
  if (Object.hasOwn(except, name)) return except[name];
  const feature = one.needs.find((need) => unsupported.has(need));
  if (feature === undefined) return undefined;
  const why = unsupported.get(feature);
  return why ? `${feature}: ${why}` : `${feature} is not supported`;
}

function report(results: readonly ConformanceResult[]): ConformanceReport {
  const count = (outcome: ConformanceResult['outcome']) => results.filter((result) => result.outcome === outcome).length;
  const counts = { passed: count('passed'), failed: count('failed'), skipped: count('skipped') };
  return {
    ...counts,
    results,
    toString() {
      const lines = results
        .filter((result) => result.outcome === 'failed')
        .map(({ name, error }) => `${name}: ${error instanceof Error ? error.message : String(error)}`);
      return [`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`, ...lines].join('\n');
    },
  };
}
