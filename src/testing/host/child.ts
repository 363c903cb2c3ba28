/** The process that makes a test's system calls, one after the other, until its standard input ends. */
import { readSync, writeSync } from 'node:fs';
import { loadAddon } from '../../native/index.ts';
import { Errno, HostCalls } from './calls.ts';
import { type CallAnswer, type CallRequest, encodeFrame, FrameReader } from './messages.ts';

const STDIN = 0;
const STDOUT = 1;

const calls = new HostCalls(loadAddon()) as unknown as Record<string, (...args: readonly unknown[]) => unknown>;

function perform({ id, call, args }: CallRequest): CallAnswer {
  try {
    return { id, value: calls[call](...args) };
  } catch (error) {
    if (error instanceof Errno) return { id, errno: error.errno };
    const { errno, message } = error as NodeJS.ErrnoException;
    return errno === undefined ? { id, message: `${call}: ${message}` } : { id, errno };
  }
}

function writeWhole(frame: Buffer): void {
  for (let at = 0; at < frame.length; ) at += writeSync(STDOUT, frame, at);
}

const reader = new FrameReader<CallRequest>();
const buffer = Buffer.alloc(65_536);
for (;;) {
  const got = readSync(STDIN, buffer, 0, buffer.length, null);
  if (got === 0) break;
  // A copy, because what is left of a message is kept while the buffer fills again.
  for (const request of reader.take(Buffer.from(buffer.subarray(0, got)))) writeWhole(encodeFrame(perform(request)));
}
