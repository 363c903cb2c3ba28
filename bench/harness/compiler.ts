/** Small C programs that benchmarks need, compiled where they run. */
import { join } from 'node:path';
import { program, run } from './children.ts';
import { packageRoot } from './machine.ts';

const COMPILERS = ['cc', 'gcc', 'clang'];

/** The path of a C compiler, or undefined. */
export function compiler(): string | undefined {
  return COMPILERS.map((name) => program(name)).find((path) => path !== undefined);
}

/** Compiles `bench/SOURCE` to `folder/NAME`. */
export async function compile(cc: string, source: string, target: string, ...flags: string[]): Promise<string> {
  const path = join(packageRoot(), 'bench', source);
  await run([cc, '-O2', '-std=gnu11', '-Wall', '-Wextra', '-o', target, ...flags, path], { timeoutMs: 60_000 });
  return target;
}
