/**
 * The wire protocol: bytes only. The table of structs, opcodes, flags and notifications, the codecs generated from it,
 * names, directory records and extension areas. Imports nothing and needs nothing of Node.
 */
export * from './connection.ts';
export type { PaddingRun, StructValue } from './cursor.ts';
export * from './dirents.ts';
export * from './extensions.ts';
export * from './failure.ts';
export * from './generated/constants.ts';
export * from './generated/structs.ts';
export * from './init-flags.ts';
export type {
  ConstantGroup,
  ConstantRow,
  FieldRole,
  FieldRow,
  Growth,
  PlacedField,
  PlacedStruct,
  ReplyShape,
  RequestShape,
  ScalarType,
} from './layout.ts';
export * from './message.ts';
export * from './names.ts';
export * from './opcodes.ts';
export {
  CONSTANT_GROUPS,
  DEVICE_IOCTLS,
  type DeviceIoctlName,
  type DeviceIoctlRow,
  INIT_FLAGS,
  type InitFlag,
  type InitFlagRow,
  NOTIFICATIONS,
  type NotificationName,
  type NotificationRow,
  OPCODES,
  type OpcodeName,
  type OpcodeRow,
  PROTOCOL_MAJOR,
  PROTOCOL_MINOR,
  STRUCTS,
  type StructName,
  structOf,
} from './schema.ts';
export * from './versions.ts';
