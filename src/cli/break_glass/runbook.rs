//! `ssh-jit break-glass runbook`: one page to print and lay beside the emergency key. It has what somebody compares and
//! types in the night, and no secret.

use std::fmt::Write as _;

use crate::cli::person::Service;
use crate::cli::{Context, Exit, Failure};
use crate::client::identity::Identity;
use crate::domain::key::PublicKey;
use crate::domain::text::visible;

/// What `break-glass runbook` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// As a page of HTML
    #[arg(long)]
    html: bool,
}

/// A heading, and what stands below it.
type Section = (&'static str, Vec<String>);

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let service = Service::open_for_emergency(context)?;
    let sections = sections(context, &service)?;
    if context.ui.json {
        let sections: Vec<_> =
            sections.iter().map(|(title, lines)| serde_json::json!({ "title": title, "lines": lines })).collect();
        context.ui.data(&sections);
    } else if args.html {
        context.ui.out(html(&sections));
    } else {
        context.ui.out(plain(&sections));
    }
    Ok(Exit::Done)
}

fn sections(context: &Context, service: &Service) -> Result<Vec<Section>, Failure> {
    let config = &context.config;
    let mut service_lines = vec![
        format!("ordinary: {}", config.server.as_deref().unwrap_or_default()),
        format!("instance: {}", service.trust.instance),
    ];
    let own = config.break_glass_server.clone().map_or_else(|| service.state.break_glass(), |own| Ok(Some(own)))?;
    service_lines.extend(own.map(|own| format!("break-glass alone: {own}")));
    let name = config.user.as_ref().map_or_else(|| "____________".to_owned(), ToString::to_string);
    Ok(vec![
        ("When", vec!["Something is broken, waiting makes it worse, and nobody who can approve answers.".to_owned()]),
        ("Steps", steps(&name)),
        ("The service", service_lines),
        ("Fingerprints to compare", fingerprints(service)),
        ("This key", this_key(context, &name)),
        (
            "Call",
            vec![
                "second person with an emergency key: ______________________".to_owned(),
                "security: ______________________".to_owned(),
                "whoever runs the CA: ______________________".to_owned(),
            ],
        ),
    ])
}

fn steps(name: &str) -> Vec<String> {
    [
        "Take the emergency key out, and plug it in.",
        "ssh-jit break-glass --check",
        "ssh-jit break-glass ROLE --category outage --reason \"what is broken, in 20 characters or more\"",
        "Run the ssh command that it prints. The certificate lasts 5 minutes unless you say --for 10m; 15 at most.",
        "Once you may go on alone: the same again with --extends ID and a new reason.",
        "Beyond that, have a second person run: ssh-jit break-glass second NAME ROLE --reason \"...\", and add --second TEXT.",
        "Everybody is told. Somebody else says ssh-jit ack ID, can end it with ssh-jit revoke ID --reason \"...\", and reviews it.",
        "Write down what you did, and put the key back.",
    ]
    .iter()
    .map(|step| step.replace("NAME", name))
    .collect()
}

fn fingerprints(service: &Service) -> Vec<String> {
    let all = |what: &str, keys: &[PublicKey]| {
        keys.iter().map(|key| format!("{what}: {}", key.fingerprint())).collect::<Vec<_>>()
    };
    let trust = &service.trust;
    [all("break-glass CA", &trust.break_glass_ca), all("user CA", &trust.user_ca), all("host CA", &trust.host_ca)]
        .concat()
}

fn this_key(context: &Context, name: &str) -> Vec<String> {
    let known = context.config.emergency_identity.as_ref();
    let key = known.and_then(|path| Identity::open(path, context.agent(), &no_passphrase).ok());
    let shown = key.map_or_else(
        || "____________________________".to_owned(),
        |key| format!("{} {}", key.public_key().algorithm(), key.public_key().fingerprint()),
    );
    vec![format!("of {name}: {shown}")]
}

/// The public half is all that is shown here.
fn no_passphrase(_: &str) -> std::io::Result<zeroize::Zeroizing<String>> {
    Err(std::io::ErrorKind::Unsupported.into())
}

fn plain(sections: &[Section]) -> String {
    let mut page = "BREAK-GLASS\n".to_owned();
    for (title, lines) in sections {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n{title}\n");
        for (number, line) in (1..).zip(lines) {
            let mark = if *title == "Steps" { format!("{number}.") } else { "-".to_owned() };
            let _ = writeln!(page, "  {mark} {}", visible(line));
        }
    }
    page.trim_end().to_owned()
}

fn html(sections: &[Section]) -> String {
    let mut page = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Break-glass</title>\n\
                    <style>body{font:12pt/1.4 sans-serif;margin:2cm}h1,h2{margin:.6em 0 .2em}li{overflow-wrap:anywhere}</style>\n\
                    <h1>Break-glass</h1>\n"
        .to_owned();
    for (title, lines) in sections {
        let list = if *title == "Steps" { "ol" } else { "ul" };
        let _ = write!(page, "<h2>{title}</h2>\n<{list}>\n");
        for line in lines {
            let _ = writeln!(page, "<li>{}</li>", escaped(&visible(line)));
        }
        let _ = writeln!(page, "</{list}>");
    }
    page.trim_end().to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
