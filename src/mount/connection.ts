/** What the kernel tells of a FUSE connection from outside: its number, its control files, the mount it belongs to. */
import { closeSync, fstatSync, openSync, readFileSync, readlinkSync, writeSync } from 'node:fs';
import { type Addon, fromBinary } from '../native/index.ts';
import { readMountInfo } from './mountinfo.ts';

/** Where fusectl is mounted when it is; one directory for each connection, named by its number. */
export const FUSECTL_PATH = '/sys/fs/fuse/connections';

/** /dev/fuse: misc device 10, minor 229 (FUSE_MINOR in <linux/miscdevice.h>). */
const FUSE_DEVICE_MAJOR = 10;
const FUSE_DEVICE_MINOR = 229;

/** poll(2). */
const POLLERR = 0x8;

/** Whether `fd` is an open /dev/fuse, whatever the path it was opened by. Does not touch a filesystem served by FUSE. */
export function isFuseDevice(fd: number): boolean {
  try {
    const { rdev } = fstatSync(fd);
    // The encoding of makedev(3) for the numbers that fit 12 and 8 bits.
    if (((rdev >> 8) & 0xfff) === FUSE_DEVICE_MAJOR && (rdev & 0xff) === FUSE_DEVICE_MINOR) return true;
    return readlinkSync(`/proc/self/fd/${fd}`) === '/dev/fuse';
  } catch {
    return false;
  }
}

/** The number of the connection that `fd` is attached to, from /proc/self/fdinfo; undefined on older kernels, which do not say. */
export function connectionOf(fd: number): number | undefined {
  try {
    const match = /^fuse_connection:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'));
    return match === null ? undefined : Number(match[1]);
  } catch {
    return undefined;
  }
}

/** Whether `fd` is attached to a connection that lives: fuse_dev_poll answers POLLERR before the mount and after its end. */
export function isConnected(addon: Addon, fd: number): boolean {
  const revents = addon.poll(fd, 0, 0);
  return revents >= 0 && (revents & POLLERR) === 0;
}

/** Where fusectl is mounted, by the list of mounts: usually {@link FUSECTL_PATH}. */
export function findFusectl(): string | undefined {
  const mount = readMountInfo().find((candidate) => candidate.type === 'fusectl' && candidate.root === '/');
  return mount === undefined ? undefined : fromBinary(mount.mountPoint);
}

/**
 * Aborts a connection through its control file. False where fusectl is not mounted, or not ours to write, and where `isStill` says
 * no: the kernel gives the number of a connection that ended to the next one at once, so `isStill` has to tell, without
 * waiting, whether the connection that is meant lives. It is asked between opening the file and writing, because an open control
 * file stays that of its connection: when the one that is meant lives after the opening, it is the one that was opened.
 */
export function abortConnection(connection: number, isStill: () => boolean): boolean {
  const fusectl = findFusectl();
  if (fusectl === undefined) return false;
  try {
    // 'r+' opens without O_CREAT and O_TRUNC: a connection that is gone gives ENOENT.
    const file = openSync(`${fusectl}/${connection}/abort`, 'r+');
    try {
      if (!isStill()) return false;
      writeSync(file, '1');
      return true;
    } finally {
      closeSync(file);
    }
  } catch {
    return false;
  }
}
