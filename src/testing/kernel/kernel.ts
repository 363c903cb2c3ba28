/**
 * The simulated kernel: the kernel's half of FUSE in this process, over an in-memory channel, with a real session and an
 * author's filesystem at the other end. No mount, no privileges, no addon, any platform.
 */
import { type Filesystem, operationsOf } from '../../filesystem/index.ts';
import {
  decodeInitFlags,
  decodeInitOut,
  encodeInitFlags,
  FUSE_KERNEL_VERSION,
  INIT_FLAGS,
  type InitFlag,
  initFlagRow,
  newInitOut,
} from '../../protocol/index.ts';
import { DEFAULT_MAX_WRITE, MINOR_FLOOR, Session, type SessionSettings } from '../../session/index.ts';
import { memoryPair } from '../../transport/index.ts';
import type { PosixFeature, PosixIdentity, PosixTree } from '../posix.ts';
import { Audit, AuditError, type AuditedFilesystem, type Violation } from './audit.ts';
import { Clock } from './clock.ts';
import type { Core, Missing, MountOptions } from './core.ts';
import { DentryCache } from './dentries.ts';
import { ERRNO, errnoName, SimulationError } from './errors.ts';
import { type Fault, Faults, type PlannedFault } from './faults.ts';
import { InodeTable } from './inodes.ts';
import { LocalLocks } from './locks.ts';
import { notify, type ReceivedNotification } from './notifications.ts';
import { SimulatedProcess } from './process.ts';
import { describeRequest, type SentRequest } from './requests.ts';
import { RwLock } from './rwlock.ts';
import { Schedule } from './schedule.ts';
import { type Agreed, Wire } from './wire.ts';
import { flushInode } from './writeback.ts';

const { ECONNREFUSED } = ERRNO;

/** What Linux 6.18 does not offer on a plain mount. */
const NOT_OFFERED: ReadonlySet<InitFlag> = new Set<InitFlag>([
  'FUSE_MAP_ALIGNMENT',
  'FUSE_HAS_INODE_DAX',
  'FUSE_SUBMOUNTS',
  'FUSE_FILE_OPS',
  'FUSE_INIT_RESERVED',
  'FUSE_OVER_IO_URING',
]);

export interface SimulationOptions {
  /** For titles of tests. Default `simulated kernel`. */
  readonly name?: string;
  /** Protocol minor that the kernel speaks, 27 to 99; beyond 45 it is a kernel to come. Default 45. */
  readonly minor?: number;
  /** INIT flags that the kernel offers. Default: what Linux 6.18 offers, as far as the minor knows them. */
  readonly offered?: readonly InitFlag[];
  /** Flags left out of what is offered. Default none. */
  readonly withheld?: readonly InitFlag[];
  /** What the one who mounts wants: write-back, asynchronous direct I/O, max_write and so on. */
  readonly settings?: SessionSettings;
  /** The kernel checks permissions by mode bits. Default true. */
  readonly defaultPermissions?: boolean;
  /** Others than the user who mounted may enter. Default true. */
  readonly allowOther?: boolean;
  /** Who mounted. Default 0. */
  readonly userId?: number;
  readonly groupId?: number;
  /** Largest READ, bytes, as the mount option of that name. Default: no limit but the pages. */
  readonly maxRead?: number;
  /** Read-only mount. Default false. */
  readonly readOnly?: boolean;
  /** Most pages of a request, /proc/sys/fs/fuse/max_pages_limit. Default 256. */
  readonly maxPagesLimit?: number;
  /** Read-ahead that the kernel offers, bytes. Default 131,072. */
  readonly maxReadahead?: number;
  /**
   * Lets requests and answers overtake each other, pseudo-randomly and reproducibly. Default: none, everything happens in
   * order and at once.
   */
  readonly seed?: number;
  /** Whether stat(2) asks for the birth time, which makes it a STATX. Default: when the filesystem has a statx method. */
  readonly birthTimes?: boolean;
  /** What the audit asks the filesystem. Default: methods of the same names on the filesystem, where there are any. */
  readonly audited?: AuditedFilesystem;
  /** Requests kept in {@link SimulatedKernel.requests}. Default 10,000. */
  readonly requestsMax?: number;
  /** How long {@link SimulatedKernel.end} waits for answers, milliseconds of real time. Default 5,000. */
  readonly endTimeoutMs?: number;
  /** What the filesystem cannot do, for the conformance map. Default nothing. */
  readonly unsupported?: ReadonlyMap<PosixFeature, string>;
  /** st_dev. Default 1. */
  readonly device?: number;
  /** Sees every whole message as it crosses: `in` for the daemon, `out` from it. The bytes are its own. */
  readonly tap?: (direction: 'in' | 'out', message: Uint8Array) => void;
}

/** Connects a filesystem to a simulated kernel and negotiates. Rejects with {@link SimulationError} when INIT fails. */
export async function simulate(filesystem: Filesystem, options: SimulationOptions = {}): Promise<SimulatedKernel> {
  const minor = options.minor ?? 45;
  if (!Number.isInteger(minor) || minor < MINOR_FLOOR || minor > 99)
    throw new SimulationError('ERR_FUSEWIRE_SIMULATION_OPTION', `the protocol minor is ${MINOR_FLOOR} to 99, not ${minor}`);
  const kernel = new SimulatedKernel(filesystem, options);
  await kernel.start();
  return kernel;
}

export class SimulatedKernel implements PosixTree {
  readonly name: string;
  readonly unsupported: ReadonlyMap<PosixFeature, string>;
  /** What the daemon said of its own accord. */
  readonly notifications: ReceivedNotification[] = [];
  readonly #options: SimulationOptions;
  readonly #audited: AuditedFilesystem;
  readonly #audit = new Audit();
  readonly #faults = new Faults();
  readonly #schedule: Schedule;
  readonly #core: Core;
  readonly #processes = new Set<SimulatedProcess>();
  readonly #session: Session;
  readonly #close: (reason?: 'unmounted' | 'aborted') => void;
  readonly #asksForBirth: boolean;
  #pid = 100;
  #isAborted = false;
  #ending: Promise<void> | undefined;

  constructor(filesystem: Filesystem, options: SimulationOptions) {
    this.#options = options;
    this.name = options.name ?? 'simulated kernel';
    this.unsupported = options.unsupported ?? new Map();
    this.#audited = options.audited ?? auditedBy(filesystem);
    this.#schedule = new Schedule(options.seed);
    this.#asksForBirth = options.birthTimes ?? typeof filesystem.statx === 'function';
    this.#core = newCore(mountOptions(options), {
      clock: new Clock(),
      schedule: this.#schedule,
      faults: this.#faults,
      audit: this.#audit,
      logMax: options.requestsMax ?? 10_000,
      tap: options.tap,
    });
    const { wire, inodes } = this.#core;
    const settings = { ...options.settings, defaultPermissions: this.#core.mount.defaultPermissions };
    const bytesMax = Math.max(settings.maxWrite ?? DEFAULT_MAX_WRITE, (options.maxPagesLimit ?? 256) * 4096) + 65_536 + 4096;
    const pair = memoryPair(
      { onReply: (buffer, length) => wire.onReply(buffer, length) },
      { messageBytesMax: bytesMax, buffersMax: 65_536 },
    );
    wire.attach(pair.kernel);
    wire.beforeRequest = () => inodes.sendForgets();
    wire.onNotification = (code, body) => notify(this.#core, code, body, this.notifications);
    this.#session = new Session(pair.daemon, operationsOf(filesystem), { settings });
    this.#close = (reason) => pair.kernel.close(reason);
  }

  // --- INIT ------------------------------------------------------------------------------------------------------------------

  /** @internal */
  async start(): Promise<void> {
    const minor = this.#options.minor ?? 45;
    const offered = offeredFlags(this.#options, minor);
    const { wire } = this.#core;
    this.#session.open();
    const { flags, flags2 } = encodeInitFlags(offered);
    const max_readahead = this.#options.maxReadahead ?? 131_072;
    const args = { major: FUSE_KERNEL_VERSION, minor, max_readahead, flags, flags2 };
    const reply = await wire.request({ op: 'INIT', nodeid: 0, args });
    const out = newInitOut();
    if (reply.errno === 0) {
      const words = new Uint32Array(16);
      words.set(reply.words.subarray(0, Math.min(16, reply.bytes.length >> 2)));
      decodeInitOut(words, 0, out);
    }
    if (reply.errno !== 0 || out.major !== FUSE_KERNEL_VERSION) {
      wire.disconnect(ECONNREFUSED);
      this.#close('unmounted');
      const why = reply.errno !== 0 ? errnoName(reply.errno) : `major version ${out.major}`;
      throw new SimulationError('ERR_FUSEWIRE_SIMULATION_INIT', `INIT was answered ${why}; the mount would refuse every call`);
    }
    const accepted = decodeInitFlags(out.flags, out.flags2);
    for (const flag of accepted)
      if (!offered.has(flag)) this.#audit.report('negotiation', `${flag} was accepted and had not been offered`, 'INIT #0');
    wire.agreed = this.#agree(out, accepted, minor);
  }

  #agree(out: ReturnType<typeof newInitOut>, flags: ReadonlySet<InitFlag>, minor: number): Agreed {
    const limit = this.#options.maxPagesLimit ?? 256;
    return {
      minor: Math.min(out.minor, minor),
      flags,
      maxWrite: Math.max(4096, out.max_write),
      maxPages: flags.has('FUSE_MAX_PAGES') ? Math.min(limit, Math.max(1, out.max_pages)) : 32,
      maxReadahead: Math.min(this.#options.maxReadahead ?? 131_072, out.max_readahead),
      maxBackground: out.max_background || 12,
      congestionThreshold: out.congestion_threshold || 9,
    };
  }

  /** What INIT agreed on. */
  get agreed(): Agreed {
    return this.#core.wire.agreed;
  }

  /** Of this run; undefined when nothing is shuffled. */
  get seed(): number | undefined {
    return this.#schedule.seed;
  }

  // --- what tests see ----------------------------------------------------------------------------------------------------------

  /** Every request sent, oldest first, as far as {@link SimulationOptions.requestsMax} keeps them. */
  get requests(): readonly SentRequest[] {
    return this.#core.wire.requests;
  }

  /** Forgets the log, so that assertions look at what comes next. */
  clearRequests(): void {
    this.#core.wire.requests.length = 0;
  }

  /** The operations in the log: `['LOOKUP', 'GETATTR']`. */
  get operations(): readonly string[] {
    return this.requests.map(({ operation }) => operation);
  }

  /** Requests that wait for their answer. */
  get pending(): readonly SentRequest[] {
    return this.#core.wire.pending;
  }

  /** Names and inodes in the caches. */
  get cached(): { readonly names: number; readonly inodes: number } {
    return { names: this.#core.dentries.count, inodes: this.#core.inodes.count };
  }

  /** What was found so far. */
  get violations(): readonly Violation[] {
    return this.#audit.violations;
  }

  // --- what tests do -----------------------------------------------------------------------------------------------------------

  async process(identity: PosixIdentity = {}): Promise<SimulatedProcess> {
    if (this.#ending !== undefined) throw new SimulationError('ERR_FUSEWIRE_SIMULATION_ENDED', 'the simulated kernel has ended');
    const host = {
      core: this.#core,
      asksForBirth: this.#asksForBirth,
      onExit: (process: SimulatedProcess) => {
        this.#processes.delete(process);
      },
    };
    const process = new SimulatedProcess(host, this.#pid++, identity);
    this.#processes.add(process);
    return process;
  }

  /** Moves the virtual clock on: lifetimes of names and attributes run out, delayed answers arrive. */
  advance(ms: number): void {
    this.#core.clock.advance(ms);
  }

  /** Plans a fault. */
  inject(fault: Fault): PlannedFault {
    return this.#faults.add(fault);
  }

  /** A notification, whole, as if the daemon had written it. Answers what its write gives: 0 or a negative errno. */
  notify(message: Uint8Array): number {
    return this.#core.wire.receive(message);
  }

  /** Drops names, inodes and clean pages that nobody uses, as memory pressure does. FORGETs follow. */
  async dropCaches(): Promise<void> {
    const { inodes, dentries } = this.#core;
    for (const inode of inodes.all()) {
      await flushInode(this.#core, undefined, inode);
      inode.pages.dropClean();
      inode.listing = undefined;
    }
    dentries.prune();
    for (const inode of inodes.all()) if (inode.nodeid !== 1) inodes.evictUnused(inode);
    inodes.sendForgets();
    await this.#settle();
  }

  /** Aborts the connection: calls under way fail with ECONNABORTED, later ones with ENOTCONN. */
  abort(): void {
    this.#isAborted = true;
    this.#core.wire.disconnect();
    this.#close('aborted');
  }

  /**
   * Compares the kernel's books with the filesystem's own (see {@link AuditedFilesystem}) at a moment when nothing is under
   * way, and answers everything found so far.
   */
  async audit(): Promise<readonly Violation[]> {
    await this.#settle();
    if (!this.#isAborted) this.#audit.compare(this.#audited);
    return this.#audit.violations;
  }

  /**
   * Ends all processes, empties the caches, audits, unmounts. Rejects with {@link AuditError} when a rule was broken or
   * something leaked. After {@link abort} nothing is owed any more, so counts are not compared.
   */
  end(): Promise<void> {
    this.#ending ??= this.#finish();
    return this.#ending;
  }

  async #finish(): Promise<void> {
    const { wire } = this.#core;
    const timeoutMs = this.#options.endTimeoutMs ?? 5_000;
    const exits = Promise.all([...this.#processes].map((process) => process.exit()));
    const isQuiet = await this.#within(
      exits.then(() => this.#settle()),
      timeoutMs,
    );
    if (!isQuiet || wire.pending.length > 0) {
      for (const sent of wire.pending) this.#audit.report('unanswered', 'a request was never answered', describeRequest(sent));
      this.abort();
      await exits;
    }
    if (!this.#isAborted) {
      await this.dropCaches();
      this.#audit.compare(this.#audited);
      this.#audit.settle();
      wire.disconnect();
      this.#close('unmounted');
    }
    await this.#within(this.#session.ended, timeoutMs);
    if (this.violations.length > 0) throw new AuditError(this.violations, this.seed);
  }

  /** Waits until no request is under way and what was shuffled has arrived. */
  async #settle(): Promise<void> {
    const { wire, inodes } = this.#core;
    for (;;) {
      inodes.sendForgets();
      await wire.whenIdle(this.#options.endTimeoutMs ?? 5_000);
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#schedule.waitingCount === 0) return;
    }
  }

  async #within(what: Promise<unknown>, timeoutMs: number): Promise<boolean> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), timeoutMs);
    });
    const done = await Promise.race([what.then(() => true), late]);
    clearTimeout(timer);
    return done;
  }
}

function mountOptions(options: SimulationOptions): MountOptions {
  return {
    defaultPermissions: options.defaultPermissions ?? true,
    allowOther: options.allowOther ?? true,
    userId: options.userId ?? 0,
    groupId: options.groupId ?? 0,
    maxRead: Math.max(4096, options.maxRead ?? Infinity),
    readOnly: options.readOnly ?? false,
    device: options.device ?? 1,
  };
}

function offeredFlags(options: SimulationOptions, minor: number): Set<InitFlag> {
  const usual = INIT_FLAGS.filter(({ name, since }) => since <= minor && !NOT_OFFERED.has(name)).map(({ name }) => name);
  const offered = new Set(options.offered ?? usual);
  for (const flag of options.withheld ?? []) offered.delete(flag);
  // Flags of the second word need the flag that announces it, and a minor that has the word.
  for (const flag of offered) if (initFlagRow(flag).bit >= 32 && minor < 36) offered.delete(flag);
  return offered;
}

function newCore(mount: MountOptions, options: ConstructorParameters<typeof Wire>[0]): Core {
  const core = {
    mount,
    clock: options.clock,
    wire: new Wire(options),
    locks: new LocalLocks(),
    missing: new Set<Missing>(),
    renaming: new RwLock(),
    attrVersion: 1,
  } as { -readonly [Key in keyof Core]: Core[Key] };
  core.inodes = new InodeTable(core);
  core.dentries = new DentryCache(core, core.inodes.root);
  return core;
}

function auditedBy(filesystem: Filesystem): AuditedFilesystem {
  const { lookupCounts, openHandles } = filesystem as AuditedFilesystem;
  return {
    ...(typeof lookupCounts === 'function' ? { lookupCounts: () => lookupCounts.call(filesystem) } : {}),
    ...(typeof openHandles === 'function' ? { openHandles: () => openHandles.call(filesystem) } : {}),
  };
}
