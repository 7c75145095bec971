//! `ssh-jit audit`: reads the log, proves that it is whole and that nothing seen before was taken out
//! of it, and writes its statements out for stock ssh-keygen to check.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::client::state::SeenHead;
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind, HEAD_NAMESPACE, Head};
use crate::domain::tree::{Frontier, leaf_hash};
use crate::domain::verify::Signed;
use crate::wire::{EventView, SignedText};

use super::person::Person;
use super::show::story;
use super::{Context, Exit, Failure};

/// What can be done with the log.
#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// Print events
    List {
        /// From this number on
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// At most so many
        #[arg(long, default_value_t = 1000)]
        limit: u32,
    },
    /// Verify the whole log against its signed head, and against the head that was seen last
    Verify,
    /// Write every statement and its signature into a folder, with the keys to check them by
    Export {
        /// The folder, which is made
        folder: PathBuf,
    },
}

/// So many events are asked for at a time.
const PAGE: u32 = 1000;

pub(super) fn run(context: &Context, verb: &Verb) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    match verb {
        Verb::List { from, limit } => list(&mut person, *from, *limit),
        Verb::Verify => verify(&mut person),
        Verb::Export { folder } => export(&mut person, folder),
    }
}

fn list(person: &mut Person<'_>, from: u64, limit: u32) -> Result<Exit, Failure> {
    let events: Vec<EventView> = person.read(&format!("/v1/events?from={from}&limit={limit}"))?;
    for view in events {
        if person.context.ui.json {
            person.context.ui.data(&view);
        } else {
            let event = parse(&view.leaf)?;
            person.context.ui.out(format_args!("{:>6}  {}  {}", event.seq, event.at, story(&event)));
        }
    }
    Ok(Exit::Done)
}

pub(super) fn parse(leaf: &str) -> Result<Event, Failure> {
    serde_json::from_str(leaf).map_err(|e| damaged(format!("an event does not parse: {e}")))
}

fn damaged(what: impl ToString) -> Failure {
    Failure { code: "log-damaged".to_owned(), ..Failure::new(format!("the log is damaged: {}", what.to_string())) }
}

/// Asks for every event, a page at a time, up to `size`.
pub(super) fn every(
    person: &mut Person<'_>,
    size: u64,
    mut each: impl FnMut(u64, EventView) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut next = 1;
    while next <= size {
        let page: Vec<EventView> = person.read(&format!("/v1/events?from={next}&limit={PAGE}"))?;
        if page.is_empty() {
            return Err(damaged(format!("it ends after event {}, and its head covers {size}", next - 1)));
        }
        for view in page {
            if next <= size {
                each(next, view)?;
            }
            next += 1;
        }
        if size > 10 * u64::from(PAGE) {
            person.context.ui.say(format_args!("{} of {size} events", (next - 1).min(size)));
        }
    }
    Ok(())
}

pub(super) fn head(person: &Person<'_>) -> Result<Head, Failure> {
    let text: SignedText = person.service.api.get("/v1/head")?;
    let signed = Signed::try_from(&text)?;
    signed
        .is_by(&person.service.trust.log_key, HEAD_NAMESPACE)
        .map_err(|_| damaged("its head is not signed by the log key"))?;
    let head: Head = serde_json::from_slice(signed.bytes())?;
    if head.instance != person.service.trust.instance {
        return Err(damaged("its head is another service's"));
    }
    Ok(head)
}

fn verify(person: &mut Person<'_>) -> Result<Exit, Failure> {
    let (head, seen) = (head(person)?, person.service.state.head()?);
    if let Some(seen) = seen.as_ref().filter(|seen| seen.size > head.size) {
        return Err(damaged(format!(
            "it had {} events when it was last seen here, and has {} now",
            seen.size, head.size
        )));
    }
    let (mut frontier, mut statements, mut missing) = (Frontier::default(), 0u64, Vec::new());
    every(person, head.size, |seq, view| {
        let event = parse(&view.leaf)?;
        if event.seq != seq {
            return Err(damaged(format!("event {seq} calls itself {}", event.seq)));
        }
        frontier.push(leaf_hash(view.leaf.as_bytes()));
        if let Some(seen) = seen.as_ref().filter(|seen| seen.size == seq && seen.root != frontier.root()) {
            return Err(damaged(format!("its first {} events are not those that were seen here before", seen.size)));
        }
        if let Some(text) = &view.statement {
            genuine(&event, text)?;
            statements += 1;
        } else if event.statement.is_some() && !is_refusal(event.kind) {
            missing.push(seq);
        }
        Ok(())
    })?;
    if frontier.root() != head.root {
        return Err(damaged(format!("its {} events do not lead to the root that its head names", head.size)));
    }
    person.service.state.set_head(&SeenHead { size: head.size, root: head.root })?;
    let ui = &person.context.ui;
    if ui.json {
        let (events, root) = (head.size, head.root);
        ui.data(&serde_json::json!({ "events": events, "statements": statements, "missing": missing, "root": root }));
    } else {
        for seq in missing {
            ui.say(format_args!("event {seq}: its statement is not there: erased, or taken away"));
        }
        ui.good(format_args!("the log is whole: {} events, {statements} statements, root {}", head.size, head.root));
    }
    Ok(Exit::Done)
}

/// Statements that were refused are not kept.
fn is_refusal(kind: EventKind) -> bool {
    matches!(kind, EventKind::Refused | EventKind::BreakGlassRefused)
}

/// A statement is the one that its event names, and the key in its signature signed it. Whose key that
/// was is for the receipt and the policy.
fn genuine(event: &Event, text: &SignedText) -> Result<(), Failure> {
    let wrong = |why: &str| damaged(format!("event {}: its statement {why}", event.seq));
    let signed = Signed::try_from(text).map_err(|_| wrong("has no signature that parses"))?;
    if event.statement != Some(signed.digest()) {
        return Err(wrong("is not the one that the event names"));
    }
    let said: Named = serde_json::from_slice(signed.bytes()).map_err(|_| wrong("names nobody"))?;
    if event.person.as_ref().is_some_and(|person| person.as_str() != said.person) {
        return Err(wrong("is somebody else's than the event says"));
    }
    signed.signature().check(signed.bytes()).map_err(|_| wrong("is not signed by the key in its signature"))
}

fn export(person: &mut Person<'_>, folder: &Path) -> Result<Exit, Failure> {
    let size = head(person)?.size;
    crate::files::make_private_folder(folder)?;
    crate::files::check_own_folder(folder).map_err(|e| Failure::new(format!("{}: {e}", folder.display())))?;
    let mut signers = BTreeSet::new();
    let mut written = 0u64;
    every(person, size, |seq, view| {
        let Some(text) = view.statement else { return Ok(()) };
        let signed = Signed::try_from(&text)?;
        let event = parse(&view.leaf)?;
        genuine(&event, &text)?;
        let kind: Named = serde_json::from_slice(signed.bytes())?;
        let stem = format!("{seq:06}-{}", kind.kind);
        crate::files::write_public(&folder.join(format!("{stem}.json")), signed.bytes())?;
        crate::files::write_public(&folder.join(format!("{stem}.sig")), text.signature.as_bytes())?;
        let key = signed.signature().key();
        signers.insert(format!("{} namespaces=\"{}@ssh-jit\" {key}\n", kind.person, kind.kind));
        written += 1;
        Ok(())
    })?;
    let lines: String = signers.into_iter().collect();
    crate::files::write_public(&folder.join("allowed_signers"), lines.as_bytes())?;
    let ui = &person.context.ui;
    ui.good(format_args!("wrote {written} statements to {}", folder.display()));
    ui.say("allowed_signers lists the keys that signed them: compare it with the policy before you believe it");
    ui.say("check one: ssh-keygen -Y verify -f allowed_signers -I PERSON -n KIND@ssh-jit -s FILE.sig < FILE.json");
    Ok(Exit::Done)
}

/// What every statement says of itself.
#[derive(serde::Deserialize)]
struct Named {
    kind: String,
    person: String,
}

/// The digest of a leaf, for those who check one event.
pub(super) fn digest_of(leaf: &str) -> Digest {
    leaf_hash(leaf.as_bytes())
}
