/** Nodes: from names and descriptors to entries that the kernel keeps, and back. */
import { type Entry, FuseError, type NodeId } from 'fusewire';
import { check, type Host } from './host.ts';
import type { InodeTable } from './inode-table.ts';
import { AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW, EINVAL, ENFILE, ENOENT, O_NOFOLLOW, O_PATH } from './linux.ts';
import type { LockTable } from './lock-table.ts';
import type { Relief } from './relief.ts';
import type { Stat } from './stat.ts';

const BY_NAME = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;

/** Throws for anything that is not one component of a path: a name never leads out of its directory. */
export function assertName(name: string): void {
  if (name === '' || name === '.' || name === '..' || name.includes('/')) throw FuseError.of(EINVAL);
}

export class Nodes {
  readonly #host: Host;
  readonly #table: InodeTable;
  readonly #locks: LockTable;
  readonly #stat: Stat;
  readonly #relief: Relief | undefined;
  /** The entry of the last answer, filled anew each time: the library copies it before the handler's next call. */
  readonly #entry: Entry & { generation: number };

  constructor(host: Host, table: InodeTable, locks: LockTable, stat: Stat, relief?: Relief) {
    this.#host = host;
    this.#table = table;
    this.#locks = locks;
    this.#stat = stat;
    this.#relief = relief;
    this.#entry = { node: 1 as NodeId, generation: 0, attributes: stat.attributes() };
  }

  /** The O_PATH descriptor of a node. */
  fd(node: NodeId): number {
    return this.#table.fd(node);
  }

  /**
   * Finds a name and counts a lookup; nothing when there is no such name. Throws ENFILE when the table is nearly full.
   *
   * A file that is known already takes one system call: its inode number finds the node. An unknown one is opened O_PATH
   * without following a symbolic link, and asked about once more through that descriptor, because the name may lead
   * somewhere else by then. From there on the name plays no part.
   */
  lookup(parentFd: number, name: string, made = false): Entry | undefined {
    const since = this.#table.now();
    const found = this.#stat.ask(parentFd, name, BY_NAME);
    if (found === -ENOENT) return undefined;
    check(found);
    const node = this.#table.find(this.#stat, since);
    if (node !== 0) return this.#answer(node);
    // The last of the table is for files that were just made: to fail then would be to lie about what happened.
    if (!made && this.#table.isTight) throw FuseError.of(ENFILE);
    const fd = this.#host.addon.openat(parentFd, name, O_PATH | O_NOFOLLOW, 0);
    if (fd === -ENOENT) return undefined;
    return this.adopt(check(fd));
  }

  /** The same for a name that was just made. */
  made(parentFd: number, name: string): Entry {
    const entry = this.lookup(parentFd, name, true);
    if (entry === undefined) throw FuseError.of(ENOENT);
    return entry;
  }

  /** The entry of the file that an O_PATH descriptor is; takes the descriptor over, whatever happens. Counts a lookup. */
  adopt(fd: number): Entry {
    const { addon } = this.#host;
    const asked = this.#stat.ask(fd, '', AT_EMPTY_PATH);
    if (asked < 0) {
      addon.close(fd);
      throw FuseError.of(-asked);
    }
    const node = this.#table.enter(fd, this.#stat);
    if (!this.#table.adopted) addon.close(fd);
    if (node === 0) throw FuseError.of(ENFILE);
    this.#relief?.check();
    return this.#answer(node);
  }

  /** The entry of a node that is known, with its attributes as they are now. Counts a lookup. */
  again(node: NodeId): Entry {
    check(this.#stat.ask(this.fd(node), '', AT_EMPTY_PATH));
    this.#table.count(node);
    return this.#answer(node);
  }

  forget(node: NodeId, count: number): void {
    const table = this.#table;
    if (!table.forget(node, count)) return;
    const { addon } = this.#host;
    const { freedFd, freedLockOwners } = table;
    addon.close(freedFd);
    if (freedLockOwners !== 0) for (const fd of this.#locks.removeAll(freedLockOwners)) addon.close(fd);
  }

  #answer(node: NodeId): Entry {
    const entry = this.#entry;
    entry.node = node;
    entry.generation = this.#table.generation(node);
    entry.attributes = this.#stat.attributes();
    return entry;
  }
}
