/**
 * The kernel's half of a filesystem, in this process: walks paths by lookup, counts what it looked up and forgets it again,
 * and makes the requests.
 */
import {
  type AttributesInit,
  capabilitiesOf,
  type Entry,
  ERRNO,
  type Filesystem,
  FuseError,
  type Kernel,
  type NegativeEntry,
  type Negotiated,
  type NodeId,
  type Request,
  ROOT_NODE,
} from '../filesystem/index.ts';
import { Mutexes } from './mutex.ts';

/** Symbolic links on one path, as Linux counts them (MAXSYMLINKS). */
const LINKS_MAX = 40;
const NAME_MAX = 255;
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;

/** There are no caches here that a notification could concern. */
const nothing = async (): Promise<void> => {};
const NO_KERNEL: Kernel = {
  changed: nothing,
  removed: nothing,
  added: nothing,
  invalidateData: nothing,
  invalidateAttributes: nothing,
  invalidateEntry: nothing,
  store: nothing,
  retrieve: async () => new Uint8Array(0),
  prune: nothing,
  expireAll: nothing,
  resend: nothing,
  wakePoll: nothing,
};

export interface Identity {
  /** Default: this process's. */
  uid?: number;
  gid?: number;
  groups?: readonly number[];
  pid?: number;
  /** Taken off the mode of new files. Default 0o022. */
  umask?: number;
}

export interface Found {
  readonly node: NodeId;
  readonly attributes: AttributesInit;
}

/** Where a path leads: a name in a directory, and what is there. */
export interface Place {
  /** Nodes from the root to the directory. */
  readonly chain: readonly Found[];
  /** Empty for the root itself, and for a path that ends in a dot. */
  readonly name: string;
  readonly found: Found | undefined;
  /** The path ends with a slash. */
  readonly wantsDirectory: boolean;
}

export const typeBits = (attributes: AttributesInit): number => attributes.mode & S_IFMT;
export const isDirectory = (found: Found | undefined): boolean => found !== undefined && typeBits(found.attributes) === S_IFDIR;
export const isLink = (found: Found | undefined): boolean => found !== undefined && typeBits(found.attributes) === S_IFLNK;
export const parentOf = (place: Place): NodeId => place.chain.at(-1)!.node;

/** What one operation looked up: forgotten at its end. */
export class Hold {
  readonly counts = new Map<NodeId, number>();

  add(node: NodeId): void {
    this.counts.set(node, (this.counts.get(node) ?? 0) + 1);
  }

  /** One count goes over to somebody who forgets it himself. */
  handOver(node: NodeId): void {
    this.counts.set(node, (this.counts.get(node) ?? 1) - 1);
  }
}

export class Walker {
  readonly filesystem: Filesystem;
  readonly umask: number;
  readonly mutexes = new Mutexes();
  readonly #end = new AbortController();
  readonly #asks: Omit<Request, 'operation'>;
  #ready: Promise<void> | undefined;
  #ended: Promise<void> | undefined;

  constructor(filesystem: Filesystem, identity: Identity) {
    this.filesystem = filesystem;
    this.umask = identity.umask ?? 0o022;
    const groups = identity.groups ?? [];
    this.#asks = {
      uid: identity.uid ?? process.getuid?.() ?? 0,
      gid: identity.gid ?? process.getgid?.() ?? 0,
      pid: identity.pid ?? process.pid,
      signal: this.#end.signal,
      groups: () => groups,
      securityContexts: () => [],
      resent: false,
    };
  }

  /** A request of this client. */
  ask<Fields extends object>(operation: string, fields: Fields): Request & Fields {
    return { ...this.#asks, operation, ...fields };
  }

  /** Whether the filesystem does its part of an INIT flag. */
  has(flag: 'FUSE_ATOMIC_O_TRUNC' | 'FUSE_DONT_MASK'): boolean {
    return this.filesystem.settings?.capabilities?.includes(flag) ?? false;
  }

  /** A name as the filesystem takes it: with `nameEncoding: 'binary'` one character a byte. */
  encoded(name: string): string {
    return this.#isBinary ? Buffer.from(name).toString('latin1') : name;
  }

  /** A name of the filesystem as text; what is no UTF-8 shows replacement characters, as in node:fs. */
  decoded(name: string): string {
    return this.#isBinary ? Buffer.from(name, 'latin1').toString() : name;
  }

  get #isBinary(): boolean {
    return this.filesystem.settings?.nameEncoding === 'binary';
  }

  /** Runs one operation; what it looked up is forgotten afterwards, whatever happens. */
  async use<T>(work: (hold: Hold) => Promise<T>): Promise<T> {
    if (this.#ended !== undefined) throw FuseError.of(ERRNO.ENOTCONN);
    this.#ready ??= this.#start();
    await this.#ready;
    const hold = new Hold();
    try {
      return await work(hold);
    } finally {
      for (const [node, count] of hold.counts) if (count > 0) this.filesystem.forget?.(node, count);
    }
  }

  async #start(): Promise<void> {
    const flags = new Set(capabilitiesOf(this.filesystem).requested);
    const negotiated: Negotiated = {
      minor: 45,
      kernelMinor: 45,
      flags,
      refused: new Map(),
      maxWrite: 1 << 20,
      maxPages: 256,
      maxReadahead: 131_072,
      maxBackground: 256,
      congestionThreshold: 192,
      timeGranularityNs: 1,
      requestTimeoutSeconds: 0,
      maxStackDepth: 0,
    };
    await this.filesystem.init?.(negotiated, NO_KERNEL);
  }

  /** After it everything fails with ENOTCONN. */
  end(): Promise<void> {
    this.#ended ??= (async () => {
      this.#end.abort();
      if (this.#ready !== undefined) {
        await this.#ready.catch(() => {});
        await this.filesystem.destroy?.();
      }
    })();
    return this.#ended;
  }

  // --- walking ---------------------------------------------------------------------------------------------------------

  async attributes(node: NodeId): Promise<AttributesInit> {
    const { getattr } = this.filesystem;
    if (getattr === undefined) throw FuseError.of(ERRNO.ENOSYS);
    return (await getattr.call(this.filesystem, node, this.ask('GETATTR', { handle: undefined }))).attributes;
  }

  async lookup(hold: Hold, parent: NodeId, name: string): Promise<Found | undefined> {
    if (Buffer.byteLength(name) > NAME_MAX) throw FuseError.of(ERRNO.ENAMETOOLONG);
    const { lookup } = this.filesystem;
    if (lookup === undefined) throw FuseError.of(ERRNO.ENOSYS);
    let found: Entry | NegativeEntry;
    try {
      found = await lookup.call(this.filesystem, parent, this.encoded(name), this.ask('LOOKUP', {}));
    } catch (error) {
      if ((error as NodeJS.ErrnoException)?.code === 'ENOENT') return undefined;
      throw error;
    }
    return found.node === 0 ? undefined : this.counted(hold, found as Entry);
  }

  /** An entry that the filesystem answered. */
  counted(hold: Hold, entry: Entry): Found {
    const node = entry.node as NodeId;
    hold.add(node);
    return { node, attributes: entry.attributes };
  }

  /** The place of a path that is resolved up to its last name, and beyond it through symbolic links when `follow`. */
  async walk(hold: Hold, path: string, follow: boolean): Promise<Place> {
    if (path === '') throw FuseError.of(ERRNO.ENOENT);
    let links = 0;
    let chain: Found[] = [{ node: ROOT_NODE, attributes: { mode: S_IFDIR | 0o755 } }];
    let names = path.split('/').filter((name) => name !== '');
    let wantsDirectory = path.endsWith('/');
    for (;;) {
      const name = names.shift();
      if (name === undefined) return this.#here(chain, wantsDirectory);
      const isLast = names.length === 0;
      if (name === '.' || name === '..') {
        if (name === '..' && chain.length > 1) chain.pop();
        if (isLast) wantsDirectory = true;
        continue;
      }
      const found = await this.lookup(hold, chain.at(-1)!.node, name);
      if (isLink(found) && (!isLast || follow || wantsDirectory)) {
        if (++links > LINKS_MAX) throw FuseError.of(ERRNO.ELOOP);
        const target = await this.readlink(found!.node);
        if (target.startsWith('/')) chain = chain.slice(0, 1);
        if (isLast && target.endsWith('/')) wantsDirectory = true;
        names = [...target.split('/').filter((part) => part !== ''), ...names];
        continue;
      }
      if (isLast) {
        if (wantsDirectory && found !== undefined && !isDirectory(found)) throw FuseError.of(ERRNO.ENOTDIR);
        return { chain, name, found, wantsDirectory };
      }
      if (found === undefined) throw FuseError.of(ERRNO.ENOENT);
      if (!isDirectory(found)) throw FuseError.of(ERRNO.ENOTDIR);
      chain = [...chain, found];
    }
  }

  /** A path that ends at a directory without naming it: the root, or a dot. */
  async #here(chain: readonly Found[], wantsDirectory: boolean): Promise<Place> {
    const last = chain.at(-1)!;
    const attributes = await this.attributes(last.node);
    return { chain, name: '', found: { node: last.node, attributes }, wantsDirectory };
  }

  /** What is at a path. Throws ENOENT. */
  async find(hold: Hold, path: string, follow: boolean): Promise<Found> {
    const { found } = await this.walk(hold, path, follow);
    if (found === undefined) throw FuseError.of(ERRNO.ENOENT);
    return found;
  }

  async readlink(node: NodeId): Promise<string> {
    const { readlink } = this.filesystem;
    if (readlink === undefined) throw FuseError.of(ERRNO.EINVAL);
    const target = await readlink.call(this.filesystem, node, this.ask('READLINK', {}));
    return typeof target === 'string' ? this.decoded(target) : Buffer.from(target).toString();
  }
}
