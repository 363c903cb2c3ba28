import { createWriteStream, statSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { BlockBuilder, ERRNO_MAX, fileHead, VIA_BYTES_MAX } from '../transport/record-format.ts';
import { TraceError } from './errors.ts';
import { traceLine } from './jsonl.ts';
import type { TraceMessage } from './message.ts';

export interface WriteTraceOptions {
  /** When t was 0, microseconds since 1970; the compact format keeps it. Default 0: unknown. */
  readonly startedAtMicros?: number;
  /** Bytes of a block of the compact format, 4,096 to 16 MiB. Default 256 KiB. A longer message gets a block of its own. */
  readonly blockBytes?: number;
}

const DEFAULT_BLOCK_BYTES = 256 << 10;
const LINES_BATCH = 64;

/**
 * Writes messages to a trace, and answers how many: lines of JSON when the name ends with `.jsonl`, else the compact format;
 * gzip'ed when `.gz` follows. Nothing that a message has is lost. The file appears when it is whole: until then, and when
 * this fails, what had the name before is still there.
 *
 * @throws {TraceError} when the file cannot be written, or a message has a field that no trace can hold.
 */
export async function writeTrace(
  path: string,
  messages: Iterable<TraceMessage> | AsyncIterable<TraceMessage>,
  options: WriteTraceOptions = {},
): Promise<number> {
  const isGzip = path.endsWith('.gz');
  const isText = path.replace(/\.gz$/, '').endsWith('.jsonl');
  const count = { messages: 0 };
  const chunks = isText ? textOf(path, messages, count) : blocksOf(path, messages, count, options);
  // A device or a pipe is written to as it is; a name is taken over at the end.
  const isSpecial = statSync(path, { throwIfNoEntry: false })?.isFile() === false;
  const target = isSpecial ? path : `${path}.${process.pid}.partial`;
  try {
    const file = createWriteStream(target);
    if (isGzip) await pipeline(chunks, createGzip(), file);
    else await pipeline(chunks, file);
    if (!isSpecial) await rename(target, path);
  } catch (error) {
    if (!isSpecial) await rm(target, { force: true });
    // What the source of the messages throws is the caller's; a system call that fails is about this file.
    if (!isOfFile(error, target)) throw error;
    throw new TraceError('ERR_FUSEWIRE_TRACE_WRITE', path, { detail: error.code, cause: error });
  }
  return count.messages;
}

function isOfFile(error: unknown, path: string): error is NodeJS.ErrnoException & { code: string } {
  const { code, path: where, syscall } = error as NodeJS.ErrnoException;
  return typeof code === 'string' && (where === path || syscall === 'write' || syscall === 'open' || syscall === 'rename');
}

async function* textOf(
  path: string,
  messages: Iterable<TraceMessage> | AsyncIterable<TraceMessage>,
  count: { messages: number },
): AsyncGenerator<string> {
  let text = '';
  for await (const message of messages) {
    assertWritable(path, message, count.messages);
    text += `${traceLine(message)}\n`;
    if (++count.messages % LINES_BATCH !== 0) continue;
    yield text;
    text = '';
  }
  if (text !== '') yield text;
}

async function* blocksOf(
  path: string,
  messages: Iterable<TraceMessage> | AsyncIterable<TraceMessage>,
  count: { messages: number },
  options: WriteTraceOptions,
): AsyncGenerator<Uint8Array> {
  yield fileHead(options.startedAtMicros ?? 0);
  const blockBytes = Math.min(Math.max(options.blockBytes ?? DEFAULT_BLOCK_BYTES, 4096), 16 << 20);
  let builder = new BlockBuilder(blockBytes);
  let channel: number | undefined;
  let sequence = 0;
  const sealed = () => {
    const block = builder.seal(channel, sequence++, true).slice();
    builder.clear();
    return block;
  };
  for await (const message of messages) {
    assertWritable(path, message, count.messages);
    const via = message.via === undefined ? undefined : Buffer.from(message.via);
    const { length } = message.bytes;
    // Within a block time does not go back.
    if (builder.count > 0 && (message.t < builder.last || !builder.hasRoom(length, via?.length))) yield sealed();
    if (builder.count === 0) {
      ({ channel } = message);
      if (builder.bytes.length > blockBytes || !builder.hasRoom(length, via?.length)) {
        builder = new BlockBuilder(Math.max(blockBytes, BlockBuilder.bytesFor(length, via?.length)));
      }
    }
    builder.add(message, via, channel);
    count.messages++;
  }
  if (builder.count > 0) yield sealed();
}

/** Refuses what would come back otherwise than it was given. */
function assertWritable(path: string, message: TraceMessage, index: number): void {
  const { dir, t, bytes, errno, channel, command, result, wholeBytes, via } = message;
  const wrong = (name: string, rule: string) => {
    throw new TraceError('ERR_FUSEWIRE_TRACE_VALUE', path, { detail: `message ${index + 1}: ${name} must be ${rule}` });
  };
  const within = (value: number | undefined, least: number, most: number) =>
    value === undefined || (Number.isInteger(value) && value >= least && value <= most);
  if (dir !== 'in' && dir !== 'out' && dir !== 'ioctl') wrong('dir', 'in, out or ioctl');
  if (t === undefined || !within(t, 0, Number.MAX_SAFE_INTEGER)) wrong('t', 'a whole number of microseconds');
  if (!(bytes instanceof Uint8Array)) wrong('bytes', 'a Uint8Array');
  if (!within(errno, 1, ERRNO_MAX)) wrong('errno', `a whole number from 1 to ${ERRNO_MAX}`);
  if (!within(channel, 0, 0xffff_ffff)) wrong('channel', 'a whole number of 32 bits');
  if (!within(command, 0, 0xffff_ffff)) wrong('command', 'a whole number of 32 bits');
  if (!within(result, -(2 ** 51), 2 ** 51)) wrong('result', 'a whole number');
  if (!within(wholeBytes, bytes.length, Number.MAX_SAFE_INTEGER)) wrong('wholeBytes', 'no less than there are bytes');
  if (via !== undefined && Buffer.byteLength(via) > VIA_BYTES_MAX) wrong('via', `at most ${VIA_BYTES_MAX} bytes`);
}
