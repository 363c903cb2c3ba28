/** The memory that the alarm and its thread share. */

/** Word that changes with every new time. */
export const ALARM_CHANGED = 0;
export const ALARM_BYTES = 16;

export interface AlarmMemory {
  readonly words: Int32Array;
  /** When it shall ring, in the milliseconds of {@link sharedNow}; 0: not at all, negative: the thread ends. */
  readonly due: Float64Array;
}

export function alarmMemory(memory: SharedArrayBuffer): AlarmMemory {
  return { words: new Int32Array(memory, 0, 1), due: new Float64Array(memory, 8, 1) };
}

/** Milliseconds of one clock that all threads of this process agree on. */
export function sharedNow(): number {
  return performance.timeOrigin + performance.now();
}
