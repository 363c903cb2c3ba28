/** What the thread of a synchronous mount runs: one mount(2), which waits in the kernel until INIT is answered. */
import { parentPort, workerData } from 'node:worker_threads';
import { loadAddon } from '../native/index.ts';
import { type MountArguments, RESULT, STATE, STATE_CALLING, STATE_READY, STATE_RETURNED } from './synchronous.ts';

const { state, source, target, type, flags, data } = workerData as MountArguments;
const addon = loadAddon();

// The main thread may have given up meanwhile: from here on it knows that it has an INIT to refuse.
if (Atomics.compareExchange(state, STATE, STATE_READY, STATE_CALLING) === STATE_READY) {
  const result = addon.mount(source, target, type, flags, data);
  Atomics.store(state, RESULT, result);
  Atomics.store(state, STATE, STATE_RETURNED);
  Atomics.notify(state, STATE);
  parentPort!.postMessage(result);
}
