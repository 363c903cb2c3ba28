/** pjdfstest: what POSIX says of each system call on names, in shell scripts that speak TAP. */
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { ending } from '../children.ts';
import { type Bench, type Case, each, type Ground, isWanted, type Suite } from '../suite.ts';

const FILE_LIMIT_SECONDS = 900;

export const pjdfstest: Suite = {
  name: 'pjdfstest',
  about: 'POSIX semantics of calls that take names, as root: 238 files, about 8,800 checks',
  variable: 'FUSEWIRE_PJDFSTEST',
  names: 'its folder, built: with the program pjdfstest and the folder tests',
  home: 'https://github.com/pjd/pjdfstest',
  missing(path) {
    if (!existsSync(join(path, 'tests/conf'))) return 'has no tests/conf';
    return existsSync(join(path, 'pjdfstest')) ? undefined : 'has no program pjdfstest: it is not built';
  },
  async run(ground, bench) {
    const shadow = shadowOf(bench.path, ground, bench);
    const files = readdirSync(join(bench.path, 'tests'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.t') && isWanted(name, bench.settings))
      .sort();
    const cases = await each(files, bench.settings.processes ?? 1, async (file, index) => {
      bench.progress(`${index + 1} of ${files.length}: ${file}`);
      // Tests work in the current folder under names made of a random number; each file has a folder of its own all the same.
      const cwd = join(ground.folder, file.replaceAll('/', '-'));
      mkdirSync(cwd, 0o755);
      const limit = (bench.settings.limit ?? FILE_LIMIT_SECONDS) * 1000;
      const ended = await bench.run(['sh', join(shadow, 'tests', file)], file, { cwd, limit });
      const found = parseTap(file, ended.output);
      if (ended.code !== 0 || ended.timedOut) found.push({ name: file, outcome: 'failed', detail: ending(ended) });
      return found;
    });
    return cases.flat();
  },
};

/**
 * The tests look up the filesystem's type by name, and on ext4 they check more than on a filesystem they do not know. What
 * shows through a mount is to behave like the filesystem beneath, so its name is what they are told on both sides: through a
 * configuration that takes over theirs, in a folder of links to them.
 */
function shadowOf(path: string, { storage, side }: Ground, { scratch }: Bench): string {
  const shadow = join(scratch, `pjdfstest-${side}`);
  const tests = join(shadow, 'tests');
  mkdirSync(tests, { recursive: true });
  symlinkSync(join(path, 'pjdfstest'), join(shadow, 'pjdfstest'));
  for (const name of readdirSync(join(path, 'tests'))) {
    if (name !== 'conf') symlinkSync(join(path, 'tests', name), join(tests, name));
  }
  writeFileSync(join(tests, 'conf'), `. '${join(path, 'tests/conf')}'\nfs=${storage.toUpperCase()}\n`);
  return shadow;
}

/** One case for each line of TAP; a plan that is not kept is a failure of its own. */
export function parseTap(file: string, output: string): Case[] {
  const cases: Case[] = [];
  let planned: number | undefined;
  let skipped = '';
  for (const line of output.split('\n')) {
    const plan = /^1\.\.(\d+)(.*)$/.exec(line);
    if (plan !== null) {
      planned = Number(plan[1]);
      skipped = plan[2].replace(/^\s*#\s*/, '').trim();
      continue;
    }
    const check = /^(not )?ok (\d+)(.*)$/.exec(line);
    if (check === null) continue;
    const [, not, number, rest] = check;
    const outcome = not === undefined || /#\s*todo/i.test(rest) ? 'passed' : 'failed';
    cases.push({
      name: `${file}:${number}`,
      outcome,
      ...(outcome === 'failed' ? { detail: rest.replace(/^\s*-\s*/, '').trim() } : {}),
    });
  }
  if (planned === undefined || planned !== cases.length) {
    cases.push({
      name: file,
      outcome: 'failed',
      detail: `${cases.length} checks of ${planned ?? 'an unknown number'} were made`,
    });
  } else if (planned === 0) {
    cases.push({ name: file, outcome: 'skipped', detail: skipped || `nothing to check for ${basename(dirname(file))} here` });
  }
  return cases;
}
