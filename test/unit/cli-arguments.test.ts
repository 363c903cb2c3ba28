import { describe, expect, it } from 'vitest';
import { PASSTHROUGH_WORKERS, parseCommand } from '../../src/cli/arguments.ts';
import { showError } from '../../src/cli/exit.ts';
import { helpText } from '../../src/cli/help.ts';

const parse = (line: string) => parseCommand(line.split(' ').filter((word) => word !== ''));

function refusal(line: string) {
  try {
    parse(line);
  } catch (error) {
    return showError(error);
  }
  throw new Error(`"${line}" was accepted`);
}

describe('the command line', () => {
  it('gives the passthrough its default workers and mode, and leaves the rest to the parts', () => {
    expect(parse('passthrough')).toEqual({
      name: 'passthrough',
      options: {
        workers: PASSTHROUGH_WORKERS,
        maxWrite: 256 * 1024,
        mode: 'blocking',
        transport: 'auto',
        asyncDio: true,
        cache: 'auto',
        writeback: false,
        readOnly: false,
        json: false,
        mountOptions: '',
      },
    });
    expect(parse('mount m.js /m')).not.toHaveProperty('options.workers');
  });

  it('takes every option, before and after the places', () => {
    const line =
      'passthrough --workers 2 /src --mode event --transport device --no-async-dio --max-background 64 --max-write 131072 /mnt ' +
      '--cache none --writeback --no-backing --read-only --json -o ro,nosuid -o allow_other --options=noatime';
    expect(parse(line)).toEqual({
      name: 'passthrough',
      places: { source: '/src', mountpoint: '/mnt' },
      options: {
        workers: 2,
        mode: 'event',
        transport: 'device',
        asyncDio: false,
        maxBackground: 64,
        maxWrite: 131072,
        cache: 'none',
        writeback: true,
        backing: false,
        readOnly: true,
        json: true,
        mountOptions: 'ro,nosuid,allow_other,noatime',
      },
    });
  });

  it('hands what follows -- to the module', () => {
    expect(parse('mount m.js /m --workers 3 -- --cache x')).toMatchObject({
      name: 'mount',
      module: 'm.js',
      mountpoint: '/m',
      arguments: ['--cache', 'x'],
      options: { workers: 3, cache: 'auto' },
    });
  });

  it('knows the other commands', () => {
    expect(parse('umount /m')).toEqual({ name: 'umount', mountpoint: '/m', lazy: false, force: false });
    expect(parse('umount -z -f /m')).toEqual({ name: 'umount', mountpoint: '/m', lazy: true, force: true });
    expect(parse('doctor --json')).toEqual({ name: 'doctor', json: true });
    expect(parse('--version')).toEqual({ name: 'version' });
    expect(parse('--help')).toEqual({ name: 'help' });
    expect(parse('help umount')).toEqual({ name: 'help', topic: 'umount' });
    for (const topic of ['passthrough', 'mount', 'umount', 'doctor', 'trace'] as const) {
      expect(parse(`${topic} --help`)).toEqual({ name: 'help', topic });
      expect(helpText(topic)).toMatch(/^Usage: fusewire [\s\S]*\nExamples\n[\s\S]*\nExit codes\n/);
    }
  });

  it('hands the rest to the action of trace, and a file to --trace', () => {
    expect(parse('trace show x.jsonl --pairs no')).toEqual({
      name: 'trace',
      action: 'show',
      arguments: ['x.jsonl', '--pairs', 'no'],
    });
    expect(parse('trace anonymize a b')).toMatchObject({ action: 'anonymise' });
    expect(parse('trace show --help')).toEqual({ name: 'help', topic: 'trace' });
    expect(parse('mount m /m --trace x.jsonl')).toMatchObject({ options: { trace: 'x.jsonl' } });
  });

  it.each([
    '',
    'frobnicate',
    'passthrough /only-one',
    'passthrough a b c',
    'passthrough --workers',
    'passthrough --workers 0',
    'passthrough --workers 65',
    'passthrough --workers two',
    'passthrough --workers 1e1',
    'passthrough --mode sideways',
    'passthrough --transport tcp',
    'passthrough --cache sometimes',
    'passthrough --max-write 4095',
    'passthrough --max-background 65536',
    'passthrough --async-dio --no-async-dio',
    'passthrough --backing --no-backing',
    'passthrough --backing --writeback',
    'passthrough --no-json',
    'passthrough --json=yes',
    'passthrough a b -- c',
    'mount m.js',
    'umount',
    'umount a b',
    'umount --workers 2 /m',
    'doctor /m',
    'trace',
    'trace explode x',
    'passthrough --trace=',
  ])('refuses "%s"', (line) => {
    const { code, message, exitCode } = refusal(line);
    expect({ code, exitCode }).toEqual({ code: 'ERR_FUSEWIRE_USAGE', exitCode: 64 });
    expect(message).toMatch(/^[^\n]+\.$/);
  });

  it('shows an error without a code of ours on one line', () => {
    expect(showError(new Error('first\nsecond'))).toEqual({ code: 'ERR_FUSEWIRE_FAILED', message: 'first', exitCode: 70 });
    expect(showError('text')).toMatchObject({ message: 'text', exitCode: 70 });
    expect(showError(null)).toMatchObject({ message: 'null', exitCode: 70 });
  });
});
