/**
 * The shape of the protocol's table: what a row says, and the arithmetic that follows from it (offsets, sizes by minor).
 * The rows themselves stand in schema.ts.
 */

/** Widths of the C types that occur. All integers are in host byte order, which is little-endian wherever FUSE matters. */
export type ScalarType = 'u8' | 'u16' | 'u32' | 'i32' | 'u64' | 'i64';

/**
 * How a field is seen by the fast codecs.
 * `number`: a JavaScript number (64 bits: exact to 2^53). `signed`: the same, read as two's complement; seconds, and
 * offsets that may be negative. `words`: opaque 64 bits, two numbers `name_lo` and `name_hi`. `lockEnd`: a number, where
 * 2^63-1 is Infinity. `padding`: not seen, written as zeros. `area`: room that is neither seen nor written. `flexible`:
 * marks where the variable part begins, zero bytes long. `struct`: a nested struct.
 */
export type FieldRole = 'number' | 'signed' | 'words' | 'lockEnd' | 'padding' | 'area' | 'flexible' | 'struct';

export interface FieldOptions {
  /** Minor with which the field came or its padding acquired a meaning, when later than the struct. */
  readonly since?: number;
  /** Name of the {@link ConstantGroup} whose bits or values it holds. */
  readonly constants?: string;
}

export interface FieldRow extends FieldOptions {
  /** Kernel spelling. */
  readonly name: string;
  /** C type of one element, or the name of the nested struct. */
  readonly type: ScalarType | (string & {});
  readonly role: FieldRole;
  /** Elements; 1 for a plain field. */
  readonly count: number;
  readonly about: string;
}

/**
 * How a struct grew. `steps` lists [minor, bytes], oldest first.
 *
 * by `minor`: the negotiated minor decides what travels. by `kernel`: the struct grew at that minor, but a kernel sends
 * its own size whatever was negotiated, so the message's length tells. by `length`: any prefix may travel, the rest is
 * zero. by `flag`: an INIT flag decides.
 */
export interface Growth {
  readonly by: 'minor' | 'kernel' | 'length' | 'flag';
  readonly steps: readonly (readonly [minor: number, bytes: number])[];
  readonly flag?: string;
}

export interface StructRowOf<Name extends string> {
  /** Kernel spelling, as in `fuse_read_in`. */
  readonly name: Name;
  /** Minor with which it came. */
  readonly since: number;
  readonly about: string;
  readonly fields: readonly FieldRow[];
  readonly growth?: Growth;
}

/** Where a field lies. */
export interface PlacedField extends FieldRow {
  /** Bytes from the start of the struct. */
  readonly offset: number;
  /** Bytes of the whole field, all elements. */
  readonly bytes: number;
}

/** A struct with its layout worked out. */
export interface PlacedStruct<Name extends string = string> {
  readonly row: StructRowOf<Name>;
  readonly name: Name;
  /** Full size, as of 7.45. */
  readonly bytes: number;
  readonly align: number;
  readonly fields: readonly PlacedField[];
}

const SCALAR_BYTES: Readonly<Record<string, number>> = { u8: 1, u16: 2, u32: 4, i32: 4, u64: 8, i64: 8 };

/** Bytes of one element of a scalar type; undefined for a struct's name. */
export function scalarBytes(type: string): number | undefined {
  return SCALAR_BYTES[type];
}

/**
 * Works out offsets by the C rules (natural alignment). A row that would need invisible padding is refused: the protocol
 * names all of its padding.
 */
export function placeStruct<Name extends string>(
  row: StructRowOf<Name>,
  known: (name: string) => PlacedStruct,
): PlacedStruct<Name> {
  const fields: PlacedField[] = [];
  let offset = 0;
  let align = 1;
  for (const field of row.fields) {
    const scalar = scalarBytes(field.type);
    const elementBytes = scalar ?? known(field.type).bytes;
    const elementAlign = scalar ?? known(field.type).align;
    if (offset % elementAlign !== 0) throw new Error(`${row.name}.${field.name} is not aligned: name the padding before it`);
    const bytes = elementBytes * field.count;
    fields.push({ ...field, offset, bytes });
    offset += bytes;
    align = Math.max(align, elementAlign);
  }
  if (offset % align !== 0) throw new Error(`${row.name} does not end aligned: name the padding at its end`);
  const last = row.growth?.steps.at(-1);
  if (last !== undefined && last[1] !== offset)
    throw new Error(`${row.name}: the last growth step is ${last[1]} bytes, its fields are ${offset}`);
  return { row, name: row.name, bytes: offset, align, fields };
}

/** Size of a struct in the header of protocol 7.`minor`; 0 before it existed. */
export function bytesAtMinor(struct: PlacedStruct, minor: number): number {
  const growth = struct.row.growth;
  if (growth === undefined) return minor >= struct.row.since ? struct.bytes : 0;
  let bytes = 0;
  for (const [from, size] of growth.steps) if (minor >= from) bytes = size;
  return bytes;
}

// --- builders of rows -------------------------------------------------------------------------------------------------

const field = (
  name: string,
  type: FieldRow['type'],
  role: FieldRole,
  count: number,
  about: string,
  options?: FieldOptions,
): FieldRow => ({
  name,
  type,
  role,
  count,
  about,
  ...options,
});

export const u16 = (name: string, about: string, options?: FieldOptions) => field(name, 'u16', 'number', 1, about, options);
export const u32 = (name: string, about: string, options?: FieldOptions) => field(name, 'u32', 'number', 1, about, options);
export const i32 = (name: string, about: string, options?: FieldOptions) => field(name, 'i32', 'signed', 1, about, options);
/** 64 bits that are a number to us: an identity that we issue, an offset, a length, a count. */
export const u64 = (name: string, about: string, options?: FieldOptions) => field(name, 'u64', 'number', 1, about, options);
/** 64 bits that are opaque to us. */
export const words = (name: string, about: string, options?: FieldOptions) => field(name, 'u64', 'words', 1, about, options);
/** 64 bits declared unsigned in C that mean a signed number. */
export const signed = (name: string, about: string, options?: FieldOptions) => field(name, 'u64', 'signed', 1, about, options);
export const i64 = (name: string, about: string, options?: FieldOptions) => field(name, 'i64', 'signed', 1, about, options);
export const lockEnd = (name: string, about: string) => field(name, 'u64', 'lockEnd', 1, about);
export const padding = (name: string, type: ScalarType = 'u32', count = 1) =>
  field(name, type, 'padding', count, 'Not used: written as zero, ignored when read.');
export const area = (name: string, bytes: number, about: string) => field(name, 'u8', 'area', bytes, about);
export const flexible = (name: string, type: ScalarType, about: string) => field(name, type, 'flexible', 0, about);
export const nested = (name: string, type: string, about: string) => field(name, type, 'struct', 1, about);

export function struct<const Name extends string>(
  name: Name,
  since: number,
  about: string,
  fields: readonly FieldRow[],
  growth?: Growth,
): StructRowOf<Name> {
  return growth === undefined ? { name, since, about, fields } : { name, since, about, fields, growth };
}

/** A struct's growth, oldest step first. */
export const grew = (by: 'minor' | 'kernel' | 'length', ...steps: (readonly [minor: number, bytes: number])[]): Growth => ({
  by,
  steps,
});
/** The growth of a struct whose size an INIT flag decides. */
export const grewByFlag = (flag: string, ...steps: (readonly [minor: number, bytes: number])[]): Growth => ({
  by: 'flag',
  flag,
  steps,
});

// --- constants, opcodes, notifications ----------------------------------------------------------------------------------

export interface ConstantRow {
  readonly name: string;
  readonly value: number;
  readonly since: number;
  readonly about: string;
}

/** A flag word, an enumeration, or a family of plain numbers. */
export interface ConstantGroup {
  readonly name: string;
  readonly kind: 'flags' | 'values' | 'numbers';
  readonly about: string;
  readonly rows: readonly ConstantRow[];
}

export interface InitFlagRowOf<Name extends string> {
  readonly name: Name;
  /** 0 to 31 in `flags`, 32 to 63 in `flags2`. */
  readonly bit: number;
  readonly since: number;
  readonly about: string;
  /** Other names of the same bit. */
  readonly aliases?: readonly string[];
}

export interface RequestShape<Struct extends string = string> {
  /** The fixed part after the header. */
  readonly struct?: Struct;
  /** NUL-terminated names after it. */
  readonly names: 0 | 1 | 2;
  /** What follows the names: bytes, or records of a fixed size. */
  readonly tail?: 'data' | 'records';
  /** The field of `struct` that counts the bytes or records of the tail. */
  readonly counted?: string;
  /** The struct of one record. */
  readonly record?: Struct;
  /** Whether an extension area may stand at the end. */
  readonly extensions: boolean;
}

export interface ReplyShape<Struct extends string = string> {
  /** The fixed parts after the header, in order. */
  readonly structs: readonly Struct[];
  /** What follows: bytes, or directory records. */
  readonly tail?: 'data' | 'dirents' | 'direntplus';
  /** The field of the request's struct that limits the bytes of the tail. */
  readonly limitedBy?: string;
  /** The struct that stands alone in the reply when the request's `size` was 0. */
  readonly whenSizeZero?: Struct;
}

export interface OpcodeRowOf<Name extends string, Struct extends string = string> {
  /** Kernel spelling without `FUSE_` (`CUSE_INIT` keeps its prefix). */
  readonly name: Name;
  readonly value: number;
  /** Minor with which it came. */
  readonly since: number;
  /** The author's method that answers it; undefined where the session answers itself. */
  readonly method: string | undefined;
  readonly request: RequestShape<Struct>;
  readonly reply: ReplyShape<Struct>;
  /** Whether the kernel waits for an answer. */
  readonly hasReply: boolean;
  /** Whether a successful reply adds a reference to the node (to each node, in READDIRPLUS). */
  readonly countsLookup: boolean;
  /** What the kernel makes of ENOSYS: whether it remembers it for the whole connection, and what the caller sees. */
  readonly enosys: { readonly cached: boolean; readonly effect: string };
  /** False for requests that only block-device mounts, virtiofs or CUSE see. */
  readonly onPlainMounts: boolean;
  /** On io_uring the struct travels at the start of the payload, not in the entry's `op_in`. */
  readonly structInRingPayload?: boolean;
  readonly about: string;
}

export interface NotificationRowOf<Name extends string, Struct extends string = string> {
  /** Kernel spelling without `FUSE_NOTIFY_`. */
  readonly name: Name;
  readonly value: number;
  readonly since: number;
  readonly struct?: Struct;
  /** Names after the struct: `namelen` bytes and a NUL. */
  readonly names: 0 | 1;
  /** What follows: bytes, or node ids of 8 bytes. */
  readonly tail?: 'data' | 'nodeids';
  /** The field of `struct` that counts the tail. */
  readonly counted?: string;
  readonly about: string;
}

export interface DeviceIoctlRowOf<Name extends string, Struct extends string = string> {
  readonly name: Name;
  /** The request number of ioctl(2). */
  readonly value: number;
  readonly since: number;
  /** What the argument points to: a struct, a 32-bit word, or nothing. */
  readonly argument: Struct | 'u32' | undefined;
  readonly about: string;
}
