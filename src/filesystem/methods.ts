/** The methods of a filesystem, by name: what is called, and what only looks as if it were. */
import type { Filesystem } from './filesystem.ts';

type MethodName = Exclude<keyof Filesystem, 'settings'>;

/** Every method of {@link Filesystem}; the type sees to it that none is missing here. */
const METHODS: Readonly<Record<MethodName, true>> = {
  init: true,
  destroy: true,
  lookup: true,
  forget: true,
  getattr: true,
  setattr: true,
  statx: true,
  readlink: true,
  mknod: true,
  mkdir: true,
  unlink: true,
  rmdir: true,
  symlink: true,
  rename: true,
  link: true,
  open: true,
  read: true,
  write: true,
  flush: true,
  release: true,
  fsync: true,
  create: true,
  tmpfile: true,
  opendir: true,
  readdir: true,
  readdirplus: true,
  releasedir: true,
  fsyncdir: true,
  statfs: true,
  access: true,
  setxattr: true,
  getxattr: true,
  listxattr: true,
  removexattr: true,
  getlk: true,
  setlk: true,
  fallocate: true,
  lseek: true,
  copyFileRange: true,
  ioctl: true,
  poll: true,
  bmap: true,
  syncfs: true,
};

/** What other libraries and node:fs call an operation. */
const ELSEWHERE: Readonly<Record<string, MethodName>> = {
  stat: 'getattr',
  lstat: 'getattr',
  fgetattr: 'getattr',
  chmod: 'setattr',
  chown: 'setattr',
  truncate: 'setattr',
  ftruncate: 'setattr',
  utimens: 'setattr',
  utimes: 'setattr',
  readFile: 'read',
  writeFile: 'write',
  close: 'release',
  closedir: 'releasedir',
  lock: 'setlk',
  flock: 'setlk',
  rename2: 'rename',
  copy_file_range: 'copyFileRange',
};

/** What the audit of fusewire/testing asks a filesystem for, if it has it. */
const ASKED_BY_TESTS = new Set(['lookupCounts', 'openHandles']);

/** A filesystem that cannot be what its author meant. `code` is stable. */
export class FilesystemError extends Error {
  override readonly name = 'FilesystemError';
  readonly code = 'ERR_FUSEWIRE_UNKNOWN_METHOD';
}

/** The methods that a filesystem has, its own and inherited ones. */
export function methodsOf(filesystem: Filesystem): string[] {
  return Object.keys(METHODS).filter((name) => typeof (filesystem as Record<string, unknown>)[name] === 'function');
}

/**
 * Refuses methods that nothing would ever call. In a plain object every function is meant as a method; an instance of a class may
 * have others, so there only misspellings count. Throws {@link FilesystemError}.
 */
export function assertMethods(filesystem: Filesystem): void {
  const prototype = Object.getPrototypeOf(filesystem);
  const plain = prototype === Object.prototype || prototype === null;
  for (
    let level: object | null = filesystem;
    level !== null && level !== Object.prototype;
    level = Object.getPrototypeOf(level)
  ) {
    for (const name of Object.getOwnPropertyNames(level)) {
      if (
        name === 'constructor' ||
        name in METHODS ||
        ASKED_BY_TESTS.has(name) ||
        typeof Reflect.get(filesystem, name) !== 'function'
      )
        continue;
      const meant = misspelt(name) ?? (plain ? ELSEWHERE[name] : undefined);
      if (meant === undefined && !plain) continue;
      const advice = meant === undefined ? 'put helpers outside of the object' : `did you mean ${meant}?`;
      throw new FilesystemError(`the filesystem has a method ${name}, which nothing calls; ${advice}`);
    }
  }
}

/** The method that a name is but for its case, underscores, or one wrong, missing or additional letter. */
function misspelt(name: string): string | undefined {
  const bare = name.replaceAll('_', '').toLowerCase();
  return Object.keys(METHODS).find((method) => {
    const lower = method.toLowerCase();
    return bare === lower || (method.length > 5 && isOneEditAway(bare, lower));
  });
}

function isOneEditAway(a: string, b: string): boolean {
  if (Math.abs(a.length - b.length) > 1) return false;
  let same = 0;
  while (same < a.length && same < b.length && a[same] === b[same]) same++;
  const restA = a.slice(same);
  const restB = b.slice(same);
  return restA.slice(1) === restB.slice(1) || restA === restB.slice(1) || restA.slice(1) === restB;
}
