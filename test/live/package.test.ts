/** The package as a user gets it: packed, installed into an empty folder without scripts, used from every kind of module. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { Daemon, mountPoint, NO_MOUNTS, ROOT, run, runWell, sharedFolder, skipLoudly, useLiveMounts } from './harness.ts';

const skip = skipLoudly('the packed package', NO_MOUNTS);
const example = readFileSync(join(ROOT, 'examples/hello/hello.ts'), 'utf8');
const javascript = example.replace(/^import .*$/m, "import { FuseError } from 'fusewire';").replace(' satisfies Filesystem', '');
const commonjs = javascript
  .replace(/^import .*$/m, "const { FuseError } = require('fusewire');")
  .replace('export default', 'module.exports =');
const runsTypeScript =
  (process.features as { typescript?: unknown }).typescript !== undefined &&
  Boolean((process.features as { typescript?: unknown }).typescript);

describe.skipIf(skip)('the packed package', () => {
  useLiveMounts();
  let project: string;

  beforeAll(async () => {
    project = sharedFolder('package');
    const limits = { timeoutMs: 60_000, cwd: ROOT };
    await runWell([process.execPath, join(ROOT, 'scripts/prebuild.mjs')], limits);
    await runWell(['npm', 'pack', '--ignore-scripts', '--silent', '--pack-destination', project, ROOT], limits);
    const tarball = readdirSync(project).find((name) => name.endsWith('.tgz'));
    const user = join(project, 'user');
    mkdirSync(user);
    writeFileSync(join(user, 'package.json'), '{"name":"user","version":"1.0.0","private":true}');
    await runWell(
      ['npm', 'install', '--offline', '--ignore-scripts', '--silent', '--prefix', user, join(project, tarball ?? '')],
      limits,
    );
    project = user;
  }, 120_000);

  const bin = () => join(project, 'node_modules/.bin/fusewire');

  test('carries its addon and no sources of tests or benchmarks', () => {
    const inside = join(project, 'node_modules/fusewire');
    expect(readdirSync(join(inside, 'native/prebuilds'))).toHaveLength(1);
    expect(['src', 'test', 'bench', 'dist/bench'].filter((name) => existsSync(join(inside, name)))).toEqual([]);
    expect(existsSync(join(project, 'node_modules/.package-lock.json'))).toBe(true);
    expect(readdirSync(join(project, 'node_modules')).filter((name) => !name.startsWith('.'))).toEqual(['fusewire']);
  });

  test.each([
    ['an ES module', 'hello.mjs', javascript],
    ['a CommonJS module', 'hello.cjs', commonjs],
    ...(runsTypeScript ? [['TypeScript', 'hello.ts', example]] : []),
  ])("README's filesystem as %s is mounted and read", async (_what, file, text) => {
    writeFileSync(join(project, file), text);
    const path = mountPoint();
    const daemon = new Daemon([process.execPath, bin(), 'mount', join(project, file), path], path);
    await daemon.line((line) => line.startsWith('mounted'), 10_000, 'the line `mounted`');
    expect(await runWell(['cat', join(path, 'hello')], { timeoutMs: 5000 })).toBe('Hello, world!\n');
    expect(await runWell(['ls', path], { timeoutMs: 5000 })).toBe('hello\n');
    daemon.kill('SIGINT');
    expect(await daemon.end(3000)).toMatchObject({ code: 0 });
  });

  test('TypeScript without a loader says what to do', async () => {
    if (runsTypeScript) return;
    writeFileSync(join(project, 'hello.ts'), example);
    const result = await run([process.execPath, bin(), 'mount', join(project, 'hello.ts'), mountPoint()], { timeoutMs: 10_000 });
    expect(result.stderr).toMatch(/does not run TypeScript .*install tsx beside it.*ERR_FUSEWIRE_TYPESCRIPT/);
    expect(result.code).toBe(69);
  });

  test('a program of its own mounts from CommonJS and ESM, with one copy of each class', async () => {
    const program = (head: string) => `${head}
      if (FuseError !== other.FuseError) throw new Error('two copies');
      (async () => {
        const mounted = await mount(${commonjs.slice(commonjs.indexOf('{\n'), commonjs.lastIndexOf('}') + 1)}, process.argv[2]);
        const { execFile } = await import('node:child_process');
        execFile('cat', [process.argv[2] + '/hello'], async (_error, text) => {
          process.stdout.write(text);
          await mounted.unmount();
        });
      })();`;
    const text = "const text = Buffer.from('Hello, world!\\n');";
    writeFileSync(
      join(project, 'own.cjs'),
      program(`const { FuseError, mount } = require('fusewire'); const other = require('fusewire/session'); ${text}`),
    );
    writeFileSync(
      join(project, 'own.mjs'),
      program(`import { FuseError, mount } from 'fusewire'; import * as other from 'fusewire/session'; ${text}`),
    );
    for (const file of ['own.cjs', 'own.mjs']) {
      const path = mountPoint();
      expect(await runWell([process.execPath, '--no-warnings', join(project, file), path], { timeoutMs: 10_000 })).toBe(
        'Hello, world!\n',
      );
    }
  });
});
