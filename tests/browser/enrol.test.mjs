// A passkey is bound to a person by two signatures, and counts only when it knows whose finger it is.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { stage } from './support/stage.mjs';

const { world, browser } = await stage();
const carol = await browser.person('carol');

test('page and terminal show the same fingerprint', async () => {
  const terminal = await carol.beginEnrolment();
  await carol.makePasskey.click();
  const { code, stderr } = await terminal.ended;
  assert.equal(code, 0, stderr);
  const [, fingerprint] = stderr.match(/fingerprint is (SHA256:\S{43})/);
  assert.equal((await carol.fingerprint.textContent()).trim(), fingerprint);
});

test('a passkey signs its person in, and a click signs them out', async () => {
  await carol.signIn();
  await carol.signOut.click();
  await carol.usePasskey.waitFor();
  await carol.open('/mine');
  assert.equal(new URL(carol.page.url()).pathname, '/sign-in');
});

test('somebody who signs in on the way to a page comes to that page', async () => {
  await carol.open('/roles');
  await carol.nameField.fill('carol');
  await carol.usePasskey.click();
  await carol.signOut.waitFor();
  assert.equal(new URL(carol.page.url()).pathname, '/roles');
});

test('an authenticator that does not verify its user enrols nothing, and the page says why', async () => {
  const dan = await browser.person('dan', { authenticator: { isUserVerified: false } });
  const terminal = await dan.beginEnrolment();
  await dan.makePasskey.click();
  await saysWhy(dan);
  await terminal.end();
  const listed = await world.as('dan').run(['--json', 'passkey', 'list']);
  assert.deepEqual(JSON.parse(listed.stdout), []);
});

test('an enrolled passkey that does not verify its user signs nobody in, and decides nothing', async () => {
  const id = await world.as('alice').ask('db-prod', '--for', '1h', '--reason', 'the disk is full');
  await carol.signIn();
  await carol.open(`/requests/${id}`);
  await carol.verifies(false);
  await carol.approve.click();
  await saysWhy(carol);
  await carol.open('/sign-in');
  await carol.nameField.fill('carol');
  await carol.usePasskey.click();
  await saysWhy(carol);
  await carol.verifies(true);
  const shown = await world.as('carol').run(['--json', 'show', id]);
  assert.equal(JSON.parse(shown.stdout).state.name, 'requested');
});

// The browser is asked to verify the user, and believes its authenticator. A browser that was made not to ask
// is refused by the service, which reads the flag that the authenticator signed.
test('a browser that does not ask for verification is refused by the service', async () => {
  const dan = await browser.person('dan', { authenticator: { hasUserVerification: false, isUserVerified: false } });
  await dan.context.addInitScript(() => {
    for (const verb of ['create', 'get']) {
      const real = navigator.credentials[verb].bind(navigator.credentials);
      navigator.credentials[verb] = ({ publicKey }) => {
        publicKey.userVerification = 'discouraged';
        if (publicKey.authenticatorSelection) publicKey.authenticatorSelection.userVerification = 'discouraged';
        return real({ publicKey });
      };
    }
  });
  const terminal = await dan.beginEnrolment();
  await dan.makePasskey.click();
  const { code, stderr } = await terminal.ended;
  assert.equal(code, 1);
  assert.match(stderr, /verif/);
});

test('a browser without the passkey says what to do', async () => {
  const elsewhere = await browser.person('carol');
  await elsewhere.open('/sign-in');
  await elsewhere.nameField.fill('carol');
  await elsewhere.usePasskey.click();
  await elsewhere.message.filter({ hasText: /[Ii]s it on this device/ }).waitFor();
  await elsewhere.page.getByText('ssh-jit passkey add').waitFor();
});

test('somebody who has no passkey at all is told what to do', async () => {
  const olga = await browser.person('olga');
  await olga.open('/sign-in');
  await olga.nameField.fill('olga');
  await olga.usePasskey.click();
  await olga.message.filter({ hasText: /./ }).waitFor();
  assert.match(await olga.message.textContent(), /no passkey.*ssh-jit passkey add/i);
});

test('a passkey that was removed signs nobody in', async () => {
  browser.expects(/Failed to load resource/);
  const dan = await browser.person('dan');
  await dan.enrol();
  await dan.signIn();
  await dan.open('/passkeys');
  await dan.remove.click();
  await dan.remove.waitFor({ state: 'detached' });
  await dan.open('/sign-in');
  await dan.nameField.fill('dan');
  await dan.usePasskey.click();
  await dan.message.filter({ hasText: 'ssh-jit passkey add' }).waitFor();
});

// A browser does not tell a page why it did not sign, so the page names what it can be.
async function saysWhy(person) {
  await person.message.filter({ hasText: /did it check that it is you/ }).waitFor();
}
