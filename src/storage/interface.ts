/** What users of the layer see. */
import type { FileHandle, Filesystem, NodeId } from '../filesystem/index.ts';
import type { StorageBackend } from './backend.ts';
import type { StorageCounters } from './counters.ts';
import type { StorageOptions } from './options.ts';

/** Who asks for a read or a write. A request of a filesystem's method is one. */
export interface Asker {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** Looked at only when the request waits for more than some milliseconds. */
  readonly signal: AbortSignal;
}

/** An open handle of a file: what read-ahead, limits, fairness and the reporting of errors go by. */
export interface StoredHandle {
  /**
   * The bytes of a range: one view or several in order. Fewer than `length` mean the end of the file.
   *
   * It sees every write that was answered before it was asked for, and each write in flight wholly or not at all.
   */
  read(offset: number, length: number, asker?: Asker): Promise<Uint8Array | readonly Uint8Array[]>;
  /** Takes `data` before it returns or until it resolves: leave it alone until then. */
  write(offset: number, data: Uint8Array, asker?: Asker): Promise<void>;
  /**
   * Waits until every write of the file that came before is written. Rejects with the error of one that was answered before it
   * failed, once for each handle.
   */
  flush(): Promise<void>;
  /** {@link flush}, then the backend's `sync`. */
  sync(dataOnly?: boolean): Promise<void>;
  /** Flushes, stops reading ahead, and waits for operations in the name of this handle. Rejects as {@link flush} does. */
  close(): Promise<void>;
}

/** One file of a store, for all who have it open: what is merged is merged here. */
export interface StoredFile {
  /** `handle` is what `transfer.origin.handle` says; `flags` are O_* of the opening. Default 0, 0. */
  open(handle?: number, flags?: number): StoredHandle;
  /** Waits until every write that came before is written; errors stay for the handles. */
  drain(): Promise<void>;
  /**
   * Runs `change` while nothing of this file is in flight: after everything that came before, before everything that comes later.
   * For truncation and whatever else changes contents or length past the layer. What was read ahead is forgotten.
   */
  exclusive<T>(change: () => T | PromiseLike<T>): Promise<T>;
  /** Forgets what was read ahead: somebody else changed the file. */
  invalidate(): void;
}

/** The layer of one mount: limits and counters are those of all its files. */
export interface StorageLayer {
  readonly counters: StorageCounters;
  /** One file of the store; keep it, and ask for it once for each file. */
  file(backend: StorageBackend): StoredFile;
  /** Waits until every write of every file is written. */
  drain(): Promise<void>;
}

export interface WithStorageOptions extends StorageOptions {
  /**
   * The bytes of a node. Called when a node is first used, and again after it was forgotten. Default: the filesystem's own `read`,
   * `write` and `fsync`, which are called with merged requests.
   */
  backend?: (node: NodeId, handle: FileHandle) => StorageBackend;
  /** Files that nobody has open and that are remembered, for filesystems without `open`. Default 1,024. */
  idleFilesMax?: number;
}

/** A filesystem with the layer before it. */
export type StorageFilesystem = Filesystem & { readonly storage: StorageLayer };
