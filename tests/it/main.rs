//! Integration tests, as one crate: against the real OpenSSH programs, which are the judge of every
//! format. They need `ssh`, `ssh-agent`, `ssh-keygen` and `sshd`, and no particular user.

mod certificates;
mod cli;
mod differential;
mod emergency;
mod evil_database;
mod example;
mod extensions;
mod facts;
mod fuzzed;
mod keys;
mod limits;
mod lives;
mod model;
mod notices;
mod oidc;
mod openssh;
mod passkey;
mod policy_changes;
mod policy_table;
mod races;
mod refused_decisions;
mod refused_requests;
mod routes;
mod session_ends;
mod sshsig;
mod store_faults;
mod stores;
mod support;
mod tickets;
mod uses;
mod verified;
mod web;
mod web_acts;
mod web_sessions;
