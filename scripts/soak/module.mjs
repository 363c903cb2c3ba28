/**
 * The passthrough, with a door for the soak: looking up a name that starts with `.soak-collect` collects this worker's garbage, and
 * counts that in `collected`, where each worker has a place behind the first word.
 */
import passthrough, { shared, sharedEnd } from '../../dist/examples/passthrough/filesystem.js';

export { shared, sharedEnd };

export default (context) => {
  const { collected } = context.options;
  const place = Atomics.add(collected, 0, 1) + 1;
  const filesystem = passthrough(context);
  const lookup = filesystem.lookup.bind(filesystem);
  filesystem.lookup = (parent, name, request) => {
    if (name.startsWith('.soak-collect')) {
      globalThis.gc?.();
      Atomics.add(collected, place, 1);
    }
    return lookup(parent, name, request);
  };
  return filesystem;
};
