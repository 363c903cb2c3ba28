/**
 * Writes docs/api: the reference of every public entry, from the docstrings. `tsx scripts/generate-api.ts`
 *
 * It reads the declarations that tsc makes of src (into .tmp, so a stale dist does not matter). A declaration file is plain enough
 * that brackets, strings and comments suffice to read it.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const TSC = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');

/** Longest signature that stands in a line of its own. */
const LINE_MAX = 130;

/** The public entries: name in package.json, folder below src, page. */
const ENTRIES: readonly { name: string; index: string; page: string; overview?: true }[] = [
  { name: 'fusewire', index: 'index.d.ts', page: 'fusewire.md' },
  { name: 'fusewire/paths', index: 'paths/index.d.ts', page: 'paths.md' },
  { name: 'fusewire/storage', index: 'storage/index.d.ts', page: 'storage.md' },
  { name: 'fusewire/adapters', index: 'adapters/index.d.ts', page: 'adapters.md' },
  { name: 'fusewire/testing', index: 'testing/index.d.ts', page: 'testing.md' },
  { name: 'fusewire/trace', index: 'trace/index.d.ts', page: 'trace.md' },
  { name: 'fusewire/session', index: 'session/index.d.ts', page: 'session.md' },
  { name: 'fusewire/transport', index: 'transport/index.d.ts', page: 'transport.md' },
  { name: 'fusewire/native', index: 'native/index.d.ts', page: 'native.md' },
  { name: 'fusewire/protocol', index: 'protocol/index.d.ts', page: 'protocol.md', overview: true },
];

// --- reading declarations ----------------------------------------------------------------------------------------------

/** A statement, or a member of an interface or class, with the comment before it. */
interface Part {
  readonly doc: string;
  readonly text: string;
}

/** Where the comment, string or template that starts at `at` ends; `at` when there is none. */
function skipOpaque(text: string, at: number): number {
  const two = text.slice(at, at + 2);
  if (two === '/*') return text.indexOf('*/', at) + 2;
  if (two === '//') return (text.indexOf('\n', at) + text.length + 1) % (text.length + 1);
  const quote = text[at];
  if (quote !== "'" && quote !== '"' && quote !== '`') return at;
  let end = at + 1;
  while (text[end] !== quote) end += text[end] === '\\' ? 2 : 1;
  return end + 1;
}

/** Splits at `;`, and behind the closing brace of what ends with one. */
function split(text: string): Part[] {
  const parts: Part[] = [];
  let doc = '';
  let start = -1;
  let depth = 0;
  for (let at = 0; at < text.length; ) {
    const opaque = skipOpaque(text, at);
    if (opaque !== at) {
      if (start < 0 && text.startsWith('/**', at)) doc = text.slice(at, opaque);
      else if (start < 0 && !text.startsWith('/', at)) start = at;
      at = opaque;
      continue;
    }
    const character = text[at];
    if (start < 0 && !/[\s;]/.test(character)) start = at;
    if ('([{'.includes(character)) depth++;
    if (')]}'.includes(character)) depth--;
    at++;
    const isBody =
      character === '}' && /^(export )?(declare )?(abstract )?(interface|class) /.test(text.slice(start, start + 60));
    if (start < 0 || depth > 0 || (character !== ';' && !isBody)) continue;
    parts.push({ doc, text: text.slice(start, character === ';' ? at - 1 : at).trim() });
    doc = '';
    start = -1;
  }
  return parts;
}

interface Declaration extends Part {
  readonly name: string;
  readonly kind: 'class' | 'interface' | 'type' | 'function' | 'const';
}

interface Module {
  readonly about: string;
  /** Overloads share a name. */
  readonly declarations: ReadonlyMap<string, readonly Declaration[]>;
  /** Name to the module and the name there: imports, and exports of other modules. */
  readonly imports: ReadonlyMap<string, readonly [file: string, name: string]>;
  readonly exports: ReadonlyMap<string, readonly [file: string, name: string]>;
  readonly stars: readonly string[];
}

const modules = new Map<string, Module>();

function names(list: string): [name: string, as: string][] {
  return list
    .split(',')
    .map((one) => one.trim().replace(/^type /, ''))
    .filter((one) => one !== '')
    .map((one) => one.split(' as ') as [string, string?])
    .map(([name, as]) => [name, as ?? name]);
}

function load(file: string): Module {
  const known = modules.get(file);
  if (known !== undefined) return known;
  const text = readFileSync(file, 'utf8');
  const parts = split(text);
  const declarations = new Map<string, Declaration[]>();
  const imports = new Map<string, [string, string]>();
  const exports = new Map<string, [string, string]>();
  const stars: string[] = [];
  const target = (from: string) => (from.startsWith('.') ? join(dirname(file), from.replace(/\.[jt]s$/, '.d.ts')) : '');
  for (const part of parts) {
    const star = /^export (?:type )?\* from '([^']+)'$/.exec(part.text);
    const list = /^(import|export) (?:type )?\{([^}]*)\}(?: from '([^']+)')?$/.exec(part.text);
    const declared = /^(?:export )?(?:declare )?(?:abstract )?(class|interface|type|function|const) ([\w$]+)/.exec(part.text);
    if (star) stars.push(target(star[1]));
    else if (list) {
      for (const [name, as] of names(list[2])) {
        (list[1] === 'import' ? imports : exports).set(as, [list[3] === undefined ? '' : target(list[3]), name]);
      }
    } else if (declared) {
      const [, kind, name] = declared;
      const one = { ...part, name, kind: kind as Declaration['kind'] };
      declarations.set(name, [...(declarations.get(name) ?? []), one]);
      if (part.text.startsWith('export ')) exports.set(name, ['', name]);
    }
  }
  const about = /^(?:#![^\n]*\n)?\s*(\/\*\*[\s\S]*?\*\/)/.exec(text)?.[1] ?? '';
  const module: Module = { about, declarations, imports, exports, stars };
  modules.set(file, module);
  return module;
}

function find(file: string, name: string): readonly Declaration[] {
  const module = load(file);
  const own = module.declarations.get(name);
  if (own !== undefined) return own;
  const [from, there] = module.exports.get(name) ?? module.imports.get(name) ?? ['', ''];
  if (from !== '') return find(from, there);
  const imported = module.imports.get(there);
  return imported === undefined || imported[0] === '' ? [] : find(...imported);
}

/** What an entry exports, in the order of its source. */
function exportsOf(file: string, found = new Map<string, readonly Declaration[]>()): Map<string, readonly Declaration[]> {
  const module = load(file);
  for (const star of module.stars) exportsOf(star, found);
  for (const [as, [from, name]] of module.exports) {
    const declarations = from === '' ? find(file, name) : find(from, name);
    if (declarations.length > 0 && !found.has(as)) found.set(as, declarations);
  }
  return found;
}

// --- writing pages -----------------------------------------------------------------------------------------------------

/** The text of a comment. `here`: names that have a heading on the page. */
function prose(doc: string, here: ReadonlySet<string>): string {
  return doc
    .replace(/^\/\*\*|\*\/$/g, '')
    .split('\n')
    .map((line) => line.replace(/^\s*\* ?/, '').trimEnd())
    .join('\n')
    .replace(/\{@link ([\w.]+)\}/g, (_, name: string) => {
      const [first] = name.split('.');
      return here.has(first) ? `[\`${name}\`](#${first.toLowerCase()})` : `\`${name}\``;
    })
    .replace(/^@param (\w+) /gm, '- `$1`: ')
    .replace(/^@returns? /gm, '- returns: ')
    .trim();
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ').trim();
}

function indent(text: string): string {
  return text.replace(/^(?=[^\n])/gm, '  ');
}

function fence(code: string): string {
  return `\`\`\`ts\n${code}\n\`\`\``;
}

/** Declarations have four spaces where the house has two. */
function code(text: string): string {
  return text
    .replace(/^(export )?(declare )?/, '')
    .replace(/^( {4})+/gm, (spaces) => ' '.repeat(spaces.length / 2))
    .replace(/[ \t]+$/gm, '');
}

function memberText({ doc, text }: Part, here: ReadonlySet<string>): string {
  const about = prose(doc, here);
  const line = oneLine(text);
  const isLong = line.length > LINE_MAX || text.includes('/*');
  if (!isLong) return `- \`${line}\`${about === '' ? '' : `\n\n${indent(about)}`}`;
  const body = fence(code(text.replace(/^ {4}/gm, '')));
  return `- \`${/^[\w$ ]+|^\[[^\]]+\]/.exec(text)?.[0].trim() ?? 'new'}\`\n\n${indent(body)}${about === '' ? '' : `\n\n${indent(about)}`}`;
}

function isPublic({ doc, text }: Part): boolean {
  return !text.startsWith('#') && !/^(private|protected) /.test(text) && !doc.includes('@internal');
}

function declarationText(as: string, declarations: readonly Declaration[], here: ReadonlySet<string>): string {
  const blocks = [`### ${as}`];
  for (const declaration of declarations) {
    const { doc, text, kind } = declaration;
    const about = prose(doc, here);
    if (kind !== 'class' && kind !== 'interface') {
      blocks.push(fence(code(text)));
      if (about !== '') blocks.push(about);
      continue;
    }
    const body = text.indexOf('{');
    blocks.push(`\`${oneLine(code(text.slice(0, body)))}\``);
    if (about !== '') blocks.push(about);
    const members = split(text.slice(body + 1, -1)).filter(isPublic);
    if (members.length > 0) blocks.push(members.map((member) => memberText(member, here)).join('\n'));
  }
  return blocks.join('\n\n');
}

const SECTIONS: readonly [title: string, kinds: readonly Declaration['kind'][]][] = [
  ['Functions', ['function']],
  ['Classes', ['class']],
  ['Interfaces and types', ['interface', 'type']],
  ['Constants', ['const']],
];

const HEAD = '<!-- Generated by scripts/generate-api.ts from the docstrings: change those. -->';

function page(name: string, index: string): string {
  const found = exportsOf(index);
  const here = new Set(found.keys());
  const blocks = [HEAD, `# ${name}`, prose(load(index).about, here)];
  for (const [title, kinds] of SECTIONS) {
    const chosen = [...found].filter(([, declarations]) => kinds.includes(declarations[0].kind));
    if (chosen.length === 0) continue;
    blocks.push(`## ${title}`, ...chosen.map(([as, declarations]) => declarationText(as, declarations, here)));
  }
  return `${blocks.filter((block) => block !== '').join('\n\n')}\n`;
}

/** The first sentence of a comment, on one line, fit for a cell of a table. */
function firstSentence(doc: string): string {
  const text = prose(doc, new Set()).split(/\n\n/)[0].replace(/\n/g, ' ');
  return (/^.*?[.:](?= [A-Z]|$)/.exec(text)?.[0] ?? text).replace(/\|/g, '\\|');
}

/** The protocol has more than a thousand names, most of them in rows and families: an overview says how to find one. */
function overview(name: string, index: string): string {
  const found = exportsOf(index);
  const generated = (file: string) => exportsOf(join(dirname(index), `generated/${file}.d.ts`));
  const structs = generated('structs');
  const constants = generated('constants');
  const rest = [...found].filter(([as]) => !structs.has(as) && !constants.has(as));
  const families = [...structs].filter(([as, [{ kind }]]) => kind === 'interface' && structs.has(`new${as}`));
  const table = (kinds: readonly Declaration['kind'][]) =>
    rest
      .filter(([, [{ kind }]]) => kinds.includes(kind))
      .map(([as, [{ doc }]]) => `| \`${as}\` | ${firstSentence(doc)} |`)
      .join('\n');
  const listed = families.map(([as, [{ doc }]]) => `| \`${as}\` | ${firstSentence(doc)} |`).join('\n');
  const blocks = [HEAD, `# ${name}`, prose(load(index).about, new Set())];
  for (const [title, kinds] of SECTIONS) {
    if (table(kinds) !== '') blocks.push(`## ${title}`, `| name | |\n|---|---|\n${table(kinds)}`);
  }
  blocks.push(
    '## Structs',
    `Each of the ${families.length} structs of \`<linux/fuse.h>\` has, in \`src/protocol/generated/structs.ts\`, an interface and beside it ` +
      '`READ_IN_SIZE` (bytes), `newReadIn()`, `decodeReadIn(words, at, out)` and `encodeReadIn(words, at, value)`, here for `ReadIn`. ' +
      'Fields have the kernel’s spelling; `at` counts words of four bytes.',
    `| struct | |\n|---|---|\n${listed}`,
    '## Numbers of the kernel',
    `${constants.size} constants in the kernel's spelling, from \`FUSE_LOOKUP\` to the numbers of ioctl(2): ` +
      '[src/protocol/generated/constants.ts](../../src/protocol/generated/constants.ts).',
  );
  return `${blocks.join('\n\n')}\n`;
}

function contents(folder: string): string {
  const rows = ENTRIES.map(({ name, index, page: file }) => {
    const about = firstSentence(load(join(folder, index)).about).replace(/^fusewire(\/\w+)?: /, '');
    return `| [\`${name}\`](${file}) | ${about} |`;
  });
  return [
    HEAD,
    '# API reference',
    'Generated from the docstrings. How things play together stands in [the guide](../guide/README.md).',
    `| entry | |\n|---|---|\n${rows.join('\n')}`,
    '',
  ]
    .join('\n\n')
    .trimEnd()
    .concat('\n');
}

/** The pages: name within docs/api and text. */
export function generateApi(): Map<string, string> {
  mkdirSync(join(ROOT, '.tmp'), { recursive: true });
  const out = mkdtempSync(join(ROOT, '.tmp/api-'));
  modules.clear();
  try {
    declarations(out);
    const folder = join(out, 'src');
    const pages = new Map([['README.md', contents(folder)]]);
    for (const { name, index, page: file, overview: short } of ENTRIES) {
      pages.set(file, short ? overview(name, join(folder, index)) : page(name, join(folder, index)));
    }
    return pages;
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

/** Errors of types are for `npm run check` to tell: the declarations are there all the same. */
function declarations(out: string): void {
  const options = ['--emitDeclarationOnly', '--incremental', 'false', '--tsBuildInfoFile', 'null', '--outDir', out];
  try {
    execFileSync(process.execPath, [TSC, '-p', 'tsconfig.build.json', ...options], { cwd: ROOT, stdio: 'pipe' });
  } catch (error) {
    const made = readdirSync(out);
    if (!made.includes('src')) throw error;
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const folder = join(ROOT, 'docs/api');
  mkdirSync(folder, { recursive: true });
  const pages = generateApi();
  for (const name of readdirSync(folder)) if (!pages.has(name)) rmSync(join(folder, name));
  for (const [name, text] of pages) writeFileSync(join(folder, name), text);
}
