/** The recorder over a channel of a test: what it writes down, when, and what it leaves out. */
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readTrace, type TraceMessage, type TraceSummary } from '../../src/trace/index.ts';
import {
  type Channel,
  type ChannelHandler,
  closeTrace,
  type MessageBuffer,
  openTrace,
  Recorder,
  recorded,
  type TraceFile,
  type TraceSettings,
} from '../../src/transport/index.ts';

let folder: string;
let path: string;
const files: TraceFile[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fusewire-record-'));
  path = join(folder, 'trace');
});
afterEach(() => {
  for (const file of files.splice(0)) closeTrace(file);
  rmSync(folder, { recursive: true });
});

function opened(settings: Partial<TraceSettings> = {}): TraceFile {
  const file = openTrace({ path, ...settings });
  files.push(file);
  return file;
}

async function read(): Promise<{ messages: TraceMessage[]; summary: TraceSummary }> {
  const messages: TraceMessage[] = [];
  let summary: TraceSummary | undefined;
  for await (const message of readTrace(path, { onEnd: (end) => (summary = end) })) messages.push(message);
  return { messages, summary: summary! };
}

function buffer(bytes: number): MessageBuffer {
  const memory = new ArrayBuffer(Math.ceil(bytes / 8) * 8);
  return { bytes: new Uint8Array(memory), words: new Uint32Array(memory), id: -1 };
}

/** A message of `length` bytes: its length, its opcode or error, its id, and bytes that follow from the id. */
function message(length: number, code: number, unique: number): MessageBuffer {
  const whole = buffer(length);
  whole.bytes.fill(unique, 16, length);
  whole.words.set([length, code, unique, 0]);
  return whole;
}

const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const unique = ({ bytes }: TraceMessage) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(8, true);

/** A channel as the device's: a sent message is held back until the next one is sent or received. */
class Staging implements Channel {
  readonly kind = 'memory';
  readonly receiveBytesMax = 1 << 20;
  handler!: ChannelHandler;
  /** What the kernel says to each message, by its id. */
  readonly refusals = new Map<number, number>();
  #staged: MessageBuffer | undefined;

  open(handler: ChannelHandler): void {
    this.handler = handler;
  }

  deliver(whole: MessageBuffer, length: number): void {
    this.#flush();
    this.handler.onMessage(whole, length);
  }

  acquire(length: number): MessageBuffer {
    return buffer(length);
  }

  send(whole: MessageBuffer): number {
    this.#flush();
    this.#staged = whole;
    return 0;
  }

  sendParts(whole: MessageBuffer): number {
    this.#flush();
    return -(this.refusals.get(whole.words[2]) ?? 0);
  }

  close(): void {
    this.#flush();
    this.handler.onClosed('closed', 0);
  }

  #flush(): void {
    const staged = this.#staged;
    this.#staged = undefined;
    const errno = this.refusals.get(staged?.words[2] ?? 0);
    if (staged !== undefined && errno !== undefined) this.handler.onRefused(staged.words, errno);
  }

  discard(): void {}
  keep(): void {}
  release(): void {}
  setPending(): void {}
}

function channels(settings: Partial<TraceSettings> = {}, onMessage: (channel: Channel, whole: MessageBuffer) => void = () => {}) {
  const inner = new Staging();
  const channel = recorded(inner, new Recorder({ file: opened(settings), channel: 7 }));
  channel.open({ onMessage: (whole) => onMessage(channel, whole), onRefused: () => {}, onClosed: () => {} });
  return { inner, channel };
}

describe('refused replies', () => {
  test('have their errno, though it comes with the next receive or the next send', async () => {
    const { inner, channel } = channels({}, (to, whole) => {
      to.send(message(16, 0, whole.words[2]), 16);
      // A second answer in the same call makes the first one leave.
      if (whole.words[2] === 6) to.send(message(16, 0, 100), 16);
    });
    inner.refusals.set(4, 2).set(6, 22).set(100, 5).set(200, 28);
    for (const id of [2, 4, 6, 8]) inner.deliver(message(40, 3, id), 40);
    channel.sendParts(message(16, 0, 200), 16, [Uint8Array.of(1, 2, 3)]);
    channel.close();
    const { messages } = await read();
    const out = messages.filter(({ dir }) => dir === 'out').map((each) => [unique(each), each.errno]);
    expect(out).toEqual([
      [2, undefined],
      [4, 2],
      [6, 22],
      [100, 5],
      [8, undefined],
      [200, 28],
    ]);
    expect(messages.every(({ channel: number }) => number === 7)).toBe(true);
    expect(messages.at(-1)?.bytes.subarray(16)).toEqual(Uint8Array.of(1, 2, 3));
  });

  test('also when their block was full meanwhile', async () => {
    const { inner, channel } = channels({ blockBytes: 16_384 }, (to, whole) => {
      to.send(message(16, 0, whole.words[2]), 16);
      // It leaves at once, does not fit into the block, and is settled before the one that is held back.
      to.sendParts(message(16, 0, 1000 + whole.words[2]), 16, [new Uint8Array(15_000)]);
    });
    for (const id of [2, 4, 6]) {
      inner.refusals.set(id, id);
      inner.deliver(message(40, 3, id), 40);
    }
    channel.close();
    const { messages, summary } = await read();
    const out = messages.filter(({ dir }) => dir === 'out').map((each) => [unique(each), each.errno]);
    expect(out).toEqual(
      [2, 4, 6].flatMap((id) => [
        [id, id],
        [1000 + id, undefined],
      ]),
    );
    expect(summary.unordered).toBe(0);
  });
});

test('messages of every length come back, in order, whatever the block', async () => {
  const { inner, channel } = channels({ blockBytes: 16_384, readRateMax: Number.POSITIVE_INFINITY });
  const bytesOf = (length: number, id: number) => toHex(message(length, 3, id).bytes.subarray(0, length));
  const lengths = [40, 41, 47, 48, 255, 256, 257, 4112, 20_000, 70_001, 40, 16_300, 40, 1_000_000, 56];
  for (const [index, length] of lengths.entries()) inner.deliver(message(length, 3, index + 1), length);
  channel.close();
  const { messages } = await read();
  expect(messages.map(({ bytes }) => bytes.length)).toEqual(lengths);
  for (const [index, { bytes }] of messages.entries()) expect(toHex(bytes) === bytesOf(lengths[index], index + 1)).toBe(true);
});

describe('what is left out', () => {
  const READ = 15;
  const WRITE = 16;

  test('payloads beyond dataMax: of READ replies and of WRITE, of nothing else', async () => {
    const { inner, channel } = channels({ dataMax: 10 }, (to, whole) => {
      if (whole.words[1] !== WRITE) to.send(message(5000, 0, whole.words[2]), 5000);
    });
    inner.deliver(message(80, READ, 2), 80);
    inner.deliver(message(80, 28, 4), 80);
    inner.deliver(message(3000, WRITE, 6), 3000);
    inner.deliver(message(3000, 21, 8), 3000);
    channel.close();
    const { messages } = await read();
    const shown = messages.map(({ dir, bytes, wholeBytes }) => [dir, bytes.length, wholeBytes]);
    expect(shown).toEqual([
      ['in', 80, undefined],
      ['out', 26, 5000],
      ['in', 80, undefined],
      ['out', 5000, undefined],
      ['in', 90, 3000],
      ['in', 3000, undefined],
      ['out', 5000, undefined],
    ]);
  });

  test('what is read faster than readRateMax, once the burst is used up; errors and small answers stay', async () => {
    const rate = 100_000;
    const { inner, channel } = channels({ readRateMax: rate }, (to, whole) => {
      to.send(message(10_016, 0, whole.words[2]), 10_016);
    });
    for (let id = 2; id <= 40; id += 2) inner.deliver(message(80, READ, id), 80);
    channel.close();
    const { messages } = await read();
    const replies = messages.filter(({ dir }) => dir === 'out');
    const whole = replies.filter(({ wholeBytes }) => wholeBytes === undefined);
    // The burst of half a second holds four of them; a slow machine earns a few more.
    expect(whole.length).toBeGreaterThanOrEqual(4);
    expect(whole.length).toBeLessThan(20);
    for (const reply of replies.slice(whole.length)) if (reply.wholeBytes !== undefined) expect(reply.bytes.length).toBe(32);
  });
});

test('what waits is written in time; one that is told to flush shows so in its word of state', async () => {
  const { inner, channel } = channels({ flushMs: 20 });
  inner.deliver(message(40, 3, 2), 40);
  const before = statSync(path).size;
  await expect.poll(() => statSync(path).size, { timeout: 5000 }).toBeGreaterThan(before);
  channel.close();
  const state = new Int32Array(new SharedArrayBuffer(4));
  const recorder = new Recorder({ file: files[0], channel: 1, state });
  expect(state[0]).toBe(0);
  recorder.received(message(40, 3, 4), 40);
  recorder.received(message(40, 3, 6), 40);
  expect(state[0] & 1).toBe(1);
  recorder.flush();
  const after = state[0];
  expect(after & 1).toBe(0);
  expect(after).not.toBe(0);
  recorder.close();
});

test('lines of JSON are whole in the file whenever one looks', async () => {
  path = join(folder, 'trace.jsonl');
  const { inner, channel } = channels({ flushMs: 10 });
  for (let id = 2; id < 600; id += 2) inner.deliver(message(200, 3, id), 200);
  channel.close();
  expect((await read()).messages).toHaveLength(299);
});

test('an existing file is replaced, and a wrong setting is told before', async () => {
  writeFileSync(path, 'x'.repeat(1000));
  opened();
  expect((await read()).messages).toEqual([]);
  for (const wrong of [
    { path: '' },
    { path, dataMax: -1 },
    { path, flushMs: 5 },
    { path, blockBytes: 100 },
    { path, readRateMax: -1 },
  ]) {
    expect(() => openTrace(wrong)).toThrow(expect.objectContaining({ code: 'ERR_FUSEWIRE_TRACE_SETTING' }));
  }
});

test('a recorder whose file takes no more says so once and is quiet afterwards', () => {
  const told: unknown[] = [];
  const recorder = new Recorder({ file: { ...opened(), fd: 1_000_000 }, channel: 1, onError: (error) => told.push(error) });
  for (let time = 0; time < 3; time++) {
    recorder.received(message(40, 3, 2), 40);
    recorder.flush();
  }
  recorder.close();
  expect(told).toEqual([expect.objectContaining({ code: 'ERR_FUSEWIRE_TRACE_WRITE' })]);
});
