/** README tells the truth: its example is the one that runs, its commands and links exist. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const readme = readFileSync(`${root}README.md`, 'utf8');

test('the filesystem in README is the example hello, verbatim', () => {
  const block = /```ts\n([\s\S]*?)```/.exec(readme)?.[1];
  expect(block).toBe(readFileSync(`${root}examples/hello/hello.ts`, 'utf8'));
});

test('every script that README names exists', () => {
  const { scripts } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { scripts: Record<string, string> };
  const named = [...readme.matchAll(/npm (?:run (?:--silent )?)?([a-z:]+)/g)]
    .map((match) => match[1])
    .filter((name) => name !== 'install');
  expect(named.length).toBeGreaterThan(2);
  expect(named.filter((name) => !(name in scripts))).toEqual([]);
});

test('every link of README and docs leads somewhere', () => {
  for (const [folder, page] of [
    ['', 'README.md'],
    ['docs/', 'docs/ARCHITECTURE.md'],
    ['docs/', 'docs/BENCHMARKS.md'],
  ]) {
    const links = [...readFileSync(root + page, 'utf8').matchAll(/\]\(([^)#:]+)\)/g)].map((match) => match[1]);
    expect(links.filter((link) => !existsSync(root + folder + link))).toEqual([]);
  }
});
