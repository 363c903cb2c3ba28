/** What came of a replay: counts, and each difference in words. */
import type { OpcodeName } from '../protocol/index.ts';

/** A request that was answered otherwise than in the trace. */
export interface ReplayDifference {
  /** Place of the request in the trace, from 0. */
  readonly index: number;
  readonly opcode: OpcodeName;
  /** What differs, in one sentence; it begins with the operation and what it is about. */
  readonly text: string;
  /** Where the library does otherwise by design: the name of the rule, see {@link ScriptedRule}. */
  readonly rule?: string;
}

export interface ReplayReport {
  /** Requests of the trace, INIT included. */
  readonly requests: number;
  readonly same: number;
  readonly different: number;
  /** How many requests were not compared, by reason. */
  readonly skipped: ReadonlyMap<string, number>;
  readonly skippedCount: number;
  /** Notifications of the trace; a replay against a filesystem does not send them. */
  readonly notifications: number;
  /** The differences, at most {@link ReplayLimits.differencesMax} of them. */
  readonly differences: readonly ReplayDifference[];
  /** Requests that the replay sent beyond those of the trace: to find, list or give back what the filesystem numbers otherwise. */
  readonly extra: number;
  /** Milliseconds from the first request to the last answer. */
  readonly elapsedMs: number;
}

export interface ReplayLimits {
  /** How long an answer may take, milliseconds. Default 5,000. */
  readonly answerMs?: number;
  /** Differences that are kept; more are only counted. Default 1,000. */
  readonly differencesMax?: number;
}

/** Gathers a {@link ReplayReport}. */
export class ReplayTally {
  readonly differences: ReplayDifference[] = [];
  readonly skipped = new Map<string, number>();
  requests = 0;
  same = 0;
  different = 0;
  notifications = 0;
  extra = 0;
  readonly #differencesMax: number;
  readonly #began = performance.now();

  constructor(limits: ReplayLimits = {}) {
    this.#differencesMax = limits.differencesMax ?? 1000;
  }

  skip(reason: string): void {
    this.skipped.set(reason, (this.skipped.get(reason) ?? 0) + 1);
  }

  differ(difference: ReplayDifference): void {
    this.different++;
    if (this.differences.length < this.#differencesMax) this.differences.push(difference);
  }

  report(): ReplayReport {
    const { requests, same, different, skipped, notifications, differences, extra } = this;
    let skippedCount = 0;
    for (const count of skipped.values()) skippedCount += count;
    const elapsedMs = performance.now() - this.#began;
    return { requests, same, different, skipped, skippedCount, notifications, differences, extra, elapsedMs };
  }
}

/** `100 requests, 97 same, 1 different, 2 skipped (2 never answered in the trace)`. */
export function summarise(report: ReplayReport): string {
  const reasons = [...report.skipped].sort(([, a], [, b]) => b - a).map(([reason, count]) => `${count} ${reason}`);
  const skipped = report.skippedCount === 0 ? '' : ` (${reasons.join(', ')})`;
  return `${report.requests} requests, ${report.same} same, ${report.different} different, ${report.skippedCount} skipped${skipped}`;
}
