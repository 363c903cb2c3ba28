/** GETATTR and SETATTR, readlink, access, extended attributes: operations on one node. */
import {
  type AttributesInit,
  type AttributesReply,
  ERRNO,
  FuseError,
  type GetattrRequest,
  type NodeId,
  type Request,
  type SetattrRequest,
  type SetxattrRequest,
  type StatfsInit,
  type Timespec,
  type XattrRequest,
} from '../filesystem/index.ts';
import { Content } from './buffered.ts';
import type { Core } from './core.ts';
import { MODE_BITS, O_WRONLY, S_IFLNK } from './linux.ts';
import type { PathNode } from './node.ts';
import type { PathHandle, PathSource } from './source.ts';
import { factsOf, nanosecondsOf, secondsOf, translated } from './stats.ts';

export class Attributes {
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
  }

  async getattr(id: NodeId, request: GetattrRequest): Promise<AttributesReply> {
    const core = this.#core;
    const node = core.tree.get(id);
    const handle = request.handle === undefined ? this.#nameless(node) : core.file(request.handle).handle;
    if (handle?.stat !== undefined) return { attributes: await this.#askHandle(node, handle) };
    if (!node.hasName && node.openings > 0) return { attributes: core.finish(node, this.#remembered(node)) };
    return core.onPath(id, request, async (path) => ({ attributes: core.learn(node, await core.facts(path, request)) }));
  }

  async #askHandle(node: PathNode, handle: PathHandle) {
    const { tree } = this.#core;
    try {
      const facts = factsOf(await handle.stat!({ bigint: true }));
      // The number of a file without a name may already be another file's.
      if (node.hasName) return this.#core.learn(node, facts);
      node.seen = facts.attributes;
      if (node.hidden !== undefined) facts.attributes.nlink = Math.max(0, facts.nlink - 1);
      return Object.assign(facts.attributes, { ino: tree.isForeign(facts) ? node.id : this.#core.inode(node, facts) });
    } catch (error) {
      throw translated(error);
    }
  }

  #remembered(node: PathNode) {
    return { attributes: node.seen, type: node.type, ino: node.seen.ino, dev: undefined, nlink: node.seen.nlink ?? 0 };
  }

  /** Where a node without a name can still be reached. */
  #nameless(node: PathNode): PathHandle | undefined {
    return node.hasName ? undefined : this.#core.openingOf(node)?.handle;
  }

  async setattr(id: NodeId, request: SetattrRequest): Promise<AttributesReply> {
    const core = this.#core;
    core.assertWritable();
    const node = core.tree.get(id);
    const opening = request.handle === undefined ? this.#nameless(node) : core.file(request.handle).handle;
    if (!node.hasName) {
      if (opening === undefined) throw FuseError.of(ERRNO.ENOENT);
      try {
        await new Change(core, node, undefined, opening, request).apply();
      } catch (error) {
        throw translated(error);
      }
      return this.getattr(id, request);
    }
    return core.onPath(id, request, async (path) => {
      await new Change(core, node, path, opening, request).apply();
      if (opening?.stat !== undefined) return { attributes: await this.#askHandle(node, opening) };
      return { attributes: core.learn(node, await core.facts(path, request)) };
    });
  }

  readlink(id: NodeId, request: Request): Promise<string | Uint8Array> {
    const { source } = this.#core;
    return this.#core.onPath(id, request, async (path) => {
      if (source.readlink === undefined) throw FuseError.of(ERRNO.EINVAL);
      return source.readlink(path, request);
    });
  }

  access(id: NodeId, mask: number, request: Request): Promise<void> {
    return this.#core.onPath(id, request, async (path) => this.#core.source.access!(path, mask, request));
  }

  async statfs(id: NodeId, request: Request): Promise<StatfsInit> {
    const core = this.#core;
    const path = core.tree.path(core.tree.get(id)) ?? '/';
    try {
      return await core.source.statfs!(path, request);
    } catch (error) {
      throw translated(error);
    }
  }

  setxattr(id: NodeId, name: string, value: Uint8Array, request: SetxattrRequest): Promise<void> {
    const { flags } = request;
    this.#core.assertWritable();
    return this.#core.onPath(id, request, async (path) => this.#core.source.setxattr!(path, name, value, flags, request));
  }

  getxattr(id: NodeId, name: string, request: XattrRequest): Promise<Uint8Array> {
    return this.#core.onPath(id, request, async (path) => {
      const value = await this.#core.source.getxattr!(path, name, request);
      if (value === undefined) throw FuseError.of(ERRNO.ENODATA);
      return value;
    });
  }

  listxattr(id: NodeId, request: XattrRequest): Promise<readonly string[]> {
    return this.#core.onPath(id, request, async (path) => this.#core.source.listxattr!(path, request));
  }

  removexattr(id: NodeId, name: string, request: Request): Promise<void> {
    this.#core.assertWritable();
    return this.#core.onPath(id, request, async (path) => this.#core.source.removexattr!(path, name, request));
  }
}

/** One SETATTR: by the open file where it can, else by the path. */
class Change {
  readonly #core: Core;
  readonly #node: PathNode;
  readonly #path: string | undefined;
  readonly #handle: PathHandle | undefined;
  readonly #request: SetattrRequest;

  constructor(core: Core, node: PathNode, path: string | undefined, handle: PathHandle | undefined, request: SetattrRequest) {
    this.#core = core;
    this.#node = node;
    this.#path = path;
    this.#handle = handle;
    this.#request = request;
  }

  /** Owner before mode, because a change of owner takes set-id bits away; times last, because everything else sets them. */
  async apply(): Promise<void> {
    const { mode, newUid, newGid, size, atime, mtime } = this.#request;
    if (newUid !== undefined || newGid !== undefined) await this.#chown(newUid, newGid);
    if (mode !== undefined) await this.#chmod(mode & MODE_BITS);
    if (size !== undefined) await this.#truncate(size);
    if (atime !== undefined || mtime !== undefined) await this.#utimes(atime, mtime);
  }

  get #isLink(): boolean {
    return this.#node.type === S_IFLNK;
  }

  #bound<Name extends keyof PathSource>(...names: readonly Name[]): NonNullable<PathSource[Name]> | undefined {
    for (const name of names) {
      const method = this.#core.source[name];
      if (method !== undefined) return method.bind(this.#core.source) as NonNullable<PathSource[Name]>;
    }
    return undefined;
  }

  async #chown(uid: number | undefined, gid: number | undefined): Promise<void> {
    const seen = uid === undefined || gid === undefined ? await this.#fresh() : this.#node.seen;
    const newUid = uid ?? seen.uid ?? 0;
    const newGid = gid ?? seen.gid ?? 0;
    if (this.#handle?.chown !== undefined) return this.#handle.chown(newUid, newGid);
    const chown = this.#isLink ? this.#bound('lchown') : this.#bound('lchown', 'chown');
    await (chown ?? unsupported)(this.#named(), newUid, newGid, this.#request);
  }

  async #chmod(mode: number): Promise<void> {
    if (this.#handle?.chmod !== undefined) return this.#handle.chmod(mode);
    const chmod = this.#isLink ? this.#bound('lchmod') : this.#bound('chmod');
    await (chmod ?? unsupported)(this.#named(), mode, this.#request);
  }

  async #truncate(size: number): Promise<void> {
    const core = this.#core;
    const content = core.contents.get(this.#node);
    if (content !== undefined) {
      content.truncate(size);
      return;
    }
    if (this.#handle?.truncate !== undefined && this.#request.handle !== undefined) return this.#handle.truncate(size);
    const { source } = core;
    if (this.#path === undefined) return (this.#handle?.truncate?.bind(this.#handle) ?? unsupported)(size);
    if (source.truncate !== undefined) return source.truncate(this.#path, size, this.#request);
    if (source.open !== undefined) return this.#truncateOpening(this.#path, size);
    if (source.readFile === undefined || source.writeFile === undefined) throw FuseError.of(ERRNO.EROFS);
    const whole = new Content(bytesOf(await source.readFile(this.#path, this.#request)), core.limits.maxFileBytes);
    whole.truncate(size);
    await source.writeFile(this.#path, whole.bytes(), this.#request);
  }

  async #truncateOpening(path: string, size: number): Promise<void> {
    const handle = await this.#core.source.open!(path, O_WRONLY, 0, this.#request);
    try {
      await (handle.truncate?.bind(handle) ?? unsupported)(size);
    } finally {
      await handle.close?.();
    }
  }

  async #utimes(atime: Timespec | 'now' | undefined, mtime: Timespec | 'now' | undefined): Promise<void> {
    const now = BigInt(Date.now()) * 1_000_000n;
    const given = (time: Timespec | 'now' | undefined) => (time === 'now' ? now : time && nanosecondsOf(time));
    const handle = this.#handle;
    if (handle?.utimesNs !== undefined) return handle.utimesNs(given(atime), given(mtime));
    if (this.#path !== undefined && this.#core.source.utimesNs !== undefined) {
      return this.#core.source.utimesNs(this.#path, given(atime), given(mtime), this.#request);
    }
    const seen = atime === undefined || mtime === undefined ? await this.#fresh() : this.#node.seen;
    const newAtime = secondsOf(given(atime) ?? nanosecondsOf(seen.atime));
    const newMtime = secondsOf(given(mtime) ?? nanosecondsOf(seen.mtime));
    if (handle?.utimes !== undefined) return handle.utimes(newAtime, newMtime);
    const utimes = this.#isLink ? this.#bound('lutimes') : this.#bound('lutimes', 'utimes');
    await (utimes ?? unsupported)(this.#named(), newAtime, newMtime, this.#request);
  }

  /** What the source says now: for the half of a pair that shall stay as it is. */
  async #fresh(): Promise<AttributesInit> {
    if (this.#handle?.stat !== undefined) return factsOf(await this.#handle.stat({ bigint: true })).attributes;
    return this.#path === undefined ? this.#node.seen : (await this.#core.facts(this.#path, this.#request)).attributes;
  }

  #named(): string {
    if (this.#path === undefined) throw FuseError.of(ERRNO.EOPNOTSUPP);
    return this.#path;
  }
}

function unsupported(..._arguments: readonly unknown[]): never {
  throw FuseError.of(ERRNO.EOPNOTSUPP);
}

export function bytesOf(data: Uint8Array | string): Uint8Array {
  return typeof data === 'string' ? Buffer.from(data) : data;
}
