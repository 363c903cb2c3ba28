/** An open file, in the manner of FileHandle of node:fs/promises. */
import { readSync, writeSync } from 'node:fs';
import {
  type AttributesInit,
  ERRNO,
  type FileRange,
  FuseError,
  type FileHandle as HandleId,
  type NodeId,
  type ReadReply,
  type SetattrRequest,
  type Timespec,
} from '../filesystem/index.ts';
import { BigIntStats, Stats } from './node-stats.ts';
import { asSystemError } from './system-error.ts';
import type { Walker } from './walker.ts';

/** Bytes of one READ or WRITE: the kernel's usual limit. */
const REQUEST_BYTES_MAX = 1 << 20;
const O_ACCMODE = 3;
const O_RDONLY = 0;
const O_WRONLY = 1;
const O_APPEND = 0o2000;

/** Seconds since 1970, a Date, or a text of a number, as utimes of node:fs takes them. */
export type NodeTime = number | string | Date;

type Changes = Partial<Pick<SetattrRequest, 'mode' | 'newUid' | 'newGid' | 'size' | 'atime' | 'mtime'>>;

export function timespecOf(time: NodeTime): Timespec {
  const seconds = time instanceof Date ? time.getTime() / 1000 : Number(time);
  if (!Number.isFinite(seconds)) throw FuseError.of(ERRNO.EINVAL);
  const whole = Math.floor(seconds);
  return { seconds: whole, nanoseconds: Math.min(999_999_999, Math.round((seconds - whole) * 1e9)) };
}

/** Bits of the FATTR_* word for what is present. */
const FATTR: readonly [keyof Changes, number][] = [
  ['mode', 1],
  ['newUid', 2],
  ['newGid', 4],
  ['size', 8],
  ['atime', 16],
  ['mtime', 32],
];

/** One SETATTR. */
export async function setAttributes(walker: Walker, node: NodeId, changes: Changes, handle?: HandleId): Promise<AttributesInit> {
  const { filesystem } = walker;
  if (filesystem.setattr === undefined) throw FuseError.of(ERRNO.ENOSYS);
  let valid = 0;
  for (const [name, bit] of FATTR) if (changes[name] !== undefined) valid |= bit;
  const request = walker.ask('SETATTR', {
    handle,
    mode: undefined,
    newUid: undefined,
    newGid: undefined,
    size: undefined,
    atime: undefined,
    mtime: undefined,
    ctime: undefined,
    killSuidGid: false,
    valid,
    ...changes,
  });
  return (await filesystem.setattr(node, request)).attributes;
}

export class OpenFile {
  readonly #walker: Walker;
  readonly #node: NodeId;
  readonly #handle: HandleId;
  readonly #flags: number;
  readonly #path: string;
  readonly #onClose: () => void;
  #closed: Promise<void> | undefined;
  /** The file position, for reads and writes without one. */
  #position = 0;
  #appending: Promise<unknown> = Promise.resolve();

  constructor(walker: Walker, node: NodeId, handle: HandleId, flags: number, path: string, onClose: () => void) {
    this.#walker = walker;
    this.#node = node;
    this.#handle = handle;
    this.#flags = flags;
    this.#path = path;
    this.#onClose = onClose;
  }

  /** The number of the opening in the filesystem: no descriptor of this process. */
  get fd(): number {
    return this.#handle;
  }

  /** Like read(2): at `position`, or where the last one ended when that is absent. */
  read<View extends NodeJS.ArrayBufferView>(
    buffer: View,
    offset = 0,
    length = buffer.byteLength - offset,
    position: number | bigint | null = null,
  ): Promise<{ bytesRead: number; buffer: View }> {
    return this.#do('read', async () => {
      this.#assertAccess(O_WRONLY);
      const target = new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength).subarray(offset, offset + length);
      const moves = position === null || position === -1;
      const from = moves ? this.#position : Number(position);
      const bytesRead = await this.#readInto(target, from);
      if (moves) this.#position = from + bytesRead;
      return { bytesRead, buffer };
    });
  }

  async readv(buffers: readonly NodeJS.ArrayBufferView[], position: number | null = null) {
    let bytesRead = 0;
    for (const buffer of buffers) {
      const at = position === null ? null : position + bytesRead;
      const { bytesRead: count } = await this.read(buffer, 0, buffer.byteLength, at);
      bytesRead += count;
      if (count < buffer.byteLength) break;
    }
    return { bytesRead, buffers };
  }

  readFile(options?: { encoding?: BufferEncoding | null } | BufferEncoding | null): Promise<Buffer | string> {
    return this.#do('read', async () => {
      this.#assertAccess(O_WRONLY);
      const chunks: Uint8Array[] = [];
      const { size = 0 } = await this.#attributes();
      for (;;) {
        // One byte more than the size tells the end with the same request.
        const chunk = new Uint8Array(Math.max(4096, Math.min(REQUEST_BYTES_MAX, size - this.#position + 1)));
        const count = await this.#readInto(chunk, this.#position);
        if (count === 0) break;
        this.#position += count;
        chunks.push(chunk.subarray(0, count));
      }
      const encoding = typeof options === 'string' ? options : options?.encoding;
      const whole = Buffer.concat(chunks);
      return encoding ? whole.toString(encoding) : whole;
    });
  }

  write(
    data: NodeJS.ArrayBufferView | string,
    offset?: number | null,
    lengthOrEncoding?: number | BufferEncoding | null,
    position: number | null = null,
  ): Promise<{ bytesWritten: number; buffer: NodeJS.ArrayBufferView | string }> {
    return this.#do('write', async () => {
      this.#assertAccess(O_RDONLY);
      let bytes: Uint8Array;
      let at = position;
      if (typeof data === 'string') {
        bytes = Buffer.from(data, (lengthOrEncoding as BufferEncoding | undefined) ?? 'utf8');
        at = offset ?? null;
      } else {
        const whole = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
        const from = offset ?? 0;
        bytes = whole.subarray(from, from + ((lengthOrEncoding as number | undefined) ?? whole.byteLength - from));
      }
      return { bytesWritten: await this.#writeAll(bytes, at), buffer: data };
    });
  }

  async writev(buffers: readonly NodeJS.ArrayBufferView[], position: number | null = null) {
    let bytesWritten = 0;
    for (const buffer of buffers) {
      const at = position === null ? null : position + bytesWritten;
      bytesWritten += (await this.write(buffer, 0, buffer.byteLength, at)).bytesWritten;
    }
    return { bytesWritten, buffers };
  }

  /** Writes everything at the file position. */
  writeFile(data: FileData, options?: { encoding?: BufferEncoding | null } | BufferEncoding | null): Promise<void> {
    return this.#do('write', async () => {
      this.#assertAccess(O_RDONLY);
      const encoding = (typeof options === 'string' ? options : options?.encoding) ?? 'utf8';
      for await (const bytes of pieces(data, encoding)) await this.#writeAll(bytes, null);
    });
  }

  appendFile(data: FileData, options?: { encoding?: BufferEncoding | null } | BufferEncoding | null): Promise<void> {
    return this.writeFile(data, options);
  }

  truncate(length = 0): Promise<void> {
    return this.#do('ftruncate', async () => {
      if ((this.#flags & O_ACCMODE) === O_RDONLY) throw FuseError.of(ERRNO.EINVAL);
      await this.#set({ size: length });
    });
  }

  stat(options: { bigint: true }): Promise<BigIntStats>;
  stat(options?: { bigint?: boolean }): Promise<Stats>;
  stat(options?: { bigint?: boolean }): Promise<Stats | BigIntStats> {
    return this.#do('fstat', async () => {
      const attributes = await this.#attributes();
      return options?.bigint ? new BigIntStats(attributes, this.#node) : new Stats(attributes, this.#node);
    });
  }

  chmod(mode: number | string): Promise<void> {
    return this.#do('fchmod', () => this.#set({ mode: modeOf(mode) }));
  }

  chown(uid: number, gid: number): Promise<void> {
    return this.#do('fchown', () => this.#set(owners(uid, gid)));
  }

  utimes(atime: NodeTime, mtime: NodeTime): Promise<void> {
    return this.#do('futime', () => this.#set({ atime: timespecOf(atime), mtime: timespecOf(mtime) }));
  }

  sync(): Promise<void> {
    return this.#do('fsync', () => this.#sync(false));
  }

  datasync(): Promise<void> {
    return this.#do('fdatasync', () => this.#sync(true));
  }

  /** FLUSH, whose error it rejects with, and RELEASE. A second time: nothing more. */
  close(): Promise<void> {
    this.#closed ??= this.#close().catch((error) => {
      throw asSystemError(error, 'close');
    });
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // --- requests --------------------------------------------------------------------------------------------------------

  async #do<T>(syscall: string, work: () => Promise<T>): Promise<T> {
    try {
      if (this.#closed !== undefined) throw FuseError.of(ERRNO.EBADF);
      return await this.#walker.use(work);
    } catch (error) {
      throw asSystemError(error, syscall, this.#path);
    }
  }

  #assertAccess(without: number): void {
    if ((this.#flags & O_ACCMODE) === without) throw FuseError.of(ERRNO.EBADF);
  }

  async #attributes(): Promise<AttributesInit> {
    const { filesystem } = this.#walker;
    if (filesystem.getattr === undefined) throw FuseError.of(ERRNO.ENOSYS);
    const request = this.#walker.ask('GETATTR', { handle: this.#handle });
    return (await filesystem.getattr(this.#node, request)).attributes;
  }

  async #set(changes: Changes): Promise<void> {
    await setAttributes(this.#walker, this.#node, changes, this.#handle);
  }

  /** Until the buffer is full or the file ends. */
  async #readInto(target: Uint8Array, from: number): Promise<number> {
    let filled = 0;
    while (filled < target.byteLength) {
      const piece = target.subarray(filled, filled + REQUEST_BYTES_MAX);
      const count = await this.#readOnce(piece, from + filled);
      filled += count;
      if (count < piece.byteLength) break;
    }
    return filled;
  }

  async #readOnce(target: Uint8Array, offset: number): Promise<number> {
    const { filesystem } = this.#walker;
    if (filesystem.read === undefined) throw FuseError.of(ERRNO.ENOSYS);
    let payload: Uint8Array | undefined;
    const request = this.#walker.ask('READ', {
      handle: this.#handle,
      offset,
      size: target.byteLength,
      flags: this.#flags,
      payload: () => {
        payload ??= target;
        return payload;
      },
    });
    return deliver(await filesystem.read(this.#node, request), target);
  }

  async #writeAll(bytes: Uint8Array, position: number | null): Promise<number> {
    if ((this.#flags & O_APPEND) === 0) {
      const from = position ?? this.#position;
      const written = await this.#writeAt(bytes, from);
      if (position === null) this.#position = from + written;
      return written;
    }
    // The kernel knows the end of the file; appending through one opening happens one after the other.
    const work = async () => {
      const { size = 0 } = await this.#attributes();
      const written = await this.#writeAt(bytes, size);
      this.#position = size + written;
      return written;
    };
    const turn = this.#appending.then(work, work);
    this.#appending = turn.catch(() => {});
    return turn;
  }

  async #writeAt(bytes: Uint8Array, from: number): Promise<number> {
    const { filesystem } = this.#walker;
    if (filesystem.write === undefined) throw FuseError.of(ERRNO.ENOSYS);
    let written = 0;
    while (written < bytes.byteLength) {
      const data = bytes.subarray(written, written + REQUEST_BYTES_MAX);
      const request = this.#walker.ask('WRITE', {
        handle: this.#handle,
        offset: from + written,
        size: data.byteLength,
        flags: this.#flags,
        writeback: false,
        killSuidGid: false,
        writeFlags: 0,
        writeTo: (fd: number, position: number) => writeTo(fd, data, position),
      });
      const count = (await filesystem.write(this.#node, data, request)) ?? data.byteLength;
      written += count;
      if (count < data.byteLength) break;
    }
    return written;
  }

  async #sync(dataOnly: boolean): Promise<void> {
    await this.#walker.filesystem.fsync?.(this.#node, this.#walker.ask('FSYNC', { handle: this.#handle, dataOnly }));
  }

  async #close(): Promise<void> {
    const { filesystem } = this.#walker;
    const lockOwner = { low: 0, high: 0 };
    const handle = this.#handle;
    try {
      await filesystem.flush?.(this.#node, this.#walker.ask('FLUSH', { handle, lockOwner }));
    } finally {
      const request = this.#walker.ask('RELEASE', { handle, flags: this.#flags, flockUnlock: false, lockOwner });
      try {
        // What goes wrong in a release has nobody to go to.
        await Promise.resolve(filesystem.release?.(this.#node, request)).catch(() => {});
      } finally {
        filesystem.forget?.(this.#node, 1);
        this.#onClose();
      }
    }
  }
}

export type FileData =
  | string
  | NodeJS.ArrayBufferView
  | Iterable<string | NodeJS.ArrayBufferView>
  | AsyncIterable<string | NodeJS.ArrayBufferView>;

async function* pieces(data: FileData, encoding: BufferEncoding): AsyncGenerator<Uint8Array> {
  if (typeof data === 'string') yield Buffer.from(data, encoding);
  else if (ArrayBuffer.isView(data)) yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  else for await (const piece of data) yield* pieces(piece, encoding);
}

/** Brings any answer of read into `target`; answers its bytes. */
function deliver(reply: ReadReply, target: Uint8Array): number {
  if (typeof reply === 'number') return reply;
  if (reply instanceof Uint8Array || Array.isArray(reply)) {
    let filled = 0;
    for (const part of reply instanceof Uint8Array ? [reply] : (reply as readonly Uint8Array[])) {
      const room = part.subarray(0, target.byteLength - filled);
      target.set(room, filled);
      filled += room.byteLength;
    }
    return filled;
  }
  const { fd, position, length } = reply as FileRange;
  return readSync(fd, target, 0, Math.min(length, target.byteLength), position);
}

function writeTo(fd: number, data: Uint8Array, position: number): number {
  try {
    return writeSync(fd, data, 0, data.byteLength, position);
  } catch (error) {
    return (error as NodeJS.ErrnoException).errno ?? -ERRNO.EIO;
  }
}

export function modeOf(mode: number | string): number {
  return (typeof mode === 'string' ? Number.parseInt(mode, 8) : mode) & 0o7777;
}

/** -1 leaves an id alone. */
export function owners(uid: number, gid: number): Changes {
  return { ...(uid === -1 ? {} : { newUid: uid }), ...(gid === -1 ? {} : { newGid: gid }) };
}
