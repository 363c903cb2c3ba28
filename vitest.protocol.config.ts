import { defineConfig } from 'vitest/config';

/** The protocol alone: no addon, no privileges, no compiler, any platform. */
export default defineConfig({
  test: {
    include: ['test/protocol/**/*.test.ts'],
    testTimeout: 60_000,
  },
});
