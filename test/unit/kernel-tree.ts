/** A small filesystem of flat files whose lifetimes, counts and answers a test decides; and the simulated kernel over it. */

import type { NodeId } from '../../src/filesystem/identity.ts';
import { type Entry, type Filesystem, FuseError, type ReadRequest, type Request } from '../../src/filesystem/index.ts';
import type { AuditedFilesystem, SimulatedKernel } from '../../src/testing/index.ts';

export interface SmallFile {
  node: number;
  generation: number;
  mode: number;
  data: Uint8Array;
  mtime: { seconds: number; nanoseconds: number };
}

export const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'latin1'));
export const text = (data: Uint8Array): string => Buffer.from(data).toString('latin1');
export const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, at) => (at * 31 + (at >> 8)) & 0xff);

/** Makes the methods of a filesystem of one directory. Spread it and replace what a test is about. */
export class SmallTree implements AuditedFilesystem {
  entryTtl = 1;
  attributeTtl = 1;
  readonly files = new Map<string, SmallFile>();
  readonly counts = new Map<number, number>();
  readonly handles = new Set<number>();
  readonly interrupted: string[] = [];
  #lastNode = 1;
  #lastHandle = 0;

  add(name: string, data: Uint8Array = new Uint8Array(0), mode = 0o100644): SmallFile {
    const file = { node: ++this.#lastNode, generation: 0, mode, data, mtime: { seconds: 1, nanoseconds: 0 } };
    this.files.set(name, file);
    return file;
  }

  entry(file: SmallFile): Entry {
    this.counts.set(file.node, (this.counts.get(file.node) ?? 0) + 1);
    const { node, generation } = file;
    return { node, generation, attributes: this.attributes(file), entryTtl: this.entryTtl, attributeTtl: this.attributeTtl };
  }

  attributes(file: SmallFile) {
    return { mode: file.mode, size: file.data.length, mtime: file.mtime };
  }

  byNode(node: number): SmallFile {
    for (const file of this.files.values()) if (file.node === node) return file;
    throw new FuseError('ESTALE');
  }

  opened(): { handle: number } {
    this.handles.add(++this.#lastHandle);
    return { handle: this.#lastHandle };
  }

  lookupCounts(): Iterable<readonly [number, number]> {
    return this.counts;
  }

  openHandles(): Iterable<number> {
    return this.handles;
  }

  filesystem(): Filesystem {
    const root = { attributes: { mode: 0o040755, nlink: 2 }, attributeTtl: 1 };
    return {
      settings: { capabilities: ['FUSE_ATOMIC_O_TRUNC'] },
      lookup: (_parent, name) => {
        const file = this.files.get(name);
        if (file === undefined) throw new FuseError('ENOENT');
        return this.entry(file);
      },
      forget: (node, count) => {
        this.counts.set(node, (this.counts.get(node) ?? 0) - count);
        if (this.counts.get(node) === 0) this.counts.delete(node);
      },
      getattr: (node) =>
        node === 1 ? root : { attributes: this.attributes(this.byNode(node)), attributeTtl: this.attributeTtl },
      setattr: (node, { size, mode, mtime }) => {
        const file = this.byNode(node);
        if (size !== undefined) file.data = resized(file.data, size);
        if (mode !== undefined) file.mode = mode;
        if (mtime !== undefined && mtime !== 'now') file.mtime = { ...mtime };
        return { attributes: this.attributes(file), attributeTtl: this.attributeTtl };
      },
      create: (_parent, name, { mode }) => ({ entry: this.entry(this.add(name, new Uint8Array(0), mode)), open: this.opened() }),
      unlink: (_parent, name) => void this.files.delete(name),
      open: (node, { flags }) => {
        if ((flags & 0o1000) !== 0) this.byNode(node).data = new Uint8Array(0);
        return this.opened();
      },
      release: (_node, { handle }) => void this.handles.delete(handle),
      opendir: () => this.opened(),
      releasedir: (_node, { handle }) => void this.handles.delete(handle),
      readdir: (_node, { offset }, reply) => {
        let at = 0;
        for (const [name, { node, mode }] of this.files)
          if (++at > offset && !reply.add({ name, ino: node, mode, offset: at })) return;
      },
      read: (node, { offset, size }) => this.byNode(node).data.subarray(offset, offset + size),
      write: (node, data, { offset }) => {
        const file = this.byNode(node);
        if (offset + data.length > file.data.length) file.data = resized(file.data, offset + data.length);
        else file.data = file.data.slice();
        file.data.set(data, offset);
      },
    };
  }
}

function resized(data: Uint8Array, size: number): Uint8Array {
  const next = new Uint8Array(size);
  next.set(data.subarray(0, size));
  return next;
}

/** Holds back answers until a test lets them go. */
export class Gate {
  readonly waiting: {
    node: number;
    offset: number;
    size: number;
    resolve: (value: never) => void;
    reject: (error: unknown) => void;
  }[] = [];

  /** A promise that the test settles. Rejects when the caller is interrupted. */
  hold<T>(node: NodeId, request: Request & Partial<Pick<ReadRequest, 'offset' | 'size'>>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.waiting.push({ node, offset: request.offset ?? 0, size: request.size ?? 0, resolve: resolve as never, reject });
      request.signal.addEventListener('abort', () => reject(new FuseError('EINTR')));
    });
  }
}

export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** The operations that `action` caused. */
export async function operationsOf(kernel: SimulatedKernel, action: () => Promise<unknown>): Promise<string[]> {
  kernel.clearRequests();
  await action();
  await turn();
  return [...kernel.operations];
}
