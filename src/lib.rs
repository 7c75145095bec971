//! ssh-jit: an SSH certificate authority for just-in-time access. This page is the map.
//!
//! # Layers
//!
//! Arrows point one way; `tests/layers.rs` holds them and fails on any other.
//!
//! | module | what it is | may use |
//! | --- | --- | --- |
//! | [`domain`] | people, policy, statements, requests, grants, certificates, log tree: pure | nothing of ours |
//! | [`store`] | transactions on the database, the break-glass journal | domain |
//! | [`ca`] | the service's own keys | domain |
//! | [`notify`] | what people are told, out of a durable outbox | domain, store |
//! | [`service`] | each verb: one function, one transaction, one event | the above |
//! | [`wire`] | the JSON of the API | domain |
//! | [`http`] | the API and the web form: one table of routes, handlers that call one service function | service, wire, domain |
//! | [`client`] | agent, identity, state and API of whoever asks | domain, wire |
//! | [`host`] | what runs on a host: set-up, check, scan, revocations, the end of sessions, and what they were | client, domain |
//! | [`cli`] | the command line, one file a verb | everything |
//!
//! Beside them [`clock`], [`config`], [`files`], [`outgoing`] and [`random`]: nothing else reads the clock, the
//! environment or randomness, writes files that must last, or says how this service asks others over HTTP.
//!
//! # One login, from end to end
//!
//! 1. `cli/login.rs` and `cli/asking.rs` make a subject key, fill in a [`domain::statement::Request`] and have
//!    [`client::identity`] sign it: the person's only signature. `POST /v1/requests`.
//! 2. `http/routes.rs` leads to `service/requests.rs`: the key is looked up in the policy, the signature
//!    verified, [`domain::policy::Policy::terms`] decides; in one transaction the statement is spent, the
//!    request stored and the event appended. The client waits on `GET /v1/requests/{id}/wait`.
//! 3. `cli/approve.rs` shows the approver what the requester signed and has them sign an
//!    [`domain::statement::Approval`] that repeats it. `service/decisions.rs` holds it against
//!    [`domain::approval`], and wakes who waits.
//! 4. The client signs a [`domain::statement::Claim`] with the subject key. `service/claims.rs` verifies
//!    every statement again from its bytes, makes a [`domain::grant::Grant`], lays out the certificate,
//!    *commits* serial, event and bytes, and only then has [`ca::Ca::certify`] sign them and compare the
//!    outcome with the grant.
//! 5. [`client::certificate`] checks that it is what was asked for; `client/subject.rs` gives it to the
//!    agent until it ends. Plain `ssh` does the rest.
//! 6. What ends early (`service/claims.rs`, `service/revocations.rs`, `service/facts.rs`) stands on the list that
//!    `service/krl.rs` makes and the KRL key signs; `host/sync.rs` keeps it where sshd reads it.
//!
//! # Why nobody gets a certificate that nobody approved
//!
//! Each line can be checked where it points.
//!
//! 1. The CA keys sign in two places only: [`ca::Ca::certify`] and [`ca::Ca::vouch`] (trust
//!    documents, in an SSHSIG, which can never be taken for a certificate). Neither takes loose bytes.
//! 2. `certify` takes a [`domain::certificate::ToBeSigned`], and its one constructor takes what
//!    [`domain::certificate::Certifies`]: a `Grant`, or for hosts a [`domain::host::HostGrant`], which sshd takes from nobody
//!    who logs in.
//! 3. A [`domain::grant::Grant`] has private fields, no `Default`, no `Deserialize`; two functions make it:
//!    `Grant::access` and `Grant::break_glass`.
//! 4. Both take [`domain::verify::Verified`] statements, which only `Verified::check` makes: the bytes
//!    parse strictly, name this instance, and the key signed exactly them in the kind's own namespace.
//! 5. Both ask the [`domain::policy::Policy`] whether that key is that person's, now (a passkey is, while the
//!    SSH key is that signed its enrolment: [`domain::passkey::Enrolled`]). The policy is the file that the
//!    operator wrote, never a row of the database.
//! 6. `access` takes the claim by the subject key that the request names, and counts approvals by distinct
//!    people other than the requester, each repeating what is certified; it takes the least of them.
//! 7. So whoever writes any row of the database can delay, delete or confuse, but cannot make step 3 happen.
//!    What rests on rows is said in `README.md`: that a claim is made once, and that a denial is remembered.
#![forbid(unsafe_code)]

pub mod ca;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod domain;
pub mod files;
pub mod host;
pub mod http;
pub mod notify;
pub mod outgoing;
pub mod random;
pub mod service;
pub mod store;
pub mod wire;
