import type { Worker } from 'node:worker_threads';
import type { Claim } from './claim.ts';
import { type Fault, reportFault } from './diagnostics.ts';
import { entryOf, startWorker } from './worker-entry.ts';

/** A thread that serves a connection, as the guard needs to know it. */
export interface GuardedThread {
  threadId: number;
  /** The device descriptor by which it serves. It stays the thread's. */
  fd: number;
  /** Bytes of a buffer that holds every message of the connection. */
  receiveBytes: number;
  /** Settles when the thread's event loop had a turn. */
  ping(): Promise<unknown>;
  /** A message that was received in its place, to be served by it if it {@link begins}. */
  take(message: Uint8Array, claim: Claim): void;
}

/** From this side to the guard's thread. */
export type ToGuard =
  | { type: 'add'; key: number; threadId: number; fd: number; receiveBytes: number; intervalMs: number }
  | { type: 'remove'; key: number }
  | { type: 'pong'; key: number };

/** From the guard's thread. */
export type FromGuard =
  | { type: 'ping'; key: number }
  | { type: 'take'; key: number; message: Uint8Array; claim: Claim }
  | { type: 'fault'; fault: Fault };

/** The thread outlives the last mount a little: a program that mounts often does not start it each time. */
const LINGER_MS = 2000;
const INTERVAL_MS = 300;

const guarded = new Map<number, GuardedThread>();
let worker: Worker | undefined;
let lingering: NodeJS.Timeout | undefined;
let nextKey = 1;

/**
 * Has a thread guarded: when it sleeps in a system call that waits for this very thread's answer (a synchronous call on its own
 * mount, the start of a child there), the guard's thread answers that call EDEADLK in its place. There is one such thread in
 * the process; it looks once in `intervalMs` and acts at the third look. Answers what takes the thread out again; call that
 * before its descriptor is closed.
 */
export function guard(thread: GuardedThread, intervalMs = INTERVAL_MS): () => void {
  if (intervalMs <= 0) return () => {};
  const key = nextKey++;
  guarded.set(key, thread);
  clearTimeout(lingering);
  worker ??= started();
  const { threadId, fd, receiveBytes } = thread;
  tell({ type: 'add', key, threadId, fd, receiveBytes, intervalMs });
  return () => {
    if (!guarded.delete(key)) return;
    tell({ type: 'remove', key });
    if (guarded.size === 0) lingering = setTimeout(end, LINGER_MS).unref();
  };
}

function tell(message: ToGuard): void {
  worker?.postMessage(message);
}

function started(): Worker {
  const fresh = startWorker(entryOf(import.meta.url, './guard-thread'), {
    name: 'fusewire guard',
    resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 },
  });
  fresh.on('message', onMessage);
  fresh.on('error', (error) => {
    const message = 'the thread that answers requests of this process to itself died; such requests may now hang';
    reportFault({ kind: 'own-request', operation: '', nodeid: 0, pid: 0, message, error });
  });
  fresh.on('exit', () => {
    if (worker === fresh) worker = undefined;
  });
  fresh.unref();
  return fresh;
}

function end(): void {
  if (guarded.size > 0) return;
  const ending = worker;
  worker = undefined;
  ending?.terminate();
}

function onMessage(message: FromGuard): void {
  if (message.type === 'fault') {
    reportFault(message.fault);
    return;
  }
  const { key } = message;
  const thread = guarded.get(key);
  if (message.type === 'take') thread?.take(message.message, message.claim);
  else
    thread?.ping().then(
      () => tell({ type: 'pong', key }),
      () => {},
    );
}
