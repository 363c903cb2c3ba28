/** Compiles the C programs that tests run as callers of a mount. */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { program, sharedFolder } from '../live/harness.ts';

const COMPILERS = ['cc', 'gcc', 'clang'];

/** Why no C program can be compiled here, or undefined. */
export const NO_COMPILER = COMPILERS.some((name) => program(name) !== undefined)
  ? undefined
  : 'there is no C compiler (Debian: apt install gcc libc6-dev)';

const built = new Map<string, string>();

const FOLDERS = { client: 'aio', hammer: 'aio', call: 'operations', steps: 'capabilities', terminal: 'operations' } as const;

/** The path of the compiled program, which every user may run. Compiled once, removed with the shared folders of the tests that use it. */
export function clientProgram(name: keyof typeof FOLDERS): string {
  const standing = built.get(name);
  if (standing !== undefined && existsSync(standing)) return standing;
  const compiler = COMPILERS.map(program).find((path) => path !== undefined);
  if (compiler === undefined) throw new Error(NO_COMPILER);
  const target = join(sharedFolder('clients'), name);
  const source = fileURLToPath(new URL(`./${FOLDERS[name]}/${name}.c`, import.meta.url));
  execFileSync(compiler, ['-O2', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-o', target, source], {
    stdio: 'pipe',
    timeout: 60_000,
  });
  chmodSync(target, 0o755);
  built.set(name, target);
  return target;
}

/** The path of a library of test/clients/deadlocks, for a process to load. */
export function clientLibrary(name: 'touch'): string {
  const compiler = COMPILERS.map(program).find((path) => path !== undefined);
  if (compiler === undefined) throw new Error(NO_COMPILER);
  const target = join(sharedFolder('clients'), `${name}.node`);
  const source = fileURLToPath(new URL(`./deadlocks/${name}.c`, import.meta.url));
  execFileSync(compiler, ['-shared', '-fPIC', '-O1', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-o', target, source], {
    stdio: 'pipe',
    timeout: 60_000,
  });
  return target;
}
