import { describe, expect, test } from 'vitest';
import {
  type ChannelHandler,
  type CloseReason,
  type MemoryPair,
  type MemoryPairOptions,
  type MessageBuffer,
  memoryPair,
} from '../../src/transport/index.ts';

const EAGAIN = -11;
const EIO = -5;
const ENODEV = -19;

/** A pair whose both ends write down what they see. */
class Recorder implements ChannelHandler {
  readonly pair: MemoryPair;
  readonly received: number[] = [];
  readonly replies: string[] = [];
  readonly closed: [CloseReason, number][] = [];
  readonly faults: unknown[] = [];
  kernelClosed = 0;
  depth = 0;
  depthMax = 0;
  onRequest: (word: number, buffer: MessageBuffer, length: number) => void = () => {};
  onAnswer: (text: string) => number = () => 0;

  constructor(options: MemoryPairOptions = {}) {
    const onReply = (buffer: MessageBuffer, length: number): number => {
      const text = Buffer.from(buffer.bytes.subarray(0, length)).toString('latin1');
      this.replies.push(text);
      return this.onAnswer(text);
    };
    const onClosed = () => {
      this.kernelClosed++;
    };
    this.pair = memoryPair({ onReply, onClosed }, { onFault: (error) => this.faults.push(error), ...options });
  }

  onMessage(buffer: MessageBuffer, length: number): void {
    this.depthMax = Math.max(this.depthMax, ++this.depth);
    this.received.push(buffer.words[0]);
    try {
      this.onRequest(buffer.words[0], buffer, length);
    } finally {
      this.depth--;
    }
  }

  onRefused(): void {
    throw new Error('a memory channel tells of refusals at once');
  }

  onClosed(reason: CloseReason, errno: number): void {
    this.closed.push([reason, errno]);
  }

  submit(word: number, length = 8): number {
    const buffer = this.pair.kernel.acquire(length);
    buffer.words[0] = word;
    return this.pair.kernel.submit(buffer, length);
  }

  answer(text: string): number {
    const buffer = this.pair.daemon.acquire(text.length);
    buffer.bytes.set(Buffer.from(text, 'latin1'));
    return this.pair.daemon.send(buffer, text.length);
  }
}

describe('memory pair', () => {
  test('delivers at once, and gives the status of the kernel to the sender', () => {
    const ends = new Recorder();
    ends.pair.daemon.open(ends);
    ends.onAnswer = (text) => (text === 'unknown' ? -2 : 0);
    const statuses: number[] = [];
    ends.onRequest = (word) => statuses.push(ends.answer(word === 1 ? 'known' : 'unknown'));
    expect([ends.submit(1), ends.submit(2)]).toEqual([0, 0]);
    expect([ends.received, statuses, ends.replies]).toEqual([
      [1, 2],
      [0, -2],
      ['known', 'unknown'],
    ]);
  });

  test('requests that come before the daemon opens wait for it', () => {
    const ends = new Recorder();
    ends.submit(1);
    ends.submit(2);
    expect(ends.pair.kernel.queuedCount).toBe(2);
    ends.pair.daemon.open(ends);
    expect([ends.received, ends.pair.kernel.queuedCount]).toEqual([[1, 2], 0]);
  });

  test('delivery is never nested, and keeps its order', () => {
    const ends = new Recorder();
    ends.pair.daemon.open(ends);
    ends.onRequest = (word) => {
      if (word < 100) ends.answer(`${word}`);
    };
    // The kernel asks on while it takes the answer, and twice over.
    ends.onAnswer = (text) => {
      ends.submit(Number(text) * 2);
      ends.submit(Number(text) * 2 + 1);
      return 0;
    };
    ends.submit(1);
    expect(ends.depthMax).toBe(1);
    expect(ends.received).toEqual(Array.from({ length: 199 }, (_, index) => index + 1));
  });

  test('a request that comes up within a late answer is delivered after the answer', async () => {
    const ends = new Recorder();
    ends.pair.daemon.open(ends);
    ends.onAnswer = () => ends.submit(7);
    const inside: number[] = [];
    expect(ends.answer('late')).toBe(0);
    inside.push(...ends.received);
    await Promise.resolve();
    expect([inside, ends.received]).toEqual([[], [7]]);
  });

  test('parts arrive as one message', () => {
    const ends = new Recorder();
    ends.pair.daemon.open(ends);
    const head = ends.pair.daemon.acquire(3);
    head.bytes.set(Buffer.from('abc'));
    expect(ends.pair.daemon.sendParts(head, 2, [Buffer.from('xy'), new Uint8Array(0), Buffer.from('z')])).toBe(0);
    expect(ends.replies).toEqual(['abxyz']);
  });

  test('kept messages keep their bytes, and delivery stops at the limit', async () => {
    const ends = new Recorder({ buffersMax: 2 });
    ends.pair.daemon.open(ends);
    const kept: MessageBuffer[] = [];
    ends.onRequest = (_word, buffer) => {
      kept.push(buffer);
      ends.pair.daemon.keep(buffer);
    };
    for (let word = 1; word <= 5; word++) ends.submit(word);
    expect([ends.received, ends.pair.kernel.queuedCount]).toEqual([[1, 2], 3]);
    expect(kept.map((buffer) => buffer.words[0])).toEqual([1, 2]);
    ends.pair.daemon.release(kept[0]);
    expect(ends.received).toEqual([1, 2]);
    await Promise.resolve();
    expect(ends.received).toEqual([1, 2, 3]);
    expect(() => ends.pair.daemon.release(kept[0])).toThrow(expect.objectContaining({ code: 'ERR_FUSEWIRE_BUFFER_NOT_LENT' }));
  });

  test('a buffer comes back once', () => {
    const ends = new Recorder();
    ends.pair.daemon.open(ends);
    const lent = ends.pair.daemon.acquire(10);
    ends.pair.daemon.discard(lent);
    const notLent = expect.objectContaining({ code: 'ERR_FUSEWIRE_BUFFER_NOT_LENT' });
    expect(() => ends.pair.daemon.discard(lent)).toThrow(notLent);
    expect(() => ends.pair.daemon.send(lent, 1)).toThrow(notLent);
    expect(() => ends.pair.daemon.keep(lent)).toThrow(notLent);
    ends.onRequest = (_word, buffer) => {
      ends.pair.daemon.keep(buffer);
      expect(() => ends.pair.daemon.keep(buffer)).toThrow(notLent);
    };
    ends.submit(1);
    expect(ends.faults).toEqual([]);
  });

  test('what handlers throw is reported and harms nobody', () => {
    const ends = new Recorder();
    ends.pair.daemon.open(ends);
    ends.onRequest = (word) => {
      if (word === 1) throw new Error('daemon');
      ends.answer('x');
    };
    ends.onAnswer = () => {
      throw new Error('kernel');
    };
    ends.submit(1);
    ends.submit(2);
    expect(ends.faults).toEqual([new Error('daemon'), new Error('kernel')]);
    expect(ends.answer('y')).toBe(EIO);
  });

  test('limits: size of a message, requests that wait', () => {
    const ends = new Recorder({ messageBytesMax: 10_000, queueMax: 100 });
    expect(ends.pair.daemon.receiveBytesMax).toBe(10_000);
    expect([ends.submit(1, 10_001), ends.submit(2, 10_000)]).toEqual([EIO, 0]);
    for (let word = 3; word <= 101; word++) expect(ends.submit(word)).toBe(0);
    expect(ends.submit(102)).toBe(EAGAIN);
    ends.pair.daemon.open(ends);
    expect(ends.received).toEqual(Array.from({ length: 100 }, (_, index) => index + 2));
  });

  test.each([
    ['unmounted', 19],
    ['aborted', 103],
  ] as const)('the kernel ends the connection: %s', (reason, errno) => {
    const ends = new Recorder();
    ends.pair.daemon.open(ends);
    ends.pair.kernel.close(reason);
    ends.pair.kernel.close();
    ends.pair.daemon.close();
    expect([ends.closed, ends.kernelClosed]).toEqual([[[reason, errno]], 1]);
    expect([ends.submit(1), ends.answer('x'), ends.received]).toEqual([ENODEV, ENODEV, []]);
  });

  test('an end that comes within a handler waits for it, and drops what waits', () => {
    const ends = new Recorder();
    ends.pair.daemon.open(ends);
    const order: string[] = [];
    ends.onRequest = () => {
      ends.submit(2);
      ends.pair.daemon.close();
      order.push(`in handler ${ends.closed.length}`);
      ends.answer('last');
    };
    ends.submit(1);
    expect([order, ends.closed, ends.received, ends.replies]).toEqual([['in handler 0'], [['closed', 0]], [1], ['last']]);
  });

  test('a daemon that opens after the end hears of it; one that was closed cannot open', () => {
    const late = new Recorder();
    late.pair.kernel.close();
    late.pair.daemon.open(late);
    expect(late.closed).toEqual([['unmounted', 19]]);
    const shut = new Recorder();
    shut.pair.daemon.close();
    expect(() => shut.pair.daemon.open(shut)).toThrow(expect.objectContaining({ code: 'ERR_FUSEWIRE_CHANNEL_USED' }));
    const twice = new Recorder();
    twice.pair.daemon.open(twice);
    expect(() => twice.pair.daemon.open(twice)).toThrow(expect.objectContaining({ code: 'ERR_FUSEWIRE_CHANNEL_USED' }));
  });

  test('a request and its answer allocate nothing', () => {
    const ends = new Recorder();
    const { daemon, kernel } = memoryPair({ onReply: () => 0 });
    let delivered = 0;
    daemon.open({
      onMessage(buffer) {
        const reply = daemon.acquire(16);
        reply.words[0] = buffer.words[0];
        daemon.send(reply, 16);
        delivered++;
      },
      onRefused: ends.onRefused,
      onClosed: ends.onClosed,
    });
    const run = (count: number) => {
      for (let index = 0; index < count; index++) kernel.submit(kernel.acquire(80), 80);
    };
    run(50_000);
    const before = process.memoryUsage().heapUsed;
    run(200_000);
    const grown = process.memoryUsage().heapUsed - before;
    expect(delivered).toBe(250_000);
    // Ten bytes a message at most: no object is that small.
    expect(grown).toBeLessThan(2_000_000);
  });
});
