/**
 * Relief: a node costs a descriptor, and a process has only so many. Before they run out the kernel is asked to forget nodes
 * that nobody uses (FUSE_NOTIFY_PRUNE, Linux 6.18); FORGETs follow. One worker at a time does it, for all.
 */
import type { Kernel } from 'fusewire';
import type { InodeTable } from './inode-table.ts';

/** From this share of the table on, the kernel is asked. */
const PRESSURE_SHARE = 0.75;
/** Asked to forget at a time: this share of what is in use. */
const PRUNE_SHARE = 0.25;
/** The kernel takes a message of at most so many; more would be a larger message than it may read. */
const PRUNE_NODES_MAX = 8192;
/** How long a lookup that finds the table full waits for FORGETs, and how often it looks. */
const WAIT_MS = 2000;
const LOOK_MS = 2;

export class Relief {
  readonly #table: InodeTable;
  readonly #pressureAt: number;
  #kernel: Kernel | undefined;

  constructor(table: InodeTable, nodesMax: number) {
    this.#table = table;
    this.#pressureAt = Math.max(1, Math.floor(nodesMax * PRESSURE_SHARE));
  }

  /** From now on the kernel can be asked; before, and on kernels that know no PRUNE, a full table is full. */
  start(kernel: Kernel): void {
    this.#kernel = kernel;
  }

  /** After a node was made. */
  check(): void {
    if (this.#kernel === undefined || this.#table.live < this.#pressureAt || !this.#table.beginRelief()) return;
    const count = Math.min(PRUNE_NODES_MAX, Math.ceil(this.#table.live * PRUNE_SHARE));
    this.#kernel
      .prune(this.#table.nextInUse(count))
      .catch(() => {})
      .finally(() => this.#table.endRelief());
  }

  /** Waits until the table has room again; false when it does not come about, or nobody can be asked. */
  async room(signal: AbortSignal): Promise<boolean> {
    if (this.#kernel === undefined) return false;
    for (const end = Date.now() + WAIT_MS; Date.now() < end; ) {
      signal.throwIfAborted();
      this.check();
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      if (!this.#table.isTight) return true;
    }
    return false;
  }
}
