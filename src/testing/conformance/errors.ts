/** A filesystem did something else than a case expects. */
export class ConformanceFailure extends Error {
  override readonly name = 'ConformanceFailure';
  readonly code = 'ERR_FUSEWIRE_NOT_CONFORMING';
}
