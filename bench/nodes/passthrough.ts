/** The passthrough without its garbage. */
import passthrough from '../../examples/passthrough/filesystem.ts';
import { collectGarbage } from './garbage.ts';

export { shared, sharedEnd } from '../../examples/passthrough/filesystem.ts';

export default function collected(context: Parameters<typeof passthrough>[0]): ReturnType<typeof passthrough> {
  collectGarbage();
  return passthrough(context);
}
