/** Many mounts in one process: nothing leaks from one to the next, and a signal ends them all. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { LineProcess, mountsUnder, NO_MOUNTS, ROOT, runWell, sharedFolder, skipLoudly, useLiveMounts } from './harness.ts';

const MOUNTS = 30;

const PROGRAM = `
import { mount } from ${JSON.stringify(join(ROOT, 'dist/src/index.js'))};
const hello = {
  lookup: () => ({ node: 2, attributes: { mode: 0o100444, size: 2 } }),
  getattr: (node) => ({ attributes: node === 1 ? { mode: 0o040755 } : { mode: 0o100444, size: 2 } }),
  read: () => Buffer.from('hi'),
};
process.on('warning', (warning) => console.log('warning', warning.name));
for (const path of process.argv.slice(1)) await mount(hello, path);
console.log('mounted all');`;

describe.skipIf(skipLoudly('many mounts', NO_MOUNTS))(`${MOUNTS} mounts in one process`, () => {
  useLiveMounts();

  test.each(['SIGTERM', 'SIGINT', 'exit'] as const)('serve side by side and end by %s', async (how) => {
    const folder = sharedFolder(`many-${how.toLowerCase()}`);
    const paths = Array.from({ length: MOUNTS }, (_, index) => join(folder, String(index)));
    for (const path of paths) mkdirSync(path);
    const program = how === 'exit' ? `${PROGRAM}\nprocess.stdin.on('data', () => process.exit(0));` : PROGRAM;
    const daemon = new LineProcess([process.execPath, '--input-type=module', '-e', program, '--', ...paths]);
    expect(await daemon.line((line) => !line.startsWith('x'), 20_000, 'a line')).toBe('mounted all');
    expect(mountsUnder(folder)).toHaveLength(MOUNTS);
    expect(await runWell(['cat', ...paths.map((path) => join(path, 'file'))], { timeoutMs: 5000 })).toBe('hi'.repeat(MOUNTS));
    if (how === 'exit') daemon.send('end');
    else daemon.kill(how);
    const ended = await daemon.end(10_000);
    expect(how === 'exit' ? ended.code : ended.signal).toBe(how === 'exit' ? 0 : how);
    expect(mountsUnder(folder)).toEqual([]);
  });
});
