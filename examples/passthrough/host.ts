/** What every part of the filesystem needs of the host: the addon, a way to open a node's file anew, and errors. */
import { FuseError } from 'fusewire';
import type { Addon } from 'fusewire/native';
import { EMFILE, ENFILE } from './linux.ts';

/** The result of a system call, or its errno thrown. The errors are shared objects without a stack: throwing one is cheap. */
export function check(result: number): number {
  // The limit of descriptors is the daemon's. To its callers that is a limit of the filesystem, not of their own process.
  if (result < 0) throw FuseError.of(result === -EMFILE ? ENFILE : -result);
  return result;
}

export class Host {
  readonly addon: Addon;
  /** `/proc/self/fd`, opened O_PATH. */
  readonly #links: number;

  constructor(addon: Addon, links: number) {
    this.addon = addon;
    this.#links = links;
  }

  /**
   * Opens the file behind a descriptor anew, through its link in /proc. Such a link leads to the open file itself, not to
   * a name, so nobody can put another file in its place meanwhile. Returns the descriptor or the negative errno.
   */
  reopen(fd: number, flags: number): number {
    return this.addon.openat(this.#links, String(fd), flags, 0);
  }

  /** A path of the file behind a descriptor, for system calls that take nothing else. Following it is what makes it safe. */
  path(fd: number): string {
    return `/proc/self/fd/${fd}`;
  }
}
