/** The conformance cases, and their runner. */

export type { ConformanceTest } from './case.ts';
export { ConformanceFailure } from './errors.ts';
export { CONFORMANCE } from './map.ts';
export {
  type ConformanceOptions,
  type ConformanceReport,
  type ConformanceResult,
  type MakeTree,
  runCase,
  runConformance,
} from './run.ts';
