//! From what the service gives to the JSON of the API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::certificate::Certificate;
use crate::domain::event::Event;
use crate::domain::host::HostGrant;
use crate::domain::key::PublicKey;
use crate::domain::passkey::Enrolled;
use crate::domain::request::State;
use crate::domain::sshsig::SshSig;
use crate::domain::time::Patience;
use crate::domain::verify::Signed;
use crate::domain::webhook::Delivery;
use crate::service::{
    Aftermath, Ahead, ChannelInfo, Checked, DrillInfo, EmergencyInfo, FactInfo, HostInfo, Issued, OpenReview, Proof,
    Receipt, RequestInfo, Revoked, RoleInfo, SignedKrl, StoredEvent, Unproven,
};
use crate::wire::{
    AftermathView, AheadView, Certified, CertifiedHost, ChannelView, CheckedRole, CheckedView, DecisionView, DrillView,
    EmergencyView, EventView, ExtendedView, FactView, HostView, KrlView, OpenReviewView, PasskeyView, ProofView,
    ProvenEnrolment, ProvenEvent, ProvenMessage, ReceiptView, RequestView, ReviewView, RevocationView, RevokedView,
    RoleView, TermsView, UnprovenView,
};

pub(super) fn request(info: &RequestInfo, events: Vec<Event>) -> RequestView {
    let asked = &info.request;
    let terms = info.terms.as_ref().map(|terms| TermsView {
        principals: terms.principals.clone(),
        hosts: terms.hosts.clone(),
        seconds: terms.seconds,
        approvals: terms.approvals(),
        needs: terms.quorum.parts().iter().map(ToString::to_string).collect(),
        by: terms.by.clone(),
        ends_by: terms.ends_by,
        extensions: info.extensions.clone(),
        critical_options: info.critical_options.clone(),
        claim_within: info.claim_within.map_or(0, Patience::seconds),
        policy: info.policy,
    });
    let decision = |d: &crate::domain::statement::Approval| DecisionView {
        person: d.person.clone(),
        decision: d.decision,
        seconds: d.seconds,
        comment: d.comment.clone(),
        at: d.at,
    };
    RequestView {
        id: asked.id.clone(),
        person: asked.person.clone(),
        role: asked.role.clone(),
        reason: asked.reason.clone(),
        ticket: asked.ticket.clone(),
        at: asked.at,
        start: asked.start,
        extends: asked.extends.clone(),
        extended: info.extended.as_ref().map(|old| ExtendedView {
            id: old.id.clone(),
            since: old.since,
            ends: old.ends,
            first: old.first,
        }),
        extended_by: info.extended_by.clone(),
        state: info.state.clone().into(),
        signed: (&info.signed).into(),
        terms,
        hindrance: hindrance(info),
        overdue_review: overdue_review(info),
        from: info.peer,
        approvers: info.approvers.clone(),
        decisions: info.decisions.iter().map(decision).collect(),
        ahead: info.ahead.iter().map(ahead).collect(),
        revocation: info.revocation.as_ref().map(|said| RevocationView {
            person: said.person.clone(),
            reason: said.reason.clone(),
            at: said.at,
        }),
        uses: info.uses.clone(),
        events,
    }
}

fn ahead(step: &Ahead) -> AheadView {
    AheadView { at: step.at, again: step.again, people: step.people.clone() }
}

/// Why a request that is open cannot be had as things are.
fn hindrance(info: &RequestInfo) -> Option<String> {
    let open = matches!(info.state, State::Requested { .. } | State::Approved { .. });
    info.hindrance.as_ref().filter(|_| open).map(ToString::to_string)
}

/// Where people are asked, and would not be if it were closed.
fn overdue_review(info: &RequestInfo) -> Option<String> {
    let waits = matches!(info.state, State::Requested { .. });
    info.overdue.as_ref().filter(|_| waits).map(ToString::to_string)
}

pub(super) fn certified(issued: &Issued) -> Certified {
    Certified {
        certificate: line(&issued.certificate),
        serial: issued.serial,
        valid_after: issued.grant.valid_after(),
        valid_before: issued.grant.valid_before(),
    }
}

/// Algorithm and base64.
fn line(certificate: &Certificate) -> String {
    let blob = certificate.blob();
    let length = blob.get(..4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes) as usize;
    let algorithm = String::from_utf8_lossy(blob.get(4..4 + length).unwrap_or_default()).into_owned();
    format!("{algorithm} {}", STANDARD.encode(blob))
}

pub(super) fn certified_host((certificate, grant): &(Certificate, HostGrant)) -> CertifiedHost {
    CertifiedHost { certificate: line(certificate), valid_before: grant.valid_before() }
}

pub(super) fn host(info: HostInfo) -> HostView {
    let HostInfo { host, aliases, keys, invited_by, ends, trouble, status } = info;
    HostView {
        host,
        aliases,
        keys: keys.iter().map(PublicKey::fingerprint).collect(),
        invited_by,
        ends,
        trouble: trouble.map(|refusal| refusal.to_string()),
        trust: status.as_ref().map(|status| status.trust),
        krl: status.as_ref().map(|status| status.krl),
        at: status.as_ref().map(|status| status.at),
    }
}

pub(super) fn revoked(revoked: Revoked) -> RevokedView {
    let Revoked { id, person, role, serial } = revoked;
    RevokedView { id, person, role, serial }
}

pub(super) fn krl(krl: &SignedKrl) -> KrlView {
    KrlView { number: krl.number, krl: STANDARD.encode(krl.signed.bytes()), signature: krl.signed.signature().armor() }
}

pub(super) fn role(info: RoleInfo) -> RoleView {
    RoleView {
        name: info.name,
        automatic: info.role.automatic(),
        approvals: info.role.quorum.total(),
        needs: info.role.quorum.parts().iter().map(ToString::to_string).collect(),
        conditions: info.role.conditions.listed(),
        rules: info.role.rules.iter().map(ToString::to_string).collect(),
        approvers: info.role.approvers.all().into_iter().cloned().collect(),
        description: info.role.description,
        hosts: info.role.hosts,
        principals: info.role.principals,
        max: info.role.max,
        default: info.role.default,
        emergency_keys: info.emergency_keys,
        may_request: info.may_request,
        may_decide: info.may_decide,
    }
}

pub(super) fn emergency(info: EmergencyInfo, events: Vec<Event>) -> EmergencyView {
    let drill = info.is_drill();
    EmergencyView {
        id: info.statement.id,
        digest: info.digest,
        person: info.statement.person,
        role: info.statement.role,
        category: info.statement.category,
        reason: info.statement.reason,
        serial: info.serial,
        at: info.at,
        review_open: info.due.is_some(),
        revoked: info.revoked,
        alerted: info.alerted,
        heard: info.heard,
        drill,
        review_due: info.due,
        review: info.review.map(|said| ReviewView {
            person: said.person,
            outcome: said.outcome,
            comment: said.comment,
            at: said.at,
        }),
        uses: info.uses,
        events,
    }
}

pub(super) fn aftermath(found: Aftermath) -> AftermathView {
    let open = |open: OpenReview| {
        let OpenReview { used, due, overdue } = open;
        OpenReviewView { id: used.id, person: used.person, role: used.role, at: used.at, due, overdue }
    };
    AftermathView {
        reviews: found.reviews.into_iter().map(open).collect(),
        overuse: found.overuse,
        proof: found.proof.map(proof),
    }
}

fn proof(proof: Proof) -> ProofView {
    let unproven = |key: Unproven| UnprovenView { person: key.person, key: key.key, last: key.last };
    ProofView {
        every: proof.plan.every.seconds(),
        within: proof.plan.within,
        last: proof.last.map(|(at, _)| at),
        shell_ms: proof.last.map(|(_, shell)| shell),
        unproven: proof.unproven.into_iter().map(unproven).collect(),
        role: proof.plan.role,
        host: proof.plan.host,
    }
}

pub(super) fn drill(info: DrillInfo) -> DrillView {
    let (without, report) = (info.without().to_vec(), info.report);
    DrillView {
        id: info.statement.id,
        person: info.statement.person,
        role: info.statement.role,
        reason: info.statement.reason,
        at: info.at,
        without,
        passed: report.as_ref().map(|report| report.passed),
        controls: report.as_ref().map(|report| report.controls.clone()).unwrap_or_default(),
        uses: info.uses,
        report: report.as_ref().map(|report| (&report.signed).into()),
    }
}

pub(super) fn checked(checked: Checked) -> CheckedView {
    let role = |(name, hosts, max)| CheckedRole { name, hosts, max };
    CheckedView {
        roles: checked.roles.into_iter().map(role).collect(),
        categories: checked.categories,
        hindrance: checked.hindrance,
    }
}

pub(super) fn fact(info: FactInfo) -> FactView {
    let fact = info.fact;
    FactView { name: info.name, value: fact.value, source: fact.source, until: fact.until, message: fact.message }
}

pub(super) fn passkey(enrolled: &Enrolled) -> PasskeyView {
    let said = enrolled.get();
    PasskeyView {
        fingerprint: said.key.fingerprint(),
        application: said.application.clone(),
        at: said.at,
        until: said.until,
    }
}

pub(super) fn channel(info: ChannelInfo) -> ChannelView {
    let failing = info.health.failing.as_ref();
    ChannelView {
        kind: info.kind.to_owned(),
        succeeded: info.health.succeeded,
        failures: failing.map_or(0, |failing| failing.failures),
        since: failing.map(|failing| failing.since),
        error: failing.map(|failing| failing.error.clone()),
        waiting: info.health.waiting,
        given_up: info.health.given_up,
        name: info.name,
    }
}

pub(super) fn event(event: &StoredEvent) -> EventView {
    EventView { leaf: text(&event.leaf), statement: event.statement.as_ref().map(Into::into) }
}

/// With the newest trust document, and all of them, oldest first.
pub(super) fn receipt(receipt: &Receipt, trust: &Signed, trusts: &[Signed]) -> ReceiptView {
    let enrolment = |(signed, by_passkey): &(Signed, SshSig)| ProvenEnrolment {
        by_ssh_key: signed.into(),
        passkey_signature: by_passkey.armor(),
    };
    let proven = |(seq, event, proof): &(u64, StoredEvent, Vec<_>)| ProvenEvent {
        seq: *seq,
        leaf: text(&event.leaf),
        proof: proof.clone(),
    };
    ReceiptView {
        trust: trust.into(),
        trusts: trusts.iter().take_while(|earlier| earlier.digest() != trust.digest()).map(Into::into).collect(),
        policy: receipt.policy.clone(),
        statements: receipt.statements.iter().map(Into::into).collect(),
        enrolments: receipt.enrolments.iter().map(enrolment).collect(),
        facts: receipt.facts.iter().map(message).collect(),
        tbs: receipt.tbs.as_ref().map(|tbs| STANDARD.encode(tbs)),
        head: (&receipt.head.signed).into(),
        events: receipt.events.iter().map(proven).collect(),
    }
}

/// What was read as JSON is UTF-8.
fn message(delivery: &Delivery) -> ProvenMessage {
    ProvenMessage {
        source: delivery.from.clone(),
        id: delivery.id.clone(),
        sent: delivery.sent.unix().to_string(),
        body: text(&delivery.body),
        signature: delivery.signature.clone(),
    }
}

/// Leaves are JSON, and so UTF-8.
fn text(leaf: &[u8]) -> String {
    String::from_utf8_lossy(leaf).into_owned()
}
