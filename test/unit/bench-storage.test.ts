/** The parts of the storage benchmark that can be wrong without anybody noticing: frames, medians, verdicts, the picture. */
import { describe, expect, it } from 'vitest';
import { storageChart } from '../../bench/storage/chart.ts';
import { goalsOf } from '../../bench/storage/goals.ts';
import { pointsOf, type Run } from '../../bench/storage/points.ts';
import { Frames, HEAD_BYTES } from '../../bench/storage/wire.ts';

const frame = (number: number, text: string): Buffer => {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32LE(number, 0);
  head.writeUInt32LE(text.length, 4);
  return Buffer.concat([head, Buffer.from(text)]);
};

describe('frames', () => {
  it('come whole wherever the stream is cut', () => {
    const stream = Buffer.concat([frame(1, 'one'), frame(2, ''), frame(3, 'three words more')]);
    for (let cut = 0; cut <= stream.length; cut++) {
      const seen: string[] = [];
      const frames = new Frames(
        (head) => head.readUInt32LE(4),
        (head, body) => seen.push(`${head.readUInt32LE(0)} ${Buffer.concat(body)}`),
      );
      frames.push(stream.subarray(0, cut));
      frames.push(stream.subarray(cut));
      expect(seen).toEqual(['1 one', '2 ', '3 three words more']);
    }
  });
});

const run = (subject: string, perSecond: number, more: Partial<Run> = {}): Run => ({
  ...{ subject, roundTripMs: 5, pattern: 'random', flight: 64, perSecond, operationsEach: 0.5 },
  ...more,
});
const judged = (points: Run[]) => goalsOf({ points, roundTrips: [5], flights: [16, 64] }).map(({ met }) => met);

describe('results', () => {
  it('are medians of each load', () => {
    const points = pointsOf([run('a', 1), run('a', 9), run('a', 2), run('b', 5)]);
    expect(points.map(({ subject, perSecond }) => [subject, perSecond])).toEqual([
      ['a', 2],
      ['b', 5],
    ]);
  });

  it('are judged by the round-trip and beside sshfs', () => {
    expect(judged([run('merged, accepted', 11_520)])).toEqual([true]);
    expect(judged([run('merged, accepted', 11_519)])).toEqual([false]);
    const beside = (ours: number) => [run('merged, accepted', ours, { flight: 16 }), run('sshfs', 1000, { flight: 16 })];
    expect(judged(beside(3001))).toEqual([true]);
    expect(judged(beside(3000))).toEqual([false]);
  });

  it('are drawn, each subject and round-trip', () => {
    const drawn = storageChart(
      [run('merged', 1000), run('sshfs', 10, { operationsEach: Number.NaN }), run('merged', 5, { roundTripMs: 20 })],
      'a machine',
    );
    for (const word of ['merged', 'sshfs', '20 ms', 'a machine']) expect(drawn).toContain(word);
    expect(drawn).not.toContain('NaN');
  });
});
