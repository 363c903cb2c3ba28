/**
 * The code blocks of README and docs, for the tests that run them.
 *
 * Behind the language of a block stand words: `file=NAME` puts it into a file of that name (blocks of one page share a folder, so
 * that one may import another), `run` has it executed by the unit tests, `mount` by the live tests, with a mount point as argument.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));

export interface Block {
  /** Path of the page within the repository. */
  readonly page: string;
  /** Of the line with the fence, from 1. */
  readonly line: number;
  /** Empty when the fence names none. */
  readonly language: string;
  readonly words: readonly string[];
  /** What `file=` names. */
  readonly file: string | undefined;
  readonly text: string;
}

/** README and everything below docs, but for the generated reference: its code is declarations that tsc wrote. */
export function pages(): string[] {
  const below = (readdirSync(join(ROOT, 'docs'), { recursive: true }) as string[])
    .map((name) => name.replaceAll('\\', '/'))
    .filter((name) => name.endsWith('.md') && !name.startsWith('api/'));
  return ['README.md', ...below.map((name) => `docs/${name}`).sort()];
}

export function pageText(page: string): string {
  return readFileSync(join(ROOT, page), 'utf8');
}

export function blocksOf(page: string): Block[] {
  const text = pageText(page);
  return [...text.matchAll(/^```(\w*)([^\n]*)\n([\s\S]*?)^```$/gm)].map((match) => {
    const words = match[2].trim().split(/\s+/).filter(Boolean);
    return {
      page,
      line: text.slice(0, match.index).split('\n').length,
      language: match[1],
      words,
      file: words.find((word) => word.startsWith('file='))?.slice('file='.length),
      text: match[3],
    };
  });
}

export function isCode(block: Block): boolean {
  return block.language === 'ts' || block.language === 'js';
}

/** Where a block lies below the folder that {@link writeBlocks} made. */
export function fileOf(block: Block): string {
  const folder = block.page.replace(/\.md$/, '').replaceAll('/', '-');
  return join(folder, block.file ?? `line-${block.line}.${block.language}`);
}

/** Writes the blocks into a new folder inside the repository, so that `fusewire` is found as by a dependent. */
export function writeBlocks(blocks: readonly Block[]): { folder: string; remove(): void } {
  mkdirSync(join(ROOT, '.tmp'), { recursive: true });
  const folder = mkdtempSync(join(ROOT, '.tmp/docs-'));
  for (const block of blocks) {
    const path = join(folder, fileOf(block));
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, block.text);
  }
  const tsconfig = {
    extends: '../../tsconfig.json',
    // A snippet may declare what it does not use.
    compilerOptions: { noUnusedLocals: false, noUnusedParameters: false, allowJs: true, checkJs: true },
    include: ['**/*'],
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(tsconfig));
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** `README.md:12 hello.ts`, for titles of tests. */
export function titleOf(block: Block): string {
  return `${block.page}:${block.line}${block.file === undefined ? '' : ` ${basename(block.file)}`}`;
}

/** The lines of a shell block that are commands: continued lines joined, prompts and comments left out. */
export function commandsOf(text: string): string[] {
  return text
    .replace(/\\\n\s*/g, ' ')
    .split('\n')
    .map((line) =>
      line
        .replace(/(^|\s)#.*$/, '')
        .replace(/^\s*\$ /, '')
        .trim(),
    )
    .filter((line) => line !== '')
    .flatMap((line) => line.split(/\s+(?:&&|\|\||\|)\s+/))
    .map((line) => line.replace(/\s+&$/, ''));
}

/** The words of a command: quotes are taken off. */
export function wordsOf(command: string): string[] {
  return [...command.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map((match) => match[1] ?? match[2] ?? match[3]);
}
