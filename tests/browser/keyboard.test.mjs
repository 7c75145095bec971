// Everything can be done with a keyboard, by somebody who sees where they are.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { PHONE, WIDE } from './support/browser.mjs';
import { signedIn, stage } from './support/stage.mjs';

const MOST_TABS = 80;

const { world, browser } = await stage();
const alice = world.as('alice');
const carol = await signedIn(browser, 'carol');
const { keyboard } = carol.page;

test('the first stop is a link to the content, and it leads there', async () => {
  await carol.open('/roles');
  await keyboard.press('Tab');
  assert.ok(await isFocused(carol.skip));
  await assertFocusIsSeen('/roles');
  await keyboard.press('Enter');
  assert.equal(new URL(carol.page.url()).hash, '#main');
  const id = await alice.ask('db-prod', '--for', '1h', '--reason', 'the disk is full');
  await carol.open('/');
  await keyboard.press('Tab');
  await keyboard.press('Enter');
  await keyboard.press('Tab');
  assert.ok(await isFocused(carol.request(id)), 'what comes next is the first thing of the content');
});

test('from the queue to an approval of less', async () => {
  const terminal = alice.spawn(['login', 'db-prod', '--for', '2h', '--reason', 'replica lag after failover']);
  const [, id] = await terminal.says(/request ([0-9A-Z-]+)\n/);
  await carol.open('/');
  await press('Enter', carol.request(id));
  await press('Enter', carol.approveLess);
  await tabTo(carol.length);
  await keyboard.press('Home');
  await press('Space', carol.host('db2'));
  await tabTo(carol.word);
  await keyboard.type('five minutes will do');
  await press('Enter', carol.approveThisMuch);
  const { code, stderr } = await terminal.ended;
  assert.equal(code, 0, stderr);
  assert.match(stderr, /carol approved 5m .*five minutes will do/);
  assert.match(stderr, /db-prod@db1$/m);
  await alice.run(['done', id]);
});

test('from the queue to a denial', async () => {
  const terminal = alice.spawn(['login', 'vault', '--for', '1h', '--reason', 'replica lag after failover']);
  const [, id] = await terminal.says(/request ([0-9A-Z-]+)\n/);
  await carol.open('/');
  await press('Enter', carol.request(id));
  await press('Space', carol.denyWithReason);
  await tabTo(carol.why);
  await keyboard.type('not without a ticket');
  await press('Space', carol.deny);
  assert.equal((await terminal.ended).code, 11);
});

test('signing out, and in again', async () => {
  await carol.open('/');
  await press('Enter', carol.signOut);
  await carol.usePasskey.waitFor();
  await carol.open('/sign-in');
  await tabTo(carol.nameField);
  await keyboard.press('Control+A');
  await keyboard.type('carol');
  await keyboard.press('Enter');
  await carol.signOut.waitFor();
});

for (const [size, viewport] of [['wide', WIDE], ['phone', PHONE]]) {
  test(`no page holds the focus or hides it, ${size}`, async (t) => {
    await carol.page.setViewportSize(viewport);
    t.after(() => carol.page.setViewportSize(WIDE));
    const id = await alice.ask('vault', '--for', '1h', '--reason', 'the disk is full');
    for (const path of ['/', `/requests/${id}`, '/mine', '/emergencies', '/roles', '/log']) {
      await carol.open(path);
      const stops = await stopsOf(path);
      assert.ok(stops >= 5, `${path} has ${stops}`);
    }
    await alice.run(['withdraw', id]);
  });
}

// Tabs through the page until its end, and gives the number of stops.
async function stopsOf(path) {
  for (let stops = 0; stops < 400; stops += 1) {
    await keyboard.press('Tab');
    // Chromium goes from the last element to the document itself.
    if (await carol.page.evaluate(() => document.activeElement === document.body)) return stops;
    if (stops > 0 && await isFocused(carol.skip)) return stops;
    await assertFocusIsSeen(path);
  }
  assert.fail(`${path}: no way out`);
}

async function press(key, element) {
  await tabTo(element);
  await keyboard.press(key);
}

async function tabTo(element) {
  await element.waitFor();
  for (let tabs = 0; tabs < MOST_TABS; tabs += 1) {
    if (await isFocused(element)) return;
    await keyboard.press('Tab');
  }
  assert.fail(`no way to ${element}`);
}

const isFocused = (element) => element.evaluate((it) => it === document.activeElement);

// It has an outline, and nothing lies over it.
async function assertFocusIsSeen(path) {
  const { what, outlined, uncovered } = await carol.page.evaluate(() => {
    const it = document.activeElement;
    const { outlineStyle, outlineWidth } = getComputedStyle(it);
    const [box] = it.getClientRects();
    const top = document.elementFromPoint(box.left + Math.min(box.width, innerWidth) / 2, box.top + box.height / 2);
    return {
      what: `${it.tagName} ${it.textContent.trim().slice(0, 40)}`,
      outlined: outlineStyle !== 'none' && parseFloat(outlineWidth) > 0,
      uncovered: top !== null && (it.contains(top) || top.contains(it)),
    };
  });
  assert.ok(outlined, `${path}: no outline on ${what}`);
  assert.ok(uncovered, `${path}: something covers ${what}`);
}
