/**
 * A filesystem that takes many nodes, as a program of its own. Arguments: `passthrough`, `memory` or `paths`, the source, the mount
 * point, and how many nodes.
 */
import { type MountSettings, mount } from 'fusewire';
import { collectGarbage } from './garbage.ts';
import { synthetic } from './synthetic.ts';

const [kind, source, path, nodes] = process.argv.slice(2);
/** Beside what is looked up: what was looked up before, the folders, and what the passthrough keeps free for files that are made. */
const room = Math.ceil(Number(nodes) * 1.25) + 16_384;
/** Timers, by which garbage is collected, need an event loop. */
const settings: MountSettings = { mode: 'event' };
const module = new URL(`./${kind}.js`, import.meta.url);

async function serve() {
  if (kind === 'memory') return await mount({ module, options: { inodes: room } }, path, settings);
  if (kind === 'passthrough')
    return await mount({ module, options: { source, maxNodes: room } }, path, { ...settings, workers: 2 });
  collectGarbage();
  return await mount(synthetic(room), path, settings);
}

const mounted = await serve();
await mounted.closed;
