/** What Linux can do with the host's own files and node:fs cannot. Nothing of it without the native addon. */
import { FuseError, splitDevice } from '../filesystem/index.ts';
import { toBinary, tryLoadAddon } from '../native/index.ts';
import type { PathSource } from '../paths/index.ts';

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const UTIME_OMIT = 0x3ffffffe;
const RENAME_EXCHANGE = 2;
const NS_PER_SECOND = 1_000_000_000n;

/** `locate` gives the host's path. */
export function hostSource(locate: (path: string) => Promise<string>): PathSource {
  const addon = tryLoadAddon();
  if (addon === undefined) return {};
  const binary = async (path: string): Promise<string> => toBinary(await locate(path));
  return {
    async utimesNs(path, atime, mtime) {
      const [atimeSeconds, atimeNs] = split(atime);
      const [mtimeSeconds, mtimeNs] = split(mtime);
      const at = await binary(path);
      check(addon.utimensat(AT_FDCWD, at, atimeSeconds, atimeNs, mtimeSeconds, mtimeNs, AT_SYMLINK_NOFOLLOW));
    },
    async exchange(one, other) {
      check(addon.renameat2(AT_FDCWD, await binary(one), AT_FDCWD, await binary(other), RENAME_EXCHANGE));
    },
    async mknod(path, mode, rdev) {
      const { major, minor } = splitDevice(rdev);
      check(addon.mknodat(AT_FDCWD, await binary(path), mode, major, minor));
    },
  };
}

function split(ns: bigint | undefined): [seconds: number, nanoseconds: number] {
  if (ns === undefined) return [0, UTIME_OMIT];
  const nanoseconds = ((ns % NS_PER_SECOND) + NS_PER_SECOND) % NS_PER_SECOND;
  return [Number((ns - nanoseconds) / NS_PER_SECOND), Number(nanoseconds)];
}

function check(result: number): void {
  if (result < 0) throw FuseError.of(result);
}
