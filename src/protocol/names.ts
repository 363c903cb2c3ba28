/**
 * Names in messages. Linux names are bytes: anything but NUL and slash. They become strings in one of two ways. `utf8`:
 * ordinary text; a name that is not valid UTF-8 is refused, never mended by replacement characters. `binary`: one
 * character a byte (latin1), so that every name passes unchanged.
 */

/** Strings up to this many bytes are built here; the decoder of the platform has a fixed cost that only longer ones repay. */
const SHORT = 64;

let strictDecoder: InstanceType<typeof TextDecoder> | undefined;

/** Position of the first NUL in `bytes[from..limit)`, or -1. */
export function findNul(bytes: Uint8Array, from: number, limit: number): number {
  const end = Math.min(limit, bytes.length);
  for (let at = from; at < end; at++) if (bytes[at] === 0) return at;
  return -1;
}

/** The text in `bytes[from..to)`; undefined when it is not valid UTF-8. A byte order mark is kept. */
export function decodeUtf8(bytes: Uint8Array, from: number, to: number): string | undefined {
  if (to - from <= SHORT) {
    let seen = 0;
    for (let at = from; at < to; at++) seen |= bytes[at]!;
    if (seen < 0x80) return decodeBinary(bytes, from, to);
  }
  strictDecoder ??= new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  try {
    return strictDecoder.decode(bytes.subarray(from, to));
  } catch {
    return undefined;
  }
}

/** The bytes `bytes[from..to)`, one character each. */
export function decodeBinary(bytes: Uint8Array, from: number, to: number): string {
  // Wide calls first: each makes one flat piece, and joining pieces costs more than making them.
  let text = '';
  let at = from;
  for (; at + 16 <= to; at += 16) text += sixteen(bytes, at);
  for (; at + 4 <= to; at += 4) text += String.fromCharCode(bytes[at]!, bytes[at + 1]!, bytes[at + 2]!, bytes[at + 3]!);
  for (; at < to; at++) text += String.fromCharCode(bytes[at]!);
  return text;
}

// biome-ignore format: one line for each half
const sixteen = (bytes: Uint8Array, at: number): string => String.fromCharCode(
  bytes[at]!, bytes[at + 1]!, bytes[at + 2]!, bytes[at + 3]!, bytes[at + 4]!, bytes[at + 5]!, bytes[at + 6]!, bytes[at + 7]!,
  bytes[at + 8]!, bytes[at + 9]!, bytes[at + 10]!, bytes[at + 11]!, bytes[at + 12]!, bytes[at + 13]!, bytes[at + 14]!, bytes[at + 15]!,
);

/** Bytes of `text` in UTF-8; -1 when it cannot be written, because it holds half of a surrogate pair. */
export function utf8Bytes(text: string): number {
  let count = text.length;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 0x80) continue;
    if (unit < 0x800) count += 1;
    else if (unit < 0xd800 || unit > 0xdfff) count += 2;
    else {
      const next = text.charCodeAt(index + 1);
      if (unit > 0xdbff || !(next >= 0xdc00 && next <= 0xdfff)) return -1;
      // Two units become four bytes.
      count += 2;
      index += 1;
    }
  }
  return count;
}

/** Characters before the first that is not ASCII. */
function asciiLength(text: string): number {
  let index = 0;
  while (index < text.length && text.charCodeAt(index) < 0x80) index += 1;
  return index;
}

/** Writes `text` as UTF-8 at `at`. Returns the bytes written; -1 when it does not fit or {@link utf8Bytes} refuses it. */
export function encodeUtf8(bytes: Uint8Array, at: number, text: string): number {
  const ascii = asciiLength(text);
  const count = ascii === text.length ? ascii : utf8Bytes(text);
  if (count < 0 || at + count > bytes.length) return -1;
  for (let index = 0; index < ascii; index++) bytes[at + index] = text.charCodeAt(index);
  let put = at + ascii;
  for (let index = ascii; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 0x80) {
      bytes[put++] = unit;
    } else if (unit < 0x800) {
      bytes[put++] = 0xc0 | (unit >> 6);
      bytes[put++] = 0x80 | (unit & 0x3f);
    } else if (unit < 0xd800 || unit > 0xdfff) {
      bytes[put++] = 0xe0 | (unit >> 12);
      bytes[put++] = 0x80 | ((unit >> 6) & 0x3f);
      bytes[put++] = 0x80 | (unit & 0x3f);
    } else {
      index += 1;
      const point = 0x1_0000 + ((unit & 0x3ff) << 10) + (text.charCodeAt(index) & 0x3ff);
      bytes[put++] = 0xf0 | (point >> 18);
      bytes[put++] = 0x80 | ((point >> 12) & 0x3f);
      bytes[put++] = 0x80 | ((point >> 6) & 0x3f);
      bytes[put++] = 0x80 | (point & 0x3f);
    }
  }
  return count;
}

/** Writes one byte a character at `at`. Returns the bytes written; -1 when it does not fit or a character is above U+00FF. */
export function encodeBinary(bytes: Uint8Array, at: number, text: string): number {
  if (at + text.length > bytes.length) return -1;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit > 0xff) return -1;
    bytes[at + index] = unit;
  }
  return text.length;
}
