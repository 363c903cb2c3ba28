/** Trace files: what is written comes back, and what is broken is told. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BLOCK_HEAD_BYTES, FILE_HEAD_BYTES, parseBlockHead } from '../../src/trace/format.ts';
import type { ReadTraceOptions } from '../../src/trace/index.ts';
import { readTrace, TraceError, type TraceMessage, type TraceSummary, wholeMessage, writeTrace } from '../../src/trace/index.ts';
import { TRACES, toHex } from './support.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fusewire-trace-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const inFolder = (name: string) => join(folder, name);
const fixture = (name: string) => new URL(`./fixtures/${name}`, import.meta.url).pathname;

interface Read {
  readonly messages: TraceMessage[];
  readonly summary: TraceSummary;
}

async function read(path: string, options: ReadTraceOptions = {}): Promise<Read> {
  const messages: TraceMessage[] = [];
  let summary: TraceSummary | undefined;
  for await (const message of readTrace(path, {
    ...options,
    onEnd: (end) => {
      summary = end;
    },
  })) {
    messages.push({ ...message, bytes: message.bytes.slice() });
  }
  return { messages, summary: summary! };
}

/** With bytes as text, which vitest compares a thousand times faster. */
const plain = (messages: readonly TraceMessage[]) => messages.map((message) => ({ ...message, bytes: toHex(message.bytes) }));

async function failure(path: string, options?: ReadTraceOptions): Promise<TraceError> {
  const error = await read(path, options).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(TraceError);
  return error as TraceError;
}

/** A READ of 32 bytes and its answer of `dataBytes`, again and again. */
function some(count: number, dataBytes = 100): TraceMessage[] {
  return Array.from({ length: count }, (_, index) => {
    const bytes = new Uint8Array(index % 2 === 0 ? 80 : 16 + dataBytes).fill(index);
    new DataView(bytes.buffer).setUint32(0, bytes.length, true);
    return { dir: index % 2 === 0 ? 'in' : 'out', t: index * 10, bytes } as const;
  });
}

const optional = <T>(values: fc.Arbitrary<T>) => fc.option(values, { nil: undefined });
const messageArbitrary: fc.Arbitrary<TraceMessage> = fc
  .record({
    dir: fc.constantFrom('in', 'out', 'ioctl'),
    t: fc.oneof(fc.nat(1000), fc.maxSafeNat()),
    bytes: fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.uint8Array({ minLength: 4000, maxLength: 9000 })),
    errno: optional(fc.integer({ min: 1, max: 65_535 })),
    channel: optional(fc.oneof(fc.nat(3), fc.nat(0xffff_ffff))),
    command: optional(fc.integer({ min: 0, max: 0xffff_ffff })),
    result: optional(fc.integer()),
    via: optional(fc.oneof(fc.constantFrom('read', 'writev', 'splice'), fc.string({ unit: 'grapheme', maxLength: 40 }))),
    cut: optional(fc.nat(100_000)),
  })
  .map(({ cut, ...fields }) => {
    const present = Object.entries(fields).filter(([, value]) => value !== undefined);
    const message = Object.fromEntries(present) as unknown as TraceMessage;
    return cut === undefined ? message : { ...message, wholeBytes: message.bytes.length + cut };
  });

const FORMATS = ['x.fwtrace', 'x.jsonl', 'x.fwtrace.gz', 'x.jsonl.gz'];

describe.each(FORMATS)('%s', (name) => {
  test('what is written comes back, ordered by time', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(messageArbitrary, { maxLength: 60 }),
        fc.constantFrom(4096, 16_384),
        async (messages, blockBytes) => {
          const path = inFolder(name);
          expect(await writeTrace(path, messages, { blockBytes })).toBe(messages.length);
          const { messages: back, summary } = await read(path);
          const ordered = messages.map((message, index) => ({ message, index }));
          ordered.sort((a, b) => a.message.t - b.message.t || a.index - b.index);
          expect(plain(back)).toEqual(plain(ordered.map(({ message }) => message)));
          expect(summary).toMatchObject({ messages: messages.length, unordered: 0, damaged: [] });
          expect(summary.truncated).toBeUndefined();
        },
      ),
      { numRuns: 40 },
    );
  });

  test('a captured trace goes through it without loss', async () => {
    for (const trace of TRACES.slice(0, 6)) {
      const { messages } = await read(fixture(trace));
      const path = inFolder(name);
      await writeTrace(path, readTrace(fixture(trace)));
      expect(plain((await read(path)).messages)).toEqual(plain(messages));
      await writeTrace(inFolder('again.jsonl'), readTrace(path));
      expect(plain((await read(inFolder('again.jsonl'))).messages)).toEqual(plain(messages));
    }
  });
});

test('the compact form of a captured trace is smaller than its text, packed and not', async () => {
  for (const trace of TRACES.filter((candidate) => candidate.includes('passthrough') || candidate.includes('rclone'))) {
    await writeTrace(inFolder('c.fwtrace'), readTrace(fixture(trace)));
    await writeTrace(inFolder('c.jsonl'), readTrace(fixture(trace)));
    const compact = readFileSync(inFolder('c.fwtrace')).length;
    expect(compact).toBeLessThan(readFileSync(inFolder('c.jsonl')).length / 2);
  }
});

test('a trace keeps when it began', async () => {
  await writeTrace(inFolder('begun'), some(2), { startedAtMicros: 1_700_000_000_000_123 });
  expect((await read(inFolder('begun'))).summary.startedAtMicros).toBe(1_700_000_000_000_123);
});

test('an empty trace is a trace', async () => {
  for (const name of FORMATS) {
    await writeTrace(inFolder(name), []);
    expect((await read(inFolder(name))).messages).toEqual([]);
  }
});

test('a message whose payload was cut has its length back, with zeros', () => {
  const bytes = Uint8Array.of(40, 0, 0, 0, 7);
  expect(wholeMessage({ dir: 'in', t: 0, bytes, wholeBytes: 8 })).toEqual(Uint8Array.of(40, 0, 0, 0, 7, 0, 0, 0));
  expect(wholeMessage({ dir: 'in', t: 0, bytes })).toBe(bytes);
});

describe('order', () => {
  /** Blocks of four channels as threads append them: each whole, the slow ones late. */
  async function shuffled(path: string, compact: boolean): Promise<TraceMessage[]> {
    const bytes = new Uint8Array(50);
    const all: TraceMessage[] = [];
    const runs: TraceMessage[][] = [];
    for (let channel = 0; channel < 4; channel++) {
      for (let run = 0; run < 20; run++) {
        const own = Array.from({ length: 40 }, (_, at) => ({
          dir: 'in' as const,
          t: run * 1000 + at * 25 + channel,
          channel,
          bytes,
        }));
        all.push(...own);
        runs.push(own);
      }
    }
    // Channel 3 is flushed eleven runs later than the others.
    runs.sort((a, b) => a[0].t + (a[0].channel === 3 ? 11_000 : 0) - (b[0].t + (b[0].channel === 3 ? 11_000 : 0)));
    if (compact) {
      const files: Buffer[] = [];
      for (const [index, run] of runs.entries()) {
        await writeTrace(path, run);
        const file = readFileSync(path);
        files.push(index === 0 ? file : file.subarray(FILE_HEAD_BYTES));
      }
      writeFileSync(path, Buffer.concat(files));
    } else {
      const lines = runs.flat().map(({ t, channel }) => JSON.stringify({ dir: 'in', t, fd: channel, hex: '00'.repeat(50) }));
      writeFileSync(path, `${lines.join('\n')}\n`);
    }
    return all.sort((a, b) => a.t - b.t);
  }

  test.each([true, false])('threads that appended late are merged exactly (compact: %s)', async (compact) => {
    const path = inFolder('late');
    const all = await shuffled(path, compact);
    const merged = await read(path);
    expect(merged.messages.map(({ t, channel }) => [t, channel])).toEqual(all.map(({ t, channel }) => [t, channel]));
    expect(merged.summary.unordered).toBe(0);
    writeFileSync(`${path}.gz`, gzipSync(readFileSync(path)));
    expect(plain((await read(`${path}.gz`)).messages)).toEqual(plain(merged.messages));
  });

  test('what may be held is bounded, and giving up the order is told', async () => {
    const path = inFolder('held');
    const all = await shuffled(path, true);
    const { messages, summary } = await read(path, { heldBytesMax: 2000 });
    expect(messages).toHaveLength(all.length);
    expect(summary.unordered).toBeGreaterThan(0);
  });
});

describe('cut files', () => {
  test('a compact trace cut anywhere gives the blocks that are whole', async () => {
    const path = inFolder('cut');
    const messages = some(150);
    await writeTrace(path, messages, { blockBytes: 4096 });
    const whole = readFileSync(path);
    const ends = [FILE_HEAD_BYTES];
    const counts = [0];
    while (ends.at(-1)! < whole.length) {
      const head = parseBlockHead(whole.subarray(ends.at(-1), ends.at(-1)! + BLOCK_HEAD_BYTES))!;
      ends.push(ends.at(-1)! + head.totalBytes);
      counts.push(counts.at(-1)! + head.count);
    }
    expect(ends.length).toBeGreaterThan(3);
    for (let length = FILE_HEAD_BYTES; length <= whole.length; length += length % 97 === 0 ? 1 : 29) {
      writeFileSync(path, whole.subarray(0, length));
      const { messages: back, summary } = await read(path);
      const blocks = ends.filter((end) => end <= length).length - 1;
      expect(plain(back)).toEqual(plain(messages.slice(0, counts[blocks])));
      expect(summary.truncated).toEqual(ends.includes(length) ? undefined : { offset: ends[blocks] });
    }
    // Rubbish at the end is an end that is missing, too.
    writeFileSync(path, Buffer.concat([whole, Buffer.alloc(5000)]));
    const { messages: back, summary } = await read(path);
    expect(plain(back)).toEqual(plain(messages));
    expect(summary.truncated).toEqual({ offset: whole.length });
  });

  test('lines cut anywhere give the lines that are whole', async () => {
    const path = inFolder('cut.jsonl');
    const messages = some(4, 8);
    await writeTrace(path, messages);
    const whole = readFileSync(path);
    for (let length = 1; length <= whole.length; length += 2) {
      writeFileSync(path, whole.subarray(0, length));
      const { messages: back, summary } = await read(path);
      const lines = whole.subarray(0, length).toString().split('\n');
      const rest = lines.pop()!;
      const isWhole = rest.endsWith('}');
      expect(plain(back)).toEqual(plain(messages.slice(0, lines.length + (isWhole ? 1 : 0))));
      if (rest === '' || isWhole) expect(summary.truncated).toBeUndefined();
      else expect(summary.truncated).toEqual({ offset: length - rest.length });
    }
  });

  test.each(['cut.gz', 'cut.jsonl.gz'])('a cut %s gives what is there', async (name) => {
    const messages = some(5000).map((message, index) => ({
      ...message,
      bytes: message.bytes.map((_, at) => (index * at * 7919) >> 3),
    }));
    await writeTrace(inFolder(name), messages, { blockBytes: 4096 });
    const whole = readFileSync(inFolder(name));
    writeFileSync(inFolder(name), whole.subarray(0, whole.length >> 1));
    const { messages: back, summary } = await read(inFolder(name));
    expect(back.length).toBeGreaterThan(1000);
    expect(plain(back)).toEqual(plain(messages.slice(0, back.length)));
    expect(summary.truncated).toBeDefined();
  });
});

describe('broken files', () => {
  async function threeBlocks(): Promise<{ path: string; whole: Buffer; messages: TraceMessage[]; at: number[] }> {
    const path = inFolder('broken');
    const messages = some(150);
    await writeTrace(path, messages, { blockBytes: 4096 });
    const whole = readFileSync(path);
    const at = [FILE_HEAD_BYTES];
    for (;;) {
      const next = at.at(-1)! + parseBlockHead(whole.subarray(at.at(-1)))!.totalBytes;
      if (next === whole.length) break;
      at.push(next);
    }
    return { path, whole, messages, at };
  }

  test('a block that is broken in any byte is told, or skipped and noted', async () => {
    const { path, whole, messages, at } = await threeBlocks();
    const end = at[2];
    for (let byte = at[1]; byte < end; byte += 37) {
      const broken = Buffer.from(whole);
      broken[byte] ^= 0x41;
      writeFileSync(path, broken);
      expect(await failure(path)).toMatchObject({ code: 'ERR_FUSEWIRE_TRACE_DAMAGED', offset: at[1] });
      const { messages: back, summary } = await read(path, { damage: 'skip' });
      const before = parseBlockHead(whole.subarray(at[0]))!.count;
      const lost = parseBlockHead(whole.subarray(at[1]))!.count;
      expect(plain(back)).toEqual(plain([...messages.slice(0, before), ...messages.slice(before + lost)]));
      expect(summary.damaged).toMatchObject([{ offset: at[1] }]);
    }
  });

  test('a torn block with whole ones behind it loses itself alone', async () => {
    const { path, whole, at, messages } = await threeBlocks();
    writeFileSync(path, Buffer.concat([whole.subarray(0, at[1] + 333), whole.subarray(at[2])]));
    expect(await failure(path)).toMatchObject({ code: 'ERR_FUSEWIRE_TRACE_DAMAGED', offset: at[1] });
    const { messages: back } = await read(path, { damage: 'skip' });
    const lost = parseBlockHead(whole.subarray(at[1]))!.count;
    expect(back).toHaveLength(messages.length - lost);
  });

  test('a bad line is named', async () => {
    const path = inFolder('bad.jsonl');
    await writeTrace(path, some(4));
    const lines = readFileSync(path, 'utf8').split('\n');
    for (const [bad, why] of [
      ['{"dir":"in"', 'not JSON'],
      ['7', 'not an object'],
      ['{"dir":"up","t":1,"hex":""}', '"dir"'],
      ['{"dir":"in","t":"1","hex":""}', '"t"'],
      ['{"dir":"in","t":1,"hex":"0"}', '"hex"'],
      ['{"dir":"in","t":1,"hex":"0g"}', '"hex"'],
      ['{"dir":"out","t":1,"hex":"","err":1.5}', '"err"'],
    ]) {
      writeFileSync(path, [lines[0], lines[1], bad, ...lines.slice(2)].join('\n'));
      const error = await failure(path);
      expect(error).toMatchObject({ code: 'ERR_FUSEWIRE_TRACE_LINE', line: 3, offset: `${lines[0]}\n${lines[1]}\n`.length });
      expect(error.message).toContain(why);
      const { messages, summary } = await read(path, { damage: 'skip' });
      expect(messages).toEqual(some(4));
      expect(summary.damaged).toHaveLength(1);
    }
  });

  test('random bytes never do more than fail with a code', async () => {
    const { path, whole } = await threeBlocks();
    const change = fc.record({ at: fc.nat(whole.length - 1), bytes: fc.uint8Array({ minLength: 1, maxLength: 80 }) });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 5 }), fc.boolean(), async (changes, packed) => {
        const broken = Buffer.from(whole);
        for (const { at, bytes } of changes) broken.set(bytes.subarray(0, broken.length - at), at);
        writeFileSync(path, packed ? gzipSync(broken) : broken);
        for (const damage of ['throw', 'skip'] as const) {
          await read(path, { damage }).catch((error: unknown) =>
            expect((error as TraceError).code).toMatch(/^ERR_FUSEWIRE_TRACE_/),
          );
        }
      }),
      { numRuns: 200 },
    );
  });

  test('what is no trace is refused by name', async () => {
    writeFileSync(inFolder('text'), 'hello\n');
    expect(await failure(inFolder('text'))).toMatchObject({ code: 'ERR_FUSEWIRE_TRACE_FORMAT' });
    expect(await failure(inFolder('missing'))).toMatchObject({ code: 'ERR_FUSEWIRE_TRACE_OPEN' });
    expect((await failure(inFolder('missing'))).message).toContain('ENOENT');
    expect(await failure(folder)).toMatchObject({ code: 'ERR_FUSEWIRE_TRACE_OPEN' });
    await writeTrace(inFolder('later'), some(1));
    const later = readFileSync(inFolder('later'));
    later.writeUInt16LE(2, 8);
    writeFileSync(inFolder('later'), later);
    expect(await failure(inFolder('later'))).toMatchObject({ code: 'ERR_FUSEWIRE_TRACE_VERSION' });
    writeFileSync(inFolder('bad.gz'), Buffer.concat([gzipSync('{').subarray(0, 10), Buffer.alloc(40, 0xff)]));
    expect(await failure(inFolder('bad.gz'))).toMatchObject({ code: 'ERR_FUSEWIRE_TRACE_READ' });
  });
});

describe('writing', () => {
  test('a message that would come back otherwise is refused, and what had the name stays', async () => {
    const path = inFolder('kept');
    await writeTrace(path, some(3));
    const good = some(1)[0];
    const bad: TraceMessage[] = [
      { ...good, t: 1.5 },
      { ...good, t: -1 },
      { ...good, t: 2 ** 60 },
      { ...good, errno: 0 },
      { ...good, errno: -2 },
      { ...good, channel: -1 },
      { ...good, wholeBytes: 3 },
      { ...good, dir: 'up' as 'in' },
      { ...good, via: 'v'.repeat(5000) },
    ];
    for (const message of bad) {
      await expect(writeTrace(path, [good, message])).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_TRACE_VALUE' });
    }
    expect((await read(path)).messages).toEqual(some(3));
  });

  test('a place that cannot be written to is a clear error', async () => {
    await expect(writeTrace(inFolder('no/such/folder'), [])).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_TRACE_WRITE' });
  });

  test('what the source throws comes through', async () => {
    const broken = async function* () {
      yield some(1)[0];
      throw new RangeError('mine');
    };
    await expect(writeTrace(inFolder('source'), broken())).rejects.toThrow('mine');
  });
});
