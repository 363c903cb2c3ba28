/** What benchmarks read from other programs and from /proc. */
import { describe, expect, test } from 'vitest';
import { Debris, noteOf } from '../../bench/harness/debris.ts';
import { parseMounts } from '../../bench/harness/mounts.ts';
import { count, parse, words } from '../../bench/harness/options.ts';
import { cpuSeconds, parseCpuSeconds, parseStatusBytes, residentBytes, startTime } from '../../bench/harness/proc.ts';
import {
  aioStressCommand,
  ddCommand,
  fioCommand,
  megabytesPerSecond,
  parseAioStress,
  parseDd,
  parseFio,
} from '../../bench/letter/tools.ts';
import { parseFioRequests } from '../../bench/memory/fio.ts';

const result = expect.objectContaining({ code: 'ERR_FUSEWIRE_BENCH_RESULT' });
const usage = expect.objectContaining({ code: 'ERR_FUSEWIRE_BENCH_USAGE' });

describe('dd', () => {
  const said = '256+0 records in\n256+0 records out\n536870912 bytes (537 MB, 512 MiB) copied, 0.268435 s, 2.0 GB/s\n';

  test('bytes and seconds of its last line, not its rounded rate', () => {
    expect(parseDd(said)).toEqual({ bytes: 536870912, seconds: 0.268435 });
    expect(megabytesPerSecond(parseDd(said))).toBeCloseTo(2000.0, 1);
  });

  test('small amounts and very short times', () => {
    expect(parseDd('1 byte copied, 0.5 s, 0.0 kB/s')).toEqual({ bytes: 1, seconds: 0.5 });
    expect(parseDd('512 bytes copied, 8.1e-05 s, 6.3 MB/s').seconds).toBe(8.1e-5);
  });

  test('anything else is no result', () => {
    expect(() => parseDd('dd: failed to open: Input/output error')).toThrow(result);
    expect(() => parseDd('0 bytes copied, 0.0001 s, 0.0 kB/s')).toThrow(result);
  });

  test('both ways are direct, and a write keeps the length of the file', () => {
    expect(ddCommand('read', '/f', 512 << 20)).toEqual([
      'dd',
      'if=/f',
      'of=/dev/null',
      'iflag=direct',
      'bs=2097152',
      'count=256',
    ]);
    const write = ddCommand('write', '/f', 512 << 20);
    expect(write).toContain('oflag=direct');
    expect(write).toContain('conv=notrunc');
  });
});

describe('fio', () => {
  const way = (changes: object = {}) => ({ io_bytes: 1 << 29, runtime: 250, short_ios: 0, total_ios: 8192, ...changes });
  const none = way({ io_bytes: 0, runtime: 0, total_ios: 0 });
  const report = (job: object) => `fio: a warning\n${JSON.stringify({ jobs: [{ error: 0, read: none, write: none, ...job }] })}`;

  test('bytes and time of the direction that ran, behind a warning', () => {
    expect(parseFio(report({ read: way() }), 'read')).toEqual({ bytes: 1 << 29, seconds: 0.25 });
    expect(parseFio(report({ write: way({ runtime: 500 }) }), 'write').seconds).toBe(0.5);
  });

  test('an error, a short request, the other direction or no report is no result', () => {
    expect(() => parseFio(report({ error: 5, read: way() }), 'read')).toThrow(result);
    expect(() => parseFio(report({ read: way({ short_ios: 1 }) }), 'read')).toThrow(/short/);
    expect(() => parseFio(report({ read: way() }), 'write')).toThrow(result);
    expect(() => parseFio('fio: file is missing', 'read')).toThrow(result);
    expect(() => parseFio('{"jobs":[]}', 'read')).toThrow(result);
  });

  test('the count of requests must be what was asked for', () => {
    expect(parseFioRequests(report({ read: way() }), 8192)).toBe(8192);
    expect(() => parseFioRequests(report({ read: way() }), 8193)).toThrow(/8192 requests instead of 8193/);
  });

  test('asynchronous, direct, in order, four in flight', () => {
    const words = fioCommand('/bin/fio', 'read', '/f', 1 << 29);
    for (const word of ['--ioengine=libaio', '--direct=1', '--rw=read', '--iodepth=4', '--bs=64k', '--size=536870912']) {
      expect(words).toContain(word);
    }
  });
});

describe('aio-stress', () => {
  const said = 'read on /f (1105.23 MB/s) 512.00 MB in 0.46s\nthread 0 read totals (1024.00 MB/s) 512.00 MB in 0.50s\n';

  test('the total of the thread, whose MB is 2^20 bytes', () => {
    expect(parseAioStress(said, 'read')).toEqual({ bytes: 512 * 2 ** 20, seconds: 0.5 });
  });

  test('no totals of that direction is no result', () => {
    expect(() => parseAioStress(said, 'write')).toThrow(result);
  });

  test('writes are operation 0, reads 1', () => {
    expect(aioStressCommand('aio-stress', 'write', '/f', 1 << 29).join(' ')).toContain('-O -o 0 -s 512 -r 64 -d 4');
    expect(aioStressCommand('aio-stress', 'read', '/f', 1 << 29).join(' ')).toContain('-o 1');
  });
});

describe('/proc', () => {
  test('processor time stands behind a command that may hold anything', () => {
    const fields = ['S', ...Array.from({ length: 49 }, (_, index) => String(index + 4))];
    // Fields 14 and 15 of proc(5).
    expect(parseCpuSeconds(`42 (a) b (c) ${fields.join(' ')}\n`)).toBeCloseTo((14 + 15) / 100);
  });

  test('a kB line of the status', () => {
    const status = 'Name:\tnode\nVmHWM:\t   99 kB\nVmRSS:\t   1024 kB\nRssAnon:\t 7 kB\n';
    expect(parseStatusBytes(status, 'VmRSS')).toBe(1 << 20);
    expect(parseStatusBytes(status, 'VmSwap')).toBeUndefined();
  });

  test('this process has used time and memory and has a start', () => {
    expect(cpuSeconds(process.pid)).toBeGreaterThan(0);
    expect(residentBytes(process.pid)).toBeGreaterThan(10 << 20);
    expect(startTime(process.pid)).toMatch(/^\d+$/);
    expect(startTime(0)).toBeUndefined();
  });
});

describe('mounts', () => {
  const mountinfo = [
    '22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw',
    '90 22 0:45 / /tmp/a\\040b rw,nosuid shared:9 - fuse.x x rw,user_id=0',
    '91 90 0:46 / /tmp/a\\040b/deep rw - fuse y rw',
    '92 22 0:47 / /tmp/a\\040bc rw - fuse z rw',
    '',
  ].join('\n');

  test('those on or below a folder, and none whose name only begins alike', () => {
    expect(parseMounts(mountinfo, '/tmp/a b')).toEqual([
      { path: '/tmp/a b', type: 'fuse.x', connection: 45 },
      { path: '/tmp/a b/deep', type: 'fuse', connection: 46 },
    ]);
  });
});

describe('debris', () => {
  test('what is noted away is kept no longer', () => {
    const debris = new Debris();
    for (const line of [noteOf(true, 'child', '12', '345'), noteOf(true, 'mount', '/m'), noteOf(true, 'folder', '/f')]) {
      debris.note(line);
    }
    expect([...debris.children]).toEqual([[12, '345']]);
    for (const line of [noteOf(false, 'child', '12'), noteOf(false, 'mount', '/m'), noteOf(false, 'folder', '/f')]) {
      debris.note(line);
    }
    expect([debris.children.size, debris.mounts.size, debris.folders.size]).toEqual([0, 0, 0]);
  });
});

describe('options', () => {
  test('whole numbers within their range', () => {
    expect(count('rounds', undefined, 5)).toBe(5);
    expect(count('rounds', '12', 5)).toBe(12);
    for (const text of ['0', '-1', '1.5', '1e3', 'x', '']) expect(() => count('rounds', text, 5)).toThrow(usage);
  });

  test('words out of a list', () => {
    expect(words('mode', undefined, ['event'], ['event', 'blocking'])).toEqual(['event']);
    expect(words('mode', 'blocking,event', ['event'], ['event', 'blocking'])).toEqual(['blocking', 'event']);
    expect(() => words('mode', 'evnt', ['event'], ['event', 'blocking'])).toThrow(/--mode knows event, blocking, not evnt/);
    expect(() => words('mode', 'event,', ['event'], ['event', 'blocking'])).toThrow(usage);
  });

  test('options may stand once or often, and one that does not exist is refused', () => {
    const kinds = { rounds: 'one', extra: 'many' } as const;
    expect(parse(['--rounds', '3', '--extra', 'a', '--extra=--b'], kinds)).toEqual({ rounds: '3', extra: ['a', '--b'] });
    expect(parse([], kinds)).toEqual({ rounds: undefined, extra: [] });
    expect(() => parse(['--runds', '3'], kinds)).toThrow(usage);
    expect(() => parse(['stray'], kinds)).toThrow(usage);
  });
});
