import type { OpcodeName } from '../protocol/index.ts';
import { type Exchange, type Operation, REPLY_WORD, reportFault } from '../session/index.ts';
import type { Filesystem } from './filesystem.ts';
import type { NodeId } from './identity.ts';

/** By opcode name; `undefined` is answered ENOSYS, or belongs to the session. */
export type OperationMap = { [Name in OpcodeName]?: Operation | undefined };

/** Whether a method answered with a promise. */
export function isPromise<T>(answer: T | PromiseLike<T>): answer is PromiseLike<T> {
  return typeof answer === 'object' && answer !== null && typeof (answer as { then?: unknown }).then === 'function';
}

/** Answers now or when the promise settles. `keep`: the message's bytes are lent to the handler until then. */
export function settle<T>(
  exchange: Exchange,
  answer: T | PromiseLike<T>,
  encode: (exchange: Exchange, value: T) => void,
  keep = false,
): void {
  if (isPromise(answer)) exchange.pend(answer, encode, keep);
  else encode(exchange, answer);
}

/** Takes lookups off a node. Nobody waits for an answer, so what it throws or rejects with is only told. */
export function takeOff(fs: Filesystem, node: NodeId, count: number): void {
  const onFailure = (error: unknown): void => {
    const message = 'forget failed; what the filesystem keeps for the node may stay for ever';
    reportFault({ kind: 'handler-error', operation: 'FORGET', nodeid: node, pid: 0, message, error });
  };
  try {
    const answer: unknown = fs.forget?.(node, count);
    if (isPromise(answer)) answer.then(undefined, onFailure);
  } catch (error) {
    onFailure(error);
  }
}

/** The encoder of answers that carry nothing. */
export function sendNothing(exchange: Exchange): void {
  exchange.sendEmpty();
}

/** Answers with one struct of the protocol. */
export function sendStruct<T>(
  exchange: Exchange,
  bytes: number,
  encode: (words: Uint32Array, at: number, value: T) => void,
  value: T,
): void {
  const buffer = exchange.acquire(bytes);
  encode(buffer.words, REPLY_WORD, value);
  exchange.send(buffer, bytes);
}
