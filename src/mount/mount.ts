/**
 * Mounting: joins a filesystem (an object on this thread, or a module on a pool of workers) with a mount point, and sees to
 * it that the mount goes away with the process, whichever way that ends.
 */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { assertMethods, capabilitiesOf, type Filesystem } from '../filesystem/index.ts';
import { importModule } from '../filesystem/module.ts';
import { deviceSession } from '../filesystem/serve.ts';
import { type Addon, loadAddon } from '../native/index.ts';
import {
  assertSensible,
  type Capabilities,
  ERRNO,
  entryOf,
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
  WorkerPool,
} from '../session/index.ts';
import { newCounters } from '../session/session.ts';
import type { ChannelMode, CloseReason } from '../transport/index.ts';
import { type Attachment, attach } from './attach.ts';
import { addEnding, type Ending, removeEnding } from './endings.ts';
import { MountError } from './errors.ts';
import { parseMountOptions } from './options.ts';

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
  /** `auto` and `device` are /dev/fuse. */
  transport?: 'auto' | 'device';
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
  /** How long {@link Mount.unmount} waits for a busy mount before it detaches it, milliseconds. Default 300. */
  busyMs?: number;
  /** How long {@link Mount.unmount} waits for pending answers after a detach, milliseconds. Default 700. */
  drainMs?: number;
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
  serve(fd: number, negotiated: Negotiated, notify: NotifyWriter): Promise<void>;
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
  const addon = loadAddon();
  const server =
    'module' in filesystem ? await poolServer(addon, filesystem, settings) : localServer(addon, filesystem, settings);
  let attachment: Attachment | undefined;
  try {
    const effective = { ...settings, defaultPermissions: parseMountOptions(settings.mountOptions ?? '').defaultPermissions };
    assertSensible(server.capabilities, effective);
    attachment = await attach({ addon, mountpoint, ...attachSettings(settings) });
    const negotiated = await initializeDevice(addon, attachment.fd, {
      capabilities: server.capabilities,
      settings: effective,
      pagesLimit: maxPagesLimit(),
    });
    const notifier = new NotifyThread(attachment.fd);
    await server.serve(attachment.fd, negotiated, notifier.write);
    return new ActiveMount(attachment, server, negotiated, notifier, settings);
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
  #unmounting: Promise<void> | undefined;

  constructor(attachment: Attachment, server: Server, negotiated: Negotiated, notifier: NotifyThread, settings: MountSettings) {
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
function localServer(addon: Addon, filesystem: Filesystem, settings: MountSettings): Server {
  if ((settings.workers ?? 0) !== 0) {
    throw new MountError('ERR_FUSEWIRE_BAD_OPTION', 'workers', {
      detail: 'a filesystem object is served on this thread; to use workers put it into a module and mount { module }',
    });
  }
  assertMethods(filesystem);
  let session: Session | undefined;
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
    async serve(fd, negotiated, notify) {
      // The channel closes what it is given; the attachment keeps the descriptor of the mount.
      const own = { addon, fd: addon.dup(fd), mode: 'event', negotiated, notify, limits: settings.limits ?? {} } as const;
      session = deviceSession(filesystem, own);
      session.ended.then(resolveEnded);
      await session.prepare();
      session.open();
    },
    async counters() {
      return { ...(session?.counters ?? newCounters()) };
    },
    async stop(timeoutMs) {
      if (session === undefined) resolveEnded({ reason: 'closed', errno: 0 });
      await session?.drain(timeoutMs);
      session?.channel.close();
      await ended;
    },
  };
}

/** Serves a module on worker threads. */
async function poolServer(addon: Addon, source: ModuleSource, settings: MountSettings): Promise<Server> {
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
    serve(fd, negotiated, notify) {
      write = notify;
      return pool.serve(fd, negotiated);
    },
    counters: () => pool.counters(),
    async stop(timeoutMs) {
      await pool.stop(timeoutMs);
      kernel.end();
      endShared();
    },
  };
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
