//! The pages: what each shows, worked out here so that templates only lay out. The request page matches
//! on the state, so a new state without a block does not compile.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};

use crate::domain::event::Event;
use crate::domain::names::{HostName, PersonName, Principal, RequestId, Ticket};
use crate::domain::request::State;
use crate::domain::statement::{Approval, Decision};
use crate::domain::text::visible;
use crate::domain::time::{Seconds, Timestamp};
use crate::service::{Caller, EmergencyInfo, History, RequestInfo, RoleInfo, StoredEvent};
use crate::wire::StateView;

/// What every page has around it.
pub(super) struct Frame {
    pub(super) person: Option<PersonName>,
    pub(super) path: &'static str,
    /// Where the page stands in the stream of changes; `None` for pages that do not follow it.
    pub(super) seen: Option<u64>,
    /// What the script sends back with what it posts, so that it is known to come from this session's page.
    pub(super) token: String,
}

/// The pages that the header leads to.
pub(super) const PAGES: &[(&str, &str)] = &[
    ("/", "Queue"),
    ("/mine", "Mine"),
    ("/active", "Access now"),
    ("/emergencies", "Broken glass"),
    ("/roles", "Roles"),
    ("/log", "Log"),
];

impl Frame {
    pub(super) fn nobody() -> Self {
        Self { person: None, path: "", seen: None, token: String::new() }
    }

    pub(super) fn of(caller: &Caller, path: &'static str, seen: u64) -> Self {
        Self { person: Some(caller.person.clone()), path, seen: Some(seen), token: caller.form_token.clone() }
    }
}

#[derive(Template)]
#[template(path = "sign_in.html")]
pub(super) struct SignIn {
    pub(super) frame: Frame,
    pub(super) next: String,
    /// Whom else people may sign in with.
    pub(super) provider: Option<String>,
}

#[derive(Template)]
#[template(path = "enrol.html")]
pub(super) struct Enrol {
    pub(super) frame: Frame,
}

#[derive(Template)]
#[template(path = "message.html")]
pub(super) struct Message {
    pub(super) frame: Frame,
    pub(super) title: &'static str,
    pub(super) text: String,
}

#[derive(Template)]
#[template(path = "queue.html")]
pub(super) struct Queue {
    pub(super) frame: Frame,
    pub(super) requests: Vec<Asked>,
}

#[derive(Template)]
#[template(path = "list.html")]
pub(super) struct List {
    pub(super) frame: Frame,
    pub(super) title: &'static str,
    pub(super) nothing: &'static str,
    pub(super) rows: Vec<ListRow>,
}

/// One thing in a list.
#[derive(Default)]
pub(super) struct ListRow {
    head: String,
    link: Option<String>,
    quote: Option<String>,
    lines: Vec<String>,
    command: Option<String>,
    at: Option<Timestamp>,
    until: Option<Timestamp>,
}

/// A request in words.
pub(super) struct Asked {
    id: RequestId,
    person: PersonName,
    role: String,
    reason: String,
    ticket: Option<Ticket>,
    length: Option<String>,
    at: Timestamp,
    until: Option<Timestamp>,
    state: StateView,
}

#[derive(Template)]
#[template(path = "request.html")]
pub(super) struct Request {
    frame: Frame,
    r: Asked,
    hosts: String,
    host_list: Vec<HostName>,
    latest: Option<Timestamp>,
    compared: Vec<(&'static str, String)>,
    why: String,
    needed: u32,
    may_decide: bool,
    is_mine: bool,
    /// Signed in on a provider's word: the page leaves signing to the passkey and the terminal.
    on_word: bool,
    shown: Option<String>,
    shorter: Vec<(u32, String)>,
    decisions: Vec<Decided>,
    next: Option<RequestId>,
    certificate: Vec<(&'static str, String)>,
    statement: String,
    story: Vec<(Timestamp, String)>,
}

struct Decided {
    person: PersonName,
    words: String,
    comment: String,
    at: Timestamp,
}

/// Renders a page.
pub(super) fn page(template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn joined<T: ToString>(items: &[T], between: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

impl Asked {
    pub(super) fn of(info: &RequestInfo) -> Self {
        let asked = &info.request;
        let until = match info.state {
            State::Requested { decide_by: at, .. }
            | State::Approved { claim_by: at }
            | State::Active { ends: at, .. } => Some(at),
            _ => None,
        };
        Self {
            id: asked.id.clone(),
            person: asked.person.clone(),
            role: asked.role.to_string(),
            reason: visible(asked.reason.as_str()),
            ticket: asked.ticket.clone(),
            length: info.terms.as_ref().map(|terms| terms.seconds).or(asked.seconds).map(|s| s.to_string()),
            at: asked.at,
            until,
            state: info.state.clone().into(),
        }
    }
}

impl Request {
    pub(super) fn of(
        frame: Frame,
        caller: &Caller,
        info: &RequestInfo,
        events: &[Event],
        history: &History,
        next: Option<RequestId>,
    ) -> Self {
        let decided = info.decisions.iter().any(|decision| decision.person == caller.person);
        let entitled = info.approvers.contains(&caller.person);
        let hosts = info.terms.as_ref().map(|terms| terms.hosts.clone()).unwrap_or_default();
        let now = info.request.at;
        Self {
            frame,
            r: Asked::of(info),
            hosts: if hosts.len() > 5 { format!("{} hosts", hosts.len()) } else { joined(&hosts, ", ") },
            latest: info.claim_within.and_then(|patience| match info.state {
                State::Requested { decide_by, .. } => Some(decide_by.plus(patience.seconds())),
                _ => None,
            }),
            host_list: if hosts.len() > 1 { hosts } else { Vec::new() },
            compared: compared(info, history, now),
            why: if entitled {
                format!("You may decide because {} names you as an approver.", info.request.role)
            } else {
                String::new()
            },
            needed: info.terms.as_ref().map_or(0, |terms| terms.approvals),
            may_decide: entitled && !decided,
            is_mine: info.request.person == caller.person,
            on_word: caller.on_word,
            shown: shown(info),
            shorter: shorter(info.terms.as_ref().map(|terms| terms.seconds)),
            decisions: info.decisions.iter().map(Decided::of).collect(),
            next,
            certificate: certificate(info),
            statement: visible(&String::from_utf8_lossy(info.signed.bytes())),
            story: events.iter().map(|event| (event.at.second(), story(event))).collect(),
        }
    }
}

impl Decided {
    fn of(decision: &Approval) -> Self {
        let words = match decision.decision {
            Decision::Approve => format!("approved {} for {}", decision.seconds, joined(&decision.principals, " ")),
            Decision::Deny => "denied".to_owned(),
        };
        Self { person: decision.person.clone(), words, comment: visible(decision.comment.as_str()), at: decision.at }
    }
}

/// What the page shows, for the script to compare with what it is given to sign.
fn shown(info: &RequestInfo) -> Option<String> {
    let terms = info.terms.as_ref()?;
    let value = serde_json::json!({
        "id": info.request.id, "request": info.signed.digest(), "requester": info.request.person, "role": info.request.role,
        "key": info.request.key.fingerprint(), "seconds": terms.seconds, "hosts": terms.hosts, "principals": terms.principals,
        "extensions": info.extensions, "critical_options": info.critical_options, "policy": info.policy,
    });
    Some(value.to_string())
}

/// Lengths that an approver may want instead: the usual ones below what was asked, and that itself.
fn shorter(asked: Option<Seconds>) -> Vec<(u32, String)> {
    let Some(asked) = asked else { return Vec::new() };
    let usual = [300, 900, 1800, 3600, 7200, 14400].into_iter().filter_map(Seconds::new).filter(|s| *s < asked);
    usual.chain([asked]).map(|s| (s.get(), s.to_string())).collect()
}

/// The request beside what this person usually asks: signs and words, never colour alone.
fn compared(info: &RequestInfo, history: &History, now: Timestamp) -> Vec<(&'static str, String)> {
    let role = &info.request.role;
    let mut lines = Vec::new();
    match (history.count, history.last) {
        (0, _) | (_, None) => lines.push(("+", format!("first time for {role} in 90 days"))),
        (count, Some(last)) => {
            let days = now.since(last) / 86_400;
            let ago = match days {
                0 => "the last one within a day".to_owned(),
                1 => "the last one a day ago".to_owned(),
                days => format!("the last one {days} days ago"),
            };
            let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
            lines.push(("=", format!("asked for {role} {times} in 90 days, {ago}")));
        }
    }
    let asked = info.terms.as_ref().map(|terms| terms.seconds);
    if let (Some(usual), Some(asked)) = (history.usual, asked)
        && asked > usual
    {
        lines.push(("+", format!("longer than usual ({usual})")));
    }
    if history.reason_repeats {
        lines.push(("!", "the same reason as last time".to_owned()));
    }
    lines
}

fn certificate(info: &RequestInfo) -> Vec<(&'static str, String)> {
    let principals: Vec<Principal> = info.terms.as_ref().map(|terms| terms.principals.clone()).unwrap_or_default();
    let options: Vec<String> =
        info.critical_options.iter().map(|(name, value)| format!("{name}={}", visible(value))).collect();
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    vec![
        ("principals", or_none(joined(&principals, " "))),
        ("for", info.terms.as_ref().map(|terms| terms.seconds.to_string()).unwrap_or_default()),
        ("key", info.request.key.fingerprint().to_string()),
        ("permits", or_none(joined(&info.extensions, " "))),
        ("restricts", or_none(options.join(" "))),
        ("key id", format!("ssh-jit/{}/{}/{}/...", info.request.id, info.request.person, info.request.role)),
        ("policy", info.policy.to_string()),
    ]
}

fn story(event: &Event) -> String {
    let parts = [
        event.person.as_ref().map(ToString::to_string),
        event.role.as_ref().map(ToString::to_string),
        event.serial.map(|serial| format!("serial {serial}")),
        event.detail.as_ref().map(|detail| visible(detail)),
    ];
    parts.into_iter().flatten().fold(event.kind.to_string(), |line, part| format!("{line} · {part}"))
}

impl ListRow {
    /// A request of the caller's own.
    pub(super) fn mine(info: &RequestInfo) -> Self {
        let asked = Asked::of(info);
        let command = match info.state {
            State::Approved { .. } => Some(format!("ssh-jit login {}", asked.id)),
            State::Active { .. } => Some(format!("ssh-jit done {}", asked.id)),
            _ => None,
        };
        Self {
            head: format!("{}: {}", asked.role, info.state.name()),
            link: Some(format!("/requests/{}", asked.id)),
            quote: Some(asked.reason),
            command,
            at: Some(asked.at),
            until: asked.until,
            ..Self::default()
        }
    }

    /// Somebody who has access now.
    pub(super) fn active(info: &RequestInfo) -> Self {
        let asked = Asked::of(info);
        let principals = info.terms.as_ref().map(|terms| joined(&terms.principals, " ")).unwrap_or_default();
        Self {
            head: format!("{} has {}", asked.person, asked.role),
            link: Some(format!("/requests/{}", asked.id)),
            quote: Some(asked.reason),
            lines: vec![principals],
            at: Some(asked.at),
            until: asked.until,
            ..Self::default()
        }
    }

    /// A broken glass.
    pub(super) fn emergency(info: &EmergencyInfo) -> Self {
        let (said, id) = (&info.statement, &info.statement.id);
        let review = if info.review_open { "waits for a review by somebody else" } else { "reviewed" };
        Self {
            head: format!("{} broke the glass for {}: {}", said.person, said.role, said.category),
            quote: Some(visible(said.reason.as_str())),
            lines: vec![format!("{review}; serial {}", info.serial)],
            command: info.review_open.then(|| format!("ssh-jit review {id} --outcome justified --comment \"...\"")),
            at: Some(info.at),
            ..Self::default()
        }
    }

    /// A role of the catalogue.
    pub(super) fn role(info: &RoleInfo) -> Self {
        let role = &info.role;
        let people = |names: &std::collections::BTreeSet<PersonName>| {
            if names.is_empty() { "nobody".to_owned() } else { joined(&names.iter().collect::<Vec<_>>(), ", ") }
        };
        let automatic = role.automatic.map(|most| format!(" Up to {most} nobody is asked.")).unwrap_or_default();
        let hosts = if role.hosts.is_empty() {
            "not bound to hosts".to_owned()
        } else {
            format!("on {}", joined(&role.hosts, ", "))
        };
        Self {
            head: format!("{}: {}", info.name, visible(&role.description)),
            lines: vec![
                format!(
                    "{} {hosts}; {} at most, {} by default.",
                    joined(&role.principals, " "),
                    role.max,
                    role.default
                ),
                format!("May ask: {}.", people(&role.requesters)),
                format!("{} must approve, of: {}.{automatic}", role.approvals, people(&role.approvers)),
            ],
            command: info.may_request.then(|| format!("ssh-jit login {} --reason \"...\"", info.name)),
            ..Self::default()
        }
    }

    /// An event of the log.
    pub(super) fn event(stored: &StoredEvent) -> Option<Self> {
        let event: Event = serde_json::from_slice(&stored.leaf).ok()?;
        let link = event.request.as_ref().map(|id| format!("/requests/{id}"));
        Some(Self {
            head: format!("{} {}", event.seq, story(&event)),
            link,
            at: Some(event.at.second()),
            ..Self::default()
        })
    }
}
