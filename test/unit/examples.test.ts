/**
 * What of the examples needs no mount. The template is used as its README says: copied to a folder of its own that depends on
 * fusewire (on dist, so that has to be built).
 */
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BlockCache } from '../../examples/zip/content.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

interface Package {
  version: string;
  scripts: Record<string, string>;
  dependencies?: Record<string, string>;
  devDependencies: Record<string, string>;
}

const packageOf = (folder: string) => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Package;

describe('the block cache of zip', () => {
  it('keeps what was used last, within its bytes, also when a block is made again', () => {
    const cache = new BlockCache(30);
    for (const key of ['a', 'b', 'c']) cache.set(key, new Uint8Array(10));
    for (let i = 0; i < 10; i++) cache.set('c', new Uint8Array(10));
    expect(cache.get('a')).toHaveLength(10);
    cache.set('d', new Uint8Array(10));
    expect(['a', 'b', 'c', 'd'].map((key) => cache.get(key)?.length)).toEqual([10, undefined, 10, 10]);
    cache.set('huge', new Uint8Array(31));
    expect(['a', 'c', 'd', 'huge'].map((key) => cache.get(key))).toEqual([undefined, undefined, undefined, undefined]);
  });
});

describe('the template', () => {
  const folder = mkdtempSync(join(tmpdir(), 'fusewire-template-'));

  /** A script of its package.json, with what npm would put into its PATH. */
  const script = async (name: string, ...words: string[]) => {
    const path = `${join(folder, 'node_modules/.bin')}:${process.env.PATH}`;
    const argv = ['-euc', `${packageOf(folder).scripts[name]} "$@"`, 'sh', ...words];
    // Without what vitest tells its own children.
    const { NODE_OPTIONS: _, VITEST: __, NODE_TEST_CONTEXT: ___, ...env } = process.env;
    return await promisify(execFile)('sh', argv, { cwd: folder, timeout: 60_000, env: { ...env, PATH: path } });
  };

  beforeAll(() => {
    cpSync(join(ROOT, 'examples/template'), folder, { recursive: true });
    const modules = join(folder, 'node_modules');
    mkdirSync(join(modules, '@types'), { recursive: true });
    symlinkSync(ROOT, join(modules, 'fusewire'));
    for (const name of ['tsx', 'typescript', '@types/node', '.bin'])
      symlinkSync(join(ROOT, 'node_modules', name), join(modules, name));
  });

  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  it('passes its own tests without a mount', { timeout: 60_000 }, async () => {
    const { stdout } = await script('test');
    expect(stdout).toMatch(/^# pass 3$/m);
    expect(stdout).toMatch(/^# fail 0$/m);
  });

  it('type-checks against what the package exports', { timeout: 60_000 }, async () => {
    await expect(script('check')).resolves.toMatchObject({ stdout: '' });
  });

  it('depends on this version, and on the tools that this repository uses', () => {
    const { version, devDependencies } = packageOf(ROOT);
    const template = packageOf(join(ROOT, 'examples/template'));
    expect(template.dependencies).toEqual({ fusewire: `^${version}` });
    for (const [name, range] of Object.entries(template.devDependencies)) expect(range, name).toBe(devDependencies[name]);
  });
});
