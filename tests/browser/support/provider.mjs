// An identity provider on loopback: a real one, certified by the OpenID Foundation, with a plain form to sign in.
// It knows everybody who comes, by the name that they type.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';

import OidcProvider from 'oidc-provider';

import { freePort } from './world.mjs';

// By its address, so that to browsers it is another site than the service on localhost.
const HOST = '127.0.0.1';
// In seconds; all that the provider makes is good until the test is over.
const TEST_LASTS = 600;

export class Provider {
  #server;
  #oidc;

  // What a service is configured with: with a secret it is a confidential client, without a public one. `claims`
  // are people's groups, `claimable` those that the policy lets it claim. Nothing listens before open().
  static async plan({ secret, claims = {}, claimable = [] }) {
    const issuer = `http://${HOST}:${await freePort()}`;
    return Object.assign(new Provider(), { issuer, client: 'ssh-jit', secret, claims, claimable });
  }

  // Opens for the service at `url`; after a stop() with the same keys as before.
  async open(url = this.url) {
    this.url = url;
    this.#server ??= this.#made();
    this.#server.listen(new URL(this.issuer).port, HOST);
    await once(this.#server, 'listening');
  }

  // What is being answered is answered still; nobody else is.
  async stop() {
    if (!this.#server?.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeIdleConnections();
    await closed;
  }

  // Stops as soon as it has signed somebody in: too early for the service to ask who it was.
  stopsAfterSigningIn() { this.#oidc.once('authorization.success', () => { this.stop(); }); }

  #made() {
    const algorithm = this.secret ? 'RS256' : 'ES256';
    const { privateKey } = algorithm === 'RS256'
      ? generateKeyPairSync('rsa', { modulusLength: 2048 }) : generateKeyPairSync('ec', { namedCurve: 'P-256' });
    this.#oidc = new OidcProvider(this.issuer, {
      clients: [{
        client_id: this.client,
        client_secret: this.secret,
        token_endpoint_auth_method: this.secret ? 'client_secret_basic' : 'none',
        redirect_uris: [`${this.url}/sign-in/oidc/back`],
        id_token_signed_response_alg: algorithm,
      }],
      jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: algorithm, use: 'sig', kid: 'one' }] },
      claims: { openid: ['sub'], profile: ['preferred_username'], groups: ['groups'] },
      // The service reads the ID token, and asks for nothing else.
      conformIdTokenClaims: false,
      pkce: { required: () => true },
      ttl: { AccessToken: TEST_LASTS, Grant: TEST_LASTS, IdToken: TEST_LASTS, Interaction: TEST_LASTS, Session: TEST_LASTS },
      cookies: { keys: [randomBytes(16).toString('hex')] },
      findAccount: (_, name) => ({
        accountId: name, claims: () => ({ sub: name, preferred_username: name, groups: this.claims[name] ?? [] }),
      }),
      // Nobody is asked whether the service may know them.
      loadExistingGrant: async ({ oidc: { client, session, provider } }) => {
        const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
        grant.addOIDCScope('openid profile groups');
        await grant.save();
        return grant;
      },
      features: { devInteractions: { enabled: false } },
      interactions: { url: (_, { uid }) => `/interaction/${uid}` },
    });
    const [form, rest] = [this.#form.bind(this), this.#oidc.callback()];
    return createServer((request, response) => (
      request.url.startsWith('/interaction/') ? form(request, response) : rest(request, response)
    ));
  }

  async #form(request, response) {
    if (request.method === 'POST') {
      const name = new URLSearchParams(await text(request)).get('name');
      const result = name ? { login: { accountId: name } } : { error: 'access_denied' };
      await this.#oidc.interactionFinished(request, response, result);
      return;
    }
    response.setHeader('Content-Type', 'text/html');
    response.end(`<!doctype html><html lang="en"><title>Provider</title><link rel="icon" href="data:,"><form method="post">
      <label>Account <input name="name" required></label> <button>Continue</button></form>
      <form method="post"><button>Cancel</button></form>`);
  }
}
