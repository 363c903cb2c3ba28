/**
 * The tape that native code writes (native/src/tape.h) against the reader of the format, over a FIFO: what is written comes back, and both
 * are recorded.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadAddon } from '../../src/native/index.ts';
import { BlockBuilder, decodeBlock, HELD, KEEP, parseBlockHead, TOOK } from '../../src/transport/record-format.ts';
import type { TraceMessage } from '../../src/transport/record-message.ts';

const addon = loadAddon();
const SENT = 0;
const RECEIVED = 8192;

let folder: string;
let fd: number;
let messages: Uint8Array;
let buffer: number;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fusewire-tape-'));
  execFileSync('mkfifo', [join(folder, 'fifo')]);
  fd = openSync(join(folder, 'fifo'), constants.O_RDWR | constants.O_NONBLOCK);
  const memory = new ArrayBuffer(2 * RECEIVED);
  messages = new Uint8Array(memory);
  buffer = addon.registerBuffer(memory);
});

afterEach(() => {
  addon.tapeEnd(fd);
  addon.unregisterBuffer(buffer);
  closeSync(fd);
  rmSync(folder, { recursive: true });
});

function begin(blockBytes: number, on = fd): BlockBuilder {
  const builder = new BlockBuilder(blockBytes);
  const id = addon.registerBuffer(builder.memory);
  const { dataBytes, indexBytes } = builder;
  expect(addon.tapeBegin(on, id, 0, dataBytes, indexBytes, Number(process.hrtime.bigint() / 1000n))).toBe(0);
  return builder;
}

/** Sends `length` bytes, of which `kept` are recorded (negative: nothing), and takes them in again. */
function pass(builder: BlockBuilder, length: number, kept: number, fill: number): void {
  messages.fill(fill, SENT, SENT + length);
  builder.shared[KEEP] = kept;
  expect(addon.reply(fd, buffer, SENT, length)).toBe(length);
  expect(addon.receive(fd, buffer, RECEIVED, RECEIVED)).toBe(length);
}

function read(builder: BlockBuilder): TraceMessage[] {
  const block = builder.seal(3, 0, true);
  const decoded = decodeBlock(block, parseBlockHead(block)!);
  if (typeof decoded === 'string') throw new Error(decoded);
  return decoded;
}

describe('the tape', () => {
  test('has what was sent, as much of it as is to be kept, and what was received', () => {
    const builder = begin(65_536);
    const lengths = [16, 17, 40, 41, 127, 128, 129, 4112];
    for (const [index, length] of lengths.entries()) pass(builder, length, index % 2 === 0 ? length : 16, index + 1);
    const found = read(builder);
    expect(found.map(({ dir, bytes, wholeBytes }) => [dir, bytes.length, wholeBytes])).toEqual(
      lengths.flatMap((length, index) => [
        index % 2 === 0 ? ['out', length, undefined] : ['out', 16, length],
        ['in', length, undefined],
      ]),
    );
    for (const [index, { bytes }] of found.entries()) expect(new Set(bytes)).toEqual(new Set([(index >> 1) + 1]));
    const times = found.map(({ t }) => t);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    expect(builder.shared[TOOK]).toBe(1);
    expect(builder.shared[KEEP]).toBe(-1);
  });

  test('has the errno of what was refused', () => {
    const closed = openSync('/dev/null', constants.O_RDONLY);
    try {
      const builder = begin(16_384, closed);
      builder.shared[KEEP] = 16;
      expect(addon.reply(closed, buffer, SENT, 16)).toBe(-9);
      expect(read(builder)).toMatchObject([{ dir: 'out', errno: 9 }]);
    } finally {
      addon.tapeEnd(closed);
      closeSync(closed);
    }
  });

  test('leaves alone what nobody wants kept, what is held, and what has no room', () => {
    const builder = begin(4096);
    pass(builder, 100, -1, 1);
    builder.shared[HELD] = 1;
    builder.shared[TOOK] = 0;
    pass(builder, 100, 100, 2);
    expect([builder.shared[TOOK], builder.shared[KEEP]]).toEqual([0, 100]);
    builder.shared[HELD] = 0;
    pass(builder, 4000, -1, 3);
    expect(builder.shared[TOOK]).toBe(0);
    expect(read(builder).map(({ dir, bytes }) => [dir, bytes[0]])).toEqual([['in', 1]]);
  });

  test('and JavaScript write one block in turns', () => {
    const builder = begin(16_384);
    pass(builder, 48, 48, 1);
    const at = builder.reserve(9);
    builder.bytes.fill(2, at, at + 9);
    builder.enter(1, builder.last + 300, 9, 70_000, 2);
    pass(builder, 56, 56, 3);
    const found = read(builder);
    expect(found.map(({ bytes }) => [bytes.length, bytes[0]])).toEqual([
      [48, 1],
      [48, 1],
      [9, 2],
      [56, 3],
      [56, 3],
    ]);
    expect(found[2]).toMatchObject({ dir: 'out', errno: 2, wholeBytes: 70_000 });
    expect(found[2].t - found[1].t).toBe(300);
    expect(found[3].t).toBeGreaterThanOrEqual(found[2].t);
  });

  test('of a descriptor that has none is not written', () => {
    const builder = begin(4096);
    addon.tapeEnd(fd);
    pass(builder, 64, 64, 1);
    expect(builder.count).toBe(0);
  });
});
