/** `fusewire passthrough` and `fusewire mount`: mount, wait for the end, unmount. */
import { existsSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Mount, MountError, type MountSettings, mount } from '../mount/index.ts';
import type { Command, ServeOptions } from './arguments.ts';
import { CliError, EXIT } from './exit.ts';
import { Output } from './output.ts';
import { makePlayground } from './playground.ts';

/**
 * The passthrough's module, beside this file in the package: `dist/src/cli/serve.js` finds
 * `dist/examples/passthrough/filesystem.js`, and in a checkout `src/cli/serve.ts` finds the `.ts`.
 */
const PASSTHROUGH_MODULE = new URL(
  `../../examples/passthrough/filesystem${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`,
  import.meta.url,
);

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** A signal ends the program within 2 s: after this long the mount is detached and the process exits, whatever is pending. */
const SIGNAL_LIMIT_MS = 1500;

export async function passthrough(command: Extract<Command, { name: 'passthrough' }>): Promise<number> {
  const { options, places } = command;
  if (places !== undefined) {
    const source = resolve(places.source);
    if (!isFolder(source)) throw new MountError('ERR_FUSEWIRE_SOURCE_MISSING', source);
    return serve(PASSTHROUGH_MODULE, source, places.mountpoint, { source, ...passthroughOptions(options) }, options);
  }
  const playground = makePlayground();
  const remove = () => playground.remove();
  try {
    const { source, mountpoint, hint } = playground;
    return await serve(PASSTHROUGH_MODULE, source, mountpoint, { source, ...passthroughOptions(options) }, options, () => {
      // Registered after the mount's own listener, so that the mount is gone when this one runs.
      process.once('exit', remove);
      return hint;
    });
  } finally {
    remove();
    process.off('exit', remove);
  }
}

export function mountModule(command: Extract<Command, { name: 'mount' }>): Promise<number> {
  const { module, mountpoint, options } = command;
  return serve(findModule(module), module, mountpoint, { arguments: command.arguments, ...moduleOptions(options) }, options);
}

function moduleOptions({ cache, writeback, readOnly }: ServeOptions) {
  return { cache, writeback, readOnly };
}

function passthroughOptions(options: ServeOptions) {
  return { ...moduleOptions(options), noAccessTimes: options.mountOptions.split(',').includes('noatime') };
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/** A path, or the name of a package that the working directory can see. */
function findModule(module: string): string {
  if (module.startsWith('file:')) return fileURLToPath(module);
  const path = resolve(module);
  if (existsSync(path)) return path;
  try {
    return createRequire(join(process.cwd(), 'package.json')).resolve(module);
  } catch {
    return path;
  }
}

async function serve(
  module: string | URL,
  source: string,
  mountpoint: string,
  options: object,
  settings: ServeOptions,
  onMounted?: () => string,
): Promise<number> {
  const output = new Output(settings.json);
  const ending = new Ending(output);
  try {
    const mounted = await mount({ module, options }, mountpoint, mountSettings(settings, source));
    const hint = onMounted?.();
    const { workers, mode, negotiated, connection } = mounted;
    output.event(
      {
        event: 'mounted',
        source,
        mountpoint: mounted.mountpoint,
        pid: process.pid,
        workers,
        mode,
        minor: negotiated.minor,
        connection,
        backing: negotiated.flags.has('FUSE_PASSTHROUGH'),
      },
      `mounted ${source} at ${mounted.mountpoint} ` +
        `(${workers} ${workers === 1 ? 'worker' : 'workers'}, ${mode}, FUSE 7.${negotiated.minor}, pid ${process.pid})${withoutBacking(settings, negotiated)}`,
    );
    if (hint !== undefined) output.text(hint);
    ending.attach(mounted);
    const { reason } = await mounted.closed;
    output.event({ event: 'unmounted', mountpoint: mounted.mountpoint, reason }, `unmounted ${mounted.mountpoint}`);
    if (reason === 'unmounted' || reason === 'closed') return EXIT.OK;
    throw new CliError(`The connection of ${mounted.mountpoint} ${reason}; mount it again.`, 'ERR_FUSEWIRE_CONNECTION');
  } finally {
    ending.off();
  }
}

/** Why there are no backing files although they were asked for. */
function withoutBacking(settings: ServeOptions, { flags, refused }: Mount['negotiated']): string {
  if (settings.backing !== true || flags.has('FUSE_PASSTHROUGH')) return '';
  return `, without backing files: ${refused.get('FUSE_PASSTHROUGH') ?? 'this kernel has none'}`;
}

function mountSettings(settings: ServeOptions, source: string): MountSettings {
  const { cache: _cache, json: _json, ...rest } = settings;
  return { ...rest, name: source, signals: false };
}

/** Signals: the first one unmounts, the second one exits at once. Those that come while the mount is being made wait for it. */
class Ending {
  readonly #output: Output;
  #mounted: Mount | undefined;
  #signal: NodeJS.Signals | undefined;
  readonly #listener = (signal: NodeJS.Signals): void => {
    if (this.#signal !== undefined) process.exit(EXIT.OS_ERROR);
    this.#signal = signal;
    this.#end(signal);
  };

  constructor(output: Output) {
    this.#output = output;
    for (const signal of SIGNALS) process.on(signal, this.#listener);
  }

  attach(mounted: Mount): void {
    this.#mounted = mounted;
    if (this.#signal !== undefined) this.#end(this.#signal);
  }

  off(): void {
    for (const signal of SIGNALS) process.off(signal, this.#listener);
  }

  #end(signal: NodeJS.Signals): void {
    const mounted = this.#mounted;
    if (mounted === undefined) return;
    this.#output.event({ event: 'unmounting', cause: signal });
    // The listeners of `exit` detach the mount. The timer must not keep a process alive that has ended well before.
    setTimeout(() => process.exit(EXIT.OK), SIGNAL_LIMIT_MS).unref();
    mounted.unmount().catch(() => process.exit(EXIT.OK));
  }
}
