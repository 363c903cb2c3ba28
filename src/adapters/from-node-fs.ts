/** Anything shaped like node:fs/promises, as a filesystem to mount. */
import nodeFs from 'node:fs';
import nodePath from 'node:path';
import { FuseError, type StatfsInit } from '../filesystem/index.ts';
import { type PathFilesystem, type PathHandle, type PathOptions, type PathSource, pathFilesystem } from '../paths/index.ts';
import { hostSource } from './host.ts';

type Method = (first: string, ...rest: never[]) => unknown;

/**
 * The part of node:fs/promises that is used, every method optional but `lstat` or `stat`: the host's own `fs.promises`,
 * `promises` of memfs, of unionfs, of a driver that was written for another mount library. Only the usual arguments are
 * passed.
 */
export interface NodeFsLike {
  lstat?: Method;
  stat?: Method;
  readdir?: Method;
  readlink?: Method;
  realpath?: Method;
  open?: Method;
  readFile?: Method;
  writeFile?: Method;
  mkdir?: Method;
  rmdir?: Method;
  unlink?: Method;
  rename?: Method;
  link?: Method;
  symlink?: Method;
  chmod?: Method;
  lchmod?: Method;
  chown?: Method;
  lchown?: Method;
  utimes?: Method;
  lutimes?: Method;
  truncate?: Method;
  statfs?: Method;
}

export interface FromNodeFsOptions extends PathOptions {
  /** The folder that becomes the root, absolute or relative to the working directory. Default `/`. */
  root?: string;
  /**
   * Whether to see to it, before each operation, that the way to a file leads through no symbolic link, so that nobody who
   * changes the tree behind the mount leads it out of {@link root}. Costs a realpath a path; such a change between that and
   * the operation itself goes unseen. Symbolic links at the end of a path are never followed here: the kernel follows them,
   * in the caller's own tree. Default: true with a root and where the object has `realpath`.
   */
  confine?: boolean;
  /** How `open` takes its flags: as numbers (default), or as `r`, `r+`, `wx+` and so on, for objects that know only those. */
  openFlags?: 'numbers' | 'names';
}

/** What methods of node:fs/promises look like from here. */
type Loose = { readonly [Name in keyof NodeFsLike]?: (...given: unknown[]) => Promise<unknown> };

/**
 * Makes a filesystem of an object shaped like node:fs/promises (or of one that has such an object as `promises`). Inode
 * numbers and link counts that it lacks are made up. It acts as this process: who calls is not told to it, so mount with
 * `default_permissions`.
 *
 * Names that are no valid UTF-8 cannot be reached through node:fs with strings; listings show them with replacement
 * characters. The host's own files are better served by the passthrough example.
 */
export function fromNodeFs(fs: NodeFsLike | { promises: NodeFsLike }, options: FromNodeFsOptions = {}): PathFilesystem {
  const inner = ('promises' in fs ? fs.promises : fs) as NodeFsLike;
  return pathFilesystem(new NodeSource(inner, options).source(), options);
}

class NodeSource {
  readonly #fs: Loose;
  readonly #options: FromNodeFsOptions;
  readonly #isHost: boolean;
  /** Without a slash at the end; empty for the root of everything. */
  #root: string;
  #rootIsReal = false;

  constructor(fs: NodeFsLike, options: FromNodeFsOptions) {
    this.#fs = fs as Loose;
    this.#options = options;
    this.#isHost = fs === (nodeFs.promises as unknown);
    const root = options.root ?? '/';
    const whole = this.#isHost ? nodePath.resolve(root) : nodePath.posix.resolve('/', root);
    this.#root = whole === '/' ? '' : whole;
  }

  source(): PathSource {
    return {
      ...this.#reading(),
      ...this.#names(),
      ...this.#attributes(),
      ...(this.#isHost ? hostSource((path) => this.#checked(path)) : {}),
    };
  }

  /** A method of the object, bound, when it has it. */
  #has(name: keyof NodeFsLike): ((...given: unknown[]) => Promise<unknown>) | undefined {
    const method = this.#fs[name];
    return typeof method === 'function' ? method.bind(this.#fs) : undefined;
  }

  get #confines(): boolean {
    return this.#root !== '' && (this.#options.confine ?? true) && this.#fs.realpath !== undefined;
  }

  /** The object's own path for one of the filesystem's. */
  #full(path: string): string {
    return path === '/' ? this.#root || '/' : this.#root + path;
  }

  /** The same, once it is sure that its folder is where it seems to be. Throws ESTALE: the kernel then walks the path anew. */
  async #checked(path: string): Promise<string> {
    if (!this.#confines) return this.#full(path);
    if (!this.#rootIsReal) {
      this.#root = (await this.#fs.realpath!(this.#root)) as string;
      this.#rootIsReal = true;
    }
    const full = this.#full(path);
    const folder = nodePath.posix.dirname(full);
    if (path === '/' || folder === this.#root) return full;
    if ((await this.#fs.realpath!(folder)) !== folder) throw new FuseError('ESTALE');
    return full;
  }

  #reading(): PathSource {
    const source: PathSource = {};
    const stat = this.#has('lstat') ?? this.#has('stat');
    if (stat !== undefined) source.lstat = async (path) => (await stat(await this.#checked(path), { bigint: true })) as object;
    const readdir = this.#has('readdir');
    if (readdir !== undefined) {
      source.readdir = async (path) => (await readdir(await this.#checked(path), { withFileTypes: true })) as string[];
    }
    const readlink = this.#has('readlink');
    if (readlink !== undefined) source.readlink = async (path) => (await readlink(await this.#checked(path), 'utf8')) as string;
    const open = this.#has('open');
    if (open !== undefined) {
      const noFollow = this.#isHost ? nodeFs.constants.O_NOFOLLOW : 0;
      const named = this.#options.openFlags === 'names';
      source.open = async (path, flags, mode) => {
        const full = await this.#checked(path);
        return (await open(full, named ? flagName(flags) : flags | noFollow, mode)) as PathHandle;
      };
    }
    const readFile = this.#has('readFile');
    if (readFile !== undefined) source.readFile = async (path) => (await readFile(await this.#checked(path))) as Uint8Array;
    const writeFile = this.#has('writeFile');
    if (writeFile !== undefined) {
      source.writeFile = async (path, data) => {
        await writeFile(await this.#checked(path), data);
      };
    }
    return source;
  }

  #names(): PathSource {
    const source: PathSource = {};
    const mkdir = this.#has('mkdir');
    if (mkdir !== undefined) source.mkdir = async (path, mode) => void (await mkdir(await this.#checked(path), { mode }));
    for (const name of ['rmdir', 'unlink'] as const) {
      const remove = this.#has(name);
      if (remove !== undefined) source[name] = async (path) => void (await remove(await this.#checked(path)));
    }
    for (const name of ['rename', 'link'] as const) {
      const join = this.#has(name);
      if (join !== undefined) {
        source[name] = async (from, to) => void (await join(await this.#checked(from), await this.#checked(to)));
      }
    }
    const symlink = this.#has('symlink');
    if (symlink !== undefined) source.symlink = async (target, path) => void (await symlink(target, await this.#checked(path)));
    return source;
  }

  #attributes(): PathSource {
    const source: PathSource = {};
    for (const name of ['chmod', 'lchmod'] as const) {
      const chmod = this.#has(name);
      if (chmod !== undefined) source[name] = async (path, mode) => void (await chmod(await this.#checked(path), mode));
    }
    for (const name of ['chown', 'lchown', 'utimes', 'lutimes'] as const) {
      const change = this.#has(name);
      if (change !== undefined) {
        source[name] = async (path, one, other) => void (await change(await this.#checked(path), one, other));
      }
    }
    const truncate = this.#has('truncate');
    // Opening refuses a symbolic link, so where there are handles they are used.
    if (truncate !== undefined && this.#fs.open === undefined) {
      source.truncate = async (path, length) => void (await truncate(await this.#checked(path), length));
    }
    const statfs = this.#has('statfs');
    if (statfs !== undefined) source.statfs = async (path) => statfsOf(await statfs(await this.#checked(path)));
    return source;
  }
}

/** What `open` of node:fs calls a set of flags. Reading comes along with writing: pages are read before parts of them change. */
function flagName(flags: number): string {
  const { O_ACCMODE, O_APPEND, O_CREAT, O_EXCL, O_TRUNC } = FLAGS;
  const exclusive = (flags & O_CREAT) !== 0 && (flags & O_EXCL) !== 0;
  if ((flags & O_APPEND) !== 0) return exclusive ? 'ax+' : 'a+';
  if (exclusive) return 'wx+';
  if ((flags & O_TRUNC) !== 0) return 'w+';
  return (flags & O_ACCMODE) === 0 ? 'r' : 'r+';
}

/** As the kernel numbers them, whatever machine this is. */
const FLAGS = { O_ACCMODE: 3, O_CREAT: 0o100, O_EXCL: 0o200, O_TRUNC: 0o1000, O_APPEND: 0o2000 };

function statfsOf(said: unknown): StatfsInit {
  const found = said as { [Name in keyof StatfsInit]?: number | bigint };
  const numbers: StatfsInit = {};
  for (const name of ['bsize', 'blocks', 'bfree', 'bavail', 'files', 'ffree'] as const) {
    if (found[name] !== undefined) numbers[name] = Number(found[name]);
  }
  return numbers;
}
