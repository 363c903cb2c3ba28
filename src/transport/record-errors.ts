const SENTENCES = {
  ERR_FUSEWIRE_TRACE_OPEN: (subject: string, detail: string) =>
    `The trace ${subject} cannot be opened${detail}: name a file that is there and may be read.`,
  ERR_FUSEWIRE_TRACE_READ: (subject: string, detail: string) =>
    `The trace ${subject} cannot be read to its end${detail}: make a new copy of it.`,
  ERR_FUSEWIRE_TRACE_WRITE: (subject: string, detail: string) =>
    `The trace ${subject} cannot be written${detail}: name a file in a folder that is there, may be written to and has room.`,
  ERR_FUSEWIRE_TRACE_SETTING: (subject: string, detail: string) =>
    `The trace ${subject} cannot be recorded like that${detail}: change the setting.`,
  ERR_FUSEWIRE_TRACE_FORMAT: (subject: string, detail: string) =>
    `The file ${subject} is no trace${detail}: name one that was recorded with --trace, or lines of JSON.`,
  ERR_FUSEWIRE_TRACE_VERSION: (subject: string, detail: string) =>
    `The trace ${subject} was written by a later fusewire${detail}: read it with that one, or convert it to .jsonl there.`,
  ERR_FUSEWIRE_TRACE_LINE: (subject: string, detail: string) =>
    `The trace ${subject} has a line that is no message${detail}: mend or remove the line.`,
  ERR_FUSEWIRE_TRACE_DAMAGED: (subject: string, detail: string) =>
    `The trace ${subject} is damaged${detail}: read it with damage skipped to get at the rest.`,
  ERR_FUSEWIRE_TRACE_VALUE: (subject: string, detail: string) =>
    `A message cannot be written to the trace ${subject}${detail}: correct that field.`,
} as const satisfies Record<string, (subject: string, detail: string) => string>;

export type TraceErrorCode = keyof typeof SENTENCES;

/** Every code, for documentation and tests. */
export const TRACE_ERROR_CODES = Object.keys(SENTENCES) as TraceErrorCode[];

export interface TraceErrorDetails {
  /** What exactly is wrong; goes into brackets. */
  readonly detail?: string;
  /** Byte of the (unpacked) file at which the trouble begins. */
  readonly offset?: number;
  /** Line of the file, from 1. */
  readonly line?: number;
  readonly cause?: unknown;
}

/** A trace that cannot be opened, read, understood or written. `message` is one sentence that says what to do. */
export class TraceError extends Error {
  override readonly name = 'TraceError';
  /** Stable: programs may depend on it. */
  readonly code: TraceErrorCode;
  /** Byte of the (unpacked) file at which the trouble begins, where that is known. */
  readonly offset?: number;
  /** Line of the file, from 1, where that is known. */
  readonly line?: number;

  constructor(code: TraceErrorCode, path: string, details: TraceErrorDetails = {}) {
    const { line, offset, cause } = details;
    const place = line === undefined ? (offset === undefined ? [] : [`byte ${offset}`]) : [`line ${line}`];
    const words = [...place, ...(details.detail === undefined ? [] : [details.detail])].join(', ');
    super(SENTENCES[code](path, words === '' ? '' : ` (${words})`), cause === undefined ? undefined : { cause });
    this.code = code;
    if (offset !== undefined) this.offset = offset;
    if (line !== undefined) this.line = line;
  }
}
