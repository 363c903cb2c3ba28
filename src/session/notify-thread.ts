/** What the thread of notifications runs: it writes one message after the other to the device, and may block in that. */
import { parentPort, workerData } from 'node:worker_threads';
import { loadAddon } from '../native/index.ts';

const { fd } = workerData as { fd: number };
const addon = loadAddon();
const port = parentPort!;

/** Registered memory for messages, grown as they need it. */
let memory = new ArrayBuffer(64 * 1024);
let id = addon.registerBuffer(memory);

port.on('message', ({ ticket, message }: { ticket: number; message: Uint8Array }) => {
  if (message.byteLength > memory.byteLength) {
    addon.unregisterBuffer(id);
    memory = new ArrayBuffer(message.byteLength);
    id = addon.registerBuffer(memory);
  }
  new Uint8Array(memory).set(message);
  port.postMessage({ ticket, result: addon.reply(fd, id, 0, message.byteLength) });
});
