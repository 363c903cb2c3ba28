/** Channels: whole FUSE messages in and out, over the device or in memory. */

export type { Channel, ChannelHandler, ChannelMode, CloseReason, MessageBuffer } from './channel.ts';
export { type ClonedDevice, cloneDevice } from './clone.ts';
export { type ChannelLimits, DeviceChannel, type DeviceChannelOptions, receiveBytesFor } from './device.ts';
export { BufferNotLentError, ChannelUsedError, CloneError } from './errors.ts';
export { type KernelEnd, type KernelHandler, type MemoryPair, type MemoryPairOptions, memoryPair } from './memory.ts';
export { type BufferRegistry, REPLY_PAYLOAD_AT, REQUEST_PAYLOAD_AT } from './pool.ts';
