/** Why a run cannot go on. Its message is for the user; anything else that is thrown is a bug of the runner. */
export class ConformanceError extends Error {
  override readonly name = 'ConformanceError';
  readonly isUsage: boolean;

  constructor(message: string, isUsage = false) {
    super(message);
    this.isUsage = isUsage;
  }

  static usage(message: string): ConformanceError {
    return new ConformanceError(message, true);
  }
}
