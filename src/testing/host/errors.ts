import { inspect } from 'node:util';
import { errnoName } from '../../native/index.ts';

/** A system call failed. `code` and `errno` look as in errors of node:fs. */
export class CallError extends Error {
  override readonly name = 'CallError';
  readonly code: string;
  /** Negative. */
  readonly errno: number;
  readonly syscall: string;

  constructor(errno: number, syscall: string, args: readonly unknown[]) {
    const code = errnoName(errno);
    super(`${code}: ${describeCall(syscall, args)}`);
    this.code = code;
    this.errno = errno;
    this.syscall = syscall;
  }
}

/** Why a process of a test cannot go on. `code` is stable. */
export class HostProcessError extends Error {
  override readonly name = 'HostProcessError';
  readonly code: 'ERR_FUSEWIRE_CALL_HUNG' | 'ERR_FUSEWIRE_PROCESS_ENDED' | 'ERR_FUSEWIRE_CALL_FAILED' | 'ERR_FUSEWIRE_IDENTITY';

  constructor(code: HostProcessError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

/** A call as one would write it: `mkdir("/a", 493)`. */
export function describeCall(syscall: string, args: readonly unknown[]): string {
  return `${syscall}(${args
    .filter((value) => value !== undefined)
    .map(brief)
    .join(', ')})`;
}

function brief(value: unknown): string {
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
  if (typeof value === 'object' && value !== null) return inspect(value, { compact: true });
  return String(value);
}
