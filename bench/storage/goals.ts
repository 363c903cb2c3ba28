/** What the storage layer has to reach, and whether it did. */
import { findPoint, type Pattern, type Run } from './points.ts';
import type { Bandwidth, Cost } from './trials.ts';

export interface Measured {
  points: Run[];
  readonly roundTrips: readonly number[];
  readonly flights: readonly number[];
  bandwidth?: Bandwidth[];
  fewReads?: number;
  cost?: Cost[];
}

export interface Goal {
  readonly met: boolean;
  readonly sentence: string;
}

const OURS = 'merged, accepted';

export function goalsOf({ points, bandwidth, fewReads, cost }: Measured): Goal[] {
  const goals: Goal[] = [];
  const full = findPoint(points, OURS, 5, 'random', 64);
  if (full !== undefined) {
    const each = (full.perSecond * 5) / 1000;
    goals.push({
      met: each >= 0.9 * 64,
      sentence: `${each.toFixed(1)} of 64 random reads in each round-trip of 5 ms (goal 57.6)`,
    });
  }
  for (const pattern of ['random', 'sequential'] as const) goals.push(...besideSshfs(points, pattern));
  for (const { layer, block, share } of bandwidth ?? []) {
    const sentence = `sequential direct reads of ${block}, one at a time, at 5 ms: ${(share * 100).toFixed(1)} % of the link's bandwidth`;
    goals.push(
      layer === 'merged' ? { met: share >= 0.9, sentence } : { met: true, sentence: `${sentence} (without the layer's help)` },
    );
  }
  if (fewReads !== undefined)
    goals.push({
      met: fewReads <= 128,
      sentence: `1,024 sequential asynchronous reads are ${fewReads} operations of the store (goal 128)`,
    });
  for (const { flight, merging, layer } of cost ?? []) {
    const about = `of the speed stays with merging where nothing merges, ${flight} in flight`;
    const spread = `${(merging.byRound.min * 100).toFixed(1)} to ${(merging.byRound.max * 100).toFixed(1)}`;
    goals.push({
      met: merging.ofMedians >= 0.97,
      sentence: `${(merging.ofMedians * 100).toFixed(1)} % (${spread}) ${about}; ${(layer.ofMedians * 100).toFixed(1)} % of none at all`,
    });
  }
  return goals;
}

function besideSshfs(points: readonly Run[], pattern: Pattern): Goal[] {
  const ours = findPoint(points, OURS, 5, pattern, 16);
  const theirs = findPoint(points, 'sshfs', 5, pattern, 16);
  if (ours === undefined || theirs === undefined) return [];
  const times = ours.perSecond / theirs.perSecond;
  return [{ met: times > 3, sentence: `${times.toFixed(2)} times sshfs at 5 ms, ${pattern}, 16 in flight (goal 3)` }];
}
