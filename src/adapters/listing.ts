/** Whole listings: OPENDIR, READDIR until nothing more comes, RELEASEDIR. */
import {
  type DirectoryEntry,
  type DirectoryReply,
  type Entry,
  ERRNO,
  type FileHandle,
  FuseError,
  type Listed,
  type ListedEntry,
  type NodeId,
} from '../filesystem/index.ts';
import type { Walker } from './walker.ts';

/** What one READDIR takes, as the kernel's buffer. */
const REPLY_BYTES = 32 * 1024;
const S_IFMT = 0o170000;

export interface NamedType {
  readonly name: string;
  /** S_IFMT bits; 0 when the listing does not tell. */
  readonly type: number;
}

/** Takes entries up to the bytes of a reply; entries with a node count as looked up, and are forgotten at once. */
class Page implements DirectoryReply {
  readonly #walker: Walker;
  readonly entries: NamedType[] = [];
  readonly granted: NodeId[] = [];
  last: DirectoryEntry['offset'] = 0;
  count = 0;
  #left = REPLY_BYTES;

  constructor(walker: Walker) {
    this.#walker = walker;
  }

  /** The method answered all entries at once. */
  isWhole = false;

  async takeAll(listed: Listed): Promise<void> {
    this.isWhole = true;
    for await (const given of listed) {
      const { name, mode = 0, entry } = typeof given === 'string' ? { name: given } : (given as ListedEntry);
      if (entry !== undefined && entry.node !== 0 && name !== '.' && name !== '..') this.granted.push(entry.node as NodeId);
      if (name !== '.' && name !== '..') this.#put(name, mode || (entry?.attributes.mode ?? 0));
    }
  }

  fits(nameBytes: number): boolean {
    return this.#left >= 152 + nameBytes + 8;
  }

  add(entry: DirectoryEntry): boolean {
    return this.addPlus(entry, undefined);
  }

  addPlus(entry: DirectoryEntry, found: Entry | undefined): boolean {
    const { name } = entry;
    const nameBytes = Buffer.byteLength(name);
    if (!this.fits(nameBytes)) return false;
    this.#left -= 152 + ((nameBytes + 7) & ~7);
    this.last = entry.offset;
    this.count++;
    if (name === '.' || name === '..') return true;
    if (found !== undefined && found.node !== 0) this.granted.push(found.node as NodeId);
    this.#put(name, entry.mode ?? found?.attributes.mode ?? 0);
    return true;
  }

  #put(name: string, mode: number): void {
    this.entries.push({ name: this.#walker.decoded(name), type: mode & S_IFMT });
  }
}

export async function* listDirectory(walker: Walker, node: NodeId): AsyncGenerator<NamedType> {
  const { filesystem } = walker;
  const opened = await filesystem.opendir?.(node, walker.ask('OPENDIR', { flags: 0, killSuidGid: false }));
  const handle = (opened?.handle ?? 0) as FileHandle;
  try {
    for (let at: number | bigint = 0; ; ) {
      const page = await readPage(walker, node, handle, at);
      yield* page.entries;
      if (page.isWhole) return;
      // A cookie that stands still would list for ever.
      if (page.count === 0 || page.last === at) return;
      at = page.last;
    }
  } finally {
    const request = walker.ask('RELEASEDIR', { handle, flags: 0, flockUnlock: false, lockOwner: { low: 0, high: 0 } });
    await Promise.resolve(filesystem.releasedir?.(node, request)).catch(() => {});
  }
}

async function readPage(walker: Walker, node: NodeId, handle: FileHandle, at: number | bigint): Promise<Page> {
  const { filesystem } = walker;
  const method = filesystem.readdir ?? filesystem.readdirplus;
  if (method === undefined) throw FuseError.of(ERRNO.ENOSYS);
  const page = new Page(walker);
  const cookie = BigInt.asUintN(64, BigInt(at));
  const request = walker.ask('READDIR', {
    handle,
    offset: Number(cookie),
    offsetLow: Number(cookie & 0xffffffffn),
    offsetHigh: Number(cookie >> 32n),
    size: REPLY_BYTES,
  });
  try {
    const listed = await method.call(filesystem, node, request, page);
    if (listed !== undefined) await page.takeAll(listed);
  } finally {
    for (const granted of page.granted) filesystem.forget?.(granted, 1);
  }
  return page;
}
