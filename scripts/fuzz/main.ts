/**
 * The fuzzer: `npm run fuzz -- --frames N --seed S --target NAME`. Exits 1 with the smallest case it could make of the
 * first finding, in the form in which test/corpus/ keeps them.
 */
import { parseArgs } from 'node:util';
import { decoderTargets } from './decoders.ts';
import { run } from './run.ts';
import { loadSeeds } from './seeds.ts';
import { initTarget, sessionTarget } from './session.ts';
import { tracesTarget } from './traces.ts';

const { values } = parseArgs({
  options: {
    frames: { type: 'string', default: '1000000' },
    seed: { type: 'string' },
    target: { type: 'string', multiple: true, default: [] },
    'keep-going': { type: 'boolean', default: false },
  },
});

const seed = values.seed === undefined ? Math.floor(Math.random() * 0x1_0000_0000) : Number(values.seed);
const seeds = loadSeeds();
const all = [...decoderTargets(seeds), sessionTarget(seeds), initTarget(), tracesTarget(seeds)];
const chosen = values.target.length === 0 ? all : all.filter(({ name }) => values.target.includes(name));
const outcome = await run(chosen, {
  frames: Number(values.frames),
  seed,
  keepGoing: values['keep-going'],
  print: (line) => process.stdout.write(`${line}\n`),
});
process.exitCode = outcome.findings === 0 ? 0 : 1;
