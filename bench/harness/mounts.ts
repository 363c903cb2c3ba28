/** Mounts as the kernel lists them, and their removal. Nothing here makes a file system call on a mount. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface MountRow {
  path: string;
  type: string;
  /** Number of a FUSE connection: the decimal minor of the mount's device. */
  connection: number;
}

/** The rows of a mountinfo text whose mount point is `folder` or lies below it, in mount order. */
export function parseMounts(mountinfo: string, folder: string): MountRow[] {
  const rows: MountRow[] = [];
  for (const line of mountinfo.split('\n')) {
    const fields = line.split(' ');
    if (fields.length < 10) continue;
    const path = fields[4].replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    if (path !== folder && !path.startsWith(`${folder}/`)) continue;
    rows.push({ path, type: fields[fields.indexOf('-') + 1], connection: Number(fields[2].split(':')[1]) });
  }
  return rows;
}

export function mountsUnder(folder: string): MountRow[] {
  return parseMounts(readFileSync('/proc/self/mountinfo', 'utf8'), folder);
}

export function isMounted(path: string): boolean {
  return mountsUnder(path).some((row) => row.path === path);
}

const LIMIT = { timeout: 5000, killSignal: 'SIGKILL', stdio: 'ignore' } as const;

/**
 * Asks for an ordinary unmount, lazily when that does not help, in bounded time. `-c`: umount must not look at the path,
 * which may hang. An ordinary user's mounts go through fusermount3.
 */
export function unmount(path: string): void {
  const attempts =
    process.getuid?.() === 0
      ? [
          ['umount', '-c', path],
          ['umount', '-c', '-l', path],
        ]
      : [
          ['fusermount3', '-u', '-q', path],
          ['fusermount3', '-u', '-z', '-q', path],
        ];
  for (const [program, ...rest] of attempts) {
    if (!isMounted(path)) return;
    spawnSync(program, rest, LIMIT);
  }
}

/** Ends the connections of the FUSE mounts on or below `folder`, so that nobody waits for a daemon that is stuck. Needs root. */
export function abortConnections(folder: string): void {
  const rows = mountsUnder(folder).filter((row) => row.type.startsWith('fuse'));
  if (rows.length === 0 || process.getuid?.() !== 0) return;
  const standing = readFileSync('/proc/self/mountinfo', 'utf8').match(/^\S+ \S+ \S+ \S+ (\S+) .* - fusectl /m);
  const control = standing?.[1] ?? mkdtempSync(join(tmpdir(), 'fusewire-bench-ctl-'));
  if (standing === null) spawnSync('mount', ['-t', 'fusectl', 'none', control], LIMIT);
  for (const { connection } of rows) {
    try {
      const file = join(control, String(connection), 'abort');
      if (existsSync(file)) writeFileSync(file, '1');
    } catch {
      // The connection has ended already.
    }
  }
  if (standing !== null) return;
  spawnSync('umount', [control], LIMIT);
  try {
    rmdirSync(control);
  } catch {
    // Still mounted; an empty folder of control files harms nobody.
  }
}
