/**
 * fusewire/paths: filesystems written with paths, in the manner of node:fs/promises. {@link pathFilesystem} makes one that
 * mounts like any other.
 */
export { type KnownNode, type PathCounters, type PathFilesystem, type PathTable, pathFilesystem } from './filesystem.ts';
export { PathOptionError, type PathOptions } from './options.ts';
export type {
  PathContext,
  PathEntry,
  PathHandle,
  PathListing,
  PathOpenReply,
  PathSource,
  PathStats,
  PathType,
  TypeQuestions,
} from './source.ts';
export type { HeldNode, Pressure } from './tree.ts';
