/** `fusewire trace` as people call it: what it prints, its exit codes, its errors. */
import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';

const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url));
const FIXTURES = fileURLToPath(new URL('../protocol/fixtures/', import.meta.url));
const HELLO = join(FIXTURES, 'libfuse-3.19-hello_ll.jsonl.gz');
const folder = mkdtempSync(join(tmpdir(), 'fusewire-cli-trace-'));
const file = (name: string) => join(folder, name);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function fusewire(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, 'trace', ...args], {
    encoding: 'utf8',
    timeout: 30_000,
    env: { ...process.env, NO_COLOR: '1' },
  });
  return { status, stdout, stderr, lines: stdout.trimEnd().split('\n') };
}

/** A trace of which some lines are changed. */
function changed(name: string, change: (line: Record<string, unknown>, index: number) => object | undefined): string {
  const lines = gunzipSync(readFileSync(HELLO)).toString().trimEnd().split('\n');
  const kept = lines.flatMap((line, index) => {
    const next = change(JSON.parse(line) as Record<string, unknown>, index);
    return next === undefined ? [] : [JSON.stringify(next)];
  });
  writeFileSync(file(name), `${kept.join('\n')}\n`);
  return file(name);
}

describe('show', () => {
  it('one line a request with its answer', () => {
    const { status, lines, stderr } = fusewire('show', HELLO, '--limit', '3');
    expect([status, stderr]).toEqual([0, '']);
    expect(lines).toHaveLength(3);
    expect(lines[0]).toMatch(/^ {4}0\.006276 0\/0 {8}INIT\(version=7\.45, .*\) = \{version=7\.45, .*\} <0\.000056>$/);
    expect(lines[1]).toMatch(/GETATTR\("\/"\) = \{attr_valid=1s, ino=1, .*mode=S_IFDIR\|0755/);
  });

  it('a part, one line a message, every field', () => {
    const { lines } = fusewire('show', HELLO, '--from', '0.1', '--to', '250ms', '--pairs', 'no', '--all');
    expect(lines[0]).toContain('GETATTR("/", getattr_flags=0, fh=0)');
    expect(lines[1]).toContain('<... GETATTR of ');
  });

  it('JSON, one object a message', () => {
    const { status, lines } = fusewire('show', HELLO, '--json');
    const values = lines.map((line) => JSON.parse(line) as { index: number; unique?: string });
    expect([status, values.length]).toEqual([0, 128]);
    expect(values[1]).toMatchObject({ index: 1, kind: 'reply', opcode: 'INIT', unique: '2', duration: 56 });
  });

  it('has colour only where it is wanted', () => {
    expect(fusewire('show', HELLO).stdout).not.toContain('\u001b');
    expect(fusewire('show', HELLO, '--colour', 'always').stdout).toContain('\u001b');
  });

  it('ends quietly when nobody reads on', async () => {
    const child = spawn(process.execPath, [MAIN, 'trace', 'show', join(FIXTURES, 'bindfs-1.14.7.jsonl.gz')], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let errors = '';
    child.stderr.on('data', (chunk) => {
      errors += String(chunk);
    });
    child.stdout.once('data', () => child.stdout.destroy());
    const status = await new Promise((resolve) => child.on('close', resolve));
    expect([status, errors]).toEqual([0, '']);
  });
});

describe('check', () => {
  it('counts on the last line, and exits with 0 when all is well', () => {
    const { status, lines } = fusewire('check', HELLO);
    expect([status, lines]).toEqual([0, ['128 messages, 128 identical, 0 different, 0 undecodable']]);
  });

  it('several files, and padding in a line before', () => {
    const other = join(FIXTURES, 'libfuse-3.19-passthrough_ll-never.jsonl.gz');
    const { status, lines } = fusewire('check', HELLO, other);
    expect(status).toBe(0);
    expect(lines).toEqual([
      `${HELLO}: 128 messages, 128 identical, 0 different, 0 undecodable`,
      `${other}: of the identical, different in padding alone: 4`,
      `${other}: 6928 messages, 6928 identical, 0 different, 0 undecodable`,
      '7056 messages, 7056 identical, 0 different, 0 undecodable',
    ]);
  });

  it('tells each bad message, and exits with 65', () => {
    const bad = changed('bad.jsonl', (line, index) => (index === 4 ? { ...line, hex: (line.hex as string).slice(2) } : line));
    const { status, lines } = fusewire('check', bad);
    expect(status).toBe(65);
    expect(lines[0]).toMatch(/^message 4 \(in\) at 0\.224559 is undecodable: (LENGTH_MISMATCH|TRUNCATED): /);
    expect(lines.at(-1)).toBe('128 messages, 127 identical, 0 different, 1 undecodable');
    const json = JSON.parse(fusewire('check', bad, '--json').stdout) as { undecodable: number; findings: object[] };
    expect([json.undecodable, json.findings.length]).toEqual([1, 1]);
  });

  it('takes fields that it does not know, and lines that are blank', () => {
    const path = changed('more.jsonl', (line) => ({ ...line, via: undefined, comm: 'hello', tid: 7, note: { deep: [1] } }));
    writeFileSync(path, `\n\n${readFileSync(path, 'utf8').replaceAll('\n', '\n\n')}\n`);
    expect(fusewire('check', path).lines.at(-1)).toBe('128 messages, 128 identical, 0 different, 0 undecodable');
  });

  it('a trace that a crash cut is read as far as it goes', () => {
    const whole = changed('whole.jsonl', (line) => line);
    writeFileSync(file('cut.jsonl'), readFileSync(whole).subarray(0, -30));
    const { status, lines, stderr } = fusewire('check', file('cut.jsonl'));
    expect([status, lines.at(-1)]).toEqual([0, '127 messages, 127 identical, 0 different, 0 undecodable']);
    expect(stderr).toMatch(/^fusewire: The end of the trace .* is missing, from byte \d+ on\.\n$/);
  });
});

describe('stat', () => {
  it('for people and for programs', () => {
    const { status, stdout } = fusewire('stat', HELLO);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^128 messages, 64 requests in /);
    expect(stdout).toMatch(/\nagreed on 7\.45 \(the kernel offers 7\.45\): /);
    expect(stdout).toMatch(/\nrequests in flight: /);
    const json = JSON.parse(fusewire('stat', HELLO, '--json', '--top', '1').stdout) as { messages: number; files: object[] };
    expect([json.messages, json.files.length]).toEqual([128, 1]);
  });
});

describe('grep', () => {
  it('shows what matches', () => {
    const { lines } = fusewire('grep', HELLO, '--opcode', 'getxattr', '--errno', 'EOPNOTSUPP');
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.filter((line) => !/GETXATTR\(.*= EOPNOTSUPP/.test(line))).toEqual([]);
    expect(fusewire('grep', HELLO, '--path', '/hel*', '--limit', '1').stdout).toContain('"/hello"');
    expect(fusewire('grep', HELLO, '--path', 'nothing-like-it').stdout).toBe('');
  });

  it('writes a trace of it', () => {
    const { status } = fusewire('grep', HELLO, '--opcode', 'GETATTR', '--output', file('found.jsonl'));
    expect(status).toBe(0);
    const { lines } = fusewire('check', file('found.jsonl'));
    expect(lines.at(-1)).toMatch(/^\d+ messages, \d+ identical, 0 different, 0 undecodable$/);
    expect(fusewire('stat', file('found.jsonl')).stdout).toMatch(/agreed on 7\.45/);
  });
});

describe('anonymise and convert', () => {
  it('makes a trace that decodes and says nothing', () => {
    expect(fusewire('anonymise', HELLO, file('anonymous.jsonl'), '--seed', '5').status).toBe(0);
    expect(fusewire('check', file('anonymous.jsonl')).status).toBe(0);
    expect(readFileSync(file('anonymous.jsonl'), 'latin1')).not.toContain(Buffer.from('hello').toString('hex'));
  });

  it('goes there and back', () => {
    expect(fusewire('convert', HELLO, file('compact.trace')).stdout).toContain('128 messages');
    expect(fusewire('convert', file('compact.trace'), file('back.jsonl.gz')).status).toBe(0);
    expect(fusewire('show', file('back.jsonl.gz')).stdout).toBe(fusewire('show', HELLO).stdout);
  });

  it('never over the original', () => {
    copyFileSync(HELLO, file('mine.jsonl.gz'));
    for (const action of ['convert', 'anonymise']) {
      const { status, stderr } = fusewire(action, file('mine.jsonl.gz'), file('mine.jsonl.gz'));
      expect([status, stderr]).toEqual([64, expect.stringContaining('[ERR_FUSEWIRE_USAGE]')]);
    }
    expect(readFileSync(file('mine.jsonl.gz')).equals(readFileSync(HELLO))).toBe(true);
  });
});

describe('errors', () => {
  it.each(['show', 'stat', 'check', 'grep'])('%s of a file that is not there, a folder, a file that is no trace', (action) => {
    writeFileSync(file('text.txt'), 'These are words.\nThey are no trace.\n');
    for (const [path, code] of [
      [file('missing'), 'ERR_FUSEWIRE_TRACE_OPEN'],
      [folder, 'ERR_FUSEWIRE_TRACE_'],
      [file('text.txt'), 'ERR_FUSEWIRE_TRACE_FORMAT'],
    ] as const) {
      const { status, stdout, stderr } = fusewire(action, path);
      expect([path, status, stdout]).toEqual([path, 66, '']);
      expect(stderr).toMatch(/^fusewire: [^\n]+ \[ERR_[A-Z_]+\]\n$/);
      expect(stderr).toContain(`[${code}`);
    }
  });

  it.each([
    ['show'],
    ['check'],
    ['show', HELLO, 'more'],
    ['show', HELLO, '--pairs', 'maybe'],
    ['show', HELLO, '--from', 'noon'],
    ['show', HELLO, '--limit', '-1'],
    ['show', HELLO, '--colour', 'green'],
    ['grep', HELLO, '--errno', 'EWHAT'],
    ['grep', HELLO, '--node', 'x'],
    ['anonymise', HELLO],
    ['convert', HELLO],
    ['stat', HELLO, '--unknown'],
  ])('refuses "%s %s %s %s"', (...args) => {
    const { status, stdout, stderr } = fusewire(...args);
    expect([status, stdout]).toEqual([64, '']);
    expect(stderr).toMatch(/^fusewire: [^\n]+ \[ERR_FUSEWIRE_USAGE\]\n$/);
  });

  it('leaves nothing behind when the result cannot be written', () => {
    const { status, stderr } = fusewire('convert', HELLO, file('no/such/folder.jsonl'));
    expect([status, stderr]).toEqual([71, expect.stringContaining('[ERR_FUSEWIRE_TRACE_WRITE]')]);
    expect(existsSync(file('no'))).toBe(false);
  });

  it('the dissector goes to stdout', () => {
    const { status, stdout } = fusewire('dissector');
    expect(status).toBe(0);
    expect(stdout).toContain('Proto');
  });
});
