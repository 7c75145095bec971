// Chromium, and people in it. What elements are called stands in `named`, once: tests find them by role and
// accessible name, as a screen reader does, so that a page can be laid out anew without a test being touched.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

import { demandSuccess } from './world.mjs';

const ARGUMENTS = [
  // Chromium's sandbox does not start for root, as whom build machines run.
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

export const WIDE = { width: 1280, height: 800 };
export const PHONE = { width: 360, height: 640 };

// An authenticator of the device that knows its owner by finger or PIN, as phones and laptops have it.
const AUTHENTICATOR = {
  protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true,
  automaticPresenceSimulation: true,
};

const named = (page) => ({
  heading: page.getByRole('heading', { level: 1 }),
  message: page.getByRole('status'),
  skip: page.getByRole('link', { name: 'To the content' }),
  makePasskey: page.getByRole('button', { name: 'Make a passkey' }),
  fingerprint: page.getByText(/^SHA256:/),
  nameField: page.getByLabel('Your name in the policy'),
  usePasskey: page.getByRole('button', { name: 'Use my passkey' }),
  useProvider: page.getByRole('link', { name: /^Sign in with \S+, to read$/ }),
  account: page.getByLabel('Account'),
  continueAtProvider: page.getByRole('button', { name: 'Continue' }),
  cancelAtProvider: page.getByRole('button', { name: 'Cancel' }),
  signedInAs: page.getByText(/^Signed in as /),
  signOut: page.getByRole('button', { name: /sign out$/i }),
  request: (id) => page.locator(`a[href="/requests/${id}"]`).first(),
  approve: page.getByRole('button', { name: /^Approve (?!this much)/ }),
  approveLess: page.locator('summary', { hasText: /^\s*Approve less/ }),
  length: page.getByLabel('For', { exact: true }),
  host: (name) => page.getByRole('checkbox', { name: new RegExp(name) }),
  word: page.getByLabel(/^A word to/),
  approveThisMuch: page.getByRole('button', { name: 'Approve this much' }),
  denyWithReason: page.locator('summary', { hasText: /^\s*Deny/ }),
  why: page.getByLabel(/^Why/),
  deny: page.getByRole('button', { name: 'Deny', exact: true }),
  certificate: page.locator('summary', { hasText: 'what the certificate' }),
  withdraw: page.getByRole('button', { name: 'Withdraw' }),
  reviewIt: page.locator('summary', { hasText: 'Review it' }),
  outcome: page.getByLabel('It was'),
  finding: page.getByLabel('What you found'),
  closeReview: page.getByRole('button', { name: 'Close the review' }),
  remove: page.getByRole('button', { name: 'Remove' }),
  revokeIt: page.locator('summary', { hasText: 'Revoke' }),
  reasonForRevoking: page.getByLabel(/^Reason for revoking/),
  revoke: page.getByRole('button', { name: 'Revoke', exact: true }),
  giveBack: page.getByRole('button', { name: 'Give back' }),
});

export class Browser {
  #complaints = [];
  #expected = [];

  static async launch(world) {
    const browser = new Browser();
    browser.world = world;
    const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
    browser.chromium = await chromium.launch({ executablePath, args: ARGUMENTS });
    return browser;
  }

  // Somebody with a browser profile and an authenticator of their own, who has not signed in.
  async person(name, { authenticator = {}, ...options } = {}) {
    const context = await this.chromium.newContext({ viewport: WIDE, locale: 'en-GB', timezoneId: 'UTC', ...options });
    context.setDefaultTimeout(5_000);
    await context.addInitScript(() => {
      addEventListener('securitypolicyviolation', (event) => {
        console.error(`CSP: ${event.violatedDirective} blocked ${event.blockedURI} ${event.sample}`);
      });
    });
    context.on('console', (line) => { if (line.type() === 'error') this.#complain(name, line.text()); });
    context.on('weberror', (error) => this.#complain(name, error.error().stack));
    context.on('dialog', (dialog) => {
      this.#complain(name, `dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    return Visitor.in(this, context, name, { ...AUTHENTICATOR, ...authenticator });
  }

  #complain(name, text) { this.#complaints.push(`${name}: ${text}`); }

  // A test that provokes a refusal says beforehand which lines of the console come from it.
  expects(complaint) { this.#expected.push(complaint); }

  // No script failed, nothing was blocked, no dialog opened since this was asked last.
  demandSilence() {
    const [complaints, expected] = [this.#complaints.splice(0), this.#expected.splice(0)];
    assert.deepEqual(complaints.filter((line) => !expected.some((pattern) => pattern.test(line))), []);
  }

  async close() { await this.chromium.close(); }
}

// A person before one tab.
class Visitor {
  gestures = 0;

  static async in(browser, context, name, authenticator) {
    const visitor = new Visitor();
    const page = await context.newPage();
    Object.assign(visitor, { browser, context, name, page, url: browser.world.url, ...named(page) });
    visitor.devtools = await context.newCDPSession(page);
    await visitor.devtools.send('WebAuthn.enable');
    visitor.authenticator = await visitor.devtools.send('WebAuthn.addVirtualAuthenticator', { options: authenticator });
    visitor.options = authenticator;
    visitor.devtools.on('WebAuthn.credentialAsserted', () => { visitor.gestures += 1; });
    return visitor;
  }

  // Whether the finger is the right one from here on.
  verifies(isUserVerified) {
    return this.devtools.send('WebAuthn.setUserVerified', { ...this.authenticator, isUserVerified });
  }

  // A second tab of the same profile, whose authenticator holds the same passkeys.
  async secondTab() {
    const tab = await Visitor.in(this.browser, this.context, this.name, this.options);
    const { credentials } = await this.devtools.send('WebAuthn.getCredentials', this.authenticator);
    for (const credential of credentials) {
      await tab.devtools.send('WebAuthn.addCredential', { ...tab.authenticator, credential });
    }
    return tab;
  }

  // The decisions that this tab sends from here on.
  decisions() {
    const sent = [];
    this.page.on('request', (request) => { if (isDecision(request)) sent.push(request); });
    return sent;
  }

  // When the service has answered the next decision.
  async decided() {
    await this.page.waitForResponse((response) => isDecision(response.request()));
    return Date.now();
  }

  // A page that hears of a change just now loads itself again, and so gets in the way of a navigation.
  async open(path) {
    for (;;) {
      try {
        return await this.page.goto(this.url + path);
      } catch (error) {
        if (!/ERR_ABORTED|interrupted by another navigation/.test(error.message)) throw error;
      }
    }
  }

  // Starts the enrolment in the terminal, and opens the page that it prints.
  async beginEnrolment() {
    const terminal = this.browser.world.as(this.name).spawn(['passkey', 'add', '--yes']);
    const [address] = await terminal.says(/^http\S+\n/, 'stdout');
    await this.page.goto(address.trim());
    return terminal;
  }

  async enrol() {
    const terminal = await this.beginEnrolment();
    await this.makePasskey.click();
    return demandSuccess(await terminal.ended);
  }

  async signIn() {
    await this.open('/sign-in');
    await this.nameField.fill(this.name);
    await this.usePasskey.click();
    await this.signOut.waitFor();
    return this;
  }

  // From a page that wants somebody signed in to the provider, and as far as that leads.
  async goToProvider(path = '/') {
    await this.open(path);
    await this.useProvider.click();
    await this.account.fill(this.name);
  }

  // The same with the person's name, and back on the page that was asked for.
  async signInAtProvider(path = '/') {
    await this.goToProvider(path);
    await this.continueAtProvider.click();
    await this.page.waitForURL(this.url + path);
    await this.signedInAs.waitFor();
    return this;
  }
}

function isDecision(request) {
  return request.method() === 'POST' && new URL(request.url()).pathname === '/web/decisions';
}
