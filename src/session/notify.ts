/**
 * Notifications: what the daemon tells the kernel of its own accord. Writing one can block in the kernel until a related request
 * is answered (INVAL_ENTRY and DELETE take the directory's lock, INVAL_INODE, STORE and RETRIEVE wait for pages), so they never
 * leave from a thread that answers requests: they queue here and a thread of their own writes them.
 */
import {
  encodeNotifyDeleteOut,
  encodeNotifyInvalEntryOut,
  encodeNotifyInvalInodeOut,
  encodeNotifyPollWakeupOut,
  encodeNotifyPruneOut,
  encodeNotifyRetrieveOut,
  encodeNotifyStoreOut,
  FUSE_EXPIRE_ONLY,
  FUSE_NOTIFY_DELETE,
  FUSE_NOTIFY_INC_EPOCH,
  FUSE_NOTIFY_INVAL_ENTRY,
  FUSE_NOTIFY_INVAL_INODE,
  FUSE_NOTIFY_POLL,
  FUSE_NOTIFY_PRUNE,
  FUSE_NOTIFY_RESEND,
  FUSE_NOTIFY_RETRIEVE,
  FUSE_NOTIFY_STORE,
  NOTIFY_DELETE_OUT_SIZE,
  NOTIFY_INVAL_ENTRY_OUT_SIZE,
  NOTIFY_INVAL_INODE_OUT_SIZE,
  NOTIFY_POLL_WAKEUP_OUT_SIZE,
  NOTIFY_PRUNE_OUT_SIZE,
  NOTIFY_RETRIEVE_OUT_SIZE,
  NOTIFY_STORE_OUT_SIZE,
  notificationRow,
} from '../protocol/index.ts';
import { reportFault } from './diagnostics.ts';
import { ERRNO, FuseError } from './errors.ts';
import { OUT_HEADER_BYTES, REPLY_WORD } from './exchange.ts';
import type { MountLimits } from './limits.ts';

/** Writes a whole message to the device from a thread that may block; answers 0 or a negative errno. */
export type NotifyWriter = (message: Uint8Array) => Promise<number>;

export interface NotifierOptions {
  /** How many may wait, and be with the writer. */
  limits?: Pick<MountLimits, 'notifyQueueMax' | 'notifyWritingMax' | 'notifyMs'>;
  /** Which thread of the connection this is, 0 to 65,535: it comes back with the answer to RETRIEVE. Default 0. */
  source?: number;
  /** Whether requests of this thread wait: only then a notification can wait for whoever awaits it. Default: never. */
  requestsWait?: () => boolean;
  /** How names become bytes. */
  encodeName(name: string): Uint8Array;
}

/**
 * What a filesystem tells the kernel. Publish the new state first, then notify: a request that comes in between would cache the
 * old one again. Each promise settles when the kernel has acted; that it held nothing of the kind (ENOENT) is success. Equal
 * notifications that still wait are merged. Never await one inside the handler of a request for the same node or directory: the
 * kernel may act only after the answer. A promise that waits longer than `limits.notifyMs` while requests wait rejects with EDEADLK,
 * so that the handler goes on; the kernel still acts when it can.
 */
export interface Kernel {
  /** A node's contents and attributes changed: drops both from the caches (INVAL_INODE). */
  changed(node: number): Promise<void>;
  /**
   * A name was removed: the kernel forgets it. With `node`, the file counts as deleted, and who watches it hears of it (DELETE;
   * inotify says IN_DELETE_SELF, while the directory's watchers hear nothing since Linux 5.3). Rejects with ENOTEMPTY for a
   * directory in which the kernel knows names, EBUSY for a mount point.
   */
  removed(parent: number, name: string, node?: number): Promise<void>;
  /** A name was added, or now names something else: forgets what the kernel believed of it, and the directory's attributes. */
  added(parent: number, name: string): Promise<void>;

  /** FUSE_NOTIFY_INVAL_INODE: drops `length` bytes of cached contents from `offset` on (0: to the end) and the attributes. */
  invalidateData(node: number, offset?: number, length?: number): Promise<void>;
  /** The same for attributes and ACLs alone. */
  invalidateAttributes(node: number): Promise<void>;
  /** FUSE_NOTIFY_INVAL_ENTRY. `expireOnly`: look the name up at its next use instead of dropping it now (needs FUSE 7.38). */
  invalidateEntry(parent: number, name: string, expireOnly?: boolean): Promise<void>;
  /** FUSE_NOTIFY_STORE: puts bytes into the page cache. */
  store(node: number, offset: number, data: Uint8Array): Promise<void>;
  /** FUSE_NOTIFY_RETRIEVE: bytes that the page cache holds from `offset` on, up to its first hole. */
  retrieve(node: number, offset: number, size: number): Promise<Uint8Array>;
  /** FUSE_NOTIFY_PRUNE: drops what nobody uses of these nodes; FORGETs follow (needs FUSE 7.45). */
  prune(nodes: readonly number[]): Promise<void>;
  /** FUSE_NOTIFY_INC_EPOCH: every name is looked up again at its next use (needs FUSE 7.44). */
  expireAll(): Promise<void>;
  /** FUSE_NOTIFY_RESEND: the kernel sends again what was read and never answered (needs FUSE 7.40). */
  resend(): Promise<void>;
  /** FUSE_NOTIFY_POLL: whoever polls with this handle asks again. */
  wakePoll(handleLow: number, handleHigh: number): Promise<void>;
}

/** A promise that somebody may await. */
interface Open {
  readonly since: number;
  readonly settle: (errno: number) => void;
}

interface Waiting {
  readonly message: Uint8Array;
  readonly key: string;
  readonly done: ((errno: number) => void)[];
}

/** Queues, merges and encodes notifications. */
export class Notifier implements Kernel {
  readonly #write: NotifyWriter;
  readonly #queueMax: number;
  readonly #writingMax: number;
  readonly #source: number;
  readonly #encodeName: (name: string) => Uint8Array;
  /** By what they say, in the order in which they came. */
  readonly #waiting = new Map<string, Waiting>();
  readonly #retrieving = new Map<number, (data: Uint8Array) => void>();
  /** Promises that have not settled. */
  readonly #open = new Set<Open>();
  readonly #limitMs: number;
  readonly #requestsWait: () => boolean;
  #timer: NodeJS.Timeout | undefined;
  /** Newest notifications that the kernel knows; undefined before INIT. */
  #minor: number | undefined;
  #writing = 0;
  #nextRetrieve = 1;
  #nextKey = 0;

  constructor(write: NotifyWriter, options: NotifierOptions) {
    this.#write = write;
    this.#queueMax = options.limits?.notifyQueueMax ?? 65_536;
    this.#writingMax = options.limits?.notifyWritingMax ?? 64;
    this.#source = options.source ?? 0;
    this.#encodeName = options.encodeName;
    this.#limitMs = options.limits?.notifyMs ?? 10_000;
    this.#requestsWait = options.requestsWait ?? (() => false);
  }

  /** What INIT agreed on: notifications that came with a later minor are refused from now on. */
  agree(minor: number): void {
    this.#minor = minor;
  }

  changed(node: number): Promise<void> {
    return this.invalidateData(node);
  }

  async removed(parent: number, name: string, node?: number): Promise<void> {
    if (node === undefined) return this.invalidateEntry(parent, name);
    const bytes = this.#encodeName(name);
    const message = frame(FUSE_NOTIFY_DELETE, NOTIFY_DELETE_OUT_SIZE, bytes.byteLength + 1);
    encodeNotifyDeleteOut(words(message), REPLY_WORD, { parent, child: node, namelen: bytes.byteLength });
    message.set(bytes, OUT_HEADER_BYTES + NOTIFY_DELETE_OUT_SIZE);
    return this.#notify(`delete ${parent} ${node} ${name}`, message);
  }

  async added(parent: number, name: string): Promise<void> {
    await Promise.all([this.invalidateEntry(parent, name), this.invalidateData(parent)]);
  }

  invalidateData(node: number, offset = 0, length = 0): Promise<void> {
    const message = frame(FUSE_NOTIFY_INVAL_INODE, NOTIFY_INVAL_INODE_OUT_SIZE);
    encodeNotifyInvalInodeOut(words(message), REPLY_WORD, { ino: node, off: offset, len: length });
    return this.#notify(`inode ${node} ${offset} ${length}`, message);
  }

  invalidateAttributes(node: number): Promise<void> {
    return this.invalidateData(node, -1, 0);
  }

  async invalidateEntry(parent: number, name: string, expireOnly = false): Promise<void> {
    if (expireOnly) this.#assertKnown('the flag FUSE_EXPIRE_ONLY of INVAL_ENTRY', EXPIRE_ONLY_SINCE);
    const bytes = this.#encodeName(name);
    const message = frame(FUSE_NOTIFY_INVAL_ENTRY, NOTIFY_INVAL_ENTRY_OUT_SIZE, bytes.byteLength + 1);
    const flags = expireOnly ? FUSE_EXPIRE_ONLY : 0;
    encodeNotifyInvalEntryOut(words(message), REPLY_WORD, { parent, namelen: bytes.byteLength, flags });
    message.set(bytes, OUT_HEADER_BYTES + NOTIFY_INVAL_ENTRY_OUT_SIZE);
    return this.#notify(`entry ${parent} ${flags} ${name}`, message);
  }

  store(node: number, offset: number, data: Uint8Array): Promise<void> {
    const message = frame(FUSE_NOTIFY_STORE, NOTIFY_STORE_OUT_SIZE, data.byteLength);
    encodeNotifyStoreOut(words(message), REPLY_WORD, { nodeid: node, offset, size: data.byteLength });
    message.set(data, OUT_HEADER_BYTES + NOTIFY_STORE_OUT_SIZE);
    return this.#notify(this.#ownKey(), message);
  }

  async retrieve(node: number, offset: number, size: number): Promise<Uint8Array> {
    const id = this.#nextRetrieve;
    this.#nextRetrieve = (id % 0xfffffffe) + 1;
    const message = frame(FUSE_NOTIFY_RETRIEVE, NOTIFY_RETRIEVE_OUT_SIZE);
    encodeNotifyRetrieveOut(words(message), REPLY_WORD, {
      notify_unique_lo: id,
      notify_unique_hi: this.#source,
      nodeid: node,
      offset,
      size,
    });
    const data = new Promise<Uint8Array>((resolve, reject) => {
      const done = this.#timed((errno) => {
        if (errno !== 0) reject(FuseError.of(errno));
      });
      this.#retrieving.set(id, (bytes) => {
        resolve(bytes);
        done(0);
      });
    });
    data.catch(() => {});
    const errno = await this.#enqueue(this.#ownKey(), message);
    if (errno !== 0) {
      this.retrieved(id, new Uint8Array(0));
      throw FuseError.of(errno);
    }
    return data;
  }

  /** NOTIFY_REPLY came: the answer to {@link retrieve}. */
  retrieved(id: number, data: Uint8Array): void {
    this.#retrieving.get(id)?.(data);
    this.#retrieving.delete(id);
  }

  prune(nodes: readonly number[]): Promise<void> {
    const message = frame(FUSE_NOTIFY_PRUNE, NOTIFY_PRUNE_OUT_SIZE, nodes.length * 8);
    const view = words(message);
    encodeNotifyPruneOut(view, REPLY_WORD, { count: nodes.length });
    nodes.forEach((node, index) => {
      const at = (OUT_HEADER_BYTES + NOTIFY_PRUNE_OUT_SIZE) / 4 + index * 2;
      view[at] = node >>> 0;
      view[at + 1] = Math.floor(node / 0x1_0000_0000);
    });
    return this.#notify(this.#ownKey(), message);
  }

  expireAll(): Promise<void> {
    return this.#notify('epoch', frame(FUSE_NOTIFY_INC_EPOCH, 0));
  }

  resend(): Promise<void> {
    return this.#notify('resend', frame(FUSE_NOTIFY_RESEND, 0));
  }

  wakePoll(handleLow: number, handleHigh: number): Promise<void> {
    const message = frame(FUSE_NOTIFY_POLL, NOTIFY_POLL_WAKEUP_OUT_SIZE);
    encodeNotifyPollWakeupOut(words(message), REPLY_WORD, { kh_lo: handleLow, kh_hi: handleHigh });
    return this.#notify(`poll ${handleLow} ${handleHigh}`, message);
  }

  /** The connection ended: what waits will never be written. */
  end(): void {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { done } of waiting) for (const settle of done) settle(ERRNO.ENODEV);
    for (const settle of this.#retrieving.values()) settle(new Uint8Array(0));
    this.#retrieving.clear();
  }

  #assertKnown(what: string, since: number): void {
    if (this.#minor === undefined || since <= this.#minor) return;
    throw new FuseError('EOPNOTSUPP', `the kernel speaks FUSE 7.${this.#minor}; ${what} came with 7.${since}, do without it`);
  }

  /** For notifications that must not be merged. */
  #ownKey(): string {
    return `own ${this.#nextKey++}`;
  }

  async #notify(key: string, message: Uint8Array): Promise<void> {
    const errno = await this.#enqueue(key, message);
    // ENOENT: the kernel holds nothing that could be stale. ENODEV: there is no longer a kernel that could.
    if (errno !== 0 && errno !== ERRNO.ENOENT && errno !== ERRNO.ENODEV) throw FuseError.of(errno);
  }

  async #enqueue(key: string, message: Uint8Array): Promise<number> {
    const row = notificationRow(words(message)[1]);
    if (row !== undefined) this.#assertKnown(`the notification ${row.name}`, row.since);
    return new Promise((resolve) => {
      const done = this.#timed(resolve);
      const same = this.#waiting.get(key);
      if (same !== undefined) {
        same.done.push(done);
        return;
      }
      if (this.#waiting.size >= this.#queueMax) {
        done(ERRNO.ENOBUFS);
        return;
      }
      this.#waiting.set(key, { message, key, done: [done] });
      this.#pump();
    });
  }

  /** `settle`, called once: by the caller of what this answers, or with EDEADLK when the time is over. */
  #timed(settle: (errno: number) => void): (errno: number) => void {
    const open = { since: Date.now(), settle };
    this.#open.add(open);
    if (this.#timer === undefined && this.#limitMs > 0) {
      this.#timer = setInterval(() => this.#settleLate(), Math.max(this.#limitMs / 4, 10)).unref();
    }
    return (errno) => {
      if (this.#open.delete(open)) settle(errno);
    };
  }

  #settleLate(): void {
    if (this.#open.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      return;
    }
    if (!this.#requestsWait()) return;
    const before = Date.now() - this.#limitMs;
    for (const open of this.#open) {
      if (open.since > before) continue;
      this.#open.delete(open);
      const message = `a notification has waited for more than ${this.#limitMs} ms while requests wait, perhaps for the handler that awaits it; it failed with EDEADLK, and the kernel acts on it when it can`;
      reportFault({ kind: 'notify-slow', operation: '', nodeid: 0, pid: 0, message });
      open.settle(ERRNO.EDEADLK);
    }
  }

  #pump(): void {
    for (const waiting of this.#waiting.values()) {
      if (this.#writing >= this.#writingMax) return;
      this.#waiting.delete(waiting.key);
      this.#writing++;
      this.#write(waiting.message)
        .catch(() => -ERRNO.EIO)
        .then((result) => {
          this.#writing--;
          for (const settle of waiting.done) settle(result < 0 ? -result : 0);
          this.#pump();
        });
    }
  }
}

/** Minor of FUSE_HAS_EXPIRE_ONLY: an older kernel takes the flag for padding and drops the name at once. */
const EXPIRE_ONLY_SINCE = 38;

/** A message with its header: code in the field that replies use for their error, unique 0. */
function frame(code: number, fixedBytes: number, extraBytes = 0): Uint8Array {
  const length = OUT_HEADER_BYTES + fixedBytes + extraBytes;
  const memory = new Uint8Array(Math.ceil(length / 8) * 8);
  const view = words(memory);
  view[0] = length;
  view[1] = code;
  return memory.subarray(0, length);
}

function words(message: Uint8Array): Uint32Array {
  return new Uint32Array(message.buffer, message.byteOffset, Math.floor(message.buffer.byteLength / 4));
}
