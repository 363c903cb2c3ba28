/** What each thread of the pool runs: load the author's module, serve a channel with it. */
import { parentPort, workerData } from 'node:worker_threads';
import { loadAddon } from '../native/index.ts';
import { begins, type Session, startRecorder } from '../session/index.ts';
import type { FromWorker, ToWorker, WorkerStart } from '../session/pool.ts';
import { cloneDevice, type Recorder } from '../transport/index.ts';
import type { Filesystem } from './filesystem.ts';
import { assertMethods } from './methods.ts';
import { loadFilesystem } from './module.ts';
import { capabilitiesOf } from './operations.ts';
import { deviceSession } from './serve.ts';

const start = workerData as WorkerStart;
const port = parentPort!;
const tell = (message: FromWorker): void => port.postMessage(message);

let session: Session | undefined;
let recorder: Recorder | undefined;

/** Notifications of this thread that the main thread's writer has. */
const notifying = new Map<number, (result: number) => void>();
let nextTicket = 1;

function notify(message: Uint8Array): Promise<number> {
  const ticket = nextTicket++;
  return new Promise((resolve) => {
    notifying.set(ticket, resolve);
    tell({ type: 'notify', ticket, message });
  });
}

async function main(): Promise<void> {
  let filesystem: Filesystem;
  try {
    filesystem = await loadFilesystem(start.module, start);
    assertMethods(filesystem);
  } catch (error) {
    fail('failed while loading', error);
    return;
  }
  port.on('message', (message: ToWorker) => onMessage(filesystem, message));
  tell({ type: 'loaded', capabilities: capabilitiesOf(filesystem) });
}

function onMessage(filesystem: Filesystem, message: ToWorker): void {
  if (message.type === 'serve') serve(filesystem, message);
  else if (message.type === 'interrupt') session?.interrupt(message.uniqueLow, message.uniqueHigh);
  else if (message.type === 'counters') {
    if (session !== undefined) tell({ type: 'counters', ticket: message.ticket, counters: { ...session.counters } });
  } else if (message.type === 'notified') {
    notifying.get(message.ticket)?.(message.result);
    notifying.delete(message.ticket);
  } else if (message.type === 'take') {
    if (begins(message.claim)) session?.channel.inject?.(message.message);
  } else if (message.type === 'retrieved') {
    session?.kernel.retrieved(message.id, message.data);
  } else if (message.type === 'flush') {
    recorder?.flush();
  } else if (message.type === 'drain') {
    session?.drain(message.timeoutMs).then(() => session?.channel.close());
  }
}

/** Channel 0 is the main thread's. */
function recorderOfThis(): Recorder | undefined {
  if (start.trace === undefined) return undefined;
  const { file, states } = start.trace;
  return startRecorder(file, start.index + 1, states.subarray(start.index, start.index + 1));
}

async function serve(filesystem: Filesystem, message: Extract<ToWorker, { type: 'serve' }>): Promise<void> {
  const { fd: source, negotiated, ring, backing } = message;
  const addon = loadAddon();
  try {
    recorder = recorderOfThis();
    const { fd } = cloneDevice(source, addon, recorder);
    session = deviceSession(filesystem, {
      addon,
      fd,
      mode: start.mode,
      negotiated,
      notify,
      limits: start.limits,
      ring,
      backing,
      recorder,
      source: start.index + 1,
      onForeignRetrieved: (source, id, data) => tell({ type: 'retrieved', source, id, data: data.slice() }),
      onForeignInterrupt: (uniqueLow, uniqueHigh) => tell({ type: 'interrupt', uniqueLow, uniqueHigh }),
    });
    tell({ type: 'cloned', threadId: addon.threadId(), fd });
    await session.prepare();
  } catch (error) {
    fail('could not start to serve', error);
    return;
  }
  session.ended.then(({ reason, errno }) => {
    tell({ type: 'closed', reason, errno });
    port.close();
  });
  tell({ type: 'serving' });
  session.open();
}

/** Tells the pool why this worker is of no use. */
function fail(what: string, error: unknown): void {
  const { code, message, stack } = error as { code?: string; message?: string; stack?: string };
  const known = typeof code === 'string' && code.startsWith('ERR_FUSEWIRE_');
  const text = known ? String(message) : `${start.module} ${what}: ${message ?? String(error)}`;
  tell({ type: 'failed', code: known ? code : 'ERR_FUSEWIRE_WORKER_LOAD', message: text, stack });
}

main();
