/** Listings: from getdents64 of the host to READDIR and READDIRPLUS. */
import type { DirectoryEntry, DirectoryReply, Entry, ReaddirRequest } from 'fusewire';
import { check, type Host } from './host.ts';
import type { Nodes } from './nodes.ts';

// struct linux_dirent64: where the fields lie, in bytes.
const OFFSET = 8;
const RECORD_BYTES = 16;
const TYPE = 18;
const NAME = 19;

/** Room for records; a listing takes as much of it as its reply can hold. */
const BUFFER_BYTES = 128 * 1024;

/**
 * How many bytes of the host's records are sure to fit a reply of `size` bytes. A record of the host takes 20 bytes and the
 * name, rounded up to 8, with a NUL; one of FUSE takes 24 and the name, rounded up, and 128 more with attributes. So the
 * worst case is a short name: 32 for 24, or 160 for 24. Everything read is answered then, and the host's own position is
 * where the next request goes on.
 */
function bytesFor(size: number, plus: boolean): number {
  return Math.min(BUFFER_BYTES, Math.floor(plus ? (size * 24) / 160 : (size * 24) / 32));
}

/** One listing at a time: the object is the worker's, and a listing is complete when {@link list} returns. */
export class Directory {
  readonly #host: Host;
  readonly #nodes: Nodes;
  readonly #buffer: number;
  readonly #bytes: Buffer;
  readonly #words: BigUint64Array;
  /** Filled anew for each entry: the library copies it at once. */
  readonly #entry: Required<DirectoryEntry> = { name: '', ino: 0, mode: 0, offset: 0 };

  constructor(host: Host, nodes: Nodes) {
    const memory = new ArrayBuffer(BUFFER_BYTES);
    this.#host = host;
    this.#nodes = nodes;
    this.#buffer = host.addon.registerBuffer(memory);
    this.#bytes = Buffer.from(memory);
    this.#words = new BigUint64Array(memory);
  }

  close(): void {
    this.#host.addon.unregisterBuffer(this.#buffer);
  }

  /**
   * Answers entries after the cookie that the request carries. The cookie is the host's own position, all 63 bits of it,
   * and every request sets it: consecutive requests for one handle may come to different workers, and seekdir jumps. When
   * the position stands there already, as it does while a listing goes on, the host does nothing.
   *
   * With attributes (`nodeFd` given) each entry is looked up, except "." and "..", which take no part in lookup counts.
   */
  list(fd: number, nodeFd: number | undefined, request: ReaddirRequest, reply: DirectoryReply): void {
    const room = bytesFor(request.size, nodeFd !== undefined);
    let length = this.#read(fd, request.offsetLow, request.offsetHigh, room);
    if (length === 0 && request.offsetLow === 0 && request.offsetHigh === 0) {
      // A folder has at least "." and "..". But ext4 takes an opening that was first asked for its end (the kernel had the
      // rest cached) and then for its start for still being there (last_pos in ext4_dx_readdir); a detour moves it.
      this.#read(fd, 1, 0, room);
      length = this.#read(fd, 0, 0, room);
    }
    for (let at = 0; at < length; ) {
      const next = at + (this.#bytes[at + RECORD_BYTES] | (this.#bytes[at + RECORD_BYTES + 1] << 8));
      this.#decode(at, next);
      if (!(nodeFd === undefined ? reply.add(this.#entry) : this.#addPlus(nodeFd, reply))) return;
      at = next;
    }
  }

  /** Records of the host from a position on: answers their bytes. */
  #read(fd: number, low: number, high: number, room: number): number {
    const { addon } = this.#host;
    check(addon.lseekWords(fd, low, high));
    return check(addon.getdents64(fd, this.#buffer, 0, room));
  }

  #addPlus(nodeFd: number, reply: DirectoryReply): boolean {
    const entry = this.#entry;
    // Asked first: an entry that does not fit must not be counted as looked up.
    if (!reply.fits(entry.name.length)) return false;
    const dots = entry.name === '.' || entry.name === '..';
    const found = dots ? undefined : this.#lookup(nodeFd, entry.name);
    return reply.addPlus(entry, found);
  }

  /** Nothing for an entry that cannot be looked up, by now or by this daemon: it is listed without attributes, as natively. */
  #lookup(nodeFd: number, name: string): Entry | undefined {
    try {
      return this.#nodes.lookup(nodeFd, name);
    } catch {
      return undefined;
    }
  }

  #decode(at: number, next: number): void {
    const entry = this.#entry;
    const bytes = this.#bytes;
    entry.ino = unsigned(this.#words[at >> 3]);
    entry.offset = unsigned(this.#words[(at + OFFSET) >> 3]);
    entry.mode = bytes[at + TYPE] << 12;
    // The record is padded to 8 bytes behind the NUL, so the name ends among its last 8 bytes.
    let end = Math.max(at + NAME, next - 8);
    while (bytes[end] !== 0) end++;
    entry.name = bytes.toString('latin1', at + NAME, end);
  }
}

/** A number where it is exact, which it nearly always is for inode numbers and seldom for cookies of ext4. */
function unsigned(value: bigint): number | bigint {
  return value <= 0x1f_ffff_ffff_ffffn ? Number(value) : value;
}
