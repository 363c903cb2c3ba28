/**
 * Mounting: joins a filesystem (an object on this thread, or a module on a pool of workers) with a mount point, and sees to
 * it that the mount goes away with the process, whichever way that ends.
 */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { assertMethods, capabilitiesOf, type Filesystem } from '../filesystem/index.ts';
import { importModule } from '../filesystem/module.ts';
import { type DeviceSessionOptions, deviceSession } from '../filesystem/serve.ts';
import { type Addon, loadAddon } from '../native/index.ts';
import {
  assertSensible,
  begins,
  type Capabilities,
  type Claim,
  ERRNO,
  entryOf,
  guard,
  initializeDevice,
  type Kernel,
  type MountLimits,
  type Negotiated,
  Notifier,
  NotifyThread,
  type NotifyWriter,
  type Session,
  type SessionCounters,
  type SessionEnd,
  type SessionSettings,
  startRecorder,
  WorkerPool,
} from '../session/index.ts';
import { newCounters } from '../session/session.ts';
import {
  type ChannelMode,
  type CloseReason,
  closeTrace,
  openTrace,
  type Recorder,
  RingError,
  type RingPlace,
  receiveBytesFor,
  ringObstacle,
  ringQueues,
  type TraceFile,
  type TraceSettings,
} from '../transport/index.ts';
import { type Attachment, attach } from './attach.ts';
import { addEnding, type Ending, removeEnding } from './endings.ts';
import { MountError } from './errors.ts';
import { parseMountOptions } from './options.ts';
import { mayRegisterBackingFiles } from './privilege.ts';
import type { Progress } from './synchronous.ts';

/** A filesystem that worker threads load: the module's default export is a filesystem or makes one. */
export interface ModuleSource {
  /** A file URL, or a path relative to the working directory. */
  module: string | URL;
  /** Handed to the module's factory and its `shared`; travels by structured clone. */
  options?: unknown;
}

export interface MountSettings extends SessionSettings {
  /**
   * Worker threads that serve a module, 1 to 64. Default: what the module exports as `workers`, else 1. A filesystem object
   * is served on this thread and takes 0 only: its state lives here.
   */
  workers?: number;
  /** How workers wait: on their event loop, or asleep in the kernel. Default `event`. This thread always uses its event loop. */
  mode?: ChannelMode;
  /**
   * How requests travel. `device`: by reading and writing /dev/fuse. `uring`: by FUSE-over-io_uring (Linux 6.14 and later, with Y in
   * /sys/module/fuse/parameters/enable_uring); mounting fails where it cannot be had. `auto`, the default: the device.
   */
  transport?: 'auto' | 'device' | 'uring';
  /** Every other limit: messages kept, answers pending, slow requests, notifications, restarts; see {@link MountLimits}. */
  limits?: MountLimits;
  /** Mounts read-only. */
  readOnly?: boolean;
  /** Options as mount(8) takes them: `allow_other,default_permissions,max_read=65536`. */
  mountOptions?: string;
  /** An open, mounted /dev/fuse descriptor of the caller's; nothing is mounted or unmounted then. */
  fd?: number;
  /** What mount(8) shows as the source. Default `fusewire`. */
  name?: string;
  /** Shown as `fuse.SUBTYPE`. Default `fusewire`. */
  subtype?: string;
  /**
   * Synchronous INIT (Linux 6.18): mount(2) itself waits until this filesystem serves, so that nobody ever meets a mount that is
   * not ready, and fails when it cannot. Needs privileges; elsewhere, and on older kernels, mounting goes on as without. Costs the
   * start of a thread. Default false.
   */
  syncInit?: boolean;
  /** How long {@link Mount.unmount} waits for a busy mount before it detaches it, milliseconds. Default 300. */
  busyMs?: number;
  /** How long {@link Mount.unmount} waits for pending answers after a detach, milliseconds. Default 700. */
  drainMs?: number;
  /**
   * Records everything that crosses the device in a file, for `fusewire trace` and for tests: lines of JSON when its name ends
   * with `.jsonl`, else the compact format. A string is the file's name. An existing file is replaced. It holds what programs
   * read and write, names and contents; it is made readable for its owner alone. Default: nothing is recorded.
   */
  trace?: string | TraceSettings;
  /**
   * Unmount on SIGINT, SIGTERM and SIGHUP, then let the signal end the process unless somebody else listens to it.
   * Default true: a mount whose daemon is gone is of no use to anybody.
   */
  signals?: boolean;
}

export interface Mount {
  /** Absolute path; empty when the caller gave a descriptor. */
  readonly mountpoint: string;
  readonly negotiated: Negotiated;
  /** Worker threads; 0 when this thread serves. */
  readonly workers: number;
  readonly mode: ChannelMode;
  /** Number of the connection below /sys/fs/fuse/connections. */
  readonly connection: number;
  /** Settles when the mount is gone, whoever ended it; rejects when the workers died. */
  readonly closed: Promise<{ reason: CloseReason }>;
  /** Unmounts: at once when nobody uses it, else detached after `busyMs`, with pending requests answered. Idempotent. */
  unmount(): Promise<void>;
  /** For exit handlers: detaches without waiting. */
  unmountSync(): void;
  /** Aborts the connection: every caller gets an error now. False where that needs privileges. */
  abort(): boolean;
  /** What changed without the kernel's doing is told here; workers have one of their own, see {@link Filesystem.init}. */
  readonly kernel: Kernel;
  /** Counts of all workers. */
  counters(): Promise<SessionCounters>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Who answers requests. */
interface Server {
  readonly ended: Promise<{ reason: CloseReason; errno: number }>;
  readonly workers: number;
  readonly mode: ChannelMode;
  readonly capabilities: Capabilities;
  /** Begins to serve; rejects when the filesystem's init fails. */
  serve(fd: number, negotiated: Negotiated, notify: NotifyWriter, ring: RingPlace | undefined): Promise<void>;
  readonly kernel: Kernel;
  counters(): Promise<SessionCounters>;
  /** Answers what is pending, closes the channels, ends the threads. */
  stop(timeoutMs: number): Promise<void>;
}

/** Worker threads of a module when nobody said how many: one, because a module's own variables are not shared. */
export const DEFAULT_WORKERS = 1;
export const WORKERS_MAX = 64;

/**
 * Mounts a filesystem. Resolves when it can be used; rejects with an error whose `code` is stable (MountError,
 * NegotiationError, WorkerFailure, ModuleError), and then nothing is left mounted.
 */
export async function mount(
  filesystem: Filesystem | ModuleSource,
  mountpoint: string,
  settings: MountSettings = {},
): Promise<Mount> {
  if (settings.trace === undefined) return mountWith(filesystem, mountpoint, settings, undefined);
  const file = openTrace(settings.trace);
  const recorder = startRecorder(file, 0);
  try {
    return await mountWith(filesystem, mountpoint, settings, { file, recorder });
  } catch (error) {
    recorder.close();
    closeTrace(file);
    throw error;
  }
}

/** What is recorded into, and the recorder of this thread. */
interface Trace {
  readonly file: TraceFile;
  readonly recorder: Recorder;
}

async function mountWith(
  filesystem: Filesystem | ModuleSource,
  mountpoint: string,
  settings: MountSettings,
  trace: Trace | undefined,
): Promise<Mount> {
  const addon = loadAddon();
  const server =
    'module' in filesystem
      ? await poolServer(addon, filesystem, settings, trace?.file)
      : localServer(addon, filesystem, settings, trace?.recorder);
  let attachment: Attachment | undefined;
  let negotiated: Negotiated | undefined;
  let notifier: NotifyThread | undefined;
  try {
    const effective = { ...settings, defaultPermissions: parseMountOptions(settings.mountOptions ?? '').defaultPermissions };
    assertSensible(server.capabilities, effective);
    const { capabilities } = server;
    const begin = async (fd: number, progress: Partial<Progress> = {}): Promise<void> => {
      const ring = ringPlaceOf(addon, fd, server.workers, settings);
      const wanted = { ...effective, ring: ring !== undefined, mayRegisterBackingFiles: mayRegisterBackingFiles() };
      const options = { capabilities, settings: wanted, pagesLimit: maxPagesLimit(), recorder: trace?.recorder, ...progress };
      negotiated = await initializeDevice(addon, fd, options);
      if (server.workers > 0) trace?.recorder.close();
      notifier = new NotifyThread(fd, trace && { file: trace.file, channel: server.workers + 1 });
      if (ring !== undefined && !negotiated.flags.has('FUSE_OVER_IO_URING')) throw new RingError(ERRNO.EOPNOTSUPP);
      await server.serve(fd, negotiated, notifier.write, ring);
    };
    attachment = await attach({ addon, mountpoint, ...attachSettings(settings), ...(settings.syncInit ? { begin } : {}) });
    if (negotiated === undefined) await begin(attachment.fd);
    return new ActiveMount(attachment, server, negotiated!, notifier!, settings, trace?.file);
  } catch (error) {
    attachment?.unmountSync();
    attachment?.close();
    await server.stop(0);
    throw error;
  }
}

class ActiveMount implements Mount, Ending {
  readonly mountpoint: string;
  readonly negotiated: Negotiated;
  readonly workers: number;
  readonly mode: ChannelMode;
  readonly connection: number;
  readonly closed: Promise<{ reason: CloseReason }>;
  readonly kernel: Kernel;
  readonly #notifier: NotifyThread;
  readonly #attachment: Attachment;
  readonly #server: Server;
  readonly #settings: MountSettings;
  readonly #trace: TraceFile | undefined;
  #unmounting: Promise<void> | undefined;

  constructor(
    attachment: Attachment,
    server: Server,
    negotiated: Negotiated,
    notifier: NotifyThread,
    settings: MountSettings,
    trace: TraceFile | undefined,
  ) {
    this.#trace = trace;
    this.#notifier = notifier;
    this.kernel = server.kernel;
    this.#attachment = attachment;
    this.#server = server;
    this.#settings = settings;
    this.mountpoint = attachment.mountpoint;
    this.connection = attachment.connection;
    this.negotiated = negotiated;
    this.workers = server.workers;
    this.mode = server.mode;
    addEnding(this);
    this.closed = this.#run();
    this.closed.catch(() => {});
  }

  async #run(): Promise<{ reason: CloseReason }> {
    try {
      const { reason } = await this.#server.ended;
      return { reason: this.#unmounting === undefined ? reason : 'unmounted' };
    } finally {
      await this.#unmounting;
      removeEnding(this);
      this.#attachment.unmountSync();
      await this.#server.stop(0);
      await this.#notifier.end();
      this.#attachment.close();
      if (this.#trace !== undefined) closeTrace(this.#trace);
    }
  }

  unmount(): Promise<void> {
    this.#unmounting ??= this.#end();
    return this.#unmounting.then(() => this.closed).then(() => {});
  }

  async #end(): Promise<void> {
    await this.#attachment.unmount({ busyMs: this.#settings.busyMs ?? 300 });
    await this.#server.stop(this.#settings.drainMs ?? 700);
  }

  unmountSync(): void {
    this.#attachment.unmountSync();
  }

  get endsOnSignals(): boolean {
    return this.#settings.signals ?? true;
  }

  abort(): boolean {
    return this.#attachment.abort();
  }

  counters(): Promise<SessionCounters> {
    return this.#server.counters();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.unmount();
  }
}

/** Serves an object on this thread's event loop. */
function localServer(addon: Addon, filesystem: Filesystem, settings: MountSettings, recorder: Recorder | undefined): Server {
  if ((settings.workers ?? 0) !== 0) {
    throw new MountError('ERR_FUSEWIRE_BAD_OPTION', 'workers', {
      detail: 'a filesystem object is served on this thread; to use workers put it into a module and mount { module }',
    });
  }
  assertMethods(filesystem);
  let session: Session | undefined;
  let backing: number | undefined;
  let isOpen = false;
  let resolveEnded!: (end: SessionEnd) => void;
  const ended = new Promise<SessionEnd>((resolve) => {
    resolveEnded = resolve;
  });
  return {
    ended,
    workers: 0,
    mode: 'event',
    capabilities: capabilitiesOf(filesystem),
    get kernel() {
      if (session === undefined) throw new Error('nothing is mounted yet');
      return session.kernel;
    },
    async serve(fd, negotiated, notify, ring) {
      if (negotiated.flags.has('FUSE_PASSTHROUGH')) backing = addon.backingTable();
      // The channel closes what it is given; the attachment keeps the descriptor of the mount.
      const own = {
        addon,
        fd: addon.dup(fd),
        mode: 'event',
        negotiated,
        notify,
        limits: settings.limits ?? {},
        ring,
        backing,
        recorder,
      } as const;
      session = deviceSession(filesystem, own);
      session.ended.then(resolveEnded);
      await session.prepare();
      session.open();
      isOpen = true;
      if (ring === undefined) guardThis(addon, own, session);
    },
    async counters() {
      return { ...(session?.counters ?? newCounters()) };
    },
    async stop(timeoutMs) {
      // A session that never opened, as when the filesystem's init failed, tells of no end.
      if (!isOpen) resolveEnded({ reason: 'closed', errno: 0 });
      await session?.drain(timeoutMs);
      session?.channel.close();
      await ended;
      if (backing !== undefined) addon.backingEnd(backing);
    },
  };
}

/** This thread can sleep in a call on its own mount; then another answers. */
function guardThis(
  addon: Addon,
  { fd, negotiated, limits }: Pick<DeviceSessionOptions, 'fd' | 'negotiated' | 'limits'>,
  session: Session,
) {
  const thread = {
    threadId: addon.threadId(),
    fd,
    receiveBytes: receiveBytesFor({ maxWriteBytes: negotiated.maxWrite, maxPages: negotiated.maxPages }),
    // That this runs says it.
    ping: () => Promise.resolve(),
    take(message: Uint8Array, claim: Claim) {
      if (begins(claim)) session.channel.inject?.(message);
    },
  };
  session.ended.then(guard(thread, limits.guardMs));
}

/** Serves a module on worker threads. */
async function poolServer(
  addon: Addon,
  source: ModuleSource,
  settings: MountSettings,
  trace: TraceFile | undefined,
): Promise<Server> {
  const module = source.module instanceof URL ? source.module.href : moduleUrl(source.module);
  const { shared, sharedEnd, workers: workersOfModule } = await importModule(module);
  const workers = settings.workers ?? workersOfModule ?? DEFAULT_WORKERS;
  if (!Number.isInteger(workers) || workers < 1 || workers > WORKERS_MAX) {
    throw new MountError('ERR_FUSEWIRE_BAD_OPTION', 'workers', {
      detail: `a whole number from 1 to ${WORKERS_MAX}, not ${workers}`,
    });
  }
  const mode = settings.mode ?? 'event';
  const common = shared === undefined ? undefined : await shared(source.options as never);
  const entry = entryOf(import.meta.url, '../filesystem/worker');
  let write: NotifyWriter = () => Promise.resolve(-ERRNO.ENODEV);
  const names = { encodeName: (name: string) => new TextEncoder().encode(name), limits: settings.limits ?? {} };
  const kernel = new Notifier((message) => write(message), names);
  const pool = new WorkerPool({
    notify: (message) => write(message),
    onRetrieved: (id, data) => kernel.retrieved(id, data),
    entry,
    module,
    options: source.options,
    shared: common,
    workers,
    mode,
    limits: settings.limits ?? {},
    addon,
    trace,
  });
  const endShared = once(() => sharedEnd?.(common as never));
  let capabilities: Capabilities;
  try {
    capabilities = await pool.load();
  } catch (error) {
    endShared();
    throw error;
  }
  return {
    ended: pool.ended,
    workers,
    mode,
    capabilities,
    kernel,
    serve(fd, negotiated, notify, ring) {
      write = notify;
      return pool.serve(fd, negotiated, ring);
    },
    counters: () => pool.counters(),
    async stop(timeoutMs) {
      await pool.stop(timeoutMs);
      kernel.end();
      endShared();
    },
  };
}

/** Entries of all workers together on each queue: what max_background allows by default. Their memory is there as it is used. */
const RING_ENTRIES = 256;
/** Of one ring, so that a machine with hundreds of processors does not make hundreds of thousands of them. */
const RING_ENTRIES_MAX = 8192;

/** Where the first worker's ring belongs, when rings are wanted; throws {@link RingError} where there can be none. */
function ringPlaceOf(addon: Addon, fd: number, workers: number, settings: MountSettings): RingPlace | undefined {
  if (settings.transport !== 'uring') return undefined;
  const obstacle = ringObstacle(addon, fd);
  if (obstacle !== 0) throw new RingError(obstacle);
  const threads = Math.max(workers, 1);
  const queues = ringQueues();
  const share = Math.min(RING_ENTRIES / threads, RING_ENTRIES_MAX / queues);
  const depth = settings.limits?.ringDepth ?? Math.max(Math.ceil(share), 1);
  return { queues, depth, key: addon.ringKeys(threads) };
}

function once(action: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    action();
  };
}

function moduleUrl(module: string): string {
  return module.startsWith('file:') ? module : pathToFileURL(resolve(module)).href;
}

function attachSettings(settings: MountSettings) {
  const { fd, name, subtype, mountOptions, readOnly } = settings;
  return {
    ...(fd === undefined ? {} : { fd }),
    name: name ?? 'fusewire',
    subtype: subtype ?? 'fusewire',
    options: [mountOptions, readOnly ? 'ro' : undefined].filter((part) => part !== undefined && part !== '').join(','),
  };
}

/** What the kernel grants at most, pages of a request; older kernels have no such file and grant 256. */
function maxPagesLimit(): number {
  try {
    return Number(readFileSync('/proc/sys/fs/fuse/max_pages_limit', 'latin1')) || 256;
  } catch {
    return 256;
  }
}
