/**
 * The compact trace format, version 1: every layout fact of it stands in this file, and in prose in docs/TRACES.md.
 *
 * A file is a head of {@link FILE_HEAD_BYTES} and blocks behind each other. A block belongs to one channel and is written by
 * one write(2), so that threads can append to one file without a lock. It is a head, the messages one behind the other (each
 * from a multiple of 8), and an index: one entry a message, with what is not in the message itself. Little-endian.
 */
import { crc32 } from 'node:zlib';
import type { TraceMessage } from './record-message.ts';

/** First bytes of a file: no text has them, and a transfer that converts line ends breaks them visibly. */
export const FILE_MAGIC: Uint8Array = Uint8Array.of(0xf5, 0x66, 0x77, 0x74, 0x72, 0x0d, 0x0a, 0x1a);
export const FILE_VERSION = 1;
/** Magic, version (u16), bytes of this head (u16), zero (u32), microseconds from 1970 to t = 0 (u64; 0: unknown). */
export const FILE_HEAD_BYTES = 24;

/** 'FWBK'. */
export const BLOCK_MAGIC = 0x4b425746;
export const BLOCK_MAGIC_BYTES: Uint8Array = Uint8Array.of(0x46, 0x57, 0x42, 0x4b);
export const BLOCK_HEAD_BYTES = 64;
/** A block that claims to be longer is none. */
export const BLOCK_BYTES_MAX = 1 << 30;

/** Words of a block's head. */
const WORD_TOTAL = 1;
const WORD_DATA = 2;
const WORD_INDEX = 3;
const WORD_COUNT = 4;
const WORD_CHANNEL = 5;
const WORD_SEQUENCE = 6;
const WORD_FLAGS = 7;
const WORD_FIRST = 8;
const WORD_LAST = 10;
const WORD_DATA_CRC = 12;
const WORD_INDEX_CRC = 13;
const WORD_HEAD_CRC = 15;

/** Flags of a block: its data has a checksum; its messages have no channel number. */
const BLOCK_HAS_DATA_CRC = 1;
const BLOCK_IS_UNNAMED = 2;

/** First byte of an index entry: the direction in its low two bits, then what follows. */
export const ENTRY_IN = 0;
export const ENTRY_OUT = 1;
export const ENTRY_IOCTL = 2;
const ENTRY_DIR = 3;
const ENTRY_HAS_ERRNO = 4;
const ENTRY_IS_CUT = 8;
const ENTRY_HAS_VIA = 16;
const ENTRY_HAS_COMMAND = 32;
const ENTRY_HAS_RESULT = 64;
/** The message is of another channel than its block. */
const ENTRY_HAS_CHANNEL = 128;

/** Bytes of an entry without a `via`: flags, errno, and six varints. */
const ENTRY_BYTES_MAX = 3 + 8 + 8 + 8 + 5 + 8 + 5;
export const ERRNO_MAX = 0xffff;
/** A `via` is the name of a system call; this is room for any. */
export const VIA_BYTES_MAX = 4096;

const TWO_32 = 0x1_0000_0000;
const DIRS = ['in', 'out', 'ioctl'] as const;
const text = new TextDecoder();

const align8 = (bytes: number) => (bytes + 7) & ~7;

/** The head of a file. `startedAtMicros`: since 1970, 0 where nobody knows. */
export function fileHead(startedAtMicros = 0): Uint8Array {
  const head = new Uint8Array(FILE_HEAD_BYTES);
  const view = new DataView(head.buffer);
  head.set(FILE_MAGIC);
  view.setUint16(8, FILE_VERSION, true);
  view.setUint16(10, FILE_HEAD_BYTES, true);
  view.setBigUint64(16, BigInt(startedAtMicros), true);
  return head;
}

export interface FileHead {
  readonly version: number;
  readonly headBytes: number;
  readonly startedAtMicros: number;
}

/** The head of a file from its first {@link FILE_HEAD_BYTES} bytes; undefined when it is no compact trace. */
export function parseFileHead(bytes: Uint8Array): FileHead | undefined {
  if (bytes.length < FILE_HEAD_BYTES || FILE_MAGIC.some((byte, at) => bytes[at] !== byte)) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    version: view.getUint16(8, true),
    headBytes: view.getUint16(10, true),
    startedAtMicros: Number(view.getBigUint64(16, true)),
  };
}

export interface BlockHead {
  readonly totalBytes: number;
  readonly dataBytes: number;
  readonly indexBytes: number;
  readonly count: number;
  /** Undefined where the messages have no channel number. */
  readonly channel: number | undefined;
  /** Counts the blocks of a channel, from 0. */
  readonly sequence: number;
  /** Microseconds of the first and the last message; within a block time never goes back. */
  readonly first: number;
  readonly last: number;
  readonly dataCrc: number | undefined;
  readonly indexCrc: number;
}

/** The head of a block from its first {@link BLOCK_HEAD_BYTES} bytes; undefined when there is none, or a broken one. */
export function parseBlockHead(bytes: Uint8Array): BlockHead | undefined {
  if (bytes.length < BLOCK_HEAD_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, BLOCK_HEAD_BYTES);
  const word = (index: number) => view.getUint32(index * 4, true);
  if (word(0) !== BLOCK_MAGIC) return undefined;
  if (word(WORD_HEAD_CRC) !== crc32(bytes.subarray(0, WORD_HEAD_CRC * 4))) return undefined;
  const head = {
    totalBytes: word(WORD_TOTAL),
    dataBytes: word(WORD_DATA),
    indexBytes: word(WORD_INDEX),
    count: word(WORD_COUNT),
    channel: (word(WORD_FLAGS) & BLOCK_IS_UNNAMED) === 0 ? word(WORD_CHANNEL) : undefined,
    sequence: word(WORD_SEQUENCE),
    first: word(WORD_FIRST) + word(WORD_FIRST + 1) * TWO_32,
    last: word(WORD_LAST) + word(WORD_LAST + 1) * TWO_32,
    dataCrc: (word(WORD_FLAGS) & BLOCK_HAS_DATA_CRC) === 0 ? undefined : word(WORD_DATA_CRC),
    indexCrc: word(WORD_INDEX_CRC),
  };
  const isSound =
    head.totalBytes <= BLOCK_BYTES_MAX &&
    head.dataBytes % 8 === 0 &&
    head.totalBytes === align8(BLOCK_HEAD_BYTES + head.dataBytes + head.indexBytes);
  return isSound ? head : undefined;
}

/**
 * The messages of a whole block, whose bytes are views of `block`; or, as text, why it is none. The head must have been
 * parsed from it.
 */
export function decodeBlock(block: Uint8Array, head: BlockHead): TraceMessage[] | string {
  const dataEnd = BLOCK_HEAD_BYTES + head.dataBytes;
  const index = block.subarray(dataEnd, dataEnd + head.indexBytes);
  if (crc32(index) !== head.indexCrc) return 'the checksum of its index is wrong';
  if (head.dataCrc !== undefined && crc32(block.subarray(BLOCK_HEAD_BYTES, dataEnd)) !== head.dataCrc) {
    return 'the checksum of its messages is wrong';
  }
  const cursor = new IndexCursor(index);
  const messages: TraceMessage[] = [];
  let t = head.first;
  let at = BLOCK_HEAD_BYTES;
  for (let left = head.count; left > 0; left--) {
    const flags = cursor.byte();
    const errno = (flags & ENTRY_HAS_ERRNO) === 0 ? 0 : cursor.byte() + cursor.byte() * 256;
    t += cursor.varint();
    const length = cursor.varint();
    const dir = DIRS[flags & ENTRY_DIR];
    if (cursor.isBeyond || dir === undefined || at + length > dataEnd) return 'its index does not fit its messages';
    messages.push({
      dir,
      t,
      bytes: block.subarray(at, at + length),
      ...(errno === 0 ? {} : { errno }),
      ...cursor.extras(flags, head.channel),
    });
    at += align8(length);
  }
  if (cursor.isBeyond || !cursor.isAtEnd || at !== dataEnd) return 'its index does not fit its messages';
  return messages;
}

/** Reads an index; never outside of it. Failure is sticky: {@link isBeyond}. */
class IndexCursor {
  isBeyond = false;
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  byte(): number {
    if (this.#at < this.#bytes.length) return this.#bytes[this.#at++];
    this.isBeyond = true;
    return 0;
  }

  /** Seven bits a byte, lowest first; a set eighth bit says that more follow. At most 2^53-1. */
  varint(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.byte();
      value += (byte & 127) * scale;
      if (byte < 128) break;
      if (scale > 2 ** 49) this.isBeyond = true;
      if (this.isBeyond) return 0;
    }
    if (!Number.isSafeInteger(value)) this.isBeyond = true;
    return value;
  }

  /** What an entry has behind its length, in a block of `channel`. */
  extras(flags: number, channel: number | undefined): Partial<TraceMessage> {
    const extras: { -readonly [Key in keyof TraceMessage]?: TraceMessage[Key] } = {};
    if ((flags & ENTRY_IS_CUT) !== 0) extras.wholeBytes = this.varint();
    if ((flags & ENTRY_HAS_VIA) !== 0) extras.via = this.#text(this.varint());
    if ((flags & ENTRY_HAS_COMMAND) !== 0) extras.command = this.varint();
    if ((flags & ENTRY_HAS_RESULT) !== 0) {
      // Even: the value twice. Odd: twice what it lies below zero, less one.
      const folded = this.varint();
      extras.result = folded % 2 === 0 ? folded / 2 : -(folded + 1) / 2;
    }
    if ((flags & ENTRY_HAS_CHANNEL) === 0) {
      if (channel !== undefined) extras.channel = channel;
      return extras;
    }
    const ownChannel = this.varint();
    if (ownChannel > 0) extras.channel = ownChannel - 1;
    return extras;
  }

  #text(length: number): string {
    const from = this.#at;
    if (length > this.#bytes.length - from) {
      this.isBeyond = true;
      return '';
    }
    this.#at += length;
    return text.decode(this.#bytes.subarray(from, from + length));
  }
}

/** Least bytes of a block's memory. */
export const BLOCK_BYTES_LEAST = 4096;

/** Words of a builder that native code shares (native/src/tape.h): where the next message and entry go, and how many there are. */
const AT = 0;
const INDEX_AT = 1;
const COUNT = 2;
/** Bytes that native code is to keep of the reply that leaves next; negative: it records none. */
export const KEEP = 3;
/** Not 0: native code records nothing. */
export const HELD = 4;
/** 1 when native code has recorded the message that came last. */
export const TOOK = 5;
const WORDS = 8;
/** Times of a builder, microseconds: of the first message of the block, and of the last of the channel. */
const FIRST = 0;
const LAST = 1;
const TIMES = 4;
const SHARED_BYTES = WORDS * 4 + TIMES * 8;

/**
 * Fills one block in memory that is made once. The hot way in is {@link reserve}, a copy to {@link bytes}, and {@link enter}, in the
 * same order; times must not go back, and {@link hasRoom} must have been asked.
 */
export class BlockBuilder {
  readonly memory: ArrayBuffer;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly words: Uint32Array<ArrayBuffer>;
  /** See {@link KEEP}, {@link HELD}, {@link TOOK}. */
  readonly shared: Int32Array<ArrayBuffer>;
  readonly #times: Float64Array<ArrayBuffer>;
  readonly #index: Uint8Array;

  constructor(blockBytes: number) {
    const dataBytes = align8(Math.max(blockBytes, BLOCK_BYTES_LEAST));
    const indexBytes = Math.max(dataBytes >> 3, ENTRY_BYTES_MAX + VIA_BYTES_MAX);
    this.memory = new ArrayBuffer(SHARED_BYTES + dataBytes + indexBytes);
    this.shared = new Int32Array(this.memory, 0, WORDS);
    this.#times = new Float64Array(this.memory, WORDS * 4, TIMES);
    this.bytes = new Uint8Array(this.memory, SHARED_BYTES, dataBytes);
    this.words = new Uint32Array(this.memory, SHARED_BYTES, dataBytes >> 2);
    this.#index = new Uint8Array(this.memory, SHARED_BYTES + dataBytes, indexBytes);
    this.shared[KEEP] = -1;
    this.clear();
  }

  get dataBytes(): number {
    return this.bytes.length;
  }

  get indexBytes(): number {
    return this.#index.length;
  }

  /** Messages in the block. */
  get count(): number {
    return this.shared[COUNT];
  }

  /** Bytes of memory that a block needs to hold one message of `length` bytes. */
  static bytesFor(length: number, viaBytes = 0): number {
    return BLOCK_HEAD_BYTES + align8(length) + align8(ENTRY_BYTES_MAX + viaBytes);
  }

  /** Microseconds of the last message, also of a block before this one. */
  get last(): number {
    return this.#times[LAST];
  }

  set last(t: number) {
    this.#times[LAST] = t;
  }

  /** Beside what native code is about to keep. */
  hasRoom(length: number, viaBytes = 0): boolean {
    const keep = this.shared[KEEP];
    const entries = keep < 0 ? ENTRY_BYTES_MAX : 2 * ENTRY_BYTES_MAX;
    const entryEnd = this.shared[INDEX_AT] + entries + viaBytes;
    const end = this.shared[AT] + align8(length) + (keep < 0 ? 0 : align8(keep)) + align8(entryEnd);
    return entryEnd <= this.#index.length && end <= this.bytes.length;
  }

  /** Takes room for the `length` bytes of a message: where in {@link bytes} they go, a multiple of 8. */
  reserve(length: number): number {
    const dataAt = this.shared[AT];
    const end = dataAt + align8(length);
    // What lies between messages is zero, though the memory has been used before.
    if (end !== dataAt + length) {
      this.words[(end >> 2) - 2] = 0;
      this.words[(end >> 2) - 1] = 0;
    }
    this.shared[AT] = end;
    return dataAt;
  }

  /**
   * Enters the next message whose bytes have their room: `length` are kept of the `wholeBytes` that it had; `errno` is positive,
   * 0 for none.
   */
  enter(dir: number, t: number, length: number, wholeBytes: number, errno: number): void {
    const flags = dir | (errno === 0 ? 0 : ENTRY_HAS_ERRNO) | (length === wholeBytes ? 0 : ENTRY_IS_CUT);
    const at = this.#enter(flags, t, length, errno);
    this.shared[INDEX_AT] = length === wholeBytes ? at : putVarint(this.#index, at, wholeBytes);
  }

  /** Writes the part of an entry that each has, and returns where the rest goes. */
  #enter(flags: number, t: number, length: number, errno: number): number {
    const index = this.#index;
    let at = this.shared[INDEX_AT];
    if (this.count === 0) {
      this.#times[FIRST] = t;
      this.#times[LAST] = t;
    }
    this.shared[COUNT]++;
    index[at++] = flags;
    if ((flags & ENTRY_HAS_ERRNO) !== 0) {
      index[at++] = errno & 0xff;
      index[at++] = errno >> 8;
    }
    const delta = t - this.#times[LAST];
    this.#times[LAST] = t;
    if (delta < 128) index[at++] = delta;
    else at = putVarint(index, at, delta);
    return putVarint(index, at, length);
  }

  /** Adds a message with all it may have to a block of `blockChannel`. Its values must have been checked. */
  add(message: TraceMessage, via: Uint8Array | undefined, blockChannel: number | undefined): void {
    const { bytes, errno, wholeBytes, command, result, channel } = message;
    let flags = DIRS.indexOf(message.dir);
    if (errno !== undefined) flags |= ENTRY_HAS_ERRNO;
    if (wholeBytes !== undefined) flags |= ENTRY_IS_CUT;
    if (via !== undefined) flags |= ENTRY_HAS_VIA;
    if (command !== undefined) flags |= ENTRY_HAS_COMMAND;
    if (result !== undefined) flags |= ENTRY_HAS_RESULT;
    if (channel !== blockChannel) flags |= ENTRY_HAS_CHANNEL;
    this.bytes.set(bytes, this.reserve(bytes.length));
    const index = this.#index;
    let at = this.#enter(flags, message.t, bytes.length, errno ?? 0);
    if (wholeBytes !== undefined) at = putVarint(index, at, wholeBytes);
    if (via !== undefined) {
      at = putVarint(index, at, via.length);
      index.set(via, at);
      at += via.length;
    }
    if (command !== undefined) at = putVarint(index, at, command);
    if (result !== undefined) at = putVarint(index, at, result < 0 ? -2 * result - 1 : 2 * result);
    if (channel !== blockChannel) at = putVarint(index, at, channel === undefined ? 0 : channel + 1);
    this.shared[INDEX_AT] = at;
  }

  /** Makes it a whole block: the part of {@link bytes} that is to be written. Then {@link clear} it for the next. */
  seal(channel: number | undefined, sequence: number, withDataCrc: boolean): Uint8Array<ArrayBuffer> {
    const { bytes, words } = this;
    const dataEnd = this.shared[AT];
    const index = this.#index.subarray(0, this.shared[INDEX_AT]);
    const total = align8(dataEnd + index.length);
    words[(total >> 2) - 2] = 0;
    words[(total >> 2) - 1] = 0;
    bytes.set(index, dataEnd);
    words[0] = BLOCK_MAGIC;
    words[WORD_TOTAL] = total;
    words[WORD_DATA] = dataEnd - BLOCK_HEAD_BYTES;
    words[WORD_INDEX] = index.length;
    words[WORD_COUNT] = this.count;
    words[WORD_CHANNEL] = channel ?? 0;
    words[WORD_SEQUENCE] = sequence;
    words[WORD_FLAGS] = (withDataCrc ? BLOCK_HAS_DATA_CRC : 0) | (channel === undefined ? BLOCK_IS_UNNAMED : 0);
    words[WORD_FIRST] = this.#times[FIRST] % TWO_32;
    words[WORD_FIRST + 1] = Math.floor(this.#times[FIRST] / TWO_32);
    words[WORD_LAST] = this.#times[LAST] % TWO_32;
    words[WORD_LAST + 1] = Math.floor(this.#times[LAST] / TWO_32);
    words[WORD_DATA_CRC] = withDataCrc ? crc32(bytes.subarray(BLOCK_HEAD_BYTES, dataEnd)) : 0;
    words[WORD_INDEX_CRC] = crc32(index);
    words[WORD_HEAD_CRC - 1] = 0;
    words[WORD_HEAD_CRC] = crc32(bytes.subarray(0, WORD_HEAD_CRC * 4));
    return bytes.subarray(0, total);
  }

  clear(): void {
    this.shared[COUNT] = 0;
    this.shared[AT] = BLOCK_HEAD_BYTES;
    this.shared[INDEX_AT] = 0;
  }
}

function putVarint(bytes: Uint8Array, at: number, value: number): number {
  if (value < 128) {
    bytes[at] = value;
    return at + 1;
  }
  if (value < 16_384) {
    bytes[at] = (value & 127) | 128;
    bytes[at + 1] = value >> 7;
    return at + 2;
  }
  let left = value;
  let to = at;
  while (left >= 128) {
    bytes[to++] = (left % 128) | 128;
    left = Math.floor(left / 128);
  }
  bytes[to++] = left;
  return to;
}
