/** A filesystem with the layer before it: reads and writes go through it, and whatever depends on them waits for it. */
import { read as readFd } from 'node:fs';
import { promisify } from 'node:util';
import {
  type Answer,
  type Entry,
  type FileHandle,
  type FileRange,
  type Filesystem,
  FuseError,
  type NodeId,
  type OpenReply,
  type ReadReply,
  type ReadRequest,
  type Request,
  type SecurityContext,
  type WriteRequest,
} from '../filesystem/index.ts';
import { assertMethods, methodsOf } from '../filesystem/methods.ts';
import { ERRNO, reportFault } from '../session/index.ts';
import type { Bytes, Origin, StorageBackend, Transfer } from './backend.ts';
import type { File } from './file.ts';
import type { Handle } from './handle.ts';
import type { StorageFilesystem, WithStorageOptions } from './interface.ts';
import { Layer } from './layer.ts';
import { StorageError } from './options.ts';

const O_TRUNC = 0o1000;

/**
 * Puts the layer before a filesystem. The same methods, except that `read` and `write` are merged, read ahead and limited as the
 * options say, and that truncation, allocation, copies and barriers wait for what is in flight of the file. Everything else passes
 * untouched. One layer serves one mount in one thread: in a module with workers, each worker has its own.
 *
 * Throws {@link StorageError} for options out of their range.
 */
export function withStorage(filesystem: Filesystem, options: WithStorageOptions = {}): StorageFilesystem {
  const layer = new Layer(options);
  if (options.backend === undefined && filesystem.read === undefined)
    throw new StorageError('the filesystem has no read, and the options no backend');
  const files = new Files(filesystem, layer, options);
  assertMethods(filesystem);
  const passed: Record<string, unknown> = {};
  const real = filesystem as Record<string, unknown>;
  for (const name of [...methodsOf(filesystem), ...ASKED_BY_TESTS]) {
    const method = real[name];
    if (typeof method === 'function') passed[name] = method.bind(filesystem);
  }
  if (filesystem.settings !== undefined) passed.settings = withoutBacking(filesystem.settings);
  return Object.assign(passed, overrides(filesystem, files, layer, options), { storage: layer }) as StorageFilesystem;
}

/** What the audit of fusewire/testing asks a filesystem for, if it has it. */
const ASKED_BY_TESTS = ['lookupCounts', 'openHandles'];

/** Files that the kernel reads and writes itself would go past the layer. */
function withoutBacking(settings: NonNullable<Filesystem['settings']>): Filesystem['settings'] {
  const { capabilities } = settings;
  if (capabilities === undefined) return settings;
  return { ...settings, capabilities: capabilities.filter((flag) => flag !== 'FUSE_PASSTHROUGH') };
}

/** The files of a mount that the layer knows, by node and handle. */
class Files {
  readonly #filesystem: Filesystem;
  readonly #layer: Layer;
  readonly #options: WithStorageOptions;
  readonly #idleMax: number;
  readonly #files = new Map<NodeId, File>();
  readonly #handles = new Map<NodeId, Map<FileHandle, { handle: Handle; opens: number }>>();

  constructor(filesystem: Filesystem, layer: Layer, options: WithStorageOptions) {
    this.#filesystem = filesystem;
    this.#layer = layer;
    this.#options = options;
    this.#idleMax = options.idleFilesMax ?? 1024;
    if (!Number.isSafeInteger(this.#idleMax) || this.#idleMax < 0)
      throw new StorageError(`idleFilesMax is a whole number from 0, not ${this.#idleMax}`);
  }

  known(node: NodeId): File | undefined {
    return this.#files.get(node);
  }

  #fileOf(node: NodeId, handle: FileHandle): File {
    let file = this.#files.get(node);
    if (file === undefined) {
      const backend = this.#options.backend?.(node, handle) ?? ownBackend(this.#filesystem, node);
      file = this.#layer.fileOf(backend);
      this.#files.set(node, file);
      if (this.#files.size > this.#idleMax) this.#forgetIdle();
    }
    return file;
  }

  /** The oldest that nobody has open and nothing goes on with. */
  #forgetIdle(): void {
    for (const [node, file] of this.#files) {
      if (this.#files.size <= this.#idleMax) return;
      if (!file.isActive && [...(this.#handles.get(node)?.values() ?? [])].every(({ opens }) => opens === 0)) this.forget(node);
    }
  }

  opened(node: NodeId, number: FileHandle, flags: number): void {
    const found = this.#find(node, number);
    // One that is being closed is not the new one, though its number may be.
    if (found !== undefined && found.opens > 0) found.opens++;
    else this.#add(node, number, flags).opens = 1;
  }

  #find(node: NodeId, number: FileHandle): { handle: Handle; opens: number } | undefined {
    return this.#handles.get(node)?.get(number);
  }

  #add(node: NodeId, number: FileHandle, flags: number): { handle: Handle; opens: number } {
    const handle = this.#fileOf(node, number).open(number, flags);
    const added = { handle, opens: 0 };
    const handles = this.#handles.get(node);
    if (handles === undefined) this.#handles.set(node, new Map([[number, added]]));
    else handles.set(number, added);
    return added;
  }

  /** The handle of a request; made for filesystems whose files open without being asked. */
  handleOf(node: NodeId, number: FileHandle, flags = 0): Handle {
    return (this.#find(node, number) ?? this.#add(node, number, flags)).handle;
  }

  /** After the last release of a handle that goes by this number. */
  async released(node: NodeId, number: FileHandle): Promise<void> {
    const found = this.#find(node, number);
    if (found === undefined || --found.opens > 0) return;
    try {
      await found.handle.close();
    } finally {
      const handles = this.#handles.get(node);
      if (handles?.get(number) === found && found.opens <= 0) handles.delete(number);
      if (handles?.size === 0) this.#drop(node);
    }
  }

  forget(node: NodeId): void {
    const file = this.#files.get(node);
    if (file === undefined || file.isActive) return;
    for (const { opens } of this.#handles.get(node)?.values() ?? []) if (opens > 0) return;
    this.#drop(node);
  }

  #drop(node: NodeId): void {
    this.#files.delete(node);
    this.#handles.delete(node);
  }
}

/** What the layer answers in the filesystem's place. */
function overrides(fs: Filesystem, files: Files, layer: Layer, options: WithStorageOptions): Filesystem {
  const writes = options.backend !== undefined || fs.write !== undefined;
  return {
    ...opening(fs, files),
    read: (node, request) => files.handleOf(node, request.handle, request.flags).read(request.offset, request.size, request),
    ...(writes
      ? {
          write: async (node: NodeId, data: Uint8Array, request: WriteRequest) => {
            await files.handleOf(node, request.handle, request.flags).write(request.offset, data, request, request);
          },
        }
      : {}),
    ...barriers(fs, files, layer, writes),
    ...changes(fs, files),
    async destroy() {
      await layer.drain();
      await fs.destroy?.();
    },
  };
}

function opening(fs: Filesystem, files: Files): Filesystem {
  const opened = (node: number, reply: OpenReply | void, flags: number): void =>
    files.opened(node as NodeId, (reply?.handle ?? 0) as FileHandle, flags);
  return {
    ...(fs.open && {
      async open(node, request) {
        const { flags } = request;
        const file = files.known(node);
        const open = () => fs.open!(node, request);
        const reply = await ((flags & O_TRUNC) !== 0 && file !== undefined ? file.exclusive(open) : open());
        opened(node, reply, flags);
        return reply;
      },
    }),
    ...(fs.create && {
      async create(parent, name, request) {
        const { flags } = request;
        const reply = await fs.create!(parent, name, request);
        const file = files.known(reply.entry.node as NodeId);
        if ((flags & O_TRUNC) !== 0) file?.invalidate();
        opened(reply.entry.node, reply.open, flags);
        return reply;
      },
    }),
    ...(fs.tmpfile && {
      async tmpfile(parent, request) {
        const { flags } = request;
        const reply = await fs.tmpfile!(parent, request);
        opened(reply.entry.node, reply.open, flags);
        return reply;
      },
    }),
    forget(node, count) {
      files.forget(node);
      return fs.forget?.(node, count);
    },
  };
}

/** Methods that wait for writes: closing, syncing, and whoever asks how long the file is. */
function barriers(fs: Filesystem, files: Files, layer: Layer, writes: boolean): Filesystem {
  const drained = async (node: NodeId): Promise<void> => {
    const file = files.known(node);
    if (file?.hasUnwritten) await file.drain();
  };
  return {
    // With write-behind a close is where errors are told, so the kernel has to ask even if the filesystem does not care.
    ...((fs.flush !== undefined || (writes && layer.settings.writeBehind !== undefined)) && {
      async flush(node, request) {
        if (files.known(node) !== undefined) await files.handleOf(node, request.handle).flush();
        await fs.flush?.(node, request);
      },
    }),
    ...((fs.fsync !== undefined || writes) && {
      async fsync(node, request) {
        const isKnown = files.known(node) !== undefined;
        if (isKnown) await files.handleOf(node, request.handle).sync(request.dataOnly);
        await fs.fsync?.(node, request);
      },
    }),
    async release(node, request) {
      const { handle, pid } = request;
      try {
        await files.released(node, handle);
      } catch (error) {
        const message = 'what was written behind could not be written, and nobody asked before the file was closed';
        reportFault({ kind: 'handler-error', operation: 'RELEASE', nodeid: node, pid, message, error });
      }
      await fs.release?.(node, request);
    },
    ...(fs.getattr && {
      getattr(node, request) {
        return files.known(node)?.hasUnwritten
          ? drained(node).then(() => fs.getattr!(node, request))
          : fs.getattr!(node, request);
      },
    }),
    ...(fs.statx && {
      statx(node, request) {
        return files.known(node)?.hasUnwritten ? drained(node).then(() => fs.statx!(node, request)) : fs.statx!(node, request);
      },
    }),
    ...(fs.lookup && { lookup: (parent, name, request) => lookedUp(fs.lookup!(parent, name, request), files) }),
    ...(fs.link && {
      async link(node, request) {
        await drained(node);
        return fs.link!(node, request);
      },
    }),
    ...(fs.readdirplus && {
      async readdirplus(node, request, reply) {
        // It answers attributes of files that only the filesystem can name.
        if (layer.counters.unwrittenNow > 0) await layer.drain();
        return fs.readdirplus!(node, request, reply);
      },
    }),
    ...(fs.lseek && {
      async lseek(node, request) {
        await drained(node);
        return fs.lseek!(node, request);
      },
    }),
    ...(fs.syncfs && {
      async syncfs(node, request) {
        await layer.drain();
        await fs.syncfs!(node, request);
      },
    }),
  };
}

/** An entry says how long its file is, and what is not written counts. */
function lookedUp<E extends { node: number }>(answer: Answer<E>, files: Files): Answer<E> {
  const longer = (entry: E): E => {
    const end = files.known(entry.node as NodeId)?.unwrittenEnd ?? 0;
    const { attributes } = entry as unknown as Partial<Entry>;
    if (attributes === undefined || end <= Number(attributes.size ?? 0)) return entry;
    return { ...entry, attributes: { ...attributes, size: end } };
  };
  return 'then' in answer ? (answer as PromiseLike<E>).then(longer) : longer(answer);
}

/** Methods that change what is in a file past the layer: nothing of it is in flight meanwhile. */
function changes(fs: Filesystem, files: Files): Filesystem {
  const exclusive = <T>(node: NodeId, change: () => Answer<T>): Answer<T> => files.known(node)?.exclusive(change) ?? change();
  return {
    ...(fs.setattr && {
      setattr(node, request) {
        const change = () => fs.setattr!(node, request);
        const file = files.known(node);
        // Times that are set must not be overtaken by writes that were answered before.
        return request.size !== undefined || file?.hasUnwritten ? exclusive(node, change) : change();
      },
    }),
    ...(fs.fallocate && {
      fallocate: (node, request) => exclusive(node, () => fs.fallocate!(node, request)),
    }),
    ...(fs.copyFileRange && {
      copyFileRange(node, request) {
        const { toNode } = request;
        const copy = () => fs.copyFileRange!(node, request);
        // Always in the order of the nodes, so that two copies never wait for each other.
        if (node === toNode) return exclusive(node, copy);
        const [first, second] = node < toNode ? [node, toNode] : [toNode, node];
        return exclusive(first, () => exclusive(second, copy));
      },
    }),
  };
}

// --- a filesystem's own methods as the backend --------------------------------------------------------------------------------

const NO_GROUPS: readonly number[] = [];
const NO_CONTEXTS: readonly SecurityContext[] = [];
const read = promisify(readFd);

/** A merged request, in the name of who asked first. */
class MergedRequest implements Request {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  readonly operation: string;
  readonly resent = false;
  readonly handle: FileHandle;
  readonly flags: number;
  readonly offset: number;
  readonly size: number;
  readonly #transfer: Transfer;

  constructor(operation: string, transfer: Transfer, range: { offset: number; size: number }) {
    const { uid, gid, pid, handle, flags } = transfer.origin;
    this.operation = operation;
    this.uid = uid;
    this.gid = gid;
    this.pid = pid;
    this.handle = handle as FileHandle;
    this.flags = flags;
    this.offset = range.offset;
    this.size = range.size;
    this.#transfer = transfer;
  }

  get signal(): AbortSignal {
    return this.#transfer.signal;
  }

  groups(): readonly number[] {
    return NO_GROUPS;
  }

  securityContexts(): readonly SecurityContext[] {
    return NO_CONTEXTS;
  }
}

class MergedRead extends MergedRequest implements ReadRequest {
  filled: Uint8Array | undefined = undefined;

  payload(): Uint8Array {
    this.filled ??= Buffer.allocUnsafe(this.size);
    return this.filled;
  }
}

class MergedWrite extends MergedRequest implements WriteRequest {
  readonly writeback: boolean;
  readonly killSuidGid: boolean;
  readonly writeFlags: number;

  constructor(transfer: Transfer, range: { offset: number; size: number }) {
    super('WRITE', transfer, range);
    const { writeback, killSuidGid } = transfer.origin;
    this.writeback = writeback;
    this.killSuidGid = killSuidGid;
    this.writeFlags = writeFlagsOf(transfer.origin);
  }

  /** The bytes of several requests lie in no message of the kernel's. */
  writeTo(): number {
    return -ERRNO.EOPNOTSUPP;
  }
}

/** FUSE_WRITE_CACHE and FUSE_WRITE_KILL_SUIDGID. */
function writeFlagsOf({ writeback, killSuidGid }: Origin): number {
  return (writeback ? 1 : 0) | (killSuidGid ? 4 : 0);
}

/** The filesystem's `read` and `write`, which are given merged requests. */
function ownBackend(fs: Filesystem, node: NodeId): StorageBackend {
  return {
    async read(offset, length, transfer) {
      const request = new MergedRead('READ', transfer, { offset, size: length });
      return bytesOf(await fs.read!(node, request), request);
    },
    ...(fs.write && {
      async write(offset, data, transfer) {
        for (let done = 0; done < data.byteLength; ) {
          const rest = done === 0 ? data : data.subarray(done);
          const request = new MergedWrite(transfer, { offset: offset + done, size: rest.byteLength });
          const taken = (await fs.write!(node, rest, request)) ?? rest.byteLength;
          // Some of several requests was taken, and nobody could say of which.
          if (taken === 0) throw FuseError.of(ERRNO.EIO);
          done += taken;
        }
      },
    }),
  };
}

/** Every shape that `read` may answer. */
async function bytesOf(reply: ReadReply, request: MergedRead): Promise<Bytes> {
  if (typeof reply === 'number') return request.payload().subarray(0, reply);
  if (reply instanceof Uint8Array) return reply.byteLength > request.size ? reply.subarray(0, request.size) : reply;
  if (Array.isArray(reply)) return reply as readonly Uint8Array[];
  const { fd, position, length } = reply as FileRange;
  const bytes = Buffer.allocUnsafe(Math.min(length, request.size));
  let filled = 0;
  while (filled < bytes.byteLength) {
    const { bytesRead } = await read(fd, bytes, filled, bytes.byteLength - filled, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return bytes.subarray(0, filled);
}
