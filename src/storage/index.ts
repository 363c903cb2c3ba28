/**
 * fusewire/storage: keeps slow storage busy. {@link withStorage} puts a layer between a filesystem and its backend that merges
 * requests, reads ahead, writes behind, and keeps limits; {@link BlockCache} keeps immutable blocks.
 */
export {
  type ByteRange,
  type Bytes,
  type FileHandleLike,
  fileHandleBackend,
  type GatheredWrite,
  type Origin,
  type StorageBackend,
  type Transfer,
} from './backend.ts';
export { BlockCache, type BlockCacheCounters, type BlockCacheOptions } from './blocks.ts';
export { type CachedBackendOptions, cachedBackend } from './cached.ts';
export { mergeRatio, type StorageCounters } from './counters.ts';
export type { DiskBlocksOptions } from './disk-blocks.ts';
export type {
  Asker,
  StorageFilesystem,
  StorageLayer,
  StoredFile,
  StoredHandle,
  WithStorageOptions,
} from './interface.ts';
export { storageLayer } from './layer.ts';
export { ByteLru, type ByteMap } from './lru.ts';
export {
  isTransient,
  type ReadAheadOptions,
  type RetryOptions,
  StorageError,
  type StorageLimits,
  type StorageOptions,
  type WriteBehindOptions,
} from './options.ts';
export { withStorage } from './with-storage.ts';
