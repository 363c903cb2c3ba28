/**
 * Two folders seen as one: what stands in the upper one, and what the lower one has besides.
 *
 * What was removed is recorded in the upper folder as layers of container images do: an empty file `.wh.NAME` hides NAME of the
 * lower folder, and `.wh..wh..opq` in a directory hides all that the lower one has there. Both hide only what is below, never
 * what stands beside them. So nothing ever has to be replaced in one step by something else: a removal first writes the whiteout,
 * which changes nothing while the upper name is there, and then takes that name away; and a directory made in the place of a
 * removed one shows nothing of it, because the whiteout stays.
 *
 * Everything here is synchronous: no step can come between another's question and its deed.
 */
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  type Dirent,
  lchownSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { FuseError } from 'fusewire';
import { exchange, makeSpecial, setTimes, statOf } from './host.ts';

const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';
/** A copy that is not complete yet. Hidden, as all names that start so. */
const UNFINISHED = '.wh..wh.copy';

export type HostStats = NonNullable<ReturnType<typeof statOf>>;

/** What a path names, in the layer that counts. */
export interface Found {
  readonly host: string;
  readonly isUpper: boolean;
  readonly stats: HostStats;
}

export class Layers {
  readonly #lowerRoot: string;
  readonly #upperRoot: string;
  /** Called when a file of the lower folder got its copy. */
  onCopy: (path: string, upper: string) => void = () => {};
  /** Numbers of lower files by the upper inode that they were copied to: a copy keeps its number while this mount lasts. */
  readonly #origins = new Map<bigint, bigint>();

  constructor(lower: string, upper: string) {
    this.#lowerRoot = lower;
    this.#upperRoot = upper;
  }

  upper(path: string): string {
    return join(this.#upperRoot, path);
  }

  find(path: string): Found | undefined {
    if (isReserved(path)) return undefined;
    const host = this.upper(path);
    const stats = statOf(host);
    if (stats !== undefined) return { host, isUpper: true, stats };
    const below = this.#below(path);
    return below && { host: join(this.#lowerRoot, path), isUpper: false, stats: below };
  }

  need(path: string): Found {
    return this.find(path) ?? fail('ENOENT');
  }

  /** What a stat of it shows: numbers of the two folders do not meet, and stay when a file is copied up. */
  shown({ stats, isUpper }: Pick<Found, 'stats' | 'isUpper'>, path?: string) {
    const { mode, size, uid, gid, rdev, blksize, blocks, atimeNs, mtimeNs, ctimeNs, birthtimeNs } = stats;
    const ino = isUpper ? (this.#origins.get(stats.ino) ?? stats.ino * 2n) : lowerNumber(stats);
    const times = { atimeNs, mtimeNs, ctimeNs, birthtimeNs };
    return { mode, size, nlink: this.#links(stats, isUpper, path), uid, gid, rdev, blksize, blocks, ino, ...times };
  }

  /** Names that a directory shows, each once. */
  list(path: string): Dirent[] {
    const { isUpper, stats } = this.need(path);
    if (!stats.isDirectory()) fail('ENOTDIR');
    const names = new Map<string, Dirent>();
    const hidden = new Set<string>();
    for (const entry of isUpper ? entriesOf(this.upper(path)) : []) {
      if (entry.name.startsWith(WHITEOUT)) hidden.add(entry.name.slice(WHITEOUT.length));
      else names.set(entry.name, entry);
    }
    const isOpaque = hidden.has(OPAQUE.slice(WHITEOUT.length));
    for (const entry of !isOpaque && this.hasLowerDirectory(path) ? entriesOf(join(this.#lowerRoot, path)) : []) {
      const isHidden = hidden.has(entry.name) || entry.name.startsWith(WHITEOUT);
      if (!isHidden && !names.has(entry.name)) names.set(entry.name, entry);
    }
    return [...names.values()];
  }

  /** Whether the lower folder has part of a directory, or all of it. */
  hasLowerDirectory(path: string): boolean {
    return this.#below(path)?.isDirectory() ?? false;
  }

  // --- changes ---------------------------------------------------------------------------------------------------------

  /** Where a new name may be made: its directory is in the upper folder then. Throws EEXIST when the name is taken. */
  vacant(path: string): string {
    assertName(path);
    if (this.find(path) !== undefined) fail('EEXIST');
    this.copyUp(dirname(path));
    return this.upper(path);
  }

  /** Brings a file into the upper folder, whole or not at all, and its directories with it. Answers where it is. */
  copyUp(path: string): string {
    const { host, isUpper, stats } = this.need(path);
    if (isUpper) return host;
    const parent = dirname(path);
    const upperParent = this.copyUp(parent);
    const before = statOf(upperParent)!;
    const upper = this.upper(path);
    const copy = join(upperParent, UNFINISHED);
    this.#removeUnfinished(copy);
    copyNode(host, copy, stats);
    renameSync(copy, upper);
    // To those who look, nothing happened in the directory.
    setTimes(upperParent, before.atimeNs, before.mtimeNs);
    this.#origins.set(statOf(upper)!.ino, lowerNumber(stats));
    this.onCopy(path, upper);
    return upper;
  }

  /** Takes away a name that is no directory, or an empty one. */
  remove(path: string): void {
    const { isUpper, stats } = this.need(path);
    if (this.#below(path) !== undefined) this.#hide(path);
    if (!isUpper) return;
    this.#dropOrigin(stats);
    if (!stats.isDirectory()) unlinkSync(this.upper(path));
    else this.#removeDirectory(this.upper(path));
  }

  /** What is at `from` replaces what is at `to`: files, and directories that the lower folder has no part of. */
  move(from: string, to: string): void {
    assertName(to);
    const upper = this.#movable(from);
    this.copyUp(dirname(to));
    if (this.#below(from) !== undefined) this.#hide(from);
    const target = this.find(to);
    // A directory of the lower folder would shine through the new one.
    if (target?.stats.isDirectory() && this.hasLowerDirectory(to)) this.#hide(to);
    if (target?.isUpper) {
      this.#dropOrigin(target.stats);
      if (target.stats.isDirectory()) this.#removeDirectory(target.host);
    }
    renameSync(upper, this.upper(to));
  }

  /** Swaps two names, under the same condition. */
  swap(one: string, other: string): void {
    const [upper, otherUpper] = [this.#movable(one), this.#movable(other)];
    for (const path of [one, other]) if (this.#below(path) !== undefined) this.#hide(path);
    exchange(upper, otherUpper);
  }

  // --- inside ----------------------------------------------------------------------------------------------------------

  /** What the lower folder shows at a path, whatever stands above it there. */
  #below(path: string): HostStats | undefined {
    let hasUpper = true;
    let at = '/';
    for (const name of path.split('/').filter((part) => part !== '')) {
      // A directory that is not in the upper folder cannot hide anything.
      hasUpper &&= statOf(this.upper(at)) !== undefined;
      if (hasUpper && (exists(join(this.upper(at), WHITEOUT + name)) || exists(join(this.upper(at), OPAQUE)))) return undefined;
      if (!statOf(join(this.#lowerRoot, at))?.isDirectory()) return undefined;
      at = join(at, name);
      // Something else than a directory stands in the way; at the path itself it merely stands above.
      if (hasUpper && at !== path && statOf(this.upper(at))?.isDirectory() === false) return undefined;
    }
    return statOf(join(this.#lowerRoot, path));
  }

  /** Where a name that moves is in the upper folder. */
  #movable(path: string): string {
    // As overlayfs: mv(1) then copies the tree, which is what a copy-up of it would be.
    if (this.need(path).stats.isDirectory() && this.hasLowerDirectory(path)) fail('EXDEV');
    return this.copyUp(path);
  }

  #hide(path: string): void {
    const whiteout = join(this.copyUp(dirname(path)), WHITEOUT + path.slice(path.lastIndexOf('/') + 1));
    closeSync(openSync(whiteout, 'w', 0o600));
  }

  /** A directory that shows nothing may still hold whiteouts. */
  #removeDirectory(upper: string): void {
    for (const { name } of entriesOf(upper)) if (name.startsWith(WHITEOUT)) unlinkSync(join(upper, name));
    rmdirSync(upper);
  }

  /** What an end in the middle of a copy left. */
  #removeUnfinished(copy: string): void {
    const stats = statOf(copy);
    if (stats?.isDirectory()) rmdirSync(copy);
    else if (stats !== undefined) unlinkSync(copy);
  }

  /** With its last name an inode's number is free for other files. */
  #dropOrigin(stats: HostStats): void {
    if (stats.isDirectory() || stats.nlink <= 1n) this.#origins.delete(stats.ino);
  }

  /**
   * Several names of one lower file become several files when they are copied up, so they are shown as such. The directories of
   * a merged directory are not counted: 1 says so, as overlayfs does.
   */
  #links(stats: HostStats, isUpper: boolean, path: string | undefined): bigint {
    if (!stats.isDirectory()) return isUpper ? stats.nlink : 1n;
    return isUpper && path !== undefined && this.hasLowerDirectory(path) ? 1n : stats.nlink;
  }
}

function copyNode(host: string, copy: string, stats: HostStats): void {
  const mode = Number(stats.mode);
  if (stats.isDirectory()) mkdirSync(copy);
  else if (stats.isSymbolicLink()) symlinkSync(readlinkSync(host), copy);
  else if (stats.isFile()) copyFileSync(host, copy, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  else makeSpecial(copy, mode, Number(stats.rdev));
  lchownSync(copy, Number(stats.uid), Number(stats.gid));
  // After the owner, because changing that takes set-id bits away.
  if (!stats.isSymbolicLink()) chmodSync(copy, mode & 0o7777);
  setTimes(copy, stats.atimeNs, stats.mtimeNs);
}

function lowerNumber({ ino }: HostStats): bigint {
  return ino * 2n + 1n;
}

function entriesOf(folder: string): Dirent[] {
  return readdirSync(folder, { withFileTypes: true });
}

/** Whether a whiteout exists. There can be none for a name so long that with its mark it is no name. */
function exists(path: string): boolean {
  try {
    return statOf(path) !== undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENAMETOOLONG') return false;
    throw error;
  }
}

function isReserved(path: string): boolean {
  return path.slice(path.lastIndexOf('/') + 1).startsWith(WHITEOUT);
}

/** EINVAL for the names that record removals. */
function assertName(path: string): void {
  if (isReserved(path)) fail('EINVAL');
}

export function fail(code: string): never {
  throw new FuseError(code);
}
