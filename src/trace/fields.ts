/** Fields of structs as people read them: flags by name, modes in octal, times, node ids as paths. */
import { CONSTANT_GROUPS, decodeInitFlags, INIT_FLAGS, type StructName, type StructValue, structOf } from '../protocol/index.ts';
import {
  ACCESS_MASK,
  DIRENT_TYPES,
  FALLOCATE_MODES,
  type FlagTable,
  flagNames,
  ioctlName,
  LOCK_TYPES,
  type Machine,
  modeName,
  openFlags,
  POLL_EVENTS,
  RENAME_FLAGS,
  STATX_ATTRIBUTES,
  STATX_FLAGS,
  STATX_MASK,
  WHENCE,
  XATTR_FLAGS,
} from './linux.ts';
import { displayText, type Names } from './names.ts';

export interface FieldContext {
  /** For node ids; without it they are shown as `#12`. */
  readonly names: Names | undefined;
  /** Every field, also zeros and times. */
  readonly all: boolean;
  /** Whose O_* the trace has. */
  readonly machine: Machine;
}

type Integer = number | bigint;
type Show = (value: Integer, context: FieldContext, whole: StructValue) => string;

const GROUPS: ReadonlyMap<string, FlagTable> = new Map(
  CONSTANT_GROUPS.map(({ name, rows }) => [name, distinct(rows.map((row) => [row.name, row.value] as const))]),
);

/** Without the older names of a bit. */
function distinct(rows: FlagTable): FlagTable {
  return rows.filter(([, value], index) => rows.findIndex(([, other]) => other === value) === index);
}

const flags =
  (table: FlagTable, zero = '0'): Show =>
  (value) =>
    flagNames(value, table, zero);
const named =
  (table: Readonly<Record<number, string>>): Show =>
  (value) =>
    table[Number(value)] ?? String(value);
const hex: Show = (value) => `0x${value.toString(16)}`;
const octal: Show = (value) => `0${value.toString(8).padStart(3, '0')}`;
const node: Show = (value, { names }) => (value === 0n ? '0' : displayText(names?.pathOf(BigInt(value)) ?? `#${value}`));
/** Every 64-bit program opens with O_LARGEFILE: it says nothing. */
const opened: Show = (value, { machine, all }) => {
  const text = openFlags(Number(value), machine);
  return all ? text : text.replace(/\|O_LARGEFILE\b/, '');
};
const mode: Show = (value) => modeName(Number(value));
const device: Show = (value) => `${(Number(value) >>> 8) & 0xfff}:${(Number(value) & 0xff) | ((Number(value) >>> 12) & 0xfff00)}`;
const id: Show = (value) => (value === 0xffff_ffff ? '-1' : String(value));

/** How a field is shown: by struct and field, else by the field's name alone. */
const SHOWN: Readonly<Record<string, Show>> = {
  mode,
  umask: octal,
  rdev: device,
  uid: id,
  gid: id,
  lock_owner: hex,
  owner: hex,
  kh: hex,
  notify_unique: hex,
  'fuse_fallocate_in.mode': flags(FALLOCATE_MODES),
  'fuse_open_in.flags': opened,
  'fuse_create_in.flags': opened,
  'fuse_release_in.flags': opened,
  'fuse_read_in.flags': opened,
  'fuse_write_in.flags': opened,
  'fuse_rename2_in.flags': flags(RENAME_FLAGS),
  'fuse_setxattr_in.flags': flags(XATTR_FLAGS),
  'fuse_access_in.mask': flags(ACCESS_MASK, 'F_OK'),
  'fuse_file_lock.type': named(LOCK_TYPES),
  'fuse_file_lock.end': (value) => (value === 0x7fff_ffff_ffff_ffffn ? 'EOF' : String(value)),
  'fuse_lseek_in.whence': named(WHENCE),
  'fuse_poll_in.events': flags(POLL_EVENTS),
  'fuse_poll_out.revents': flags(POLL_EVENTS),
  'fuse_statx_in.sx_flags': flags(STATX_FLAGS),
  'fuse_statx_in.sx_mask': flags(STATX_MASK),
  'fuse_statx.mask': flags(STATX_MASK),
  'fuse_statx.attributes': flags(STATX_ATTRIBUTES),
  'fuse_statx.attributes_mask': flags(STATX_ATTRIBUTES),
  'fuse_dirent.type': named(DIRENT_TYPES),
  'fuse_ioctl_in.cmd': (value) => ioctlName(Number(value)),
  'fuse_ioctl_in.arg': hex,
  'fuse_entry_out.nodeid': (value) => `#${value}`,
  'fuse_rename_in.newdir': node,
  'fuse_rename2_in.newdir': node,
  'fuse_link_in.oldnodeid': node,
  'fuse_copy_file_range_in.nodeid_out': node,
  'fuse_notify_inval_inode_out.ino': node,
  'fuse_notify_inval_entry_out.parent': node,
  'fuse_notify_delete_out.parent': node,
  'fuse_notify_delete_out.child': node,
  'fuse_notify_store_out.nodeid': node,
  'fuse_notify_retrieve_out.nodeid': node,
};

/** Fields whose zero says something. All others are left out when they are 0. */
const ZERO_SPEAKS = new Set(
  (
    'offset size fh mask mode off_in off_out len length whence result revents block nlookup fh_in fh_out off start end type ' +
    'fuse_open_in.flags fuse_create_in.flags fuse_statx.mask fuse_write_out.size valid bytes_copied fd minor major'
  ).split(' '),
);

/** Shown only with {@link FieldContext.all}: they make lines long and are seldom asked for. */
const DETAILS = new Set(
  (
    'blocks blksize atime mtime ctime btime atimensec mtimensec ctimensec attributes_mask dev_major dev_minor ' +
    'fuse_read_in.flags fuse_write_in.flags fuse_read_in.lock_owner fuse_write_in.lock_owner fuse_flush_in.lock_owner generation'
  ).split(' '),
);

/** A field whose nanoseconds stand in another: points in time, and the seconds for which an answer may be kept. */
const NANOSECONDS: Readonly<Record<string, string>> = {
  atime: 'atimensec',
  mtime: 'mtimensec',
  ctime: 'ctimensec',
  entry_valid: 'entry_valid_nsec',
  attr_valid: 'attr_valid_nsec',
};
const NANOSECOND_FIELDS = new Set(Object.values(NANOSECONDS));
const POINTS_IN_TIME = new Set(['atime', 'mtime', 'ctime']);

/** FATTR_* bits, with the fields that they make count. */
const SETATTR_FIELDS: Readonly<Record<string, number>> = {
  mode: 0x1,
  uid: 0x2,
  gid: 0x4,
  size: 0x8,
  atime: 0x10,
  mtime: 0x20,
  fh: 0x40,
  lock_owner: 0x200,
  ctime: 0x400,
};

/** `name=value` for each field of a struct that says something. */
export function showFields(
  name: StructName,
  value: StructValue,
  context: FieldContext,
  except: readonly string[] = [],
): string[] {
  if (name === 'fuse_init_in' || name === 'fuse_init_out') return showInit(name, value, context);
  const shown: string[] = [];
  for (const field of structOf(name).fields) {
    const own = value[field.name];
    if (own === undefined || except.includes(field.name) || NANOSECOND_FIELDS.has(field.name)) continue;
    if (typeof own === 'object') {
      if (own instanceof Uint8Array) continue;
      shown.push(...showNested(name, field.name, field.type as StructName, own, context));
      continue;
    }
    if (isSilent(name, field.name, own, value, context)) continue;
    shown.push(`${field.name}=${showField(name, field.name, field.constants, own, value, context)}`);
  }
  return shown;
}

function isSilent(struct: StructName, field: string, own: Integer, whole: StructValue, { all }: FieldContext): boolean {
  const bit = struct === 'fuse_setattr_in' ? SETATTR_FIELDS[field] : undefined;
  // Fields of SETATTR that do not count hold anything.
  if (bit !== undefined) return !all && ((whole.valid as number) & bit) === 0;
  if (all) return false;
  const full = `${struct}.${field}`;
  if (field === 'fh' && whole.getattr_flags !== undefined && ((whole.getattr_flags as number) & 1) === 0) return true;
  if (DETAILS.has(field) || DETAILS.has(full)) return true;
  const nanoseconds = NANOSECONDS[field];
  if (nanoseconds !== undefined && Number(whole[nanoseconds] ?? 0) !== 0) return false;
  return Number(own) === 0 && !ZERO_SPEAKS.has(field) && !ZERO_SPEAKS.has(full);
}

function showField(
  struct: StructName,
  field: string,
  group: string | undefined,
  own: Integer,
  whole: StructValue,
  context: FieldContext,
): string {
  const nanoseconds = NANOSECONDS[field];
  if (nanoseconds !== undefined) {
    const part = Number(whole[nanoseconds] ?? 0);
    return POINTS_IN_TIME.has(field) ? pointInTime(BigInt(own), part) : span(BigInt(own), part);
  }
  const show = SHOWN[`${struct}.${field}`] ?? (group === undefined ? SHOWN[field] : undefined);
  if (show !== undefined) return show(own, context, whole);
  const table = group === undefined ? undefined : GROUPS.get(group);
  return table === undefined ? String(own) : flagNames(own, table);
}

/** Nested structs are shown as if their fields were the outer's: their names do not collide. */
function showNested(
  struct: StructName,
  field: string,
  type: StructName,
  value: StructValue,
  context: FieldContext,
): readonly string[] {
  if (type === 'fuse_sx_time') {
    const isNothing = value.tv_sec === 0n && value.tv_nsec === 0;
    if (!context.all && (field !== 'btime' || isNothing)) return [];
    return [`${field}=${pointInTime(value.tv_sec as bigint, value.tv_nsec as number)}`];
  }
  // A name that does not exist has no attributes.
  if (struct === 'fuse_entry_out' && !context.all && value.ino === 0n && value.mode === 0) return [];
  return showFields(type, value, context);
}

function showInit(name: 'fuse_init_in' | 'fuse_init_out', value: StructValue, context: FieldContext): string[] {
  const parts = [`version=${String(value.major)}.${String(value.minor)}`];
  for (const field of structOf(name).fields) {
    const own = value[field.name];
    if (own === undefined || typeof own === 'object' || ['major', 'minor', 'flags', 'flags2'].includes(field.name)) continue;
    if (context.all || Number(own) !== 0) parts.push(`${field.name}=${String(own)}`);
  }
  if (value.flags !== undefined) parts.push(`flags=${initFlagNames(value)}`);
  return parts;
}

/** INIT flags of both words; bits without a name in hex. */
export function initFlagNames(value: StructValue): string {
  const [low, high] = [Number(value.flags ?? 0), Number(value.flags2 ?? 0)];
  const set = decodeInitFlags(low, high);
  let left = BigInt(low >>> 0) | (BigInt(high >>> 0) << 32n);
  for (const { name, bit } of INIT_FLAGS) if (set.has(name)) left &= ~(1n << BigInt(bit));
  // The second word does not count without FUSE_INIT_EXT.
  const names = [...set].filter((flag) => flag !== 'FUSE_INIT_EXT').map((flag) => flag.slice('FUSE_'.length));
  if (left !== 0n) names.push(`0x${left.toString(16)}`);
  return names.length === 0 ? '0' : names.join('|');
}

/** `2026-11-22T16:47:02.000000001Z`; seconds alone where no calendar reaches. */
export function pointInTime(seconds: bigint, nanoseconds: number): string {
  const signed = BigInt.asIntN(64, seconds);
  const fraction = nanoseconds === 0 ? '' : `.${String(nanoseconds).padStart(9, '0')}`;
  if (signed > 8_640_000_000_000n || signed < -8_640_000_000_000n) return `${signed}${fraction}s`;
  return new Date(Number(signed) * 1000).toISOString().replace(/\.\d+Z$/, `${fraction}Z`);
}

/** `1s`, `0.5s`, `forever` for what never runs out. */
function span(seconds: bigint, nanoseconds: number): string {
  if (seconds >= 0x7fff_ffffn) return 'forever';
  return `${Number(seconds) + nanoseconds / 1e9}s`;
}
