/** What the main thread makes before the workers start, and takes away after the last one ended. */
import { loadAddon, toBinary } from 'fusewire/native';
import { Host } from './host.ts';
import { InodeTable } from './inode-table.ts';
import { AT_FDCWD, ENOENT, ENOTDIR, O_DIRECTORY, O_PATH } from './linux.ts';
import { LockTable } from './lock-table.ts';
import { LockWaits } from './lock-waits.ts';
import { Nodes } from './nodes.ts';
import { OpenFiles } from './open-files.ts';
import { completeOptions, PassthroughError, type PassthroughOptions, type PassthroughShared } from './options.ts';
import { Stat } from './stat.ts';

/**
 * Descriptors besides one for each node: open files, and what the process needs for itself. Where the system allows fewer
 * descriptors in all, an eighth of them is kept back, so that files can be opened when no more can be looked up.
 */
const DESCRIPTORS_BESIDES = 1 << 16;

function nodesWithin(maxNodes: number, descriptorsMax: number): number {
  return Math.max(1, Math.min(maxNodes, descriptorsMax - Math.min(DESCRIPTORS_BESIDES, descriptorsMax >>> 3)));
}

/** Opens the source and reserves the tables. Throws {@link PassthroughError}. */
export function shared(given: PassthroughOptions): PassthroughShared {
  const options = completeOptions(given);
  const addon = loadAddon();
  const root = openSource(options.source);
  const links = addon.openat(AT_FDCWD, '/proc/self/fd', O_PATH | O_DIRECTORY, 0);
  if (links < 0) {
    addon.close(root);
    throw new PassthroughError('ERR_FUSEWIRE_PROC', 'the passthrough needs /proc: mount it and try again');
  }
  const descriptorsMax = addon.raiseOpenFileLimit(options.maxNodes + DESCRIPTORS_BESIDES);
  const maxNodes = nodesWithin(options.maxNodes, descriptorsMax);
  const inodes = InodeTable.reserve(maxNodes);
  const locks = LockTable.reserve(options.maxLockOwners);
  const table = new InodeTable(inodes, maxNodes);
  const nodes = new Nodes(new Host(addon, links), table, new LockTable(locks, options.maxLockOwners, table), new Stat(addon));
  // The first node entered is node 1, which is the root of every FUSE filesystem.
  nodes.adopt(root);
  return {
    inodes,
    locks,
    lockWaits: LockWaits.reserve(),
    openFiles: OpenFiles.reserve(descriptorsMax),
    maxNodes,
    maxLockOwners: options.maxLockOwners,
    cache: options.cache,
    noAccessTimes: options.noAccessTimes,
    // The kernel opens the host's file with the caller's flags, and so moves its access times.
    backing: options.backing && !options.noAccessTimes,
    links,
    // The caller's umask is the one that counts, and the process has only one for all its threads.
    formerUmask: addon.umask(0),
  };
}

/** Closes everything: the kernel sends neither FORGET nor, after an abort, RELEASE for what it still knew. */
export function sharedEnd(given: PassthroughShared): void {
  const addon = loadAddon();
  const inodes = new InodeTable(given.inodes, given.maxNodes);
  const locks = new LockTable(given.locks, given.maxLockOwners, inodes);
  for (const fd of new OpenFiles(given.openFiles).descriptors()) addon.close(fd);
  for (const fd of locks.descriptors()) addon.close(fd);
  for (const fd of inodes.descriptors()) addon.close(fd);
  addon.close(given.links);
  addon.umask(given.formerUmask);
}

function openSource(source: string): number {
  const fd = loadAddon().openat(AT_FDCWD, toBinary(source), O_PATH | O_DIRECTORY, 0);
  if (fd >= 0) return fd;
  const why: Record<number, string> = {
    [-ENOENT]: 'does not exist: create it or name another one',
    [-ENOTDIR]: 'is no folder: name a folder',
  };
  throw new PassthroughError('ERR_FUSEWIRE_SOURCE', `the source ${source} ${why[fd] ?? `cannot be opened (errno ${-fd})`}`);
}
