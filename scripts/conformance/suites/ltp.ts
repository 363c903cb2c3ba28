/** The Linux Test Project: its tests of system calls on files, of filesystems, and of direct and asynchronous I/O. */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Ended, ending } from '../children.ts';
import { ConformanceError } from '../failure.ts';
import { command } from '../place.ts';
import { type Case, each, isWanted, type Outcome, type Suite } from '../suite.ts';

const TEST_LIMIT_SECONDS = 180;
const GROUPS = 'syscalls,dio,fs';

/** Of the group `syscalls`: those that take names or descriptors of files. The others do not meet a filesystem. */
const FILE_CALLS = new RegExp(
  `^(${[
    ...['access', 'chdir', 'chmod', 'chown', 'copy_file_range', 'creat', 'dup', 'faccessat', 'fallocate', 'fadvise', 'fchdir'],
    ...['fchmod', 'fchown', 'fcntl', 'fdatasync', 'fgetxattr', 'flistxattr', 'flock', 'fremovexattr', 'fsetxattr', 'fstat'],
    ...['fsync', 'ftruncate', 'futimesat', 'getcwd', 'getdents', 'getxattr', 'inotify', 'io_', 'io_uring', 'lchown', 'lgetxattr'],
    ...['link', 'listxattr', 'llistxattr', 'llseek', 'lremovexattr', 'lseek', 'lsetxattr', 'lstat', 'mkdir', 'mknod', 'mmap'],
    ...['msync', 'munmap', 'name_to_handle', 'newfstat', 'open', 'posix_fadvise', 'pread', 'pwrite', 'preadv', 'pwritev'],
    ...['read', 'removexattr', 'rename', 'rmdir', 'sendfile', 'setxattr', 'splice', 'stat', 'symlink', 'sync', 'tee'],
    ...['truncate', 'umask', 'unlink', 'utime', 'utimensat', 'vmsplice', 'write', 'file_attr', 'listmount'],
  ].join('|')})`,
);

export const ltp: Suite = {
  name: 'ltp',
  about: 'the Linux Test Project: system calls on files, filesystem stress, direct I/O (--group: files of its runtest folder)',
  variable: 'FUSEWIRE_LTP',
  names: 'its installed folder: with runtest and testcases/bin',
  home: 'https://github.com/linux-test-project/ltp',
  missing(path) {
    const wanted = ['runtest/syscalls', 'testcases/bin'].find((name) => !existsSync(join(path, name)));
    return wanted === undefined ? undefined : `has no ${wanted}: it is not installed`;
  },
  async run(ground, { path, settings, run, progress }) {
    const tests = (settings.group ?? GROUPS)
      .split(',')
      .flatMap((group) => testsOf(path, group))
      .filter(({ name }) => isWanted(name, settings));
    return each(tests, settings.processes ?? 1, async ({ name, line }, index): Promise<Case> => {
      progress(`${index + 1} of ${tests.length}: ${name}`);
      const folder = join(ground.folder, name.replace('/', '-'));
      mkdirSync(folder, { recursive: true });
      const ended = await run(['sh', '-c', line], name, {
        cwd: folder,
        limit: (settings.limit ?? TEST_LIMIT_SECONDS) * 1000,
        env: {
          ...process.env,
          LTPROOT: path,
          PATH: `${join(path, 'testcases/bin')}:${process.env.PATH}`,
          TMPDIR: folder,
          LTP_COLORIZE_OUTPUT: 'n',
          // Tests that make filesystems of all kinds on loop devices shall make one: what they test is not the mount.
          LTP_SINGLE_FS_TYPE: 'tmpfs',
        },
      });
      await clear(folder);
      return judge(name, ended);
    });
  },
};

/** Takes away what a test left, mounts of its own as well. */
async function clear(folder: string): Promise<void> {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '');
  for (const path of mounts.filter((path) => path.startsWith(`${folder}/`)).reverse()) {
    await command('umount', '--lazy', path).catch(() => {});
  }
  // What cannot be removed stays: the filesystem is thrown away at the end.
  await rm(folder, { recursive: true, force: true, maxRetries: 3 }).catch(() => {});
}

function testsOf(path: string, group: string): { name: string; line: string }[] {
  const file = join(path, 'runtest', group);
  if (!existsSync(file)) throw new ConformanceError(`LTP has no group ${group}: see ${join(path, 'runtest')}`);
  return readFileSync(file, 'utf8')
    .split('\n')
    .map((line) => /^(\S+)\s+(.*)$/.exec(line.trim()))
    .filter((match) => match !== null && !match[1].startsWith('#') && (group !== 'syscalls' || FILE_CALLS.test(match[1])))
    .map((match) => ({ name: `${group}/${match![1]}`, line: match![2] }));
}

// What the bits of a test's exit code mean: include/tst_res_flags.h of LTP.
const TCONF = 32;
const TWARN = 4;

function judge(name: string, ended: Ended): Case {
  let outcome: Outcome = 'failed';
  if (!ended.timedOut && ended.code === 0) outcome = 'passed';
  else if (!ended.timedOut && ended.code === TCONF) outcome = 'skipped';
  else if (!ended.timedOut && ended.code !== null && (ended.code & ~(TCONF | TWARN)) === 0) outcome = 'passed';
  if (outcome === 'passed') return { name, outcome };
  const wanted = outcome === 'failed' ? /T?(FAIL|BROK)/ : /T?CONF/;
  const said = ended.output.split('\n').filter((line) => wanted.test(line));
  return { name, outcome, detail: [...said.slice(0, 4), ...(outcome === 'failed' ? [ending(ended)] : [])].join('\n') };
}
