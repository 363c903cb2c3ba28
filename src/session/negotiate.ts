/**
 * INIT: what the kernel offers, what we accept and why. Every flag of the protocol has its row here; a flag that is not
 * accepted has its reason beside it.
 */
import {
  decodeInitFlags,
  encodeInitFlags,
  FUSE_KERNEL_MINOR_VERSION,
  FUSE_KERNEL_VERSION,
  type InitFlag,
  type InitIn,
} from '../protocol/index.ts';

/** Oldest protocol minor that a session accepts: Linux 4.18, the first with FUSE_ABORT_ERROR. */
export const MINOR_FLOOR = 27;

/** The kernel's page size in the units of max_pages; 4096 on x86-64 and most arm64. */
const PAGE_BYTES = 4096;

/** What a filesystem can do, as far as INIT depends on it. Plain data: it travels between threads. */
export interface Capabilities {
  /** Names of the methods that exist. */
  readonly methods: readonly string[];
  /** Flags that the filesystem asks for because it does its part of them. */
  readonly requested: readonly InitFlag[];
}

/** What the one who mounts wants. Every value is a limit that the kernel may lower. */
export interface SessionSettings {
  /** Direct I/O in parallel pieces (FUSE_ASYNC_DIO). Default true. */
  asyncDio?: boolean;
  /** The kernel gathers writes in its page cache and owns size and times (FUSE_WRITEBACK_CACHE). Default false. */
  writeback?: boolean;
  /** Largest WRITE, bytes, 4096 to 16 MiB. Default 1 MiB. */
  maxWrite?: number;
  /** Pages of 4 KiB in one request, 1 to 4096; the kernel grants at most /proc/sys/fs/fuse/max_pages_limit. Default: what maxWrite needs. */
  maxPages?: number;
  /** Background requests (asynchronous direct I/O, read-ahead, write-back) in flight, 1 to 65535. Default 256. */
  maxBackground?: number;
  /** Background requests from which the kernel holds back read-ahead. Default three quarters of maxBackground. */
  congestionThreshold?: number;
  /** Read-ahead, bytes. Default: what the kernel offers. */
  maxReadahead?: number;
  /** Granularity of times, nanoseconds, 1 to 1e9. Default 1. */
  timeGranularityNs?: number;
  /**
   * A request that waits longer ends the whole connection with ECONNABORTED (FUSE_REQUEST_TIMEOUT, Linux 6.14 and later). Seconds, 1
   * to 65535; the kernel rounds up to 15 and looks every 15. Default: none.
   */
  requestTimeoutSeconds?: number;
  /** Directory listings with attributes: in each page, as the kernel sees fit, or not. Default `always` where readdirplus exists. */
  readdirplus?: 'always' | 'auto' | 'never';
  /** Whether the mount checks permissions in the kernel; some capabilities need it. */
  defaultPermissions?: boolean;
}

/** What both sides agreed on. */
export interface Negotiated {
  /** The protocol minor in force: the lower one of the kernel's and ours. */
  readonly minor: number;
  readonly kernelMinor: number;
  /** Flags in force. */
  readonly flags: ReadonlySet<InitFlag>;
  /** Flags that the kernel offered and we did not take, with the reason. */
  readonly refused: ReadonlyMap<InitFlag, string>;
  /** Bytes. */
  readonly maxWrite: number;
  readonly maxPages: number;
  readonly maxReadahead: number;
  readonly maxBackground: number;
  readonly congestionThreshold: number;
  readonly timeGranularityNs: number;
  /** 0 where there is none. */
  readonly requestTimeoutSeconds: number;
}

/** Why a session cannot be. `code` is stable. */
export class NegotiationError extends Error {
  override readonly name = 'NegotiationError';
  readonly code:
    | 'ERR_FUSEWIRE_KERNEL_TOO_OLD'
    /** A combination of capabilities that breaks. */
    | 'ERR_FUSEWIRE_CAPABILITY'
    /** A setting out of its range. */
    | 'ERR_FUSEWIRE_SETTING'
    /** The exchange with the kernel failed. */
    | 'ERR_FUSEWIRE_INIT';

  constructor(code: NegotiationError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

type Decision = true | string;
type Policy = (want: Wishes) => Decision;

interface Wishes {
  settings: SessionSettings;
  has(method: string): boolean;
  asked(flag: InitFlag): boolean;
}

const always: Policy = () => true;
const never =
  (reason: string): Policy =>
  () =>
    reason;
const withMethod =
  (...methods: string[]): Policy =>
  (want) =>
    methods.every(want.has) || `the filesystem has no ${methods.join(' and ')}`;
const withoutMethod =
  (method: string): Policy =>
  (want) =>
    !want.has(method) || `the filesystem has ${method}`;
const onRequest =
  (flag: InitFlag): Policy =>
  (want) =>
    want.asked(flag) || 'the filesystem did not ask for it';

const VIRTIOFS = 'only virtiofs has it';

const POLICIES: { readonly [Flag in InitFlag]: Policy } = {
  FUSE_ASYNC_READ: always,
  FUSE_POSIX_LOCKS: withMethod('getlk', 'setlk'),
  FUSE_FILE_OPS: never('Linux never used it'),
  // A filesystem whose open ignores O_TRUNC would keep old contents, so it has to say that it does not.
  FUSE_ATOMIC_O_TRUNC: onRequest('FUSE_ATOMIC_O_TRUNC'),
  FUSE_EXPORT_SUPPORT: onRequest('FUSE_EXPORT_SUPPORT'),
  FUSE_BIG_WRITES: always,
  FUSE_DONT_MASK: onRequest('FUSE_DONT_MASK'),
  FUSE_SPLICE_WRITE: never('the device is read and written without splice'),
  FUSE_SPLICE_MOVE: never('the device is read and written without splice'),
  FUSE_SPLICE_READ: never('the device is read and written without splice'),
  FUSE_FLOCK_LOCKS: withMethod('setlk'),
  FUSE_HAS_IOCTL_DIR: withMethod('ioctl'),
  FUSE_AUTO_INVAL_DATA: (want) => !want.asked('FUSE_EXPLICIT_INVAL_DATA') || 'FUSE_EXPLICIT_INVAL_DATA was asked for',
  FUSE_DO_READDIRPLUS: (want) =>
    !want.has('readdirplus')
      ? 'the filesystem has no readdirplus'
      : (want.settings.readdirplus ?? 'always') !== 'never' || 'readdirplus is switched off',
  FUSE_READDIRPLUS_AUTO: (want) =>
    (want.has('readdirplus') && want.settings.readdirplus === 'auto') || 'listings carry attributes in every page',
  FUSE_ASYNC_DIO: (want) => (want.settings.asyncDio ?? true) || 'asynchronous direct I/O is switched off',
  FUSE_WRITEBACK_CACHE: (want) => (want.settings.writeback ?? false) || 'the write-back cache is switched off',
  FUSE_NO_OPEN_SUPPORT: withoutMethod('open'),
  FUSE_PARALLEL_DIROPS: always,
  FUSE_HANDLE_KILLPRIV: never('its second version is used'),
  FUSE_POSIX_ACL: onRequest('FUSE_POSIX_ACL'),
  FUSE_ABORT_ERROR: always,
  FUSE_MAX_PAGES: always,
  FUSE_CACHE_SYMLINKS: onRequest('FUSE_CACHE_SYMLINKS'),
  FUSE_NO_OPENDIR_SUPPORT: withoutMethod('opendir'),
  FUSE_EXPLICIT_INVAL_DATA: onRequest('FUSE_EXPLICIT_INVAL_DATA'),
  FUSE_MAP_ALIGNMENT: never(VIRTIOFS),
  FUSE_SUBMOUNTS: never(VIRTIOFS),
  FUSE_HANDLE_KILLPRIV_V2: onRequest('FUSE_HANDLE_KILLPRIV_V2'),
  FUSE_SETXATTR_EXT: withMethod('setxattr'),
  FUSE_INIT_EXT: always,
  FUSE_INIT_RESERVED: never('reserved'),
  FUSE_SECURITY_CTX: onRequest('FUSE_SECURITY_CTX'),
  FUSE_HAS_INODE_DAX: never(VIRTIOFS),
  FUSE_CREATE_SUPP_GROUP: always,
  FUSE_HAS_EXPIRE_ONLY: always,
  FUSE_DIRECT_IO_ALLOW_MMAP: always,
  FUSE_PASSTHROUGH: never('backing files are not there yet'),
  FUSE_NO_EXPORT_SUPPORT: onRequest('FUSE_NO_EXPORT_SUPPORT'),
  FUSE_HAS_RESEND: onRequest('FUSE_HAS_RESEND'),
  FUSE_ALLOW_IDMAP: onRequest('FUSE_ALLOW_IDMAP'),
  FUSE_OVER_IO_URING: never('the ring is not there yet'),
  FUSE_REQUEST_TIMEOUT: (want) => want.settings.requestTimeoutSeconds !== undefined || 'no time limit was asked for',
};

/** Combinations that break: refused before anything is mounted. Throws {@link NegotiationError}. */
export function assertSensible(capabilities: Capabilities, settings: SessionSettings): void {
  const refuse = (message: string): never => {
    throw new NegotiationError('ERR_FUSEWIRE_CAPABILITY', message);
  };
  const asked = (flag: InitFlag) => capabilities.requested.includes(flag);
  if (settings.writeback && !capabilities.methods.includes('setattr')) {
    refuse('the write-back cache needs a setattr method: the kernel owns the times then and hands them over through it');
  }
  if (asked('FUSE_ALLOW_IDMAP') && !settings.defaultPermissions) {
    refuse('idmapped mounts need the mount option default_permissions: requests carry no user to check');
  }
  for (const flag of capabilities.requested) {
    const policy = POLICIES[flag];
    if (policy === undefined) refuse(`${flag} is no INIT flag of this protocol`);
    const decision = policy({ settings, has: () => true, asked: () => true });
    if (decision !== true) refuse(`${flag} cannot be asked for: ${decision}`);
  }
  range('maxWrite', settings.maxWrite, PAGE_BYTES, 16 << 20);
  range('maxPages', settings.maxPages, 1, 4096);
  range('maxBackground', settings.maxBackground, 1, 65535);
  range('congestionThreshold', settings.congestionThreshold, 1, 65535);
  range('maxReadahead', settings.maxReadahead, 0, 0xffffffff);
  range('requestTimeoutSeconds', settings.requestTimeoutSeconds, 1, 65535);
  range('timeGranularityNs', settings.timeGranularityNs, 1, 1_000_000_000);
}

function range(name: string, value: number | undefined, least: number, most: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= least && value <= most)) return;
  throw new NegotiationError('ERR_FUSEWIRE_SETTING', `${name} is a whole number from ${least} to ${most}, not ${value}`);
}

/**
 * Decides on an INIT request. `pagesLimit` is /proc/sys/fs/fuse/max_pages_limit where it exists (the kernel grants at most
 * that without telling). Throws {@link NegotiationError} when the kernel is older than {@link MINOR_FLOOR}.
 */
export function negotiate(init: InitIn, capabilities: Capabilities, settings: SessionSettings, pagesLimit = 256): Negotiated {
  if (init.major === FUSE_KERNEL_VERSION && init.minor < MINOR_FLOOR) {
    throw new NegotiationError(
      'ERR_FUSEWIRE_KERNEL_TOO_OLD',
      `the kernel speaks FUSE 7.${init.minor}; fusewire needs 7.${MINOR_FLOOR} (Linux 4.18) or newer`,
    );
  }
  assertSensible(capabilities, settings);
  const methods = new Set(capabilities.methods);
  const requested = new Set(capabilities.requested);
  const want: Wishes = { settings, has: (method) => methods.has(method), asked: (flag) => requested.has(flag) };
  const flags = new Set<InitFlag>();
  const refused = new Map<InitFlag, string>();
  for (const flag of decodeInitFlags(init.flags, init.flags2)) {
    const decision = POLICIES[flag](want);
    if (decision === true) flags.add(flag);
    else refused.set(flag, decision);
  }
  const wantedPages = settings.maxPages ?? Math.ceil((settings.maxWrite ?? DEFAULT_MAX_WRITE) / PAGE_BYTES);
  const maxPages = flags.has('FUSE_MAX_PAGES') ? Math.min(wantedPages, pagesLimit) : 32;
  const maxBackground = settings.maxBackground ?? DEFAULT_MAX_BACKGROUND;
  return {
    minor: Math.min(init.minor, FUSE_KERNEL_MINOR_VERSION),
    kernelMinor: init.minor,
    flags,
    refused,
    // A larger max_write than the pages allow would only inflate the smallest read buffer that the kernel accepts.
    maxWrite: Math.min(settings.maxWrite ?? DEFAULT_MAX_WRITE, maxPages * PAGE_BYTES),
    maxPages,
    maxReadahead: Math.min(settings.maxReadahead ?? init.max_readahead, init.max_readahead),
    maxBackground,
    congestionThreshold: settings.congestionThreshold ?? Math.max(1, Math.floor((maxBackground * 3) / 4)),
    timeGranularityNs: settings.timeGranularityNs ?? 1,
    requestTimeoutSeconds: flags.has('FUSE_REQUEST_TIMEOUT') ? (settings.requestTimeoutSeconds ?? 0) : 0,
  };
}

/** The documented defaults of {@link SessionSettings}. */
export const DEFAULT_MAX_WRITE = 1 << 20;
export const DEFAULT_MAX_BACKGROUND = 256;

/** The INIT reply that says what was decided, as fields of fuse_init_out. */
export function initReply(negotiated: Negotiated, wantedPages: number) {
  const { flags, flags2 } = encodeInitFlags(new Set(negotiated.flags));
  return {
    major: FUSE_KERNEL_VERSION,
    minor: negotiated.minor,
    max_readahead: negotiated.maxReadahead,
    flags,
    max_background: negotiated.maxBackground,
    congestion_threshold: negotiated.congestionThreshold,
    max_write: negotiated.maxWrite,
    time_gran: negotiated.timeGranularityNs,
    max_pages: wantedPages,
    map_alignment: 0,
    flags2,
    max_stack_depth: 0,
    request_timeout: negotiated.requestTimeoutSeconds,
  };
}
