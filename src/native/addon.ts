import type { Ring } from './ring.ts';

/**
 * The typed face of the native addon (`native/`): system calls that Node lacks.
 *
 * The addon knows lengths and file descriptors, never what a struct means. Its conventions, without exception:
 *
 * - A system call returns its non-negative result, or the negative errno. Nothing throws for an errno;
 *   a wrong argument type throws a TypeError, because that is our bug.
 * - Bytes travel in registered buffers, named by a small integer and an offset, so that a call costs no look-up of a
 *   typed array. {@link Addon.registerBuffer} pins an ArrayBuffer for this thread's environment; buffer 0 is the
 *   thread's scratch area ({@link Addon.scratch}). Offsets and lengths are checked against the buffer; outside: TypeError.
 * - Paths and names are "binary" strings: one character a byte (latin1), so that every Linux name travels unchanged.
 *   Use `toBinary` for ordinary strings. A NUL inside, or a character above U+00FF, throws a TypeError; more than 4,095
 *   bytes give -ENAMETOOLONG.
 * - File calls ask again after EINTR, except close. The calls that wait for a message ({@link Addon.receive},
 *   {@link Addon.replyReceive}, {@link Addon.poll}) return it.
 * - 64-bit offsets and lengths are JavaScript numbers (exact to 2^53-1).
 * - Every descriptor that a call makes has FD_CLOEXEC.
 * - A call blocks the calling thread for as long as the system call does.
 */
export interface Addon {
  /** Bytes of the scratch area, buffer id 0 of this thread: 256 KiB. Contents are valid until the next call that writes there. */
  readonly scratch: ArrayBuffer;

  /**
   * Pins `buffer`, or `length` bytes of it from `offset`, and names it: offset 0 of the id is the first of these bytes.
   * At most 65,536 a thread (RangeError); ids are reused after {@link unregisterBuffer}. The buffer must not be resizable
   * (TypeError) and must not be transferred while registered: `pinBuffer` sees to that.
   */
  registerBuffer(buffer: ArrayBuffer, offset?: number, length?: number): number;
  unregisterBuffer(id: number): void;
  /** How many bytes of `buffer` lie before its first address that is a multiple of 4,096: 0 to 4,095. */
  bytesToBoundary(buffer: ArrayBuffer): number;

  // --- the device --------------------------------------------------------------------------------------------------

  /**
   * One read(2) of `fd` into a registered buffer. When the descriptor blocks, the thread counts as blocked in the kernel
   * and {@link wakeBlockedThread} ends the wait with -EINTR (as does {@link stopBlockedThreads}, and nothing else).
   */
  receive(fd: number, buffer: number, offset: number, length: number): number;
  /** One write(2) of a whole message. */
  reply(fd: number, buffer: number, offset: number, length: number): number;
  /**
   * Writes a reply, then receives the next message, in one call. Returns the result of the read; the result of the
   * write stands in `replyStatus[0]` afterwards. The read happens whatever the write returned.
   */
  replyReceive(
    fd: number,
    replyBuffer: number,
    replyOffset: number,
    replyLength: number,
    buffer: number,
    offset: number,
    length: number,
  ): number;
  /** Word 0: the result of the write of the last {@link replyReceive} on this thread. */
  readonly replyStatus: Int32Array;
  /**
   * Records what {@link receive}, {@link reply} and {@link replyReceive} carry over `fd` from now on, into a block of a trace that lies
   * in a registered buffer: eight words and four times, `dataBytes` of block and `indexBytes` of index (native/src/tape.h). Only
   * messages of which the block's owner wants it. `startedAt` is microseconds of CLOCK_MONOTONIC. Returns 0
   * or -ENOMEM.
   */
  tapeBegin(fd: number, buffer: number, offset: number, dataBytes: number, indexBytes: number, startedAt: number): number;
  /** Ends that; before the buffer is unregistered. Returns 0. */
  tapeEnd(fd: number): number;
  /** One writev(2): the head from a registered buffer, then the parts, at most 1,023 of them. */
  replyParts(fd: number, buffer: number, offset: number, length: number, parts: readonly Uint8Array[]): number;
  /** ioctl(2) whose argument points into a registered buffer. */
  ioctlBuffer(fd: number, request: number, buffer: number, offset: number): number;
  /** ioctl(2) with an integer argument. */
  ioctlInteger(fd: number, request: number, argument: number): number;
  /** fcntl(F_SETFL): sets or clears O_NONBLOCK of the open file. */
  setNonBlocking(fd: number, nonBlocking: boolean): number;
  /**
   * poll(2) of one descriptor; returns revents (0 after the time limit). `timeoutMs` -1 waits for ever. Wakeable as
   * {@link receive}; other signals end it too, with -EINTR.
   */
  poll(fd: number, events: number, timeoutMs: number): number;

  /**
   * Calls `callback(revents)` on this thread's event loop whenever `fd` is readable (level-triggered) or has an error
   * (`revents` as of poll(2)). No thread, no libuv pool, and the open file becomes non-blocking. Returns a watch id, or
   * -errno (-EEXIST: this thread watches `fd` already). The watch keeps the loop alive. What the callback throws becomes
   * an 'uncaughtException'. Where the process has no libuv to offer, a helper thread polls.
   */
  watch(fd: number, callback: (revents: number) => void): number;
  /**
   * What a watch waits for: POLLIN (1), as at its beginning, or 0 for errors alone, for a reader that must not take more
   * just now. Either way the loop stays alive. Returns 0, or -ENOENT when the watch has ended.
   */
  watchFor(id: number, events: number): number;
  /** Ends a watch. Must come before `fd` is closed. Ending it twice is harmless. */
  unwatch(id: number): void;

  // --- FUSE-over-io_uring --------------------------------------------------------------------------------------------

  /**
   * Makes a ring of this thread with `depth` entries on each of `queues` queues (the connection has one for each possible
   * processor). A payload holds `payloadBytes`: at least 8,192, max_write, and max_pages of 4,096 bytes. Nothing is registered
   * yet. When a thread ended without closing its ring of the same `key`, this one takes its memory over, and {@link ringStart}
   * answers the requests that it had with ECONNABORTED. Returns -errno where the kernel or a sandbox refuses (-ENOSYS, -EPERM,
   * -ENOMEM), -EINVAL when the memory taken over has other sizes.
   */
  ringOpen(device: number, queues: number, depth: number, payloadBytes: number, key: number): Ring | number;
  /**
   * Registers `count` entries from `from` on (entry n serves queue n modulo the queues), and with the first call waits for the
   * device too. Returns 0 or -errno: -EOPNOTSUPP where `enable_uring` is off, -EAGAIN
   * before the INIT reply. The connection leaves the device once every queue of it has an entry, of whichever ring.
   */
  ringStart(ring: number, from: number, count: number): number;
  /**
   * Submits the first `commits` rows of {@link Ring.commits}, and takes what arrived into {@link Ring.news}; returns how many rows.
   * With `wait` the thread sleeps until there is one, or returns -EINTR when it is woken, as {@link receive}.
   */
  ringTurn(ring: number, commits: number, wait: boolean): number;
  /**
   * Makes a descriptor readable whenever the ring has something, for {@link watch}, or stops that; returns the descriptor, which
   * stays the ring's, or -errno. A turn that does not wait makes it unreadable again.
   */
  ringBell(ring: number, rings: boolean): number;
  /** Ends a ring. Requests that were delivered and not committed wait until the connection ends. */
  ringClose(ring: number): void;
  /**
   * Makes a registration fail on purpose: where INIT announced rings and none could be made, the kernel holds every request back
   * until then. Returns the expected -EINVAL. Harmless where there are rings.
   */
  ringRefuse(ring: number): number;
  /** The first of `count` keys that no other ring of this process has. */
  ringKeys(count: number): number;
  /** Frees what a thread that ended without closing its ring left behind, once the connection is gone. */
  ringForget(key: number): void;
  /**
   * Writes the message once from each processor that this process may use (of `processors`), by a thread of its own. Requests that
   * the kernel queued while a queue had no entries are delivered only after the next answer on it: a RETRIEVE makes one.
   */
  writeOnProcessors(fd: number, buffer: number, offset: number, length: number, processors: number): number;

  // --- backing files -------------------------------------------------------------------------------------------------

  /**
   * A table of the open inodes of a connection, for every thread of the process: which of them are open, how often, and by which
   * backing id. Returns its id, or -ENOMEM.
   */
  backingTable(): number;
  /**
   * Counts an open of `node`. When it is the first one and `device` is not -1, registers a backing file by ioctl(2) on that
   * descriptor, with the argument in the buffer. Returns the backing id by which the node is open, 0 when by none, or -ENOMEM
   * (then nothing was counted). The i32 behind the argument says what the ioctl returned, 0 where none was made; after -EPERM none
   * is made on that table any more.
   */
  backingEnter(table: number, node: number, device: number, request: number, buffer: number, offset: number): number;
  /** Takes an open of `node` off. Returns the backing id when it was the last one, for the caller to give back; else 0. */
  backingLeave(table: number, node: number): number;
  /** How many nodes are open. */
  backingNodes(table: number): number;
  /** Frees a table. Its id is never used again; with it, the others do nothing. */
  backingEnd(table: number): void;

  /** This thread's id (gettid). */
  threadId(): number;
  /** Whether `threadId` is a thread of this process (tgkill with signal 0). */
  isOwnThread(threadId: number): boolean;
  /**
   * Makes a thread of this process that sits in {@link receive}, {@link replyReceive} or {@link poll} return -EINTR.
   * Sticky: when the thread is not blocked now, its next blocking call returns -EINTR at once. Returns 0 or -ESRCH.
   */
  wakeBlockedThread(threadId: number): number;
  /**
   * For process exit: every blocking call of every thread returns -EINTR from now on, for good, and threads that are
   * blocked now are woken until none is left or `timeoutMs` is over. Returns how many are still blocked.
   */
  stopBlockedThreads(timeoutMs: number): number;

  // --- mounting ----------------------------------------------------------------------------------------------------

  /** mount(2). All strings binary. */
  mount(source: string, target: string, type: string, flags: number, data: string): number;
  /** umount2(2). */
  umount(target: string, flags: number): number;
  /** socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC): writes the two descriptors as i32 into scratch at 0 and 4. */
  socketPair(): number;
  /**
   * recvmsg(2) on a unix socket: one byte and, by SCM_RIGHTS, one descriptor (made CLOEXEC). Returns the descriptor,
   * -ENODATA at end of file without one, -EAGAIN after `timeoutMs`.
   */
  receiveDescriptor(socket: number, timeoutMs: number): number;
  /** sendmsg(2): one zero byte with a descriptor by SCM_RIGHTS. */
  sendDescriptor(socket: number, fd: number): number;
  /** Sets FD_CLOEXEC off (true) or on (false), so that an exec'ed child inherits `fd`. */
  setInheritable(fd: number, inheritable: boolean): number;

  // --- files: for filesystems that stand on descriptors --------------------------------------------------------------

  /** openat(2). `AT_FDCWD` is -100. */
  openat(dirfd: number, path: string, flags: number, mode: number): number;
  close(fd: number): number;
  dup(fd: number): number;
  pread(fd: number, buffer: number, offset: number, length: number, position: number): number;
  pwrite(fd: number, buffer: number, offset: number, length: number, position: number): number;
  /** statx(2); `flags` holds AT_EMPTY_PATH (0x1000) when `path` is empty: 256 bytes of `struct statx` into the buffer. */
  statx(dirfd: number, path: string, flags: number, mask: number, buffer: number, offset: number): number;
  /** fstatfs(2): eleven u64 into the buffer: type, bsize, blocks, bfree, bavail, files, ffree, fsid (0), namelen, frsize, flags. */
  fstatfs(fd: number, buffer: number, offset: number): number;
  mkdirat(dirfd: number, name: string, mode: number): number;
  /** mknodat(2); `major` and `minor` of the device number. */
  mknodat(dirfd: number, name: string, mode: number, major: number, minor: number): number;
  symlinkat(target: string, dirfd: number, name: string): number;
  linkat(fromDirfd: number, from: string, toDirfd: number, to: string, flags: number): number;
  unlinkat(dirfd: number, name: string, flags: number): number;
  renameat2(fromDirfd: number, from: string, toDirfd: number, to: string, flags: number): number;
  /** readlinkat(2): bytes without NUL into the buffer; returns their count. An empty path reads the link that `dirfd` (O_PATH) is. */
  readlinkat(dirfd: number, path: string, buffer: number, offset: number, length: number): number;
  /** getdents64(2): records of `struct linux_dirent64` into the buffer; returns their bytes, 0 at the end. */
  getdents64(fd: number, buffer: number, offset: number, length: number): number;
  /** lseek(2) where position and result are numbers; for directories use {@link lseekWords}. */
  lseek(fd: number, position: number, whence: number): number;
  /** lseek(fd, lo + hi·2^32, SEEK_SET) for directory cookies of 63 bits. Returns 0 or -errno. */
  lseekWords(fd: number, low: number, high: number): number;
  fallocate(fd: number, mode: number, position: number, length: number): number;
  ftruncate(fd: number, length: number): number;
  truncate(path: string, length: number): number;
  fsync(fd: number): number;
  fdatasync(fd: number): number;
  syncfs(fd: number): number;
  fchmod(fd: number, mode: number): number;
  fchmodat(dirfd: number, path: string, mode: number): number;
  /** fchownat(2). `uid` or `gid` -1 leaves it alone. */
  fchownat(dirfd: number, path: string, uid: number, gid: number, flags: number): number;
  /**
   * utimensat(2). Seconds are signed numbers; nanoseconds 0..999,999,999, or UTIME_NOW (0x3fffffff), UTIME_OMIT (0x3ffffffe).
   * An empty path with AT_EMPTY_PATH names `dirfd` itself.
   */
  utimensat(
    dirfd: number,
    path: string,
    atimeSeconds: number,
    atimeNanoseconds: number,
    mtimeSeconds: number,
    mtimeNanoseconds: number,
    flags: number,
  ): number;
  /** setxattr(2) by path (`/proc/self/fd/N` names an O_PATH descriptor). The value lies in a registered buffer. */
  setxattr(path: string, name: string, buffer: number, offset: number, length: number, flags: number): number;
  /** getxattr(2): with `length` 0 the size alone. */
  getxattr(path: string, name: string, buffer: number, offset: number, length: number): number;
  listxattr(path: string, buffer: number, offset: number, length: number): number;
  removexattr(path: string, name: string): number;
  /** copy_file_range(2). */
  copyFileRange(fromFd: number, fromPosition: number, toFd: number, toPosition: number, length: number, flags: number): number;
  /** flock(2). Pass LOCK_NB unless the thread may sleep. */
  flock(fd: number, operation: number): number;
  /**
   * fcntl(2) with an open-file-description lock: `command` F_OFD_GETLK 36, F_OFD_SETLK 37. `length` 0 means to the end of
   * the file. On F_OFD_GETLK writes type (u32), pid (i32), start (u64), length (u64) of the conflicting lock to scratch 0.
   */
  ofdLock(fd: number, command: number, type: number, start: number, length: number): number;
  /**
   * fcntl(2) with a POSIX lock, which belongs to the whole process: `command` F_GETLK 5, F_SETLK 6, or F_SETLKW 7, which
   * blocks this thread until it has the lock. Else as {@link ofdLock}. For programs that use a filesystem, such as tests.
   */
  recordLock(fd: number, command: number, type: number, start: number, length: number): number;
  /**
   * Waits for a lock on a thread of its own: F_OFD_SETLKW (`kind` 'ofd') or flock (`kind` 'flock', `type` the operation).
   * `callback(result)` comes on the event loop with 0 or -errno (-EINTR after {@link lockCancel}). Returns an id, or -errno
   * (-EAGAIN above 4,096 waits a thread). The wait holds a duplicate of `fd`, and keeps the loop alive.
   */
  lockWait(
    kind: 'ofd' | 'flock',
    fd: number,
    type: number,
    start: number,
    length: number,
    callback: (result: number) => void,
  ): number;
  /** Ends a wait; its callback comes with -EINTR unless the lock was granted first. */
  lockCancel(id: number): void;

  // --- identity ----------------------------------------------------------------------------------------------------

  /**
   * Sets the identity of this thread alone (raw setgroups, setfsgid, setfsuid; other threads keep theirs). `groups` as
   * supplementary groups. Returns 0 or -errno; on an error the thread's former identity is restored.
   */
  becomeUser(uid: number, gid: number, groups: readonly number[]): number;
  /** Undoes {@link becomeUser}: fsuid, fsgid and groups of the process at start. */
  becomeSelf(): number;
  /** umask(2) of the process: returns the former one. */
  umask(mask: number): number;
  /** Raises RLIMIT_NOFILE's soft limit to `limit` (and the hard limit where privileged), as far as allowed; returns the soft limit now in force. */
  raiseOpenFileLimit(limit: number): number;

  /** Microseconds of CPU used by this process (user + system; CLOCK_PROCESS_CPUTIME_ID). */
  processCpuMicros(): number;
}
