/** Making, removing and renaming names, with the checks that the kernel makes before it asks a filesystem. */
import { type Entry, ERRNO, FuseError, type NodeId } from '../filesystem/index.ts';
import { type Found, type Hold, isDirectory, type Place, parentOf, type Walker } from './walker.ts';

const S_IFREG = 0o100000;

export interface Opened {
  readonly found: Found;
  readonly handle: number;
}

export class Changes {
  readonly #walker: Walker;

  constructor(walker: Walker) {
    this.#walker = walker;
  }

  /** The mode that the filesystem is asked for. */
  #mode(mode: number): { mode: number; umask: number } {
    const { umask } = this.#walker;
    return { mode: this.#walker.has('FUSE_DONT_MASK') ? mode : mode & ~umask, umask };
  }

  /** Walks to where something is to be made, and makes it unless something is there. */
  async #make(path: string, make: (parent: NodeId, name: string, hold: Hold) => Promise<void>, isFolder = false): Promise<void> {
    const walker = this.#walker;
    await walker.use(async (hold) => {
      const place = await walker.walk(hold, path.replace(/(?<=[^/])\/+$/, ''), false);
      if (place.name === '' || place.found !== undefined) throw FuseError.of(ERRNO.EEXIST);
      if (path.endsWith('/') && !isFolder) throw FuseError.of(ERRNO.ENOENT);
      const parent = parentOf(place);
      await walker.mutexes.hold([parent], async () => {
        if ((await walker.lookup(hold, parent, place.name)) !== undefined) throw FuseError.of(ERRNO.EEXIST);
        await make(parent, place.name, hold);
      });
    });
  }

  async mkdir(path: string, mode: number): Promise<void> {
    const walker = this.#walker;
    const { filesystem } = walker;
    await this.#make(
      path,
      async (parent, name, hold) => {
        if (filesystem.mkdir === undefined) throw FuseError.of(ERRNO.ENOSYS);
        const request = walker.ask('MKDIR', this.#mode(mode & 0o1777));
        walker.counted(hold, await filesystem.mkdir(parent, walker.encoded(name), request));
      },
      true,
    );
  }

  async symlink(target: string, path: string): Promise<void> {
    const walker = this.#walker;
    const { filesystem } = walker;
    if (target === '') throw FuseError.of(ERRNO.ENOENT);
    await this.#make(path, async (parent, name, hold) => {
      if (filesystem.symlink === undefined) throw FuseError.of(ERRNO.ENOSYS);
      const request = walker.ask('SYMLINK', {});
      walker.counted(hold, await filesystem.symlink(parent, walker.encoded(name), walker.encoded(target), request));
    });
  }

  async link(existing: string, path: string): Promise<void> {
    const walker = this.#walker;
    const { filesystem } = walker;
    await walker.use(async (outer) => {
      const source = await walker.find(outer, existing, false);
      await this.#make(path, async (newParent, newName, hold) => {
        if (isDirectory(source)) throw FuseError.of(ERRNO.EPERM);
        if (filesystem.link === undefined) throw FuseError.of(ERRNO.EPERM);
        const entry = await filesystem.link(source.node, walker.ask('LINK', { newParent, newName: walker.encoded(newName) }));
        walker.counted(hold, entry);
      });
    });
  }

  /** CREATE, or MKNOD and OPEN. The caller holds the directory. */
  async create(hold: Hold, parent: NodeId, name: string, flags: number, mode: number): Promise<Opened> {
    const walker = this.#walker;
    const { filesystem } = walker;
    const wanted = this.#mode(mode & 0o7777);
    if (filesystem.create !== undefined) {
      const request = walker.ask('CREATE', { flags, killSuidGid: false, ...wanted, mode: S_IFREG | wanted.mode });
      const { entry, open } = await filesystem.create(parent, walker.encoded(name), request);
      return { found: walker.counted(hold, entry), handle: open.handle ?? 0 };
    }
    if (filesystem.mknod === undefined) throw FuseError.of(ERRNO.ENOSYS);
    const request = walker.ask('MKNOD', { ...wanted, mode: S_IFREG | wanted.mode, rdev: 0 });
    const entry: Entry = await filesystem.mknod(parent, walker.encoded(name), request);
    const found = walker.counted(hold, entry);
    return { found, handle: await this.open(found.node, flags) };
  }

  /** OPEN; a filesystem without it has no handles. */
  async open(node: NodeId, flags: number): Promise<number> {
    const { filesystem } = this.#walker;
    if (filesystem.open === undefined) return 0;
    const reply = await filesystem.open(node, this.#walker.ask('OPEN', { flags, killSuidGid: false }));
    return reply?.handle ?? 0;
  }

  /** `kind`: which of the two; the wrong one for what is there fails as in Linux. */
  async remove(kind: 'unlink' | 'rmdir', path: string): Promise<void> {
    const walker = this.#walker;
    const { filesystem } = walker;
    await walker.use(async (hold) => {
      const place = await walker.walk(hold, path, false);
      if (place.name === '') throw FuseError.of(kind === 'rmdir' ? this.#dotError(path) : ERRNO.EISDIR);
      const parent = parentOf(place);
      await walker.mutexes.hold([parent], async () => {
        const found = await walker.lookup(hold, parent, place.name);
        if (found === undefined) throw FuseError.of(ERRNO.ENOENT);
        if (kind === 'unlink' && isDirectory(found)) throw FuseError.of(ERRNO.EISDIR);
        if (kind === 'rmdir' && !isDirectory(found)) throw FuseError.of(ERRNO.ENOTDIR);
        const method = filesystem[kind];
        if (method === undefined) throw FuseError.of(ERRNO.ENOSYS);
        await method.call(filesystem, parent, walker.encoded(place.name), walker.ask(kind.toUpperCase(), {}));
      });
    });
  }

  #dotError(path: string): number {
    if (/(^|\/)\.\.\/*$/.test(path)) return ERRNO.ENOTEMPTY;
    return /(^|\/)\.\/*$/.test(path) ? ERRNO.EINVAL : ERRNO.EBUSY;
  }

  async rename(from: string, to: string): Promise<void> {
    const walker = this.#walker;
    await walker.use(async (hold) => {
      const source = await walker.walk(hold, from, false);
      const target = await walker.walk(hold, to.replace(/(?<=[^/])\/+$/, ''), false);
      if (source.name === '' || target.name === '') throw FuseError.of(ERRNO.EBUSY);
      await walker.mutexes.hold([parentOf(source), parentOf(target)], () => this.#rename(hold, source, target, to.endsWith('/')));
    });
  }

  async #rename(hold: Hold, source: Place, target: Place, wantsDirectory: boolean): Promise<void> {
    const walker = this.#walker;
    const { filesystem } = walker;
    const parent = parentOf(source);
    const newParent = parentOf(target);
    const moving = await walker.lookup(hold, parent, source.name);
    if (moving === undefined) throw FuseError.of(ERRNO.ENOENT);
    const there = await walker.lookup(hold, newParent, target.name);
    if (moving.node === there?.node) return;
    if (wantsDirectory && !isDirectory(moving)) throw FuseError.of(ERRNO.ENOTDIR);
    if (target.chain.some(({ node }) => node === moving.node)) throw FuseError.of(ERRNO.EINVAL);
    if (there !== undefined) {
      if (source.chain.some(({ node }) => node === there.node)) throw FuseError.of(ERRNO.ENOTEMPTY);
      if (isDirectory(moving) && !isDirectory(there)) throw FuseError.of(ERRNO.ENOTDIR);
      if (!isDirectory(moving) && isDirectory(there)) throw FuseError.of(ERRNO.EISDIR);
    }
    if (filesystem.rename === undefined) throw FuseError.of(ERRNO.ENOSYS);
    const request = walker.ask('RENAME', { newParent, newName: walker.encoded(target.name), flags: 0 });
    await filesystem.rename(parent, walker.encoded(source.name), request);
  }
}
