/** Faults for any filesystem: plans of what shall go wrong, and filesystems that do it. */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { ModuleSource } from '../../mount/index.ts';
import { entryOf } from '../../session/index.ts';
import type { FaultyModuleOptions } from './module.ts';
import type { FaultPlan } from './plan.ts';

export { InjectedCrash } from './crash.ts';
export { withFaults } from './faults.ts';
export {
  armFault,
  type CrashKind,
  type FaultCounts,
  type FaultEffect,
  type FaultPlan,
  type FaultRule,
  type FaultyMethod,
  faultCounts,
  faultPlan,
} from './plan.ts';

/**
 * A module with faults in front of it, to be mounted in its place: every worker follows the same plan, and the counts are
 * those of all workers. Name the number of workers when you mount it; what the module itself exports as `workers` is not asked.
 */
export function faultyModule(source: ModuleSource, plan: FaultPlan): ModuleSource {
  const { module } = source;
  const url = module instanceof URL ? module.href : module.startsWith('file:') ? module : pathToFileURL(resolve(module)).href;
  const options: FaultyModuleOptions = { module: url, options: source.options, plan };
  return { module: entryOf(import.meta.url, './module'), options };
}
