/** POSIX locks and flock. Nothing here blocks a worker: who has to wait gets a promise, and a thread of the addon waits. */
import { readFileSync } from 'node:fs';
import { type FileHandle, type FileLock, FuseError, type LockOwner, type LockRequest, type NodeId } from 'fusewire';
import { check, type Host } from './host.ts';
import {
  EAGAIN,
  EDEADLK,
  EINTR,
  F_OFD_GETLK,
  F_OFD_SETLK,
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
} from './linux.ts';
import type { LockTable } from './lock-table.ts';
import { closesCircle, type Holder, type LockWaits } from './lock-waits.ts';
import type { OpenFiles } from './open-files.ts';

const TYPES = { read: F_RDLCK, write: F_WRLCK, unlock: F_UNLCK } as const;
const FLOCK_OPERATIONS = { read: LOCK_SH, write: LOCK_EX, unlock: LOCK_UN } as const;

/** A line of /proc/PID/fdinfo/FD (lock_get_status in the kernel): kind, start, end. */
const OFD_LOCK = /^lock:\s+\d+: OFDLCK\s+\S+\s+(READ|WRITE)\s+\S+\s+\S+\s+(\d+)\s+(\d+|EOF)$/gm;

/** A length of 0 means to the end of the file, however far it grows. */
function lengthOf(start: number, end: number): number {
  return end === Number.POSITIVE_INFINITY ? 0 : end - start + 1;
}

export class Locks {
  readonly #host: Host;
  readonly #table: LockTable;
  readonly #waits: LockWaits;
  readonly #files: OpenFiles;
  /** Where the addon puts the lock that stands in the way: type, pid, start, length. */
  readonly #found: Uint32Array;

  constructor(host: Host, table: LockTable, waits: LockWaits, files: OpenFiles) {
    this.#host = host;
    this.#table = table;
    this.#waits = waits;
    this.#files = files;
    this.#found = new Uint32Array(host.addon.scratch, 0, 6);
  }

  set(node: NodeId, nodeFd: number, request: LockRequest): void | Promise<void> {
    return request.flock ? this.#setFlock(request) : this.#setPosix(node, nodeFd, request);
  }

  /** flock belongs to an opening of the file, and the daemon's descriptor is one for each of the caller's. */
  #setFlock(request: LockRequest): void | Promise<void> {
    const fd = this.#files.fd(request.handle);
    const operation = FLOCK_OPERATIONS[request.type];
    const result = this.#host.addon.flock(fd, operation | LOCK_NB);
    if (result === -EAGAIN && request.wait) return this.#wait('flock', fd, operation, 0, 0, request.signal);
    check(result);
  }

  #setPosix(node: NodeId, nodeFd: number, request: LockRequest): void | Promise<void> {
    const table = this.#table;
    let entry = table.find(node, request.owner);
    if (entry === 0) {
      // Whoever holds nothing has nothing to unlock.
      if (request.type === 'unlock') return;
      entry = this.#makeEntry(node, nodeFd, request);
    }
    const fd = table.fd(entry);
    const type = TYPES[request.type];
    const length = lengthOf(request.start, request.end);
    if (type !== F_UNLCK) table.setPid(entry, request.lockPid);
    const result = this.#host.addon.ofdLock(fd, F_OFD_SETLK, type, request.start, length);
    if (result !== -EAGAIN || !request.wait) {
      table.release(entry);
      check(result);
      return;
    }
    const place = this.#waits.enter(node, request);
    const leave = () => {
      this.#waits.leave(place);
      table.release(entry);
    };
    if (closesCircle(request.owner, this.#waits.all(), (other) => this.#holdersOn(other))) {
      leave();
      throw FuseError.of(EDEADLK);
    }
    return this.#wait('ofd', fd, type, request.start, length, request.signal).finally(leave);
  }

  /** The lock that stands in the way of the one asked for, or nothing. */
  get(node: NodeId, nodeFd: number, request: LockRequest): FileLock | undefined {
    const entry = this.#table.find(node, request.owner);
    const fd = entry === 0 ? this.#open(nodeFd) : this.#table.fd(entry);
    try {
      check(this.#host.addon.ofdLock(fd, F_OFD_GETLK, TYPES[request.type], request.start, lengthOf(request.start, request.end)));
      const lock = this.#foundLock();
      if (lock !== undefined && lock.pid < 0) lock.pid = this.#holder(node, lock);
      return lock;
    } finally {
      if (entry === 0) this.#host.addon.close(fd);
      else this.#table.release(entry);
    }
  }

  /** FLUSH: closing any descriptor of a file ends all locks that the process has on it. */
  drop(node: NodeId, owner: LockOwner): void {
    if (!this.#table.hasOwners(node)) return;
    const fd = this.#table.remove(node, owner);
    const { kept } = this.#table;
    if (fd >= 0) this.#host.addon.close(fd);
    if (kept === 0) return;
    this.#host.addon.ofdLock(this.#table.fd(kept), F_OFD_SETLK, F_UNLCK, 0, 0);
    this.#table.release(kept);
  }

  /** RELEASE: ends the locks whose owner is the opening itself. */
  dropOf(node: NodeId, handle: FileHandle): void {
    if (!this.#table.hasOwners(node)) return;
    for (const fd of this.#table.removeOf(node, handle)) this.#host.addon.close(fd);
  }

  /** Opens the file for an owner that has no descriptor yet. */
  #makeEntry(node: NodeId, nodeFd: number, request: LockRequest): number {
    const fd = this.#open(nodeFd);
    let entry: number;
    try {
      entry = this.#table.insert(node, request.owner, request.handle, fd);
    } catch (error) {
      this.#host.addon.close(fd);
      throw error;
    }
    if (this.#table.fd(entry) !== fd) this.#host.addon.close(fd);
    return entry;
  }

  /** Read locks need a descriptor that reads and write locks one that writes. Who cannot have both can only want the one. */
  #open(nodeFd: number): number {
    const both = this.#host.reopen(nodeFd, O_RDWR | O_NONBLOCK);
    return both >= 0 ? both : check(this.#host.reopen(nodeFd, O_RDONLY | O_NONBLOCK));
  }

  #foundLock(): FileLock | undefined {
    const words = this.#found;
    if (words[0] === F_UNLCK) return undefined;
    const start = words[3] * 0x1_0000_0000 + words[2];
    const length = words[5] * 0x1_0000_0000 + words[4];
    const end = length === 0 ? Number.POSITIVE_INFINITY : start + length - 1;
    return { type: words[0] === F_RDLCK ? 'read' : 'write', pid: words[1] | 0, start, end };
  }

  /**
   * The process behind a lock of ours. The host knows only that some descriptor holds it; a descriptor's own locks are
   * never in its way, so the holder is the one that, asked about the same range, does not see this lock. 0: not found.
   */
  #holder(node: NodeId, lock: FileLock): number {
    const table = this.#table;
    let pid = 0;
    for (const entry of table.holdAll(node)) {
      if (pid === 0) {
        const asked = this.#host.addon.ofdLock(table.fd(entry), F_OFD_GETLK, F_WRLCK, lock.start, lengthOf(lock.start, lock.end));
        const seen = asked < 0 ? lock : this.#foundLock();
        if (seen === undefined || seen.start !== lock.start || seen.end !== lock.end || seen.type !== lock.type)
          pid = table.pid(entry);
      }
      table.release(entry);
    }
    return pid;
  }

  /** All locks that callers hold on a node: /proc tells which ones belong to a descriptor. */
  #holdersOn(node: NodeId): Holder[] {
    const table = this.#table;
    const holders: Holder[] = [];
    for (const entry of table.holdAll(node)) {
      const owner = table.owner(entry);
      for (const [, type, start, end] of this.#describe(table.fd(entry)).matchAll(OFD_LOCK)) {
        holders.push({
          owner,
          pid: table.pid(entry),
          type: type === 'WRITE' ? 'write' : 'read',
          start: Number(start),
          end: end === 'EOF' ? Number.POSITIVE_INFINITY : Number(end),
        });
      }
      table.release(entry);
    }
    return holders;
  }

  #describe(fd: number): string {
    try {
      return readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1');
    } catch {
      // Without it nobody is found to wait in a circle.
      return '';
    }
  }

  #wait(kind: 'ofd' | 'flock', fd: number, type: number, start: number, length: number, signal: AbortSignal): Promise<void> {
    const { addon } = this.#host;
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(FuseError.of(EINTR));
        return;
      }
      const onAbort = () => addon.lockCancel(id);
      const id = addon.lockWait(kind, fd, type, start, length, (result) => {
        signal.removeEventListener('abort', onAbort);
        if (result < 0) reject(FuseError.of(-result));
        else resolve();
      });
      if (id < 0) reject(FuseError.of(-id));
      else signal.addEventListener('abort', onAbort, { once: true });
    });
  }
}
