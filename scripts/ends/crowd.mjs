/** A filesystem whose root exists and where no name is ever answered. */
import { faultPlan, withFaults } from '../../dist/src/testing/index.js';

const base = {
  lookup: () => ({ node: 0 }),
  getattr: () => ({ attributes: { mode: 0o040755 } }),
};
const plan = faultPlan([{ operation: 'lookup', times: Number.POSITIVE_INFINITY, effect: { kind: 'hang' } }]);

export default () => withFaults(base, plan);
