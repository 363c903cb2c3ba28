/** The rules of the house that a program can check: who may import whom, and taste. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, normalize, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Tracked files and new ones that git does not ignore. */
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: root, encoding: 'utf8' })
  .split('\n')
  .filter((name) => name !== '');
const sources = files.filter((name) => /^(src|examples|bench|scripts|test)\/.*\.(ts|mjs)$/.test(name));
const handWritten = sources.filter((name) => !name.includes('/generated/'));
const text = (name: string) => readFileSync(join(root, name), 'utf8');

/** Each folder of src/ and those it may import from besides itself. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  protocol: [],
  native: [],
  transport: ['protocol', 'native'],
  session: ['protocol', 'native', 'transport'],
  filesystem: ['protocol', 'native', 'transport', 'session'],
  storage: ['protocol', 'native', 'transport', 'session', 'filesystem'],
  paths: ['protocol', 'native', 'transport', 'session', 'filesystem'],
  adapters: ['protocol', 'native', 'transport', 'session', 'filesystem', 'storage', 'paths'],
  mount: ['protocol', 'native', 'transport', 'session', 'filesystem'],
  trace: ['protocol', 'native', 'transport', 'session', 'filesystem'],
  testing: ['protocol', 'native', 'transport', 'session', 'filesystem', 'mount', 'trace'],
};

/** What `import` and `export … from` name in a file. */
function imports(name: string): string[] {
  const found: string[] = [];
  for (const match of text(name).matchAll(
    /^\s*(?:import|export)\b[^'"`;]*?from\s+'([^']+)'|^\s*import\s+'([^']+)'|\bimport\('([^']+)'\)/gms,
  )) {
    found.push(match[1] ?? match[2] ?? match[3]);
  }
  return found;
}

describe('import direction', () => {
  const inSrc = handWritten.filter((name) => name.startsWith('src/'));

  test.each(Object.keys(MAY_IMPORT))('src/%s imports only from itself and from below', (folder) => {
    const wrong: string[] = [];
    for (const name of inSrc.filter((candidate) => candidate.startsWith(`src/${folder}/`))) {
      for (const target of imports(name)) {
        if (!target.startsWith('.')) continue;
        const path = relative(root, normalize(join(root, dirname(name), target)));
        const [top, other] = path.split(sep);
        if (top !== 'src' || (other !== folder && !MAY_IMPORT[folder].includes(other))) wrong.push(`${name} → ${path}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('every folder of src has its place in the order', () => {
    const folders = new Set(inSrc.map((name) => name.split('/')[1]).filter((part) => !part.endsWith('.ts')));
    folders.delete('cli');
    expect([...folders].filter((folder) => !(folder in MAY_IMPORT))).toEqual([]);
  });

  test('the protocol imports nothing from outside its folder', () => {
    const wrong = inSrc
      .filter((name) => name.startsWith('src/protocol/'))
      .flatMap((name) => imports(name).filter((target) => !target.startsWith('./') && !target.startsWith('../')));
    expect(wrong).toEqual([]);
  });

  test('examples and benchmarks use the public entries', () => {
    const wrong: string[] = [];
    for (const name of handWritten.filter((candidate) => /^(examples|bench)\//.test(candidate))) {
      for (const target of imports(name)) {
        if (target.startsWith('.') && normalize(join(dirname(name), target)).startsWith('src/'))
          wrong.push(`${name} → ${target}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('the core has no runtime dependency', () => {
    const manifest = JSON.parse(text('package.json')) as { dependencies?: object; optionalDependencies?: object };
    expect(manifest.dependencies ?? {}).toEqual({});
    expect(manifest.optionalDependencies ?? {}).toEqual({});
  });
});

describe('taste', () => {
  const search = (names: readonly string[], pattern: RegExp, except: (line: string) => boolean = () => false): string[] => {
    const found: string[] = [];
    for (const name of names) {
      text(name)
        .split('\n')
        .forEach((line, index) => {
          if (pattern.test(line) && !except(line)) found.push(`${name}:${index + 1}: ${line.trim()}`);
        });
    }
    return found;
  };
  const isComment = (line: string) => /^\s*(\*|\/\/|\/\*)/.test(line);
  const typescript = handWritten.filter((name) => name.endsWith('.ts') && name !== 'test/unit/house.test.ts');

  test('no any, no enum, no namespace, no parameter properties', () => {
    expect(search(typescript, /(:|<|\bas)\s*any\b/, isComment)).toEqual([]);
    expect(search(typescript, /^\s*(export\s+)?(const\s+)?enum\s/)).toEqual([]);
    expect(search(typescript, /^\s*(export\s+)?namespace\s/)).toEqual([]);
    expect(search(typescript, /constructor\((?:[^)]*,\s*)?(?:private|public|protected|readonly)\s/)).toEqual([]);
  });

  test('no TODO without the number of an issue', () => {
    expect(
      search(handWritten, /\b(TODO|FIXME|XXX)\b/, (line) => /TODO\(#\d+\)/.test(line) || /TODO.*without/.test(line)),
    ).toEqual([]);
  });

  test('the library prints nothing', () => {
    const library = typescript.filter((name) => name.startsWith('src/') && !name.startsWith('src/cli/'));
    expect(search(library, /\bconsole\.\w+\(|process\.(stdout|stderr)\.write/, isComment)).toEqual([]);
  });

  test('no shell between us and a path', () => {
    const everywhere = typescript.filter((name) => name.startsWith('src/') || name.startsWith('examples/'));
    expect(search(everywhere, /\bexec(Sync)?\(\s*[`'"]|shell:\s*true/)).toEqual([]);
  });

  test('lines end without white space and files with one newline', () => {
    const crooked = files
      .filter((name) => /\.(ts|mjs|md|json|c|h|yml)$/.test(name) && !name.includes('/fixtures/'))
      .filter((name) => !/[^\n]\n$/.test(text(name)) || /[ \t]\n/.test(text(name)));
    expect(crooked).toEqual([]);
  });

  test('no path of a machine and no registry in what is committed', () => {
    const pattern = new RegExp(['/wo', 'rk/|/ro', 'ot/|registry\\.npm', 'js|deb\\.deb', 'ian'].join(''));
    expect(
      search(
        files.filter((name) => !/\.(gz|node|png)$/.test(name)),
        pattern,
      ),
    ).toEqual([]);
  });

  test('generated files say so', () => {
    const generated = sources.filter((name) => name.includes('/generated/'));
    expect(generated.length).toBeGreaterThan(0);
    expect(generated.filter((name) => !/^\/\/ Generated|^\/\*\*?\s*\n?\s*\*?\s*Generated/i.test(text(name)))).toEqual([]);
  });
});
