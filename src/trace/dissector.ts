/** The Wireshark dissector, generated from the protocol table: every struct and field by name, flags as bits, opcodes, errnos. */
import {
  CONSTANT_GROUPS,
  DEVICE_IOCTLS,
  FUSE_EXT_GROUPS,
  FUSE_MAX_NR_SECCTX,
  INIT_FLAGS,
  type InitFlag,
  MINOR_OF,
  NOTIFICATIONS,
  OPCODES,
  type PlacedField,
  type PlacedStruct,
  PROTOCOL_MINOR,
  STRUCTS,
} from '../protocol/index.ts';
import { ERRNO, errnoName } from '../session/index.ts';
import { DISSECTOR_ENGINE } from './dissector-engine.ts';
import { DISSECTOR_NAME, PSEUDO_BYTES } from './pcapng.ts';

/** How a field is called in display filters: `fuse.entry_out.nodeid`. A struct's own name is that without the field. */
export function filterName(struct: string, field?: string): string {
  return `${DISSECTOR_NAME}.${keyOf(struct, field)}`;
}

function keyOf(struct: string, field?: string): string {
  const plain = struct.replace(/^fuse_/, '');
  return field === undefined ? plain : `${plain}.${field}`;
}

interface FlagBit {
  readonly name: string;
  /** Within the word. */
  readonly mask: number;
  readonly about: string;
}

/** Fields that hold permissions: read best in octal. */
const OCTAL = new Set(['mode', 'umask']);

/** Small enumerations of <fcntl.h>, <unistd.h> and <dirent.h>, by struct and field. */
const VALUES: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  'fuse_file_lock.type': { 0: 'F_RDLCK', 1: 'F_WRLCK', 2: 'F_UNLCK' },
  'fuse_lseek_in.whence': { 3: 'SEEK_DATA', 4: 'SEEK_HOLE' },
  'fuse_dirent.type': {
    0: 'DT_UNKNOWN',
    1: 'DT_FIFO',
    2: 'DT_CHR',
    4: 'DT_DIR',
    6: 'DT_BLK',
    8: 'DT_REG',
    10: 'DT_LNK',
    12: 'DT_SOCK',
  },
};

/** The bits of a field, where it is a flag word. */
export function flagBits(struct: string, field: PlacedField): readonly FlagBit[] {
  if (struct === 'fuse_init_in' || struct === 'fuse_init_out') {
    const first = { flags: 0, flags2: 32 }[field.name];
    if (first === undefined) return [];
    return INIT_FLAGS.filter(({ bit }) => bit >= first && bit < first + 32).map(({ name, bit, about }) => ({
      name,
      mask: 2 ** (bit - first),
      about,
    }));
  }
  const group = CONSTANT_GROUPS.find(({ name, kind }) => kind === 'flags' && name === field.constants);
  const rows = (group?.rows ?? []).map(({ name, value, about }) => ({ name, mask: value, about }));
  // An older name of the same bit says nothing new.
  return rows.filter(({ mask }, index) => rows.findIndex((row) => row.mask === mask) === index);
}

function luaString(text: string): string {
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

function luaTable(entries: readonly (readonly [number | string, string])[]): string {
  return `{ ${entries.map(([key, value]) => `[${typeof key === 'number' ? key : luaString(key)}] = ${value}`).join(', ')} }`;
}

function valuesOf(struct: string, field: PlacedField): string {
  if (struct === 'fuse_in_header' && field.name === 'opcode')
    return luaTable(OPCODES.map(({ name, value }) => [value, luaString(name)]));
  const group = CONSTANT_GROUPS.find(({ name, kind }) => kind === 'values' && name === field.constants);
  if (group !== undefined) return luaTable(group.rows.map(({ name, value }) => [value, luaString(name)]));
  const values = VALUES[`${struct}.${field.name}`];
  return values === undefined ? 'nil' : luaTable(Object.entries(values).map(([value, name]) => [Number(value), luaString(name)]));
}

/** How Wireshark shows a number: `base.DEC` and so on. */
function baseOf(struct: string, field: PlacedField): string {
  if (OCTAL.has(field.name)) return 'base.OCT';
  if (field.constants !== undefined && flagBits(struct, field).length > 0) return 'base.HEX';
  if (field.name === 'flags' || field.name === 'flags2') return 'base.HEX';
  return 'base.DEC';
}

const WIDTHS: Readonly<Record<string, string>> = {
  u8: 'uint8',
  u16: 'uint16',
  u32: 'uint32',
  i32: 'int32',
  u64: 'uint64',
  i64: 'int64',
};

function fieldKind(field: PlacedField): string {
  if (field.role === 'struct') return 'none';
  if (field.role === 'area') return 'bytes';
  return field.role === 'signed' ? WIDTHS[field.type].replace('uint', 'int') : WIDTHS[field.type];
}

/** The lines that register the fields of a struct, and the row with which the engine finds its way. */
function structText(struct: PlacedStruct): string[] {
  const { name } = struct;
  const lines = [`own(${luaString(keyOf(name))}, ProtoField.none, ${luaString(name)}, ${luaString(struct.row.about)})`];
  const rows: string[] = [];
  for (const field of struct.fields) {
    const key = keyOf(name, field.name);
    const about = luaString(field.about);
    const base = `name = ${luaString(field.name)}, role = ${luaString(field.role)}, offset = ${field.offset}, bytes = ${field.bytes}`;
    const extra: string[] = [`key = ${luaString(key)}`];
    if (field.role === 'padding') {
      rows.push(`{ ${base} }`);
      continue;
    }
    if (field.role === 'struct') extra.push(`type = ${luaString(field.type)}`);
    if (name === 'fuse_out_header' && field.name === 'error') extra.push('errno = true');
    lines.push(...registration(name, field, key, about));
    const bits = flagBits(name, field).map((bit) => luaString(`${key}.${bit.name}`));
    if (bits.length > 0) extra.push(`bits = { ${bits.join(', ')} }`);
    rows.push(`{ ${base}, ${extra.join(', ')} }`);
  }
  const growth = struct.row.growth;
  const steps = growth?.steps.map(([minor, bytes]) => `{ ${minor}, ${bytes} }`).join(', ');
  lines.push(
    `S[${luaString(name)}] = {`,
    `  name = ${luaString(name)}, key = ${luaString(keyOf(name))}, bytes = ${struct.bytes},`,
    ...(growth === undefined ? [] : [`  growth = { by = ${luaString(growth.by)}, ${steps} },`]),
    '  fields = {',
    ...rows.map((row) => `    ${row},`),
    '  },',
    '}',
  );
  return lines;
}

function registration(struct: string, field: PlacedField, key: string, about: string): string[] {
  const label = luaString(field.name);
  if (field.role === 'flexible') {
    if (field.type === 'u8') return [`own(${luaString(key)}, ProtoField.string, ${label}, base.UNICODE, ${about})`];
    return [`own(${luaString(key)}, ProtoField.uint32, ${label}, base.DEC, nil, nil, ${about})`];
  }
  const kind = fieldKind(field);
  if (kind === 'none' || kind === 'bytes') {
    return [`own(${luaString(key)}, ProtoField.${kind}, ${label}, ${kind === 'bytes' ? 'base.SPACE, ' : ''}${about})`];
  }
  return [
    `own(${luaString(key)}, ProtoField.${kind}, ${label}, ${baseOf(struct, field)}, ${valuesOf(struct, field)}, nil, ${about})`,
    ...flagBits(struct, field).map(
      (bit) =>
        `own(${luaString(`${key}.${bit.name}`)}, ProtoField.bool, ${luaString(bit.name)}, ${field.bytes * 8}, nil, ` +
        `0x${bit.mask.toString(16)}, ${luaString(bit.about)})`,
    ),
  ];
}

function opcodeText(): string[] {
  return OPCODES.map(({ name, value, since, request, reply, hasReply }) => {
    const asked = [`names = ${request.names}`, `extensions = ${request.extensions}`];
    if (request.struct !== undefined) asked.push(`struct = ${luaString(request.struct)}`);
    if (request.tail !== undefined) asked.push(`tail = ${luaString(request.tail)}`);
    if (request.counted !== undefined) asked.push(`counted = ${luaString(request.counted)}`);
    if (request.record !== undefined) asked.push(`record = ${luaString(request.record)}`);
    const answered = [`structs = { ${reply.structs.map(luaString).join(', ')} }`];
    if (reply.tail !== undefined) answered.push(`tail = ${luaString(reply.tail)}`);
    if (reply.limitedBy !== undefined) answered.push(`limited = ${luaString(reply.limitedBy)}`);
    if (reply.whenSizeZero !== undefined) answered.push(`when_zero = ${luaString(reply.whenSizeZero)}`);
    return (
      `OPCODES[${value}] = { name = ${luaString(name)}, since = ${since}, answered = ${hasReply},\n` +
      `  request = { ${asked.join(', ')} }, reply = { ${answered.join(', ')} } }`
    );
  });
}

function notificationText(): string[] {
  return NOTIFICATIONS.map(({ name, value, struct, names, tail, counted }) => {
    const parts = [`name = ${luaString(name)}`, `names = ${names}`];
    if (struct !== undefined) parts.push(`struct = ${luaString(struct)}`);
    if (tail !== undefined) parts.push(`tail = ${luaString(tail)}`);
    if (counted !== undefined) parts.push(`counted = ${luaString(counted)}`);
    return `NOTIFICATIONS[${value}] = { ${parts.join(', ')} }`;
  });
}

function bitOf(flag: InitFlag): number {
  return INIT_FLAGS.find(({ name }) => name === flag)!.bit % 32;
}

/** The dissector as a Lua script for `wireshark -X lua_script:…` or Wireshark's plugin folder. The same for every machine. */
export function wiresharkDissector(): string {
  const errnos = [...new Set(Object.values(ERRNO))].sort((a, b) => a - b);
  return [
    '-- Generated by `fusewire trace dissector` from the protocol table. Do not edit.',
    `-- Wireshark's view of FUSE 7.1 to 7.${PROTOCOL_MINOR}, for files that \`fusewire trace export --pcapng\` wrote.`,
    `local fuse = Proto(${luaString(DISSECTOR_NAME)}, "Filesystem in Userspace")`,
    `local MINOR, PSEUDO_BYTES, SECCTX_MAX, EXT_GROUPS = ${PROTOCOL_MINOR}, ${PSEUDO_BYTES}, ${FUSE_MAX_NR_SECCTX}, ${FUSE_EXT_GROUPS}`,
    `local INIT_EXT_BIT, SETXATTR_EXT_BIT, SECURITY_BIT = ${bitOf('FUSE_INIT_EXT')}, ${bitOf('FUSE_SETXATTR_EXT')}, ${bitOf('FUSE_SECURITY_CTX')}`,
    `local INIT_FLAGS_SINCE = ${MINOR_OF.initInHasFlags}`,
    'local P, S, OPCODES, NOTIFICATIONS, IOCTLS, fields = {}, {}, {}, {}, {}, {}',
    'local put_path',
    '',
    '-- Registers a field under fuse.<key>.',
    'local function own(key, make, ...)',
    `  local field = make(${luaString(`${DISSECTOR_NAME}.`)} .. key, ...)`,
    '  P[key] = field',
    '  fields[#fields + 1] = field',
    'end',
    '',
    `local ERRNO = ${luaTable([[0, '"none"'], ...errnos.map((errno) => [errno, luaString(errnoName(errno))] as const)])}`,
    `local COUNTS_LOOKUP = ${luaTable(OPCODES.filter(({ countsLookup }) => countsLookup).map(({ value }) => [value, 'true']))}`,
    `local STRUCT_NAMES = ${luaTable(STRUCTS.map(({ name }, index) => [index, luaString(name)]))}`,
    '',
    ...STRUCTS.flatMap((struct) => [...structText(struct), '']),
    ...opcodeText(),
    '',
    ...notificationText(),
    '',
    ...DEVICE_IOCTLS.map(
      ({ name, value, argument }) =>
        `IOCTLS[${value}] = { name = ${luaString(name)}${argument === undefined ? '' : `, argument = ${luaString(argument)}`} }`,
    ),
    DISSECTOR_ENGINE,
  ].join('\n');
}
