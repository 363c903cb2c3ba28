/** xfstests: its generic tests, on mounts of type `fuse.fusewire` that a mount helper makes. */
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ending, lastLines } from '../children.ts';
import { ConformanceError } from '../failure.ts';
import { command, loopDevice } from '../place.ts';
import { type Bench, type Case, each, type Ground, isWanted, type Suite } from '../suite.ts';

const TEST_LIMIT_SECONDS = 300;

/** Users and groups that tests of permissions need. */
const USERS = ['fsgqa', 'fsgqa2', '123456-fsgqa'];
const FIRST_USER_ID = 31_000;

export const xfstests: Suite = {
  name: 'xfstests',
  about: 'the generic tests of the kernel developers (--group quick, auto, rw, …; --only generic/001)',
  variable: 'FUSEWIRE_XFSTESTS',
  names: 'its folder, built: with the script check and tests/generic',
  home: 'https://git.kernel.org/pub/scm/fs/xfs/xfstests-dev.git',
  missing(path) {
    if (!existsSync(join(path, 'check'))) return 'has no script check';
    return existsSync(join(path, 'src/feature')) ? undefined : 'is not built';
  },
  mountsItself: true,
  async run(ground, bench) {
    const { path, settings, run, progress, scratch } = bench;
    await addUsers(ground, bench);
    const config = await configuration(ground, bench);
    const tests = testsOf(path, settings.group ?? 'quick').filter((name) => isWanted(name, settings));
    const cases = await each(tests, 1, async (name, index): Promise<Case> => {
      progress(`${index + 1} of ${tests.length}: ${name}`);
      const results = join(scratch, 'results', ground.side);
      mkdirSync(results, { recursive: true });
      const PATH = `${join(scratch, 'programs')}:${process.env.PATH}`;
      const env = { ...process.env, PATH, FUSEWIRE_PATH: process.env.PATH, HOST_OPTIONS: config, RESULT_BASE: results };
      const ended = await run(['bash', './check', name], name, {
        cwd: path,
        limit: (settings.limit ?? TEST_LIMIT_SECONDS) * 1000,
        env,
      });
      if (ended.timedOut) {
        await settle(ground);
        return { name, outcome: 'failed', detail: ending(ended) };
      }
      return judge(name, ended.output, results);
    });
    await settle(ground);
    return cases;
  },
};

/** The generic tests of a group, by their list. */
function testsOf(path: string, group: string): string[] {
  const list = readFileSync(join(path, 'tests/generic/group.list'), 'utf8');
  const names = list
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim().split(/\s+/))
    .filter(([number, ...groups]) => /^\d+$/.test(number) && groups.includes(group))
    .map(([number]) => `generic/${number}`);
  if (names.length === 0) throw new ConformanceError(`xfstests has no generic tests in the group ${group}`);
  return names;
}

function judge(name: string, output: string, results: string): Case {
  // The line of the test, and how far it goes on: `generic/001        3s`, `generic/002 [not run] reason`, `… - output mismatch`.
  const line = output.split('\n').find((candidate) => new RegExp(`^${name}\\b`).test(candidate)) ?? '';
  const notRun = /\[not run\]\s*(.*)$/.exec(line);
  if (notRun !== null) return { name, outcome: 'skipped', detail: notRun[1] };
  if (/^Passed all \d+ tests$/m.test(output)) return { name, outcome: 'passed' };
  const bad = join(results, `${name}.out.bad`);
  const at = output.indexOf(line);
  const said = line === '' ? lastLines(output, 6) : output.slice(at).split('\n').slice(0, 14).join('\n');
  return { name, outcome: 'failed', detail: existsSync(bad) ? said : `${said}\n${lastLines(output, 4)}`.slice(0, 2000) };
}

/** Unmounts what is left: at the end, or after a test that did not end, so that the next one begins anew. */
async function settle(ground: Ground): Promise<void> {
  for (const name of ['scratch', 'test']) {
    await command('umount', '--lazy', '--force', join(ground.folder, name)).catch(() => {});
  }
}

/** Writes the configuration file and answers its path. */
async function configuration(ground: Ground, bench: Bench): Promise<string> {
  const { folder, side, storage } = ground;
  for (const name of ['test', 'scratch']) mkdirSync(join(folder, name), { recursive: true });
  const lines = [`export TEST_DIR='${join(folder, 'test')}'`, `export SCRATCH_MNT='${join(folder, 'scratch')}'`];
  if (side === 'mounted') {
    await installHelper(bench);
    installDf(bench);
    for (const name of ['test', 'scratch']) mkdirSync(join(ground.source, name), 0o755);
    lines.push(
      'export FSTYP=fuse',
      'export FUSE_SUBTYP=.fusewire',
      `export TEST_DEV='source:${join(ground.source, 'test')}'`,
      `export SCRATCH_DEV='source:${join(ground.source, 'scratch')}'`,
      'export MOUNT_OPTIONS=""',
      'export TEST_FS_MOUNT_OPTS=""',
    );
  } else if (storage === 'tmpfs') {
    lines.push('export FSTYP=tmpfs', 'export TEST_DEV=test', 'export SCRATCH_DEV=scratch');
    lines.push(`export TMPFS_MOUNT_OPTIONS='-o size=${bench.settings.size}'`);
  } else {
    const { scratch, settings } = bench;
    const [test, second] = [
      await loopDevice(scratch, 'test', settings.size),
      await loopDevice(scratch, 'scratch', settings.size),
    ];
    await command(`mkfs.${storage}`, '-q', test);
    lines.push(`export FSTYP=${storage}`, `export TEST_DEV='${test}'`, `export SCRATCH_DEV='${second}'`);
  }
  const file = join(bench.scratch, `${side}.config`);
  writeFileSync(file, `${lines.join('\n')}\n`);
  return file;
}

/** Where mount(8) looks for helpers. */
const HELPER_FOLDER = '/usr/sbin';
const HELPER = 'mount.fuse.fusewire';

/**
 * Puts a helper for the type `fuse.fusewire` beside those of the machine: into a layer over their folder, which only this
 * run's mount namespace has. The daemon goes to the background and ends when it is unmounted.
 */
async function installHelper({ daemon, scratch }: Bench): Promise<void> {
  const layer = join(scratch, 'helpers');
  const [upper, work] = [join(layer, 'upper'), join(layer, 'work')];
  for (const path of [upper, work]) mkdirSync(path, { recursive: true });
  const quoted = daemon.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  writeFileSync(
    join(upper, HELPER),
    `#!/bin/bash
# DEVICE FOLDER [-o OPTIONS]; the device is source:FOLDER.
device=$1 folder=$2 options=
shift 2
while [ $# -gt 0 ]; do
  case $1 in
    -o) options=$2; shift ;;
    -o*) options=\${1#-o} ;;
  esac
  shift
done
case ,$options, in
  *,remount,*) exec mount --internal-only -o "$options" "$folder" ;;
esac
log=$(mktemp '${scratch}/daemon.XXXXXX')
setsid ${quoted} "\${device#source:}" "$folder" \\
  -o "\${options:+$options,}fsname=$device,allow_other,default_permissions,dev,suid" >"$log" 2>&1 </dev/null &
daemon=$!
# Nothing is started to wait: a test mounts several times, and on a busy machine that would cost more than the daemon's start.
exec {never}<> <(:)
for ((waits = 0; waits < 600; waits++)); do
  mapfile -t said <"$log"
  case "\${said[*]}" in *'mounted '*) exit 0 ;; esac
  kill -0 $daemon 2>/dev/null || break
  read -r -t 0.1 -u "$never"
done
cat "$log" >&2
exit 32
`,
  );
  chmodSync(join(upper, HELPER), 0o755);
  const helpers = readdirSync(HELPER_FOLDER);
  if (helpers.includes(HELPER)) return;
  await command(
    'mount',
    '-t',
    'overlay',
    'helpers',
    '-o',
    `lowerdir=${HELPER_FOLDER},upperdir=${upper},workdir=${work}`,
    HELPER_FOLDER,
  );
}

/** The suite asks df for the type of its mounts and looks for `fuse`, although it mounts them with a subtype. */
function installDf({ scratch }: Bench): void {
  const folder = join(scratch, 'programs');
  mkdirSync(folder);
  const text = '#!/bin/bash\nset -o pipefail\nPATH=$FUSEWIRE_PATH df "$@" | sed "s/ fuse[.]fusewire / fuse /"\n';
  writeFileSync(join(folder, 'df'), text, { mode: 0o755 });
}

/** Lets the users exist: in copies of the files that list users, which only this run's mount namespace sees. */
async function addUsers({ side }: Ground, { scratch }: Bench): Promise<void> {
  // No password, rather than one in the shadow file: PAM refuses su to a user that is looked for there and missing.
  for (const [file, password, rest] of [
    ['passwd', '*', '::/:/bin/bash'],
    ['group', 'x', ''],
  ]) {
    const text = readFileSync(join('/etc', file), 'utf8');
    const missing = USERS.filter((name) => !text.includes(`\n${name}:`));
    if (missing.length === 0) continue;
    const id = (name: string) => FIRST_USER_ID + USERS.indexOf(name);
    const lines = missing.map((name) => `${name}:${password}:${id(name)}:${file === 'passwd' ? id(name) : ''}${rest}\n`);
    const copy = join(scratch, `${file}-${side}`);
    writeFileSync(copy, text + lines.join(''));
    await command('mount', '--bind', copy, join('/etc', file));
  }
}
