import { readdirSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import * as generated from '../../src/protocol/generated/structs.ts';
import { type DecodeFailure, type PlacedStruct, type StructName, type StructValue, structOf } from '../../src/protocol/index.ts';

const FIXTURES = new URL('./fixtures/', import.meta.url);

export interface TraceLine {
  readonly dir: 'in' | 'out' | 'ioctl';
  readonly t: number;
  readonly hex: string;
  readonly err?: number;
  readonly cmd?: number;
}

/** Names of the captured traces. */
export const TRACES: readonly string[] = readdirSync(FIXTURES)
  .filter((name) => name.endsWith('.jsonl.gz'))
  .sort();

export function readTrace(name: string): TraceLine[] {
  const text = gunzipSync(readFileSync(new URL(name, FIXTURES))).toString('utf8');
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as TraceLine);
}

export function readFacts<Facts>(): Facts {
  return JSON.parse(readFileSync(new URL('fuse-7.45.json', FIXTURES), 'utf8')) as Facts;
}

export function fromHex(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex.replaceAll(/\s/g, ''), 'hex'));
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

/** Bytes at the start of a buffer of whole words, 8-byte aligned. */
export function aligned(bytes: Uint8Array): { bytes: Uint8Array; words: Uint32Array } {
  const words = new Uint32Array(Math.ceil(bytes.length / 8) * 2);
  const copy = new Uint8Array(words.buffer);
  copy.set(bytes);
  return { bytes: copy, words };
}

export function isFailure(value: { kind: string }): value is DecodeFailure {
  return value.kind === 'failure';
}

/** A message that must have decoded. */
export function decoded<Value extends { kind: string }>(value: Value): Exclude<Value, DecodeFailure> {
  if (isFailure(value)) throw new Error(`${value.code} at ${value.at}: ${value.message}`);
  return value as Exclude<Value, DecodeFailure>;
}

type Fields = { [field: string]: number | Fields };

/** The generated functions of one struct. */
export interface FastCodec {
  readonly size: number;
  create(): Fields;
  decode(words: Uint32Array, at: number, out: Fields, size?: number): void;
  encode(words: Uint32Array, at: number, value: Fields, size?: number): void;
}

export function fastCodec(name: StructName): FastCodec {
  const plain = name.replace(/^fuse_/, '');
  const pascal = plain.replace(/(?:^|_)([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
  const exports = generated as unknown as Record<string, never>;
  return {
    size: exports[`${plain.toUpperCase()}_SIZE`] as number,
    create: exports[`new${pascal}`] as FastCodec['create'],
    decode: exports[`decode${pascal}`] as FastCodec['decode'],
    encode: exports[`encode${pascal}`] as FastCodec['encode'],
  };
}

/** What the fast decoder must make of an exactly decoded struct: absent fields are 0. */
export function fastValue(struct: PlacedStruct, exact: StructValue): Fields {
  const fields: Fields = {};
  for (const field of struct.fields) {
    const value = exact[field.name];
    if (field.role === 'padding' || field.role === 'area' || field.role === 'flexible') continue;
    if (field.role === 'struct') fields[field.name] = fastValue(structOf(field.type as StructName), (value ?? {}) as StructValue);
    else if (field.role === 'words') {
      const word = BigInt((value ?? 0n) as bigint);
      fields[`${field.name}_lo`] = Number(word & 0xffff_ffffn);
      fields[`${field.name}_hi`] = Number(word >> 32n);
    } else if (field.role === 'lockEnd' && value === 0x7fff_ffff_ffff_ffffn) fields[field.name] = Number.POSITIVE_INFINITY;
    else fields[field.name] = Number(value ?? 0);
  }
  return fields;
}
