//! The piece of ssh_config that `setup` has people include: certificates that the agent does not hold
//! together with their keys. ssh takes the rest from the agent by itself.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::person::Service;
use super::{Context, Failure};

/// Where it lies.
pub(super) fn path(context: &Context) -> PathBuf {
    context.environment.config.join("ssh_config")
}

/// Writes it anew from what lives now; what is dead is forgotten.
pub(super) fn write(context: &Context, service: &Service) -> Result<(), Failure> {
    let now = service.now(context);
    let mut text = String::from("# Written by ssh-jit at each login. Certificates that live, and end by themselves.\n");
    for pending in service.state.all_pending()? {
        let Some(held) = &pending.certificate else { continue };
        if held.valid_before <= now {
            service.state.forget(&pending.id)?;
        } else if !held.in_agent {
            let certificate = service.state.certificate_path(&pending.id);
            let key = pending.emergency.clone().unwrap_or_else(|| service.state.key_path(&pending.id));
            // Writing to a String cannot fail. The paths hold an id of ours behind a folder of the person's.
            let _ = writeln!(text, "CertificateFile \"{}\"", certificate.display());
            if key.exists() {
                let _ = writeln!(text, "IdentityFile \"{}\"", key.display());
            }
        }
    }
    crate::files::make_private_folder(&context.environment.config)?;
    crate::files::write_private(&path(context), text.as_bytes())?;
    Ok(())
}
