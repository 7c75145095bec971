//! What the pages cost: how long each takes and how large it is, and what many open ones weigh.

use std::time::{Duration, Instant};

use super::load::{self, Call};
use super::server::Server;
use super::statements::Cast;

/// So many requests are stored before the first page is opened, and so many of them wait for the approver.
const STORED: usize = 10_000;
const WAITING: usize = 200;
/// And so many of them afterwards, when the queue is opened again.
pub(crate) const QUEUED: usize = 10_000;
/// So often each page is opened.
const TIMES: usize = 300;
/// So many pages are open at once.
const OPEN: usize = 500;

const PAGES: [&str; 7] = ["/sign-in", "/", "/mine", "/active", "/emergencies", "/roles", "/passkeys"];

/// Fills the server, opens every page many times, then many pages at once.
pub(crate) fn run(server: &Server, cast: &Cast) {
    let (lives, waiting) = (cast.lives(STORED - WAITING), cast.lives(WAITING));
    load::run(server.address, 64, lives.iter().map(|life| life.whole(cast)).collect());
    load::run(server.address, 64, waiting.iter().map(|life| vec![life.ask.clone()]).collect());
    let session = load::once(server.address, &cast.session());
    let session: serde_json::Value = serde_json::from_slice(&session).expect("a session");
    let browser = Browser { server, cookie: session["bearer"].as_str().expect("a bearer") };
    let paths = PAGES.map(str::to_owned).into_iter();
    let paths = paths.chain([&lives[0], &waiting[0]].map(|life| format!("/requests/{}", life.id)));
    println!("\n| page, {STORED} requests stored, {WAITING} waiting | p50 | p99 | kB |\n| --- | ---: | ---: | ---: |");
    for path in paths {
        browser.time(&path);
    }
    browser.assets();
    browser.many(cast);
    let more = cast.lives(QUEUED - WAITING - 1);
    load::run(server.address, 64, more.iter().map(|life| vec![life.ask.clone()]).collect());
    println!("\n| with {QUEUED} waiting | p50 | p99 | kB |\n| --- | ---: | ---: | ---: |");
    for path in ["/", "/?page=250"] {
        browser.time(path);
    }
}

struct Browser<'a> {
    server: &'a Server,
    cookie: &'a str,
}

impl Browser<'_> {
    fn opens(&self, path: &str) -> Call {
        let cookie = self.cookie;
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost:7022\r\ncookie: __Host-session={cookie}\r\n\r\n");
        head.into_bytes().into()
    }

    fn time(&self, path: &str) {
        let outcome = load::run(self.server.address, 1, vec![vec![self.opens(path)]; TIMES]);
        let size = load::once(self.server.address, &self.opens(path)).len();
        let (p50, p99) = (super::millis(outcome.percentile(50)), super::millis(outcome.percentile(99)));
        println!("| {path} | {p50} | {p99} | {:.1} |", kilobytes(size));
    }

    /// What every page loads beside itself, once.
    fn assets(&self) {
        let page = String::from_utf8(load::once(self.server.address, &self.opens("/sign-in"))).expect("HTML");
        let names = page.split('"').filter(|part| part.starts_with("/assets/"));
        let size: usize = names.map(|path| load::once(self.server.address, &self.opens(path)).len()).sum();
        println!("| style and script, loaded once | | | {:.1} |", kilobytes(size));
    }

    /// Pages that wait for news, and how soon all of them have some and the first shows it.
    fn many(&self, cast: &Cast) {
        let before = self.server.memory();
        let page = String::from_utf8(load::once(self.server.address, &self.opens("/"))).expect("HTML");
        let (_, seen) = page.split_once("data-seen=\"").expect("the page follows changes");
        let (seen, _) = seen.split_once('"').expect("a number");
        let (address, call) = (self.server.address, self.opens(&format!("/web/changes?seen={seen}")));
        let open = std::thread::spawn(move || load::answered(address, vec![call; OPEN]));
        std::thread::sleep(Duration::from_secs(2));
        let memory = self.server.memory();
        let asked = cast.lives(1).remove(0);
        let begin = Instant::now();
        load::once(self.server.address, &asked.ask);
        let last = open.join().expect("all of them were told").into_iter().max().expect("some");
        let last = last.saturating_duration_since(begin);
        let shown = Instant::now();
        // The oldest come first, 40 a page: it is the last one on the last page.
        let last_page = format!("/?page={}", WAITING / 40 + 1);
        let page = String::from_utf8(load::once(self.server.address, &self.opens(&last_page))).expect("HTML");
        assert!(page.contains(asked.id.as_str()), "the queue shows it");
        println!("\nmemory with {OPEN} open pages: {memory:.1} MiB, {:.1} of it theirs", memory - before);
        println!("from asking to the last of {OPEN} pages hearing of it: {}", super::millis(last));
        println!("and the queue with it, fetched: {}", super::millis(shown.elapsed()));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a page is not that long")]
fn kilobytes(bytes: usize) -> f64 {
    bytes as f64 / 1000.0
}
