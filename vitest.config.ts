import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Everything that can be tested on this machine. Files run one after the other: mounts on two cores disturb each other. */
export default defineConfig({
  resolve: {
    alias: [
      { find: /^fusewire$/, replacement: source('./src/index.ts') },
      {
        find: /^fusewire\/(protocol|transport|session|native|testing|storage|adapters|paths|trace)$/,
        replacement: source('./src/$1/index.ts'),
      },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    // The second fails a full run in which a row of docs/MATRIX.md lost its proof.
    reporters: ['default', './test/live/proof-reporter.ts'],
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    teardownTimeout: 5_000,
    // Time limits of live tests are the user's (an unmount within two seconds); a shared machine misses one now and then.
    retry: process.env.CI === undefined ? 0 : 1,
  },
});
