import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Addon, tryLoadAddon } from '../../src/native/index.ts';

const EINTR = -4;
const loaded = tryLoadAddon();
const fixture = (name: string) => new URL(`../fixtures/${name}`, import.meta.url);

interface Sleeper {
  next(): Promise<number>;
  worker: Worker;
}

function startSleeper(call: string, fd: number, rounds: number): Sleeper {
  const worker = new Worker(fixture('sleeper.mjs'), { workerData: { call, fd, rounds } });
  const arrived: number[] = [];
  let take: ((value: number) => void) | undefined;
  worker.on('message', (value: number) => {
    if (take) take(value);
    else arrived.push(value);
    take = undefined;
  });
  const next = () =>
    new Promise<number>((resolve) => {
      if (arrived.length > 0) resolve(arrived.shift()!);
      else take = resolve;
    });
  return { worker, next };
}

interface Ended {
  code: number | string | null | undefined;
  stdout: string;
}

function run(name: string, args: string[], environment: Record<string, string> = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const options = { timeout: 8000, killSignal: 'SIGKILL' as const, env: { ...process.env, ...environment } };
    execFile(process.execPath, [fileURLToPath(fixture(name)), ...args], options, (error, stdout) => {
      resolve({ code: error ? error.code : 0, stdout });
    });
  });
}

describe.skipIf(loaded === undefined)('threads', () => {
  const addon = loaded as Addon;
  let folder: string;
  let file: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'fusewire-threads-'));
    file = join(folder, 'lock');
    writeFileSync(file, '');
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  function pair(): [number, number] {
    addon.socketPair();
    const [one, two] = new Int32Array(addon.scratch, 0, 2);
    return [one, two];
  }

  test('a thread knows its id and its siblings', () => {
    const thread = addon.threadId();
    expect(thread).toBeGreaterThan(0);
    expect([addon.isOwnThread(thread), addon.isOwnThread(1), addon.isOwnThread(0), addon.isOwnThread(-5)]).toEqual([
      true,
      false,
      false,
      false,
    ]);
    expect(addon.wakeBlockedThread(1)).toBe(-3);
  });

  test('a wake is sticky, works once, and leaves what has arrived', () => {
    const [one, two] = pair();
    addon.reply(one, 0, 0, 3);
    expect(addon.wakeBlockedThread(addon.threadId())).toBe(0);
    expect(addon.wakeBlockedThread(addon.threadId())).toBe(0);
    expect(addon.receive(two, 0, 0, 10)).toBe(EINTR);
    expect(addon.receive(two, 0, 0, 10)).toBe(3);
    addon.close(one);
    addon.close(two);
  });

  test.each(['receive', 'replyReceive', 'poll'])('another thread is woken from %s, every time', async (call) => {
    const [one, two] = pair();
    const rounds = 300;
    const sleeper = startSleeper(call, two, rounds);
    const thread = await sleeper.next();
    expect(addon.isOwnThread(thread)).toBe(true);
    // Wakes fall before, into and after the gap between the thread's look and its sleep: none may be lost.
    for (let round = 0; round < rounds; round++) {
      expect(addon.wakeBlockedThread(thread)).toBe(0);
      expect(await sleeper.next()).toBe(EINTR);
    }
    await sleeper.worker.terminate();
    addon.close(one);
    addon.close(two);
  });

  test('messages and wakes do not disturb each other', async () => {
    const [one, two] = pair();
    const sleeper = startSleeper('receive', two, 400);
    const thread = await sleeper.next();
    let bytes = 0;
    let wakes = 0;
    for (let round = 0; round < 200; round++) {
      addon.reply(one, 0, 0, 1);
      addon.wakeBlockedThread(thread);
      for (let result = 0; result < 2; result++) {
        const got = await sleeper.next();
        if (got > 0) bytes += got;
        else if (got === EINTR) wakes++;
      }
    }
    expect([bytes, wakes]).toEqual([200, 200]);
    await sleeper.worker.terminate();
    addon.close(one);
    addon.close(two);
  });

  test.each([
    ['exit', 3],
    ['throw', 1],
    ['terminate', 0],
  ])('a process whose threads sleep ends by %s', async (way, code) => {
    const ended = await run('exits-while-asleep.mjs', [way, file]);
    expect(ended.code).toBe(code);
    expect(ended.stdout).toContain('left ');
    expect(ended.stdout).not.toContain('slow');
    if (way === 'terminate') expect(ended.stdout).toContain('late -4');
  });

  test.each(['uv', 'thread'])('a watch works on %s, and leaves no thread behind that keeps the process', async (watch) => {
    expect(await run('watch-rounds.mjs', [], { FUSEWIRE_WATCH: watch })).toEqual({ code: 0, stdout: 'received 300\n' });
  });

  test.each(['uv', 'thread'])('what callbacks throw becomes an uncaughtException (%s)', async (watch) => {
    const ended = await run('watch-throws.mjs', [file], { FUSEWIRE_WATCH: watch });
    expect(ended).toEqual({ code: 0, stdout: 'uncaught from watch\nuncaught from lock\n' });
  });

  test.each(['uv', 'thread'])('a thread may end with watches and waits (%s)', async (watch) => {
    const ended = await run('exits-while-asleep.mjs', ['terminate', file], { FUSEWIRE_WATCH: watch });
    expect(ended.code).toBe(0);
  });
});
