/** `npm run bench`: the benchmarks, one by name or all of them. */
import { CODEC_HELP, codec } from './codec.ts';
import { BenchError, messageOf } from './harness/failure.ts';
import { consoleOutput, type Output } from './harness/output.ts';
import { LETTER_HELP, letter } from './letter.ts';
import { MEMORY_HELP, memory } from './memory.ts';
import { NODES_HELP, nodes } from './nodes.ts';
import { ROWS_HELP, rows } from './rows.ts';
import { SCALING_HELP, scaling } from './scaling.ts';
import { STORAGE_HELP, storage } from './storage.ts';
import { TRACE_HELP, trace } from './trace.ts';

interface Benchmark {
  about: string;
  help: string;
  /** Runs only when it is named, or all are asked for: it takes long. */
  long?: true;
  /** Whether every goal was met. */
  run(args: readonly string[], out: Output): Promise<boolean>;
}

const BENCHMARKS: Record<string, Benchmark> = {
  codec: { about: 'one request decoded and answered without a mount: time and memory', help: CODEC_HELP, run: codec },
  memory: { about: 'a mounted daemon over a million requests: growth of its memory', help: MEMORY_HELP, run: memory },
  trace: { about: 'what recording costs on 4 KiB reads with 32 in flight', help: TRACE_HELP, run: trace },
  rows: {
    about: 'everything a filesystem does, ours beside native, the floor and others',
    help: ROWS_HELP,
    run: rows,
    long: true,
  },
  scaling: {
    about: 'more requests in flight, more workers: neither may cost throughput',
    help: SCALING_HELP,
    run: scaling,
    long: true,
  },
  nodes: {
    about: 'memory for each of a million files, processor time of an idle daemon',
    help: NODES_HELP,
    run: nodes,
    long: true,
  },
  storage: {
    about: 'the storage layer over a network: merged and not, beside sshfs',
    help: STORAGE_HELP,
    run: storage,
    long: true,
  },
  letter: { about: 'the 2013 letter: direct I/O through mounts, ours and those of others', help: LETTER_HELP, run: letter },
};

function usage(): string {
  const list = Object.entries(BENCHMARKS).map(([name, { about }]) => `  ${name.padEnd(8)} ${about}`);
  const details = Object.values(BENCHMARKS).map(({ help }) => help);
  const first =
    'npm run bench [-- NAME [options]]   one benchmark; without a name those that take minutes; all: also the long ones';
  return [first, ...list, '', details.join('\n\n')].join('\n');
}

async function main(args: readonly string[]): Promise<number> {
  const out = consoleOutput();
  const [name, ...rest] = args;
  if (args.includes('--help') || args.includes('-h') || name === 'help') {
    out.line(usage());
    return 0;
  }
  const alone = name !== undefined && name !== 'all';
  const chosen = alone ? [name] : Object.keys(BENCHMARKS).filter((each) => name === 'all' || BENCHMARKS[each].long !== true);
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
      if (alone) throw error;
      out.warn(`${each}: ${messageOf(error)}`);
      good = false;
    }
  }
  if (!alone) out.line('\nOptions of each: npm run bench -- --help. What the figures mean: docs/BENCHMARKS.md.');
  return good ? 0 : 1;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof BenchError)) throw error;
  process.stderr.write(`bench: ${error.message} (${error.code})\n`);
  process.exitCode = error.code === 'ERR_FUSEWIRE_BENCH_USAGE' ? 2 : 1;
}
