/** System calls on real paths, each process a child of its own. */

export { CallError, HostProcessError } from './errors.ts';
export { endIdleProcesses } from './pool.ts';
export { type HostTreeOptions, hostTree, mountedTree } from './tree.ts';
