/** From what authors say to what stands on the wire: attributes, times, lifetimes. */
import type { Attr, Kstatfs, Statx } from '../protocol/index.ts';
import {
  FOPEN_CACHE_DIR,
  FOPEN_DIRECT_IO,
  FOPEN_KEEP_CACHE,
  FOPEN_NOFLUSH,
  FOPEN_NONSEEKABLE,
  FOPEN_PARALLEL_DIRECT_WRITES,
  FOPEN_PASSTHROUGH,
  FOPEN_STREAM,
} from '../protocol/index.ts';
import type { AttributesInit, StatfsInit, TimeInit, Timespec } from './attributes.ts';
import type { OpenReply } from './filesystem.ts';

const WORD = 0x1_0000_0000;
const NS_PER_SECOND = 1_000_000_000;
const EPOCH: Timespec = { seconds: 0, nanoseconds: 0 };

/** STATX_BASIC_STATS | STATX_BTIME of <linux/stat.h>. */
const STATX_BASIC_STATS = 0x7ff;
const STATX_BTIME = 0x800;

/** The low and high words of a 64-bit number given either way; a negative bigint wraps as in C. */
export function lowWord(value: number | bigint): number {
  return typeof value === 'bigint' ? Number(BigInt.asUintN(32, value)) : value >>> 0;
}

export function highWord(value: number | bigint): number {
  return typeof value === 'bigint' ? Number(BigInt.asUintN(32, value >> 32n)) : Math.floor(value / WORD) >>> 0;
}

/** Any way of giving a time, as seconds and nanoseconds. */
export function toTimespec(time: TimeInit | undefined): Timespec {
  if (time === undefined) return EPOCH;
  if (typeof time === 'bigint') {
    const nanoseconds = Number(((time % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n);
    return { seconds: Number((time - BigInt(nanoseconds)) / 1_000_000_000n), nanoseconds };
  }
  if (time instanceof Date) {
    const ms = time.getTime();
    const seconds = Math.floor(ms / 1000);
    return { seconds, nanoseconds: Math.round((ms - seconds * 1000) * 1_000_000) };
  }
  return time;
}

/** An answer that the protocol cannot carry: the caller gets EIO, and the diagnostics channel the message. */
export class InvalidAnswer extends Error {
  override readonly name = 'InvalidAnswer';
}

/** Whether an answer is bytes, as the method promised. */
export function assertBytes(value: unknown, what: string): asserts value is Uint8Array {
  if (!(value instanceof Uint8Array)) throw new InvalidAnswer(`${what} is a Uint8Array, not ${nameOf(value)}`);
}

/** Whether an answer is a whole number from `least` to `most`. */
export function assertWhole(value: unknown, least: number, most: number, what: string): asserts value is number {
  if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most) return;
  throw new InvalidAnswer(`${what} is a whole number from ${least} to ${most}, not ${nameOf(value)}`);
}

/** For messages: what a value is, whatever it is. */
const nameOf = (value: unknown): string => (typeof value === 'number' ? String(value) : value === null ? 'null' : typeof value);

const S_IFMT = 0o170000;

/** Whether the kernel would take these attributes; it answers EIO for others without saying why (fuse_invalid_attr). */
function assertAttributes(init: AttributesInit | undefined): asserts init {
  if (init === undefined || init === null) throw new InvalidAnswer('an answer has no attributes');
  const { mode, size } = init;
  if (!Number.isInteger(mode) || (mode & S_IFMT) === 0 || mode > 0xffff) {
    throw new InvalidAnswer(
      `attributes need a mode with the file's type, like 0o100644 for a file or 0o040755 for a directory, not ${mode}`,
    );
  }
  if (size !== undefined && !(size >= 0 && size <= Number.MAX_SAFE_INTEGER)) {
    throw new InvalidAnswer(`a size is a number from 0 to 2^53-1, not ${size}`);
  }
}

/** Fills `out` from what an author gave; defaults as {@link AttributesInit} says. */
export function fillAttr(out: Attr, init: AttributesInit, node: number): void {
  assertAttributes(init);
  const size = init.size ?? 0;
  const ino = init.ino ?? node;
  const atime = toTimespec(init.atime);
  const mtime = toTimespec(init.mtime);
  const ctime = toTimespec(init.ctime);
  out.ino_lo = lowWord(ino);
  out.ino_hi = highWord(ino);
  out.size = size;
  out.blocks = init.blocks ?? Math.ceil(size / 512);
  out.atime = atime.seconds;
  out.mtime = mtime.seconds;
  out.ctime = ctime.seconds;
  out.atimensec = atime.nanoseconds;
  out.mtimensec = mtime.nanoseconds;
  out.ctimensec = ctime.nanoseconds;
  out.mode = init.mode;
  out.nlink = init.nlink ?? 1;
  out.uid = init.uid ?? 0;
  out.gid = init.gid ?? 0;
  out.rdev = init.rdev ?? 0;
  out.blksize = init.blksize ?? 4096;
}

/** The same for STATX, with the birth time where there is one. */
export function fillStatx(out: Statx, init: AttributesInit, node: number): void {
  assertAttributes(init);
  const size = init.size ?? 0;
  const ino = init.ino ?? node;
  out.mask = STATX_BASIC_STATS | (init.btime === undefined ? 0 : STATX_BTIME);
  out.blksize = init.blksize ?? 4096;
  out.nlink = init.nlink ?? 1;
  out.uid = init.uid ?? 0;
  out.gid = init.gid ?? 0;
  out.mode = init.mode;
  out.ino_lo = lowWord(ino);
  out.ino_hi = highWord(ino);
  out.size = size;
  out.blocks = init.blocks ?? Math.ceil(size / 512);
  fillSxTime(out.atime, init.atime);
  fillSxTime(out.btime, init.btime);
  fillSxTime(out.ctime, init.ctime);
  fillSxTime(out.mtime, init.mtime);
  const rdev = init.rdev ?? 0;
  out.rdev_major = (rdev & 0xfff00) >>> 8;
  out.rdev_minor = ((rdev & 0xff) | ((rdev >>> 12) & 0xfff00)) >>> 0;
}

function fillSxTime(out: { tv_sec: number; tv_nsec: number }, time: TimeInit | undefined): void {
  const { seconds, nanoseconds } = toTimespec(time);
  out.tv_sec = seconds;
  out.tv_nsec = nanoseconds;
}

export function fillStatfs(out: Kstatfs, init: StatfsInit): void {
  const bsize = init.bsize ?? 4096;
  out.blocks = init.blocks ?? 0;
  out.bfree = init.bfree ?? 0;
  out.bavail = init.bavail ?? init.bfree ?? 0;
  out.files = init.files ?? 0;
  out.ffree = init.ffree ?? 0;
  out.bsize = bsize;
  out.frsize = init.frsize ?? bsize;
  out.namelen = init.namelen ?? 255;
}

/** Whole seconds of a lifetime; Infinity is as long as a number can say. */
export function ttlSeconds(ttl: number): number {
  return ttl >= Number.MAX_SAFE_INTEGER ? Number.MAX_SAFE_INTEGER : Math.max(0, Math.floor(ttl));
}

/** Nanoseconds beyond the whole seconds of a lifetime. */
export function ttlNanoseconds(ttl: number): number {
  if (ttl >= Number.MAX_SAFE_INTEGER || ttl <= 0) return 0;
  return Math.min(NS_PER_SECOND - 1, Math.round((ttl - Math.floor(ttl)) * NS_PER_SECOND));
}

/** FOPEN_* bits of an answer to open. */
export function openFlags(reply: OpenReply): number {
  return (
    (reply.directIo ? FOPEN_DIRECT_IO : 0) |
    (reply.keepCache ? FOPEN_KEEP_CACHE : 0) |
    (reply.nonSeekable ? FOPEN_NONSEEKABLE : 0) |
    (reply.cacheDirectory ? FOPEN_CACHE_DIR : 0) |
    (reply.stream ? FOPEN_STREAM : 0) |
    (reply.noFlush ? FOPEN_NOFLUSH : 0) |
    (reply.parallelDirectWrites ? FOPEN_PARALLEL_DIRECT_WRITES : 0) |
    (reply.backingId === undefined ? 0 : FOPEN_PASSTHROUGH)
  );
}
