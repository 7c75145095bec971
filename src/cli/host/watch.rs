//! `ssh-jit host watch`: the process that watches over a connection.

use crate::cli::{Exit, Failure};
use crate::clock::Clock;
use crate::host::watch::Watch;

pub(super) fn run() -> Result<Exit, Failure> {
    Watch::run(&Clock::System)?;
    Ok(Exit::Done)
}
