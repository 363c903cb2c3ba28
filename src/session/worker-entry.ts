import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { Worker, type WorkerOptions } from 'node:worker_threads';

/** The script beside a module: `.ts` when running from sources, `.js` when built. */
export function entryOf(module: string, script: string): URL {
  return new URL(`${script}${module.endsWith('.ts') ? '.ts' : '.js'}`, module);
}

/**
 * The loader tsx as seen from a module, as a file URL whose `register()` makes a thread run TypeScript. Throws where tsx is not
 * installed. Its ES module, which `require.resolve` does not name, because the other one does not find its parts.
 */
export function typeScriptLoader(module: string): string {
  const require = createRequire(module);
  const manifest = require('tsx/package.json') as { exports: { './esm/api': { import: { default: string } } } };
  const folder = pathToFileURL(require.resolve('tsx/package.json'));
  return new URL(manifest.exports['./esm/api'].import.default, folder).href;
}

/**
 * Starts a thread that runs `entry`. Running from sources on a Node that takes no TypeScript, the thread gets the loader tsx
 * first; the one that the main thread may have does not reach it.
 */
export function startWorker(entry: URL, options: WorkerOptions): Worker {
  if (!entry.pathname.endsWith('.ts') || (process.features as { typescript?: unknown }).typescript) {
    return new Worker(entry, options);
  }
  const script = `import(${JSON.stringify(typeScriptLoader(import.meta.url))}).then(({ register }) => { register(); return import(${JSON.stringify(entry.href)}); });`;
  return new Worker(script, { ...options, eval: true });
}
