/** fsstress: many processes make random system calls in one tree. What is left has to be the same through the mount and beneath. */
import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ending, lastLines } from '../children.ts';
import type { Bench, Case, Ground, Suite } from '../suite.ts';

const PROCESSES = 8;
const TREE = fileURLToPath(new URL('../tree.mjs', import.meta.url));
/** More operations than any process makes in the time it has. */
const ENDLESS = '100000000';

export const fsstress: Suite = {
  name: 'fsstress',
  about: 'random system calls of many processes in one tree, which is compared at the end',
  variable: 'FUSEWIRE_FSSTRESS',
  names: 'the program fsstress of xfstests, built (ltp/fsstress there)',
  home: 'https://git.kernel.org/pub/scm/fs/xfs/xfstests-dev.git',
  missing: (path) => (statSync(path).isFile() ? undefined : 'is no program'),
  async run(ground, bench) {
    const { path, settings, run, progress } = bench;
    const folder = join(ground.folder, 'stress');
    mkdirSync(folder);
    const argv = [path, '-d', folder, '-p', String(settings.processes ?? PROCESSES), '-s', String(settings.seed)];
    progress(`${settings.processes ?? PROCESSES} processes for ${settings.seconds} s`);
    const limit = settings.seconds * 1000 + 300_000;
    const ended = await run([...argv, '-n', ENDLESS, `--duration=${settings.seconds}`], 'fsstress', { limit });
    const good = ended.code === 0;
    const cases: Case[] = [
      {
        name: 'fsstress',
        outcome: good ? 'passed' : 'failed',
        ...(good ? {} : { detail: `${ending(ended)}\n${lastLines(ended.output, 8)}` }),
      },
    ];
    if (ground.folder !== ground.source) {
      progress('comparing the trees');
      cases.push(await compareTrees(ground, bench));
    }
    return cases;
  },
};

async function compareTrees(ground: Ground, { run, scratch }: Bench): Promise<Case> {
  const name = 'the tree as the host sees it';
  const files: string[] = [];
  for (const [side, folder] of [
    ['mount', ground.folder],
    ['host', ground.source],
  ]) {
    const file = join(scratch, `tree-${side}`);
    const listed = await run([process.execPath, TREE, join(folder, 'stress'), file], `tree-${side}`, { limit: 900_000 });
    if (listed.code !== 0) return { name, outcome: 'failed', detail: `${ending(listed)}: ${lastLines(listed.output, 5)}` };
    files.push(file);
  }
  const [mount, host] = files.map((file) => readFileSync(file, 'latin1').split('\n'));
  const seen = new Set(host);
  const differing = mount.filter((line) => !seen.has(line));
  if (differing.length === 0 && mount.length === host.length) return { name, outcome: 'passed' };
  const pairs = differing.slice(0, 3).map((line) => {
    const key = line.slice(0, line.indexOf(' ') + 1);
    return `mount: ${line}\nhost:  ${host.find((other) => other.startsWith(key)) ?? 'nothing'}`;
  });
  return { name, outcome: 'failed', detail: `${differing.length} of ${mount.length} files differ\n${pairs.join('\n')}` };
}
