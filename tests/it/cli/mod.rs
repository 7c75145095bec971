//! The command line as people meet it: a module for each behaviour, with the arguments, standard output,
//! standard error and exit code of the real binary against a real service.

mod agents;
mod audit;
mod channels;
mod decisions;
mod drills;
mod emergency;
mod ensure;
mod extend;
mod facts;
mod hosts;
mod https;
mod init;
mod login;
mod numbers;
mod output;
mod policies;
mod reading;
mod receipts;
mod revoke;
mod run;
mod secrets;
mod serve;
mod setup;
mod start;
mod surprises;

use crate::support::world::{As, World};

/// How many events of this kind the log holds.
fn events(world: &World, kind: &str) -> usize {
    let listed = world.as_("carol").run(&["audit", "list"]).good().stdout;
    listed.lines().filter(|line| line.split("  ").any(|part| part.trim() == kind)).count()
}

/// The two ends of a certificate's validity, in seconds since 1970.
fn window(line: &str) -> (u64, u64) {
    let certificate: ssh_key::Certificate = line.parse().expect("a certificate");
    (certificate.valid_after(), certificate.valid_before())
}

/// The line that `ssh-jit setup` has a person put into their ssh_config.
fn include(person: &As<'_>) -> String {
    format!("Include {}", person.home().join(".config/ssh-jit/ssh_config").display())
}
