/** The API reference is what the docstrings say. */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { generateApi } from '../../scripts/generate-api.ts';
import { pages, pageText } from './docs-blocks.ts';

const FOLDER = new URL('../../docs/api/', import.meta.url);
const PACKAGE = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  exports: Record<string, unknown>;
};

const made = generateApi();

test('the checked-in pages are what the generator writes', () => {
  expect(readdirSync(FOLDER).sort()).toEqual([...made.keys()].sort());
  for (const [name, text] of made) {
    expect(readFileSync(new URL(name, FOLDER), 'utf8'), `docs/api/${name}: run npx tsx scripts/generate-api.ts`).toBe(text);
  }
}, 60_000);

test('every public entry of the package has its page', () => {
  const entries = Object.keys(PACKAGE.exports)
    .filter((name) => !name.startsWith('./examples/') && name !== './package.json')
    .map((name) => `fusewire${name.slice(1)}`);
  const contents = made.get('README.md') as string;
  expect(entries.filter((name) => !contents.includes(`[\`${name}\`]`))).toEqual([]);
});

test.each([
  [
    'fusewire.md',
    ['### mount\n', '### Filesystem\n', '### FuseError\n', '- `lookup?(parent: NodeId, name: string, request: Request): '],
  ],
  ['testing.md', ['### simulate\n', '### runConformance\n']],
  ['paths.md', ['### pathFilesystem\n']],
  ['protocol.md', ['| `ReadIn` |', '| `decodeUtf8` |']],
])('%s has what one looks for', (name, headings) => {
  for (const heading of headings) expect(made.get(name)).toContain(heading);
});

test('the defaults that the guide names are those of the docstrings', () => {
  const documented = (name: string, value: string) =>
    [...made.values()].some((text) => {
      const about = new RegExp(`- \`(?:readonly )?${name}\\?: [^\`]*\`\\n\\n((?:  .*\\n)+)`).exec(text)?.[1] ?? '';
      return about.replace(/\s+/g, ' ').toLowerCase().includes(`default ${value.toLowerCase()}`);
    });
  const named = pages().flatMap((page) =>
    [...pageText(page).matchAll(/`(?:limits\.)?(\w+)` \(default ([^)]+)\)/g)].map((match) => [page, match[1], match[2]] as const),
  );
  expect(named.length).toBeGreaterThan(4);
  expect(named.filter(([, name, value]) => !documented(name, value))).toEqual([]);
});

test('no page shows what is private', () => {
  for (const [name, text] of made) expect(text, name).not.toMatch(/#private|^- `private |@internal/m);
});
