/** A source folder and a mount point for somebody who only wants to look. */
import { mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Playground {
  readonly source: string;
  readonly mountpoint: string;
  /** What to type in another terminal. */
  readonly hint: string;
  /** Removes both folders; keeps everything when the mount is still there. Idempotent. */
  remove(): void;
}

export function makePlayground(): Playground {
  const base = mkdtempSync(join(tmpdir(), 'fusewire-'));
  const source = join(base, 'source');
  const mountpoint = join(base, 'mount');
  mkdirSync(join(source, 'folder'), { recursive: true });
  mkdirSync(mountpoint);
  writeFileSync(join(source, 'hello.txt'), 'This file was read through fusewire.\n');
  writeFileSync(join(source, 'folder', 'numbers.txt'), Array.from({ length: 1000 }, (_, index) => `${index + 1}\n`).join(''));
  writeFileSync(join(source, 'data.bin'), Buffer.alloc(4 << 20, 'fusewire'));
  return {
    source,
    mountpoint,
    hint: `
Try in another terminal:
  ls -l ${mountpoint}
  cat ${mountpoint}/hello.txt
  echo changed > ${mountpoint}/new.txt && cat ${source}/new.txt
  dd if=${mountpoint}/data.bin of=/dev/null bs=1M iflag=direct

Ctrl+C here unmounts and removes both folders.`,
    remove() {
      try {
        // A mount point that is still in use refuses with EBUSY, without a word to the daemon: then nothing below is touched.
        rmdirSync(mountpoint);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return;
      }
      rmSync(base, { recursive: true, force: true });
    },
  };
}
