export { TRACE_ERROR_CODES, TraceError, type TraceErrorCode, type TraceErrorDetails } from '../transport/record-errors.ts';
