/** Compiles the C programs that scripts run as callers of a mount. */
import { execFileSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Compiles `test/clients/SOURCE` into `folder`; answers the program, which every user may run. Throws where there is no compiler. */
export function compileClient(source: string, folder: string): string {
  const target = join(folder, basename(source, '.c'));
  const from = fileURLToPath(new URL(`../test/clients/${source}`, import.meta.url));
  execFileSync('cc', ['-O2', '-std=gnu11', '-Wall', '-Wextra', '-pthread', '-o', target, from], {
    stdio: 'pipe',
    timeout: 60_000,
  });
  chmodSync(target, 0o755);
  return target;
}
