/**
 * How a mount ends: signals, a killed daemon, process.exit, an unmount from outside, an aborted connection, a crashed
 * worker. In each case callers get an errno in bounded time and nothing is left behind.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { clientProgram, NO_COMPILER } from '../clients/build.ts';
import { type Call, Client } from './client.ts';
import {
  abortConnection,
  assertNothingLeft,
  connections,
  type Daemon,
  daemon,
  daemonOf,
  eventually,
  FIXTURES,
  fuseMountAt,
  LineProcess,
  mountHere,
  mountPoint,
  NO_MOUNTS,
  negative,
  onCleanUp,
  skipLoudly,
  tellFigure,
  temporaryFolder,
  umount,
  useLiveMounts,
  withLimit,
} from './harness.ts';
import { Withheld } from './withheld.ts';

/** From the signal to the end of the daemon. */
const EXIT_MS = 2000;
/** From the end of the daemon to the error that its callers get. */
const ERROR_MS = 1000;

const STUCK = join(FIXTURES, 'stuck.mjs');
const MIB = 1 << 20;

interface Serving {
  workers: number;
  mode: string;
}

const SERVINGS: Serving[] = [
  { workers: 1, mode: 'event' },
  { workers: 4, mode: 'event' },
  { workers: 1, mode: 'blocking' },
  { workers: 4, mode: 'blocking' },
];

function servingOptions({ workers, mode }: Serving): string[] {
  return ['--workers', String(workers), '--mode', mode];
}

async function startPassthrough(serving: Serving): Promise<{ source: string; path: string; process: Daemon }> {
  const source = temporaryFolder('source');
  writeFileSync(join(source, 'file'), 'contents');
  mkdirSync(join(source, 'folder'));
  const path = mountPoint();
  return { source, path, process: await daemon(['passthrough', source, path, ...servingOptions(serving)], path) };
}

async function startStuck(serving: Serving, path = mountPoint()): Promise<{ path: string; process: Daemon }> {
  return { path, process: await daemon(['mount', STUCK, path, ...servingOptions(serving)], path) };
}

/** Callers of every kind that wait for an answer which never comes. */
async function blockedCallers(path: string): Promise<Call[]> {
  const clients = await Promise.all(Array.from({ length: 5 }, () => Client.start()));
  const [buffered, direct, writer, asynchronous, lookup] = clients;
  await buffered.open(0, join(path, 'stuck'), 'rdonly');
  await direct.open(0, join(path, 'stuck'), 'rdonly,direct');
  await writer.open(0, join(path, 'stuck'), 'rdwr,direct');
  await asynchronous.open(0, join(path, 'stuck'), 'rdonly,direct');
  const event = asynchronous.aread(0, 2 * MIB, MIB);
  await asynchronous.submit().wait();
  asynchronous.events(1, 20_000);
  const calls = [
    buffered.pread(0, 3 * MIB, 4096),
    direct.pread(0, 0, MIB),
    writer.pwrite(0, MIB, MIB),
    event,
    lookup.opening(0, join(path, 'never'), 'rdonly'),
  ];
  await sleep(200);
  expect(calls.map((call) => call.done)).toEqual([false, false, false, false, false]);
  return calls;
}

/** Each call returned an errno that tells of a lost connection, within the time. */
async function expectErrors(calls: readonly Call[], timeoutMs: number): Promise<void> {
  const limit = performance.now() + timeoutMs;
  for (const call of calls) {
    const { result } = await call.wait(Math.max(1, limit - performance.now()));
    const expected = [negative('ECONNABORTED'), negative('ENOTCONN'), negative('EINTR'), negative('ENODEV'), negative('EIO')];
    expect(expected, `a blocked call returned ${result}`).toContain(result);
  }
}

async function expectGoodEnd(ending: Daemon, from: number): Promise<void> {
  const { code, signal, at } = await ending.end(EXIT_MS + 3000);
  expect({ code, signal, stderr: ending.stderr }).toMatchObject({ code: 0, signal: null });
  tellFigure('ms until the daemon ended:', Math.round(at - from));
  expect(at - from).toBeLessThan(EXIT_MS);
}

/** Programs that use the mount in a loop until it goes away. */
async function startLoad(path: string, count: number): Promise<LineProcess[]> {
  const load = Array.from({ length: count }, (_, index) => new LineProcess([clientProgram('hammer'), path, `h${index}`, '20']));
  for (const process of load) await process.line((line) => line === 'running', 5000, 'a round of the load');
  return load;
}

const skip = skipLoudly('how a live mount ends', NO_MOUNTS ?? NO_COMPILER);

function daemonTests(serving: Serving): void {
  useLiveMounts();

  test.each(['SIGINT', 'SIGTERM'] as const)('%s under load unmounts and exits 0 within 2 s', async (signal) => {
    const { path, process: serving_ } = await startPassthrough(serving);
    const load = await startLoad(path, 3);
    await sleep(300);
    const from = performance.now();
    serving_.kill(signal);
    await expectGoodEnd(serving_, from);
    for (const process of load) {
      await process.end(ERROR_MS);
      // A caller that comes after the unmount finds an empty mount point, and works on: that is no error of ours.
      expect(process.lines.at(-1)).toMatch(/^(error|done) /);
    }
    assertNothingLeft(path, serving_.pid);
  });

  test.each(['SIGINT', 'SIGTERM'] as const)(
    '%s while requests wait for ever: exits 0 within 2 s, callers get errors',
    async (signal) => {
      const { path, process: serving_ } = await startStuck(serving);
      const calls = await blockedCallers(path);
      const from = performance.now();
      serving_.kill(signal);
      await expectGoodEnd(serving_, from);
      await expectErrors(calls, ERROR_MS);
      assertNothingLeft(path, serving_.pid);
    },
  );

  test('kill -9: every blocked caller has an error within 1 s, and the mount point can be mounted again', async () => {
    const { path, process: killed } = await startStuck(serving);
    const { connection } = killed;
    const calls = await blockedCallers(path);
    killed.kill('SIGKILL');
    await killed.end(EXIT_MS);
    await expectErrors(calls, ERROR_MS);
    expect((await connections()).get(connection) ?? 0).toBe(0);

    const { process: second } = await startStuck(serving, path);
    const client = await Client.start();
    await client.open(0, join(path, 'data'), 'rdonly');
    expect(await client.pread(0, 0, 4096).wait()).toMatchObject({ result: 4096 });
    const from = performance.now();
    second.kill('SIGTERM');
    await expectGoodEnd(second, from);
    assertNothingLeft(path, killed.pid, second.pid);
  });

  test.each([
    ['process.exit()', 'exit', 7],
    ['an uncaught error', 'throw', 1],
  ])('%s in the middle does not hang', async (_what, how, code) => {
    const path = mountPoint();
    const ending = await daemonOf(join(FIXTURES, 'ending-daemon.mjs'), [JSON.stringify({ path, ...serving })], path);
    const calls = await blockedCallers(path);
    const from = performance.now();
    ending.send(how);
    const end = await ending.end(EXIT_MS + 3000);
    expect({ ...end, stderr: ending.stderr }).toMatchObject({ code, signal: null });
    expect(end.at - from).toBeLessThan(EXIT_MS);
    tellFigure('ms until the daemon ended:', Math.round(end.at - from));
    await expectErrors(calls, ERROR_MS);
    assertNothingLeft(path, ending.pid);
  });

  test('umount from outside ends the daemon with 0', async () => {
    const { path, process: serving_ } = await startPassthrough(serving);
    const client = await Client.start();
    await client.open(0, join(path, 'file'), 'rdonly');
    await client.send('close 0');
    await client.fstat(0).wait();
    const from = performance.now();
    await umount(path);
    await expectGoodEnd(serving_, from);
    assertNothingLeft(path, serving_.pid);
  });

  test('a lazy umount serves files that are open, and ends the daemon when the last is closed', async () => {
    const { path, process: serving_ } = await startPassthrough(serving);
    const client = await Client.start();
    await client.open(0, join(path, 'file'), 'rdonly,direct');
    await umount(path, '-l');
    expect(fuseMountAt(path)).toBeUndefined();
    await sleep(300);
    expect(serving_.hasEnded).toBe(false);
    expect(await client.pread(0, 0, 4096).wait()).toMatchObject({ result: 'contents'.length });
    const from = performance.now();
    client.send('close 0');
    await expectGoodEnd(serving_, from);
    assertNothingLeft(path, serving_.pid);
  });

  test('an abort through fusectl ends the daemon, and callers get ECONNABORTED', async () => {
    const { path, process: serving_ } = await startStuck(serving);
    const calls = await blockedCallers(path);
    const from = performance.now();
    await abortConnection(serving_.connection);
    const [buffered, ...others] = calls;
    for (const call of others) expect(await call.wait(ERROR_MS)).toMatchObject({ result: negative('ECONNABORTED') });
    // After its read-ahead was aborted the kernel asks once more for the page itself (filemap_read_folio), too late.
    expect(await buffered.wait(ERROR_MS)).toMatchObject({ result: negative('ENOTCONN') });
    const { at } = await serving_.end(EXIT_MS + 3000);
    expect(at - from).toBeLessThan(EXIT_MS);
    assertNothingLeft(path, serving_.pid);
  });

  test('a worker that dies leaves nobody hanging', async () => {
    const { path, process: serving_ } = await startStuck(serving);
    const client = await Client.start();
    const crash = client.opening(0, join(path, 'crash'), 'rdonly');
    const { result } = await crash.wait(EXIT_MS);
    expect(result).toBeLessThan(0);
    const other = await Client.start();
    // The mount goes away or keeps serving: either way the next caller gets an answer.
    await other.opening(0, join(path, 'data'), 'rdonly').wait(EXIT_MS);
    serving_.kill('SIGTERM');
    await serving_.end(EXIT_MS);
    assertNothingLeft(path, serving_.pid);
  });
}

for (const serving of SERVINGS) {
  const { workers, mode } = serving;
  describe.skipIf(skip)(`a daemon with ${workers} worker${workers > 1 ? 's' : ''} in ${mode} mode`, () => daemonTests(serving));
}

describe.skipIf(skip)('a mount of this process', () => {
  useLiveMounts();

  async function pendingReads() {
    const fs = new Withheld([{ name: 'f', size: 4 * MIB }]);
    onCleanUp({ before: () => fs.letGo() });
    const live = await mountHere(fs.filesystem(), { workers: 0, mode: 'event', maxWrite: 128 << 10, maxPages: 32 });
    const client = await Client.start();
    await client.open(0, join(live.path, 'f'), 'rdwr,direct');
    const read = client.pread(0, 0, MIB);
    await fs.pendingIs(8);
    return { fs, live, client, read };
  }

  test('unmount() ends it within 2 s while requests wait, and closed resolves', async () => {
    const { live, read } = await pendingReads();
    await withLimit(live.mount.unmount(), EXIT_MS, 'unmount()');
    await withLimit(Promise.resolve(live.mount.closed), 500, 'closed');
    expect((await read.wait(ERROR_MS)).result).toBeLessThan(0);
    await eventually(
      () => fuseMountAt(live.path) === undefined,
      500,
      () => 'still mounted',
    );
  });

  test('abort() ends it at once, and callers get ECONNABORTED', async () => {
    const { live, read } = await pendingReads();
    await withLimit(Promise.resolve(live.mount.abort()), EXIT_MS, 'abort()');
    expect(await read.wait(ERROR_MS)).toMatchObject({ result: negative('ECONNABORTED') });
    await withLimit(
      Promise.resolve(live.mount.closed).catch(() => {}),
      EXIT_MS,
      'closed',
    );
  });

  test('unmount() twice, and after an umount from outside, is harmless', async () => {
    const fs = new Withheld([{ name: 'f', size: MIB }]);
    const live = await mountHere(fs.filesystem(), { workers: 0, mode: 'event' });
    await umount(live.path);
    await withLimit(Promise.resolve(live.mount.closed), EXIT_MS, 'closed after an umount from outside');
    await withLimit(live.mount.unmount(), EXIT_MS, 'unmount()');
    await withLimit(live.mount.unmount(), EXIT_MS, 'the second unmount()');
    expect(fuseMountAt(live.path)).toBeUndefined();
  });
});
