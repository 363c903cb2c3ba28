/** A message that the guard received in place of a thread is either begun by that thread or refused by the guard, never both. */
export type Claim = Int32Array<SharedArrayBuffer>;

export const CLAIM_OPEN = 0;
export const CLAIM_BEGUN = 1;
export const CLAIM_REFUSED = 2;

/** True for the thread that may now begin with the message. */
export function begins(claim: Claim): boolean {
  return Atomics.compareExchange(claim, 0, CLAIM_OPEN, CLAIM_BEGUN) === CLAIM_OPEN;
}
