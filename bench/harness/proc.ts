/** What /proc tells of a process: processor time and memory, and when it started, which tells it from a later one of its id. */
import { readdirSync, readFileSync } from 'node:fs';

/** Linux counts processor time for programs in hundredths of a second (USER_HZ) on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

/** The fields of /proc/PID/stat behind the command, which is in brackets and may hold anything: index 0 is field 3, the state. */
function statFields(text: string): string[] {
  return text
    .slice(text.lastIndexOf(')') + 2)
    .trimEnd()
    .split(' ');
}

/** Processor seconds that /proc/PID/stat shows: user and system, all threads, also those that ended. Exact to 10 ms. */
export function parseCpuSeconds(stat: string): number {
  const fields = statFields(stat);
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** A kB line of /proc/PID/status, in bytes; undefined when it is not there. */
export function parseStatusBytes(status: string, key: string): number | undefined {
  const match = status.match(new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm'));
  return match === null ? undefined : Number(match[1]) * 1024;
}

function readProc(pid: number, file: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return undefined;
  }
}

/** Clock ticks after boot at which a process began; undefined when there is none of that id. */
export function startTime(pid: number): string | undefined {
  const stat = readProc(pid, 'stat');
  return stat === undefined ? undefined : statFields(stat)[19];
}

/** The process and all that descend from it. */
export function processTree(pid: number): number[] {
  const found = [pid];
  for (const thread of threadsOf(pid)) {
    const children = readProc(pid, `task/${thread}/children`) ?? '';
    for (const child of children.split(' ')) if (child !== '') found.push(...processTree(Number(child)));
  }
  return found;
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

/** Processor seconds of a process, its threads and the processes below it. */
export function cpuSeconds(pid: number): number {
  let sum = 0;
  for (const member of processTree(pid)) {
    const stat = readProc(member, 'stat');
    if (stat !== undefined) sum += parseCpuSeconds(stat);
  }
  return sum;
}

/** Processor time used so far, for {@link cpuSecondsBetween}. */
export interface CpuReading {
  /** Exact to 10 ms, with all threads that there ever were. */
  seconds: number;
  /** Nanoseconds on a processor of each thread that lives, where the kernel counts them. */
  threads: ReadonlyMap<number, number>;
}

export function cpuReading(pid: number): CpuReading {
  const threads = new Map<number, number>();
  for (const member of processTree(pid)) {
    for (const thread of threadsOf(member)) {
      const nanoseconds = Number((readProc(member, `task/${thread}/schedstat`) ?? '').split(' ')[0]);
      if (nanoseconds > 0) threads.set(Number(thread), nanoseconds);
    }
  }
  return { seconds: cpuSeconds(pid), threads };
}

/** Exact where no thread ended between the readings, else to 10 ms. */
export function cpuSecondsBetween(before: CpuReading, after: CpuReading): number {
  const stayed = [...before.threads.keys()].every((thread) => after.threads.has(thread));
  if (!stayed || after.threads.size === 0) return after.seconds - before.seconds;
  let nanoseconds = 0;
  for (const [thread, used] of after.threads) nanoseconds += used - (before.threads.get(thread) ?? 0);
  return nanoseconds / 1e9;
}

/** Resident bytes of a process and those below it. */
export function residentBytes(pid: number): number {
  let sum = 0;
  for (const member of processTree(pid)) sum += parseStatusBytes(readProc(member, 'status') ?? '', 'VmRSS') ?? 0;
  return sum;
}
