import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';

/** Errno numbers of this machine by name: `ENOENT` → 2. */
export const ERRNO: Readonly<Record<string, number>> = constants.errno;

const NAMES = new Map<number, string>(Object.entries(constants.errno).map(([name, value]) => [value, name]));
// Two names share a number on Linux; the one users know wins.
NAMES.set(constants.errno.EAGAIN, 'EAGAIN');
NAMES.set(constants.errno.EOPNOTSUPP, 'EOPNOTSUPP');

/** `ENOENT` for 2; `errno 400` for a number without a name. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `errno ${errno}`;
}

export interface FuseErrorDetails {
  /** The operation that failed, as `lookup`. */
  syscall?: string;
  path?: string;
  cause?: unknown;
}

/**
 * An error with an errno: what a filesystem throws, and what the caller of the system call receives. It looks as errors of
 * node:fs do: `code` (`ENOENT`), `errno` (-2), `syscall` and `path` where they were given, and a message like
 * `ENOENT: no such file or directory, lookup '/a'`.
 */
export class FuseError extends Error {
  override readonly name = 'FuseError';
  readonly code: string;
  /** Negative, as in errors of node:fs. */
  readonly errno: number;
  declare readonly syscall?: string;
  declare readonly path?: string;

  /** `errno` is a name or a positive number from 1 to 511, the range that the kernel accepts in an answer. */
  constructor(errno: string | number, details: string | FuseErrorDetails = {}) {
    const number = typeof errno === 'string' ? ERRNO[errno] : errno;
    if (number === undefined || !Number.isInteger(number) || number < 1 || number > ERRNO_MAX) {
      throw new RangeError(`an errno is a name like ENOENT or a number from 1 to ${ERRNO_MAX}, not ${errno}`);
    }
    const given = typeof details === 'string' ? {} : details;
    super(
      typeof details === 'string' ? details : messageFor(number, given),
      'cause' in given ? { cause: given.cause } : undefined,
    );
    this.errno = -number;
    this.code = errnoName(number);
    if (given.syscall !== undefined) this.syscall = given.syscall;
    if (given.path !== undefined) this.path = given.path;
  }

  static readonly #shared = new Map<number, FuseError>();

  /**
   * One shared error per errno, without a stack: what hot paths throw. Costs a look-up. Never decorate it.
   * `errno` may be positive or negative.
   */
  static of(errno: number): FuseError {
    const number = Math.abs(errno);
    let error = FuseError.#shared.get(number);
    if (error === undefined) {
      const limit = Error.stackTraceLimit;
      Error.stackTraceLimit = 0;
      error = new FuseError(number);
      Error.stackTraceLimit = limit;
      FuseError.#shared.set(number, error);
    }
    return error;
  }
}

const MESSAGES = getSystemErrorMap();

/** As node:fs words it. */
function messageFor(errno: number, { syscall, path }: FuseErrorDetails): string {
  const text = `${errnoName(errno)}: ${MESSAGES.get(-errno)?.[1] ?? 'error'}`;
  if (syscall === undefined) return path === undefined ? text : `${text}, '${path}'`;
  return path === undefined ? `${text}, ${syscall}` : `${text}, ${syscall} '${path}'`;
}

/** Largest errno that the kernel takes in an answer (fuse_dev_do_write refuses -512 and below). */
export const ERRNO_MAX = 511;

/**
 * The errno that an error means, positive; 0 when it carries none. Understands FuseError, errors of node:fs (negative
 * `errno`), anything with a `code` that names an errno, and AbortError (EINTR).
 */
export function errnoOf(error: unknown): number {
  try {
    return errnoIn(error);
  } catch {
    // A property of it threw.
    return 0;
  }
}

function errnoIn(error: unknown): number {
  if (typeof error !== 'object' || error === null) return 0;
  const { errno, code, name } = error as { errno?: unknown; code?: unknown; name?: unknown };
  if (typeof errno === 'number' && Number.isInteger(errno)) {
    const positive = Math.abs(errno);
    if (positive >= 1 && positive <= ERRNO_MAX) return positive;
  }
  if (typeof code === 'string') {
    const named = ERRNO[code];
    if (typeof named === 'number') return named;
  }
  return name === 'AbortError' ? ERRNO.EINTR : 0;
}

/** The name and message of whatever was thrown, which may be no error at all. Never throws. */
export function describeError(error: unknown): { readonly name: string; readonly message: string } {
  try {
    const { name, message } = (error ?? {}) as { name?: unknown; message?: unknown };
    return { name: String(name ?? ''), message: String(message ?? error) };
  } catch {
    return { name: '', message: typeof error };
  }
}
