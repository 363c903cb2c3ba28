/** Looking up rows of the table by number, and the sizes that follow from the negotiated minor. */
import { bytesAtMinor, type PlacedStruct } from './layout.ts';
import {
  DEVICE_IOCTLS,
  type DeviceIoctlRow,
  NOTIFICATIONS,
  type NotificationRow,
  OPCODES,
  type OpcodeName,
  type OpcodeRow,
  PROTOCOL_MINOR,
  type StructName,
  structOf,
} from './schema.ts';

/** Opcodes below this are found by an array; CUSE_INIT stands alone above. */
const DENSE = 64;

const byValue: readonly (OpcodeRow | undefined)[] = Array.from({ length: DENSE }, (_, value) =>
  OPCODES.find((row) => row.value === value),
);
const sparse = new Map<number, OpcodeRow>(OPCODES.filter((row) => row.value >= DENSE).map((row) => [row.value, row]));
const byName = new Map<string, OpcodeRow>(OPCODES.map((row) => [row.name, row]));

/** The row of an opcode; undefined when this table does not know it. */
export function opcodeRow(value: number): OpcodeRow | undefined {
  return value >= 0 && value < DENSE ? byValue[value] : sparse.get(value);
}

/** The row of an opcode by its name. */
export function opcodeNamed(name: OpcodeName): OpcodeRow {
  return byName.get(name)!;
}

/** The row of a notification code; undefined when this table does not know it. */
export function notificationRow(value: number): NotificationRow | undefined {
  return NOTIFICATIONS.find((row) => row.value === value);
}

/** The row of a device ioctl by its request number (taken as unsigned). */
export function deviceIoctlRow(value: number): DeviceIoctlRow | undefined {
  return DEVICE_IOCTLS.find((row) => row.value === value >>> 0);
}

/** Size of a struct in the header of protocol 7.`minor`, bytes; 0 before it existed. */
export function structBytes(name: StructName, minor: number): number {
  return bytesAtMinor(structOf(name), minor);
}

/**
 * Bytes with which a struct travels after INIT, when the daemon agreed to `minor` with a present-day kernel: shortened
 * where the kernel shortens it (fs/fuse compares fc->minor), in full where it does not.
 */
export function structBytesOnWire(struct: PlacedStruct, minor: number, setxattrExt: boolean): number {
  const growth = struct.row.growth;
  if (growth === undefined || growth.by === 'kernel') return struct.bytes;
  if (growth.by === 'length') return growth.steps[0]![1];
  if (growth.by === 'flag') return setxattrExt ? struct.bytes : growth.steps[0]![1];
  // A negotiated minor older than the struct itself cannot occur; the oldest size is the safe answer then.
  let bytes = growth.steps[0]![1];
  for (const [from, size] of growth.steps) if (minor >= from) bytes = size;
  return bytes;
}

/**
 * Bytes of the fixed struct in a request at a negotiated minor; 0 when it has none. For INIT, whose length is free, the
 * least that must be there. `setxattrExt`: whether FUSE_SETXATTR_EXT was negotiated.
 */
export function requestStructBytes(row: OpcodeRow, minor: number = PROTOCOL_MINOR, setxattrExt = false): number {
  const name = row.request.struct;
  return name === undefined ? 0 : structBytesOnWire(structOf(name), layoutMinor(row, minor), setxattrExt);
}

/**
 * The minor whose layout a request and its reply have. The kernel shortens structs by opcode (fuse_adjust_compat), and only
 * for the opcodes that existed then: TMPFILE of 7.37 has today's layout even where an older minor was agreed on.
 */
export function layoutMinor(row: OpcodeRow, minor: number): number {
  return Math.max(row.since, minor);
}
