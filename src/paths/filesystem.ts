import type { Filesystem, FilesystemSettings, NodeId } from '../filesystem/index.ts';
import { Attributes } from './attributes.ts';
import { Core } from './core.ts';
import { Directories } from './directories.ts';
import { Files } from './files.ts';
import { NOBODY } from './locks.ts';
import { Names } from './names.ts';
import type { PathNode } from './node.ts';
import { PathOptionError, type PathOptions } from './options.ts';
import type { PathSource } from './source.ts';

/** How much is kept. */
export interface PathCounters {
  /** Nodes in the table, the root included. */
  nodes: number;
  /** Of them, those that nothing but the table knows. */
  idleNodes: number;
  /** Open files and directories. */
  openings: number;
  /** Requests that wait for others. */
  waiting: number;
}

/** Where a known node stands. */
export interface KnownNode {
  readonly node: NodeId;
  /** The node of its directory; undefined for the root. */
  readonly parent: NodeId | undefined;
  readonly name: string;
  /** Whether the kernel references it. */
  readonly held: boolean;
}

/**
 * Between paths and nodes; and what changed without the kernel's doing. Of the latter the kernel is told only where it may hold
 * something. Change first, then tell. Never await one inside a method that serves the same file or directory.
 */
export interface PathTable {
  /** Contents or attributes changed. */
  changed(path: string): Promise<void>;
  /** A name is gone. */
  removed(path: string): Promise<void>;
  /** A name is new, or names something else now. */
  added(path: string): Promise<void>;
  /** What the library knows of a path. Undefined: the kernel knows nothing of it. */
  known(path: string): KnownNode | undefined;
  /** The paths of a node: none for an open file without a name, several for hard links. Throws ESTALE for one that is not known. */
  of(node: NodeId): readonly string[];
  readonly counters: PathCounters;
}

/** A filesystem made from paths, with what is needed to tell the kernel of changes. Mount it as any other. */
export interface PathFilesystem extends Filesystem {
  readonly settings: FilesystemSettings;
  readonly paths: PathTable;
}

/**
 * Makes a filesystem of methods with paths. The library keeps the node table, the lookup counts, the order of changes, and the
 * files that are open without a name. Throws {@link PathOptionError} for options that do not go together.
 *
 * Permissions are the mount's to check: mount with `default_permissions` unless `access` and the other methods do it.
 */
export function pathFilesystem(source: PathSource, options: PathOptions = {}): PathFilesystem {
  if (source.lstat === undefined && source.stat === undefined) {
    throw new PathOptionError('a path filesystem needs lstat or stat; write one that answers the type of each path');
  }
  if (options.unlinkOpen === 'hide' && source.rename === undefined) {
    throw new PathOptionError("unlinkOpen: 'hide' needs rename; write it, or let open handles serve files without a name");
  }
  const core = new Core(source, options);
  const names = new Names(core);
  const files = new Files(core, names);
  return {
    settings: settingsOf(source, options),
    init: async (negotiated, kernel) => {
      core.kernel = kernel;
      core.writeback = negotiated.flags.has('FUSE_WRITEBACK_CACHE');
      core.learn(core.tree.root, await core.facts('/', NOBODY));
    },
    destroy: () => files.closeAll(),
    ...namespaceMethods(core, names),
    ...nodeMethods(source, new Attributes(core)),
    ...fileMethods(source, files),
    ...directoryMethods(new Directories(core)),
    paths: tableOf(core),
  };
}

function tableOf(core: Core): PathTable {
  return {
    known: (path) => {
      const node = core.tree.find(path);
      return node && knownNode(node);
    },
    of: (node) => core.tree.paths(core.tree.get(node)),
    changed: async (path) => {
      const node = core.tree.find(path);
      if (node !== undefined && node.lookups > 0) await core.kernel?.changed(node.id);
    },
    removed: async (path) => {
      const { directory, name } = splitPath(core, path);
      const node = directory?.children?.get(name);
      if (directory !== undefined) await core.kernel?.removed(directory.id, name, node?.id);
    },
    added: async (path) => {
      const { directory, name } = splitPath(core, path);
      if (directory !== undefined) await core.kernel?.added(directory.id, name);
    },
    get counters() {
      const { size, idle } = core.tree;
      return { nodes: size, idleNodes: idle, openings: core.openings.size, waiting: core.locks.waiting };
    },
  };
}

/** A path's directory, when the kernel may hold names in it, and its last name. */
function splitPath(core: Core, path: string): { directory: PathNode | undefined; name: string } {
  const at = path.lastIndexOf('/');
  const directory = core.tree.find(path.slice(0, Math.max(at, 0)));
  return { directory: directory !== undefined && directory.lookups > 0 ? directory : undefined, name: path.slice(at + 1) };
}

function knownNode(node: PathNode): KnownNode {
  return { node: node.id, parent: node.parent?.id, name: node.name, held: node.lookups > 0 };
}

function settingsOf(source: PathSource, options: PathOptions): FilesystemSettings {
  const { entryTtl, attributeTtl, capabilities = [] } = options;
  // Opening passes O_TRUNC on, which spares a request; without open there is nothing to pass it to.
  const truncates = source.open !== undefined || source.readFile !== undefined;
  return {
    ...(entryTtl === undefined ? {} : { entryTtl }),
    ...(attributeTtl === undefined ? {} : { attributeTtl }),
    capabilities: truncates ? ['FUSE_ATOMIC_O_TRUNC', ...capabilities] : capabilities,
  };
}

function namespaceMethods(core: Core, names: Names) {
  return {
    lookup: names.lookup.bind(names),
    forget: core.tree.forget.bind(core.tree),
    mkdir: names.mkdir.bind(names),
    mknod: names.mknod.bind(names),
    symlink: names.symlink.bind(names),
    link: names.link.bind(names),
    unlink: names.unlink.bind(names),
    rmdir: names.rmdir.bind(names),
    rename: names.rename.bind(names),
  } satisfies Filesystem;
}

function nodeMethods(source: PathSource, attributes: Attributes): Filesystem {
  return {
    getattr: attributes.getattr.bind(attributes),
    setattr: attributes.setattr.bind(attributes),
    readlink: attributes.readlink.bind(attributes),
    ...(source.access && { access: (node, request) => attributes.access(node, request.mask, request) }),
    ...(source.statfs && { statfs: attributes.statfs.bind(attributes) }),
    ...(source.setxattr && { setxattr: attributes.setxattr.bind(attributes) }),
    ...(source.getxattr && { getxattr: attributes.getxattr.bind(attributes) }),
    ...(source.listxattr && { listxattr: attributes.listxattr.bind(attributes) }),
    ...(source.removexattr && { removexattr: attributes.removexattr.bind(attributes) }),
  };
}

function fileMethods(source: PathSource, files: Files): Filesystem {
  const flushes = source.flush !== undefined || (source.open === undefined && source.writeFile !== undefined);
  return {
    open: files.open.bind(files),
    create: files.create.bind(files),
    read: files.read.bind(files),
    write: files.write.bind(files),
    release: files.release.bind(files),
    fsync: files.fsync.bind(files),
    ...(flushes && { flush: files.flush.bind(files) }),
  };
}

function directoryMethods(directories: Directories): Filesystem {
  return {
    opendir: directories.opendir.bind(directories),
    readdir: (node, request, reply) => directories.list(node, request, reply, false),
    readdirplus: (node, request, reply) => directories.list(node, request, reply, true),
    releasedir: directories.releasedir.bind(directories),
    // Nothing of ours waits to be written.
    fsyncdir: () => {},
  };
}
