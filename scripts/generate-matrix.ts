/** Writes docs/MATRIX.md from the proofs that the last runs of the live tests left (test/live/proof-reporter.ts). */
import { writeFileSync } from 'node:fs';
import { complaintsOf, kernelMinorOf, matrixRows, matrixText } from '../test/live/matrix.ts';
import { keptProofs, matrixPath } from '../test/live/proof-reporter.ts';

const proofs = keptProofs();
const rows = matrixRows(proofs);
const complaints = complaintsOf(rows, kernelMinorOf(proofs));
if (proofs.length === 0) {
  process.stderr.write('there are no proofs: run npm test first, on a machine where it can mount\n');
  process.exitCode = 1;
} else {
  writeFileSync(matrixPath(), matrixText(rows));
  for (const complaint of complaints) process.stderr.write(`${complaint}\n`);
  if (complaints.length > 0) process.exitCode = 1;
}
