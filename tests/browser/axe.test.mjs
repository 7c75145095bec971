// Nobody is shut out: axe finds nothing serious on any page, light or dark, wide or on a phone; nothing
// scrolls sideways; every target is large enough for a thumb; a decision needs no scrolling.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import { PHONE, WIDE } from './support/browser.mjs';
import { everything } from './support/scenes.mjs';
import { signedIn, stage } from './support/stage.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
// WCAG 2.2 AA, 2.5.8; for buttons what both makers of phones ask for.
const [SMALLEST_TARGET, SMALLEST_BUTTON] = [24, 44];
const NARROWEST = { width: 320, height: 640 };

const { world, browser } = await stage();
const pages = await everything(world);
// The pages' own policy lets no foreign script run, and axe is one.
const people = {};
for (const name of ['alice', 'carol', 'olga']) people[name] = await signedIn(browser, name, { bypassCSP: true });
const nobody = await browser.person('nobody', { bypassCSP: true });
const all = Object.entries({
  ...pages,
  'sign-in': { path: '/sign-in' },
  enrol: { path: '/enrol#code=unused&person=carol&key=SHA256%3Aunused' },
}).map(([name, { path, person }]) => ({ name, path, visitor: people[person] ?? nobody }));

for (const { name, path, visitor } of all) {
  test(`${name}: axe finds nothing serious`, async () => {
    await show(visitor, path);
    for (const colorScheme of ['light', 'dark']) {
      await visitor.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      for (const viewport of [WIDE, PHONE]) {
        await visitor.page.setViewportSize(viewport);
        assert.deepEqual(await violations(visitor.page), [], `${colorScheme}, ${viewport.width}`);
      }
    }
  });

  test(`${name}: nothing scrolls sideways, and targets are large enough`, async () => {
    for (const viewport of [NARROWEST, PHONE]) {
      await visitor.page.setViewportSize(viewport);
      await show(visitor, path);
      const width = await visitor.page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(width <= viewport.width, `${viewport.width} px: the page is ${width} px wide`);
      assert.deepEqual(await tooSmall(visitor.page), [], `${viewport.width} px`);
    }
  });
}

test('a decision needs no scrolling on a phone', async () => {
  const { carol } = people;
  await carol.page.setViewportSize(PHONE);
  await carol.open(pages['request-requested'].path);
  for (const control of [carol.approve, carol.approveLess, carol.denyWithReason]) {
    const box = await control.boundingBox();
    assert.ok(box.y >= 0 && box.y + box.height <= PHONE.height, `${control} ends at ${box.y + box.height}`);
  }
});

test('what is chosen keeps its button in sight on a phone', async () => {
  const { carol } = people;
  await carol.page.setViewportSize(PHONE);
  for (const [summary, button] of [[carol.approveLess, carol.approveThisMuch], [carol.denyWithReason, carol.deny]]) {
    await carol.open(pages['request-requested'].path);
    await summary.click();
    await button.scrollIntoViewIfNeeded();
    const box = await button.boundingBox();
    assert.ok(box.y + box.height <= PHONE.height);
    await button.click({ trial: true });
  }
});

// The page with everything on it unfolded.
async function show(visitor, path) {
  if (path === pages['request-unknown'].path) browser.expects(/status of 404/);
  await visitor.open(path);
  await visitor.heading.waitFor();
  await visitor.page.evaluate(() => {
    for (const part of document.querySelectorAll('details')) {
      // Of those that share a name only one is open at a time.
      part.removeAttribute('name');
      part.open = true;
    }
  });
}

async function violations(page) {
  await page.evaluate(AXE);
  const { violations: found } = await page.evaluate(() => axe.run());
  const serious = found.filter(({ impact }) => ['serious', 'critical'].includes(impact));
  return serious.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`));
}

function tooSmall(page) {
  return page.evaluate(([smallest, smallestButton]) => {
    const targets = [...document.querySelectorAll('a, button, summary, input, select')];
    const boxOf = (target) => (target.closest('label') ?? target).getBoundingClientRect();
    // In running text the line sets the height (2.5.8, "Inline").
    const inText = (target) => target.tagName === 'A' && target.parentElement.textContent.trim() !== target.textContent.trim()
      && getComputedStyle(target).display === 'inline';
    // The link to the content is a dot until it has the focus.
    const shown = targets.filter((target) => target.checkVisibility() && !inText(target) && boxOf(target).width > 1);
    return shown.filter((target) => {
      const { width, height } = boxOf(target);
      const least = target.tagName === 'BUTTON' ? smallestButton : smallest;
      return height < least || width < smallest;
    }).map((target) => `${target.outerHTML.slice(0, 80)} is ${boxOf(target).width} x ${boxOf(target).height}`);
  }, [SMALLEST_TARGET, SMALLEST_BUTTON]);
}
