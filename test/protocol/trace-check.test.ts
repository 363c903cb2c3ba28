/** A trace decodes and encodes to itself, however it was captured; and what does not is found. */
import { describe, expect, test, vi } from 'vitest';
import { Connection, encodeMessage } from '../../src/protocol/index.ts';
import { checkTrace } from '../../src/trace/check.ts';
import { followTrace } from '../../src/trace/follow.ts';
import type { TraceMessage } from '../../src/trace/message.ts';
import { TRACES } from './support.ts';
import { all, dataBytes, errorBytes, fixture, replyBytes, requestBytes, Script } from './trace-support.ts';

// Whole captures are read many times; on a busy machine that takes its time.
vi.setConfig({ testTimeout: 180_000 });

const NOTHING = { unasked: 0, refused: 0, foreign: 0, empty: 0 };
const ATTR = { attr_valid: 1n, attr: { ino: 1n, mode: 0o40755, nlink: 2 } };

describe('captured traces', () => {
  test.each(TRACES)('%s', async (name) => {
    const messages = fixture(name);
    const report = await checkTrace(messages);
    expect(report).toMatchObject({
      messages: messages.length,
      identical: messages.length,
      different: 0,
      undecodable: 0,
      findings: [],
      opaque: NOTHING,
    });
    expect(report.padding).toBe(name.includes('3.19-passthrough') ? 4 : 0);
  });

  test.each(TRACES)('%s, from the middle on', async (name) => {
    const messages = fixture(name);
    for (const part of [0.5]) {
      const cut = messages.slice(Math.floor(messages.length * part));
      // What was agreed on is not in the trace any more; the sizes tell.
      expect(await checkTrace(cut)).toMatchObject({ identical: cut.length, different: 0, undecodable: 0 });
    }
  });

  test.each(TRACES)('%s, with neighbours exchanged here and there', async (name) => {
    const messages = fixture(name);
    for (let at = 3; at + 1 < messages.length; at += 7) {
      [messages[at], messages[at + 1]] = [messages[at + 1]!, messages[at]!];
    }
    expect(await checkTrace(messages)).toMatchObject({
      identical: messages.length,
      different: 0,
      undecodable: 0,
      opaque: NOTHING,
    });
  });

  test('a flipped length, a wrong count, an unknown opcode are found, with place and time', async () => {
    const messages = fixture(TRACES.find((name) => name.includes('bindfs'))!).map((message) => ({
      ...message,
      bytes: message.bytes.slice(),
    }));
    messages[10]!.bytes[0]! ^= 1;
    const other = messages.findIndex(({ dir }, index) => dir === 'in' && index > 20);
    messages[other]!.bytes[4] = 200;
    const answer = messages[10]!.bytes.slice(8, 16).join();
    // The answers to both stand alone then.
    expect(messages.filter(({ dir, bytes }) => dir === 'out' && bytes.slice(8, 16).join() === answer)).toHaveLength(1);
    const { undecodable, findings } = await checkTrace(messages);
    expect(undecodable).toBe(2);
    expect(findings).toMatchObject([
      { index: 10, t: messages[10]!.t, dir: 'in', verdict: 'undecodable', code: 'LENGTH_MISMATCH' },
      { index: other, t: messages[other]!.t, dir: 'in', verdict: 'undecodable', code: 'UNKNOWN_OPCODE' },
    ]);
  });
});

describe('what occurs in captures', () => {
  const check = async (messages: readonly TraceMessage[]) => {
    const { identical, different, undecodable, opaque } = await checkTrace(messages);
    return { identical, different, undecodable, opaque };
  };
  const good = (count: number, opaque: Partial<typeof NOTHING> = {}) => ({
    identical: count,
    different: 0,
    undecodable: 0,
    opaque: { ...NOTHING, ...opaque },
  });

  test('an answer that arrives twice, and one to nobody', async () => {
    const script = new Script().init().request('ACCESS', { unique: 4n }).error(4n, 13).error(4n, 13, { errno: 2 }).error(99n, 5);
    expect(await check(script.messages)).toEqual(good(6, { unasked: 2 }));
    const long = new Script().init().raw({ dir: 'out', bytes: dataBytes(98n, 'bytes of a READ that nobody saw') });
    expect(await check(long.messages)).toEqual(good(3, { unasked: 1 }));
  });

  test('an answer to an interrupted request is refused with ENOENT, and still decodes', async () => {
    const script = new Script().init().request('READ', { unique: 4n, value: { fh: 1n, size: 100 } });
    script.request('INTERRUPT', { unique: 5n, nodeid: 0n, value: { unique: 4n } });
    script.raw({ dir: 'out', bytes: dataBytes(4n, 'late'), errno: 2 }).error(5n, 38);
    const events = await all(followTrace(script.messages));
    expect(await check(script.messages)).toEqual(good(6));
    expect(events[3]).toMatchObject({ kind: 'request', interrupts: { unique: 4n } });
    expect(events[4]).toMatchObject({ kind: 'reply', message: { opcode: 'READ' }, trace: { errno: 2 } });
  });

  test('what the kernel refused need not be a message', async () => {
    const script = new Script().init();
    const unknown = errorBytes(0n, 0);
    unknown[4] = 77;
    script.raw({ dir: 'out', bytes: unknown, errno: 22 });
    script.raw({ dir: 'out', bytes: new Uint8Array(7).fill(0xaa), errno: 22 });
    script.request('GETATTR', { unique: 4n, value: {} });
    script.raw({ dir: 'out', bytes: replyBytes(4n, [['fuse_attr_out', ATTR, 96]]), errno: 22 });
    expect(await check(script.messages)).toEqual(good(6, { refused: 2 }));
    script.raw({ dir: 'out', bytes: unknown });
    expect((await checkTrace(script.messages)).undecodable).toBe(1);
  });

  test('the answer before its question, and a request before the INIT reply that let it come', async () => {
    const { messages } = new Script().init().request('ACCESS', { unique: 4n }).error(4n, 13);
    const [init, agreed, access, answer] = messages as [TraceMessage, TraceMessage, TraceMessage, TraceMessage];
    for (const order of [
      [init, agreed, answer, access],
      [init, access, agreed, answer],
      [init, access, answer, agreed],
    ]) {
      expect(await check(order)).toEqual(good(4));
      const events = await all(followTrace(order));
      expect(events.map(({ kind }) => kind)).toEqual(['request', 'reply', 'request', 'reply']);
      expect(events.map(({ index }) => index).sort()).toEqual([0, 1, 2, 3]);
    }
  });

  test('a reply sized by an old minor while INIT is answered late', async () => {
    const { messages } = new Script().init(8).request('WRITE', { unique: 4n, size: 24, data: new Uint8Array(5) });
    const [init, agreed, write] = messages as [TraceMessage, TraceMessage, TraceMessage];
    expect(await check([init, write, agreed])).toEqual(good(3));
  });

  test.each([
    [45, 'fuse_attr_out', 104],
    [8, 'fuse_attr_out', 96],
    [3, 'fuse_attr_out', 96],
  ] as const)('without INIT, at 7.%i', async (minor, name, size) => {
    const script = new Script().request('GETATTR', { unique: 4n }).reply(4n, [name, ATTR, size]);
    script.request('STATFS', { unique: 6n });
    script.reply(6n, ['fuse_statfs_out', { st: { blocks: 1n } }, minor < 4 ? 48 : 80]);
    expect(await check(script.messages)).toEqual(good(4));
    // A connection that saw INIT takes nothing on trust.
    const strict = new Connection({ agreed: { minor: 45, flags: new Set() } });
    strict.incoming(script.messages[0]!.bytes);
    expect(strict.outgoing(script.messages[1]!.bytes).kind).toBe(size === 104 ? 'reply' : 'failure');
  });

  test('SETXATTR of both lengths without INIT', async () => {
    for (const size of [8, 16]) {
      const script = new Script().request('SETXATTR', {
        unique: 4n,
        size,
        names: ['user.name'],
        data: new Uint8Array(30).fill(65),
      });
      const [event] = await all(followTrace(script.messages));
      expect(event).toMatchObject({ kind: 'request', message: { names: ['user.name'], structs: [{ bytes: size }] } });
    }
  });

  test('flags of an INIT reply before 7.6 mean nothing', async () => {
    const [, agreed] = await all(followTrace(new Script().init(5, 1 << 29).messages));
    expect(agreed!.agreed).toEqual({ minor: 5, flags: new Set() });
  });

  test('clones, other connections in the same file, and a mount made again', async () => {
    const one = new Script().init().request('ACCESS', { unique: 4n }).error(4n, 13).messages;
    const clone = one.map((message, index) => ({ ...message, channel: index < 2 ? 5 : 6 }));
    clone.splice(2, 0, { dir: 'ioctl', t: 2500, bytes: Uint8Array.of(5, 0, 0, 0), command: 0x8004e500, result: 0, channel: 6 });
    expect(await check(clone)).toEqual(good(5));
    const two = [...one.map((message) => ({ ...message, channel: 5 })), ...one.map((message) => ({ ...message, channel: 9 }))];
    expect(await check([...two, ...one.map((message) => ({ ...message, channel: 5 }))])).toEqual(good(12));
    const events = await all(followTrace([...one, ...one]));
    expect(events.map(({ connection }) => connection)).toEqual([0, 0, 0, 0, 1, 1, 1, 1]);
  });

  test('two connections whose ids are the same, mixed', async () => {
    const [a, b] = [45, 8].map((minor, index) => {
      const script = new Script()
        .init(minor)
        .request('GETATTR', { unique: 4n })
        .reply(4n, ['fuse_attr_out', ATTR, minor < 9 ? 96 : 104]);
      return script.messages.map((message) => ({ ...message, channel: 5 + index }));
    }) as [TraceMessage[], TraceMessage[]];
    expect(await check(a.flatMap((message, index) => [message, b[index]!]))).toEqual(good(8));
  });

  test('a request that is sent again, and the answer to the first', async () => {
    const again = 4n | (1n << 63n);
    const script = new Script().init().request('ACCESS', { unique: 4n }).request('ACCESS', { unique: again });
    script.error(4n, 0, { errno: 2 }).error(again, 0);
    expect(await check(script.messages)).toEqual(good(6, { unasked: 1 }));
  });

  test('ids that are used again after the answer', async () => {
    const script = new Script().init();
    for (const errno of [1, 2, 3]) script.request('ACCESS', { unique: 4n }).error(4n, errno);
    expect(await check(script.messages)).toEqual(good(8));
  });

  test('nothing but FORGET, and messages of which nothing was kept', async () => {
    const script = new Script().request('FORGET', { unique: 4n, value: { nlookup: 1n } });
    script.request('BATCH_FORGET', { unique: 6n, nodeid: 0n, records: [{ nodeid: 5n, nlookup: 1n }] });
    script.raw({ dir: 'in', bytes: new Uint8Array(0) }).raw({ dir: 'out', bytes: new Uint8Array(0), errno: 5 });
    expect(await check(script.messages)).toEqual(good(4, { empty: 2 }));
  });

  test('ioctls that are not of FUSE, and arguments that were not captured', async () => {
    const script = new Script().init();
    const argument = Uint8Array.of(1, 0, 0, 0);
    script.raw({ dir: 'ioctl', bytes: argument, command: 0x5421, result: 0 });
    script.raw({ dir: 'ioctl', bytes: argument });
    script.raw({ dir: 'ioctl', bytes: new Uint8Array(0), command: 0x8004e500, result: 0 });
    script.raw({ dir: 'ioctl', bytes: Uint8Array.of(1), command: 0x4010e501, result: -1 });
    expect(await check(script.messages)).toEqual(good(6, { foreign: 2, empty: 1, refused: 1 }));
  });

  test('a character device speaks the minor of its own INIT', async () => {
    const script = new Script();
    script.request('CUSE_INIT', { unique: 2n, nodeid: 0n, value: { major: 7, minor: 45, flags: 1 } });
    script.raw({
      dir: 'out',
      bytes: replyBytes(2n, [['cuse_init_out', { major: 7, minor: 8, max_read: 4096 }]], new TextEncoder().encode('DEVNAME=x\0')),
    });
    script.request('WRITE', { unique: 4n, size: 24, data: new Uint8Array(3) }).reply(4n, ['fuse_write_out', { size: 3 }]);
    const events = await all(followTrace(script.messages));
    expect(await check(script.messages)).toEqual(good(4));
    expect(events[2]!.agreed.minor).toBe(8);
  });

  test('another major in the INIT reply', async () => {
    const script = new Script().request('INIT', { unique: 2n, value: { major: 7, minor: 45 } });
    script.reply(2n, ['fuse_init_out', { major: 6, minor: 0 }, 8]);
    expect(await check(script.messages)).toEqual(good(2));
  });

  test('more output of IOCTL than was asked for, which the kernel takes up to a page', async () => {
    const script = new Script()
      .init()
      .request('IOCTL', { unique: 4n, value: { cmd: 0x5401, out_size: 4 }, data: new Uint8Array(0) });
    script.raw({ dir: 'out', bytes: replyBytes(4n, [['fuse_ioctl_out', { result: 0 }]], new Uint8Array(60)) });
    expect(await check(script.messages)).toEqual(good(4));
  });

  test('the length in a reply over io_uring, which nobody reads', async () => {
    const script = new Script().init().request('READ', { unique: 4n, value: { size: 100 } });
    const bytes = dataBytes(4n, 'ring');
    new DataView(bytes.buffer).setUint32(0, 0, true);
    expect((await checkTrace([...script.messages, { dir: 'out', t: 9000, bytes, via: 'io_uring' }])).padding).toBe(1);
    expect((await checkTrace([...script.messages, { dir: 'out', t: 9000, bytes, via: 'write' }])).undecodable).toBe(1);
  });

  test('a payload that the recorder cut counts as if it were whole', async () => {
    const whole = requestBytes('WRITE', { unique: 4n, data: new Uint8Array(5000) });
    const script = new Script().init().raw({ dir: 'in', bytes: whole.slice(0, 100), wholeBytes: whole.length });
    expect(await check(script.messages)).toEqual(good(3));
  });

  test('padding that is not zero is identical, and said', async () => {
    const bytes = replyBytes(4n, [['fuse_write_out', { size: 5 }]]);
    bytes[20] = 0xaa;
    const script = new Script()
      .init()
      .request('WRITE', { unique: 4n, data: new Uint8Array(5) })
      .raw({ dir: 'out', bytes });
    expect(await checkTrace(script.messages)).toMatchObject({ identical: 4, padding: 1, different: 0 });
  });

  test('findings are kept up to a limit and told one by one', async () => {
    const bytes = encodeMessage({
      kind: 'request',
      opcode: 'ACCESS',
      header: { unique: 4n },
      structs: [{ name: 'fuse_access_in', bytes: 8, value: {} }],
      names: [],
      padding: [],
    });
    bytes[0]! += 1;
    const told: number[] = [];
    const report = await checkTrace(
      Array.from({ length: 5 }, (_, t) => ({ dir: 'in' as const, t, bytes })),
      { findingsMax: 2, onFinding: ({ index }) => told.push(index) },
    );
    expect([report.undecodable, report.findings.length, told]).toEqual([5, 2, [0, 1, 2, 3, 4]]);
  });
});
