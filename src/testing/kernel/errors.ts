import { ERRNO, errnoName, errnoOf } from '../../session/index.ts';

/** A system call that failed. `code` and `errno` look as in errors of node:fs. */
export class SyscallError extends Error {
  override readonly name = 'SyscallError';
  readonly code: string;
  /** Negative. */
  readonly errno: number;
  readonly syscall: string;
  readonly path: string | undefined;

  constructor(errno: number, syscall: string, path?: string) {
    const code = errnoName(errno);
    super(`${code}, ${syscall}${path === undefined ? '' : ` '${path}'`}`);
    this.code = code;
    this.errno = -errno;
    this.syscall = syscall;
    this.path = path;
  }
}

/** An errno on its way through the simulated kernel; the system call makes a {@link SyscallError} of it. */
export class Errno extends Error {
  readonly errno: number;

  constructor(errno: number) {
    super(errnoName(errno));
    this.errno = errno;
  }
}

const shared = new Map<number, Errno>();

/** Throws an errno of this machine (a positive number). */
export function fail(errno: number): never {
  let error = shared.get(errno);
  if (error === undefined) {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    error = new Errno(errno);
    Error.stackTraceLimit = limit;
    shared.set(errno, error);
  }
  throw error;
}

/** The errno of whatever was thrown inside the kernel; anything else is a fault of the simulation and thrown on. */
export function errnoFrom(error: unknown): number {
  if (error instanceof Errno) return error.errno;
  throw error;
}

/** Wrong use of the simulated kernel, or a daemon that cannot be served. `code` is stable. */
export class SimulationError extends Error {
  override readonly name = 'SimulationError';
  readonly code: 'ERR_FUSEWIRE_SIMULATION_INIT' | 'ERR_FUSEWIRE_SIMULATION_OPTION' | 'ERR_FUSEWIRE_SIMULATION_ENDED';

  constructor(code: SimulationError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

export { ERRNO, errnoName, errnoOf };
