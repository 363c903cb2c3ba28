export { type AttributesInit, makeDevice, type StatfsInit, splitDevice, type TimeInit, type Timespec } from './attributes.ts';
export { ERRNO, ERRNO_MAX, errnoName, errnoOf, FuseError, type FuseErrorDetails } from './errors.ts';
export type * from './filesystem.ts';
export { type FileHandle, fileHandle, type NodeId, nodeId, ROOT_NODE } from './identity.ts';
export type { Listed } from './listing.ts';
export { assertMethods, FilesystemError } from './methods.ts';
export type { FilesystemFactory, FilesystemModule, WorkerContext } from './module.ts';
export { capabilitiesOf, operationsOf } from './operations.ts';
export type * from './requests.ts';
