/** A package registry on this machine's loopback, with made-up packages, so that `npm install` needs no network. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { runWell } from './harness.ts';

export interface PackageSpec {
  name: string;
  version: string;
  dependencies?: Record<string, string>;
  bin?: Record<string, string>;
  scripts?: Record<string, string>;
  /** Contents by path inside the package; package.json is made. */
  files: Record<string, string>;
}

export class Registry {
  readonly #server: Server;
  readonly #documents = new Map<string, string>();
  readonly #tarballs = new Map<string, Buffer>();

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Packs the packages in `scratch` and serves them until {@link close}. */
  static async start(packages: readonly PackageSpec[], scratch: string): Promise<Registry> {
    const registry: Registry = new Registry(
      createServer((request, response) => {
        const path = decodeURIComponent(request.url ?? '/').slice(1);
        const body = registry.#documents.get(path) ?? registry.#tarballs.get(path);
        response.writeHead(body === undefined ? 404 : 200, {
          'content-type': typeof body === 'string' ? 'application/json' : 'application/octet-stream',
        });
        response.end(body ?? '{}');
      }),
    );
    await new Promise<void>((resolve) => registry.#server.listen(0, '127.0.0.1', resolve));
    for (const spec of packages) await registry.#add(spec, scratch);
    return registry;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async #add(spec: PackageSpec, scratch: string): Promise<void> {
    const { files, ...manifest } = spec;
    const folder = join(scratch, spec.name);
    mkdirSync(join(folder, 'package'), { recursive: true });
    writeFileSync(join(folder, 'package/package.json'), JSON.stringify(manifest));
    for (const [path, contents] of Object.entries(files)) {
      const target = join(folder, 'package', path);
      mkdirSync(join(target, '..'), { recursive: true });
      writeFileSync(target, contents, { mode: contents.startsWith('#!') ? 0o755 : 0o644 });
    }
    const file = `${spec.name}-${spec.version}.tgz`;
    await runWell(['tar', '-C', folder, '-czf', join(scratch, file), 'package'], { timeoutMs: 10_000 });
    const tarball = readFileSync(join(scratch, file));
    this.#tarballs.set(file, tarball);
    const dist = {
      tarball: `${this.url}/${file}`,
      shasum: createHash('sha1').update(tarball).digest('hex'),
      integrity: `sha512-${createHash('sha512').update(tarball).digest('base64')}`,
    };
    const versions = { [spec.version]: { ...manifest, dist, _id: `${spec.name}@${spec.version}` } };
    this.#documents.set(spec.name, JSON.stringify({ name: spec.name, 'dist-tags': { latest: spec.version }, versions }));
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
