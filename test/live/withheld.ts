/**
 * A filesystem that shows the test each request and answers READ and WRITE only when the test says so, with what the
 * test says. It serves from this thread, or from worker threads through test/fixtures/forward.mjs: then each request
 * travels to this thread and its answer back, so that a test is written once for both.
 */

import { constants } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { BroadcastChannel } from 'node:worker_threads';
import { expect } from 'vitest';
import type { AttributesReply, Entry, Filesystem, OpenReply } from '../../src/filesystem/filesystem.ts';
import { fileHandle, type NodeId, nodeId } from '../../src/filesystem/identity.ts';
import { FIXTURES } from './harness.ts';
import { fillPattern, patternMismatch } from './pattern.ts';

/** Seconds: attributes and names stay cached for the length of a test, as in configuration C. */
const TTL = 1000;
/** Milliseconds within which a worker has handed an answer to the kernel. */
const LEFT_MS = 50;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;

export interface FileSpec {
  name: string;
  /** Bytes that the file has at first. */
  size: number;
  /** What open answers, apart from the handle. Asked at each open, so that a test may change it. */
  open?: OpenReply;
}

export interface WithheldFile {
  readonly node: NodeId;
  size: number;
  open: OpenReply;
}

/** One request as the filesystem saw it. Fields that the operation does not have are absent. */
export interface Seen {
  operation: string;
  node: number;
  /** Which worker received it; 0 on this thread. */
  worker: number;
  uid: number;
  handle?: number;
  offset?: number;
  size?: number;
  flags?: number;
  valid?: number;
  writeFlags?: number;
}

/** A READ or WRITE that waits for its answer. */
export interface Pending extends Seen {
  operation: 'READ' | 'WRITE';
  offset: number;
  size: number;
  /** Of a WRITE: the file offset of the first byte that is not the pattern, or -1. */
  mismatch: () => number;
  settle: (outcome: Outcome) => Promise<void>;
}

/** How a pending request ends: with so many bytes, or with an errno. */
export type Outcome = { bytes: number } | { errno: string };

/** What crosses between a worker and this thread; see test/fixtures/forward.mjs. */
interface ForwardedRequest {
  kind: 'request';
  id: string;
  seen: Seen;
  name?: string;
  data?: Uint8Array;
}

function failure(name: string): Error & { code: string; errno: number } {
  return Object.assign(new Error(name), { code: name, errno: -constants.errno[name as keyof typeof constants.errno] });
}

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

export class Withheld {
  /** Every request in the order of arrival. */
  readonly requests: Seen[] = [];
  /** Reads and writes without answer, in the order of arrival. */
  pending: Pending[] = [];
  /** Answers at once when set. */
  open = false;
  readonly #files = new Map<string, WithheldFile>();
  readonly #byNode = new Map<number, WithheldFile>();
  #handles = 0;
  #channel: BroadcastChannel | undefined;
  readonly #acknowledged = new Map<string, () => void>();

  constructor(files: readonly FileSpec[]) {
    for (const spec of files) {
      const file = { node: nodeId(2 + this.#files.size), size: spec.size, open: spec.open ?? {} };
      this.#files.set(spec.name, file);
      this.#byNode.set(file.node, file);
    }
  }

  file(name: string): WithheldFile {
    const file = this.#files.get(name);
    if (file === undefined) throw new Error(`the test has no file ${name}`);
    return file;
  }

  // --- what a test asks for ----------------------------------------------------------------------------------------

  /** The requests of one operation. */
  seen(operation: string): Seen[] {
    return this.requests.filter((request) => request.operation === operation);
  }

  /** Offset and size of what is pending. */
  pendingPieces(): [number, number][] {
    return this.pending.map((request) => [request.offset, request.size]);
  }

  /** Waits until so many are pending, then makes sure that it stays so for `settleMs`. */
  async pendingIs(count: number, settleMs = 120, timeoutMs = 5000): Promise<Pending[]> {
    const limit = performance.now() + timeoutMs;
    while (this.pending.length < count && performance.now() < limit) await sleep(2);
    await sleep(settleMs);
    expect(this.pending.length, `in flight: ${JSON.stringify(this.pendingPieces())}`).toBe(count);
    return [...this.pending];
  }

  /** Answers one pending request in full; with `outcome`, as it says. Resolves when the reply has left the filesystem. */
  async answer(request: Pending, outcome: Outcome = { bytes: request.size }): Promise<void> {
    this.pending = this.pending.filter((other) => other !== request);
    await request.settle(outcome);
  }

  /** Answers these one after the other. */
  async answerAll(requests: readonly Pending[] = this.pending): Promise<void> {
    for (const request of [...requests]) await this.answer(request);
  }

  /** Answers one request after the other in full as they come, each time with exactly `count` in flight, until `total` are done. */
  async answerOneByOne(total: number, count = 1): Promise<[number, number][]> {
    const order: [number, number][] = [];
    for (let done = 0; done < total; done++) {
      const [first] = await this.pendingIs(Math.min(count, total - done), 40);
      order.push([first.offset, first.size]);
      await this.answer(first);
    }
    return order;
  }

  /** From now on everything is answered at once, also what waits. For the end of a test. */
  letGo(): void {
    this.open = true;
    for (const request of [...this.pending]) void this.answer(request);
  }

  close(): void {
    this.#channel?.close();
    this.#channel = undefined;
  }

  // --- serving from this thread ------------------------------------------------------------------------------------

  /** The filesystem, for mount() without workers. */
  filesystem(): Filesystem {
    return {
      settings: { entryTtl: TTL, attributeTtl: TTL },
      lookup: (parent, name, request) => {
        this.requests.push({ operation: 'LOOKUP', node: parent, worker: 0, uid: request.uid });
        return this.#entry(name);
      },
      getattr: (node, request) => {
        this.requests.push({ operation: 'GETATTR', node, worker: 0, uid: request.uid });
        return this.#attributes(node);
      },
      setattr: (node, request) => {
        const { uid, valid, size, handle } = request;
        return this.#setattr({ operation: 'SETATTR', node, worker: 0, uid, valid, ...defined({ size, handle }) });
      },
      open: (node, request) => this.#open({ operation: 'OPEN', node, worker: 0, uid: request.uid, flags: request.flags }),
      read: (node, request) => {
        const { uid, handle, offset, size, flags } = request;
        // The reply's own memory is filled at the time of the answer: it must stay this request's until then.
        const payload = request.payload();
        return new Promise<number>((resolve, reject) => {
          this.#withhold({ operation: 'READ', node, worker: 0, uid, handle, offset, size, flags }, undefined, async (outcome) => {
            if ('errno' in outcome) {
              reject(failure(outcome.errno));
            } else {
              fillPattern(payload.subarray(0, outcome.bytes), offset);
              resolve(outcome.bytes);
            }
            await nextTurn();
          });
        });
      },
      write: (node, data, request) => {
        const { uid, handle, offset, size, flags, writeFlags } = request;
        const seen: Seen = { operation: 'WRITE', node, worker: 0, uid, handle, offset, size, flags, writeFlags };
        return new Promise<number>((resolve, reject) => {
          this.#withhold(seen, data, async (outcome) => {
            if ('errno' in outcome) reject(failure(outcome.errno));
            else resolve(outcome.bytes);
            await nextTurn();
          });
        });
      },
      release: (node, request) => {
        this.requests.push({ operation: 'RELEASE', node, worker: 0, uid: request.uid, handle: request.handle });
      },
      forget: () => {},
    };
  }

  // --- serving from workers ----------------------------------------------------------------------------------------

  /** The module, for mount() with workers. */
  module(): { module: URL; options: { channel: string; ttl: number } } {
    const name = `fusewire-withheld-${process.pid}-${Math.random().toString(36).slice(2)}`;
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = (event) => {
      const message = (event as { data: ForwardedRequest | { kind: 'left'; id: string } | { kind: string } }).data;
      if (message.kind === 'request') void this.#forwarded(message as ForwardedRequest);
      else if (message.kind === 'left') this.#acknowledged.get((message as { id: string }).id)?.();
    };
    this.#channel.unref();
    return { module: pathToFileURL(join(FIXTURES, 'forward.mjs')), options: { channel: name, ttl: TTL } };
  }

  async #forwarded({ id, seen, name, data }: ForwardedRequest): Promise<void> {
    const reply = (value: unknown) => this.#channel?.postMessage({ kind: 'answer', id, value });
    const refuse = (errno: string) => this.#channel?.postMessage({ kind: 'failure', id, errno });
    try {
      if (seen.operation === 'READ' || seen.operation === 'WRITE') {
        this.#withhold(seen, data, async (outcome) => {
          const left = new Promise<void>((resolve) => this.#acknowledged.set(id, resolve));
          if ('errno' in outcome) refuse(outcome.errno);
          else if (seen.operation === 'WRITE') reply(outcome.bytes);
          else {
            const bytes = new Uint8Array(outcome.bytes);
            fillPattern(bytes, seen.offset ?? 0);
            reply(bytes);
          }
          // A blocking worker without anything pending sleeps in the kernel, where it went with the reply, and tells nothing.
          await Promise.race([left, sleep(LEFT_MS)]);
          this.#acknowledged.delete(id);
        });
      } else if (seen.operation === 'SETATTR') reply(this.#setattr(seen));
      else if (seen.operation === 'OPEN') reply(this.#open(seen));
      else {
        this.requests.push(seen);
        if (seen.operation === 'LOOKUP') reply(this.#entry(name ?? ''));
        else if (seen.operation === 'GETATTR') reply(this.#attributes(seen.node));
        else reply(undefined);
      }
    } catch (error) {
      refuse((error as { code?: string }).code ?? 'EIO');
    }
  }

  // --- what both share ---------------------------------------------------------------------------------------------

  #withhold(seen: Seen, data: Uint8Array | undefined, settle: (outcome: Outcome) => Promise<void>): void {
    this.requests.push(seen);
    const file = this.#byNode.get(seen.node);
    const offset = seen.offset ?? 0;
    const end = offset + (seen.size ?? 0);
    const pending: Pending = {
      ...seen,
      operation: seen.operation as 'READ' | 'WRITE',
      offset,
      size: seen.size ?? 0,
      mismatch: () => (data === undefined ? -1 : patternMismatch(data, offset)),
      settle: async (outcome) => {
        let result = outcome;
        if (file !== undefined && 'bytes' in outcome) {
          // A read cannot go past the end of the file; a write moves the end.
          if (seen.operation === 'READ') result = { bytes: Math.max(0, Math.min(outcome.bytes, file.size - offset)) };
          else file.size = Math.max(file.size, Math.min(end, offset + outcome.bytes));
        }
        await settle(result);
      },
    };
    if (this.open) void pending.settle({ bytes: pending.size });
    else this.pending.push(pending);
  }

  #entry(name: string): Entry {
    const file = this.#files.get(name);
    if (file === undefined) throw failure('ENOENT');
    return { node: file.node, ...this.#attributes(file.node) };
  }

  #attributes(node: number): AttributesReply {
    const file = this.#byNode.get(node);
    if (file === undefined) return { attributes: { mode: S_IFDIR | 0o755, nlink: 2 } };
    return { attributes: { mode: S_IFREG | 0o666, size: file.size } };
  }

  #setattr(seen: Seen): AttributesReply {
    this.requests.push(seen);
    const file = this.#byNode.get(seen.node);
    if (file !== undefined && seen.size !== undefined) file.size = seen.size;
    return this.#attributes(seen.node);
  }

  #open(seen: Seen): OpenReply {
    const handle = fileHandle(++this.#handles);
    this.requests.push({ ...seen, handle });
    return { handle, ...this.#byNode.get(seen.node)?.open };
  }
}

/** The entries that are not undefined. */
function defined<T extends Record<string, number | undefined>>(fields: T): { [Key in keyof T]?: number } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as { [Key in keyof T]?: number };
}
