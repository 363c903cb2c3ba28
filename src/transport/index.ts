/** Channels: whole FUSE messages in and out, over the device or in memory. */

export type { Channel, ChannelHandler, ChannelMode, CloseReason, MessageBuffer } from './channel.ts';
export { type ClonedDevice, cloneDevice } from './clone.ts';
export { type ChannelLimits, DeviceChannel, type DeviceChannelOptions, receiveBytesFor } from './device.ts';
export { BufferNotLentError, ChannelUsedError, CloneError, RingError } from './errors.ts';
export { type KernelEnd, type KernelHandler, type MemoryPair, type MemoryPairOptions, memoryPair } from './memory.ts';
export { type BufferRegistry, REPLY_PAYLOAD_AT, REQUEST_PAYLOAD_AT } from './pool.ts';
export {
  closeTrace,
  openTrace,
  Recorder,
  type RecorderOptions,
  recorded,
  type TraceFile,
  type TraceSettings,
} from './record.ts';
export { TRACE_ERROR_CODES, TraceError, type TraceErrorCode, type TraceErrorDetails } from './record-errors.ts';
export type { TraceMessage } from './record-message.ts';
export {
  RingChannel,
  type RingChannelOptions,
  type RingLimits,
  type RingPlace,
  type RingTurns,
  refuseRing,
  ringObstacle,
  ringQueues,
} from './ring.ts';
