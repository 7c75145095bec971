//! The pages: what each shows, worked out here so that templates only lay out. Where a page shows a state it
//! matches on it, so that a new state without a block does not compile.

mod lists;
mod request;

use askama::Template;
use askama::filters::Safe;
use axum::response::{Html, IntoResponse, Response};

use crate::domain::alarm::Alarm;
use crate::domain::names::{PersonName, RequestId};
use crate::domain::policy::Duty;
use crate::domain::time::Timestamp;
use crate::service::{Caller, ChannelInfo, OpenReview, Proof};

pub(super) use lists::{Active, Emergencies, Log, Mine, Passkeys, Queue, Roles};
pub(super) use request::Request;

/// What every page has around it.
pub(super) struct Frame {
    person: Option<PersonName>,
    path: &'static str,
    now: Timestamp,
    follows: Option<Follows>,
    /// What the script sends back with what it posts, so that it is known to come from this session's page.
    token: String,
    reads_log: bool,
    untold: Option<Untold>,
    alarm: Option<Alarmed>,
    reviews: Option<Waiting>,
}

/// Certificates that the log does not know were used of late.
struct Alarmed {
    /// The newest of them.
    last: Alarm,
    /// So many there were.
    count: u64,
}

/// Broken glass that waits for a review: for whoever answers for it.
struct Waiting {
    count: usize,
    /// When the first of them is overdue.
    due: Timestamp,
    overdue: bool,
    first: RequestId,
}

/// Channels that do not work: who reads a page cannot rely on others having heard of what it shows.
struct Untold {
    /// `the channel ops-mail has`, `the channels ops-mail and room have`.
    which: String,
    /// No channel works.
    all: bool,
    since: Timestamp,
}

/// Where a page stands in the stream of changes, and which part of it it follows.
struct Follows {
    seen: u64,
    request: Option<RequestId>,
}

/// The pages that the header leads to.
const PAGES: [(&str, &str); 6] = [
    ("/", "Queue"),
    ("/mine", "Mine"),
    ("/active", "Access now"),
    ("/emergencies", "Broken glass"),
    ("/roles", "Roles"),
    ("/log", "Log"),
];

impl Frame {
    /// Around a page for somebody who has not signed in: it shows no times, so it needs none.
    pub(super) fn nobody() -> Self {
        Self {
            person: None,
            path: "",
            now: Timestamp::from_unix(0),
            follows: None,
            token: String::new(),
            reads_log: false,
            untold: None,
            alarm: None,
            reviews: None,
        }
    }

    /// Around a page that follows what concerns the caller. `seen` was read before what the page shows.
    pub(super) fn of(caller: &Caller, path: &'static str, now: Timestamp, seen: u64) -> Self {
        let reads_log = caller.has_any(&[Duty::Auditors, Duty::Admins]);
        let follows = Some(Follows { seen, request: None });
        let (person, token) = (Some(caller.person.clone()), caller.form_token.clone());
        Self { person, path, now, follows, token, reads_log, untold: None, alarm: None, reviews: None }
    }

    /// The same, saying which reviews are open: the first one due comes first.
    pub(super) fn awaiting(mut self, open: &[OpenReview]) -> Self {
        self.reviews = open.first().map(|first| Waiting {
            count: open.len(),
            due: first.due,
            overdue: first.overdue,
            first: first.used.id.clone(),
        });
        self
    }

    /// The same, following one request only.
    pub(super) fn following(mut self, request: &RequestId) -> Self {
        if let Some(follows) = &mut self.follows {
            follows.request = Some(request.clone());
        }
        self
    }

    /// The same, saying which of the channels do not work.
    pub(super) fn warning(mut self, channels: &[ChannelInfo]) -> Self {
        let failing = channels.iter().filter_map(|channel| Some((channel, channel.health.failing.as_ref()?)));
        let failing: Vec<_> = failing.collect();
        let names: Vec<_> = failing.iter().map(|(channel, _)| &channel.name).collect();
        let (word, has) = if names.len() == 1 { ("channel", "has") } else { ("channels", "have") };
        self.untold = failing.iter().map(|(_, failing)| failing.since).min().map(|since| Untold {
            which: format!("the {word} {} {has}", listed(&names)),
            all: failing.len() == channels.len(),
            since,
        });
        self
    }

    /// The same, with the alarms that the caller may hear of, the newest first.
    pub(super) fn alarmed(mut self, alarms: Vec<Alarm>) -> Self {
        let count = alarms.len() as u64;
        self.alarm = alarms.into_iter().next().map(|last| Alarmed { last, count });
        self
    }

    /// The pages that this person can open, and which of them this is.
    fn pages(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        let shown = PAGES.into_iter().filter(|(path, _)| *path != "/log" || self.reads_log);
        shown.map(|(path, name)| (path, name, self.path == path))
    }

    /// An instant: in UTC as it leaves the service, and in the reader's zone once the script has run.
    #[expect(clippy::unused_self, reason = "templates find what is the frame's")]
    fn time(&self, at: &Timestamp) -> Safe<String> {
        Safe(format!("<time datetime=\"{at}\">{}</time>", at.to_utc().format("%-d %b %Y, %H:%M UTC")))
    }

    /// How much is left until an instant, which the script then counts down.
    fn left(&self, until: &Timestamp) -> Safe<String> {
        let minutes = (until.since(self.now) + 30).max(0) / 60;
        let shown = match (minutes / 60, minutes % 60) {
            (0, minutes) => format!("{minutes}m"),
            (hours, 0) => format!("{hours}h"),
            (hours, minutes) => format!("{hours}h{minutes}m"),
        };
        Safe(format!("<span data-until=\"{until}\">{shown} left</span>"))
    }

    /// The name of this page, for the folded menu.
    fn here(&self) -> &'static str {
        self.pages().find(|(_, _, here)| *here).map_or("Pages", |(_, name, _)| name)
    }
}

#[derive(Template)]
#[template(path = "sign_in.html")]
pub(super) struct SignIn {
    pub(super) frame: Frame,
    pub(super) next: String,
    pub(super) provider: Option<String>,
}

#[derive(Template)]
#[template(path = "signed_in.html")]
pub(super) struct SignedIn {
    pub(super) frame: Frame,
    pub(super) next: String,
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

/// So many rows come on a page of a list: it stays small, and quick.
pub(super) const ROWS: u32 = 40;

/// Which page of a list this is, and whether there are others.
struct Pager {
    page: u32,
    last: u32,
}

impl Pager {
    fn new(page: u32, rows: u64, a_page: u32) -> Self {
        Self { page, last: u32::try_from(rows.div_ceil(u64::from(a_page))).unwrap_or(u32::MAX).max(1) }
    }
}

/// The rows of one page of a list that is at hand as a whole.
fn page_of<T>(all: &[T], page: u32, a_page: u32) -> &[T] {
    all.chunks(a_page as usize).nth(page.saturating_sub(1) as usize).unwrap_or_default()
}

fn joined<T: ToString>(items: &[T], between: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// `carol, dan and frank`.
fn listed<T: ToString>(items: &[T]) -> String {
    match items {
        [] => "nobody".to_owned(),
        [one] => one.to_string(),
        [most @ .., last] => format!("{} and {}", joined(most, ", "), last.to_string()),
    }
}

/// `once`, `twice`, `23 times`.
fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        count => format!("{count} times"),
    }
}

/// What the front page says of whether breaking the glass was shown to work.
struct Proven {
    /// `Break-glass was last proven 12 days ago, in 41 s.`
    words: String,
    /// Whose emergency keys were not, in time.
    unproven: String,
}

impl Proven {
    fn of(proof: &Proof, now: Timestamp) -> Self {
        let words = match proof.last {
            Some((at, shell)) => format!("Break-glass was last proven {}, in {}", ago(at, now), took(shell)),
            None => "No drill has shown yet that break-glass works".to_owned(),
        };
        let mut whose: Vec<_> = proof.unproven.iter().map(|key| &key.person).collect();
        whose.dedup();
        Self { words, unproven: if whose.is_empty() { String::new() } else { listed(&whose) } }
    }
}

/// `412 ms`, `41 s`.
fn took(millis: u32) -> String {
    if millis < 1000 { format!("{millis} ms") } else { format!("{} s", millis.div_ceil(1000)) }
}

/// `within a day`, `3 days ago`.
fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.since(at) / 86_400 {
        ..=0 => "within a day".to_owned(),
        1 => "a day ago".to_owned(),
        days => format!("{days} days ago"),
    }
}
