/**
 * A thread that looks files up and forgets them, over a table that it shares with others. Descriptors are made-up numbers:
 * the table never uses them. Ends with a message that counts what it did, or with what was wrong.
 */
import { parentPort, workerData } from 'node:worker_threads';

const { module, memory, nodesMax, index, rounds, files } = workerData;
const { InodeTable } = await import(module);
const table = new InodeTable(memory, nodesMax);
const identities = Array.from({ length: files }, (_, file) => ({ device: 7, inoLow: file + 1, inoHigh: file % 3 }));

let seed = index + 1;
const random = (below) => {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return (seed >>> 8) % below;
};

/** What this thread holds: a lookup each. */
const held = [];
const wrong = [];
let adopted = 0;
let freed = 0;
let nextFd = (index + 1) * 10_000_000;

function hold(file) {
  const since = table.now();
  let node = random(2) === 0 ? table.find(identities[file], since) : 0;
  if (node === 0) {
    node = table.enter(++nextFd, identities[file]);
    if (table.adopted) adopted++;
  }
  held.push({ node, file, fd: table.fd(node), generation: table.generation(node) });
}

function letGo() {
  const at = random(held.length);
  const { node, file, fd, generation } = held[at];
  held[at] = held[held.length - 1];
  held.pop();
  // As long as one lookup is held, the node is this file and stays it.
  if (table.fd(node) !== fd) wrong.push(`node ${node} changed its descriptor while held`);
  if (table.generation(node) !== generation) wrong.push(`node ${node} changed its generation while held`);
  const again = table.enter(++nextFd, identities[file]);
  if (again !== node || table.adopted) wrong.push(`file ${file} got a second node while it was held`);
  if (table.forget(node, 2)) freed++;
}

for (let round = 0; round < rounds && wrong.length === 0; round++) {
  if (held.length === 0 || (held.length < 20 && random(2) === 0)) hold(random(files));
  else letGo();
}
while (held.length > 0 && wrong.length === 0) letGo();
parentPort.postMessage({ adopted, freed, wrong: wrong.slice(0, 5) });
