/**
 * The layer against a plain array: random reads and writes that overlap, a backend that is slow, reorders, fails for a while, and ends
 * in the middle of what is asked. Every answer has to be one that some order of the requests explains.
 *
 * Each write has bytes of its own, so a byte that was read tells which write it saw. What a read may see of a byte is the newest write
 * that was answered before it was asked for, or any that was in flight with it; and of two bytes it may not see one write in the first
 * and miss it in the second.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FuseError } from '../../src/session/index.ts';
import { type StorageBackend, type StorageOptions, type StoredHandle, storageLayer } from '../../src/storage/index.ts';

/** Bytes of the file that are used. Small, so that much overlaps. */
const SPACE = 64;

type Step =
  | { kind: 'read'; handle: number; offset: number; length: number }
  | { kind: 'write'; handle: number; offset: number; length: number }
  | { kind: 'flush'; handle: number }
  | { kind: 'truncate'; size: number }
  | { kind: 'turns'; count: number };

const range = { handle: fc.nat(1), offset: fc.nat(SPACE - 1), length: fc.integer({ min: 1, max: 24 }) };
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('read' as const), ...range }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('write' as const), ...range }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('flush' as const), handle: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('truncate' as const), size: fc.nat(SPACE) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('turns' as const), count: fc.nat(6) }) },
);

const options: fc.Arbitrary<StorageOptions> = fc.record({
  merge: fc.boolean(),
  collect: fc.constantFrom('drain' as const, 'turn' as const),
  mergeGapBytes: fc.constantFrom(0, 3),
  rangesMax: fc.constantFrom(1, 2, 64),
  readAhead: fc.constantFrom(false, { windowBytesMin: 8, windowBytesMax: 32, ageMs: 10_000 }),
  writeBehind: fc.constantFrom(false, { bytesMax: 24, fileBytesMax: 24, restMs: 10 }, { restMs: 10_000 }),
  limits: fc.constantFrom({ operationsMax: 1 }, { operationsMax: 2, bytesMax: 16 }, { operationsMax: 64 }),
  retries: fc.constant({ max: 8, pauseMs: 0 }),
});

interface Written {
  readonly value: number;
  readonly start: number;
  readonly end: number;
  /** Moments: when it was asked for, and when it was answered. */
  readonly begun: number;
  ended: number;
}

/** A store in memory whose operations take some turns of the event loop, apply at a random one of them, and fail sometimes. */
class SlowStore {
  bytes: number[] = [];
  /** Operations in flight, to see that none overlaps a write. */
  readonly inFlight = new Set<{ start: number; end: number; writes: boolean }>();
  readonly wrongs: string[] = [];
  readonly #next: () => number;

  constructor(seed: number) {
    let state = seed | 1;
    this.#next = () => {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      return (state >>> 8) / 0x1000000;
    };
  }

  async #during<T>(spans: readonly { start: number; end: number }[], writes: boolean, act: () => T): Promise<T> {
    const mine = spans.map((span) => ({ ...span, writes }));
    for (const one of mine) {
      for (const other of this.inFlight)
        if ((writes || other.writes) && one.start < other.end && other.start < one.end)
          this.wrongs.push(`${JSON.stringify(one)} began beside ${JSON.stringify(other)}`);
      this.inFlight.add(one);
    }
    try {
      await turns(Math.floor(this.#next() * 4));
      if (this.#next() < 0.1) throw new FuseError('ECONNRESET');
      const result = act();
      await turns(Math.floor(this.#next() * 4));
      // A failure after the deed: it is repeated, and has to come to the same.
      if (this.#next() < 0.05) throw new FuseError('EPIPE');
      return result;
    } finally {
      for (const one of mine) this.inFlight.delete(one);
    }
  }

  #read(offset: number, length: number): Uint8Array {
    return Uint8Array.from(this.bytes.slice(offset, offset + length));
  }

  #write(offset: number, data: Uint8Array): void {
    while (this.bytes.length < offset) this.bytes.push(0);
    data.forEach((value, index) => {
      this.bytes[offset + index] = value;
    });
  }

  backend(isVectored: boolean): StorageBackend {
    const spanOf = (offset: number, length: number) => ({ start: offset, end: offset + length });
    if (!isVectored) {
      return {
        read: (offset, length) => this.#during([spanOf(offset, length)], false, () => this.#read(offset, length)),
        write: (offset, data) => this.#during([spanOf(offset, data.length)], true, () => this.#write(offset, data)),
      };
    }
    return {
      readRanges: (ranges) => {
        const spans = ranges.map(({ offset, length }) => spanOf(offset, length));
        this.#assertApart(spans);
        // In two pieces, as they may come from a network.
        return this.#during(spans, false, () =>
          ranges.map(({ offset, length }) => {
            const bytes = this.#read(offset, length);
            return [bytes.subarray(0, 1), bytes.subarray(1)];
          }),
        );
      },
      writeRanges: (writes) => {
        const spans = writes.map(({ offset, length }) => spanOf(offset, length));
        this.#assertApart(spans);
        return this.#during(spans, true, () => {
          for (const { offset, parts } of writes) this.#write(offset, Buffer.concat(parts));
        });
      },
    };
  }

  #assertApart(spans: readonly { start: number; end: number }[]): void {
    for (let index = 1; index < spans.length; index++)
      if (spans[index].start < spans[index - 1].end) this.wrongs.push(`ranges ${JSON.stringify(spans)} are not in order`);
  }
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** What reads and writes did, and whether that can be. */
class History {
  readonly writes: Written[] = [];
  readonly wrongs: string[] = [];
  #moment = 0;

  begin(start: number, end: number, value: number): Written {
    const written = { value, start, end, begun: ++this.#moment, ended: Number.POSITIVE_INFINITY };
    this.writes.push(written);
    return written;
  }

  end(written: Written): void {
    written.ended = ++this.#moment;
  }

  now(): number {
    return ++this.#moment;
  }

  /** `asked`: when the read began; it ends now. Truncations are writes of zeros that may also end the file. */
  check(asked: number, offset: number, bytes: Uint8Array, length: number): void {
    const done = ++this.#moment;
    for (let index = 0; index < length; index++) {
      const at = offset + index;
      const value = bytes[index] ?? 0;
      const touching = this.writes.filter(({ start, end, begun }) => start <= at && at < end && begun < done);
      // Whatever some other write began after it was answered, before this read was asked for, cannot be seen any more.
      const visible = touching.filter((one) => !touching.some((other) => other.begun > one.ended && other.ended < asked));
      const settled = touching.some(({ ended }) => ended < asked);
      const allowed = new Set(visible.map((one) => one.value));
      if (!settled) allowed.add(0);
      if (!allowed.has(value))
        this.wrongs.push(`byte ${at} is ${value}, and only ${[...allowed].join(', ')} can be (read asked at ${asked})`);
    }
  }

  /** A read shows each write that covers several of its bytes wholly or not at all, where nothing newer can hide it. */
  checkWhole(asked: number, offset: number, bytes: Uint8Array): void {
    const done = this.#moment;
    for (const write of this.writes) {
      if (write.begun > done || write.value === 0) continue;
      const others = this.writes.filter(
        (other) => other !== write && other.begun < done && other.ended > write.begun && other.ended > asked,
      );
      const shown = new Set<boolean>();
      for (let at = Math.max(write.start, offset); at < Math.min(write.end, offset + bytes.length); at++) {
        if (others.some(({ start, end }) => start <= at && at < end)) continue;
        if (this.writes.some((other) => other.begun > write.begun && other.start <= at && at < other.end && other.begun < done))
          continue;
        shown.add(bytes[at - offset] === write.value);
      }
      if (shown.size > 1) this.wrongs.push(`write ${write.value} is seen in a part of its bytes only`);
    }
  }
}

async function run(steps: readonly Step[], chosen: StorageOptions, seed: number, isVectored: boolean): Promise<void> {
  const store = new SlowStore(seed);
  const layer = storageLayer(chosen);
  const file = layer.file(store.backend(isVectored));
  const handles: StoredHandle[] = [file.open(1), file.open(2)];
  const history = new History();
  const going: Promise<void>[] = [];
  let value = 0;
  for (const one of steps) {
    if (one.kind === 'turns') await turns(one.count);
    else if (one.kind === 'flush') going.push(handles[one.handle].flush());
    else if (one.kind === 'truncate') {
      // Nothing else is asked meanwhile, as the kernel holds its lock of the inode.
      await Promise.all(going);
      const written = history.begin(one.size, Number.POSITIVE_INFINITY, 0);
      await file.exclusive(() => {
        expect(store.inFlight.size).toBe(0);
        store.bytes.length = Math.min(store.bytes.length, one.size);
      });
      history.end(written);
    } else if (one.kind === 'write') {
      value++;
      const data = new Uint8Array(one.length).fill(value);
      const written = history.begin(one.offset, one.offset + one.length, value);
      going.push(
        handles[one.handle].write(one.offset, data).then(() => {
          history.end(written);
          // What was lent goes back with the answer.
          data.fill(255);
        }),
      );
    } else {
      const asked = history.now();
      const { offset, length } = one;
      going.push(
        handles[one.handle].read(offset, length).then((answer) => {
          const bytes = answer instanceof Uint8Array ? answer : Buffer.concat(answer);
          history.check(asked, offset, bytes, length);
          history.checkWhole(asked, offset, bytes);
        }),
      );
    }
  }
  await Promise.all(going);
  await Promise.all(handles.map((handle) => handle.close()));
  expect([...history.wrongs, ...store.wrongs]).toEqual([]);
  // What the store holds in the end is what the last writes left.
  const last = await layer
    .file(store.backend(isVectored))
    .open()
    .read(0, SPACE + 32);
  history.check(history.now(), 0, last instanceof Uint8Array ? last : Buffer.concat(last), SPACE + 32);
  expect(history.wrongs).toEqual([]);
  const { waitingNow, operationsNow, operationBytesNow, unwrittenNow } = layer.counters;
  expect({ waitingNow, operationsNow, operationBytesNow, unwrittenNow }).toEqual({
    waitingNow: 0,
    operationsNow: 0,
    operationBytesNow: 0,
    unwrittenNow: 0,
  });
}

describe('the storage layer against a plain array', () => {
  it.each([
    ['one range an operation', false],
    ['several ranges an operation', true],
  ])(
    'answers what some order of the requests explains: %s',
    async (_name, isVectored) => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(step, { minLength: 1, maxLength: 60, size: 'max' }),
          options,
          fc.integer({ min: 1, max: 1 << 30 }),
          (steps, chosen, seed) => run(steps, chosen, seed, isVectored),
        ),
        { numRuns: Number(process.env.FUSEWIRE_MODEL_RUNS ?? 200), timeout: Number(process.env.FUSEWIRE_MODEL_MS ?? 20_000) },
      );
    },
    120_000,
  );
});
