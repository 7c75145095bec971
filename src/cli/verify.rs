//! `ssh-jit verify`: checks a receipt offline, years later: who asked, who approved, what exactly was
//! certified, and that the log holds it. It trusts the pinned trust document and nothing else; the
//! rules are the very functions by which the certificate was issued.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::client::state::State;
use crate::domain::certificate::ToBeSigned;
use crate::domain::event::{Event, EventKind, HEAD_NAMESPACE, Head};
use crate::domain::facts::{Facts, Message};
use crate::domain::grant::Grant;
use crate::domain::passkey::{self, Enrolled};
use crate::domain::policy::{Circumstances, Policy, Tickets};
use crate::domain::refusal::Refusal;
use crate::domain::sshsig::{Expect, SshSig};
use crate::domain::statement::{Approval, Claim, Decision, Request, Revocation, Statement};
use crate::domain::text::visible;
use crate::domain::tree::verify_inclusion;
use crate::domain::trust::{CaRole, Chain, Trust};
use crate::domain::verify::{Signed, Verified, VerifiedSet};
use crate::domain::webhook::Delivery;
use crate::wire::{ProvenMessage, ReceiptView, SignedText};

use super::{Context, Exit, Failure, audit, person};

/// What `verify` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The receipt, as `ssh-jit receipt` prints it
    file: PathBuf,
    /// The trust document that you believe, or several that follow from one another, oldest first; without it, the one
    /// pinned for the configured service
    #[arg(long, value_name = "FILE")]
    trust: Vec<PathBuf>,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let text = fs::read_to_string(&args.file).map_err(|e| Failure::new(format!("{}: {e}", args.file.display())))?;
    let receipt: ReceiptView = serde_json::from_str(&text)
        .map_err(|e| Failure::new(format!("{}: it is not a receipt: {e}", args.file.display())))?;
    let chain = believed(context, args, &receipt)?;
    let trust = chain.newest();
    let policy = Policy::parse(&receipt.policy).map_err(|e| wrong(format!("its policy does not parse: {e}")))?;
    logged(&receipt, trust)?;
    complete(&receipt)?;
    let case = Case::read(&receipt, trust, &policy)?;
    let certified = case.certified(&receipt, &chain, &policy)?;
    report(context, &receipt, &case, certified.as_ref());
    Ok(Exit::Done)
}

fn wrong(what: impl ToString) -> Failure {
    Failure {
        code: "receipt-wrong".to_owned(),
        ..Failure::new(format!("the receipt proves nothing: {}", what.to_string()))
    }
}

/// The trust documents that the reader believes, and those of the receipt that follow from them or led to them.
fn believed(context: &Context, args: &Args, receipt: &ReceiptView) -> Result<Chain, Failure> {
    let texts = receipt.trusts.iter().chain([&receipt.trust]);
    let theirs = texts.map(Signed::try_from).collect::<Result<Vec<_>, _>>()?;
    let newest = Signed::try_from(&receipt.trust)?;
    // Known by its SHA-256 or not, what stands in the receipt is whole.
    Trust::first_contact(&newest).map_err(not_theirs)?;
    let known = match (args.trust.as_slice(), &context.config.server) {
        ([], Some(url)) => person::known(&State::open(&context.environment.state, url)?)?,
        ([], None) => None,
        (paths, _) => Some(documents(paths)?),
    };
    let Some(known) = known else {
        context.ui.say("no trust document is pinned here, so the receipt's own is believed: compare its keys below with what you know");
        let chain = Chain::first_contact(newest)?.backward(&theirs);
        for key in &chain.newest().user_ca {
            context.ui.say(format_args!("user CA {}", key.fingerprint()));
        }
        return Ok(chain);
    };
    let pinned = theirs.iter().position(|signed| signed.digest() == known.signed().digest());
    let later = pinned.and_then(|at| theirs.get(at + 1..)).unwrap_or_default();
    let chain = known.forward(later).map_err(not_theirs)?.backward(&theirs);
    if chain.has(&newest.digest()) { Ok(chain) } else { Err(not_theirs("it neither follows nor led to it")) }
}

fn not_theirs(why: impl std::fmt::Display) -> Failure {
    wrong(format!("its trust document is not the pinned service's: {why}"))
}

/// Trust documents out of files, oldest first, with their signatures beside them.
fn documents(paths: &[PathBuf]) -> Result<Chain, Failure> {
    let read = |path: &PathBuf| {
        let blame = |e| Failure::new(format!("{}: {e}", path.display()));
        let text = fs::read_to_string(path).map_err(blame)?;
        let signature = fs::read_to_string(path.with_extension("json.sig")).map_err(blame)?;
        Ok::<_, Failure>(Signed::try_from(&SignedText { text, signature })?)
    };
    let mut signed = paths.iter().map(read).collect::<Result<Vec<_>, _>>()?.into_iter();
    let first = signed.next().ok_or_else(|| Failure::misuse("--trust: no file"))?;
    Ok(Chain::first_contact(first)?.forward(signed.as_slice())?)
}

/// Every event leads to the signed head.
fn logged(receipt: &ReceiptView, trust: &Trust) -> Result<(), Failure> {
    let signed = Signed::try_from(&receipt.head)?;
    signed.is_by(&trust.log_key, HEAD_NAMESPACE).map_err(|_| wrong("its head is not signed by the log key"))?;
    let head: Head = serde_json::from_slice(signed.bytes())?;
    if head.instance != trust.instance {
        return Err(wrong("its head is another service's"));
    }
    for event in &receipt.events {
        let leaf = audit::digest_of(&event.leaf);
        let index = event.seq.checked_sub(1).ok_or_else(|| wrong("an event has number 0"))?;
        if !verify_inclusion(&leaf, index, head.size, &event.proof, &head.root) {
            return Err(wrong(format!("event {} is not in the log that its head covers", event.seq)));
        }
    }
    Ok(())
}

/// Its events name each of its statements, and it holds what its events say was decided and claimed: what was
/// left out could have changed the story.
fn complete(receipt: &ReceiptView) -> Result<(), Failure> {
    let parsed = receipt.events.iter().map(|event| serde_json::from_str::<Event>(&event.leaf));
    let events = parsed.collect::<Result<Vec<_>, _>>().map_err(|e| wrong(format!("an event does not parse: {e}")))?;
    let signed = receipt.statements.iter().map(Signed::try_from).collect::<Result<Vec<_>, _>>()?;
    for statement in &signed {
        if !events.iter().any(|event| event.statement == Some(statement.digest())) {
            return Err(wrong("the log does not name each of its statements"));
        }
    }
    for event in &events {
        let kept = match event.kind {
            EventKind::Approved | EventKind::Denied | EventKind::Claimed => true,
            // A fact that ended leaves no statement.
            EventKind::Revoked => event.statement.is_some(),
            _ => false,
        };
        if kept && !signed.iter().any(|statement| event.statement == Some(statement.digest())) {
            return Err(wrong(format!("it lacks the statement of event {}", event.seq)));
        }
        if event.tbs.is_some() && receipt.tbs.is_none() {
            return Err(wrong(format!("it lacks the certificate of event {}", event.seq)));
        }
    }
    Ok(())
}

/// The statements of a receipt, each verified.
struct Case {
    request: Verified<Request>,
    decisions: Vec<Verified<Approval>>,
    claim: Option<Verified<Claim>>,
    /// Who had the duty then, the policy of then says; this ends access and gives none.
    revocation: Option<Verified<Revocation>>,
}

impl Case {
    fn read(receipt: &ReceiptView, trust: &Trust, policy: &Policy) -> Result<Self, Failure> {
        let signed = receipt.statements.iter().map(Signed::try_from).collect::<Result<Vec<_>, _>>()?;
        let (first, rest) = signed.split_first().ok_or_else(|| wrong("it holds no statement"))?;
        let asked: Request = first.claims()?;
        policy.signer(&asked.person, first.signature().key()).map_err(|e| wrong(format!("the request: {e}")))?;
        let mut case =
            Self { request: verified(first, receipt, trust)?, decisions: Vec::new(), claim: None, revocation: None };
        for signed in rest {
            if signed.claims::<Approval>().is_ok() {
                case.decisions.push(verified(signed, receipt, trust)?);
            } else if signed.claims::<Revocation>().is_ok() {
                case.revocation = Some(verified(signed, receipt, trust)?);
            } else {
                case.claim = Some(verified(signed, receipt, trust)?);
            }
        }
        for decision in &case.decisions {
            crate::domain::approval::may_decide(policy, &case.request, decision)
                .map_err(|e| wrong(format!("a decision: {e}")))?;
        }
        Ok(case)
    }

    /// Makes the certificate again from the statements, and compares it with what was signed and logged.
    fn certified(&self, receipt: &ReceiptView, chain: &Chain, policy: &Policy) -> Result<Option<Grant>, Failure> {
        let (Some(claim), Some(tbs)) = (&self.claim, &receipt.tbs) else { return Ok(None) };
        let tbs = STANDARD.decode(tbs).map_err(|_| wrong("its certificate is not base64"))?;
        let digest = crate::domain::digest::Digest::of(&tbs);
        let claimed = receipt.events.iter().filter_map(|e| serde_json::from_str::<Event>(&e.leaf).ok());
        let claimed = claimed.into_iter().find(|e| e.kind == EventKind::Claimed && e.tbs == Some(digest));
        let claimed = claimed.ok_or_else(|| wrong("the log does not hold its certificate"))?;
        let serial = claimed.serial.ok_or_else(|| wrong("the log gives its certificate no serial"))?;
        let nonce = crate::domain::certificate::nonce_of(&tbs).ok_or_else(|| wrong("its certificate has no nonce"))?;
        // How much the person had that day is no part of one request's evidence.
        let facts = facts_then(receipt, &claimed, policy)?;
        let tickets = Tickets::yes(&claimed.tickets);
        let around = Circumstances { from: claimed.from, facts: &facts, tickets: &tickets, held: 0, overdue: None };
        // The service's skew is not in the receipt: it is whatever makes the bytes the same.
        for skew in 0..=60 {
            let grant = Grant::access(policy, &self.request, &self.decisions, claim, &around, skew)
                .map_err(|e| wrong(format!("its statements do not lead to a certificate: {e}")))?;
            for ca in chain.every(CaRole::User) {
                if ToBeSigned::new(grant.clone(), serial, nonce, ca).bytes() == tbs {
                    return Ok(Some(grant));
                }
            }
        }
        Err(wrong("its certificate holds something else than its statements lead to"))
    }
}

/// The facts that the certificate hung on, as the log names them: each from the very message, and signed by its
/// source's key where the policy has one. A secret that is shared with the service proves nothing to others: then the
/// log alone attests that the message came.
fn facts_then(receipt: &ReceiptView, claimed: &Event, policy: &Policy) -> Result<Facts, Failure> {
    let mut facts = Facts::default();
    for (name, digest) in &claimed.facts {
        let found = receipt.facts.iter().filter_map(|message| delivery(message).ok());
        let message = found.into_iter().find(|delivery| delivery.digest() == *digest);
        let message = message.ok_or_else(|| wrong(format!("it lacks the message that stated {name}")))?;
        let source = policy.sources().get(&message.from);
        let source = source.ok_or_else(|| wrong(format!("its policy has no source {}", message.from)))?;
        let read = Message::read(&message).and_then(|read| read.within(source));
        let read = read.map_err(|e| wrong(format!("the fact {name}: {e}")))?;
        if read.says(name).flatten().is_none() {
            return Err(wrong(format!("its message says nothing of {name}")));
        }
        facts.hear_of(name, &read);
    }
    Ok(facts)
}

fn delivery(message: &ProvenMessage) -> Result<Delivery, Refusal> {
    let ProvenMessage { source, id, sent, body, signature } = message;
    Delivery::new(source.clone(), id.as_str(), sent, signature, body.clone().into_bytes())
}

fn signed_by_key(message: &Delivery, policy: &Policy) -> bool {
    let key = policy.sources().get(&message.from).and_then(|source| source.key.as_ref());
    key.is_some() && message.check(key, &[], &VerifiedSet::new(0)).is_ok()
}

fn verified<T: Statement>(signed: &Signed, receipt: &ReceiptView, trust: &Trust) -> Result<Verified<T>, Failure> {
    let (key, seen) = (signed.signature().key(), VerifiedSet::new(0));
    let fail = |e: Refusal| wrong(format!("its {}: {e}", T::KIND.as_str()));
    let Some(origin) = signed.signature().origin() else {
        return Verified::check(signed, key, Expect::SshKey { verified: false }, &trust.instance, &seen).map_err(fail);
    };
    let enrolments = receipt.enrolments.iter().map(|enrolment| {
        let by_passkey = SshSig::from_armor(&enrolment.passkey_signature)?;
        Enrolled::check(&Signed::try_from(&enrolment.by_ssh_key)?, &by_passkey, origin, &trust.instance, &seen)
    });
    let enrolled = enrolments.filter_map(Result::ok).find(|enrolled| enrolled.get().key == *key);
    let enrolled = enrolled.filter(|enrolled| passkey::is_site(origin, &enrolled.get().application));
    let enrolled = enrolled.ok_or_else(|| wrong("nothing in it binds its passkey to a person"))?;
    Verified::check_passkey(signed, enrolled, origin, &trust.instance, &seen).map_err(fail)
}

/// What the certificate hung on, and who vouches for it.
fn hung_on(context: &Context, receipt: &ReceiptView, grant: &Grant) {
    let Ok(policy) = Policy::parse(&receipt.policy) else { return };
    for (name, digest) in grant.facts() {
        let found = receipt.facts.iter().filter_map(|message| delivery(message).ok());
        let Some(message) = found.into_iter().find(|delivery| delivery.digest() == *digest) else { continue };
        let Some(fact) = Message::read(&message).ok().and_then(|read| read.says(name).flatten()) else { continue };
        let by = if signed_by_key(&message, &policy) {
            format!("signed by {}", message.from)
        } else {
            format!("from {}, attested by the service's log only", message.from)
        };
        context.ui.out(format_args!("while {name} = {} until {}: {by}", fact.value, fact.until));
    }
}

fn report(context: &Context, receipt: &ReceiptView, case: &Case, grant: Option<&Grant>) {
    let (ui, asked) = (&context.ui, case.request.get());
    if ui.json {
        let approvers: Vec<_> = case.decisions.iter().map(|d| d.get().person.clone()).collect();
        ui.data(&serde_json::json!({
            "request": asked.id, "person": asked.person, "role": asked.role, "approvers": approvers,
            "certified": grant.is_some(), "revoked_by": case.revocation.as_ref().map(|said| said.get().person.clone()), "key_id": grant.map(Grant::key_id), "events": receipt.events.len(),
        }));
        return;
    }
    ui.out(format_args!(
        "{} asked for {} at {}: \"{}\"",
        asked.person,
        asked.role,
        asked.at,
        visible(asked.reason.as_str())
    ));
    for decision in case.decisions.iter().map(Verified::get) {
        let verb = if decision.decision == Decision::Approve { "approved" } else { "denied" };
        ui.out(format_args!("{} {verb} {} at {}", decision.person, decision.seconds, decision.at));
    }
    match grant {
        None => ui.out("no certificate was made"),
        Some(grant) => {
            let principals: Vec<String> = grant.principals().iter().map(ToString::to_string).collect();
            ui.out(format_args!(
                "certified {} from {} to {}",
                principals.join(" "),
                grant.valid_after(),
                grant.valid_before()
            ));
            ui.out(format_args!("key id {}", grant.key_id()));
            hung_on(context, receipt, grant);
        }
    }
    if let Some(said) = case.revocation.as_ref().map(Verified::get) {
        ui.out(format_args!("{} revoked it at {}: \"{}\"", said.person, said.at, visible(said.reason.as_str())));
    }
    ui.good(format_args!(
        "proven by {} statements and {} events of the log",
        receipt.statements.len(),
        receipt.events.len()
    ));
}
