/**
 * Every errno of Linux as the answer to every operation: what the caller of the system call gets. docs/ERRNO_MATRIX.md is written
 * from this run (FUSEWIRE_WRITE_MATRIX=1) and compared with it; an outcome that is not what the daemon answered needs the kernel's
 * reason, below.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { compileClient } from '../../scripts/compile.ts';
import { NO_COMPILER } from '../clients/build.ts';
import { daemonOf, mountPoint, NO_MOUNTS, ROOT, runWell, skipLoudly, temporaryFolder, useLiveMounts } from './harness.ts';

const PAGE = join(ROOT, 'docs/ERRNO_MATRIX.md');
const ERRNO_LAST = 133;

const NAMES = new Map<number, string>(Object.entries(constants.errno).map(([name, value]) => [value, name]));
for (const name of ['EAGAIN', 'EOPNOTSUPP', 'EDEADLK'] as const) NAMES.set(constants.errno[name], name);
/** Those that Node has no name for. */
const MORE = `ECHRNG=44 EL2NSYNC=45 EL3HLT=46 EL3RST=47 ELNRNG=48 EUNATCH=49 ENOCSI=50 EL2HLT=51 EBADE=52 EBADR=53 EXFULL=54 ENOANO=55
  EBADRQC=56 EBADSLT=57 EBFONT=59 ENONET=64 ENOPKG=65 EREMOTE=66 EADV=68 ESRMNT=69 ECOMM=70 EDOTDOT=73 ENOTUNIQ=76 EBADFD=77 EREMCHG=78
  ELIBACC=79 ELIBBAD=80 ELIBSCN=81 ELIBMAX=82 ELIBEXEC=83 ERESTART=85 ESTRPIPE=86 EUSERS=87 ENOTBLK=15 ESOCKTNOSUPPORT=94 EPFNOSUPPORT=96
  ESHUTDOWN=108 ETOOMANYREFS=109 EHOSTDOWN=112 EUCLEAN=117 ENOTNAM=118 ENAVAIL=119 EISNAM=120 EREMOTEIO=121 ENOMEDIUM=123 EMEDIUMTYPE=124
  ENOKEY=126 EKEYEXPIRED=127 EKEYREVOKED=128 EKEYREJECTED=129 EOWNERDEAD=130 ENOTRECOVERABLE=131 ERFKILL=132 EHWPOISON=133`;
for (const [name, value] of MORE.split(/\s+/).map((pair) => pair.split('='))) {
  if (!NAMES.has(Number(value))) NAMES.set(Number(value), name);
}
const nameOf = (errno: number): string => NAMES.get(errno) ?? String(errno);

interface Reason {
  /** Of the line that the client prints. */
  operation: string;
  /** Names of errnos; all of them when absent. */
  errnos?: readonly string[];
  /** What the caller gets instead. */
  outcome: string;
  reason: string;
}

/** Why the caller gets something else, by function of Linux 6.18. */
const REASONS: readonly Reason[] = [
  {
    operation: 'read:mmap',
    outcome: 'SIGBUS',
    reason: 'a page that cannot be read is a signal, whatever the errno was (filemap_fault)',
  },
  { operation: 'poll', outcome: 'POLLERR', reason: 'an error is an event, not a failure of poll (fuse_file_poll)' },
  {
    operation: 'poll',
    errnos: ['ENOSYS'],
    outcome: 'ok',
    reason: 'remembered: files are always ready, and POLL is never sent again (fuse_file_poll)',
  },
  { operation: 'release', outcome: 'ok', reason: 'nobody waits for the answer: close has returned (fuse_file_put)' },
  { operation: 'releasedir', outcome: 'ok', reason: 'nobody waits for the answer: close has returned (fuse_file_put)' },
  { operation: 'bmap', outcome: 'ok', reason: 'never sent: only mounts of a block device ask (fuse_bmap)' },
  { operation: 'syncfs', outcome: 'ok', reason: 'never sent: only virtiofs asks its daemon (fuse_sync_fs)' },
  ...['setlk', 'setlk:wait', 'setlk:flock', 'setlk:flock-wait'].map((operation) => ({
    operation,
    errnos: ['EINTR'],
    outcome: '512',
    reason:
      'made ERESTARTSYS, which restarts the call after a signal; without one the caller sees 512. Answer EINTR only when the request was interrupted (fuse_setlk)',
  })),
  {
    operation: 'setxattr',
    errnos: ['EAGAIN'],
    outcome: 'EOPNOTSUPP',
    reason: 'EAGAIN is how the kernel says to itself that nobody stores the attribute (__vfs_setxattr_noperm)',
  },
  {
    operation: 'copyFileRange',
    errnos: ['EXDEV', 'EOPNOTSUPP'],
    outcome: 'ok',
    reason: 'the kernel copies by itself, with reads and writes (fuse_copy_file_range)',
  },
  {
    operation: 'copyFileRange',
    errnos: ['ENOSYS'],
    outcome: 'ok',
    reason: 'remembered: the kernel copies by itself from now on (fuse_copy_file_range)',
  },
  { operation: 'statx', errnos: ['ENOSYS'], outcome: 'ok', reason: 'remembered: GETATTR is asked instead (fuse_do_statx)' },
  {
    operation: 'lseek',
    errnos: ['ENOSYS'],
    outcome: 'ok',
    reason: 'remembered: the whole file counts as data (fuse_lseek)',
  },
  ...['access', 'flush', 'fsync', 'fsyncdir'].map((operation) => ({
    operation,
    errnos: ['ENOSYS'],
    outcome: 'ok',
    reason: `remembered: ${operation === 'access' ? 'nothing is refused' : 'there is nothing to do'}, and ${operation.toUpperCase()} is never sent again`,
  })),
  { operation: 'fsync:data', errnos: ['ENOSYS'], outcome: 'ok', reason: 'not sent: remembered from fsync' },
  { operation: 'open', errnos: ['ENOSYS'], outcome: 'ok', reason: 'remembered: files open without OPEN (fuse_file_open)' },
  { operation: 'opendir', errnos: ['ENOSYS'], outcome: 'ok', reason: 'remembered: directories open without OPENDIR' },
  { operation: 'create', errnos: ['ENOSYS'], outcome: 'ok', reason: 'remembered: MKNOD and OPEN are sent instead' },
  { operation: 'tmpfile', errnos: ['ENOSYS'], outcome: 'EOPNOTSUPP', reason: 'remembered: unnamed files are not supported' },
  { operation: 'link', errnos: ['ENOSYS'], outcome: 'EPERM', reason: 'remembered: there are no hard links (fuse_link)' },
  { operation: 'rename:flags', errnos: ['ENOSYS'], outcome: 'EINVAL', reason: 'remembered: RENAME2 is never sent again' },
  { operation: 'fallocate', errnos: ['ENOSYS'], outcome: 'EOPNOTSUPP', reason: 'remembered: FALLOCATE is never sent again' },
  ...['setxattr', 'getxattr', 'listxattr', 'removexattr'].map((operation) => ({
    operation,
    errnos: ['ENOSYS'],
    outcome: 'EOPNOTSUPP',
    reason: `remembered: ${operation.toUpperCase()} is never sent again`,
  })),
  ...['ioctl', 'ioctl:directory'].map((operation) => ({
    operation,
    errnos: ['ENOSYS'],
    outcome: 'ENOTTY',
    reason: 'there is no such ioctl (fuse_do_ioctl); not remembered',
  })),
];

const reasonFor = (operation: string, errno: string, outcome: string): Reason | undefined =>
  REASONS.find(
    (reason) => reason.operation === operation && reason.outcome === outcome && (reason.errnos?.includes(errno) ?? true),
  );

interface Cell {
  operation: string;
  errno: number;
  hits: number;
  outcome: string;
}

function parse(output: string): Cell[] {
  return output
    .trim()
    .split('\n')
    .map((line) => {
      const [operation, errno, hits, result] = line.split(' ');
      return {
        operation,
        errno: Number(errno),
        hits: Number(hits),
        outcome: /^\d+$/.test(result) ? nameOf(Number(result)) : result,
      };
    });
}

/** The whole matrix, or with `only` one operation on a mount without the method `without`. */
async function measure(program: string, only?: string, without?: string): Promise<Cell[]> {
  const control = join(temporaryFolder('errnos'), 'control');
  writeFileSync(control, Buffer.alloc(4096));
  const path = mountPoint();
  const script = join(ROOT, 'test/clients/faults/errno-daemon.mjs');
  await daemonOf(script, [path, control, ...(without === undefined ? [] : [without])], path);
  return parse(await runWell([program, path, control, ...(only === undefined ? [] : [only])], { timeoutMs: 120_000 }));
}

/** `1–37, 39–133`. */
function ranges(numbers: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < numbers.length; ) {
    let end = i;
    while (numbers[end + 1] === numbers[end] + 1) end++;
    parts.push(end === i ? String(numbers[i]) : `${numbers[i]}–${numbers[end]}`);
    i = end + 1;
  }
  return parts.join(', ');
}

function pageOf(cells: readonly Cell[]): string {
  const operations = [...new Set(cells.map(({ operation }) => operation))];
  const rows: string[] = [];
  const others: string[] = [];
  for (const operation of operations) {
    const mine = cells.filter((cell) => cell.operation === operation && cell.errno > 0);
    const same = mine.filter(({ errno, outcome }) => outcome === nameOf(errno)).map(({ errno }) => errno);
    rows.push(`| ${operation} | ${same.length} | ${ranges(same.sort((a, b) => a - b))} |`);
    const different = new Map<string, number[]>();
    for (const { errno, outcome } of mine) {
      if (outcome === nameOf(errno)) continue;
      const reason = reasonFor(operation, nameOf(errno), outcome)?.reason ?? '?';
      const key = `${outcome === 'ok' ? 'success' : outcome} | ${reason}`;
      different.set(key, [...(different.get(key) ?? []), errno]);
    }
    for (const [key, errnos] of different) {
      const which = errnos.length > 3 ? ranges(errnos.sort((a, b) => a - b)) : errnos.map(nameOf).join(', ');
      others.push(`| ${operation} | ${which} | ${key} |`);
    }
  }
  return `# Which errno reaches the caller

Written by \`test/live/errno-matrix.test.ts\` from a run on Linux 6.18, and compared with each run: ${operations.length} system calls, each on a live mount
whose daemon answers one operation with each errno from 1 to ${ERRNO_LAST}; ${operations.length * ERRNO_LAST} calls. Larger ones do not travel: the protocol takes up to 511, and
what the kernel uses within itself begins at 512.

A word after a colon tells two calls apart that send the same operation.

## Unchanged

| operation | how many | which |
|---|---|---|
${rows.join('\n')}

## Changed by the kernel

| operation | answered | the caller gets | why |
|---|---|---|---|
${others.join('\n')}

ESTALE is among the unchanged ones: the kernel looks the path up once more and asks again, and then gives it to the caller. So is ENOENT; it
is not remembered.
`;
}

describe.skipIf(skipLoudly('the errno matrix', NO_MOUNTS ?? NO_COMPILER))('each errno as the answer to each operation', () => {
  useLiveMounts();

  test('reaches the caller unchanged, or as the kernel says; docs/ERRNO_MATRIX.md tells', { timeout: 300_000 }, async () => {
    const program = compileClient('faults/errnos.c', temporaryFolder('errnos-client'));
    const cells = (await measure(program)).filter(({ operation }) => operation !== 'readdir');
    // With READDIRPLUS the kernel asks for nothing else.
    cells.push(...(await measure(program, 'readdir', 'readdirplus')));

    expect(cells.filter(({ errno, outcome }) => errno === 0 && outcome !== 'ok')).toEqual([]);
    const unexplained = cells.filter(
      ({ operation, errno, outcome }) =>
        errno > 0 && outcome !== nameOf(errno) && reasonFor(operation, nameOf(errno), outcome) === undefined,
    );
    expect(unexplained).toEqual([]);
    // What came through unchanged was really answered by the daemon.
    expect(cells.filter(({ errno, hits, outcome }) => errno > 0 && hits === 0 && outcome === nameOf(errno))).toEqual([]);
    const needless = REASONS.filter(
      ({ operation, errnos, outcome }) =>
        !cells.some(
          (cell) =>
            cell.operation === operation && cell.outcome === outcome && (errnos?.includes(nameOf(cell.errno)) ?? cell.errno > 0),
        ),
    );
    expect(needless).toEqual([]);
    const page = pageOf(cells);
    if (process.env.FUSEWIRE_WRITE_MATRIX) writeFileSync(PAGE, page);
    expect(page).toBe(readFileSync(PAGE, 'utf8'));
  });
});
