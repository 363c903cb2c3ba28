import { constants } from 'node:fs';

/** Their bits depend on the processor. */
export const { O_DIRECT, O_DIRECTORY, O_NOFOLLOW } = constants;
