import { type AttributesInit, ERRNO, type NodeId } from '../filesystem/index.ts';
import { S_IFDIR, S_IFMT } from './linux.ts';

/** One name of a node. */
export interface Link {
  readonly parent: PathNode;
  readonly name: string;
}

/** A file that the kernel, an opening or the cache of idle nodes knows. Its state is the tree's and the locks' to change. */
export class PathNode {
  readonly id: NodeId;
  readonly isRoot: boolean;
  /** What the source last said of it. */
  seen: AttributesInit;
  /** Identity in the source, where it has one; see keyOf in tree.ts. */
  key: number | bigint | string | undefined;

  /** Its names: the first one inline, because nearly every file has just one. */
  parent: PathNode | undefined = undefined;
  name = '';
  otherLinks: Link[] | undefined = undefined;
  children: Map<string, PathNode> | undefined = undefined;
  /** Another file took its last name, so that there was never a moment without one. */
  wasReplaced = false;
  /** Counts changes of a directory's names that came through here. */
  changes = 0;

  /** How many times the kernel counts it. */
  lookups = 0;
  /** Open files and directories. */
  openings = 0;
  /** Where an open file went whose last name was removed, in the sources that need it. */
  hidden: Link | undefined = undefined;
  /** Names in this directory that are hidden files. */
  hiddenNames: Set<string> | undefined = undefined;

  // What the locks know: see locks.ts.
  users = 0;
  alone = false;
  readers = 0;
  writing = false;
  wanted = 0;
  wantedIn = 0;

  constructor(id: NodeId, seen: AttributesInit, isRoot = false) {
    this.id = id;
    this.seen = seen;
    this.isRoot = isRoot;
  }

  /** S_IFMT bits. */
  get type(): number {
    return this.seen.mode & S_IFMT;
  }

  get isDirectory(): boolean {
    return this.type === S_IFDIR;
  }

  get hasName(): boolean {
    return this.isRoot || this.parent !== undefined;
  }

  /**
   * What somebody gets who found it by a name that is gone by now. Replaced: ESTALE makes the kernel walk the path again and find
   * the other file. Removed: ENOENT, because for a moment there was none.
   */
  get absence(): number {
    return this.wasReplaced ? ERRNO.ESTALE : ERRNO.ENOENT;
  }
}
