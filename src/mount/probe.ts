/** What this machine offers to a FUSE daemon, and how to mend what is missing. Looks only; changes nothing. */
import { accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs';
import { release } from 'node:os';
import { fromBinary, loadAddon } from '../native/index.ts';
import { statInChild } from './child.ts';
import { FUSECTL_PATH, findFusectl } from './connection.ts';
import { findHelper } from './helper.ts';
import { isFuseType, type MountInfo, readMountInfo } from './mountinfo.ts';
import { isPrivileged } from './privilege.ts';

/** `ok`; `note`: works, could be better; `missing`: stands in the way of this user's mounts. */
export type ProbeState = 'ok' | 'note' | 'missing';

export interface ProbeCheck {
  /** Stable: programs may look for it. */
  readonly name: string;
  readonly state: ProbeState;
  /** What was found. */
  readonly found: string;
  /** A command, or a few words, that mend it. */
  readonly mend?: string;
}

export interface ProbeReport {
  /** Whether this user can mount here, as far as looking tells. */
  readonly canMount: boolean;
  readonly checks: readonly ProbeCheck[];
}

/** Looks at the machine through files alone, so that a test can put others in their place. */
export interface ProbeSource {
  /** The text of a file, or undefined. */
  read(path: string): string | undefined;
  readonly kernelRelease: string;
}

const MACHINE: ProbeSource = {
  read(path) {
    try {
      return readFileSync(path, 'latin1');
    } catch {
      return undefined;
    }
  },
  get kernelRelease() {
    return release();
  },
};

/** The FUSE minor of kernel releases (FUSE_KERNEL_MINOR_VERSION of <linux/fuse.h>), oldest first; between two rows the earlier holds. */
const KERNEL_MINORS: readonly (readonly [major: number, minor: number, fuseMinor: number])[] = [
  [3, 3, 18],
  [3, 5, 19],
  [3, 6, 20],
  [4, 18, 27],
  [6, 1, 37],
  [6, 3, 38],
  [6, 8, 39],
  [6, 10, 40],
  [6, 12, 41],
  [6, 14, 42],
  [6, 18, 45],
];

/** The least FUSE minor that a kernel release speaks, by table; 0 for one that is older than the table. */
export function kernelFuseMinor(kernelRelease: string): number {
  const match = /^(\d+)\.(\d+)/.exec(kernelRelease);
  if (match === null) return 0;
  const [major, minor] = [Number(match[1]), Number(match[2])];
  const row = KERNEL_MINORS.findLast(([rowMajor, rowMinor]) => major > rowMajor || (major === rowMajor && minor >= rowMinor));
  return row?.[2] ?? 0;
}

/** FUSE_ABORT_ERROR came with it; Linux 4.18. */
const MINOR_NEEDED = 27;
/** Open files that a passthrough of an ordinary tree needs. */
const OPEN_FILES_WANTED = 4096;
const STALE_TIMEOUT_MS = 1500;
const STALE_CHECKED_MAX = 32;

/** Runs every check. Takes some milliseconds, up to 1.5 s when a FUSE daemon of this machine hangs. */
export async function probe(machine: ProbeSource = MACHINE): Promise<ProbeReport> {
  const privileged = isPrivileged();
  const checks = [
    checkKernel(machine),
    checkAddon(),
    checkDevice(),
    checkPrivileges(privileged),
    checkHelper(privileged),
    checkAllowOther(machine, privileged),
    checkFusectl(),
    checkPages(machine),
    checkUring(machine),
    checkUserNamespaces(machine),
    checkOpenFiles(machine),
    checkContainer(machine),
    ...(await checkMounts()),
  ];
  return { canMount: checks.every((check) => check.state !== 'missing'), checks };
}

function checkKernel(machine: ProbeSource): ProbeCheck {
  const minor = kernelFuseMinor(machine.kernelRelease);
  const found = `Linux ${machine.kernelRelease}, FUSE 7.${minor}${minor === 0 ? ' (unknown)' : ' or newer'}`;
  if (minor < MINOR_NEEDED) return { name: 'kernel', state: 'missing', found, mend: 'use Linux 4.18 or newer' };
  return { name: 'kernel', state: 'ok', found };
}

function checkAddon(): ProbeCheck {
  try {
    loadAddon();
    return { name: 'addon', state: 'ok', found: 'the native addon loads' };
  } catch (error) {
    return { name: 'addon', state: 'missing', found: (error as Error).message, mend: 'npm run build:native' };
  }
}

function checkDevice(): ProbeCheck {
  const name = 'device';
  if (!existsSync('/dev/fuse')) {
    const mend = 'modprobe fuse (in a container: --device /dev/fuse)';
    return { name, state: 'missing', found: '/dev/fuse is not there', mend };
  }
  const mode = (statSync('/dev/fuse').mode & 0o777).toString(8);
  try {
    // Opening it would load the module and is harmless, but asking for access tells as much.
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return { name, state: 'ok', found: `/dev/fuse, mode 0${mode}, can be opened` };
  } catch {
    return { name, state: 'missing', found: `/dev/fuse, mode 0${mode}, cannot be opened by you`, mend: 'chmod 0666 /dev/fuse' };
  }
}

function checkPrivileges(privileged: boolean): ProbeCheck {
  const user = `uid ${process.geteuid?.() ?? '?'}`;
  if (privileged) return { name: 'privileges', state: 'ok', found: `${user} with CAP_SYS_ADMIN: mounts by mount(2)` };
  if (process.geteuid?.() !== 0) return { name: 'privileges', state: 'ok', found: `${user}: mounts through fusermount3` };
  const mend = 'give the container --cap-add SYS_ADMIN';
  return { name: 'privileges', state: 'missing', found: 'root without CAP_SYS_ADMIN', mend };
}

function checkHelper(privileged: boolean): ProbeCheck {
  const name = 'fusermount3';
  const helper = findHelper();
  const needed: ProbeState = privileged ? 'note' : 'missing';
  if (helper === undefined) return { name, state: needed, found: 'not installed', mend: 'apt-get install fuse3' };
  const { mode, uid } = statSync(helper);
  if ((mode & 0o4000) !== 0 && uid === 0) return { name, state: 'ok', found: `${helper}, setuid root` };
  return { name, state: needed, found: `${helper}, not setuid root`, mend: `chown root ${helper} && chmod u+s ${helper}` };
}

function checkAllowOther(machine: ProbeSource, privileged: boolean): ProbeCheck {
  const allowed = /^\s*user_allow_other\s*$/m.test(machine.read('/etc/fuse.conf') ?? '');
  const found = allowed ? 'ordinary users may use it' : 'only root may use it';
  if (allowed || privileged) return { name: 'allow_other', state: 'ok', found };
  return { name: 'allow_other', state: 'note', found, mend: 'echo user_allow_other >> /etc/fuse.conf' };
}

function checkFusectl(): ProbeCheck {
  const path = findFusectl();
  if (path !== undefined) return { name: 'fusectl', state: 'ok', found: `mounted at ${path}: connections can be aborted` };
  const mend = `mount -t fusectl none ${FUSECTL_PATH}`;
  return { name: 'fusectl', state: 'note', found: 'not mounted: connections can only be aborted by root', mend };
}

function checkPages(machine: ProbeSource): ProbeCheck {
  const limit = Number(machine.read('/proc/sys/fs/fuse/max_pages_limit')) || undefined;
  const found = limit === undefined ? 'requests of up to 256 pages' : `requests of up to ${limit} pages (max_pages_limit)`;
  if (limit === undefined || limit >= 256) return { name: 'max_pages', state: 'ok', found };
  return { name: 'max_pages', state: 'note', found, mend: 'sysctl fs.fuse.max_pages_limit=256' };
}

function checkUring(machine: ProbeSource): ProbeCheck {
  const name = 'io_uring';
  const disabled = (machine.read('/proc/sys/kernel/io_uring_disabled') ?? '').trim();
  const enabled = machine.read('/sys/module/fuse/parameters/enable_uring')?.trim();
  if (enabled === undefined)
    return { name, state: 'note', found: 'this kernel has no FUSE over io_uring (Linux 6.14 and newer)' };
  if (disabled !== '' && disabled !== '0') {
    return { name, state: 'note', found: `kernel.io_uring_disabled is ${disabled}`, mend: 'sysctl kernel.io_uring_disabled=0' };
  }
  if (enabled === 'Y' || enabled === '1') return { name, state: 'ok', found: 'FUSE over io_uring is enabled' };
  const mend = 'echo Y > /sys/module/fuse/parameters/enable_uring';
  return { name, state: 'note', found: 'FUSE over io_uring is off', mend };
}

function checkUserNamespaces(machine: ProbeSource): ProbeCheck {
  const most = Number(machine.read('/proc/sys/user/max_user_namespaces') ?? 0);
  const clone = machine.read('/proc/sys/kernel/unprivileged_userns_clone')?.trim();
  if (most > 0 && clone !== '0')
    return { name: 'user_namespaces', state: 'ok', found: 'ordinary users can mount inside their own' };
  const mend = most > 0 ? 'sysctl kernel.unprivileged_userns_clone=1' : 'sysctl user.max_user_namespaces=10000';
  return { name: 'user_namespaces', state: 'note', found: 'not open to ordinary users', mend };
}

function checkOpenFiles(machine: ProbeSource): ProbeCheck {
  const match = /^Max open files\s+(\S+)\s+(\S+)/m.exec(machine.read('/proc/self/limits') ?? '');
  const [soft, hard] = [match?.[1] ?? 'unknown', match?.[2] ?? 'unknown'];
  const found = `${soft}, may be raised to ${hard}`;
  const enough = soft === 'unlimited' || hard === 'unlimited' || Number(hard) >= OPEN_FILES_WANTED;
  if (enough || match === null) return { name: 'open_files', state: 'ok', found };
  return { name: 'open_files', state: 'note', found, mend: `ulimit -n ${OPEN_FILES_WANTED}` };
}

function checkContainer(machine: ProbeSource): ProbeCheck {
  const name = 'container';
  const marks: string[] = [];
  if (existsSync('/.dockerenv')) marks.push('/.dockerenv');
  if (existsSync('/run/.containerenv')) marks.push('/run/.containerenv');
  if (/docker|kubepods|containerd|lxc/.test(machine.read('/proc/1/cgroup') ?? '')) marks.push('cgroup of process 1');
  const kind = /(?:^|\0)container=([^\0]+)/.exec(machine.read('/proc/1/environ') ?? '')?.[1];
  if (kind !== undefined) marks.push(`container=${kind}`);
  if (marks.length === 0) return { name, state: 'ok', found: 'no sign of one' };
  return { name, state: 'ok', found: `looks like one (${marks.join(', ')}); it needs --device /dev/fuse --cap-add SYS_ADMIN` };
}

/** FUSE mounts whose daemon is gone or does not answer. Each is asked by a child of its own, all at the same time. */
async function checkMounts(): Promise<ProbeCheck[]> {
  const mounts = readMountInfo().filter((mount) => isFuseType(mount.type));
  const bad = (await Promise.all(mounts.slice(0, STALE_CHECKED_MAX).map(checkMount))).filter((check) => check !== undefined);
  const found = `${mounts.length} FUSE ${mounts.length === 1 ? 'mount' : 'mounts'}, ${bad.length} without an answer`;
  return [{ name: 'mounts', state: bad.length === 0 ? 'ok' : 'note', found }, ...bad];
}

async function checkMount(mount: MountInfo): Promise<ProbeCheck | undefined> {
  const path = fromBinary(mount.mountPoint);
  if (path === undefined) return undefined;
  const answer = await statInChild(path, STALE_TIMEOUT_MS);
  const code = 'code' in answer ? answer.code : '';
  if (code !== 'ENOTCONN' && code !== 'ECONNABORTED' && code !== 'ETIMEDOUT') return undefined;
  const found = `${path} (${mount.type}): ${code === 'ETIMEDOUT' ? 'its daemon does not answer' : 'its daemon is gone'}`;
  return { name: 'stale_mount', state: 'note', found, mend: `fusewire umount ${code === 'ETIMEDOUT' ? '--force ' : ''}${path}` };
}
