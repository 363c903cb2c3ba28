/** Any filesystem of ours in the dress of node:fs/promises, in this process, without a mount. */
import { constants as nodeConstants } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ERRNO, type FileHandle, type Filesystem, FuseError, type NodeId } from '../filesystem/index.ts';
import { Changes } from './changes.ts';
import { listDirectory } from './listing.ts';
import { BigIntStats, Dirent, type StatFs, Stats, statFs } from './node-stats.ts';
import { type FileData, modeOf, type NodeTime, OpenFile, owners, setAttributes, timespecOf } from './open-file.ts';
import { asSystemError, systemError } from './system-error.ts';
import { type Hold, type Identity, isDirectory, isLink, parentOf, Walker } from './walker.ts';

export type NodePath = string | Uint8Array | URL;
type Encoding = BufferEncoding | 'buffer' | null;
type EncodingOption = { encoding?: Encoding } | Encoding;

export interface ToNodeFsOptions extends Identity {
  /** Open files beyond which open fails with EMFILE. Default 65,536. */
  maxOpenFiles?: number;
}

const O_ACCMODE = 3;
const { O_CREAT, O_EXCL, O_TRUNC, O_DIRECTORY, O_NOFOLLOW, COPYFILE_EXCL, COPYFILE_FICLONE_FORCE } = nodeConstants;
const COPY_BYTES = 1 << 20;

/** The flags that node:fs spells as text. */
const FLAG_NAMES: Readonly<Record<string, number>> = (() => {
  const { O_RDONLY, O_WRONLY, O_RDWR, O_APPEND, O_SYNC } = nodeConstants;
  const make = O_CREAT | O_TRUNC;
  const add = O_CREAT | O_APPEND;
  return {
    r: O_RDONLY,
    rs: O_RDONLY | O_SYNC,
    'r+': O_RDWR,
    'rs+': O_RDWR | O_SYNC,
    w: O_WRONLY | make,
    wx: O_WRONLY | make | O_EXCL,
    'w+': O_RDWR | make,
    'wx+': O_RDWR | make | O_EXCL,
    a: O_WRONLY | add,
    ax: O_WRONLY | add | O_EXCL,
    as: O_WRONLY | add | O_SYNC,
    'a+': O_RDWR | add,
    'ax+': O_RDWR | add | O_EXCL,
    'as+': O_RDWR | add | O_SYNC,
  };
})();

/**
 * Uses a filesystem in this process: what a mount would do, without one. Paths start at the filesystem's root; relative ones
 * too. Everything that is looked up is forgotten again, changes of one directory happen one after the other, and errors look as
 * those of node:fs.
 *
 * Nobody checks permissions here, as nothing but `default_permissions` does on a mount; the filesystem is told who asks (see
 * {@link Identity}). There is no `watch` (a filesystem does not tell of changes) and no `cp`. End with {@link NodeFs.end}.
 */
export function toNodeFs(filesystem: Filesystem, options: ToNodeFsOptions = {}): NodeFs {
  return new NodeFs(filesystem, options);
}

export class NodeFs {
  readonly constants = nodeConstants;
  readonly #walker: Walker;
  readonly #changes: Changes;
  readonly #open = new Set<OpenFile>();
  readonly #openMax: number;

  constructor(filesystem: Filesystem, options: ToNodeFsOptions = {}) {
    this.#walker = new Walker(filesystem, options);
    this.#changes = new Changes(this.#walker);
    this.#openMax = options.maxOpenFiles ?? 65_536;
  }

  /** Closes what is open and tells the filesystem that it is over. Everything afterwards fails with ENOTCONN. */
  async end(): Promise<void> {
    await Promise.allSettled([...this.#open].map((file) => file.close()));
    await this.#walker.end();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end();
  }

  // --- whole files -----------------------------------------------------------------------------------------------------

  readFile(
    path: NodePath | OpenFile,
    options: { encoding: BufferEncoding; flag?: string | number } | BufferEncoding,
  ): Promise<string>;
  readFile(path: NodePath | OpenFile, options?: { encoding?: null; flag?: string | number } | null): Promise<Buffer>;
  async readFile(
    path: NodePath | OpenFile,
    options?: { encoding?: BufferEncoding | null; flag?: string | number } | BufferEncoding | null,
  ): Promise<Buffer | string> {
    if (path instanceof OpenFile) return path.readFile(options);
    const flag = (typeof options === 'object' ? options?.flag : undefined) ?? 'r';
    const file = await this.open(path, flag);
    try {
      return await file.readFile(options);
    } finally {
      await file.close();
    }
  }

  async writeFile(
    path: NodePath | OpenFile,
    data: FileData,
    options?: { encoding?: BufferEncoding | null; mode?: number | string; flag?: string | number } | BufferEncoding | null,
  ): Promise<void> {
    if (path instanceof OpenFile) return path.writeFile(data, options);
    const { flag = 'w', mode = 0o666 } = typeof options === 'object' && options !== null ? options : {};
    const file = await this.open(path, flag, mode);
    try {
      await file.writeFile(data, options);
    } finally {
      await file.close();
    }
  }

  appendFile(
    path: NodePath | OpenFile,
    data: FileData,
    options?: { encoding?: BufferEncoding | null; mode?: number | string; flag?: string | number } | BufferEncoding | null,
  ): Promise<void> {
    const given = typeof options === 'object' && options !== null ? options : { encoding: options ?? null };
    return this.writeFile(path, data, { flag: 'a', ...given });
  }

  /** COPYFILE_EXCL is honoured; COPYFILE_FICLONE_FORCE fails with ENOTSUP. */
  async copyFile(from: NodePath, to: NodePath, mode = 0): Promise<void> {
    if ((mode & COPYFILE_FICLONE_FORCE) !== 0) throw systemError(ERRNO.EOPNOTSUPP, 'copyfile', textOf(from), textOf(to));
    await using(await this.open(from, 'r'), async (source) => {
      const stat = await source.stat();
      if (stat.isDirectory()) throw systemError(ERRNO.EISDIR, 'copyfile', textOf(from), textOf(to));
      const flags = nodeConstants.O_WRONLY | O_CREAT | ((mode & COPYFILE_EXCL) !== 0 ? O_EXCL : 0);
      await using(await this.open(to, flags, stat.mode & 0o777), async (target) => {
        if ((await target.stat()).ino === stat.ino) return;
        await target.truncate(0);
        const buffer = new Uint8Array(COPY_BYTES);
        for (let at = 0; ; ) {
          const { bytesRead } = await source.read(buffer, 0, COPY_BYTES, at);
          if (bytesRead === 0) return;
          await target.write(buffer, 0, bytesRead, at);
          at += bytesRead;
        }
      });
    });
  }

  // --- opening ---------------------------------------------------------------------------------------------------------

  open(path: NodePath, flags: string | number = 'r', mode: number | string = 0o666): Promise<OpenFile> {
    const text = textOf(path);
    return this.#do('open', [text], async (hold) => {
      if (this.#open.size >= this.#openMax) throw FuseError.of(ERRNO.EMFILE);
      const wanted = flagsOf(flags);
      const { node, handle } = await this.#openNode(hold, text, wanted, modeOf(mode));
      hold.handOver(node);
      const file: OpenFile = new OpenFile(this.#walker, node, handle as FileHandle, wanted, text, () => this.#open.delete(file));
      this.#open.add(file);
      return file;
    });
  }

  async #openNode(hold: Hold, path: string, flags: number, mode: number): Promise<{ node: NodeId; handle: number }> {
    const walker = this.#walker;
    const makes = (flags & O_CREAT) !== 0;
    const follow = (flags & O_NOFOLLOW) === 0 && !(makes && (flags & O_EXCL) !== 0);
    const place = await walker.walk(hold, path, follow);
    let { found } = place;
    if (found === undefined && makes) {
      if (place.wantsDirectory) throw FuseError.of(ERRNO.EISDIR);
      const parent = parentOf(place);
      const made = await walker.mutexes.hold([parent], async () => {
        found = await walker.lookup(hold, parent, place.name);
        return found === undefined ? this.#changes.create(hold, parent, place.name, flags, mode) : undefined;
      });
      if (made !== undefined) return { node: made.found.node, handle: made.handle };
    }
    if (found === undefined) throw FuseError.of(ERRNO.ENOENT);
    if (makes && (flags & O_EXCL) !== 0) throw FuseError.of(ERRNO.EEXIST);
    if (isLink(found)) throw FuseError.of(ERRNO.ELOOP);
    return this.#openFound(found.node, isDirectory(found), flags);
  }

  async #openFound(node: NodeId, isFolder: boolean, flags: number): Promise<{ node: NodeId; handle: number }> {
    const walker = this.#walker;
    if (isFolder && (flags & (O_ACCMODE | O_CREAT | O_TRUNC)) !== 0) throw FuseError.of(ERRNO.EISDIR);
    if (!isFolder && (flags & O_DIRECTORY) !== 0) throw FuseError.of(ERRNO.ENOTDIR);
    // FileHandles of directories only stat and sync: they need no opening in the filesystem.
    if (isFolder) throw FuseError.of(ERRNO.EISDIR);
    const truncates = (flags & O_TRUNC) !== 0;
    const passed = flags & ~(O_CREAT | O_EXCL | (walker.has('FUSE_ATOMIC_O_TRUNC') ? 0 : O_TRUNC));
    const handle = await this.#changes.open(node, passed);
    if (truncates && !walker.has('FUSE_ATOMIC_O_TRUNC')) await setAttributes(walker, node, { size: 0 }, handle as FileHandle);
    return { node, handle };
  }

  // --- attributes ------------------------------------------------------------------------------------------------------

  stat(path: NodePath, options: { bigint: true }): Promise<BigIntStats>;
  stat(path: NodePath, options?: { bigint?: boolean }): Promise<Stats>;
  stat(path: NodePath, options?: { bigint?: boolean }): Promise<Stats | BigIntStats> {
    return this.#stat('stat', path, true, options);
  }

  lstat(path: NodePath, options: { bigint: true }): Promise<BigIntStats>;
  lstat(path: NodePath, options?: { bigint?: boolean }): Promise<Stats>;
  lstat(path: NodePath, options?: { bigint?: boolean }): Promise<Stats | BigIntStats> {
    return this.#stat('lstat', path, false, options);
  }

  #stat(call: string, path: NodePath, follow: boolean, options?: { bigint?: boolean }): Promise<Stats | BigIntStats> {
    const text = textOf(path);
    return this.#do(call, [text], async (hold) => {
      const { node, attributes } = await this.#walker.find(hold, text, follow);
      return options?.bigint ? new BigIntStats(attributes, node) : new Stats(attributes, node);
    });
  }

  statfs(path: NodePath): Promise<StatFs> {
    const text = textOf(path);
    return this.#do('statfs', [text], async (hold) => {
      const { node } = await this.#walker.find(hold, text, true);
      return statFs(await this.#walker.filesystem.statfs?.(node, this.#walker.ask('STATFS', {})));
    });
  }

  /** Asks the filesystem, where it has `access`; else only whether the file is there. */
  access(path: NodePath, mode = 0): Promise<void> {
    const text = textOf(path);
    return this.#do('access', [text], async (hold) => {
      const { node } = await this.#walker.find(hold, text, true);
      if (mode !== 0) await this.#walker.filesystem.access?.(node, this.#walker.ask('ACCESS', { mask: mode }));
    });
  }

  chmod(path: NodePath, mode: number | string): Promise<void> {
    return this.#set('chmod', path, true, () => ({ mode: modeOf(mode) }));
  }

  lchmod(path: NodePath, mode: number | string): Promise<void> {
    return this.#set('lchmod', path, false, () => ({ mode: modeOf(mode) }));
  }

  /** -1 leaves an id alone. */
  chown(path: NodePath, uid: number, gid: number): Promise<void> {
    return this.#set('chown', path, true, () => owners(uid, gid));
  }

  lchown(path: NodePath, uid: number, gid: number): Promise<void> {
    return this.#set('lchown', path, false, () => owners(uid, gid));
  }

  utimes(path: NodePath, atime: NodeTime, mtime: NodeTime): Promise<void> {
    return this.#set('utime', path, true, () => ({ atime: timespecOf(atime), mtime: timespecOf(mtime) }));
  }

  lutimes(path: NodePath, atime: NodeTime, mtime: NodeTime): Promise<void> {
    return this.#set('lutime', path, false, () => ({ atime: timespecOf(atime), mtime: timespecOf(mtime) }));
  }

  truncate(path: NodePath, length = 0): Promise<void> {
    const text = textOf(path);
    return this.#do('truncate', [text], async (hold) => {
      const found = await this.#walker.find(hold, text, true);
      if (isDirectory(found)) throw FuseError.of(ERRNO.EISDIR);
      if (!Number.isSafeInteger(length) || length < 0) throw FuseError.of(ERRNO.EINVAL);
      await setAttributes(this.#walker, found.node, { size: length });
    });
  }

  #set(call: string, path: NodePath, follow: boolean, changes: () => Parameters<typeof setAttributes>[2]): Promise<void> {
    const text = textOf(path);
    return this.#do(call, [text], async (hold) => {
      const { node } = await this.#walker.find(hold, text, follow);
      await setAttributes(this.#walker, node, changes());
    });
  }

  // --- names -----------------------------------------------------------------------------------------------------------

  /** With `recursive`, answers the first folder that was made. */
  async mkdir(
    path: NodePath,
    options?: { recursive?: boolean; mode?: number | string } | number | string | null,
  ): Promise<string | undefined> {
    const text = textOf(path);
    const { recursive = false, mode = 0o777 } = typeof options === 'object' ? (options ?? {}) : { mode: options ?? 0o777 };
    if (!recursive) {
      await this.#call('mkdir', [text], () => this.#changes.mkdir(text, modeOf(mode)));
      return undefined;
    }
    let first: string | undefined;
    let at = text.startsWith('/') ? '/' : '';
    for (const name of text.split('/').filter((part) => part !== '')) {
      at = at === '' || at === '/' ? `${at}${name}` : `${at}/${name}`;
      try {
        await this.#changes.mkdir(at, modeOf(mode));
        first ??= at;
      } catch (error) {
        const isThere = (error as NodeJS.ErrnoException).code === 'EEXIST';
        if (isThere && (await this.#isFolder(at))) continue;
        throw asSystemError(error, 'mkdir', text);
      }
    }
    return first;
  }

  async #isFolder(path: string): Promise<boolean> {
    return this.stat(path).then(
      (stat) => stat.isDirectory(),
      () => false,
    );
  }

  async mkdtemp(prefix: string): Promise<string> {
    for (;;) {
      const path = prefix + Math.random().toString(36).slice(2, 8).padEnd(6, 'x');
      try {
        await this.#changes.mkdir(path, 0o700);
        return path;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw asSystemError(error, 'mkdtemp', `${prefix}XXXXXX`);
      }
    }
  }

  unlink(path: NodePath): Promise<void> {
    return this.#call('unlink', [textOf(path)], () => this.#changes.remove('unlink', textOf(path)));
  }

  rmdir(path: NodePath): Promise<void> {
    return this.#call('rmdir', [textOf(path)], () => this.#changes.remove('rmdir', textOf(path)));
  }

  async rm(path: NodePath, options: { recursive?: boolean; force?: boolean } = {}): Promise<void> {
    const text = textOf(path);
    let stat: Stats;
    try {
      stat = await this.lstat(text);
    } catch (error) {
      if (options.force && (error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw error;
    }
    if (!stat.isDirectory()) return this.unlink(text);
    if (!options.recursive) {
      const message = `Path is a directory: rm returned EISDIR (is a directory) ${text}`;
      throw Object.assign(new Error(message), { code: 'ERR_FS_EISDIR', errno: ERRNO.EISDIR, syscall: 'rm', path: text });
    }
    for (const entry of await this.readdir(text)) {
      await this.rm(`${text.replace(/\/+$/, '')}/${entry}`, { recursive: true, force: true });
    }
    // The root cannot be removed; what was in it is gone.
    if (!/^\/*$/.test(text)) await this.rmdir(text);
  }

  rename(from: NodePath, to: NodePath): Promise<void> {
    const names: [string, string] = [textOf(from), textOf(to)];
    return this.#call('rename', names, () => this.#changes.rename(...names));
  }

  link(existing: NodePath, path: NodePath): Promise<void> {
    const names: [string, string] = [textOf(existing), textOf(path)];
    return this.#call('link', names, () => this.#changes.link(...names));
  }

  symlink(target: NodePath, path: NodePath, _type?: string | null): Promise<void> {
    const names: [string, string] = [textOf(target), textOf(path)];
    return this.#call('symlink', names, () => this.#changes.symlink(...names));
  }

  readlink(path: NodePath, options: { encoding: 'buffer' } | 'buffer'): Promise<Buffer>;
  readlink(path: NodePath, options?: EncodingOption): Promise<string>;
  readlink(path: NodePath, options?: EncodingOption): Promise<string | Buffer> {
    const text = textOf(path);
    return this.#do('readlink', [text], async (hold) => {
      const found = await this.#walker.find(hold, text, false);
      if (!isLink(found)) throw FuseError.of(ERRNO.EINVAL);
      return encoded(await this.#walker.readlink(found.node), options);
    });
  }

  realpath(path: NodePath): Promise<string> {
    const text = textOf(path);
    return this.#do('realpath', [text], async (hold) => this.#realpath(hold, text));
  }

  /** Resolves the last name of the path, then whatever its links lead to, as names. */
  async #realpath(hold: Hold, path: string): Promise<string> {
    await this.#walker.find(hold, path, true);
    const done: string[] = [];
    let names = path.split('/');
    while (names.length > 0) {
      const name = names.shift()!;
      if (name === '' || name === '.') continue;
      if (name === '..') {
        done.pop();
        continue;
      }
      const at = `/${[...done, name].join('/')}`;
      const found = await this.#walker.find(hold, at, false);
      if (!isLink(found)) {
        done.push(name);
        continue;
      }
      const target = await this.#walker.readlink(found.node);
      if (target.startsWith('/')) done.length = 0;
      names = [...target.split('/'), ...names];
    }
    return `/${done.join('/')}`;
  }

  // --- listings --------------------------------------------------------------------------------------------------------

  readdir(path: NodePath, options: { withFileTypes: true; recursive?: boolean }): Promise<Dirent[]>;
  readdir(
    path: NodePath,
    options?: { withFileTypes?: false; recursive?: boolean; encoding?: Encoding } | Encoding,
  ): Promise<string[]>;
  async readdir(
    path: NodePath,
    options?: { withFileTypes?: boolean; recursive?: boolean; encoding?: Encoding } | Encoding,
  ): Promise<string[] | Dirent[]> {
    const { withFileTypes = false, recursive = false } = typeof options === 'object' ? (options ?? {}) : {};
    const text = textOf(path);
    const found: Dirent[] = [];
    const folders = [''];
    // Breadth first, as node:fs lists.
    for (let folder = folders.shift(); folder !== undefined; folder = folders.shift()) {
      const at = folder === '' ? text : joined(text, folder);
      for (const entry of await this.#list(at)) {
        found.push(entry);
        if (recursive && entry.isDirectory()) folders.push(folder === '' ? entry.name : `${folder}/${entry.name}`);
      }
    }
    if (withFileTypes) return found;
    const strip = text.endsWith('/') ? text.length : text.length + 1;
    return found.map(({ name, parentPath }) => (parentPath.length <= strip ? name : `${parentPath.slice(strip)}/${name}`));
  }

  #list(path: string): Promise<Dirent[]> {
    return this.#do('scandir', [path], async (hold) => {
      const folder = await this.#walker.find(hold, path, true);
      if (!isDirectory(folder)) throw FuseError.of(ERRNO.ENOTDIR);
      const found: Dirent[] = [];
      for await (const { name, type } of listDirectory(this.#walker, folder.node)) {
        const known = type === 0 ? await this.#walker.lookup(hold, folder.node, name) : undefined;
        if (type !== 0 || known !== undefined) found.push(new Dirent(name, path, known?.attributes.mode ?? type));
      }
      return found;
    });
  }

  /** Entries as they come. */
  async *opendir(path: NodePath): AsyncGenerator<Dirent> {
    yield* await this.#list(textOf(path));
  }

  /** Refused: a filesystem is asked, it does not tell; so nobody would ever be woken. */
  watch(path: NodePath): never {
    const message = `watch is not there: a filesystem does not tell of changes; ask stat of ${textOf(path)} when it matters`;
    throw Object.assign(new Error(message), { code: 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM' });
  }

  // --- doing -----------------------------------------------------------------------------------------------------------

  #do<T>(syscall: string, names: [string] | [string, string], work: (hold: Hold) => Promise<T>): Promise<T> {
    return this.#call(syscall, names, () => this.#walker.use(work));
  }

  async #call<T>(syscall: string, names: [string] | [string, string], work: () => Promise<T>): Promise<T> {
    try {
      if (names.some((name) => name.includes('\0'))) throw FuseError.of(ERRNO.EINVAL);
      return await work();
    } catch (error) {
      throw asSystemError(error, syscall, ...names);
    }
  }
}

async function using(file: OpenFile, work: (file: OpenFile) => Promise<void>): Promise<void> {
  try {
    await work(file);
  } finally {
    await file.close();
  }
}

function textOf(path: NodePath): string {
  if (typeof path === 'string') return path;
  return path instanceof URL ? fileURLToPath(path) : Buffer.from(path).toString();
}

function joined(path: string, below: string): string {
  return path.endsWith('/') ? path + below : `${path}/${below}`;
}

function flagsOf(flags: string | number): number {
  if (typeof flags === 'number') return flags;
  const known = FLAG_NAMES[flags];
  if (known === undefined) throw FuseError.of(ERRNO.EINVAL);
  return known;
}

function encoded(text: string, options: EncodingOption | undefined): string | Buffer {
  const encoding = typeof options === 'string' ? options : options?.encoding;
  if (encoding === 'buffer') return Buffer.from(text);
  return encoding && encoding !== 'utf8' && encoding !== 'utf-8' ? Buffer.from(text).toString(encoding) : text;
}
