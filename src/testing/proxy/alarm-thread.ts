/** What the thread of the alarm runs: it sleeps until the time in shared memory has come, says so, and sleeps on. */
import { parentPort, workerData } from 'node:worker_threads';
import { ALARM_CHANGED, alarmMemory, sharedNow } from './alarm-memory.ts';

const { words, due } = alarmMemory(workerData as SharedArrayBuffer);
const port = parentPort!;

// The first message says that the thread runs.
port.postMessage(0);

for (;;) {
  const version = Atomics.load(words, ALARM_CHANGED);
  const at = due[0];
  if (at === 0) {
    Atomics.wait(words, ALARM_CHANGED, version);
    continue;
  }
  if (at < 0) break;
  const left = at - sharedNow();
  if (left > 0) {
    Atomics.wait(words, ALARM_CHANGED, version, left);
    continue;
  }
  due[0] = 0;
  port.postMessage(0);
}
