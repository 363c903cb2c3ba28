/** Recorded replies as an author would have answered them: what a method of {@link Filesystem} returns or throws. */
import type {
  AttributesInit,
  DirectoryReply,
  Entry,
  FileLock,
  Filesystem,
  IoctlReply,
  NegativeEntry,
  OpenReply,
  StatfsInit,
} from '../filesystem/index.ts';
import {
  FOPEN_CACHE_DIR,
  FOPEN_DIRECT_IO,
  FOPEN_KEEP_CACHE,
  FOPEN_NOFLUSH,
  FOPEN_NONSEEKABLE,
  FOPEN_PARALLEL_DIRECT_WRITES,
  FOPEN_PASSTHROUGH,
  FOPEN_STREAM,
  type ReplyMessage,
  type StructValue,
} from '../protocol/index.ts';
import { FuseError } from '../session/index.ts';

const NS = 1_000_000_000;
const MAX_OFFSET = 0x7fff_ffff_ffff_ffffn;
const STATX_BTIME = 0x800;
const LOCKS = ['read', 'write', 'unlock'] as const;

const number = (value: StructValue, field: string): number => Number((value[field] as number | bigint | undefined) ?? 0);
const inner = (value: StructValue, field: string): StructValue => (value[field] ?? {}) as StructValue;

function lifetime(value: StructValue, name: 'entry_valid' | 'attr_valid'): number {
  return number(value, name) + number(value, `${name}_nsec`) / NS;
}

/** Seconds are two's complement in an unsigned field. */
function time(value: StructValue, name: string): { seconds: number; nanoseconds: number } {
  return { seconds: number(value, name), nanoseconds: number(value, `${name}nsec`) };
}

function attributes(attr: StructValue): AttributesInit {
  return {
    ino: attr.ino as bigint,
    size: number(attr, 'size'),
    blocks: number(attr, 'blocks'),
    atime: time(attr, 'atime'),
    mtime: time(attr, 'mtime'),
    ctime: time(attr, 'ctime'),
    mode: number(attr, 'mode'),
    nlink: number(attr, 'nlink'),
    uid: number(attr, 'uid'),
    gid: number(attr, 'gid'),
    rdev: number(attr, 'rdev'),
    blksize: number(attr, 'blksize'),
  };
}

function statx(stat: StructValue): AttributesInit {
  const at = (name: string) => {
    const point = inner(stat, name);
    return { seconds: number(point, 'tv_sec'), nanoseconds: number(point, 'tv_nsec') };
  };
  const major = number(stat, 'rdev_major');
  const minor = number(stat, 'rdev_minor');
  return {
    ino: stat.ino as bigint,
    size: number(stat, 'size'),
    blocks: number(stat, 'blocks'),
    atime: at('atime'),
    mtime: at('mtime'),
    ctime: at('ctime'),
    ...((number(stat, 'mask') & STATX_BTIME) === 0 ? {} : { btime: at('btime') }),
    mode: number(stat, 'mode'),
    nlink: number(stat, 'nlink'),
    uid: number(stat, 'uid'),
    gid: number(stat, 'gid'),
    rdev: ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0,
    blksize: number(stat, 'blksize'),
  };
}

function entry(value: StructValue): Entry | NegativeEntry {
  const node = number(value, 'nodeid');
  if (node === 0) return { node: 0, entryTtl: lifetime(value, 'entry_valid') };
  return {
    node,
    generation: number(value, 'generation'),
    attributes: attributes(inner(value, 'attr')),
    entryTtl: lifetime(value, 'entry_valid'),
    attributeTtl: lifetime(value, 'attr_valid'),
  };
}

function opening(value: StructValue): OpenReply {
  const flags = number(value, 'open_flags');
  const has = (bit: number) => (flags & bit) !== 0;
  return {
    handle: number(value, 'fh'),
    directIo: has(FOPEN_DIRECT_IO),
    keepCache: has(FOPEN_KEEP_CACHE),
    nonSeekable: has(FOPEN_NONSEEKABLE),
    cacheDirectory: has(FOPEN_CACHE_DIR),
    stream: has(FOPEN_STREAM),
    noFlush: has(FOPEN_NOFLUSH),
    parallelDirectWrites: has(FOPEN_PARALLEL_DIRECT_WRITES),
    ...(has(FOPEN_PASSTHROUGH) ? { backingId: number(value, 'backing_id') } : {}),
  };
}

function statfs(st: StructValue): StatfsInit {
  const names = ['blocks', 'bfree', 'bavail', 'files', 'ffree', 'bsize', 'frsize', 'namelen'] as const;
  return Object.fromEntries(names.map((name) => [name, number(st, name)]));
}

function lock(lk: StructValue): FileLock {
  const end = lk.end as bigint;
  return {
    start: number(lk, 'start'),
    end: end === MAX_OFFSET ? Number.POSITIVE_INFINITY : Number(end),
    type: LOCKS[number(lk, 'type')] ?? 'unlock',
    pid: number(lk, 'pid'),
  };
}

function list(reply: ReplyMessage, room: DirectoryReply): void {
  for (const { entry: found, dirent, name } of reply.entries ?? []) {
    const mode = (number(dirent, 'type') << 12) >>> 0;
    const row = { name, ino: dirent.ino as bigint, mode, offset: dirent.off as bigint };
    if (found === undefined) room.add(row);
    else room.addPlus(row, number(found, 'nodeid') === 0 ? undefined : (entry(found) as Entry));
  }
}

function ioctl(reply: ReplyMessage, value: StructValue): IoctlReply {
  return { result: number(value, 'result'), ...(reply.data === undefined ? {} : { data: reply.data }) };
}

/** What an author's method answers to say what a reply says. Throws the error that it carries. `room`: of the listing methods. */
export function answerOf(reply: ReplyMessage, room?: DirectoryReply): unknown {
  const error = reply.header.error as number;
  if (error !== 0) throw FuseError.of(-error);
  const value = reply.structs[0]?.value ?? {};
  switch (reply.opcode) {
    case 'LOOKUP':
    case 'MKNOD':
    case 'MKDIR':
    case 'SYMLINK':
    case 'LINK':
      return entry(value);
    case 'GETATTR':
    case 'SETATTR':
      return { attributes: attributes(inner(value, 'attr')), attributeTtl: lifetime(value, 'attr_valid') };
    case 'STATX':
      return { attributes: statx(inner(value, 'stat')), attributeTtl: lifetime(value, 'attr_valid') };
    case 'OPEN':
    case 'OPENDIR':
      return opening(value);
    case 'CREATE':
    case 'TMPFILE':
      return { entry: entry(value), open: opening(reply.structs[1]?.value ?? {}) };
    case 'READ':
    case 'READLINK':
      return reply.data ?? new Uint8Array(0);
    case 'GETXATTR':
    case 'LISTXATTR':
      return reply.structs.length > 0 ? number(value, 'size') : (reply.data ?? new Uint8Array(0));
    case 'READDIR':
    case 'READDIRPLUS':
      return list(reply, room!);
    case 'STATFS':
      return statfs(inner(value, 'st'));
    case 'GETLK':
      return lock(inner(value, 'lk'));
    case 'WRITE':
    case 'COPY_FILE_RANGE':
      return number(value, 'size');
    case 'COPY_FILE_RANGE_64':
      return number(value, 'bytes_copied');
    case 'LSEEK':
      return number(value, 'offset');
    case 'POLL':
      return number(value, 'revents');
    case 'BMAP':
      return number(value, 'block');
    case 'IOCTL':
      return ioctl(reply, value);
    default:
      return undefined;
  }
}

/** Methods that a filesystem can have, apart from those about the mount itself. */
export type ScriptedMethod = Exclude<keyof Filesystem, 'settings' | 'init' | 'destroy' | 'forget'>;
