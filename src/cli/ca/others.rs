//! `ssh-jit ca add` and `ca remove`: break-glass CAs whose private half the service does not have, such as one in a FIDO
//! key that lies in a safe. Hosts take what they sign; the service only says so.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::ca;
use crate::cli::{Context, Exit, Failure, policy_files};
use crate::domain::key::PublicKey;
use crate::domain::trust::{CaRole, Trust};

use super::folder::{Folder, Of, TAKE_IT_UP};

/// What `ca add` and `ca remove` take.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Which CA: break-glass
    #[arg(value_name = "CA")]
    role: CaRole,
    /// Its public half, as ssh-keygen writes it
    #[arg(value_name = "FILE.pub")]
    file: PathBuf,
    #[command(flatten)]
    of: Of,
}

pub(super) fn add(context: &Context, args: &Args) -> Result<Exit, Failure> {
    changed(context, args, "added", |folder, next, key| {
        if next.keys().any(|other| other == key) {
            return Err(Failure::new("the trust document names this key already"));
        }
        if folder.chain.every(CaRole::User).chain(folder.chain.every(CaRole::Host)).any(|other| other == key) {
            return Err(Failure::new("this key was another CA of this service").hint("make one for this purpose alone"));
        }
        if policy_files::load(&folder.config.policy)?.names_key(key) {
            return Err(Failure::new("the policy has this key for somebody").hint("make one for this purpose alone"));
        }
        next.break_glass_ca.push(key.clone());
        Ok(())
    })
}

pub(super) fn remove(context: &Context, args: &Args) -> Result<Exit, Failure> {
    changed(context, args, "removed", |folder, next, key| {
        if ca::held(&folder.config.ca_keys, CaRole::BreakGlass)?.contains(key) {
            return Err(Failure::new("the service has this key itself").hint("ssh-jit ca rotate break-glass"));
        }
        let before = next.break_glass_ca.len();
        next.break_glass_ca.retain(|other| other != key);
        if next.break_glass_ca.len() == before {
            return Err(Failure::new("the trust document has no such break-glass CA").hint("ssh-jit ca show"));
        }
        Ok(())
    })
}

fn changed(
    context: &Context,
    args: &Args,
    verb: &str,
    change: impl Fn(&Folder, &mut Trust, &PublicKey) -> Result<(), Failure>,
) -> Result<Exit, Failure> {
    if args.role != CaRole::BreakGlass {
        return Err(Failure::misuse(format!("{} CA: the service itself signs with all of them", args.role.as_str()))
            .hint("only a break-glass CA may be elsewhere"));
    }
    let blame = |e: &dyn std::fmt::Display| Failure::new(format!("{}: {e}", args.file.display()));
    let key: PublicKey =
        fs::read_to_string(&args.file).map_err(|e| blame(&e))?.trim().parse().map_err(|e| blame(&e))?;
    let folder = Folder::open(&args.of, true)?;
    let mut next = folder.next(context);
    change(&folder, &mut next, &key)?;
    folder.publish(&folder.unlock(context)?.0, &next)?;
    let ui = &context.ui;
    if ui.json {
        ui.data(&json!({ "ca": args.role, "step": verb, "document": next.number, "key": key }));
    } else {
        ui.good(format_args!("break-glass CA {} {verb} in trust document {}", key.fingerprint(), next.number));
        ui.say(TAKE_IT_UP);
    }
    Ok(Exit::Done)
}
