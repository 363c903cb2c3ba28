/** The ends of a thread that a filesystem can bring about. */
import type { CrashKind } from './plan.ts';

/** The error that ends a thread on purpose. */
export class InjectedCrash extends Error {
  override readonly name = 'InjectedCrash';
  readonly code = 'ERR_FUSEWIRE_INJECTED';
}

export function never(): Promise<never> {
  return new Promise(() => {});
}

/** Ends this thread, or in the main thread this process. What it answers never settles. */
export function crash(how: CrashKind): Promise<never> {
  const error = new InjectedCrash('a planned fault ends this thread');
  switch (how) {
    case 'throw':
      // Outside of the handler, where nothing of ours catches it.
      setImmediate(() => {
        throw error;
      });
      break;
    case 'rejection':
      void Promise.reject(error);
      break;
    case 'exit':
      process.exit(1);
      break;
    case 'memory':
      fillHeap();
      break;
    case 'kill':
      process.kill(process.pid, 'SIGKILL');
      break;
  }
  return never();
}

/** Allocates on the JavaScript heap until the engine gives up. */
function fillHeap(): never {
  const hoard: number[][] = [];
  for (;;) hoard.push(new Array(1 << 14).fill(0.5));
}
