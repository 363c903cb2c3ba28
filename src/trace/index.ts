/** Traces: captured traffic between the kernel and a daemon, read and written. */

export { type AnonymiseOptions, anonymiseTrace } from './anonymise.ts';
export { type CheckFinding, type CheckOptions, type CheckReport, checkTrace, type Verdict, verdictOf } from './check.ts';
export { filterName, wiresharkDissector } from './dissector.ts';
export { TRACE_ERROR_CODES, TraceError, type TraceErrorCode, type TraceErrorDetails } from './errors.ts';
export { type ExplainOptions, type Explanation, explain, explainLine, explainMessage } from './explain.ts';
export * from './follow.ts';
export { type GrepQuery, grepMessages, grepTrace } from './grep.ts';
export { parseTraceLine, traceLine } from './jsonl.ts';
export { errnoName, errnoNumber, type Machine } from './linux.ts';
export { type TraceMessage, wholeMessage } from './message.ts';
export { displayText, Names, type NamesOptions, TraceNames } from './names.ts';
export { exportPcapng, PCAPNG_LINKTYPE, type PcapngOptions, type PcapngSink } from './pcapng.ts';
export { type ReadTraceOptions, readTrace, type TraceSummary } from './read.ts';
export { type ReplayOptions, replayTrace } from './replay.ts';
export { type CompareOptions, meaningDifferences } from './replay-compare.ts';
export { type ReplayDifference, type ReplayLimits, type ReplayReport, summarise } from './replay-report.ts';
export type { SessionFactory } from './replay-wire.ts';
export { replayScripted, ScriptedFilesystem, type ScriptedReport } from './scripted.ts';
export type { ScriptedRule } from './scripted-rules.ts';
export { eventJson, type JsonValue, type ShowOptions, showTrace, showTraceJson } from './show.ts';
export {
  type Depth,
  type FileStat,
  type InitSummary,
  type Latency,
  type OpcodeStat,
  type StatOptions,
  statTrace,
  type TraceStat,
} from './stat.ts';
export { assertSameTrace, type ExpectTraceOptions, expectTrace, messagesOf, type TraceSource } from './testing.ts';
export { type WriteTraceOptions, writeTrace } from './write.ts';
