/** The memory filesystem behind a session, called as the kernel calls it: message by message. */
import { MemoryFilesystem, type MemoryOptions } from '../../examples/memory/filesystem.ts';
import type { Filesystem } from '../../src/filesystem/index.ts';
import { errnoName } from '../../src/session/index.ts';
import { body, long, opcode, type Reply, type RequestOptions, TestKernel, word } from './wire.ts';

/** What fuse_attr says, and where it stands in replies. */
export interface Stat {
  ino: number;
  size: number;
  blocks: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: number;
  /** Seconds and nanoseconds. */
  atime: string;
  mtime: string;
  ctime: string;
}

function statAt(bytes: Uint8Array, at: number): Stat {
  const time = (index: number) => `${BigInt.asIntN(64, long(bytes, at + 24 + index * 8))}.${word(bytes, at + 48 + index * 4)}`;
  const numbers = ['mode', 'nlink', 'uid', 'gid', 'rdev'].map((name, index) => [name, word(bytes, at + 60 + index * 4)]);
  return {
    ino: Number(long(bytes, at)),
    size: Number(long(bytes, at + 8)),
    blocks: Number(long(bytes, at + 16)),
    ...Object.fromEntries(numbers),
    atime: time(0),
    mtime: time(1),
    ctime: time(2),
  };
}

export interface Entry {
  node: number;
  stat: Stat;
}

const entryOf = ({ body: bytes }: Reply): Entry => ({ node: Number(long(bytes, 0)), stat: statAt(bytes, 40) });

export interface Listed {
  name: string;
  cookie: number;
  /** Of readdirplus; 0 for an entry that counts as no lookup. */
  node: number;
}

type Payload = Parameters<typeof body>;

/** A process: owner of locks, user and group. */
export interface Caller {
  uid?: number;
  gid?: number;
}

export class MemoryKernel {
  readonly kernel: TestKernel;

  constructor(filesystem: Filesystem) {
    this.kernel = new TestKernel(filesystem);
  }

  static async start(options: MemoryOptions = {}): Promise<MemoryKernel> {
    const memory = new MemoryKernel(new MemoryFilesystem({ uid: 0, gid: 0, ...options }));
    await memory.kernel.init();
    return memory;
  }

  /** Sends a request that is answered at once. Throws an Error whose message is the name of the errno. */
  ask(name: Parameters<typeof opcode>[0], node: number, payload: Payload = [], options: RequestOptions = {}): Reply {
    const reply = this.kernel.of(this.begin(name, node, payload, options));
    if (reply === undefined) throw new Error(`${name} is not answered yet`);
    if (reply.errno !== 0) throw new Error(errnoName(reply.errno));
    return reply;
  }

  /** Sends a request; answers its unique. */
  begin(name: Parameters<typeof opcode>[0], node: number, payload: Payload = [], options: RequestOptions = {}): number {
    return this.kernel.send(opcode(name), body(...payload), { uid: 0, gid: 0, ...options, nodeid: node });
  }

  // --- names ---

  /** Undefined where there is none: the absence may be cached. */
  lookup(parent: number, name: string): Entry | undefined {
    const entry = entryOf(this.ask('LOOKUP', parent, [`${name}\0`]));
    return entry.node === 0 ? undefined : entry;
  }

  forget(node: number, count = 1): void {
    this.begin('FORGET', node, [BigInt(count)]);
  }

  mkdir(parent: number, name: string, mode = 0o755, caller: Caller & { umask?: number } = {}): Entry {
    return entryOf(this.ask('MKDIR', parent, [mode, caller.umask ?? 0, `${name}\0`], caller));
  }

  mknod(parent: number, name: string, mode: number, rdev = 0): Entry {
    return entryOf(this.ask('MKNOD', parent, [mode, rdev, 0, 0, `${name}\0`]));
  }

  symlink(parent: number, name: string, target: string): Entry {
    return entryOf(this.ask('SYMLINK', parent, [`${name}\0${target}\0`]));
  }

  link(node: number, parent: number, name: string): Entry {
    return entryOf(this.ask('LINK', parent, [BigInt(node), `${name}\0`]));
  }

  unlink(parent: number, name: string): void {
    this.ask('UNLINK', parent, [`${name}\0`]);
  }

  rmdir(parent: number, name: string): void {
    this.ask('RMDIR', parent, [`${name}\0`]);
  }

  rename(parent: number, name: string, newParent: number, newName: string, flags = 0): void {
    this.ask('RENAME2', parent, [BigInt(newParent), flags, 0, `${name}\0${newName}\0`]);
  }

  /** READDIRPLUS from a cookie on into `size` bytes. */
  list(node: number, cookie = 0, size = 65_536): Listed[] {
    const { body: bytes } = this.ask('READDIRPLUS', node, [0n, BigInt(cookie), size, 0, 0n, 0, 0]);
    const listed: Listed[] = [];
    for (let at = 0; at < bytes.byteLength; ) {
      const nameBytes = word(bytes, at + 144);
      const name = Buffer.from(bytes.subarray(at + 152, at + 152 + nameBytes)).toString('latin1');
      listed.push({ name, cookie: Number(long(bytes, at + 136)), node: Number(long(bytes, at)) });
      at += (152 + nameBytes + 7) & ~7;
    }
    return listed;
  }

  // --- files ---

  create(
    parent: number,
    name: string,
    mode = 0o644,
    options: Caller & { umask?: number; flags?: number } = {},
  ): Entry & { handle: bigint } {
    const { flags = 2, umask = 0 } = options;
    const reply = this.ask('CREATE', parent, [flags, 0o100000 | mode, umask, 0, `${name}\0`], options);
    return { ...entryOf(reply), handle: long(reply.body, 128) };
  }

  tmpfile(parent: number): Entry & { handle: bigint } {
    const reply = this.ask('TMPFILE', parent, [2, 0o100600, 0, 0, '/\0']);
    return { ...entryOf(reply), handle: long(reply.body, 128) };
  }

  open(node: number, flags = 2, openFlags = 0): bigint {
    return long(this.ask('OPEN', node, [flags, openFlags]).body, 0);
  }

  release(node: number, handle: bigint): void {
    this.ask('RELEASE', node, [handle, 0, 0, 0n]);
  }

  read(node: number, offset: number, size: number, flags = 0): Uint8Array {
    return this.ask('READ', node, [0n, BigInt(offset), size, 0, 0n, flags, 0]).body;
  }

  write(node: number, offset: number, data: string | Uint8Array, writeFlags = 0): number {
    const bytes = typeof data === 'string' ? Buffer.from(data, 'latin1') : data;
    return word(this.ask('WRITE', node, [0n, BigInt(offset), bytes.byteLength, writeFlags, 0n, 0, 0, bytes]).body, 0);
  }

  fallocate(node: number, mode: number, offset: number, length: number): void {
    this.ask('FALLOCATE', node, [0n, BigInt(offset), BigInt(length), mode, 0]);
  }

  seek(node: number, offset: number, whence: 3 | 4): number {
    return Number(long(this.ask('LSEEK', node, [0n, BigInt(offset), whence, 0]).body, 0));
  }

  copy(node: number, from: number, to: number, at: number, length: number): number {
    const payload: Payload = [0n, BigInt(from), BigInt(to), 0n, BigInt(at), BigInt(length), 0n];
    return Number(long(this.ask('COPY_FILE_RANGE_64', node, payload).body, 0));
  }

  // --- attributes ---

  stat(node: number): Stat {
    return statAt(this.ask('GETATTR', node, [0, 0, 0n]).body, 16);
  }

  setattr(
    node: number,
    valid: number,
    fields: Partial<Record<'size' | 'atime' | 'mtime' | 'mode' | 'uid' | 'gid', number>> & { atimeNs?: number; mtimeNs?: number },
  ): Stat {
    const { size = 0, atime = 0, mtime = 0, atimeNs = 0, mtimeNs = 0, mode = 0, uid = 0, gid = 0 } = fields;
    const times: Payload = [BigInt(atime), BigInt(mtime), 0n, atimeNs, mtimeNs, 0];
    return statAt(this.ask('SETATTR', node, [valid, 0, 0n, BigInt(size), 0n, ...times, mode, 0, uid, gid, 0]).body, 16);
  }

  setxattr(node: number, name: string, value: Uint8Array | string, flags = 0, extended = 0): void {
    this.ask('SETXATTR', node, [value.length, flags, extended, 0, `${name}\0`, value]);
  }

  getxattr(node: number, name: string): Uint8Array {
    return this.ask('GETXATTR', node, [65_536, 0, `${name}\0`]).body;
  }

  listxattr(node: number, caller: Caller = {}): string[] {
    return Buffer.from(this.ask('LISTXATTR', node, [65_536, 0], caller).body)
      .toString('latin1')
      .split('\0')
      .filter(Boolean);
  }

  /** Pages and inodes that are free. */
  free(): { pages: number; inodes: number } {
    const { body: bytes } = this.ask('STATFS', 1);
    return { pages: Number(long(bytes, 8)), inodes: Number(long(bytes, 32)) };
  }

  // --- locks ---

  /** Starts SETLK, or SETLKW with `wait`; answers its unique. */
  lock(
    node: number,
    owner: number,
    type: 0 | 1 | 2,
    start: number,
    end: number | 'eof',
    options: { wait?: boolean; flock?: boolean; handle?: bigint } = {},
  ): number {
    const { wait = false, flock = false, handle = 1n } = options;
    return this.begin(wait ? 'SETLKW' : 'SETLK', node, lockBody(owner, type, start, end, flock, handle));
  }

  /** What GETLK finds in the way: type, start, end, pid. */
  lockInTheWay(
    node: number,
    owner: number,
    type: 0 | 1,
    start: number,
    end: number | 'eof',
  ): [number, number, number | 'eof', number] {
    const { body: bytes } = this.ask('GETLK', node, lockBody(owner, type, start, end, false, 1n));
    const found = long(bytes, 8);
    return [word(bytes, 16), Number(long(bytes, 0)), found === EOF ? 'eof' : Number(found), word(bytes, 20)];
  }

  /** The name of the errno that a request was answered, `ok`, or `waiting`. */
  outcome(unique: number): string {
    const reply = this.kernel.of(unique);
    return reply === undefined ? 'waiting' : reply.errno === 0 ? 'ok' : errnoName(reply.errno);
  }
}

const EOF = 0x7fff_ffff_ffff_ffffn;

function lockBody(owner: number, type: number, start: number, end: number | 'eof', flock: boolean, handle: bigint): Payload {
  return [handle, BigInt(owner), BigInt(start), end === 'eof' ? EOF : BigInt(end), type, 1000 + owner, flock ? 1 : 0, 0];
}
