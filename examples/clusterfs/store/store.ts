/** Where blocks are kept. They are written once under an id that is never used again, so that every copy of one is right. */

export interface BlockStore {
  /** Keeps a block. `owner` comes back from {@link sync} when it was lost. */
  put(id: string, data: Buffer, owner: number): Promise<void>;
  /** The block, or undefined where there is none. */
  get(id: string, signal?: AbortSignal): Promise<Buffer | undefined>;
  /** Bytes of a block, or undefined where there is none. */
  size(id: string): Promise<number | undefined>;
  /** Unknown ids are fine. */
  delete(ids: readonly string[]): Promise<void>;
  /** Every block of the volume; and those that older volumes of its name have left, with `stale`. */
  list(): AsyncIterable<{ readonly id: string; readonly stale: boolean }>;
  /** Removes a block that {@link list} called stale. */
  deleteStale(ids: readonly string[]): Promise<void>;
  /**
   * Waits until everything that was put is kept as safely as was asked for, and answers what turned out to be lost, if anything.
   * Rejects with ERR_CLUSTERFS_NOT_REPLICATED when the confirmation does not come in time.
   */
  sync(): Promise<readonly LostBlock[]>;
  /** Bytes that the store can keep, and has left, or undefined where that is not known. */
  space(): Promise<{ readonly total: number; readonly free: number } | undefined>;
  close(): void;
}

export interface LostBlock {
  readonly id: string;
  readonly owner: number;
}
