/** Where mutations start: messages of real traffic, one of each shape, and a well-formed request of each opcode. */
import { readdirSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { Connection, OPCODES, type OpcodeRow, opcodeNamed, opcodeRow, structOf } from '../../src/protocol/index.ts';
import {
  AGREEMENTS,
  FRAME_IOCTL,
  FRAME_NOTIFICATION,
  FRAME_REPLY,
  FRAME_REQUEST,
  type Frame,
  fromHex,
  newFrame,
  putWord,
  wordAt,
} from './frame.ts';

const CAPTURES = new URL('../../test/protocol/fixtures/', import.meta.url);
/** Longer messages teach no more and cost time. */
const SEED_BYTES_MAX = 2048;
const IN_HEADER = 40;

interface Line {
  readonly dir: 'in' | 'out' | 'ioctl';
  readonly hex: string;
  readonly cmd?: number;
}

export interface Seeds {
  readonly requests: readonly Frame[];
  readonly replies: readonly Frame[];
  readonly notifications: readonly Frame[];
  readonly ioctls: readonly Frame[];
}

/** Which entry of {@link AGREEMENTS} is nearest to a minor from below. */
const variantOf = (minor: number): number => {
  const index = AGREEMENTS.findIndex((agreed, at) => at > 0 && agreed.flags.size === 0 && agreed.minor <= minor);
  return Math.max(0, index);
};

/** One of each shape: kind, opcode, size of the message by powers of two, and whether it is an error. */
function shapeOf(frame: Frame, code: number): string {
  const error = frame[0] === FRAME_REPLY ? wordAt(frame, 12) !== 0 : false;
  return `${frame[0]} ${code} ${Math.ceil(Math.log2(frame.length))} ${frame[2]} ${error}`;
}

export function loadSeeds(): Seeds {
  const found = new Map<string, Frame>();
  const keep = (frame: Frame, code: number): void => {
    const shape = shapeOf(frame, code);
    if (frame.length <= SEED_BYTES_MAX && !found.has(shape)) found.set(shape, frame);
  };
  for (const name of readdirSync(CAPTURES).sort()) {
    if (!name.endsWith('.jsonl.gz')) continue;
    const text = gunzipSync(readFileSync(new URL(name, CAPTURES))).toString('utf8');
    readCapture(text.trimEnd().split('\n'), keep);
  }
  for (const row of OPCODES) keep(wellFormed(row), row.value);
  const frames = [...found.values()];
  const of = (kind: number) => frames.filter((frame) => frame[0] === kind);
  return {
    requests: of(FRAME_REQUEST),
    replies: of(FRAME_REPLY),
    notifications: of(FRAME_NOTIFICATION),
    ioctls: of(FRAME_IOCTL),
  };
}

function readCapture(lines: readonly string[], keep: (frame: Frame, code: number) => void): void {
  const connection = new Connection();
  for (const line of lines) {
    const { dir, hex, cmd } = JSON.parse(line) as Line;
    const bytes = fromHex(hex);
    const variant = variantOf(connection.agreed.minor);
    if (dir === 'ioctl') keep(newFrame(FRAME_IOCTL, bytes, { size: cmd ?? 0 }), cmd ?? 0);
    else if (dir === 'in') {
      connection.incoming(bytes);
      keep(newFrame(FRAME_REQUEST, bytes, { variant }), wordAt(bytes, 4));
    } else {
      const message = connection.outgoing(bytes);
      if (message.kind === 'notification') keep(newFrame(FRAME_NOTIFICATION, bytes, { variant }), wordAt(bytes, 4));
      else if (message.kind === 'reply') {
        const opcode = opcodeNamed(message.opcode).value;
        keep(newFrame(FRAME_REPLY, bytes, { variant, opcode, size: bytes.length }), opcode);
      }
    }
  }
}

/** A request of each opcode with zeros in its struct, short names, and as much of a tail as the struct announces. */
export function wellFormed(row: OpcodeRow, tailBytes = 16): Frame {
  const struct = row.request.struct === undefined ? undefined : structOf(row.request.struct);
  const structBytes = struct?.bytes ?? 0;
  const names = row.request.names * 2;
  const recordBytes = row.request.record === undefined ? 1 : structOf(row.request.record).bytes;
  const tail = row.request.tail === undefined ? 0 : tailBytes - (tailBytes % recordBytes);
  const message = new Uint8Array(IN_HEADER + structBytes + names + tail);
  putWord(message, 0, message.length);
  putWord(message, 4, row.value);
  putWord(message, 8, 2);
  putWord(message, 16, 1);
  const counted = struct?.fields.find(({ name }) => name === row.request.counted);
  if (counted !== undefined) putWord(message, IN_HEADER + counted.offset, tail / recordBytes);
  for (let index = 0; index < row.request.names; index++) message[IN_HEADER + structBytes + index * 2] = 0x61 + index;
  return newFrame(FRAME_REQUEST, message);
}

/** Field places of the request of an opcode, for mutations: offset in the message and width in bytes. */
export interface Place {
  readonly at: number;
  readonly bytes: number;
}

const HEADER_PLACES: readonly Place[] = structOf('fuse_in_header').fields.map(({ offset, bytes }) => ({ at: offset, bytes }));
const REPLY_PLACES: readonly Place[] = structOf('fuse_out_header').fields.map(({ offset, bytes }) => ({ at: offset, bytes }));
const byOpcode = new Map<number, readonly Place[]>();

/** Where the fields of a request's struct stand; those of the header when the opcode has none. */
export function requestPlaces(opcode: number): readonly Place[] {
  let places = byOpcode.get(opcode);
  if (places === undefined) {
    const name = opcodeRow(opcode)?.request.struct;
    places = name === undefined ? HEADER_PLACES : placesOf(name, IN_HEADER);
    if (byOpcode.size < 256) byOpcode.set(opcode, places);
  }
  return places;
}

function placesOf(name: Parameters<typeof structOf>[0], base: number): Place[] {
  return structOf(name).fields.flatMap((field) =>
    field.role === 'struct'
      ? placesOf(field.type as Parameters<typeof structOf>[0], base + field.offset)
      : field.bytes <= 8
        ? [{ at: base + field.offset, bytes: field.bytes }]
        : [],
  );
}

export const headerPlaces = (isRequest: boolean): readonly Place[] => (isRequest ? HEADER_PLACES : REPLY_PLACES);
