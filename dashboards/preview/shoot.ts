// Opens the page with each board in a headless Chromium and keeps what it looks like:
//
//   node shoot.js FOLDER_OF_THE_PAGE OUT CHROMIUM

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { chromium } from 'playwright-core';

const [folder, out, executablePath] = process.argv.slice(2) as [string, string, string];

// Grafana's tables draw only what is in view, so the view is as high as the highest board.
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--allow-file-access-from-files'] });
const page = await browser.newPage({ viewport: { width: 1440, height: 3000 } });
const faults: string[] = [];
page.on('pageerror', (error) => faults.push(String(error)));
for (const name of ['overview', 'drift', 'calibration', 'training', 'serving']) {
  await page.goto('about:blank');
  await page.goto(`${pathToFileURL(join(folder, 'index.html'))}#${name}`);
  await page.waitForFunction(() => document.querySelectorAll('section, [class*=panel-container]').length > 5);
  await page.evaluate(() => document.fonts.ready);
  await page.waitForTimeout(700); // resize observers of tables and legends settle
  await page
    .locator('#root > *')
    .last()
    .screenshot({ path: join(out, `${name}.png`) });
}
await browser.close();
if (faults.length > 0) {
  console.error(faults.join('\n'));
  process.exit(1);
}
