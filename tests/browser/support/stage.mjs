// What every file of tests begins with: a world, a browser before it, and their end.

import { after, afterEach } from 'node:test';

import { Browser } from './browser.mjs';
import { World } from './world.mjs';

export async function stage() {
  const world = await World.start();
  // Pages that are open when the service goes would complain about it, so the browser goes first.
  after(async () => {
    await browser?.close();
    await world.close();
  });
  const browser = await Browser.launch(world);
  afterEach(() => browser.demandSilence());
  return { world, browser };
}

// Somebody who can decide: enrolled and signed in.
export async function signedIn(browser, name, options) {
  const person = await browser.person(name, options);
  await person.enrol();
  return person.signIn();
}
