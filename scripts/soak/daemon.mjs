/**
 * The daemon of the soak. Argument: JSON with source, path, workers, mode, writeback. A line `counters` on standard input is answered
 * with the mount's counters as JSON, and how often each worker collected its garbage; `collect` collects the main thread's. The
 * end of the input unmounts.
 */

import { subscribe } from 'node:diagnostics_channel';
import { createInterface } from 'node:readline';
import { FAULT_CHANNEL, mount } from '../../dist/src/index.js';

const { source, path, workers, mode, writeback } = JSON.parse(process.argv[2]);
const faults = [];
subscribe(FAULT_CHANNEL, (fault) => faults.push(`${fault.kind}: ${fault.message} ${fault.error?.stack ?? ''}`));
const collected = new Int32Array(new SharedArrayBuffer(4 * 65));
const mounted = await mount(
  { module: new URL('./module.mjs', import.meta.url), options: { source, cache: 'auto', writeback, collected } },
  path,
  {
    workers,
    mode,
    writeback,
    maxWrite: 256 * 1024,
    mountOptions: 'allow_other',
  },
);
console.log(JSON.stringify({ event: 'mounted', connection: mounted.connection }));
createInterface({ input: process.stdin })
  .on('line', async (line) => {
    if (line === 'collect') globalThis.gc?.();
    const turns = [...collected.slice(1, 1 + workers)];
    console.log(JSON.stringify({ event: line, faults, collected: turns, counters: await mounted.counters() }));
  })
  .on('close', () => mounted.unmount());
