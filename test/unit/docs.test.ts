/** README and docs tell the truth: their code compiles and runs, their commands, links, codes and options exist. */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseCommand } from '../../src/cli/arguments.ts';
import { showError } from '../../src/cli/exit.ts';
import { blocksOf, commandsOf, fileOf, isCode, pages, pageText, ROOT, titleOf, wordsOf, writeBlocks } from './docs-blocks.ts';

const require = createRequire(import.meta.url);
const TSC = join(dirname(require.resolve('typescript/package.json')), 'bin/tsc');
const PACKAGE = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: Record<string, string> };

const blocks = pages().flatMap(blocksOf);
const code = blocks.filter(isCode);

describe('code', () => {
  let written: ReturnType<typeof writeBlocks>;
  beforeAll(() => {
    written = writeBlocks(code);
  });
  afterAll(() => written.remove());

  test('every block is of a language that is checked here, or text', () => {
    const known = ['', 'ts', 'js', 'sh', 'text', 'json', 'ini', 'dockerfile'];
    expect(blocks.filter(({ language }) => !known.includes(language)).map(titleOf)).toEqual([]);
    expect(code.length).toBeGreaterThan(15);
    const files = code.map(fileOf);
    expect(files.filter((file, index) => files.indexOf(file) !== index)).toEqual([]);
  });

  test('every block compiles', () => {
    let output = '';
    try {
      execFileSync(process.execPath, [TSC, '--noEmit', '-p', join(written.folder, 'tsconfig.json')], {
        cwd: ROOT,
        stdio: 'pipe',
      });
    } catch (error) {
      output = String((error as { stdout: Buffer }).stdout);
    }
    // Errors in src are for the type-check of src to tell.
    expect(output.split('\n').filter((line) => line.includes('.tmp/docs-'))).toEqual([]);
  }, 60_000);

  test.each(code.filter(({ words }) => words.includes('run')).map((block) => [titleOf(block), block] as const))(
    '%s runs',
    async (_, block) => {
      const argv = ['--import', 'tsx', join(written.folder, fileOf(block))];
      await promisify(execFile)(process.execPath, argv, { cwd: ROOT, timeout: 20_000, killSignal: 'SIGKILL' });
    },
  );
});

describe('commands', () => {
  const shell = blocks.filter(({ language }) => ['', 'sh', 'ini', 'dockerfile'].includes(language));
  const commands = shell.flatMap((block) => commandsOf(block.text).map((command) => [titleOf(block), command] as const));
  const inline = pages().flatMap((page) =>
    [...pageText(page).matchAll(/`((?:npx )?fusewire \w[^`\n]*)`/g)].map((match) => [page, match[1]] as const),
  );

  /** The arguments of `fusewire` in a command line, by whichever way it is started. */
  function argumentsOf(command: string): string[] | undefined {
    const inContainer = /^(?:CMD|ENTRYPOINT) (\[.*\])$/.exec(command)?.[1];
    // What stands in front of it in a unit file.
    const words = inContainer === undefined ? wordsOf(command.replace(/^\w+=-?/, '')) : (JSON.parse(inContainer) as string[]);
    const script = words[0] === 'npm' && words[1] === 'run' ? words.slice(2).find((word) => !word.startsWith('-')) : undefined;
    if (script === 'passthrough' || script === 'fusewire') {
      const after = words.indexOf('--');
      const rest = after < 0 ? [] : words.slice(after + 1);
      return script === 'passthrough' ? ['passthrough', ...rest] : rest;
    }
    // Tools that run it.
    const at = words.findIndex((word) => /(^|\/)fusewire$/.test(word));
    const before = words.slice(0, Math.max(0, at));
    const isStarted = before.every((word) => /^(npx|sudo|env|exec|\/\S*\/(env|node|npx))$/.test(word));
    return at >= 0 && isStarted ? words.slice(at + 1) : undefined;
  }

  /** What stands for a value, and a value. */
  const VALUES: Record<string, string> = { N: '1', MODE: 'event', BYTES: '4096', COMMAND: 'mount' };

  test.each([...commands, ...inline].filter(([, command]) => argumentsOf(command) !== undefined))('%s: %s', (_, command) => {
    const given = (argumentsOf(command) as string[]).map((word, index) =>
      index === 0 && word === 'MODE' ? word : (VALUES[word] ?? word),
    );
    // A synopsis has brackets and dots where a command has words; rows of a benchmark begin with a capital.
    if (/[[\]…]|\.\.\./.test(command) || given[0] === 'MODE') return;
    // Prose names a command and options without the places: that they exist is what can be said, and help comes after unknown options.
    const hasPlaces = given.slice(1).some((word) => !word.startsWith('-'));
    expect(() => parseCommand(hasPlaces || given[0].startsWith('-') ? given : [...given, '--help'])).not.toThrow();
  });

  test('there are commands to check, and a wrong one is found', () => {
    expect(commands.filter(([, command]) => argumentsOf(command) !== undefined).length).toBeGreaterThan(5);
    expect(argumentsOf('ExecStart=/usr/bin/npx fusewire mount ./a.js /mnt --worker 2')).toEqual(
      wordsOf('mount ./a.js /mnt --worker 2'),
    );
    expect(() => parseCommand(argumentsOf('npx fusewire mount ./a.js /mnt --worker 2') as string[])).toThrow(/--worker/);
  });

  test('every npm script exists', () => {
    const named = commands
      .map(([title, command]) => [title, wordsOf(command)] as const)
      .filter(([, words]) => words[0] === 'npm' && words[1] === 'run')
      .map(([title, words]) => `${title} ${words.slice(2).find((word) => !word.startsWith('-'))}`);
    expect(named.filter((one) => !(one.split(' ').at(-1)! in PACKAGE.scripts))).toEqual([]);
  });
});

describe('links', () => {
  const all = [...pages(), ...readdirSync(join(ROOT, 'docs/api')).map((name) => `docs/api/${name}`)];

  /** As GitHub makes them. */
  const anchors = (text: string) =>
    [...text.replace(/^```[\s\S]*?^```$/gm, '').matchAll(/^#+ (.+)$/gm)].map((match) =>
      match[1]
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(' ', '-'),
    );

  test.each(all)('those of %s lead somewhere', (page) => {
    const prose = pageText(page).replace(/^```[\s\S]*?^```$/gm, '');
    const wrong = [...prose.matchAll(/\]\(([^)\s:]+)\)/g)]
      .map((match) => match[1])
      .filter((link) => {
        const [path, anchor] = link.split('#');
        const target = path === '' ? page : join(dirname(page), path);
        if (!existsSync(join(ROOT, target))) return true;
        return anchor !== undefined && target.endsWith('.md') && !anchors(pageText(target)).includes(anchor);
      });
    expect(wrong).toEqual([]);
  });

  test('the guide leads to each of its pages', () => {
    const index = pageText('docs/guide/README.md');
    const missing = readdirSync(join(ROOT, 'docs/guide')).filter((name) => name !== 'README.md' && !index.includes(`(${name})`));
    expect(missing).toEqual([]);
  });
});

describe('codes of errors', () => {
  const CODE = /\bERR_FUSEWIRE_[A-Z_]+[A-Z]\b/g;
  const below = (folder: string, ending: RegExp) =>
    (readdirSync(join(ROOT, folder), { recursive: true }) as string[])
      .filter((name) => ending.test(name))
      .map((name) => readFileSync(join(ROOT, folder, name), 'utf8'));
  const inSources = new Set(
    [...below('src', /\.ts$/), ...below('examples', /\.ts$/), ...below('native/src', /\.[ch]$/)].flatMap(
      (text) => text.match(CODE) ?? [],
    ),
  );
  const rows = [...pageText('docs/ERRORS.md').matchAll(/^\| `(ERR_FUSEWIRE_\w+)` \| (\d+|–) \| (.+) \| (.+) \|$/gm)];

  test('the table in ERRORS.md has each code of the sources once, and no other', () => {
    expect(rows.map((row) => row[1]).sort()).toEqual([...inSources].sort());
  });

  test.each(rows.map((row) => [row[1], row[2]]))('the exit code of %s is %s', (name, exit) => {
    const { exitCode } = showError(Object.assign(new Error('x'), { code: name }));
    // A dash: the command line never shows it, so it has no row of its own there either.
    expect(exit === '–' ? 70 : Number(exit)).toBe(exitCode);
  });

  test('every code in README, guide and docs exists', () => {
    const named = pages().flatMap((page) => (pageText(page).match(CODE) ?? []).map((name) => `${page} ${name}`));
    expect(named.filter((one) => !inSources.has(one.split(' ')[1]))).toEqual([]);
  });

  test('ERRORS.md lists the kinds of faults', () => {
    const source = readFileSync(join(ROOT, 'src/session/diagnostics.ts'), 'utf8');
    const kinds = [...source.slice(0, source.indexOf('operation:')).matchAll(/\| '([a-z-]+)'/g)].map((match) => match[1]);
    const listed = [...pageText('docs/ERRORS.md').matchAll(/^\| `([a-z]+-?[a-z]+)` \|/gm)].map((match) => match[1]);
    expect(kinds.length).toBeGreaterThan(5);
    expect(listed.sort()).toEqual(kinds.sort());
  });
});
