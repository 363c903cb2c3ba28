/** Exit codes, after sysexits.h, and how errors are shown. */

export const EXIT = {
  OK: 0,
  USAGE: 64,
  DATA: 65,
  NO_INPUT: 66,
  UNAVAILABLE: 69,
  SOFTWARE: 70,
  OS_ERROR: 71,
  BUSY: 75,
  NO_PERMISSION: 77,
} as const;

/** Shown by --help, and the only list of what each code means. */
export const EXIT_HELP = `Exit codes
  0   unmounted, by a signal or from outside; or the command did its work
  64  the command line is wrong
  65  a trace does not decode to itself, or its replay went another way
  66  the source, the mount point or the module is not there or not what it should be
  69  this machine or this version lacks something: /dev/fuse, fusermount3, a newer kernel
  70  the filesystem's module failed
  71  the kernel refused, or the mount ended with an error
  75  the mount point is busy
  77  you are not permitted`;

const EXIT_BY_CODE: Readonly<Record<string, number>> = {
  ERR_FUSEWIRE_USAGE: EXIT.USAGE,
  ERR_FUSEWIRE_OPTION: EXIT.USAGE,
  ERR_FUSEWIRE_WORKERS: EXIT.USAGE,
  ERR_FUSEWIRE_SETTING: EXIT.USAGE,
  ERR_FUSEWIRE_CAPABILITY: EXIT.USAGE,
  ERR_FUSEWIRE_BAD_OPTION: EXIT.USAGE,
  ERR_FUSEWIRE_UNKNOWN_OPTION: EXIT.USAGE,
  ERR_FUSEWIRE_BAD_DESCRIPTOR: EXIT.USAGE,
  ERR_FUSEWIRE_SOURCE: EXIT.NO_INPUT,
  ERR_FUSEWIRE_SOURCE_MISSING: EXIT.NO_INPUT,
  ERR_FUSEWIRE_MOUNTPOINT_MISSING: EXIT.NO_INPUT,
  ERR_FUSEWIRE_MOUNTPOINT_NOT_DIRECTORY: EXIT.NO_INPUT,
  ERR_FUSEWIRE_MODULE_MISSING: EXIT.NO_INPUT,
  ERR_FUSEWIRE_MODULE_INVALID: EXIT.NO_INPUT,
  ERR_FUSEWIRE_UNKNOWN_METHOD: EXIT.NO_INPUT,
  ERR_FUSEWIRE_TYPESCRIPT: EXIT.UNAVAILABLE,
  ERR_FUSEWIRE_NOT_MOUNTED: EXIT.NO_INPUT,
  ERR_FUSEWIRE_ADDON_MISSING: EXIT.UNAVAILABLE,
  ERR_FUSEWIRE_NO_DEVICE: EXIT.UNAVAILABLE,
  ERR_FUSEWIRE_NO_HELPER: EXIT.UNAVAILABLE,
  ERR_FUSEWIRE_PROC: EXIT.UNAVAILABLE,
  ERR_FUSEWIRE_RING: EXIT.UNAVAILABLE,
  ERR_FUSEWIRE_KERNEL_TOO_OLD: EXIT.UNAVAILABLE,
  ERR_FUSEWIRE_WORKER_LOAD: EXIT.SOFTWARE,
  ERR_FUSEWIRE_WORKER_DIED: EXIT.SOFTWARE,
  ERR_FUSEWIRE_MOUNTPOINT_BUSY: EXIT.BUSY,
  ERR_FUSEWIRE_UNMOUNT_FAILED: EXIT.BUSY,
  ERR_FUSEWIRE_MOUNTPOINT_NOT_PERMITTED: EXIT.NO_PERMISSION,
  ERR_FUSEWIRE_NO_PERMISSION: EXIT.NO_PERMISSION,
  ERR_FUSEWIRE_ALLOW_OTHER: EXIT.NO_PERMISSION,
  ERR_FUSEWIRE_NOT_OURS: EXIT.NO_PERMISSION,
  ERR_FUSEWIRE_MOUNT_FAILED: EXIT.OS_ERROR,
  ERR_FUSEWIRE_HELPER_FAILED: EXIT.OS_ERROR,
  ERR_FUSEWIRE_CONNECTION: EXIT.OS_ERROR,
  ERR_FUSEWIRE_INIT: EXIT.OS_ERROR,
  ERR_FUSEWIRE_CLONE: EXIT.OS_ERROR,
  ERR_FUSEWIRE_TRACE_SETTING: EXIT.USAGE,
  ERR_FUSEWIRE_TRACE_OPEN: EXIT.NO_INPUT,
  ERR_FUSEWIRE_TRACE_FORMAT: EXIT.NO_INPUT,
  ERR_FUSEWIRE_TRACE_LINE: EXIT.NO_INPUT,
  ERR_FUSEWIRE_TRACE_DAMAGED: EXIT.NO_INPUT,
  ERR_FUSEWIRE_TRACE_READ: EXIT.NO_INPUT,
  ERR_FUSEWIRE_TRACE_VERSION: EXIT.UNAVAILABLE,
  ERR_FUSEWIRE_TRACE_WRITE: EXIT.OS_ERROR,
};

/** An error that the command line itself finds. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly code: 'ERR_FUSEWIRE_USAGE' | 'ERR_FUSEWIRE_CONNECTION';

  constructor(message: string, code: CliError['code'] = 'ERR_FUSEWIRE_USAGE') {
    super(message);
    this.code = code;
  }
}

export interface ShownError {
  readonly code: string;
  /** One line. */
  readonly message: string;
  readonly exitCode: number;
}

/** What to show of an error. One without a code of ours is a failure of the author's module or of this program. */
export function showError(error: unknown): ShownError {
  const { code, message } = (typeof error === 'object' && error !== null ? error : { message: error }) as {
    code?: unknown;
    message?: unknown;
  };
  const known = typeof code === 'string' && code.startsWith('ERR_FUSEWIRE_') ? code : 'ERR_FUSEWIRE_FAILED';
  const text = String(message).split('\n', 1)[0] as string;
  return { code: known, message: text, exitCode: EXIT_BY_CODE[known] ?? EXIT.SOFTWARE };
}
