import { createRequire } from 'node:module';

/** The script beside a module: `.ts` when running from sources, `.js` when built. */
export function entryOf(module: string, script: string): URL {
  return new URL(`${script}${module.endsWith('.ts') ? '.ts' : '.js'}`, module);
}

/**
 * Options for a worker that runs `entry`. Built code takes none: a worker then inherits what the process was started with,
 * V8's flags included, which may not be named again. Running from sources on a Node without type stripping, a worker needs the
 * loader that the main thread has.
 */
export function workerOptions(entry: URL): { execArgv?: string[] } {
  if (!entry.pathname.endsWith('.ts') || (process.features as { typescript?: unknown }).typescript) return {};
  if (process.execArgv.some((argument) => argument.includes('tsx'))) return {};
  return { execArgv: [...process.execArgv, '--import', `file://${createRequire(import.meta.url).resolve('tsx')}`] };
}
