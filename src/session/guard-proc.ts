/** What /proc tells the guard of threads of this process and of its children. Nothing here waits, nor touches a mount. */
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from 'node:fs';

/** PF_FORKNOEXEC of <linux/sched.h>: a child that has not started its program yet. */
const PF_FORKNOEXEC = 0x40;
const PAGE_BYTES = 4096;
const PATH_MAX = 4096;
/** Of /proc/PID/syscall, as the kernel prints what a C program passes for AT_FDCWD. */
const AT_FDCWD = /^0x(ffffffff)?ffffff9c$/;

/** The text of a file; empty when there is none. */
export function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** The function of the kernel that a thread sleeps in; empty where the kernel does not tell. */
export function sleepsIn(threadId: number | string): string {
  const found = read(`/proc/${threadId}/wchan`);
  return found === '0' ? '' : found;
}

/** An answer of FUSE, or a page that a request of FUSE brings. */
const WAITS_FOR_ANSWER = /request_wait_answer|fuse|folio|page/;

export function isWaiting(threadId: number | string): boolean {
  return WAITS_FOR_ANSWER.test(sleepsIn(threadId));
}

/** How often a thread of this process was put to sleep or displaced. Where it changes, the thread gets on. */
export function switchesOf(threadId: number): string {
  return /^voluntary_ctxt_switches.*\n.*$/m.exec(read(`/proc/self/task/${threadId}/status`))?.[0] ?? '';
}

/** The processes below one, at any depth. */
export function* childrenOf(pid: number): Generator<number> {
  let tasks: string[] = [];
  try {
    tasks = readdirSync(`/proc/${pid}/task`);
  } catch {
    // It has ended.
  }
  for (const task of tasks) {
    for (const child of read(`/proc/${pid}/task/${task}/children`).split(' ').filter(Boolean)) {
      yield Number(child);
      yield* childrenOf(Number(child));
    }
  }
}

export interface Caller {
  parent: number;
  /** It is still a copy of its parent. */
  beforeExec: boolean;
}

export function callerOf(threadId: number): Caller | undefined {
  const group = /^Tgid:\s*(\d+)$/m.exec(read(`/proc/${threadId}/status`))?.[1];
  const stat = read(`/proc/${group}/stat`);
  if (group === undefined || stat === '') return undefined;
  // Behind the name, which is the second field: state, parent, group, session, terminal, its group, flags.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { parent: Number(fields[1]), beforeExec: (Number(fields[6]) & PF_FORKNOEXEC) !== 0 };
}

/** A mount, as the guard compares it with what a system call names. */
export interface MountPlace {
  /** First field of mountinfo. */
  readonly id: string;
  /** Absolute; one character a byte. */
  readonly path: string;
}

/** How a sleeping system call names a mount: by a path, or by a descriptor of a file on it. */
export type Naming = 'path' | 'descriptor';

/**
 * Whether the system call that a thread sleeps in names something on a mount, by its arguments (/proc/PID/syscall): undefined when
 * it does not, or does so in a way that is not seen here, as through a symbolic link from elsewhere or by touching a memory map.
 */
export function callNames(threadId: number, place: MountPlace): Naming | undefined {
  const [, first = '', ...more] = read(`/proc/${threadId}/syscall`).trim().split(' ');
  if (!first.startsWith('0x')) return undefined;
  const isFolder = AT_FDCWD.test(first) || Number(first) < 1 << 20;
  if (isFolder && !AT_FDCWD.test(first)) {
    const mountId = /^mnt_id:\s*(\d+)$/m.exec(read(`/proc/${threadId}/fdinfo/${Number(first)}`))?.[1];
    if (mountId === place.id) return 'descriptor';
  }
  const at = AT_FDCWD.test(first) || !isFolder ? 'cwd' : `fd/${Number(first)}`;
  // A path is the first argument, or the second one after a folder; renames and links have two.
  const paths = [isFolder ? undefined : first, ...more.slice(0, 3)];
  return paths.some((address) => address !== undefined && isBelow(threadId, address, at, place.path)) ? 'path' : undefined;
}

function isBelow(threadId: number, address: string, at: string, mountPoint: string): boolean {
  const named = stringAt(threadId, Number(address));
  if (named === '') return false;
  const path = normalized(named.startsWith('/') ? named : `${link(`/proc/${threadId}/${at}`)}/${named}`);
  return path === mountPoint || path.startsWith(`${mountPoint}/`);
}

function link(path: string): string {
  try {
    return readlinkSync(path, 'latin1');
  } catch {
    return '';
  }
}

function normalized(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return `/${parts.join('/')}`;
}

/** The string that ends with NUL in a thread's memory; empty where there is none. */
function stringAt(threadId: number, address: number): string {
  if (address < PAGE_BYTES || !Number.isSafeInteger(address)) return '';
  const bytes = Buffer.alloc(PATH_MAX);
  let length = 0;
  try {
    const memory = openSync(`/proc/${threadId}/mem`, 'r');
    try {
      while (length < PATH_MAX && !bytes.subarray(0, length).includes(0)) {
        // Never across the end of a page at once: the next one may not be there.
        const most = Math.min(PAGE_BYTES - ((address + length) % PAGE_BYTES), PATH_MAX - length);
        const got = readSync(memory, bytes, length, most, address + length);
        if (got <= 0) return '';
        length += got;
      }
    } finally {
      closeSync(memory);
    }
  } catch {
    return '';
  }
  const end = bytes.indexOf(0);
  return end < 0 ? '' : bytes.toString('latin1', 0, end);
}
