/**
 * Reading a trace, whatever its format: compact or lines of JSON, gzip'ed or not, recognised by its first bytes.
 *
 * Threads append to a trace in batches (blocks, or runs of lines), so a file is ordered by time only roughly. The reader goes
 * over the file twice. The first pass notes one number a batch: the earliest time in it. From these it knows, at each place of
 * the second pass, how early anything further on can still be; what is not later than that goes out at once, in order, and
 * only the rest is held. So the order is exact, and what is held is what was written out of order: what threads recorded
 * between two flushes, however long the trace is.
 */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import { ByteStream } from './bytes.ts';
import { TraceError } from './errors.ts';
import {
  BLOCK_HEAD_BYTES,
  BLOCK_MAGIC_BYTES,
  decodeBlock,
  FILE_HEAD_BYTES,
  FILE_VERSION,
  parseBlockHead,
  parseFileHead,
} from './format.ts';
import { parseTraceLine, timeOfLine } from './jsonl.ts';
import type { TraceMessage } from './message.ts';

/** How a trace was read to its end. */
export interface TraceSummary {
  readonly format: 'compact' | 'jsonl';
  readonly messages: number;
  /** When t was 0: microseconds since 1970, where the trace says so. */
  readonly startedAtMicros?: number;
  /** The end of the trace is missing, as a crash leaves it. `offset`: the byte of the (unpacked) file where the loss begins. */
  readonly truncated?: { readonly offset: number };
  /** Places that were skipped, with {@link ReadTraceOptions.damage} 'skip'. */
  readonly damaged: readonly { readonly offset: number; readonly reason: string }[];
  /** Messages that went out later than one with a later time, because {@link ReadTraceOptions.heldBytesMax} was reached. */
  readonly unordered: number;
}

export interface ReadTraceOptions {
  /** Called once, when the trace has been read to its end: for those who read with `for await`, which has no result. */
  readonly onEnd?: (summary: TraceSummary) => void;
  /**
   * What a broken place in the middle does: ends the reading with a {@link TraceError} (the default), or is skipped and noted
   * in the summary.
   */
  readonly damage?: 'throw' | 'skip';
  /**
   * Bytes of messages that may be held to put them in order. Default 256 MiB. Beyond that the earliest goes out, whatever may
   * still come.
   */
  readonly heldBytesMax?: number;
}

const DEFAULT_HELD_BYTES_MAX = 256 << 20;
const CHUNK_BYTES = 1 << 20;
/** Lines of a batch, roughly: the first pass remembers 8 bytes for each. */
const LINES_BATCH_BYTES = 1 << 18;
/** A line holds the largest message twice over; what is longer is no line. */
const LINE_BYTES_MAX = 1 << 28;
/** What a held message costs besides its bytes. */
const HELD_OVERHEAD_BYTES = 200;

/** Messages that were written together, in the order of the file. */
type Batch = readonly TraceMessage[];

/** What happened on the way, filled in as it is read. */
interface Progress {
  truncated?: { offset: number };
  damaged: { offset: number; reason: string }[];
}

/** A file whose format is known. */
interface Source {
  readonly path: string;
  readonly format: 'compact' | 'jsonl';
  readonly isGzip: boolean;
  /** Bytes that it had when it was opened: what a recording adds later is not looked at. */
  readonly bytes: number;
  /** Of the compact format: where the first block begins, and when t was 0. */
  readonly headBytes: number;
  readonly startedAtMicros: number;
}

/**
 * The messages of a trace, ordered by time; those of equal time in the order of the file. A file that is being recorded is
 * read as far as it went when the reading began. The bytes of a message are views of larger memory: copy what is to be kept.
 *
 * @throws {TraceError} when the file cannot be read, or is broken in the middle. A file cut by a crash is no error: what is
 * whole is delivered, and the summary (the generator's result, and {@link ReadTraceOptions.onEnd}) says `truncated`.
 */
export async function* readTrace(path: string, options: ReadTraceOptions = {}): AsyncGenerator<TraceMessage, TraceSummary, void> {
  const source = await openSource(path);
  const progress: Progress = { damaged: [] };
  const order = new Order(options.heldBytesMax ?? DEFAULT_HELD_BYTES_MAX);
  let messages = 0;
  const earliest = await earliestTimes(source);
  let place = 0;
  for await (const batch of batchesOf(source, progress, options.damage ?? 'throw')) {
    place++;
    // Behind a broken place the batches are no longer those of the first pass.
    const horizon = progress.damaged.length > 0 ? Number.NEGATIVE_INFINITY : (earliest[place] ?? Number.POSITIVE_INFINITY);
    for (const message of order.pass(batch, horizon)) {
      messages++;
      yield message;
    }
  }
  for (const message of order.pass([], Number.POSITIVE_INFINITY)) {
    messages++;
    yield message;
  }
  const summary: TraceSummary = {
    format: source.format,
    messages,
    unordered: order.unordered,
    ...(source.startedAtMicros === 0 ? {} : { startedAtMicros: source.startedAtMicros }),
    ...progress,
  };
  options.onEnd?.(summary);
  return summary;
}

/** Puts messages in order as far as needed. */
class Order {
  unordered = 0;
  readonly #heldBytesMax: number;
  /** A binary heap by time, then by arrival. */
  readonly #heap: { message: TraceMessage; arrival: number }[] = [];
  #heldBytes = 0;
  #arrivals = 0;
  #last = Number.NEGATIVE_INFINITY;

  constructor(heldBytesMax: number) {
    this.#heldBytesMax = heldBytesMax;
  }

  /** Takes messages, and gives those that nothing can precede any more: nothing that is still to come is before `horizon`. */
  *pass(batch: Batch, horizon: number): Generator<TraceMessage> {
    const messages = inOrder(batch);
    let at = 0;
    if (this.#heap.length === 0) {
      // The common case needs no heap.
      for (; at < messages.length && messages[at].t <= horizon && messages[at].t >= this.#last; at++) {
        this.#last = messages[at].t;
        yield messages[at];
      }
    }
    for (; at < messages.length; at++) this.#push(messages[at]);
    while (this.#heap.length > 0 && (this.#heap[0].message.t <= horizon || this.#heldBytes > this.#heldBytesMax)) {
      const message = this.#pop();
      if (message.t < this.#last) this.unordered++;
      else this.#last = message.t;
      yield message;
    }
  }

  #push(message: TraceMessage): void {
    const heap = this.#heap;
    const own = { message, arrival: this.#arrivals++ };
    this.#heldBytes += message.bytes.length + HELD_OVERHEAD_BYTES;
    let at = heap.length;
    heap.push(own);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (precedes(heap[parent], own)) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = own;
  }

  #pop(): TraceMessage {
    const heap = this.#heap;
    const top = heap[0];
    const moved = heap.pop()!;
    this.#heldBytes -= top.message.bytes.length + HELD_OVERHEAD_BYTES;
    if (heap.length === 0) return top.message;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && precedes(heap[child + 1], heap[child])) child++;
      if (precedes(moved, heap[child])) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = moved;
    return top.message;
  }
}

/** The messages of a batch by time; those of equal time stay as they are. */
function inOrder(batch: Batch): Batch {
  for (let at = 1; at < batch.length; at++) {
    if (batch[at].t < batch[at - 1].t) return [...batch].sort((a, b) => a.t - b.t);
  }
  return batch;
}

function precedes(a: { message: TraceMessage; arrival: number }, b: { message: TraceMessage; arrival: number }): boolean {
  return a.message.t < b.message.t || (a.message.t === b.message.t && a.arrival < b.arrival);
}

async function openSource(path: string): Promise<Source> {
  let first: Uint8Array;
  let bytes: number;
  try {
    const file = await open(path, 'r');
    try {
      const stats = await file.stat();
      if (!stats.isFile()) throw new TraceError('ERR_FUSEWIRE_TRACE_OPEN', path, { detail: 'it is no regular file' });
      bytes = stats.size;
      const { buffer, bytesRead } = await file.read(new Uint8Array(FILE_HEAD_BYTES), 0, FILE_HEAD_BYTES, 0);
      first = buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw error instanceof TraceError ? error : new TraceError('ERR_FUSEWIRE_TRACE_OPEN', path, because(error));
  }
  const isGzip = first[0] === 0x1f && first[1] === 0x8b;
  if (isGzip) first = await unpackedHead(path, bytes);
  const common = { path, isGzip, bytes };
  const head = parseFileHead(first);
  if (head !== undefined) {
    const { headBytes, version, startedAtMicros } = head;
    if (version !== FILE_VERSION || headBytes < FILE_HEAD_BYTES) {
      throw new TraceError('ERR_FUSEWIRE_TRACE_VERSION', path, { detail: `format ${version}, this one reads ${FILE_VERSION}` });
    }
    return { ...common, format: 'compact', headBytes, startedAtMicros };
  }
  const text = Buffer.from(first).toString('latin1').trimStart();
  if (text !== '' && !text.startsWith('{')) {
    throw new TraceError('ERR_FUSEWIRE_TRACE_FORMAT', path, { detail: 'it begins neither with the magic nor with {' });
  }
  return { ...common, format: 'jsonl', headBytes: 0, startedAtMicros: 0 };
}

async function unpackedHead(path: string, bytes: number): Promise<Uint8Array> {
  const stream = new ByteStream(chunksOf({ path, isGzip: true, bytes }, {}));
  try {
    await stream.has(FILE_HEAD_BYTES);
    return new Uint8Array(stream.peek(Math.min(FILE_HEAD_BYTES, stream.availableBytes)));
  } catch (error) {
    throw new TraceError('ERR_FUSEWIRE_TRACE_READ', path, because(error));
  } finally {
    await stream.close();
  }
}

/** For each batch the earliest time that it or any later one has. */
async function earliestTimes(source: Source): Promise<number[]> {
  const times = source.format === 'jsonl' ? await lineTimes(source) : await blockTimes(source);
  for (let at = times.length - 2; at >= 0; at--) times[at] = Math.min(times[at], times[at + 1]);
  return times;
}

async function lineTimes(source: Source): Promise<number[]> {
  const times: number[] = [];
  for await (const { lines } of linesOf(source, {})) {
    let least = Number.POSITIVE_INFINITY;
    for (const line of lines) least = Math.min(least, timeOfLine(line) ?? least);
    times.push(least);
  }
  return times;
}

/** Reads the heads of the blocks alone, where the file lets it. */
async function blockTimes(source: Source): Promise<number[]> {
  const times: number[] = [];
  if (source.isGzip) {
    for await (const batch of blocksOf(source, { damaged: [] }, 'skip')) times.push(batch[0].t);
    return times;
  }
  const file = await open(source.path, 'r');
  try {
    const bytes = new Uint8Array(BLOCK_HEAD_BYTES);
    let at = source.headBytes;
    while (at + BLOCK_HEAD_BYTES <= source.bytes) {
      const { bytesRead } = await file.read(bytes, 0, BLOCK_HEAD_BYTES, at);
      const head = parseBlockHead(bytes.subarray(0, bytesRead));
      if (head === undefined) break;
      times.push(head.first);
      at += head.totalBytes;
    }
  } finally {
    await file.close();
  }
  return times;
}

/** The batches in the order of the file. */
async function* batchesOf(source: Source, progress: Progress, damage: 'throw' | 'skip'): AsyncGenerator<Batch> {
  try {
    yield* source.format === 'jsonl' ? messagesOfLines(source, progress, damage) : blocksOf(source, progress, damage);
  } catch (error) {
    throw error instanceof TraceError ? error : new TraceError('ERR_FUSEWIRE_TRACE_READ', source.path, because(error));
  }
}

async function* blocksOf(source: Source, progress: Progress, damage: 'throw' | 'skip'): AsyncGenerator<Batch> {
  const ending: Ending = {};
  const stream = new ByteStream(chunksOf(source, ending));
  try {
    if (await stream.has(source.headBytes)) stream.skip(source.headBytes);
    while (await stream.has(1)) {
      const batch = await blockAt(stream);
      if (typeof batch !== 'string') {
        if (batch.length > 0) yield batch;
        continue;
      }
      const { offset } = stream;
      if (!(await seekBlock(stream))) {
        // Nothing whole follows: it is the end that is missing.
        progress.truncated = { offset };
        return;
      }
      if (damage === 'throw') throw new TraceError('ERR_FUSEWIRE_TRACE_DAMAGED', source.path, { offset, detail: batch });
      progress.damaged.push({ offset, reason: batch });
    }
    if (ending.isCut === true) progress.truncated = { offset: stream.offset };
  } finally {
    await stream.close();
  }
}

/** Takes the block that stands next; or says why there is none, and takes nothing. */
async function blockAt(stream: ByteStream): Promise<Batch | string> {
  if (!(await stream.has(BLOCK_HEAD_BYTES))) return 'a block is cut';
  const head = parseBlockHead(stream.peek(BLOCK_HEAD_BYTES));
  if (head === undefined) return 'the head of a block is broken';
  if (!(await stream.has(head.totalBytes))) return 'a block is cut';
  const batch = decodeBlock(new Uint8Array(stream.peek(head.totalBytes)), head);
  if (typeof batch !== 'string') stream.skip(head.totalBytes);
  return batch;
}

/** Goes on to the next head of a block, behind the place where the stream stands. */
async function seekBlock(stream: ByteStream): Promise<boolean> {
  let behind = 1;
  while (await stream.has(behind + BLOCK_HEAD_BYTES)) {
    stream.skip(behind);
    const { availableBytes } = stream;
    const found = Buffer.from(stream.peek(availableBytes)).indexOf(BLOCK_MAGIC_BYTES);
    if (found < 0) {
      behind = availableBytes - BLOCK_MAGIC_BYTES.length + 1;
      continue;
    }
    stream.skip(found);
    if ((await stream.has(BLOCK_HEAD_BYTES)) && parseBlockHead(stream.peek(BLOCK_HEAD_BYTES)) !== undefined) return true;
    behind = 1;
  }
  return false;
}

async function* messagesOfLines(source: Source, progress: Progress, damage: 'throw' | 'skip'): AsyncGenerator<Batch> {
  const ending: Ending = {};
  let number = 0;
  for await (const { lines, offset, isLast } of linesOf(source, ending)) {
    const messages: TraceMessage[] = [];
    for (const [at, line] of lines.entries()) {
      number++;
      if (line.trim() === '') continue;
      const message = parseTraceLine(line);
      if (typeof message !== 'string') {
        messages.push(message);
        continue;
      }
      const start = offset + Buffer.byteLength(lines.slice(0, at).join('\n')) + Math.min(at, 1);
      if (isLast && at === lines.length - 1) progress.truncated = { offset: start };
      else if (damage === 'throw') {
        throw new TraceError('ERR_FUSEWIRE_TRACE_LINE', source.path, { line: number, offset: start, detail: message });
      } else progress.damaged.push({ offset: start, reason: `line ${number}: ${message}` });
    }
    yield messages;
  }
  if (ending.isCut === true) progress.truncated ??= { offset: source.bytes };
}

interface Lines {
  readonly lines: readonly string[];
  /** Byte at which the first of them begins. */
  readonly offset: number;
  /** Whether the last of them ends the file without a newline. */
  readonly isLast: boolean;
}

/** The lines of a file, some at a time; the same ones each time. */
async function* linesOf(source: Source, ending: Ending): AsyncGenerator<Lines> {
  const decoder = new TextDecoder();
  let rest = '';
  let offset = 0;
  for await (const chunk of chunksOf(source, ending)) {
    rest += decoder.decode(chunk, { stream: true });
    if (rest.length < LINES_BATCH_BYTES) continue;
    const end = rest.lastIndexOf('\n');
    if (end < 0) {
      if (rest.length > LINE_BYTES_MAX)
        throw new TraceError('ERR_FUSEWIRE_TRACE_FORMAT', source.path, { offset, detail: 'a line has no end' });
      continue;
    }
    const whole = rest.slice(0, end);
    yield { lines: whole.split('\n'), offset, isLast: false };
    offset += Buffer.byteLength(whole) + 1;
    rest = rest.slice(end + 1);
  }
  rest += decoder.decode();
  const isLast = rest !== '' && !rest.endsWith('\n');
  if (rest !== '') yield { lines: (isLast ? rest : rest.slice(0, -1)).split('\n'), offset, isLast };
}

/** Whether gzip'ed bytes end too early. */
interface Ending {
  isCut?: boolean;
}

/** The bytes of a file, unpacked. */
async function* chunksOf(source: Pick<Source, 'path' | 'isGzip' | 'bytes'>, ending: Ending): AsyncGenerator<Uint8Array> {
  const { path, isGzip, bytes } = source;
  if (bytes === 0) return;
  const file = createReadStream(path, { highWaterMark: CHUNK_BYTES, end: bytes - 1 });
  if (!isGzip) {
    yield* file as AsyncIterable<Uint8Array>;
    return;
  }
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  file.on('error', (error) => gunzip.destroy(error));
  try {
    yield* file.pipe(gunzip) as AsyncIterable<Uint8Array>;
  } catch (error) {
    if ((error as { code?: string }).code !== 'Z_BUF_ERROR') throw error;
    ending.isCut = true;
  } finally {
    file.destroy();
    gunzip.destroy();
  }
}

/** What a failed system call says. */
function because(error: unknown): { detail: string; cause: unknown } {
  const { code, message } = error as { code?: string; message?: string };
  return { detail: code ?? message ?? String(error), cause: error };
}
