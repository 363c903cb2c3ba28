/** Open directories: READDIR and READDIRPLUS. */
import {
  type DirectoryReply,
  ERRNO,
  FuseError,
  type NodeId,
  type OpenReply,
  type OpenRequest,
  type ReaddirRequest,
  type ReleaseRequest,
} from '../filesystem/index.ts';
import type { Core } from './core.ts';
import { S_IFDIR } from './linux.ts';
import { DOTS, type Listed, OpenDirectory } from './listing.ts';
import type { PathNode } from './node.ts';
import type { PathContext } from './source.ts';
import { isAbsence } from './stats.ts';

/** What libfuse shows in listings for an inode number that nobody knows (FUSE_UNKNOWN_INO). */
const UNKNOWN_INODE = 0xffffffff;

export class Directories {
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
  }

  opendir(id: NodeId, _request: OpenRequest): OpenReply {
    this.#core.assertRoom();
    const node = this.#core.directory(id);
    return { handle: this.#core.add(new OpenDirectory(node, this.#core.limits.maxListingEntries)) };
  }

  releasedir(_id: NodeId, request: ReleaseRequest): void {
    const opening = this.#core.openings.get(request.handle);
    if (!(opening instanceof OpenDirectory)) return;
    this.#core.drop(request.handle);
    opening.close();
  }

  /** `plus`: entries carry attributes, and count as looked up. */
  list(_id: NodeId, request: ReaddirRequest, reply: DirectoryReply, plus: boolean): Promise<void> {
    const core = this.#core;
    const open = core.openDirectory(request.handle);
    const { node } = open;
    const { offset } = request;
    // A directory that was removed while it was open is empty, without "." and ".." too.
    if (!node.hasName) return Promise.resolve();
    return open.inTurn(() =>
      core.locked(
        request,
        (lease) => {
          lease.path(node);
          lease.read(node);
        },
        async () => {
          if (offset === 0 || !open.isStarted) {
            if (core.source.readdir === undefined) throw FuseError.of(ERRNO.EOPNOTSUPP);
            open.start(await core.source.readdir(core.tree.path(node)!, request));
          }
          await this.#fill(open, offset, request, reply, plus);
        },
      ),
    );
  }

  async #fill(open: OpenDirectory, offset: number, context: PathContext, reply: DirectoryReply, plus: boolean): Promise<void> {
    const { node } = open;
    const dots = [
      { name: '.', ino: node.seen.ino ?? node.id, mode: S_IFDIR },
      { name: '..', ino: (node.parent ?? node).seen.ino ?? (node.parent ?? node).id, mode: S_IFDIR },
    ];
    for (let at = offset; at < DOTS; at++) if (!reply.add({ ...dots[at], offset: at + 1 })) return;
    const { statsAtOnce } = this.#core.limits;
    for (let at = Math.max(offset, DOTS); ; ) {
      const batch: Listed[] = [];
      let room = true;
      for (; batch.length < statsAtOnce && room; ) {
        const entry = await open.at(at - DOTS + batch.length);
        if (entry === undefined) break;
        room = reply.fits(entry.name.length);
        batch.push(entry);
      }
      if (batch.length === 0) return;
      await this.#describe(open, batch, context, plus);
      for (const entry of batch) {
        if (!this.#put(open, entry, at + 1, reply, plus)) return;
        at++;
      }
    }
  }

  /** Asks for the attributes that entries lack, several at a time. */
  async #describe(open: OpenDirectory, batch: readonly Listed[], context: PathContext, plus: boolean): Promise<void> {
    const core = this.#core;
    const { node } = open;
    const changed = open.changes !== node.changes;
    const { listing, inodes } = core.options;
    const wanted = batch.filter((entry) => {
      // What a listing said before a change of the directory is not known to be true any more.
      if (changed) entry.facts = undefined;
      if (entry.facts !== undefined || node.hiddenNames?.has(entry.name)) return false;
      if (listing === 'names') return false;
      return plus || inodes !== 'own' || entry.type === 0;
    });
    await Promise.all(
      wanted.map(async (entry) => {
        try {
          entry.facts = await core.facts(core.below(node, entry.name), context);
        } catch (error) {
          if (isAbsence(error)) core.tree.detach(node, entry.name);
          // Whoever looks it up gets the error; the name is there all the same.
          entry.facts = undefined;
        }
      }),
    );
  }

  /** False when the reply is full. An entry that is gone by now is left out; its cookie is not used again. */
  #put(open: OpenDirectory, entry: Listed, cookie: number, reply: DirectoryReply, plus: boolean): boolean {
    const core = this.#core;
    const { node: directory } = open;
    const { name, facts } = entry;
    if (directory.hiddenNames?.has(name)) return true;
    if (facts === undefined) return reply.add({ name, ino: this.#inode(directory, entry), mode: entry.type, offset: cookie });
    const node = core.attach(directory, name, facts);
    const record = { name, ino: node.seen.ino ?? node.id, mode: facts.type, offset: cookie };
    const added = plus ? reply.addPlus(record, core.entry(node)) : reply.add(record);
    if (added) {
      if (plus) core.tree.count(node);
      entry.facts = undefined;
    }
    return added;
  }

  /** The inode number of an entry without attributes. */
  #inode(directory: PathNode, { name, type }: Listed): number | bigint {
    const core = this.#core;
    const known = directory.children?.get(name);
    if (known !== undefined && (type === 0 || known.type === type)) return known.seen.ino ?? known.id;
    if (core.options.inodes !== 'own' || type === 0) return UNKNOWN_INODE;
    const attributes = { mode: type };
    const node = core.tree.attach(directory, name, { attributes, type, ino: undefined, dev: undefined, nlink: 1 });
    return node.id;
  }
}
