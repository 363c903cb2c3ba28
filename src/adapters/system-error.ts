import { getSystemErrorMap } from 'node:util';
import { ERRNO, errnoName, errnoOf } from '../filesystem/index.ts';

/** An error as node:fs makes it: `ENOENT: no such file or directory, open '/a'`, with errno, code, syscall, path and dest. */
export function systemError(
  errno: number,
  syscall: string,
  path?: string,
  dest?: string,
  cause?: unknown,
): NodeJS.ErrnoException {
  const [code, text] = getSystemErrorMap().get(-errno) ?? [errnoName(errno), errnoName(errno)];
  const where = `${path === undefined ? '' : ` '${path}'`}${dest === undefined ? '' : ` -> '${dest}'`}`;
  const error = new Error(`${code}: ${text}, ${syscall}${where}`, cause === undefined ? undefined : { cause });
  return Object.assign(error, {
    errno: -errno,
    code,
    syscall,
    ...(path === undefined ? {} : { path }),
    ...(dest === undefined ? {} : { dest }),
  });
}

/** What a filesystem threw, as node:fs would throw it. Without an errno it becomes EIO, with what was thrown as its cause. */
export function asSystemError(error: unknown, syscall: string, path?: string, dest?: string): unknown {
  // Wrong arguments of the caller, and errors that already tell where they come from.
  const { code, syscall: told } = (typeof error === 'object' && error !== null ? error : {}) as NodeJS.ErrnoException;
  if (told !== undefined || (typeof code === 'string' && code.startsWith('ERR_'))) return error;
  const errno = errnoOf(error);
  return errno === 0 ? systemError(ERRNO.EIO, syscall, path, dest, error) : systemError(errno, syscall, path, dest);
}
