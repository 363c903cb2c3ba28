/** What a trace amounts to: counts, errors, bytes, latencies, requests in flight, the busiest files. */
import type { InitFlag, OpcodeName, StructValue } from '../protocol/index.ts';
import { followTrace, type Messages, type ReplyEvent, type RequestEvent, type TraceEvent } from './follow.ts';
import { errnoName } from './linux.ts';
import { TraceNames, utf8Text } from './names.ts';

/** Microseconds. */
export interface Latency {
  readonly min: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
  readonly mean: number;
}

export interface OpcodeStat {
  readonly opcode: OpcodeName;
  readonly count: number;
  /** Of requests that want an answer. */
  readonly answered: number;
  readonly unanswered: number;
  /** How often each errno was answered, by name. */
  readonly errors: Readonly<Record<string, number>>;
  /** Bytes of data that the answers brought (READ, READLINK, listings, values) and the requests (WRITE, SETXATTR, IOCTL). */
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Undefined when nothing was answered. */
  readonly latency?: Latency;
  /** Sum of all durations, microseconds, and its part of the sum over all opcodes, 0 to 1. */
  readonly time: number;
  readonly share: number;
}

export interface Depth {
  /** Requests in flight, weighed by how long; the longest state of each depth in `histogram`. */
  readonly average: number;
  readonly max: number;
  /** Microseconds that were spent at each depth; the index is the depth. */
  readonly histogram: readonly number[];
  /** The highest depth in each of equal parts of the trace. */
  readonly timeline: readonly number[];
}

export interface FileStat {
  readonly path: string;
  readonly count: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly time: number;
}

export interface InitSummary {
  readonly kernelMinor?: number;
  readonly minor: number;
  readonly flags: readonly InitFlag[];
  /** Fields of the reply: max_write, max_background and so on. */
  readonly reply: Readonly<Record<string, number>>;
}

export interface TraceStat {
  readonly messages: number;
  readonly requests: number;
  readonly notifications: Readonly<Record<string, number>>;
  readonly ioctls: Readonly<Record<string, number>>;
  /** Messages that could not be decoded, or that the kernel refused. */
  readonly broken: number;
  readonly refused: number;
  /** Microseconds from the first message to the last. */
  readonly duration: number;
  readonly opcodes: readonly OpcodeStat[];
  readonly depth: Depth;
  readonly files: readonly FileStat[];
  readonly init?: InitSummary;
}

export interface StatOptions {
  /** Files that are listed, the busiest first. Default 10. */
  readonly top?: number;
  /** Parts of {@link Depth.timeline}. Default 60. */
  readonly parts?: number;
}

/** Latencies of one opcode that are kept exactly; beyond, a random part stands for all. */
const LATENCIES_MAX = 100_000;
/** Depths that are told apart. */
const DEPTH_MAX = 4096;
/** Times at which the depth changed that are kept; beyond, every second one is dropped. */
const CHANGES_MAX = 200_000;

interface Tally {
  count: number;
  answered: number;
  unanswered: number;
  errors: Map<string, number>;
  bytesRead: number;
  bytesWritten: number;
  time: number;
  latencies: Reservoir;
}

/** An unbiased sample of bounded size. */
class Reservoir {
  readonly values: number[] = [];
  #seen = 0;
  /** xorshift: statistics of a trace are the same each time. */
  #state = 0x9e3779b9;

  add(value: number): void {
    this.#seen += 1;
    if (this.values.length < LATENCIES_MAX) {
      this.values.push(value);
      return;
    }
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    const at = (this.#state >>> 0) % this.#seen;
    if (at < LATENCIES_MAX) this.values[at] = value;
  }
}

/** Counts a whole trace. */
export async function statTrace(messages: Messages, options: StatOptions = {}): Promise<TraceStat> {
  const statistics = new Statistics();
  for await (const event of followTrace(messages)) statistics.feed(event);
  return statistics.finish(options.top ?? 10, options.parts ?? 60);
}

class Statistics {
  readonly #opcodes = new Map<OpcodeName, Tally>();
  readonly #files = new Map<string, { count: number; bytesRead: number; bytesWritten: number; time: number }>();
  readonly #pathOf = new Map<number, string>();
  readonly #notifications = new Map<string, number>();
  readonly #ioctls = new Map<string, number>();
  readonly #names = new TraceNames();
  readonly #depth = new DepthMeter();
  #messages = 0;
  #requests = 0;
  #broken = 0;
  #refused = 0;
  #first: number | undefined;
  #last = 0;
  #init: InitSummary | undefined;
  #kernelMinor: number | undefined;

  feed(event: TraceEvent): void {
    const { t, errno = 0 } = event.trace;
    this.#messages += 1;
    this.#first ??= t;
    this.#last = Math.max(this.#last, t);
    if (errno !== 0) this.#refused += 1;
    if (event.kind === 'request') this.#request(event);
    else if (event.kind === 'reply') this.#reply(event);
    else if (event.kind === 'notification') increment(this.#notifications, event.message.notification);
    else if (event.kind === 'ioctl') increment(this.#ioctls, event.message.ioctl);
    else if (event.kind === 'broken') this.#broken += 1;
    this.#names.of(event).learn(event);
  }

  #tally(opcode: OpcodeName): Tally {
    const known = this.#opcodes.get(opcode);
    if (known !== undefined) return known;
    const errors = new Map<string, number>();
    const tally = {
      count: 0,
      answered: 0,
      unanswered: 0,
      errors,
      bytesRead: 0,
      bytesWritten: 0,
      time: 0,
      latencies: new Reservoir(),
    };
    this.#opcodes.set(opcode, tally);
    return tally;
  }

  #request(event: RequestEvent): void {
    const { message } = event;
    const tally = this.#tally(message.opcode);
    this.#requests += 1;
    tally.count += 1;
    tally.bytesWritten += message.data?.length ?? 0;
    if (message.opcode === 'INIT') this.#kernelMinor = message.structs[0]?.value.minor as number;
    if (!event.wantsReply) return;
    tally.unanswered += 1;
    this.#depth.change(event.trace.t, 1);
    const nodeid = message.header.nodeid as bigint;
    if (nodeid !== 0n) this.#pathOf.set(event.index, this.#names.of(event).pathOf(nodeid));
  }

  #reply(event: ReplyEvent): void {
    const { message, request, duration } = event;
    const tally = this.#tally(message.opcode);
    const error = message.header.error as number;
    if (error !== 0) increment(tally.errors, errnoName(error));
    if (!request.wantsReply) return;
    tally.answered += 1;
    tally.unanswered -= 1;
    this.#depth.change(event.trace.t, -1);
    const read = error !== 0 ? 0 : bytesOf(event);
    tally.bytesRead += read;
    tally.time += duration;
    tally.latencies.add(duration);
    const path = this.#pathOf.get(request.index);
    this.#pathOf.delete(request.index);
    if (path !== undefined) this.#file(path, read, request.message.data?.length ?? 0, duration);
    if (message.opcode === 'INIT' && error === 0) this.#agreed(event);
  }

  #file(path: string, bytesRead: number, bytesWritten: number, time: number): void {
    const file = this.#files.get(path) ?? { count: 0, bytesRead: 0, bytesWritten: 0, time: 0 };
    file.count += 1;
    file.bytesRead += bytesRead;
    file.bytesWritten += bytesWritten;
    file.time += time;
    this.#files.set(path, file);
  }

  #agreed({ message, agreed }: ReplyEvent): void {
    const value: StructValue = message.structs[0]?.value ?? {};
    const numbers = Object.entries(value).filter(
      (entry): entry is [string, number] =>
        typeof entry[1] === 'number' && !['flags', 'flags2', 'major', 'minor'].includes(entry[0]),
    );
    const kernel = this.#kernelMinor === undefined ? {} : { kernelMinor: this.#kernelMinor };
    this.#init = { ...kernel, minor: agreed.minor, flags: [...agreed.flags], reply: Object.fromEntries(numbers) };
  }

  finish(top: number, parts: number): TraceStat {
    const total = [...this.#opcodes.values()].reduce((sum, { time }) => sum + time, 0);
    const opcodes = [...this.#opcodes.entries()]
      .map(([opcode, tally]) => opcodeStat(opcode, tally, total))
      .sort((one, other) => other.time - one.time || other.count - one.count);
    const files = [...this.#files.entries()]
      .map(([path, file]) => ({ path: utf8Text(path) ?? path, ...file }))
      .sort((one, other) => other.time - one.time || other.count - one.count)
      .slice(0, top);
    const first = this.#first ?? 0;
    return {
      messages: this.#messages,
      requests: this.#requests,
      notifications: Object.fromEntries(this.#notifications),
      ioctls: Object.fromEntries(this.#ioctls),
      broken: this.#broken,
      refused: this.#refused,
      duration: this.#last - first,
      opcodes,
      depth: this.#depth.finish(first, this.#last, parts),
      files,
      ...(this.#init === undefined ? {} : { init: this.#init }),
    };
  }
}

function bytesOf({ message }: ReplyEvent): number {
  const listed = (message.entries?.length ?? 0) > 0 ? (message.header.len as number) - 16 : 0;
  return listed > 0 ? listed : (message.data?.length ?? 0);
}

function opcodeStat(opcode: OpcodeName, tally: Tally, total: number): OpcodeStat {
  const { latencies, errors, ...rest } = tally;
  const sorted = latencies.values.sort((one, other) => one - other);
  const share = total === 0 ? 0 : tally.time / total;
  const latency = sorted.length === 0 ? {} : { latency: latencyOf(sorted, tally.time / tally.answered) };
  return { opcode, ...rest, errors: Object.fromEntries(errors), share, ...latency };
}

/** Percentiles by nearest rank. */
function latencyOf(sorted: readonly number[], mean: number): Latency {
  const rank = (part: number) => sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)]!;
  return { min: sorted[0]!, p50: rank(0.5), p90: rank(0.9), p99: rank(0.99), max: sorted.at(-1)!, mean };
}

/** How many requests were in flight, and for how long. */
class DepthMeter {
  readonly #histogram: number[] = [];
  readonly #changes: { t: number; depth: number }[] = [];
  #depth = 0;
  #max = 0;
  #since: number | undefined;

  change(t: number, by: 1 | -1): void {
    this.#spend(t);
    this.#depth = Math.max(0, this.#depth + by);
    this.#max = Math.max(this.#max, this.#depth);
    this.#changes.push({ t, depth: this.#depth });
    if (this.#changes.length > CHANGES_MAX) this.#thin();
  }

  #spend(t: number): void {
    const at = Math.min(this.#depth, DEPTH_MAX);
    if (this.#since !== undefined && t > this.#since) this.#histogram[at] = (this.#histogram[at] ?? 0) + t - this.#since;
    this.#since = Math.max(t, this.#since ?? t);
  }

  /** Keeps the higher of each two changes: the timeline shows peaks. */
  #thin(): void {
    for (let at = 0; at * 2 + 1 < this.#changes.length; at++) {
      const [one, other] = [this.#changes[at * 2]!, this.#changes[at * 2 + 1]!];
      this.#changes[at] = one.depth > other.depth ? one : other;
    }
    this.#changes.length = Math.floor(this.#changes.length / 2);
  }

  finish(first: number, last: number, parts: number): Depth {
    this.#spend(last);
    const histogram = Array.from(this.#histogram, (time) => time ?? 0);
    const spent = histogram.reduce((sum, time) => sum + time, 0);
    const weighed = histogram.reduce((sum, time, depth) => sum + time * depth, 0);
    return {
      average: spent === 0 ? 0 : weighed / spent,
      max: this.#max,
      histogram,
      timeline: this.#timeline(first, last, parts),
    };
  }

  #timeline(first: number, last: number, parts: number): number[] {
    const timeline = new Array<number>(parts).fill(0);
    const width = Math.max(1, (last - first) / parts);
    const partOf = (t: number) => Math.min(parts - 1, Math.max(0, Math.floor((t - first) / width)));
    let [before, beforeAt] = [0, 0];
    for (const { t, depth } of this.#changes) {
      const at = partOf(t);
      // Between two changes the depth stays.
      for (let part = beforeAt; part <= at; part++) timeline[part] = Math.max(timeline[part]!, before);
      timeline[at] = Math.max(timeline[at]!, depth);
      [before, beforeAt] = [depth, at];
    }
    for (let part = beforeAt; part < parts; part++) timeline[part] = Math.max(timeline[part]!, before);
    return timeline;
  }
}

function increment(map: Map<string, number>, key: string): void {
  map.set(key, (map.get(key) ?? 0) + 1);
}
