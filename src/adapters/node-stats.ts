/** Stats, BigIntStats and Dirent as node:fs gives them; its own classes cannot be made from outside. */
import type { AttributesInit, NodeId, StatfsInit, TimeInit } from '../filesystem/index.ts';

const S_IFMT = 0o170000;

/** The questions of Stats and Dirent. */
export class FileType {
  #mode: number;

  constructor(mode: number) {
    this.#mode = mode & S_IFMT;
  }

  isFile(): boolean {
    return this.#mode === 0o100000;
  }

  isDirectory(): boolean {
    return this.#mode === 0o040000;
  }

  isSymbolicLink(): boolean {
    return this.#mode === 0o120000;
  }

  isFIFO(): boolean {
    return this.#mode === 0o010000;
  }

  isSocket(): boolean {
    return this.#mode === 0o140000;
  }

  isCharacterDevice(): boolean {
    return this.#mode === 0o020000;
  }

  isBlockDevice(): boolean {
    return this.#mode === 0o060000;
  }
}

function nanoseconds(time: TimeInit | undefined): bigint {
  if (time === undefined) return 0n;
  if (typeof time === 'bigint') return time;
  if (time instanceof Date) return BigInt(time.getTime()) * 1_000_000n;
  return BigInt(time.seconds) * 1_000_000_000n + BigInt(time.nanoseconds);
}

/** Milliseconds with fractions. */
function milliseconds(ns: bigint): number {
  const whole = ns / 1_000_000n;
  return Number(whole) + Number(ns - whole * 1_000_000n) / 1e6;
}

/** Numbers; see {@link BigIntStats} for the exact ones. */
export class Stats extends FileType {
  readonly dev = 0;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly blksize: number;
  readonly ino: number;
  readonly size: number;
  readonly blocks: number;
  readonly atimeMs: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
  readonly birthtimeMs: number;
  readonly atime: Date;
  readonly mtime: Date;
  readonly ctime: Date;
  readonly birthtime: Date;

  constructor(from: AttributesInit, node: NodeId) {
    super(from.mode);
    this.mode = from.mode;
    this.nlink = from.nlink ?? 1;
    this.uid = from.uid ?? 0;
    this.gid = from.gid ?? 0;
    this.rdev = from.rdev ?? 0;
    this.blksize = from.blksize ?? 4096;
    this.ino = Number(from.ino ?? node);
    this.size = from.size ?? 0;
    this.blocks = from.blocks ?? Math.ceil(this.size / 512);
    this.atimeMs = milliseconds(nanoseconds(from.atime));
    this.mtimeMs = milliseconds(nanoseconds(from.mtime));
    this.ctimeMs = milliseconds(nanoseconds(from.ctime));
    this.birthtimeMs = milliseconds(nanoseconds(from.btime ?? from.ctime));
    this.atime = new Date(Math.round(this.atimeMs));
    this.mtime = new Date(Math.round(this.mtimeMs));
    this.ctime = new Date(Math.round(this.ctimeMs));
    this.birthtime = new Date(Math.round(this.birthtimeMs));
  }
}

export class BigIntStats extends FileType {
  readonly dev = 0n;
  readonly mode: bigint;
  readonly nlink: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly rdev: bigint;
  readonly blksize: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly blocks: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly birthtimeNs: bigint;
  readonly atimeMs: bigint;
  readonly mtimeMs: bigint;
  readonly ctimeMs: bigint;
  readonly birthtimeMs: bigint;
  readonly atime: Date;
  readonly mtime: Date;
  readonly ctime: Date;
  readonly birthtime: Date;

  constructor(from: AttributesInit, node: NodeId) {
    super(from.mode);
    const plain = new Stats(from, node);
    this.mode = BigInt(from.mode);
    this.nlink = BigInt(plain.nlink);
    this.uid = BigInt(plain.uid);
    this.gid = BigInt(plain.gid);
    this.rdev = BigInt(plain.rdev);
    this.blksize = BigInt(plain.blksize);
    this.ino = BigInt(from.ino ?? node);
    this.size = BigInt(plain.size);
    this.blocks = BigInt(plain.blocks);
    this.atimeNs = nanoseconds(from.atime);
    this.mtimeNs = nanoseconds(from.mtime);
    this.ctimeNs = nanoseconds(from.ctime);
    this.birthtimeNs = nanoseconds(from.btime ?? from.ctime);
    this.atimeMs = this.atimeNs / 1_000_000n;
    this.mtimeMs = this.mtimeNs / 1_000_000n;
    this.ctimeMs = this.ctimeNs / 1_000_000n;
    this.birthtimeMs = this.birthtimeNs / 1_000_000n;
    this.atime = plain.atime;
    this.mtime = plain.mtime;
    this.ctime = plain.ctime;
    this.birthtime = plain.birthtime;
  }
}

export class Dirent extends FileType {
  readonly name: string;
  readonly parentPath: string;

  constructor(name: string, parentPath: string, mode: number) {
    super(mode);
    this.name = name;
    this.parentPath = parentPath;
  }

  /** The older name of {@link parentPath}. */
  get path(): string {
    return this.parentPath;
  }
}

export interface StatFs {
  type: number;
  bsize: number;
  blocks: number;
  bfree: number;
  bavail: number;
  files: number;
  ffree: number;
}

/** FUSE_SUPER_MAGIC of <linux/magic.h>. */
const FUSE_SUPER_MAGIC = 0x65735546;

export function statFs(from: StatfsInit | undefined): StatFs {
  const { bsize = 4096, blocks = 0, bfree = 0, bavail = bfree, files = 0, ffree = 0 } = from ?? {};
  return { type: FUSE_SUPER_MAGIC, bsize, blocks, bfree, bavail, files, ffree };
}
