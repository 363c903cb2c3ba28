/** Directory records: what READDIR and READDIRPLUS answer. Each is padded to a multiple of 8 bytes. */
import { type DecodeFailure, failure } from './failure.ts';
import { FUSE_NAME_OFFSET, FUSE_NAME_OFFSET_DIRENTPLUS } from './generated/constants.ts';
import { decodeEntryOut, type EntryOut, newEntryOut } from './generated/structs.ts';
import { decodeBinary } from './names.ts';

/** `bytes` rounded up to a multiple of 8 (FUSE_REC_ALIGN). */
export function alignRecord(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}

/** Bytes of a READDIR record whose name has `nameBytes` bytes (FUSE_DIRENT_SIZE). */
export function direntBytes(nameBytes: number): number {
  return (FUSE_NAME_OFFSET + nameBytes + 7) & ~7;
}

/** Bytes of a READDIRPLUS record whose name has `nameBytes` bytes (FUSE_DIRENTPLUS_SIZE). */
export function direntplusBytes(nameBytes: number): number {
  return (FUSE_NAME_OFFSET_DIRENTPLUS + nameBytes + 7) & ~7;
}

/**
 * Writes the fixed part of a record at byte `byteAt`, a multiple of 8. The name belongs at `byteAt + 24`; then
 * {@link padDirent} ends the record. In READDIRPLUS the entry stands at the record's start and this part 128 bytes later.
 */
export function putDirent(
  words: Uint32Array,
  byteAt: number,
  ino_lo: number,
  ino_hi: number,
  off_lo: number,
  off_hi: number,
  type: number,
  nameBytes: number,
): void {
  const at = byteAt >>> 2;
  words[at] = ino_lo;
  words[at + 1] = ino_hi;
  words[at + 2] = off_lo;
  words[at + 3] = off_hi;
  words[at + 4] = nameBytes;
  words[at + 5] = type;
}

/** Zeroes the padding between the end of a record's name, at byte `nameEnd`, and the next multiple of 8. */
export function padDirent(bytes: Uint8Array, nameEnd: number): void {
  const end = (nameEnd + 7) & ~7;
  for (let at = nameEnd; at < end; at++) bytes[at] = 0;
}

/** A record of READDIR, read back. */
export interface DirentRecord {
  readonly ino_lo: number;
  readonly ino_hi: number;
  /** Cookie of the position after the entry. */
  readonly off_lo: number;
  readonly off_hi: number;
  /** DT_*. */
  readonly type: number;
  /** One character a byte. */
  readonly name: string;
}

/** A record of READDIRPLUS, read back. */
export interface DirentplusRecord extends DirentRecord {
  readonly entry: EntryOut;
}

/** Longest name that the kernel takes in a listing, bytes (FUSE_NAME_MAX with large requests). */
const NAME_BYTES_MAX = 4095;

/**
 * The records in `bytes[from..to)`, a READDIR reply without its header; `from` is a multiple of 4 in the message. As in
 * the kernel (fs/fuse/readdir.c) a record that does not end within the range ends the listing. Returns undefined, or why
 * a record is refused. Never reads outside the range.
 */
export function* readDirents(
  bytes: Uint8Array,
  from: number,
  to: number,
): Generator<DirentRecord, DecodeFailure | undefined, undefined> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = Math.min(to, bytes.length);
  let at = from;
  while (end - at >= FUSE_NAME_OFFSET) {
    const nameBytes = view.getUint32(at + 16, true);
    const refused = refuseName(bytes, at + FUSE_NAME_OFFSET, nameBytes, end);
    if (refused !== undefined) return refused;
    if (nameBytes > end - at - FUSE_NAME_OFFSET || direntBytes(nameBytes) > end - at) return undefined;
    yield direntAt(view, bytes, at, nameBytes);
    at += direntBytes(nameBytes);
  }
  return undefined;
}

/** The records of a READDIRPLUS reply; otherwise as {@link readDirents}. */
export function* readDirentplus(
  bytes: Uint8Array,
  from: number,
  to: number,
): Generator<DirentplusRecord, DecodeFailure | undefined, undefined> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const words = new Uint32Array(FUSE_NAME_OFFSET_DIRENTPLUS / 4);
  const copy = new Uint8Array(words.buffer);
  const end = Math.min(to, bytes.length);
  const entryBytes = FUSE_NAME_OFFSET_DIRENTPLUS - FUSE_NAME_OFFSET;
  let at = from;
  while (end - at >= FUSE_NAME_OFFSET_DIRENTPLUS) {
    const nameBytes = view.getUint32(at + entryBytes + 16, true);
    const refused = refuseName(bytes, at + FUSE_NAME_OFFSET_DIRENTPLUS, nameBytes, end);
    if (refused !== undefined) return refused;
    if (nameBytes > end - at - FUSE_NAME_OFFSET_DIRENTPLUS || direntplusBytes(nameBytes) > end - at) return undefined;
    const entry = newEntryOut();
    copy.set(bytes.subarray(at, at + entryBytes));
    decodeEntryOut(words, 0, entry);
    yield { ...direntAt(view, bytes, at + entryBytes, nameBytes), entry };
    at += direntplusBytes(nameBytes);
  }
  return undefined;
}

function direntAt(view: DataView, bytes: Uint8Array, at: number, nameBytes: number): DirentRecord {
  return {
    ino_lo: view.getUint32(at, true),
    ino_hi: view.getUint32(at + 4, true),
    off_lo: view.getUint32(at + 8, true),
    off_hi: view.getUint32(at + 12, true),
    type: view.getUint32(at + 20, true),
    name: decodeBinary(bytes, at + FUSE_NAME_OFFSET, at + FUSE_NAME_OFFSET + nameBytes),
  };
}

/** The kernel answers EIO for names that are empty, too long, or hold a slash. */
function refuseName(bytes: Uint8Array, from: number, nameBytes: number, end: number): DecodeFailure | undefined {
  if (nameBytes === 0) return failure('BAD_RECORD', from, 'A directory record has an empty name.');
  if (nameBytes > NAME_BYTES_MAX)
    return failure('BAD_RECORD', from, `A directory record has a name of ${nameBytes} bytes, the most is ${NAME_BYTES_MAX}.`);
  if (nameBytes > end - from) return undefined;
  const slash = bytes.subarray(from, from + nameBytes).indexOf(0x2f);
  return slash < 0 ? undefined : failure('BAD_RECORD', from + slash, 'A name in a directory record holds a slash.');
}
