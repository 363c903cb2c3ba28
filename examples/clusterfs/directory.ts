/** The listing of one opening of a directory: as it was when it was last read from the beginning. */
import type { DirectoryReply, Entry, ReaddirRequest } from 'fusewire';
import { decodeInode, type Inode } from './meta/attributes.ts';
import type { Meta } from './meta/meta.ts';
import type { Node } from './nodes.ts';

interface Name {
  readonly name: string;
  readonly ino: number;
  readonly mode: number;
  /** The position after it, the same in every listing. */
  readonly position: number;
}

const S_IFDIR = 0o040000;
/** Positions after "." and ".."; names come behind them. */
const DOT = 1;
const DOT_DOT = 2;

/** A hash of 52 bits (two rounds of FNV-1a): names come and go, and the position of each stays. */
function positionOf(name: string): number {
  let low = 0x811c9dc5;
  let high = 0x01000193;
  for (let at = 0; at < name.length; at++) {
    const byte = name.charCodeAt(at);
    low = Math.imul(low ^ byte, 0x01000193);
    high = Math.imul(high ^ (byte + at), 0x811c9dc5);
  }
  return DOT_DOT + 1 + (low >>> 0) + ((high >>> 12) & 0xfffff) * 2 ** 32;
}

/** Index of the first name behind a position. */
function after(names: readonly Name[], position: number): number {
  let low = 0;
  for (let high = names.length; low < high; ) {
    const middle = (low + high) >>> 1;
    if (names[middle].position > position) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Attributes come with the names up to so many, and so many at a time after that. */
const ATTRIBUTES_MAX = 256;
const ATTRIBUTES_PAGE = 128;

export class Listing {
  readonly ino: number;
  readonly #meta: Meta;
  /** Names that were changed since they were listed. */
  readonly #changed = new Set<string>();
  #names: readonly Name[] = [];
  #parent = 1;
  #loaded = false;
  #namesStamp = -1;
  /** Attributes of names from an index on, and when they were asked for. */
  #inodes: readonly (Inode | undefined)[] = [];
  #inodesFrom = 0;
  #inodesAt = -1;

  constructor(meta: Meta, ino: number) {
    this.#meta = meta;
    this.ino = ino;
  }

  /** This mount changed a name: it must not come to life again in the kernel as it was. */
  distrust(name: string): void {
    this.#changed.add(name);
  }

  /**
   * Fills a reply. `clock` counts all changes that this mount hears of: what is older than the newest of them is not given to the
   * kernel as attributes.
   */
  async fill(
    node: Node,
    request: ReaddirRequest,
    reply: DirectoryReply,
    clock: () => number,
    entry?: (inode: Inode) => Entry,
  ): Promise<void> {
    const { offset, signal } = request;
    if (offset === 0 || !this.#loaded) await this.#load(node, clock, entry !== undefined, signal);
    const dots = [
      { name: '.', ino: node.ino, mode: S_IFDIR, offset: DOT },
      { name: '..', ino: this.#parent, mode: S_IFDIR, offset: DOT_DOT },
    ];
    for (const dot of dots) {
      if (offset >= dot.offset) continue;
      if (!(entry === undefined ? reply.add(dot) : reply.addPlus(dot, undefined))) return;
    }
    const names = this.#names;
    for (let at = after(names, offset); at < names.length; at++) {
      const { name, ino, mode, position } = names[at];
      const item = { name, ino, mode, offset: position };
      if (entry === undefined) {
        if (!reply.add(item)) return;
        continue;
      }
      // Asked first: an entry that does not fit must not be counted as looked up.
      if (!reply.fits(name.length)) return;
      const inode = await this.#inode(node, at, clock, signal);
      if (!reply.addPlus(item, inode === undefined ? undefined : entry(inode))) return;
    }
  }

  async #load(node: Node, clock: () => number, withAttributes: boolean, signal: AbortSignal): Promise<void> {
    this.#namesStamp = node.namesStamp;
    this.#changed.clear();
    this.#inodesAt = clock();
    const words = [String(node.ino), withAttributes ? String(ATTRIBUTES_MAX) : '0'];
    const [parent, names, inodes] = await this.#meta.read('list', words, signal);
    this.#parent = Number(parent as Buffer);
    const list = names as readonly Buffer[];
    const attributes = inodes as readonly (readonly Buffer[] | null)[];
    const found: (Name & { inode: Inode | undefined })[] = [];
    for (let at = 0; at < list.length; at += 2) {
      const name = list[at].toString('latin1');
      const [ino, mode] = list[at + 1].toString('latin1').split(' ').map(Number);
      const inode = attributes[at / 2];
      found.push({ name, ino, mode, position: positionOf(name), inode: inode ? decodeInode(inode) : undefined });
    }
    found.sort((one, other) => one.position - other.position);
    // Two of one hash: the later one moves on by one.
    for (let at = 1; at < found.length; at++) {
      if (found[at].position <= found[at - 1].position) found[at] = { ...found[at], position: found[at - 1].position + 1 };
    }
    this.#names = found;
    this.#inodes = attributes.length === 0 ? [] : found.map(({ inode }) => inode);
    this.#inodesFrom = 0;
    this.#loaded = true;
  }

  /** Attributes that are as new as can be, or undefined: then the kernel asks when it needs them. */
  async #inode(node: Node, index: number, clock: () => number, signal: AbortSignal): Promise<Inode | undefined> {
    // The name may be gone by now, and must not come to life again in the kernel.
    if (node.namesStamp !== this.#namesStamp || this.#changed.has(this.#names[index].name)) return undefined;
    const within = index >= this.#inodesFrom && index < this.#inodesFrom + this.#inodes.length;
    if (!within || this.#inodesAt !== clock()) {
      const at = clock();
      const page = this.#names.slice(index, index + ATTRIBUTES_PAGE);
      const [inodes] = await this.#meta.read(
        'attributes',
        page.map(({ ino }) => String(ino)),
        signal,
      );
      this.#inodes = (inodes as readonly (readonly Buffer[] | null)[]).map((one) =>
        one === null ? undefined : decodeInode(one),
      );
      this.#inodesFrom = index;
      this.#inodesAt = at;
      const changed = node.namesStamp !== this.#namesStamp || this.#changed.has(this.#names[index].name);
      if (at !== clock() || changed) return undefined;
    }
    return this.#inodes[index - this.#inodesFrom];
  }
}
