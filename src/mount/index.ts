/** Mounting: mount(2), fusermount3, options, unmounting, and what this machine offers. */
export { type Attachment, type AttachSettings, attach, type UnmountOutcome, type UnmountSettings } from './attach.ts';
export { MOUNT_ERROR_CODES, MountError, type MountErrorCode, type MountErrorDetails } from './errors.ts';
export { findHelper } from './helper.ts';
export * from './mount.ts';
export { isFuseType, type MountInfo, mountOwner, parseMountInfo, readMountInfo, topmostMount } from './mountinfo.ts';
export { escapeOptionValue, type MountOptions, parseMountOptions } from './options.ts';
export { type ProbeCheck, type ProbeReport, type ProbeState, probe } from './probe.ts';
export { type UnmountPathSettings, unmountPath } from './unmount.ts';
