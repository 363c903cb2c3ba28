/** Which node, opening and place in a listing of the replay stands for which of the trace. */

interface MappedNode {
  actual: bigint;
  /** References that the filesystem granted us. */
  granted: number;
  /** References that the recorded daemon had granted. */
  recorded: number;
}

/** Where a node of the trace was found. */
export interface Place {
  readonly parent: bigint;
  readonly name: string;
}

/** Takes references off a node of the filesystem. */
export type Forget = (actual: bigint, count: number) => void;

export const ROOT = 1n;

export class Identities {
  readonly #nodes = new Map<bigint, MappedNode>();
  readonly #places = new Map<bigint, Place>();
  readonly #handles = new Map<string, bigint>();
  /** Openings of the trace that failed in the replay. */
  readonly #failed = new Set<string>();
  readonly #forget: Forget;

  constructor(forget: Forget) {
    this.#forget = forget;
  }

  // --- nodes -----------------------------------------------------------------------------------------------------------

  node(recorded: bigint): bigint | undefined {
    // 0 is no node, in requests about the whole connection.
    return recorded === ROOT || recorded === 0n ? recorded : this.#nodes.get(recorded)?.actual;
  }

  placeOf(recorded: bigint): Place | undefined {
    return this.#places.get(recorded);
  }

  /** The trace names a node. */
  place(recorded: bigint, place: Place): void {
    if (recorded !== ROOT && place.name !== '.' && place.name !== '..') this.#places.set(recorded, place);
  }

  /** Both sides granted a reference, to what is the same file. */
  bind(recorded: bigint, actual: bigint): void {
    this.granted(recorded, actual, 1);
  }

  /** The filesystem granted a reference; `counted`: those that the recorded daemon granted with it. */
  granted(recorded: bigint, actual: bigint, counted: number): void {
    if (recorded === ROOT) return;
    const known = this.#nodes.get(recorded);
    if (known !== undefined && known.actual === actual) {
      known.granted++;
      known.recorded += counted;
      return;
    }
    if (known !== undefined) this.#forget(known.actual, known.granted);
    this.#nodes.set(recorded, { actual, granted: 1, recorded: (known?.recorded ?? 0) + counted });
  }

  /** The trace takes references off a node; with the last, what we were granted beyond goes too. */
  forget(recorded: bigint, count: number): void {
    const known = this.#nodes.get(recorded);
    if (known === undefined) return;
    known.recorded -= count;
    const last = known.recorded <= 0;
    const taken = last ? known.granted : Math.min(count, known.granted);
    known.granted -= taken;
    if (last) {
      this.#nodes.delete(recorded);
      this.#places.delete(recorded);
    }
    if (taken > 0) this.#forget(known.actual, taken);
  }

  // --- openings ----------------------------------------------------------------------------------------------------------

  handle(node: bigint, handle: bigint): bigint | undefined {
    return this.#handles.get(`${node}:${handle}`);
  }

  hasFailed(node: bigint, handle: bigint): boolean {
    return this.#failed.has(`${node}:${handle}`);
  }

  /** `actual` undefined: it could be opened then and not now. */
  open(node: bigint, handle: bigint, actual: bigint | undefined): void {
    const key = `${node}:${handle}`;
    if (actual === undefined) this.#failed.add(key);
    else {
      this.#failed.delete(key);
      this.#handles.set(key, actual);
    }
  }

  close(node: bigint, handle: bigint): void {
    this.#handles.delete(`${node}:${handle}`);
    this.#failed.delete(`${node}:${handle}`);
  }
}

/** A listing under way on both sides. Pages need not hold the same names, so it is compared when the trace has seen its end. */
export class ReplayListing {
  readonly recorded = new Set<string>();
  readonly now = new Set<string>();
  /** Position after the last entry that the filesystem gave. */
  last = 0n;
  /** Nodes that one side granted, until the other lists the same name. */
  readonly #recordedNodes = new Map<string, bigint>();
  readonly #nowNodes = new Map<string, bigint>();
  readonly #cookies = new Map<bigint, bigint>([[0n, 0n]]);

  /** Where to go on in the filesystem, when the trace goes on after `cookie`. */
  cookie(cookie: bigint): bigint {
    return this.#cookies.get(cookie) ?? this.last;
  }

  /** A page ended at these positions. */
  pageEnded(recorded: bigint | undefined, now: bigint | undefined): void {
    if (now !== undefined) this.last = now;
    if (recorded !== undefined) this.#cookies.set(recorded, this.last);
  }

  add(side: 'recorded' | 'now', name: string, nodeid: bigint): void {
    this[side].add(name);
    if (nodeid === 0n || name === '.' || name === '..') return;
    (side === 'recorded' ? this.#recordedNodes : this.#nowNodes).set(name, nodeid);
  }

  /** Nodes of names that both sides have listed by now. */
  *matched(): Generator<{ name: string; recorded: bigint; actual: bigint }> {
    for (const [name, recorded] of this.#recordedNodes) {
      const actual = this.#nowNodes.get(name);
      if (actual === undefined) continue;
      this.#recordedNodes.delete(name);
      this.#nowNodes.delete(name);
      yield { name, recorded, actual };
    }
  }

  /** Nodes that the filesystem granted and the trace does not know: to be forgotten. */
  leftover(): bigint[] {
    const left = [...this.#nowNodes.values()];
    this.#nowNodes.clear();
    return left;
  }
}
