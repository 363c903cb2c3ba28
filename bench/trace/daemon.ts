/** The passthrough with a trace as a program of its own. Arguments: the source, the mount point, and settings as JSON. */
import { type MountSettings, mount } from 'fusewire';

const [source, path, settings] = process.argv.slice(2);
const module = new URL('../../examples/passthrough/filesystem.js', import.meta.url);
const mounted = await mount({ module, options: { source, backing: false } }, path, JSON.parse(settings) as MountSettings);
process.stdout.write('mounted\n');
await mounted.closed;
