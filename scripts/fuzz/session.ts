/**
 * The session, with several filesystems, over the in-memory channel: the kernel's half here breaks every rule of what it
 * sends, and checks every rule of what comes back.
 */
import { MemoryFilesystem } from '../../examples/memory/filesystem.ts';
import { type Filesystem, operationsOf } from '../../src/filesystem/index.ts';
import {
  decodeNotification,
  decodeReply,
  encodeInitFlags,
  INIT_FLAGS,
  MINOR_OF,
  OPCODES,
  opcodeNamed,
  opcodeRow,
  structOf,
} from '../../src/protocol/index.ts';
import { Session } from '../../src/session/index.ts';
import { type Channel, type ChannelHandler, type MemoryPair, type MessageBuffer, memoryPair } from '../../src/transport/index.ts';
import { byPaths, Digest, hostile, Later, promises, recorder } from './filesystems.ts';
import {
  FRAME_HEAD,
  FRAME_REFUSE,
  FRAME_REQUEST,
  FRAME_TURN,
  type Frame,
  messageOf,
  newFrame,
  putWord,
  wordAt,
} from './frame.ts';
import { Mutator } from './mutate.ts';
import { Random } from './random.ts';
import { type Seeds, wellFormed } from './seeds.ts';
import { Finding, type Target } from './target.ts';

const IN_HEADER = 40;
/** Bytes behind a message that are overwritten: longer than any struct. */
const POISON_BYTES = 256;
const codeOf = (name: Parameters<typeof opcodeNamed>[0]): number => opcodeNamed(name).value;
const OPCODE_INIT = codeOf('INIT');
const OPCODE_INTERRUPT = codeOf('INTERRUPT');
const ENOENT = 2;

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Counts what a session borrows from its channel: at the end everything has been given back. */
class CountingChannel implements Channel {
  readonly kind = 'memory';
  readonly receiveBytesMax: number;
  readonly #inner: Channel;
  /** Reply buffers out, and messages kept. */
  lent = 0;
  kept = 0;

  constructor(inner: Channel) {
    this.#inner = inner;
    this.receiveBytesMax = inner.receiveBytesMax;
  }

  open(handler: ChannelHandler): void {
    this.#inner.open(handler);
  }

  acquire(length: number): MessageBuffer {
    if (!Number.isSafeInteger(length) || length < 16 || length > this.receiveBytesMax + (64 << 20))
      throw new Finding('acquire', `a reply of ${length} bytes was asked for`);
    const buffer = this.#inner.acquire(length);
    this.lent++;
    return buffer;
  }

  discard(buffer: MessageBuffer): void {
    this.lent--;
    this.#inner.discard(buffer);
  }

  send(buffer: MessageBuffer, length: number): number {
    this.lent--;
    return this.#inner.send(buffer, length);
  }

  sendParts(buffer: MessageBuffer, length: number, parts: readonly Uint8Array[]): number {
    this.lent--;
    return this.#inner.sendParts(buffer, length, parts);
  }

  keep(buffer: MessageBuffer): void {
    this.kept++;
    this.#inner.keep(buffer);
  }

  release(buffer: MessageBuffer): void {
    this.kept--;
    this.#inner.release(buffer);
  }

  setPending(count: number): void {
    this.#inner.setPending(count);
  }

  close(): void {
    this.#inner.close();
  }
}

interface Asked {
  readonly opcode: number;
  readonly size: number | undefined;
}

/** What waits under one number. Several requests under one are none of a kernel's: any of their answers will do. */
interface Waiting {
  readonly candidates: Asked[];
  count: number;
}

/** By opcode: where in a request stands how much tail its reply may have. */
const limits = new Map(
  OPCODES.flatMap(({ value, request, reply }) => {
    const field =
      request.struct === undefined ? undefined : structOf(request.struct).fields.find(({ name }) => name === reply.limitedBy);
    return field === undefined ? [] : [[value, IN_HEADER + field.offset] as const];
  }),
);

/** One session, and the kernel that sends to it. */
class Bed {
  readonly #pair: MemoryPair;
  readonly #channel: CountingChannel;
  readonly #session: Session;
  readonly #asked = new Map<string, Waiting>();
  readonly #poison: number;
  readonly #later: Later;
  readonly #digest: Digest;
  #refuseNext = 0;
  #failure: unknown;
  #frame: number | undefined;

  constructor(filesystem: Filesystem, later: Later, digest: Digest, poison: number) {
    this.#digest = digest;
    this.#poison = poison;
    this.#later = later;
    const onFault = (error: unknown): void => {
      this.#failure ??= error;
    };
    this.#pair = memoryPair(
      { onReply: (buffer, length) => this.#onReply(buffer, length) },
      { buffersMax: 100_000, onFault, cacheBytes: 1 << 20 },
    );
    this.#channel = new CountingChannel(this.#pair.daemon);
    this.#session = new Session(this.#channel, operationsOf(filesystem));
  }

  open(): void {
    this.#session.open();
  }

  async start(minor: number): Promise<void> {
    const init = messageOf(wellFormed(opcodeNamed('INIT')));
    const { flags, flags2 } = encodeInitFlags(INIT_FLAGS.map(({ name }) => name));
    putWord(init, 40, 7);
    putWord(init, 44, minor);
    putWord(init, 48, 1 << 17);
    putWord(init, 52, flags);
    putWord(init, 56, minor < MINOR_OF.initInHasSecondFlags ? 0 : flags2);
    this.send(init);
    await this.#settle();
  }

  /** What went wrong since the last call. */
  throwFailure(frame?: number): void {
    this.#failure ??= this.#digest.finding;
    if (this.#failure === undefined) return;
    throw this.#failure instanceof Error ? this.#failure : new Finding('thrown', `${String(this.#failure)} was thrown`, frame);
  }

  refuseNext(errno: number): void {
    this.#refuseNext = errno;
  }

  send(message: Uint8Array, frame?: number): void {
    this.#frame = frame;
    const { length } = message;
    const buffer = this.#pair.kernel.acquire(Math.max(length, 8));
    buffer.bytes.set(message);
    buffer.bytes.fill(this.#poison, length, length + POISON_BYTES);
    this.#expect(message);
    this.#pair.kernel.submit(buffer, length);
    this.throwFailure(frame);
  }

  /** Notes that an answer must come, where one must. */
  #expect(message: Uint8Array): void {
    if (message.length < 16) return;
    const opcode = wordAt(message, 4);
    const isWhole = message.length >= IN_HEADER;
    if (isWhole && opcodeRow(opcode)?.hasReply === false) return;
    const limitAt = limits.get(opcode);
    const size = limitAt === undefined || limitAt + 4 > message.length ? undefined : wordAt(message, limitAt);
    const key = `${wordAt(message, 12)} ${wordAt(message, 8)}`;
    const waiting = this.#asked.get(key);
    if (waiting === undefined) this.#asked.set(key, { candidates: [{ opcode, size }], count: 1 });
    else {
      waiting.candidates.push({ opcode, size });
      waiting.count++;
    }
  }

  #onReply(buffer: MessageBuffer, length: number): number {
    try {
      return this.#check(buffer.bytes.subarray(0, length));
    } catch (error) {
      this.#failure ??= error;
      return 0;
    }
  }

  #check(reply: Uint8Array): number {
    if (reply.length < 16) throw new Finding('short', `a reply has ${reply.length} bytes`, this.#frame);
    const error = wordAt(reply, 4) | 0;
    if (wordAt(reply, 0) !== reply.length)
      throw new Finding('length', `a reply of ${reply.length} bytes says it has ${wordAt(reply, 0)}`, this.#frame);
    const key = `${wordAt(reply, 12)} ${wordAt(reply, 8)}`;
    const waiting = this.#asked.get(key);
    if (key === '0 0' && error > 0) return this.#checkNotification(reply);
    if (waiting === undefined)
      throw new Finding('unasked', `an answer came for ${key}, which does not wait for one`, this.#frame);
    let wrong: string | undefined;
    for (const candidate of waiting.candidates) {
      wrong = fault(reply, candidate, this.#session);
      if (wrong === undefined) break;
    }
    if (wrong !== undefined) throw new Finding('reply', wrong, this.#frame);
    if (--waiting.count === 0) this.#asked.delete(key);
    const errno = this.#refuseNext;
    this.#refuseNext = 0;
    return -errno;
  }

  #checkNotification(message: Uint8Array): number {
    const outcome = decodeNotification(message);
    if (outcome.kind === 'failure') throw new Finding('notification', outcome.message, this.#frame);
    return 0;
  }

  /** Lets promises settle until nothing waits, as long as that may take. */
  async #settle(): Promise<void> {
    for (let turn = 0; turn < 12; turn++) {
      this.#later.turn();
      await nextTurn();
      if (this.#asked.size === 0 && turn > 2) return;
    }
  }

  async turn(frame?: number): Promise<void> {
    this.#later.turn();
    await nextTurn();
    this.throwFailure(frame);
  }

  /** Signals for whoever still waits: a lock that nobody gives up is waited for until then. */
  #interruptAll(): void {
    for (const key of [...this.#asked.keys()]) {
      const [high, low] = key.split(' ').map(Number);
      const interrupt = messageOf(wellFormed(opcodeNamed('INTERRUPT')));
      putWord(interrupt, 8, low! + 1);
      putWord(interrupt, 40, low!);
      putWord(interrupt, 44, high!);
      this.send(interrupt);
    }
  }

  async end(): Promise<void> {
    await this.#settle();
    this.throwFailure();
    if (this.#asked.size > 0) {
      this.#interruptAll();
      await this.#settle();
      this.throwFailure();
    }
    for (const [key, { candidates }] of this.#asked)
      throw new Finding(
        'unanswered',
        `${key} was never answered: ${candidates.map(({ opcode }) => opcodeRow(opcode)?.name ?? opcode).join(', ')}`,
      );
    const { pending } = this.#session.counters;
    if (pending !== 0) throw new Finding('pending', `${pending} requests are counted as pending, and all are answered`);
    this.#pair.kernel.close();
    let hasEnded = false;
    void this.#session.ended.then(() => {
      hasEnded = true;
    });
    for (let turn = 0; turn < 12 && !hasEnded; turn++) await this.turn();
    if (!hasEnded) throw new Finding('end', 'the session did not end');
    this.throwFailure();
    const { lent, kept } = this.#channel;
    if (lent !== 0 || kept !== 0) throw new Finding('leak', `${lent} reply buffers and ${kept} messages were not given back`);
  }
}

/** What is wrong with a reply to a request. */
function fault(reply: Uint8Array, asked: Asked, session: Session): string | undefined {
  const error = wordAt(reply, 4) | 0;
  if (error !== 0) {
    if (error < -511 || error > 0) return `an answer has the error ${error}`;
    return reply.length === 16 ? undefined : 'an error has a body';
  }
  const row = opcodeRow(asked.opcode);
  if (row === undefined) return `opcode ${asked.opcode} does not exist and succeeded`;
  if (asked.opcode === OPCODE_INIT) return undefined;
  const outcome = decodeReply(reply, session.negotiated, { opcode: row.name, size: asked.size });
  return outcome.kind === 'failure' ? `${row.name}: ${outcome.code}: ${outcome.message}` : undefined;
}

// --- frames -----------------------------------------------------------------------------------------------------------------

const FILESYSTEMS = ['memory', 'recorder', 'promises', 'hostile', 'paths', 'nothing'] as const;
const NAMES = ['a', 'b', 'c', 'dd', '.', '..', 'a', 'b', 'trusted.x', 'user.attr', 'x'.repeat(255)];

/** Requests that make sense now and then: small identities, few names, plausible sizes. */
class RequestMaker {
  readonly #random: Random;
  readonly #mutator: Mutator;
  readonly #seeds: Seeds;
  #unique = 2;

  constructor(random: Random, seeds: Seeds) {
    this.#random = random;
    this.#mutator = new Mutator(random);
    this.#seeds = seeds;
  }

  next(): Frame {
    const random = this.#random;
    const choice = random.below(40);
    if (choice === 0) return newFrame(FRAME_TURN, new Uint8Array(0));
    if (choice === 1) return newFrame(FRAME_REFUSE, new Uint8Array(0), { opcode: random.once(4) ? 22 : ENOENT });
    if (choice < 5) return this.#numbered(random.pick(this.#seeds.requests).slice());
    const frame = this.#numbered(this.#plausible());
    return random.once(2) ? frame : this.#mutator.mutate(frame, random.pick(this.#seeds.requests), 1 + random.below(3));
  }

  /** Its own number, even as those of the kernel are. */
  #numbered(frame: Frame): Frame {
    putWord(frame, FRAME_HEAD + 8, this.#unique);
    putWord(frame, FRAME_HEAD + 12, 0);
    if (this.#random.once(300)) putWord(frame, FRAME_HEAD + 12, 0x8000_0000);
    else this.#unique += 2;
    return frame;
  }

  #plausible(): Frame {
    const random = this.#random;
    const row = random.pick(OPCODES);
    const frame = wellFormed(row, random.once(4) ? random.below(600) : 16);
    const message = messageOf(frame);
    putWord(message, 16, random.once(3) ? 1 : 1 + random.below(30));
    putWord(message, 24, random.once(2) ? 0 : 1000);
    putWord(message, 28, random.once(2) ? 0 : 1000);
    if (row.value === OPCODE_INTERRUPT) {
      putWord(message, 40, Math.max(0, this.#unique - 2 * random.below(12)));
      return frame;
    }
    this.#fields(message, row);
    return row.request.names === 0 ? frame : this.#named(frame, row.request.names);
  }

  #fields(message: Uint8Array, row: (typeof OPCODES)[number]): void {
    const random = this.#random;
    if (row.request.struct === undefined) return;
    for (const field of structOf(row.request.struct).fields) {
      const at = IN_HEADER + field.offset;
      if (field.name === row.request.counted || field.role === 'padding' || field.bytes > 8 || at + field.bytes > message.length)
        continue;
      if (field.name === 'fh' || /^(newdir|oldnodeid|nodeid)/.test(field.name)) putWord(message, at, 1 + random.below(30));
      else if (field.name === 'size') putWord(message, at, random.below(9000));
      else if (field.name === 'mode') putWord(message, at, random.pick([0o100644, 0o040755, 0o120777, 0o10644, 0o4755]));
      else if (/^(off|offset|len|length)/.test(field.name)) putWord(message, at, random.below(20_000));
      else if (random.once(2)) putWord(message, at, random.below(4));
    }
  }

  /** The same with names of the pool at its end, and what stood behind the old ones. */
  #named(frame: Frame, count: number): Frame {
    const row = opcodeRow(wordAt(frame, FRAME_HEAD + 4))!;
    const structBytes = row.request.struct === undefined ? 0 : structOf(row.request.struct).bytes;
    const namesAt = FRAME_HEAD + IN_HEADER + structBytes;
    const names = Array.from({ length: count }, () => `${this.#random.pick(NAMES)}\0`).join('');
    const tail = frame.subarray(namesAt + count * 2);
    const named = new Uint8Array(namesAt + names.length + tail.length);
    named.set(frame.subarray(0, namesAt));
    for (let index = 0; index < names.length; index++) named[namesAt + index] = names.charCodeAt(index);
    named.set(tail, namesAt + names.length);
    putWord(named, FRAME_HEAD, named.length - FRAME_HEAD);
    return named;
  }
}

function bedsFor(name: (typeof FILESYSTEMS)[number], random: Random): { beds: Bed[]; digests: Digest[] } {
  const later = new Later();
  if (name === 'recorder') {
    const digests = [new Digest(), new Digest()];
    return { beds: digests.map((digest, index) => new Bed(recorder(digest), later, digest, index === 0 ? 0xff : 0)), digests };
  }
  const digest = new Digest();
  const filesystem =
    name === 'memory'
      ? new MemoryFilesystem({ size: 1 << 22, inodes: 200 })
      : name === 'promises'
        ? promises(random, later, digest)
        : name === 'hostile'
          ? hostile(random, later)
          : name === 'paths'
            ? byPaths(digest)
            : {};
  return { beds: [new Bed(filesystem, later, digest, 0xee)], digests: [] };
}

/** The frames of a case say which filesystem they are for, and which minor was agreed on: the first one's variant and fourth byte. */
async function checkSession(frames: readonly Frame[]): Promise<void> {
  const first = frames[0];
  if (first === undefined) return;
  const name = FILESYSTEMS[first[2]! % FILESYSTEMS.length]!;
  const { beds, digests } = bedsFor(name, new Random(first[3]!));
  for (const bed of beds) {
    bed.open();
    await bed.start(27 + (first[1]! % 19));
  }
  for (const [index, frame] of frames.entries()) {
    for (const bed of beds) {
      if (frame[0] === FRAME_TURN) await bed.turn(index);
      else if (frame[0] === FRAME_REFUSE) bed.refuseNext(frame[1]!);
      else bed.send(messageOf(frame), index);
    }
    if (digests.length === 2 && digests[0]!.value !== digests[1]!.value)
      throw new Finding('outside', 'what lies behind the message reaches a handler', index);
  }
  for (const bed of beds) await bed.end();
}

export function sessionTarget(seeds: Seeds): Target {
  return {
    name: 'session',
    about: 'Every request gets exactly one well-formed answer, whatever it is and whatever the filesystem does.',
    caseFrames: 1000,
    generate(random, count) {
      const maker = new RequestMaker(random, seeds);
      // The first says what the case is about.
      const head = newFrame(FRAME_TURN, new Uint8Array(0), {
        variant: random.below(FILESYSTEMS.length),
        opcode: random.once(2) ? 18 : random.below(19),
      });
      head[3] = random.below(256);
      return [head, ...Array.from({ length: Math.max(0, count - 1) }, () => maker.next())];
    },
    check: checkSession,
  };
}

// --- INIT -------------------------------------------------------------------------------------------------------------------

/** A session that has agreed on nothing yet gets one broken INIT, then a right one. */
async function checkInit(frames: readonly Frame[]): Promise<void> {
  for (const [index, frame] of frames.entries()) {
    const digest = new Digest();
    const bed = new Bed(frame[2]! % 2 === 0 ? {} : recorder(digest), new Later(), digest, 0xff);
    bed.open();
    bed.send(messageOf(frame), index);
    await bed.start(45);
    await bed.end();
  }
}

export function initTarget(): Target {
  const start = wellFormed(opcodeNamed('INIT'));
  putWord(start, FRAME_HEAD + 40, 7);
  putWord(start, FRAME_HEAD + 44, 45);
  putWord(start, FRAME_HEAD + 52, 0xffff_ffff);
  putWord(start, FRAME_HEAD + 56, 0xffff_ffff);
  return {
    name: 'init',
    about: 'A broken INIT is answered once, and harms nothing that follows.',
    caseFrames: 20,
    generate(random, count) {
      const mutator = new Mutator(random);
      return Array.from({ length: count }, () => {
        const frame = mutator.mutate(start, start, random.below(4));
        frame[0] = FRAME_REQUEST;
        frame[2] = random.below(2);
        if (random.once(3)) putWord(frame, FRAME_HEAD + 40, random.edge32(7));
        if (random.once(3)) putWord(frame, FRAME_HEAD + 44, random.below(100));
        return frame;
      });
    },
    check: checkInit,
  };
}
