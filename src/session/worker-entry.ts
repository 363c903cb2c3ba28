import { createRequire } from 'node:module';

/** The script beside a module: `.ts` when running from sources, `.js` when built. */
export function entryOf(module: string, script: string): URL {
  return new URL(`${script}${module.endsWith('.ts') ? '.ts' : '.js'}`, module);
}

/** Running from sources on a Node without type stripping, a worker needs the loader that the main thread has. */
export function loaderFor(entry: URL): string[] {
  if (!entry.pathname.endsWith('.ts') || (process.features as { typescript?: unknown }).typescript) return [];
  if (process.execArgv.some((argument) => argument.includes('tsx'))) return [];
  return ['--import', `file://${createRequire(import.meta.url).resolve('tsx')}`];
}
