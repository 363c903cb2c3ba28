/**
 * What the fuzzer feeds: a frame is a message and how to look at it, in one run of bytes, so that a case is a list of frames
 * that can be written to a file, cut and changed without knowing what it is.
 *
 *     byte 0  kind: what the message is, or what else happens (FRAME_*)
 *     byte 1  opcode of the request that a reply answers; of a TURN or REFUSE frame its argument
 *     byte 2  variant: which agreement, struct or filesystem
 *     byte 3  not used
 *     byte 4  32 bits: what the request offers for the reply's tail; the code of an ioctl
 *     byte 8  the message
 */
import { type Agreement, INIT_FLAGS } from '../../src/protocol/index.ts';

export const FRAME_HEAD = 8;
export const FRAME_REQUEST = 0;
export const FRAME_REPLY = 1;
export const FRAME_NOTIFICATION = 2;
export const FRAME_IOCTL = 3;
/** The event loop turns; promises of filesystems settle. */
export const FRAME_TURN = 4;
/** The kernel refuses the next reply with the errno in byte 1. */
export const FRAME_REFUSE = 5;

/** A frame's bytes; see above. */
export type Frame = Uint8Array;

const EVERYTHING = new Set(INIT_FLAGS.map(({ name }) => name));
const NOTHING = new Set<never>();

/** What may have been agreed on: the newest with all and no flags, and each minor at which sizes change. */
export const AGREEMENTS: readonly Agreement[] = [
  { minor: 45, flags: EVERYTHING },
  { minor: 45, flags: NOTHING },
  { minor: 36, flags: EVERYTHING },
  ...[40, 38, 32, 27, 22, 15, 11, 8, 4, 3, 1].map((minor) => ({ minor, flags: NOTHING })),
];

export function newFrame(
  kind: number,
  message: Uint8Array,
  facts: { opcode?: number; variant?: number; size?: number } = {},
): Frame {
  const frame = new Uint8Array(FRAME_HEAD + message.length);
  frame[0] = kind;
  frame[1] = facts.opcode ?? 0;
  frame[2] = facts.variant ?? 0;
  putWord(frame, 4, facts.size ?? 0);
  frame.set(message, FRAME_HEAD);
  return frame;
}

export const messageOf = (frame: Frame): Uint8Array => frame.subarray(FRAME_HEAD);

export function wordAt(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** Puts a word where there is room for all of it. */
export function putWord(bytes: Uint8Array, at: number, value: number): void {
  if (at < 0 || at + 4 > bytes.length) return;
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
export const fromHex = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));
