/** The filesystems of the guide, mounted as the guide says: by the command line and by a program, in TypeScript and JavaScript. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Block, blocksOf, fileOf, isCode, pages, titleOf, writeBlocks } from '../unit/docs-blocks.ts';
import { CLI, daemonOf, mountPoint, NO_MOUNTS, ROOT, run, runWell, skipLoudly, useLiveMounts } from './harness.ts';

const code = pages().flatMap(blocksOf).filter(isCode);
const mounting = code.filter(({ words }) => words.includes('mount'));

describe.skipIf(skipLoudly('the filesystems of the guide', NO_MOUNTS))('the guide', () => {
  let written: ReturnType<typeof writeBlocks>;
  beforeAll(() => {
    written = writeBlocks(code);
  });
  afterAll(() => written.remove());
  useLiveMounts();

  /** A program mounts by itself; what exports a filesystem is mounted by the command line. */
  const start = (block: Block, path: string) => {
    const file = join(written.folder, fileOf(block));
    if (/^await mounted\.closed/m.test(block.text))
      return daemonOf(join(ROOT, 'node_modules/tsx/dist/cli.mjs'), [file, path], path);
    return daemonOf(CLI, ['mount', file, path], path);
  };

  test('has filesystems to mount, in each dialect', () => {
    expect(mounting.map(({ file }) => file)).toEqual(
      expect.arrayContaining(['hello.ts', 'hello.mjs', 'hello.cjs', 'program.ts', 'counter.ts']),
    );
  });

  test.each(mounting.map((block) => [titleOf(block), block] as const))('%s is mounted, read and unmounted', async (_, block) => {
    const path = mountPoint();
    const daemon = await start(block, path);
    const read = await runWell(['cat', `${path}/hello`], { timeoutMs: 10_000 });
    if (block.file === 'counter.ts') expect(read).toMatch(/^Hello, visitor 1, says worker [01]\n$/);
    else {
      expect(read).toBe('Hello, world!\n');
      expect(await runWell(['ls', path], { timeoutMs: 10_000 })).toBe('hello\n');
      expect((await run(['cat', `${path}/other`], { timeoutMs: 10_000 })).stderr).toContain('No such file or directory');
    }
    daemon.kill('SIGTERM');
    await daemon.end(5_000);
  });
});

const SMALL = `
export default {
  lookup: () => ({ node: 2, attributes: { mode: 0o100444 } }),
  getattr: (node) => ({ attributes: node === 1 ? { mode: 0o040755 } : { mode: 0o100444 } }),
};
`;

/** What DEADLOCKS.md says of a daemon that uses its own mount, tried by a program that prints what it got. */
const OWN_USE = `
import { spawn } from 'node:child_process';
import { subscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import fs from 'node:fs';
import { mount } from 'fusewire';
import small from './small.mjs';

const [path, workers, mode] = process.argv.slice(2);
subscribe('fusewire:fault', ({ kind }) => console.log(kind));
const source = workers === '0' ? small : { module: new URL('small.mjs', import.meta.url) };
const mounted = await mount(source, path, { workers: Number(workers), mode });
console.log('mounted');
await fs.promises.readFile(path + '/a').catch(({ errno }) => console.log('promise ' + errno));
if (workers !== '0') {
  try {
    fs.statSync(path + '/b');
  } catch ({ errno }) {
    console.log('synchronous ' + errno);
  }
  const child = spawn('true', { cwd: path });
  console.log('spawn ' + (await once(child, 'close'))[0]);
}
await mounted.unmount();
console.log('done');
`;

describe.skipIf(skipLoudly('what DEADLOCKS.md says of own mounts', NO_MOUNTS))('a daemon that uses its own mount', () => {
  const block = { page: 'own-use', line: 1, language: 'js', words: [] };
  const main: Block = { ...block, file: 'own-use.mjs', text: OWN_USE };
  let written: ReturnType<typeof writeBlocks>;
  beforeAll(() => {
    written = writeBlocks([main, { ...block, file: 'small.mjs', text: SMALL }]);
  });
  afterAll(() => written.remove());
  useLiveMounts();
  const script = () => join(written.folder, fileOf(main));

  test('is answered EDEADLK when it serves an object, with a fault', async () => {
    const path = mountPoint();
    const daemon = await daemonOf(script(), [path, '0', 'event'], path);
    await daemon.end(8_000);
    expect(daemon.lines).toEqual(['mounted', 'own-request', 'promise -35', 'done']);
  });

  test.each(['event', 'blocking'])('is answered EDEADLK by workers in %s mode, and may spawn on the mount', async (mode) => {
    const path = mountPoint();
    const daemon = await daemonOf(script(), [path, '2', mode], path);
    await daemon.end(8_000);
    expect(daemon.lines).toEqual(['mounted', 'promise -35', 'synchronous -35', 'spawn 0', 'done']);
  });
});
