/** The process that makes a test's system calls, one after the other, until its standard input ends. */
import { readSync, writeSync } from 'node:fs';
import { loadAddon } from '../../native/index.ts';
import { Errno, HostCalls } from './calls.ts';
import { type CallAnswer, type CallRequest, encodeFrame, FrameReader } from './messages.ts';

const STDIN = 0;
const STDOUT = 1;

const POLLIN = 1;
const POLLOUT = 4;

const addon = loadAddon();
const calls = new HostCalls(addon) as unknown as Record<string, (...args: readonly unknown[]) => unknown>;

function perform({ id, call, args }: CallRequest): CallAnswer {
  try {
    return { id, value: calls[call](...args) };
  } catch (error) {
    if (error instanceof Errno) return { id, errno: error.errno };
    const { errno, message } = error as NodeJS.ErrnoException;
    return errno === undefined ? { id, message: `${call}: ${message}` } : { id, errno };
  }
}

/** Either stream may be non-blocking: what Node does to the parent's end of it, or a loader to ours, is not up to us. */
function waiting(fd: number, events: number, attempt: () => number): number {
  for (;;) {
    try {
      return attempt();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      addon.poll(fd, events, -1);
    }
  }
}

function writeWhole(frame: Buffer): void {
  for (let at = 0; at < frame.length; ) at += waiting(STDOUT, POLLOUT, () => writeSync(STDOUT, frame, at));
}

const reader = new FrameReader<CallRequest>();
const buffer = Buffer.alloc(65_536);
for (;;) {
  const got = waiting(STDIN, POLLIN, () => readSync(STDIN, buffer, 0, buffer.length, null));
  if (got === 0) break;
  // A copy, because what is left of a message is kept while the buffer fills again.
  for (const request of reader.take(Buffer.from(buffer.subarray(0, got)))) writeWhole(encodeFrame(perform(request)));
}
