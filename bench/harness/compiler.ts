/** Small C programs that benchmarks need, compiled where they run. */
import { join } from 'node:path';
import { program, run } from './children.ts';
import { BenchError } from './failure.ts';
import { packageRoot } from './machine.ts';

const COMPILERS = ['cc', 'gcc', 'clang'];

/** The path of a C compiler, or undefined. */
export function compiler(): string | undefined {
  return COMPILERS.map((name) => program(name)).find((path) => path !== undefined);
}

/** Compiles files of `bench/` to the program or library `target`. */
export async function compile(
  cc: string,
  sources: string | readonly string[],
  target: string,
  ...flags: string[]
): Promise<string> {
  const paths = [sources].flat().map((source) => join(packageRoot(), 'bench', source));
  await run([cc, '-O2', '-std=gnu11', '-Wall', '-Wextra', '-o', target, ...flags, ...paths], { timeoutMs: 60_000 });
  return target;
}

/** The same for a benchmark that cannot do without. */
export async function mustCompile(sources: string | readonly string[], target: string, ...flags: string[]): Promise<string> {
  const cc = compiler();
  if (cc === undefined) throw BenchError.machine('there is no C compiler (Debian: apt install gcc libc6-dev)');
  return compile(cc, sources, target, ...flags);
}
