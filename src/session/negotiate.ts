/**
 * INIT: what the kernel offers, what we accept and why. Every flag of the protocol has its row here; a flag that is not
 * accepted has its reason beside it.
 */
import {
  decodeInitFlags,
  encodeInitFlags,
  FUSE_KERNEL_MINOR_VERSION,
  FUSE_KERNEL_VERSION,
  headerHasExtensionLength,
  type InitFlag,
  type InitIn,
  initFlagRow,
} from '../protocol/index.ts';

/**
 * Oldest protocol minor that a session accepts: Linux 4.18, the first with FUSE_ABORT_ERROR, and the oldest on which Node.js 20 runs.
 * The layouts of older ones are in the protocol's table, down to 7.1, for traces; no session could meet them.
 */
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
  /** Requests by FUSE-over-io_uring where the kernel offers it (FUSE_OVER_IO_URING). `mount` decides on it: its setting `transport`. */
  ring?: boolean;
  /**
   * Files that the kernel reads and writes itself (FUSE_PASSTHROUGH), for filesystems that ask for it. Default: where this process
   * may register them, and not together with `writeback`. True insists that the filesystem can and that nothing stands against it
   * in these settings; without the privilege it is served without, all the same.
   */
  backing?: boolean;
  /**
   * How deep filesystems may stand on one another below backing files, 1 or 2; 2 where these lie on overlayfs or such. The kernel
   * lets so much less be stacked on this mount. Default 1.
   */
  maxStackDepth?: number;
  /** Whether this process may register backing files (CAP_SYS_ADMIN). `mount` finds out. Default true. */
  mayRegisterBackingFiles?: boolean;
  /** Whether the mount checks permissions in the kernel; some capabilities need it. */
  defaultPermissions?: boolean;
  /**
   * INIT flags that are not taken although they would be: for a kernel, or a filesystem, that has trouble with one. It is as if the
   * kernel were too old to offer them; without FUSE_INIT_EXT also every flag of the second word. Default: none.
   */
  refuseFlags?: readonly InitFlag[];
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
  /** With FUSE_PASSTHROUGH, else 0. */
  readonly maxStackDepth: number;
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
  /** Whether the filesystem asks for a flag. */
  asked(flag: InitFlag): boolean;
  /** Whether the kernel offers one. */
  offered(flag: InitFlag): boolean;
  /** Of the kernel. */
  minor: number;
}

/**
 * Who decides on a flag: nobody (`default`: taken wherever the kernel offers it), the methods that the filesystem has, its
 * `settings.capabilities` (`request`), or the settings of the mount (`setting`); or it is never taken (`refused`).
 */
export type CapabilityKind = 'default' | 'method' | 'request' | 'setting' | 'refused';

interface CapabilityRow {
  readonly kind: CapabilityKind;
  /** Accepts a flag that the kernel offers, or says why not. */
  readonly decide: Policy;
}

const always: CapabilityRow = { kind: 'default', decide: () => true };
const never = (reason: string): CapabilityRow => ({ kind: 'refused', decide: () => reason });
const bySetting = (decide: Policy): CapabilityRow => ({ kind: 'setting', decide });
const withMethods = (...methods: string[]): CapabilityRow => ({
  kind: 'method',
  decide: (want) => methods.every(want.has) || `the filesystem has no ${methods.join(' and ')}`,
});
const onRequest = (flag: InitFlag, further: Policy = () => true): CapabilityRow => ({
  kind: 'request',
  decide: (want) => (want.asked(flag) ? further(want) : 'the filesystem did not ask for it'),
});

const DAX = 'only virtiofs offers it: it maps memory that a plain mount does not share';
const SPLICED = 'Linux does not look at it, and the device is read and written without splice';

const WITHOUT_WRITEBACK =
  'backing files and the write-back cache exclude each other: what is written goes past the cache, which owns size and times';

const wantsReaddirplus: Policy = (want) => {
  if (!want.has('readdirplus')) return 'the filesystem has no readdirplus';
  return want.settings.readdirplus !== 'never' || 'readdirplus is switched off';
};

/** Every flag of the protocol. docs/CAPABILITIES.md says the same for readers. */
export const CAPABILITIES: { readonly [Flag in InitFlag]: CapabilityRow } = {
  FUSE_ASYNC_READ: always,
  FUSE_POSIX_LOCKS: withMethods('getlk', 'setlk'),
  FUSE_FILE_OPS: never('Linux never offers it'),
  // A filesystem whose open ignores O_TRUNC would keep old contents, so it has to say that it does not.
  FUSE_ATOMIC_O_TRUNC: onRequest('FUSE_ATOMIC_O_TRUNC'),
  FUSE_EXPORT_SUPPORT: onRequest('FUSE_EXPORT_SUPPORT'),
  FUSE_BIG_WRITES: always,
  FUSE_DONT_MASK: onRequest('FUSE_DONT_MASK'),
  FUSE_SPLICE_WRITE: never(SPLICED),
  FUSE_SPLICE_MOVE: never(SPLICED),
  FUSE_SPLICE_READ: never(SPLICED),
  FUSE_FLOCK_LOCKS: withMethods('setlk'),
  FUSE_HAS_IOCTL_DIR: withMethods('ioctl'),
  FUSE_AUTO_INVAL_DATA: {
    kind: 'default',
    decide: (want) => !want.asked('FUSE_EXPLICIT_INVAL_DATA') || 'FUSE_EXPLICIT_INVAL_DATA was asked for',
  },
  FUSE_DO_READDIRPLUS: { kind: 'method', decide: wantsReaddirplus },
  FUSE_READDIRPLUS_AUTO: bySetting((want) => {
    const wanted = wantsReaddirplus(want);
    return wanted !== true ? wanted : want.settings.readdirplus === 'auto' || 'listings carry attributes in every page';
  }),
  FUSE_ASYNC_DIO: bySetting((want) => (want.settings.asyncDio ?? true) || 'asynchronous direct I/O is switched off'),
  FUSE_WRITEBACK_CACHE: bySetting((want) => (want.settings.writeback ?? false) || 'the write-back cache is switched off'),
  FUSE_NO_OPEN_SUPPORT: { kind: 'method', decide: (want) => !want.has('open') || 'the filesystem has open' },
  FUSE_PARALLEL_DIROPS: always,
  FUSE_HANDLE_KILLPRIV: onRequest(
    'FUSE_HANDLE_KILLPRIV',
    (want) =>
      !(want.asked('FUSE_HANDLE_KILLPRIV_V2') && want.offered('FUSE_HANDLE_KILLPRIV_V2')) ||
      'FUSE_HANDLE_KILLPRIV_V2 is in force, which says when it is needed',
  ),
  FUSE_POSIX_ACL: onRequest('FUSE_POSIX_ACL'),
  FUSE_ABORT_ERROR: always,
  FUSE_MAX_PAGES: always,
  FUSE_CACHE_SYMLINKS: onRequest('FUSE_CACHE_SYMLINKS'),
  // Answering ENOSYS to OPENDIR also caches every listing for good, so that a missing method alone does not ask for it.
  FUSE_NO_OPENDIR_SUPPORT: onRequest('FUSE_NO_OPENDIR_SUPPORT'),
  FUSE_EXPLICIT_INVAL_DATA: onRequest('FUSE_EXPLICIT_INVAL_DATA'),
  FUSE_MAP_ALIGNMENT: never(DAX),
  FUSE_SUBMOUNTS: never('only virtiofs offers it: its server has mounts of its own below the shared folder'),
  FUSE_HANDLE_KILLPRIV_V2: onRequest('FUSE_HANDLE_KILLPRIV_V2'),
  FUSE_SETXATTR_EXT: withMethods('setxattr'),
  FUSE_INIT_EXT: always,
  FUSE_INIT_RESERVED: never('reserved: no kernel sets it'),
  FUSE_SECURITY_CTX: onRequest(
    'FUSE_SECURITY_CTX',
    (want) => headerHasExtensionLength(want.minor) || 'a kernel before 7.38 does not say where the labels begin',
  ),
  FUSE_HAS_INODE_DAX: never(DAX),
  FUSE_CREATE_SUPP_GROUP: always,
  FUSE_HAS_EXPIRE_ONLY: always,
  FUSE_DIRECT_IO_ALLOW_MMAP: always,
  FUSE_PASSTHROUGH: onRequest('FUSE_PASSTHROUGH', ({ settings }) => {
    if (settings.backing === false) return 'backing files are switched off';
    if (settings.writeback) return WITHOUT_WRITEBACK;
    return (settings.mayRegisterBackingFiles ?? true) || 'backing files need CAP_SYS_ADMIN in the first user namespace';
  }),
  FUSE_NO_EXPORT_SUPPORT: onRequest('FUSE_NO_EXPORT_SUPPORT'),
  FUSE_HAS_RESEND: always,
  FUSE_ALLOW_IDMAP: onRequest('FUSE_ALLOW_IDMAP'),
  FUSE_OVER_IO_URING: bySetting((want) => want.settings.ring === true || 'the device serves this mount'),
  FUSE_REQUEST_TIMEOUT: bySetting((want) => want.settings.requestTimeoutSeconds !== undefined || 'no time limit was asked for'),
};

/** Capabilities and settings that break together, or that lack what they stand on. */
interface Clash {
  readonly flag: InitFlag;
  /** Whether it breaks; asked only where the flag is wanted. */
  breaks(want: Wishes): boolean;
  readonly reason: string;
}

const lacks =
  (...methods: string[]) =>
  (want: Wishes): boolean =>
    !methods.every(want.has);

const CLASHES: readonly Clash[] = [
  {
    flag: 'FUSE_WRITEBACK_CACHE',
    breaks: lacks('setattr'),
    reason: 'the write-back cache needs a setattr method: the kernel owns the times then and hands them over through it',
  },
  {
    flag: 'FUSE_ALLOW_IDMAP',
    // The kernel turns default_permissions on by itself where it enforces access control lists.
    breaks: (want) => !want.settings.defaultPermissions && !want.asked('FUSE_POSIX_ACL'),
    reason: 'idmapped mounts need the mount option default_permissions: requests carry no user to check',
  },
  {
    flag: 'FUSE_ATOMIC_O_TRUNC',
    breaks: lacks('open'),
    reason: 'FUSE_ATOMIC_O_TRUNC needs an open method: without one nobody would hear that a file is to be truncated',
  },
  {
    flag: 'FUSE_EXPORT_SUPPORT',
    breaks: (want) => lacks('lookup')(want) || want.asked('FUSE_NO_EXPORT_SUPPORT'),
    reason: 'FUSE_EXPORT_SUPPORT needs a lookup method that finds "." and "..", and contradicts FUSE_NO_EXPORT_SUPPORT',
  },
  {
    flag: 'FUSE_POSIX_ACL',
    breaks: lacks('getxattr', 'setxattr', 'removexattr'),
    reason: 'FUSE_POSIX_ACL needs getxattr, setxattr and removexattr: access control lists travel as extended attributes',
  },
  {
    flag: 'FUSE_POSIX_ACL',
    breaks: (want) => !want.asked('FUSE_DONT_MASK'),
    reason:
      'FUSE_POSIX_ACL needs FUSE_DONT_MASK: a default list takes the place of the umask, which only the filesystem can tell',
  },
  {
    flag: 'FUSE_PASSTHROUGH',
    breaks: lacks('open'),
    reason: 'FUSE_PASSTHROUGH needs an open method: its answer offers the backing file',
  },
  {
    flag: 'FUSE_PASSTHROUGH',
    breaks: ({ settings }) => settings.backing === true && settings.writeback === true,
    reason: `${WITHOUT_WRITEBACK}; mount without the setting backing, or without writeback`,
  },
  {
    flag: 'FUSE_NO_OPENDIR_SUPPORT',
    breaks: (want) => want.has('opendir'),
    reason: 'FUSE_NO_OPENDIR_SUPPORT was asked for, but the filesystem has an opendir method, which would never be called',
  },
  {
    flag: 'FUSE_AUTO_INVAL_DATA',
    breaks: (want) => want.asked('FUSE_EXPLICIT_INVAL_DATA'),
    reason: 'FUSE_AUTO_INVAL_DATA and FUSE_EXPLICIT_INVAL_DATA contradict each other: ask for one',
  },
  {
    flag: 'FUSE_HANDLE_KILLPRIV_V2',
    breaks: lacks('setattr'),
    reason: 'FUSE_HANDLE_KILLPRIV_V2 needs a setattr method: it is where most set-id bits are to be taken away',
  },
  {
    flag: 'FUSE_HANDLE_KILLPRIV',
    breaks: lacks('setattr'),
    reason: 'FUSE_HANDLE_KILLPRIV needs a setattr method: it is where most set-id bits are to be taken away',
  },
];

/** Which setting of the mount decides on a flag that only settings decide on. */
const SETTING_OF: { readonly [Flag in InitFlag]?: keyof SessionSettings } = {
  FUSE_READDIRPLUS_AUTO: 'readdirplus',
  FUSE_ASYNC_DIO: 'asyncDio',
  FUSE_OVER_IO_URING: 'ring',
  FUSE_WRITEBACK_CACHE: 'writeback',
  FUSE_REQUEST_TIMEOUT: 'requestTimeoutSeconds',
};

function refuse(message: string): never {
  throw new NegotiationError('ERR_FUSEWIRE_CAPABILITY', message);
}

/** Combinations that break: refused before anything is mounted. Throws {@link NegotiationError}. */
export function assertSensible(capabilities: Capabilities, settings: SessionSettings): void {
  const want = wishes(capabilities, settings, () => true);
  for (const flag of [...capabilities.requested, ...(settings.refuseFlags ?? [])]) {
    if (CAPABILITIES[flag] === undefined) refuse(`${flag} is no INIT flag of this protocol`);
  }
  for (const flag of capabilities.requested) {
    const { kind, decide } = CAPABILITIES[flag];
    if (kind === 'setting') refuse(`${flag} cannot be asked for: it is the setting ${SETTING_OF[flag]} of the mount`);
    const decision = decide(want);
    if (decision !== true && (kind === 'refused' || kind === 'method')) refuse(`${flag} cannot be asked for: ${decision}`);
  }
  for (const { flag, breaks, reason } of CLASHES) {
    const wanted = CAPABILITIES[flag].kind === 'setting' ? CAPABILITIES[flag].decide(want) === true : want.asked(flag);
    if (wanted && breaks(want)) refuse(reason);
  }
  if (settings.backing === true && !want.asked('FUSE_PASSTHROUGH')) {
    refuse('the setting backing needs a filesystem that asks for FUSE_PASSTHROUGH and offers its files in the answers to open');
  }
  range('maxStackDepth', settings.maxStackDepth, 1, 2);
  range('maxWrite', settings.maxWrite, PAGE_BYTES, 16 << 20);
  range('maxPages', settings.maxPages, 1, 4096);
  range('maxBackground', settings.maxBackground, 1, 65535);
  range('congestionThreshold', settings.congestionThreshold, 1, 65535);
  range('maxReadahead', settings.maxReadahead, 0, 0xffffffff);
  range('requestTimeoutSeconds', settings.requestTimeoutSeconds, 1, 65535);
  range('timeGranularityNs', settings.timeGranularityNs, 1, 1_000_000_000);
}

function wishes(
  capabilities: Capabilities,
  settings: SessionSettings,
  offered: (flag: InitFlag) => boolean,
  minor = FUSE_KERNEL_MINOR_VERSION,
): Wishes {
  const methods = new Set(capabilities.methods);
  const requested = new Set(capabilities.requested);
  return { settings, has: (method) => methods.has(method), asked: (flag) => requested.has(flag), offered, minor };
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
  if (init.major < FUSE_KERNEL_VERSION || (init.major === FUSE_KERNEL_VERSION && init.minor < MINOR_FLOOR)) {
    throw new NegotiationError(
      'ERR_FUSEWIRE_KERNEL_TOO_OLD',
      `the kernel speaks FUSE ${init.major}.${init.minor}; fusewire needs 7.${MINOR_FLOOR} (Linux 4.18) or newer`,
    );
  }
  assertSensible(capabilities, settings);
  const offered = decodeInitFlags(init.flags, init.flags2);
  const unwanted = new Set(settings.refuseFlags);
  const want = wishes(capabilities, settings, (flag) => offered.has(flag) && !unwanted.has(flag), init.minor);
  const flags = new Set<InitFlag>();
  const refused = new Map<InitFlag, string>();
  for (const flag of offered) {
    const decision = decide(flag, want, unwanted);
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
    maxStackDepth: flags.has('FUSE_PASSTHROUGH') ? (settings.maxStackDepth ?? 1) : 0,
    requestTimeoutSeconds: flags.has('FUSE_REQUEST_TIMEOUT') ? (settings.requestTimeoutSeconds ?? 0) : 0,
  };
}

/** The first bit of the second word of flags, which counts only with FUSE_INIT_EXT. */
const SECOND_WORD_BIT = 32;

function decide(flag: InitFlag, want: Wishes, unwanted: ReadonlySet<InitFlag>): Decision {
  if (unwanted.has(flag)) return 'the settings refuse it';
  if (unwanted.has('FUSE_INIT_EXT') && initFlagRow(flag).bit >= SECOND_WORD_BIT) return 'FUSE_INIT_EXT is refused';
  return CAPABILITIES[flag].decide(want);
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
    // Padding to a kernel that did not offer the flag.
    max_pages: negotiated.flags.has('FUSE_MAX_PAGES') ? wantedPages : 0,
    map_alignment: 0,
    flags2,
    max_stack_depth: negotiated.maxStackDepth,
    request_timeout: negotiated.requestTimeoutSeconds,
  };
}
