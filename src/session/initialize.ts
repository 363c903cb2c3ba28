import type { Addon } from '../native/index.ts';
import {
  decodeInHeader,
  decodeInitIn,
  encodeInitOut,
  FUSE_KERNEL_VERSION,
  INIT_OUT_SIZE,
  newInHeader,
  newInitIn,
  opcodeRow,
} from '../protocol/index.ts';
import { ERRNO } from './errors.ts';
import { BODY_WORD, IN_HEADER_BYTES, OUT_HEADER_BYTES, REPLY_WORD } from './exchange.ts';
import { type Capabilities, initReply, type Negotiated, NegotiationError, negotiate, type SessionSettings } from './negotiate.ts';

export interface InitializeOptions {
  capabilities: Capabilities;
  settings: SessionSettings;
  /** /proc/sys/fs/fuse/max_pages_limit; default 256. */
  pagesLimit?: number;
  /** How long to wait for the kernel's INIT, milliseconds. Default 10,000. */
  timeoutMs?: number;
  /** Called with what was agreed, before the reply is written: requests can follow the instant it is. */
  beforeReply?: (negotiated: Negotiated) => void;
}

const POLLIN = 1;

/**
 * Answers INIT on a freshly mounted device descriptor, before anybody else reads it: a connection has one INIT, however
 * many sessions share it afterwards. Waits on the event loop, never in the kernel.
 *
 * Rejects with {@link NegotiationError}; the kernel then fails every operation with ECONNREFUSED.
 */
export async function initializeDevice(addon: Addon, fd: number, options: InitializeOptions): Promise<Negotiated> {
  // FUSE_MIN_READ_BUFFER: INIT is 104 bytes, but the kernel refuses a smaller buffer.
  const memory = new ArrayBuffer(8192);
  const id = addon.registerBuffer(memory);
  const words = new Uint32Array(memory);
  const deadline = Date.now() + (options.timeoutMs ?? 10_000);
  try {
    for (;;) {
      const length = addon.poll(fd, POLLIN, 0) > 0 ? addon.receive(fd, id, 0, memory.byteLength) : -ERRNO.EAGAIN;
      if (length === -ERRNO.EAGAIN || length === -ERRNO.EINTR || length === -ERRNO.ENOENT) {
        if (Date.now() > deadline) throw new NegotiationError('ERR_FUSEWIRE_INIT', 'the kernel sent no INIT in time');
        await new Promise((resolve) => setTimeout(resolve, 1));
        continue;
      }
      if (length < 0) throw new NegotiationError('ERR_FUSEWIRE_INIT', `the device failed before INIT (errno ${-length})`);
      const negotiated = answer(words, length, options);
      const result = addon.reply(fd, id, 0, OUT_HEADER_BYTES + INIT_OUT_SIZE);
      if (result < 0) throw new NegotiationError('ERR_FUSEWIRE_INIT', `the kernel refused the INIT reply (errno ${-result})`);
      if (negotiated !== undefined) return negotiated;
    }
  } catch (error) {
    if (words[0] === IN_HEADER_BYTES + 64 || words[0] === IN_HEADER_BYTES + 16) refuse(addon, fd, id, words);
    throw error;
  } finally {
    addon.unregisterBuffer(id);
  }
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

/** Tells the kernel that nothing will come of it; `words` still holds the request. */
function refuse(addon: Addon, fd: number, id: number, words: Uint32Array): void {
  words[0] = OUT_HEADER_BYTES;
  words[1] = -ERRNO.EPROTO;
  addon.reply(fd, id, 0, OUT_HEADER_BYTES);
}
