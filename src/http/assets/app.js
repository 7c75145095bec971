// What the pages need beyond HTML: a passkey's signature, times in the reader's zone, and a reload when
// something changed. No framework, nothing from elsewhere, no markup made from text.
'use strict';
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const utf8 = (text) => new TextEncoder().encode(text);
  const base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
  const base64url = (buffer) => base64(buffer).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
  const fromBase64url = (text) => Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0));
  const say = (text, kind = '') => { const line = one('#message'); if (line) { line.textContent = text; line.className = kind; } };

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
    // The token says that the call comes from a page of this session; pages without a session have none.
    const headers = { 'Content-Type': 'application/json', 'X-Form-Token': one('body').dataset.token || '' };
    const options = body ? { method: 'POST', headers, body: JSON.stringify(body) } : {};
    const answer = await fetch(path, { credentials: 'same-origin', ...options });
    const data = answer.status === 204 ? null : await answer.json();
    if (!answer.ok) throw new Error(data && data.message ? data.message : `the service answered ${answer.status}`);
    return data;
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

  const busy = (form, on) => all('button', form).forEach((button) => { button.disabled = on; });
  const attempt = async (form, work) => {
    busy(form, true);
    try { await work(); } catch (error) { say(error.name === 'NotAllowedError' ? 'no passkey was used; nothing was done' : error.message, 'bad'); }
    busy(form, false);
  };
  const passkeysOf = async (person) => {
    const known = await json(`/web/passkeys?person=${encodeURIComponent(person)}`);
    if (known.length === 0) throw new Error('there is no passkey of this name here; enrol one with: ssh-jit passkey add');
    return known;
  };

  const signIn = (form) => form.addEventListener('submit', (event) => {
    event.preventDefault();
    attempt(form, async () => {
      const person = form.elements.person.value.trim();
      const draft = await json(`/web/drafts/session?person=${encodeURIComponent(person)}`);
      await json('/web/session', await sign('session', draft.text, await passkeysOf(person)));
      localStorage.setItem('person', person);
      location.assign(form.dataset.next);
    });
  });

  // What is about to be signed must be what the page shows; otherwise the page is old, and reloaded.
  const asShown = (form, statement, seconds, hosts) => {
    const shown = JSON.parse(form.dataset.shown);
    const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
    const principals = shown.principals.filter((p) => !p.includes('@') || hosts.includes(p.split('@')[1]));
    return statement.request === shown.request && statement.requester === shown.requester && statement.role === shown.role
      && statement.key === shown.key && statement.seconds === seconds && same(statement.hosts, hosts)
      && same(statement.principals, principals) && same(statement.extensions, shown.extensions)
      && same(statement.critical_options, shown.critical_options) && statement.policy === shown.policy;
  };

  const decide = (form) => form.addEventListener('submit', (event) => {
    event.preventDefault();
    attempt(form, async () => {
      const decision = event.submitter.value;
      const shown = JSON.parse(form.dataset.shown);
      const less = event.submitter.name === 'less';
      const seconds = less ? Number(form.elements.seconds.value) : shown.seconds;
      const boxes = all('input[name=host]', form);
      const hosts = less && boxes.length ? boxes.filter((box) => box.checked).map((box) => box.value) : shown.hosts;
      if (less && boxes.length && hosts.length === 0) throw new Error('choose at least one host');
      const comment = decision === 'deny' ? form.elements.reason.value.trim() : form.elements.comment.value.trim();
      if (decision === 'deny' && comment.length < 4) { form.elements.reason.focus(); throw new Error('say why, in 4 characters or more: the requester reads it'); }
      const draft = await json('/web/drafts/decision', { id: shown.id, decision, seconds, hosts: less ? hosts : [], comment });
      const statement = JSON.parse(draft.text);
      if (!asShown(form, statement, seconds, hosts) || statement.decision !== decision || statement.comment !== comment) {
        throw new Error('the request is not as it was shown; reload the page and look again');
      }
      await json('/web/decisions', await sign('approval', draft.text, await passkeysOf(statement.person)));
      location.reload();
    });
  });

  const withdraw = (form) => form.addEventListener('submit', (event) => {
    event.preventDefault();
    attempt(form, async () => {
      const draft = await json('/web/drafts/withdrawal', { id: form.dataset.id });
      await json('/web/withdrawals', await sign('withdrawal', draft.text, await passkeysOf(JSON.parse(draft.text).person)));
      location.reload();
    });
  });

  const signOut = (form) => form.addEventListener('submit', (event) => {
    event.preventDefault();
    attempt(form, async () => { await json('/web/sign-out', {}); location.assign('/sign-in'); });
  });

  // Enrolment: the terminal that opened this page waits for what the passkey signs.
  const enrol = (form) => {
    const asked = new URLSearchParams(location.hash.slice(1));
    const person = asked.get('person') || '';
    one('#person').textContent = person;
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      attempt(form, async () => {
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
        one('#made').hidden = false;
        const draft = await json('/web/drafts/enrolment', { person, ssh_key: asked.get('key') || '', key: `${type} ${base64(blob)}` });
        say('use the passkey once more, to sign');
        const signed = await sign('enrolment', draft.text, [base64url(made.rawId)]);
        await json(`/web/enrolments/${encodeURIComponent(asked.get('code') || '')}`, signed);
        say('now compare the fingerprint in your terminal, and confirm there', 'good');
        form.hidden = true;
      });
    });
  };

  const localTimes = () => all('time').forEach((time) => {
    const at = new Date(time.dateTime);
    time.title = time.dateTime;
    const today = at.toDateString() === new Date().toDateString();
    time.textContent = at.toLocaleString([], today ? { timeStyle: 'short' } : { dateStyle: 'medium', timeStyle: 'short' });
  });
  // Text that counts down by whole minutes, so that a screen reader is not told every second.
  const countdowns = () => all('[data-until]').forEach((left) => {
    const minutes = Math.max(0, Math.round((new Date(left.dataset.until) - Date.now()) / 60000));
    const text = minutes >= 120 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min left` : `${minutes} min left`;
    if (left.textContent !== text) left.textContent = text;
  });

  // `live` says that nobody did this, so that it does not prolong the session.
  const loadAgain = () => {
    const here = new URL(location.href);
    here.searchParams.set('live', '1');
    location.replace(here);
  };
  // Taken off again, so that a person's own reload is one.
  const takeOffLive = () => {
    const here = new URL(location.href);
    here.searchParams.delete('live');
    if (here.href !== location.href) history.replaceState(null, '', here);
  };

  // The page waits for the service to say that something changed, and is loaded again; what somebody is
  // writing is not thrown away.
  const live = async () => {
    let seen = one('body').dataset.seen;
    for (;;) {
      try {
        const answer = await fetch(`/web/changes?seen=${seen}`, { credentials: 'same-origin' });
        if (answer.status === 401) return;
        const now = await answer.text();
        if (answer.ok && now !== seen) {
          const writing = all('input:not([type=checkbox])').some((field) => field.value !== field.defaultValue);
          if (!writing) { loadAgain(); return; }
          say('something changed meanwhile; reload the page to see it', 'warn');
          seen = now;
        }
      } catch { await new Promise((later) => setTimeout(later, 3000)); }
    }
  };

  takeOffLive();
  all('form[data-does=sign-in]').forEach((form) => { form.elements.person.value = localStorage.getItem('person') || ''; signIn(form); });
  all('form[data-does=decide]').forEach(decide);
  all('form[data-does=withdraw]').forEach(withdraw);
  all('form[data-does=sign-out]').forEach(signOut);
  all('form[data-does=enrol]').forEach(enrol);
  all('[data-js]').forEach((part) => { part.hidden = false; });
  all('[data-nojs]').forEach((part) => { part.hidden = true; });
  localTimes();
  countdowns();
  setInterval(countdowns, 15000);
  if (one('body').dataset.seen) live();
})();
