/** What the named cache presets mean; see {@link CachePreset}. */
import type { InitFlag } from '../protocol/index.ts';
import type { CachePreset, Filesystem } from './filesystem.ts';

interface Preset {
  /** Seconds for which names and attributes live. */
  readonly ttl: number;
  /** Whether the page cache of a file and the listing of a directory survive a close. */
  readonly keep: boolean;
  /** INIT flags that follow from it. */
  readonly capabilities: readonly InitFlag[];
}

const PRESETS: Readonly<Record<CachePreset, Preset>> = {
  none: { ttl: 0, keep: false, capabilities: [] },
  shared: { ttl: 1, keep: false, capabilities: [] },
  exclusive: { ttl: 3600, keep: true, capabilities: [] },
  immutable: { ttl: Number.POSITIVE_INFINITY, keep: true, capabilities: ['FUSE_CACHE_SYMLINKS'] },
};

/** The preset of a filesystem. Throws a RangeError for a name that is none. */
export function presetOf(filesystem: Filesystem): Preset {
  const name = filesystem.settings?.cache ?? 'shared';
  const preset = PRESETS[name];
  if (preset === undefined) throw new RangeError(`the cache preset is ${Object.keys(PRESETS).join(', ')}, not ${name}`);
  return preset;
}
