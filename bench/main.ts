/** `npm run bench`: the benchmarks, one by name or all of them. */
import { CODEC_HELP, codec } from './codec.ts';
import { BenchError, messageOf } from './harness/failure.ts';
import { consoleOutput, type Output } from './harness/output.ts';
import { LETTER_HELP, letter } from './letter.ts';
import { MEMORY_HELP, memory } from './memory.ts';

interface Benchmark {
  about: string;
  help: string;
  /** Whether every goal was met. */
  run(args: readonly string[], out: Output): Promise<boolean>;
}

const BENCHMARKS: Record<string, Benchmark> = {
  codec: { about: 'one request decoded and answered without a mount: time and memory', help: CODEC_HELP, run: codec },
  memory: { about: 'a mounted daemon over a million requests: growth of its memory', help: MEMORY_HELP, run: memory },
  letter: { about: 'the 2013 letter: direct I/O through mounts, ours and those of others', help: LETTER_HELP, run: letter },
};

function usage(): string {
  const list = Object.entries(BENCHMARKS).map(([name, { about }]) => `  ${name.padEnd(8)} ${about}`);
  const details = Object.values(BENCHMARKS).map(({ help }) => help);
  return ['npm run bench [-- NAME [options]]   all benchmarks, or one', ...list, '', details.join('\n\n')].join('\n');
}

async function main(args: readonly string[]): Promise<number> {
  const out = consoleOutput();
  const [name, ...rest] = args;
  if (args.includes('--help') || args.includes('-h') || name === 'help') {
    out.line(usage());
    return 0;
  }
  const chosen = name === undefined ? Object.keys(BENCHMARKS) : [name];
  let good = true;
  for (const each of chosen) {
    const benchmark = BENCHMARKS[each];
    if (benchmark === undefined) {
      throw BenchError.usage(`there is no benchmark ${each}: there are ${Object.keys(BENCHMARKS).join(', ')}`);
    }
    try {
      if (!(await benchmark.run(rest, out))) good = false;
    } catch (error) {
      // Alone, its failure is the command's. Among others it is one result, and the rest still count.
      if (name !== undefined) throw error;
      out.warn(`${each}: ${messageOf(error)}`);
      good = false;
    }
  }
  if (name === undefined) out.line('\nOptions of each: npm run bench -- --help. What the figures mean: docs/BENCHMARKS.md.');
  return good ? 0 : 1;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof BenchError)) throw error;
  process.stderr.write(`bench: ${error.message} (${error.code})\n`);
  process.exitCode = error.code === 'ERR_FUSEWIRE_BENCH_USAGE' ? 2 : 1;
}
