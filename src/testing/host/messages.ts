/**
 * What travels between a test and the processes that make its system calls: frames of a 32-bit length and a structured
 * clone, over the child's standard input and output. The child reads and writes them synchronously, so that a call costs
 * no turn of an event loop and a process does one thing at a time, as a C program does.
 */
import { deserialize, serialize } from 'node:v8';

/** Bytes of the length in front of each message. */
export const FRAME_HEAD_BYTES = 4;

export interface CallRequest {
  readonly id: number;
  readonly call: string;
  readonly args: readonly unknown[];
}

export type CallAnswer =
  | { readonly id: number; readonly value: unknown }
  /** A system call failed. `errno` is negative. */
  | { readonly id: number; readonly errno: number }
  /** Something else went wrong in the child: a bug, or a wrong argument. */
  | { readonly id: number; readonly message: string };

export function encodeFrame(message: CallRequest | CallAnswer): Buffer {
  const body = serialize(message);
  const frame = Buffer.allocUnsafe(FRAME_HEAD_BYTES + body.length);
  frame.writeUInt32LE(body.length, 0);
  body.copy(frame, FRAME_HEAD_BYTES);
  return frame;
}

/** Cuts a stream of bytes into messages. */
export class FrameReader<Message> {
  #held: Buffer = Buffer.alloc(0);

  /** The messages that are whole now that `bytes` arrived. */
  take(bytes: Buffer): Message[] {
    const all = this.#held.length === 0 ? bytes : Buffer.concat([this.#held, bytes]);
    const messages: Message[] = [];
    let at = 0;
    while (all.length - at >= FRAME_HEAD_BYTES) {
      const end = at + FRAME_HEAD_BYTES + all.readUInt32LE(at);
      if (end > all.length) break;
      messages.push(deserialize(all.subarray(at + FRAME_HEAD_BYTES, end)) as Message);
      at = end;
    }
    this.#held = all.subarray(at);
    return messages;
  }
}
