/** From Stats in any dress to the attributes of the inode-level interface. */
import { type AttributesInit, ERRNO, FuseError, type TimeInit } from '../filesystem/index.ts';
import * as linux from './linux.ts';
import type { PathStats, PathType, TypeQuestions } from './source.ts';

const TYPE_BITS: Readonly<Record<PathType, number>> = {
  file: linux.S_IFREG,
  directory: linux.S_IFDIR,
  symlink: linux.S_IFLNK,
  fifo: linux.S_IFIFO,
  socket: linux.S_IFSOCK,
  character: linux.S_IFCHR,
  block: linux.S_IFBLK,
};

/** Attributes with the number by which the source knows the file. */
export interface Facts {
  attributes: AttributesInit;
  /** S_IFMT bits. */
  type: number;
  /** The source's own inode number; undefined when it has none. */
  ino: number | bigint | undefined;
  dev: number | bigint | undefined;
  nlink: number;
}

/** S_IFMT bits of what Stats, a Dirent or a plain object says; 0 when it says nothing. */
export function typeOf(said: TypeQuestions & { type?: PathType | undefined; mode?: number | bigint | undefined }): number {
  const fromMode = Number(said.mode ?? 0) & linux.S_IFMT;
  if (fromMode !== 0) return fromMode;
  if (typeof said.type === 'string' && said.type in TYPE_BITS) return TYPE_BITS[said.type];
  if (said.isDirectory?.()) return linux.S_IFDIR;
  if (said.isSymbolicLink?.()) return linux.S_IFLNK;
  if (said.isFile?.()) return linux.S_IFREG;
  if (said.isFIFO?.()) return linux.S_IFIFO;
  if (said.isSocket?.()) return linux.S_IFSOCK;
  if (said.isCharacterDevice?.()) return linux.S_IFCHR;
  return said.isBlockDevice?.() ? linux.S_IFBLK : 0;
}

/** Reads Stats. Throws EIO when they do not tell the type: the kernel cannot do without. */
export function factsOf(stats: PathStats): Facts {
  const type = typeOf(stats);
  if (type === 0)
    throw new FuseError('EIO', 'lstat answered attributes without a type: give mode, type or isDirectory() and so on');
  const permissions = stats.mode === undefined ? defaultPermissions(type) : Number(stats.mode) & linux.MODE_BITS;
  const nlink = stats.nlink === undefined ? (type === linux.S_IFDIR ? 2 : 1) : Number(stats.nlink);
  const attributes: AttributesInit = {
    mode: type | permissions,
    size: Number(stats.size ?? 0),
    nlink,
    uid: Number(stats.uid ?? 0),
    gid: Number(stats.gid ?? 0),
  };
  if (stats.rdev !== undefined) attributes.rdev = Number(stats.rdev) >>> 0;
  if (stats.blksize !== undefined && Number(stats.blksize) > 0) attributes.blksize = Number(stats.blksize);
  if (stats.blocks !== undefined) attributes.blocks = Number(stats.blocks);
  const mtime = timeOf(stats.mtimeNs, stats.mtime, stats.mtimeMs);
  const ctime = timeOf(stats.ctimeNs, stats.ctime, stats.ctimeMs) ?? mtime;
  const atime = timeOf(stats.atimeNs, stats.atime, stats.atimeMs) ?? mtime;
  const btime = timeOf(stats.birthtimeNs, stats.birthtime, stats.birthtimeMs);
  if (mtime !== undefined) attributes.mtime = mtime;
  if (ctime !== undefined) attributes.ctime = ctime;
  if (atime !== undefined) attributes.atime = atime;
  if (btime !== undefined) attributes.btime = btime;
  return { attributes, type, ino: known(stats.ino), dev: stats.dev, nlink };
}

function defaultPermissions(type: number): number {
  if (type === linux.S_IFDIR) return 0o755;
  return type === linux.S_IFLNK ? 0o777 : 0o644;
}

/** An inode number as a number where that is exact, so that both ways of asking give the same key. */
function known(ino: number | bigint | undefined): number | bigint | undefined {
  if (ino === undefined) return undefined;
  const number = Number(ino);
  if (number === 0 || Number.isNaN(number)) return undefined;
  return Number.isSafeInteger(number) ? number : BigInt(ino);
}

function timeOf(ns: bigint | undefined, time: TimeInit | undefined, ms: number | bigint | undefined): TimeInit | undefined {
  if (typeof ns === 'bigint') return ns;
  // A Date of node:fs holds milliseconds; its companion in milliseconds has fractions.
  if (typeof ms === 'number' && (time === undefined || time instanceof Date)) return fromMilliseconds(ms);
  return time ?? (ms === undefined ? undefined : fromMilliseconds(Number(ms)));
}

function fromMilliseconds(ms: number): TimeInit {
  const seconds = Math.floor(ms / 1000);
  return { seconds, nanoseconds: Math.min(999_999_999, Math.round((ms - seconds * 1000) * 1e6)) };
}

/** A time as nanoseconds since 1970. */
export function nanosecondsOf(time: TimeInit | undefined): bigint {
  if (time === undefined) return 0n;
  if (typeof time === 'bigint') return time;
  if (time instanceof Date) return BigInt(Math.round(time.getTime())) * 1_000_000n;
  return BigInt(time.seconds) * 1_000_000_000n + BigInt(time.nanoseconds);
}

/**
 * Seconds with fractions, as utimes of node:fs takes them: of the two nearest numbers the one that gives the right millisecond
 * when it is cut off there, as filesystems with Dates do.
 */
export function secondsOf(ns: bigint): number {
  const whole = ns / 1_000_000_000n;
  const seconds = Number(whole) + Number(ns - whole * 1_000_000_000n) / 1e9;
  if (seconds <= 0 || Math.trunc(seconds * 1000) >= Number(ns / 1_000_000n)) return seconds;
  return seconds + 2 ** (Math.floor(Math.log2(seconds)) - 52);
}

const ENOSYS_CODES = new Set(['ENOSYS', 'ENOTSUP', 'ERR_METHOD_NOT_IMPLEMENTED', 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM']);

/**
 * ENOSYS of a source never reaches the kernel, which would stop asking for the whole mount: it means "not this one", and
 * so EOPNOTSUPP is sent.
 */
export function translated(error: unknown): unknown {
  const { code, errno } = (typeof error === 'object' && error !== null ? error : {}) as { code?: unknown; errno?: unknown };
  const missing = (typeof code === 'string' && ENOSYS_CODES.has(code)) || errno === -ERRNO.ENOSYS || errno === ERRNO.ENOSYS;
  return missing ? FuseError.of(ERRNO.EOPNOTSUPP) : error;
}

/** Whether an error says that there is no such name, also because a component on the way is no directory any more. */
export function isAbsence(error: unknown): boolean {
  const { code, errno } = (typeof error === 'object' && error !== null ? error : {}) as { code?: unknown; errno?: unknown };
  if (code === 'ENOENT' || code === 'ENOTDIR') return true;
  return (
    code === undefined && typeof errno === 'number' && (Math.abs(errno) === ERRNO.ENOENT || Math.abs(errno) === ERRNO.ENOTDIR)
  );
}
