/** Opening and closing: OPEN, CREATE, TMPFILE, FLUSH, RELEASE, FSYNC. */
import {
  decodeEntryOut,
  decodeOpenOut,
  ENTRY_OUT_SIZE,
  type EntryOut,
  FOPEN_CACHE_DIR,
  FOPEN_DIRECT_IO,
  FOPEN_KEEP_CACHE,
  FOPEN_NOFLUSH,
  FOPEN_NONSEEKABLE,
  FOPEN_PARALLEL_DIRECT_WRITES,
  FOPEN_STREAM,
  FUSE_FSYNC_FDATASYNC,
  FUSE_OPEN_KILL_SUIDGID,
  FUSE_RELEASE_FLOCK_UNLOCK,
  newEntryOut,
  newOpenOut,
  type OpenOut,
} from '../../protocol/index.ts';
import {
  canWrite,
  isFifo,
  isRegular,
  O_APPEND,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECT,
  O_EXCL,
  O_LARGEFILE,
  O_NOCTTY,
  O_PATH,
  O_TRUNC,
  STATX_BLOCKS,
  STATX_MODSIZE,
} from './constants.ts';
import { type Call, type Core, has, isPrivileged, lockOwner } from './core.ts';
import type { Dentry } from './dentries.ts';
import { ERRNO, fail } from './errors.ts';
import { Fifo } from './fifo.ts';
import { assertGood, type Inode, isInvalidAttr } from './inodes.ts';
import type { Reply } from './wire.ts';
import { flushInode, takeWriteError, touch, writeBack } from './writeback.ts';

const { ENOSYS, EIO, ENXIO } = ERRNO;

let fileIds = 1_000_000;

/** An open file, shared by the descriptors that were duplicated from it. */
export class OpenFile {
  readonly inode: Inode;
  /** The name by which it was opened; undefined for O_TMPFILE. */
  readonly dentry: Dentry | undefined;
  /** O_* as fcntl(F_GETFL) shows them. */
  readonly flags: number;
  readonly isDirectory: boolean;
  /** Identifies the open file as owner of a flock. */
  readonly id = fileIds++;
  handle = 0;
  /** FOPEN_* of the answer. */
  openFlags = 0;
  /** OPEN was answered, so RELEASE will be sent. */
  needsRelease = false;
  /** O_PATH, FIFOs and the like: the daemon never hears of them. */
  isSilent = false;
  hasFlock = false;
  isOpen = false;
  position = 0;
  /** Position of a directory: the cookie after the last entry. */
  cookie = 0n;
  descriptors = 1;

  constructor(inode: Inode, dentry: Dentry | undefined, flags: number) {
    this.inode = inode;
    this.dentry = dentry;
    this.flags = flags & ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC);
    this.isDirectory = inode.isDirectory;
  }

  get isDirectIo(): boolean {
    return (this.openFlags & FOPEN_DIRECT_IO) !== 0;
  }

  get isSeekable(): boolean {
    return (this.openFlags & (FOPEN_NONSEEKABLE | FOPEN_STREAM)) === 0;
  }

  get appends(): boolean {
    return (this.flags & O_APPEND) !== 0;
  }

  get isParallel(): boolean {
    return this.isDirectIo && (this.openFlags & FOPEN_PARALLEL_DIRECT_WRITES) !== 0;
  }
}

/** Opens an inode that exists (fuse_open, fuse_dir_open). */
export async function openInode(
  core: Core,
  call: Call,
  inode: Inode,
  dentry: Dentry | undefined,
  flags: number,
): Promise<OpenFile> {
  assertGood(inode);
  const file = new OpenFile(inode, dentry, flags);
  if (!inode.isDirectory && !isRegular(inode.mode)) {
    // Sockets are never opened by name, and no device stands behind a device file here.
    if (!isFifo(inode.mode)) fail(ENXIO);
    file.isSilent = true;
    inode.fifo ??= new Fifo();
    await inode.fifo.open(call, file);
    return attach(core, file, flags);
  }
  const opcode = inode.isDirectory ? 'OPENDIR' : 'OPEN';
  if (core.missing.has(opcode)) file.openFlags = FOPEN_KEEP_CACHE | (inode.isDirectory ? FOPEN_CACHE_DIR : 0);
  else await sendOpen(core, call, file, opcode, flags);
  if (file.isDirectory) file.openFlags &= ~FOPEN_DIRECT_IO;
  return attach(core, file, flags);
}

async function sendOpen(core: Core, call: Call, file: OpenFile, op: 'OPEN' | 'OPENDIR', flags: number): Promise<void> {
  let wanted = flags & ~(O_CREAT | O_EXCL | O_NOCTTY | O_CLOEXEC);
  if (!has(core, 'FUSE_ATOMIC_O_TRUNC')) wanted &= ~O_TRUNC;
  const kills = has(core, 'FUSE_HANDLE_KILLPRIV_V2') && (wanted & O_TRUNC) !== 0 && !isPrivileged(call.caller);
  const args = { flags: wanted | O_LARGEFILE, open_flags: kills ? FUSE_OPEN_KILL_SUIDGID : 0 };
  const { inode } = file;
  const reply = await core.wire.request({ op, nodeid: inode.nodeid, args, caller: call });
  if (reply.errno === ENOSYS) {
    core.missing.add(op);
    file.openFlags = FOPEN_KEEP_CACHE | (file.isDirectory ? FOPEN_CACHE_DIR : 0);
    return;
  }
  if (reply.errno !== 0) fail(reply.errno);
  const out = newOpenOut();
  decodeOpenOut(reply.words, 0, out);
  takeOpen(file, out);
}

function takeOpen(file: OpenFile, out: OpenOut): void {
  file.handle = out.fh;
  file.openFlags = out.open_flags;
  file.needsRelease = true;
}

/** What an opening does to the caches, and the files that are open. */
async function attach(core: Core, file: OpenFile, flags: number, isNew = false): Promise<OpenFile> {
  const { inode } = file;
  inode.pins++;
  if (file.dentry !== undefined) file.dentry.pins++;
  file.isOpen = true;
  if (canWrite(file.flags)) inode.writers.add(file);
  if (!file.isDirectory && !file.isSilent && !file.isDirectIo) {
    // A cached opening waits until direct writes that share the inode are through (fuse_file_cached_io_open).
    while (inode.parallelWrites > 0) await new Promise<void>((resume) => inode.parallelWaiters.push(resume));
    inode.cachedOpens++;
  }
  const isTruncating = (flags & O_TRUNC) !== 0 && has(core, 'FUSE_ATOMIC_O_TRUNC') && isRegular(inode.mode) && !isNew;
  if (isTruncating) {
    inode.attr.size = 0;
    inode.attrVersion = ++core.attrVersion;
    inode.invalidate(STATX_MODSIZE);
    inode.pages.truncate(0);
    if (has(core, 'FUSE_WRITEBACK_CACHE')) touch(core, inode);
  } else if ((file.openFlags & FOPEN_KEEP_CACHE) === 0 && !file.isSilent) {
    if (file.isDirectory) inode.listing = undefined;
    else {
      await writeBack(core, inode);
      inode.pages.dropClean();
    }
  }
  return file;
}

/** An entry and an opening in one answer: CREATE and TMPFILE. */
export async function takeCreated(
  core: Core,
  reply: Reply,
  flags: number,
  version: number,
  name: (inode: Inode, entry: EntryOut) => Dentry | undefined,
): Promise<OpenFile> {
  const entry = newEntryOut();
  const opened = newOpenOut();
  decodeEntryOut(reply.words, 0, entry);
  decodeOpenOut(reply.words, ENTRY_OUT_SIZE / 4, opened);
  if (!isRegular(entry.attr.mode) || entry.nodeid === 0 || entry.nodeid === 1 || isInvalidAttr(entry.attr)) fail(EIO);
  const inode = core.inodes.take(entry, version);
  const file = new OpenFile(inode, name(inode, entry), flags);
  takeOpen(file, opened);
  return attach(core, file, flags, true);
}

// --- closing -----------------------------------------------------------------------------------------------------------------

/** close(2) of one descriptor: FLUSH, and RELEASE after the last. Fails with what FLUSH answered; the descriptor is gone anyhow. */
export async function closeDescriptor(core: Core, call: Call, file: OpenFile): Promise<void> {
  file.descriptors--;
  const isLast = file.descriptors === 0;
  try {
    if (!file.isSilent && !file.isDirectory) await flush(core, call, file);
  } finally {
    core.locks.closed(file.inode, call.caller.filesId, isLast ? file.id : undefined);
    if (isLast) release(core, file);
  }
}

/** fuse_flush. */
async function flush(core: Core, call: Call, file: OpenFile): Promise<void> {
  const { inode } = file;
  if (inode.isBad) fail(EIO);
  const isWriteback = has(core, 'FUSE_WRITEBACK_CACHE');
  if ((file.openFlags & FOPEN_NOFLUSH) !== 0 && !isWriteback) return;
  await flushInode(core, call, inode);
  const error = takeWriteError(inode);
  if (error !== 0) fail(error);
  if (!core.missing.has('FLUSH')) {
    const owner = lockOwner(call.caller.filesId);
    const args = { fh: file.handle, lock_owner_lo: owner.low, lock_owner_hi: owner.high };
    const { errno } = await core.wire.request({ op: 'FLUSH', nodeid: inode.nodeid, args, caller: call, isForced: true });
    if (errno === ENOSYS) core.missing.add('FLUSH');
    else if (errno !== 0) fail(errno);
  }
  if (isWriteback) inode.invalidate(STATX_BLOCKS);
}

/** After the last close, in the background; its answer is ignored, but the node stays until it came. */
function release(core: Core, file: OpenFile): void {
  const { inode, dentry } = file;
  file.isOpen = false;
  if (file.isSilent && (file.flags & O_PATH) === 0) inode.fifo?.close(file);
  inode.writers.delete(file);
  if (!file.isDirectory && !file.isSilent && !file.isDirectIo) inode.cachedOpens--;
  if (dentry !== undefined) dentry.pins--;
  const done = (): void => {
    inode.pins--;
    core.inodes.evictUnused(inode);
    core.inodes.sendForgetsSoon();
  };
  if (!file.needsRelease) {
    done();
    return;
  }
  const owner = lockOwner(file.id);
  const locks = file.hasFlock
    ? { release_flags: FUSE_RELEASE_FLOCK_UNLOCK, lock_owner_lo: owner.low, lock_owner_hi: owner.high }
    : {};
  const args = { fh: file.handle, flags: file.flags | O_LARGEFILE, ...locks };
  const op = file.isDirectory ? 'RELEASEDIR' : 'RELEASE';
  void core.wire.backgroundForced({ op, nodeid: inode.nodeid, args }).then(done);
}

// --- fsync ---------------------------------------------------------------------------------------------------------------------

export async function fsync(core: Core, call: Call, file: OpenFile, dataOnly: boolean): Promise<void> {
  const { inode } = file;
  assertGood(inode);
  if (file.isSilent) fail(ERRNO.EINVAL);
  await inode.lock.hold(true, () => fsyncLocked(core, call, file, dataOnly));
}

export async function fsyncLocked(core: Core, call: Call, file: OpenFile, dataOnly: boolean): Promise<void> {
  const { inode } = file;
  await flushInode(core, call, inode);
  const error = takeWriteError(inode);
  if (error !== 0) fail(error);
  const op = file.isDirectory ? 'FSYNCDIR' : 'FSYNC';
  if (core.missing.has(op)) return;
  const args = { fh: file.handle, fsync_flags: dataOnly ? FUSE_FSYNC_FDATASYNC : 0 };
  const { errno } = await core.wire.request({ op, nodeid: inode.nodeid, args, caller: call });
  if (errno === ENOSYS) core.missing.add(op);
  else if (errno !== 0) fail(errno);
}

export const usesDirect = (file: OpenFile): boolean => file.isDirectIo || (file.flags & O_DIRECT) !== 0;
