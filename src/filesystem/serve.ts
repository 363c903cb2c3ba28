import type { Addon } from '../native/index.ts';
import { type MountLimits, type Negotiated, Session, type SessionOptions } from '../session/index.ts';
import { type ChannelMode, DeviceChannel, receiveBytesFor } from '../transport/index.ts';
import type { Filesystem } from './filesystem.ts';
import { operationsOf } from './operations.ts';

/** What a thread serves a connection with, beyond what its session is told. */
export interface DeviceSessionOptions extends SessionOptions {
  addon: Addon;
  /** A duplicate or clone of the device; the channel closes it. */
  fd: number;
  mode: ChannelMode;
  negotiated: Negotiated;
  limits: MountLimits;
}

/** The session that serves a filesystem on this thread over a device descriptor. Not open yet. */
export function deviceSession(filesystem: Filesystem, options: DeviceSessionOptions): Session {
  const { addon, fd, mode, negotiated, limits } = options;
  const receiveBytes = receiveBytesFor({ maxWriteBytes: negotiated.maxWrite, maxPages: negotiated.maxPages });
  const channel = new DeviceChannel({ ...limits, fd, mode, receiveBytes });
  return new Session(channel, operationsOf(filesystem), {
    ...options,
    isOwnThread: (threadId) => addon.isOwnThread(threadId),
  });
}
