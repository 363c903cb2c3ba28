import { constants as fsConstants } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { type Addon, loadAddon } from '../native/index.ts';
import { CloneError } from './errors.ts';
import type { Recorder } from './record.ts';

const { ENOTTY, EINVAL } = osConstants.errno;
const AT_FDCWD = -100;
/** FUSE_DEV_IOC_CLONE: _IOR(229, 0, u32) of linux/fuse.h. */
const FUSE_DEV_IOC_CLONE = 0x8004e500;

export interface ClonedDevice {
  readonly fd: number;
  /**
   * True for a duplicate, on kernels before 4.2 or where the clone was refused: it shares one open file, and with it
   * O_NONBLOCK, with the original. Then every channel of the mount must have the same mode.
   */
  readonly isShared: boolean;
}

/**
 * Another descriptor for the connection of `fd`: a clone with a queue of its own for what it has received
 * (FUSE_DEV_IOC_CLONE). A request that was received through a clone must be answered through it; closing the clone fails
 * what is unanswered with ECONNABORTED.
 *
 * `recorder`: records the call.
 *
 * @throws {CloneError} when /dev/fuse does not open, or `fd` is not attached to a mount (EPERM).
 */
export function cloneDevice(fd: number, addon: Addon = loadAddon(), recorder?: Recorder): ClonedDevice {
  const clone = addon.openat(AT_FDCWD, '/dev/fuse', fsConstants.O_RDWR, 0);
  if (clone < 0) throw new CloneError('open of /dev/fuse', -clone);
  new Uint32Array(addon.scratch, 0, 1)[0] = fd;
  const status = addon.ioctlBuffer(clone, FUSE_DEV_IOC_CLONE, 0, 0);
  recorder?.ioctl(FUSE_DEV_IOC_CLONE, new Uint8Array(addon.scratch.slice(0, 4)), status);
  if (status >= 0) return { fd: clone, isShared: false };
  addon.close(clone);
  if (-status !== ENOTTY && -status !== EINVAL) throw new CloneError('FUSE_DEV_IOC_CLONE', -status);
  const duplicate = addon.dup(fd);
  if (duplicate < 0) throw new CloneError('dup', -duplicate);
  return { fd: duplicate, isShared: true };
}
