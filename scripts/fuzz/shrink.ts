/** Makes the smallest case that still shows the same fault: first fewer frames, then fewer and plainer bytes. */
import { checkCase } from './check.ts';
import { FRAME_HEAD, type Frame, putWord } from './frame.ts';
import { Finding, type Target } from './target.ts';

/** Names a fault: the key of a finding, or what was thrown and where. */
export function keyOf(error: unknown): string {
  if (error instanceof Finding) return error.key;
  if (!(error instanceof Error)) return `thrown ${typeof error}`;
  const where = error.stack?.split('\n').find((line) => /\bat\b/.test(line)) ?? '';
  return `${error.name} ${where.replace(/^.*?([\w.-]+:\d+):\d+\)?$/, '$1').trim()}`;
}

async function shows(target: Target, frames: readonly Frame[], key: string): Promise<boolean> {
  try {
    await checkCase(target, frames);
    return false;
  } catch (error) {
    return keyOf(error) === key;
  }
}

/** Steps at most, so that a case that is slow to show its fault does not hold up the report. */
const STEPS_MAX = 3000;

export async function shrink(target: Target, frames: readonly Frame[], key: string): Promise<readonly Frame[]> {
  const budget = { steps: STEPS_MAX };
  const test = async (candidate: readonly Frame[]): Promise<boolean> => {
    budget.steps -= 1;
    return budget.steps > 0 && (await shows(target, candidate, key));
  };
  if (!(await test(frames))) return frames;
  let smallest = await fewerFrames(frames, test);
  for (let index = 0; index < smallest.length; index++) {
    const put = (frame: Frame) => smallest.map((other, at) => (at === index ? frame : other));
    const frame = await plainerFrame(smallest[index]!, (candidate) => test(put(candidate)));
    smallest = put(frame);
  }
  return smallest;
}

type Test<T> = (candidate: T) => Promise<boolean>;

/** Leaves out halves, quarters and so on down to single frames, as long as the fault stays. */
async function fewerFrames(frames: readonly Frame[], test: Test<readonly Frame[]>): Promise<readonly Frame[]> {
  let smallest = frames;
  for (let piece = Math.ceil(smallest.length / 2); piece >= 1; piece = piece === 1 ? 0 : Math.ceil(piece / 2)) {
    for (let at = 0; at < smallest.length; ) {
      const candidate = [...smallest.slice(0, at), ...smallest.slice(at + piece)];
      if (candidate.length < smallest.length && (await test(candidate))) smallest = candidate;
      else at += piece;
    }
  }
  return smallest;
}

/** Cuts the end off, then puts zeros in. */
async function plainerFrame(frame: Frame, test: Test<Frame>): Promise<Frame> {
  let smallest = frame;
  for (let cut = Math.floor(smallest.length / 2); cut >= 1; cut = Math.floor(cut / 2)) {
    while (smallest.length - cut >= FRAME_HEAD + 4) {
      const plain = smallest.slice(0, smallest.length - cut);
      const fitted = plain.slice();
      putWord(fitted, FRAME_HEAD, fitted.length - FRAME_HEAD);
      if (await test(fitted)) smallest = fitted;
      else if (await test(plain)) smallest = plain;
      else break;
    }
  }
  for (let piece = 64; piece >= 1; piece /= 4) {
    for (let at = FRAME_HEAD; at < smallest.length; at += piece) {
      const zeroed = smallest.slice();
      zeroed.fill(0, at, at + piece);
      if (smallest.subarray(at, at + piece).some((byte) => byte !== 0) && (await test(zeroed))) smallest = zeroed;
    }
  }
  return smallest;
}
