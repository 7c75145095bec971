//! `ssh-jit host invite`: an administrator lets a host in. Nobody is asked: what they sign is the token, and it counts
//! from when it is signed.

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::cli::person::Person;
use crate::cli::ui::time;
use crate::cli::{Context, Exit, Failure};
use crate::client::host::Token;
use crate::client::subject::Subject;
use crate::domain::host::are_names;
use crate::domain::key::PublicKey;
use crate::domain::names::HostName;
use crate::domain::statement::{Invitation, Is, Version};
use crate::domain::time::Seconds;
use crate::domain::verify::Signed;
use crate::random;

/// What `host invite` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The host, as roles call it
    #[arg(value_name = "HOST")]
    host: HostName,
    /// Another name by which people reach it (may be given several times)
    #[arg(long = "alias", value_name = "NAME")]
    aliases: Vec<HostName>,
    /// Its public SSH host key, where you have it: then no other host can use the token, which is no secret any more
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// For how long the token counts
    #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
    length: Seconds,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    are_names(&args.host, &args.aliases)?;
    let (key, secret) = if let Some(file) = &args.key {
        (host_key(file)?, None)
    } else {
        let seed = Zeroizing::new(random::bytes::<32>());
        (Subject::new(&seed)?.public().clone(), Some(seed))
    };
    let mut person = Person::open(context)?;
    let (instance, name, nonce, at) = person.preamble()?;
    let until = at.plus(i64::from(args.length.get()));
    let (host, aliases) = (args.host.clone(), args.aliases.clone());
    let invitation = Invitation { v: Version, kind: Is, instance, person: name, host, aliases, key, until, nonce, at };
    let signed = Signed::try_from(&person.sign(&invitation)?)?;
    let token = Token::new(signed, secret);
    report(context, &invitation, &token);
    Ok(Exit::Done)
}

fn report(context: &Context, invitation: &Invitation, token: &Token) {
    let (ui, Invitation { host, until, at, .. }) = (&context.ui, invitation);
    if ui.json {
        return ui.data(&serde_json::json!({
            "host": host, "aliases": invitation.aliases, "until": until, "key": invitation.key.fingerprint(),
            "secret": token.is_secret(), "token": token.to_line().as_str(),
        }));
    }
    ui.out(token.to_line().as_str());
    let until = time(*until, *at);
    if token.is_secret() {
        ui.say(format_args!("whoever has this becomes {host}, once, until {until}: keep it out of arguments and logs"));
    } else {
        ui.say(format_args!("{host} can redeem this until {until}, with the key that you gave"));
    }
    ui.say("on the host, where it is set up: ssh-jit host enrol --token-file FILE (- for standard input)");
}

fn host_key(file: &PathBuf) -> Result<PublicKey, Failure> {
    let text = std::fs::read_to_string(file).map_err(|e| Failure::new(format!("{}: {e}", file.display())))?;
    let key = text.lines().next().unwrap_or_default().parse();
    key.map_err(|e| {
        Failure::new(format!("{}: {e}", file.display())).hint("give the .pub file, as in ssh_host_ed25519_key.pub")
    })
}
