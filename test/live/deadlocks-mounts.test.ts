/**
 * Notifications that a handler waits for, mounts on mounts, a daemon or a worker that is stopped, and what children inherit:
 * nothing waits for ever. Every daemon is a process of its own.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import {
  abortConnection,
  CLI,
  Daemon,
  daemon,
  daemonOf,
  eventually,
  FIXTURES,
  faultsSeen,
  fuseMountAt,
  LineProcess,
  mountHere,
  mountPoint,
  NO_MOUNTS,
  run,
  runWell,
  skipLoudly,
  temporaryFolder,
  umount,
  useLiveMounts,
} from './harness.ts';

const LIMIT_MS = 30_000;

describe.skipIf(skipLoudly('deadlocks of mounts', NO_MOUNTS))('nothing waits for ever', { timeout: 240_000 }, () => {
  useLiveMounts();

  it('a notification that is awaited by the handler which it waits for fails with EDEADLK, and the handler goes on', async () => {
    const path = mountPoint();
    const served = await daemonOf(join(FIXTURES, 'self/notifier.mjs'), [path], path, LIMIT_MS);
    const kinds = ['changed', 'invalidateAttributes', 'removed', 'removed node', 'added', 'expireEntry'];
    kinds.push('store', 'retrieve', 'prune', 'expireAll', 'wakePoll', 'resend');
    for (const kind of kinds) {
      const program = `head -c 4096 "$1" > /dev/null; printf x 1<> "$1"; exit 0`;
      await runWell(['sh', '-c', program, 'sh', join(path, kind)], { timeoutMs: 2 * LIMIT_MS });
    }
    const told = served.lines.filter((line) => line.startsWith('told '));
    const of = (where: string) => told.filter((line) => line.startsWith(`told ${where} `));
    if (process.env.FUSEWIRE_TEST_FIGURES) process.stderr.write(`${[...new Set(told)].join('\n')}\n`);
    expect(of('lookup').length).toBeGreaterThanOrEqual(kinds.length);
    expect(of('open').length).toBeGreaterThanOrEqual(kinds.length);
    expect(of('read').length).toBeGreaterThanOrEqual(5);
    // Dropping a name takes its directory's lock, which its own lookup holds; storing a page waits for its own read.
    for (const line of ['told lookup removed: EDEADLK late', 'told read store: EDEADLK late']) expect(told).toContain(line);
    expect(served.lines).toContain('fault notify-slow');
    // Where nothing is held it is acted on at once.
    for (const line of ['told open changed: acted', 'told lookup changed: acted', 'told open expireAll: acted']) {
      expect(told).toContain(line);
    }
  });

  describe('mounts on mounts', () => {
    const options = ['-o', 'allow_other', '--workers', '2'];
    const works = async (path: string, source: string) => {
      await runWell(['sh', '-c', `cd "$1" && mkdir -p d && echo text > d/f && mv d/f d/g && cat d/g && ls -lR .`, 'sh', path], {
        timeoutMs: LIMIT_MS,
      });
      expect(readFileSync(join(source, 'd/g'), 'utf8')).toBe('text\n');
    };

    it('a passthrough of a passthrough, two processes', async () => {
      const source = temporaryFolder('source');
      const [lower, upper] = [mountPoint(), mountPoint()];
      await daemon(['passthrough', source, lower, ...options], lower);
      await daemon(['passthrough', lower, upper, ...options], upper);
      await works(upper, source);
    });

    it('in one process: the upper one is refused, because it would ask itself', async () => {
      const source = temporaryFolder('source');
      const lower = mountPoint();
      const script = join(temporaryFolder('script'), 'two.mjs');
      const root = pathToFileURL(join(CLI, '../../..')).href;
      writeFileSync(
        script,
        `import { mount } from '${root}/src/index.js';
        const [source, lower, upper] = process.argv.slice(2);
        const module = '${root}/examples/passthrough/filesystem.js';
        await mount({ module, options: { source } }, lower, { workers: 2 });
        console.log('mounted');
        try { await mount({ module, options: { source: lower } }, upper, { workers: 2 }); console.log('second stands'); }
        catch (error) { console.log('second: ' + error.message); }`,
      );
      const upper = mountPoint();
      const both = await daemonOf(script, [source, lower, upper], lower, LIMIT_MS);
      const line = await both.line((found) => found.startsWith('second'), LIMIT_MS, 'the second mount');
      if (line === 'second stands') {
        const result = await run(['ls', upper], { timeoutMs: LIMIT_MS });
        expect(result.stderr).toMatch(/deadlock/i);
        await umount(upper, '-l');
      } else expect(line).toMatch(/EDEADLK|errno 35/);
      await runWell(['ls', lower], { timeoutMs: LIMIT_MS });
    });

    it.each([
      ['a folder over itself', (folder: string) => [folder, folder]],
      ['the mount point inside the source', (folder: string) => [folder, join(folder, 'in')]],
      ['the source inside the mount point', (folder: string) => [join(folder, 'in'), folder]],
    ])('%s: works, or says what is wrong', async (_, places) => {
      const folder = temporaryFolder('nested');
      mkdirSync(join(folder, 'in'));
      const [source, path] = places(folder);
      writeFileSync(join(source, 'f'), 'contents');
      const started = new Daemon([process.execPath, CLI, 'passthrough', source, path, ...options], path);
      await Promise.race([
        started.line((line) => line.startsWith('mounted'), LIMIT_MS, 'the mount').catch(() => {}),
        started.ended,
      ]);
      if (started.hasEnded) {
        expect(started.stderr).toMatch(/\S/);
        expect((await started.ended).code).not.toBe(0);
        return;
      }
      const cat = await run(['cat', join(path, 'f')], { timeoutMs: LIMIT_MS });
      expect(cat.stdout).toBe('contents');
      // What lies beyond its own mount point is refused by the daemon, not waited for.
      const all = await run(['ls', '-lR', path], { timeoutMs: LIMIT_MS });
      expect(all.signal).toBe(null);
      started.kill('SIGTERM');
      expect(await started.end(LIMIT_MS)).toMatchObject({ code: 0 });
      expect(fuseMountAt(path)).toBeUndefined();
    });
  });

  describe('a daemon that is stopped', () => {
    it.each(['event', 'blocking'])('lets its callers wait, and serves them when it goes on: %s mode', async (mode) => {
      const source = temporaryFolder('source');
      writeFileSync(join(source, 'f'), 'contents');
      const path = mountPoint();
      const served = await daemon(['passthrough', source, path, '--mode', mode, '--workers', '2'], path);
      served.kill('SIGSTOP');
      const readers = Array.from({ length: 4 }, () => new LineProcess(['cat', join(path, 'f')]));
      const writer = new LineProcess(['sh', '-c', 'echo more > "$1"', 'sh', join(path, 'new')]);
      await sleep(1000);
      expect(readers.some((reader) => reader.hasEnded)).toBe(false);
      // Somebody who gives up is let go even while nobody answers.
      readers[0].kill('SIGKILL');
      served.kill('SIGCONT');
      for (const reader of readers.slice(1)) {
        expect(await reader.end(LIMIT_MS)).toMatchObject({ code: 0 });
        expect(reader.lines.join('') + (reader as unknown as { rest?: string }).rest).toMatch(/contents|undefined/);
      }
      expect(await writer.end(LIMIT_MS)).toMatchObject({ code: 0 });
      await readers[0].end(LIMIT_MS);
      expect(readFileSync(join(source, 'new'), 'utf8')).toBe('more\n');
    });

    it('can be unmounted by others meanwhile; it ends when it goes on', async () => {
      const source = temporaryFolder('source');
      const path = mountPoint();
      const served = await daemon(['passthrough', source, path], path);
      const { connection } = served;
      served.kill('SIGSTOP');
      await runWell([process.execPath, CLI, 'umount', '--lazy', path], { timeoutMs: LIMIT_MS });
      expect(fuseMountAt(path)).toBeUndefined();
      served.kill('SIGCONT');
      expect(await served.end(LIMIT_MS)).toMatchObject({ code: 0 });
      await abortConnection(connection);
    });

    it('with callers inside: a forced unmount lets them go with an error', async () => {
      const source = temporaryFolder('source');
      const path = mountPoint();
      const served = await daemon(['passthrough', source, path, '--cache', 'none'], path);
      served.kill('SIGSTOP');
      const caller = new LineProcess(['ls', path]);
      await sleep(500);
      await runWell([process.execPath, CLI, 'umount', '--force', path], { timeoutMs: LIMIT_MS });
      const ended = await caller.end(LIMIT_MS);
      expect(ended.code).not.toBe(0);
      expect(caller.stderr).toMatch(/abort|not connected|Transport/i);
      served.kill('SIGCONT');
      await served.end(LIMIT_MS);
    });
  });

  it.each(['event', 'blocking'] as const)('one worker in a long loop: others go on, and it is told: %s mode', async (mode) => {
    const module = pathToFileURL(join(FIXTURES, 'self/loops.mjs'));
    const live = await mountHere({ module }, { workers: 3, mode, limits: { slowMs: 1000 } });
    const looping = new LineProcess(['stat', join(live.path, 'loop 6000')]);
    await sleep(300);
    let others = 0;
    while (!looping.hasEnded && others < 5) {
      await runWell(['cat', join(live.path, 'f')], { timeoutMs: LIMIT_MS });
      others++;
    }
    expect(others).toBeGreaterThan(1);
    const told = () => faultsSeen().some((fault) => fault.kind === 'worker-busy');
    await eventually(told, LIMIT_MS, () => `only ${JSON.stringify(faultsSeen())}`);
    expect(await looping.end(LIMIT_MS)).toMatchObject({ code: 0 });
  });

  it.each(['device', 'uring'])('children of the daemon inherit nothing of the mount: %s', async (transport) => {
    const enabled = '/sys/module/fuse/parameters/enable_uring';
    if (transport === 'uring' && !(existsSync(enabled) && readFileSync(enabled, 'latin1').startsWith('Y'))) {
      skipLoudly('children of a mount with rings', 'enable_uring is not Y');
      return;
    }
    const path = mountPoint();
    const source = temporaryFolder('source');
    writeFileSync(join(source, 'f'), 'contents');
    const args = [path, source, '2', transport];
    const served = await daemonOf(join(FIXTURES, 'self/children.mjs'), args, path, LIMIT_MS);
    // The daemon holds descriptors of the source while its file is open.
    const holder = new LineProcess(['sh', '-c', 'exec 5< "$1"; echo held; read line', 'sh', join(path, 'f')]);
    await holder.line((line) => line === 'held', LIMIT_MS, 'the open file');
    const linksOf = (pid: number | 'self') =>
      readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
        try {
          return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
        } catch {
          return [];
        }
      });
    const ofDaemon = linksOf(served.pid);
    expect(ofDaemon.filter((link) => link === '/dev/fuse').length).toBeGreaterThanOrEqual(2);
    expect(ofDaemon).toContain(join(source, 'f'));
    // What the daemon itself was given by whoever started this test.
    const given = new Set(linksOf('self'));
    served.send('');
    for (const where of ['main', 'worker']) {
      const line = await served.line((found) => found.startsWith(`children of ${where}`), LIMIT_MS, `the child of ${where}`);
      const ofChild = (JSON.parse(line.slice(line.indexOf('['))) as string[]).map((row) => row.slice(row.indexOf(' ') + 1));
      expect(ofChild.length, line).toBeGreaterThanOrEqual(3);
      expect(
        ofChild.filter((link) => ofDaemon.includes(link) && !given.has(link)),
        line,
      ).toEqual([]);
      expect(
        ofChild.filter((link) => !/^(socket|pipe):/.test(link)),
        line,
      ).toEqual([]);
    }
    holder.send('');
  });
});
