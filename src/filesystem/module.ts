/**
 * The contract of a module that the worker pool loads: its default export is a filesystem, or a function that makes one
 * for each worker; an optional named export `shared` runs once, on the main thread, before any worker.
 */
import { fileURLToPath } from 'node:url';
import { typeScriptLoader } from '../session/index.ts';
import type { Filesystem } from './filesystem.ts';

/** What a worker's filesystem is made from. */
export interface WorkerContext<Options = unknown, Shared = unknown> {
  /** 0 to workers - 1. */
  readonly index: number;
  readonly workers: number;
  /** What the mounting program passed as `options`. */
  readonly options: Options;
  /** What the module's `shared` answered: the same for all workers (SharedArrayBuffers stay shared, the rest is copied). */
  readonly shared: Shared;
  /** Whether handlers should avoid promises: the worker sleeps in the kernel. */
  readonly mode: 'event' | 'blocking';
}

export type FilesystemFactory<Options = unknown, Shared = unknown> = (
  context: WorkerContext<Options, Shared>,
) => Filesystem | Promise<Filesystem>;

export interface FilesystemModule {
  default: Filesystem | FilesystemFactory<never, never>;
  /** Workers to start when the mounting program does not say; 1 for a filesystem whose state lives in its objects. Default 1. */
  workers?: number;
  /** Runs once on the main thread; its result reaches every worker by structured clone. */
  shared?: (options: never) => unknown;
  /** Runs once on the main thread after the last worker ended: closes what `shared` opened. */
  sharedEnd?: (shared: never) => void;
}

/** A module that is no filesystem, or a factory that failed. `code` is stable. */
export class ModuleError extends Error {
  override readonly name = 'ModuleError';
  readonly code: 'ERR_FUSEWIRE_MODULE_MISSING' | 'ERR_FUSEWIRE_MODULE_INVALID' | 'ERR_FUSEWIRE_TYPESCRIPT';

  constructor(code: ModuleError['code'], message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}

/** Imports an author's module; `module` is a file URL. Throws {@link ModuleError} when it is not there or exports no filesystem. */
export async function importModule(module: string): Promise<FilesystemModule> {
  const hasLoader = await prepareTypeScript(module);
  try {
    return unwrap(module, (await import(module)) as Partial<FilesystemModule>);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ERR_MODULE_NOT_FOUND' && message.includes(fileName(module))) {
      throw new ModuleError(
        'ERR_FUSEWIRE_MODULE_MISSING',
        `there is no module ${fileName(module)}; give the path of a JavaScript file`,
        error,
      );
    }
    if (code === 'ERR_UNKNOWN_FILE_EXTENSION' && !hasLoader) {
      const advice = 'install tsx beside it, compile it to JavaScript, or use Node 22.18 or later';
      throw new ModuleError(
        'ERR_FUSEWIRE_TYPESCRIPT',
        `Node ${process.versions.node} does not run TypeScript (${fileName(module)}); ${advice}`,
        error,
      );
    }
    throw error;
  }
}

/**
 * Node runs TypeScript by itself from 22.18 on. Before, the loader tsx does it, where it is installed beside the module. It has to
 * be there before the first import: Node remembers one that failed.
 */
async function prepareTypeScript(module: string): Promise<boolean> {
  const isTypeScript = /\.[cm]?ts$/.test(new URL(module).pathname);
  if (!isTypeScript || (process.features as { typescript?: unknown }).typescript) return false;
  let loader: string;
  try {
    loader = typeScriptLoader(module);
  } catch {
    return false;
  }
  const { register } = (await import(loader)) as { register: () => void };
  register();
  return true;
}

/** What a module exports, checked. */
function unwrap(module: string, exported: Partial<FilesystemModule>): FilesystemModule {
  let loaded = exported;
  // What a CommonJS module exports stands below `default`, once more when it was compiled from an ES module.
  const inner = loaded.default as { default?: unknown } | undefined;
  if (inner !== null && typeof inner === 'object' && inner.default !== undefined) loaded = inner as Partial<FilesystemModule>;
  const { default: made } = loaded;
  if (typeof made !== 'function' && (typeof made !== 'object' || made === null)) {
    throw new ModuleError(
      'ERR_FUSEWIRE_MODULE_INVALID',
      `${fileName(module)} has no default export that is a filesystem or makes one; write \`export default { … }\``,
    );
  }
  return loaded as FilesystemModule;
}

/** Imports an author's module and makes its filesystem for one worker. */
export async function loadFilesystem(
  module: string,
  context: { index: number; workers: number; options: unknown; shared: unknown; mode: 'event' | 'blocking' },
): Promise<Filesystem> {
  const { default: made } = await importModule(module);
  const { index, workers, options, shared, mode } = context;
  const filesystem =
    typeof made === 'function' ? await (made as FilesystemFactory)({ index, workers, options, shared, mode }) : made;
  if (typeof filesystem !== 'object' || filesystem === null) {
    throw new ModuleError(
      'ERR_FUSEWIRE_MODULE_INVALID',
      `the function that ${fileName(module)} exports made no filesystem; it has to return an object`,
    );
  }
  return filesystem;
}

function fileName(module: string): string {
  return module.startsWith('file:') ? fileURLToPath(module) : module;
}
