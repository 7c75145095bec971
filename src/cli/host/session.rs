//! `ssh-jit host session`: what PAM runs when a session opens.

use std::path::Path;
use std::process::Command;

use crate::cli::{Exit, Failure};
use crate::config::LoginEnvironment;
use crate::host::process::Process;
use crate::host::session::{Authorities, FOLDER, SessionError};
use crate::host::watch::Watch;

/// What `host session` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Run by sshd as its ForceCommand, where PAM is off
    #[arg(long)]
    force_command: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let login = LoginEnvironment::read()?;
    let auth_info = match (args.force_command, login.user_auth) {
        (true, Some(file)) => std::fs::read_to_string(file)?,
        (true, None) => return Err(Failure::new("SSH_USER_AUTH is not set").hint("ExposeAuthInfo yes in sshd_config")),
        (false, _) => login.auth_info.unwrap_or_default(),
    };
    let folder = Path::new(FOLDER);
    if let Some(admitted) = Authorities::load(folder)?.admit(&auth_info)? {
        let watch = Watch::new(Process::sshd_above()?, admitted, folder);
        watch.start(Command::new(std::env::current_exe()?).args(["host", "watch"]))?;
    }
    Ok(Exit::Done)
}

/// The person sees it: what is refused, and why.
impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        Self { code: "login-refused".to_owned(), ..Self::new(format_args!("this login is refused: {error}")) }
    }
}
