/** The server-side functions: one library of all files in lua/, named by what is in it, so that versions can live side by side. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export interface Library {
  readonly name: string;
  readonly code: string;
}

function folder(): string {
  // As a source file this is one level below the package, compiled it is two.
  for (const up of ['../lua/', '../../lua/']) {
    const path = fileURLToPath(new URL(up, import.meta.url));
    if (existsSync(path)) return path;
  }
  throw new Error('the folder lua/ of clusterfs is missing');
}

let loaded: Library | undefined;

export function library(): Library {
  if (loaded === undefined) {
    const path = folder();
    const files = readdirSync(path).filter((name) => name.endsWith('.lua'));
    const text = files
      .sort()
      .map((name) => readFileSync(`${path}${name}`, 'utf8'))
      .join('\n');
    const name = `clusterfs_${createHash('sha256').update(text).digest('hex').slice(0, 12)}`;
    loaded = { name, code: text.replaceAll('@NAME@', name) };
  }
  return loaded;
}
