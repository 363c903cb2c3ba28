/**
 * Whether what was acknowledged is kept when the daemon of a passthrough is killed:
 *
 *     npm run durability -- [--rounds N] [--seed N] [--over DIR,DIR] [--json FILE]
 *
 * In each round six writers (fsync, fdatasync, O_DSYNC, O_DIRECT, msync, and rename with a synced folder) write until the daemon
 * gets SIGKILL at a random moment; then everything that they were promised has to lie in the source. N rounds (default 200)
 * of each configuration: 4 workers in blocking mode and 1 in event mode, with and without the write-back cache; the folders
 * take turns. Ends with 1 when a promised byte is missing.
 */
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import { compileClient } from './compile.ts';
import { CONFIGURATIONS, Stage } from './durability/trial.ts';

const KILL_AFTER_MS_MAX = 400;

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    over: { type: 'string', default: `${tmpdir()},/dev/shm` },
    json: { type: 'string' },
  },
});
let random = Number(values.seed) >>> 0 || 1;
/** 0 to 1; the same for the same seed. */
function chance(): number {
  random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
  return random / 0x1_0000_0000;
}

const stages = values.over.split(',').map((over) => new Stage(over, (folder) => compileClient('faults/writer.c', folder)));
const rows = CONFIGURATIONS.map(({ name }) => ({ name, kills: 0, promised: 0, bytes: 0, lost: [] as string[] }));
let stopped = false;
process.once('SIGINT', () => {
  stopped = true;
});
try {
  for (let round = 0; round < Number(values.rounds) && !stopped; round++) {
    for (const [index, configuration] of CONFIGURATIONS.entries()) {
      const stage = stages[(round + index) % stages.length];
      const killAfterMs = Math.round(chance() * KILL_AFTER_MS_MAX);
      const { promised, bytes, lost } = await stage.trial(configuration, killAfterMs, round * 31 + index * 7 + 1);
      const row = rows[index];
      row.kills++;
      row.promised += promised;
      row.bytes += bytes;
      row.lost.push(...lost.map((what) => `round ${round + 1} over ${stage.folder}: ${what}`));
    }
    const lost = rows.reduce((sum, row) => sum + row.lost.length, 0);
    if ((round + 1) % 10 === 0) process.stderr.write(`round ${round + 1} of ${values.rounds}, ${lost} losses\n`);
  }
} finally {
  for (const stage of stages) stage.end();
}
for (const { name, kills, promised, bytes, lost } of rows) {
  process.stdout.write(`${name}: ${kills} kills, ${promised} promises of ${Math.round(bytes / 1e6)} MB, ${lost.length} lost\n`);
  for (const what of lost) process.stdout.write(`LOST ${what}\n`);
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ over: values.over, rows }, undefined, 2)}\n`);
process.exitCode = rows.some((row) => row.lost.length > 0) ? 1 : 0;
