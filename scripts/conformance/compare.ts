/** What differs between a run beneath and one on the mount, and what of that is known. */
import { readFileSync } from 'node:fs';
import type { Settings } from './settings.ts';
import type { Case, Outcome } from './suite.ts';

/** A row of known.json: where a case may fail on the mount although it does not beneath. */
export interface Known {
  suite: string;
  /** The case's name, or its beginning and `*`. */
  case: string;
  /** Only over these filesystems; undefined: over all. */
  over?: string[];
  /** Only with these settings. */
  when?: Partial<Pick<Settings, 'mode' | 'cache' | 'writeback' | 'backing'>>;
  /** A sentence, with its source: a function of the kernel, or the part of ours that cannot do it. */
  reason: string;
}

export interface Difference {
  name: string;
  beneath: Outcome | 'absent';
  detail: string;
  reason?: string;
}

export interface Comparison {
  counts: Record<'beneath' | 'mounted', Record<Outcome, number>>;
  /** Failed on the mount and not beneath, unexplained. */
  differences: Difference[];
  known: Difference[];
  /** Failed on both sides. */
  failedBeneathToo: string[];
  /** Failed beneath and not on the mount. */
  better: string[];
  /** Ran beneath and was skipped on the mount, by the suite's own reason. */
  skipped: { reason: string; names: string[] }[];
  /** Rows of known.json whose cases ran and did not differ. */
  unneeded: string[];
}

const NEVER: Case = { name: '', outcome: 'skipped' };

export function readKnown(): Known[] {
  return JSON.parse(readFileSync(new URL('known.json', import.meta.url), 'utf8')) as Known[];
}

export function compare(
  beneath: readonly Case[],
  mounted: readonly Case[],
  known: readonly Known[],
  settings: Settings,
): Comparison {
  const rows = known.filter((row) => applies(row, settings));
  const before = new Map(beneath.map((each) => [each.name, each]));
  const skips = new Map<string, string[]>();
  const result: Comparison = {
    counts: { beneath: count(beneath), mounted: count(mounted) },
    differences: [],
    known: [],
    failedBeneathToo: [],
    better: [],
    skipped: [],
    unneeded: [],
  };
  const used = new Set<Known>();
  for (const { name, outcome, detail = '' } of mounted) {
    const was = before.get(name);
    before.delete(name);
    if (outcome === 'skipped' && was?.outcome === 'passed') skips.set(detail, [...(skips.get(detail) ?? []), name]);
    if (outcome !== 'failed') {
      if (was?.outcome === 'failed') result.better.push(name);
    } else if (was?.outcome === 'failed') {
      result.failedBeneathToo.push(name);
    } else {
      const row = rows.find((candidate) => matches(candidate.case, name));
      if (row !== undefined) used.add(row);
      const difference = { name, beneath: was?.outcome ?? ('absent' as const), detail };
      if (row === undefined) result.differences.push(difference);
      else result.known.push({ ...difference, reason: row.reason });
    }
  }
  // What ran beneath and never came up on the mount: a file of tests that ended early, say.
  for (const { name, outcome } of before.values()) {
    if (outcome === 'passed') result.differences.push({ name, beneath: outcome, detail: 'was not run on the mount' });
  }
  result.skipped = [...skips].map(([reason, names]) => ({ reason, names })).sort((a, b) => b.names.length - a.names.length);
  const ran = new Map(mounted.map((each) => [each.name, each]));
  result.unneeded = rows
    .filter(
      (row) =>
        !used.has(row) &&
        [...ran.keys()].some((name) => matches(row.case, name) && (ran.get(name) ?? NEVER).outcome === 'passed'),
    )
    .map((row) => row.case);
  return result;
}

function count(cases: readonly Case[]): Record<Outcome, number> {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const { outcome } of cases) counts[outcome]++;
  return counts;
}

function applies(row: Known, settings: Settings): boolean {
  if (row.suite !== settings.suite) return false;
  if (row.over !== undefined && !row.over.includes(settings.over)) return false;
  return Object.entries(row.when ?? {}).every(([key, value]) => settings[key as keyof Settings] === value);
}

function matches(pattern: string, name: string): boolean {
  return pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}
