/** The matrix of the protocol: its rules, its reporter, and that the page in docs has every row. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { INIT_FLAGS, NOTIFICATIONS, OPCODES } from '../../src/protocol/index.ts';
import { complaintsOf, matrixRows, matrixText, type PlacedProof, REASONS } from '../live/matrix.ts';
import ProofReporter, { keptProofs, proofsOf } from '../live/proof-reporter.ts';

const MATRIX = readFileSync(fileURLToPath(new URL('../../docs/MATRIX.md', import.meta.url)), 'utf8');
const NEWEST = 45;

const kinds = [
  ['opcode', OPCODES],
  ['notification', NOTIFICATIONS],
  ['flag', INIT_FLAGS],
] as const;

/** A proof for each row that has no reason. */
const enough: PlacedProof[] = kinds.flatMap(([kind, rows]) =>
  rows
    .filter(({ name }) => !(name in REASONS[kind]))
    .map(({ name }) => ({ kind, name, file: 'test/live/x.test.ts', test: `shows ${name}`, kernelMinor: NEWEST })),
);

describe('rows', () => {
  test('each with a proof or a reason is as it should be', () => {
    expect(complaintsOf(matrixRows(enough), NEWEST)).toEqual([]);
    expect(matrixText(matrixRows(enough))).not.toContain('**nothing**');
  });

  test('one that lost its proof is named', () => {
    const rows = matrixRows(enough.filter(({ name }) => name !== 'BMAP' && name !== 'FUSE_POSIX_ACL'));
    expect(complaintsOf(rows, NEWEST)).toEqual([
      expect.stringMatching(/^opcode BMAP has lost its proof/),
      expect.stringMatching(/^flag FUSE_POSIX_ACL has lost its proof/),
    ]);
    expect(matrixText(rows)).toContain('**nothing**');
  });

  test('one with a proof and a reason is named', () => {
    const proof: PlacedProof = { ...enough[0], name: 'SETUPMAPPING' };
    expect(complaintsOf(matrixRows([...enough, proof]), NEWEST)).toEqual([
      expect.stringMatching(/^opcode SETUPMAPPING was proven by "shows LOOKUP" \(test\/live\/x.test.ts\), and has a reason/),
    ]);
  });

  test('one that the kernel is too old for needs no proof', () => {
    const rows = matrixRows(enough.filter(({ name }) => name !== 'COPY_FILE_RANGE_64' && name !== 'PRUNE'));
    expect(complaintsOf(rows, 44)).toEqual([]);
    expect(complaintsOf(rows, NEWEST)).toHaveLength(2);
  });

  test('opcodes and notifications of one name are told apart', () => {
    const rows = matrixRows(enough.filter(({ kind, name }) => !(kind === 'notification' && name === 'POLL')));
    expect(complaintsOf(rows, NEWEST)).toEqual([expect.stringMatching(/^notification POLL has lost/)]);
  });
});

describe('proofs of a test', () => {
  const meta = {
    proofs: [
      { kind: 'opcode' as const, name: 'READ', attempt: 0, kernelMinor: NEWEST },
      { kind: 'opcode' as const, name: 'WRITE', attempt: 1, kernelMinor: NEWEST },
    ],
  };
  const result = (state: string, retryCount: number) =>
    proofsOf(
      { name: 'b', meta: () => meta, result: () => ({ state }), diagnostic: () => ({ retryCount }) } as never,
      'test/live/x.test.ts',
    );

  test('count when it passed, and those of its last try only', () => {
    expect(result('passed', 0)).toMatchObject([{ name: 'READ', test: 'b', file: 'test/live/x.test.ts' }]);
    expect(result('passed', 1)).toMatchObject([{ name: 'WRITE' }]);
    expect(result('failed', 0)).toEqual([]);
    expect(result('skipped', 0)).toEqual([]);
  });
});

describe('the end of a run', () => {
  let root: string;
  let said: string;
  const exitCode = process.exitCode;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'fusewire-matrix-'));
    for (const folder of ['test/live', 'docs']) mkdirSync(join(root, folder), { recursive: true });
    for (const name of ['a', 'b']) writeFileSync(join(root, `test/live/${name}.test.ts`), '');
    writeFileSync(join(root, 'docs/MATRIX.md'), matrixText(matrixRows(enough)));
    said = '';
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      said += text;
      return true;
    });
  });
  afterEach(() => {
    vi.restoreAllMocks();
    process.exitCode = exitCode;
    rmSync(root, { recursive: true, force: true });
  });

  type Given = { name: string; state?: string; mode?: string; proofs: readonly PlacedProof[] };

  function module(file: string, tests: readonly Given[]) {
    const all = tests.map(({ name, state = 'passed', mode = 'run', proofs }) => ({
      name,
      options: { mode },
      result: () => ({ state }),
      diagnostic: () => ({ retryCount: 0 }),
      meta: () => ({ proofs: proofs.map((proof) => ({ ...proof, attempt: 0 })) }),
    }));
    return { moduleId: join(root, 'test/live', file), children: { allTests: () => all } };
  }

  /** Whether the run fails. */
  function end(modules: readonly ReturnType<typeof module>[], settings: { pattern?: RegExp; reason?: string } = {}): boolean {
    process.exitCode = 0;
    const reporter = new ProofReporter({ root });
    reporter.onInit({ config: { testNamePattern: settings.pattern } } as never);
    reporter.onTestRunEnd(modules as never, [], settings.reason ?? 'passed');
    return process.exitCode === 1;
  }

  /** All that is needed, in one file; each row in a test of its own. */
  const whole = (change: (test: Given) => Given = (test) => test) =>
    module(
      'a.test.ts',
      enough.map((proof) => change({ name: proof.test, proofs: [proof] })),
    );
  const nothing = () => module('b.test.ts', [{ name: 'something else', proofs: [] }]);
  const keep = () => {
    writeFileSync(join(root, 'docs/MATRIX.md'), matrixText(matrixRows(keptProofs(root))));
  };
  const without = (name: string, state: string) => (test: Given) => (test.name === `shows ${name}` ? { ...test, state } : test);

  test('is well when every row has what it needs and the page says so', () => {
    expect(end([whole(), nothing()])).toBe(true);
    expect(said).toContain('docs/MATRIX.md is not what this run proved');
    keep();
    said = '';
    expect([end([whole(), nothing()]), said]).toEqual([false, '']);
  });

  test.each(['failed', 'skipped'])('fails by name when the test of a row %s', (state) => {
    expect(end([whole(without('SYNCFS', state)), nothing()])).toBe(true);
    expect(said).toContain('opcode SYNCFS has lost its proof');
  });

  test('fails when nothing is proven any more', () => {
    const tests = enough.map(({ test: name }) => ({ name, proofs: [] }));
    expect(end([module('a.test.ts', tests), nothing()])).toBe(true);
    expect(said).toContain('flag FUSE_ASYNC_READ has lost its proof');
  });

  test('does not fail a run of some files or of some tests, and keeps what those prove', () => {
    end([whole(), nothing()]);
    keep();
    const kept = keptProofs(root).length;
    expect(end([nothing()])).toBe(false);
    expect(keptProofs(root)).toHaveLength(kept);
    const lost = whole(without('SYNCFS', 'failed'));
    expect(end([lost, nothing()], { pattern: /x/ })).toBe(false);
    expect(end([lost, nothing()], { reason: 'interrupted' })).toBe(false);
    expect(end([lost, module('b.test.ts', [{ name: 'one', mode: 'only', proofs: [] }])])).toBe(false);
    expect(keptProofs(root)).toHaveLength(kept);
    expect(end([lost])).toBe(false);
    expect(keptProofs(root)).toHaveLength(kept - 1);
    expect(said).toBe(said.replaceAll('SYNCFS', ''));
  });

  test('asks a machine for nothing that only a file which it left out shows', () => {
    const device = enough.filter(({ name }) => name === 'SYNCFS' || name === 'BMAP');
    const here = () => whole((test) => (device.some((proof) => proof.test === test.name) ? { ...test, proofs: [] } : test));
    const there = (state: string) =>
      module(
        'b.test.ts',
        device.map((proof) => ({ name: proof.test, state, proofs: [proof] })),
      );
    end([here(), there('passed')]);
    keep();
    said = '';
    expect([end([here(), there('passed')]), said]).toEqual([false, '']);
    expect(end([here(), there('skipped')])).toBe(false);
    expect(said).toContain('not checked: what test/live/b.test.ts shows');
    // What the other file shows is asked for all the same.
    const less = whole((test) =>
      ['shows SYNCFS', 'shows BMAP', 'shows READ'].includes(test.name) ? { ...test, proofs: [] } : test,
    );
    expect(end([less, there('skipped')])).toBe(true);
    expect(said).toContain('opcode READ has lost its proof');
    expect(said).not.toContain('opcode BMAP');
  });
});

describe('docs/MATRIX.md', () => {
  const rows = [...MATRIX.matchAll(/^\| \d+ \| `(\w+)` \| 7\.(\d+) \| .+ \| (.+) \|$/gm)];

  test('has each row of the table, in its order', () => {
    expect(rows.map((row) => row[1])).toEqual(kinds.flatMap(([, table]) => table.map(({ name }) => name)));
  });

  test('has a proof or a reason in each', () => {
    const reasons = Object.values(REASONS).flatMap((table) => Object.keys(table));
    for (const [, name, , proof] of rows) {
      if (reasons.includes(name)) expect(proof, name).toMatch(/^– \w/);
      else expect(proof, name).toMatch(/^\[[\w-]+\]\(\.\.\/test\/live\/[\w-]+\.test\.ts\): /);
    }
  });
});
