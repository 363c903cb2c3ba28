/**
 * Reading and writing structs by the rows of the table: exact (64-bit fields are bigint) and slow, for traces and tests.
 * The fast codecs are in generated/.
 */
import { type DecodeCode, type DecodeFailure, EncodeError, failure } from './failure.ts';
import type { PlacedField, PlacedStruct } from './layout.ts';
import { decodeBinary, encodeBinary, findNul } from './names.ts';
import { type StructName, structOf } from './schema.ts';

/** A struct's fields by their kernel names. 64-bit fields are bigint, shorter ones number; padding is not among them. */
export interface StructValue {
  [field: string]: number | bigint | Uint8Array | StructValue;
}

/** Padding that was not zero. */
export interface PaddingRun {
  /** Byte offset in the message. */
  readonly at: number;
  readonly bytes: Uint8Array;
}

/**
 * Reads one message. It knows where the message ends, and its failure is sticky: after the first, every read answers
 * nothing and moves nowhere, so that callers check once, at the end.
 */
export class Cursor {
  readonly bytes: Uint8Array;
  readonly padding: PaddingRun[] = [];
  at = 0;
  /** Exclusive; lowered while a part with a tail behind it is read. */
  end: number;
  failure: DecodeFailure | undefined;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.end = bytes.length;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Bytes that are left; 0 after a failure. */
  get left(): number {
    return this.failure === undefined ? this.end - this.at : 0;
  }

  fail(code: DecodeCode, message: string, at = this.at): void {
    this.failure ??= failure(code, at, message);
  }

  #has(bytes: number, what: string): boolean {
    if (this.failure !== undefined) return false;
    if (this.end - this.at >= bytes) return true;
    this.fail('TRUNCATED', `${what} needs ${bytes} bytes, ${this.end - this.at} are left.`);
    return false;
  }

  u32(what: string): number {
    if (!this.#has(4, what)) return 0;
    this.at += 4;
    return this.#view.getUint32(this.at - 4, true);
  }

  u64(what: string): bigint {
    if (!this.#has(8, what)) return 0n;
    this.at += 8;
    return this.#view.getBigUint64(this.at - 8, true);
  }

  /** The next bytes, a view of the message. */
  take(count: number, what: string): Uint8Array {
    if (!this.#has(count, what)) return new Uint8Array(0);
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  /** A name and its NUL, one character a byte. */
  name(what: string): string {
    if (this.failure !== undefined) return '';
    const nul = findNul(this.bytes, this.at, this.end);
    if (nul < 0) {
      this.fail('UNTERMINATED_NAME', `${what} has no NUL before the message ends.`);
      return '';
    }
    const text = decodeBinary(this.bytes, this.at, nul);
    this.at = nul + 1;
    return text;
  }

  /** Passes over padding and keeps it when it is not zero. */
  skip(count: number, what: string): void {
    const at = this.at;
    const bytes = this.take(count, what);
    if (bytes.some((byte) => byte !== 0)) this.padding.push({ at, bytes: bytes.slice() });
  }

  /** The first `size` bytes of a struct. Fields beyond are absent from the value. */
  struct(name: StructName, size: number): StructValue {
    const value: StructValue = {};
    if (this.#has(size, name)) this.#fields(structOf(name), size, value);
    return value;
  }

  #fields(struct: PlacedStruct, size: number, value: StructValue): void {
    for (const field of struct.fields) {
      if (field.role === 'flexible' || field.offset >= size) continue;
      const present = Math.min(field.bytes, size - field.offset);
      if (field.role === 'padding') this.skip(present, struct.name);
      else if (field.role === 'area') value[field.name] = this.take(present, struct.name).slice();
      else if (field.role === 'struct') this.#nested(field, present, value);
      else if (present < field.bytes) this.fail('TRUNCATED', `${struct.name}.${field.name} is cut off.`);
      else value[field.name] = this.#scalar(field);
    }
  }

  #nested(field: PlacedField, size: number, value: StructValue): void {
    const inner: StructValue = {};
    this.#fields(structOf(field.type as StructName), size, inner);
    value[field.name] = inner;
  }

  #scalar(field: PlacedField): number | bigint {
    const at = this.at;
    this.at += field.bytes;
    switch (field.type) {
      case 'u16':
        return this.#view.getUint16(at, true);
      case 'u32':
        return this.#view.getUint32(at, true);
      case 'i32':
        return this.#view.getInt32(at, true);
      default:
        return field.role === 'signed' ? this.#view.getBigInt64(at, true) : this.#view.getBigUint64(at, true);
    }
  }
}

/** Builds one message. Throws {@link EncodeError} for values that do not fit. */
export class Writer {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  at = 0;

  #room(count: number): void {
    if (this.at + count <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.at + count));
    larger.set(this.#bytes);
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }

  u32(value: number): void {
    this.#room(4);
    this.#view.setUint32(this.at, value, true);
    this.at += 4;
  }

  u64(value: bigint): void {
    this.#room(8);
    this.#view.setBigUint64(this.at, value, true);
    this.at += 8;
  }

  bytes(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  /** Text of one character a byte, without a NUL. */
  text(text: string): void {
    this.#room(text.length);
    if (encodeBinary(this.#bytes, this.at, text) < 0)
      throw new EncodeError('BAD_NAME', 'a name in a message has one character a byte');
    this.at += text.length;
  }

  zeros(count: number): void {
    this.#room(count);
    this.at += count;
  }

  /** The first `size` bytes of a struct; absent fields are 0. */
  struct(name: StructName, size: number, value: StructValue): void {
    this.#fields(structOf(name), size, value);
  }

  #fields(struct: PlacedStruct, size: number, value: StructValue): void {
    for (const field of struct.fields) {
      if (field.role === 'flexible' || field.offset >= size) continue;
      const present = Math.min(field.bytes, size - field.offset);
      const given = value[field.name];
      if (field.role === 'struct') this.#fields(structOf(field.type as StructName), present, isStruct(given) ? given : {});
      else if (field.role === 'area' && given instanceof Uint8Array) this.bytes(given);
      else if (given === undefined || field.role === 'padding') this.zeros(present);
      else this.#scalar(struct, field, given);
    }
  }

  #scalar(struct: PlacedStruct, field: PlacedField, given: StructValue[string]): void {
    const bits = field.bytes * 8;
    const isSigned = field.role === 'signed';
    if (typeof given !== 'number' && typeof given !== 'bigint') throw misfit(struct, field, given);
    if (typeof given === 'number' && !Number.isSafeInteger(given)) throw misfit(struct, field, given);
    const exact = BigInt(given);
    if (exact !== (isSigned ? BigInt.asIntN(bits, exact) : BigInt.asUintN(bits, exact))) throw misfit(struct, field, given);
    this.#room(field.bytes);
    if (field.bytes === 2) this.#view.setUint16(this.at, Number(exact), true);
    else if (field.bytes === 4) this.#view.setUint32(this.at, Number(BigInt.asUintN(32, exact)), true);
    else this.#view.setBigUint64(this.at, BigInt.asUintN(64, exact), true);
    this.at += field.bytes;
  }

  /** Puts a 32-bit word at a place that was written before. */
  patch(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
  }

  /** Puts retained padding back. Runs that lie outside are left out. */
  restore(padding: readonly PaddingRun[]): void {
    for (const run of padding) if (run.at + run.bytes.length <= this.at) this.#bytes.set(run.bytes, run.at);
  }

  /** The message: a copy. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.at);
  }
}

const isStruct = (value: StructValue[string] | undefined): value is StructValue =>
  typeof value === 'object' && !(value instanceof Uint8Array);

function misfit(struct: PlacedStruct, field: PlacedField, given: unknown): EncodeError {
  return new EncodeError(
    'VALUE_OUT_OF_RANGE',
    `${struct.name}.${field.name} takes an integer of ${field.bytes * 8} bits, not ${String(given)}`,
  );
}
