import type { Addon } from '../native/index.ts';
import { type MountLimits, type Negotiated, reportFault, Session, type SessionOptions } from '../session/index.ts';
import {
  type Channel,
  type ChannelMode,
  DeviceChannel,
  type Recorder,
  RingChannel,
  RingError,
  type RingPlace,
  receiveBytesFor,
  recorded,
  refuseRing,
} from '../transport/index.ts';
import { BackingFiles } from './backing.ts';
import type { Filesystem } from './filesystem.ts';
import { operationsOf } from './operations.ts';

const PAGE_BYTES = 4096;

/** What a thread serves a connection with, beyond what its session is told. */
export interface DeviceSessionOptions extends SessionOptions {
  addon: Addon;
  /** A duplicate or clone of the device; the channel closes it. */
  fd: number;
  mode: ChannelMode;
  negotiated: Negotiated;
  limits: MountLimits;
  /** Serve by FUSE-over-io_uring, at this place of the connection. Where there can be no ring, the device serves alone. */
  ring?: RingPlace | undefined;
  /** Records the channel. */
  recorder?: Recorder | undefined;
  /** Of {@link Addon.backingTable}: the open inodes of the connection, where FUSE_PASSTHROUGH is in force. */
  backing?: number | undefined;
}

/** The session that serves a filesystem on this thread over a device descriptor. Not open yet. */
export function deviceSession(filesystem: Filesystem, options: DeviceSessionOptions): Session {
  const { addon, fd, recorder, backing: table } = options;
  const plain = channelOf(options);
  const channel = options.recorder === undefined ? plain : recorded(plain, options.recorder);
  const writesAreCheap = options.negotiated.flags.has('FUSE_HANDLE_KILLPRIV_V2');
  const backing = table === undefined ? undefined : new BackingFiles({ addon, device: fd, table, writesAreCheap, recorder });
  return new Session(channel, operationsOf(filesystem, backing), {
    ...options,
    isOwnThread: (threadId) => addon.isOwnThread(threadId),
  });
}

function channelOf({ addon, fd, mode, negotiated, limits, ring }: DeviceSessionOptions): Channel {
  if (ring !== undefined) {
    try {
      const payloadBytes = Math.max(negotiated.maxWrite, negotiated.maxPages * PAGE_BYTES);
      return new RingChannel({ ...limits, ...ring, addon, fd, mode, payloadBytes });
    } catch (error) {
      // The others of the connection may still have theirs.
      if (!(error instanceof RingError)) throw error;
      refuseRing(addon, fd);
      reportFault({ kind: 'ring-refused', operation: '', nodeid: 0, pid: 0, message: error.message, error });
    }
  }
  const receiveBytes = receiveBytesFor({ maxWriteBytes: negotiated.maxWrite, maxPages: negotiated.maxPages });
  return new DeviceChannel({ ...limits, fd, mode, receiveBytes });
}
