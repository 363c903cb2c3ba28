import { BenchError } from '../harness/failure.ts';
import { fioJob } from '../letter/tools.ts';

/** How many reads fio did. Throws a BenchError when it failed or did fewer than `atLeast`. */
export function parseFioRequests(stdout: string, atLeast: number): number {
  const { total_ios, short_ios } = fioJob(stdout).read;
  if (short_ios > 0) throw BenchError.result(`${short_ios} of fio's requests were answered short`);
  if (total_ios < atLeast) throw BenchError.result(`fio made ${total_ios} requests instead of ${atLeast}`);
  return total_ios;
}
