/**
 * How a process may end while it has mounts. One listener for all of them: each would count against Node's limit of listeners
 * otherwise.
 */
import { constants } from 'node:os';

/** What has to go when the process does. */
export interface Ending {
  /** Detaches without waiting. */
  unmountSync(): void;
  unmount(): Promise<void>;
  /** Whether signals that end the process unmount first. */
  readonly endsOnSignals: boolean;
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const all = new Set<Ending>();

function onExit(): void {
  for (const ending of all) ending.unmountSync();
}

/** Unmounts, then lets the signal do what it does to a process that does not listen, unless somebody else listens. */
function onSignal(signal: NodeJS.Signals): void {
  const unmounts = [...all]
    .filter((ending) => ending.endsOnSignals)
    .map((ending) => ending.unmount().catch(() => ending.unmountSync()));
  Promise.all(unmounts).then(() => {
    for (const each of SIGNALS) process.off(each, onSignal);
    if (process.listenerCount(signal) !== 0) listen();
    // The first process of a pid namespace, as in a container, is spared what a signal does by default.
    else if (process.pid === 1) process.exit(128 + constants.signals[signal]);
    else process.kill(process.pid, signal);
  });
}

/** Listens for what the mounts that are there now need. */
function listen(): void {
  process.off('exit', onExit);
  for (const signal of SIGNALS) process.off(signal, onSignal);
  if (all.size === 0) return;
  process.on('exit', onExit);
  if ([...all].some((ending) => ending.endsOnSignals)) for (const signal of SIGNALS) process.on(signal, onSignal);
}

export function addEnding(ending: Ending): void {
  all.add(ending);
  listen();
}

export function removeEnding(ending: Ending): void {
  if (all.delete(ending)) listen();
}
