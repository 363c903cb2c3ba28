/** More files than the passthrough may hold nodes for: the kernel is asked to forget, and nobody notices. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { mountHere, NO_MOUNTS, ROOT, runWell, skipLoudly, temporaryFolder, useLiveMounts } from './harness.ts';

const skip = skipLoudly('relief of the inode table', NO_MOUNTS);
const module = pathToFileURL(join(ROOT, 'dist/examples/passthrough/filesystem.js'));
const FILES = 6000;
const NODES = 1000;

const WALK = `
import os, sys
total = 0
for base, folders, files in os.walk(sys.argv[1]):
    for name in files:
        total += os.lstat(os.path.join(base, name)).st_size
print(total)`;

const FILL = `
import os, sys
for i in range(${FILES}):
    folder = os.path.join(sys.argv[1], str(i % 20))
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f'file {i}'), 'w') as file:
        file.write('x' * (i % 7))`;

describe.skipIf(skip)(`${FILES} files with room for ${NODES} nodes`, () => {
  useLiveMounts();

  test.each([
    { workers: 1, mode: 'blocking' as const },
    { workers: 2, mode: 'blocking' as const },
    { workers: 2, mode: 'event' as const },
  ])('are made, walked twice and removed: %o', { timeout: 90_000 }, async (settings) => {
    const source = temporaryFolder('nodes');
    const { path } = await mountHere({ module, options: { source, maxNodes: NODES, cache: 'always' } }, settings);
    const python = (script: string, folder: string) => runWell(['python3', '-c', script, folder], { timeoutMs: 25_000 });
    await python(FILL, path);
    const natively = await python(WALK, source);
    expect(await python(WALK, path)).toBe(natively);
    expect(await python(WALK, path)).toBe(natively);
    await runWell(['find', path, '-mindepth', '1', '-delete'], { timeoutMs: 25_000 });
    expect(await runWell(['find', source, '-mindepth', '1'], { timeoutMs: 5000 })).toBe('');
  });
});
