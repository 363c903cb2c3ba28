/** Operations on names: looking up, making, removing, renaming. */
import {
  type Entry,
  ERRNO,
  FuseError,
  type LinkRequest,
  type MkdirRequest,
  type MknodRequest,
  type NegativeEntry,
  type NodeId,
  type RenameRequest,
  type Request,
} from '../filesystem/index.ts';
import { type Core, isRefusal } from './core.ts';
import {
  MODE_BITS,
  O_CREAT,
  O_EXCL,
  O_WRONLY,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_ISGID,
} from './linux.ts';
import type { Lease } from './locks.ts';
import type { PathNode } from './node.ts';
import type { PathContext } from './source.ts';
import { type Facts, isAbsence } from './stats.ts';

export class Names {
  readonly #core: Core;
  readonly #absent: NegativeEntry;
  /** Found out by trying: whether the source keeps permission bits and owners. */
  #keepsModes = true;
  #keepsOwners: boolean;
  #hiddenCount = 0;

  constructor(core: Core) {
    this.#core = core;
    this.#absent = { node: 0, entryTtl: core.options.negativeTtl ?? 0 };
    this.#keepsOwners = (core.options.ownership ?? 'caller') === 'caller';
  }

  lookup(parent: NodeId, name: string, request: Request): Promise<Entry | NegativeEntry> {
    const core = this.#core;
    const directory = core.directory(parent);
    const plan = (lease: Lease) => {
      lease.path(directory);
      lease.read(directory);
    };
    return core.locked(request, plan, async () => {
      const path = core.below(directory, name);
      if (directory.hiddenNames?.has(name)) return this.#absent;
      let facts: Facts;
      try {
        facts = await core.facts(path, request);
      } catch (error) {
        if (!isAbsence(error)) throw error;
        core.tree.detach(directory, name);
        return this.#absent;
      }
      return core.counted(core.attach(directory, name, facts));
    });
  }

  // --- making ----------------------------------------------------------------------------------------------------------

  mkdir(parent: NodeId, name: string, request: MkdirRequest): Promise<Entry> {
    const mkdir = this.#core.changer('mkdir');
    const mode = request.mode & MODE_BITS;
    return this.#make(parent, name, request, S_IFDIR | mode, async (path) => {
      await mkdir(path, mode, request);
    });
  }

  mknod(parent: NodeId, name: string, request: MknodRequest): Promise<Entry> {
    const { mode, rdev } = request;
    const type = mode & S_IFMT;
    if (type === S_IFREG || type === 0) {
      return this.#make(parent, name, request, S_IFREG | (mode & MODE_BITS), (path) => this.#makeFile(path, mode, request));
    }
    const mknod = this.#core.changer('mknod', ERRNO.EPERM);
    return this.#make(parent, name, request, mode, async (path) => mknod(path, mode, rdev, request));
  }

  async #makeFile(path: string, mode: number, request: Request): Promise<void> {
    const core = this.#core;
    if (core.source.open === undefined) {
      await core.changer('writeFile')(path, new Uint8Array(0), request);
      return;
    }
    const handle = await core.changer('open')(path, O_CREAT | O_EXCL | O_WRONLY, mode & MODE_BITS, request);
    await handle.close?.();
  }

  symlink(parent: NodeId, name: string, target: string, request: Request): Promise<Entry> {
    const symlink = this.#core.changer('symlink', ERRNO.EPERM);
    return this.#make(parent, name, request, S_IFLNK | 0o777, async (path) => symlink(target, path, request));
  }

  async link(id: NodeId, request: LinkRequest): Promise<Entry> {
    const core = this.#core;
    const link = core.changer('link', ERRNO.EPERM);
    const { newParent, newName } = request;
    const node = core.tree.get(id);
    const directory = core.directory(newParent);
    const plan = (lease: Lease) => {
      lease.path(node);
      lease.path(directory);
      lease.write(directory);
    };
    return core.locked(request, plan, async () => {
      const path = core.below(directory, newName);
      await link(core.tree.path(node)!, path, request);
      directory.changes++;
      core.tree.detach(directory, newName);
      const facts = await core.facts(path, request);
      // The same node, also where the source has no inode numbers to tell.
      core.tree.learn(node, facts);
      core.tree.addLink(node, directory, newName);
      core.finish(node, facts);
      return core.counted(node);
    });
  }

  #make(parent: NodeId, name: string, request: Request, mode: number, make: (path: string) => Promise<void>): Promise<Entry> {
    const core = this.#core;
    const directory = core.directory(parent);
    return core.locked(request, this.#changes(directory), async () => {
      const path = core.below(directory, name);
      await make(path);
      directory.changes++;
      return core.counted(await this.adopt(directory, name, path, mode, request));
    });
  }

  /** What changing names in one directory takes. */
  #changes(directory: PathNode): (lease: Lease) => void {
    return (lease) => {
      lease.path(directory);
      lease.write(directory);
    };
  }

  /** The node of a file just made, with the owner and the mode that its maker asked for. */
  async adopt(directory: PathNode, name: string, path: string, mode: number, context: PathContext): Promise<PathNode> {
    const core = this.#core;
    core.tree.detach(directory, name);
    const { uid, gid } = context;
    const inherits = ((directory.seen.mode ?? 0) & S_ISGID) !== 0;
    const wantedMode = inherits && (mode & S_IFMT) === S_IFDIR ? mode | S_ISGID : mode;
    let facts = await core.facts(path, context);
    if (await this.#settle(path, facts, wantedMode, uid, inherits ? (directory.seen.gid ?? gid) : gid, context)) {
      facts = await core.facts(path, context);
      if (((facts.attributes.mode ^ wantedMode) & 0o777) !== 0 && facts.type !== S_IFLNK) this.#keepsModes = false;
    }
    return core.attach(directory, name, facts);
  }

  /** Sets what the source made otherwise, by its own umask and identity. Whether it did anything. */
  async #settle(path: string, facts: Facts, mode: number, uid: number, gid: number, context: PathContext): Promise<boolean> {
    const { source } = this.#core;
    const { attributes, type } = facts;
    let did = false;
    const attempt = async (work: () => unknown): Promise<boolean> => {
      try {
        await work();
        did = true;
        return true;
      } catch (error) {
        if (!isRefusal(error)) throw error;
        return false;
      }
    };
    if (this.#keepsOwners && (attributes.uid !== uid || attributes.gid !== gid)) {
      const owned = await attempt(() => {
        if (source.lchown !== undefined) return source.lchown(path, uid, gid, context);
        if (source.chown !== undefined && type !== S_IFLNK) return source.chown(path, uid, gid, context);
        throw FuseError.of(ERRNO.EOPNOTSUPP);
      });
      if (!owned && type !== S_IFLNK) this.#keepsOwners = false;
    }
    if (this.#keepsModes && type !== S_IFLNK && source.chmod !== undefined && ((attributes.mode ^ mode) & MODE_BITS) !== 0) {
      if (!(await attempt(() => source.chmod!(path, mode & MODE_BITS, context)))) this.#keepsModes = false;
    }
    return did;
  }

  // --- removing --------------------------------------------------------------------------------------------------------

  unlink(parent: NodeId, name: string, request: Request): Promise<void> {
    const core = this.#core;
    const unlink = core.changer('unlink');
    return this.#remove(parent, name, request, async (path, directory, node) => {
      if (node !== undefined && this.#mustHide(node)) await this.#hide(directory, name, node, request);
      else {
        await unlink(path, request);
        core.tree.remove(directory, name);
      }
    });
  }

  rmdir(parent: NodeId, name: string, request: Request): Promise<void> {
    const core = this.#core;
    const rmdir = core.changer('rmdir');
    return this.#remove(parent, name, request, async (path, directory, node) => {
      if (node?.hiddenNames !== undefined) await this.#moveHidden(node, directory, request);
      await rmdir(path, request);
      core.tree.remove(directory, name);
    });
  }

  async #remove(
    parent: NodeId,
    name: string,
    request: Request,
    remove: (path: string, directory: PathNode, node: PathNode | undefined) => Promise<void>,
  ): Promise<void> {
    const core = this.#core;
    const directory = core.directory(parent);
    const plan = (lease: Lease) => {
      lease.path(directory);
      lease.write(directory);
      const node = directory.children?.get(name);
      if (node !== undefined) lease.only(node);
    };
    await core.locked(request, plan, async () => {
      const path = core.below(directory, name);
      try {
        await remove(path, directory, directory.children?.get(name));
      } catch (error) {
        if (isAbsence(error)) core.tree.detach(directory, name);
        throw error;
      } finally {
        directory.changes++;
      }
    });
  }

  // --- open files without a name ---------------------------------------------------------------------------------------

  #mustHide(node: PathNode): boolean {
    const last = node.otherLinks === undefined && (node.seen.nlink ?? 1) <= 1;
    return this.#core.options.unlinkOpen === 'hide' && node.openings > 0 && last && !node.isDirectory;
  }

  /** Renames an open file to a name that nobody sees; the locks are held. */
  async #hide(directory: PathNode, name: string, node: PathNode, context: PathContext): Promise<void> {
    const core = this.#core;
    const rename = core.changer('rename', ERRNO.EBUSY);
    const hiddenName = await this.#freeName(directory, context);
    await rename(core.below(directory, name), core.below(directory, hiddenName), context);
    core.tree.remove(directory, name);
    this.#setHidden(node, directory, hiddenName);
  }

  /** A name that no file has, also not one that an earlier run left behind. */
  async #freeName(directory: PathNode, context: PathContext): Promise<string> {
    for (;;) {
      const name = `.fusewire-hidden-${process.pid.toString(36)}-${(++this.#hiddenCount).toString(36)}`;
      try {
        await this.#core.facts(this.#core.below(directory, name), context);
      } catch (error) {
        if (isAbsence(error)) return name;
        throw error;
      }
    }
  }

  #setHidden(node: PathNode, parent: PathNode, name: string): void {
    node.hidden = { parent, name };
    parent.hiddenNames ??= new Set();
    parent.hiddenNames.add(name);
    this.#core.tree.opened(parent);
  }

  #clearHidden(node: PathNode): void {
    const { parent, name } = node.hidden!;
    node.hidden = undefined;
    parent.hiddenNames!.delete(name);
    if (parent.hiddenNames!.size === 0) parent.hiddenNames = undefined;
    this.#core.tree.closed(parent);
  }

  /** A directory about to be removed is empty for everybody but us: its hidden files go to its parent. */
  async #moveHidden(directory: PathNode, parent: PathNode, context: PathContext): Promise<void> {
    const core = this.#core;
    const rename = core.changer('rename');
    for (const opening of core.openings.values()) {
      const { node } = opening;
      if (node.hidden?.parent !== directory) continue;
      const newName = await this.#freeName(parent, context);
      await rename(core.below(directory, node.hidden.name), core.below(parent, newName), context);
      this.#clearHidden(node);
      this.#setHidden(node, parent, newName);
    }
  }

  /** The last opening of a hidden file was closed. */
  async removeHidden(node: PathNode, context: PathContext): Promise<void> {
    const core = this.#core;
    const plan = (lease: Lease) => {
      const parent = node.hidden?.parent;
      if (parent === undefined) return;
      lease.path(parent);
      lease.write(parent);
    };
    await core.locked(context, plan, async () => {
      const { hidden } = node;
      if (hidden === undefined || node.openings > 0) return;
      const path = core.below(hidden.parent, hidden.name);
      this.#clearHidden(node);
      await core.source.unlink?.(path, context);
    });
  }

  // --- renaming --------------------------------------------------------------------------------------------------------

  async rename(parent: NodeId, name: string, request: RenameRequest): Promise<void> {
    const core = this.#core;
    const { newParent, newName, flags } = request;
    if (flags !== 0 && flags !== RENAME_NOREPLACE && flags !== RENAME_EXCHANGE) throw FuseError.of(ERRNO.EINVAL);
    const swap = flags === RENAME_EXCHANGE;
    const apply = swap ? core.changer('exchange', ERRNO.EINVAL) : core.changer('rename');
    const from = core.directory(parent);
    const to = core.directory(newParent);
    const plan = (lease: Lease) => planRename(lease, from, name, to, newName, swap);
    await core.locked(request, plan, async () => {
      const oldPath = core.below(from, name);
      const newPath = core.below(to, newName);
      // A name put in the place of itself or of another name of the same file changes nothing (rename(2)).
      const node = from.children?.get(name);
      const target = to.children?.get(newName);
      if (oldPath === newPath || (node !== undefined && node === target)) {
        if (flags === RENAME_NOREPLACE) throw FuseError.of(ERRNO.EEXIST);
        return;
      }
      try {
        if (!swap) await this.#makeRoom(oldPath, to, newName, flags, request);
        await apply(oldPath, newPath, request);
      } finally {
        from.changes++;
        to.changes++;
      }
      if (swap) core.tree.exchange(from, name, to, newName);
      else core.tree.move(from, name, to, newName);
    });
  }

  /** Before something is renamed to `newName`: what the source need not know about. */
  async #makeRoom(oldPath: string, to: PathNode, newName: string, flags: number, context: PathContext): Promise<void> {
    const core = this.#core;
    const newPath = core.below(to, newName);
    const target = to.children?.get(newName);
    if (target !== undefined && this.#mustHide(target)) {
      if (flags === RENAME_NOREPLACE) throw FuseError.of(ERRNO.EEXIST);
      await this.#hide(to, newName, target, context);
      return;
    }
    const there = await this.#factsIfAny(newPath, context);
    if (there === undefined) {
      core.tree.detach(to, newName);
      return;
    }
    if (flags === RENAME_NOREPLACE) throw FuseError.of(ERRNO.EEXIST);
    const moving = await core.facts(oldPath, context);
    if (there.type !== S_IFDIR) {
      if (moving.type === S_IFDIR) throw FuseError.of(ERRNO.ENOTDIR);
      return;
    }
    if (moving.type !== S_IFDIR) throw FuseError.of(ERRNO.EISDIR);
    // Sources written in a hurry replace a directory with all that is in it.
    if (target?.hiddenNames !== undefined) await this.#moveHidden(target, to, context);
    if (core.source.readdir === undefined) return;
    for await (const entry of await core.source.readdir(newPath, context)) {
      const entryName = typeof entry === 'string' ? entry : entry.name;
      if (entryName !== '.' && entryName !== '..') throw FuseError.of(ERRNO.ENOTEMPTY);
    }
  }

  async #factsIfAny(path: string, context: PathContext): Promise<Facts | undefined> {
    try {
      return await this.#core.facts(path, context);
    } catch (error) {
      if (isAbsence(error)) return undefined;
      throw error;
    }
  }
}

/** Both parents and both files at once. Throws where one would have to be inside itself. */
function planRename(lease: Lease, from: PathNode, name: string, to: PathNode, newName: string, swap: boolean): void {
  lease.path(from);
  lease.path(to);
  const node = from.children?.get(name);
  const target = to.children?.get(newName);
  if (node !== undefined && lease.paths.includes(node)) throw FuseError.of(ERRNO.EINVAL);
  if (target !== undefined && lease.paths.includes(target)) throw FuseError.of(swap ? ERRNO.EINVAL : ERRNO.ENOTEMPTY);
  lease.write(from);
  lease.write(to);
  if (node !== undefined) lease.only(node);
  if (target !== undefined) lease.only(target);
}
