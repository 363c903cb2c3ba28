/** getdents64(2): READDIR and READDIRPLUS, and the listing that FOPEN_CACHE_DIR keeps. */
import {
  type DirentplusRecord,
  type DirentRecord,
  FOPEN_CACHE_DIR,
  readDirentplus,
  readDirents,
  readdirplusExists,
} from '../../protocol/index.ts';
import type { PosixDirent } from '../posix.ts';
import { refresh } from './attributes.ts';
import { PAGE_BYTES, STATX_MTIME } from './constants.ts';
import { accessed, type Call, type Core, has, requestBytesMax } from './core.ts';
import { ERRNO, fail } from './errors.ts';
import type { OpenFile } from './files.ts';
import { assertGood, isInvalidAttr } from './inodes.ts';

const { EIO, EINVAL, ENOENT, ENOTDIR } = ERRNO;
const WORD = 0x1_0000_0000n;

const toBigint = (low: number, high: number): bigint => (BigInt(high) << 32n) | BigInt(low);

/** Bytes of an entry in the caller's buffer (struct linux_dirent64). */
const entryBytes = (name: string): number => (19 + name.length + 1 + 7) & ~7;

/** One getdents64 with a buffer of `bytes`. Empty at the end. */
export async function getdents(core: Core, call: Call, file: OpenFile, bytes: number): Promise<PosixDirent[]> {
  if (!file.isDirectory) fail(ENOTDIR);
  const { inode } = file;
  assertGood(inode);
  if (inode.isDead) fail(ENOENT);
  return inode.lock.hold(!has(core, 'FUSE_PARALLEL_DIROPS'), async () => {
    if ((file.openFlags & FOPEN_CACHE_DIR) !== 0) {
      const cached = await fromListing(core, call, file, bytes);
      if (cached !== undefined) return cached;
    }
    return ask(core, call, file, bytes);
  });
}

async function ask(core: Core, call: Call, file: OpenFile, bytes: number): Promise<PosixDirent[]> {
  const { inode } = file;
  const isPlus = usesPlus(core, file);
  const size = Math.min(Math.max(bytes, PAGE_BYTES), requestBytesMax(core));
  const version = core.attrVersion;
  const cookie = BigInt.asUintN(64, file.cookie);
  const reply = await core.wire.call({
    op: isPlus ? 'READDIRPLUS' : 'READDIR',
    nodeid: inode.nodeid,
    args: { fh: file.handle, offset: Number(cookie), size },
    offsetWords: [Number(cookie % WORD), Number(cookie / WORD)],
    caller: call,
  });
  accessed(core, inode);
  const taken = new Emitter(file, bytes);
  const start = file.cookie;
  if (isPlus) readPlus(core, file, readDirentplus(reply.bytes, 0, reply.bytes.length), taken, version);
  else {
    const records = readDirents(reply.bytes, 0, reply.bytes.length);
    for (let next = records.next(); ; next = records.next()) {
      if (next.done) {
        if (next.value !== undefined) fail(EIO);
        break;
      }
      if (!taken.add(next.value)) break;
    }
  }
  if (taken.isTooSmall) fail(EINVAL);
  remember(file, start, taken.entries, reply.bytes.length === 0);
  return taken.entries;
}

/** fuse_use_readdirplus. */
function usesPlus(core: Core, file: OpenFile): boolean {
  if (!has(core, 'FUSE_DO_READDIRPLUS') || !readdirplusExists(core.wire.agreed.minor)) return false;
  if (!has(core, 'FUSE_READDIRPLUS_AUTO') || file.cookie === 0n) return true;
  const { inode } = file;
  const isAdvised = inode.advisesReaddirplus;
  inode.advisesReaddirplus = false;
  return isAdvised;
}

/** Takes entries while the caller's buffer has room. */
class Emitter {
  readonly entries: PosixDirent[] = [];
  isTooSmall = false;
  readonly #file: OpenFile;
  #room: number;

  constructor(file: OpenFile, bytes: number) {
    this.#file = file;
    this.#room = bytes;
  }

  add(record: DirentRecord): boolean {
    const bytes = entryBytes(record.name);
    if (bytes > this.#room) {
      this.isTooSmall = this.entries.length === 0;
      return false;
    }
    this.#room -= bytes;
    const offset = BigInt.asIntN(64, toBigint(record.off_lo, record.off_hi));
    this.entries.push({ name: record.name, ino: toBigint(record.ino_lo, record.ino_hi), type: record.type, offset });
    this.#file.cookie = offset;
    return true;
  }
}

/** parse_dirplusfile: every record counts, also those for which the caller has no room. */
function readPlus(
  core: Core,
  file: OpenFile,
  records: Generator<DirentplusRecord, unknown, undefined>,
  taken: Emitter,
  version: number,
): void {
  let isFull = false;
  for (let next = records.next(); ; next = records.next()) {
    if (next.done) {
      if (next.value !== undefined) fail(EIO);
      return;
    }
    const record = next.value;
    if (!isFull) isFull = !taken.add(record);
    if (!linkRecord(core, file, record, version)) core.inodes.forget(record.entry.nodeid, 1);
  }
}

/** fuse_direntplus_link: false when the reference has to be given back. */
function linkRecord(core: Core, file: OpenFile, record: DirentplusRecord, version: number): boolean {
  const { entry, name } = record;
  if (entry.nodeid === 0 || name === '.' || name === '..') return true;
  const parent = file.dentry;
  if (entry.nodeid === 1 || isInvalidAttr(entry.attr) || parent === undefined || !parent.isHashed) return false;
  const { clock, dentries, inodes } = core;
  const validUntil = clock.deadline(entry.entry_valid, entry.entry_valid_nsec);
  const known = parent.children.get(name);
  if (known?.inode !== undefined && known.inode.nodeid === entry.nodeid && !inodes.isStale(known.inode, entry)) {
    if (known.inode.isBad) return false;
    inodes.count1(known.inode);
    inodes.update(known.inode, entry.attr, clock.deadline(entry.attr_valid, entry.attr_valid_nsec), version);
    known.validUntil = validUntil;
    known.epoch = dentries.epoch;
    return true;
  }
  if (known !== undefined) dentries.invalidate(known);
  const inode = inodes.take(entry, version);
  if (has(core, 'FUSE_READDIRPLUS_AUTO')) inode.cameByReaddirplus = true;
  dentries.add(parent, name, inode, validUntil);
  return true;
}

// --- the cached listing --------------------------------------------------------------------------------------------------------

/** Entries from the listing that an earlier reading left; undefined where it has to be asked for. */
async function fromListing(core: Core, call: Call, file: OpenFile, bytes: number): Promise<PosixDirent[] | undefined> {
  const { inode } = file;
  if (file.cookie === 0n && has(core, 'FUSE_AUTO_INVAL_DATA')) {
    const { mtime, mtimensec } = inode.attr;
    await refresh(core, call, inode, STATX_MTIME, file);
    if (mtime !== inode.attr.mtime || mtimensec !== inode.attr.mtimensec) inode.listing = undefined;
  }
  const { listing } = inode;
  if (!listing?.isComplete) return undefined;
  let index = 0;
  if (file.cookie !== 0n) {
    index = listing.entries.findIndex(({ offset }) => offset === file.cookie) + 1;
    if (index === 0) return undefined;
  }
  const entries: PosixDirent[] = [];
  let room = bytes;
  for (; index < listing.entries.length; index++) {
    const entry = listing.entries[index]!;
    room -= entryBytes(entry.name);
    if (room < 0) break;
    entries.push(entry);
    file.cookie = entry.offset;
  }
  if (entries.length === 0 && index < listing.entries.length) fail(EINVAL);
  return entries;
}

/** Adds what was just read, where it follows on from what is kept. */
function remember(file: OpenFile, start: bigint, entries: readonly PosixDirent[], isEnd: boolean): void {
  if ((file.openFlags & FOPEN_CACHE_DIR) === 0) return;
  const { inode } = file;
  if (start === 0n) inode.listing = { entries: [], isComplete: false };
  const { listing } = inode;
  if (listing === undefined || listing.isComplete) return;
  const last = listing.entries.at(-1)?.offset ?? 0n;
  if (last !== start) return;
  listing.entries.push(...entries);
  listing.isComplete = isEnd;
}
