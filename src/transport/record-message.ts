/** A message of a trace: what crossed the device, when, and what the kernel said to it. */
export interface TraceMessage {
  /** `in`: the daemon read it. `out`: the daemon wrote it, a reply or a notification. `ioctl`: a call on the device. */
  readonly dir: 'in' | 'out' | 'ioctl';
  /** Whole microseconds since the recording began. */
  readonly t: number;
  /** The whole message, headers included; of an ioctl its argument. Only its beginning when {@link wholeBytes} is set. */
  readonly bytes: Uint8Array;
  /**
   * Of a message whose payload was left out when it was recorded: how long it was. The length in its own header says the
   * same. `wholeMessage` makes one of that length again, with zeros for what is missing.
   */
  readonly wholeBytes?: number;
  /** Of `out`: the positive errno with which the kernel refused it (2, ENOENT, for an interrupted request, say). */
  readonly errno?: number;
  /** Which channel (device descriptor, thread) it used, where there was more than one. */
  readonly channel?: number;
  /** Of `ioctl`: the request code. */
  readonly command?: number;
  /** Of `ioctl`: what the call returned. */
  readonly result?: number;
  /** The system call that carried it, where the recorder knew. */
  readonly via?: string;
}
