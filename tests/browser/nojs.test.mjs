// Without JavaScript pages still tell everything, and say how to decide in the terminal. No GET changes anything.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { everything } from './support/scenes.mjs';
import { signedIn, stage } from './support/stage.mjs';

const { world, browser } = await stage();
const pages = await everything(world);
const visitors = {};
for (const name of ['alice', 'carol', 'olga']) {
  const cookies = await (await signedIn(browser, name)).context.cookies();
  visitors[name] = await browser.person(name, { javaScriptEnabled: false });
  await visitors[name].context.addCookies(cookies);
}
const { carol } = visitors;

for (const [name, { path, person }] of Object.entries(pages)) {
  test(`${name} shows its content`, async () => {
    if (name === 'request-unknown') browser.expects(/status of 404/);
    await visitors[person].open(path);
    assert.match(await visitors[person].heading.innerText(), /\w+/);
    const shown = await visitors[person].page.getByRole('main').innerText();
    for (const word of WORDS[name]) assert.ok(shown.includes(word), `no ${JSON.stringify(word)} in:\n${shown}`);
    assert.equal(await visitors[person].page.getByRole('button').count(), 0, 'a button that does nothing');
  });
}

const WORDS = {
  queue: ['replica lag after failover', 'INC-412', '0 of 1'],
  'queue-empty': [],
  'request-requested': ['replica lag after failover', 'INC-412', 'ssh-jit approve', 'ssh-jit deny'],
  'request-half': ['rotate the unseal keys', '1 of 2', 'dan', 'ssh-jit approve'],
  'request-mine': ['ssh-jit withdraw'],
  'request-approved': ['the index, tonight', 'dan', '1h', 'db-prod@db1', 'the replica first'],
  'request-active': ['rebuild of the replica', 'carol', 'Active'],
  'request-denied': ['not while the shop is open; tonight is fine', 'Denied'],
  'request-withdrawn': ['Withdrawn'],
  'request-unknown': ['There is no request'],
  mine: ['replica lag after failover', 'ssh-jit withdraw'],
  active: ['bob', 'rebuild of the replica'],
  emergencies: ['the primary is down and nobody answers', 'ssh-jit review'],
  roles: ['db-prod', 'PostgreSQL, production', 'vault'],
  log: ['alice asked for db-prod', 'alice broke the glass'],
  passkeys: ['SHA256:', 'ssh-jit passkey add'],
};

test('signing in says that it needs JavaScript, and what works without', async () => {
  const nobody = await browser.person('nobody', { javaScriptEnabled: false });
  await nobody.open('/sign-in');
  await nobody.page.getByText(/JavaScript/).first().waitFor();
  await nobody.page.getByText('ssh-jit requests --pending').waitFor();
});

test('opening every link changes nothing', async () => {
  const before = await world.events();
  const seen = new Set();
  const todo = ['/', ...Object.values(pages).map(({ path }) => path)];
  browser.expects(/status of 40[34]/);
  while (todo.length > 0) {
    const path = todo.pop();
    if (seen.has(path)) continue;
    seen.add(path);
    await carol.open(path);
    const links = await carol.page.getByRole('link').evaluateAll((all) => all.map((link) => link.getAttribute('href')));
    todo.push(...links.filter((href) => href.startsWith('/')));
  }
  assert.ok(seen.size >= 15, [...seen].join(' '));
  assert.deepEqual(await world.events(), before);
});
