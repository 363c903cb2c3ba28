/** READDIR and READDIRPLUS: records into the reply's own memory. */
import { decodeReadIn, direntBytes, direntplusBytes, newReadIn, padDirent, putDirent } from '../protocol/index.ts';
import { BODY_WORD, type Exchange, OUT_HEADER_BYTES } from '../session/index.ts';
import type { MessageBuffer } from '../transport/index.ts';
import { CallPool, ReaddirCall } from './calls.ts';
import type { Codec } from './codec.ts';
import type { Entry, Filesystem } from './filesystem.ts';
import type { FileHandle, NodeId } from './identity.ts';
import { Listings } from './listing.ts';
import type { DirectoryEntry, DirectoryReply } from './requests.ts';
import { isPromise, type OperationMap, settle, takeOff } from './settle.ts';
import { highWord, InvalidAnswer, lowWord } from './wire.ts';

/** Bytes of fuse_entry_out, which a direntplus record has before its dirent. */
const ENTRY_BYTES = 128;
/** Longest name that the kernel takes in a listing. */
const NAME_BYTES_MAX = 4095;
/** Bytes of a dirent before its name. */
const DIRENT_BYTES = 24;

export function directoryOperations(fs: Filesystem, codec: Codec): OperationMap {
  const listings = new Listings();
  return {
    READDIR: fs.readdir && lister(fs, codec, listings, 'readdir'),
    READDIRPLUS: fs.readdirplus && lister(fs, codec, listings, 'readdirplus'),
  };
}

function lister(fs: Filesystem, codec: Codec, listings: Listings, method: 'readdir' | 'readdirplus') {
  const pool = new CallPool(() => new ReaddirCall());
  const readIn = newReadIn();
  return (exchange: Exchange): void => {
    const { words } = exchange.buffer;
    decodeReadIn(words, BODY_WORD, readIn);
    exchange.assertTail(readIn.size);
    const call = pool.take(exchange);
    call.handle = readIn.fh as FileHandle;
    call.offset = readIn.offset;
    // Cookies may use all 64 bits, more than a number holds: offset is the third and fourth word of fuse_read_in.
    call.offsetLow = words[BODY_WORD + 2];
    call.offsetHigh = words[BODY_WORD + 3];
    call.size = readIn.size;
    const listing = new Listing(exchange, codec, call, method === 'readdirplus');
    call.listing = listing;
    const page = {
      key: `${exchange.nodeid} ${call.handle} ${method}`,
      low: call.offsetLow,
      high: call.offsetHigh,
      reply: listing,
    };
    const failed = (error: unknown): never => {
      listing.cancel(fs);
      throw error;
    };
    let done: void | PromiseLike<void>;
    try {
      done = listings.list(page, () => fs[method]!(exchange.nodeid as NodeId, call, listing));
    } catch (error) {
      return void failed(error);
    }
    settle(exchange, isPromise(done) ? done.then(undefined, failed) : undefined, () => listing.send());
  };
}

class Listing implements DirectoryReply {
  readonly #exchange: Exchange;
  readonly #codec: Codec;
  /** Until the answer leaves. */
  #buffer: MessageBuffer | undefined;
  readonly #plus: boolean;
  readonly #end: number;
  #at = OUT_HEADER_BYTES;
  /** The position after which the listing goes on, then of each entry. */
  #lastLow: number;
  #lastHigh: number;
  /** Nodes whose count this reply raised: taken back when it is not sent. */
  #granted: NodeId[] | undefined;

  constructor(exchange: Exchange, codec: Codec, call: ReaddirCall, plus: boolean) {
    const { size } = call;
    this.#lastLow = call.offsetLow;
    this.#lastHigh = call.offsetHigh;
    this.#exchange = exchange;
    this.#codec = codec;
    this.#plus = plus;
    this.#buffer = exchange.session.channel.acquire(OUT_HEADER_BYTES + size);
    this.#end = OUT_HEADER_BYTES + size;
  }

  fits(nameBytes: number): boolean {
    return this.#at + (this.#plus ? direntplusBytes(nameBytes) : direntBytes(nameBytes)) <= this.#end;
  }

  add(entry: DirectoryEntry): boolean {
    if (this.#plus) return this.addPlus(entry, undefined);
    const nameBytes = this.#nameBytes(entry.name);
    const total = direntBytes(nameBytes);
    if (this.#at + total > this.#end) return false;
    this.#putDirent(this.#at, entry, nameBytes);
    this.#at += total;
    return true;
  }

  addPlus(entry: DirectoryEntry, found: Entry | undefined): boolean {
    if (!this.#plus) return this.add(entry);
    const nameBytes = this.#nameBytes(entry.name);
    const total = direntplusBytes(nameBytes);
    const at = this.#at;
    if (at + total > this.#end) return false;
    const { words } = this.#memory();
    if (found === undefined) {
      words.fill(0, at / 4, (at + ENTRY_BYTES) / 4);
    } else {
      this.#codec.putEntry(words, at / 4, found);
      if (entry.name !== '.' && entry.name !== '..') {
        this.#granted ??= [];
        this.#granted.push(found.node as NodeId);
      }
    }
    this.#putDirent(at + ENTRY_BYTES, entry, nameBytes);
    this.#at += total;
    return true;
  }

  #memory(): MessageBuffer {
    if (this.#buffer === undefined)
      throw new Error('this listing has been answered; add entries before readdir returns or settles');
    return this.#buffer;
  }

  send(): void {
    const buffer = this.#memory();
    this.#buffer = undefined;
    this.#exchange.send(buffer, this.#at - OUT_HEADER_BYTES);
  }

  /** The request is done: memory that did not leave with the answer goes back. */
  close(): void {
    if (this.#buffer !== undefined) this.#exchange.session.channel.discard(this.#buffer);
    this.#buffer = undefined;
  }

  /** The listing failed: entries already added go unseen, so their counts are taken back. */
  cancel(fs: Filesystem): void {
    const granted = this.#granted ?? [];
    this.#granted = undefined;
    for (const node of granted) takeOff(fs, node, 1);
  }

  #nameBytes(name: string): number {
    // The kernel answers the whole listing EIO for such a name.
    if (typeof name !== 'string' || name === '' || name.includes('/') || name.includes('\0'))
      throw new InvalidAnswer(`${typeof name === 'string' ? JSON.stringify(name) : typeof name} is no name of a directory entry`);
    const bytes = this.#codec.nameBytes(name);
    if (bytes > NAME_BYTES_MAX) throw new InvalidAnswer(`the name of a directory entry has ${bytes} bytes`);
    return bytes;
  }

  #putDirent(at: number, entry: DirectoryEntry, nameBytes: number): void {
    const { words, bytes } = this.#memory();
    const { ino, offset } = entry;
    const low = lowWord(offset);
    const high = highWord(offset);
    this.#assertMoves(entry.name, low, high);
    const type = ((entry.mode ?? 0) >>> 12) & 15;
    putDirent(words, at, lowWord(ino), highWord(ino), low, high, type, nameBytes);
    this.#codec.putName(bytes, at + DIRENT_BYTES, entry.name);
    padDirent(bytes, at + DIRENT_BYTES + nameBytes);
  }

  /** A position that does not move on would have the kernel ask for the same page for ever. */
  #assertMoves(name: string, low: number, high: number): void {
    const isStart = low === 0 && high === 0;
    if (!isStart && !(low === this.#lastLow && high === this.#lastHigh)) {
      this.#lastLow = low;
      this.#lastHigh = high;
      return;
    }
    const what = isStart ? '0, which is the start' : 'that of the entry before it';
    throw new InvalidAnswer(
      `the offset of entry ${JSON.stringify(name)} is ${what}; it is the position after the entry, its own for each`,
    );
  }
}
