// Nobody approves an emergency, so everybody must hear of it.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { signedIn, stage } from './support/stage.mjs';
import { demandSuccess } from './support/world.mjs';

const { world, browser } = await stage();
const carol = await signedIn(browser, 'carol');

test('broken glass appears in the open feed by itself, with the reason', async () => {
  await carol.open('/emergencies');
  const reason = 'the primary is down and nobody answers';
  const terminal = world.as('alice').spawn(['break-glass', 'db-prod', '--category', 'outage', '--reason', reason]);
  await carol.page.getByText(reason).waitFor();
  await carol.page.getByText(/alice/).first().waitFor();
  await carol.page.getByText(/outage/).first().waitFor();
  assert.equal((await terminal.ended).code, 0);
});

test('a review that somebody wrote appears by itself', async () => {
  const id = await breakGlass('the replica is down as well, and nobody answers');
  await carol.open('/emergencies');
  const dan = world.as('dan');
  assert.equal((await dan.run(['review', id, '--outcome', 'justified', '--comment', 'it was down indeed'])).code, 0);
  await carol.page.getByText('it was down indeed').waitFor();
});

test('a review is written on the page with one gesture', async () => {
  await breakGlass('we practise what we do when everything is down');
  await carol.open('/emergencies');
  const before = carol.gestures;
  await carol.reviewIt.first().click();
  await carol.outcome.first().selectOption('drill');
  await carol.finding.first().fill('the drill of November');
  await carol.closeReview.first().click();
  await carol.page.getByText('the drill of November').waitFor();
  assert.equal(carol.gestures - before, 1);
  assert.ok((await world.events()).some((event) => event.endsWith(' reviewed')));
});

async function breakGlass(reason) {
  const args = ['break-glass', 'db-prod', '--category', 'outage', '--reason', reason];
  const { stderr } = demandSuccess(await world.as('alice').run(args));
  return stderr.match(/recorded as (\S+),/)[1];
}
