import type { ChannelLimits, RingLimits } from '../transport/index.ts';

/** Every limit of a mount beyond those that are agreed on with the kernel. All optional; plain data. */
export interface MountLimits extends ChannelLimits, RingLimits {
  /** A request that waits longer is reported on the diagnostics channel, once. Milliseconds, default 30,000; 0: never. */
  slowMs?: number;
  /**
   * How often the guard looks whether a thread that serves waits for itself, milliseconds, default 300; 0: never. It answers such
   * a request EDEADLK at the third look.
   */
  guardMs?: number;
  /** Interrupts remembered because they came before their request. Default 1024; the oldest are forgotten. */
  earlyInterruptsMax?: number;
  /** Notifications that may wait, for each thread; beyond that they fail with ENOBUFS. Default 65,536. */
  notifyQueueMax?: number;
  /** Notifications of a thread that may be with the writer at a time. Default 64. */
  notifyWritingMax?: number;
  /**
   * How long a notification may wait while requests of its thread do, milliseconds, default 10,000; 0: for ever. Then it fails with
   * EDEADLK, because the handler that awaits it may be what it waits for.
   */
  notifyMs?: number;
  /** Workers that may be replaced within a minute before the mount is given up. Default 8. */
  restartsMax?: number;
  /** How long a worker may take to load its module, milliseconds. Default 30,000. */
  loadTimeoutMs?: number;
  /** JavaScript heap that a worker may have, MiB; beyond it the worker is replaced. Default: what Node gives a thread. */
  workerHeapMiB?: number;
}
