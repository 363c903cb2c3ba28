/** Blocks in files of a folder: what survives a restart of the daemon. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { ByteLru } from './lru.ts';

export interface DiskBlocksOptions {
  /** Belongs to the cache alone: files that it does not know are removed. Made when missing, readable for its owner only. */
  folder: string;
  /** Bytes that the files may have together. */
  bytes: number;
  /** Blocks that are being written at a time; more are not kept. Default 16. */
  writesMax?: number;
}

/** The first bytes of each file: what it is, and of which format. */
const MAGIC = Buffer.from('fwblk1\n\0', 'latin1');
const HASH_BYTES = 32;
const HEAD_BYTES = MAGIC.length + HASH_BYTES;
/** Names of whole blocks; everything else in the folder was left by a daemon that died. */
const NAME = /^[0-9a-f]{64}$/;

interface KeptFile {
  readonly bytes: number;
}

/**
 * A second level of the block cache. Every file carries a hash of its key and contents, so that what a loss of power tore is a miss
 * and not wrong bytes. Nothing here fails a request: what cannot be read or written is a miss.
 */
export class DiskBlocks {
  readonly #folder: string;
  readonly #writesMax: number;
  readonly #files: ByteLru<KeptFile>;
  #writing = 0;
  /** Errors of the disk that were taken as misses. */
  failures = 0;

  private constructor(options: DiskBlocksOptions) {
    this.#folder = options.folder;
    this.#writesMax = options.writesMax ?? 16;
    this.#files = new ByteLru<KeptFile>(
      options.bytes,
      ({ bytes }) => bytes,
      (name) => void rm(join(this.#folder, name), { force: true }).catch(() => this.failures++),
    );
  }

  /** Looks at what an earlier daemon left in the folder, oldest use first. */
  static async open(options: DiskBlocksOptions): Promise<DiskBlocks> {
    const blocks = new DiskBlocks(options);
    await mkdir(options.folder, { recursive: true, mode: 0o700 });
    const found: { name: string; bytes: number; used: number }[] = [];
    for (const name of await readdir(options.folder)) {
      const path = join(options.folder, name);
      if (!NAME.test(name)) {
        await rm(path, { force: true, recursive: true });
        continue;
      }
      const { size, mtimeMs } = await stat(path);
      found.push({ name, bytes: size, used: mtimeMs });
    }
    found.sort((a, b) => a.used - b.used);
    for (const { name, bytes } of found) blocks.#files.set(name, { bytes });
    return blocks;
  }

  get bytes(): number {
    return this.#files.bytes;
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    const name = nameOf(key);
    if (this.#files.get(name) === undefined) return undefined;
    try {
      const path = join(this.#folder, name);
      const file = await readFile(path);
      const bytes = file.subarray(HEAD_BYTES);
      if (file.length < HEAD_BYTES || !file.subarray(0, HEAD_BYTES).equals(headOf(key, bytes))) throw new Error('a torn block');
      // The time says what was used last, for the next start. Nobody waits for it.
      const now = new Date();
      utimes(path, now, now).catch(() => this.failures++);
      return bytes;
    } catch {
      this.failures++;
      this.#remove(name);
      return undefined;
    }
  }

  /** Keeps a block, unless too many are being written. */
  async set(key: string, bytes: Uint8Array): Promise<void> {
    const name = nameOf(key);
    if (this.#writing >= this.#writesMax || this.#files.get(name) !== undefined) return;
    this.#writing++;
    const draft = join(this.#folder, `${name}.${randomBytes(6).toString('hex')}`);
    try {
      const file = await open(draft, 'wx', 0o600);
      try {
        await file.writev([headOf(key, bytes), bytes]);
      } finally {
        await file.close();
      }
      await rename(draft, join(this.#folder, name));
      this.#files.set(name, { bytes: bytes.byteLength + HEAD_BYTES });
    } catch {
      this.failures++;
      await rm(draft, { force: true }).catch(() => {});
    } finally {
      this.#writing--;
    }
  }

  delete(key: string): void {
    this.#remove(nameOf(key));
  }

  #remove(name: string): void {
    if (!this.#files.delete(name)) return;
    rm(join(this.#folder, name), { force: true }).catch(() => this.failures++);
  }
}

function nameOf(key: string): string {
  return createHash('sha256').update(key).digest('hex');
}

function headOf(key: string, bytes: Uint8Array): Buffer {
  const hash = createHash('sha256')
    .update(`${Buffer.byteLength(key)}:${key}`)
    .update(bytes)
    .digest();
  return Buffer.concat([MAGIC, hash]);
}
