//! `ssh-jit host session`: what PAM has run when a session opens.

use std::io::{self, Write as _};
use std::path::Path;

use crate::cli::{Exit, Failure};
use crate::clock::Clock;
use crate::config::LoginEnvironment;
use crate::host::process::Process;
use crate::host::session::{ADMITTED, Authorities, FOLDER, SessionError};
use crate::host::watch::{Watcher, close_stdio};

/// What `host session` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// A process of the connection: its sshd, or one below
    #[arg(long, value_name = "PID")]
    above: i32,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let auth_info = LoginEnvironment::read()?.auth_info.unwrap_or_default();
    let folder = Path::new(FOLDER);
    let admitted = Authorities::load(folder)?.admit(&auth_info)?;
    let begin = |admitted| Watcher::begin(Process::sshd_above(args.above)?, admitted, folder);
    let watcher = admitted.map(begin).transpose().map_err(SessionError::Watcher)?;
    // Whoever waits for this word goes on when nobody is left to say more.
    io::stdout().write_all(ADMITTED.as_bytes())?;
    io::stdout().flush()?;
    close_stdio()?;
    if let Some(watcher) = watcher {
        watcher.run(&Clock::System);
    }
    Ok(Exit::Done)
}

/// The person sees it: what is refused, and why.
impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        Self { code: "login-refused".to_owned(), ..Self::new(format_args!("this login is refused: {error}")) }
    }
}
