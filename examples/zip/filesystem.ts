/**
 * A zip archive as a folder to read.
 *
 *     fusewire mount dist/examples/zip/filesystem.js /mnt --read-only -- archive.zip cache=64m
 *
 * Stored entries are read straight from the archive; of compressed ones the decompressed blocks are kept, up to `cache` bytes.
 * The kernel's page cache stands before both. Symbolic links, permissions, owners and times are those of the archive.
 * Left out: entries that need a password (opening them says EACCES).
 */
import { closeSync, openSync } from 'node:fs';
import { Uint8ArrayWriter } from '@zip.js/zip.js';
import { type Entry, type Filesystem, FuseError, type NodeId, type WorkerContext } from 'fusewire';
import { type Node, positionOf, readArchive } from './archive.ts';
import { BlockCache, Content } from './content.ts';

export interface ZipOptions {
  /** What stands after `--`: the archive, then `cache=BYTES` with an optional k, m or g. */
  readonly arguments?: readonly string[];
}

/** Decompression runs in Node's own threads already; more workers would each have a cache. */
export const workers = 1;

/** A path longer than this is none to the kernel (PATH_MAX). */
const TARGET_BYTES_MAX = 4095;

/** An open file: where it stands in the archive, or what decompresses it. */
interface OpenFile {
  readonly position?: number;
  readonly content?: Content;
  openings: number;
}

export default async function zip({ options, mode }: Pick<WorkerContext<ZipOptions>, 'options' | 'mode'>): Promise<Filesystem> {
  if (mode === 'blocking') throw new Error('zip decompresses in other threads and waits for them; mount it with --mode event');
  const { archive, cacheBytes } = settingsOf(options.arguments ?? []);
  const fd = openSync(archive, 'r');
  try {
    return new ZipFilesystem(fd, await readArchive(fd), cacheBytes);
  } catch (error) {
    closeSync(fd);
    throw new Error(`${archive} cannot be read as a zip archive: ${(error as Error).message}`, { cause: error });
  }
}

class ZipFilesystem implements Filesystem {
  readonly settings = { cache: 'immutable' } as const;
  readonly #fd: number;
  readonly #nodes: readonly Node[];
  readonly #cache: BlockCache;
  readonly #files = new Map<NodeId, OpenFile>();

  constructor(fd: number, nodes: readonly Node[], cacheBytes: number) {
    this.#fd = fd;
    this.#nodes = nodes;
    this.#cache = new BlockCache(cacheBytes);
  }

  async destroy(): Promise<void> {
    await Promise.all([...this.#files.values()].map(({ content }) => content?.close()));
    closeSync(this.#fd);
  }

  lookup(parent: NodeId, name: string) {
    const child = this.#nodes[parent].children?.get(name);
    return child === undefined ? ({ node: 0 } as const) : entryOf(child);
  }

  getattr(node: NodeId) {
    return { attributes: this.#nodes[node].attributes };
  }

  async readlink(node: NodeId) {
    const { entry } = this.#nodes[node];
    if (entry!.uncompressedSize > TARGET_BYTES_MAX) throw new FuseError('ENAMETOOLONG');
    return await entry!.getData(new Uint8ArrayWriter(), { checkSignature: true });
  }

  readdir(node: NodeId) {
    return [...this.#nodes[node].children!].map(([name, { id, attributes }]) => ({ name, ino: id, mode: attributes.mode }));
  }

  readdirplus(node: NodeId) {
    return [...this.#nodes[node].children!].map(([name, child]) => ({ name, entry: entryOf(child) }));
  }

  open(node: NodeId): void {
    const entry = this.#nodes[node].entry!;
    if (entry.encrypted) throw new FuseError('EACCES', `${entry.filename} needs a password`);
    let file = this.#files.get(node);
    if (file === undefined) {
      const isStored = entry.compressionMethod === 0;
      const how = isStored ? { position: positionOf(this.#fd, entry) } : { content: new Content(entry, this.#cache) };
      file = { ...how, openings: 0 };
      this.#files.set(node, file);
    }
    file.openings++;
  }

  read(node: NodeId, { offset, size, signal }: { offset: number; size: number; signal: AbortSignal }) {
    const end = Math.min(offset + size, this.#nodes[node].attributes.size!);
    if (offset >= end) return 0;
    const { position, content } = this.#files.get(node)!;
    if (position !== undefined) return { fd: this.#fd, position: position + offset, length: end - offset };
    return content!.read(offset, end, signal);
  }

  async release(node: NodeId): Promise<void> {
    const file = this.#files.get(node)!;
    if (--file.openings > 0) return;
    this.#files.delete(node);
    await file.content?.close();
  }
}

function entryOf({ id, attributes }: Node): Entry {
  return { node: id, attributes };
}

function settingsOf(words: readonly string[]): { archive: string; cacheBytes: number } {
  const [archive, ...rest] = words;
  if (archive === undefined) throw new Error('zip needs the path of an archive: -- archive.zip');
  let cacheBytes = 64 << 20;
  for (const word of rest) {
    const [, digits, unit] = /^cache=(\d{1,9})([kmg]?)$/.exec(word) ?? [];
    if (digits === undefined) throw new Error(`${word} is no argument of zip; write cache=BYTES, as cache=64m`);
    cacheBytes = Number(digits) * 1024 ** ' kmg'.indexOf(unit || ' ');
  }
  return { archive, cacheBytes };
}
