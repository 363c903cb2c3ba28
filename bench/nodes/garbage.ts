const EVERY_MS = 1500;

/** Collects this thread's garbage from time to time, where Node runs with --expose-gc: what stays in memory is what is needed. */
export function collectGarbage(): void {
  const { gc } = globalThis as { gc?: () => void };
  if (gc !== undefined) setInterval(() => gc(), EVERY_MS).unref();
}
