//! `ssh-jit host session`: what PAM has run when a session opens.

use std::io::{self, Write as _};
use std::path::Path;

use crate::cli::{Exit, Failure};
use crate::clock::Clock;
use crate::config::LoginEnvironment;
use crate::host::process::Process;
use crate::host::session::{ADMITTED, Admitted, Authorities, FOLDER, SessionError};
use crate::host::spool::{self, Spool};
use crate::host::usage;
use crate::host::watch::{Watcher, close_stdio};

/// What `host session` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// A process of the connection: its sshd, or one below
    #[arg(long, value_name = "PID")]
    above: i32,
}

pub(in crate::cli) fn run(args: &Args) -> Result<Exit, Failure> {
    let login = LoginEnvironment::read()?;
    let (folder, clock) = (Path::new(FOLDER), Clock::System);
    let admitted = Authorities::load(folder)?.admit(login.auth_info.as_deref().unwrap_or_default())?;
    let begin = |admitted: Admitted| {
        let sshd = Process::sshd_above(args.above)?;
        let (account, source) = (login.account.unwrap_or_default(), login.source.unwrap_or_default());
        let connection = usage::connection(sshd, &admitted, &account, &source, clock.now().second());
        Ok((connection, Watcher::begin(sshd, admitted, folder)?))
    };
    let begun = admitted.map(begin).transpose().map_err(SessionError::Watcher)?;
    // Whoever waits for this word goes on when nobody is left to say more.
    io::stdout().write_all(ADMITTED.as_bytes())?;
    io::stdout().flush()?;
    close_stdio()?;
    if let Some((mut connection, watcher)) = begun {
        let spool = Spool::at(Path::new(spool::FOLDER));
        // A full disk ends no session. Where PAM is off, this is not root, and remembers nothing.
        let _ = spool.remember(&connection);
        watcher.run(&clock);
        connection.ended = Some(clock.now().second());
        let _ = spool.remember(&connection);
    }
    Ok(Exit::Done)
}

/// The person sees it: what is refused, and why.
impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        Self { code: "login-refused".to_owned(), ..Self::new(format_args!("this login is refused: {error}")) }
    }
}
