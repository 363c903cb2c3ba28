import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';
import type { Addon } from './addon.ts';

/** How long the end of the process waits for threads that sleep in the kernel. A woken thread needs well under 1 ms. */
const EXIT_WAIT_MS = 1000;

/** Thrown where the native addon cannot be loaded. The protocol and the memory transport work without it. */
export class AddonMissingError extends Error {
  readonly code = 'ERR_FUSEWIRE_ADDON_MISSING';
  override readonly name = 'AddonMissingError';
}

/** The package's own folder, seen from `src/native` as from `dist/src/native`. */
function packageFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new AddonMissingError('The fusewire package has lost its package.json: install it again.');
    folder = parent;
  }
  return folder;
}

/** A build of this checkout wins over what came with the package. Of the two C libraries, the wrong one fails to load. */
function candidates(): string[] {
  const native = join(packageFolder(), 'native');
  const prebuilds = ['glibc', 'musl'].map((libc) => join(native, 'prebuilds', `linux-${process.arch}-${libc}`, 'fusewire.node'));
  return [join(native, 'build', 'Release', 'fusewire.node'), ...prebuilds];
}

/**
 * The main thread ends its workers when it exits, and waits for each; one that sleeps in read(2) would be waited for
 * for ever. The listener runs before that.
 */
function wakeThreadsAtExit(addon: Addon): void {
  if (isMainThread) process.once('exit', () => addon.stopBlockedThreads(EXIT_WAIT_MS));
}

function load(): Addon {
  const require = createRequire(import.meta.url);
  const failures: string[] = [];
  for (const path of candidates()) {
    if (!existsSync(path)) continue;
    try {
      const addon = require(path) as Addon;
      wakeThreadsAtExit(addon);
      return addon;
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  if (failures.length > 0) {
    throw new AddonMissingError(`The native addon does not load (${failures.join('; ')}): build it with "npm run build:native".`);
  }
  throw new AddonMissingError(
    `There is no native addon for ${process.platform}-${process.arch}: build it with "npm run build:native" in the fusewire package, which needs a C compiler and python3.`,
  );
}

let loaded: Addon | undefined;

/**
 * The addon of this thread, loaded at the first call. In the main thread this also makes the end of the process wake
 * every thread that sleeps in the kernel ({@link Addon.stopBlockedThreads}).
 *
 * @throws {AddonMissingError} where it cannot be loaded; the message says what to do.
 */
export function loadAddon(): Addon {
  loaded ??= load();
  return loaded;
}

/** As {@link loadAddon}, with `undefined` where the addon cannot be loaded. */
export function tryLoadAddon(): Addon | undefined {
  try {
    return loadAddon();
  } catch (error) {
    if (error instanceof AddonMissingError) return undefined;
    throw error;
  }
}
