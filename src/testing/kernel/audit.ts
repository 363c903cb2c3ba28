import type { OpcodeName } from '../../protocol/index.ts';

/** A rule of the protocol that was broken, or something that leaked. */
export interface Violation {
  readonly kind: /** A node was forgotten more or less often than it was counted. */
    | 'lookup-count'
    /** The filesystem's own count differs from the kernel's. */
    | 'filesystem-count'
    /** The filesystem holds a handle that was released, or lost one that is open. */
    | 'filesystem-handle'
    /** An opening was not released exactly once. */
    | 'opening'
    /** A request was never answered. */
    | 'unanswered'
    /** An answer for a request that had been answered, or was never sent. */
    | 'answered-twice'
    /** An answer that the kernel refuses, or that makes it answer EIO. */
    | 'invalid-reply'
    /** INIT: something was accepted that had not been offered. */
    | 'negotiation'
    /** The daemon failed outside of any request. */
    | 'daemon';
  readonly message: string;
  /** The request that caused it, as `LOOKUP #12 of node 1 "a"`; empty where there is none. */
  readonly operation: string;
}

/** What {@link SimulatedKernel.end} rejects with. */
export class AuditError extends Error {
  override readonly name = 'AuditError';
  readonly code = 'ERR_FUSEWIRE_AUDIT';
  readonly violations: readonly Violation[];
  readonly seed: number | undefined;

  constructor(violations: readonly Violation[], seed: number | undefined) {
    const shown = violations
      .slice(0, 20)
      .map(({ kind, message, operation }) => `\n  ${kind}: ${message}${operation === '' ? '' : ` (${operation})`}`);
    const rest = violations.length > 20 ? `\n  and ${violations.length - 20} more` : '';
    const how = seed === undefined ? '' : ` (seed ${seed})`;
    super(`the simulated kernel found ${violations.length} faults${how}; mend the filesystem:${shown.join('')}${rest}`);
    this.violations = violations;
    this.seed = seed;
  }
}

/** What the audit can ask the filesystem itself. */
export interface AuditedFilesystem {
  /** Every node that the filesystem holds for the kernel, with its lookup count. The root and counts of 0 do not matter. */
  lookupCounts?(): Iterable<readonly [node: number, count: number]>;
  /** Every handle that is open, of files and directories, as many times as it is open. */
  openHandles?(): Iterable<number>;
}

interface NodeLedger {
  granted: number;
  forgotten: number;
  /** The request that counted it last. */
  operation: string;
}

interface OpeningLedger {
  readonly nodeid: number;
  readonly handle: number;
  readonly operation: string;
}

/** Longest list of violations that is kept; more are only counted. */
const VIOLATIONS_MAX = 1000;

/**
 * Keeps the books from the messages alone, independently of the caches: what replies granted, what FORGET and RELEASE took
 * back.
 */
export class Audit {
  readonly violations: Violation[] = [];
  #dropped = 0;
  readonly #nodes = new Map<number, NodeLedger>();
  readonly #openings = new Map<string, OpeningLedger[]>();

  report(kind: Violation['kind'], message: string, operation = ''): void {
    if (this.violations.length < VIOLATIONS_MAX) this.violations.push({ kind, message, operation });
    else this.#dropped++;
  }

  granted(nodeid: number, operation: string): void {
    if (nodeid === 0 || nodeid === 1) return;
    const ledger = this.#nodes.get(nodeid);
    if (ledger === undefined) this.#nodes.set(nodeid, { granted: 1, forgotten: 0, operation });
    else {
      ledger.granted++;
      ledger.operation = operation;
    }
  }

  forgotten(nodeid: number, count: number): void {
    const ledger = this.#nodes.get(nodeid);
    if (ledger === undefined) {
      this.report('lookup-count', `node ${nodeid} was forgotten ${count} times and had never been counted`);
      return;
    }
    ledger.forgotten += count;
    if (ledger.forgotten > ledger.granted)
      this.report('lookup-count', `node ${nodeid} was forgotten more often than it was counted`, ledger.operation);
    else if (ledger.forgotten === ledger.granted) this.#nodes.delete(nodeid);
  }

  opened(operation: OpcodeName, nodeid: number, handle: number, by: string): void {
    const key = openingKey(operation === 'OPENDIR', nodeid, handle);
    const list = this.#openings.get(key) ?? [];
    list.push({ nodeid, handle, operation: by });
    this.#openings.set(key, list);
  }

  released(isDirectory: boolean, nodeid: number, handle: number): void {
    const key = openingKey(isDirectory, nodeid, handle);
    const list = this.#openings.get(key);
    if (list === undefined) {
      this.report('opening', `handle ${handle} of node ${nodeid} was released and was not open`);
      return;
    }
    list.pop();
    if (list.length === 0) this.#openings.delete(key);
  }

  /** Compares with what the filesystem says, at a moment when nothing is under way. */
  compare(filesystem: AuditedFilesystem): void {
    if (filesystem.lookupCounts !== undefined) this.#compareCounts(filesystem.lookupCounts());
    if (filesystem.openHandles !== undefined) this.#compareHandles(filesystem.openHandles());
  }

  #compareCounts(counts: Iterable<readonly [number, number]>): void {
    const theirs = new Map<number, number>();
    for (const [node, count] of counts) if (node !== 1 && count !== 0) theirs.set(node, (theirs.get(node) ?? 0) + count);
    for (const [node, ledger] of this.#nodes) {
      const ours = ledger.granted - ledger.forgotten;
      const count = theirs.get(node) ?? 0;
      theirs.delete(node);
      if (ours !== count)
        this.report(
          'filesystem-count',
          `the filesystem counts ${count} for node ${node}, the kernel ${ours}; count once for each answered entry and take off what forget says`,
          ledger.operation,
        );
    }
    for (const [node, count] of theirs)
      this.report('filesystem-count', `the filesystem still counts ${count} for node ${node}, which the kernel has forgotten`);
  }

  #compareHandles(handles: Iterable<number>): void {
    const ours = new Map<number, number>();
    for (const list of this.#openings.values()) for (const { handle } of list) ours.set(handle, (ours.get(handle) ?? 0) + 1);
    const theirs = new Map<number, number>();
    for (const handle of handles) theirs.set(handle, (theirs.get(handle) ?? 0) + 1);
    for (const [handle, count] of theirs) {
      if ((ours.get(handle) ?? 0) < count)
        this.report('filesystem-handle', `the filesystem still holds handle ${handle}, which the kernel has released`);
    }
    for (const [handle, count] of ours) {
      // A handle that the kernel has open may be one that the filesystem does not track, such as 0.
      if (handle !== 0 && (theirs.get(handle) ?? 0) < count)
        this.report('filesystem-handle', `the filesystem has lost handle ${handle}, which the kernel has open`);
    }
  }

  /** After the caches were emptied and everything was closed: what is left leaked. */
  settle(): void {
    for (const [node, { granted, forgotten, operation }] of this.#nodes)
      this.report('lookup-count', `node ${node} was counted ${granted} times and forgotten ${forgotten} times`, operation);
    for (const list of this.#openings.values())
      for (const { nodeid, handle, operation } of list)
        this.report('opening', `handle ${handle} of node ${nodeid} was never released`, operation);
    if (this.#dropped > 0) this.report('daemon', `${this.#dropped} further violations were left out`);
  }
}

function openingKey(isDirectory: boolean, nodeid: number, handle: number): string {
  return `${isDirectory ? 'd' : 'f'}${nodeid}:${handle}`;
}
