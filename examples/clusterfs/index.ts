/** clusterfs for programs: make a volume, open it, mount it with fusewire. */
export { type CheckReport, checkVolume } from './check.ts';
export { CLUSTERFS_ERROR_CODES, ClusterfsError, type ClusterfsErrorCode } from './errors.ts';
export { ClusterFilesystem, type ClusterFilesystemOptions } from './filesystem.ts';
export { type CollectReport, collectVolume } from './gc.ts';
export type { MountOptions } from './options.ts';
export type { ClusterOptions } from './redis/cluster.ts';
export type { S3Client, S3Options } from './store/s3.ts';
export type { BlockStore } from './store/store.ts';
export {
  FORMAT,
  type FormatOptions,
  formatVolume,
  openVolume,
  type SessionStatus,
  type Volume,
  type VolumeDescription,
  type VolumeStatus,
  volumeStatus,
} from './volume.ts';
