// Takes a picture of every page, wide and on a phone, light and dark. Not a test: scripts/screenshots.sh runs
// it when pages have changed, so that a review of them sees the change.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { Browser, PHONE, WIDE } from './support/browser.mjs';
import { everything } from './support/scenes.mjs';
import { signedIn } from './support/stage.mjs';
import { World } from './support/world.mjs';

const [folder] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const world = await World.start();
const browser = await Browser.launch(world);
try {
  const pages = await everything(world);
  const people = { nobody: await browser.person('nobody') };
  for (const name of ['alice', 'carol', 'olga']) people[name] = await signedIn(browser, name);
  const expired = await briefAccess();
  const lapsed = await undecided();
  const all = {
    'sign-in': { path: '/sign-in', person: 'nobody' },
    enrol: { path: '/enrol#code=unused&person=carol&key=SHA256%3Aunused', person: 'nobody' },
    ...pages,
    'request-expired': { path: `/requests/${expired}`, person: 'carol' },
    'request-lapsed': { path: `/requests/${lapsed}`, person: 'carol' },
  };
  for (const [name, { path, person }] of Object.entries(all)) {
    const { page } = people[person];
    for (const [size, viewport] of [['wide', WIDE], ['phone', PHONE]]) {
      await page.setViewportSize(viewport);
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
        await people[person].open(path);
        await people[person].heading.waitFor();
        await page.screenshot({ path: join(folder, `${name}-${size}-${colorScheme}.png`), fullPage: true });
      }
    }
  }
} finally {
  await browser.close();
  await world.close();
}

// Access that has run out already.
async function briefAccess() {
  const ran = await world.as('bob').run(['--json', 'login', 'brief', '--for', '5s', '--reason', 'is the replica up']);
  return JSON.parse(ran.stdout).request;
}

// A request that nobody decided on in the minute that its role gives.
async function undecided() {
  const waiting = world.as('bob').spawn(['login', 'brief', '--for', '30m', '--reason', 'nobody looks at this in time']);
  const [, id] = await waiting.says(/request (\S+)\n/);
  await waiting.ended;
  return id;
}
