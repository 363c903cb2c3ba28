/** The letter's report, and where peers are found. */
import { describe, expect, test } from 'vitest';
import { markdownTable } from '../../bench/harness/table.ts';
import { type Configuration, nativeConfiguration, ourPair, peerConfigurations } from '../../bench/letter/configurations.ts';
import type { Sample, Samples } from '../../bench/letter/measure.ts';
import { findPeers, PEERS } from '../../bench/letter/peers.ts';
import { letterTable, reportOf, rowTable, servedByOthers, verdicts } from '../../bench/letter/report.ts';
import { LETTER_ROWS, letterRatio } from '../../bench/letter/rows.ts';

const BYTES = 512 * 2 ** 20;
const sample = (megabytesPerSecond: number, daemonCpuSeconds?: number): Sample => ({
  megabytesPerSecond,
  daemonCpuSeconds,
  elapsedSeconds: 1,
});

const [original, patched] = ourPair({ mode: 'event', workers: 2, extra: [] });
const configurations: Configuration[] = [nativeConfiguration(), original, patched];
const row = LETTER_ROWS[0];
const samples: Samples = new Map([
  [
    row.name,
    new Map([
      ['native', [sample(4000), sample(5000)]],
      [original.name, [sample(1000, 0.4), undefined, sample(1200, 0.6)]],
      [patched.name, [sample(2000, 0.5), sample(2200, 0.5), sample(1800, 0.5)]],
    ]),
  ],
]);
const reports = reportOf([row], configurations, samples, BYTES);

describe('the letter', () => {
  test('its ratios are those of its figures', () => {
    expect(LETTER_ROWS.map((each) => letterRatio(each).toFixed(2))).toEqual(['1.19', '1.04', '1.21', '1.11']);
  });

  test('a row has medians, the share of native, the gain, and skips rounds that failed', () => {
    const [native, before, after] = rowTable(reports[0]).rows;
    expect(native).toEqual(['native', '4,500', '4,000', '5,000', '100 %', '', '', '']);
    expect(before).toEqual([original.name, '1,100', '1,000', '1,200', '24 %', '', '', '0.50']);
    expect(after).toEqual([patched.name, '2,000', '1,800', '2,200', '44 %', '×1.82', '×1.50 to ×2.00', '0.50']);
  });

  test('the README shows the letter and each family in one cell', () => {
    const text = markdownTable(letterTable(reports));
    expect(text).toContain('322 → 382 (×1.19)');
    expect(text).toContain('1,100 → 2,000 (×1.82)');
  });

  test('the verdict compares with the letter', () => {
    expect(verdicts(reports)).toEqual([
      { passed: true, text: "fusewire event 2w, dd read, 2 MiB blocks: ×1.82, above the letter's ×1.19" },
    ]);
    const slower: Samples = new Map([
      [row.name, new Map([...(samples.get(row.name) ?? []), [patched.name, [sample(1100, 0.5)]]])],
    ]);
    expect(verdicts(reportOf([row], configurations, slower, BYTES))[0].passed).toBe(false);
  });

  test('a comparison without samples is not passed', () => {
    const nothing: Samples = new Map([[row.name, new Map()]]);
    expect(verdicts(reportOf([row], configurations, nothing, BYTES))).toEqual([
      { passed: false, text: "fusewire event 2w, dd read, 2 MiB blocks: –, not above the letter's ×1.19" },
    ]);
  });

  test('a daemon that was idle did not move half a gigabyte', () => {
    expect(servedByOthers(BYTES, 0)).toBe(true);
    expect(servedByOthers(BYTES, 0.05)).toBe(false);
    expect(servedByOthers(BYTES, Number.NaN)).toBe(false);
  });
});

describe('peers', () => {
  const bare = { PATH: process.env.PATH };

  test('a program given by its variable, with the folders in their places', () => {
    const { found } = findPeers({ ...bare, FUSEWIRE_PEER_PASSTHROUGH_LL: '/bin/true' });
    const peer = found.find(({ name }) => name === 'passthrough_ll');
    expect(peer?.command('/s', '/m')).toEqual(['/bin/true', '-f', '-o', 'source=/s', '/m']);
  });

  test('a whole command line in the variable', () => {
    const { found } = findPeers({ ...bare, FUSEWIRE_PEER_GOFUSE: '/bin/true -x {mount} {source}' });
    expect(found.find(({ name }) => name === 'go-fuse')?.command('/s', '/m')).toEqual(['/bin/true', '-x', '/m', '/s']);
  });

  test('any other program by a name of its own, which must say where the folders go', () => {
    const { found } = findPeers({ ...bare, FUSEWIRE_PEER_OTHER_MY_FS: '/bin/true {source} {mount}' });
    expect(found.find(({ name }) => name === 'my-fs')?.command('/s', '/m')).toEqual(['/bin/true', '/s', '/m']);
    expect(() => findPeers({ ...bare, FUSEWIRE_PEER_OTHER_MY_FS: '/bin/true' })).toThrow(/\{source\} and \{mount\}/);
  });

  test('a variable that names no program is an error, one that is missing is told', () => {
    expect(() => findPeers({ ...bare, FUSEWIRE_PEER_GOFUSE: '/nowhere/loopback' })).toThrow(/no program that can be run/);
    const { found, missing } = findPeers({ PATH: '/nowhere' });
    expect(found).toEqual([]);
    expect(missing).toHaveLength(PEERS.length);
    for (const peer of PEERS) expect(missing.join('\n')).toContain(peer.variable);
  });

  test('both ways by a preloaded library, one way without', () => {
    const peer = { name: 'p', prefix: 'root', command: (): string[] => ['p'] } as const;
    expect(peerConfigurations(peer, '/x.so').map(({ name, asyncDio }) => [name, asyncDio])).toEqual([
      ['p original', 'original'],
      ['p patched', 'patched'],
    ]);
    expect(peerConfigurations(peer, undefined).map(({ asyncDio }) => asyncDio)).toEqual(['as it is']);
  });
});
