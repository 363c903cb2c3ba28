/** Acting as the caller, where the host must know on whose behalf a file is made or changed. */
import { readFileSync } from 'node:fs';
import { FuseError, type Request } from 'fusewire';
import type { Addon } from 'fusewire/native';
import type { Host } from './host.ts';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  EACCES,
  EIO,
  EPERM,
  O_WRONLY,
  PERMISSION_BITS,
  S_ISGID,
  S_ISUID,
  S_IXGRP,
  STATX_BASIC_STATS,
} from './linux.ts';

/** Where `gid` and `mode` lie in struct statx. */
const STATX_GID_AT = 24;
const STATX_MODE_AT = 28;

export class Callers {
  readonly #addon: Addon;
  /** Only root can take another identity. For anyone else all callers are the same user anyway. */
  readonly #privileged = process.geteuid?.() === 0;
  readonly #mode: Uint16Array;
  readonly #group: Uint32Array;

  constructor(addon: Addon) {
    this.#addon = addon;
    this.#mode = new Uint16Array(addon.scratch, STATX_MODE_AT, 1);
    this.#group = new Uint32Array(addon.scratch, STATX_GID_AT, 1);
  }

  /**
   * Runs one system call with the caller's user, group and supplementary groups, on this thread alone. The host then does
   * what it does natively: owner and group of new files, inheritance in set-group-id directories and by default ACLs,
   * quotas, and set-id bits taken away from those who may not keep them.
   *
   * The kernel tells only the supplementary group that the directory belongs to. It let the caller pass already, so when the
   * host does not, an ACL must name another group of the caller's: that is asked for only then.
   */
  run(request: Request, call: () => number): number {
    if (!this.#privileged || (request.uid === 0 && request.gid === 0)) return call();
    const result = this.#as(request, request.groups(), call);
    return result === -EACCES ? this.#as(request, groupsOf(request.pid), call) : result;
  }

  #as(request: Request, groups: readonly number[], call: () => number): number {
    const became = this.#addon.becomeUser(request.uid, request.gid, groups);
    if (became < 0) return became;
    let result: number;
    try {
      result = call();
    } catch (error) {
      this.#addon.becomeSelf();
      throw error;
    }
    // Staying somebody else would show in later requests; no answer can be right then.
    if (this.#addon.becomeSelf() < 0) throw FuseError.of(EIO);
    return result;
  }

  /**
   * Runs a call that changes the contents of the open file `fd` for a caller who loses set-id bits by that. Root keeps
   * them, so the daemon takes the caller's identity where there are such bits. Then the host clears them in the same step.
   */
  runWithoutSetId(request: Request, fd: number, call: () => number): number {
    return this.hasSetId(fd) ? this.run(request, call) : call();
  }

  /**
   * Takes the set-id bits of a file away as the host does for a writer: set-group-id stays where the file is not for execution by
   * its group and the caller is in that group. Who may not write gets the host's refusal.
   */
  clearSetId(request: Request, host: Host, fd: number): number {
    const writable = this.run(request, () => host.reopen(fd, O_WRONLY));
    if (writable < 0) return -EPERM;
    this.#addon.close(writable);
    if (!this.hasSetId(fd)) return 0;
    const mode = this.#mode[0] & PERMISSION_BITS;
    const isMember = request.gid === this.#group[0] || groupsOf(request.pid).includes(this.#group[0]);
    const group = (mode & S_IXGRP) !== 0 || !isMember ? S_ISGID : 0;
    return this.#addon.fchmodat(AT_FDCWD, host.path(fd), mode & ~S_ISUID & ~group);
  }

  hasSetId(fd: number): boolean {
    if (this.#addon.statx(fd, '', AT_EMPTY_PATH, STATX_BASIC_STATS, 0, 0) < 0) return false;
    return (this.#mode[0] & (S_ISUID | S_ISGID)) !== 0;
  }
}

/** All supplementary groups of a thread; none when it is gone, or in a pid namespace that is not seen from here. */
function groupsOf(pid: number): readonly number[] {
  try {
    const line = /^Groups:(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
    return (line?.[1].match(/\d+/g) ?? []).map(Number);
  } catch {
    return [];
  }
}
