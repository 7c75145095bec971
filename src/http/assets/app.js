// What the pages need beyond HTML: a passkey's signature, times in the reader's zone, and news without reloading.
// No framework, nothing from elsewhere, no markup made from text.
'use strict';
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const utf8 = (text) => new TextEncoder().encode(text);
  const base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
  const base64url = (buffer) => base64(buffer).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
  const fromBase64url = (text) => Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0));
  const say = (text, kind = '') => { const line = one('#message'); line.textContent = text.charAt(0).toUpperCase() + text.slice(1); line.className = kind; };

  // --- What a passkey signs ---------------------------------------------------------------------------------

  const joined = (...parts) => {
    const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
    parts.reduce((at, part) => { bytes.set(part, at); return at + part.length; }, 0);
    return bytes;
  };
  // An SSH string: four bytes of length, then the bytes.
  const sshString = (bytes) => {
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, bytes.length);
    return joined(length, bytes);
  };
  // PROTOCOL.sshsig, "Signed Data": this whole blob is the challenge, so that the answer is an SSH signature.
  const challenge = async (kind, text) => {
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-512', utf8(text)));
    return joined(utf8('SSHSIG'), sshString(utf8(`${kind}@ssh-jit`)), sshString(utf8('')), sshString(utf8('sha512')), sshString(digest));
  };

  const json = async (path, body) => {
    const headers = { 'Content-Type': 'application/json', 'X-Form-Token': document.body.dataset.token ?? '' };
    const answer = await fetch(path, body ? { method: 'POST', headers, body: JSON.stringify(body) } : {});
    const data = answer.status === 204 ? null : await answer.json();
    if (!answer.ok) throw Object.assign(new Error(data?.message ?? `the service answered ${answer.status}`), { code: data?.code });
    return data;
  };

  const passkeysOf = async (person) => {
    const known = await json(`/web/passkeys?person=${encodeURIComponent(person)}`);
    if (known.length === 0) throw new Error(`there is no passkey of ${person} here; in a terminal: ssh-jit passkey add`);
    return known;
  };

  const sign = async (kind, text, credentials) => {
    const got = await navigator.credentials.get({
      publicKey: {
        challenge: await challenge(kind, text),
        rpId: location.hostname,
        userVerification: 'required',
        allowCredentials: credentials.map((id) => ({ type: 'public-key', id: fromBase64url(id) })),
        timeout: 120000,
      },
    });
    return {
      text,
      credential: base64url(got.rawId),
      assertion: {
        client_data: base64(got.response.clientDataJSON),
        authenticator_data: base64(got.response.authenticatorData),
        signature: base64(got.response.signature),
      },
    };
  };

  // --- What can be done ---------------------------------------------------------------------------------------

  // What is about to be signed must be what the page shows; otherwise the page is old.
  const asShown = (statement, shown, chosen) => {
    const same = (field, value) => JSON.stringify(statement[field]) === JSON.stringify(value);
    const principals = shown.principals.filter((p) => !p.includes('@') || chosen.hosts.includes(p.split('@')[1]));
    const from = Math.max(Date.parse(statement.at), statement.start ? Date.parse(statement.start) : 0);
    const claimable = (Date.parse(statement.claim_by) - from) / 1000;
    return ['id', 'request', 'requester', 'role', 'key', 'start', 'extensions', 'critical_options', 'policy'].every((field) => same(field, shown[field]))
      && same('decision', chosen.decision) && same('comment', chosen.comment) && same('seconds', chosen.seconds)
      && same('hosts', chosen.hosts) && same('principals', principals) && claimable === shown.claim_within;
  };

  const decision = async (form) => {
    const shown = JSON.parse(form.closest('[data-shown]').dataset.shown);
    const { seconds, comment } = form.elements;
    const boxes = all('input[name=host]', form);
    const chosen = {
      decision: form.dataset.decision,
      seconds: seconds ? Number(seconds.value) : shown.seconds,
      hosts: boxes.length ? boxes.filter((box) => box.checked).map((box) => box.value) : shown.hosts,
      comment: comment ? comment.value.trim() : '',
    };
    if (boxes.length && chosen.hosts.length === 0) throw new Error('choose at least one host, or deny it');
    const whole = chosen.seconds === shown.seconds && chosen.hosts.length === shown.hosts.length && chosen.comment === '';
    if ('less' in form.dataset && whole) throw new Error('this is all of it: choose a shorter time or fewer hosts');
    const draft = await json('/web/drafts/decision', { id: shown.id, ...chosen });
    if (!asShown(JSON.parse(draft.text), shown, chosen)) {
      throw Object.assign(new Error('the request, or the policy, is not as it was shown; look at it again'), { code: 'policy-changed' });
    }
    return draft.text;
  };
  const draft = (kind, body) => async (form) => (await json(`/web/drafts/${kind}`, body(form))).text;
  const id = (form) => ({ id: form.dataset.id });

  // What each form has signed, in which namespace, where it goes, and what is said when it is done.
  const acts = {
    decision: { make: decision, kind: 'approval', path: '/web/decisions', done: (form) => (form.dataset.decision === 'deny' ? 'denied' : 'approved') },
    withdrawal: { make: draft('withdrawal', id), kind: 'withdrawal', path: '/web/withdrawals', done: () => 'withdrawn' },
    return: { make: draft('return', id), kind: 'return', path: '/web/returns', done: () => 'given back' },
    acknowledgement: { make: draft('acknowledgement', id), kind: 'acknowledgement', path: '/web/acknowledgements', done: () => 'nobody is told again' },
    revocation: {
      make: draft('revocation', (form) => ({ ...id(form), reason: form.elements.reason.value.trim() })),
      kind: 'revocation', path: '/web/revocations', done: () => 'revoked',
    },
    review: {
      make: draft('review', (form) => ({ ...id(form), outcome: form.elements.outcome.value, comment: form.elements.comment.value.trim() })),
      kind: 'review', path: '/web/reviews', done: () => 'the review is closed',
    },
    removal: { make: draft('removal', (form) => ({ key: form.dataset.key })), kind: 'removal', path: '/web/removals', done: () => 'it signs nothing any more' },
  };

  const act = async (form) => {
    const { make, kind, path, done } = acts[form.dataset.act];
    const text = await make(form);
    const signed = await sign(kind, text, await passkeysOf(JSON.parse(text).person));
    await json(path, signed);
    await refresh();
    say(done(form), 'good');
  };

  const signIn = async (form) => {
    const person = form.elements.person.value.trim();
    const { text } = await json(`/web/drafts/session?person=${encodeURIComponent(person)}`);
    await json('/web/session', await sign('session', text, await passkeysOf(person)));
    localStorage.setItem('person', person);
    location.assign(form.dataset.next);
  };

  const signOut = async () => { await json('/web/sign-out', {}); location.assign('/sign-in'); };

  // Enrolment: the terminal that opened this page waits for what the passkey signs.
  const enrol = async (form) => {
    const asked = new URLSearchParams(location.hash.slice(1));
    const person = asked.get('person') ?? '';
    if (!asked.get('code')) throw new Error('this page is opened by a terminal: ssh-jit passkey add');
    const made = await navigator.credentials.create({
      publicKey: {
        challenge: crypto.getRandomValues(new Uint8Array(32)),
        rp: { id: location.hostname, name: 'ssh-jit' },
        user: { id: utf8(person), name: person, displayName: person },
        pubKeyCredParams: [{ type: 'public-key', alg: -7 }],
        authenticatorSelection: { residentKey: 'preferred', userVerification: 'required' },
      },
    });
    // The last 65 bytes of the SPKI of a P-256 key are its uncompressed point.
    const point = new Uint8Array(made.response.getPublicKey()).slice(-65);
    const type = 'sk-ecdsa-sha2-nistp256@openssh.com';
    const blob = joined(sshString(utf8(type)), sshString(utf8('nistp256')), sshString(point), sshString(utf8(location.hostname)));
    const print = base64(await crypto.subtle.digest('SHA-256', blob)).replace(/=+$/, '');
    one('#fingerprint').textContent = `SHA256:${print}`;
    const { text } = await json('/web/drafts/enrolment', { person, ssh_key: asked.get('key') ?? '', key: `${type} ${base64(blob)}` });
    say('use the passkey once more, to sign');
    const signed = await sign('enrolment', text, [base64url(made.rawId)]);
    await json(`/web/enrolments/${encodeURIComponent(asked.get('code'))}`, signed);
    one('#made').hidden = false;
    form.hidden = true;
    say('now compare the fingerprint in your terminal, and confirm there', 'good');
  };

  // --- One thing at a time --------------------------------------------------------------------------------------

  let busy = false;
  // Somebody else was faster, or the page was old: what is true now is shown, and why nothing came of it.
  const overtaken = ['not-pending', 'not-active', 'decided-already', 'lapsed', 'policy-changed', 'unknown-request', 'not-approver', 'wider', 'not-eligible', 'replayed'];
  const explained = (error) => {
    switch (error.name) {
      case 'NotAllowedError':
        return 'no passkey was used, and nothing was done. Is it on this device, and did it check that it is you?';
      case 'SecurityError':
        return 'passkeys do not work at this address; open the page by the name that the service is configured with';
      case 'InvalidStateError':
        return 'this device has a passkey for you already; use it, or remove it first';
      case 'NotSupportedError':
        return 'this device cannot make the kind of passkey that is needed (ES256)';
      case 'TypeError':
        return 'the service does not answer; nothing was done';
      default:
        return error.message;
    }
  };
  const attempt = async (form) => {
    if (busy) return;
    busy = true;
    all('button').forEach((button) => { button.disabled = true; });
    try {
      if (!window.PublicKeyCredential && form.dataset.act !== 'sign-out') {
        throw new Error('this browser has no passkeys here; use another one, or decide in the terminal');
      }
      say('');
      await ({ 'sign-in': signIn, 'sign-out': signOut, enrol }[form.dataset.act] ?? act)(form);
    } catch (error) {
      if (error.code === 'unauthenticated') toSignIn();
      else if (overtaken.includes(error.code)) await refresh().catch(() => {});
      say(explained(error), 'bad');
    }
    busy = false;
    all('button').forEach((button) => { button.disabled = false; });
  };
  document.addEventListener('submit', (event) => {
    const form = event.target.closest('form[data-act]');
    if (!form) return;
    event.preventDefault();
    attempt(form);
  });

  // --- What is shown, kept up to date -----------------------------------------------------------------------------

  const toSignIn = () => location.assign(`/sign-in?next=${encodeURIComponent(location.pathname)}`);

  const localTimes = () => all('time').forEach((time) => {
    const at = time.dataset.ahead ? new Date(Date.now() + time.dataset.ahead * 1000) : new Date(time.dateTime);
    const days = Math.abs(at - Date.now()) / 86400000;
    const today = at.toDateString() === new Date().toDateString();
    const clock = { hour: '2-digit', minute: '2-digit' };
    time.textContent = at.toLocaleString([], today ? clock : days < 6 ? { weekday: 'short', ...clock } : { dateStyle: 'medium', timeStyle: 'short' });
    time.title = `${at.toISOString().slice(0, 16).replace('T', ' ')} UTC`;
  });
  // Text that counts down by whole minutes, so that a screen reader is not told every second.
  const countdowns = () => all('[data-until]').forEach((left) => {
    const minutes = Math.max(0, Math.round((new Date(left.dataset.until) - Date.now()) / 60000));
    const hours = Math.floor(minutes / 60);
    const text = `${hours ? `${hours}h` : ''}${minutes % 60 || !hours ? `${minutes % 60}m` : ''} left`;
    if (left.textContent !== text) left.textContent = text;
  });
  const dress = () => {
    all('[data-js]').forEach((part) => { part.hidden = false; });
    all('[data-nojs]').forEach((part) => { part.hidden = true; });
    localTimes();
    countdowns();
  };

  // The page as the service has it now: parsed by the browser, never run.
  const fetched = () => new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    const query = new URLSearchParams(location.search);
    query.set('live', '');
    call.open('GET', `${location.pathname}?${query}`);
    call.responseType = 'document';
    call.onload = () => (call.response?.body ? resolve(call.response) : reject(new TypeError()));
    call.onerror = () => reject(new TypeError());
    call.send();
  });
  // What somebody was doing goes on: what they wrote and opened, and where they were.
  const carryOver = (from, to) => {
    all('input[id], select[id]', from).forEach((field) => {
      const other = to.querySelector(`#${CSS.escape(field.id)}`);
      if (other) other.value = field.value;
    });
    all('input[name=host]', from).forEach((box) => {
      const other = all('input[name=host]', to).find((one) => one.value === box.value);
      if (other) other.checked = box.checked;
    });
    const opened = all('details[open] > summary', from).map((summary) => summary.textContent);
    all('details', to).forEach((part) => { part.open = opened.includes(one('summary', part).textContent); });
  };
  // Finds in another version of the page what has the focus in this one.
  const sameAs = (here) => {
    const alike = (root) => all('a, button, summary, input, select, [tabindex]', root).filter((part) => part.id === here.id && part.textContent === here.textContent);
    const which = alike(one('main')).indexOf(here);
    return (root) => alike(root)[which];
  };
  // As it came, before anything here was done to it.
  let shown = one('main').outerHTML;
  const refresh = async () => {
    const fresh = await fetched();
    if (!fresh.body.dataset.seen) { toSignIn(); return; }
    Object.assign(document.body.dataset, fresh.body.dataset);
    const main = one('main', fresh);
    const text = main.outerHTML;
    if (text === shown) return;
    shown = text;
    const here = one('main').contains(document.activeElement) && sameAs(document.activeElement);
    carryOver(one('main'), main);
    document.title = fresh.title;
    one('main').replaceWith(document.adoptNode(main));
    dress();
    if (here) (here(main) ?? main).focus({ preventScroll: true });
  };

  const pause = (milliseconds) => new Promise((later) => { setTimeout(later, milliseconds); });
  const visible = () => document.visibilityState === 'visible';
  const turned = () => new Promise((seen) => { document.addEventListener('visibilitychange', seen, { once: true }); });
  // Whether something changed, when the service says so; no when the page is turned away from before.
  const news = async () => {
    const { seen, of } = document.body.dataset;
    const stop = new AbortController();
    const answer = await Promise.race([fetch(`/web/changes?seen=${seen}${of ? `&of=${of}` : ''}`, { signal: stop.signal }), turned()]);
    if (!(answer instanceof Response)) { stop.abort(); return false; }
    if (answer.status === 401) throw Object.assign(new Error(), { code: 'unauthenticated' });
    if (!answer.ok) throw new TypeError();
    return await answer.text() !== seen;
  };
  // A page that is looked at waits for news. One that is not looks now and then: browsers give a site only six connections.
  const live = async () => {
    for (let failures = 0; ;) {
      try {
        const changed = visible() ? await news() : await Promise.race([pause(30000), turned()]).then(() => true);
        if (changed && !busy) await refresh();
        failures = 0;
      } catch (error) {
        if (error.code === 'unauthenticated') { say('you were signed out; reload the page to sign in again', 'warn'); return; }
        failures += 1;
        await pause(Math.min(1000 * 2 ** failures, 30000));
      }
    }
  };

  dress();
  const name = one('form[data-act=sign-in] input');
  if (name) name.value = localStorage.getItem('person') ?? '';
  const person = one('#person:not(input)');
  if (person) person.textContent = new URLSearchParams(location.hash.slice(1)).get('person') ?? 'somebody';
  setInterval(() => { localTimes(); countdowns(); }, 15000);
  if (document.body.dataset.seen) live();
})();
