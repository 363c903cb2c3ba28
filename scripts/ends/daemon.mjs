/**
 * A program that mounts module.mjs through the library and ends as a line on standard input says: `exit`, `throw`, `rejection`,
 * `memory`, or `closed` to end by itself when standard input does. Argument: JSON with path, workers, mode and limits.
 */
import { createInterface } from 'node:readline';
import { mount } from '../../dist/src/index.js';

const { path, workers, mode, limits } = JSON.parse(process.argv[2]);
const mounted = await mount({ module: new URL('./module.mjs', import.meta.url) }, path, { workers, mode, limits });
console.log(`mounted ${path}`);
mounted.closed.catch((error) => {
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 70;
});

let endsWithInput = false;
const hoard = [];
const ends = {
  exit: () => process.exit(7),
  throw: () => {
    throw new Error('this program ends on purpose');
  },
  rejection: () => void Promise.reject(new Error('this program ends on purpose')),
  memory: () => {
    for (;;) hoard.push(new Array(1 << 14).fill(0.5));
  },
  closed: () => {
    endsWithInput = true;
    console.log('waiting');
  },
};
createInterface({ input: process.stdin })
  .on('line', (line) => ends[line]())
  .on('close', () => {
    if (endsWithInput) mounted.unmount();
  });
