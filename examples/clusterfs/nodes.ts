/** What a mount knows of files that its kernel knows, has open, or has written to. */
import type { Timespec } from 'fusewire';
import { Content, type ContentContext, type FileState } from './data/content.ts';
import type { Inode } from './meta/attributes.ts';

export class Node implements FileState {
  readonly ino: number;
  inode: Inode | undefined;
  stamp = 0;
  /** How often the kernel was told of it and has not forgotten it. */
  lookups = 0;
  /** Openings of a file. While there is one, the server keeps the file for this session. */
  opens = 0;
  /** When it was last read, where the server does not know that yet. */
  atime: Timespec | undefined;
  /** The server is being told that this mount has it open no more. */
  closing: Promise<void> | undefined;
  content: Content | undefined;
  /** The kernel is being told of what others changed. */
  told: Promise<void> | undefined;
  /** It is gone from the volume; the kernel still has it, as a working directory or by O_PATH. */
  ghost = false;
  /** Counts changes of the names in a directory. */
  namesStamp = 0;
  /** Who may hold locks: `p OWNER` or `f OWNER`, and the handles by which they were had. */
  locks: Map<string, Set<number>> | undefined;
  /** Locks were lost with a session: who trusted in them must not go on. */
  locksLost = false;

  constructor(ino: number) {
    this.ino = ino;
  }

  /** Somebody else changed its contents or attributes, or may have. */
  changed(): void {
    this.stamp++;
    this.inode = undefined;
    this.content?.invalidate();
  }

  get idle(): boolean {
    return (
      this.lookups <= 0 &&
      this.opens === 0 &&
      this.closing === undefined &&
      this.atime === undefined &&
      this.content?.dirty !== true
    );
  }
}

export class Nodes {
  readonly #context: ContentContext;
  readonly #nodes = new Map<number, Node>();

  constructor(context: ContentContext) {
    this.#context = context;
  }

  find(ino: number): Node | undefined {
    return this.#nodes.get(ino);
  }

  get(ino: number): Node {
    let node = this.#nodes.get(ino);
    if (node === undefined) {
      node = new Node(ino);
      this.#nodes.set(ino, node);
    }
    return node;
  }

  content(node: Node): Content {
    node.content ??= new Content(node, this.#context);
    return node.content;
  }

  /** Takes over what the server said of a file; `stamp` is the node's from before it was asked. */
  learn(inode: Inode, stamp: number | undefined): Node {
    const node = this.get(inode.ino);
    if (stamp !== undefined && stamp !== node.stamp) return node;
    if (node.inode !== undefined && inode.rev < node.inode.rev) return node;
    if (node.content !== undefined) node.content.learn(inode);
    else node.inode = inode;
    return node;
  }

  /** Forgets what nobody needs. */
  settle(node: Node): void {
    if (node.idle && node.ino !== 1) this.#nodes.delete(node.ino);
  }

  [Symbol.iterator](): IterableIterator<Node> {
    return this.#nodes.values();
  }
}
