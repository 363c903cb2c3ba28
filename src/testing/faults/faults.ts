/** A filesystem with faults between it and its callers. */
import type { Filesystem } from '../../filesystem/filesystem.ts';
import { FuseError } from '../../session/index.ts';
import { crash, never } from './crash.ts';
import { decideFault, type FaultCandidate, type FaultDecision, type FaultPlan, type FaultyMethod } from './plan.ts';

/** Where a method has its request, and whether a name stands second. */
interface Shape {
  readonly request: number;
  readonly named?: true;
}

const NAMED: Shape = { request: 2, named: true };
const PLAIN: Shape = { request: 1 };

/** Every method that answers somebody; the type sees to it that none is missing. */
const SHAPES: Readonly<Record<FaultyMethod, Shape>> = {
  lookup: NAMED,
  getattr: PLAIN,
  setattr: PLAIN,
  statx: PLAIN,
  readlink: PLAIN,
  mknod: NAMED,
  mkdir: NAMED,
  unlink: NAMED,
  rmdir: NAMED,
  symlink: { request: 3, named: true },
  rename: NAMED,
  link: PLAIN,
  open: PLAIN,
  read: PLAIN,
  write: { request: 2 },
  flush: PLAIN,
  release: PLAIN,
  fsync: PLAIN,
  create: NAMED,
  tmpfile: PLAIN,
  opendir: PLAIN,
  readdir: PLAIN,
  readdirplus: PLAIN,
  releasedir: PLAIN,
  fsyncdir: PLAIN,
  statfs: PLAIN,
  access: PLAIN,
  setxattr: { request: 3, named: true },
  getxattr: NAMED,
  listxattr: PLAIN,
  removexattr: NAMED,
  getlk: PLAIN,
  setlk: PLAIN,
  fallocate: PLAIN,
  lseek: PLAIN,
  copyFileRange: PLAIN,
  ioctl: PLAIN,
  poll: PLAIN,
  bmap: PLAIN,
  syncfs: PLAIN,
};

/** What rules look at in a request, and what a short answer changes in it. */
interface OpenRequestFields {
  readonly uid: number;
  readonly newName?: string;
  readonly offset?: number;
  size?: number;
  length?: number;
  start?: number;
}

type Method = (...args: unknown[]) => unknown;

/**
 * The same filesystem, where requests that the plan wants fail, wait, come short, are never answered, or take their thread
 * with them. It has the same methods, so that the kernel is offered the same, except for backing files, which would take reads and
 * writes past the plan; everything that the plan does not want passes untouched, at the cost of one look at each rule.
 *
 * In workers, mount a {@link faultyModule}.
 */
export function withFaults(filesystem: Filesystem, plan: FaultPlan): Filesystem {
  const words = new Int32Array(plan.state);
  const faulty: Record<string, unknown> = {};
  if (filesystem.settings !== undefined) faulty.settings = withoutBacking(filesystem.settings);
  const real = filesystem as unknown as Record<string, Method | undefined>;
  for (const name of ['init', 'destroy', 'forget', 'lookupCounts', 'openHandles']) {
    if (typeof real[name] === 'function') faulty[name] = (...args: unknown[]) => real[name]!(...args);
  }
  for (const [name, shape] of Object.entries(SHAPES) as [FaultyMethod, Shape][]) {
    if (typeof real[name] !== 'function') continue;
    faulty[name] = (...args: unknown[]): unknown => {
      const request = args[shape.request] as OpenRequestFields;
      const decision = decideFault(plan, words, candidateOf(name, shape, args, request));
      const call = () => real[name]!(...args);
      return decision === undefined ? call() : apply(decision, request, call);
    };
  }
  return faulty as Filesystem;
}

function withoutBacking(settings: NonNullable<Filesystem['settings']>): Filesystem['settings'] {
  const { capabilities } = settings;
  if (capabilities === undefined) return settings;
  return { ...settings, capabilities: capabilities.filter((flag) => flag !== 'FUSE_PASSTHROUGH') };
}

function candidateOf(method: FaultyMethod, shape: Shape, args: readonly unknown[], request: OpenRequestFields): FaultCandidate {
  return {
    method,
    node: args[0] as number,
    name: shape.named ? (args[1] as string) : request.newName,
    offset: request.offset ?? request.start,
    length: request.size ?? request.length ?? 0,
    uid: request.uid,
  };
}

function apply({ delayMs, effect }: FaultDecision, request: OpenRequestFields, call: () => unknown): unknown {
  if (delayMs > 0) {
    return new Promise((resolve) => setTimeout(resolve, delayMs)).then(() => apply({ delayMs: 0, effect }, request, call));
  }
  switch (effect?.kind) {
    case undefined:
      return call();
    case 'errno':
      throw typeof effect.errno === 'number' ? FuseError.of(effect.errno) : new FuseError(effect.errno);
    case 'short':
      // The library takes what a request holds for what was asked: the filesystem does less, and the answer says so.
      if (request.length !== undefined) request.length = Math.min(request.length, effect.bytes);
      else if (request.size !== undefined) request.size = Math.min(request.size, effect.bytes);
      return call();
    case 'hang':
      return never();
    case 'crash':
      return crash(effect.how);
  }
}
