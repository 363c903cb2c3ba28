/**
 * Traces as pcapng files for Wireshark. Each message is a frame of link type 252 (upper PDU): tags that name the dissector `fuse`, a
 * small header of ours with what a message alone does not say, and the message itself. Wireshark needs no configuration for it.
 */
import { errnoName } from '../session/index.ts';
import { causally } from './causal.ts';
import type { TraceMessage } from './message.ts';

/** LINKTYPE_WIRESHARK_UPPER_PDU: the frame begins with tags that name its dissector. */
export const PCAPNG_LINKTYPE = 252;
/** The name under which the dissector registers itself. */
export const DISSECTOR_NAME = 'fuse';

/** Version of {@link PseudoHeader}. */
export const PSEUDO_VERSION = 1;
/** Bytes of the pseudo header. */
export const PSEUDO_BYTES = 24;

/** What stands in a frame before the message, 24 bytes, little-endian, at the offsets that the comments give. */
export interface PseudoHeader {
  /** At 1, after the version at 0: 1 kernel to daemon, 2 daemon to kernel, 3 an ioctl, 4 a bare struct of the table. */
  readonly direction: 1 | 2 | 3 | 4;
  /** At 2: bit 0 when {@link channel} is known. At 8: the channel. */
  readonly channel?: number | undefined;
  /** At 4: the positive errno with which the kernel refused the message, 0 when it took it. */
  readonly errno?: number | undefined;
  /** At 12: the request code of an ioctl; the index of a bare struct. */
  readonly command?: number | undefined;
  /** At 16: what the ioctl returned. */
  readonly result?: number | undefined;
}

export interface PcapngOptions {
  /** When the recording began, milliseconds since 1970. Default 0: times are those since the beginning. */
  readonly startTime?: number;
  /** What the section header calls the machine's hardware and system. Default: nothing. */
  readonly system?: string;
}

/** Takes the bytes of the file in order. */
export type PcapngSink = (chunk: Uint8Array) => void | PromiseLike<void>;

const SECTION_HEADER = 0x0a0d0d0a;
const INTERFACE_DESCRIPTION = 1;
const ENHANCED_PACKET = 6;
const OPTION_COMMENT = 1;
const OPTION_SYSTEM = 3;
const OPTION_APPLICATION = 4;
const OPTION_INTERFACE_NAME = 2;
const OPTION_INTERFACE_DESCRIPTION = 3;
const OPTION_RESOLUTION = 9;
const OPTION_PACKET_FLAGS = 2;
/** Times are counted in nanoseconds. */
const NANOSECONDS = 9;
const FLAG_INBOUND = 1;
const FLAG_OUTBOUND = 2;
const TAG_DISSECTOR_NAME = 12;
const CHUNK_BYTES = 64 * 1024;
const DIRECTIONS = { in: 1, out: 2, ioctl: 3 } as const;

/** A frame: the tags, the pseudo header, the bytes. */
export function pcapngFrame(pseudo: PseudoHeader, bytes: Uint8Array): Uint8Array {
  const name = Buffer.from(DISSECTOR_NAME, 'latin1');
  const tags = 4 + align(name.length) + 4;
  const frame = Buffer.alloc(tags + PSEUDO_BYTES + bytes.length);
  // Tags are big-endian; the end tag is all zeros.
  frame.writeUInt16BE(TAG_DISSECTOR_NAME, 0);
  frame.writeUInt16BE(align(name.length), 2);
  name.copy(frame, 4);
  frame.writeUInt8(PSEUDO_VERSION, tags);
  frame.writeUInt8(pseudo.direction, tags + 1);
  frame.writeUInt16LE(pseudo.channel === undefined ? 0 : 1, tags + 2);
  frame.writeUInt32LE(pseudo.errno ?? 0, tags + 4);
  frame.writeUInt32LE(pseudo.channel ?? 0, tags + 8);
  frame.writeUInt32LE((pseudo.command ?? 0) >>> 0, tags + 12);
  frame.writeInt32LE(pseudo.result ?? 0, tags + 16);
  frame.set(bytes, tags + PSEUDO_BYTES);
  return frame;
}

/**
 * Writes messages as a pcapng file. One interface per channel, direction and refusal in each packet's options. Where threads wrote an
 * answer before its question, the question comes first.
 *
 * @returns how many messages were written.
 */
export async function exportPcapng(
  messages: Iterable<TraceMessage> | AsyncIterable<TraceMessage>,
  sink: PcapngSink,
  options: PcapngOptions = {},
): Promise<number> {
  const interfaces = new Map<number | undefined, number>();
  const start = BigInt(Math.round((options.startTime ?? 0) * 1000)) * 1000n;
  let waiting: Uint8Array[] = [sectionHeader(options)];
  let waitingBytes = 0;
  let count = 0;
  const put = (block: Uint8Array): void => {
    waiting.push(block);
    waitingBytes += block.length;
  };
  for await (const { message } of causally(messages)) {
    let index = interfaces.get(message.channel);
    if (index === undefined) {
      index = interfaces.size;
      interfaces.set(message.channel, index);
      put(interfaceDescription(message.channel));
    }
    put(packet(message, index, start));
    count++;
    if (waitingBytes < CHUNK_BYTES) continue;
    await sink(Buffer.concat(waiting));
    waiting = [];
    waitingBytes = 0;
  }
  // A section without an interface is legal, but tools call it an empty file of no type.
  if (count === 0) put(interfaceDescription(undefined));
  await sink(Buffer.concat(waiting));
  return count;
}

function sectionHeader(options: PcapngOptions): Uint8Array {
  const body = Buffer.alloc(16);
  body.writeUInt32LE(0x1a2b3c4d, 0);
  body.writeUInt16LE(1, 4);
  body.writeUInt16LE(0, 6);
  // The section's length is not known beforehand.
  body.writeBigInt64LE(-1n, 8);
  const system = options.system === undefined ? [] : [option(OPTION_SYSTEM, text(options.system))];
  return block(SECTION_HEADER, body, [...system, option(OPTION_APPLICATION, text('fusewire'))]);
}

function interfaceDescription(channel: number | undefined): Uint8Array {
  const body = Buffer.alloc(8);
  body.writeUInt16LE(PCAPNG_LINKTYPE, 0);
  const name = channel === undefined ? 'fuse' : `fuse${channel}`;
  return block(INTERFACE_DESCRIPTION, body, [
    option(OPTION_INTERFACE_NAME, text(name)),
    option(OPTION_INTERFACE_DESCRIPTION, text(channel === undefined ? '/dev/fuse' : `/dev/fuse, channel ${channel}`)),
    option(OPTION_RESOLUTION, Uint8Array.of(NANOSECONDS)),
  ]);
}

function packet(message: TraceMessage, index: number, start: bigint): Uint8Array {
  const { dir, errno, channel, command, result } = message;
  const data = pcapngFrame({ direction: DIRECTIONS[dir], errno, channel, command, result }, message.bytes);
  const time = start + BigInt(Math.round(message.t * 1000));
  const body = Buffer.alloc(20 + align(data.length));
  body.writeUInt32LE(index, 0);
  body.writeUInt32LE(Number(time >> 32n), 4);
  body.writeUInt32LE(Number(time & 0xffff_ffffn), 8);
  body.writeUInt32LE(data.length, 12);
  body.writeUInt32LE(data.length, 16);
  body.set(data, 20);
  const flags = Buffer.alloc(4);
  // Seen from the daemon.
  flags.writeUInt32LE(dir === 'in' ? FLAG_INBOUND : FLAG_OUTBOUND, 0);
  const options = [option(OPTION_PACKET_FLAGS, flags)];
  if (errno !== undefined && errno !== 0)
    options.push(option(OPTION_COMMENT, text(`The kernel refused this message: ${errnoName(errno)}.`)));
  return block(ENHANCED_PACKET, body, options);
}

function block(type: number, body: Uint8Array, options: readonly Uint8Array[]): Uint8Array {
  const end = new Uint8Array(4);
  const bytes = 12 + body.length + options.reduce((sum, one) => sum + one.length, 0) + end.length;
  const head = Buffer.alloc(8);
  head.writeUInt32LE(type, 0);
  head.writeUInt32LE(bytes, 4);
  return Buffer.concat([head, body, ...options, end, head.subarray(4)]);
}

function option(code: number, value: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(4 + align(value.length));
  bytes.writeUInt16LE(code, 0);
  bytes.writeUInt16LE(value.length, 2);
  bytes.set(value, 4);
  return bytes;
}

function text(value: string): Uint8Array {
  return Buffer.from(value, 'utf8');
}

function align(bytes: number): number {
  return (bytes + 3) & ~3;
}
