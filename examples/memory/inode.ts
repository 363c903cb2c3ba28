/** A file of any type: what stat(2) shows, what it holds, and who still needs it. */
import type { AttributesInit, Timespec } from 'fusewire';
import { now } from './clock.ts';
import type { Directory } from './directory.ts';
import { S_IFDIR, S_IFMT, S_IFREG, S_ISGID, S_ISUID, S_IXGRP } from './linux.ts';
import type { FileLocks } from './locks.ts';
import type { FileData } from './pages.ts';

/** What tmpfs counts for a name in the size of a directory. */
const NAME_BYTES = 20;

/** Has the fields of {@link AttributesInit}, so that an inode is its own answer to getattr. */
export class Inode implements AttributesInit {
  readonly ino: number;
  mode: number;
  uid: number;
  gid: number;
  nlink = 1;
  readonly rdev: number;
  atime: Timespec;
  mtime: Timespec;
  ctime: Timespec;
  readonly btime: Timespec;

  /** Only regular files have data, only directories names, only symbolic links a target. */
  data: FileData | undefined;
  directory: Directory | undefined;
  target: string | undefined;
  xattrs: Map<string, Uint8Array> | undefined;
  locks: FileLocks | undefined;

  /** How often the kernel was told of this node and has not forgotten it. */
  lookups = 0;
  /** Open files and directories. */
  opens = 0;

  constructor(ino: number, mode: number, uid: number, gid: number, rdev = 0) {
    this.ino = ino;
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
    this.rdev = rdev;
    this.btime = now();
    this.atime = this.btime;
    this.mtime = this.btime;
    this.ctime = this.btime;
  }

  get size(): number {
    return this.data?.size ?? this.target?.length ?? (this.directory === undefined ? 0 : (this.directory.size + 2) * NAME_BYTES);
  }

  get blocks(): number {
    return this.data?.blocks ?? 0;
  }

  get isDirectory(): boolean {
    return (this.mode & S_IFMT) === S_IFDIR;
  }

  get isRegular(): boolean {
    return (this.mode & S_IFMT) === S_IFREG;
  }

  /** Contents changed: of a file its data, of a directory its names. */
  modified(): void {
    this.mtime = now();
    this.ctime = this.mtime;
  }

  /** Anything about the file itself changed. */
  changed(): void {
    this.ctime = now();
  }

  accessed(): void {
    this.atime = now();
  }

  /**
   * What a write or a change of owner takes away: the right to run as somebody else. The set-group-id bit without the
   * group's execute bit means mandatory locking and stays (setattr_should_drop_suidgid).
   */
  dropPrivileges(): void {
    this.mode &= ~S_ISUID;
    if ((this.mode & S_IXGRP) !== 0) this.mode &= ~S_ISGID;
    this.xattrs?.delete('security.capability');
  }
}
