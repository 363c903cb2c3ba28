import {
  ATTR_OUT_SIZE,
  type Attr,
  decodeBinary,
  decodeEntryOut,
  decodeOpenOut,
  decodeUtf8,
  direntplusBytes,
  ENTRY_OUT_SIZE,
  type EntryOut,
  encodeAttrOut,
  encodeBinary,
  encodeEntryOut,
  encodeOpenOut,
  encodeUtf8,
  FOPEN_CACHE_DIR,
  FOPEN_KEEP_CACHE,
  findNul,
  newAttrOut,
  newEntryOut,
  newOpenOut,
  OPEN_OUT_SIZE,
  type OpenOut,
  opcodeRow,
  utf8Bytes,
} from '../protocol/index.ts';
import { ERRNO, type Exchange, FuseError, REPLY_WORD } from '../session/index.ts';
import type { BackingFiles } from './backing.ts';
import { CloseCall, type CreateCall } from './calls.ts';
import type { AttributesReply, CreateReply, Entry, Filesystem, NegativeEntry, OpenReply } from './filesystem.ts';
import type { FileHandle, NodeId } from './identity.ts';
import { presetOf } from './presets.ts';
import { sendStruct, takeOff } from './settle.ts';
import { fillAttr, InvalidAnswer, openFlags, ttlNanoseconds, ttlSeconds } from './wire.ts';

/** Longest name of a component, bytes, as in <limits.h>; the kernel lets longer ones through. */
export const NAME_MAX = 255;

/**
 * Names and the answers that several operations share, with the memory they need for it: one codec per filesystem and
 * thread, used only while an answer is being written, so that nothing is allocated for it.
 */
export class Codec {
  readonly #filesystem: Filesystem;
  readonly #binary: boolean;
  readonly #entryTtl: number;
  readonly #attributeTtl: number;
  readonly #keep: boolean;
  readonly #entry: EntryOut = newEntryOut();
  readonly #attr = newAttrOut();
  readonly #open: OpenOut = newOpenOut();
  readonly #backing: BackingFiles | undefined;
  /** Where the last {@link name} ended: just behind its NUL. */
  nextByte = 0;

  constructor(filesystem: Filesystem, backing?: BackingFiles) {
    this.#backing = backing;
    this.#filesystem = filesystem;
    this.#binary = filesystem.settings?.nameEncoding === 'binary';
    const preset = presetOf(filesystem);
    this.#entryTtl = filesystem.settings?.entryTtl ?? preset.ttl;
    this.#attributeTtl = filesystem.settings?.attributeTtl ?? preset.ttl;
    this.#keep = preset.keep;
  }

  // --- names -------------------------------------------------------------------------------------------------------

  /** The NUL-terminated name at byte `at`. Throws EIO when it does not end, EILSEQ when it is not valid UTF-8. */
  name(exchange: Exchange, at: number): string {
    const { bytes } = exchange.buffer;
    const end = findNul(bytes, at, exchange.bodyEnd);
    if (end < 0) throw FuseError.of(ERRNO.EIO);
    this.nextByte = end + 1;
    if (this.#binary) return decodeBinary(bytes, at, end);
    const name = decodeUtf8(bytes, at, end);
    if (name === undefined) throw FuseError.of(ERRNO.EILSEQ);
    return name;
  }

  /** The same for the name of a directory entry: ENAMETOOLONG beyond NAME_MAX, which the kernel does not check. */
  entryName(exchange: Exchange, at: number): string {
    const name = this.name(exchange, at);
    if (this.nextByte - 1 - at > NAME_MAX) throw FuseError.of(ERRNO.ENAMETOOLONG);
    // No kernel sends such a name; joined to a path it would lead elsewhere.
    if (name === '' || name.includes('/')) throw FuseError.of(ERRNO.EIO);
    return name;
  }

  /** The same for an extended attribute, whose name may hold a slash. */
  attributeName(exchange: Exchange, at: number): string {
    const name = this.name(exchange, at);
    if (name === '') throw FuseError.of(ERRNO.EIO);
    return name;
  }

  /** Bytes of a name of the author's. Throws EILSEQ for one that cannot be encoded: half a surrogate pair. */
  nameBytes(name: string): number {
    if (typeof name !== 'string') throw new InvalidAnswer(`a name is a string, not ${typeof name}`);
    const bytes = this.#binary ? name.length : utf8Bytes(name);
    if (bytes < 0) throw FuseError.of(ERRNO.EILSEQ);
    return bytes;
  }

  /** Writes a name; answers its bytes. Throws EILSEQ for a binary name with a character that is no byte. */
  putName(bytes: Uint8Array, at: number, name: string): number {
    const written = this.#binary ? encodeBinary(bytes, at, name) : encodeUtf8(bytes, at, name);
    if (written < 0) throw FuseError.of(ERRNO.EILSEQ);
    return written;
  }

  encodeName(name: string): Uint8Array {
    const bytes = new Uint8Array(this.nameBytes(name));
    this.putName(bytes, 0, name);
    return bytes;
  }

  // --- answers -----------------------------------------------------------------------------------------------------

  /** Fills and encodes an entry at word `at`; also for the fixed part of direntplus. */
  putEntry(words: Uint32Array, at: number, found: Entry | NegativeEntry): void {
    const out = this.#entry;
    if (!Number.isSafeInteger(found?.node) || found.node < 0) {
      throw new InvalidAnswer(
        `an entry needs a node id from 1 to 2^53-1, or 0 for a name that does not exist, not ${found?.node}`,
      );
    }
    const entryTtl = found.entryTtl ?? this.#entryTtl;
    out.nodeid = found.node;
    out.entry_valid = ttlSeconds(entryTtl);
    out.entry_valid_nsec = ttlNanoseconds(entryTtl);
    if (found.node === 0) {
      out.generation_lo = 0;
      out.generation_hi = 0;
      out.attr_valid = 0;
      out.attr_valid_nsec = 0;
      clearAttr(out.attr);
    } else {
      const entry = found as Entry;
      const attributeTtl = entry.attributeTtl ?? this.#attributeTtl;
      const generation = entry.generation ?? 0;
      out.generation_lo = generation >>> 0;
      out.generation_hi = Math.floor(generation / 0x1_0000_0000) >>> 0;
      out.attr_valid = ttlSeconds(attributeTtl);
      out.attr_valid_nsec = ttlNanoseconds(attributeTtl);
      fillAttr(out.attr, entry.attributes, entry.node);
    }
    encodeEntryOut(words, at, out);
  }

  putOpen(words: Uint32Array, at: number, reply: OpenReply | undefined, isDirectory: boolean): void {
    const out = this.#open;
    const handle = reply?.handle ?? 0;
    if (!Number.isSafeInteger(handle) || handle < 0) {
      throw new InvalidAnswer(`a handle is a whole number from 0 to 2^53-1, not ${String(handle)}`);
    }
    out.fh = handle;
    out.open_flags = (reply === undefined ? 0 : openFlags(reply)) | this.#kept(reply, isDirectory);
    out.backing_id = reply?.backingId ?? 0;
    encodeOpenOut(words, at, out);
  }

  /** The same for a file of `node`, by its backing file where there is one. Last of all: from here on it counts as open. */
  #putOpenFile(exchange: Exchange, node: NodeId, words: Uint32Array, at: number, reply: OpenReply | undefined): void {
    this.putOpen(words, at, reply, false);
    const backing = this.#backing;
    if (backing === undefined) return;
    const out = this.#open;
    out.open_flags = backing.enter(node, reply?.backing, out.open_flags, (exchange.passenger as CreateCall).flags);
    out.backing_id = backing.id;
    if (backing.id !== 0) exchange.session.counters.backedOpens++;
    encodeOpenOut(words, at, out);
  }

  /** A file of `node` was closed. */
  closed(node: NodeId): void {
    this.#backing?.leave(node);
  }

  /** What the preset adds where the author said nothing. Direct I/O has no cache to keep. */
  #kept(reply: OpenReply | undefined, isDirectory: boolean): number {
    if (!this.#keep || reply?.directIo) return 0;
    const keep = reply?.keepCache ?? true;
    const list = isDirectory && (reply?.cacheDirectory ?? true);
    return (keep ? FOPEN_KEEP_CACHE : 0) | (list ? FOPEN_CACHE_DIR : 0);
  }

  readonly sendEntry = (exchange: Exchange, found: Entry | NegativeEntry): void => {
    const buffer = exchange.acquire(ENTRY_OUT_SIZE);
    this.putEntry(buffer.words, REPLY_WORD, found);
    exchange.send(buffer, ENTRY_OUT_SIZE);
  };

  readonly sendOpen = (exchange: Exchange, reply: OpenReply | void): void => {
    const buffer = exchange.acquire(OPEN_OUT_SIZE);
    this.#putOpenFile(exchange, exchange.nodeid as NodeId, buffer.words, REPLY_WORD, reply ?? undefined);
    exchange.send(buffer, OPEN_OUT_SIZE);
  };

  readonly sendOpenDirectory = (exchange: Exchange, reply: OpenReply | void): void => {
    const buffer = exchange.acquire(OPEN_OUT_SIZE);
    this.putOpen(buffer.words, REPLY_WORD, reply ?? undefined, true);
    exchange.send(buffer, OPEN_OUT_SIZE);
  };

  readonly sendCreated = (exchange: Exchange, reply: CreateReply): void => {
    const buffer = exchange.acquire(ENTRY_OUT_SIZE + OPEN_OUT_SIZE);
    this.putEntry(buffer.words, REPLY_WORD, reply.entry);
    this.#putOpenFile(exchange, reply.entry.node as NodeId, buffer.words, REPLY_WORD + ENTRY_OUT_SIZE / 4, reply.open);
    exchange.send(buffer, ENTRY_OUT_SIZE + OPEN_OUT_SIZE);
  };

  readonly sendAttributes = (exchange: Exchange, reply: AttributesReply): void => {
    const out = this.#attr;
    const ttl = reply.attributeTtl ?? this.#attributeTtl;
    out.attr_valid = ttlSeconds(ttl);
    out.attr_valid_nsec = ttlNanoseconds(ttl);
    fillAttr(out.attr, reply.attributes, exchange.nodeid);
    sendStruct(exchange, ATTR_OUT_SIZE, encodeAttrOut, out);
  };

  get attributeTtl(): number {
    return this.#attributeTtl;
  }

  // --- answers that nobody wanted any more ---------------------------------------------------------------------------

  /** Undoes what a refused reply granted: lookup counts and openings (libfuse does the same). */
  takeBack(opcode: number, nodeid: NodeId, words: Uint32Array): void {
    const row = opcodeRow(opcode);
    if (row === undefined) return;
    if (row.name === 'READDIRPLUS') this.#forgetListed(words);
    else if (row.countsLookup) this.#forgetEntry(words, REPLY_WORD);
    if (row.name === 'OPEN') this.#close(nodeid, words, REPLY_WORD, 'release');
    else if (row.name === 'OPENDIR') this.#close(nodeid, words, REPLY_WORD, 'releasedir');
    else if (row.name === 'CREATE' || row.name === 'TMPFILE') {
      const node = this.#entry.nodeid as NodeId;
      this.#close(node, words, REPLY_WORD + ENTRY_OUT_SIZE / 4, 'release');
    }
  }

  #forgetEntry(words: Uint32Array, at: number): void {
    decodeEntryOut(words, at, this.#entry);
    if (this.#entry.nodeid !== 0) takeOff(this.#filesystem, this.#entry.nodeid as NodeId, 1);
  }

  #forgetListed(words: Uint32Array): void {
    const end = words[0] / 4;
    // A record is an entry (128 bytes) and a dirent, whose name length is its fifth word.
    for (let at = REPLY_WORD; at + direntplusBytes(0) / 4 <= end; ) {
      const nameBytes = words[at + ENTRY_OUT_SIZE / 4 + 4];
      const first = words[at + ENTRY_OUT_SIZE / 4 + 6] ?? 0;
      const dots = (nameBytes === 1 && (first & 0xff) === DOT) || (nameBytes === 2 && (first & 0xffff) === DOT_DOT);
      if (!dots) this.#forgetEntry(words, at);
      at += direntplusBytes(nameBytes) / 4;
    }
  }

  #close(node: NodeId, words: Uint32Array, at: number, how: 'release' | 'releasedir'): void {
    decodeOpenOut(words, at, this.#open);
    const call = new CloseCall();
    call.handle = this.#open.fh as FileHandle;
    if (how === 'release') this.closed(node);
    Promise.resolve()
      .then(() => this.#filesystem[how]?.(node, call))
      .catch(() => {});
  }
}

const DOT = 0x2e;
const DOT_DOT = 0x2e2e;

/** All of it: what the entry before left here is nobody's business. */
function clearAttr(attr: Attr): void {
  attr.ino_lo = 0;
  attr.ino_hi = 0;
  attr.size = 0;
  attr.blocks = 0;
  attr.atime = 0;
  attr.mtime = 0;
  attr.ctime = 0;
  attr.atimensec = 0;
  attr.mtimensec = 0;
  attr.ctimensec = 0;
  attr.mode = 0;
  attr.nlink = 0;
  attr.uid = 0;
  attr.gid = 0;
  attr.rdev = 0;
  attr.blksize = 0;
  attr.flags = 0;
}
