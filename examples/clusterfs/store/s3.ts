/** Blocks as objects of any S3-compatible service, through a client of yours. */
import { ClusterfsError } from '../errors.ts';
import type { BlockStore, LostBlock } from './store.ts';

/**
 * The part of an S3 client that is needed: the aggregated client of @aws-sdk/client-s3 (`new S3({ … })`) fits as it is. For services
 * other than Amazon's give it `requestChecksumCalculation: 'WHEN_REQUIRED'` and `forcePathStyle: true`.
 */
export interface S3Client {
  putObject(input: { Bucket: string; Key: string; Body: Uint8Array; ContentLength: number }): Promise<unknown>;
  getObject(
    input: { Bucket: string; Key: string },
    options?: { abortSignal?: AbortSignal },
  ): Promise<{ Body?: { transformToByteArray(): Promise<Uint8Array> } | undefined }>;
  headObject(input: { Bucket: string; Key: string }): Promise<{ ContentLength?: number | undefined }>;
  deleteObject(input: { Bucket: string; Key: string }): Promise<unknown>;
  listObjectsV2(input: { Bucket: string; Prefix: string; ContinuationToken?: string }): Promise<{
    Contents?: { Key?: string | undefined }[] | undefined;
    NextContinuationToken?: string | undefined;
  }>;
}

export interface S3Options {
  readonly client: S3Client;
  readonly bucket: string;
  /** Attempts for each request, with a growing pause between them. Default 5. */
  readonly attempts?: number;
}

const ATTEMPTS = 5;
const PAUSE_MS = 50;
const DELETES = 16;

/** What the service says it has stored it keeps, so there is nothing to confirm later. */
export class S3BlockStore implements BlockStore {
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #volume: string;
  readonly #prefix: string;
  readonly #attempts: number;

  constructor({ client, bucket, attempts = ATTEMPTS }: S3Options, volume: string, uuid: string) {
    this.#client = client;
    this.#bucket = bucket;
    this.#attempts = attempts;
    this.#volume = `${volume}/`;
    this.#prefix = `${volume}/${uuid.slice(0, 8)}/`;
  }

  async put(id: string, data: Buffer): Promise<void> {
    const input = { Bucket: this.#bucket, Key: this.#keyOf(id), Body: data, ContentLength: data.byteLength };
    await this.#tried(() => this.#client.putObject(input));
  }

  async get(id: string, signal?: AbortSignal): Promise<Buffer | undefined> {
    return await this.#tried(async () => {
      const input = { Bucket: this.#bucket, Key: this.#keyOf(id) };
      const { Body } = await this.#client.getObject(input, signal === undefined ? {} : { abortSignal: signal });
      const bytes = await Body?.transformToByteArray();
      return bytes === undefined ? undefined : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }, signal);
  }

  async size(id: string): Promise<number | undefined> {
    return await this.#tried(async () => {
      const { ContentLength } = await this.#client.headObject({ Bucket: this.#bucket, Key: this.#keyOf(id) });
      return ContentLength;
    });
  }

  async delete(ids: readonly string[]): Promise<void> {
    await this.deleteStale(ids.map((id) => this.#keyOf(id)));
  }

  async deleteStale(keys: readonly string[]): Promise<void> {
    for (let at = 0; at < keys.length; at += DELETES) {
      const part = keys.slice(at, at + DELETES);
      await Promise.all(part.map((Key) => this.#tried(() => this.#client.deleteObject({ Bucket: this.#bucket, Key }))));
    }
  }

  async *list(): AsyncGenerator<{ id: string; stale: boolean }> {
    let token: string | undefined;
    do {
      const more = token === undefined ? {} : { ContinuationToken: token };
      const input = { Bucket: this.#bucket, Prefix: this.#volume, ...more };
      const page = await this.#tried(() => this.#client.listObjectsV2(input));
      for (const { Key: key } of page?.Contents ?? []) {
        if (key === undefined) continue;
        const stale = !key.startsWith(this.#prefix);
        yield { id: stale ? key : key.slice(key.lastIndexOf('/') + 1), stale };
      }
      token = page?.NextContinuationToken;
    } while (token !== undefined);
  }

  async sync(): Promise<readonly LostBlock[]> {
    return [];
  }

  async space(): Promise<undefined> {
    return undefined;
  }

  close(): void {}

  /** A folder in between spreads the keys where a service divides them by their beginnings. */
  #keyOf(id: string): string {
    return `${this.#prefix}${id.slice(-2)}/${id}`;
  }

  /** undefined where there is no such object. */
  async #tried<T>(request: () => Promise<T>, signal?: AbortSignal): Promise<T | undefined> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await request();
      } catch (error) {
        signal?.throwIfAborted();
        const { name, $metadata } = error as { name?: string; $metadata?: { httpStatusCode?: number } };
        const status = $metadata?.httpStatusCode ?? 0;
        if (name === 'NoSuchKey' || name === 'NotFound' || status === 404) return undefined;
        const hopeless = status >= 400 && status < 500 && status !== 408 && status !== 429;
        if (hopeless || attempt >= this.#attempts)
          throw new ClusterfsError('ERR_CLUSTERFS_STORE', (error as Error).message, error);
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * 2 ** attempt * (0.5 + Math.random() / 2)));
      }
    }
  }
}
