/** What a worker loads for {@link faultyModule}: the author's module, with faults in front of it. */
import type { Filesystem } from '../../filesystem/filesystem.ts';
import { type FilesystemFactory, importModule, loadFilesystem, type WorkerContext } from '../../filesystem/module.ts';
import { withFaults } from './faults.ts';
import type { FaultPlan } from './plan.ts';

/** Plain data. */
export interface FaultyModuleOptions {
  /** A file URL. */
  module: string;
  options: unknown;
  plan: FaultPlan;
}

/** What the main thread made: the author's own, in a box that can be told from others. */
interface Box {
  readonly shared: unknown;
}

const ends = new WeakMap<Box, () => void>();

export async function shared({ module, options }: FaultyModuleOptions): Promise<Box> {
  const inner = await importModule(module);
  const box: Box = { shared: inner.shared === undefined ? undefined : await inner.shared(options as never) };
  ends.set(box, () => inner.sharedEnd?.(box.shared as never));
  return box;
}

export function sharedEnd(box: Box): void {
  ends.get(box)?.();
}

const faulty: FilesystemFactory<FaultyModuleOptions, Box> = async (
  context: WorkerContext<FaultyModuleOptions, Box>,
): Promise<Filesystem> => {
  const { module, options, plan } = context.options;
  return withFaults(await loadFilesystem(module, { ...context, options, shared: context.shared.shared }), plan);
};

export default faulty;
