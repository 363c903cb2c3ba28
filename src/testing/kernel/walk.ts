/** From paths to dentries: components, "..", symbolic links, permission to search. */
import { isSymlink, MAY_EXEC, PATH_MAX, SYMLINKS_MAX } from './constants.ts';
import { accessed, type Call, type Core, has } from './core.ts';
import type { Dentry } from './dentries.ts';
import { ERRNO, fail } from './errors.ts';
import { assertGood, type Inode } from './inodes.ts';
import { permit } from './permissions.ts';

const { ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EINVAL } = ERRNO;

/** The last component of a path: where its name stands. */
export interface Target {
  readonly parent: Dentry;
  readonly name: string;
  /** What the last component is. */
  readonly kind: 'name' | 'dot' | 'dotdot' | 'root';
  /** A slash stood behind it. */
  readonly isDirectory: boolean;
}

/** Counts symbolic links of one path resolution. */
export interface Links {
  left: number;
}

export const newLinks = (): Links => ({ left: SYMLINKS_MAX });

export function checkPath(path: string): void {
  if (path === '') fail(ENOENT);
  if (path.length >= PATH_MAX) fail(ENAMETOOLONG);
  if (path.includes('\0')) fail(EINVAL);
  for (let i = 0; i < path.length; i++)
    if (path.charCodeAt(i) > 0xff) throw new TypeError('paths have one character a byte: Buffer.from(path).toString("latin1")');
}

/** Everything but the last component. */
export async function walkParent(core: Core, call: Call, path: string, from?: Dentry, links = newLinks()): Promise<Target> {
  checkPath(path);
  let at = path.startsWith('/') || from === undefined ? core.dentries.root : from;
  const components = path.split('/').filter((component) => component !== '');
  const isDirectory = path.endsWith('/');
  const last = components.pop();
  call.holdDentry(at);
  if (last === undefined) return { parent: at, name: '', kind: 'root', isDirectory: true };
  for (const component of components) {
    const next = await step(core, call, at, component, links, true);
    if (!next.inode!.isDirectory) fail(ENOTDIR);
    at = next;
  }
  if (!at.inode!.isDirectory) fail(ENOTDIR);
  await permit(core, call, at.inode!, MAY_EXEC);
  const kind = last === '.' ? 'dot' : last === '..' ? 'dotdot' : 'name';
  return { parent: at, name: last, kind, isDirectory: isDirectory || kind !== 'name' };
}

/** One component; the dentry is positive. */
async function step(core: Core, call: Call, at: Dentry, name: string, links: Links, follow: boolean): Promise<Dentry> {
  if (!at.inode!.isDirectory) fail(ENOTDIR);
  await permit(core, call, at.inode!, MAY_EXEC);
  return finishStep(core, call, { parent: at, name, kind: kindOf(name), isDirectory: false }, links, follow);
}

const kindOf = (name: string): Target['kind'] => (name === '.' ? 'dot' : name === '..' ? 'dotdot' : 'name');

/** The dentry that a target names, which must exist; permission to search was checked. */
export async function finishStep(core: Core, call: Call, target: Target, links: Links, follow: boolean): Promise<Dentry> {
  const { parent, name, kind } = target;
  if (kind === 'dot' || kind === 'root') return parent;
  if (kind === 'dotdot') return call.holdDentry(parent.parent ?? parent);
  const found = await core.dentries.lookup(call, parent, name);
  if (found.inode === undefined) fail(ENOENT);
  if (!isSymlink(found.inode.mode) || !follow) return found;
  return followLink(core, call, found, links);
}

/** The end of a symbolic link, which must exist. */
export async function followLink(core: Core, call: Call, link: Dentry, links: Links): Promise<Dentry> {
  const text = await linkText(core, call, link, links);
  return walk(core, call, text, { from: link.parent!, links });
}

/** What a symbolic link says; counts it. */
export async function linkText(core: Core, call: Call, link: Dentry, links: Links): Promise<string> {
  if (links.left-- <= 0) fail(ELOOP);
  const text = await readlink(core, call, link.inode!);
  if (text === '') fail(ENOENT);
  return text;
}

/** READLINK, answered from the cache where FUSE_CACHE_SYMLINKS allows it. */
export async function readlink(core: Core, call: Call, inode: Inode): Promise<string> {
  assertGood(inode);
  if (inode.symlinkTarget !== undefined) return inode.symlinkTarget;
  const { bytes } = await core.wire.call({ op: 'READLINK', nodeid: inode.nodeid, caller: call });
  accessed(core, inode);
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  // The text ends at its first NUL, as any string of the kernel does.
  const nul = text.indexOf('\0');
  if (nul >= 0) text = text.slice(0, nul);
  if (has(core, 'FUSE_CACHE_SYMLINKS')) inode.symlinkTarget = text;
  return text;
}

export interface WalkOptions {
  readonly from?: Dentry;
  readonly links?: Links;
  /** Whether a symbolic link at the end is followed. Default true; a slash at the end follows anyhow. */
  readonly follow?: boolean;
}

/** The dentry of a path, which must exist. */
export async function walk(core: Core, call: Call, path: string, options: WalkOptions = {}): Promise<Dentry> {
  const links = options.links ?? newLinks();
  const target = await walkParent(core, call, path, options.from, links);
  const found = await finishStep(core, call, target, links, (options.follow ?? true) || target.isDirectory);
  if (target.isDirectory && !found.inode!.isDirectory) fail(ENOTDIR);
  return found;
}
