/** What the codec benchmark measures: each case handles `count` requests per call. */
import type { AttributesReply, Entry, Filesystem, NodeId, ReadRequest } from 'fusewire';
import {
  ATTR_OUT_SIZE,
  decodeInHeader,
  decodeReadIn,
  ENTRY_OUT_SIZE,
  encodeGetattrIn,
  encodeReadIn,
  encodeUtf8,
  encodeWriteIn,
  FUSE_GETATTR,
  FUSE_LOOKUP,
  FUSE_READ,
  FUSE_WRITE,
  GETATTR_IN_SIZE,
  IN_HEADER_SIZE,
  newGetattrIn,
  newInHeader,
  newReadIn,
  newWriteIn,
  READ_IN_SIZE,
  WRITE_IN_SIZE,
  WRITE_OUT_SIZE,
} from 'fusewire/protocol';
import { BenchKernel, type Prepared, prepare } from './kernel.ts';

export interface Case {
  name: string;
  /** Nanoseconds that the median must stay under, where there is a goal. */
  goalNs?: number;
  run(count: number): void | Promise<void>;
  close(): void;
}

const PAYLOAD_BYTES = 4096;
const FILE = 2;
const NAME = 'a-name-of-20-letters';

function readRequest(): Prepared {
  const read = { ...newReadIn(), fh: 7, offset: 1 << 20, size: PAYLOAD_BYTES, flags: 0x4000 };
  const request = { opcode: FUSE_READ, nodeid: FILE, bodyBytes: READ_IN_SIZE, replyBodyBytes: PAYLOAD_BYTES };
  return prepare(request, (words, _, at) => encodeReadIn(words, at, read));
}

function writeRequest(): Prepared {
  const write = { ...newWriteIn(), fh: 7, offset: 1 << 20, size: PAYLOAD_BYTES, flags: 0x4000 };
  const sizes = { bodyBytes: WRITE_IN_SIZE, payloadBytes: PAYLOAD_BYTES, replyBodyBytes: WRITE_OUT_SIZE };
  return prepare({ opcode: FUSE_WRITE, nodeid: FILE, ...sizes }, (words, _, at) => encodeWriteIn(words, at, write));
}

function lookupRequest(): Prepared {
  const request = { opcode: FUSE_LOOKUP, nodeid: 1, bodyBytes: NAME.length + 1, replyBodyBytes: ENTRY_OUT_SIZE };
  return prepare(request, (_, bytes, at) => encodeUtf8(bytes, at * 4, NAME));
}

function getattrRequest(): Prepared {
  const request = { opcode: FUSE_GETATTR, nodeid: FILE, bodyBytes: GETATTR_IN_SIZE, replyBodyBytes: ATTR_OUT_SIZE };
  return prepare(request, (words, _, at) => encodeGetattrIn(words, at, newGetattrIn()));
}

/** The wire layer alone. */
function decodeOnly(): Case {
  const { words } = readRequest();
  const header = newInHeader();
  const read = newReadIn();
  let seen = 0;
  return {
    name: 'decode InHeader and ReadIn',
    run(count) {
      for (let index = 0; index < count; index++) {
        words[2] = index;
        decodeInHeader(words, 0, header);
        decodeReadIn(words, IN_HEADER_SIZE / 4, read);
        seen = (seen ^ header.unique_lo ^ read.size) & 0xffff;
      }
      // Used, so that no compiler may leave the loop out.
      if (seen < 0) throw new Error('bits of a mask are never negative');
    },
    close() {},
  };
}

const attributes = { mode: 0o100644, size: 1 << 30, uid: 1000, gid: 1000, mtime: { seconds: 1_700_000_000, nanoseconds: 5 } };
const entry: Entry = { node: FILE as NodeId, attributes };
const attributesReply: AttributesReply = { attributes };

/** A session around a filesystem that does nothing: what remains is ours. */
function throughSession(name: string, filesystem: Filesystem, prepared: Prepared, goalNs?: number): Case {
  const kernel = new BenchKernel(filesystem);
  return {
    name,
    ...(goalNs === undefined ? {} : { goalNs }),
    run(count) {
      for (let index = 0; index < count; index++) kernel.send(prepared);
      kernel.assertAnswered(count);
    },
    close: () => kernel.close(),
  };
}

const IN_FLIGHT = 32;

/** Answered by promises, so many requests in flight. */
function byPromise(name: string, filesystem: Filesystem, prepared: Prepared): Case {
  const kernel = new BenchKernel(filesystem);
  return {
    name,
    async run(count) {
      for (let sent = 0; sent < count; sent += IN_FLIGHT) {
        for (let index = 0; index < IN_FLIGHT; index++) kernel.send(prepared);
        while (kernel.answers < sent + IN_FLIGHT) await undefined;
      }
      kernel.assertAnswered(Math.ceil(count / IN_FLIGHT) * IN_FLIGHT);
    },
    close: () => kernel.close(),
  };
}

/** Takes the reply's memory and leaves its contents: how fast bytes are copied is the machine's affair. */
function fillInPlace(request: ReadRequest): number {
  return request.payload().length;
}

export function codecCases(): Case[] {
  const data = new Uint8Array(PAYLOAD_BYTES);
  return [
    decodeOnly(),
    throughSession('READ 4 KiB, payload filled in place', { read: (_, request) => fillInPlace(request) }, readRequest(), 1000),
    throughSession('READ 4 KiB, bytes handed over', { read: () => data }, readRequest()),
    byPromise('READ 4 KiB, by a promise, 32 in flight', { read: async (_, request) => fillInPlace(request) }, readRequest()),
    throughSession('WRITE 4 KiB', { write: () => {} }, writeRequest()),
    throughSession('LOOKUP, a name of 20 bytes', { lookup: () => entry }, lookupRequest()),
    throughSession('GETATTR', { getattr: () => attributesReply }, getattrRequest()),
  ];
}
