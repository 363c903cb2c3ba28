/** The rows' configurations, what their programs print, and what is concluded from it. */
import { describe, expect, test } from 'vitest';
import { cpuSecondsBetween } from '../../bench/harness/proc.ts';
import { logScale, markup, roundUp } from '../../bench/harness/svg.ts';
import { groupChart } from '../../bench/rows/chart.ts';
import { type Configuration, floorConfigurations, NATIVE, ourConfigurations } from '../../bench/rows/configurations.ts';
import type { Samples } from '../../bench/rows/measure.ts';
import { peerConfigurations } from '../../bench/rows/peers.ts';
import { bestPeer, compare, geometricMean, groupTables, reportOf, rowTable } from '../../bench/rows/report.ts';
import { ROWS, type Row, type Sample } from '../../bench/rows/rows.ts';
import { fioCommand, parseClient, parseFio } from '../../bench/rows/tools.ts';
import { goalsMet, verdicts } from '../../bench/rows/verdicts.ts';
import { scalingChart } from '../../bench/scaling/chart.ts';
import { falls, pointsOf, type Run, scalingTable } from '../../bench/scaling/report.ts';

const CHOICE = { modes: ['blocking'], workers: [2], transports: ['device', 'uring'], extra: [], variants: [] } as const;
const row = (name: string) => ROWS.find((each) => each.name === name) as Row;
const sample = (value: number, cpuMicros?: number, p99?: number): Sample => ({
  value,
  cpuMicros,
  p50: undefined,
  p99,
  operations: 1,
  bytes: 0,
  seconds: 1,
});

const ours = ourConfigurations(CHOICE);
const mine = ours.find(({ group }) => group === 'passthrough') as Configuration;
const [floor] = floorConfigurations('/null', 2, 4096, 'data.dat').filter(({ workers }) => workers === 2);
const peer = (name: string, project = 'libfuse'): Configuration => ({ ...mine, name, project, judged: false });
const fast = peer('fast');
const slow = peer('slow');
const fn = peer('fuse-native', 'fuse-native');
const configurations = [NATIVE, mine, floor, fast, slow, fn];

const samplesOf = (rows: Record<string, Record<string, Sample[]>>): Samples =>
  new Map(Object.entries(rows).map(([name, byName]) => [name, new Map(Object.entries(byName))]));

const samples = samplesOf({
  read4k32: {
    native: [sample(1000)],
    [mine.name]: [sample(300, 2.4, 50), sample(330, 2.6, 60), sample(310, 2.5, 55)],
    [floor.name]: [sample(400, 2)],
    fast: [sample(200, 4, 70)],
    slow: [sample(100, 8, 40)],
    'fuse-native': [sample(62, 20, 400)],
  },
  untar: { native: [sample(1)], [mine.name]: [sample(4, 9)], fast: [sample(5, 9)], slow: [sample(8, 9)] },
});
const reports = reportOf([row('read4k32'), row('untar')], configurations, samples);

describe('configurations', () => {
  test('ours: each transport, backing files only beside the judged one, nothing by default that the command line would decide', () => {
    expect(ours.map(({ name }) => name)).toContain('fusewire blocking 2w ring backing');
    const variants = ourConfigurations({ ...CHOICE, transports: ['device'], workers: [2, 4], variants: ['--cache none'] });
    expect(variants.filter(({ judged }) => judged).map(({ name }) => name)).toEqual([
      'fusewire blocking 2w',
      'fusewire blocking 2w backing',
      'fusewire memory blocking',
      'fusewire hello blocking',
    ]);
    expect(new Set(variants.map(({ name }) => name)).size).toBe(variants.length);
  });

  test('names are unique over everything that can be found', () => {
    const all = [...ours, ...floorConfigurations('/null', 2, 1, 'data.dat'), ...allPeers().found].map(({ name }) => name);
    expect(new Set(all).size).toBe(all.length);
  });

  function allPeers() {
    const variables = ['BINDFS', 'PASSTHROUGH_LL', 'PASSTHROUGH_HP', 'PASSTHROUGH', 'GOFUSE', 'MEMFS_LL', 'HELLO_LL'];
    const lines = ['GOFUSE_DAEMON', 'FUSE_NATIVE', 'MOUNTX', 'OTHER_X'];
    return peerConfigurations({
      PATH: '/nowhere',
      ...Object.fromEntries(variables.map((name) => [`FUSEWIRE_PEER_${name}`, '/bin/true'])),
      ...Object.fromEntries(lines.map((name) => [`FUSEWIRE_PEER_${name}`, '/bin/true {source} {mount}'])),
    });
  }

  test('libfuse is started in all its ways', () => {
    const { found, missing } = allPeers();
    expect(missing).toEqual([]);
    const command = (name: string) =>
      found
        .find((each) => each.name === name)
        ?.command?.('/s', '/m')
        .slice(1)
        .join(' ');
    expect(command('passthrough_ll single')).toBe('-s -f -o source=/s /m');
    expect(command('passthrough_ll ring')).toBe('-o io_uring -f -o source=/s /m');
    expect(command('passthrough_hp clone')).toBe('--foreground --nopassthrough --clone-fd /s /m');
    expect(command('passthrough_hp nosplice')).toBe('--foreground --nopassthrough --nosplice /s /m');
    expect(command('passthrough_hp backing')).toBe('--foreground /s /m');
    expect(found.find(({ name }) => name === 'passthrough_hp backing')?.group).toBe('backing');
    expect(found.find(({ name }) => name === 'memfs_ll ring')).toMatchObject({ group: 'memory', ring: true });
  });

  test('a whole command line is one way, and what cannot be run is an error', () => {
    const own = { PATH: '/nowhere', FUSEWIRE_PEER_PASSTHROUGH_HP: '/bin/true --own {source} {mount}' };
    expect(peerConfigurations(own).found.map(({ name }) => name)).toEqual(['passthrough_hp']);
    expect(() => peerConfigurations({ FUSEWIRE_PEER_MOUNTX: '/bin/true' })).toThrow(/\{source\} and \{mount\}/);
    expect(() => peerConfigurations({ FUSEWIRE_PEER_HELLO_LL: '/nowhere/hello_ll' })).toThrow(/no program/);
  });

  test('without peers every one is named with its variable', () => {
    const { found, missing } = peerConfigurations({ PATH: '/nowhere' });
    expect(found).toEqual([]);
    expect(missing.length).toBeGreaterThanOrEqual(10);
    for (const sentence of missing) expect(sentence).toMatch(/FUSEWIRE_PEER_[A-Z_]+/);
  });
});

describe('what programs print', () => {
  const load = { rw: 'randwrite', block: '4k', depth: 32, buffered: false } as const;
  const part = { io_bytes: 8192, runtime: 500, short_ios: 0, total_ios: 2 };
  const report = (write: object) => `note\n${JSON.stringify({ jobs: [{ error: 0, read: {}, write }] })}`;

  test('fio: operations, time and whole latencies of the way asked for', () => {
    const latencies = { lat_ns: { percentile: { '50.000000': 1500, '99.000000': 9000 } } };
    const expected = { operations: 2, bytes: 8192, seconds: 0.5, p50: 1.5, p99: 9 };
    expect(parseFio(report({ ...part, ...latencies }), load)).toEqual(expected);
    expect(parseFio(report(part), load).p99).toBeUndefined();
  });

  test('fio: short answers and nothing done are no result', () => {
    expect(() => parseFio(report({ ...part, short_ios: 1 }), load)).toThrow(/short/);
    expect(() => parseFio(report({ ...part, total_ios: 0 }), load)).toThrow(/did nothing/);
  });

  test('fio is told to be direct, or to read a file once', () => {
    expect(fioCommand('fio', load, '/f', 4096, 2)).toEqual(
      expect.arrayContaining(['--direct=1', '--runtime=2000ms', '--iodepth=32']),
    );
    const buffered = fioCommand('fio', { ...load, rw: 'read', buffered: true }, '/f', 4096, 2);
    expect(buffered).toContain('--direct=0');
    expect(buffered.join(' ')).not.toContain('runtime');
  });

  test('the client', () => {
    const said = '{"operations": 10, "seconds": 0.5, "p50": 0.000, "p99": 3.500}\n';
    expect(parseClient(said)).toEqual({ operations: 10, bytes: 0, seconds: 0.5, p50: undefined, p99: 3.5 });
    expect(() => parseClient('')).toThrow(/did not say/);
    expect(() => parseClient('{"operations": 0, "seconds": 1}')).toThrow(/did not say/);
  });
});

describe('processor time', () => {
  const reading = (seconds: number, threads: [number, number][]) => ({ seconds, threads: new Map(threads) });

  test('is exact while all threads live, new ones included', () => {
    expect(
      cpuSecondsBetween(
        reading(1, [[7, 1e9]]),
        reading(1, [
          [7, 1.5e9],
          [8, 2e6],
        ]),
      ),
    ).toBeCloseTo(0.502);
  });

  test('falls back when one has ended, or the kernel does not count', () => {
    expect(cpuSecondsBetween(reading(1, [[7, 1e9]]), reading(1.2, [[8, 2e6]]))).toBeCloseTo(0.2);
    expect(cpuSecondsBetween(reading(1, []), reading(1.3, []))).toBeCloseTo(0.3);
  });
});

describe('conclusions', () => {
  test('the best peer is of the same group, and less is better where seconds are counted', () => {
    expect(compare(reports[0], mine.name)).toMatchObject({ best: { configuration: { name: 'fast' } }, ratio: 310 / 200 });
    expect(compare(reports[1], mine.name)?.ratio).toBe(5 / 4);
    expect(compare(reports[0], mine.name, ['fuse-native'])?.ratio).toBe(5);
    expect(compare(reports[0], 'nobody')).toBeUndefined();
  });

  test('what the kernel answered alone is no measure of a daemon that was asked', () => {
    const stat = (own: number) => {
      const values = { stat: { [mine.name]: [sample(100, own)], fast: [sample(900, 0)], slow: [sample(50, 5)] } };
      const [report] = reportOf([row('stat')], configurations, samplesOf(values));
      return bestPeer(report, report.cells[0])?.configuration.name;
    };
    expect(stat(5)).toBe('slow');
    expect(stat(0)).toBe('fast');
  });

  test('a row shows shares and ratios; a group ends with the geometric mean', () => {
    const line = rowTable(reports[0]).rows.find(([name]) => name === mine.name);
    expect(line).toEqual([mine.name, 'passthrough', '310', '300', '330', '31 %', '×1.55', '', '55.0', '2.50']);
    const [{ group, table }] = groupTables(reports);
    expect(group).toBe('passthrough');
    expect(table.rows.at(-1)?.at(-1)).toBe('×1.39');
    expect(geometricMean([1, 4])).toBeCloseTo(2);
    expect(geometricMean([])).toBeNaN();
  });

  test('verdicts: rows, mean, scripts, floor and p99', () => {
    const all = verdicts(reports);
    expect(all.map(({ passed }) => passed)).toEqual([true, true, true, true, false]);
    expect(all[3].text).toContain("×1.25 of null 2t's 2.00");
    expect(all[4].text).toContain('slow 40.0 µs');
    expect(goalsMet(all, reports)).toBe(false);
    expect(goalsMet(all.slice(0, 4), reports)).toBe(true);
  });

  test('a row without a sample of ours has no verdict; the run fails for the failure', () => {
    const failed = samplesOf({ untar: { [mine.name]: [], fast: [sample(5, 9)] } });
    const all = verdicts(reportOf([row('untar')], configurations, failed));
    expect(all).toEqual([]);
  });

  test('pictures are whole elements and escape what they show', () => {
    const chart = groupChart(reports, 'passthrough', 'A & B');
    expect(chart).toMatch(/^<svg [^>]*width="960"[\s\S]*<\/svg>\n$/);
    expect(chart).toContain('A &amp; B');
    expect(chart).not.toContain('NaN');
    expect(groupChart(reports, 'hello', '')).toBeUndefined();
    expect(markup('<"&>')).toBe('&lt;&quot;&amp;&gt;');
  });

  test('axes', () => {
    const place = logScale(0.25, 4, 0, 100);
    expect([0.1, 0.25, 1, 4, 9].map(place)).toEqual([0, 0, 50, 100, 100]);
    expect([3, 7, 101, 1000].map(roundUp)).toEqual([5, 10, 200, 1000]);
  });
});

describe('scaling', () => {
  const run = (workers: number, flight: number, perSecond: number): Run => ({
    ...{ mode: 'blocking', transport: 'device', workers, flight, perSecond, p99: 10, cpuMicros: 2 },
  });

  test('a fall of more than 5 % is told, in either direction of growth', () => {
    expect(falls([run(1, 1, 100), run(1, 4, 96), run(2, 1, 100), run(2, 4, 200)])).toEqual([]);
    expect(falls([run(1, 4, 94), run(1, 1, 100)])).toEqual(['blocking, device: 6.0 % lost from 1 to 4 in flight (1 workers)']);
    expect(falls([run(2, 1, 90), run(1, 1, 100)])).toEqual(['blocking, device: 10.0 % lost from 1 to 2 workers (1 in flight)']);
  });

  test('points are medians, and stand in the table and the picture', () => {
    const points = pointsOf([run(1, 1, 1000), run(1, 1, 3000), run(1, 1, 2000), run(1, 4, 5000)]);
    expect(points.map(({ perSecond }) => perSecond)).toEqual([2000, 5000]);
    expect(scalingTable(points, [1, 4, 16]).rows).toEqual([
      ['blocking, device, 1 workers', '2.00 k, 10.0 µs, 2.00 µs', '5.00 k, 10.0 µs, 2.00 µs', '–'],
    ]);
    expect(scalingChart(points, 'machine')).not.toContain('NaN');
  });
});
