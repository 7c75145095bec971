// Signing in with an identity provider, a real one: its word opens a session that reads, and decides nothing.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Provider } from './support/provider.mjs';
import { stage } from './support/stage.mjs';

const claims = { alice: ['audit'], bob: ['dba'] };
// The first knows the service by a secret; to the second it is a public client, and the policy lists another group.
const known = await Provider.plan({ secret: 'between the two of us', claims, claimable: ['audit'] });
const open = await Provider.plan({ claims, claimable: ['dba'] });
const [{ world, browser }, elsewhere] = [await stage({ provider: known }), await stage({ provider: open })];
await known.open(world.url);

test('the sign-in page offers the provider, which leads back to the page that was asked for', async () => {
  const olga = await browser.person('olga');
  await olga.signInAtProvider('/roles');
  assert.equal(await olga.signedInAs.innerText(), 'Signed in as olga');
  assert.equal(await olga.heading.innerText(), 'Roles');
  // The cookie is there for the next page, too, and for the one after signing out it is not.
  await olga.open('/log');
  await olga.page.getByText('olga signed in').first().waitFor();
  await olga.signOut.click();
  await olga.useProvider.waitFor();
  await olga.open('/log');
  assert.equal(new URL(olga.page.url()).pathname, '/sign-in');
});

test('the way back works in the browser that went there, and once', async () => {
  browser.expects(/status of 400/);
  const olga = await browser.person('olga');
  const back = olga.page.waitForRequest(/\/sign-in\/oidc\/back/);
  await olga.signInAtProvider();
  const path = (await back).url().slice(world.url.length);
  const dan = await browser.person('dan');
  for (const person of [olga, dan]) {
    assert.equal((await person.open(path)).status(), 400);
    await person.page.getByText('began no such sign-in').waitFor();
  }
  await dan.open('/');
  await dan.useProvider.waitFor();
});

test('a group that is claimed opens the log, if the policy lists it', async () => {
  const alice = await browser.person('alice');
  await alice.signInAtProvider('/log');
  assert.equal(await alice.heading.innerText(), 'The log');
});

test('a group that is claimed and not listed opens nothing', async () => {
  browser.expects(/status of 40[34]/);
  const id = await world.as('alice').ask('db-prod', '--for', '1h', '--reason', 'the disk is full');
  const bob = await browser.person('bob');
  await bob.signInAtProvider('/log');
  assert.equal(await bob.heading.innerText(), 'Not for you');
  await bob.open(`/requests/${id}`);
  assert.equal(await bob.heading.innerText(), 'No such request');
});

test('somebody whom the policy does not name is refused in words', async () => {
  browser.expects(/status of 403/);
  const mallory = await browser.person('mallory');
  await refused(mallory, 403, /names nobody of that name/, () => mallory.continueAtProvider.click());
});

test('cancelling at the provider leads to a plain page', async () => {
  browser.expects(/status of 403/);
  const carol = await browser.person('carol');
  await refused(carol, 403, /did not sign you in: access_denied/, () => carol.cancelAtProvider.click());
});

test('an approver without a passkey is told what to do, and nothing is decided', async () => {
  const id = await world.as('alice').ask('db-prod', '--for', '1h', '--reason', 'the log is full');
  const dan = await browser.person('dan');
  await dan.signInAtProvider(`/requests/${id}`);
  await pressesInVain(dan, id, /no passkey of dan here; in a terminal: ssh-jit passkey add/);
});

test('an approver whose passkey is elsewhere is told so; where it is, the same button decides', async () => {
  const id = await world.as('alice').ask('db-prod', '--for', '1h', '--reason', 'the index is broken');
  const there = await browser.person('carol');
  await there.enrol();
  const here = await browser.person('carol');
  await here.signInAtProvider(`/requests/${id}`);
  await pressesInVain(here, id, /No passkey was used.*on this device/);
  await there.signInAtProvider(`/requests/${id}`);
  const before = there.gestures;
  await there.approve.click();
  await there.page.getByText(/carol approved|you approved/i).first().waitFor();
  assert.equal(there.gestures - before, 1);
  assert.equal(await stateOf(id), 'approved');
});

test('a provider that goes away leads to a plain page, and a passkey still signs in', async () => {
  browser.expects(/status of 503/);
  const olga = await browser.person('olga');
  known.stopsAfterSigningIn();
  await refused(olga, 503, /does not work now/, () => olga.continueAtProvider.click());
  await olga.enrol();
  await olga.signIn();
  await known.open();
  const again = await browser.person('olga');
  await again.signInAtProvider();
});

test('a provider that never was there is no harm, and a public client signs people in once it is', async () => {
  elsewhere.browser.expects(/status of 503/);
  const bob = await elsewhere.browser.person('bob');
  const id = await elsewhere.world.as('alice').ask('db-prod', '--for', '1h', '--reason', 'the disk is full');
  await bob.open('/');
  const answer = bob.page.waitForResponse(/\/sign-in\/oidc\?/);
  await bob.useProvider.click();
  assert.equal((await answer).status(), 503);
  await bob.page.getByText(/does not work now/).waitFor();
  await open.open(elsewhere.world.url);
  // What approvers see, and no button: a claim makes nobody an approver.
  await bob.signInAtProvider(`/requests/${id}`);
  await bob.page.getByText('the disk is full').first().waitFor();
  assert.equal(await bob.approve.count(), 0);
  await bob.page.getByText('You may decide').waitFor({ state: 'detached' });
});

test('a public client: a group that this policy does not list opens nothing', async () => {
  elsewhere.browser.expects(/status of 403/);
  const alice = await elsewhere.browser.person('alice');
  await alice.signInAtProvider('/log');
  assert.equal(await alice.heading.innerText(), 'Not for you');
});

// Does at the provider what leads to a plain page with this status, and to nobody who is signed in.
async function refused(person, status, words, what) {
  await person.goToProvider();
  const back = person.page.waitForResponse(/\/sign-in\/oidc\/back/);
  await what();
  assert.equal((await back).status(), status);
  assert.equal(await person.heading.innerText(), 'Not signed in');
  assert.match(await person.page.getByRole('main').innerText(), words);
  await person.open('/');
  await person.useProvider.waitFor();
}

async function pressesInVain(person, id, words) {
  const decisions = person.decisions();
  await person.approve.click();
  await person.message.filter({ hasText: words }).waitFor();
  assert.equal(decisions.length, 0);
  assert.equal(await stateOf(id), 'requested');
}

async function stateOf(id) {
  const { stdout } = await world.as('carol').run(['--json', 'show', id]);
  return JSON.parse(stdout).state.name;
}
