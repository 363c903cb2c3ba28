/** The decoders: exact messages, fast structs, records, and the connection that follows a stream of messages. */
import * as protocol from '../../src/protocol/index.ts';
import {
  Connection,
  type DecodeFailure,
  decodeExtensions,
  decodeIoctl,
  decodeNotification,
  decodeReply,
  decodeRequest,
  encodeExtensions,
  encodeMessage,
  type Message,
  opcodeRow,
  type PlacedStruct,
  readDirentplus,
  readDirents,
  STRUCTS,
  type StructName,
} from '../../src/protocol/index.ts';
import {
  AGREEMENTS,
  FRAME_IOCTL,
  FRAME_NOTIFICATION,
  FRAME_REPLY,
  FRAME_REQUEST,
  type Frame,
  messageOf,
  newFrame,
  putWord,
  wordAt,
} from './frame.ts';
import type { Random } from './random.ts';
import type { Seeds } from './seeds.ts';
import { allSeeds, Finding, mutations, Poisoned, type Target } from './target.ts';

const MESSAGE_BYTES_MAX = 8192;

function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  if (one.length !== other.length) return false;
  for (let at = 0; at < one.length; at++) if (one[at] !== other[at]) return false;
  return true;
}

// --- exact messages -------------------------------------------------------------------------------------------------------

/** Decodes the message of a frame as what the frame says that it is. Undefined: nobody could have asked for that reply. */
function decode(frame: Frame, bytes: Uint8Array): Message | DecodeFailure | undefined {
  const agreed = AGREEMENTS[frame[2]! % AGREEMENTS.length]!;
  switch (frame[0]! % 4) {
    case FRAME_REQUEST:
      return decodeRequest(bytes, agreed);
    case FRAME_REPLY: {
      const row = opcodeRow(frame[1]!);
      if (row === undefined) return undefined;
      return decodeReply(bytes, agreed, { opcode: row.name, size: wordAt(frame, 4) });
    }
    case FRAME_NOTIFICATION:
      return decodeNotification(bytes);
    default:
      return decodeIoctl(wordAt(frame, 4), bytes);
  }
}

/** Whether two outcomes are the same, as far as an outcome can tell without being encoded. */
function sameOutcome(one: Message | DecodeFailure, other: Message | DecodeFailure): boolean {
  if (one.kind !== 'failure' || other.kind !== 'failure') return one.kind === other.kind;
  return one.code === other.code && one.at === other.at && one.message === other.message;
}

function messagesTarget(seeds: Seeds): Target {
  const memory = new Poisoned(MESSAGE_BYTES_MAX);
  const starts = allSeeds(seeds);
  return {
    name: 'messages',
    about: 'The exact decoders never throw and never look outside, and what they decode encodes to the same bytes.',
    caseFrames: 500,
    generate(random, count) {
      const frames = mutations(random, count, starts, random.below(4));
      for (const frame of frames) if (random.once(8)) frame[2] = random.below(AGREEMENTS.length);
      return frames;
    },
    check(frames) {
      frames.forEach((frame, index) => {
        const message = messageOf(frame);
        const outcome = decode(frame, memory.place(message, 0xff));
        if (outcome === undefined) return;
        if (outcome.kind === 'failure') {
          if (outcome.at < 0 || outcome.at > message.length || outcome.message.length < 10)
            throw new Finding('failure', `${outcome.code} at ${outcome.at} of ${message.length}: ${outcome.message}`, index);
        } else if (!sameBytes(encodeMessage(outcome), message))
          throw new Finding('encode', `a ${outcome.kind} encodes to other bytes than it was decoded from`, index);
        const again = decode(frame, memory.place(message, 0));
        if (!sameOutcome(outcome, again!)) throw new Finding('outside', 'what lies behind the message makes a difference', index);
      });
    },
  };
}

// --- fast codecs ----------------------------------------------------------------------------------------------------------

type Fields = { [field: string]: number | Fields };

interface Codec {
  readonly struct: PlacedStruct<StructName>;
  readonly one: Fields;
  readonly other: Fields;
  readonly sizes: readonly number[];
  decode(words: Uint32Array, at: number, out: Fields, size?: number): void;
  encode(words: Uint32Array, at: number, value: Fields, size?: number): void;
}

const exported = protocol as unknown as Record<string, never>;

function codecOf(struct: PlacedStruct<StructName>): Codec | undefined {
  const pascal = struct.name.replace(/^fuse_/, '').replace(/(?:^|_)([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
  const create = exported[`new${pascal}`] as (() => Fields) | undefined;
  if (create === undefined) return undefined;
  const steps = struct.row.growth?.steps.map(([, bytes]) => bytes).filter((bytes) => bytes > 0) ?? [];
  return {
    struct,
    one: create(),
    other: create(),
    sizes: steps.length > 0 ? steps : [struct.bytes],
    decode: exported[`decode${pascal}`] as Codec['decode'],
    encode: exported[`encode${pascal}`] as Codec['encode'],
  };
}

/** Whether every number is one that the codec can write back: a safe integer, or the end of a lock. */
function isExact(fields: Fields): boolean {
  for (const value of Object.values(fields)) {
    if (typeof value === 'object' ? !isExact(value) : !Number.isSafeInteger(value) && value !== Number.POSITIVE_INFINITY)
      return false;
  }
  return true;
}

function sameFields(one: Fields, other: Fields): boolean {
  for (const [name, value] of Object.entries(one)) {
    const against = other[name];
    if (typeof value === 'object' ? !sameFields(value, against as Fields) : !Object.is(value, against)) return false;
  }
  return true;
}

function codecsTarget(seeds: Seeds): Target {
  const memory = new Poisoned(MESSAGE_BYTES_MAX);
  const codecs = STRUCTS.map(codecOf).filter((codec) => codec !== undefined);
  const starts = allSeeds(seeds);
  const written = new Uint32Array(512);
  return {
    name: 'codecs',
    about: 'The fast decoders look at their struct alone, and what they decode they encode and decode the same again.',
    caseFrames: 500,
    generate(random, count) {
      const frames = mutations(random, count, starts);
      for (const frame of frames) frame[2] = random.below(codecs.length);
      return frames;
    },
    check(frames) {
      const { words } = memory;
      frames.forEach((frame, index) => {
        const codec = codecs[frame[2]! % codecs.length]!;
        const size = codec.sizes[frame[3]! % codec.sizes.length]!;
        const message = messageOf(frame).subarray(0, size);
        if (message.length < size) return;
        memory.place(message, 0xff);
        codec.decode(words, 0, codec.one, size);
        memory.place(message, 0);
        codec.decode(words, 0, codec.other, size);
        if (!sameFields(codec.one, codec.other))
          throw new Finding('outside', `decoding ${size} bytes of ${codec.struct.name} looks behind them`, index);
        if (!isExact(codec.one)) return;
        written.fill(0xa5a5_a5a5, 0, size / 4 + 8);
        codec.encode(written, 0, codec.one, size);
        if (written[size / 4] !== 0xa5a5_a5a5)
          throw new Finding('encode-outside', `encoding ${size} bytes of ${codec.struct.name} writes behind them`, index);
        codec.decode(written, 0, codec.other, size);
        if (!sameFields(codec.one, codec.other))
          throw new Finding('encode', `${codec.struct.name} is not the same after encoding`, index);
      });
    },
  };
}

// --- records --------------------------------------------------------------------------------------------------------------

/** What a reader of records made of its bytes, as text. */
function readRecords(kind: number, bytes: Uint8Array, from: number): string {
  if (kind === 0) {
    const found = decodeExtensions(bytes, from, bytes.length);
    if ('kind' in found) return `${found.code} ${found.at}`;
    const again = decodeExtensions(...wholeOf(encodeExtensions(found)));
    if ('kind' in again || again.groups.length !== found.groups.length) throw new Finding('encode', 'extensions do not encode');
    return `${found.groups.join()} ${found.securityContexts.map(({ name, value }) => `${name}=${value.join()}`).join(';')}`;
  }
  let text = '';
  const records = kind === 1 ? readDirents(bytes, from, bytes.length) : readDirentplus(bytes, from, bytes.length);
  for (;;) {
    const next = records.next();
    if (next.done) return `${text}${next.value?.code ?? 'end'} ${next.value?.at ?? ''}`;
    const { name, off_lo, ino_hi, type } = next.value;
    if (name === '' || name.includes('/')) throw new Finding('record', `a record has the name ${JSON.stringify(name)}`);
    text += `${name} ${off_lo} ${ino_hi} ${type} ${'entry' in next.value ? (next.value.entry as { nodeid: number }).nodeid : ''},`;
  }
}

const wholeOf = (bytes: Uint8Array): [Uint8Array, number, number] => [bytes, 0, bytes.length];

/** An extension area or a listing that is right, to start from. */
function recordSeed(random: Random, kind: number): Uint8Array {
  if (kind === 0) {
    const groups = Array.from({ length: random.below(6) }, () => random.word());
    const value = new Uint8Array(random.below(20)).fill(0x73);
    return encodeExtensions({ groups, securityContexts: random.once(2) ? [{ name: 'security.selinux', value }] : undefined });
  }
  const fixed = kind === 1 ? 24 : 152;
  const bytes = new Uint8Array(1024);
  let at = 0;
  for (let index = 0; index < 1 + random.below(5); index++) {
    const nameBytes = 1 + random.below(12);
    putWord(bytes, at + fixed - 24, index + 2);
    putWord(bytes, at + fixed - 16, index + 1);
    putWord(bytes, at + fixed - 8, nameBytes);
    putWord(bytes, at + fixed - 4, 8);
    bytes.fill(0x61 + index, at + fixed, at + fixed + nameBytes);
    at += (fixed + nameBytes + 7) & ~7;
  }
  return bytes.slice(0, at);
}

function recordsTarget(): Target {
  const memory = new Poisoned(MESSAGE_BYTES_MAX);
  return {
    name: 'records',
    about: 'Readers of extension areas and directory records never throw, never look outside, and yield names only.',
    caseFrames: 500,
    generate(random, count) {
      const starts = Array.from({ length: 48 }, (_, index) =>
        newFrame(FRAME_NOTIFICATION, recordSeed(random, index % 3), { variant: index % 3 }),
      );
      return mutations(random, count, starts, FRAME_NOTIFICATION);
    },
    check(frames) {
      frames.forEach((frame, index) => {
        const kind = frame[2]! % 3;
        const message = messageOf(frame);
        const one = readRecords(kind, memory.place(message, 0xff), 0);
        const other = readRecords(kind, memory.place(message, 0), 0);
        if (one !== other) throw new Finding('outside', 'what lies behind the records makes a difference', index);
      });
    },
  };
}

// --- connection -----------------------------------------------------------------------------------------------------------

function connectionTarget(seeds: Seeds): Target {
  const pendingMax = 64;
  const starts = allSeeds(seeds);
  return {
    name: 'connection',
    about: 'Following a stream of broken messages never throws, and remembers no more requests than it may.',
    caseFrames: 200,
    generate(random, count) {
      const frames = mutations(random, count, starts, random.below(4));
      // Replies find a request now and then.
      let last: Frame | undefined;
      for (const frame of frames) {
        if (frame[0] === FRAME_REQUEST) last = frame;
        else if (frame[0] === FRAME_REPLY && last !== undefined && last.length >= 24 && frame.length >= 24 && !random.once(3))
          frame.set(last.subarray(16, 24), 16);
      }
      return frames;
    },
    check(frames) {
      const connection = new Connection({ pendingMax });
      frames.forEach((frame, index) => {
        const message = messageOf(frame);
        const kind = frame[0]! % 4;
        if (kind === FRAME_REQUEST) connection.incoming(message);
        else if (kind === FRAME_IOCTL) connection.ioctl(wordAt(frame, 4), message);
        else followReply(connection, message, index, frame[3] === 1);
        if (connection.pendingCount > pendingMax) throw new Finding('pending', 'too many requests are remembered', index);
      });
    },
  };
}

function followReply(connection: Connection, message: Uint8Array, index: number, refused: boolean): void {
  const outcome = connection.outgoing(message, refused);
  if (outcome.kind === 'failure') return;
  if (!sameBytes(encodeMessage(outcome), message)) throw new Finding('encode', `a ${outcome.kind} encodes to other bytes`, index);
}

/** All of this file. */
export function decoderTargets(seeds: Seeds): Target[] {
  return [messagesTarget(seeds), codecsTarget(seeds), recordsTarget(), connectionTarget(seeds)];
}
