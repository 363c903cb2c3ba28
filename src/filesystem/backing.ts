/**
 * Backing files (FUSE_PASSTHROUGH): the kernel reads, writes and maps an open file of the author's by itself.
 *
 * The kernel's rules (fs/fuse/iomode.c): all opens of an inode are by one backing id or all without; an open that breaks this
 * fails with EIO. What was opened without a backing file cannot be told from what holds a memory map of the page cache, so it
 * keeps the inode without one until its last RELEASE. RELEASE comes after the kernel took the open off its own count, so that
 * this count is never below the kernel's.
 */
import { constants } from 'node:fs';
import type { Addon } from '../native/index.ts';
import {
  BACKING_MAP_SIZE,
  encodeBackingMap,
  FOPEN_DIRECT_IO,
  FOPEN_KEEP_CACHE,
  FOPEN_NOFLUSH,
  FOPEN_PARALLEL_DIRECT_WRITES,
  FOPEN_PASSTHROUGH,
  FUSE_DEV_IOC_BACKING_CLOSE,
  FUSE_DEV_IOC_BACKING_OPEN,
  newBackingMap,
} from '../protocol/index.ts';
import { errnoName, FuseError, reportFault } from '../session/index.ts';
import type { Recorder } from '../transport/index.ts';
import type { NodeId } from './identity.ts';
import { assertWhole } from './wire.ts';

export interface BackingOptions {
  readonly addon: Addon;
  /** A descriptor of the connection. */
  readonly device: number;
  /** Of {@link Addon.backingTable}: one for all threads of the connection. */
  readonly table: number;
  /**
   * Whether the kernel remembers that a file has no set-id bits and no capabilities (FUSE_HANDLE_KILLPRIV_V2). Otherwise it asks by
   * GETXATTR before every single write, also of a backing file (file_remove_privs in backing_file_write_iter), and under the lock
   * of the inode. Writes with O_DIRECT then come one at a time, where the filesystem would have served many side by side.
   */
  readonly writesAreCheap: boolean;
  /** Records the calls on the device. */
  readonly recorder?: Recorder | undefined;
}

/** What the kernel takes together with FOPEN_PASSTHROUGH (FOPEN_PASSTHROUGH_MASK of fs/fuse/iomode.c). */
const COMPANIONS = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES | FOPEN_NOFLUSH;

const { O_DIRECT, O_RDONLY } = constants;
const O_ACCMODE = 3;
const AT_FDCWD = -100;
const SCRATCH = 0;

/** The backing files of a connection, as one thread that serves it sees them. */
export class BackingFiles {
  /** After {@link enter}: the id to answer with, 0 for none. */
  id = 0;
  readonly #options: BackingOptions;
  readonly #map = newBackingMap();
  /** The argument of the ioctl, and behind it what the ioctl returned. */
  readonly #words: Uint32Array;
  readonly #result: Int32Array;
  /** Errnos that were told of. */
  readonly #told = new Set<number>();

  constructor(options: BackingOptions) {
    this.#options = options;
    this.#words = new Uint32Array(options.addon.scratch, 0, BACKING_MAP_SIZE / 4 + 1);
    this.#result = new Int32Array(options.addon.scratch, BACKING_MAP_SIZE, 1);
  }

  /**
   * Counts an open and answers the FOPEN_* bits to reply with, {@link id} beside them. `fd`: the descriptor that the author
   * offers, if any. `how`: the O_* flags of the caller.
   */
  enter(node: NodeId, fd: number | undefined, flags: number, how: number): number {
    const { addon, device, table } = this.#options;
    const offered = fd !== undefined && (flags & ~(COMPANIONS | FOPEN_KEEP_CACHE)) === 0 && this.#suits(fd, how);
    this.#map.fd = offered ? fd : -1;
    encodeBackingMap(this.#words, 0, this.#map);
    this.id = addon.backingEnter(table, node, offered ? device : -1, FUSE_DEV_IOC_BACKING_OPEN, SCRATCH, 0);
    const result = this.#result[0];
    if (result !== 0) this.#registered(this.#map.fd, result);
    if (this.id < 0) throw FuseError.of(-this.id);
    // What the page cache holds may be from before the kernel last wrote to a backing file.
    if (this.id === 0) return flags & ~FOPEN_KEEP_CACHE;
    // This filesystem serves the reads and writes; memory maps are the backing file's for all who have the file open.
    if (!offered) return (flags & COMPANIONS) | FOPEN_PASSTHROUGH | FOPEN_DIRECT_IO;
    return (flags & FOPEN_NOFLUSH) | FOPEN_PASSTHROUGH;
  }

  /** An open ended, or was not wanted any more. */
  leave(node: NodeId): void {
    const { addon, device, table, recorder } = this.#options;
    const id = addon.backingLeave(table, node);
    if (id === 0) return;
    this.#words[0] = id;
    const status = addon.ioctlBuffer(device, FUSE_DEV_IOC_BACKING_CLOSE, SCRATCH, 0);
    recorder?.ioctl(FUSE_DEV_IOC_BACKING_CLOSE, this.#argument(4), status);
  }

  /** Whether a file that is opened with these flags is better read and written by the kernel. */
  #suits(fd: number, how: number): boolean {
    assertWhole(fd, 0, 0x7fff_ffff, 'the descriptor of a backing file');
    if ((how & O_DIRECT) === 0) return true;
    const { addon, writesAreCheap } = this.#options;
    if (!writesAreCheap && (how & O_ACCMODE) !== O_RDONLY) return false;
    // The kernel opens the backing file with the caller's O_DIRECT, and fails the caller where its filesystem has none.
    const again = addon.openat(AT_FDCWD, `/proc/self/fd/${fd}`, O_DIRECT, 0);
    if (again >= 0) addon.close(again);
    return again >= 0;
  }

  #registered(fd: number, result: number): void {
    this.#options.recorder?.ioctl(FUSE_DEV_IOC_BACKING_OPEN, this.#argument(BACKING_MAP_SIZE), result);
    if (result > 0 || this.#told.has(-result)) return;
    this.#told.add(-result);
    const name = errnoName(-result);
    const why = REASONS[name] ?? 'the kernel does not take it';
    const message = `descriptor ${fd} cannot back a file (${name}): ${why}; this filesystem serves it itself`;
    reportFault({ kind: 'backing-refused', operation: 'OPEN', nodeid: 0, pid: 0, message });
  }

  #argument(bytes: number): Uint8Array {
    return new Uint8Array(this.#options.addon.scratch.slice(0, bytes));
  }
}

const REASONS: Readonly<Record<string, string>> = {
  EPERM: 'the process needs CAP_SYS_ADMIN in the first user namespace',
  EBADF: 'it is not open',
  EINVAL: 'it is no regular file',
  EISDIR: 'it is a directory',
  ELOOP: 'its filesystem stands on another one itself, which needs the setting maxStackDepth 2, or is this very mount',
};
