/**
 * Collects the proofs of the tests that passed (test/live/proof.ts), keeps them for `npm run generate:matrix`, and fails a full run
 * in which a row of the table lost its proof. A run of some files, or of some tests, only updates what is kept; a machine that had
 * to leave out a whole file of live tests (no root, no compiler, no loop devices) says so, and is not asked for what docs/MATRIX.md
 * says that file shows.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Reporter, TestCase, TestModule, Vitest } from 'vitest/node';
import { PROTOCOL_MINOR } from '../../src/protocol/index.ts';
import { complaintsOf, kernelMinorOf, matrixRows, matrixText, namedFiles, type PlacedProof } from './matrix.ts';

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));

/** By file of tests: what it proved when it last ran. */
type Kept = Record<string, PlacedProof[]>;

export function matrixPath(root = REPOSITORY): string {
  return join(root, 'docs/MATRIX.md');
}

function keptPath(root: string): string {
  return join(root, 'node_modules/.cache/fusewire/proofs.json');
}

export function keptProofs(root = REPOSITORY): PlacedProof[] {
  return Object.values(readKept(root)).flat();
}

function readKept(root: string): Kept {
  try {
    return JSON.parse(readFileSync(keptPath(root), 'utf8')) as Kept;
  } catch {
    return {};
  }
}

/** The claims of a test's last try, if that passed. */
export function proofsOf(test: Pick<TestCase, 'meta' | 'result' | 'diagnostic' | 'name'>, file: string): PlacedProof[] {
  if (test.result().state !== 'passed') return [];
  const lastAttempt = test.diagnostic()?.retryCount ?? 0;
  return (test.meta().proofs ?? [])
    .filter(({ attempt }) => attempt === lastAttempt)
    .map(({ kind, name, how, kernelMinor }) => ({
      kind,
      name,
      ...(how === undefined ? {} : { how }),
      kernelMinor,
      file,
      test: test.name,
    }));
}

export default class ProofReporter implements Reporter {
  readonly #root: string;
  #isFiltered = false;

  /** `root`: of the repository whose tests run. */
  constructor({ root = REPOSITORY }: { root?: string } = {}) {
    this.#root = root;
  }

  onInit(vitest: Pick<Vitest, 'config'>): void {
    this.#isFiltered = vitest.config.testNamePattern !== undefined;
  }

  onTestRunEnd(modules: readonly TestModule[], _errors: readonly unknown[], reason: string): void {
    const ran: Kept = {};
    const leftOut: string[] = [];
    let isPartial = this.#isFiltered || reason === 'interrupted';
    for (const module of modules) {
      const file = relative(this.#root, module.moduleId);
      if (!file.startsWith('test/live/')) continue;
      const tests = [...module.children.allTests()];
      // A run that was narrowed by `.only` says nothing about what is missing.
      if (tests.some((test) => test.options.mode === 'only')) isPartial = true;
      if (tests.length > 0 && tests.every((test) => test.result().state === 'skipped')) leftOut.push(file);
      ran[file] = tests.flatMap((test) => proofsOf(test, file));
    }
    if (isPartial || Object.keys(ran).length === 0) return;
    const existing = this.#liveFiles();
    const isFull = existing.every((file) => file in ran);
    const kept = isFull ? ran : { ...readKept(this.#root), ...ran };
    for (const file of Object.keys(kept)) if (!existing.includes(file)) delete kept[file];
    mkdirSync(dirname(keptPath(this.#root)), { recursive: true });
    writeFileSync(keptPath(this.#root), JSON.stringify(kept));
    if (!isFull) return;
    this.#check(Object.values(kept).flat(), leftOut);
  }

  #liveFiles(): string[] {
    return readdirSync(join(this.#root, 'test/live'))
      .filter((name) => name.endsWith('.test.ts'))
      .map((name) => `test/live/${name}`);
  }

  #check(proofs: readonly PlacedProof[], leftOut: readonly string[]): void {
    const page = readFileSync(matrixPath(this.#root), 'utf8');
    const rows = matrixRows(proofs);
    // Where nothing was proven, nobody told what the kernel speaks either: every row has lost its proof then.
    const kernelMinor = kernelMinorOf(proofs) || PROTOCOL_MINOR;
    const excused = [...namedFiles(page)].filter(([, files]) => files.some((file) => leftOut.includes(file)));
    const complaints = complaintsOf(rows, kernelMinor, new Set(excused.map(([row]) => row)));
    const hasAll = leftOut.length === 0 && rows.every(({ since }) => since <= kernelMinor);
    if (complaints.length === 0 && hasAll && matrixText(rows) !== page)
      complaints.push('docs/MATRIX.md is not what this run proved: npm run generate:matrix writes it');
    if (complaints.length > 0) process.exitCode = 1;
    const notes = leftOut.length === 0 ? [] : [`not checked: what ${leftOut.join(', ')} shows, which this machine left out`];
    if (complaints.length + notes.length > 0) this.#say([...notes, ...complaints]);
  }

  #say(lines: readonly string[]): void {
    process.stderr.write(`\nThe matrix of the protocol:\n${lines.map((one) => `  ${one}\n`).join('')}`);
  }
}
