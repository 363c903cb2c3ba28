/** Replay against a filesystem: identities are translated, differences are told by what they mean, and nothing hangs. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MemoryFilesystem } from '../../examples/memory/filesystem.ts';
import {
  type Filesystem,
  FuseError,
  type NodeId,
  operationsOf,
  type ReadRequest,
  type Request,
} from '../../src/filesystem/index.ts';
import { Session } from '../../src/session/index.ts';
import type { TraceMessage } from '../../src/trace/message.ts';
import { type ReplayOptions, replayTrace } from '../../src/trace/replay.ts';
import { summarise } from '../../src/trace/replay-report.ts';
import { assertSameTrace, expectTrace, messagesOf } from '../../src/trace/testing.ts';
import { writeTrace } from '../../src/trace/write.ts';
import { fromHex, readTrace } from '../protocol/support.ts';

const fixture = (name: string): TraceMessage[] =>
  readTrace(`${name}.jsonl.gz`).map(({ dir, t, hex, err, cmd }) => ({
    dir,
    t,
    bytes: fromHex(hex),
    ...(err === undefined ? {} : { errno: -err }),
    ...(cmd === undefined ? {} : { command: cmd }),
  }));

const memory = (): MemoryFilesystem => new MemoryFilesystem({ uid: 0, gid: 0 });

/** What a memory filesystem says to the requests of a captured daemon: a trace that another memory filesystem must repeat. */
async function ofMemory(name: string, filesystem: Filesystem = memory()): Promise<TraceMessage[]> {
  const messages: TraceMessage[] = [];
  await replayTrace(fixture(name), filesystem, { answerMs: 300, onMessage: (message) => void messages.push(message) });
  return messages;
}

let ours: TraceMessage[];
beforeAll(async () => {
  ours = (await ofMemory('libfuse-3.9.4-passthrough_ll')).slice(0, 1000);
});

describe('the same filesystem', () => {
  test.each<ReplayOptions>([{}, { concurrency: 'serial' }, { timing: 'kept', speed: 1000 }])(
    'answers the same: %o',
    async (options) => {
      const report = await replayTrace(ours, memory(), { ...options, answerMs: 2000 });
      expect(report.differences.map(({ text }) => text)).toEqual([]);
      expect(report.same).toBeGreaterThan(400);
      expect(report.same + report.different + report.skippedCount).toBe(report.requests);
      expect([...report.skipped.keys()].sort()).toEqual(['negotiated anew', 'without an answer by nature']);
      expect(summarise(report)).toMatch(
        /^\d+ requests, \d+ same, 0 different, \d+ skipped \(\d+ without an answer by nature, 1 negotiated anew\)$/,
      );
    },
  );

  test('though it numbers its nodes and openings otherwise', async () => {
    const report = await replayTrace(ours, renumbered(memory(), 1000), { answerMs: 2000 });
    expect(report.differences.map(({ text }) => text)).toEqual([]);
    expect(report.same).toBeGreaterThan(400);
  });

  test('and every reference that it granted is taken back', async () => {
    const filesystem = memory();
    await replayTrace(ours, filesystem, { answerMs: 2000 });
    const first = [...filesystem.lookupCounts()].length;
    const again = memory();
    // The same trace by way of another numbering leaves no more behind.
    await replayTrace(ours, renumbered(again, 7), { answerMs: 2000 });
    expect([...again.lookupCounts()].length).toBe(first);
  });

  test('a real session may stand in its place', async () => {
    const filesystem = memory();
    const report = await replayTrace(ours, (channel) => new Session(channel, operationsOf(filesystem)), { answerMs: 2000 });
    expect(report.different).toBe(0);
    expect(report.same).toBeGreaterThan(400);
  });

  test('timing is kept: not faster than it was recorded', async () => {
    const spaced = ours.slice(0, 20).map((message, index) => ({ ...message, t: index * 10_000 }));
    const kept = await replayTrace(spaced, memory(), { timing: 'kept' });
    expect(kept.elapsedMs).toBeGreaterThan(150);
    const faster = await replayTrace(spaced, memory(), { timing: 'kept', speed: 10 });
    expect(faster.elapsedMs).toBeLessThan(kept.elapsedMs);
  });
});

/** The same filesystem, with other numbers for nodes but the root. */
function renumbered(filesystem: MemoryFilesystem, by: number): Filesystem {
  const out = (node: number): number => (node === 1 || node === 0 ? node : node + by);
  const back = (node: number): NodeId => (node === 1 || node === 0 ? node : node - by) as NodeId;
  const shift = (answer: unknown): unknown => {
    if (answer instanceof Promise) return answer.then(shift);
    if (typeof answer !== 'object' || answer === null || answer instanceof Uint8Array) return answer;
    if ('entry' in answer) return { ...answer, entry: shift(answer.entry) };
    return 'node' in answer ? { ...answer, node: out(answer.node as number) } : answer;
  };
  return new Proxy(filesystem, {
    get(target, name) {
      const own = Reflect.get(target, name) as unknown;
      if (typeof own !== 'function') return own;
      return (...given: unknown[]) => {
        const call = [typeof given[0] === 'number' ? back(given[0]) : given[0], ...given.slice(1)];
        const request = call.find((one) => typeof one === 'object' && one !== null && 'newParent' in one) as object | undefined;
        if (request !== undefined) {
          const moved = new Proxy(request, {
            get: (inner, key) => (key === 'newParent' ? back(Reflect.get(inner, key) as number) : Reflect.get(inner, key)),
          });
          call[call.indexOf(request)] = moved;
        }
        if (name === 'copyFileRange') {
          const asked = call[1] as object;
          call[1] = new Proxy(asked, {
            get: (inner, key) => (key === 'toNode' ? back(Reflect.get(inner, key) as number) : Reflect.get(inner, key)),
          });
        }
        if (name === 'readdirplus' || name === 'readdir') {
          const reply = call[2] as { add(entry: object): boolean; addPlus(entry: object, found?: object): boolean };
          call[2] = {
            add: (entry: object) => reply.add(entry),
            addPlus: (entry: object, found?: object) => reply.addPlus(entry, shift(found) as object | undefined),
            fits: (bytes: number) => (reply as unknown as { fits(bytes: number): boolean }).fits(bytes),
          };
        }
        return shift(own.apply(target, call));
      };
    },
  });
}

test('one after the other, a lock that waits for the release of another waits in vain, but not for ever', async () => {
  const whole = await ofMemory('libfuse-3.9.4-passthrough_ll');
  const report = await replayTrace(whole, memory(), { concurrency: 'serial', answerMs: 200 });
  expect(report.differences.map(({ text }) => text)).toEqual(['SETLKW /x15913/lk: no answer within 200 ms']);
  expect((await replayTrace(whole, memory(), { answerMs: 2000 })).different).toBe(0);
});

describe('another filesystem', () => {
  class Differing extends MemoryFilesystem {
    override lookup(parent: NodeId, name: string, request: Request) {
      if (name === 'f') throw new FuseError('EACCES');
      return super.lookup(parent, name, request);
    }
    override read(node: NodeId, request: ReadRequest) {
      const count = super.read(node, request);
      if (count > 3) request.payload()[3] ^= 0xff;
      return count;
    }
  }

  test('what differs is said by what it means', async () => {
    const report = await replayTrace(ours, new Differing({ uid: 0, gid: 0 }), { answerMs: 2000 });
    const texts = report.differences.map(({ text }) => text);
    expect(texts.find((text) => text.startsWith('READ '))).toMatch(/^READ \/\S+: data differs from byte 3 on$/);
    expect(texts.find((text) => text.startsWith('LOOKUP '))).toMatch(
      /^LOOKUP \/\S+\/f: recorded (ENOENT|found as .*), now EACCES$/,
    );
    expect(report.same + report.different + report.skippedCount).toBe(report.requests);
    expect(report.differences[0].index).toBeGreaterThan(0);
  });

  test('a filesystem that lacks a file: what was done with it is skipped, with the reason', async () => {
    const report = await replayTrace(fixture('libfuse-3.19-hello_ll'), memory(), { answerMs: 2000 });
    expect(report.differences.map(({ text }) => text)).toContain(
      'LOOKUP /hello: recorded found as a file of 13 bytes, now ENOENT',
    );
    expect(report.differences.map(({ text }) => text)).toContain('READDIR /: the listing lacks 1 ("hello")');
    expect(report.skipped.get('about a file that the replay does not have')).toBeGreaterThan(20);
  });

  test('times, inode numbers and generations count only when asked for', async () => {
    const later = new MemoryFilesystem({ uid: 0, gid: 0 });
    const strict = await replayTrace(ours.slice(0, 40), later, { strict: true });
    expect(strict.differences.some(({ text }) => /mtime(nsec)? recorded/.test(text))).toBe(true);
  });

  test('a filesystem that never answers does not hang the replay', async () => {
    const stuck: Filesystem = { getattr: () => new Promise(() => {}), lookup: () => new Promise(() => {}) };
    const began = performance.now();
    const report = await replayTrace(ours.slice(0, 12), stuck, { answerMs: 50 });
    expect(report.differences.map(({ text }) => text)).toContain('GETATTR /: no answer within 50 ms');
    expect(performance.now() - began).toBeLessThan(3000);
  });

  test('a session that refuses INIT is an error, not a difference', async () => {
    const refusing: Filesystem = {
      init() {
        throw new Error('no');
      },
    };
    await expect(replayTrace(ours.slice(0, 4), refusing)).rejects.toMatchObject({ code: 'ERR_FUSEWIRE_INIT' });
  });

  test('every captured daemon can be replayed against it within its limits', async () => {
    for (const name of ['libfuse-2.3.0-fusexmp', 'rclone-1.60', 'gofuse-2.9-hello', 'libfuse-3.19-poll']) {
      const report = await replayTrace(fixture(name), memory(), { answerMs: 300 });
      expect(report.same + report.different + report.skippedCount, name).toBe(report.requests);
      expect(report.same, name).toBeGreaterThan(1);
    }
  });
});

describe('helpers for tests', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'fusewire-replay-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('messagesOf reads a file, expectTrace replays it', async () => {
    const path = join(folder, 'ours.jsonl');
    await writeTrace(path, ours);
    expect((await messagesOf(path)).length).toBe(ours.length);
    const report = await expectTrace(path, memory());
    expect(report.different).toBe(0);
  });

  test('expectTrace lists what differs, but for what is allowed', async () => {
    const trace = fixture('libfuse-3.19-hello_ll');
    await expect(expectTrace(trace, memory())).rejects.toThrow(
      /LOOKUP \/hello: recorded found as a file of 13 bytes, now ENOENT/,
    );
    await expect(expectTrace(trace, memory())).rejects.toMatchObject({ code: 'ERR_ASSERTION' });
    await expectTrace(trace, memory(), {
      allowed: [/^\w+ \/(hello|n+|nn|nd)?(: | |$)/, /recorded ENOSYS/, /recorded ENOENT/],
    }).catch((error: Error) => {
      throw new Error(`not allowed: ${error.message}`);
    });
  });

  test('assertSameTrace: another session of the same filesystem tells the same, another filesystem does not', async () => {
    const again: TraceMessage[] = [];
    await replayTrace(ours, memory(), { onMessage: (message) => void again.push(message) });
    await assertSameTrace(again, ours);
    await expect(assertSameTrace(ours.slice(0, -40), ours)).rejects.toThrow(/expected, none found/);
    const other: TraceMessage[] = [];
    const closed = new (class extends MemoryFilesystem {
      override unlink(): never {
        throw new FuseError('EACCES');
      }
    })({ uid: 0, gid: 0 });
    await replayTrace(ours, closed, { answerMs: 300, onMessage: (message) => void other.push(message) });
    await expect(assertSameTrace(other, ours)).rejects.toThrow(/UNLINK "\w+": recorded done, now EACCES/);
    await assertSameTrace(other, other);
  });
});
