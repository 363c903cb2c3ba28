/** fusermount3: the setuid helper of libfuse, by which an ordinary user mounts and unmounts. */
import { spawn } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Addon, errnoNumber } from '../native/index.ts';
import { spawnOptions } from './child.ts';
import { MountError, type MountErrorCode } from './errors.ts';

const NAMES = ['fusermount3', 'fusermount'];
/** Where helpers live when PATH does not say so; NixOS keeps its setuid wrappers apart. */
const FOLDERS = ['/usr/bin', '/bin', '/usr/local/bin', '/sbin', '/usr/sbin', '/run/wrappers/bin'];

/** The path of an executable in PATH or in one of the usual folders. */
export function findProgram(names: readonly string[], path = process.env.PATH ?? ''): string | undefined {
  const folders = [...path.split(delimiter).filter((folder) => folder.startsWith('/')), ...FOLDERS];
  for (const name of names) {
    for (const folder of folders) {
      const candidate = join(folder, name);
      try {
        accessSync(candidate, constants.X_OK);
        if (statSync(candidate).isFile()) return candidate;
      } catch {
        // Not here: look further.
      }
    }
  }
  return undefined;
}

export function findHelper(path?: string): string | undefined {
  return findProgram(NAMES, path);
}

export interface HelperMount {
  /** The attached device, FD_CLOEXEC. */
  readonly fd: number;
  /** With auto_unmount: our end of the socket; the helper unmounts a dead mount when it closes. */
  readonly socket: number | undefined;
}

export interface HelperMountSettings {
  addon: Addon;
  helper: string;
  /** The `-o` argument. */
  options: string;
  /** Absolute, resolved. */
  mountpoint: string;
  autoUnmount: boolean;
  timeoutMs: number;
}

/**
 * Mounts through the helper: it opens the device, mounts, and sends the descriptor over a socket that it finds by the
 * environment variable _FUSE_COMMFD. On failure it closes the socket and says why on stderr.
 */
export async function mountByHelper(settings: HelperMountSettings): Promise<HelperMount> {
  const { addon, helper, mountpoint, timeoutMs } = settings;
  const result = addon.socketPair();
  if (result < 0) throw new MountError('ERR_FUSEWIRE_HELPER_FAILED', helper, { errno: -result });
  const [ours, theirs] = new Int32Array(addon.scratch, 0, 2);
  const child = spawn(
    helper,
    ['-o', settings.options, '--', mountpoint],
    spawnOptions({ timeoutMs, descriptor: theirs, env: { _FUSE_COMMFD: '3' } }),
  );
  addon.close(theirs);
  let stderr = '';
  child.stdout?.resume();
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    if (stderr.length < 4096) stderr += text;
  });
  const exited = new Promise<string | undefined>((resolve) => {
    child.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    child.on('close', () => resolve(undefined));
  });
  const fd = await receiveDescriptor(addon, ours, timeoutMs);
  if (fd < 0) {
    if (fd === -errno('EAGAIN')) child.kill('SIGKILL');
    const startError = fd === -errno('EAGAIN') ? `no answer within ${timeoutMs} ms` : await exited;
    addon.close(ours);
    throw helperError(helper, mountpoint, startError ?? stderr);
  }
  if (settings.autoUnmount) {
    // The helper stays for as long as the mount: it must not keep this process from ending.
    for (const stream of [child.stdout, child.stderr]) (stream as unknown as { unref(): void } | null)?.unref();
    child.unref();
    return { fd, socket: ours };
  }
  addon.close(ours);
  await exited;
  return { fd, socket: undefined };
}

/** Waits on the event loop for one descriptor; -errno, EAGAIN after the time limit. */
function receiveDescriptor(addon: Addon, socket: number, timeoutMs: number): Promise<number> {
  return new Promise((resolve) => {
    const finish = (result: number) => {
      clearTimeout(timer);
      addon.unwatch(watch);
      resolve(result);
    };
    const timer = setTimeout(() => finish(-errno('EAGAIN')), timeoutMs);
    const watch = addon.watch(socket, () => {
      const result = addon.receiveDescriptor(socket, 0);
      if (result !== -errno('EAGAIN')) finish(result);
    });
  });
}

function errno(name: string): number {
  return errnoNumber(name) as number;
}

/** What the helper's words mean. They are those of fusermount 2.9 to 3.18. */
const PHRASES: readonly [RegExp, MountErrorCode][] = [
  [/user_allow_other/, 'ERR_FUSEWIRE_ALLOW_OTHER'],
  [/device not found|failed to open \S*fuse\S*: No such/i, 'ERR_FUSEWIRE_NO_DEVICE'],
  [/failed to open \S*fuse\S*: (Permission denied|Operation not permitted)/, 'ERR_FUSEWIRE_NO_PERMISSION'],
  [/mount failed: (Permission denied|Operation not permitted)/, 'ERR_FUSEWIRE_NO_PERMISSION'],
  [
    /not owned by user|no write access|failed to (chdir to|access) mountpoint.*Permission denied/,
    'ERR_FUSEWIRE_MOUNTPOINT_NOT_PERMITTED',
  ],
  [/mounting over filesystem type/, 'ERR_FUSEWIRE_MOUNTPOINT_NOT_PERMITTED'],
  [/unknown option/, 'ERR_FUSEWIRE_UNKNOWN_OPTION'],
  [/mount failed: Device or resource busy|not empty/, 'ERR_FUSEWIRE_MOUNTPOINT_BUSY'],
];

function helperError(helper: string, mountpoint: string, text: string): MountError {
  const detail = text.trim() === '' ? 'it said nothing' : text.trim();
  const code = PHRASES.find(([pattern]) => pattern.test(text))?.[1] ?? 'ERR_FUSEWIRE_HELPER_FAILED';
  if (code === 'ERR_FUSEWIRE_HELPER_FAILED') return new MountError(code, helper, { detail });
  if (code === 'ERR_FUSEWIRE_NO_DEVICE') return new MountError(code, '/dev/fuse', { detail });
  if (code === 'ERR_FUSEWIRE_NO_PERMISSION') return new MountError(code, 'mount through fusermount3', { detail });
  if (code === 'ERR_FUSEWIRE_UNKNOWN_OPTION')
    return new MountError(code, /unknown option '(.*)'/.exec(text)?.[1] ?? '', { detail });
  return new MountError(code, mountpoint, { detail });
}
