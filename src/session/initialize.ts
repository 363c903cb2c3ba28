import { readSync, writeSync } from 'node:fs';
import type { Addon } from '../native/index.ts';
import {
  decodeInHeader,
  decodeInitIn,
  encodeInitOut,
  FUSE_INIT,
  FUSE_KERNEL_VERSION,
  INIT_OUT_SIZE,
  newInHeader,
  newInitIn,
  opcodeRow,
} from '../protocol/index.ts';
import type { Recorder } from '../transport/index.ts';
import { ERRNO } from './errors.ts';
import { BODY_WORD, IN_HEADER_BYTES, OUT_HEADER_BYTES, REPLY_WORD } from './exchange.ts';
import { type Capabilities, initReply, type Negotiated, NegotiationError, negotiate, type SessionSettings } from './negotiate.ts';

export interface InitializeOptions {
  capabilities: Capabilities;
  settings: SessionSettings;
  /** /proc/sys/fs/fuse/max_pages_limit; default 256. */
  pagesLimit?: number;
  /** How long to wait for the kernel's INIT once the descriptor is mounted, milliseconds. Default 10,000. */
  timeoutMs?: number;
  /**
   * Of a descriptor with synchronous INIT: whether it is mounted by now. Before that the kernel lets everybody sleep who touches it,
   * also in poll(2) (fuse_get_dev with FUSE_DEV_SYNC_INIT). Default: it is.
   */
  isAttached?: () => boolean;
  /** Ends the wait for INIT: the descriptor will not be mounted after all. */
  signal?: AbortSignal;
  /** Called with what was agreed, before the reply is written: requests can follow the instant it is. */
  beforeReply?: (negotiated: Negotiated) => void;
  /** Records the exchange. */
  recorder?: Recorder | undefined;
}

/** Bytes of the oldest INIT: major and minor. */
const INIT_BYTES_MIN = 8;
const POLLIN = 1;

/**
 * Answers INIT on a freshly mounted device descriptor, before anybody else reads it: a connection has one INIT, however
 * many sessions share it afterwards. Waits on the event loop, never in the kernel.
 *
 * With synchronous INIT the descriptor is not mounted yet: mount(2) waits on another thread until INIT is answered here.
 *
 * Rejects with {@link NegotiationError}; the kernel then fails every operation with ECONNREFUSED.
 */
export async function initializeDevice(addon: Addon, fd: number, options: InitializeOptions): Promise<Negotiated> {
  // FUSE_MIN_READ_BUFFER: INIT is 104 bytes, but the kernel refuses a smaller buffer.
  const memory = new ArrayBuffer(8192);
  const id = addon.registerBuffer(memory);
  const words = new Uint32Array(memory);
  const { timeoutMs = 10_000 } = options;
  let deadline = Date.now() + timeoutMs;
  try {
    for (;;) {
      const isAttached = options.isAttached?.() ?? true;
      if (!isAttached) deadline = Date.now() + timeoutMs;
      const length = isAttached ? receiveNow(addon, fd, id, memory.byteLength) : -ERRNO.EAGAIN;
      if (length === -ERRNO.EAGAIN || length === -ERRNO.EINTR || length === -ERRNO.ENOENT) {
        if (options.signal?.aborted) throw new NegotiationError('ERR_FUSEWIRE_INIT', 'nothing was mounted');
        if (Date.now() > deadline) throw new NegotiationError('ERR_FUSEWIRE_INIT', 'the kernel sent no INIT in time');
        await new Promise((resolve) => setTimeout(resolve, 1));
        continue;
      }
      if (length < 0) throw new NegotiationError('ERR_FUSEWIRE_INIT', `the device failed before INIT (errno ${-length})`);
      const { recorder } = options;
      const buffer = { bytes: new Uint8Array(memory), words, id };
      recorder?.received(buffer, length);
      const negotiated = answer(words, length, options);
      const repliedAt = recorder?.now() ?? 0;
      const result = addon.reply(fd, id, 0, OUT_HEADER_BYTES + INIT_OUT_SIZE);
      recorder?.sent(repliedAt, buffer, OUT_HEADER_BYTES + INIT_OUT_SIZE, result);
      if (result < 0) throw new NegotiationError('ERR_FUSEWIRE_INIT', `the kernel refused the INIT reply (errno ${-result})`);
      if (negotiated !== undefined) return negotiated;
    }
  } catch (error) {
    // The request still stands there, whatever its length: kernels before 7.6 send 8 bytes, and one to come may send more.
    if (words[1] === FUSE_INIT && words[0] >= IN_HEADER_BYTES + INIT_BYTES_MIN) {
      const repliedAt = options.recorder?.now() ?? 0;
      const result = refuse(addon, fd, id, words);
      options.recorder?.sent(repliedAt, { bytes: new Uint8Array(memory), words, id }, OUT_HEADER_BYTES, result);
    }
    throw error;
  } finally {
    addon.unregisterBuffer(id);
  }
}

/** Receives if there is something. */
function receiveNow(addon: Addon, fd: number, id: number, bytes: number): number {
  return addon.poll(fd, POLLIN, 0) > 0 ? addon.receive(fd, id, 0, bytes) : -ERRNO.EAGAIN;
}

/** Turns the INIT request in `words` into its reply. Undefined: the kernel was asked for our major version and comes again. */
function answer(words: Uint32Array, length: number, options: InitializeOptions): Negotiated | undefined {
  const header = newInHeader();
  decodeInHeader(words, 0, header);
  if (opcodeRow(header.opcode)?.name !== 'INIT') {
    throw new NegotiationError('ERR_FUSEWIRE_INIT', 'the descriptor is already in use: its first message is no INIT');
  }
  const init = newInitIn();
  decodeInitIn(words, BODY_WORD, init, length - IN_HEADER_BYTES);
  let negotiated: Negotiated | undefined;
  if (init.major <= FUSE_KERNEL_VERSION) negotiated = negotiate(init, options.capabilities, options.settings, options.pagesLimit);
  const { unique_lo, unique_hi } = header;
  words.fill(0, 0, (OUT_HEADER_BYTES + INIT_OUT_SIZE) / 4);
  words[0] = OUT_HEADER_BYTES + INIT_OUT_SIZE;
  words[2] = unique_lo;
  words[3] = unique_hi;
  if (negotiated === undefined) {
    words[REPLY_WORD] = FUSE_KERNEL_VERSION;
  } else {
    options.beforeReply?.(negotiated);
    encodeInitOut(words, REPLY_WORD, initReply(negotiated, options.settings.maxPages ?? negotiated.maxPages));
  }
  return negotiated;
}

/**
 * Answers the next request, if there is one, with an error: for a mounted descriptor that will never be served. By way of node:fs,
 * because in exit handlers the addon no longer receives (stopBlockedThreads).
 */
export function refuseNext(addon: Addon, fd: number): void {
  const message = new Uint8Array(8192);
  addon.setNonBlocking(fd, true);
  try {
    if (readSync(fd, message) < IN_HEADER_BYTES) return;
    const words = new Uint32Array(message.buffer);
    words[0] = OUT_HEADER_BYTES;
    words[1] = -ERRNO.EPROTO;
    writeSync(fd, message, 0, OUT_HEADER_BYTES);
  } catch {
    // Nothing was there, or nobody waits any more.
  }
}

/** Tells the kernel that nothing will come of it; `words` still holds the request. */
function refuse(addon: Addon, fd: number, id: number, words: Uint32Array): number {
  words[0] = OUT_HEADER_BYTES;
  words[1] = -ERRNO.EPROTO;
  return addon.reply(fd, id, 0, OUT_HEADER_BYTES);
}
