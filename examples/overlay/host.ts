/** The few system calls that node:fs has not, or not exactly. */
import { lstatSync } from 'node:fs';
import { FuseError, splitDevice } from 'fusewire';
import { loadAddon } from 'fusewire/native';

const addon = loadAddon();

// <fcntl.h>, <linux/fs.h>, <sys/stat.h>
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_EMPTY_PATH = 0x1000;
const RENAME_EXCHANGE = 2;
const UTIME_OMIT = 0x3ffffffe;
const NANOSECONDS = 1_000_000_000n;

function check(result: number): void {
  if (result < 0) throw FuseError.of(result);
}

/** What is at a path itself; undefined where there is nothing. */
export function statOf(path: string) {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false });
}

/** Sets times in nanoseconds since 1970, of a path (never through a symbolic link) or of a descriptor. */
export function setTimes(target: string | number, atime: bigint | undefined, mtime: bigint | undefined): void {
  const part = (time: bigint | undefined): [number, number] => {
    if (time === undefined) return [0, UTIME_OMIT];
    const nanoseconds = ((time % NANOSECONDS) + NANOSECONDS) % NANOSECONDS;
    return [Number((time - nanoseconds) / NANOSECONDS), Number(nanoseconds)];
  };
  const times = [...part(atime), ...part(mtime)] as const;
  if (typeof target === 'number') check(addon.utimensat(target, '', ...times, AT_EMPTY_PATH));
  else check(addon.utimensat(AT_FDCWD, target, ...times, AT_SYMLINK_NOFOLLOW));
}

/** Swaps two names in one step. */
export function exchange(one: string, other: string): void {
  check(addon.renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE));
}

/** A FIFO, socket or device; `rdev` is the kernel's encoding. */
export function makeSpecial(path: string, mode: number, rdev: number): void {
  const { major, minor } = splitDevice(rdev);
  check(addon.mknodat(AT_FDCWD, path, mode, major, minor));
}

/** fallocate(2) of an open file. */
export function allocate(fd: number, mode: number, offset: number, length: number): void {
  check(addon.fallocate(fd, mode, offset, length));
}
