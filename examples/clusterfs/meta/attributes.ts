/** Attributes as the server functions answer them. */
import type { AttributesInit, Timespec } from 'fusewire';
import type { Reply } from '../redis/connection.ts';

export interface Inode {
  readonly ino: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  readonly size: number;
  readonly rdev: number;
  readonly atime: Timespec;
  readonly mtime: Timespec;
  readonly ctime: Timespec;
  readonly btime: Timespec;
  /** Counts the changes of its contents. */
  readonly rev: number;
  /** Bytes that its blocks hold. */
  readonly alloc: number;
}

export function decodeInode(reply: Reply): Inode {
  const [ino, mode, uid, gid, nlink, size, rdev, atime, mtime, ctime, btime, rev, alloc] = (reply as readonly Buffer[]).map(
    String,
  );
  return {
    ino: Number(ino),
    mode: Number(mode),
    uid: Number(uid),
    gid: Number(gid),
    nlink: Number(nlink),
    size: Number(size),
    rdev: Number(rdev),
    atime: decodeTime(atime),
    mtime: decodeTime(mtime),
    ctime: decodeTime(ctime),
    btime: decodeTime(btime),
    rev: Number(rev),
    alloc: Number(alloc),
  };
}

export function decodeTime(text: string): Timespec {
  const dot = text.indexOf('.');
  return { seconds: Number(text.slice(0, dot)), nanoseconds: Number(text.slice(dot + 1)) };
}

export function encodeTime({ seconds, nanoseconds }: Timespec): string {
  return `${seconds}.${String(nanoseconds).padStart(9, '0')}`;
}

/** What stat(2) shows. */
export function attributesOf(inode: Inode): AttributesInit {
  const { rev: _rev, alloc, ...rest } = inode;
  return { ...rest, blocks: Math.ceil(alloc / 512) };
}
