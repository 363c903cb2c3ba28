/** The latency proxy as a process: target port, round-trip in milliseconds, bytes a second (0: no limit). It prints its port. */
import { latencyProxy } from 'fusewire/testing';

const [target, roundTripMs, bytesPerSecond] = process.argv.slice(2).map(Number);
const proxy = await latencyProxy({
  target: { port: target },
  roundTripMs,
  // Much: a sender that is held back for want of processor time would leave the link idle.
  bufferBytes: 16 << 20,
  ...(bytesPerSecond > 0 ? { bytesPerSecond } : {}),
});
process.stdout.write(`${proxy.port}\n`);
