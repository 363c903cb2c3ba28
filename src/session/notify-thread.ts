/** What the thread of notifications runs: it writes one message after the other to the device, and may block in that. */
import { parentPort, workerData } from 'node:worker_threads';
import { loadAddon } from '../native/index.ts';
import type { TraceFile } from '../transport/index.ts';
import { startRecorder } from './recording.ts';

const { fd, trace } = workerData as { fd: number; trace?: { file: TraceFile; channel: number } };
const recorder = trace === undefined ? undefined : startRecorder(trace.file, trace.channel);
const addon = loadAddon();
const port = parentPort!;

/** Registered memory for messages, grown as they need it. */
let memory = new ArrayBuffer(64 * 1024);
let id = addon.registerBuffer(memory);

port.on('message', ({ ticket, message }: { ticket: number; message: Uint8Array }) => {
  if (ticket === 0) {
    // The end: what is recorded is written when the thread exits.
    process.exit();
  }
  if (message.byteLength > memory.byteLength) {
    addon.unregisterBuffer(id);
    memory = new ArrayBuffer(message.byteLength);
    id = addon.registerBuffer(memory);
  }
  new Uint8Array(memory).set(message);
  const writtenAt = recorder?.now() ?? 0;
  const result = addon.reply(fd, id, 0, message.byteLength);
  recorder?.add({ dir: 'out', t: writtenAt, bytes: message, ...(result < 0 ? { errno: -result } : {}) });
  port.postMessage({ ticket, result });
});
