import type { TraceMessage } from '../transport/record-message.ts';

export type { TraceMessage } from '../transport/record-message.ts';

/** The message at its full length: itself, or, where its payload was cut, a copy with zeros in place of what is missing. */
export function wholeMessage(message: TraceMessage): Uint8Array {
  const { bytes, wholeBytes } = message;
  if (wholeBytes === undefined || wholeBytes <= bytes.length) return bytes;
  const whole = new Uint8Array(wholeBytes);
  whole.set(bytes);
  return whole;
}
