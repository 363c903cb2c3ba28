/** Children that wait for the next test, by identity: to start one costs more than most tests take. */
import { CallingProcess } from './child-process.ts';
import { HostProcessError } from './errors.ts';

/** Idle children that are kept; beyond that they end. */
const IDLE_MAX = 16;

export interface Identity {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

interface Idle {
  readonly child: CallingProcess;
  readonly key: string;
}

const idle: Idle[] = [];

/** Whether this program may start processes of other users. */
export const MAY_SWITCH = process.getuid?.() === 0;

const keyOf = ({ uid, gid, groups }: Identity) => `${uid}:${gid}:${groups.join(',')}`;
const ROOT_KEY = keyOf({ uid: 0, gid: 0, groups: [] });

function takeIdle(key: string): CallingProcess | undefined {
  const index = idle.findIndex((candidate) => candidate.key === key && !candidate.child.ended);
  return index < 0 ? undefined : idle.splice(index, 1)[0].child;
}

/** A process of that identity. Without privileges there is one identity, our own. */
export async function lease(identity: Identity, timeoutMs: number): Promise<CallingProcess> {
  const key = MAY_SWITCH ? keyOf(identity) : ROOT_KEY;
  const fitting = takeIdle(key);
  if (fitting !== undefined) {
    fitting.keepAlive(true);
    return fitting;
  }
  const child = takeIdle(ROOT_KEY) ?? new CallingProcess();
  child.keepAlive(true);
  if (!MAY_SWITCH) return child;
  try {
    await child.call('become', [identity.uid, identity.gid, [...identity.groups]], timeoutMs);
  } catch (error) {
    child.kill();
    throw new HostProcessError('ERR_FUSEWIRE_IDENTITY', `no process could become user ${key}: ${(error as Error).message}`);
  }
  return child;
}

/** Takes a process back after its test, with nothing open and outside of every tree. */
export async function giveBack(child: CallingProcess, identity: Identity, timeoutMs: number): Promise<void> {
  if (child.ended) return;
  await child.call('leave', [], timeoutMs);
  if (idle.length >= IDLE_MAX) {
    child.kill();
    return;
  }
  child.keepAlive(false);
  idle.push({ child, key: MAY_SWITCH ? keyOf(identity) : ROOT_KEY });
}

/** Ends the processes that wait for work. They end by themselves when this program does. */
export async function endIdleProcesses(): Promise<void> {
  const all = idle.splice(0);
  for (const { child } of all) {
    child.keepAlive(true);
    child.kill();
  }
  await Promise.all(all.map(({ child }) => child.gone));
}
