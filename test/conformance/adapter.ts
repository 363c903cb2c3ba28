/** The conformance map as tests of vitest. */
import { expect, test } from 'vitest';
import {
  CONFORMANCE,
  type ConformanceOptions,
  type ConformanceReport,
  type MakeTree,
  runCase,
  runConformance,
} from '../../src/testing/conformance/index.ts';

/** One test for each case, over a tree of its own. */
export function conformanceTests(makeTree: MakeTree, options: ConformanceOptions = {}): void {
  for (const [name, one] of Object.entries(CONFORMANCE)) {
    test(name, async (context) => {
      const result = await runCase(name, one, makeTree, options);
      if (result.outcome === 'skipped') context.skip(result.reason);
      if (result.outcome === 'failed') throw result.error;
    });
  }
}

/**
 * Runs the map in one test, for trees that one test owns, such as a mount. Exactly the cases in `failing` may fail, and they
 * have to: when one is mended its name has to go.
 */
export async function conforms(
  makeTree: MakeTree,
  options: ConformanceOptions & { failing?: Readonly<Record<string, string>> } = {},
): Promise<ConformanceReport> {
  const { failing = {}, ...rest } = options;
  const report = await runConformance(makeTree, rest);
  const complaints = report.results
    .filter(({ name, outcome }) => (outcome === 'failed') !== Object.hasOwn(failing, name))
    .filter(({ name, outcome }) => outcome === 'failed' || Object.hasOwn(failing, name))
    .map(({ name, error }) => `${name}: ${error === undefined ? 'does not fail any more' : (error as Error).message}`);
  expect(complaints, String(report)).toEqual([]);
  return report;
}
