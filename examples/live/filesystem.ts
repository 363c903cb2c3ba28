/**
 * Files whose content is made when they are read, a file to wait for with poll(2), and a cached file that changes by itself.
 *
 *     fusewire mount dist/examples/live/filesystem.js /mnt -- interval=1000
 *
 * - /clock, /uptime, /counter: made anew by every read from the start, as files of /proc are.
 * - /ticks: a number that grows every `interval` milliseconds. poll(2) says when there is one that this opening has not read.
 * - /latest: the same number as an ordinary file. The kernel keeps it in its page cache and is told when it changed.
 */
import {
  type AttributesInit,
  type Entry,
  type Filesystem,
  FuseError,
  type Kernel,
  ROOT_NODE,
  type WorkerContext,
} from 'fusewire';

/** The tick counts in this thread's memory, so one thread serves everything. */
export const workers = 1;

const POLLIN = 1;
const TICKS = 5;
const LATEST = 6;

/** What one opening of a file has been given. */
interface Opening {
  content: Buffer;
  /** The last tick that it read. */
  tick: number;
  /** Somebody sleeps in poll(2) on it: where to call. */
  waiter: { low: number; high: number } | undefined;
}

export default function live({
  options,
  mode,
}: Pick<WorkerContext<{ arguments?: readonly string[] }>, 'options' | 'mode'>): Filesystem {
  if (mode === 'blocking')
    throw new Error('live needs timers, which a thread that sleeps in the kernel has not; mount it with --mode event');
  const interval = intervalOf(options.arguments ?? []);
  const openings = new Map<number, Opening>();
  let [tick, reads, lastHandle] = [0, 0, 0];
  let timer: NodeJS.Timeout | undefined;

  const files: ReadonlyMap<string, { node: number; make: () => string }> = new Map([
    ['clock', { node: 2, make: () => new Date().toISOString() }],
    ['uptime', { node: 3, make: () => process.uptime().toFixed(3) }],
    ['counter', { node: 4, make: () => String(++reads) }],
    ['ticks', { node: TICKS, make: () => String(tick) }],
    ['latest', { node: LATEST, make: () => String(tick) }],
  ]);
  const makers = new Map([...files.values()].map(({ node, make }) => [node, make]));

  function attributes(node: number): AttributesInit {
    if (node === ROOT_NODE) return { mode: 0o040555, nlink: 2 };
    // Direct I/O reads to the end whatever the size says, so files of unknown length have 0, as in /proc.
    return { mode: 0o100444, size: node === LATEST ? `${tick}\n`.length : 0, mtime: new Date() };
  }

  function advance(kernel: Kernel): void {
    tick++;
    // The new state stands; now the kernel may hear of it. Nothing waits for these: a handler must never.
    kernel.changed(LATEST).catch(() => {});
    for (const opening of openings.values()) {
      const { waiter } = opening;
      opening.waiter = undefined;
      if (waiter !== undefined) kernel.wakePoll(waiter.low, waiter.high).catch(() => {});
    }
  }

  return {
    // What is cached stays until `changed` is called.
    settings: { cache: 'exclusive' },
    init(_negotiated, kernel) {
      timer = setInterval(advance, interval, kernel);
    },
    destroy() {
      clearInterval(timer);
    },
    lookup(_parent, name): Entry {
      const file = files.get(name);
      if (file === undefined) throw new FuseError('ENOENT');
      return { node: file.node, attributes: attributes(file.node) };
    },
    getattr(node) {
      return { attributes: attributes(node) };
    },
    readdir() {
      return [...files].map(([name, { node }]) => ({ name, ino: node, mode: 0o100000 }));
    },
    open(node) {
      openings.set(++lastHandle, { content: Buffer.alloc(0), tick: -1, waiter: undefined });
      return { handle: lastHandle, directIo: node !== LATEST };
    },
    read(node, { handle, offset, size }) {
      const opening = openings.get(handle)!;
      // Made once for a whole pass over the file, so that a reader in small pieces does not see two times mixed.
      if (offset === 0) {
        opening.content = Buffer.from(`${makers.get(node)!()}\n`);
        opening.tick = tick;
      }
      return opening.content.subarray(offset, offset + size);
    },
    poll(node, { handle, pollHandleLow, pollHandleHigh, notify }) {
      const opening = openings.get(handle)!;
      if (node !== TICKS || opening.tick !== tick) return POLLIN;
      if (notify) opening.waiter = { low: pollHandleLow, high: pollHandleHigh };
      return 0;
    },
    release(_node, { handle }) {
      openings.delete(handle);
    },
  };
}

/** Milliseconds between two ticks, 1 to 2^31-1. Default 1000. */
function intervalOf(words: readonly string[]): number {
  let interval = 1000;
  for (const word of words) {
    const [, digits] = /^interval=(\d+)$/.exec(word) ?? [];
    interval = Number(digits);
    if (!(interval >= 1 && interval < 2 ** 31))
      throw new RangeError(`${word} is no argument of live; write interval=MILLISECONDS`);
  }
  return interval;
}
