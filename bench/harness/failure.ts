/** A benchmark that cannot be run, or whose result does not count. `code` is stable; the message says what to do. */
export class BenchError extends Error {
  override readonly name = 'BenchError';
  readonly code:
    | 'ERR_FUSEWIRE_BENCH_USAGE'
    | 'ERR_FUSEWIRE_BENCH_MACHINE'
    | 'ERR_FUSEWIRE_BENCH_DAEMON'
    | 'ERR_FUSEWIRE_BENCH_RESULT';

  constructor(code: BenchError['code'], message: string) {
    super(message);
    this.code = code;
  }

  static usage(message: string): BenchError {
    return new BenchError('ERR_FUSEWIRE_BENCH_USAGE', message);
  }

  static machine(message: string): BenchError {
    return new BenchError('ERR_FUSEWIRE_BENCH_MACHINE', message);
  }

  static daemon(message: string): BenchError {
    return new BenchError('ERR_FUSEWIRE_BENCH_DAEMON', message);
  }

  static result(message: string): BenchError {
    return new BenchError('ERR_FUSEWIRE_BENCH_RESULT', message);
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
