/** What can be wrong with a message. The codes are stable. */
export type DecodeCode =
  /** The message ends before what it must hold. */
  | 'TRUNCATED'
  /** The length in the header is not the length of the message. */
  | 'LENGTH_MISMATCH'
  /** Bytes are left over behind what the message may hold. */
  | 'TRAILING_BYTES'
  /** A name has no NUL before the message ends. */
  | 'UNTERMINATED_NAME'
  /** A count in a struct does not fit the bytes that follow it. */
  | 'COUNT_MISMATCH'
  /** A record of the extension area is malformed. */
  | 'BAD_EXTENSION'
  /** A directory record is malformed. */
  | 'BAD_RECORD'
  /** The table has no such opcode. */
  | 'UNKNOWN_OPCODE'
  /** The table has no such notification code. */
  | 'UNKNOWN_NOTIFICATION'
  /** The table has no such ioctl of the device. */
  | 'UNKNOWN_IOCTL'
  /** A reply to a request that was not seen or is answered already. */
  | 'UNKNOWN_UNIQUE'
  /** The error of a reply is outside -511..0. */
  | 'BAD_ERROR'
  /** A reply to a request that takes none. */
  | 'NO_REPLY_WANTED'
  /** The INIT reply has another major version than the request. */
  | 'BAD_MAJOR';

/** Why bytes could not be decoded. A value, never thrown. */
export interface DecodeFailure {
  readonly kind: 'failure';
  readonly code: DecodeCode;
  /** Byte offset in the message at which it was noticed. */
  readonly at: number;
  /** One sentence. */
  readonly message: string;
}

export function failure(code: DecodeCode, at: number, message: string): DecodeFailure {
  return { kind: 'failure', code, at, message };
}

/** A message that cannot be encoded: a value does not fit its field, or a part is missing. */
export class EncodeError extends Error {
  readonly code: 'VALUE_OUT_OF_RANGE' | 'MISSING_PART' | 'BAD_NAME';

  constructor(code: EncodeError['code'], message: string) {
    super(message);
    this.name = 'EncodeError';
    this.code = code;
  }
}
