/** Open files: opening, making, reading, writing, closing. */
import {
  type CreateReply,
  type CreateRequest,
  ERRNO,
  type FlushRequest,
  type FsyncRequest,
  FuseError,
  type NodeId,
  type OpenReply,
  type OpenRequest,
  type ReadRequest,
  type ReleaseRequest,
  type WriteRequest,
} from '../filesystem/index.ts';
import { bytesOf } from './attributes.ts';
import { BufferedHandle, Content } from './buffered.ts';
import { type Core, fail, type OpenFile } from './core.ts';
import * as linux from './linux.ts';
import { type Lease, NOBODY } from './locks.ts';
import type { Names } from './names.ts';
import type { PathNode } from './node.ts';
import type { PathContext, PathHandle } from './source.ts';
import { isAbsence, translated } from './stats.ts';

/** What of the flags concerns a source; the rest is the kernel's part. */
const SOURCE_FLAGS =
  linux.O_ACCMODE | linux.O_APPEND | linux.O_TRUNC | linux.O_CREAT | linux.O_EXCL | linux.O_SYNC | linux.O_DSYNC;

const OWNER_READ_WRITE = 0o600;

export class Files {
  readonly #core: Core;
  readonly #names: Names;

  constructor(core: Core, names: Names) {
    this.#core = core;
    this.#names = names;
  }

  async open(id: NodeId, request: OpenRequest): Promise<OpenReply> {
    const core = this.#core;
    const { flags } = request;
    if ((flags & linux.O_ACCMODE) !== 0 || (flags & linux.O_TRUNC) !== 0) core.assertWritable();
    core.assertRoom();
    const node = core.tree.get(id);
    if (!node.hasName) return this.#openNameless(node);
    return core.onPath(id, request, async (path) => {
      const handle = await this.#openPath(node, path, flags & ~(linux.O_CREAT | linux.O_EXCL), 0, request);
      return this.#opened(node, handle);
    });
  }

  /** /proc/self/fd/N of a file without a name: what is open once may be open twice. */
  #openNameless(node: PathNode): OpenReply {
    const { handle, share } = this.#core.openingOf(node) ?? fail(node.absence);
    share.openings++;
    return this.#opened(node, handle, share);
  }

  #opened(node: PathNode, handle: PathHandle, share = { openings: 1 }): OpenReply {
    const reply = handle.openReply ?? this.#core.options.openReply;
    return { ...reply, handle: this.#core.add({ node, handle, share }) };
  }

  async #openPath(
    node: PathNode | undefined,
    path: string,
    asked: number,
    mode: number,
    context: PathContext,
  ): Promise<PathHandle> {
    const flags = this.#sourceFlags(asked);
    const handle = await this.#openSource(node, path, flags, mode, context);
    // Linux leaves that to whoever truncates in OPEN; the capability to keep the bits is root's.
    if ((flags & linux.O_TRUNC) !== 0 && context.uid !== 0) await this.#dropSetId(path, context);
    return handle;
  }

  /** The right to run as somebody else does not outlive what the file held (setattr_should_drop_suidgid). */
  async #dropSetId(path: string, context: PathContext): Promise<void> {
    const { source } = this.#core;
    const { mode } = (await this.#core.facts(path, context)).attributes;
    const dropped = linux.S_ISUID | ((mode & linux.S_IXGRP) === 0 ? 0 : linux.S_ISGID);
    if ((mode & dropped) !== 0) await source.chmod?.(path, mode & linux.MODE_BITS & ~dropped, context);
  }

  async #openSource(
    node: PathNode | undefined,
    path: string,
    flags: number,
    mode: number,
    context: PathContext,
  ): Promise<PathHandle> {
    const core = this.#core;
    if (core.source.open !== undefined) return core.source.open(path, flags, mode, context);
    if (core.source.readFile === undefined) throw FuseError.of(ERRNO.EOPNOTSUPP);
    if ((flags & linux.O_ACCMODE) !== 0 && core.source.writeFile === undefined) throw FuseError.of(ERRNO.EROFS);
    let content = node && core.contents.get(node);
    if (content === undefined) {
      const bytes = (flags & linux.O_TRUNC) !== 0 ? new Uint8Array(0) : bytesOf(await core.source.readFile(path, context));
      // Another opening may have read it meanwhile: paths are shared.
      content = (node && core.contents.get(node)) ?? new Content(bytes, core.limits.maxFileBytes);
      if (node !== undefined) core.contents.set(node, content);
    }
    if ((flags & linux.O_TRUNC) !== 0) content.truncate(0);
    return new BufferedHandle(content, (flags & linux.O_APPEND) !== 0);
  }

  #sourceFlags(asked: number): number {
    let flags = asked & SOURCE_FLAGS;
    if (this.#core.writeback) {
      // The kernel reads the pages that it writes parts of, and places what is appended.
      if ((flags & linux.O_ACCMODE) === linux.O_WRONLY) flags = (flags & ~linux.O_ACCMODE) | linux.O_RDWR;
      flags &= ~linux.O_APPEND;
    }
    return flags;
  }

  create(parent: NodeId, name: string, request: CreateRequest): Promise<CreateReply> {
    const core = this.#core;
    core.assertWritable();
    core.assertRoom();
    const { flags, mode } = request;
    const directory = core.directory(parent);
    const plan = (lease: Lease) => {
      lease.path(directory);
      lease.write(directory);
    };
    return core.locked(request, plan, async () => {
      const path = core.below(directory, name);
      const { handle, isNew } = await this.#createPath(path, flags, mode & linux.MODE_BITS, request);
      directory.changes++;
      try {
        const node = isNew
          ? await this.#names.adopt(directory, name, path, linux.S_IFREG | (mode & linux.MODE_BITS), request)
          : core.attach(directory, name, await core.facts(path, request));
        if (node.type !== linux.S_IFREG) throw FuseError.of(ERRNO.ESTALE);
        if (handle instanceof BufferedHandle && !core.contents.has(node)) core.contents.set(node, handle.content);
        const open = this.#opened(node, handle);
        return { entry: core.counted(node), open };
      } catch (error) {
        await handle.close?.();
        throw error;
      }
    });
  }

  /** Tries to make the file; what was there already (made by somebody else just now) is opened, unless O_EXCL forbids. */
  async #createPath(
    path: string,
    flags: number,
    mode: number,
    context: PathContext,
  ): Promise<{ handle: PathHandle; isNew: boolean }> {
    const core = this.#core;
    if (core.source.open === undefined) return this.#createBuffered(path, flags, context);
    const exclusive = this.#sourceFlags(flags) | linux.O_CREAT | linux.O_EXCL;
    // Who makes a file may write to it whatever its mode; some sources look at the mode first. It is set right afterwards.
    const ownMode = core.source.chmod === undefined ? mode : mode | OWNER_READ_WRITE;
    try {
      return { handle: await core.source.open(path, exclusive, ownMode, context), isNew: true };
    } catch (error) {
      if ((error as NodeJS.ErrnoException)?.code !== 'EEXIST' || (flags & linux.O_EXCL) !== 0) throw error;
    }
    // Never through a symbolic link: ESTALE makes the kernel look the name up again.
    if ((await core.facts(path, context)).type !== linux.S_IFREG) throw FuseError.of(ERRNO.ESTALE);
    return { handle: await this.#openPath(undefined, path, flags & ~(linux.O_CREAT | linux.O_EXCL), 0, context), isNew: false };
  }

  async #createBuffered(path: string, flags: number, context: PathContext): Promise<{ handle: PathHandle; isNew: boolean }> {
    const core = this.#core;
    const write = core.changer('writeFile');
    let exists = true;
    await core.facts(path, context).catch((error) => {
      if (!isAbsence(error)) throw error;
      exists = false;
    });
    if (exists) {
      if ((flags & linux.O_EXCL) !== 0) throw FuseError.of(ERRNO.EEXIST);
      return { handle: await this.#openPath(core.tree.find(path), path, flags, 0, context), isNew: false };
    }
    await write(path, new Uint8Array(0), context);
    return {
      handle: new BufferedHandle(new Content(new Uint8Array(0), core.limits.maxFileBytes), (flags & linux.O_APPEND) !== 0),
      isNew: true,
    };
  }

  // --- contents --------------------------------------------------------------------------------------------------------

  /** Whole until the end of the file: the kernel takes a short answer for the end. */
  async read(_id: NodeId, request: ReadRequest): Promise<number> {
    const { handle } = this.#core.file(request.handle);
    const { offset, size } = request;
    if (handle.read === undefined) throw FuseError.of(ERRNO.EOPNOTSUPP);
    const payload = request.payload();
    try {
      for (let filled = 0; ; ) {
        const answer = await handle.read(payload, filled, size - filled, offset + filled);
        const count = typeof answer === 'number' ? answer : answer.bytesRead;
        if (!Number.isInteger(count) || count < 0 || count > size - filled) {
          throw new RangeError(
            `read of a handle answered ${count} bytes of ${size - filled}; answer how many bytes were filled in`,
          );
        }
        filled += count;
        if (count === 0 || filled === size) return filled;
      }
    } catch (error) {
      throw translated(error);
    }
  }

  async write(_id: NodeId, data: Uint8Array, request: WriteRequest): Promise<number> {
    const core = this.#core;
    core.assertWritable();
    const { handle } = core.file(request.handle);
    const { offset } = request;
    if (handle.write === undefined) throw FuseError.of(ERRNO.EBADF);
    try {
      for (let written = 0; ; ) {
        const left = data.byteLength - written;
        const answer = await handle.write(data, written, left, offset + written);
        const count = answer === undefined ? left : typeof answer === 'number' ? answer : answer.bytesWritten;
        if (!Number.isInteger(count) || count < 0 || count > left) {
          throw new RangeError(`write of a handle answered ${count} bytes of ${left}; answer how many bytes were taken`);
        }
        written += count;
        if (count === 0 || written === data.byteLength) return written;
      }
    } catch (error) {
      throw translated(error);
    }
  }

  // --- closing ---------------------------------------------------------------------------------------------------------

  async flush(id: NodeId, request: FlushRequest): Promise<void> {
    const core = this.#core;
    const { handle } = core.file(request.handle);
    await core.save(id, handle, request);
    try {
      await core.source.flush?.(handle, request);
    } catch (error) {
      throw translated(error);
    }
  }

  async fsync(id: NodeId, request: FsyncRequest): Promise<void> {
    const core = this.#core;
    const { handle } = core.file(request.handle);
    await core.save(id, handle, request);
    try {
      if (request.dataOnly && handle.datasync !== undefined) await handle.datasync();
      else await handle.sync?.();
    } catch (error) {
      throw translated(error);
    }
  }

  async release(id: NodeId, request: ReleaseRequest): Promise<void> {
    const opening = this.#core.openings.get(request.handle);
    if (opening === undefined || !('handle' in opening)) return;
    try {
      await this.#core.save(id, opening.handle, request);
    } finally {
      this.#core.drop(request.handle);
      await this.#close(opening);
    }
  }

  async #close({ node, handle, share }: OpenFile): Promise<void> {
    const core = this.#core;
    try {
      if (--share.openings === 0) await handle.close?.();
    } finally {
      if (node.openings === 0) {
        core.contents.delete(node);
        if (node.hidden !== undefined) await this.#names.removeHidden(node, NOBODY);
      }
    }
  }

  /** The mount is gone: everything that is still open is closed, whatever happens to be wrong with it. */
  async closeAll(): Promise<void> {
    const core = this.#core;
    for (const [id, opening] of [...core.openings]) {
      if ('handle' in opening) {
        await core.save(opening.node.id, opening.handle, NOBODY).catch(() => {});
        core.drop(id as ReleaseRequest['handle']);
        await this.#close(opening).catch(() => {});
      } else {
        core.drop(id as ReleaseRequest['handle']);
        opening.close();
      }
    }
  }
}
