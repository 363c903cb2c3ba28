/** Recording a mount: everything that crosses the device is in the trace, once, in order, also when the daemon is killed. */
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { Filesystem, NodeId } from '../../src/filesystem/index.ts';
import type { MountSettings } from '../../src/mount/index.ts';
import { Connection } from '../../src/protocol/index.ts';
import { readTrace, type TraceMessage, type TraceSummary, wholeMessage } from '../../src/trace/index.ts';
import {
  daemonOf,
  eventually,
  FIXTURES,
  faultsSeen,
  mountHere,
  mountPoint,
  NO_MOUNTS,
  ROOT,
  run,
  runWell,
  skipLoudly,
  temporaryFolder,
  umount,
  useLiveMounts,
} from './harness.ts';

const skip = skipLoudly('recording of mounts', NO_MOUNTS);
const passthrough = pathToFileURL(join(ROOT, 'dist/examples/passthrough/filesystem.js'));
const LIMIT = { timeoutMs: 20_000 };

interface Read {
  readonly messages: TraceMessage[];
  readonly summary: TraceSummary;
}

async function read(path: string): Promise<Read> {
  const messages: TraceMessage[] = [];
  let summary: TraceSummary | undefined;
  for await (const message of readTrace(path, { onEnd: (end) => (summary = end) })) messages.push(message);
  return { messages, summary: summary! };
}

interface Audit {
  /** Requests by opcode. */
  readonly requests: Map<string, number>;
  readonly notifications: string[];
  /** Requests that take an answer and have none. */
  readonly unanswered: number;
  /** Replies that the kernel refused, by errno. */
  readonly refused: number[];
  readonly channels: Set<number>;
}

/** Goes through a trace as the kernel and the daemon did; fails on anything that they would not have understood. */
function audit(messages: readonly TraceMessage[]): Audit {
  const connection = new Connection();
  const requests = new Map<string, number>();
  const seen = new Set<bigint>();
  const notifications: string[] = [];
  const refused: number[] = [];
  const channels = new Set<number>();
  let last = 0;
  for (const message of messages) {
    const { bytes, dir, errno } = message;
    expect(message.t).toBeGreaterThanOrEqual(last);
    last = message.t;
    channels.add(message.channel!);
    if (dir === 'ioctl') {
      expect(connection.ioctl(message.command!, bytes).kind).toBe('ioctl');
      continue;
    }
    expect(new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true)).toBe(bytes.length);
    if (dir === 'in') {
      const request = connection.incoming(bytes);
      if (request.kind === 'failure') throw new Error(`${request.code}: ${request.message}`);
      const unique = request.header.unique as bigint;
      if (!['FORGET', 'BATCH_FORGET', 'NOTIFY_REPLY'].includes(request.opcode)) {
        expect(seen.has(unique), `request ${unique} is there twice`).toBe(false);
        seen.add(unique);
      }
      requests.set(request.opcode, (requests.get(request.opcode) ?? 0) + 1);
      continue;
    }
    if (errno !== undefined) refused.push(errno);
    const reply = connection.outgoing(bytes, errno !== undefined);
    if (reply.kind === 'failure') throw new Error(`${reply.code}: ${reply.message}`);
    if (reply.kind === 'notification') notifications.push(reply.notification);
  }
  // An INTERRUPT takes no answer, though it may have one.
  const unanswered = connection.pendingCount - (requests.get('INTERRUPT') ?? 0);
  return { requests, notifications, unanswered, refused, channels };
}

/** Work for a few hundred requests of many kinds. */
const WORK = `
set -e
mkdir -p a/b && cd a
for i in 1 2 3 4 5 6 7 8; do echo "text $i" > file$i; cp file$i b/copy$i; done
head -c 300000 /dev/zero > large && cat large > /dev/null && ls -laR . > /dev/null
mv file1 b/moved && ln -s file2 link && ln file3 hard && rm file4 && chmod 600 file5 && truncate -s 10 file6
(cat file2 & cat file3 & cat large & wait) > /dev/null
`;

describe.skipIf(skip)('recording', () => {
  useLiveMounts();

  test.each([
    { workers: 1, mode: 'event' as const, name: 'trace' },
    { workers: 4, mode: 'event' as const, name: 'trace' },
    { workers: 1, mode: 'blocking' as const, name: 'trace' },
    { workers: 4, mode: 'blocking' as const, name: 'trace' },
    { workers: 2, mode: 'blocking' as const, name: 'trace.jsonl' },
  ])(
    '$workers workers, $mode, $name: every request once, with its answer',
    { timeout: 60_000 },
    async ({ workers, mode, name }) => {
      const source = temporaryFolder('source');
      const trace = join(temporaryFolder('trace'), name);
      const { path, mount } = await mountHere(
        { module: passthrough, options: { source, backing: false } },
        { workers, mode, trace },
      );
      await runWell(['sh', '-c', WORK], { ...LIMIT, cwd: path });
      const counters = await mount.counters();
      await mount.unmount();
      const { messages, summary } = await read(trace);
      expect(summary).toMatchObject({ format: name.endsWith('.jsonl') ? 'jsonl' : 'compact', unordered: 0, damaged: [] });
      expect(summary.truncated).toBeUndefined();
      const { requests, unanswered, refused, channels } = audit(messages);
      expect(unanswered).toBe(0);
      expect(refused.filter((errno) => errno !== 2)).toEqual([]);
      const count = [...requests.values()].reduce((sum, each) => sum + each, 0);
      // INIT is no worker's, and a few requests came after the counters were asked for.
      expect(count).toBeGreaterThanOrEqual(counters.requests + 1);
      expect(requests.get('INIT')).toBe(1);
      expect(requests.get('SYMLINK')).toBe(1);
      expect(requests.get('RENAME2') ?? requests.get('RENAME')).toBe(1);
      expect(Math.max(...channels)).toBeLessThanOrEqual(workers);
      const clones = messages.filter(({ dir }) => dir === 'ioctl');
      expect(clones.map(({ command, result }) => [command, result])).toEqual(
        Array.from({ length: workers }, () => [0x8004e500, 0]),
      );
      // What was written is in it.
      expect(messages.some(({ bytes }) => Buffer.from(bytes).includes('text 7\n'))).toBe(true);
      expect(statSync(trace).mode & 0o777).toBe(0o600);
    },
  );

  test('notifications are recorded from their own thread, and RETRIEVE with its answer', async () => {
    const trace = join(temporaryFolder('trace'), 'trace');
    const words = new Int32Array(new SharedArrayBuffer(16));
    const module = pathToFileURL(join(FIXTURES, 'changing.mjs'));
    const { path, mount } = await mountHere(
      { module, options: { state: words.buffer } },
      { workers: 2, mode: 'blocking', trace },
    );
    await runWell(['cat', join(path, 'file')], LIMIT);
    await mount.kernel.changed(2);
    await mount.kernel.store(2, 0, Buffer.from('STORED 0\n\n'));
    expect(await runWell(['cat', join(path, 'file')], LIMIT)).toBe('STORED 0\n\n');
    expect(Buffer.from(await mount.kernel.retrieve(2, 0, 6)).toString()).toBe('STORED');
    await mount.kernel.removed(1, 'never seen');
    await mount.unmount();
    const { messages } = await read(trace);
    const { notifications, requests, refused, unanswered } = audit(messages);
    expect(notifications).toEqual(['INVAL_INODE', 'STORE', 'RETRIEVE', 'INVAL_ENTRY']);
    expect(requests.get('NOTIFY_REPLY')).toBe(1);
    expect(refused).toEqual([2]);
    expect(unanswered).toBe(0);
    const notified = messages.filter(({ dir, channel }) => dir === 'out' && channel === 3);
    expect(notified).toHaveLength(4);
    // Cause before effect, though different threads wrote them.
    const retrieved = messages.findIndex(({ bytes }) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(4, true) === 41);
    expect(messages.indexOf(notified[2])).toBeLessThan(retrieved);
  });

  test('a filesystem object on this thread: an interrupted request has its INTERRUPT and its answer', async () => {
    const trace = join(temporaryFolder('trace'), 'trace.jsonl');
    let reading = 0;
    const filesystem: Filesystem = {
      lookup: (_parent, name) => {
        if (name !== 'file') throw Object.assign(new Error('none'), { code: 'ENOENT' });
        return { node: 2 as NodeId, attributes: { mode: 0o100644, size: 8 } };
      },
      getattr: (node) => ({ attributes: node === 1 ? { mode: 0o40755 } : { mode: 0o100644, size: 8 } }),
      open: () => ({ directIo: true }),
      read: (_node, request) => {
        reading++;
        return new Promise((_resolve, reject) => {
          request.signal.addEventListener('abort', () => reject(Object.assign(new Error('stopped'), { code: 'EINTR' })));
        });
      },
    };
    const { path, mount } = await mountHere(filesystem, { trace });
    const waiting = run(['timeout', '-s', 'INT', '1', 'cat', join(path, 'file')], LIMIT);
    await eventually(
      () => reading > 0,
      10_000,
      () => 'nobody reads',
    );
    await waiting;
    await mount.unmount();
    const { messages } = await read(trace);
    const { requests, unanswered } = audit(messages);
    expect(unanswered).toBe(0);
    expect(requests.get('INTERRUPT')).toBeGreaterThanOrEqual(1);
    const word = (message: TraceMessage, index: number) =>
      new DataView(message.bytes.buffer, message.bytes.byteOffset).getUint32(index * 4, true);
    const interrupt = messages.find((message) => message.dir === 'in' && word(message, 1) === 36)!;
    const answer = messages.find((message) => message.dir === 'out' && word(message, 2) === word(interrupt, 10))!;
    expect(word(answer, 1)).toBe(2 ** 32 - 4);
  });

  test('payloads can be left out: lengths and everything else stay', async () => {
    const source = temporaryFolder('source');
    writeFileSync(join(source, 'old'), 'o'.repeat(10_000));
    const trace = join(temporaryFolder('trace'), 'trace');
    const { path, mount } = await mountHere(
      { module: passthrough, options: { source, backing: false } },
      { workers: 1, trace: { path: trace, dataMax: 100 } },
    );
    await runWell(['sh', '-c', 'cat old > /dev/null; head -c 5000 old > new; echo short > small; ls -la'], {
      ...LIMIT,
      cwd: path,
    });
    await mount.unmount();
    const { messages } = await read(trace);
    const cut = messages.filter(({ wholeBytes }) => wholeBytes !== undefined);
    const whole = messages.map((message) => ({ ...message, bytes: wholeMessage(message) }));
    expect(audit(whole)).toMatchObject({ unanswered: 0 });
    for (const { bytes, wholeBytes, dir } of cut) {
      expect(bytes.length).toBe((dir === 'in' ? 80 : 16) + 100);
      expect(new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true)).toBe(wholeBytes);
    }
    expect(new Set(cut.map(({ dir }) => dir))).toEqual(new Set(['in', 'out']));
    expect(messages.some(({ bytes }) => Buffer.from(bytes).includes('short\n'))).toBe(true);
    expect(messages.some(({ bytes }) => Buffer.from(bytes).includes('small\0'))).toBe(true);
  });

  test.each([
    { mode: 'event' as const, name: 'trace' },
    { mode: 'blocking' as const, name: 'trace' },
    { mode: 'blocking' as const, name: 'trace.jsonl' },
  ])('kill -9 ($mode, $name): what was recorded before the last flush is there', { timeout: 60_000 }, async ({ mode, name }) => {
    const source = temporaryFolder('source');
    const trace = join(temporaryFolder('trace'), name);
    const path = mountPoint();
    const settings = { workers: 2, mode, trace: { path: trace, flushMs: 100 } };
    const script = join(FIXTURES, 'recording-daemon.mjs');
    const started = await daemonOf(script, [JSON.stringify({ path, source, settings })], path, 20_000);
    await runWell(['sh', '-c', 'mkdir marked; echo one > file; cat file'], { ...LIMIT, cwd: path });
    // Nothing happens meanwhile, so that a thread which sleeps in the kernel has to be told to write.
    const complete = async () => {
      const { messages } = await read(trace);
      return messages.some(({ bytes }) => Buffer.from(bytes).includes('one\n')) && audit(messages).unanswered === 0;
    };
    await eventually(complete, 5000, () => 'the trace was not written while the daemon was idle');
    const load = run(['sh', '-c', 'while cat file; do :; done'], { ...LIMIT, cwd: path }).catch(() => undefined);
    await sleep(700);
    const before = (await read(trace)).messages.length;
    started.kill('SIGKILL');
    await started.end(5000);
    await umount(path, '-l').catch(() => {});
    const { messages, summary } = await read(trace);
    expect(messages.length).toBeGreaterThanOrEqual(before);
    expect(before).toBeGreaterThan(100);
    expect(summary.damaged).toEqual([]);
    expect(summary.unordered).toBe(0);
    // Whole messages, each decodable.
    audit(messages);
    await load;
  });

  test('a trace that cannot be written is an error before anything is mounted', async () => {
    const source = temporaryFolder('source');
    const mounting = (trace: NonNullable<MountSettings['trace']>) =>
      mountHere({ module: passthrough, options: { source, backing: false } }, { workers: 1, trace });
    const folder = temporaryFolder('trace');
    await expect(mounting(join(folder, 'no/such'))).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_TRACE_WRITE' });
    await expect(mounting(folder)).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_TRACE_WRITE' });
    await expect(mounting(join(folder, 'x.gz'))).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_TRACE_SETTING' });
    await expect(mounting({ path: join(folder, 'x'), flushMs: 1 })).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_TRACE_SETTING' });
  });

  test('a full disk ends the recording, and nothing else', async () => {
    const { path, mount } = await mountHere(
      { module: pathToFileURL(join(FIXTURES, 'changing.mjs')), options: { state: new SharedArrayBuffer(16) } },
      { workers: 1, trace: '/dev/full' },
    ).catch((error: unknown) => ({ path: '', mount: error as { code: string } }));
    // Its head does not even fit: that is told at once.
    expect([path, mount]).toMatchObject(['', { code: 'ERR_FUSEWIRE_TRACE_WRITE' }]);
    const lines = temporaryFolder('full');
    await runWell(['ln', '-s', '/dev/full', join(lines, 'full.jsonl')], LIMIT);
    const live = await mountHere(
      { module: pathToFileURL(join(FIXTURES, 'changing.mjs')), options: { state: new SharedArrayBuffer(16) } },
      { workers: 1, trace: join(lines, 'full.jsonl') },
    );
    for (let time = 0; time < 3; time++) {
      expect(await runWell(['cat', join(live.path, 'file')], LIMIT)).toBe('version 0\n');
      await sleep(150);
    }
    expect(faultsSeen().map(({ kind }) => kind)).toContain('trace-failed');
    await live.mount.unmount();
  });
});
