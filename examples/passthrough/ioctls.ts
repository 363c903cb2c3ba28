/** The ioctls that files of ordinary filesystems answer: inode flags, extended flags and projects, generation numbers. */
import { FuseError, type IoctlReply, type IoctlRequest } from 'fusewire';
import type { Callers } from './callers.ts';
import { check, type Host } from './host.ts';
import { ENOTTY } from './linux.ts';

/**
 * Bytes that the host reads or writes at the argument, by command (<linux/fs.h>). An ioctl that is not here could take its
 * argument for a pointer into the caller's memory, which is not this process's, so it is refused.
 */
const ARGUMENT_BYTES = new Map<number, number>([
  [0x80086601, 4], // FS_IOC_GETFLAGS. Its number says long; every filesystem of Linux reads and writes an int.
  [0x40086602, 4], // FS_IOC_SETFLAGS
  [0x80046601, 4], // FS_IOC32_GETFLAGS
  [0x40046602, 4], // FS_IOC32_SETFLAGS
  [0x80087601, 8], // FS_IOC_GETVERSION
  [0x801c581f, 28], // FS_IOC_FSGETXATTR
  [0x401c5820, 28], // FS_IOC_FSSETXATTR
  [0x81009431, 256], // FS_IOC_GETFSLABEL
  [0x80111500, 17], // FS_IOC_GETFSUUID
]);

const SETTING = new Set([0x40086602, 0x40046602, 0x401c5820]);

/** Whether a command changes what the file is like. */
export function changesFlags(command: number): boolean {
  return SETTING.has(command);
}

export class Ioctls {
  readonly #host: Host;
  readonly #callers: Callers;
  readonly #argument: Uint8Array;

  constructor(host: Host, callers: Callers) {
    this.#host = host;
    this.#callers = callers;
    this.#argument = new Uint8Array(host.addon.scratch, 0, 256);
  }

  /** As the caller, because the host lets only the owner change flags, and only root some of them. */
  run(fd: number, request: IoctlRequest): IoctlReply {
    const bytes = ARGUMENT_BYTES.get(request.command);
    if (bytes === undefined) throw FuseError.of(ENOTTY);
    this.#argument.fill(0, 0, bytes);
    this.#argument.set(request.data.subarray(0, bytes));
    const result = check(this.#callers.run(request, () => this.#host.addon.ioctlBuffer(fd, request.command, 0, 0)));
    return { result, data: this.#argument.subarray(0, Math.min(bytes, request.outSize)) };
  }
}
