import { constants } from 'node:os';

/** The binary form of a string, one character a byte of its UTF-8: what the addon takes as a path or a name. */
export function toBinary(text: string): string {
  return isAscii(text) ? text : Buffer.from(text, 'utf8').toString('latin1');
}

/**
 * The string that a binary one stands for, or `undefined` when its bytes are not UTF-8: a name that Linux allows but no
 * string can carry.
 */
export function fromBinary(binary: string): string | undefined {
  if (isAscii(binary)) return binary;
  const text = Buffer.from(binary, 'latin1').toString('utf8');
  return toBinary(text) === binary ? text : undefined;
}

function isAscii(text: string): boolean {
  for (let at = 0; at < text.length; at++) {
    if (text.charCodeAt(at) > 0x7f) return false;
  }
  return true;
}

/** Errors of Linux (asm-generic/errno.h) that `os.constants.errno` lacks and a filesystem may meet. */
const ERRNO_BEYOND_NODE: Record<string, number> = {
  ENOTBLK: 15,
  ENONET: 64,
  EREMOTE: 66,
  ENOTUNIQ: 76,
  EBADFD: 77,
  ERESTART: 85,
  EUSERS: 87,
  ESHUTDOWN: 108,
  EHOSTDOWN: 112,
  EUCLEAN: 117,
  EREMOTEIO: 121,
  ENOMEDIUM: 123,
  EMEDIUMTYPE: 124,
  ENOKEY: 126,
  EKEYEXPIRED: 127,
  EKEYREVOKED: 128,
  EKEYREJECTED: 129,
  EOWNERDEAD: 130,
  ENOTRECOVERABLE: 131,
  EHWPOISON: 133,
};

/** Second names of a number, which {@link errnoName} does not give. */
const ALIASES = new Set(['EWOULDBLOCK', 'ENOTSUP']);

const numbers = new Map<string, number>(Object.entries({ ...ERRNO_BEYOND_NODE, ...constants.errno }));
const names = new Map<number, string>();
for (const [name, number] of numbers) {
  if (!ALIASES.has(name)) names.set(number, name);
}

/** The name of an error number, positive or negative: `errnoName(-2)` is 'ENOENT'. An unknown one gives 'E' and the number. */
export function errnoName(errno: number): string {
  const number = Math.abs(errno);
  return names.get(number) ?? `E${number}`;
}

/** The positive number of an error name, or `undefined`: `errnoNumber('ENOENT')` is 2. */
export function errnoNumber(name: string): number | undefined {
  return numbers.get(name);
}
