/** Checks a case, and also what escapes it: a promise that nobody waits for, an error in a callback. */
import type { Frame } from './frame.ts';
import { Finding, type Target } from './target.ts';

const strays: unknown[] = [];
const onStray = (error: unknown): void => {
  strays.push(error);
};
let watchers = 0;

/** From now on what would end the process is a finding of the case under way. Answers how to stop. */
export function watchStrays(): () => void {
  if (watchers++ === 0) process.on('unhandledRejection', onStray).on('uncaughtException', onStray);
  return () => {
    if (--watchers === 0) process.off('unhandledRejection', onStray).off('uncaughtException', onStray);
  };
}

/** Rejects with what is wrong. */
export async function checkCase(target: Target, frames: readonly Frame[]): Promise<void> {
  strays.length = 0;
  await target.check(frames);
  await new Promise((resolve) => setImmediate(resolve));
  const [stray] = strays;
  if (strays.length > 0)
    throw stray instanceof Error ? stray : new Finding('stray', `${typeof stray} was thrown and nobody caught it`);
}
