// What people come to the pages for: a request appears, is decided with one click and one gesture, and the
// terminal that waits for it goes on.

import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, readdirSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { afterEach, test } from 'node:test';

import { signedIn, stage } from './support/stage.mjs';
import { demandSuccess } from './support/world.mjs';

// What people notice is far below; machines that run tests are noisy.
const SOON = 2_000;

const { world, browser } = await stage();
const alice = await world.as('alice').withAgent();
const carol = await signedIn(browser, 'carol');
// Whoever has a role is not asked about it again.
afterEach(() => alice.run(['done']));

test('a request appears in an open queue by itself, and is approved with one click and one gesture', async (t) => {
  await carol.open('/');
  const { id, terminal, acceptedAt } = await ask(alice, 'db-prod', '--for', '2h');
  await carol.request(id).waitFor();
  report(t, 'from the request to the open queue', Date.now() - acceptedAt);
  await carol.request(id).click();
  const [before, decisions] = [carol.gestures, carol.decisions()];
  const answered = carol.decided();
  await carol.approve.click();
  const decidedAt = await answered;
  const { code, stderr } = await terminal.ended;
  report(t, 'from the decision to the end of login', terminal.exitedAt - decidedAt);
  assert.equal(code, 0, stderr);
  assert.equal(carol.gestures - before, 1);
  assert.equal(decisions.length, 1);
  const [certificate, ...others] = await alice.certificates();
  assert.equal(others.length, 0);
  assert.match(certificate, new RegExp(`Key ID: "ssh-jit/${id}/alice/db-prod/`));
  assert.deepEqual(principals(certificate), ['db-prod@db1', 'db-prod@db2']);
  assert.equal(seconds(certificate), 7200);
  await carol.page.getByText(/carol approved|you approved/i).first().waitFor();
  assert.equal(await carol.approve.count(), 0);
});

test('who has the duty revokes what is active with one gesture', async () => {
  const login = ['login', 'db-prod', '--for', '10m', '--reason', 'replica lag after failover', '--json'];
  const { request: id } = JSON.parse(demandSuccess(await alice.run(login)).stdout);
  await carol.open(`/requests/${id}`);
  const before = carol.gestures;
  await carol.revokeIt.click();
  await carol.reasonForRevoking.fill('the laptop was stolen');
  await carol.revoke.click();
  await carol.page.getByText('the laptop was stolen').first().waitFor();
  assert.equal(carol.gestures - before, 1);
  assert.equal(await carol.revokeIt.count(), 0);
  assert.ok((await world.events()).some((event) => event.endsWith(' revoked')));
});

test('the certificate holds what was approved when that is less', async () => {
  const { id, terminal } = await ask(alice, 'db-prod', '--for', '2h');
  await carol.open(`/requests/${id}`);
  await carol.approveLess.click();
  await carol.length.selectOption({ label: '30m' });
  await carol.host('db2').uncheck();
  await carol.word.fill('enough for the slot rebuild');
  await carol.approveThisMuch.click();
  const { code, stderr } = await terminal.ended;
  assert.equal(code, 0, stderr);
  assert.match(stderr, /carol approved 30m \(asked 2h\): "enough for the slot rebuild"/);
  const [certificate] = await alice.certificates();
  assert.deepEqual(principals(certificate), ['db-prod@db1']);
  assert.equal(seconds(certificate), 1800);
  await carol.certificate.click();
  const told = await carol.page.locator('dl').innerText();
  assert.match(told, /^30m$/m);
  assert.match(told, /^db-prod@db1$/m);
});

test('less than one host cannot be approved', async () => {
  const { id, terminal } = await ask(alice);
  await carol.open(`/requests/${id}`);
  await carol.approveLess.click();
  await carol.host('db1').uncheck();
  await carol.host('db2').uncheck();
  const decisions = carol.decisions();
  await carol.approveThisMuch.click();
  await carol.message.filter({ hasText: /host/ }).waitFor();
  assert.equal(decisions.length, 0);
  await terminal.end();
});

test('a denial ends the login, which prints the reason', async () => {
  const { id, terminal } = await ask(alice);
  await carol.open(`/requests/${id}`);
  await carol.denyWithReason.click();
  await carol.why.fill('the change freeze begins today');
  await carol.deny.click();
  const { code, stderr } = await terminal.ended;
  assert.equal(code, 11, stderr);
  assert.match(stderr, /carol denied: "the change freeze begins today"/);
  await carol.page.getByText('the change freeze begins today').waitFor();
  assert.equal(await carol.approve.count(), 0);
});

test('a denial without a reason is not sent, and the reason is asked for', async () => {
  const { id, terminal } = await ask(alice);
  await carol.open(`/requests/${id}`);
  const decisions = carol.decisions();
  await carol.denyWithReason.click();
  await carol.deny.click();
  await carol.page.waitForFunction(() => document.activeElement.tagName === 'INPUT');
  assert.equal(decisions.length, 0);
  await terminal.end();
});

test('a requester withdraws on the page', async () => {
  const requester = await signedIn(browser, 'alice');
  const { id, terminal } = await ask(alice);
  await requester.open(`/requests/${id}`);
  await requester.withdraw.click();
  const { code, stderr } = await terminal.ended;
  assert.equal(code, 1, stderr);
  assert.match(stderr, new RegExp(`${id} is withdrawn`));
  await requester.page.getByText(/withdrawn/i).first().waitFor();
});

test('a requester gives access back on the page, and the terminal learns of it', async () => {
  const bob = await world.as('bob').withAgent();
  const requester = await signedIn(browser, 'bob');
  const login = ['login', 'db-prod', '--for', '10m', '--reason', 'a look', '--json'];
  const { request } = JSON.parse((await bob.run(login)).stdout);
  await requester.open('/mine');
  await requester.giveBack.click();
  await requester.giveBack.waitFor({ state: 'detached' });
  const shown = await bob.run(['--json', 'show', request]);
  assert.equal(JSON.parse(shown.stdout).state.name, 'returned');
  // What was given back is not what the next login finds.
  assert.notEqual(JSON.parse((await bob.run(login)).stdout).request, request);
  assert.equal((await bob.run(['done'])).code, 0);
  assert.deepEqual(await bob.certificates(), []);
});

test('an open page says by itself that somebody else decided', async () => {
  const { id, terminal } = await ask(alice);
  await carol.open(`/requests/${id}`);
  await carol.approve.waitFor();
  assert.equal((await world.as('dan').run(['deny', id, '--reason', 'not this week'])).code, 0);
  await carol.page.getByText('not this week').waitFor();
  assert.equal(await carol.approve.count(), 0);
  assert.equal((await terminal.ended).code, 11);
});

test('a second tab says what happened instead of deciding again', async () => {
  browser.expects(/Failed to load resource/);
  const { id, terminal } = await ask(alice);
  await carol.open(`/requests/${id}`);
  const stale = await carol.secondTab();
  // It does not hear of changes, as a laptop that just woke up.
  await stale.page.route('**/web/changes*', (route) => route.abort());
  await stale.open(`/requests/${id}`);
  await stale.approve.waitFor();
  await carol.approve.click();
  demandSuccess(await terminal.ended);
  const before = await world.events();
  await stale.approve.click();
  await stale.page.getByText(/it is \w+ already|active until|carol approved|you approved/i).first().waitFor();
  await stale.page.waitForFunction(() => [...document.querySelectorAll('button')].every((button) => !button.disabled));
  assert.equal(stale.gestures, 0, 'nobody is asked for a finger for nothing');
  assert.deepEqual(await world.events(), before);
  // As long as it is open it tries to hear of changes, and complains.
  await stale.page.close();
});

test('a double click sends one decision', async () => {
  const { id, terminal } = await ask(alice);
  await carol.open(`/requests/${id}`);
  const decisions = carol.decisions();
  await carol.approve.dblclick();
  demandSuccess(await terminal.ended);
  await carol.page.getByText(/carol approved|you approved/i).first().waitFor();
  assert.equal(decisions.length, 1);
});

test('what is decided cannot be decided again by going back', async () => {
  const { id, terminal } = await ask(alice);
  await carol.open('/');
  await carol.request(id).click();
  await carol.approve.click();
  demandSuccess(await terminal.ended);
  await carol.page.getByText(/carol approved|you approved/i).first().waitFor();
  await carol.open('/mine');
  await carol.page.goBack();
  await carol.heading.waitFor();
  assert.equal(await carol.approve.count(), 0);
  await carol.page.goBack();
  await carol.heading.waitFor();
  assert.equal(await carol.request(id).count(), 0, 'the queue lists what is decided');
});

test('a request that needs two shows how many approved, and waits for the second', async () => {
  const { id, terminal } = await ask(alice, 'vault');
  await carol.open(`/requests/${id}`);
  await carol.page.getByText(/0 of 2/).waitFor();
  await carol.approve.click();
  await carol.page.getByText(/1 of 2/).waitFor();
  assert.equal(await carol.approve.count(), 0, 'one person decides once');
  assert.equal(terminal.exitedAt, undefined);
  assert.equal((await world.as('dan').run(['approve', id])).code, 0);
  demandSuccess(await terminal.ended);
  await carol.page.getByText(/dan approved/).first().waitFor();
});

test('stock ssh-keygen verifies what the passkey approved', async () => {
  const folder = world.path('evidence');
  assert.equal((await world.as('olga').run(['audit', 'export', folder])).code, 0);
  const files = readdirSync(folder).filter((name) => name.endsWith('-approval.json')).map((name) => `${folder}/${name}`);
  const hers = files.filter((file) => JSON.parse(readFileSync(file, 'utf8')).person === 'carol');
  assert.ok(hers.length >= 5);
  for (const file of hers) {
    const args = ['-Y', 'verify', '-f', `${folder}/allowed_signers`, '-I', 'carol', '-n', 'approval@ssh-jit',
      '-s', file.replace(/json$/, 'sig')];
    const statement = openSync(file, 'r');
    const { status, stderr } = spawnSync('ssh-keygen', args, { stdio: [statement, 'pipe', 'pipe'], encoding: 'utf8' });
    closeSync(statement);
    assert.equal(status, 0, stderr);
  }
});

// A login that waits in its terminal.
async function ask(person, role = 'db-prod', ...args) {
  const length = args.includes('--for') ? [] : ['--for', '1h'];
  const terminal = person.spawn(['login', role, ...length, ...args, '--reason', 'replica lag after failover']);
  const [, id] = await terminal.says(/request ([0-9A-Z]{4}-[0-9A-Z-]+)\n/);
  return { id, terminal, acceptedAt: Date.now() };
}

function principals(certificate) {
  return certificate.match(/Principals: \n([^]*?)\n\s+Critical/)[1].split('\n').map((line) => line.trim());
}

function seconds(certificate) {
  const [, from, to] = certificate.match(/from (\S+) to (\S+)/);
  return (Date.parse(to) - Date.parse(from)) / 1000;
}

function report(t, what, took) {
  t.diagnostic(`${what}: ${took} ms`);
  assert.ok(took < SOON, `${what}: ${took} ms`);
}
