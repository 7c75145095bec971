//! `ssh-jit approve` and `ssh-jit deny`: shows exactly what will be signed, and signs it. What is shown
//! is read from the requester's signed statement, not from what the service says about it.

use std::collections::BTreeMap;

use crate::domain::names::HostName;
use crate::domain::statement::{Approval, Decision, Is, Request, Version};
use crate::domain::text::visible;
use crate::domain::text::{Comment, Reason};
use crate::domain::time::Seconds;
use crate::domain::verify::Signed;
use crate::wire::{Changed, RequestView, StateView, TermsView};

use super::person::{Person, request_id};
use super::ui::time;
use super::{Context, Exit, Failure};

/// What `approve` takes.
#[derive(clap::Args)]
pub(super) struct Approve {
    /// The request
    request: String,
    /// For less than was asked, as in 30m
    #[arg(long = "for", value_name = "DURATION")]
    length: Option<Seconds>,
    /// Only on this host (may be given several times)
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<HostName>,
    /// A word to the requester
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: Comment,
}

/// What `deny` takes.
#[derive(clap::Args)]
pub(super) struct Deny {
    /// The request
    request: String,
    /// Why: the requester reads this
    #[arg(long, value_name = "TEXT")]
    reason: Reason,
}

pub(super) fn approve(context: &Context, args: &Approve) -> Result<Exit, Failure> {
    let (mut person, view) = open(context, &args.request)?;
    let mut terms = terms_of(&view)?;
    if let Some(length) = args.length {
        terms.seconds = length;
    }
    if !args.hosts.is_empty() {
        terms.hosts.clone_from(&args.hosts);
        terms.principals.retain(|p| p.host().is_none_or(|host| args.hosts.contains(host)));
    }
    decide(&mut person, &view, terms, Decision::Approve, args.comment.clone())
}

pub(super) fn deny(context: &Context, args: &Deny) -> Result<Exit, Failure> {
    let (mut person, view) = open(context, &args.request)?;
    let terms = terms_of(&view).or_else(|_| nothing(&view))?;
    let comment = args.reason.as_str().parse()?;
    decide(&mut person, &view, terms, Decision::Deny, comment)
}

fn open<'c>(context: &'c Context, typed: &str) -> Result<(Person<'c>, RequestView), Failure> {
    let mut person = Person::open(context)?;
    let id = request_id(typed)?;
    let view = person.read(&format!("/v1/requests/{id}"))?;
    Ok((person, view))
}

fn terms_of(view: &RequestView) -> Result<TermsView, Failure> {
    let why = || view.hindrance.as_deref().map(|why| format!(": {}", visible(why))).unwrap_or_default();
    let fail = || Failure::new(format!("as things are it can only be denied{}", why()));
    view.terms.clone().ok_or_else(fail)
}

/// What a denial repeats where the policy would allow nothing.
fn nothing(view: &RequestView) -> Result<TermsView, Failure> {
    let request: Request = Signed::try_from(&view.signed)?.claims()?;
    Ok(TermsView {
        principals: request.principals,
        hosts: request.hosts,
        seconds: request.seconds.or_else(|| Seconds::new(1)).ok_or_else(|| Failure::new("no length"))?,
        approvals: 0,
        needs: Vec::new(),
        by: None,
        ends_by: None,
        extensions: Vec::new(),
        critical_options: BTreeMap::new(),
        claim_within: 0,
        policy: crate::domain::digest::Digest::of(b""),
    })
}

fn decide(
    person: &mut Person<'_>,
    view: &RequestView,
    terms: TermsView,
    decision: Decision,
    comment: Comment,
) -> Result<Exit, Failure> {
    let signed = Signed::try_from(&view.signed)?;
    let request: Request = signed.claims()?;
    let (instance, name, nonce, at) = person.preamble()?;
    let approval = Approval {
        v: Version,
        kind: Is,
        instance,
        person: name,
        request: signed.digest(),
        id: request.id.clone(),
        decision,
        requester: request.person.clone(),
        role: request.role.clone(),
        principals: terms.principals,
        hosts: terms.hosts,
        key: request.key.fingerprint(),
        seconds: terms.seconds,
        start: request.start,
        extensions: terms.extensions,
        critical_options: terms.critical_options,
        claim_by: request.claimable_from(at).plus(terms.claim_within),
        policy: terms.policy,
        comment,
        nonce,
        at,
    };
    show(person, &request, &approval, view);
    let text = person.sign(&approval)?;
    let changed: Changed = person.service.api.post("/v1/decisions", &text)?;
    report(person, &changed);
    Ok(Exit::Done)
}

/// Everything that will be signed, in words.
fn show(person: &Person<'_>, request: &Request, approval: &Approval, view: &RequestView) {
    let ui = &person.context.ui;
    let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(" ") };
    let principals = list(approval.principals.iter().map(ToString::to_string).collect());
    ui.say(format_args!(
        "{} asks for {} ({}): \"{}\"",
        request.person,
        request.role,
        request.id,
        visible(request.reason.as_str())
    ));
    if let Some(ticket) = &request.ticket {
        ui.say(format_args!("  ticket      {ticket}"));
    }
    if let Some(extension) = super::show::extension(view, Some(approval.seconds), approval.at) {
        ui.say(format_args!("  extends     {extension}"));
    }
    ui.say(format_args!("you {}:", approval.decision));
    ui.say(format_args!("  principals  {principals}"));
    ui.say(format_args!("  for         {}, from when it is claimed", approval.seconds));
    if let Some(start) = approval.start {
        ui.say(format_args!("  begins      {}, not before", time(start, approval.at)));
    }
    ui.say(format_args!("  claimed by  {}", time(approval.claim_by, approval.at)));
    ui.say(format_args!("  key         {}", approval.key));
    ui.say(format_args!("  permits     {}", list(approval.extensions.iter().map(ToString::to_string).collect())));
    let restricts =
        approval.critical_options.iter().map(|(name, value)| format!("{name}={}", visible(value))).collect();
    ui.say(format_args!("  restricts   {}", list(restricts)));
    ui.say(format_args!("  policy      {}", approval.policy));
}

fn report(person: &Person<'_>, changed: &Changed) {
    let ui = &person.context.ui;
    if ui.json {
        ui.data(changed);
        return;
    }
    match &changed.state {
        StateView::Requested { approved_by, .. } => {
            ui.good(format_args!("{}: noted; {} approved so far, and more are needed", changed.id, approved_by.len()));
        }
        other => ui.good(format_args!("{} is {}", changed.id, super::requests::state(other))),
    }
}
