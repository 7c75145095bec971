// A whole installation, as its people see it: the real binary, a service that `ssh-jit init` made on a free
// port of loopback, and a home for each person. Everything lies in one temporary folder and ends with close().

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const BINARY = process.env.SSH_JIT ?? fileURLToPath(new URL('../../../target/debug/ssh-jit', import.meta.url));

const GROUPS = { alice: 'sre', bob: 'sre', carol: 'dba', dan: 'dba', olga: 'audit' };

const ROLES = `
[duties]
auditors = ["audit", "carol"]
reviewers = ["dba"]
revokers = ["carol"]

[roles.db-prod]
description = "PostgreSQL, production"
hosts = ["db1", "db2"]
principals = ["db-prod"]
requesters = ["sre"]
approvers = ["dba"]
automatic = { max = "15m" }
max = "4h"
default = "1h"
extensions = ["permit-pty"]

[roles.vault]
description = "The vault"
principals = ["vault"]
requesters = ["sre"]
approvers = ["dba"]
approvals = 2
max = "2h"

[roles.brief]
description = "Decided within a minute, or never"
principals = ["brief"]
requesters = ["sre"]
approvers = ["dba"]
automatic = { max = "1m" }
max = "1h"
decide_within = "1m"
`;

// What a process printed and how it ended. `exitedAt` is what a latency is measured to.
class Running {
  stdout = '';
  stderr = '';

  constructor(command, args, env) {
    this.child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of ['stdout', 'stderr']) {
      this.child[stream].setEncoding('utf8').on('data', (text) => { this[stream] += text; });
    }
    this.child.once('exit', () => { this.exitedAt = Date.now(); });
    this.ended = once(this.child, 'close').then(([code]) => ({ code, stdout: this.stdout, stderr: this.stderr }));
    // Whoever is interested awaits it; close() ends processes that nobody awaits.
    this.ended.catch(() => {});
  }

  // Waits until it has said something, and gives the match; fails when it ends without.
  async says(pattern, stream = 'stderr') {
    for (;;) {
      const match = this[stream].match(pattern);
      if (match) return match;
      const more = await Promise.race([once(this.child[stream], 'data'), this.ended.then(() => null)]);
      if (!more && !pattern.test(this[stream])) throw new Error(`it ended without ${pattern}:\n${this.stdout}${this.stderr}`);
    }
  }

  async end() {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGTERM');
    await this.ended;
  }
}

export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

export class World {
  #running = [];
  #people = new Map();

  // A service that listens, and its people with their keys and configuration; with a `provider` that people may
  // sign in with, to read.
  static async start({ provider } = {}) {
    const world = new World();
    world.provider = provider;
    try {
      await world.#start();
    } catch (error) {
      await world.close();
      throw error;
    }
    return world;
  }

  async #start() {
    this.dir = mkdtempSync(join(tmpdir(), 'ssh-jit-browser-'));
    const port = await freePort();
    // Passkeys are bound to a host name, and an address is none.
    this.url = `http://localhost:${port}`;
    mkdirSync(this.path('keys'));
    const keys = [...Object.keys(GROUPS), 'emergency'];
    await Promise.all(keys.map((name) => this.tool('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', this.key(name)])));
    await this.run(BINARY, ['init', '--dir', this.path('ca')], this.#environment(this.dir)).then(demandSuccess);
    writeFileSync(this.path('ca/policy.toml'), this.#policy());
    writeFileSync(this.path('ca/ssh-jit.toml'), [
      `url = "${this.url}"`, `listen = "127.0.0.1:${port}"`, 'ca_keys = "ca-keys"', 'policy = "policy.toml"',
      'database = "sqlite:ssh-jit.db"', 'journal = "break-glass.journal"', ...this.#oidc(), '',
    ].join('\n'));
    this.service = this.spawn(BINARY, ['serve', '--config', this.path('ca/ssh-jit.toml')], this.#environment(this.dir));
    await this.service.says(/listening on /);
    await Promise.all(Object.keys(GROUPS).map((name) => this.#setUp(name)));
  }

  #policy() {
    const publicKey = (name) => readFileSync(`${this.key(name)}.pub`, 'utf8').trim();
    const people = Object.entries(GROUPS).map(([name, group]) => (
      `[people.${name}]\ngroups = ["${group}"]\nkeys = ["${publicKey(name)}"]\n`
    ));
    const emergency = `\n[[emergency_keys]]\nperson = "alice"\nkey = "${publicKey('emergency')}"\nroles = ["db-prod"]\n[break_glass]\nextend_alone = 100\nper_key = 100\n`;
    const oidc = this.provider ? `\n[oidc]\ngroups = ${JSON.stringify(this.provider.claimable)}\n` : '';
    return people.join('\n') + ROLES + emergency + oidc;
  }

  #oidc() {
    if (!this.provider) return [];
    const { issuer, client, secret } = this.provider;
    const lines = ['[oidc]', `issuer = "${issuer}"`, `client_id = "${client}"`];
    if (!secret) return lines;
    writeFileSync(this.path('ca/oidc-secret'), secret, { mode: 0o600 });
    return [...lines, 'client_secret_file = "oidc-secret"'];
  }

  async #setUp(name) {
    const home = this.path(name);
    mkdirSync(home, { mode: 0o700 });
    const person = new Person(this, name, this.#environment(home));
    const emergency = name === 'alice' ? ['--emergency-identity', this.key('emergency')] : [];
    demandSuccess(await person.run(['setup', '--server', this.url, '--user', name, '--identity', this.key(name), ...emergency]));
    this.#people.set(name, person);
  }

  // Nothing of the developer's: no agent, no configuration.
  #environment(home) {
    return { PATH: '/usr/bin:/bin', HOME: home, TZ: 'UTC', LANG: 'C.UTF-8' };
  }

  path(name) { return join(this.dir, name); }

  key(name) { return this.path(`keys/${name}`); }

  // A person at their terminal.
  as(name) { return this.#people.get(name); }

  spawn(command, args, env) {
    const running = new Running(command, args, env);
    this.#running.push(running);
    return running;
  }

  async run(command, args, env) {
    return new Running(command, args, env).ended;
  }

  // One of OpenSSH's programs; fails when it does.
  async tool(command, args, env = this.#environment(this.dir)) {
    return demandSuccess(await this.run(command, args, env)).stdout;
  }

  // What happened so far, as the log tells it; without readers' sessions, since asking opens one.
  async events() {
    const { stdout } = demandSuccess(await this.as('olga').run(['--json', 'audit', 'list']));
    const events = stdout.trim().split('\n').map((line) => JSON.parse(JSON.parse(line).leaf));
    return events.filter((event) => event.kind !== 'session-opened').map(({ seq, kind }) => `${seq} ${kind}`);
  }

  async close() {
    await Promise.all(this.#running.reverse().map((running) => running.end()));
    if (this.dir) rmSync(this.dir, { recursive: true, force: true });
  }
}

class Person {
  constructor(world, name, env) {
    Object.assign(this, { world, name, env });
  }

  run(args) { return this.world.run(BINARY, args, this.env); }

  spawn(args) { return this.world.spawn(BINARY, args, this.env); }

  // Asks without waiting; gives the request's id.
  async ask(role, ...args) {
    const ran = await this.run(['login', role, '--no-wait', ...args]);
    if (ran.code !== 10) throw new Error(`login --no-wait ended with ${ran.code}\n${ran.stderr}`);
    return ran.stdout.trim();
  }

  // Gives this person an ssh-agent of their own.
  async withAgent() {
    const socket = this.world.path(`${this.name}.agent`);
    const agent = this.world.spawn('ssh-agent', ['-D', '-a', socket], this.env);
    await agent.says(/SSH_AUTH_SOCK/, 'stdout');
    this.env = { ...this.env, SSH_AUTH_SOCK: socket };
    return this;
  }

  // The certificates that their agent holds, each as ssh-keygen -L tells of it.
  async certificates() {
    const listed = await this.world.run('ssh-add', ['-L'], this.env);
    const lines = listed.stdout.split('\n').filter((line) => line.includes('-cert-'));
    return Promise.all(lines.map((line, index) => {
      const file = join(this.env.HOME, `held-${index}.pub`);
      writeFileSync(file, `${line}\n`);
      return this.world.tool('ssh-keygen', ['-L', '-f', file]);
    }));
  }
}

export function demandSuccess(ran) {
  if (ran.code !== 0) throw new Error(`it ended with ${ran.code}\n${ran.stdout}${ran.stderr}`);
  return ran;
}
