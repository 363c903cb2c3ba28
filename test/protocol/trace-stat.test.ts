/** Counting and searching a trace. */
import { expect, test, vi } from 'vitest';
import { checkTrace } from '../../src/trace/check.ts';
import { grepMessages, grepTrace } from '../../src/trace/grep.ts';
import { statTrace } from '../../src/trace/stat.ts';
import { TRACES } from './support.ts';
import { all, fixture, Script } from './trace-support.ts';

// Whole captures are read many times; on a busy machine that takes its time.
vi.setConfig({ testTimeout: 180_000 });

const talk = () => {
  const script = new Script().init(31, 1).lookup(4n, 1n, 'file', 2n);
  script.request('READ', { unique: 6n, nodeid: 2n, value: { size: 10 } });
  script.request('WRITE', { unique: 8n, nodeid: 2n, data: new Uint8Array(100), pid: 5, uid: 6 });
  script.reply(8n, ['fuse_write_out', { size: 100 }]).data(6n, 'data');
  script.request('UNLINK', { unique: 10n, names: ['gone.txt'] }).error(10n, 2);
  return script.request('POLL', { unique: 12n, nodeid: 2n });
};

test('counts, errors, bytes, latencies', async () => {
  const report = await statTrace(talk().messages);
  expect(report).toMatchObject({ messages: 11, requests: 6, broken: 0, refused: 0, duration: 10_000 });
  const of = (name: string) => report.opcodes.find(({ opcode }) => opcode === name);
  expect(of('READ')).toEqual({
    opcode: 'READ',
    count: 1,
    answered: 1,
    unanswered: 0,
    errors: {},
    bytesRead: 4,
    bytesWritten: 0,
    time: 3000,
    share: 3000 / 7000,
    latency: { min: 3000, p50: 3000, p90: 3000, p99: 3000, max: 3000, mean: 3000 },
  });
  expect(of('WRITE')).toMatchObject({ bytesWritten: 100, bytesRead: 0, time: 1000 });
  expect(of('UNLINK')).toMatchObject({ errors: { ENOENT: 1 } });
  expect(of('POLL')).toMatchObject({ answered: 0, unanswered: 1 });
  expect(report.opcodes[0]!.opcode).toBe('READ');
  expect(report.init).toMatchObject({ kernelMinor: 45, minor: 31, flags: ['FUSE_ASYNC_READ'], reply: { max_write: 4096 } });
  expect(report.files).toMatchObject([
    { path: '/file', count: 2, bytesRead: 4, bytesWritten: 100, time: 4000 },
    { path: '/', count: 2 },
  ]);
  expect((await statTrace(talk().messages, { top: 1 })).files).toHaveLength(1);
});

test('requests in flight, weighed by time', async () => {
  const { depth } = await statTrace(talk().messages, { parts: 10 });
  // One from 1 to 2, 3 to 4, 5 to 6, 7 to 8 and 9 to 10 ms; two from 6 to 7.
  expect(depth).toMatchObject({ max: 2, histogram: [4000, 5000, 1000], average: 0.7 });
  expect(depth.timeline).toHaveLength(10);
  expect(Math.max(...depth.timeline)).toBe(2);
});

test('an empty trace', async () => {
  expect(await statTrace([])).toMatchObject({ messages: 0, opcodes: [], depth: { average: 0, max: 0 }, files: [] });
});

test('percentiles by nearest rank', async () => {
  const script = new Script();
  for (let at = 1; at <= 100; at++) {
    script.request('ACCESS', { unique: BigInt(2 * at) });
    const { messages } = script;
    const asked = messages.at(-1)!;
    script.error(BigInt(2 * at), 0);
    messages[messages.length - 1] = { ...messages.at(-1)!, t: asked.t + at };
  }
  const { opcodes } = await statTrace(script.messages);
  expect(opcodes[0]!.latency).toEqual({ min: 1, p50: 50, p90: 90, p99: 99, max: 100, mean: 50.5 });
});

test.each([
  [{ opcodes: ['READ', 'WRITE'] }, [4, 5, 6, 7]],
  [{ errnos: [2] }, [8, 9]],
  [{ errnos: 'any' as const }, [8, 9]],
  [{ path: /^\/file$/u }, [2, 3, 4, 5, 6, 7, 10]],
  [{ path: /\.txt$/u }, [8, 9]],
  [{ nodeid: 2n }, [4, 5, 6, 7, 10]],
  [{ pid: 5 }, [5, 6]],
  [{ uid: 6 }, [5, 6]],
  [{ durationMin: 3000 }, [4, 7, 10]],
  [{ opcodes: ['READ'], errnos: [2] }, []],
])('finds %o', async (query, places) => {
  expect([...(await grepTrace(talk().messages, query))].sort((one, other) => one - other)).toEqual(places);
});

test('notifications are found by name and node', async () => {
  const { messages } = new Script().init().raw({ dir: 'out', bytes: bytesOf('10000000080000000000000000000000') });
  expect(await grepTrace(messages, { opcodes: ['NOTIFY_INC_EPOCH'] })).toEqual(new Set([2]));
  expect(await grepTrace(messages, { opcodes: ['READ'] })).toEqual(new Set());
});

test.each(TRACES)('what is found in %s is a trace of its own', async (name) => {
  const messages = fixture(name);
  const found = await all(grepMessages(() => messages, { opcodes: ['LOOKUP', 'GETATTR', 'READDIRPLUS', 'STATFS'] }));
  expect(found.length).toBeGreaterThan(3);
  expect(await checkTrace(found)).toMatchObject({
    identical: found.length,
    different: 0,
    undecodable: 0,
    opaque: { unasked: 0 },
  });
  const { requests, messages: count } = await statTrace(messages);
  expect(requests).toBeLessThan(count);
});

function bytesOf(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, 'hex'));
}
