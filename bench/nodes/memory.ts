/** The memory filesystem without its garbage. */
import memory from '../../examples/memory/filesystem.ts';
import { collectGarbage } from './garbage.ts';

export { shared, workers } from '../../examples/memory/filesystem.ts';

export default function collected(context: Parameters<typeof memory>[0]): ReturnType<typeof memory> {
  collectGarbage();
  return memory(context);
}
