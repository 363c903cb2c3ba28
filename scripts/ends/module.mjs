/**
 * A filesystem whose callers can be made to wait, and whose threads can be made to die. The root holds `data`, which works,
 * `stuck`, whose reads are never answered, `never`, whose lookup is never answered, and `crash-HOW`, whose lookup ends the
 * thread that serves it.
 */
import { FuseError } from '../../dist/src/index.js';
import { faultPlan, withFaults } from '../../dist/src/testing/index.js';

const always = Number.POSITIVE_INFINITY;
const NODES = new Map([
  ['data', 2],
  ['stuck', 3],
]);
const attributes = (node) => ({ attributes: node === 1 ? { mode: 0o040755 } : { mode: 0o100666, size: 1 << 20 } });

const base = {
  settings: { cache: 'none' },
  lookup(_parent, name) {
    const node = NODES.get(name);
    if (node === undefined) throw FuseError.of(2);
    return { node, ...attributes(node) };
  },
  getattr: attributes,
  open: () => ({}),
  read: (_node, request) => request.payload().fill(7).length,
  write: (_node, data) => data.length,
};

const plan = faultPlan([
  { operation: 'read', node: 3, times: always, effect: { kind: 'hang' } },
  { operation: 'lookup', name: 'never', times: always, effect: { kind: 'hang' } },
  ...['throw', 'rejection', 'exit', 'memory'].map((how) => ({
    operation: 'lookup',
    name: `crash-${how}`,
    times: always,
    effect: { kind: 'crash', how },
  })),
]);

export default () => withFaults(base, plan);
