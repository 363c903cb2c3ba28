/**
 * fusewire/adapters: {@link fromNodeFs} mounts anything shaped like node:fs/promises, {@link toNodeFs} uses any filesystem in
 * this process without a mount.
 */
export { type FromNodeFsOptions, fromNodeFs, type NodeFsLike } from './from-node-fs.ts';
export type { BigIntStats, Dirent, StatFs, Stats } from './node-stats.ts';
export type { FileData, NodeTime, OpenFile } from './open-file.ts';
export { type NodeFs, type NodePath, type ToNodeFsOptions, toNodeFs } from './to-node-fs.ts';
export type { Identity } from './walker.ts';
