/** What the daemon says of its own accord (fs/fuse/notify.c): applied to the caches at once. */
import {
  decodeNotifyDeleteOut,
  decodeNotifyInvalEntryOut,
  decodeNotifyInvalInodeOut,
  decodeNotifyPruneOut,
  decodeNotifyRetrieveOut,
  decodeNotifyStoreOut,
  FUSE_EXPIRE_ONLY,
  type NotificationName,
  newNotifyDeleteOut,
  newNotifyInvalEntryOut,
  newNotifyInvalInodeOut,
  newNotifyPruneOut,
  newNotifyRetrieveOut,
  newNotifyStoreOut,
  notificationRow,
  structOf,
} from '../../protocol/index.ts';
import { PAGE_BYTES } from './constants.ts';
import { type Core, requestBytesMax } from './core.ts';
import type { Dentry } from './dentries.ts';
import { ERRNO } from './errors.ts';
import type { Inode } from './inodes.ts';

const { EINVAL, ENOENT, ENOTDIR, ENAMETOOLONG, EBUSY, ENOTEMPTY } = ERRNO;
const WORD = 0x1_0000_0000;

/** A notification as it arrived: for assertions. */
export interface ReceivedNotification {
  readonly name: NotificationName;
  /** What the daemon's write gave: 0 or a negative errno. */
  readonly status: number;
  /**
   * The real kernel would have held up the writer, because a request under way holds the lock that it needs: a daemon that
   * answers and notifies on one thread hangs here.
   */
  readonly wouldBlock: boolean;
}

type Apply = (core: Core, words: Uint32Array, bytes: Uint8Array) => number;

const APPLY: { readonly [Name in NotificationName]: Apply } = {
  POLL: () => 0,
  INVAL_INODE: invalInode,
  INVAL_ENTRY: invalEntry,
  STORE: store,
  RETRIEVE: retrieve,
  DELETE: deleteEntry,
  RESEND: (core) => {
    core.wire.resend();
    return 0;
  },
  INC_EPOCH: (core) => {
    core.dentries.epoch++;
    return 0;
  },
  PRUNE: prune,
};

/** Applies one; answers what the daemon's write gives. */
export function notify(core: Core, code: number, body: Uint8Array, received: ReceivedNotification[]): number {
  const row = notificationRow(code);
  if (row === undefined || row.since > core.wire.agreed.minor) return -EINVAL;
  const copy = new Uint8Array((body.length + 7) & ~7);
  copy.set(body);
  const words = new Uint32Array(copy.buffer);
  const least = row.struct === undefined ? 0 : structOf(row.struct).bytes;
  const wouldBlock = body.length >= least && isHeldUp(core, row.name, words);
  const isWrongSize = body.length < least || (row.tail === undefined && row.names === 0 && body.length !== least);
  const status = isWrongSize ? -EINVAL : APPLY[row.name](core, words, copy.subarray(0, body.length));
  received.push({ name: row.name, status, wouldBlock });
  core.inodes.sendForgetsSoon();
  return status;
}

/** Whether a request under way holds what the notification needs: the directory's lock, or the pages of the file. */
function isHeldUp(core: Core, name: NotificationName, words: Uint32Array): boolean {
  const nodeid = words[0]! + (words[1] ?? 0) * WORD;
  if (name === 'INVAL_ENTRY' || name === 'DELETE') return core.inodes.get(nodeid)?.lock.isHeld ?? false;
  if (name === 'INVAL_INODE' || name === 'STORE') return (core.inodes.get(nodeid)?.pages.loading.size ?? 0) > 0;
  return false;
}

function invalInode(core: Core, words: Uint32Array): number {
  const out = newNotifyInvalInodeOut();
  decodeNotifyInvalInodeOut(words, 0, out);
  const inode = core.inodes.get(out.ino);
  if (inode === undefined) return -ENOENT;
  inode.attrVersion = ++core.attrVersion;
  inode.invalidate();
  if (out.off >= 0) {
    inode.symlinkTarget = undefined;
    inode.listing = undefined;
    inode.pages.dropRange(out.off, out.len <= 0 ? Infinity : out.off + out.len);
  }
  return 0;
}

/** The name behind a struct: exactly `namelen` bytes and a NUL. */
function nameOf(bytes: Uint8Array, at: number, namelen: number): string | undefined {
  if (bytes.length !== at + namelen + 1 || bytes[at + namelen] !== 0) return undefined;
  let name = '';
  for (const byte of bytes.subarray(at, at + namelen)) name += String.fromCharCode(byte);
  return name;
}

/** The dentry of a name in a directory that the kernel knows, or a negative errno. */
function find(core: Core, parent: number, name: string | undefined, namelen: number): Dentry | number {
  if (namelen > core.dentries.nameMax) return -ENAMETOOLONG;
  if (name === undefined) return -EINVAL;
  const directory = core.inodes.get(parent);
  if (directory === undefined) return -ENOENT;
  if (!directory.isDirectory) return -ENOTDIR;
  for (const alias of directory.names) {
    const dentry = alias.children.get(name);
    if (dentry !== undefined) {
      directory.invalidate();
      directory.listing = undefined;
      return dentry;
    }
  }
  return -ENOENT;
}

function invalEntry(core: Core, words: Uint32Array, bytes: Uint8Array): number {
  const out = newNotifyInvalEntryOut();
  decodeNotifyInvalEntryOut(words, 0, out);
  const found = find(core, out.parent, nameOf(bytes, 16, out.namelen), out.namelen);
  if (typeof found === 'number') return found;
  if ((out.flags & FUSE_EXPIRE_ONLY) !== 0) found.validUntil = 0;
  else core.dentries.invalidate(found);
  return 0;
}

function deleteEntry(core: Core, words: Uint32Array, bytes: Uint8Array): number {
  const out = newNotifyDeleteOut();
  decodeNotifyDeleteOut(words, 0, out);
  const found = find(core, out.parent, nameOf(bytes, 24, out.namelen), out.namelen);
  if (typeof found === 'number') return found;
  const { inode } = found;
  if (inode === undefined || inode.nodeid !== out.child) return -ENOENT;
  if (inode.isDirectory) {
    if (found === core.dentries.root) return -EBUSY;
    if ([...found.children.values()].some((child) => child.inode !== undefined)) return -ENOTEMPTY;
    inode.isDead = true;
  }
  if (inode.attr.nlink > 0) inode.attr.nlink--;
  inode.invalidate();
  core.dentries.invalidate(found);
  return 0;
}

function store(core: Core, words: Uint32Array, bytes: Uint8Array): number {
  const out = newNotifyStoreOut();
  decodeNotifyStoreOut(words, 0, out);
  const at = structOf('fuse_notify_store_out').bytes;
  if (bytes.length !== at + out.size) return -EINVAL;
  const inode = core.inodes.get(out.nodeid);
  if (inode === undefined) return -ENOENT;
  const end = out.offset + out.size;
  const oldSize = inode.size;
  if (end > inode.size) {
    inode.attr.size = end;
    inode.attrVersion = ++core.attrVersion;
  }
  putStored(inode, out.offset, bytes.subarray(at), oldSize);
  return 0;
}

/** A page that is stored in part counts when the rest of it is behind the end of the file. */
function putStored(inode: Inode, offset: number, data: Uint8Array, oldSize: number): void {
  inode.pages.write(offset, data, false);
  const lastStart = Math.floor((offset + data.length) / PAGE_BYTES) * PAGE_BYTES;
  if (lastStart >= offset && offset + data.length >= oldSize)
    inode.pages.write(lastStart, data.subarray(lastStart - offset), false, true);
}

function retrieve(core: Core, words: Uint32Array): number {
  const out = newNotifyRetrieveOut();
  decodeNotifyRetrieveOut(words, 0, out);
  const inode = core.inodes.get(out.nodeid);
  if (inode === undefined) return -ENOENT;
  let end = Math.min(out.offset + out.size, inode.size, out.offset + Math.min(core.wire.agreed.maxWrite, requestBytesMax(core)));
  for (let page = Math.floor(out.offset / PAGE_BYTES); page * PAGE_BYTES < end; page++) {
    if (inode.pages.has(page)) continue;
    end = Math.max(out.offset, page * PAGE_BYTES);
    break;
  }
  const size = Math.max(0, end - out.offset);
  const data = inode.pages.copy(out.offset, size);
  const unique = out.notify_unique_lo + out.notify_unique_hi * WORD;
  core.wire.post({ op: 'NOTIFY_REPLY', nodeid: inode.nodeid, args: { offset: out.offset, size }, data }, unique);
  return 0;
}

function prune(core: Core, words: Uint32Array, bytes: Uint8Array): number {
  const out = newNotifyPruneOut();
  decodeNotifyPruneOut(words, 0, out);
  const at = structOf('fuse_notify_prune_out').bytes;
  if (bytes.length !== at + out.count * 8) return -EINVAL;
  for (let i = 0; i < out.count; i++) {
    const word = at / 4 + i * 2;
    const inode = core.inodes.get(words[word]! + words[word + 1]! * WORD);
    if (inode !== undefined) for (const name of [...inode.names]) core.dentries.prune(name);
  }
  return 0;
}
