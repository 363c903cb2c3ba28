/** fsx: random operations on one file, each compared with what the program itself holds in memory. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { ending, lastLines } from '../children.ts';
import { type Case, isWanted, type Suite } from '../suite.ts';

/** Reads and writes by system call only, in units of a block where they go past the cache. */
const NO_MAPS = ['-R', '-W'];
const BLOCKS = ['-r', '4096', '-w', '4096', '-t', '4096'];

const MODES: Readonly<Record<string, readonly string[]>> = {
  buffered: NO_MAPS,
  'buffered, closed and opened again': [...NO_MAPS, '-c', '50'],
  mmap: [],
  'mmap, cache dropped after each operation': ['-f'],
  direct: ['-Z', ...NO_MAPS, ...BLOCKS],
  'direct, asynchronous': ['-Z', '-A', ...NO_MAPS, ...BLOCKS],
};

/** A million operations take a minute or two natively. */
const MILLISECONDS_PER_OPERATION = 10;

export const fsx: Suite = {
  name: 'fsx',
  about: 'random operations on one file, checked against memory: buffered, mapped, direct',
  variable: 'FUSEWIRE_FSX',
  names: 'the program fsx of xfstests, built (ltp/fsx there)',
  home: 'https://git.kernel.org/pub/scm/fs/xfs/xfstests-dev.git',
  missing: (path) => (statSync(path).isFile() ? undefined : 'is no program'),
  async run(ground, { path, settings, scratch, run, progress }) {
    const cases: Case[] = [];
    for (const [mode, options] of Object.entries(MODES)) {
      if (!isWanted(mode, settings)) continue;
      progress(`${settings.operations} operations: ${mode}`);
      const name = mode.replaceAll(/\W+/g, '-');
      const argv = [path, '-q', '-N', String(settings.operations), '-S', String(settings.seed), '-P', scratch, ...options];
      const limit = 60_000 + settings.operations * MILLISECONDS_PER_OPERATION;
      const ended = await run([...argv, join(ground.folder, name)], name, { cwd: scratch, limit });
      const good = ended.code === 0;
      const detail = good ? {} : { detail: `${ending(ended)}\n${lastLines(ended.output, 12)}` };
      cases.push({ name: mode, outcome: good ? 'passed' : 'failed', ...detail });
      const same = await run(['cmp', join(ground.folder, name), join(ground.source, name)], `${name}-cmp`, { limit: 60_000 });
      cases.push({
        name: `${mode}: the file as the host sees it`,
        outcome: same.code === 0 ? 'passed' : 'failed',
        ...(same.code === 0 ? {} : { detail: same.output.trim() }),
      });
    }
    return cases;
  },
};
