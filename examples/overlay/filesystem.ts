/**
 * A writable layer over a read-only folder: what is changed goes to the upper folder, the lower one stays as it is.
 *
 *     fusewire mount dist/examples/overlay/filesystem.js /mnt -o allow_other,default_permissions -- LOWER UPPER
 *
 * Written with paths (fusewire/paths); layers.ts decides which folder a path means. A file of the lower folder is copied up when it
 * is opened for writing or its attributes change. Renaming a directory that the lower folder has a part of is EXDEV, and mv(1)
 * copies it. Nobody else may change the two folders meanwhile.
 *
 * Left out: extended attributes and so ACLs, O_TMPFILE, holes (all is data), names that are not UTF-8 (in the two folders, too) or
 * start with `.wh.`, and the removal of lower names longer than 251 bytes.
 */
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  readlinkSync,
  readSync,
  realpathSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import type { WorkerContext } from 'fusewire';
import { type PathFilesystem, type PathHandle, type PathSource, pathFilesystem } from 'fusewire/paths';
import { allocate, makeSpecial, setTimes } from './host.ts';
import { fail, Layers } from './layers.ts';

export interface OverlayOptions {
  /** What stands after `--`: the lower folder, the upper folder. */
  readonly arguments?: readonly string[];
}

/** Steps of two threads would come between each other's. */
export const workers = 1;

const { O_ACCMODE = 3, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC } = constants as Record<string, number>;

export default function overlay({
  options,
  workers,
}: Pick<WorkerContext<OverlayOptions>, 'options' | 'workers'>): PathFilesystem {
  if (workers > 1) throw new Error(`the overlay lives in one thread, not ${workers}; mount it with --workers 1`);
  const [lower, upper, ...more] = (options.arguments ?? []).map((folder) => realpathSync(folder));
  if (upper === undefined || more.length > 0 || ![lower, upper].every((folder) => statSync(folder).isDirectory())) {
    throw new Error('overlay needs two folders: -- LOWER UPPER');
  }
  if (`${upper}/`.startsWith(`${lower}/`) || `${lower}/`.startsWith(`${upper}/`)) {
    throw new Error('of the two folders of an overlay none may lie in the other; give two that stand apart');
  }
  const layers = new Layers(lower, upper);
  const filesystem = pathFilesystem(sourceOf(layers));
  return {
    ...filesystem,
    // Sources have no such method, so this one is of the level below: by the node, which still has a name as a rule.
    fallocate(node, { mode, offset, length }) {
      const [path] = filesystem.paths.of(node);
      if (path === undefined) fail('EOPNOTSUPP');
      const fd = openSync(layers.copyUp(path), O_RDWR);
      try {
        allocate(fd, mode, offset, length);
      } finally {
        closeSync(fd);
      }
    },
  };
}

function sourceOf(layers: Layers): PathSource {
  const openLower = new LowerOpenings(layers);
  return {
    lstat: (path) => layers.shown(layers.need(path), path),
    readdir: (path) => layers.list(path),
    readlink: (path) => readlinkSync(layers.need(path).host, 'buffer'),
    statfs: () => statfsSync(layers.upper('/')),

    open(path, flags, mode) {
      if ((flags & O_CREAT) !== 0) return new OpenFile(layers, openSync(layers.vacant(path), flags, mode), true);
      const changes = (flags & O_ACCMODE) !== O_RDONLY || (flags & O_TRUNC) !== 0;
      if (changes) layers.copyUp(path);
      const { host, isUpper } = layers.need(path);
      const file = new OpenFile(layers, openSync(host, flags), isUpper);
      if (!isUpper) openLower.add(path, file);
      return file;
    },
    mkdir: (path, mode) => mkdirSync(layers.vacant(path), mode),
    symlink: (target, path) => symlinkSync(target, layers.vacant(path)),
    mknod: (path, mode, rdev) => makeSpecial(layers.vacant(path), mode, rdev),
    link: (existing, path) => linkSync(layers.copyUp(existing), layers.vacant(path)),
    rename(from, to) {
      layers.move(from, to);
      openLower.unnamed(to);
    },
    exchange: (one, other) => layers.swap(one, other),
    unlink(path) {
      if (layers.need(path).stats.isDirectory()) fail('EISDIR');
      layers.remove(path);
      openLower.unnamed(path);
    },
    rmdir(path) {
      if (layers.list(path).length > 0) fail('ENOTEMPTY');
      layers.remove(path);
    },

    chmod: (path, mode) => chmodSync(layers.copyUp(path), mode),
    lchown: (path, uid, gid) => lchownSync(layers.copyUp(path), uid, gid),
    utimesNs: (path, atime, mtime) => setTimes(layers.copyUp(path), atime, mtime),
    truncate: (path, length) => truncateSync(layers.copyUp(path), length),
  };
}

/**
 * Openings of lower files. When such a file is copied up they have to follow: the kernel has one page cache for it, and must
 * not fill that from two files.
 */
class LowerOpenings {
  readonly #byPath = new Map<string, Set<OpenFile>>();

  constructor(layers: Layers) {
    layers.onCopy = (path, upper) => {
      for (const file of this.#byPath.get(path) ?? []) file.follow(upper);
      this.#byPath.delete(path);
    };
  }

  add(path: string, file: OpenFile): void {
    const files = this.#byPath.get(path) ?? new Set();
    this.#byPath.set(path, files.add(file));
    file.path = path;
    file.onClose = () => {
      files.delete(file);
      if (files.size === 0 && this.#byPath.get(path) === files) this.#byPath.delete(path);
    };
  }

  /** Without a name nothing can be copied up any more: they keep what they have. */
  unnamed(path: string): void {
    for (const file of this.#byPath.get(path) ?? []) file.path = undefined;
    this.#byPath.delete(path);
  }
}

class OpenFile implements PathHandle {
  readonly #layers: Layers;
  #fd: number;
  #isUpper: boolean;
  onClose: () => void = () => {};
  /** Of a lower file that still has its name. */
  path: string | undefined;

  constructor(layers: Layers, fd: number, isUpper: boolean) {
    this.#layers = layers;
    this.#fd = fd;
    this.#isUpper = isUpper;
  }

  /** The file was copied up; openings for writing never need this, so this one only reads. */
  follow(upper: string): void {
    const lower = this.#fd;
    this.#fd = openSync(upper, O_RDONLY);
    this.#isUpper = true;
    closeSync(lower);
  }

  read(buffer: Uint8Array, offset: number, length: number, position: number): number {
    return readSync(this.#fd, buffer, offset, length, position);
  }

  write(buffer: Uint8Array, offset: number, length: number, position: number): number {
    return writeSync(this.#fd, buffer, offset, length, position);
  }

  truncate(length: number): void {
    ftruncateSync(this.#fd, length);
  }

  stat() {
    const shown = this.#layers.shown({ stats: fstatSync(this.#fd, { bigint: true }), isUpper: this.#isUpper });
    // Removed here, a lower file still has its name down there.
    return this.#isUpper || this.path !== undefined ? shown : { ...shown, nlink: 0n };
  }

  chmod(mode: number): void {
    fchmodSync(this.#own(), mode);
  }

  chown(uid: number, gid: number): void {
    fchownSync(this.#own(), uid, gid);
  }

  utimesNs(atime: bigint | undefined, mtime: bigint | undefined): void {
    setTimes(this.#own(), atime, mtime);
  }

  sync(): void {
    fsyncSync(this.#fd);
  }

  datasync(): void {
    fdatasyncSync(this.#fd);
  }

  close(): void {
    this.onClose();
    closeSync(this.#fd);
  }

  /** To change it: the copy-up calls {@link follow}. A lower file without a name cannot be copied, and is never changed. */
  #own(): number {
    if (!this.#isUpper) this.#layers.copyUp(this.path ?? fail('EROFS'));
    return this.#fd;
  }
}
