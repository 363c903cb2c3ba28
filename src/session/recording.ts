import { Recorder, type TraceFile } from '../transport/index.ts';
import { reportFault } from './diagnostics.ts';

/** What a worker needs to record its channel. Plain data. */
export interface TraceStart {
  file: TraceFile;
  /** By worker: whether it has something that is not written yet; see {@link RecorderOptions.state}. Shared memory. */
  states: Int32Array;
}

/** A recorder of this thread that tells of its failure on the diagnostics channel. */
export function startRecorder(file: TraceFile, channel: number, state?: Int32Array): Recorder {
  return new Recorder({
    file,
    channel,
    ...(state === undefined ? {} : { state }),
    onError: (error) =>
      reportFault({
        kind: 'trace-failed',
        operation: '',
        nodeid: 0,
        pid: 0,
        message: `recording ended: ${error.message}`,
        error,
      }),
  });
}
