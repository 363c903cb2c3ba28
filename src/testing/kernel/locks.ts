/** Locks: forwarded to the daemon where INIT agreed on it, otherwise kept here. */
import { decodeLkOut, FUSE_LK_FLOCK, newLkOut } from '../../protocol/index.ts';
import type { PosixLock } from '../posix.ts';
import { canRead, canWrite } from './constants.ts';
import { type Call, type Core, has, lockOwner } from './core.ts';
import { ERRNO, fail } from './errors.ts';
import type { OpenFile } from './files.ts';
import { assertGood, type Inode } from './inodes.ts';

const { EAGAIN, EINTR, EINVAL, EBADF } = ERRNO;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
const TYPES = { read: F_RDLCK, write: F_WRLCK, unlock: F_UNLCK } as const;
const NAMES = ['read', 'write', 'unlock'] as const;

/** A lock on the bytes from `start` to `end`, inclusive. */
interface Held {
  readonly owner: number;
  readonly isFlock: boolean;
  readonly type: number;
  readonly start: number;
  readonly end: number;
}

/** Locks that the kernel keeps itself. */
export class LocalLocks {
  readonly #held = new Map<Inode, Held[]>();
  #waiters: (() => void)[] = [];

  conflict(inode: Inode, wanted: Held): Held | undefined {
    return this.#held
      .get(inode)
      ?.find(
        (held) =>
          held.isFlock === wanted.isFlock &&
          held.owner !== wanted.owner &&
          held.start <= wanted.end &&
          wanted.start <= held.end &&
          (held.type === F_WRLCK || wanted.type === F_WRLCK),
      );
  }

  /** Sets or clears; the caller has made sure that nothing is in the way. Parts of older locks of the owner give way. */
  set(inode: Inode, wanted: Held): void {
    const kept: Held[] = [];
    for (const held of this.#held.get(inode) ?? []) {
      if (held.isFlock !== wanted.isFlock || held.owner !== wanted.owner || held.end < wanted.start || held.start > wanted.end) {
        kept.push(held);
        continue;
      }
      if (held.start < wanted.start) kept.push({ ...held, end: wanted.start - 1 });
      if (held.end > wanted.end) kept.push({ ...held, start: wanted.end + 1 });
    }
    if (wanted.type !== F_UNLCK) kept.push(wanted);
    if (kept.length === 0) this.#held.delete(inode);
    else this.#held.set(inode, kept);
    this.#wake();
  }

  async wait(call: Call): Promise<void> {
    if (call.isInterrupted) fail(EINTR);
    await new Promise<void>((resume) => {
      this.#waiters.push(resume);
      call.onInterrupt = resume;
    });
    call.onInterrupt = undefined;
    if (call.isInterrupted) fail(EINTR);
  }

  /** A descriptor was closed: the process's POSIX locks on the file end, and with the last one the flock. */
  closed(inode: Inode, filesId: number, fileId: number | undefined): void {
    const before = this.#held.get(inode);
    if (before === undefined) return;
    const kept = before.filter((held) => (held.isFlock ? held.owner !== fileId : held.owner !== filesId));
    if (kept.length === 0) this.#held.delete(inode);
    else this.#held.set(inode, kept);
    this.#wake();
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resume of waiters) resume();
  }
}

function toRange(lock: PosixLock): { start: number; end: number } {
  if (lock.start < 0) fail(EINVAL);
  if (lock.length >= 0) return { start: lock.start, end: lock.length === 0 ? Infinity : lock.start + lock.length - 1 };
  if (lock.start + lock.length < 0) fail(EINVAL);
  return { start: lock.start + lock.length, end: lock.start - 1 };
}

interface Wanted {
  readonly type: number;
  readonly start: number;
  readonly end: number;
  readonly isFlock: boolean;
  readonly owner: number;
  readonly wait: boolean;
}

async function setLock(core: Core, call: Call, file: OpenFile, wanted: Wanted): Promise<void> {
  const { inode } = file;
  assertGood(inode);
  const isForwarded = has(core, wanted.isFlock ? 'FUSE_FLOCK_LOCKS' : 'FUSE_POSIX_LOCKS');
  if (!isForwarded) {
    const held: Held = wanted;
    while (wanted.type !== F_UNLCK && core.locks.conflict(inode, held) !== undefined) {
      if (!wanted.wait) fail(EAGAIN);
      await core.locks.wait(call);
    }
    core.locks.set(inode, held);
    return;
  }
  if (wanted.isFlock) file.hasFlock = true;
  const args = lockArgs(call, file, wanted);
  await core.wire.call({ op: wanted.wait ? 'SETLKW' : 'SETLK', nodeid: inode.nodeid, args, caller: call });
}

function lockArgs(call: Call, file: OpenFile, wanted: Omit<Wanted, 'wait'>) {
  const owner = lockOwner(wanted.owner);
  const pid = wanted.type === F_UNLCK ? 0 : call.caller.pid;
  return {
    fh: file.handle,
    owner_lo: owner.low,
    owner_hi: owner.high,
    lk: { start: wanted.start, end: wanted.end, type: wanted.type, pid },
    lk_flags: wanted.isFlock ? FUSE_LK_FLOCK : 0,
  };
}

/** fcntl(F_SETLK) and, with `wait`, F_SETLKW. */
export async function setPosixLock(core: Core, call: Call, file: OpenFile, lock: PosixLock, wait: boolean): Promise<void> {
  if (lock.type === 'read' && !canRead(file.flags)) fail(EBADF);
  if (lock.type === 'write' && !canWrite(file.flags)) fail(EBADF);
  const type = TYPES[lock.type];
  // Clearing never waits.
  await setLock(core, call, file, {
    type,
    ...toRange(lock),
    isFlock: false,
    owner: call.caller.filesId,
    wait: wait && type !== F_UNLCK,
  });
}

/** fcntl(F_GETLK). */
export async function getPosixLock(core: Core, call: Call, file: OpenFile, lock: PosixLock): Promise<PosixLock | undefined> {
  // F_GETLK asks about a lock that somebody could take.
  if (lock.type === 'unlock') fail(EINVAL);
  const wanted = { type: TYPES[lock.type], ...toRange(lock), isFlock: false, owner: call.caller.filesId };
  if (!has(core, 'FUSE_POSIX_LOCKS')) {
    const held = core.locks.conflict(file.inode, wanted);
    return held && toPosix(held.type, held.start, held.end);
  }
  const args = lockArgs(call, file, wanted);
  const reply = await core.wire.call({ op: 'GETLK', nodeid: file.inode.nodeid, args, caller: call });
  const { lk } = newLkOut();
  const out = { lk };
  decodeLkOut(reply.words, 0, out);
  if (lk.type > F_UNLCK || (lk.type !== F_UNLCK && lk.end < lk.start)) fail(ERRNO.EIO);
  return lk.type === F_UNLCK ? undefined : toPosix(lk.type, lk.start, lk.end);
}

function toPosix(type: number, start: number, end: number): PosixLock {
  return { type: NAMES[type]!, start, length: end === Infinity ? 0 : end - start + 1 };
}

/** flock(2): LOCK_SH 1, LOCK_EX 2, LOCK_NB 4, LOCK_UN 8. */
export async function flock(core: Core, call: Call, file: OpenFile, operation: number): Promise<void> {
  const kind = operation & ~4;
  const type = kind === 1 ? F_RDLCK : kind === 2 ? F_WRLCK : kind === 8 ? F_UNLCK : -1;
  if (type < 0) fail(EINVAL);
  const wait = (operation & 4) === 0 && type !== F_UNLCK;
  await setLock(core, call, file, { type, start: 0, end: Infinity, isFlock: true, owner: file.id, wait });
}
