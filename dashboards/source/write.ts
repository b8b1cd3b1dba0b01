// Writes every board as JSON into a folder: `node out/write.js FOLDER`.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import calibration from './calibration.js';
import drift from './drift.js';
import overview from './overview.js';
import serving from './serving.js';
import training from './training.js';

const folder = process.argv[2];
if (!folder) {
  throw new Error('say into which folder');
}
mkdirSync(folder, { recursive: true });
for (const [name, board] of Object.entries({ overview, drift, calibration, training, serving })) {
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(board, null, 2)}\n`);
}
