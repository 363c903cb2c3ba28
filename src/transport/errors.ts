import { errnoName } from '../native/index.ts';

/** Thrown when a buffer is given back that the channel did not lend, or twice. It is a fault of the caller. */
export class BufferNotLentError extends Error {
  readonly code = 'ERR_FUSEWIRE_BUFFER_NOT_LENT';
  override readonly name = 'BufferNotLentError';
  constructor() {
    super('A message buffer was given back or kept that is not lent: give each back once, to the channel that it came from.');
  }
}

/** Thrown when a channel is opened a second time, or after it was closed. It is a fault of the caller. */
export class ChannelUsedError extends Error {
  readonly code = 'ERR_FUSEWIRE_CHANNEL_USED';
  override readonly name = 'ChannelUsedError';
  constructor() {
    super('This channel was opened or closed before: make a new one for each session.');
  }
}

/** Thrown when another descriptor for a connection could not be made. */
export class CloneError extends Error {
  readonly code = 'ERR_FUSEWIRE_CLONE';
  override readonly name = 'CloneError';
  /** The positive error number. */
  readonly errno: number;
  constructor(step: string, errno: number) {
    const cause = errnoName(errno);
    const advice = cause === 'EMFILE' ? 'raise the limit of open files' : 'the descriptor must be that of a mounted filesystem';
    super(`Another channel to the kernel could not be opened (${step} gave ${cause}): ${advice}.`);
    this.errno = errno;
  }
}

/** Thrown when FUSE-over-io_uring cannot be had; the device still serves. */
export class RingError extends Error {
  readonly code = 'ERR_FUSEWIRE_RING';
  override readonly name = 'RingError';
  /** The positive error number. */
  readonly errno: number;
  constructor(errno: number) {
    const cause = errnoName(errno);
    super(`FUSE-over-io_uring cannot be used here (${cause}): ${RING_ADVICE[cause] ?? 'mount with transport device'}.`);
    this.errno = errno;
  }
}

const RING_ADVICE: Readonly<Record<string, string>> = {
  EOPNOTSUPP: 'write Y to /sys/module/fuse/parameters/enable_uring, on Linux 6.14 or later',
  EPERM: 'see /proc/sys/kernel/io_uring_disabled and the seccomp profile of the container',
  ENOSYS: 'this kernel, or the seccomp profile of the container, has no io_uring',
  ENOMEM: 'take fewer workers, a smaller depth, or a smaller max_write',
};
