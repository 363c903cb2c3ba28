/** An open zip archive as a tree of nodes. The library zip.js reads its directory, which stands at the end of the file. */
import { fstatSync, read, readSync } from 'node:fs';
import { promisify } from 'node:util';
import { configure, type Entry, type FileEntry, Reader, ZipReader } from '@zip.js/zip.js';
import { type AttributesInit, FuseError, ROOT_NODE } from 'fusewire';

// Threads of its own would only carry bytes to and fro: the decompression runs in those of Node already.
configure({ useWebWorkers: false });

const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
/** A read-only tree says so: nobody may write, whoever could at home. */
const READ_AND_EXECUTE = 0o555;

export interface Node {
  /** Node id and inode number. */
  readonly id: number;
  attributes: AttributesInit;
  /** Of a file or a symbolic link. */
  readonly entry?: FileEntry;
  /** Of a directory, by name. */
  readonly children?: Map<string, Node>;
}

/** Parts of the archive from an open descriptor, as zip.js asks for them. */
class DescriptorReader extends Reader<number> {
  readonly #fd: number;

  constructor(fd: number) {
    super(fd);
    this.#fd = fd;
    this.size = fstatSync(fd).size;
  }

  override async readUint8Array(index: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(Math.min(length, this.size - index));
    const { bytesRead } = await promisify(read)(this.#fd, bytes, 0, bytes.length, index);
    return bytes.subarray(0, bytesRead);
  }
}

/** All nodes by their id. Rejects when the file is no zip archive. */
export async function readArchive(fd: number): Promise<Node[]> {
  const { uid, gid, mtime } = fstatSync(fd);
  const owner = { uid, gid };
  const nodes: Node[] = [];
  const add = (attributes: AttributesInit, more: Pick<Node, 'entry' | 'children'>) => {
    const node = { id: nodes.length, attributes: { ...owner, mtime, ...attributes }, ...more };
    nodes.push(node);
    return node;
  };
  // There is no node 0.
  nodes.length = ROOT_NODE;
  const root = add({ mode: S_IFDIR | READ_AND_EXECUTE, nlink: 2 }, { children: new Map() });

  /** A directory exists because a path leads through it; an entry of its own only gives it attributes. */
  const directoryOf = (names: readonly string[]): Node | undefined => {
    let directory: Node = root;
    for (const name of names) {
      let child = directory.children!.get(name);
      if (child === undefined) {
        child = add({ mode: S_IFDIR | READ_AND_EXECUTE, nlink: 2 }, { children: new Map() });
        directory.children!.set(name, child);
        directory.attributes.nlink!++;
      }
      if (child.children === undefined) return undefined;
      directory = child;
    }
    return directory;
  };

  // Names are judged below: one bad name is no reason to refuse the others.
  const reader = new ZipReader(new DescriptorReader(fd), { filenameValidation: 'tolerant' });
  for await (const entry of reader.getEntriesGenerator()) {
    const names = namesOf(entry.filename);
    const directory = names && directoryOf(entry.directory ? names : names.slice(0, -1));
    // A path that leads out of the tree, or through a file, names nothing that a directory could hold.
    if (directory === undefined) continue;
    const own = { ...owner, ...attributesOf(entry) };
    if (entry.directory) {
      directory.attributes = { ...own, nlink: directory.attributes.nlink! };
    } else {
      const { children } = directory;
      const name = names!.at(-1)!;
      // Of several entries with a name the last one counts, as for those who unpack; a directory stays one.
      if (children!.get(name)?.children === undefined) children!.set(name, add(own, { entry }));
    }
  }
  return nodes;
}

/** The components of an entry's path; undefined when it has one that no directory can hold. */
function namesOf(path: string): string[] | undefined {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  const isBad = names.some((name) => name === '..' || name.includes('\0') || Buffer.byteLength(name) > 255);
  return isBad || names.length === 0 ? undefined : names;
}

function attributesOf(entry: Entry): AttributesInit {
  const { unixMode, uid, gid, directory, symlink, lastModDate, lastAccessDate, uncompressedSize } = entry;
  const permissions = (unixMode ?? READ_AND_EXECUTE) & READ_AND_EXECUTE;
  return {
    mode: directory ? S_IFDIR | permissions : symlink ? S_IFLNK | 0o777 : S_IFREG | permissions,
    size: directory ? 0 : uncompressedSize,
    mtime: lastModDate,
    ctime: lastModDate,
    atime: lastAccessDate ?? lastModDate,
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
  };
}

const LOCAL_HEADER_BYTES = 30;

/**
 * Where a stored entry's bytes begin in the archive: after its local header, whose name and extra field may be longer or
 * shorter than those in the archive's directory. Throws EIO when there is none.
 */
export function positionOf(fd: number, { offset, compressedSize, uncompressedSize }: FileEntry): number {
  const header = Buffer.alloc(LOCAL_HEADER_BYTES);
  const read = readSync(fd, header, 0, header.length, offset);
  if (read !== header.length || header.readUInt32LE(0) !== 0x04034b50 || compressedSize !== uncompressedSize) {
    throw new FuseError('EIO', 'the archive is damaged: a stored entry has no header, or two sizes');
  }
  return offset + LOCAL_HEADER_BYTES + header.readUInt16LE(26) + header.readUInt16LE(28);
}
