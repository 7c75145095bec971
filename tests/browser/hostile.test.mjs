// Whoever may write a word may try to attack whoever reads it. Four hundred strings go into every field; then
// the pages are opened as an approver: nothing runs, nothing is made of them but text, and the text is theirs.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { FAMILIES, HOSTILE, TEXTS } from './hostile.mjs';
import { everything } from './support/scenes.mjs';
import { signedIn, stage } from './support/stage.mjs';

// As many as one person may have waiting, for two people.
const BATCH = 40;
// Pages are slower than commands: where each string would need one, every so many-th goes, all families included.
const EVERY = 6;

const { world, browser } = await stage();
const pages = await everything(world);
const [carol, alice] = [await signedIn(browser, 'carol'), await signedIn(browser, 'alice')];
const visitors = { carol, alice };
// What pages are made of when nobody attacks them, and when one has something to say.
const harmless = new Set([`a href rel ${world.url}`]); // from one page of a long list to the next
await carol.open('/sign-in');
await carol.nameField.fill('nobody');
await carol.usePasskey.click();
await carol.message.filter({ hasText: /./ }).waitFor();
(await shapes(carol)).forEach((shape) => harmless.add(shape));
for (const { path, person } of Object.values(pages)) {
  const visitor = visitors[person];
  if (visitor && path !== pages['request-unknown'].path) {
    await visitor.open(path);
    (await shapes(visitor)).forEach((shape) => harmless.add(shape));
  }
}

test('what is written in the terminal is refused in words, or shown as it was written', async (t) => {
  let shown = 0;
  for (let from = 0; from < TEXTS.length; from += BATCH) {
    const asked = await each(TEXTS.slice(from, from + BATCH), ask);
    const waiting = asked.filter(({ id }) => id);
    await carol.open('/');
    // A list shows the beginnings only: what counts here is that nothing is made of them.
    await assertShows(carol, waiting.map(({ id }) => `/requests/${id}`), 'outerHTML');
    await each(waiting, deny);
    for (const { id, strings } of waiting) {
      await carol.open(`/requests/${id}`);
      await assertShows(carol, strings);
      shown += strings.length;
    }
  }
  t.diagnostic(`${HOSTILE.length} written, ${shown} of them shown`);
  assert.ok(shown > HOSTILE.length / 2, 'most attacks must reach the page, or this proves nothing');
});

test('tickets are refused in words, or shown as they were written', async () => {
  const asked = await each(HOSTILE, async (text, person) => {
    const ran = await runs(person, ['login', 'vault', '--no-wait', '--reason', 'a plain reason', `--ticket=${text}`]);
    if (ran.code === 10) return { id: ran.stdout.trim(), text, person };
    assertRefusedInWords(ran, text);
    return {};
  });
  for (const { id, text, person } of asked.filter((one) => one.id)) {
    await carol.open(`/requests/${id}`);
    await assertShows(carol, [text]);
    await person.run(['withdraw', id]);
  }
});

test('what is written on the page is refused in words, or shown as it was written', async () => {
  browser.expects(/Failed to load resource/);
  const bob = world.as('bob');
  for (const [index, strings] of sample(TEXTS, EVERY).entries()) {
    const text = strings.join(' ');
    const id = await bob.ask('vault', '--reason', 'a plain reason');
    await carol.open(`/requests/${id}`);
    const [summary, field] = index % 2 === 0 ? [carol.denyWithReason, carol.why] : [carol.approveLess, carol.word];
    await summary.click();
    await field.fill(text);
    // A field of one line drops what is not of one line.
    const written = (await field.inputValue()).trim();
    await submitUnchecked(field);
    await carol.message.filter({ hasText: /./ }).waitFor();
    const { decisions } = JSON.parse((await bob.run(['--json', 'show', id])).stdout);
    await assertShows(carol, decisions.length > 0 ? [written] : []);
    await bob.run(['withdraw', id]);
  }
});

test('names, paths and queries make nothing', async () => {
  browser.expects(/Failed to load resource/);
  await carol.open('/sign-in');
  const statuses = await carol.page.evaluate(async (texts) => {
    const inPlaces = texts.flatMap((text) => {
      const encoded = encodeURIComponent(text.toWellFormed());
      return [`/requests/${encoded}`, `/sign-in?next=${encoded}`, `/web/drafts/session?person=${encoded}`];
    });
    const found = [];
    for (const place of inPlaces) found.push((await fetch(place, { redirect: 'manual' })).status);
    return found;
  }, HOSTILE);
  assert.deepEqual(statuses.filter((status) => status >= 500), []);
  for (const text of sample(HOSTILE, EVERY * 2)) {
    const encoded = encodeURIComponent(text);
    await carol.open(`/sign-in?next=${encoded}`);
    assert.equal(new URL(carol.page.url()).origin, world.url);
    await carol.nameField.fill(text);
    await submitUnchecked(carol.nameField);
    await carol.message.filter({ hasText: /./ }).waitFor();
    await assertShows(carol, []);
  }
});

test('an address that leads nowhere is answered with a page that says so', async () => {
  browser.expects(/Failed to load resource/);
  for (const path of ['/requests/0000-0000-00', '/requests/nothing', `/requests/${encodeURIComponent('<script>')}`, '/nothing', '/log?before=nothing']) {
    const answer = await carol.open(path);
    assert.match(answer.headers()['content-type'], /^text\/html/, path);
    await carol.heading.waitFor();
    await assertShows(carol, []);
  }
});

test('signing in leads nowhere else', async () => {
  for (const next of ['//evil.example/', '/\\evil.example', 'https://evil.example/', 'javascript:window.pwned=1', '/sign-in?next=//evil.example']) {
    await carol.open(`/sign-in?next=${encodeURIComponent(next)}`);
    await carol.nameField.fill('carol');
    await carol.usePasskey.click();
    await carol.signOut.waitFor();
    assert.equal(new URL(carol.page.url()).origin, world.url, next);
    await assertShows(carol, []);
  }
});

test('emergencies and their reviews are shown as they were written', async () => {
  const reasons = FAMILIES.markup.filter((text) => text.length > 20 && text.includes(' ')).slice(0, 4);
  for (const reason of reasons) {
    const { code, stderr } = await world.as('alice').run(['break-glass', 'db-prod', '--category', 'other', `--reason=${reason}`]);
    assert.equal(code, 0, stderr);
    const [, id] = stderr.match(/recorded as (\S+),/);
    const reviewed = await world.as('carol').run(['review', id, '--outcome', 'drill', `--comment=${reason}, he wrote`]);
    assert.equal(reviewed.code, 0, reviewed.stderr);
  }
  await carol.open('/emergencies');
  await assertShows(carol, reasons.map((reason) => `${reason}, he wrote`));
});

test('the pages that list what was written are nothing but text', async () => {
  for (const path of ['/', '/active', '/emergencies', '/roles', '/log', '/passkeys']) {
    await carol.open(path);
    await assertShows(carol, []);
  }
  await alice.open('/mine');
  await assertShows(alice, []);
});

async function ask(strings, person) {
  const text = strings.join(' ');
  const ran = await runs(person, ['login', 'vault', '--no-wait', `--reason=${text}`]);
  if (ran.code === 10) return { id: ran.stdout.trim(), text, strings };
  assertRefusedInWords(ran, text);
  return {};
}

// In the same words.
async function deny({ id, text }) {
  const { code, stderr } = await runs(world.as('carol'), ['deny', id, `--reason=${text}`]);
  assert.equal(code, 0, stderr);
}

// A string with NUL cannot be an argument of a program: the system refuses it for us.
async function runs(person, args) {
  if (args.some((arg) => arg.includes('\0'))) return { code: 2, stdout: '', stderr: 'no argument' };
  return person.run(args);
}

function assertRefusedInWords({ code, stderr }, text) {
  assert.ok([1, 2].includes(code), `${JSON.stringify(text)} ended with ${code}: ${stderr}`);
  assert.match(stderr, /\w+ \w+/);
  const deceiving = stderr.replaceAll('\n', '').match(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
  assert.equal(deceiving, null, `${JSON.stringify(stderr)} for ${JSON.stringify(text)}`);
}

// Two people at once, each doing one thing after the other.
async function each(items, work) {
  const results = [];
  const people = ['alice', 'bob'].map((name) => world.as(name));
  await Promise.all(people.map(async (person, first) => {
    for (let index = first; index < items.length; index += people.length) {
      results[index] = await work(items[index], person);
    }
  }));
  return results;
}

// As a browser would that does not hold back what the field's own rules refuse: that is for the service.
function submitUnchecked(field) {
  return field.evaluate((input) => { input.form.dispatchEvent(new Event('submit', { bubbles: true, cancelable: true })); });
}

const sample = (texts, every) => texts.filter((_, index) => index % every === 0);

// Each of the texts stands there letter by letter; no element came of any, and no script ran.
async function assertShows(visitor, texts, where = 'textContent') {
  const body = await visitor.page.evaluate((property) => ({ text: document.body[property], pwned: window.pwned }), where);
  for (const text of texts) assert.ok(body.text.includes(text), `${visitor.page.url()} does not show ${JSON.stringify(text)}`);
  assert.equal(body.pwned, undefined);
  const strange = (await shapes(visitor)).filter((shape) => !harmless.has(shape));
  assert.deepEqual(strange, [], visitor.page.url());
}

// What a page is made of: elements with the names of their attributes, and where links and forms lead. What is
// folded and what is not is the reader's doing.
function shapes(visitor) {
  return visitor.page.evaluate(() => [...new Set([...document.querySelectorAll('*')].map((element) => {
    const names = element.getAttributeNames().filter((name) => name !== 'open').sort();
    const leads = ['href', 'src', 'action', 'formaction'].filter((name) => names.includes(name)).map((name) => (
      new URL(element.getAttribute(name), location).origin
    ));
    return [element.localName, ...names, ...leads].join(' ');
  }))]);
}
