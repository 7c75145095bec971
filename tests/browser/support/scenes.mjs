// A service where something of everything has happened, and the pages that show it.

import { demandSuccess } from './world.mjs';

// Gives the pages by name, each with its path and whose page it is.
export async function everything(world) {
  const [alice, bob, carol, dan] = ['alice', 'bob', 'carol', 'dan'].map((name) => world.as(name));
  const run = async (person, ...args) => demandSuccess(await person.run(args));
  const ask = (person, reason, ...args) => person.ask('db-prod', '--for', '2h', '--reason', reason, ...args);

  await run(alice, 'break-glass', 'db-prod', '--category', 'outage', '--reason', 'the primary is down and nobody answers');
  await run(bob, 'login', 'db-prod', '--for', '10m', '--reason', 'a look at the slow query log');
  await run(bob, 'done');
  const denied = await ask(alice, 'an index on the busiest table, in the afternoon');
  await run(carol, 'deny', denied, '--reason', 'not while the shop is open; tonight is fine');
  const withdrawn = await ask(alice, 'the wrong window');
  await run(alice, 'withdraw', withdrawn);
  const approved = await ask(alice, 'the index, tonight', '--ticket', 'CHG-77');
  await run(dan, 'approve', approved, '--for', '1h', '--host', 'db1', '--comment', 'the replica first');
  const active = await ask(bob, 'rebuild of the replica');
  await run(carol, 'approve', active);
  await run(bob, 'login', active);
  const half = await alice.ask('vault', '--for', '1h', '--reason', 'rotate the unseal keys with olga', '--ticket', 'SEC-9');
  await run(dan, 'approve', half);
  const requested = await ask(alice, 'replica lag after failover, need to rebuild the slot', '--ticket', 'INC-412');
  const page = (path, person = 'carol') => ({ path, person });
  return {
    queue: page('/'),
    'queue-empty': page('/', 'olga'),
    'request-requested': page(`/requests/${requested}`),
    'request-half': page(`/requests/${half}`),
    'request-mine': page(`/requests/${requested}`, 'alice'),
    'request-approved': page(`/requests/${approved}`),
    'request-active': page(`/requests/${active}`),
    'request-denied': page(`/requests/${denied}`),
    'request-withdrawn': page(`/requests/${withdrawn}`),
    'request-unknown': page('/requests/0000-0000-00'),
    mine: page('/mine', 'alice'),
    active: page('/active'),
    emergencies: page('/emergencies'),
    roles: page('/roles'),
    log: page('/log'),
    passkeys: page('/passkeys'),
  };
}
