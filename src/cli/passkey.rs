//! `ssh-jit passkey`: binds a passkey to a person. The page in the browser and this terminal sign the
//! same statement; the person compares the fingerprint that both show.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::client::api::ApiError;
use crate::domain::digest::Digest;
use crate::domain::passkey::Assertion;
use crate::domain::sshsig::{Expect, SshSig};
use crate::domain::statement::{self, Enrolment, Is, Removal, Statement as _, Version};
use crate::domain::text::Comment;
use crate::files;
use crate::random;
use crate::wire::{EnrolmentText, PasskeyView};

use super::person::Person;
use super::ui::time;
use super::{Context, Exit, Failure};

/// What can be done with passkeys.
#[derive(clap::Subcommand)]
pub(super) enum Verb {
    /// Open the enrolment page, wait for the passkey, and sign for it with your SSH key
    Add {
        /// Only print the page's address: it is opened elsewhere
        #[arg(long)]
        no_browser: bool,
        /// Do not ask whether the fingerprints are the same: you have compared them otherwise
        #[arg(long)]
        yes: bool,
    },
    /// Your passkeys
    List,
    /// Take a passkey away
    Remove {
        /// Its fingerprint, as `list` shows it
        fingerprint: Digest,
    },
}

/// What the page left for this terminal.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Letter {
    text: String,
    credential: String,
    assertion: Assertion,
}

/// So long the terminal waits for the browser.
const PATIENCE: Duration = Duration::from_mins(10);

pub(super) fn run(context: &Context, verb: &Verb) -> Result<Exit, Failure> {
    let mut person = Person::open(context)?;
    match verb {
        Verb::Add { no_browser, yes } => add(&mut person, *no_browser, *yes),
        Verb::List => list(&mut person),
        Verb::Remove { fingerprint } => remove(&mut person, *fingerprint),
    }
}

fn add(person: &mut Person<'_>, no_browser: bool, yes: bool) -> Result<Exit, Failure> {
    let ssh_key = person.public_key()?.fingerprint();
    let (code, url) = (random::token(), person.service.api.url().to_owned());
    let encoded = ssh_key.to_string().replace('+', "%2B").replace('/', "%2F").replace(':', "%3A");
    let page = Zeroizing::new(format!("{url}/enrol#code={}&person={}&key={encoded}", code.as_str(), person.name));
    person.context.ui.say("open this page, and make the passkey there:");
    person.context.ui.out(page.as_str());
    let leads = (!no_browser).then(|| open_in_browser(person, &page)).flatten();
    let letter = wait(person, &code);
    if let Some(file) = leads {
        // It is of no use any more; that it cannot be removed is no reason to stop.
        let _ = std::fs::remove_file(file);
    }
    let letter = letter?;
    let enrolment: Enrolment = statement::parse(letter.text.as_bytes())?;
    let by_passkey = genuine(person, &letter, &enrolment, ssh_key)?;
    let fingerprint = enrolment.key.fingerprint();
    person.context.ui.say(format_args!("the passkey's fingerprint is {fingerprint}"));
    if !yes && !confirmed()? {
        return Err(Failure::new("nothing was enrolled: the fingerprints were not confirmed to be the same"));
    }
    let signed = person.sign_text::<Enrolment>(letter.text)?;
    let text = EnrolmentText {
        text: signed.text,
        signature: signed.signature,
        passkey_signature: by_passkey.armor(),
        credential: letter.credential,
    };
    let kept: PasskeyView = person.service.api.post("/v1/passkeys", &text)?;
    let until = time(kept.until, person.now()?);
    person.context.ui.good(format_args!("{} can decide at {url} with this passkey until {until}", person.name));
    Ok(Exit::Done)
}

/// Opens the page where somebody sits in front of it. Programs' arguments can be read by others on this machine, so
/// the browser is given a file that only this person can read, and that leads there.
fn open_in_browser(person: &Person<'_>, page: &str) -> Option<PathBuf> {
    let environment = &person.context.environment;
    if !environment.graphical || !std::io::stderr().is_terminal() {
        return None;
    }
    let file = environment.state.join("enrol.html");
    // The address is made of letters, digits and marks that mean nothing in HTML, but for the ampersands.
    let leads = page.replace('&', "&amp;");
    let html =
        format!("<!doctype html><meta http-equiv=\"refresh\" content=\"0; url={leads}\"><a href=\"{leads}\">on</a>");
    let opened = files::write_private(&file, html.as_bytes()).and_then(|()| open::that_detached(&file));
    // The address stands there to be copied.
    opened.ok().map(|()| file)
}

/// Asks for the letter until it is there. A person is at work in the browser: a second is soon enough.
fn wait(person: &Person<'_>, code: &str) -> Result<Letter, Failure> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match person.service.api.get(&format!("/v1/enrolments/{code}")) {
            Err(ApiError::Refused { status: 404, .. }) => std::thread::sleep(Duration::from_millis(500)),
            letter => return Ok(letter?),
        }
    }
    Err(Failure::new("no passkey was made in ten minutes").hint("ssh-jit passkey add"))
}

/// What this terminal is about to sign for is this person's, for this service, and signed by the passkey
/// that it names, in a page of this very service.
fn genuine(person: &Person<'_>, letter: &Letter, enrolment: &Enrolment, ssh_key: Digest) -> Result<SshSig, Failure> {
    let ours = enrolment.person == person.name
        && enrolment.instance == person.service.trust.instance
        && enrolment.ssh_key == ssh_key;
    if !ours {
        return Err(Failure::new("the page signed for somebody else, or for another service; nothing was enrolled"));
    }
    let wrong = |why| Failure::new(format!("the passkey's signature: {why}"));
    let (namespace, origin) = (Enrolment::KIND.namespace(), person.service.api.url());
    let signature = letter.assertion.to_sshsig(&enrolment.key, namespace).map_err(wrong)?;
    signature.expect(letter.text.as_bytes(), namespace, &enrolment.key, Expect::Passkey { origin }).map_err(wrong)?;
    signature.check(letter.text.as_bytes()).map_err(wrong)?;
    Ok(signature)
}

fn confirmed() -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::misuse("nobody can confirm the fingerprint here").hint("--yes, once you have compared it"));
    }
    write!(std::io::stderr(), "ssh-jit: does the page show the same? [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

fn list(person: &mut Person<'_>) -> Result<Exit, Failure> {
    let found: Vec<PasskeyView> = person.read("/v1/passkeys")?;
    let (ui, now) = (person.context.ui, person.now()?);
    if ui.json {
        ui.data(&found);
    } else if found.is_empty() {
        ui.say("you have no passkey; ssh-jit passkey add");
    } else {
        let row = |p: &PasskeyView| vec![p.fingerprint.to_string(), p.application.to_string(), time(p.until, now)];
        ui.table(&["PASSKEY", "FOR", "GOOD UNTIL"], &found.iter().map(row).collect::<Vec<_>>());
    }
    Ok(Exit::Done)
}

fn remove(person: &mut Person<'_>, key: Digest) -> Result<Exit, Failure> {
    let (instance, name, nonce, at) = person.preamble()?;
    let removal = Removal { v: Version, kind: Is, instance, person: name, key, reason: Comment::default(), nonce, at };
    let signed = person.sign(&removal)?;
    person.service.api.post_only("/v1/passkey-removals", &signed)?;
    person.context.ui.good(format_args!("{key} decides nothing any more"));
    Ok(Exit::Done)
}
