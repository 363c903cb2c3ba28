/** What all operations share: the source, the tree, the locks, the open files, and how an entry is put together. */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type AttributesInit,
  type Entry,
  ERRNO,
  errnoOf,
  type FileHandle,
  FuseError,
  type Kernel,
  type NodeId,
} from '../filesystem/index.ts';
import { BufferedHandle, type Content } from './buffered.ts';
import type { OpenDirectory } from './listing.ts';
import { type Lease, TreeLocks } from './locks.ts';
import type { PathNode } from './node.ts';
import { type Limits, limitsOf, type PathOptions } from './options.ts';
import type { PathContext, PathHandle, PathSource } from './source.ts';
import { type Facts, factsOf, isAbsence, translated } from './stats.ts';
import { type Pressure, Tree } from './tree.ts';

/** Numbers for files on other devices than the root's start here, far from those that filesystems give. */
const FOREIGN_INODES = 1n << 62n;

/** Nodes of one notification: 8 bytes each, in a message well below any limit of the kernel's. */
const PRUNED_AT_ONCE = 1024;
/** The kernel's FORGETs come after other requests. */
const FORGETS_MS = 10;

export interface OpenFile {
  readonly node: PathNode;
  readonly handle: PathHandle;
  /** Openings that use the handle: more than one only for a file without a name. It is closed with the last. */
  readonly share: { openings: number };
}

export class Core {
  readonly source: PathSource;
  readonly options: PathOptions;
  readonly limits: Limits;
  readonly tree: Tree;
  readonly locks: TreeLocks;
  /** Contents of open files of a source without open. */
  readonly contents = new Map<PathNode, Content>();
  readonly #open = new Map<number, OpenFile | OpenDirectory>();
  #lastHandle = 0;
  /** The kernel gathers writes: handles are read too, and the end of file is the kernel's to know. */
  writeback = false;
  /** To notify; undefined before the mount is up. */
  kernel: Kernel | undefined = undefined;

  constructor(source: PathSource, options: PathOptions) {
    this.source = source;
    this.options = options;
    this.limits = limitsOf(options);
    const { maxNodes, maxIdleNodes } = this.limits;
    const onPressure = options.onPressure ?? ((pressure: Pressure) => void this.#relieve(pressure));
    this.tree = new Tree({ maxNodes, maxIdleNodes, onPressure });
    this.locks = new TreeLocks(this.limits.maxWaiting);
  }

  #relieving = false;

  /**
   * Asks the kernel to let go of what was looked up longest ago, down to seven eighths of the limit; again until that is
   * reached or nothing more goes, because everything is in use.
   */
  async #relieve({ limit, oldest }: Pressure): Promise<void> {
    const { kernel, tree } = this;
    if (kernel === undefined || this.#relieving) return;
    this.#relieving = true;
    const referenced = () => tree.size - tree.idle;
    for (let before = Number.POSITIVE_INFINITY; referenced() > limit && referenced() < before; ) {
      before = referenced();
      const held = oldest(Math.min(PRUNED_AT_ONCE, before - Math.floor((limit * 7) / 8)));
      // Older kernels know no pruning; dropping the names does the same where nobody uses them.
      await kernel
        .prune(held.map(({ node }) => node))
        .catch(() => Promise.allSettled(held.map(({ parent, name }) => kernel.invalidateEntry(parent, name))));
      await sleep(FORGETS_MS, undefined, { ref: false });
    }
    this.#relieving = false;
  }

  // --- doing things under locks ----------------------------------------------------------------------------------------

  /** Runs `body` while it holds what `plan` asks for. */
  async locked<T>(context: PathContext, plan: (lease: Lease) => void, body: () => Promise<T>): Promise<T> {
    const granted = this.locks.acquire(context, plan);
    const lease = granted instanceof Promise ? await granted : granted;
    try {
      return await body();
    } catch (error) {
      throw translated(error);
    } finally {
      this.locks.release(lease);
    }
  }

  /**
   * Runs `work` on a path of the node. When the name turns out to be gone and there is another, that one is tried. Throws
   * {@link PathNode.absence} for a node without a name.
   */
  async onPath<T>(id: NodeId, context: PathContext, work: (path: string, node: PathNode) => Promise<T>): Promise<T> {
    for (;;) {
      const node = this.tree.get(id);
      const { parent, name } = node;
      try {
        return await this.locked(
          context,
          (lease) => (node.hasName ? lease.path(node) : fail(node.absence)),
          () => work(this.tree.path(node) ?? fail(ERRNO.ENOENT), node),
        );
      } catch (error) {
        if (!isAbsence(error) || node.otherLinks === undefined || node.parent !== parent || node.name !== name) throw error;
        this.tree.detach(parent!, name);
      }
    }
  }

  /** The path of `name` in a directory. Throws EINVAL for what is no name of an entry. */
  below(directory: PathNode, name: string): string {
    if (name === '' || name === '.' || name === '..' || name.includes('/')) throw FuseError.of(ERRNO.EINVAL);
    const path = this.tree.path(directory) ?? fail(ERRNO.ENOENT);
    return path === '/' ? `/${name}` : `${path}/${name}`;
  }

  directory(id: NodeId): PathNode {
    const node = this.tree.get(id);
    if (!node.isDirectory) throw FuseError.of(ERRNO.ENOTDIR);
    return node;
  }

  assertWritable(): void {
    if (this.options.readOnly) throw FuseError.of(ERRNO.EROFS);
  }

  /** A method that a change needs. Without it: EROFS. */
  changer<Name extends keyof PathSource>(name: Name, otherwise: number = ERRNO.EROFS): NonNullable<PathSource[Name]> {
    this.assertWritable();
    const method = this.source[name];
    if (method === undefined) throw FuseError.of(otherwise);
    return method.bind(this.source) as NonNullable<PathSource[Name]>;
  }

  // --- attributes ------------------------------------------------------------------------------------------------------

  async facts(path: string, context: PathContext): Promise<Facts> {
    const { source } = this;
    if (source.lstat !== undefined) return factsOf(await source.lstat(path, context));
    if (source.stat !== undefined) return factsOf(await source.stat(path, context));
    // Sources of a few lines know their directories and files by what can be done with them.
    throw FuseError.of(ERRNO.EOPNOTSUPP);
  }

  /** The node for a name just described, and its attributes as the kernel shall see them. Counts nothing yet. */
  attach(directory: PathNode, name: string, facts: Facts): PathNode {
    const node = this.tree.attach(directory, name, facts);
    this.finish(node, facts);
    return node;
  }

  /** Remembers fresh facts of a node; answers its attributes. */
  learn(node: PathNode, facts: Facts): AttributesInit {
    if (facts.type !== node.type) {
      // Another file under this name by now: the kernel has to look it up again.
      throw FuseError.of(ERRNO.ESTALE);
    }
    this.tree.learn(node, facts);
    return this.finish(node, facts);
  }

  finish(node: PathNode, facts: Facts): AttributesInit {
    const { attributes } = facts;
    attributes.ino = this.inode(node, facts);
    const content = this.contents.get(node);
    if (content !== undefined) attributes.size = content.size;
    if (node.hidden !== undefined) attributes.nlink = Math.max(0, facts.nlink - 1);
    return attributes;
  }

  inode(node: PathNode, facts: Facts): number | bigint {
    if (facts.ino === undefined || this.options.inodes === 'own') return node.id;
    return this.tree.isForeign(facts) ? FOREIGN_INODES + BigInt(node.id) : facts.ino;
  }

  /** An entry that goes to the kernel: counted. */
  counted(node: PathNode): Entry {
    this.tree.count(node);
    return this.entry(node);
  }

  entry(node: PathNode): Entry {
    return { node: node.id, attributes: node.seen };
  }

  // --- open files ------------------------------------------------------------------------------------------------------

  /** Throws ENFILE at the limit; asked before something is opened. */
  assertRoom(): void {
    if (this.#open.size >= this.limits.maxOpenFiles) throw FuseError.of(ERRNO.ENFILE);
  }

  add(opening: OpenFile | OpenDirectory): number {
    this.#open.set(++this.#lastHandle, opening);
    this.tree.opened(opening.node);
    return this.#lastHandle;
  }

  file(handle: FileHandle): OpenFile {
    const opening = this.#open.get(handle);
    if (opening === undefined || !('handle' in opening)) throw FuseError.of(ERRNO.EBADF);
    return opening;
  }

  openDirectory(handle: FileHandle): OpenDirectory {
    const opening = this.#open.get(handle);
    if (opening === undefined || 'handle' in opening) throw FuseError.of(ERRNO.EBADF);
    return opening;
  }

  /** An opening of a node through which more can be done than by its path. */
  openingOf(node: PathNode): OpenFile | undefined {
    if (node.openings === 0) return undefined;
    for (const opening of this.#open.values()) if (opening.node === node && 'handle' in opening) return opening;
    return undefined;
  }

  drop(handle: FileHandle): OpenFile | OpenDirectory | undefined {
    const opening = this.#open.get(handle);
    if (opening === undefined) return undefined;
    this.#open.delete(handle);
    this.tree.closed(opening.node);
    return opening;
  }

  get openings(): ReadonlyMap<number, OpenFile | OpenDirectory> {
    return this.#open;
  }

  /** Hands a buffered file's contents to the source, when they changed and the file still has a name. */
  async save(id: NodeId, handle: PathHandle, context: PathContext): Promise<void> {
    if (!(handle instanceof BufferedHandle) || !handle.content.dirty) return;
    const { content } = handle;
    if (!this.tree.get(id).hasName) return;
    const write = this.changer('writeFile');
    await this.onPath(id, context, async (path) => {
      const { version } = content;
      await write(path, content.bytes(), context);
      if (content.version === version) content.dirty = false;
    });
  }
}

export function fail(errno: number): never {
  throw FuseError.of(errno);
}

/** Whether a source refused what it cannot do, or may not, where the library only tried to help. */
export function isRefusal(error: unknown): boolean {
  const errno = errnoOf(translated(error));
  return [ERRNO.EPERM, ERRNO.EACCES, ERRNO.EOPNOTSUPP, ERRNO.EINVAL, ERRNO.EROFS].includes(errno);
}
