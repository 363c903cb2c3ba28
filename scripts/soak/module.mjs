/** The passthrough, with a door for the soak: looking up a name that starts with `.soak-collect` collects this worker's garbage. */
import passthrough, { shared, sharedEnd } from '../../dist/examples/passthrough/filesystem.js';

export { shared, sharedEnd };

export default (context) => {
  const filesystem = passthrough(context);
  const lookup = filesystem.lookup.bind(filesystem);
  filesystem.lookup = (parent, name, request) => {
    if (name.startsWith('.soak-collect')) globalThis.gc?.();
    return lookup(parent, name, request);
  };
  return filesystem;
};
