/**
 * What shall go wrong, as plain data: a plan travels to workers by structured clone, and what it has counted stays shared
 * between all of them. "The third read" is the third over all threads, and a fault can be switched on and off while the
 * filesystem serves.
 */
import type { Filesystem } from '../../filesystem/filesystem.ts';
import { ERRNO, ERRNO_MAX } from '../../session/index.ts';

/** A method that can fail its caller: all but `init`, `destroy` and `forget`, which answer nobody. */
export type FaultyMethod = Exclude<keyof Filesystem, 'settings' | 'init' | 'destroy' | 'forget'>;

/** What happens to a request instead of its answer, or before it. */
export type FaultEffect =
  /** The caller gets this errno, a name like `EIO` or a number from 1 to 511; the filesystem never sees the request. */
  | { readonly kind: 'errno'; readonly errno: string | number }
  /** The filesystem sees the request `ms` milliseconds later. Delays add up with each other and with what else hits the request. */
  | { readonly kind: 'delay'; readonly ms: number }
  /** read, write and copyFileRange: the filesystem is asked for at most `bytes`, and its answer is as short. */
  | { readonly kind: 'short'; readonly bytes: number }
  /** Nobody answers. The caller waits until the mount ends. */
  | { readonly kind: 'hang' }
  /** The thread that serves the request ends, and never answers it; see {@link CrashKind}. */
  | { readonly kind: 'crash'; readonly how: CrashKind };

/**
 * How a thread ends: an error that nobody catches, a promise that rejects unheard, `process.exit(1)`, a JavaScript heap that
 * grows until it may not, or SIGKILL for the whole process. In a worker the first four end the worker; in the main
 * thread they end the process.
 */
export type CrashKind = 'throw' | 'rejection' | 'exit' | 'memory' | 'kill';

export interface FaultRule {
  /** The methods it is about. Default: every one (of those that can be short, for a short answer). */
  readonly operation?: FaultyMethod | readonly FaultyMethod[];
  /** The name in the request: of the entry, as in lookup and rename (the old one), of link the new one, or of the attribute. */
  readonly name?: string | RegExp;
  /** The node that the request is about; of requests with a name, the directory. */
  readonly node?: number;
  /** A byte that the request's range covers, or a range `[from, to)` that it touches. Only requests with an offset match. */
  readonly offset?: number | readonly [from: number, to: number];
  /** fsuid of the caller. */
  readonly uid?: number;
  /** Which of the matching requests is the first one hit, counted over all threads: 1 is the next. Default 1. */
  readonly nth?: number;
  /** How many are hit at most. Default 1, or with `probability` all; Infinity for all. */
  readonly times?: number;
  /** From the first on, each is hit with this probability, 0 to 1, the same ones for the same seed. Default 1. */
  readonly probability?: number;
  /** Whether it acts from the beginning; see {@link armFault}. Default true. */
  readonly armed?: boolean;
  readonly effect: FaultEffect;
}

/** Rules in order, with their counts. Made by {@link faultPlan}; plain data, except that `state` stays shared. */
export interface FaultPlan {
  readonly rules: readonly FaultRule[];
  readonly seed: number;
  readonly state: SharedArrayBuffer;
}

/** What one rule has done so far, over all threads. */
export interface FaultCounts {
  /** Requests that matched while it was armed, also those that an earlier rule took. */
  seen: number;
  /** Requests that it hit. */
  hit: number;
}

/** Methods whose answer can be short. */
export const CAN_BE_SHORT: readonly FaultyMethod[] = ['read', 'write', 'copyFileRange'];

// The state of a rule, in words.
const ARMED = 0;
const SEEN = 1;
const HIT = 2;
const RULE_WORDS = 3;

/**
 * A plan of these rules. The first rule that wants a request has it; delays let the next ones have it too.
 *
 * @param options.seed for rules with a probability. Default 1.
 * @throws RangeError for a rule that could never do what it says.
 */
export function faultPlan(rules: readonly FaultRule[], options: { seed?: number } = {}): FaultPlan {
  for (const rule of rules) assertSensible(rule);
  const state = new SharedArrayBuffer(rules.length * RULE_WORDS * 4);
  const plan = { rules, seed: options.seed ?? 1, state };
  rules.forEach((rule, index) => {
    armFault(plan, index, rule.armed ?? true);
  });
  return plan;
}

/** Switches a rule on or off, for all threads at once. Its counts go on from where they were. */
export function armFault(plan: FaultPlan, index: number, armed: boolean): void {
  Atomics.store(new Int32Array(plan.state), index * RULE_WORDS + ARMED, armed ? 1 : 0);
}

/** What each rule has done, in the order of the rules. */
export function faultCounts(plan: FaultPlan): FaultCounts[] {
  const words = new Int32Array(plan.state);
  return plan.rules.map((_, index) => ({
    seen: Atomics.load(words, index * RULE_WORDS + SEEN),
    hit: Atomics.load(words, index * RULE_WORDS + HIT),
  }));
}

/** One request, as rules see it. */
export interface FaultCandidate {
  readonly method: FaultyMethod;
  readonly node: number;
  readonly name: string | undefined;
  /** Undefined for requests without an offset. */
  readonly offset: number | undefined;
  readonly length: number;
  readonly uid: number;
}

/** What a plan does to a request: milliseconds to wait, then the effect, if any. */
export interface FaultDecision {
  delayMs: number;
  effect: Exclude<FaultEffect, { kind: 'delay' }> | undefined;
}

/** Decides about one request and counts it. Undefined: nothing happens. */
export function decideFault(plan: FaultPlan, words: Int32Array, candidate: FaultCandidate): FaultDecision | undefined {
  let delayMs = 0;
  let effect: FaultDecision['effect'];
  for (let index = 0; index < plan.rules.length; index++) {
    const rule = plan.rules[index];
    const at = index * RULE_WORDS;
    if (Atomics.load(words, at + ARMED) === 0 || !matches(rule, candidate)) continue;
    const seen = Atomics.add(words, at + SEEN, 1) + 1;
    // A later rule counts the request too: its n-th is the n-th for everybody.
    if (effect !== undefined || !takes(plan, index, seen, words)) continue;
    if (rule.effect.kind === 'delay') delayMs += rule.effect.ms;
    else effect = rule.effect;
  }
  return delayMs === 0 && effect === undefined ? undefined : { delayMs, effect };
}

function matches(rule: FaultRule, candidate: FaultCandidate): boolean {
  const { operation, name, node, offset, uid } = rule;
  const methods = operation ?? (rule.effect.kind === 'short' ? CAN_BE_SHORT : undefined);
  if (methods !== undefined && (typeof methods === 'string' ? methods !== candidate.method : !methods.includes(candidate.method)))
    return false;
  if (node !== undefined && node !== candidate.node) return false;
  if (uid !== undefined && uid !== candidate.uid) return false;
  if (name !== undefined) {
    if (candidate.name === undefined) return false;
    // A global expression would remember where it stopped.
    if (typeof name === 'string' ? name !== candidate.name : candidate.name.search(name) < 0) return false;
  }
  return offset === undefined || touches(offset, candidate);
}

function touches(wanted: number | readonly [number, number], { offset, length }: FaultCandidate): boolean {
  if (offset === undefined) return false;
  const [from, to] = typeof wanted === 'number' ? [wanted, wanted + 1] : wanted;
  return offset < to && offset + Math.max(length, 1) > from;
}

/** Whether a rule hits the `seen`-th request that it matches; counts that. */
function takes(plan: FaultPlan, index: number, seen: number, words: Int32Array): boolean {
  const { nth = 1, probability = 1, times = probability < 1 ? Number.POSITIVE_INFINITY : 1 } = plan.rules[index];
  const at = index * RULE_WORDS;
  if (seen < nth || (probability < 1 && chance(plan.seed, index, seen) >= probability)) return false;
  if (Atomics.add(words, at + HIT, 1) < times) return true;
  Atomics.sub(words, at + HIT, 1);
  return false;
}

/** 0 to 1, a function of the seed, the rule and the count alone: which thread asks, and when, does not matter. */
function chance(seed: number, index: number, seen: number): number {
  let hash = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(index + 1, 0xc2b2ae35) ^ Math.imul(seen, 0x27d4eb2f);
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 0x1_0000_0000;
}

function assertSensible(rule: FaultRule): void {
  const { effect, probability = 1, nth = 1, times = 1 } = rule;
  const refuse = (what: string): never => {
    throw new RangeError(what);
  };
  if (effect.kind === 'errno') {
    const number = typeof effect.errno === 'string' ? ERRNO[effect.errno] : effect.errno;
    if (!Number.isInteger(number) || number < 1 || number > ERRNO_MAX)
      refuse(`an errno is a name like EIO or a number from 1 to ${ERRNO_MAX}, not ${effect.errno}`);
  }
  if (effect.kind === 'delay' && !(effect.ms >= 0)) refuse(`a delay is a number of milliseconds, not ${effect.ms}`);
  if (effect.kind === 'short') {
    if (!Number.isInteger(effect.bytes) || effect.bytes < 0)
      refuse(`a short answer has a whole number of bytes, not ${effect.bytes}`);
    const methods = rule.operation === undefined ? [] : [rule.operation].flat();
    const other = methods.find((method) => !CAN_BE_SHORT.includes(method));
    if (other !== undefined) refuse(`only ${CAN_BE_SHORT.join(', ')} can be short, not ${other}`);
  }
  if (!(probability >= 0 && probability <= 1)) refuse(`a probability is a number from 0 to 1, not ${probability}`);
  if (!(nth >= 1) || !(times >= 0)) refuse(`nth counts from 1 and times from 0, not ${nth} and ${times}`);
}
