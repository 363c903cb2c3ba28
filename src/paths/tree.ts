/**
 * The node table: which node ids stand for which names. Node ids are never used twice. A rename moves one node; all that is
 * below follows, because a path is put together from parents whenever it is needed.
 */
import { ERRNO, FuseError, type NodeId, nodeId, ROOT_NODE } from '../filesystem/index.ts';
import { S_IFDIR } from './linux.ts';
import { type Link, PathNode } from './node.ts';
import type { Facts } from './stats.ts';

/** A node that the kernel holds, as a hook may show it: a name to invalidate. */
export interface HeldNode {
  readonly node: NodeId;
  readonly parent: NodeId;
  readonly name: string;
}

/** More nodes are referenced by the kernel than {@link TreeLimits.maxNodes}. */
export interface Pressure {
  /** Nodes that the kernel references. */
  readonly nodes: number;
  readonly limit: number;
  /**
   * The nodes that were looked up longest ago and are neither open nor directories with known children, at most `count`:
   * ask the kernel to forget these names, and FORGET will come for them.
   */
  oldest(count: number): HeldNode[];
}

export interface TreeLimits {
  maxNodes: number;
  maxIdleNodes: number;
  onPressure: ((pressure: Pressure) => void) | undefined;
}

export class Tree {
  readonly root: PathNode;
  readonly #nodes = new Map<number, PathNode>();
  readonly #idle = new Set<PathNode>();
  readonly #byKey = new Map<number | bigint | string, PathNode>();
  readonly #limits: TreeLimits;
  #lastId: number = ROOT_NODE;
  #rootDevice: number | bigint | undefined;
  #pressureAt: number;
  #pressing = false;

  constructor(limits: TreeLimits) {
    this.#limits = limits;
    this.#pressureAt = limits.maxNodes;
    this.root = new PathNode(ROOT_NODE, { mode: S_IFDIR | 0o755, nlink: 2 }, true);
    this.root.lookups = 1;
    this.#nodes.set(ROOT_NODE, this.root);
  }

  get size(): number {
    return this.#nodes.size;
  }

  get idle(): number {
    return this.#idle.size;
  }

  // --- finding ---------------------------------------------------------------------------------------------------------

  /** Throws ESTALE for a node that is not known (any more). */
  get(id: NodeId): PathNode {
    const node = this.#nodes.get(id);
    if (node === undefined) throw FuseError.of(ERRNO.ESTALE);
    return node;
  }

  /** The known node at a path; undefined when the library does not know one. */
  find(path: string): PathNode | undefined {
    let node: PathNode | undefined = this.root;
    for (const name of path.split('/')) if (name !== '') node = node?.children?.get(name);
    return node;
  }

  /** The path by its first name; undefined when it has none. */
  path(node: PathNode): string | undefined {
    let path = '';
    for (let at = node; !at.isRoot; at = at.parent) {
      if (at.parent === undefined) return undefined;
      path = `/${at.name}${path}`;
    }
    return path === '' ? '/' : path;
  }

  /** All its names, as paths. */
  paths(node: PathNode): string[] {
    const first = this.path(node);
    const found = first === undefined ? [] : [first];
    for (const { parent, name } of node.otherLinks ?? []) {
      const above = this.path(parent);
      if (above !== undefined) found.push(above === '/' ? `/${name}` : `${above}/${name}`);
    }
    return found;
  }

  // --- names -----------------------------------------------------------------------------------------------------------

  /** The node for a name that the source has just described: the known one, another name of a known one, or a new one. */
  attach(directory: PathNode, name: string, facts: Facts): PathNode {
    const key = this.#keyOf(facts);
    const standing = directory.children?.get(name);
    if (standing !== undefined) {
      if (standing.type === facts.type && (standing.key === undefined || key === undefined || standing.key === key)) {
        this.learn(standing, facts);
        return standing;
      }
      // Another file than before, which did not come about through here.
      this.detach(directory, name);
    }
    let node = key === undefined || facts.type === S_IFDIR ? undefined : this.#byKey.get(key);
    if (node !== undefined && (node.type !== facts.type || !mayHaveMoreNames(node, facts))) node = undefined;
    if (node === undefined) {
      node = new PathNode(nodeId(++this.#lastId), facts.attributes);
      this.#nodes.set(node.id, node);
    }
    this.learn(node, facts);
    this.addLink(node, directory, name);
    this.#rest(node);
    return node;
  }

  /** Remembers what the source said of a node. */
  learn(node: PathNode, facts: Facts): void {
    node.seen = facts.attributes;
    if (node.isRoot) {
      this.#rootDevice = facts.dev;
      return;
    }
    const key = this.#keyOf(facts);
    if (key === undefined) return;
    if (node.key !== undefined && node.key !== key && this.#byKey.get(node.key) === node) this.#byKey.delete(node.key);
    node.key = key;
    if (facts.type !== S_IFDIR) this.#byKey.set(key, node);
  }

  /** Inode numbers count within their device; most filesystems have just the root's. */
  #keyOf({ ino, dev }: Facts): number | bigint | string | undefined {
    if (ino === undefined || dev === undefined || dev === this.#rootDevice || this.#rootDevice === undefined) return ino;
    return `${dev}:${ino}`;
  }

  /** Whether the file lies on another device than the root, where its inode number may be that of another file here. */
  isForeign({ dev }: Facts): boolean {
    return dev !== undefined && this.#rootDevice !== undefined && dev !== this.#rootDevice;
  }

  addLink(node: PathNode, directory: PathNode, name: string): void {
    directory.children ??= new Map();
    directory.children.set(name, node);
    if (node.parent === undefined) {
      node.parent = directory;
      node.name = name;
    } else {
      node.otherLinks ??= [];
      node.otherLinks.push({ parent: directory, name });
    }
  }

  /** Takes a name away; the node stays while it is referenced. Answers it. */
  detach(directory: PathNode, name: string): PathNode | undefined {
    const node = directory.children?.get(name);
    if (node === undefined) return undefined;
    directory.children!.delete(name);
    if (node.parent === directory && node.name === name) {
      const next = node.otherLinks?.shift();
      node.parent = next?.parent;
      node.name = next?.name ?? '';
    } else {
      const index = node.otherLinks?.findIndex((link) => link.parent === directory && link.name === name) ?? -1;
      if (index >= 0) node.otherLinks!.splice(index, 1);
    }
    if (node.otherLinks?.length === 0) node.otherLinks = undefined;
    this.#rest(node);
    this.#rest(directory);
    return node;
  }

  /** A name was removed through here: after the last one the inode number may be used for another file. */
  remove(directory: PathNode, name: string): PathNode | undefined {
    const node = this.detach(directory, name);
    if (node === undefined) return undefined;
    const left = Math.max(0, (node.seen.nlink ?? 1) - 1);
    node.seen = { ...node.seen, nlink: node.isDirectory ? 0 : left };
    if ((left === 0 || node.isDirectory) && !node.hasName) this.#forgetKey(node);
    return node;
  }

  move(from: PathNode, name: string, to: PathNode, newName: string): void {
    if (from === to && name === newName) return;
    const node = from.children?.get(name);
    const replaced = this.remove(to, newName);
    if (replaced !== undefined) replaced.wasReplaced = !replaced.hasName;
    if (node === undefined) return;
    this.#relink(node, from, name, { parent: to, name: newName });
    from.children!.delete(name);
    to.children ??= new Map();
    to.children.set(newName, node);
    this.#rest(from);
  }

  exchange(from: PathNode, name: string, to: PathNode, newName: string): void {
    const one = from.children?.get(name);
    const other = to.children?.get(newName);
    if (one === other) return;
    if (one !== undefined) this.#relink(one, from, name, { parent: to, name: newName });
    if (other !== undefined) this.#relink(other, to, newName, { parent: from, name });
    from.children?.delete(name);
    to.children?.delete(newName);
    if (one !== undefined) {
      to.children ??= new Map();
      to.children.set(newName, one);
    }
    if (other !== undefined) {
      from.children ??= new Map();
      from.children.set(name, other);
    }
  }

  #relink(node: PathNode, parent: PathNode, name: string, link: Link): void {
    if (node.parent === parent && node.name === name) {
      node.parent = link.parent;
      node.name = link.name;
      return;
    }
    const index = node.otherLinks?.findIndex((other) => other.parent === parent && other.name === name) ?? -1;
    if (index >= 0) node.otherLinks![index] = link;
  }

  #forgetKey(node: PathNode): void {
    if (node.key !== undefined && this.#byKey.get(node.key) === node) this.#byKey.delete(node.key);
    node.key = undefined;
  }

  // --- counts ----------------------------------------------------------------------------------------------------------

  /** The kernel counts it once more. */
  count(node: PathNode): void {
    node.lookups++;
    this.#idle.delete(node);
    if (this.#nodes.size * 2 > this.#limits.maxNodes && !node.isRoot) {
      // Youngest last, from where it begins to matter.
      this.#nodes.delete(node.id);
      this.#nodes.set(node.id, node);
      if (this.#nodes.size - this.#idle.size > this.#pressureAt) this.#press();
    }
  }

  /** Unknown nodes and too large counts change nothing. */
  forget(id: NodeId, count: number): void {
    const node = this.#nodes.get(id);
    if (node === undefined || node.isRoot) return;
    node.lookups = Math.max(0, node.lookups - count);
    this.#rest(node);
    if (this.#nodes.size - this.#idle.size <= this.#limits.maxNodes) this.#pressureAt = this.#limits.maxNodes;
  }

  opened(node: PathNode): void {
    node.openings++;
    this.#idle.delete(node);
  }

  closed(node: PathNode): void {
    node.openings--;
    this.#rest(node);
  }

  /** A node that nobody references any more waits among the idle ones; without a name it goes at once. */
  #rest(node: PathNode): void {
    if (!isUnreferenced(node)) return;
    if (!node.hasName) {
      this.#drop(node);
      return;
    }
    this.#idle.delete(node);
    this.#idle.add(node);
    if (this.#idle.size <= this.#limits.maxIdleNodes) return;
    for (const oldest of this.#idle) {
      // The newest stays: whoever made it is about to use it.
      if (this.#idle.size <= this.#limits.maxIdleNodes || oldest === node) break;
      this.#idle.delete(oldest);
      if (isUnreferenced(oldest) && oldest.users === 0 && oldest.readers === 0) this.#drop(oldest);
    }
  }

  #drop(node: PathNode): void {
    this.#idle.delete(node);
    this.#forgetKey(node);
    this.#nodes.delete(node.id);
    const links = node.otherLinks ?? [];
    if (node.parent !== undefined) links.push({ parent: node.parent, name: node.name });
    node.parent = undefined;
    node.otherLinks = undefined;
    for (const { parent, name } of links) {
      if (parent.children?.get(name) === node) parent.children.delete(name);
      this.#rest(parent);
    }
  }

  #press(): void {
    const { onPressure, maxNodes } = this.#limits;
    if (onPressure === undefined || this.#pressing) return;
    this.#pressing = true;
    // Off the thread of the request, and not again before the table has grown by a sixteenth.
    setImmediate(() => {
      this.#pressing = false;
      const nodes = this.#nodes.size - this.#idle.size;
      this.#pressureAt = Math.max(maxNodes, nodes) + Math.max(1, maxNodes >>> 4);
      onPressure({ nodes, limit: maxNodes, oldest: (count) => this.#oldest(count) });
    });
  }

  #oldest(count: number): HeldNode[] {
    const found: HeldNode[] = [];
    for (const node of this.#nodes.values()) {
      if (found.length >= count) break;
      if (node.isRoot || node.parent === undefined || node.lookups === 0) continue;
      if (node.openings > 0 || (node.children?.size ?? 0) > 0) continue;
      found.push({ node: node.id, parent: node.parent.id, name: node.name });
    }
    return found;
  }
}

/** A directory with known children stays: their paths lead through it. */
function isUnreferenced(node: PathNode): boolean {
  if (node.isRoot || node.lookups > 0 || node.openings > 0) return false;
  return node.children === undefined || node.children.size === 0;
}

/**
 * Whether a file found under another name may be the node that has its inode number: a number alone may have been used
 * again for a new file.
 */
function mayHaveMoreNames(node: PathNode, facts: Facts): boolean {
  return facts.nlink > 1 || (node.seen.nlink ?? 1) > 1 || !node.hasName;
}
