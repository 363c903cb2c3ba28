/** A filesystem of any number of empty files, f0, f1 and so on, that has no memory of its own: what is left is the library's. */
import { FuseError } from 'fusewire';
import { type PathFilesystem, pathFilesystem } from 'fusewire/paths';

export function synthetic(maxNodes: number): PathFilesystem {
  return pathFilesystem(
    {
      lstat(path) {
        if (path === '/') return { type: 'directory' };
        if (/^\/f\d+$/.test(path)) return { type: 'file' };
        throw new FuseError('ENOENT');
      },
    },
    { maxNodes },
  );
}
